/* EBS direct: a snapshot to be written by blocks is begun. */
#include "direct.h"
#include "encryption.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <string.h>
#include "fiber.h"
#include "files.h"
#include "layer.h"
#include "log.h"
#include "target.h"
#include "volume-key.h"

#define GIB_MAX	    16384
#define PENDING_MAX 100 /* of one account and region */

/* ---- the file ---- */

struct file_work {
	char path[FILE_PATH_MAX], backing_path[FILE_PATH_MAX], backing_format[8];
	char key[VOLUME_KEY_BYTES]; /* "": not encrypted */
	uint64_t bytes;
	int is_synced;
};

/* On a worker. */
static int make_file(void *arg)
{
	const struct file_work *w = arg;

	if (file_exists(w->path))
		return 0;
	return target_make(w->path, w->bytes, w->backing_path[0] ? w->backing_path : NULL,
			   w->backing_format, w->key[0] ? w->key : NULL, w->is_synced);
}

/* (fiber) The layer's empty file, then the document says that it was made. */
static int make_pinned(struct daemon *d, const char *id)
{
	const struct doc *s = store_find(d->store, "snapshot", id);
	const struct doc *layer = s ? layer_find(d->store, jstr(s->json, "_Layer")) : NULL;
	struct file_work w = {.is_synced = files_are_synced(d)};

	if (!layer)
		return -ENODATA;
	const struct doc *under = layer_find(d->store, jstr(layer->json, "Backing"));

	file_path(d, layer->id, w.path);
	w.bytes = (uint64_t)jint(layer->json, "Bytes", 0);
	if (under) {
		file_path(d, under->id, w.backing_path);
		snprintf(w.backing_format, sizeof w.backing_format, "%s",
			 jstr_or(under->json, "Format", "qcow2"));
	}
	int r = volume_key_of_layer(d, jstr(s->json, "_Layer"), 1, w.key);

	if (r == 0)
		r = fiber_work(make_file, &w);
	OPENSSL_cleanse(w.key, sizeof w.key);
	s = store_find(d->store, "snapshot", id);
	if (r < 0 || !s)
		return r < 0 ? r : -ENODATA;
	OWN(txn_free) struct txn *t = txn_new(d->store);
	json_t *json = doc_edit(s);

	r = json ? jset_new(json_object_get(json, "_Direct"), "IsMade", json_true()) : -ENOMEM;
	if (r < 0)
		json_decref(json);
	if (r == 0)
		r = t ? txn_replace(t, s, json) : -ENOMEM;
	return r == 0 ? txn_commit(t) : r;
}

/* If the parent goes meanwhile its layer is a spare one under ours, and a file that is no image yet
 * would be merged: it is pinned, and the caller's direct_wait_begin() goes on from there. */
int direct_make_layer(struct daemon *d, const char *id)
{
	const struct doc *s = store_find(d->store, "snapshot", id);
	char layer[FILE_NAME_MAX];

	snprintf(layer, sizeof layer, "%s", s ? jstr_or(s->json, "_Layer", "") : "");
	int r = layer_pin(layer);

	if (r < 0)
		return r;
	r = make_pinned(d, id);
	layer_unpin(layer);
	return r;
}

/* ---- the request ---- */

static int parent_get(const struct call *c, const char *id, int64_t gib,
		      const struct doc **ret_parent, struct fault *f)
{
	if (!id)
		return 0;
	int r = direct_snapshot(c, id, ret_parent, f);

	if (r < 0)
		return r;
	if (strcmp((*ret_parent)->account, c->ctx->account) != 0)
		return fault_set(f, FAULT_EBS_NOT_FOUND, "The snapshot '%s' is not yours.", id);
	if (strcmp(jstr_or((*ret_parent)->json, "State", ""), "completed") != 0)
		return fault_set(f, FAULT_EBS_INVALID_SNAPSHOT_ID,
				 "The parent snapshot '%s' is not completed.", id);
	if (gib < jint((*ret_parent)->json, "VolumeSize", 1))
		return fault_set(f, FAULT_EBS_INVALID_VOLUME_SIZE,
				 "The volume size is smaller than that of the parent snapshot.");
	return 0;
}

static size_t count_pending(const struct call *c)
{
	size_t n = 0;

	store_each (c->store, "snapshot", s)
		n += json_object_get(s->json, "_Direct") &&
		     strcmp(s->account, c->ctx->account) == 0 &&
		     strcmp(s->region, c->ctx->region) == 0;
	return n;
}

static int tags_get(json_t *parameters, json_t **ret_tags, struct fault *f)
{
	static const char *const taggable[] = {"snapshot", NULL};
	json_t *tags = json_object_get(parameters, "Tags");
	OWN(json_decref)
	json_t *specified = tags ? json_pack("{s:[{s:s, s:O}]}", "TagSpecifications",
					     "ResourceType", "snapshot", "Tags", tags)
				 : json_object();
	int r = tags_from_specifications(specified, "snapshot", taggable, ret_tags, f);

	if (r < 0 && fault_is_set(f))
		return fault_set(f, FAULT_EBS_INVALID_TAG, "%s", f->message);
	return r;
}

static int start_check(const struct call *c, int64_t gib, struct fault *f)
{
	if (gib > GIB_MAX)
		return fault_set(f, FAULT_EBS_INVALID_VOLUME_SIZE,
				 "The volume size may be at most %d GiB here.", GIB_MAX);
	if (snapshot_count(c) >= LIMIT_SNAPSHOTS)
		return fault_set(f, FAULT_EBS_QUOTA_EXCEEDED,
				 "You have reached the limit of %d snapshots.", LIMIT_SNAPSHOTS);
	if (count_pending(c) >= PENDING_MAX)
		return fault_set(f, FAULT_EBS_TOO_MANY,
				 "There are %d snapshots being written already.", PENDING_MAX);
	return 0;
}

/* With a parent it is as the parent is; what would make it otherwise is refused. Source: EBS user
 * guide, "Use encryption with the EBS direct APIs". */
static int choose_encryption(const struct call *c, const json_t *parameters,
			     const struct doc *parent, struct encryption *ret_encryption,
			     struct fault *f)
{
	struct encryption_ask ask = encryption_asked(parameters, "KmsKeyArn");

	if (parent && (ask.is_said || ask.key))
		return fault_set(f, FAULT_EBS_INVALID_PARAMETER,
				 "Encrypted and KmsKeyArn cannot be given with ParentSnapshotId.");
	if (parent && !jbool(parent->json, "Encrypted", 0) && encryption_is_default(c))
		return fault_set(f, FAULT_EBS_INVALID_PARAMETER,
				 "The parent snapshot is not encrypted, and encryption by default "
				 "is enabled.");
	int r = encryption_choose(c, &ask, parent, ret_encryption, f);

	return r < 0 && fault_is_set(f) ? fault_set(f, FAULT_EBS_INVALID_PARAMETER, "%s",
						    "The value of KmsKeyArn is not valid, or "
						    "Encrypted is not set.")
					: r;
}

static json_t *snapshot_new(const struct call *c, const json_t *parameters, const char *id,
			    int64_t gib, json_t *tags, const char *layer)
{
	/* AWS shows this volume id for what was never a volume. */
	return json_pack("{s:s, s:s, s:b, s:s, s:s, s:o, s:s, s:s, s:I, s:s, s:O, s:s, s:I, s:[], "
			 "s:{s:I, s:s*}}",
			 "SnapshotId", id, "Description", jstr_or(parameters, "Description", ""),
			 "Encrypted", 0, "OwnerId", c->ctx->account, "Progress", "0%", "StartTime",
			 jtime_now(), "State", "pending", "VolumeId", "vol-ffffffff", "VolumeSize",
			 (json_int_t)gib, "StorageTier", "standard", "Tags", tags, "_Layer", layer,
			 "_Bytes", (json_int_t)(gib * GIB), "_Images", "_Direct", "Timeout",
			 (json_int_t)jint(parameters, "Timeout", DIRECT_TIMEOUT_DEFAULT), "Parent",
			 jstr(parameters, "ParentSnapshotId"));
}

/* (fiber) It did not get as far as an answer: as if it had never been asked for. */
static void start_undo(struct call *c, const char *id, const char *layer)
{
	OWN(txn_free) struct txn *t = txn_new(c->store);

	/* What fails here stays pending until its time is over. */
	if (t && txn_delete(t, "snapshot", id) == 0 && layer_release(t, layer) == 0 &&
	    action_keep_answer(c, t, NULL) == 0 && txn_commit(t) == 0)
		unlink_marked(c->daemon);
}

static json_t *start_reply(const struct call *c, const json_t *snapshot, const json_t *parameters)
{
	return json_pack("{s:O, s:s, s:s, s:s, s:O, s:O, s:i, s:O, s:s*, s:s*}", "SnapshotId",
			 json_object_get(snapshot, "SnapshotId"), "OwnerId", c->ctx->account,
			 "Status", "pending", "Description", jstr_or(parameters, "Description", ""),
			 "StartTime", json_object_get(snapshot, "StartTime"), "VolumeSize",
			 json_object_get(snapshot, "VolumeSize"), "BlockSize", DIRECT_BLOCK, "Tags",
			 json_object_get(snapshot, "Tags"), "ParentSnapshotId",
			 jstr(parameters, "ParentSnapshotId"), "KmsKeyArn",
			 jstr(snapshot, "KmsKeyId"));
}

/* A child's data is of its parent's key. */
static int set_encryption(const struct call *c, json_t *snapshot, const struct encryption *e,
			  const struct doc *parent)
{
	const struct doc *under =
		parent ? layer_find(c->store, jstr(parent->json, "_Layer")) : NULL;
	const char *owner = under ? jstr(under->json, "Key") : jstr(snapshot, "SnapshotId");
	char data_key[ID_MAX + 8];
	int r = encryption_set(snapshot, e);

	if (r < 0 || !e->is_on)
		return r;
	encryption_data_key(owner ? owner : "", data_key);
	return jset(snapshot, "DataEncryptionKeyId", data_key);
}

int direct_start(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	int64_t gib = jint(parameters, "VolumeSize", 0);
	char id[ID_MAX], name[FILE_NAME_MAX];
	const struct doc *parent = NULL;
	struct encryption encryption = {0};
	OWN(json_decref) json_t *tags = NULL, *snapshot = NULL, *reply = NULL;
	int r = start_check(c, gib, f);

	if (r == 0)
		r = parent_get(c, jstr(parameters, "ParentSnapshotId"), gib, &parent, f);
	if (r == 0)
		r = choose_encryption(c, parameters, parent, &encryption, f);
	if (r == 0)
		r = tags_get(parameters, &tags, f);
	if (r < 0)
		return r;
	id_new("snap", id);
	file_snapshot_name(id, "qcow2", name);
	snapshot = snapshot_new(c, parameters, id, gib, tags, name);
	if (!snapshot || set_encryption(c, snapshot, &encryption, parent) < 0)
		return -ENOMEM;
	reply = start_reply(c, snapshot, parameters);
	/* The document before the file: a file that no document names is nobody's. */
	r = reply ? txn_put(c->txn, "snapshot", id, c->ctx->account, c->ctx->region,
			    json_incref(snapshot))
		  : -ENOMEM;
	if (r == 0)
		r = layer_put(c->txn, name, "qcow2", gib * GIB,
			      parent ? jstr(parent->json, "_Layer") : NULL);
	if (r == 0 && encryption.is_on && !parent)
		r = layer_set_key(c->txn, name, id);
	if (r == 0)
		r = action_keep_answer(c, c->txn, reply);
	if (r == 0)
		r = txn_commit(c->txn);
	if (r < 0)
		return r;
	r = direct_make_layer(c->daemon, id);
	if (r == 0)
		r = direct_wait_begin(
			c->daemon, id,
			(unsigned)jint(parameters, "Timeout", DIRECT_TIMEOUT_DEFAULT));
	if (r < 0) {
		start_undo(c, id, name);
		return r;
	}
	log_info("snapshot begun by blocks", "SNAPSHOT_ID", id, "REQUEST_ID", c->ctx->request);
	*ret_reply = give(reply);
	return 0;
}
