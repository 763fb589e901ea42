/*
 * ImportImage: disks that become an image.
 *
 * A task (id import-ami-…) imports each disk by stord's ImportSnapshot, then registers the image
 * under its own id as name; so after any end it goes on where it was: its member `_Tasks` has
 * stord's task of each disk ("" for one that is a snapshot), and the image is found by its name.
 * Disks that came as descriptors are all handed on before the answer: they do not outlive us.
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

#define KIND	       IMPORT_IMAGE_KIND
#define CONTAINERS_MAX 10
#define TASKS_MAX      100 /* under way, of an account in a region */
#define TASKS_KEPT     1000
#define TEXT_MAX       255

int import_image_is_active(const struct doc *task)
{
	return task && strcmp(jstr_or(task->json, "Status", ""), "active") == 0;
}

/* ---- disks ---- */

/* (fiber) Begins the import of one disk, with the descriptor if one came for it. */
static int disk_begin(const struct context *ctx, const json_t *p, const char *task_id, size_t i,
		      const json_t *container, int fd, char ret_task[static ID_MAX],
		      struct fault *f)
{
	char token[64];
	struct fds fds = {.n = 0};
	OWN(json_decref) json_t *ask = NULL, *reply = NULL;

	snprintf(token, sizeof token, "%.50s-%zu", task_id, i);
	ask = json_pack("{s:s, s:s, s:O*, s:O*, s:{s:O*, s:O*, s:O*, s:O*}}", "ClientToken", token,
			"Description", task_id, "Encrypted", json_object_get(p, "Encrypted"),
			"KmsKeyId", json_object_get(p, "KmsKeyId"), "DiskContainer", "Format",
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

/* ---- the actions ---- */

/* What a task keeps and shows, besides what is checked for what it means. */
static const char *const task_texts[] = {"Description", "LicenseType", "Platform", "BootMode",
					 NULL};
static const char *const container_texts[] = {"Description", "DeviceName", "Format", NULL};

static int texts_fit(const json_t *object, const char *const *name, struct fault *f)
{
	int r = 0;

	for (; r == 0 && *name; name++)
		r = text_limit(object, *name, TEXT_MAX, f);
	return r;
}

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
	if (has_snapshot && !id_is(jstr(container, "SnapshotId"), "snap"))
		return fault_set(f, FAULT_INVALID_SNAPSHOT_ID_MALFORMED,
				 "Invalid id: \"%.64s\" (expecting \"snap-...\")",
				 jstr(container, "SnapshotId"));
	return texts_fit(container, container_texts, f);
}

static int is_callers(const struct call *c, const struct doc *d)
{
	return strcmp(d->account, c->ctx->account) == 0 && strcmp(d->region, c->ctx->region) == 0;
}

static int parameters_check(const struct call *c, const json_t *p, struct fault *f)
{
	const json_t *containers = json_object_get(p, "DiskContainers");
	static const char *const unsupported[] = {"LicenseSpecifications", NULL};
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
	if (r == 0)
		r = texts_fit(p, task_texts, f);
	if (r == 0)
		r = unsupported_check(p, unsupported, f);
	if (r < 0)
		return r;
	/* Linux, and no licence of AWS's: what else these may say is for others. */
	if (strcmp(jstr_or(p, "Hypervisor", "xen"), "xen") != 0 ||
	    strcmp(jstr_or(p, "UsageOperation", "RunInstances"), "RunInstances") != 0)
		return fault_set(f, FAULT_UNSUPPORTED_OPERATION,
				 "Hypervisor may be xen, and UsageOperation RunInstances");
	if (strcmp(architecture, "x86_64") != 0 && strcmp(architecture, "i386") != 0)
		return fault_set(f, FAULT_UNSUPPORTED_OPERATION,
				 "Images of architecture %.32s cannot run here", architecture);
	store_each (c->store, KIND, task)
		n += import_image_is_active(task) && is_callers(c, task);
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
	return json_pack(
		"{s:s, s:s, s:s, s:s, s:s, s:s, s:O*, s:O*, s:O*, s:O, s:O, s:O, s:O*, s:O*}",
		"ImportTaskId", task_id, "Status", "active", "StatusMessage", "pending", "Progress",
		"1", "Architecture", jstr_or(p, "Architecture", "x86_64"), "LicenseType",
		jstr_or(p, "LicenseType", "BYOL"), "Platform", json_object_get(p, "Platform"),
		"Description", json_object_get(p, "Description"), "BootMode",
		json_object_get(p, "BootMode"), "SnapshotDetails", details, "Tags", tags, "_Tasks",
		stord_tasks, "Encrypted", json_object_get(p, "Encrypted"), "KmsKeyId",
		json_object_get(p, "KmsKeyId"));
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
			r = disk_begin(c->ctx, p, task_id, i, container,
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
		json_t *ask = json_pack("{s:O}", "ImportTaskId", id), *reply = NULL;

		/* One that has ended leaves a snapshot, which its owner sees. */
		if (*json_string_value(id))
			(void)rpc_call(daemon_peer("stord"), ctx, "ec2.CancelImportTask", ask, NULL,
				       &reply, NULL, NULL);
	}
}

/* Ended tasks are kept for a while, not for ever: the oldest go when there are many. */
static void forget_old(struct call *c)
{
	size_t n = 0;

	store_each (c->store, KIND, d)
		n += is_callers(c, d);
	store_each (c->store, KIND, d) {
		if (!is_callers(c, d))
			continue;
		if (n-- <= TASKS_KEPT)
			break;
		if (!import_image_is_active(d))
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
		r = import_image_start(c->daemon, id);
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
	if (!import_image_is_active(task))
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
