/* ImportImage's work: waiting for the disks, registering the image. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "fiber.h"
#include "id.h"
#include "image-work.h"
#include "jsonx.h"
#include "log.h"

#define KIND	      IMPORT_IMAGE_KIND
#define LOOK_USEC     200000ull
#define LOOK_MAX_USEC 2000000ull
#define AGAIN_USEC    2000000ull

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

	if (!import_image_is_active(task))
		return -ECANCELED;
	*ret_json = doc_edit(task);
	return *ret_json ? 0 : -ENOMEM;
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
		r = import_image_is_active(store_find(d->store, KIND, task_id)) ? fiber_sleep(pause)
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

	if (!import_image_is_active(task))
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
	if (r == 0 && !import_image_is_active(task))
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

int import_image_start(struct daemon *d, const char *task_id)
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
		if (r == 0 && import_image_is_active(task))
			r = import_image_start(d, task->id);
	return r;
}
