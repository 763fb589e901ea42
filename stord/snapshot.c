/* Snapshots: describe, delete, open, protect. */
#include "stord.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include "describe.h"
#include "files.h"
#include "layer.h"
#include "log.h"
#include "merge.h"

int snapshot_get(const struct call *c, const char *id, const struct doc **ret_doc, struct fault *f)
{
	const struct doc *d = store_get(c->store, c->ctx, "snapshot", id);

	if (!id)
		return fault_set(f, FAULT_MISSING_PARAMETER,
				 "The request must contain the parameter snapshotId");
	if (!id_is(id, "snap"))
		return fault_set(f, FAULT_INVALID_SNAPSHOT_ID_MALFORMED,
				 "Value (%.64s) for parameter snapshotId is invalid.", id);
	if (!d)
		return fault_set(f, FAULT_INVALID_SNAPSHOT_NOT_FOUND,
				 "The snapshot '%s' does not exist.", id);
	*ret_doc = d;
	return 0;
}

/* ---- describe ---- */

static const struct filter filters[] = {
	{"description", "Description"},
	{"encrypted", "Encrypted"},
	{"owner-alias", "OwnerAlias"},
	{"owner-id", "OwnerId"},
	{"progress", "Progress"},
	{"snapshot-id", "SnapshotId"},
	{"start-time", "StartTime"},
	{"status", "State"},
	{"storage-tier", "StorageTier"},
	FILTER_TAGS,
	{"volume-id", "VolumeId"},
	{"volume-size", "VolumeSize"},
	{NULL},
};

static const struct describe snapshots = {.kind = "snapshot",
					  .result = "Snapshots",
					  .ids = "SnapshotIds",
					  .prefix = "snap",
					  .malformed = FAULT_INVALID_SNAPSHOT_ID_MALFORMED,
					  .not_found = FAULT_INVALID_SNAPSHOT_NOT_FOUND,
					  .filters = filters};

/* OwnerIds and RestorableByUserIds are a filter by another name: every snapshot here is private to
 * its owner, so who may restore it is who owns it. "self" is the caller; an alias ("amazon") owns
 * nothing here. */
static int owners_to_filter(const struct call *c, json_t *parameters, const char *member)
{
	json_t *owners = json_object_get(parameters, member), *owner, *values = json_array();
	json_t *list = json_object_get(parameters, "Filters");
	size_t i;

	if (json_array_size(owners) == 0) {
		json_decref(values);
		return 0;
	}
	json_array_foreach (owners, i, owner) {
		const char *text = json_string_value(owner) ? json_string_value(owner) : "";
		/* As it is, not as a pattern: owners are ids. */
		const char *id = strcmp(text, "self") == 0 ? c->ctx->account
				 : strpbrk(text, "*?\\")   ? "none"
							   : text;

		if (json_array_append_new(values, json_string(id)) < 0) {
			json_decref(values);
			return -ENOMEM;
		}
	}
	OWN(json_decref) json_t *more = json_is_array(list) ? json_copy(list) : json_array();

	if (json_array_append_new(
		    more, json_pack("{s:s, s:o}", "Name", "owner-id", "Values", values)) < 0)
		return -ENOMEM;
	return jset_new(parameters, "Filters", give(more));
}

int snapshot_describe(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	int r = filter_check(filters, parameters,
			     f); /* the customer's own, before ours is among them */

	if (r == 0)
		r = owners_to_filter(c, parameters, "OwnerIds");
	if (r == 0)
		r = owners_to_filter(c, parameters, "RestorableByUserIds");
	if (r == 0 && jint(parameters, "MaxResults", 0) > 1000)
		r = jset_new(parameters, "MaxResults",
			     json_integer(1000)); /* AWS gives 1,000 then */
	return r < 0 ? r : describe_run(c, &snapshots, parameters, ret_reply, f);
}

int snapshot_describe_attribute(struct call *c, json_t *parameters, json_t **ret_reply,
				struct fault *f)
{
	const char *attribute = jstr(parameters, "Attribute");
	const struct doc *d = NULL;
	int r = snapshot_get(c, jstr(parameters, "SnapshotId"), &d, f);

	if (r < 0)
		return r;
	if (!attribute)
		return fault_set(f, FAULT_MISSING_PARAMETER,
				 "The request must contain the parameter attribute");
	if (strcmp(attribute, "createVolumePermission") == 0)
		*ret_reply =
			json_pack("{s:s, s:[]}", "SnapshotId", d->id, "CreateVolumePermissions");
	else if (strcmp(attribute, "productCodes") == 0)
		*ret_reply = json_pack("{s:s, s:[]}", "SnapshotId", d->id, "ProductCodes");
	else
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "Value (%.64s) for parameter attribute is invalid.", attribute);
	return *ret_reply ? 0 : -ENOMEM;
}

/* ---- delete ---- */

int snapshot_delete(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	const struct doc *d = NULL;
	int r = snapshot_get(c, jstr(parameters, "SnapshotId"), &d, f);

	(void)ret_reply; /* AWS answers nothing */
	if (r < 0)
		return r;
	const char *image =
		json_string_value(json_array_get(json_object_get(d->json, "_Images"), 0));

	if (image)
		return fault_set(f, FAULT_INVALID_SNAPSHOT_IN_USE,
				 "The snapshot %s is currently in use by %s", d->id, image);
	r = txn_delete(c->txn, "snapshot", d->id);
	if (r == 0) /* volumes made from it stand on its layer, and outlive it */
		r = layer_release(c->txn, jstr_or(d->json, "_Layer", ""));
	if (r == 0)
		r = txn_commit(c->txn);
	if (r < 0)
		return r;
	log_info("snapshot deleted", "SNAPSHOT_ID", jstr(parameters, "SnapshotId"), "REQUEST_ID",
		 c->ctx->request);
	unlink_marked(c->daemon);
	merge_kick(c->daemon);
	return 0;
}

/* ---- for hvd ---- */

int snapshot_open(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	char path[FILE_PATH_MAX];
	OWN(fd_close) int fd = -1;
	const struct doc *d = NULL;
	int r = snapshot_get(c, jstr(parameters, "SnapshotId"), &d, f);

	if (r < 0)
		return r;
	if (strcmp(jstr_or(d->json, "State", ""), "completed") != 0)
		return fault_set(f, FAULT_INCORRECT_STATE, "Snapshot '%s' is not 'completed'.",
				 d->id);
	const struct doc *layer = layer_find(c->store, jstr(d->json, "_Layer"));

	if (!layer)
		return -ENODATA;
	file_path(c->daemon, layer->id, path);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	*ret_reply = json_pack("{s:s, s:s, s:s, s:I}", "SnapshotId", d->id, "_Path", path,
			       "_Format", jstr_or(layer->json, "Format", "qcow2"), "_Bytes",
			       (json_int_t)jint(d->json, "_Bytes", 0));
	r = *ret_reply ? fds_add(c->out, fd) : -ENOMEM;
	if (r == 0)
		(void)give(fd);
	return r;
}

int snapshot_protect(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	const char *image = jstr(parameters, "ImageId");
	const struct doc *d = NULL;
	int r = snapshot_get(c, jstr(parameters, "SnapshotId"), &d, f);

	(void)ret_reply;
	if (r < 0)
		return r;
	if (!image)
		return fault_set(f, FAULT_MISSING_PARAMETER,
				 "The request must contain the parameter ImageId");
	OWN(json_decref) json_t *json = doc_edit(d);
	json_t *images = json_object_get(json, "_Images");
	int use = jbool(parameters, "Use", 1);

	if (jarray_has(images, image) == use)
		return 0;
	for (size_t i = json_array_size(images); !use && i-- > 0;)
		if (strcmp(json_string_value(json_array_get(images, i)), image) == 0)
			(void)json_array_remove(images, i); /* i is within */
	if (use && json_array_append_new(images, json_string(image)) < 0)
		return -ENOMEM;
	return txn_replace(c->txn, d, give(json));
}
