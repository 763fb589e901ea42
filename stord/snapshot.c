/* Snapshots: found, deleted, opened, protected. */
#include "stord.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include "bin.h"
#include "files.h"
#include "hold.h"
#include "layer.h"
#include "log.h"
#include "merge.h"

size_t snapshot_count(const struct call *c)
{
	return count_of_caller(c, "snapshot") + count_of_caller(c, "snapshot-in-bin");
}

int snapshot_get(const struct call *c, const char *id, const struct doc **ret_doc, struct fault *f)
{
	const struct doc *d = store_get(c->store, c->ctx, "snapshot", id);

	if (!id)
		return fault_set(f, FAULT_MISSING_PARAMETER,
				 "The request must contain the parameter snapshotId");
	if (!id_is(id, "snap"))
		return fault_set(
			f, FAULT_INVALID_SNAPSHOT_ID_MALFORMED,
			"Value (%.64s) for parameter snapshotId is invalid. Expected: 'snap-...'.",
			id);
	if (!d)
		return fault_set(f, FAULT_INVALID_SNAPSHOT_NOT_FOUND,
				 "The snapshot '%s' does not exist.", id);
	*ret_doc = d;
	return 0;
}

int snapshot_get_usable(const struct call *c, const char *id, const struct doc **ret_doc,
			struct fault *f)
{
	const struct doc *d = id && id_is(id, "snap") ? store_find(c->store, "snapshot", id) : NULL;

	if (!d || strcmp(d->region, c->ctx->region) != 0 ||
	    !snapshot_is_shared(c->store, d, c->ctx->account))
		return snapshot_get(c, id, ret_doc, f);
	*ret_doc = d;
	return 0;
}

int snapshot_set_completed(json_t *snapshot)
{
	int r = jset(snapshot, "State", "completed");

	if (r == 0)
		r = jset(snapshot, "Progress", "100%");
	return r == 0 ? jset_new(snapshot, "CompletionTime", jtime_now()) : r;
}

/* ---- delete ---- */

int snapshot_delete(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	OWN(hold_leave) struct hold *h = NULL;
	const struct doc *d = NULL;
	int r = snapshot_get(c, jstr(parameters, "SnapshotId"), &d, f);

	(void)ret_reply; /* AWS answers nothing */
	/* A block that is being put, or the completion, comes to its end first. */
	if (r == 0 && json_object_get(d->json, "_Direct")) {
		h = hold_enter(jstr(parameters, "SnapshotId"));
		r = h ? snapshot_get(c, jstr(parameters, "SnapshotId"), &d, f) : -ENOMEM;
	}
	if (r < 0)
		return r;
	const char *image =
		json_string_value(json_array_get(json_object_get(d->json, "_Images"), 0));

	if (image)
		return fault_set(f, FAULT_INVALID_SNAPSHOT_IN_USE,
				 "The snapshot %s is currently in use by %s", d->id, image);
	if ((r = snapshot_check_lock(d, f)) < 0)
		return r;
	int is_kept = bin_put(c, d, NULL);

	r = is_kept < 0 ? is_kept : txn_delete(c->txn, "snapshot", d->id);
	if (r == 0 && !is_kept) /* volumes made from it stand on its layer, and outlive it */
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
