/* Image attributes: who may launch an image, its description, and the rest one by one. */
#include "image-work.h"

#include <errno.h>
#include <string.h>
#include "jsonx.h"
#include "tags.h"

/* Accounts that one image may be given to. */
#define LAUNCH_ACCOUNTS_MAX 200
#define DESCRIPTION_MAX	    255

/* Attributes that are one member of the image, shown as {Value: …}. */
static const struct {
	const char *attribute, *result, *member;
} values[] = {
	{"description", "Description", "Description"},
	{"kernel", "KernelId", "KernelId"},
	{"ramdisk", "RamdiskId", "RamdiskId"},
	{"sriovNetSupport", "SriovNetSupport", "SriovNetSupport"},
	{"bootMode", "BootMode", "BootMode"},
	{"tpmSupport", "TpmSupport", "TpmSupport"},
	{"uefiData", "UefiData", "UefiData"},
	{"lastLaunchedTime", "LastLaunchedTime", "LastLaunchedTime"},
	{"imdsSupport", "ImdsSupport", "ImdsSupport"},
};

static json_t *permissions_json(const json_t *image)
{
	OWN(json_decref) json_t *list = json_array();
	json_t *accounts = json_object_get(image, "_LaunchAccounts"), *a;
	size_t i;

	if (jbool(image, "Public", 0) &&
	    json_array_append_new(list, json_pack("{s:s}", "Group", "all")) < 0)
		return NULL;
	json_array_foreach (accounts, i, a)
		if (json_array_append_new(list, json_pack("{s:O}", "UserId", a)) < 0)
			return NULL;
	return give(list);
}

int image_attribute_describe(struct call *c, json_t *parameters, json_t **ret_reply,
			     struct fault *f)
{
	const char *id = jstr(parameters, "ImageId"),
		   *attribute = jstr_or(parameters, "Attribute", "");
	const struct doc *d = NULL;
	OWN(json_decref) json_t *reply = NULL;
	size_t i = 0;
	int r = image_own(c, id, &d, f);

	if (r < 0)
		return r;
	reply = json_pack("{s:s}", "ImageId", id);
	while (i < sizeof values / sizeof *values && strcmp(values[i].attribute, attribute) != 0)
		i++;
	if (i < sizeof values / sizeof *values) {
		const char *value = jstr(d->json, values[i].member);

		r = jset_new(reply, values[i].result,
			     value ? json_pack("{s:s}", "Value", value) : json_object());
	} else if (strcmp(attribute, "launchPermission") == 0) {
		r = jset_new(reply, "LaunchPermissions", permissions_json(d->json));
	} else if (strcmp(attribute, "blockDeviceMapping") == 0) {
		r = jset_new(reply, "BlockDeviceMappings",
			     json_incref(json_object_get(d->json, "BlockDeviceMappings")));
	} else if (strcmp(attribute, "productCodes") == 0) {
		r = jset_new(reply, "ProductCodes", json_array());
	} else {
		return fault_set(
			f, FAULT_INVALID_PARAMETER_VALUE,
			"Value (%s) for parameter attribute is invalid. Unknown attribute.",
			attribute);
	}
	if (r == 0)
		*ret_reply = give(reply);
	return r;
}

/* One change of the permissions: what is added or removed. */
struct change {
	int is_add;
	int has_all;	  /* Group all */
	json_t *accounts; /* owned */
};

static int change_account(struct change *ch, const char *account, struct fault *f)
{
	if (strlen(account) != 12 || strspn(account, "0123456789") != 12)
		return fault_set(f, FAULT_INVALID_AMI_ATTRIBUTE,
				 "Invalid attribute item value \"%.64s\" for userId item type.",
				 account);
	return jarray_has(ch->accounts, account)
		       ? 0
		       : json_array_append_new(ch->accounts, json_string(account));
}

static int change_group(struct change *ch, const char *group, struct fault *f)
{
	if (strcmp(group, "all") != 0)
		return fault_set(f, FAULT_INVALID_AMI_ATTRIBUTE,
				 "Invalid attribute item value \"%.64s\" for group item type.",
				 group);
	ch->has_all = 1;
	return 0;
}

/* [{Group | UserId}] */
static int change_permissions(struct change *ch, const json_t *list, struct fault *f)
{
	size_t i;
	json_t *item;
	int r = 0;

	json_array_foreach (list, i, item) {
		const char *group = jstr(item, "Group"), *account = jstr(item, "UserId");

		if (jstr(item, "OrganizationArn") || jstr(item, "OrganizationalUnitArn"))
			return fault_set(f, FAULT_UNSUPPORTED_OPERATION,
					 "There are no organizations here");
		if (!group && !account)
			return fault_set(f, FAULT_MISSING_PARAMETER,
					 "A launch permission needs Group or UserId");
		r = group ? change_group(ch, group, f) : 0;
		if (r == 0 && account)
			r = change_account(ch, account, f);
		if (r < 0)
			return r;
	}
	return 0;
}

/* The older form: UserIds and UserGroups. */
static int change_lists(struct change *ch, json_t *p, struct fault *f)
{
	json_t *accounts = json_object_get(p, "UserIds"),
	       *groups = json_object_get(p, "UserGroups"), *v;
	size_t i;
	int r = 0;

	json_array_foreach (accounts, i, v)
		if (r == 0)
			r = change_account(ch, json_string_value(v), f);
	json_array_foreach (groups, i, v)
		if (r == 0)
			r = change_group(ch, json_string_value(v), f);
	return r;
}

/* Applies to the copy of the image. */
static int change_apply(const struct change *ch, json_t *image, struct fault *f)
{
	json_t *old = json_object_get(image, "_LaunchAccounts"), *v;
	OWN(json_decref) json_t *accounts = json_array();
	size_t i;

	json_array_foreach (old, i, v)
		if (!jarray_has(ch->accounts, json_string_value(v)) &&
		    json_array_append(accounts, v) < 0)
			return -ENOMEM;
	if (ch->is_add && jarray_extend_all(accounts, ch->accounts) < 0)
		return -ENOMEM;
	if (json_array_size(accounts) > LAUNCH_ACCOUNTS_MAX)
		return fault_set(f, FAULT_RESOURCE_LIMIT_EXCEEDED,
				 "An image can be shared with %d accounts", LAUNCH_ACCOUNTS_MAX);
	if (ch->has_all && jset_new(image, "Public", json_boolean(ch->is_add)) < 0)
		return -ENOMEM;
	return jset_new(image, "_LaunchAccounts", give(accounts));
}

/* LaunchPermission {Add, Remove}, or OperationType with UserIds and UserGroups. */
static int permissions_modify(json_t *p, json_t *image, struct fault *f)
{
	json_t *both = json_object_get(p, "LaunchPermission");
	const char *operation = jstr_or(p, "OperationType", "");
	OWN(json_decref) json_t *added = json_array();
	OWN(json_decref) json_t *removed = json_array();
	struct change add = {.is_add = 1, .accounts = added}, remove = {.accounts = removed};
	int r = change_permissions(&add, json_object_get(both, "Add"), f);

	if (r == 0)
		r = change_permissions(&remove, json_object_get(both, "Remove"), f);
	if (r == 0 && (json_object_get(p, "UserIds") || json_object_get(p, "UserGroups"))) {
		if (strcmp(operation, "add") != 0 && strcmp(operation, "remove") != 0)
			return fault_set(f, FAULT_INVALID_PARAMETER_COMBINATION,
					 "UserIds and UserGroups need OperationType add or remove");
		r = change_lists(strcmp(operation, "add") == 0 ? &add : &remove, p, f);
	}
	if (r == 0)
		r = change_apply(&add, image, f);
	if (r == 0)
		r = change_apply(&remove, image, f);
	return r == 0 ? tags_forget(image, image_is_shared) : r;
}

static int description_modify(const char *text, json_t *image, struct fault *f)
{
	if (!text)
		return fault_set(f, FAULT_MISSING_PARAMETER,
				 "The request must contain the parameter Description");
	if (strlen(text) > DESCRIPTION_MAX)
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "Description may have at most %d characters", DESCRIPTION_MAX);
	return jset(image, "Description", text);
}

static int imds_modify(const char *text, json_t *image, struct fault *f)
{
	if (!text || strcmp(text, "v2.0") != 0)
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "Value (%s) for parameter imdsSupport is invalid",
				 text ? text : "");
	return jset(image, "ImdsSupport", text);
}

/* Which one attribute the request changes; a fault when it is none or more than one. */
static int attribute_of(json_t *p, const char **ret_name, struct fault *f)
{
	const char *name = jstr(p, "Attribute");
	int has_permission = json_object_get(p, "LaunchPermission") ||
			     json_object_get(p, "UserIds") || json_object_get(p, "UserGroups");
	int has_description = json_object_get(p, "Description") != NULL,
	    has_imds = json_object_get(p, "ImdsSupport") != NULL;

	if (json_object_get(p, "OrganizationArns") || json_object_get(p, "OrganizationalUnitArns"))
		return fault_set(f, FAULT_UNSUPPORTED_OPERATION, "There are no organizations here");
	if (json_array_size(json_object_get(p, "ProductCodes")) > 0)
		return fault_set(f, FAULT_UNSUPPORTED_OPERATION,
				 "Images have no product codes here");
	if (has_permission + has_description + has_imds > 1)
		return fault_set(f, FAULT_INVALID_PARAMETER_COMBINATION,
				 "Fields for multiple attribute types specified");
	if (!name)
		name = has_permission	 ? "launchPermission"
		       : has_description ? "description"
		       : has_imds	 ? "imdsSupport"
					 : NULL;
	if (!name)
		return fault_set(f, FAULT_INVALID_PARAMETER_COMBINATION,
				 "No attributes specified.");
	*ret_name = name;
	return 0;
}

int image_attribute_modify(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	const char *attribute = NULL, *value = jstr(parameters, "Value");
	const struct doc *d = NULL;
	OWN(json_decref) json_t *image = NULL;
	int r = image_own(c, jstr(parameters, "ImageId"), &d, f);

	if (r == 0)
		r = attribute_of(parameters, &attribute, f);
	if (r < 0)
		return r;
	image = doc_edit(d);
	if (!image)
		return -ENOMEM;
	if (strcmp(attribute, "launchPermission") == 0) {
		r = permissions_modify(parameters, image, f);
		if (r == 0 && jbool(image, "Public", 0) && !jbool(d->json, "Public", 0))
			r = image_public_check(c, f);
	} else if (strcmp(attribute, "description") == 0)
		r = description_modify(value ? value : jpath_str(parameters, "Description.Value"),
				       image, f);
	else if (strcmp(attribute, "imdsSupport") == 0)
		r = imds_modify(value ? value : jpath_str(parameters, "ImdsSupport.Value"), image,
				f);
	else
		r = fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
			      "Value (%.64s) for parameter attribute is invalid.", attribute);
	if (r == 0)
		r = txn_replace(c->txn, d, give(image));
	if (r == 0)
		*ret_reply = json_pack("{s:b}", "Return", 1);
	return r;
}

int image_attribute_reset(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	const char *attribute = jstr_or(parameters, "Attribute", "");
	const struct doc *d = NULL;
	OWN(json_decref) json_t *image = NULL;
	int r = image_own(c, jstr(parameters, "ImageId"), &d, f);

	if (r < 0)
		return r;
	if (strcmp(attribute, "launchPermission") != 0)
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "Value (%.64s) for parameter attribute is invalid.", attribute);
	image = doc_edit(d);
	if (!image || jset_new(image, "Public", json_false()) < 0)
		return -ENOMEM;
	(void)json_object_del(image, "_LaunchAccounts"); /* absent is what is wanted */
	r = tags_forget(image, image_is_shared);
	if (r == 0)
		r = txn_replace(c->txn, d, give(image));
	if (r == 0)
		*ret_reply = json_pack("{s:b}", "Return", 1);
	return r;
}
