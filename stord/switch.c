/* A volume goes on in a new layer: the intent, hvd's part, the commit. */
#include "switch.h"

#include <errno.h>
#include <string.h>
#include <openssl/crypto.h>
#include "again.h"
#include "fiber.h"
#include "hold.h"
#include "host.h"
#include "layer.h"
#include "log.h"
#include "merge.h"
#include "volume-key.h"
#include "stord.h"

static const struct doc *volume_find(const struct daemon *d, const char *id)
{
	return store_find(d->store, "volume", id);
}

static const char *instance_of(const struct doc *volume)
{
	return jstr(json_array_get(json_object_get(volume->json, "Attachments"), 0), "InstanceId");
}

/* ---- the intent ---- */

int switch_begin(struct txn *t, const struct doc *volume, json_t *json)
{
	const char *active = jstr_or(volume->json, "_Layer", "");
	int64_t n = jint(volume->json, "_Layers", 1) + 1;
	char name[FILE_NAME_MAX];

	file_volume_name(jstr_or(volume->json, "AvailabilityZone", ""), volume->id, n, name);
	int r = layer_put(t, name, "qcow2", jint(volume->json, "Size", 0) * GIB, active);

	if (r == 0)
		r = jset_new(json, "_Layers", json_integer(n));
	return r == 0 ? jset(json, "_NextLayer", name) : r;
}

/* ---- hvd ---- */

/* (fiber) Adds a disk as SwitchLayers wants it. -ENODATA and the like: its key cannot be had. The
 * volume is held. */
static int add_disk(struct daemon *d, const char *volume_id, json_t *disks)
{
	const struct doc *volume = volume_find(d, volume_id);
	const struct doc *layer =
		layer_find(d->store, volume ? jstr(volume->json, "_Layer") : NULL);
	char path[FILE_PATH_MAX] = "", key[VOLUME_KEY_BYTES], owner[ID_MAX];
	int has_key = layer && jstr(layer->json, "Key");

	if (has_key)
		snprintf(owner, sizeof owner, "%s", jstr(layer->json, "Key"));
	int r = has_key ? volume_key_get(d, owner, 0, key) : 0;

	volume = volume_find(d, volume_id);
	const char *next = volume ? jstr(volume->json, "_NextLayer") : NULL;

	if (next)
		file_path(d, next, path);
	if (r == 0 &&
	    json_array_append_new(disks, json_pack("{s:s, s:s*, s:s*}", "VolumeId", volume_id,
						   "Path", next ? path : NULL, "_Passphrase",
						   has_key ? key : NULL)) < 0)
		r = -ENOMEM;
	OPENSSL_cleanse(key, sizeof key);
	return r;
}

static void context_of(const struct doc *volume, struct context *ret_ctx)
{
	*ret_ctx = (struct context){0};
	snprintf(ret_ctx->account, sizeof ret_ctx->account, "%s", volume->account);
	snprintf(ret_ctx->region, sizeof ret_ctx->region, "%s", volume->region);
	snprintf(ret_ctx->request, sizeof ret_ctx->request, "layers");
}

/* `disks` is taken over. 1: a guest has one of them, and writes its new layer; 0: no guest; -EBUSY,
 * -EAGAIN. */
static int ask_switch(const struct context *ctx, const char *instance, json_t *disks)
{
	OWN(json_decref)
	json_t *parameters = json_pack("{s:s, s:o}", "InstanceId", instance, "Disks", disks);
	OWN(json_decref) json_t *reply = NULL;
	struct fault f = {0};

	if (!parameters)
		return -ENOMEM;
	int r = host_ask(ctx, "gureum.SwitchLayers", parameters, &reply, &f);

	if (r == 0)
		return jbool(reply, "Live", 0);
	log_warning(r, "a guest was not switched", "INSTANCE", instance, "CODE", f.code, "REASON",
		    f.message);
	return fault_is(&f, FAULT_INCORRECT_STATE) ? -EBUSY : -EAGAIN;
}

/* All disks of one instance in one call: those of `ids` that are attached to it. */
static int switch_instance(struct daemon *d, const json_t *ids, const char *instance)
{
	OWN(json_decref) json_t *disks = json_array();
	struct context ctx = {0};
	json_t *id;
	size_t i;

	json_array_foreach (ids, i, id) {
		const struct doc *v = volume_find(d, json_string_value(id));
		const char *its = v ? instance_of(v) : NULL;

		if (!its || strcmp(its, instance) != 0)
			continue;
		context_of(v, &ctx);
		int r = add_disk(d, json_string_value(id), disks);

		if (r < 0)
			return r;
	}
	return ask_switch(&ctx, instance, give(disks));
}

int switch_is_live(const struct doc *volume)
{
	const char *instance = instance_of(volume);
	struct context ctx;

	if (!instance)
		return 0;
	context_of(volume, &ctx);
	json_t *disk = json_pack("[{s:s}]", "VolumeId", volume->id);

	return disk ? ask_switch(&ctx, instance, disk) : -ENOMEM;
}

/* ---- commit and roll back ---- */

/* The snapshots that wait for this volume's switch are completed, or go. */
static int end_snapshots(struct txn *t, const struct doc *volume, int is_done)
{
	int r = 0;

	store_each (txn_store(t), "snapshot", s) {
		if (r < 0 || !jbool(s->json, "_Switching", 0) ||
		    strcmp(jstr_or(s->json, "VolumeId", ""), volume->id) != 0)
			continue;
		if (!is_done) {
			r = txn_delete(t, "snapshot", s->id);
			continue;
		}
		OWN(json_decref) json_t *json = doc_edit(s);

		r = json ? snapshot_set_completed(json) : -ENOMEM;
		if (r == 0)
			r = jset(json, "_Switching", NULL);
		if (r == 0)
			r = jset(json, "_Together", NULL);
		if (r == 0)
			r = txn_replace(t, s, give(json));
	}
	return r;
}

/* The volume is on its next layer, or stays on its old one. */
static int end_volume(struct txn *t, const struct doc *volume, int is_done)
{
	OWN(json_decref) json_t *json = doc_edit(volume);
	const char *next = jstr(volume->json, "_NextLayer");
	int r = json ? end_snapshots(t, volume, is_done) : -ENOMEM;

	if (r == 0 && is_done)
		r = jset(json, "_Layer", next);
	if (r == 0)
		r = jset(json, "_NextLayer", NULL);
	if (r == 0)
		r = txn_replace(t, volume, give(json));
	return r == 0 && !is_done ? layer_release(t, next) : r;
}

static int end_all(struct daemon *d, const json_t *ids, int is_done)
{
	OWN(txn_free) struct txn *t = txn_new(d->store);
	int r = t ? 0 : -ENOMEM;
	size_t i;
	json_t *id;

	json_array_foreach (ids, i, id) {
		const struct doc *v = volume_find(d, json_string_value(id));

		if (r == 0 && v && jstr(v->json, "_NextLayer"))
			r = end_volume(t, v, is_done);
	}
	if (r == 0)
		r = txn_commit(t);
	if (r == 0 && !is_done)
		unlink_marked(d);
	if (r == 0)
		merge_kick(d); /* it may have become too long, or have left a spare layer */
	return r;
}

/* ---- carrying it out ---- */

static int make_layers(struct daemon *d, const json_t *ids)
{
	size_t i;
	json_t *id;
	int r = 0;

	json_array_foreach (ids, i, id) {
		const struct doc *v = volume_find(d, json_string_value(id));
		const char *next = v ? jstr(v->json, "_NextLayer") : NULL;
		char name[FILE_NAME_MAX];

		if (r < 0 || !next)
			continue;
		snprintf(name, sizeof name, "%s", next);
		r = layer_make(d, name, 0);
	}
	return r;
}

static int switch_instances(struct daemon *d, const json_t *ids)
{
	OWN(json_decref) json_t *asked = json_array();
	size_t i;
	json_t *id;
	int r = 0;

	json_array_foreach (ids, i, id) {
		const struct doc *v = volume_find(d, json_string_value(id));
		const char *instance = v ? instance_of(v) : NULL;
		char name[ID_MAX];

		if (r < 0 || !instance || jarray_has(asked, instance))
			continue;
		snprintf(name, sizeof name, "%s", instance);
		if (json_array_append_new(asked, json_string(name)) < 0)
			return -ENOMEM;
		r = switch_instance(d, ids, name);
	}
	return r < 0 ? r : 0;
}

int switch_finish(struct daemon *d, const json_t *volume_ids)
{
	int r = make_layers(d, volume_ids), is_made = r == 0;

	if (is_made)
		r = switch_instances(d, volume_ids);
	/* Once the layers are there, hvd may have been asked before us: whatever keeps us from asking
	 * is not its no. */
	if (is_made && r < 0 && r != -EBUSY && r != -EAGAIN) {
		log_warning(r, "hvd cannot be asked to switch a guest yet");
		r = -EAGAIN;
	}
	if (r == -EAGAIN)
		return r;
	if (r < 0) {
		int undone = end_all(d, volume_ids, 0);

		return undone < 0 ? -EAGAIN : r;
	}
	return end_all(d, volume_ids, 1) < 0 ? -EAGAIN : 0;
}

int switch_settle(struct daemon *d, const char *volume_id)
{
	const struct doc *v = volume_find(d, volume_id);

	if (!v || !jstr(v->json, "_NextLayer"))
		return 0;
	OWN(json_decref) json_t *ids = json_pack("[s]", volume_id);

	return ids ? switch_finish(d, ids) : -ENOMEM;
}

/* ---- in the background ---- */

struct later {
	struct daemon *daemon;
	char id[ID_MAX];
};

static void settle_run(void *arg)
{
	OWN(free) struct later *l = arg;

	(void)fiber_sleep(0); /* what it is about is committed by then */
	for (uint64_t wait = 0;; again_wait(&wait)) {
		OWN(hold_leave) struct hold *h = hold_enter(l->id);
		int r = h ? switch_settle(l->daemon, l->id) : -ENOMEM;

		if (r == 0 || r == -EBUSY || r == -ENOENT)
			return;
	}
}

void switch_settle_later(struct daemon *d, const char *volume_id)
{
	OWN(free) struct later *l = calloc(1, sizeof *l);

	if (!l)
		return; /* whoever needs the volume next does it */
	l->daemon = d;
	snprintf(l->id, sizeof l->id, "%s", volume_id);
	if (fiber_spawn(settle_run, l) == 0)
		(void)give(l);
}
