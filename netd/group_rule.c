/* Rules of security groups: to allow, revoke and describe them. What is answered is in force. */
#include "group_rule.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "describe.h"
#include "group.h"
#include "group-peer.h"
#include "permission.h"
#include "prefix-list.h"

static const struct filter rule_filters[] = {
	{"group-id", "GroupId"},
	{"security-group-rule-id", "SecurityGroupRuleId"},
	FILTER_TAGS,
	{NULL},
};

static int add_arn(const struct call *c, json_t *rule)
{
	return jset_new(rule, "SecurityGroupRuleArn",
			arn_new(c, jstr_or(rule, "GroupOwnerId", ""), "security-group-rule",
				jstr_or(rule, "SecurityGroupRuleId", "")));
}

/* What is known of a peering connection changes without its rules. */
static json_t *present(const struct call *c, const struct doc *d)
{
	const json_t *reference = json_object_get(d->json, "ReferencedGroupInfo");
	const char *status = group_peering_status(c->store, reference);
	OWN(json_decref) json_t *shown = doc_edit(d);

	if (!shown || add_arn(c, shown) < 0 ||
	    (status &&
	     jset(json_object_get(shown, "ReferencedGroupInfo"), "PeeringStatus", status) < 0))
		return NULL;
	return give(shown);
}

static const struct describe rules = {
	.kind = "security-group-rule",
	.result = "SecurityGroupRules",
	.ids = "SecurityGroupRuleIds",
	.prefix = "sgr",
	.malformed = FAULT_INVALID_SECURITY_GROUP_RULE_ID_MALFORMED,
	.not_found = FAULT_INVALID_SECURITY_GROUP_RULE_ID_NOT_FOUND,
	.filters = rule_filters,
	.present = present,
};

int describe_security_group_rules(struct call *c, json_t *parameters, json_t **ret_reply,
				  struct fault *f)
{
	return describe_run(c, &rules, parameters, ret_reply, f);
}

int group_rules_add(const struct call *c, json_t *group, const json_t *drafts, json_t *tags,
		    json_t **ret_rules)
{
	OWN(json_decref) json_t *added = json_array();
	json_t *draft;
	size_t i;

	json_array_foreach ((json_t *)drafts, i, draft) {
		char id[ID_MAX];
		json_t *rule = json_deep_copy(draft);

		id_new("sgr", id);
		if (json_array_append_new(added, rule) < 0 ||
		    jset(rule, "SecurityGroupRuleId", id) < 0 ||
		    jset(rule, "GroupId", jstr(group, "GroupId")) < 0 ||
		    jset(rule, "GroupOwnerId", c->ctx->account) < 0 ||
		    jset_new(rule, "Tags", tags_or_none(tags)) < 0 ||
		    json_array_append_new(json_object_get(group, "_Rules"), json_string(id)) < 0)
			return -ENOMEM;
		int r = put_new(c, &kind_security_group_rule, id, json_incref(rule));

		if (r < 0)
			return r;
	}
	*ret_rules = give(added);
	return 0;
}

/* How many rules of its family a rule counts for. One that names a prefix list counts for as many
 * as the list may ever have. Source: Amazon VPC quotas. */
static size_t weight(const struct call *c, const json_t *rule, int is_v6)
{
	const char *list_id = jstr(rule, "PrefixListId");

	if (list_id && prefix_list_is_ipv6(txn_look(c->txn, "prefix-list", list_id)) == is_v6)
		return prefix_list_weight(c, list_id);
	/* AWS counts rules for IPv4 and IPv6 apart; one that names a group counts for both. */
	return !list_id && !jstr(rule, is_v6 ? "CidrIpv4" : "CidrIpv6");
}

static int are_too_many(const struct call *c, const json_t *existing, const json_t *drafts)
{
	const json_t *lists[] = {existing, drafts};
	size_t n_v4 = 0, n_v6 = 0;

	for (int k = 0; k < 2; k++) {
		json_t *rule;
		size_t i;

		json_array_foreach ((json_t *)lists[k], i, rule) {
			n_v4 += weight(c, rule, 0);
			n_v6 += weight(c, rule, 1);
		}
	}
	return n_v4 > LIMIT_RULES_PER_GROUP || n_v6 > LIMIT_RULES_PER_GROUP;
}

int rules_limit_check(const struct call *c, const json_t *existing, const json_t *drafts,
		      struct fault *f)
{
	if (!are_too_many(c, existing, drafts))
		return 0;
	return fault_set(f, FAULT_RULES_PER_SECURITY_GROUP_LIMIT_EXCEEDED,
			 "The maximum number of rules per security group has been reached.");
}

int group_is_within_limits(const struct call *c, const json_t *group)
{
	OWN(json_decref) json_t *ingress = group_rules(c->store, group, 0);
	OWN(json_decref) json_t *egress = group_rules(c->store, group, 1);

	return !are_too_many(c, ingress, NULL) && !are_too_many(c, egress, NULL);
}

json_t *rule_find(const json_t *list, const json_t *rule)
{
	json_t *other;
	size_t i;

	json_array_foreach ((json_t *)list, i, other)
		if (rule_is_same(other, rule))
			return other;
	return NULL;
}

static int duplicate_check(const json_t *existing, const json_t *drafts, struct fault *f)
{
	char text[200];
	json_t *draft;
	size_t i;

	json_array_foreach ((json_t *)drafts, i, draft)
		if (rule_find(existing, draft)) {
			rule_format(draft, text);
			return fault_set(f, FAULT_INVALID_PERMISSION_DUPLICATE,
					 "the specified rule \"%s\" already exists", text);
		}
	return 0;
}

static json_t *added_show(const struct call *c, const json_t *added)
{
	OWN(json_decref) json_t *shown = json_array();
	json_t *rule;
	size_t i;

	json_array_foreach ((json_t *)added, i, rule) {
		json_t *copy = json_copy(rule);

		if (json_array_append_new(shown, copy) < 0 || add_arn(c, copy) < 0)
			return NULL;
	}
	return give(shown);
}

static int authorize(struct call *c, json_t *parameters, int is_egress, json_t **ret_reply,
		     struct fault *f)
{
	OWN(json_decref) json_t *permissions = NULL;
	OWN(json_decref) json_t *drafts = NULL;
	OWN(json_decref) json_t *tags = NULL;
	OWN(json_decref) json_t *added = NULL;
	const struct doc *d;
	int r = group_parameter(c, parameters, &d, f);

	if (r == 0)
		r = permissions_parameter(parameters, &permissions, f);
	if (r == 0)
		r = permissions_read(c, d, permissions, is_egress, NULL, &drafts, f);
	if (r == 0)
		r = kind_tags(&kind_security_group_rule, parameters, &tags, f);
	if (r < 0)
		return r;
	OWN(json_decref) json_t *existing = group_rules(c->store, d->json, is_egress);
	OWN(json_decref) json_t *group = doc_edit(d);

	r = duplicate_check(existing, drafts, f);
	if (r == 0)
		r = rules_limit_check(c, existing, drafts, f);
	if (r == 0)
		r = group_rules_add(c, group, drafts, tags, &added);
	if (r == 0)
		r = txn_replace(c->txn, d, json_incref(group));
	if (r == 0)
		r = call_apply(c, jstr_or(group, "VpcId", ""));
	if (r < 0)
		return r;
	*ret_reply =
		json_pack("{s:b s:o}", "Return", 1, "SecurityGroupRules", added_show(c, added));
	return *ret_reply ? 0 : -ENOMEM;
}

int authorize_ingress(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	return authorize(c, parameters, 0, ret_reply, f);
}

int authorize_egress(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	return authorize(c, parameters, 1, ret_reply, f);
}

int rule_get(const struct call *c, const struct doc *group, const char *id, int is_egress,
	     const struct doc **ret_rule, struct fault *f)
{
	int r = kind_get(c, &kind_security_group_rule, "securityGroupRuleId", id, ret_rule, f);

	if (r < 0)
		return r;
	if (!jis((*ret_rule)->json, "GroupId", group->id) ||
	    (is_egress >= 0 && jbool((*ret_rule)->json, "IsEgress", 0) != is_egress))
		return fault_set(f, FAULT_INVALID_SECURITY_GROUP_RULE_ID_NOT_FOUND,
				 "The security group rule ID '%s' does not exist", id);
	return 0;
}

/* The rules that a request means: by ids, or by permissions. What permissions do not find goes
 * to `unknown`. */
static int rules_meant(const struct call *c, const struct doc *group, json_t *parameters,
		       int is_egress, json_t *meant, json_t *unknown, struct fault *f)
{
	json_t *ids = json_object_get(parameters, "SecurityGroupRuleIds"), *item;
	OWN(json_decref) json_t *existing = group_rules(c->store, group->json, is_egress);
	OWN(json_decref) json_t *permissions = NULL;
	OWN(json_decref) json_t *drafts = NULL;
	size_t i;
	int r = 0;

	if (json_array_size(ids) > 0 && json_object_get(parameters, "IpPermissions"))
		return fault_set(f, FAULT_INVALID_PARAMETER_COMBINATION,
				 "The parameters IpPermissions and SecurityGroupRuleIds may not be "
				 "used together");
	json_array_foreach (ids, i, item) {
		const struct doc *rule;

		if (r == 0)
			r = rule_get(c, group, json_string_value(item), is_egress, &rule, f);
		if (r == 0 && !rule_find(meant, rule->json))
			r = json_array_append(meant, rule->json) < 0 ? -ENOMEM : 0;
	}
	if (r < 0 || json_array_size(ids) > 0)
		return r;
	r = permissions_parameter(parameters, &permissions, f);
	if (r == 0)
		r = permissions_read(c, group, permissions, is_egress, existing, &drafts, f);
	if (r < 0)
		return r;
	json_array_foreach (drafts, i, item) {
		json_t *rule = rule_find(existing, item);

		if (json_array_append(rule ? meant : unknown, rule ? rule : item) < 0)
			return -ENOMEM;
	}
	return 0;
}

static int rules_drop(const struct call *c, json_t *group, const json_t *dropped)
{
	json_t *ids = json_object_get(group, "_Rules"), *rule;
	size_t i;

	json_array_foreach ((json_t *)dropped, i, rule) {
		const char *id = jstr(rule, "SecurityGroupRuleId");
		size_t at = 0;
		int r = txn_delete(c->txn, "security-group-rule", id);

		while (at < json_array_size(ids) &&
		       strcmp(json_string_value(json_array_get(ids, at)), id) != 0)
			at++;
		json_array_remove(ids, at);
		if (r < 0)
			return r;
	}
	return 0;
}

/* In a default VPC, AWS answers what it did not find; in others it refuses. Source:
 * RevokeSecurityGroupIngress. */
static int unknown_check(const struct call *c, const struct doc *group, const json_t *unknown,
			 struct fault *f)
{
	const struct doc *vpc = store_find(c->store, "vpc", jstr_or(group->json, "VpcId", ""));

	if (json_array_size(unknown) == 0 || (vpc && jbool(vpc->json, "IsDefault", 0)))
		return 0;
	return fault_set(f, FAULT_INVALID_PERMISSION_NOT_FOUND,
			 "The specified rule does not exist in this security group.");
}

/* The rules that are gone; AWS shows the group that one named as a member of its own here. */
static json_t *revoked_show(const json_t *gone)
{
	OWN(json_decref) json_t *shown = json_array();
	json_t *rule;
	size_t i;

	json_array_foreach ((json_t *)gone, i, rule) {
		const char *group = jpath_str(rule, "ReferencedGroupInfo.GroupId");
		json_t *copy = json_copy(rule);

		if (json_array_append_new(shown, copy) < 0 ||
		    (group && jset(copy, "ReferencedGroupId", group) < 0))
			return NULL;
	}
	return give(shown);
}

static int revoke_rules(struct call *c, json_t *parameters, int is_egress, json_t **ret_reply,
			struct fault *f)
{
	OWN(json_decref) json_t *meant = json_array();
	OWN(json_decref) json_t *unknown = json_array();
	const struct doc *d;
	int r = group_parameter(c, parameters, &d, f);

	if (r == 0)
		r = rules_meant(c, d, parameters, is_egress, meant, unknown, f);
	if (r == 0)
		r = unknown_check(c, d, unknown, f);
	if (r < 0)
		return r;
	OWN(json_decref) json_t *group = doc_edit(d);

	r = rules_drop(c, group, meant);
	if (r == 0)
		r = txn_replace(c->txn, d, json_incref(group));
	if (r == 0)
		r = call_apply(c, jstr_or(group, "VpcId", ""));
	if (r < 0)
		return r;
	*ret_reply = json_pack("{s:b s:o}", "Return", 1, "RevokedSecurityGroupRules",
			       revoked_show(meant));
	if (*ret_reply && json_array_size(unknown) > 0)
		r = jset_new(*ret_reply, "UnknownIpPermissions",
			     permissions_show(c->store, unknown, is_egress));
	return *ret_reply ? r : -ENOMEM;
}

int revoke_ingress(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	return revoke_rules(c, parameters, 0, ret_reply, f);
}

int revoke_egress(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	return revoke_rules(c, parameters, 1, ret_reply, f);
}
