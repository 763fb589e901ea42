/*
 * CopyImage: an image of another region, or of this one, as an image of its own.
 *
 * Each snapshot is copied by stord under the description that AWS gives it; so one that an earlier
 * try made is found again. A kernel and a ramdisk of the source become images here likewise; they
 * go with the image they were copied for (`_PartOf`).
 */
#include "image-work.h"

#include <errno.h>
#include <string.h>
#include "fiber.h"
#include "id.h"
#include "jsonx.h"
#include "tags.h"
#include "zones.h"

#define LOOK_USEC 200000ull

static const struct part {
	const char *member, *source, *prefix;
} parts[] = {{"KernelId", "_SourceKernel", "aki"}, {"RamdiskId", "_SourceRamdisk", "ari"}};

/* ---- the work ---- */

static void describe_copy(const struct doc *image, const char *snapshot, char ret_text[static 200])
{
	snprintf(ret_text, 200,
		 "Copied for DestinationAmi %s from SourceAmi %s for SourceSnapshot %s.", image->id,
		 jstr_or(image->json, "SourceImageId", ""), snapshot);
}

/* One row's snapshot: found or begun. */
static int copy_snapshot(struct daemon *d, const char *image_id, size_t row, const char *source,
			 struct fault *f)
{
	const struct doc *image = image_pending(d, image_id);
	char description[200], snapshot[40];
	OWN(json_decref) json_t *ask = NULL, *reply = NULL;

	if (!image)
		return -ECANCELED;
	struct context ctx = image_context(image);
	const json_t *work = json_object_get(image->json, "_Work");

	describe_copy(image, source, description);
	/* A kernel is opened by QEMU itself. */
	int is_machine = strcmp(jstr_or(image->json, "ImageType", "machine"), "machine") == 0;

	ask = json_pack("{s:s, s:s, s:s, s:s, s:O*, s:O*, s:b}", "SourceRegion",
			jstr_or(work, "Region", ""), "SourceSnapshotId", source, "Description",
			description, "_SourceAccount", jstr_or(work, "Account", ""), "Encrypted",
			json_object_get(work, "Encrypted"), "KmsKeyId",
			json_object_get(work, "KmsKeyId"), "_Plain", !is_machine);
	if (ask && json_array_size(json_object_get(work, "SnapshotTags")) > 0 &&
	    json_object_set_new(ask, "TagSpecifications",
				json_pack("[{s:s, s:O}]", "ResourceType", "snapshot", "Tags",
					  json_object_get(work, "SnapshotTags"))) < 0)
		return -ENOMEM;
	int r = image_find_snapshot(&ctx, description, NULL, snapshot, f);

	if (r == 0 && !snapshot[0]) {
		r = rpc_call(daemon_peer("stord"), &ctx, "ec2.CopySnapshot", ask, NULL, &reply,
			     NULL, f);
		snprintf(snapshot, sizeof snapshot, "%s", jstr_or(reply, "SnapshotId", ""));
	}
	return r == 0 ? image_set_snapshot(d, image_id, row, snapshot, f) : r;
}

static int copy_snapshots(struct daemon *d, const char *image_id, struct fault *f)
{
	const struct doc *image = image_pending(d, image_id);
	OWN(json_decref) json_t *json = image ? json_incref(image->json) : NULL;
	size_t i;
	json_t *m;
	int r = json ? 0 : -ECANCELED;

	json_array_foreach (json_object_get(json, "BlockDeviceMappings"), i, m) {
		const char *source = jpath_str(m, "Ebs._Source");

		if (r == 0 && source)
			r = copy_snapshot(d, image_id, i, source, f);
	}
	return r;
}

/* What of the source's document the copy has; `id` and `name` are its own. */
static json_t *copied_json(const struct doc *source, const char *account, const char *id,
			   const char *name)
{
	static const char *const not_copied[] = {"ImageOwnerAlias",  "_LaunchAccounts",
						 "DeprecationTime",  "StateReason",
						 "_PartOf",	     "DeregistrationProtection",
						 "SourceInstanceId", "_ProtectedUntil",
						 "LastLaunchedTime", TAGS_OTHERS};
	OWN(json_decref) json_t *j = json_deep_copy(source->json);
	size_t i;
	json_t *m;
	int r = j ? 0 : -ENOMEM;

	for (size_t k = 0; k < sizeof not_copied / sizeof *not_copied; k++)
		(void)json_object_del(j, not_copied[k]); /* any may be absent */
	json_array_foreach (json_object_get(j, "BlockDeviceMappings"), i, m) {
		json_t *ebs = json_object_get(m, "Ebs"), *snapshot;

		snapshot = json_object_get(ebs, "SnapshotId");
		if (snapshot)
			r |= json_object_set(ebs, "_Source", snapshot) |
			     json_object_del(ebs, "SnapshotId");
	}
	for (size_t k = 0; k < sizeof parts / sizeof *parts; k++)
		if (jstr(j, parts[k].member))
			r |= json_object_set(j, parts[k].source,
					     json_object_get(j, parts[k].member)) |
			     json_object_del(j, parts[k].member);
	r |= jset(j, "ImageId", id) | jset(j, "Name", name) | jset(j, "OwnerId", account);
	r |= jset(j, "State", "pending") | jset(j, "SourceImageId", source->id) |
	     jset(j, "SourceImageRegion", source->region);
	r |= jset_new(j, "Public", json_false()) | jset_new(j, "CreationDate", jtime_now()) |
	     jset_new(j, "Tags", json_array());
	r |= jset_new(j, "ImageLocation", json_sprintf("%s/%s", account, name));
	r |= jset_new(j, "_Work",
		      json_pack("{s:s, s:s, s:s}", "Kind", "copy", "Region", source->region,
				"Account", source->account));
	return r == 0 ? give(j) : NULL;
}

/* The image here that is a copy of this part, of the same account. */
static const struct doc *find_part(const struct daemon *d, const struct doc *image,
				   const char *source)
{
	store_each (d->store, IMAGE_KIND, other)
		if (strcmp(jstr_or(other->json, "SourceImageId", ""), source) == 0 &&
		    strcmp(other->account, image->account) == 0 &&
		    strcmp(other->region, image->region) == 0 &&
		    strcmp(jstr_or(other->json, "State", ""), "failed") != 0)
			return other;
	return NULL;
}

/* In one commit: the part's image, and that ours has it. */
static int make_part(struct daemon *d, const struct doc *image, const struct part *p,
		     struct fault *f)
{
	const char *source_id = jstr(image->json, p->source);
	const struct doc *known = find_part(d, image, source_id),
			 *source = store_find(d->store, IMAGE_KIND, source_id);
	OWN(txn_free) struct txn *t = txn_new(d->store);
	OWN(json_decref) json_t *changed = doc_edit(image);
	OWN(json_decref) json_t *part = NULL;
	char id[ID_MAX], name[160];

	if (!known && !source)
		return fault_set(f, FAULT_INVALID_AMI_ID_NOT_FOUND,
				 "The image id '[%s]' does not exist", source_id);
	snprintf(id, sizeof id, "%s", known ? known->id : "");
	if (!known) {
		id_new(p->prefix, id);
		snprintf(name, sizeof name, "%.80s %.39s", jstr_or(source->json, "Name", "part"),
			 id);
		part = copied_json(source, image->account, id, name);
		if (!part || jset(part, "_PartOf", image->id) < 0)
			return -ENOMEM;
	}
	int r = t && changed ? jset(changed, p->member, id) : -ENOMEM;

	if (r == 0)
		r = jset(changed, p->source, NULL);
	if (r == 0)
		r = txn_replace(t, image, give(changed));
	if (r == 0 && part)
		r = txn_put(t, IMAGE_KIND, id, image->account, image->region, give(part));
	if (r == 0)
		r = txn_commit(t);
	return r == 0 && !known ? image_work_start(d, id) : r;
}

/* Returns when the part is available. */
static int wait_part(struct daemon *d, const char *image_id, const struct part *p, struct fault *f)
{
	for (;;) {
		const struct doc *image = image_pending(d, image_id), *part;
		const char *id = image ? jstr(image->json, p->member) : NULL;

		if (!image || !id)
			return image ? 0 : -ECANCELED;
		part = store_find(d->store, IMAGE_KIND, id);
		const char *state = part ? jstr_or(part->json, "State", "") : "gone";

		if (strcmp(state, "available") == 0)
			return 0;
		if (strcmp(state, "pending") != 0)
			return fault_set(
				f, FAULT_INTERNAL_ERROR, "The copy of %s is %s: %s", id, state,
				part ? (jpath_str(part->json, "StateReason.Message") ?: "") : "");
		int r = fiber_sleep(LOOK_USEC);

		if (r < 0)
			return r;
	}
}

int image_copy_work(struct daemon *d, const char *image_id, struct fault *f)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < sizeof parts / sizeof *parts; i++) {
		const struct doc *image = image_pending(d, image_id);

		if (!image)
			return -ECANCELED;
		if (jstr(image->json, parts[i].source))
			r = make_part(d, image, &parts[i], f);
	}
	if (r == 0)
		r = copy_snapshots(d, image_id, f);
	for (size_t i = 0; r == 0 && i < sizeof parts / sizeof *parts; i++)
		r = wait_part(d, image_id, &parts[i], f);
	return r;
}

/* ---- the action ---- */

/* An encrypted snapshot's copy is encrypted; there is no way back. */
static int encryption_check(const json_t *p, const struct doc *source, struct fault *f)
{
	size_t i;
	json_t *m;

	json_array_foreach (json_object_get(source->json, "BlockDeviceMappings"), i, m)
		if (json_is_false(json_object_get(p, "Encrypted")) &&
		    json_is_true(jpath(m, "Ebs.Encrypted")))
			return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
					 "The image '%s' has encrypted snapshots: a copy of it "
					 "cannot be unencrypted.",
					 source->id);
	return 0;
}

static int source_find(const struct call *c, const json_t *p, const struct doc **ret_source,
		       struct fault *f)
{
	const char *region = jstr_or(p, "SourceRegion", "");
	struct context ctx = *c->ctx;

	if (!region_exists(c->daemon->config, region))
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "Value (%.64s) for parameter SourceRegion is invalid.", region);
	if (jstr(p, "DestinationOutpostArn"))
		return fault_set(f, FAULT_UNSUPPORTED_OPERATION, "There are no Outposts here.");
	if (jstr(p, "KmsKeyId") && !jbool(p, "Encrypted", 0))
		return fault_set(f, FAULT_INVALID_PARAMETER_DEPENDENCY,
				 "The parameter KmsKeyId requires the parameter Encrypted to be "
				 "set.");
	snprintf(ctx.region, sizeof ctx.region, "%s", region);
	return image_find(c->store, &ctx, jstr(p, "SourceImageId"), ret_source, f);
}

/* The request's tags, and with CopyImageTags those that the caller gave the source and does not say
 * here: nobody sees another's tags. */
static int tags_make(const struct call *c, json_t *p, const struct doc *source, json_t **ret_image,
		     json_t **ret_snapshot, struct fault *f)
{
	static const char *const taggable[] = {"image", "snapshot", NULL};
	OWN(json_decref) json_t *tags = NULL;
	int is_wanted = jbool(p, "CopyImageTags", 0);
	size_t i, k;
	json_t *old, *tag;
	int r = tags_from_specifications(p, "image", taggable, &tags, f);

	if (r == 0)
		r = tags_from_specifications(p, "snapshot", taggable, ret_snapshot, f);
	if (r < 0)
		return r;
	json_array_foreach (tags_given_by(source, c->ctx->account), i, old) {
		int is_said = !is_wanted;

		json_array_foreach (tags, k, tag)
			is_said |= strcmp(jstr_or(tag, "Key", ""), jstr_or(old, "Key", "")) == 0;
		if (!is_said && json_array_append(tags, old) < 0)
			return -ENOMEM;
	}
	r = tags_check(tags, f);
	*ret_image = give(tags);
	return r;
}

int image_copy(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	static const char *const encryption[] = {"Encrypted", "KmsKeyId"};
	const char *name = jstr(parameters, "Name"), *description = jstr(parameters, "Description");
	OWN(json_decref) json_t *tags = NULL, *snapshot_tags = NULL, *image = NULL;
	const struct doc *source = NULL;
	char id[ID_MAX], text[300];
	int r = image_name_check(c, name, f);

	if (r == 0)
		r = source_find(c, parameters, &source, f);
	if (r == 0)
		r = encryption_check(parameters, source, f);
	if (r == 0)
		r = tags_make(c, parameters, source, &tags, &snapshot_tags, f);
	if (r < 0)
		return r;
	if (description && strlen(description) > 255)
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "Description may have at most 255 characters");
	snprintf(text, sizeof text, "[Copied %s from %s] %.160s", source->id, source->region,
		 jstr_or(source->json, "Name", ""));
	id_new("ami", id);
	image = copied_json(source, c->ctx->account, id, name);
	r = image ? jset(image, "Description", description ? description : text) : -ENOMEM;
	if (r == 0)
		r = jset_new(image, "Tags", json_incref(tags));
	if (r == 0)
		r = jset_new(json_object_get(image, "_Work"), "SnapshotTags",
			     json_incref(snapshot_tags));
	for (size_t i = 0; i < sizeof encryption / sizeof *encryption; i++)
		if (r == 0 && json_object_get(parameters, encryption[i]))
			r = jset_new(json_object_get(image, "_Work"), encryption[i],
				     json_incref(json_object_get(parameters, encryption[i])));
	if (r == 0)
		r = txn_put(c->txn, IMAGE_KIND, id, c->ctx->account, c->ctx->region, give(image));
	if (r == 0)
		r = image_work_start(c->daemon, id);
	if (r == 0)
		*ret_reply = json_pack("{s:s}", "ImageId", id);
	return r;
}
