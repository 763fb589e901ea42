/* Images in the making. */
#include "image-work.h"

#include <errno.h>
#include <string.h>
#include "fiber.h"
#include "id.h"
#include "jsonx.h"
#include "log.h"

#define LOOK_USEC     100000ull
#define LOOK_MAX_USEC 2000000ull
#define AGAIN_USEC    2000000ull

const struct doc *image_pending(const struct daemon *d, const char *image_id)
{
	const struct doc *image = store_find(d->store, IMAGE_KIND, image_id);

	return image && json_object_get(image->json, "_Work") ? image : NULL;
}

struct context image_context(const struct doc *image)
{
	struct context ctx = {0};

	snprintf(ctx.account, sizeof ctx.account, "%s", image->account);
	snprintf(ctx.region, sizeof ctx.region, "%s", image->region);
	return ctx;
}

static int commit(struct daemon *d, const struct doc *image, json_t *changed)
{
	OWN(txn_free) struct txn *t = txn_new(d->store);
	int r = t ? txn_replace(t, image, changed) : -ENOMEM;

	if (!t)
		json_decref(changed);
	return r == 0 ? txn_commit(t) : r;
}

int image_set_snapshot(struct daemon *d, const char *image_id, size_t mapping,
		       const char *snapshot_id, struct fault *f)
{
	const struct doc *image = image_pending(d, image_id);
	OWN(json_decref) json_t *changed = image ? doc_edit(image) : NULL;
	json_t *row = json_array_get(json_object_get(changed, "BlockDeviceMappings"), mapping);
	json_t *ebs = json_object_get(row, "Ebs");
	int r = !image ? -ECANCELED : ebs ? jset(ebs, "SnapshotId", snapshot_id) : -ENOMEM;

	if (r < 0)
		return r;
	(void)json_object_del(ebs, "_Volume"); /* either may be absent */
	(void)json_object_del(ebs, "_Source");
	struct context ctx = image_context(image);

	OWN(json_decref) json_t *kept = json_incref(changed);

	r = commit(d, image, give(changed));
	return r == 0 ? image_protect(&ctx, image_id, kept, 1, f) : r;
}

int image_find_snapshot(const struct context *ctx, const char *description, const char *volume_id,
			char ret_id[static 40], struct fault *f)
{
	OWN(json_decref)
	json_t *ask = json_pack("{s:[s], s:[{s:s, s:[s]}]}", "OwnerIds", "self", "Filters", "Name",
				"description", "Values", description);
	OWN(json_decref) json_t *reply = NULL;
	size_t i;
	json_t *s;
	int r = rpc_call(daemon_peer("stord"), ctx, "ec2.DescribeSnapshots", ask, NULL, &reply,
			 NULL, f);

	ret_id[0] = '\0';
	json_array_foreach (json_object_get(reply, "Snapshots"), i, s)
		if (!volume_id || strcmp(jstr_or(s, "VolumeId", ""), volume_id) == 0)
			snprintf(ret_id, 40, "%s", jstr_or(s, "SnapshotId", ""));
	return r;
}

/* 1: all snapshots of the image are completed, 0: not yet; a failed one is a fault. */
static int are_completed(const struct context *ctx, const json_t *image, json_t *encrypted,
			 struct fault *f)
{
	OWN(json_decref) json_t *ids = json_array();
	OWN(json_decref) json_t *ask = NULL;
	OWN(json_decref) json_t *reply = NULL;
	size_t i;
	json_t *m, *s;
	int is_all = 1;

	json_array_foreach (json_object_get(image, "BlockDeviceMappings"), i, m)
		if (jpath(m, "Ebs.SnapshotId") &&
		    json_array_append(ids, jpath(m, "Ebs.SnapshotId")) < 0)
			return -ENOMEM;
	ask = json_pack("{s:O}", "SnapshotIds", ids);
	int r = rpc_call(daemon_peer("stord"), ctx, "ec2.DescribeSnapshots", ask, NULL, &reply,
			 NULL, f);

	if (r < 0)
		return r;
	json_array_foreach (json_object_get(reply, "Snapshots"), i, s) {
		const char *state = jstr_or(s, "State", "");

		if (strcmp(state, "error") == 0)
			return fault_set(f, FAULT_INTERNAL_ERROR, "The snapshot %s failed: %s",
					 jstr_or(s, "SnapshotId", ""),
					 jstr_or(s, "StateMessage", "no reason is known"));
		is_all &= strcmp(state, "completed") == 0;
		if (jset_new(encrypted, jstr_or(s, "SnapshotId", ""),
			     json_boolean(jbool(s, "Encrypted", 0))) < 0)
			return -ENOMEM;
	}
	return is_all;
}

/* What its snapshots turned out to be: a copy may be encrypted where its source is not. */
static int set_encrypted(json_t *image, const json_t *encrypted)
{
	size_t i;
	json_t *m;
	int r = 0;

	json_array_foreach (json_object_get(image, "BlockDeviceMappings"), i, m) {
		json_t *ebs = json_object_get(m, "Ebs"),
		       *is = json_object_get(encrypted, jstr_or(ebs, "SnapshotId", ""));

		if (r == 0 && is)
			r = jset_new(ebs, "Encrypted", json_incref(is));
	}
	return r;
}

static int wait_completed(struct daemon *d, const char *image_id, json_t *encrypted,
			  struct fault *f)
{
	for (uint64_t pause = LOOK_USEC;; pause = pause * 2 < LOOK_MAX_USEC ? pause * 2 : pause) {
		const struct doc *image = image_pending(d, image_id);

		if (!image)
			return -ECANCELED;
		struct context ctx = image_context(image);
		OWN(json_decref) json_t *json = json_incref(image->json);
		int r = are_completed(&ctx, json, encrypted, f);

		if (r != 0)
			return r < 0 ? r : 0;
		r = fiber_sleep(pause);
		if (r < 0)
			return r;
	}
}

/* Available (f NULL), or failed with the fault's words. */
static int record_end(struct daemon *d, const char *image_id, const json_t *encrypted,
		      const struct fault *f)
{
	const struct doc *image = image_pending(d, image_id);
	OWN(json_decref) json_t *changed = image ? doc_edit(image) : NULL;
	int r = !image ? -ECANCELED : !changed ? -ENOMEM : 0;

	if (r == 0)
		r = jset(changed, "State", f ? "failed" : "available");
	if (r == 0)
		r = set_encrypted(changed, encrypted);
	if (r == 0 && f)
		r = jset_new(changed, "StateReason",
			     json_pack("{s:s, s:s}", "Code",
				       f->code[0] ? f->code : "Server.InternalError", "Message",
				       f->message[0] ? f->message : "The image could not be made"));
	if (r == 0)
		r = jset(changed, "_Work", NULL);
	return r == 0 ? commit(d, image, give(changed)) : r;
}

static int try_once(struct daemon *d, const char *image_id, json_t *encrypted, struct fault *f)
{
	const struct doc *image = image_pending(d, image_id);

	if (!image)
		return -ECANCELED;
	const char *kind = jstr_or(json_object_get(image->json, "_Work"), "Kind", "");
	int r = strcmp(kind, "copy") == 0 ? image_copy_work(d, image_id, f)
					  : image_create_work(d, image_id, f);

	return r == 0 ? wait_completed(d, image_id, encrypted, f) : r;
}

struct work {
	struct daemon *daemon;
	char image_id[ID_MAX];
};

static void work_on(void *arg)
{
	OWN(free) struct work *w = arg;
	OWN(json_decref) json_t *encrypted = json_object(); /* {snapshot: it is} */
	struct fault f = {0};
	/* The document is committed after its handler has returned: let it. */
	int r = fiber_sleep(0);

	if (r == 0)
		r = try_once(w->daemon, w->image_id, encrypted, &f);
	while (r < 0 && fault_is(&f, FAULT_SERVICE_UNAVAILABLE) && fiber_sleep(AGAIN_USEC) == 0) {
		f = (struct fault){0};
		r = try_once(w->daemon, w->image_id, encrypted, &f);
	}
	if (r == -ECANCELED)
		return;
	if (r < 0)
		log_warning(r, "an image could not be made", "IMAGE", w->image_id, "REASON",
			    f.message);
	else
		log_info("image made", "IMAGE", w->image_id);
	r = record_end(w->daemon, w->image_id, encrypted, r < 0 ? &f : NULL);
	if (r < 0 && r != -ECANCELED)
		log_warning(r, "an image's end is not recorded; the next start does it", "IMAGE",
			    w->image_id);
}

int image_work_start(struct daemon *d, const char *image_id)
{
	OWN(free) struct work *w = calloc(1, sizeof *w);

	if (!w)
		return -ENOMEM;
	w->daemon = d;
	snprintf(w->image_id, sizeof w->image_id, "%s", image_id);
	int r = fiber_spawn(work_on, w);

	if (r == 0)
		(void)give(w);
	return r;
}

int image_work_resume(struct daemon *d)
{
	int r = 0;

	/* Nothing is committed before the fibers that begin here have slept. */
	store_each (d->store, IMAGE_KIND, image)
		if (r == 0 && json_object_get(image->json, "_Work"))
			r = image_work_start(d, image->id);
	return r;
}
