/* Images on their way in and out: what keeps hvd and stord agreed on which snapshots are in use
 * (why: catalog-rooms.h). */
#include "image-work.h"

#include <errno.h>
#include <stdio.h>
#include "fiber.h"
#include "id.h"
#include "jsonx.h"
#include "log.h"

#define ARRIVING   "image-arriving"
#define LEAVING	   "image-leaving"
#define RETRY_USEC (10 * 1000000ull)

/* A snapshot that is gone needs no release. */
int image_protect(const struct context *ctx, const char *image_id, const json_t *image, int is_used,
		  struct fault *f)
{
	json_t *mappings = json_object_get(image, "BlockDeviceMappings"), *m;
	size_t i;

	json_array_foreach (mappings, i, m) {
		const char *snapshot_id = jpath_str(m, "Ebs.SnapshotId");
		OWN(json_decref) json_t *ask = NULL;
		OWN(json_decref) json_t *reply = NULL;
		struct fault why = {0};
		int r;

		if (!snapshot_id)
			continue;
		ask = json_pack("{s:s, s:s, s:b}", "SnapshotId", snapshot_id, "ImageId", image_id,
				"Use", is_used);
		r = rpc_call(daemon_peer("stord"), ctx, "gureum.ProtectSnapshot", ask, NULL, &reply,
			     NULL, &why);
		if (r < 0 && !is_used && fault_is(&why, FAULT_INVALID_SNAPSHOT_NOT_FOUND))
			continue;
		if (r < 0) {
			if (f)
				*f = why;
			return r;
		}
	}
	return 0;
}

/* Moves an image between kinds in one commit. */
static int move(struct txn *t, const char *from, const char *to, const struct doc *d)
{
	int r = txn_put(t, to, d->id, d->account, d->region, json_incref(d->json));

	return r == 0 ? txn_delete(t, from, d->id) : r;
}

/* (fiber) Tells stord, then forgets what was leaving. */
static int release(struct daemon *d, const char *image_id)
{
	const struct doc *leaving = store_find(d->store, LEAVING, image_id);
	struct context ctx = {0};
	OWN(json_decref) json_t *image = leaving ? json_incref(leaving->json) : NULL;
	OWN(txn_free) struct txn *t = txn_new(d->store);
	int r;

	if (!leaving)
		return 0;
	snprintf(ctx.account, sizeof ctx.account, "%s", leaving->account);
	snprintf(ctx.region, sizeof ctx.region, "%s", leaving->region);
	r = image_protect(&ctx, image_id, image, 0, NULL);
	if (r == 0)
		r = t ? txn_delete(t, LEAVING, image_id) : -ENOMEM;
	return r == 0 ? txn_commit(t) : r;
}

static void release_all(void *arg)
{
	static int is_running;
	struct daemon *d = arg;
	const struct doc *first;

	if (is_running)
		return; /* it goes on until nothing is leaving */
	is_running = 1;
	while ((first = store_next(d->store, LEAVING, NULL))) {
		char id[ID_MAX];

		snprintf(id, sizeof id, "%s", first->id);
		if (release(d, id) < 0 && fiber_sleep(RETRY_USEC) < 0)
			break;
	}
	is_running = 0;
}

/* (fiber) Now, or when stord is back. */
static void release_soon(struct daemon *d, const char *image_id)
{
	int r = release(d, image_id);

	if (r == 0)
		return;
	log_warning(r, "an image's snapshots are released later", "IMAGE", image_id);
	(void)fiber_spawn(release_all, d); /* out of memory: then at the next start */
}

int image_arrive(struct call *c, const char *image_id, json_t *image, struct fault *f)
{
	int r = txn_put(c->txn, ARRIVING, image_id, c->ctx->account, c->ctx->region,
			json_incref(image));

	if (r == 0)
		r = txn_commit(c->txn);
	if (r < 0)
		return fault_set(f, FAULT_INTERNAL_ERROR, "The image could not be recorded");
	r = image_protect(c->ctx, image_id, image, 1, f);
	if (r < 0)
		image_arrive_undo(c, image_id);
	return r;
}

int image_arrive_done(struct call *c, const char *image_id)
{
	return txn_delete(c->txn, ARRIVING, image_id);
}

void image_arrive_undo(struct call *c, const char *image_id)
{
	const struct doc *d = store_find(c->store, ARRIVING, image_id);
	OWN(txn_free) struct txn *t = txn_new(c->store);

	if (!d)
		return;
	/* A failure leaves the arrival as it is: the next start undoes it. */
	if (t && move(t, ARRIVING, LEAVING, d) == 0 && txn_commit(t) == 0)
		release_soon(c->daemon, image_id);
}

int image_leave(struct call *c, const struct doc *image, struct fault *f)
{
	char id[ID_MAX];

	snprintf(id, sizeof id, "%s", image->id);
	if (move(c->txn, IMAGE_KIND, LEAVING, image) < 0 || txn_commit(c->txn) < 0)
		return fault_set(f, FAULT_INTERNAL_ERROR, "The image could not be removed");
	release_soon(c->daemon, id);
	return 0;
}

int image_leave_start(struct daemon *d)
{
	OWN(txn_free) struct txn *t = txn_new(d->store);
	int r = t ? 0 : -ENOMEM;

	store_each (d->store, ARRIVING, image)
		r = r == 0 ? move(t, ARRIVING, LEAVING, image) : r;
	if (r == 0)
		r = txn_commit(t);
	return r == 0 ? fiber_spawn(release_all, d) : r;
}

void image_delete_snapshots(const struct context *ctx, const json_t *image)
{
	size_t i;
	json_t *m;

	json_array_foreach (json_object_get(image, "BlockDeviceMappings"), i, m) {
		const char *snapshot = jpath_str(m, "Ebs.SnapshotId");
		OWN(json_decref) json_t *ask = NULL, *reply = NULL;
		struct fault f = {0};

		if (!snapshot)
			continue;
		ask = json_pack("{s:s}", "SnapshotId", snapshot);
		int r = rpc_call(daemon_peer("stord"), ctx, "ec2.DeleteSnapshot", ask, NULL, &reply,
				 NULL, &f);

		/* In use by another image, gone already, stord away: it stays, and its owner sees
		 * it. */
		if (r < 0)
			log_info("an image's snapshot stays", "SNAPSHOT_ID", snapshot, "CODE",
				 f.code);
	}
}
