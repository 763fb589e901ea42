/* Security groups: to describe, make and delete them. Their rules are changed in group_rule.c. */
#include "group.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "describe.h"
#include "permission.h"

/* A value of a rule, as text, against patterns. */
static int value_matches(const json_t *value, const json_t *patterns)
{
	char number[24];
	const char *text = json_string_value(value);
	json_t *pattern;
	size_t i;

	if (json_is_integer(value)) {
		snprintf(number, sizeof number, "%lld", (long long)json_integer_value(value));
		text = number;
	}
	json_array_foreach ((json_t *)patterns, i, pattern)
		if (text && pattern_match(json_string_value(pattern), text))
			return 1;
	return 0;
}

/* The filters "ip-permission.…" look into the rules, which are documents of their own. */
static int has_rule(const struct doc *d, int is_egress, const char *path, const json_t *patterns)
{
	OWN(json_decref) json_t *rules = group_rules(daemon_get()->store, d->json, is_egress);
	json_t *rule;
	size_t i;

	json_array_foreach (rules, i, rule)
		if (value_matches(jpath(rule, path), patterns))
			return 1;
	return 0;
}

#define RULE_FILTER(name, path)                                                                    \
	static int in_##name(const struct doc *d, const json_t *patterns)                          \
	{                                                                                          \
		return has_rule(d, 0, path, patterns);                                             \
	}                                                                                          \
	static int out_##name(const struct doc *d, const json_t *patterns)                         \
	{                                                                                          \
		return has_rule(d, 1, path, patterns);                                             \
	}
RULE_FILTER(cidr, "CidrIpv4")
RULE_FILTER(from_port, "FromPort")
RULE_FILTER(group_id, "ReferencedGroupInfo.GroupId")
RULE_FILTER(group_name, "ReferencedGroupInfo._GroupName")
RULE_FILTER(ipv6_cidr, "CidrIpv6")
RULE_FILTER(prefix_list_id, "PrefixListId")
RULE_FILTER(protocol, "IpProtocol")
RULE_FILTER(to_port, "ToPort")
RULE_FILTER(user_id, "ReferencedGroupInfo.UserId")

static const struct filter group_filters[] = {
	{"description", "Description"},
	{"egress.ip-permission.cidr", NULL, out_cidr},
	{"egress.ip-permission.from-port", NULL, out_from_port},
	{"egress.ip-permission.group-id", NULL, out_group_id},
	{"egress.ip-permission.group-name", NULL, out_group_name},
	{"egress.ip-permission.ipv6-cidr", NULL, out_ipv6_cidr},
	{"egress.ip-permission.prefix-list-id", NULL, out_prefix_list_id},
	{"egress.ip-permission.protocol", NULL, out_protocol},
	{"egress.ip-permission.to-port", NULL, out_to_port},
	{"egress.ip-permission.user-id", NULL, out_user_id},
	{"group-id", "GroupId"},
	{"group-name", "GroupName"},
	{"ip-permission.cidr", NULL, in_cidr},
	{"ip-permission.from-port", NULL, in_from_port},
	{"ip-permission.group-id", NULL, in_group_id},
	{"ip-permission.group-name", NULL, in_group_name},
	{"ip-permission.ipv6-cidr", NULL, in_ipv6_cidr},
	{"ip-permission.prefix-list-id", NULL, in_prefix_list_id},
	{"ip-permission.protocol", NULL, in_protocol},
	{"ip-permission.to-port", NULL, in_to_port},
	{"ip-permission.user-id", NULL, in_user_id},
	{"owner-id", "OwnerId"},
	{"vpc-id", "VpcId"},
	FILTER_TAGS,
	{NULL},
};

static json_t *group_arn(const struct call *c, const char *account, const char *id)
{
	return arn_new(c, account, "security-group", id);
}

static json_t *present(const struct call *c, const struct doc *d)
{
	OWN(json_decref) json_t *shown = json_copy(d->json);
	OWN(json_decref) json_t *rules = group_rules(c->store, d->json, -1);

	if (jset_new(shown, "SecurityGroupArn", group_arn(c, d->account, d->id)) < 0 ||
	    jset_new(shown, "IpPermissions", permissions_show(c->store, rules, 0)) < 0 ||
	    jset_new(shown, "IpPermissionsEgress", permissions_show(c->store, rules, 1)) < 0)
		return NULL;
	return give(shown);
}

static const struct describe groups = {
	.kind = "security-group",
	.result = "SecurityGroups",
	.ids = "GroupIds",
	.prefix = "sg",
	.malformed = FAULT_INVALID_GROUP_ID_MALFORMED,
	.not_found = FAULT_INVALID_GROUP_NOT_FOUND,
	.filters = group_filters,
	.present = present,
};

json_t *group_rules(const struct store *s, const json_t *group, int is_egress)
{
	OWN(json_decref) json_t *rules = json_array();
	json_t *ids = json_object_get(group, "_Rules"), *id;
	size_t i;

	json_array_foreach (ids, i, id) {
		const struct doc *rule =
			store_find(s, "security-group-rule", json_string_value(id));

		if (rule && (is_egress < 0 || jbool(rule->json, "IsEgress", 0) == is_egress) &&
		    json_array_append(rules, rule->json) < 0)
			return NULL;
	}
	return give(rules);
}

const struct doc *group_by_name(const struct call *c, const char *vpc_id, const char *name)
{
	store_each (c->store, "security-group", d)
		if (is_callers(c, d) && jis(d->json, "VpcId", vpc_id) &&
		    jis(d->json, "GroupName", name))
			return d;
	return NULL;
}

static int get_by_default_name(const struct call *c, const char *name, const struct doc **ret_group,
			       struct fault *f)
{
	const struct doc *vpc = vpc_default(c);

	if (!vpc)
		return fault_set(f, FAULT_VPC_ID_NOT_SPECIFIED, "No default VPC for this user");
	const struct doc *group = group_by_name(c, vpc->id, name);

	if (!group)
		return fault_set(f, FAULT_INVALID_GROUP_NOT_FOUND,
				 "The security group '%.64s' does not exist in default VPC '%s'",
				 name ? name : "", vpc->id);
	*ret_group = group;
	return 0;
}

int group_parameter(const struct call *c, json_t *parameters, const struct doc **ret_group,
		    struct fault *f)
{
	const char *id = jstr(parameters, "GroupId"), *name = jstr(parameters, "GroupName");

	if (id && name)
		return fault_set(f, FAULT_INVALID_PARAMETER_COMBINATION,
				 "The parameters GroupId and GroupName may not be used together");
	if (name)
		return get_by_default_name(c, name, ret_group, f);
	return kind_get(c, &kind_security_group, "groupName or groupId", id, ret_group, f);
}

/* GroupNames are turned into ids, so that an unknown one fails like an unknown id. */
int describe_security_groups(struct call *c, json_t *parameters, json_t **ret_reply,
			     struct fault *f)
{
	json_t *names = json_object_get(parameters, "GroupNames"), *name;
	size_t i;

	if (json_array_size(names) == 0)
		return describe_run(c, &groups, parameters, ret_reply, f);
	OWN(json_decref) json_t *changed = json_copy(parameters);
	OWN(json_decref) json_t *ids = json_array();
	json_t *given = json_object_get(parameters, "GroupIds");
	int r = given ? jarray_extend_all(ids, given) : 0;

	json_array_foreach (names, i, name) {
		const struct doc *group;

		if (r == 0)
			r = get_by_default_name(c, json_string_value(name), &group, f);
		if (r == 0 && !jarray_has(ids, group->id))
			r = json_array_append_new(ids, json_string(group->id)) < 0 ? -ENOMEM : 0;
	}
	if (r < 0)
		return r;
	json_object_del(changed, "GroupNames");
	r = jset_new(changed, "GroupIds", give(ids));
	return r < 0 ? r : describe_run(c, &groups, changed, ret_reply, f);
}

static json_t *group_json(const struct call *c, const char *id, const char *vpc_id,
			  const char *name, const char *description, json_t *tags)
{
	return json_pack("{s:s s:s s:s s:s s:s s:o s:[]}", "GroupId", id, "GroupName", name,
			 "Description", description, "VpcId", vpc_id, "OwnerId", c->ctx->account,
			 "Tags", tags_or_none(tags), "_Rules");
}

static json_t *draft_all(int is_egress, const char *peer, json_t *value)
{
	return json_pack("{s:b s:s s:i s:i s:o}", "IsEgress", is_egress, "IpProtocol", "-1",
			 "FromPort", -1, "ToPort", -1, peer, value);
}

/* Every group begins with leave to send anywhere; a default group also hears its own members. */
static int group_make(const struct call *c, json_t *group, int is_default, int has_ipv6)
{
	OWN(json_decref) json_t *drafts = json_array();
	OWN(json_decref) json_t *rules = NULL;
	const char *id = jstr(group, "GroupId");

	if (is_default &&
	    json_array_append_new(
		    drafts, draft_all(0, "ReferencedGroupInfo",
				      json_pack("{s:s s:s s:s}", "GroupId", id, "UserId",
						c->ctx->account, "_GroupName", "default"))) < 0)
		return -ENOMEM;
	if (json_array_append_new(drafts, draft_all(1, "CidrIpv4", json_string("0.0.0.0/0"))) < 0)
		return -ENOMEM;
	if (has_ipv6 &&
	    json_array_append_new(drafts, draft_all(1, "CidrIpv6", json_string("::/0"))) < 0)
		return -ENOMEM;
	int r = group_rules_add(c, group, drafts, NULL, &rules);

	return r < 0 ? r : put_new(c, &kind_security_group, id, json_incref(group));
}

int group_make_default(const struct call *c, const char *vpc_id, int has_ipv6,
		       char ret_id[static ID_MAX], struct fault *f)
{
	(void)f;
	id_new("sg", ret_id);
	OWN(json_decref)
	json_t *group =
		group_json(c, ret_id, vpc_id, "default", "default VPC security group", NULL);

	return group ? group_make(c, group, 1, has_ipv6) : -ENOMEM;
}

/* The group lets out what it let out when it was born in a VPC without IPv6. */
static int is_egress_untouched(const struct call *c, const json_t *group)
{
	OWN(json_decref) json_t *rules = group_rules(c->store, group, 1);
	const json_t *only = json_array_get(rules, 0);

	return json_array_size(rules) == 1 && jis(only, "IpProtocol", "-1") &&
	       jis(only, "CidrIpv4", "0.0.0.0/0");
}

int groups_add_ipv6(const struct call *c, const char *vpc_id)
{
	store_each (c->store, "security-group", d) {
		if (!jis(d->json, "VpcId", vpc_id) || !is_egress_untouched(c, d->json))
			continue;
		OWN(json_decref) json_t *json = doc_edit(d);
		OWN(json_decref)
		json_t *drafts = json_pack("[o]", draft_all(1, "CidrIpv6", json_string("::/0")));
		OWN(json_decref) json_t *rules = NULL;
		int r = json && drafts ? group_rules_add(c, json, drafts, NULL, &rules) : -ENOMEM;

		if (r == 0)
			r = txn_replace(c->txn, d, give(json));
		if (r < 0)
			return r;
	}
	return 0;
}

static int name_check(const struct call *c, const char *vpc_id, const char *name,
		      const char *description, struct fault *f)
{
	if (!*name || !description_is_valid(name))
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "Value (%.64s) for parameter GroupName is invalid. Character sets "
				 "beyond ASCII are not supported.",
				 name);
	if (strncmp(name, "sg-", 3) == 0)
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "Value (%.64s) for parameter groupName is invalid. Group names "
				 "may not be in the format sg-*.",
				 name);
	if (strcmp(name, "default") == 0)
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "Cannot use reserved security group name: default");
	if (!*description || !description_is_valid(description))
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "Value (%.64s) for parameter GroupDescription is invalid. "
				 "Character sets beyond ASCII are not supported.",
				 description);
	if (group_by_name(c, vpc_id, name))
		return fault_set(f, FAULT_INVALID_GROUP_DUPLICATE,
				 "The security group '%.255s' already exists for VPC '%s'", name,
				 vpc_id);
	return 0;
}

int create_security_group(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	const char *description = jstr_or(parameters, "Description", "");
	char name[260], id[ID_MAX];
	const struct doc *vpc;
	OWN(json_decref) json_t *tags = NULL;
	int r = vpc_get_or_default(c, parameters, &vpc, f);

	if (r < 0)
		return r;
	snprintf(name, sizeof name, "%s", jstr_or(parameters, "GroupName", ""));
	for (size_t n = strlen(name); n > 0 && name[n - 1] == ' ';)
		name[--n] = '\0'; /* AWS trims trailing spaces */
	r = name_check(c, vpc->id, name, description, f);
	if (r == 0)
		r = kind_tags(&kind_security_group, parameters, &tags, f);
	if (r < 0)
		return r;
	if (kind_count(c, &kind_security_group) >= LIMIT_GROUPS_PER_REGION)
		return fault_set(f, FAULT_SECURITY_GROUP_LIMIT_EXCEEDED,
				 "The maximum number of security groups has been reached.");
	id_new("sg", id);
	OWN(json_decref) json_t *group = group_json(c, id, vpc->id, name, description, tags);

	r = group ? group_make(c, group, 0,
			       json_array_size(json_object_get(vpc->json,
							       "Ipv6CidrBlockAssociationSet")) > 0)
		  : -ENOMEM;
	if (r < 0)
		return r;
	*ret_reply = json_pack("{s:s s:o s:O}", "GroupId", id, "SecurityGroupArn",
			       group_arn(c, c->ctx->account, id), "Tags", tags);
	return *ret_reply ? 0 : -ENOMEM;
}

int group_drop(const struct call *c, const char *group_id)
{
	const struct doc *group = store_find(c->store, "security-group", group_id);
	json_t *ids = group ? json_object_get(group->json, "_Rules") : NULL, *id;
	size_t i;
	int r = 0;

	json_array_foreach (ids, i, id)
		if (r == 0)
			r = txn_delete(c->txn, "security-group-rule", json_string_value(id));
	return r < 0 || !group ? r : txn_delete(c->txn, "security-group", group_id);
}

/* An interface is in the group, or a rule of another group refers to it. */
static int is_in_use(const struct call *c, const struct doc *group)
{
	store_each (c->store, "network-interface", d) {
		json_t *list = json_object_get(d->json, "Groups"), *g;
		size_t i;

		json_array_foreach (list, i, g)
			if (jis(g, "GroupId", group->id))
				return 1;
	}
	store_each (c->store, "security-group-rule", d) {
		const json_t *reference = json_object_get(d->json, "ReferencedGroupInfo");

		/* One from a peered VPC does not hold it: it becomes stale. */
		if (jis(reference, "GroupId", group->id) &&
		    !jstr(reference, "VpcPeeringConnectionId") &&
		    !jis(d->json, "GroupId", group->id))
			return 1;
	}
	return 0;
}

int delete_security_group(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	const struct doc *group;
	int r = group_parameter(c, parameters, &group, f);

	if (r < 0)
		return r;
	if (jis(group->json, "GroupName", "default"))
		return fault_set(
			f, FAULT_CANNOT_DELETE,
			"the specified group: \"%s\" name: \"default\" cannot be deleted by a user",
			group->id);
	if (is_in_use(c, group))
		return fault_set(f, FAULT_DEPENDENCY_VIOLATION,
				 "resource %s has a dependent object", group->id);
	*ret_reply = json_pack("{s:b s:s}", "Return", 1, "GroupId", group->id);
	return group_drop(c, group->id);
}
