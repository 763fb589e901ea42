/* Snapshot attributes: who may make volumes from a snapshot. */
#include "stord.h"

#include <errno.h>
#include <string.h>
#include "log.h"
#include "tags.h"

#define ACCOUNTS_MAX 1000 /* AWS: "up to 1,000 accounts" */

static int permission_is(const json_t *p, const char *group, const char *account)
{
	return group ? strcmp(jstr_or(p, "Group", ""), group) == 0
		     : account && strcmp(jstr_or(p, "UserId", ""), account) == 0;
}

int snapshot_is_shared(const struct store *s, const struct doc *snapshot, const char *account)
{
	json_t *p;
	size_t i;

	json_array_foreach (json_object_get(snapshot->json, "_Permissions"), i, p)
		if (permission_is(p, NULL, account) ||
		    (permission_is(p, "all", NULL) && !snapshot_hides_public(s, snapshot)))
			return 1;
	return 0;
}

/* Also while its owner hides what is public: it stays marked. */
static int is_permitted(const json_t *snapshot, const char *account)
{
	json_t *p;
	size_t i;

	json_array_foreach (json_object_get(snapshot, "_Permissions"), i, p)
		if (permission_is(p, NULL, account) || permission_is(p, "all", NULL))
			return 1;
	return 0;
}

static int is_public(const json_t *permissions)
{
	json_t *p;
	size_t i;

	json_array_foreach (permissions, i, p)
		if (permission_is(p, "all", NULL))
			return 1;
	return 0;
}

int snapshot_describe_attribute(struct call *c, json_t *parameters, json_t **ret_reply,
				struct fault *f)
{
	const char *attribute = jstr(parameters, "Attribute");
	const struct doc *d = NULL;
	int r = snapshot_get(c, jstr(parameters, "SnapshotId"), &d, f);

	if (r < 0)
		return r;
	json_t *permissions = json_object_get(d->json, "_Permissions");

	if (!attribute)
		return fault_set(f, FAULT_MISSING_PARAMETER,
				 "The request must contain the parameter attribute");
	if (strcmp(attribute, "createVolumePermission") == 0)
		*ret_reply = json_pack("{s:s, s:o}", "SnapshotId", d->id, "CreateVolumePermissions",
				       permissions ? json_incref(permissions) : json_array());
	else if (strcmp(attribute, "productCodes") == 0)
		*ret_reply = json_pack("{s:s, s:[]}", "SnapshotId", d->id, "ProductCodes");
	else
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "Value (%.64s) for parameter attribute is invalid.", attribute);
	return *ret_reply ? 0 : -ENOMEM;
}

/* One change to a list: the permission is there afterwards, or is not. */
static int change(json_t *list, int is_add, const char *group, const char *account, struct fault *f)
{
	size_t i;
	json_t *p;

	if (group && strcmp(group, "all") != 0)
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "Invalid group: \"%.64s\". Only \"all\" is possible.", group);
	if (!group && (!account || strlen(account) != 12 || strspn(account, "0123456789") != 12))
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE, "Invalid user id: \"%.64s\".",
				 account ? account : "");
	json_array_foreach (list, i, p)
		if (permission_is(p, group, account))
			return is_add ? 0 : json_array_remove(list, i);
	if (!is_add)
		return 0;
	if (json_array_size(list) >= ACCOUNTS_MAX)
		return fault_set(f, FAULT_RESOURCE_LIMIT_EXCEEDED,
				 "A snapshot is shared with at most %d accounts.", ACCOUNTS_MAX);
	p = group ? json_pack("{s:s}", "Group", group) : json_pack("{s:s}", "UserId", account);
	return json_array_append_new(list, p) < 0 ? -ENOMEM : 0;
}

static int change_all(json_t *list, int is_add, const json_t *items, struct fault *f)
{
	size_t i;
	json_t *item;
	int r = 0;

	json_array_foreach (items, i, item)
		if (r == 0)
			r = change(list, is_add, jstr(item, "Group"), jstr(item, "UserId"), f);
	return r;
}

/* The older form: OperationType with UserIds and GroupNames. */
static int change_listed(json_t *list, const json_t *parameters, struct fault *f)
{
	const char *operation = jstr(parameters, "OperationType");
	json_t *users = json_object_get(parameters, "UserIds"),
	       *groups = json_object_get(parameters, "GroupNames"), *item;
	int is_add = operation && strcmp(operation, "add") == 0, r = 0;
	size_t i;

	if (json_array_size(users) + json_array_size(groups) == 0)
		return 0;
	if (!is_add && (!operation || strcmp(operation, "remove") != 0))
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "Value (%.32s) for parameter operationType is invalid.",
				 operation ? operation : "");
	json_array_foreach (users, i, item)
		if (r == 0)
			r = change(list, is_add, NULL, json_string_value(item), f);
	json_array_foreach (groups, i, item)
		if (r == 0)
			r = change(list, is_add, json_string_value(item), NULL, f);
	return r;
}

/* Who is to use an encrypted snapshot must be let use its key, which nobody else can of the default
 * one. Source: EBS user guide, "Share an Amazon EBS snapshot". */
static int check_encrypted(const json_t *snapshot, const json_t *permissions, struct fault *f)
{
	const char *key = strrchr(jstr_or(snapshot, "KmsKeyId", ""), ':');
	json_t *p;
	size_t i;

	if (!jbool(snapshot, "Encrypted", 0))
		return 0;
	if (!key || strcmp(key, ":alias/aws/ebs") == 0)
		return fault_set(f, FAULT_OPERATION_NOT_PERMITTED,
				 "Encrypted snapshots with EBS default key cannot be shared");
	json_array_foreach (permissions, i, p)
		if (jstr(p, "Group"))
			return fault_set(f, FAULT_OPERATION_NOT_PERMITTED,
					 "Encrypted snapshots cannot be shared publicly");
	return 0;
}

static int replace_permissions(struct call *c, const struct doc *d, json_t *list)
{
	OWN(json_decref) json_t *permissions = list, *json = doc_edit(d);
	int r = json && permissions ? jset_new(json, "_Permissions", json_incref(permissions))
				    : -ENOMEM;

	if (r == 0)
		r = tags_forget(json, is_permitted);
	if (r == 0)
		r = txn_replace(c->txn, d, give(json));
	if (r == 0)
		log_info("snapshot's permissions changed", "SNAPSHOT_ID", d->id, "REQUEST_ID",
			 c->ctx->request);
	return r;
}

int snapshot_modify_attribute(struct call *c, json_t *parameters, json_t **ret_reply,
			      struct fault *f)
{
	const char *attribute = jstr_or(parameters, "Attribute", "createVolumePermission");
	const json_t *changes = json_object_get(parameters, "CreateVolumePermission");
	const struct doc *d = NULL;
	int r = snapshot_get(c, jstr(parameters, "SnapshotId"), &d, f);

	(void)ret_reply; /* AWS answers nothing */
	if (r < 0)
		return r;
	if (strcmp(attribute, "createVolumePermission") != 0)
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "Value (%.64s) for parameter attribute is invalid.", attribute);
	OWN(json_decref) json_t *list = json_deep_copy(json_object_get(d->json, "_Permissions"));

	if (!list)
		list = json_array();
	r = change_all(list, 1, json_object_get(changes, "Add"), f);
	if (r == 0)
		r = change_all(list, 0, json_object_get(changes, "Remove"), f);
	if (r == 0)
		r = change_listed(list, parameters, f);
	if (r == 0 && is_public(list) && !is_public(json_object_get(d->json, "_Permissions")))
		r = snapshot_check_public(c, f);
	if (r == 0 && json_array_size(list) > 0)
		r = check_encrypted(d->json, list, f);
	return r < 0 ? r : replace_permissions(c, d, give(list));
}

int snapshot_reset_attribute(struct call *c, json_t *parameters, json_t **ret_reply,
			     struct fault *f)
{
	const char *attribute = jstr(parameters, "Attribute");
	const struct doc *d = NULL;
	int r = snapshot_get(c, jstr(parameters, "SnapshotId"), &d, f);

	(void)ret_reply; /* AWS answers nothing */
	if (r < 0)
		return r;
	if (!attribute || strcmp(attribute, "createVolumePermission") != 0)
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "Value (%.64s) for parameter attribute is invalid.",
				 attribute ? attribute : "");
	return replace_permissions(c, d, json_array());
}
