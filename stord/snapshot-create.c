/* CreateSnapshot and CreateSnapshots: from the request to switched volumes. */
#include "stord.h"

#include <errno.h>
#include <string.h>
#include "encryption.h"
#include "hold.h"
#include "host.h"
#include "layer.h"
#include "log.h"
#include "merge.h"
#include "switch.h"

#define VOLUMES_MAX 128 /* of one instance */

/* What a request asks for, and who is held for it. */
struct taking {
	json_t *volume_ids; /* sorted, so that two requests never wait for one another */
	json_t *snapshot_ids;
	struct hold *holds[VOLUMES_MAX];
	size_t n_holds;
};

static void taking_clear(struct taking *t)
{
	while (t->n_holds > 0)
		hold_leave(t->holds[--t->n_holds]);
	json_decref(t->volume_ids);
	json_decref(t->snapshot_ids);
}

static int take_check(const struct call *c, const json_t *parameters, size_t n_more,
		      struct fault *f)
{
	const char *outpost = jstr(parameters, "OutpostArn");

	if (outpost && *outpost)
		return fault_set(f, FAULT_UNSUPPORTED_OPERATION,
				 "Outposts are not supported here.");
	int r = text_limit(parameters, "Description", LIMIT_DESCRIPTION, f);

	if (r < 0)
		return r;
	if (snapshot_count(c) + n_more > LIMIT_SNAPSHOTS)
		return fault_set(f, FAULT_SNAPSHOT_LIMIT_EXCEEDED,
				 "You have reached the limit of %d snapshots in %s.",
				 LIMIT_SNAPSHOTS, c->ctx->region);
	return 0;
}

/* Chains are shortened in the background: whoever is faster than that waits, as AWS lets those wait
 * who ask more often than every 15 seconds. */
static int chain_check(const struct store *s, const struct doc *volume, struct fault *f)
{
	unsigned depth = layer_depth(s, jstr(volume->json, "_Layer"));

	return depth < LAYERS_BURST
		       ? 0
		       : fault_set(f, FAULT_SNAPSHOT_CREATION_PER_VOLUME_RATE_EXCEEDED,
				   "The maximum per volume CreateSnapshot request rate has been "
				   "exceeded. Use an increasing or variable sleep interval between "
				   "requests.");
}

/* A chain that is too long already gets shorter first: else whoever takes snapshots again and again
 * would have no merge come to an end. */
static void give_way(const struct call *c, const char *volume_id)
{
	const struct doc *v = store_get(c->store, c->ctx, "volume", volume_id);

	if (v && layer_depth(c->store, jstr(v->json, "_Layer")) <= LAYERS_MAX)
		merge_give_way(c->daemon, volume_id);
}

/* (fiber) Holds all volumes, in order; each has its file and no other switch under way. */
static int take_hold(struct call *c, struct taking *t, struct fault *f)
{
	size_t i;
	json_t *id;

	json_array_foreach (t->volume_ids, i, id) {
		const char *volume_id = json_string_value(id);

		if (t->n_holds == VOLUMES_MAX)
			return -E2BIG;
		give_way(c, volume_id);
		if (!(t->holds[t->n_holds] = hold_enter(volume_id)))
			return -ENOMEM;
		t->n_holds++;
		const struct doc *v = store_get(c->store, c->ctx, "volume", volume_id);
		const char *state = v ? jstr_or(v->json, "State", "") : "";

		if (!v)
			return fault_set(f, FAULT_INVALID_VOLUME_NOT_FOUND,
					 "The volume '%s' does not exist.", volume_id);
		if (strcmp(state, "available") != 0 && strcmp(state, "in-use") != 0)
			return fault_set(f, FAULT_INCORRECT_STATE,
					 "Volume '%s' is in the '%s' state.", volume_id, state);
		int r = chain_check(c->store, v, f);

		if (r < 0)
			return r;
		/* Raw, and open in several guests: none can go on in a new layer alone. */
		if (jbool(v->json, "MultiAttachEnabled", 0))
			return fault_set(
				f, FAULT_UNSUPPORTED_OPERATION,
				"Snapshots of Multi-Attach volumes are not supported here.");
		r = switch_settle(c->daemon, volume_id);
		if (r < 0)
			return fault_set(f, FAULT_SERVICE_UNAVAILABLE,
					 "An earlier snapshot of '%s' is still under way.",
					 volume_id);
		/* A guest may write already where its disk has grown: a layer of the size before
		 * would hide it. */
		r = volume_modify_settle(c->daemon, volume_id);
		if (r == -EAGAIN)
			return fault_set(f, FAULT_SERVICE_UNAVAILABLE,
					 "A modification of '%s' is still under way.", volume_id);
		r = volume_prepare(c->daemon, volume_id);
		if (r == -EAGAIN)
			return fault_set(f, FAULT_SERVICE_UNAVAILABLE,
					 "The volume '%s' is still being let go of.", volume_id);
		if (r < 0)
			return fault_set(f, FAULT_INCORRECT_STATE,
					 "The data of volume '%s' is not there.", volume_id);
	}
	return 0;
}

static json_t *snapshot_new(const struct call *c, const struct doc *volume, const char *id,
			    const json_t *parameters, const json_t *tags, int is_together)
{
	int64_t gib = jint(volume->json, "Size", 0);
	const struct doc *layer = layer_find(c->store, jstr(volume->json, "_Layer"));
	const char *owner = layer ? jstr(layer->json, "Key") : NULL;
	char key[ID_MAX + 8] = "";

	if (owner)
		encryption_data_key(owner, key);
	return json_pack("{s:s, s:s, s:O?, s:O*, s:s, s:s, s:o, s:s, s:s, s:I, s:s, s:o, s:s, s:I, "
			 "s:[], s:b, s:s*, s:o*}",
			 "SnapshotId", id, "Description", jstr_or(parameters, "Description", ""),
			 "Encrypted", json_object_get(volume->json, "Encrypted"), "KmsKeyId",
			 json_object_get(volume->json, "KmsKeyId"), "OwnerId", c->ctx->account,
			 "Progress", "0%", "StartTime", jtime_now(), "State", "pending", "VolumeId",
			 volume->id, "VolumeSize", (json_int_t)gib, "StorageTier", "standard",
			 "Tags", json_deep_copy(tags), "_Layer",
			 jstr_or(volume->json, "_Layer", ""), "_Bytes", (json_int_t)(gib * GIB),
			 "_Images", "_Switching", 1, "DataEncryptionKeyId", owner ? key : NULL,
			 "_Together", is_together ? json_true() : NULL);
}

/* The volume's own tags with those of the request: the request's win. NULL out of memory. */
static json_t *tags_with(const struct doc *volume, const json_t *tags)
{
	OWN(json_decref) json_t *all = json_deep_copy(tags);
	json_t *tag, *other;
	size_t i, k;

	json_array_foreach (json_object_get(volume->json, "Tags"), i, tag) {
		const char *key = jstr_or(tag, "Key", "");
		int is_there = strncmp(key, "aws:", 4) == 0;

		json_array_foreach (tags, k, other)
			is_there |= strcmp(jstr_or(other, "Key", ""), key) == 0;
		if (!is_there && json_array_append(all, tag) < 0)
			return NULL;
	}
	return give(all);
}

static int take_one(struct call *c, struct taking *t, const struct doc *volume,
		    const json_t *parameters, const json_t *tags)
{
	int is_copying = strcmp(jstr_or(parameters, "CopyTagsFromSource", ""), "volume") == 0;
	OWN(json_decref) json_t *json = doc_edit(volume);
	OWN(json_decref)
	json_t *its = is_copying ? tags_with(volume, tags) : json_incref((json_t *)tags);
	char id[ID_MAX];

	id_new("snap", id);
	int r = json && its ? switch_begin(c->txn, volume, json) : -ENOMEM;

	if (r == 0)
		r = txn_replace(c->txn, volume, give(json));
	if (r == 0)
		r = txn_put(c->txn, "snapshot", id, c->ctx->account, c->ctx->region,
			    snapshot_new(c, volume, id, parameters, its,
					 json_array_size(t->volume_ids) > 1));
	if (r == 0)
		r = json_array_append_new(t->snapshot_ids, json_string(id));
	return r < 0 ? -ENOMEM : 0;
}

/* The switch is not known to have happened: nobody was promised these snapshots. The volumes go on
 * in their next layers when hvd is back. */
static int take_abandon(struct call *c, const struct taking *t, struct fault *f)
{
	size_t i;
	json_t *id;
	int r = 0;

	json_array_foreach (t->snapshot_ids, i, id)
		if (r == 0 && store_find(c->store, "snapshot", json_string_value(id)))
			r = txn_delete(c->txn, "snapshot", json_string_value(id));
	if (r == 0)
		r = txn_commit(c->txn);
	json_array_foreach (t->volume_ids, i, id)
		switch_settle_later(c->daemon, json_string_value(id));
	if (r < 0)
		return r;
	return fault_set(f, FAULT_SERVICE_UNAVAILABLE,
			 "The instance's host cannot be reached; no snapshot was made.");
}

/* (fiber) The whole of it for the volumes in `t`. */
static int take(struct call *c, struct taking *t, const json_t *parameters, const json_t *tags,
		struct fault *f)
{
	size_t i;
	json_t *id;
	int r = take_hold(c, t, f);

	t->snapshot_ids = json_array();
	json_array_foreach (t->volume_ids, i, id) {
		const struct doc *v = store_find(c->store, "volume", json_string_value(id));

		if (r == 0)
			r = v ? take_one(c, t, v, parameters, tags) : -ENOENT;
	}
	if (r == 0)
		r = txn_commit(c->txn);
	if (r < 0)
		return r;
	r = switch_finish(c->daemon, t->volume_ids);
	if (r == -EAGAIN)
		return take_abandon(c, t, f);
	if (r == -ENOSPC || r == -EDQUOT)
		return fault_set(f, FAULT_INSUFFICIENT_VOLUME_CAPACITY,
				 "There is no room for the volume's next layer.");
	if (r == -EBUSY)
		return fault_set(f, FAULT_INCORRECT_STATE,
				 "The instance cannot have its volumes snapshotted now.");
	return r;
}

static int log_and_show(const struct call *c, const struct taking *t, json_t **ret_list)
{
	OWN(json_decref) json_t *list = json_array();
	size_t i;
	json_t *id;

	json_array_foreach (t->snapshot_ids, i, id) {
		const struct doc *s = store_find(c->store, "snapshot", json_string_value(id));

		/* Deleted already: then shown by nobody. */
		if (s && json_array_append(list, s->json) < 0)
			return -ENOMEM;
		log_info("snapshot created", "SNAPSHOT_ID", json_string_value(id), "REQUEST_ID",
			 c->ctx->request);
	}
	*ret_list = give(list);
	return 0;
}

int snapshot_create(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	static const char *const taggable[] = {"snapshot", NULL};
	__attribute__((cleanup(taking_clear))) struct taking t = {0};
	OWN(json_decref) json_t *tags = NULL, *list = NULL;
	const struct doc *volume = NULL;
	int r = volume_get(c, parameters, &volume, f);

	if (r == 0)
		r = take_check(c, parameters, 1, f);
	if (r == 0)
		r = tags_from_specifications(parameters, "snapshot", taggable, &tags, f);
	if (r < 0)
		return r;
	t.volume_ids = json_pack("[s]", volume->id);
	r = t.volume_ids ? take(c, &t, parameters, tags, f) : -ENOMEM;
	if (r == 0)
		r = log_and_show(c, &t, &list);
	if (r == 0)
		*ret_reply = json_incref(json_array_get(list, 0));
	return r;
}

/* ---- all volumes of an instance ---- */

static int compare_ids(const void *a, const void *b)
{
	return strcmp(json_string_value(*(json_t *const *)a),
		      json_string_value(*(json_t *const *)b));
}

/* A new array of the same ids in order. NULL out of memory. */
static json_t *sorted(const json_t *ids)
{
	size_t n = json_array_size(ids);
	OWN(free) json_t **list = calloc(n + 1, sizeof *list);
	OWN(json_decref) json_t *result = json_array();

	if (!list || !result)
		return NULL;
	for (size_t i = 0; i < n; i++)
		list[i] = json_array_get(ids, i);
	qsort(list, n, sizeof *list, compare_ids);
	for (size_t i = 0; i < n; i++)
		if (json_array_append(result, list[i]) < 0)
			return NULL;
	return give(result);
}

static int is_excluded(const json_t *specification, const char *volume_id, const char *device,
		       const char *root)
{
	int is_root = root && device && strcmp(root, device) == 0;

	if (is_root)
		return jbool(specification, "ExcludeBootVolume", 0);
	return jarray_has(json_object_get(specification, "ExcludeDataVolumeIds"), volume_id);
}

/* The instance's volumes that the request wants, as hvd says what it has. */
static int choose_volumes(const struct call *c, const json_t *specification, const json_t *instance,
			  json_t **ret_ids, struct fault *f)
{
	OWN(json_decref) json_t *ids = json_array();
	const char *instance_id = jstr(specification, "InstanceId");
	json_t *excluded = json_object_get(specification, "ExcludeDataVolumeIds"), *id;
	size_t i, n_found = 0;

	store_each (c->store, "volume", v) {
		const json_t *a = json_array_get(json_object_get(v->json, "Attachments"), 0);
		const char *its = jstr(a, "InstanceId");

		if (!its || strcmp(its, instance_id) != 0)
			continue;
		n_found += (size_t)jarray_has(excluded, v->id);
		if (!is_excluded(specification, v->id, jstr(a, "Device"),
				 jstr(instance, "RootDeviceName")) &&
		    json_array_append_new(ids, json_string(v->id)) < 0)
			return -ENOMEM;
	}
	json_array_foreach (excluded, i, id)
		if (n_found < json_array_size(excluded) &&
		    !store_get(c->store, c->ctx, "volume", json_string_value(id)))
			return fault_set(f, FAULT_INVALID_VOLUME_NOT_FOUND,
					 "The volume '%.64s' does not exist.",
					 json_string_value(id));
	if (n_found < json_array_size(excluded))
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "A volume that is to be excluded is not a data volume of '%s'.",
				 instance_id);
	if (json_array_size(ids) == 0)
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "There are no volumes to snapshot.");
	*ret_ids = sorted(ids);
	return *ret_ids ? 0 : -ENOMEM;
}

/* (fiber) The instance as hvd shows it (a new reference). */
static int find_instance(const struct call *c, const char *id, json_t **ret_instance,
			 struct fault *f)
{
	OWN(json_decref) json_t *parameters = json_pack("{s:[s]}", "InstanceIds", id);
	OWN(json_decref) json_t *reply = NULL;
	int r = parameters ? host_ask(c->ctx, "ec2.DescribeInstances", parameters, &reply, f)
			   : -ENOMEM;
	json_t *reservation = json_array_get(json_object_get(reply, "Reservations"), 0);
	json_t *instance = json_array_get(json_object_get(reservation, "Instances"), 0);

	if (r < 0)
		return r;
	if (!instance)
		return fault_set(f, FAULT_INVALID_INSTANCE_ID_NOT_FOUND,
				 "The instance ID '%s' does not exist", id);
	*ret_instance = json_incref(instance);
	return 0;
}

int snapshots_create(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	static const char *const taggable[] = {"snapshot", NULL};
	__attribute__((cleanup(taking_clear))) struct taking t = {0};
	OWN(json_decref) json_t *tags = NULL, *list = NULL, *instance = NULL;
	const json_t *specification = json_object_get(parameters, "InstanceSpecification");
	const char *id = jstr(specification, "InstanceId");
	int r = take_check(c, parameters, 1, f);

	if (r < 0)
		return r;
	if (!id)
		return fault_set(f, FAULT_MISSING_PARAMETER,
				 "The request must contain the parameter "
				 "InstanceSpecification.InstanceId");
	r = tags_from_specifications(parameters, "snapshot", taggable, &tags, f);
	if (r == 0)
		r = find_instance(c, id, &instance, f);
	if (r == 0)
		r = choose_volumes(c, specification, instance, &t.volume_ids, f);
	if (r == 0)
		r = take_check(c, parameters, json_array_size(t.volume_ids), f);
	if (r == 0)
		r = take(c, &t, parameters, tags, f);
	if (r == 0)
		r = log_and_show(c, &t, &list);
	if (r == 0)
		*ret_reply = json_pack("{s:O}", "Snapshots", list);
	return r < 0 ? r : *ret_reply ? 0 : -ENOMEM;
}
