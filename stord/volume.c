/* Volumes: create, delete. */
#include "stord.h"

#include <errno.h>
#include <string.h>
#include "bin.h"
#include "encryption.h"
#include "files.h"
#include "hold.h"
#include "layer.h"
#include "log.h"
#include "merge.h"
#include "switch.h"
#include "volume_type.h"
#include "zones.h"

int is_callers(const struct call *c, const struct doc *d)
{
	return strcmp(d->account, c->ctx->account) == 0 && strcmp(d->region, c->ctx->region) == 0;
}

size_t count_of_caller(const struct call *c, const char *kind)
{
	size_t n = 0;

	store_each (c->store, kind, d)
		n += (size_t)is_callers(c, d);
	return n;
}

int volume_id_get(const json_t *parameters, const char **ret_id, struct fault *f)
{
	const char *id = jstr(parameters, "VolumeId");

	if (!id)
		return fault_set(f, FAULT_MISSING_PARAMETER,
				 "The request must contain the parameter volumeId");
	if (!id_is(id, "vol"))
		return fault_set(
			f, FAULT_INVALID_VOLUME_ID_MALFORMED,
			"Value (%.64s) for parameter volumeId is invalid. Expected: 'vol-...'.",
			id);
	*ret_id = id;
	return 0;
}

int volume_get(const struct call *c, json_t *parameters, const struct doc **ret_doc,
	       struct fault *f)
{
	const char *id = NULL;
	int r = volume_id_get(parameters, &id, f);

	if (r < 0)
		return r;
	const struct doc *d = store_get(c->store, c->ctx, "volume", id);

	if (!d)
		return fault_set(f, FAULT_INVALID_VOLUME_NOT_FOUND,
				 "The volume '%s' does not exist.", id);
	*ret_doc = d;
	return 0;
}

const char *volume_attached_to(const json_t *volume)
{
	return jstr(json_array_get(json_object_get(volume, "Attachments"), 0), "InstanceId");
}

int volume_enter(struct call *c, json_t *parameters, struct hold **ret_hold,
		 const struct doc **ret_doc, struct fault *f)
{
	int r = volume_get(c, parameters, ret_doc, f);

	if (r < 0)
		return r;
	merge_give_way(c->daemon, jstr(parameters, "VolumeId"));
	*ret_hold = hold_enter(jstr(parameters, "VolumeId"));
	return *ret_hold ? volume_get(c, parameters, ret_doc, f)
			 : -ENOMEM; /* it may be gone after the wait */
}

/* ---- create ---- */

/* What stands under the new volume, and how large it must be at least. */
struct origin {
	const struct doc *snapshot; /* NULL: empty */
	int64_t size_gib;
};

static int origin_parse(const struct call *c, json_t *parameters, struct origin *ret_origin,
			struct fault *f)
{
	const char *snapshot_id = jstr(parameters, "SnapshotId");
	struct origin o = {.size_gib = jint(parameters, "Size", 0)};
	int has_size = json_object_get(parameters, "Size") != NULL, r;

	if (snapshot_id && !*snapshot_id)
		snapshot_id = NULL;
	if (!snapshot_id && !has_size)
		return fault_set(f, FAULT_MISSING_PARAMETER,
				 "The request must contain the parameter size or snapshotId");
	if (has_size && o.size_gib <= 0)
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "Value (%lld) for parameter size is invalid.",
				 (long long)o.size_gib);
	if (snapshot_id) {
		r = snapshot_get_usable(c, snapshot_id, &o.snapshot, f);
		if (r < 0)
			return r;
		int64_t least = jint(o.snapshot->json, "VolumeSize", 1);

		if (strcmp(jstr_or(o.snapshot->json, "State", ""), "completed") != 0)
			return fault_set(f, FAULT_INCORRECT_STATE,
					 "Snapshot '%s' is not 'completed'.", snapshot_id);
		if (!has_size)
			o.size_gib = least;
		if (o.size_gib < least)
			return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
					 "Volume of size %lldGB is smaller than snapshot '%s', "
					 "expect size >= %lldGB",
					 (long long)o.size_gib, snapshot_id, (long long)least);
	}
	*ret_origin = o;
	return 0;
}

static int create_check(const struct call *c, json_t *parameters, struct fault *f)
{
	const char *zone = jstr(parameters, "AvailabilityZone");

	if (!zone)
		return fault_set(f, FAULT_MISSING_PARAMETER,
				 "The request must contain the parameter zone");
	if (!zone_exists(c->daemon->config, c->ctx->region, zone))
		return fault_set(f, FAULT_INVALID_ZONE_NOT_FOUND,
				 "The zone '%.64s' does not exist.", zone);
	const char *type = jstr_or(parameters, "VolumeType", "gp2");

	if (jbool(parameters, "MultiAttachEnabled", 0) && strcmp(type, "io1") != 0 &&
	    strcmp(type, "io2") != 0)
		return fault_set(f, FAULT_INVALID_PARAMETER_COMBINATION,
				 "Multi-Attach is supported for io1 and io2 volumes only.");
	if (jbool(parameters, "MultiAttachEnabled", 0) && *jstr_or(parameters, "SnapshotId", ""))
		return fault_set(f, FAULT_UNSUPPORTED_OPERATION,
				 "A Multi-Attach volume from a snapshot is not supported here.");
	if (*jstr_or(parameters, "OutpostArn", ""))
		return fault_set(f, FAULT_UNSUPPORTED_OPERATION,
				 "Outposts are not supported here.");
	/* One in the recycle bin has its place, so that it can be restored. */
	if (count_of_caller(c, "volume") + count_of_caller(c, "volume-in-bin") >= LIMIT_VOLUMES)
		return fault_set(f, FAULT_VOLUME_LIMIT_EXCEEDED,
				 "You have reached the limit of %d volumes in %s.", LIMIT_VOLUMES,
				 c->ctx->region);
	return 0;
}

/* The attachment a volume is born with, or none: an array of one or nothing. */
static json_t *birth_attachments(const json_t *parameters, const char *id)
{
	const char *instance = jstr(parameters, "_InstanceId");

	if (!instance)
		return json_array();
	return json_pack("[{s:s, s:s, s:s, s:s, s:o, s:b, s:b}]", "VolumeId", id, "InstanceId",
			 instance, "Device", jstr_or(parameters, "_Device", "/dev/xvda"), "State",
			 "attaching", "AttachTime", jtime_now(), "DeleteOnTermination",
			 jbool(parameters, "_DeleteOnTermination", 0), "_Born", 1);
}

static json_t *volume_new(const json_t *parameters, const char *id, const struct origin *o,
			  const struct volume_shape *s, json_t *tags)
{
	OWN(json_decref)
	json_t *v = json_pack("{s:s, s:I, s:s, s:s, s:s, s:o, s:s, s:b, s:b, s:o, s:O}", "VolumeId",
			      id, "Size", (json_int_t)s->size_gib, "SnapshotId",
			      o->snapshot ? o->snapshot->id : "", "AvailabilityZone",
			      jstr(parameters, "AvailabilityZone"), "State",
			      jstr(parameters, "_InstanceId") ? "in-use" : "creating", "CreateTime",
			      jtime_now(), "VolumeType", s->type, "Encrypted", 0,
			      "MultiAttachEnabled", jbool(parameters, "MultiAttachEnabled", 0),
			      "Attachments", birth_attachments(parameters, id), "Tags", tags);
	char name[FILE_NAME_MAX];
	int r = v ? 0 : -ENOMEM;

	file_volume_name(jstr(parameters, "AvailabilityZone"), id, 1, name);
	/* Two QEMUs cannot share the tables of a qcow2: a volume for several guests is raw. */
	if (jbool(parameters, "MultiAttachEnabled", 0))
		strcpy(strrchr(name, '.'), ".raw");
	if (r == 0)
		r = jset(v, "_Layer", name);
	if (r == 0)
		r = jset_new(v, "_Layers", json_integer(1));
	if (r == 0 && s->iops)
		r = jset_new(v, "Iops", json_integer(s->iops));
	if (r == 0 && s->throughput_mib)
		r = jset_new(v, "Throughput", json_integer(s->throughput_mib));
	return r == 0 ? give(v) : NULL;
}

/* What it has of this type, or is about to have. */
static int64_t iops_of(const struct store *s, const struct doc *volume, const char *type)
{
	const struct doc *m = store_find(s, "volume-modification", volume->id);
	int is_changing = m && strcmp(jstr_or(m->json, "ModificationState", ""), "modifying") == 0;
	int64_t now = strcmp(jstr_or(volume->json, "VolumeType", ""), type) == 0
			      ? jint(volume->json, "Iops", 0)
			      : 0,
		then = is_changing && strcmp(jstr_or(m->json, "TargetVolumeType", ""), type) == 0
			       ? jint(m->json, "TargetIops", 0)
			       : 0;

	return now > then ? now : then;
}

int volume_check_iops(const struct call *c, const struct volume_shape *s, const char *volume_id,
		      struct fault *f)
{
	int64_t n = s->iops;

	if (strcmp(s->type, "io1") != 0 && strcmp(s->type, "io2") != 0)
		return 0;
	for (const char *const *kind = layer_volume_kinds; *kind; kind++)
		store_each (c->store, *kind, v)
			if (is_callers(c, v) && (!volume_id || strcmp(v->id, volume_id) != 0))
				n += iops_of(c->store, v, s->type);
	return n <= LIMIT_PROVISIONED_IOPS
		       ? 0
		       : fault_set(f, FAULT_MAX_IOPS_LIMIT_EXCEEDED,
				   "You have exceeded your maximum total IOPS of %d for %s "
				   "volumes in this region.",
				   LIMIT_PROVISIONED_IOPS, s->type);
}

static int choose_encryption(const struct call *c, const json_t *parameters,
			     const struct doc *snapshot, struct encryption *ret_encryption,
			     struct fault *f)
{
	struct encryption_ask ask = encryption_asked(parameters, "KmsKeyId");
	int r = encryption_choose(c, &ask, snapshot, ret_encryption, f);

	if (r == 0 && ret_encryption->is_on && jbool(parameters, "MultiAttachEnabled", 0))
		return fault_set(f, FAULT_UNSUPPORTED_OPERATION,
				 "An encrypted Multi-Attach volume is not supported here.");
	return r;
}

/* On the snapshot's layer, or a copy of it under a key of its own. */
static int put_layer(struct txn *t, const json_t *volume, const struct origin *o,
		     const struct encryption *e)
{
	const char *name = jstr(volume, "_Layer"),
		   *under = o->snapshot ? jstr(o->snapshot->json, "_Layer") : NULL;
	int r = layer_put(t, name, jbool(volume, "MultiAttachEnabled", 0) ? "raw" : "qcow2",
			  jint(volume, "Size", 0) * GIB, e->is_anew ? NULL : under);

	if (r == 0 && e->is_on && (e->is_anew || !under))
		r = layer_set_key(t, name, jstr(volume, "VolumeId"));
	return r == 0 && e->is_anew ? layer_set_copy(t, name, under) : r;
}

int volume_create(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	static const char *const taggable[] = {"volume", NULL};
	OWN(json_decref) json_t *tags = NULL, *volume = NULL;
	struct volume_shape shape = {0};
	struct origin origin = {0};
	struct encryption encryption = {0};
	char id[ID_MAX];
	int r = create_check(c, parameters, f);

	if (r == 0)
		r = origin_parse(c, parameters, &origin, f);
	if (r == 0)
		r = choose_encryption(c, parameters, origin.snapshot, &encryption, f);
	if (r == 0)
		r = volume_shape_parse(parameters, origin.size_gib, &shape, f);
	if (r == 0)
		r = tags_from_specifications(parameters, "volume", taggable, &tags, f);
	if (r < 0)
		return r;
	if ((r = volume_check_iops(c, &shape, NULL, f)) < 0)
		return r;
	id_new("vol", id);
	volume = volume_new(parameters, id, &origin, &shape, tags);
	if (!volume || encryption_set(volume, &encryption) < 0)
		return -ENOMEM;
	r = txn_put(c->txn, "volume", id, c->ctx->account, c->ctx->region, json_incref(volume));
	if (r == 0)
		r = put_layer(c->txn, volume, &origin, &encryption);
	if (r == 0)
		r = volume_prepare_later(c->daemon, id);
	if (r < 0)
		return r;
	log_info("volume created", "VOLUME_ID", id, "REQUEST_ID", c->ctx->request);
	*ret_reply = give(volume);
	return 0;
}

/* ---- delete ---- */

/* 1: it is in the recycle bin, without the guest it may have had; 0: there is none for it. */
static int put_in_bin(struct call *c, const struct doc *d)
{
	OWN(json_decref) json_t *json = doc_edit(d);
	int r = json ? jset_new(json, "Attachments", json_array()) : -ENOMEM;

	if (r == 0)
		r = jset(json, "State", "available");
	if (r == 0)
		(void)json_object_del(json, "_IoError"); /* seldom there */
	return r < 0 ? r : bin_put(c, d, give(json));
}

int volume_delete(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	OWN(hold_leave) struct hold *h = NULL;
	const struct doc *d = NULL;
	int r = volume_enter(c, parameters, &h, &d, f);

	(void)ret_reply; /* AWS answers nothing */
	if (r < 0)
		return r;
	if (volume_attached_to(d->json) && !jbool(parameters, "_Force", 0))
		return fault_set(f, FAULT_VOLUME_IN_USE, "Volume %s is currently attached to %s",
				 d->id, volume_attached_to(d->json));
	/* A snapshot that an end of a daemon cut short is still one of this volume. */
	if (switch_settle(c->daemon, d->id) == -EAGAIN)
		return fault_set(f, FAULT_SERVICE_UNAVAILABLE,
				 "A snapshot of the volume is still under way.");
	/* Its file may be larger already than its document says, and it may be restored. */
	r = volume_modify_settle(c->daemon, jstr(parameters, "VolumeId"));
	if (r == -EAGAIN || r == -EIO)
		return fault_set(f, FAULT_SERVICE_UNAVAILABLE,
				 "A modification of the volume is still under way.");
	r = volume_get(c, parameters, &d, f);
	int is_kept = r == 0 ? put_in_bin(c, d) : r;

	r = is_kept < 0 ? is_kept : txn_delete(c->txn, "volume", d->id);
	if (r == 0 && store_find(c->store, "volume-modification", d->id))
		r = txn_delete(c->txn, "volume-modification", d->id);
	if (r == 0 && !is_kept)
		r = volume_release(c->txn, d);
	if (r == 0)
		r = txn_commit(c->txn);
	if (r < 0)
		return r;
	log_info("volume deleted", "VOLUME_ID", jstr(parameters, "VolumeId"), "REQUEST_ID",
		 c->ctx->request);
	unlink_marked(c->daemon);
	merge_kick(c->daemon);
	return 0;
}
