/* Plan, security groups: a set of members and two chains each. */
#include "plan-internal.h"

#include <errno.h>
#include <string.h>

static int has_members(const struct plan_input *in, const char *group_id)
{
	const json_t *eni, *group;
	size_t i, g;

	json_array_foreach (in->network_interfaces, i, eni)
		if (plan_is_active(eni))
			json_array_foreach (json_object_get(eni, "Groups"), g, group)
				if (strcmp(jstr_or(group, "GroupId", ""), group_id) == 0)
					return 1;
	return 0;
}

/* A rule that names a group without members fits nothing, and is left out; so is what only IPv6 or
 * prefix lists could fit. */
static int plan_group_rule(const struct plan_input *in, struct plan *p, const char *chain,
			   const json_t *rule)
{
	int is_egress = jbool(rule, "IsEgress", 0);
	const char *cidr = jstr(rule, "CidrIpv4"),
		   *group = jpath_str(rule, "ReferencedGroupInfo.GroupId");
	char protocol[80], peer[48] = "", set[80] = "";

	if (plan_match_protocol(jstr_or(rule, "IpProtocol", "-1"), jint(rule, "FromPort", -1),
				jint(rule, "ToPort", -1), protocol, sizeof protocol) < 0)
		return 0;
	if (group) {
		if (!has_members(in, group))
			return 0;
		snprintf(set, sizeof set, "-m set --match-set %s %s ", group,
			 is_egress ? "dst" : "src");
	} else if (!cidr) {
		return 0;
	} else if (plan_match_cidr(is_egress ? "-d" : "-s", cidr, peer, sizeof peer) < 0) {
		return -EINVAL;
	}
	ruleset_rule(&p->rules, "filter", chain, "%s%s%s%s", peer, protocol, set,
		     is_egress ? "-g ingress" : "-j ACCEPT");
	return 0;
}

static int plan_group(const struct plan_input *in, struct plan *p, const char *id)
{
	char in_chain[32], out_chain[32];
	struct item *set = items_add(&p->router, ITEM_SET, id);
	const json_t *rule;
	size_t i;

	snprintf(set->text, sizeof set->text, "hash:ip");
	snprintf(in_chain, sizeof in_chain, "%.24s-in", id);
	snprintf(out_chain, sizeof out_chain, "%.24s-out", id);
	ruleset_rule(&p->rules, "filter", "egress", "-m set --match-set %s src -j %s", id,
		     out_chain);
	ruleset_rule(&p->rules, "filter", "ingress", "-m set --match-set %s dst -j %s", id,
		     in_chain);
	ruleset_chain(&p->rules, "filter", in_chain, "-");
	ruleset_chain(&p->rules, "filter", out_chain, "-");
	json_array_foreach (in->security_group_rules, i, rule)
		if (strcmp(jstr_or(rule, "GroupId", ""), id) == 0 &&
		    plan_group_rule(in, p, jbool(rule, "IsEgress", 0) ? out_chain : in_chain,
				    rule) < 0)
			return -EINVAL;
	return 0;
}

int plan_groups(const struct plan_input *in, struct plan *p)
{
	const json_t *group, *eni, *address;
	size_t i, g, a;

	json_array_foreach (in->security_groups, i, group) {
		const char *id = jstr(group, "GroupId");

		if (id && has_members(in, id) && plan_group(in, p, id) < 0)
			return -EINVAL;
	}
	json_array_foreach (in->network_interfaces, i, eni)
		if (plan_is_active(eni))
			json_array_foreach (json_object_get(eni, "Groups"), g, group)
				json_array_foreach (json_object_get(eni, "PrivateIpAddresses"), a,
						    address) {
					struct item *member = items_add(&p->router, ITEM_MEMBER,
									jstr(group, "GroupId"));

					if (ip_any_parse(jstr(address, "PrivateIpAddress"),
							 &member->address) < 0)
						return -EINVAL;
				}
	return 0;
}
