/*
 * CopySnapshot: the contents of a snapshot as one layer of its own, in this region or another.
 *
 * The copy is `pending` and has `_Copy` {Source, Region}; its layer is a file of target.h, which is
 * made anew after a restart. Each block is hashed as it is read and read back from the copy before
 * that is completed. The source's layers are open meanwhile: it may be deleted, and a copy that
 * goes on still ends well; one that must begin again fails then.
 */
#include "stord.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "again.h"
#include "chain.h"
#include "copy.h"
#include "encryption.h"
#include "fiber.h"
#include "files.h"
#include "layer.h"
#include "log.h"
#include "step.h"
#include "target.h"
#include "volume-key.h"
#include "zones.h"

#define BLOCKS_A_STEP 64 /* 32 MiB: between them the loop has a look */
#define COPIES_MAX    20 /* pending ones of an account in a region, as on AWS */
#define PROGRESS_STEP 5	 /* percent; each is a commit */

/* One at a time: they would only take the disk from each other. */
static struct fiber_lock one_at_a_time;

struct copy {
	struct daemon *daemon;
	char id[ID_MAX], layer[FILE_NAME_MAX], path[FILE_PATH_MAX];
	char owner[ID_MAX], key[VOLUME_KEY_BYTES]; /* "": not encrypted */
	struct chain *source;
	struct target target;
	uint64_t at;			  /* block */
	int is_synced, is_verify, is_raw; /* raw: the target's descriptor is the file itself */
	unsigned percent;
};

/* ---- the work ---- */

static int make_raw(struct copy *w, uint64_t bytes)
{
	OWN(fd_close)
	int fd = open(w->path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0 || ftruncate(fd, (off_t)bytes) < 0)
		return -errno;
	w->target = (struct target){.fd = give(fd), .bytes = bytes};
	return 0;
}

/* One block of a raw file: the last may be short, zeros stay holes. */
static int copy_raw(struct copy *w, uint64_t index, uint8_t *data)
{
	uint64_t at = index * TARGET_BLOCK, left = w->target.bytes - at;
	size_t n = left < TARGET_BLOCK ? (size_t)left : TARGET_BLOCK;
	int r = chain_read(w->source, at, data, TARGET_BLOCK);

	if (r < 0 || (data[0] == 0 && memcmp(data, data + 1, TARGET_BLOCK - 1) == 0))
		return r;
	ssize_t put = pwrite(w->target.fd, data, n, (off_t)at);

	return put == (ssize_t)n ? 0 : put < 0 ? -errno : -ENOSPC;
}

static int verify_raw(struct copy *w, uint64_t index, uint8_t *data)
{
	uint64_t at = index * TARGET_BLOCK, left = w->target.bytes - at;
	size_t n = left < TARGET_BLOCK ? (size_t)left : TARGET_BLOCK;
	OWN(free) uint8_t *got = malloc(TARGET_BLOCK);
	int r = got ? chain_read(w->source, at, data, TARGET_BLOCK) : -ENOMEM;

	if (r < 0)
		return r;
	return pread(w->target.fd, got, n, (off_t)at) == (ssize_t)n && memcmp(got, data, n) == 0
		       ? 1
		       : -EBADMSG;
}

/* On a worker. */
static int make_target(void *arg)
{
	struct copy *w = arg;
	uint64_t bytes = chain_bytes(w->source);

	if (w->is_raw)
		return make_raw(w, bytes);

	bytes += -bytes % 512; /* a raw file has any length */
	int r = file_remove(w->path, 0);

	if (r == 0)
		r = target_make(w->path, bytes, NULL, NULL, w->owner[0] ? w->key : NULL,
				w->is_synced);
	return r == 0 ? target_open(w->path, bytes, w->owner[0] ? w->key : NULL, &w->target) : r;
}

static int hash_block(struct chain *c, uint64_t index, uint8_t *data, uint8_t ret_sum[static 32])
{
	int r = chain_read(c, index * TARGET_BLOCK, data, TARGET_BLOCK);

	if (r == 0 && !EVP_Digest(data, TARGET_BLOCK, ret_sum, NULL, EVP_sha256(), NULL))
		r = -ENOMEM;
	return r;
}

static int copy_block(struct copy *w, uint64_t index, uint8_t *data)
{
	uint8_t sum[32];

	if (w->is_raw)
		return copy_raw(w, index, data);
	int r = hash_block(w->source, index, data, sum);
	return r == 0 ? target_put(&w->target, index, data, sum, 0) : r;
}

/* On a worker: the next blocks, copied or read back. */
static int run_step(void *arg)
{
	struct copy *w = arg;
	OWN(free) uint8_t *data = malloc(TARGET_BLOCK);
	step(w->is_verify ? "blocks to be read back" : "blocks to be copied");
	uint64_t end = target_blocks(&w->target);
	int r = data ? 0 : -ENOMEM;

	for (unsigned n = 0; r == 0 && w->at < end && n < BLOCKS_A_STEP; w->at++) {
		if (w->is_verify) {
			r = w->is_raw ? verify_raw(w, w->at, data)
				      : target_verify(&w->target, w->at, data);
			n += r == 1;
			r = r < 0 ? r : 0;
			continue;
		}
		/* Holes are quick to pass: they do not count. */
		int has = chain_has_data(w->source, w->at * TARGET_BLOCK, TARGET_BLOCK);

		r = has <= 0 ? has : copy_block(w, w->at, data);
		n += has > 0;
	}
	return r;
}

/* On a worker. */
static int finish(void *arg)
{
	struct copy *w = arg;

	if (!w->is_raw)
		return target_finish(&w->target, 0444, w->is_synced);
	if (fchmod(w->target.fd, 0444) < 0 || (w->is_synced && fsync(w->target.fd) < 0))
		return -errno;
	return 0;
}

static const struct doc *pending(const struct copy *w)
{
	const struct doc *s = store_find(w->daemon->store, "snapshot", w->id);

	return s && json_object_get(s->json, "_Copy") ? s : NULL;
}

/* What the customer is shown from time to time. Copying is 90 of the hundred. -ECANCELED: it was deleted
 * meanwhile. */
static int show_progress(struct copy *w)
{
	uint64_t n = target_blocks(&w->target);
	unsigned percent = (unsigned)(w->is_verify ? 90 + 9 * w->at / n : 90 * w->at / n);
	const struct doc *s = pending(w);
	char text[16];

	if (!s)
		return -ECANCELED;
	if (percent < w->percent + PROGRESS_STEP)
		return 0;
	OWN(txn_free) struct txn *t = txn_new(w->daemon->store);
	OWN(json_decref) json_t *json = doc_edit(s);

	w->percent = percent;
	snprintf(text, sizeof text, "%u%%", percent);
	/* A step that is not shown is no reason to fail. */
	if (t && json && jset(json, "Progress", text) == 0 && txn_replace(t, s, give(json)) == 0)
		(void)txn_commit(t);
	return 0;
}

static int run_through(struct copy *w, int is_verify)
{
	int r = 0;

	w->is_verify = is_verify;
	for (w->at = 0; r == 0 && w->at < target_blocks(&w->target);) {
		r = fiber_work(run_step, w);
		if (r == 0)
			r = show_progress(w);
	}
	return r;
}

/* State completed, or error with a sentence: then the layer goes. */
static int record_end(struct copy *w, const char *why)
{
	const struct doc *s = pending(w);
	OWN(txn_free) struct txn *t = txn_new(w->daemon->store);
	OWN(json_decref) json_t *json = s ? doc_edit(s) : NULL;
	int r = !s ? -ECANCELED : t && json ? 0 : -ENOMEM;

	if (r == 0)
		r = why ? jset(json, "State", "error") : snapshot_set_completed(json);
	if (r == 0 && why)
		r = jset(json, "StateMessage", why);
	if (r == 0)
		r = jset(json, "_Copy", NULL);
	if (r == 0 && why)
		r = jset(json, "_Layer", NULL);
	if (r == 0)
		r = txn_replace(t, s, give(json));
	if (r == 0 && why)
		r = layer_release(t, w->layer);
	if (r == 0)
		r = txn_commit(t);
	if (r == 0 && why)
		unlink_marked(w->daemon);
	return r;
}

static int open_source(struct copy *w)
{
	const struct doc *s = pending(w);
	char id[ID_MAX];

	if (!s)
		return -ECANCELED;
	snprintf(id, sizeof id, "%s", jstr_or(json_object_get(s->json, "_Copy"), "Source", ""));
	return chain_open_snapshot(w->daemon, id, &w->source);
}

static int copy_all(struct copy *w)
{
	int r = open_source(w);

	if (r == 0 && w->owner[0])
		r = volume_key_get(w->daemon, w->owner, 1, w->key);
	if (r == 0)
		r = fiber_work(make_target, w);
	if (r == 0)
		r = run_through(w, 0);
	if (r == 0)
		r = run_through(w, 1);
	return r == 0 ? fiber_work(finish, w) : r;
}

/* 0, or -ECANCELED: it was deleted meanwhile. */
static int record_until_kept(struct copy *w, const char *why)
{
	int r;

	for (uint64_t wait = 0; (r = record_end(w, why)) < 0 && r != -ECANCELED; again_wait(&wait))
		log_warning(r, "a copy's end is not recorded yet", "SNAPSHOT_ID", w->id);
	return r;
}

static void run_copy(struct copy *w)
{
	char why[160];
	int r = copy_all(w), failed = r;

	if (r == -EUCLEAN || r == -EBADMSG)
		log_error(r, "a snapshot cannot be read, or its copy is not what was written",
			  "SNAPSHOT_ID", w->id);
	snprintf(why, sizeof why, "The snapshot could not be copied: %s",
		 r == -ENODATA ? "the source is gone" : strerror(-r));
	if (r != -ECANCELED)
		r = record_until_kept(w, r < 0 ? why : NULL);
	if (r == -ECANCELED) { /* deleted meanwhile: what was made since then goes too */
		(void)file_remove(w->path, 0);
		if (w->owner[0])
			volume_key_drop(w->daemon, w->owner);
	} else if (failed < 0)
		log_warning(failed, "a snapshot could not be copied", "SNAPSHOT_ID", w->id);
	else
		log_info("snapshot copied", "SNAPSHOT_ID", w->id);
}

static void work_on(void *arg)
{
	OWN(free) struct copy *w = arg;

	/* The document is committed after its handler has returned: let it. */
	(void)fiber_sleep(0);
	fiber_lock(&one_at_a_time);
	const struct doc *s = pending(w);

	if (s) {
		snprintf(w->layer, sizeof w->layer, "%s", jstr_or(s->json, "_Layer", ""));
		file_path(w->daemon, w->layer, w->path);
		const struct doc *own = layer_find(w->daemon->store, w->layer);

		snprintf(w->owner, sizeof w->owner, "%s", own ? jstr_or(own->json, "Key", "") : "");
		w->is_raw = own && strcmp(jstr_or(own->json, "Format", ""), "raw") == 0;
		run_copy(w);
	}
	OPENSSL_cleanse(w->key, sizeof w->key);
	target_close(&w->target);
	chain_free(w->source);
	layer_unpin(w->layer);
	fiber_unlock(&one_at_a_time);
}

/* The copy's own layer is pinned: it is no image yet. */
static int begin(struct daemon *d, const char *id, const char *layer)
{
	OWN(free) struct copy *w = calloc(1, sizeof *w);
	int r = w ? layer_pin(layer) : -ENOMEM;

	if (r < 0)
		return r;
	w->daemon = d;
	w->is_synced = files_are_synced(d);
	w->target.fd = -1;
	snprintf(w->id, sizeof w->id, "%s", id);
	snprintf(w->layer, sizeof w->layer, "%s", layer);
	r = fiber_spawn(work_on, w);
	if (r == 0)
		(void)give(w);
	else
		layer_unpin(layer);
	return r;
}

int copy_resume(struct daemon *d)
{
	int r = 0;

	/* Nothing is committed before the fibers that begin here have slept. */
	store_each (d->store, "snapshot", s)
		if (r == 0 && json_object_get(s->json, "_Copy"))
			r = begin(d, s->id, jstr_or(s->json, "_Layer", ""));
	return r;
}

/* ---- the action ---- */

static int source_get(const struct call *c, const json_t *p, struct context *ctx,
		      const struct doc **ret_source, struct fault *f)
{
	const char *region = jstr(p, "SourceRegion");
	struct call there = *c;

	if (!region)
		return fault_set(f, FAULT_MISSING_PARAMETER,
				 "The request must contain the parameter sourceRegion");
	if (!region_exists(c->daemon->config, region))
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "Value (%.64s) for parameter sourceRegion is invalid.", region);
	*ctx = *c->ctx;
	snprintf(ctx->region, sizeof ctx->region, "%s", region);
	/* Only daemons can say this (doc/messages.md): hvd, of an image that it lets the caller
	 * copy. */
	if (jstr(p, "_SourceAccount"))
		snprintf(ctx->account, sizeof ctx->account, "%.12s", jstr(p, "_SourceAccount"));
	there.ctx = ctx;
	int r = snapshot_get_usable(&there, jstr(p, "SourceSnapshotId"), ret_source, f);

	if (r == 0 && strcmp(jstr_or((*ret_source)->json, "State", ""), "completed") != 0)
		return fault_set(f, FAULT_INCORRECT_STATE, "Snapshot '%s' is not 'completed'.",
				 (*ret_source)->id);
	return r;
}

static int copy_check(const struct call *c, const json_t *p, struct fault *f)
{
	const char *to = jstr(p, "DestinationRegion");
	size_t n = 0;

	/* Clients of some age put it into the request; it is where the request is sent to. */
	if (to && *to && strcmp(to, c->ctx->region) != 0)
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "DestinationRegion must be the region that is asked: %s",
				 c->ctx->region);
	if (*jstr_or(p, "DestinationOutpostArn", ""))
		return fault_set(f, FAULT_UNSUPPORTED_OPERATION, "There are no Outposts here.");
	if (snapshot_count(c) >= LIMIT_SNAPSHOTS)
		return fault_set(f, FAULT_SNAPSHOT_LIMIT_EXCEEDED,
				 "You have reached the limit of %d snapshots.", LIMIT_SNAPSHOTS);
	int r = text_limit(p, "Description", LIMIT_DESCRIPTION, f);

	if (r < 0)
		return r;
	store_each (c->store, "snapshot", s)
		n += json_object_get(s->json, "_Copy") && is_callers(c, s);
	if (n >= COPIES_MAX)
		return fault_set(f, FAULT_RESOURCE_LIMIT_EXCEEDED,
				 "There are %d copies under way already.", COPIES_MAX);
	return 0;
}

static json_t *snapshot_new(const struct call *c, const json_t *p, const struct doc *source,
			    const char *id, const char *layer, const struct encryption *e,
			    json_t *tags)
{
	const char *description = jstr_or(p, "Description", "");
	char text[128], data_key[ID_MAX + 8];

	encryption_data_key(id, data_key);
	snprintf(text, sizeof text, "[Copied %.40s from %.40s]", source->id, source->region);
	/* AWS: the volume's id of a copy is arbitrary. */
	return json_pack("{s:s, s:s, s:b, s:s, s:s, s:o, s:s, s:s, s:I, s:s, s:O, s:s, s:I, s:[], "
			 "s:{s:s, s:s}, s:s*, s:s*, s:s}",
			 "SnapshotId", id, "Description", *description ? description : text,
			 "Encrypted", e->is_on, "OwnerId", c->ctx->account, "Progress", "0%",
			 "StartTime", jtime_now(), "State", "pending", "VolumeId", "vol-ffffffff",
			 "VolumeSize", (json_int_t)jint(source->json, "VolumeSize", 1),
			 "StorageTier", "standard", "Tags", tags, "_Layer", layer, "_Bytes",
			 (json_int_t)jint(source->json, "_Bytes", 0), "_Images", "_Copy", "Source",
			 source->id, "Region", source->region, "KmsKeyId", e->is_on ? e->key : NULL,
			 "DataEncryptionKeyId", e->is_on ? data_key : NULL, "TransferType",
			 "standard");
}

int snapshot_copy(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	static const char *const taggable[] = {"snapshot", NULL};
	char id[ID_MAX], layer[FILE_NAME_MAX];
	OWN(json_decref) json_t *tags = NULL;
	const struct doc *source = NULL;
	struct context ctx;
	struct encryption encryption = {0};
	struct encryption_ask ask = encryption_asked(parameters, "KmsKeyId");
	int r = copy_check(c, parameters, f);

	if (r == 0)
		r = source_get(c, parameters, &ctx, &source, f);
	if (r == 0)
		r = encryption_choose(c, &ask, source, &encryption, f);
	if (r == 0)
		r = tags_from_specifications(parameters, "snapshot", taggable, &tags, f);
	if (r < 0)
		return r;
	int64_t bytes = jint(source->json, "_Bytes", 0);

	const struct doc *from = layer_find(c->store, jstr(source->json, "_Layer"));
	/* What was raw stays raw: kernels are opened by QEMU as they are. */
	int is_raw = from && strcmp(jstr_or(from->json, "Format", ""), "raw") == 0;
	const char *format = is_raw && !encryption.is_on ? "raw" : "qcow2";

	if (strcmp(format, "qcow2") == 0)
		bytes = (bytes + 511) / 512 * 512; /* over a raw file of any length */
	id_new("snap", id);
	file_snapshot_name(id, format, layer);
	r = txn_put(c->txn, "snapshot", id, c->ctx->account, c->ctx->region,
		    snapshot_new(c, parameters, source, id, layer, &encryption, tags));
	if (r == 0)
		r = layer_put(c->txn, layer, format, bytes, NULL);
	if (r == 0 && encryption.is_on)
		r = layer_set_key(c->txn, layer, id);
	if (r == 0)
		r = txn_commit(c->txn);
	if (r == 0)
		r = begin(c->daemon, id, layer);
	if (r < 0)
		return r;
	log_info("copy of a snapshot begun", "SNAPSHOT_ID", id, "SOURCE",
		 jstr(parameters, "SourceSnapshotId"), "REQUEST_ID", c->ctx->request);
	*ret_reply = json_pack("{s:s, s:O}", "SnapshotId", id, "Tags", tags);
	return *ret_reply ? 0 : -ENOMEM;
}
