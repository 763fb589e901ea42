/*
 * ImportImage: disks that become an image.
 *
 * A task (kind "import-image-task", id import-ami-…) imports each disk by stord's ImportSnapshot,
 *one after the other, then registers the image under its own id as name; so after any end it goes
 *on where it was: stord knows an import again by its ClientToken, RegisterImage's image is found by
 *its name. Disks that came as descriptors are all handed on before the answer: they do not outlive
 *us. _Tasks		stord's task of each disk that is imported, "" for one that is a snapshot
 *	_Containers	what was asked for
 */
#include "image-work.h"

#include <errno.h>
#include <string.h>
#include <strings.h>
#include "describe.h"
#include "fiber.h"
#include "id.h"
#include "jsonx.h"
#include "log.h"
#include "tags.h"

#define KIND	       "import-image-task"
#define CONTAINERS_MAX 10
#define TASKS_MAX      100 /* under way, of an account in a region */
#define TASKS_KEPT     1000
#define LOOK_USEC      200000ull
#define LOOK_MAX_USEC  2000000ull
#define AGAIN_USEC     2000000ull

static int is_active(const struct doc *task)
{
	return task && strcmp(jstr_or(task->json, "Status", ""), "active") == 0;
}

static int change(struct daemon *d, const char *task_id, json_t *changed)
{
	OWN(txn_free) struct txn *t = txn_new(d->store);
	const struct doc *task = store_find(d->store, KIND, task_id);
	int r = !task ? -ECANCELED : !t ? -ENOMEM : txn_replace(t, task, json_incref(changed));

	return r == 0 ? txn_commit(t) : r;
}

/* A changeable copy of an active task. */
static int edit(struct daemon *d, const char *task_id, json_t **ret_json)
{
	const struct doc *task = store_find(d->store, KIND, task_id);

	if (!is_active(task))
		return -ECANCELED;
	*ret_json = doc_edit(task);
	return *ret_json ? 0 : -ENOMEM;
}

/* ---- disks ---- */

/* (fiber) Begins the import of one disk, with the descriptor if one came for it. */
static int disk_begin(const struct context *ctx, const char *task_id, size_t i,
		      const json_t *container, int fd, char ret_task[static ID_MAX],
		      struct fault *f)
{
	char token[64];
	struct fds fds = {.n = 0};
	OWN(json_decref) json_t *ask = NULL, *reply = NULL;

	snprintf(token, sizeof token, "%.50s-%zu", task_id, i);
	ask = json_pack("{s:s, s:s, s:{s:O*, s:O*, s:O*, s:O*}}", "ClientToken", token,
			"Description", task_id, "DiskContainer", "Format",
			json_object_get(container, "Format"), "Url",
			json_object_get(container, "Url"), "UserBucket",
			json_object_get(container, "UserBucket"), "Description",
			json_object_get(container, "Description"));
	if (!ask)
		return -ENOMEM;
	if (fd >= 0)
		fds = (struct fds){.fd = {fd}, .n = 1}; /* lent: it stays the caller's */
	int r = rpc_call(daemon_peer("stord"), ctx, "ec2.ImportSnapshot", ask, &fds, &reply, NULL,
			 f);

	if (r == 0)
		snprintf(ret_task, ID_MAX, "%s", jstr_or(reply, "ImportTaskId", ""));
	return r;
}

/* (fiber) What stord shows of the task. */
static int disk_look(const struct context *ctx, const char *stord_task, json_t **ret_detail,
		     struct fault *f)
{
	OWN(json_decref) json_t *ask = json_pack("{s:[s]}", "ImportTaskIds", stord_task);
	OWN(json_decref) json_t *reply = NULL;
	int r = rpc_call(daemon_peer("stord"), ctx, "ec2.DescribeImportSnapshotTasks", ask, NULL,
			 &reply, NULL, f);
	json_t *task = json_array_get(json_object_get(reply, "ImportSnapshotTasks"), 0);

	if (r == 0)
		*ret_detail = json_incref(json_object_get(task, "SnapshotTaskDetail"));
	return r;
}

/* The detail that the customer sees of one disk, from stord's. */
static int disk_show(struct daemon *d, const char *task_id, size_t i, const json_t *detail)
{
	OWN(json_decref) json_t *json = NULL;
	int r = edit(d, task_id, &json);
	json_t *details = json_object_get(json, "SnapshotDetails");
	json_t *shown = json_array_get(details, i);
	static const char *const copied[] = {"DiskImageSize", "Format", "Progress",
					     "SnapshotId",    "Status", "StatusMessage"};

	for (size_t k = 0; r == 0 && k < sizeof copied / sizeof *copied; k++) {
		json_t *value = json_object_get(detail, copied[k]);

		if (value && json_object_set(shown, copied[k], value) < 0)
			r = -ENOMEM;
		else if (!value)
			(void)json_object_del(shown, copied[k]); /* it may be absent */
	}
	if (r < 0)
		return r;
	/* Of the whole, the disks are nine tenths. */
	size_t n = json_array_size(details);
	unsigned part = (unsigned)strtoul(jstr_or(detail, "Progress", "100"), NULL, 10);

	r = jset_new(json, "Progress",
		     json_sprintf("%zu", (90 * i + 90 * (part < 100 ? part : 100) / 100) / n));
	if (r == 0)
		r = jset(json, "StatusMessage", jstr_or(detail, "StatusMessage", "converting"));
	return r == 0 ? change(d, task_id, json) : r;
}

static int disk_wait(struct daemon *d, const struct context *ctx, const char *task_id, size_t i,
		     const char *stord_task, struct fault *f)
{
	OWN(json_decref) json_t *before = NULL;

	for (uint64_t pause = LOOK_USEC;; pause = pause < LOOK_MAX_USEC ? pause * 2 : pause) {
		OWN(json_decref) json_t *detail = NULL;
		int r = disk_look(ctx, stord_task, &detail, f);
		const char *status = jstr_or(detail, "Status", "");

		if (r == 0 && (!before || !json_equal(before, detail)))
			r = disk_show(d, task_id, i, detail);
		if (r < 0)
			return r;
		if (strcmp(status, "completed") == 0)
			return 0;
		if (strcmp(status, "active") != 0)
			return fault_set(f, FAULT_INVALID_PARAMETER_VALUE, "%s",
					 jstr_or(detail, "StatusMessage",
						 "The disk was not "
						 "imported"));
		json_decref(before);
		before = json_incref(detail);
		r = is_active(store_find(d->store, KIND, task_id)) ? fiber_sleep(pause)
								   : -ECANCELED;
		if (r < 0)
			return r;
	}
}

/* ---- the image ---- */

static json_t *register_parameters(const json_t *task)
{
	OWN(json_decref) json_t *mappings = json_array();
	size_t i;
	json_t *detail;

	json_array_foreach (json_object_get(task, "SnapshotDetails"), i, detail)
		if (json_array_append_new(mappings,
					  json_pack("{s:O, s:{s:O}}", "DeviceName",
						    json_object_get(detail, "DeviceName"), "Ebs",
						    "SnapshotId",
						    json_object_get(detail, "SnapshotId"))) < 0)
			return NULL;
	return json_pack("{s:s, s:s, s:s, s:s, s:O, s:O*, s:O*}", "Name",
			 jstr(task, "ImportTaskId"), "Architecture",
			 jstr_or(task, "Architecture", "x86_64"), "VirtualizationType", "hvm",
			 "RootDeviceName",
			 jpath_str(json_array_get(json_object_get(task, "SnapshotDetails"), 0),
				   "DeviceName"),
			 "BlockDeviceMappings", mappings, "Description",
			 json_object_get(task, "Description"), "BootMode",
			 json_object_get(task, "BootMode"));
}

/* (fiber) The image of the task: the one that is there, or a new one. */
static int register_image(struct daemon *d, const struct context *ctx, const json_t *task,
			  char ret_id[static ID_MAX], struct fault *f)
{
	OWN(json_decref) json_t *ask = register_parameters(task), *reply = NULL;

	store_each (d->store, IMAGE_KIND, image)
		if (strcmp(jstr_or(image->json, "Name", ""), jstr(task, "ImportTaskId")) == 0 &&
		    strcmp(image->account, ctx->account) == 0 &&
		    strcmp(image->region, ctx->region) == 0) {
			snprintf(ret_id, ID_MAX, "%s", image->id);
			return 0;
		}
	/* Through our own door: what RegisterImage checks and promises is wanted as it is. */
	int r = ask ? rpc_call(daemon_peer("hvd"), ctx, "ec2.RegisterImage", ask, NULL, &reply,
			       NULL, f)
		    : -ENOMEM;

	if (r == 0)
		snprintf(ret_id, ID_MAX, "%s", jstr_or(reply, "ImageId", ""));
	return r;
}

/* ---- the task's work ---- */

static int record_end(struct daemon *d, const char *task_id, const char *image_id,
		      const struct fault *f)
{
	OWN(json_decref) json_t *json = NULL;
	int r = edit(d, task_id, &json);

	if (r == 0)
		r = jset(json, "Status", f ? "deleted" : "completed");
	if (r == 0)
		r = f ? jset_new(json, "StatusMessage",
				 json_sprintf("%s%s",
					      strstr(f->message, "Error: ") ? "" : "ClientError: ",
					      f->message))
		      : jset(json, "StatusMessage", NULL);
	if (r == 0)
		r = jset(json, "Progress", NULL);
	if (r == 0 && image_id)
		r = jset(json, "ImageId", image_id);
	return r == 0 ? change(d, task_id, json) : r;
}

/* (fiber) All that is not done yet. */
static int work(struct daemon *d, const char *task_id, char ret_image[static ID_MAX],
		struct fault *f)
{
	const struct doc *task = store_find(d->store, KIND, task_id);

	if (!is_active(task))
		return -ECANCELED;
	struct context ctx = image_context(task);
	OWN(json_decref) json_t *ids = json_incref(json_object_get(task->json, "_Tasks"));
	size_t i;
	json_t *id;
	int r = 0;

	json_array_foreach (ids, i, id)
		if (r == 0 && *json_string_value(id))
			r = disk_wait(d, &ctx, task_id, i, json_string_value(id), f);
	task = r == 0 ? store_find(d->store, KIND, task_id) : NULL;
	if (r == 0 && !is_active(task))
		return -ECANCELED;
	if (r < 0)
		return r;
	OWN(json_decref) json_t *json = json_incref(task->json);

	return register_image(d, &ctx, json, ret_image, f);
}

struct job {
	struct daemon *daemon;
	char task_id[ID_MAX];
};

static void work_on(void *arg)
{
	OWN(free) struct job *j = arg;
	char image[ID_MAX] = "";
	struct fault f = {0};
	/* The document is committed after its handler has returned: let it. */
	int r = fiber_sleep(0);

	if (r == 0)
		r = work(j->daemon, j->task_id, image, &f);
	while (r < 0 && fault_is(&f, FAULT_SERVICE_UNAVAILABLE) && fiber_sleep(AGAIN_USEC) == 0) {
		f = (struct fault){0};
		r = work(j->daemon, j->task_id, image, &f);
	}
	if (r == -ECANCELED)
		return;
	if (r < 0 && !fault_is_set(&f))
		(void)fault_set(&f, FAULT_INTERNAL_ERROR, "%s", strerror(-r)); /* told below */
	log_info("import of an image ended", "TASK_ID", j->task_id, "IMAGE", image, "REASON",
		 f.message);
	r = record_end(j->daemon, j->task_id, r < 0 ? NULL : image, r < 0 ? &f : NULL);
	if (r < 0 && r != -ECANCELED)
		log_warning(r, "an import's end is not recorded; the next start does it", "TASK_ID",
			    j->task_id);
}

static int start(struct daemon *d, const char *task_id)
{
	OWN(free) struct job *j = calloc(1, sizeof *j);

	if (!j)
		return -ENOMEM;
	j->daemon = d;
	snprintf(j->task_id, sizeof j->task_id, "%s", task_id);
	int r = fiber_spawn(work_on, j);

	if (r == 0)
		(void)give(j);
	return r;
}

int import_image_resume(struct daemon *d)
{
	int r = 0;

	/* Nothing is committed before the fibers that begin here have slept. */
	store_each (d->store, KIND, task)
		if (r == 0 && is_active(task))
			r = start(d, task->id);
	return r;
}

/* ---- the actions ---- */

static int container_check(const json_t *container, struct fault *f)
{
	int has_snapshot = jstr(container, "SnapshotId") != NULL;

	if (json_object_get(container, "UserBucket") ||
	    strncasecmp(jstr_or(container, "Url", ""), "s3:", 3) == 0)
		return fault_set(f, FAULT_UNSUPPORTED_OPERATION,
				 "Importing from a bucket is not supported here.");
	if (has_snapshot && jstr(container, "Url"))
		return fault_set(f, FAULT_INVALID_PARAMETER_COMBINATION,
				 "A disk is a snapshot or a file, not both.");
	if (!has_snapshot && !jstr(container, "Format"))
		return fault_set(f, FAULT_MISSING_PARAMETER,
				 "The request must contain the parameter DiskContainers.Format");
	return 0;
}

static int parameters_check(const struct call *c, const json_t *p, struct fault *f)
{
	const json_t *containers = json_object_get(p, "DiskContainers");
	const char *architecture = jstr_or(p, "Architecture", "x86_64");
	size_t i, n = 0;
	json_t *container;
	int r = 0;

	if (json_array_size(containers) == 0)
		return fault_set(f, FAULT_MISSING_PARAMETER,
				 "The request must contain the parameter DiskContainers");
	if (json_array_size(containers) > CONTAINERS_MAX)
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "At most %d disks can be imported", CONTAINERS_MAX);
	json_array_foreach (containers, i, container)
		if (r == 0)
			r = container_check(container, f);
	if (r < 0)
		return r;
	if (strcmp(architecture, "x86_64") != 0 && strcmp(architecture, "i386") != 0)
		return fault_set(f, FAULT_UNSUPPORTED_OPERATION,
				 "Images of architecture %.32s cannot run here", architecture);
	if (jbool(p, "Encrypted", 0) || jstr(p, "KmsKeyId"))
		return fault_set(f, FAULT_UNSUPPORTED_OPERATION,
				 "Imported disks are not encrypted here.");
	store_each (c->store, KIND, task)
		n += is_active(task) && strcmp(task->account, c->ctx->account) == 0 &&
		     strcmp(task->region, c->ctx->region) == 0;
	return n < TASKS_MAX ? 0
			     : fault_set(f, FAULT_RESOURCE_LIMIT_EXCEEDED,
					 "There are %zu imports under way already.", n);
}

/* "/dev/sda1", then "/dev/sdb", …, where none is named. */
static void device_of(const json_t *container, size_t i, char ret_name[static 40])
{
	const char *name = jstr(container, "DeviceName");

	if (name)
		snprintf(ret_name, 40, "%.38s", name);
	else
		snprintf(ret_name, 40, i == 0 ? "/dev/sda1" : "/dev/sd%c", (int)('a' + i));
}

static json_t *task_new(const struct call *c, const json_t *p, const char *task_id,
			const json_t *stord_tasks, json_t *tags)
{
	OWN(json_decref) json_t *details = json_array();
	size_t i;
	json_t *container;

	(void)c;
	json_array_foreach (json_object_get(p, "DiskContainers"), i, container) {
		int is_snapshot = jstr(container, "SnapshotId") != NULL;
		char device[40];

		device_of(container, i, device);
		if (json_array_append_new(
			    details,
			    json_pack("{s:s, s:s, s:O*, s:O*, s:O*, s:O*}", "DeviceName", device,
				      "Status", is_snapshot ? "completed" : "active", "SnapshotId",
				      json_object_get(container, "SnapshotId"), "Url",
				      json_object_get(container, "Url"), "Format",
				      json_object_get(container, "Format"), "Description",
				      json_object_get(container, "Description"))) < 0)
			return NULL;
	}
	return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:O*, s:O*, s:O*, s:O, s:O, s:O}",
			 "ImportTaskId", task_id, "Status", "active", "StatusMessage", "pending",
			 "Progress", "1", "Architecture", jstr_or(p, "Architecture", "x86_64"),
			 "LicenseType", jstr_or(p, "LicenseType", "BYOL"), "Platform",
			 json_object_get(p, "Platform"), "Description",
			 json_object_get(p, "Description"), "BootMode",
			 json_object_get(p, "BootMode"), "SnapshotDetails", details, "Tags", tags,
			 "_Tasks", stord_tasks);
}

/* (fiber) Hands every disk to stord. Those that it took before it refused another are canceled. */
static int disks_begin(struct call *c, const json_t *p, const char *task_id, json_t *stord_tasks,
		       struct fault *f)
{
	size_t i, n_fds = 0;
	json_t *container;
	int r = 0;

	json_array_foreach (json_object_get(p, "DiskContainers"), i, container) {
		char task[ID_MAX] = "";
		int is_snapshot = jstr(container, "SnapshotId") != NULL,
		    is_fd = !is_snapshot && !jstr(container, "Url");

		if (r == 0 && !is_snapshot)
			r = disk_begin(c->ctx, task_id, i, container,
				       is_fd && n_fds < c->in->n ? c->in->fd[n_fds++] : -1, task,
				       f);
		if (r == 0 && json_array_append_new(stord_tasks, json_string(task)) < 0)
			r = -ENOMEM;
	}
	return r;
}

static void disks_cancel(const struct context *ctx, const json_t *stord_tasks)
{
	size_t i;
	json_t *id;

	json_array_foreach (stord_tasks, i, id) {
		OWN(json_decref)
		json_t *ask = json_pack("{s:O}", "ImportTaskId", id),
		       *reply = NULL;

		/* One that has ended leaves a snapshot, which its owner sees. */
		if (*json_string_value(id))
			(void)rpc_call(daemon_peer("stord"), ctx, "ec2.CancelImportTask", ask, NULL,
				       &reply, NULL, NULL);
	}
}

/* Ended tasks are kept for a while, not for ever: the oldest go when there are many. */
static void forget_old(struct call *c)
{
	size_t n = store_count(c->store, KIND);

	store_each (c->store, KIND, d) {
		if (n-- <= TASKS_KEPT)
			break;
		if (!is_active(d))
			(void)txn_delete(c->txn, KIND,
					 d->id); /* left over: the next one tries again */
	}
}

int import_image(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	static const char *const taggable[] = {KIND, NULL};
	OWN(json_decref) json_t *tags = NULL, *stord_tasks = json_array(), *task = NULL;
	char id[ID_MAX];
	int r = stord_tasks ? parameters_check(c, parameters, f) : -ENOMEM;

	if (r == 0)
		r = tags_from_specifications(parameters, KIND, taggable, &tags, f);
	if (r < 0)
		return r;
	id_new("import-ami", id);
	r = disks_begin(c, parameters, id, stord_tasks, f);
	task = r == 0 ? task_new(c, parameters, id, stord_tasks, tags) : NULL;
	if (r == 0 && !task)
		r = -ENOMEM;
	if (r == 0) {
		forget_old(c);
		r = txn_put(c->txn, KIND, id, c->ctx->account, c->ctx->region, json_incref(task));
	}
	if (r == 0)
		r = start(c->daemon, id);
	if (r < 0) {
		disks_cancel(c->ctx, stord_tasks);
		return r;
	}
	*ret_reply = give(task);
	return 0;
}

int import_image_describe(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	static const struct filter filters[] = {{"task-state", "Status"}, FILTER_TAGS, {NULL}};
	static const struct describe tasks = {.kind = KIND,
					      .result = "ImportImageTasks",
					      .ids = "ImportTaskIds",
					      .prefix = "import-ami",
					      .malformed =
						      FAULT_INVALID_CONVERSION_TASK_ID_MALFORMED,
					      .not_found = FAULT_INVALID_CONVERSION_TASK_ID,
					      .filters = filters};

	return describe_run(c, &tasks, parameters, ret_reply, f);
}

/* Of either kind: stord has those of single snapshots. */
int import_task_cancel(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	const char *id = jstr_or(parameters, "ImportTaskId", "");
	const struct doc *task = store_get(c->store, c->ctx, KIND, id);

	if (strncmp(id, "import-snap", 11) == 0)
		return rpc_call(daemon_peer("stord"), c->ctx, "ec2.CancelImportTask", parameters,
				NULL, ret_reply, NULL, f);
	if (!id_is(id, "import-ami"))
		return fault_set(f, FAULT_INVALID_CONVERSION_TASK_ID_MALFORMED,
				 "Invalid id: \"%.64s\" (expecting \"import-ami-...\")", id);
	if (!task)
		return fault_set(f, FAULT_INVALID_CONVERSION_TASK_ID,
				 "The import task '%s' does not exist.", id);
	if (!is_active(task))
		return fault_set(f, FAULT_INCORRECT_STATE, "The import task '%s' is %s.", id,
				 jstr_or(task->json, "Status", ""));
	OWN(json_decref) json_t *json = doc_edit(task);
	OWN(json_decref) json_t *stord_tasks = json_incref(json_object_get(task->json, "_Tasks"));
	int r = json ? jset(json, "Status", "deleted") : -ENOMEM;

	if (r == 0)
		r = jset(json, "StatusMessage", jstr_or(parameters, "CancelReason", "canceled"));
	if (r == 0)
		r = txn_replace(c->txn, task, give(json));
	if (r == 0)
		r = txn_commit(c->txn);
	if (r < 0)
		return r;
	disks_cancel(c->ctx, stord_tasks);
	*ret_reply = json_pack("{s:s, s:s, s:s}", "ImportTaskId", id, "PreviousState", "active",
			       "State", "deleted");
	return *ret_reply ? 0 : -ENOMEM;
}
