/* Small actions on instances: metadata options, private names, CPU credits, tags. */
#include <errno.h>
#include <string.h>

#include "describe.h"
#include "instance-rooms.h"
#include "tags.h"

int instance_metadata_modify(struct call *c, json_t *parameters, json_t **ret_reply,
			     struct fault *f)
{
	const struct doc *d;
	int r = instance_get(c, jstr(parameters, "InstanceId"), &d, f);

	if (r < 0)
		return r;
	if (instance_state_of(d->json) == INSTANCE_TERMINATED)
		return fault_set(f, FAULT_INCORRECT_INSTANCE_STATE,
				 "The instance '%s' is terminated", d->id);
	OWN(json_decref) json_t *instance = doc_edit(d);
	json_t *options = json_object_get(instance, "MetadataOptions");
	if ((r = metadata_options_apply(options, parameters, f)) < 0)
		return r;
	*ret_reply =
		json_pack("{s:s, s:O}", "InstanceId", d->id, "InstanceMetadataOptions", options);
	return *ret_reply ? txn_replace(c->txn, d, give(instance)) : -ENOMEM;
}

/* ---- private names: netd makes them ---- */

/* A guest learns its host name when it boots. Source: EC2 user guide, "Amazon EC2 instance hostname
 * types". */
static int names_check(const struct doc *d, const json_t *parameters, struct fault *f)
{
	const char *type = jstr(parameters, "PrivateDnsHostnameType"),
		   *has = jpath_str(d->json, "PrivateDnsNameOptions.HostnameType");
	enum instance_state state = instance_state_of(d->json);

	if (!type && !json_object_get(parameters, "EnableResourceNameDnsARecord") &&
	    !json_object_get(parameters, "EnableResourceNameDnsAAAARecord"))
		return fault_set(f, FAULT_MISSING_PARAMETER,
				 "The request must contain at least one option to modify");
	if (state == INSTANCE_TERMINATED || state == INSTANCE_SHUTTING_DOWN)
		return fault_set(f, FAULT_INCORRECT_INSTANCE_STATE,
				 "The instance '%s' is not in a state from which its options can "
				 "be modified.",
				 d->id);
	if (type && has && strcmp(type, has) != 0 && state != INSTANCE_STOPPED)
		return fault_set(f, FAULT_INCORRECT_INSTANCE_STATE,
				 "The instance '%s' is not in the 'stopped' state.", d->id);
	return 0;
}

int instance_names_modify(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	const struct doc *d;
	int r = instance_get(c, jstr(parameters, "InstanceId"), &d, f);

	if (r == 0)
		r = names_check(d, parameters, f);
	if (r == 0)
		r = parts_call("netd", c->ctx, "ec2.ModifyPrivateDnsNameOptions",
			       json_incref(parameters), f);
	if (r == 0)
		r = instance_refresh(c, parameters, NULL, f);
	if (r < 0)
		return r;
	*ret_reply = json_pack("{s:b}", "Return", 1);
	return *ret_reply ? 0 : -ENOMEM;
}

/* ---- CPU credits: kept and shown; a box of one's own takes none away ---- */

static const struct filter credit_filters[] = {{"instance-id", "InstanceId"}, {NULL}};

static const struct describe credits = {
	.result = "InstanceCreditSpecifications",
	.ids = "InstanceIds",
	.filters = credit_filters,
};

static int add_credits(json_t *list, const struct doc *d)
{
	const char *words = jstr(d->json, "_CpuCredits");

	if (!words)
		return 0;
	return json_array_append_new(
		       list, json_pack("{s:s, s:s}", "InstanceId", d->id, "CpuCredits", words)) < 0
		       ? -ENOMEM
		       : 0;
}

int instance_credits_describe(struct call *c, json_t *parameters, json_t **ret_reply,
			      struct fault *f)
{
	json_t *ids = json_object_get(parameters, "InstanceIds"), *id;
	OWN(json_decref) json_t *list = json_array();
	const struct doc *found;
	size_t i;
	int r = 0;

	json_array_foreach (ids, i, id)
		if ((r = instance_get(c, json_string_value(id), &found, f)) < 0 ||
		    (r = add_credits(list, found)) < 0)
			return r;
	if (json_array_size(ids) == 0)
		store_each (c->store, INSTANCE_KIND, d)
			if (r == 0 && strcmp(d->account, c->ctx->account) == 0 &&
			    strcmp(d->region, c->ctx->region) == 0 &&
			    instance_state_of(d->json) != INSTANCE_TERMINATED)
				r = add_credits(list, d);
	return r < 0 ? r : describe_list(c, &credits, list, parameters, ret_reply, f);
}

/* NULL, or why this instance cannot have these credits, in AWS's words. */
static const char *refusal(const struct call *c, const char *id, const char *words)
{
	struct fault ignored = {0};
	const struct doc *d;

	if (instance_get(c, id, &d, &ignored) < 0)
		return fault_is(&ignored, FAULT_INVALID_INSTANCE_ID_MALFORMED)
			       ? "InvalidInstanceID.Malformed"
			       : "InvalidInstanceID.NotFound";
	if (!words || (strcmp(words, "standard") != 0 && strcmp(words, "unlimited") != 0))
		return "InvalidParameterValue";
	if (instance_state_of(d->json) != INSTANCE_RUNNING &&
	    instance_state_of(d->json) != INSTANCE_STOPPED)
		return "IncorrectInstanceState";
	return jstr(d->json, "_CpuCredits") ? NULL : "InstanceCreditSpecification.NotSupported";
}

/* This action answers instance by instance. */
int instance_credits_modify(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	OWN(json_decref) json_t *done = json_array();
	OWN(json_decref) json_t *undone = json_array();
	json_t *row;
	size_t i;

	(void)f;
	json_array_foreach (json_object_get(parameters, "InstanceCreditSpecifications"), i, row) {
		const char *id = jstr_or(row, "InstanceId", ""), *words = jstr(row, "CpuCredits"),
			   *why = refusal(c, id, words);
		int r = 0;
		if (why) {
			if (json_array_append_new(
				    undone, json_pack("{s:s, s:{s:s, s:s}}", "InstanceId", id,
						      "Error", "Code", why, "Message", why)) < 0)
				return -ENOMEM;
			continue;
		}
		const struct doc *d = store_find(c->store, INSTANCE_KIND, id);
		OWN(json_decref) json_t *instance = doc_edit(d);
		if ((r = jset(instance, "_CpuCredits", words)) < 0 ||
		    (r = txn_replace(c->txn, d, give(instance))) < 0)
			return r;
		if (json_array_append_new(done, json_pack("{s:s}", "InstanceId", id)) < 0)
			return -ENOMEM;
	}
	*ret_reply = json_pack("{s:O, s:O}", "SuccessfulInstanceCreditSpecifications", done,
			       "UnsuccessfulInstanceCreditSpecifications", undone);
	return *ret_reply ? 0 : -ENOMEM;
}

/* ---- tags of all that hvd owns ---- */

/* A row for each prefix of each kind; what is in the recycle bin keeps its tags. */
static const struct tags_kind kinds[] = {
	{INSTANCE_KIND, "instance", "i", FAULT_INVALID_INSTANCE_ID_NOT_FOUND},
	{"key-pair", "key-pair", "key", FAULT_INVALID_KEY_PAIR_NOT_FOUND},
	{"image", "image", "ami", FAULT_INVALID_AMI_ID_NOT_FOUND, image_is_visible},
	{"image-in-bin", "image", "ami", FAULT_INVALID_AMI_ID_NOT_FOUND},
	{"image", "image", "aki", FAULT_INVALID_AMI_ID_NOT_FOUND, image_is_visible},
	{"image", "image", "ari", FAULT_INVALID_AMI_ID_NOT_FOUND, image_is_visible},
	{"import-image-task", "import-image-task", "import-ami", FAULT_INVALID_CONVERSION_TASK_ID},
	{NULL},
};

static const struct tags_kind kinds_listed[] = {
	{INSTANCE_KIND, "instance", "i", FAULT_INVALID_INSTANCE_ID_NOT_FOUND},
	{"key-pair", "key-pair", "key", FAULT_INVALID_KEY_PAIR_NOT_FOUND},
	{"image", "image", "ami", FAULT_INVALID_AMI_ID_NOT_FOUND, image_is_visible},
	{"image-in-bin", "image", "ami", FAULT_INVALID_AMI_ID_NOT_FOUND},
	{"import-image-task", "import-image-task", "import-ami", FAULT_INVALID_CONVERSION_TASK_ID},
	{NULL},
};

int instance_tags_create(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	return tags_create(c, kinds, parameters, ret_reply, f);
}

int instance_tags_delete(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	return tags_delete(c, kinds, parameters, ret_reply, f);
}

int instance_tags_describe(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	return tags_describe(c, kinds_listed, parameters, ret_reply, f);
}
