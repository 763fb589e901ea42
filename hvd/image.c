/* Images: who may see and use which, and DescribeImages. */
#include "image-work.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "describe.h"
#include "fiber.h"
#include "id.h"
#include "instance.h"
#include "jsonx.h"
#include "log.h"

#define OWNER_FILTER	  "_owner"
#define EXECUTABLE_FILTER "_executable-by"
#define CURRENT_FILTER	  "_current"

/* Any of the values is the owner's account or alias. */
static int owner_match(const struct doc *d, const json_t *values)
{
	const char *alias = jstr(d->json, "ImageOwnerAlias");

	return jarray_has(values, d->account) || (alias && jarray_has(values, alias));
}

/* Any of the values is an account that was given the image, or "all" and it is public. */
static int executable_match(const struct doc *d, const json_t *values)
{
	size_t i;
	json_t *v;

	if (jbool(d->json, "Public", 0) && jarray_has(values, "all"))
		return 1;
	json_array_foreach (values, i, v)
		if (jarray_has(json_object_get(d->json, "_LaunchAccounts"), json_string_value(v)))
			return 1;
	return 0;
}

static const struct filter filters[] = {
	{"architecture", "Architecture"},
	{"block-device-mapping.delete-on-termination",
	 "BlockDeviceMappings.Ebs.DeleteOnTermination"},
	{"block-device-mapping.device-name", "BlockDeviceMappings.DeviceName"},
	{"block-device-mapping.encrypted", "BlockDeviceMappings.Ebs.Encrypted"},
	{"block-device-mapping.snapshot-id", "BlockDeviceMappings.Ebs.SnapshotId"},
	{"block-device-mapping.volume-size", "BlockDeviceMappings.Ebs.VolumeSize"},
	{"block-device-mapping.volume-type", "BlockDeviceMappings.Ebs.VolumeType"},
	{"creation-date", "CreationDate"},
	{"description", "Description"},
	{"ena-support", "EnaSupport"},
	{"free-tier-eligible", "FreeTierEligible"},
	{"hypervisor", "Hypervisor"},
	{"image-allowed", "ImageAllowed"},
	{"image-id", "ImageId"},
	{"image-type", "ImageType"},
	{"is-public", "Public"},
	{"kernel-id", "KernelId"},
	{"manifest-location", "ImageLocation"},
	{"name", "Name"},
	{"owner-alias", "ImageOwnerAlias"},
	{"owner-id", "OwnerId"},
	{"platform", "Platform"},
	{"platform-details", "PlatformDetails"},
	{"product-code", "ProductCodes.ProductCodeId"},
	{"product-code.type", "ProductCodes.ProductCodeType"},
	{"ramdisk-id", "RamdiskId"},
	{"root-device-name", "RootDeviceName"},
	{"root-device-type", "RootDeviceType"},
	{"source-image-id", "SourceImageId"},
	{"source-image-region", "SourceImageRegion"},
	{"source-instance-id", "SourceInstanceId"},
	{"sriov-net-support", "SriovNetSupport"},
	{"state", "State"},
	{"state-reason-code", "StateReason.Code"},
	{"state-reason-message", "StateReason.Message"},
	{"usage-operation", "UsageOperation"},
	{"virtualization-type", "VirtualizationType"},
	FILTER_TAGS,
	{OWNER_FILTER, NULL, owner_match},
	{EXECUTABLE_FILTER, NULL, executable_match},
	{CURRENT_FILTER, NULL, image_current_match},
	{NULL},
};

static int id_is_image(const char *id)
{
	return id && (id_is(id, "ami") || id_is(id, "aki") || id_is(id, "ari"));
}

static int id_check(const char *id, struct fault *f)
{
	if (id_is_image(id))
		return 0;
	return fault_set(f, FAULT_INVALID_AMI_ID_MALFORMED,
			 "Invalid id: \"%.128s\" (expecting \"ami-...\")", id ? id : "");
}

static int not_found(const char *id, struct fault *f)
{
	return fault_set(f, FAULT_INVALID_AMI_ID_NOT_FOUND, "The image id '[%s]' does not exist",
			 id);
}

int image_is_shared(const json_t *image, const char *account)
{
	return jbool(image, "Public", 0) ||
	       jarray_has(json_object_get(image, "_LaunchAccounts"), account);
}

const struct doc *image_get(const struct store *s, const struct context *ctx, const char *image_id)
{
	const struct doc *d = store_find(s, IMAGE_KIND, image_id);

	if (!d || strcmp(d->region, ctx->region) != 0)
		return NULL;
	return strcmp(d->account, ctx->account) == 0 || image_is_shared(d->json, ctx->account)
		       ? d
		       : NULL;
}

int image_own(const struct call *c, const char *image_id, const struct doc **ret_image,
	      struct fault *f)
{
	const struct doc *d;
	int r = id_check(image_id, f);

	if (r < 0)
		return r;
	d = image_get(c->store, c->ctx, image_id);
	if (!d)
		return not_found(image_id, f);
	if (strcmp(d->account, c->ctx->account) != 0)
		return fault_set(f, FAULT_AUTH_FAILURE, "Not authorized for image:%s", image_id);
	*ret_image = d;
	return 0;
}

int image_find(const struct store *s, const struct context *ctx, const char *image_id,
	       const struct doc **ret_image, struct fault *f)
{
	const struct doc *d;
	int r = id_check(image_id, f);

	if (r < 0)
		return r;
	d = image_get(s, ctx, image_id);
	if (!d)
		return not_found(image_id, f);
	if (strcmp(jstr_or(d->json, "State", ""), "available") != 0 ||
	    strcmp(jstr_or(d->json, "ImageType", ""), "machine") != 0)
		return fault_set(f, FAULT_INVALID_AMI_ID_UNAVAILABLE,
				 "The image ID '%s' is not available", image_id);
	*ret_image = d;
	return 0;
}

const char *image_raw_snapshot(const struct store *s, const char *kernel_or_ramdisk_id)
{
	const struct doc *d =
		kernel_or_ramdisk_id ? store_find(s, IMAGE_KIND, kernel_or_ramdisk_id) : NULL;

	return d ? jpath_str(json_array_get(json_object_get(d->json, "BlockDeviceMappings"), 0),
			     "Ebs.SnapshotId")
		 : NULL;
}

const char *image_account(const struct store *s, const char *image_id)
{
	const struct doc *d = image_id ? store_find(s, IMAGE_KIND, image_id) : NULL;

	return d ? d->account : NULL;
}

int image_is_visible(const struct call *c, const struct doc *d)
{
	return strcmp(d->region, c->ctx->region) == 0 && image_is_shared(d->json, c->ctx->account);
}

/* Adds to the Filters of the copy what Owners and ExecutableUsers ask, "self" as the account it is.
 */
static int list_to_filter(const struct call *c, json_t *copy, const char *parameter,
			  const char *filter)
{
	json_t *list = json_object_get(copy, parameter), *all = json_object_get(copy, "Filters"),
	       *v;
	OWN(json_decref) json_t *values = json_array();
	OWN(json_decref) json_t *more = all ? json_copy(all) : json_array();
	size_t i;

	if (!values || !more)
		return -ENOMEM;
	if (json_array_size(list) == 0)
		return 0;
	json_array_foreach (list, i, v) {
		const char *text = json_string_value(v);

		if (text && strcmp(text, "self") == 0)
			text = c->ctx->account;
		if (json_array_append_new(values, json_string(text)) < 0)
			return -ENOMEM;
	}
	if (json_array_append_new(more, json_pack("{s:s, s:O}", "Name", filter, "Values", values)) <
	    0)
		return -ENOMEM;
	return json_object_set(copy, "Filters", more) < 0 ? -ENOMEM : 0;
}

/* Disabled images, and other people's deprecated ones, are shown when they are asked for: by the
 * parameters for that, or by their ids. */
static int current_to_filter(const struct call *c, json_t *copy)
{
	OWN(json_decref) json_t *values = json_pack("[s]", c->ctx->account);
	json_t *all = json_object_get(copy, "Filters");
	OWN(json_decref) json_t *more = all ? json_copy(all) : json_array();
	int r = values && more ? 0 : -ENOMEM;

	if (json_array_size(json_object_get(copy, "ImageIds")) > 0)
		return r;
	if (r == 0 && jbool(copy, "IncludeDisabled", 0))
		r = json_array_append_new(values, json_string("disabled"));
	if (r == 0 && jbool(copy, "IncludeDeprecated", 0))
		r = json_array_append_new(values, json_string("deprecated"));
	if (r == 0)
		r = json_array_append_new(
			more, json_pack("{s:s, s:O}", "Name", CURRENT_FILTER, "Values", values));
	return r == 0 && json_object_set(copy, "Filters", more) == 0 ? 0 : -ENOMEM;
}

int image_describe(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	static const struct describe d = {.kind = IMAGE_KIND,
					  .result = "Images",
					  .ids = "ImageIds",
					  .gone = IMAGE_GONE_KIND,
					  .malformed = FAULT_INVALID_AMI_ID_MALFORMED,
					  .not_found = FAULT_INVALID_AMI_ID_NOT_FOUND,
					  .filters = filters,
					  .is_visible = image_is_visible};
	OWN(json_decref) json_t *copy = json_copy(parameters);
	json_t *ids = json_object_get(parameters, "ImageIds"), *v;
	size_t i;
	int r;

	json_array_foreach (ids, i, v) {
		r = id_check(json_string_value(v), f);
		if (r < 0)
			return r;
	}
	r = copy ? list_to_filter(c, copy, "Owners", OWNER_FILTER) : -ENOMEM;
	if (r == 0)
		r = list_to_filter(c, copy, "ExecutableUsers", EXECUTABLE_FILTER);
	if (r == 0)
		r = current_to_filter(c, copy);
	return r == 0 ? describe_run(c, &d, copy, ret_reply, f) : r;
}

/* Another image boots with this kernel or ramdisk, or would if it were restored; or an instance
 * does, which its image may leave long before its next start. */
static const struct doc *user_of(const struct store *s, const char *id)
{
	static const char *const kinds[] = {IMAGE_KIND, IMAGE_BIN_KIND, INSTANCE_KIND};

	for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
		store_each (s, kinds[i], other) {
			int is_over = strcmp(kinds[i], INSTANCE_KIND) == 0 &&
				      instance_state_of(other->json) == INSTANCE_TERMINATED;

			if (!is_over && (strcmp(jstr_or(other->json, "KernelId", ""), id) == 0 ||
					 strcmp(jstr_or(other->json, "RamdiskId", ""), id) == 0))
				return other;
		}
	return NULL;
}

int image_leave_parts(struct call *c, const char *image_id, struct fault *f)
{
	OWN(json_decref) json_t *ids = json_array();
	size_t i;
	json_t *id;
	int r = 0;

	store_each (c->store, IMAGE_KIND, other)
		if (strcmp(jstr_or(other->json, "_PartOf", ""), image_id) == 0 &&
		    !user_of(c->store, other->id) &&
		    json_array_append_new(ids, json_string(other->id)) < 0)
			return -ENOMEM;
	json_array_foreach (ids, i, id) {
		const struct doc *part = store_find(c->store, IMAGE_KIND, json_string_value(id));
		OWN(json_decref) json_t *json = part ? json_incref(part->json) : NULL;

		if (r == 0 && part)
			r = image_leave(c, part, f);
		if (r == 0 && part) /* nobody else knows of it */
			image_delete_snapshots(c->ctx, json);
	}
	return r;
}

/* What was copied for an image that is gone: hvd ended between the two. NULL: nothing. */
static const struct doc *orphan_of(const struct store *s)
{
	store_each (s, IMAGE_KIND, d) {
		const char *whose = jstr(d->json, "_PartOf");

		if (whose && !store_find(s, IMAGE_KIND, whose) &&
		    !store_find(s, IMAGE_BIN_KIND, whose) && !user_of(s, d->id))
			return d;
	}
	return NULL;
}

static void leave_orphans(void *arg)
{
	struct daemon *d = arg;
	const struct doc *part;
	int r = 0;

	while (r == 0 && (part = orphan_of(d->store))) {
		struct context ctx = image_context(part);
		OWN(txn_free) struct txn *t = txn_new(d->store);
		struct call c = {.daemon = d, .store = d->store, .ctx = &ctx, .txn = t};
		struct fault f = {0};
		char image_id[ID_MAX];

		snprintf(image_id, sizeof image_id, "%s", jstr(part->json, "_PartOf"));
		r = t ? image_leave_parts(&c, image_id, &f) : -ENOMEM;
		if (r < 0)
			log_warning(r, "what was copied for an image stays until the next start",
				    "IMAGE", image_id);
	}
}

int image_parts_start(struct daemon *d)
{
	return orphan_of(d->store) ? fiber_spawn(leave_orphans, d) : 0;
}

static int deregister_check(const struct call *c, const char *id, const struct doc **ret_doc,
			    struct fault *f)
{
	const struct doc *user;
	int r = image_own(c, id, ret_doc, f);

	if (r == 0)
		r = image_protection_check(*ret_doc, f);
	if (r < 0)
		return r;
	user = user_of(c->store, id);
	return !user ? 0
		     : fault_set(f, FAULT_DEPENDENCY_VIOLATION, "The image %s is used by %s", id,
				 user->id);
}

int image_deregister(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	const char *id = jstr(parameters, "ImageId");
	const struct doc *d = NULL;
	int r = deregister_check(c, id, &d, f), is_kept = r == 0 ? image_bin_put(c, id, f) : r;

	if (is_kept < 0)
		return is_kept;
	r = deregister_check(c, id, &d, f); /* after the wait for stord */
	if (r < 0)
		return r;
	OWN(json_decref) json_t *image = json_incref(d->json);

	r = image_gone_put(c, d);
	if (r == 0)
		r = image_leave(c, d, f);
	if (r == 0 && is_kept)
		image_bin_start(c->daemon);
	if (r == 0 && !is_kept)
		r = image_leave_parts(c, id, f);
	if (r == 0 && jbool(parameters, "DeleteAssociatedSnapshots", 0))
		image_delete_snapshots(c->ctx, image);
	if (r == 0)
		*ret_reply = json_pack("{s:b}", "Return", 1);
	return r;
}

int image_note_launch(struct txn *t, const char *id)
{
	const struct doc *d = store_find(txn_store(t), IMAGE_KIND, id);
	OWN(json_decref) json_t *image = d ? doc_edit(d) : NULL;

	if (!image) /* deregistered meanwhile */
		return d ? -ENOMEM : 0;
	int r = jset_new(image, "LastLaunchedTime", jtime_now());

	return r == 0 ? txn_replace(t, d, give(image)) : r;
}
