/* EBS direct: a snapshot is written by blocks, and completed. */
#include "direct.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "fiber.h"
#include "files.h"
#include "hold.h"
#include "layer.h"
#include "log.h"
#include "target.h"
#include "volume-key.h"

/* ---- put ---- */

/* A snapshot that is being written, with the path of its layer. */
struct writing {
	const struct doc *doc;
	char path[FILE_PATH_MAX];
	uint64_t bytes;
};

static int writing_get(const struct call *c, const char *id, struct writing *ret_writing,
		       struct fault *f)
{
	int r = direct_snapshot(c, id, &ret_writing->doc, f);

	if (r < 0)
		return r;
	const json_t *json = ret_writing->doc->json;

	if (strcmp(ret_writing->doc->account, c->ctx->account) != 0)
		return fault_set(f, FAULT_EBS_NOT_FOUND, "The snapshot '%s' is not yours.", id);
	if (strcmp(jstr_or(json, "State", ""), "pending") != 0 || !json_object_get(json, "_Direct"))
		return fault_set(f, FAULT_EBS_INVALID_SNAPSHOT_ID,
				 "The snapshot '%s' is not one that is being written.", id);
	file_path(c->daemon, jstr_or(json, "_Layer", ""), ret_writing->path);
	ret_writing->bytes = (uint64_t)jint(json, "_Bytes", 0);
	return 0;
}

struct put {
	const struct writing *writing;
	const char *passphrase; /* NULL: not encrypted */
	int fd;
	uint64_t index;
	uint8_t sum[32], given[32];
	int is_wrong, is_synced;
};

/* On a worker. */
static int put_block(void *arg)
{
	struct put *p = arg;
	OWN(free) uint8_t *data = malloc(DIRECT_BLOCK);
	__attribute__((cleanup(own_target_close))) struct target t = {.fd = -1};

	if (!data)
		return -ENOMEM;
	if (pread(p->fd, data, DIRECT_BLOCK, 0) != DIRECT_BLOCK ||
	    !EVP_Digest(data, DIRECT_BLOCK, p->sum, NULL, EVP_sha256(), NULL))
		return -EIO;
	p->is_wrong = memcmp(p->sum, p->given, 32) != 0;
	if (p->is_wrong)
		return 0;
	int r = target_open(p->writing->path, p->writing->bytes, p->passphrase, &t);

	return r == 0 ? target_put(&t, p->index, data, p->sum, p->is_synced) : r;
}

static int put_check(const struct call *c, const json_t *parameters, const struct writing *w,
		     struct put *p, struct fault *f)
{
	struct stat st;

	p->fd = c->in->n > 0 ? c->in->fd[0] : -1;
	if (p->fd < 0 || fstat(p->fd, &st) < 0 || st.st_size != DIRECT_BLOCK ||
	    jint(parameters, "DataLength", 0) != DIRECT_BLOCK)
		return fault_set(f, FAULT_EBS_INVALID_BLOCK, "A block has %d bytes.", DIRECT_BLOCK);
	if (p->index >= w->bytes / DIRECT_BLOCK)
		return fault_set(f, FAULT_EBS_INVALID_BLOCK,
				 "The block %llu is beyond the end of the volume.",
				 (unsigned long long)p->index);
	if (sum_parse(jstr_or(parameters, "Checksum", ""), p->given) < 0)
		return fault_set(f, FAULT_EBS_INVALID_BLOCK,
				 "The checksum is not base64 of a SHA-256.");
	return 0;
}

/* How far the client says it is: shown, and nothing else. */
static int record_progress(struct call *c, const char *id, const json_t *parameters)
{
	const struct doc *s = store_find(c->store, "snapshot", id);
	char text[16];

	if (!json_object_get(parameters, "Progress") || !s)
		return 0;
	snprintf(text, sizeof text, "%d%%", (int)jint(parameters, "Progress", 0));
	if (strcmp(text, jstr_or(s->json, "Progress", "")) == 0)
		return 0;
	json_t *json = doc_edit(s);

	if (json && jset(json, "Progress", text) < 0) {
		json_decref(json);
		return -ENOMEM;
	}
	return txn_replace(c->txn, s, json);
}

int direct_put_block(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	const char *id = jstr_or(parameters, "SnapshotId", "");
	OWN(hold_leave) struct hold *h = hold_enter(id);
	struct put p = {.index = (uint64_t)jint(parameters, "BlockIndex", 0),
			.is_synced = files_are_synced(c->daemon)};
	struct writing w = {0};
	char sum[48], key[VOLUME_KEY_BYTES];
	int r = h ? writing_get(c, id, &w, f) : -ENOMEM;

	if (r == 0)
		r = put_check(c, parameters, &w, &p, f);
	if (r < 0)
		return r;
	p.writing = &w;
	r = volume_key_of_layer(c->daemon, jstr(w.doc->json, "_Layer"), 0, key);
	p.passphrase = key[0] ? key : NULL;
	if (r == 0)
		r = fiber_work(put_block, &p);
	OPENSSL_cleanse(key, sizeof key);
	if (r == 0 && p.is_wrong)
		return fault_set(f, FAULT_EBS_INVALID_BLOCK,
				 "The block's bytes do not have the checksum that was given.");
	if (r == 0)
		r = record_progress(c, id, parameters);
	if (r < 0)
		return r;
	direct_wait_more(id);
	sum_print(p.sum, sum);
	*ret_reply = json_pack("{s:s, s:s}", "Checksum", sum, "ChecksumAlgorithm", "SHA256");
	return *ret_reply ? 0 : -ENOMEM;
}

/* ---- complete ---- */

struct completing {
	char path[FILE_PATH_MAX], key[VOLUME_KEY_BYTES]; /* "": not encrypted */
	uint64_t bytes, n;
	uint8_t sum[32];
	int is_synced;
};

/* On a worker. */
static int count_blocks(void *arg)
{
	struct completing *w = arg;
	__attribute__((cleanup(own_target_close))) struct target t = {.fd = -1};
	int r = target_open(w->path, w->bytes, w->key[0] ? w->key : NULL, &t);

	return r == 0 ? target_count(&t, &w->n, w->sum) : r;
}

/* On a worker. */
static int finish_file(void *arg)
{
	struct completing *w = arg;
	__attribute__((cleanup(own_target_close))) struct target t = {.fd = -1};

	(void)chmod(w->path, 0600); /* after a finish that was cut off it is read-only */
	int r = target_open(w->path, w->bytes, w->key[0] ? w->key : NULL, &t);

	return r == 0 ? target_finish(&t, 0444, w->is_synced) : r;
}

static int complete_check(const json_t *parameters, const struct completing *w, struct fault *f)
{
	const char *given = jstr(parameters, "Checksum");
	int64_t n = jint(parameters, "ChangedBlocksCount", 0);
	uint8_t sum[32];

	if (n != (int64_t)w->n)
		return fault_set(f, FAULT_EBS_INVALID_PARAMETER,
				 "ChangedBlocksCount is %lld, but %llu blocks were put.",
				 (long long)n, (unsigned long long)w->n);
	if (given && (sum_parse(given, sum) < 0 || memcmp(sum, w->sum, 32) != 0))
		return fault_set(f, FAULT_EBS_INVALID_PARAMETER,
				 "The checksum is not that of the blocks that were put.");
	return 0;
}

/* Everything was right: from here it goes forward, after any end. */
static int record_counted(struct daemon *d, const char *id)
{
	const struct doc *s = store_find(d->store, "snapshot", id);
	OWN(txn_free) struct txn *t = txn_new(d->store);
	json_t *json = s ? doc_edit(s) : NULL;
	int r = json ? jset_new(json_object_get(json, "_Direct"), "IsCounted", json_true())
		     : -ENOMEM;

	if (r < 0)
		json_decref(json);
	if (r == 0)
		r = t ? txn_replace(t, s, json) : -ENOMEM;
	return r == 0 ? txn_commit(t) : r;
}

static int record_completed(struct daemon *d, const char *id)
{
	const struct doc *s = store_find(d->store, "snapshot", id);
	OWN(txn_free) struct txn *t = txn_new(d->store);
	OWN(json_decref) json_t *json = s ? doc_edit(s) : NULL;
	int r = json && t ? snapshot_set_completed(json) : -ENOMEM;

	if (r == 0)
		r = jset(json, "_Direct", NULL);
	if (r == 0)
		r = txn_replace(t, s, give(json));
	return r == 0 ? txn_commit(t) : r;
}

/* (fiber) The layer's key, if it has one. */
static int get_key(struct daemon *d, const char *id, char ret_key[static VOLUME_KEY_BYTES])
{
	const struct doc *s = store_find(d->store, "snapshot", id);

	return s ? volume_key_of_layer(d, jstr(s->json, "_Layer"), 0, ret_key) : -ENODATA;
}

/* (fiber) The caller holds the snapshot, which is counted. */
static int complete(struct daemon *d, const char *id, struct completing *w)
{
	int r = get_key(d, id, w->key);

	if (r == 0)
		r = fiber_work(finish_file, w);
	OPENSSL_cleanse(w->key, sizeof w->key);

	if (r == 0)
		r = record_completed(d, id);
	if (r == 0) {
		direct_wait_end(id);
		log_info("snapshot completed by blocks", "SNAPSHOT_ID", id);
	}
	return r;
}

int direct_complete(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	const char *id = jstr_or(parameters, "SnapshotId", "");
	OWN(hold_leave) struct hold *h = hold_enter(id);
	struct completing work = {.is_synced = files_are_synced(c->daemon)};
	struct writing w = {0};
	int r = h ? direct_snapshot(c, id, &w.doc, f) : -ENOMEM;

	if (r < 0)
		return r;
	/* Asked again, because the answer was lost. */
	int is_done = strcmp(jstr_or(w.doc->json, "State", ""), "completed") == 0 &&
		      strcmp(jstr_or(w.doc->json, "VolumeId", ""), "vol-ffffffff") == 0;

	if (!is_done) {
		r = writing_get(c, id, &w, f);
		if (r < 0)
			return r;
		snprintf(work.path, sizeof work.path, "%s", w.path);
		work.bytes = w.bytes;
		if (!jbool(json_object_get(w.doc->json, "_Direct"), "IsCounted", 0)) {
			r = get_key(c->daemon, id, work.key);
			if (r == 0)
				r = fiber_work(count_blocks, &work);
			if (r == 0)
				r = complete_check(parameters, &work, f);
			if (r == 0)
				r = record_counted(c->daemon, id);
		}
		if (r == 0)
			r = complete(c->daemon, id, &work);
	}
	if (r < 0)
		return r;
	*ret_reply = json_pack("{s:s}", "Status", "completed");
	return *ret_reply ? 0 : -ENOMEM;
}

/* ---- at start ---- */

static int resume(struct daemon *d, const char *id)
{
	const struct doc *s = store_find(d->store, "snapshot", id);
	OWN(json_decref) json_t *json = json_incref(s->json); /* across the waits below */
	const json_t *direct = json_object_get(json, "_Direct");
	struct completing w = {.is_synced = files_are_synced(d),
			       .bytes = (uint64_t)jint(json, "_Bytes", 0)};

	file_path(d, jstr_or(json, "_Layer", ""), w.path);
	int r = jbool(direct, "IsMade", 0) ? 0 : direct_make_layer(d, id);

	/* Also for one that is counted: if it cannot be completed now, it is still no image. */
	if (r == 0)
		r = direct_wait_begin(d, id,
				      (unsigned)jint(direct, "Timeout", DIRECT_TIMEOUT_DEFAULT));
	return r == 0 && jbool(direct, "IsCounted", 0) ? complete(d, id, &w) : r;
}

int direct_resume(struct daemon *d)
{
	OWN(json_decref) json_t *ids = json_array();
	size_t i;
	json_t *id;

	/* Ids first: resuming commits, and the set must not change while it is walked. */
	store_each (d->store, "snapshot", s)
		if (json_object_get(s->json, "_Direct") &&
		    strcmp(jstr_or(s->json, "State", ""), "pending") == 0 &&
		    json_array_append_new(ids, json_string(s->id)) < 0)
			return -ENOMEM;
	json_array_foreach (ids, i, id) {
		int r = resume(d, json_string_value(id));

		if (r < 0)
			log_warning(r, "cannot go on with a snapshot written by blocks",
				    "SNAPSHOT_ID", json_string_value(id));
	}
	return 0;
}
