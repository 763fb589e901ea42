/* Rules of security groups that are there already: another description, another rule under the same
 * id. */
#include "group_rule.h"

#include <errno.h>
#include "group.h"
#include "permission.h"

static int describe_anew(const struct call *c, const struct doc *rule, const char *description,
			 struct fault *f)
{
	if (description && !description_is_valid(description))
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "Invalid rule description. Valid descriptions are strings less "
				 "than 256 characters from the "
				 "following set:  a-zA-Z0-9. _-:/()#,@[]+=&;{}!$*");
	OWN(json_decref) json_t *json = doc_edit(rule);
	int r = jset(json, "Description", description && *description ? description : NULL);

	return r < 0 ? r : txn_replace(c->txn, rule, give(json));
}

static int update_descriptions(struct call *c, json_t *parameters, int is_egress,
			       json_t **ret_reply, struct fault *f)
{
	json_t *wishes = json_object_get(parameters, "SecurityGroupRuleDescriptions"), *item;
	OWN(json_decref) json_t *drafts = NULL;
	const struct doc *group, *rule;
	size_t i;
	int r = group_parameter(c, parameters, &group, f);

	if (r == 0 && json_array_size(wishes) == 0 &&
	    json_array_size(json_object_get(parameters, "IpPermissions")) == 0)
		return fault_set(
			f, FAULT_MISSING_PARAMETER,
			"Either IpPermissions or SecurityGroupRuleDescriptions must be specified");
	json_array_foreach (wishes, i, item) {
		if (r == 0)
			r = rule_get(c, group, jstr(item, "SecurityGroupRuleId"), is_egress, &rule,
				     f);
		if (r == 0)
			r = describe_anew(c, rule, jstr(item, "Description"), f);
	}
	if (r < 0)
		return r;
	OWN(json_decref) json_t *existing = group_rules(c->store, group->json, is_egress);

	r = permissions_read(c, group, json_object_get(parameters, "IpPermissions"), is_egress,
			     existing, &drafts, f);
	if (r < 0)
		return r;
	json_array_foreach (drafts, i, item) {
		const json_t *same = rule_find(existing, item);

		if (!same)
			return fault_set(
				f, FAULT_INVALID_PERMISSION_NOT_FOUND,
				"The specified rule does not exist in this security group.");
		r = rule_get(c, group, jstr(same, "SecurityGroupRuleId"), is_egress, &rule, f);
		if (r == 0)
			r = describe_anew(c, rule, jstr(item, "Description"), f);
		if (r < 0)
			return r;
	}
	*ret_reply = reply_true();
	return 0;
}

int update_ingress_descriptions(struct call *c, json_t *parameters, json_t **ret_reply,
				struct fault *f)
{
	return update_descriptions(c, parameters, 0, ret_reply, f);
}

int update_egress_descriptions(struct call *c, json_t *parameters, json_t **ret_reply,
			       struct fault *f)
{
	return update_descriptions(c, parameters, 1, ret_reply, f);
}

/* A SecurityGroupRuleRequest as the one permission with one peer that it is. */
static json_t *permission_of_request(const json_t *request)
{
	const char *v4 = jstr(request, "CidrIpv4"), *v6 = jstr(request, "CidrIpv6");
	const char *list = jstr(request, "PrefixListId"),
		   *group = jstr(request, "ReferencedGroupId");
	const char *text = jstr(request, "Description");

	return json_pack(
		"[{s:s* s:O* s:O* s:o* s:o* s:o* s:o*}]", "IpProtocol", jstr(request, "IpProtocol"),
		"FromPort", json_object_get(request, "FromPort"), "ToPort",
		json_object_get(request, "ToPort"), "IpRanges",
		v4 ? json_pack("[{s:s s:s*}]", "CidrIp", v4, "Description", text) : NULL,
		"Ipv6Ranges",
		v6 ? json_pack("[{s:s s:s*}]", "CidrIpv6", v6, "Description", text) : NULL,
		"PrefixListIds",
		list ? json_pack("[{s:s s:s*}]", "PrefixListId", list, "Description", text) : NULL,
		"UserIdGroupPairs",
		group ? json_pack("[{s:s s:s*}]", "GroupId", group, "Description", text) : NULL);
}

/* One changed rule: put, and replaced in `final`, the group's rules as they will be. */
static int modify_one(const struct call *c, const struct doc *group, const json_t *update,
		      json_t *final, struct fault *f)
{
	const struct doc *rule;
	OWN(json_decref) json_t *drafts = NULL;
	OWN(json_decref)
	json_t *permissions = permission_of_request(json_object_get(update, "SecurityGroupRule"));
	json_t *other;
	size_t i;
	int r = rule_get(c, group, jstr(update, "SecurityGroupRuleId"), -1, &rule, f);

	if (r < 0)
		return r;
	r = permissions_read(c, group, permissions, jbool(rule->json, "IsEgress", 0), NULL, &drafts,
			     f);
	if (r < 0)
		return r;
	if (json_array_size(drafts) != 1)
		return fault_set(f, FAULT_INVALID_PARAMETER_COMBINATION,
				 "Exactly one of CidrIpv4, CidrIpv6, PrefixListId and "
				 "ReferencedGroupId must be specified");
	OWN(json_decref) json_t *json = json_deep_copy(json_array_get(drafts, 0));
	static const char *const kept[] = {"SecurityGroupRuleId", "GroupId", "GroupOwnerId",
					   "Tags"};

	for (size_t k = 0; k < sizeof kept / sizeof *kept; k++)
		if (json_object_set(json, kept[k], json_object_get(rule->json, kept[k])) < 0)
			return -ENOMEM;
	json_array_foreach (final, i, other)
		if (jis(other, "SecurityGroupRuleId", rule->id) &&
		    json_array_set(final, i, json) < 0)
			return -ENOMEM;
	return txn_replace(c->txn, rule, give(json));
}

int modify_security_group_rules(struct call *c, json_t *parameters, json_t **ret_reply,
				struct fault *f)
{
	json_t *updates = json_object_get(parameters, "SecurityGroupRules"), *item;
	const struct doc *group;
	size_t i, k;
	int r = kind_get_parameter(c, &kind_security_group, parameters, "GroupId", &group, f);

	if (r < 0)
		return r;
	if (json_array_size(updates) == 0 || json_array_size(updates) > 2 * LIMIT_RULES_PER_GROUP)
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "Between 1 and %d rules must be specified",
				 2 * LIMIT_RULES_PER_GROUP);
	OWN(json_decref) json_t *kept = json_incref(group->json);
	OWN(json_decref) json_t *final = group_rules(c->store, group->json, -1);

	json_array_foreach (updates, i, item) {
		for (k = 0; k < i; k++)
			if (jis(json_array_get(updates, k), "SecurityGroupRuleId",
				jstr(item, "SecurityGroupRuleId")))
				return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
						 "The security group rule ID '%.64s' was specified "
						 "more than once",
						 jstr(item, "SecurityGroupRuleId"));
		r = modify_one(c, group, item, final, f);
		if (r < 0)
			return r;
	}
	json_array_foreach (final, i, item)
		for (k = 0; k < i; k++)
			if (rule_is_same(item, json_array_get(final, k))) {
				char text[200];

				rule_format(item, text);
				return fault_set(f, FAULT_INVALID_PERMISSION_DUPLICATE,
						 "the specified rule \"%s\" already exists", text);
			}
	for (int is_egress = 0; r == 0 && is_egress < 2; is_egress++) {
		OWN(json_decref) json_t *way = json_array();

		json_array_foreach (final, i, item)
			if (jbool(item, "IsEgress", 0) == is_egress &&
			    json_array_append(way, item) < 0)
				return -ENOMEM;
		r = rules_limit_check(c, way, NULL, f);
	}
	if (r == 0)
		r = txn_replace(c->txn, group, doc_edit(group)); /* as every change of rules does */
	*ret_reply = reply_true();
	return r < 0 ? r : call_apply(c, jstr_or(kept, "VpcId", ""));
}
