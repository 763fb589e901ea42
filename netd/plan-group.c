/* Plan, security groups: a set of members and two chains each. */
#include "plan-internal.h"

#include <errno.h>
#include <string.h>

/* The interface's addresses of the family, and the text of each. */
static const json_t *addresses_of(const json_t *eni, enum rules_family family)
{
	return json_object_get(eni, family == RULES_IPV6 ? "Ipv6Addresses" : "PrivateIpAddresses");
}

static const char *text_of(const json_t *address, enum rules_family family)
{
	return jstr(address, family == RULES_IPV6 ? "Ipv6Address" : "PrivateIpAddress");
}

/* The name of the group's members of the family. */
static void set_name(enum rules_family family, const char *group_id, char ret_name[static 32])
{
	snprintf(ret_name, 32, "%.28s%s", group_id, family == RULES_IPV6 ? "-6" : "");
}

/* What is asked for every rule, by a group's id: its rules; whether it has members. */
struct index {
	json_t *rules, *members;
};

static void own_index_clear(struct index *x)
{
	json_decref(x->rules);
	json_decref(x->members);
}

static int index_rules(const struct plan_input *in, struct index *x)
{
	json_t *group, *rule, *list;
	size_t i;
	int r = 0;

	json_array_foreach (in->security_groups, i, group)
		r |= json_object_set_new(x->rules, jstr_or(group, "GroupId", ""), json_array());
	json_array_foreach (in->security_group_rules, i, rule) {
		list = json_object_get(x->rules, jstr_or(rule, "GroupId", ""));
		if (list)
			r |= json_array_append(list, rule);
	}
	return r < 0 ? -ENOMEM : 0;
}

static int index_members(const struct plan_input *in, enum rules_family family, struct index *x)
{
	const json_t *eni, *group;
	const char *id;
	json_t *list;
	size_t i, g;
	int r = 0;

	json_object_foreach (in->peer_groups, id, list)
		if (family == RULES_IPV4 && json_array_size(list))
			r |= json_object_set_new(x->members, id, json_true());
	json_array_foreach (in->network_interfaces, i, eni)
		if (plan_is_active(eni) && json_array_size(addresses_of(eni, family)))
			json_array_foreach (json_object_get(eni, "Groups"), g, group)
				r |= json_object_set_new(x->members, jstr_or(group, "GroupId", ""),
							 json_true());
	return r < 0 ? -ENOMEM : 0;
}

/* A rule that names a group without members fits nothing, and is left out; so is what only the
 * other family could fit. */
static int plan_group_rule(const struct plan_input *in, struct plan *p, enum rules_family family,
			   const struct index *x, const char *chain, const json_t *rule)
{
	int is_egress = jbool(rule, "IsEgress", 0);
	const char *cidr = jstr(rule, family == RULES_IPV6 ? "CidrIpv6" : "CidrIpv4"),
		   *list = jstr(rule, "PrefixListId"),
		   *group = jpath_str(rule, "ReferencedGroupInfo.GroupId");
	char protocol[80], peer[64] = "", set[80] = "", name[32];

	if (plan_match_protocol(family, jstr_or(rule, "IpProtocol", "-1"),
				jint(rule, "FromPort", -1), jint(rule, "ToPort", -1), protocol,
				sizeof protocol) < 0)
		return 0;
	if (group || list) {
		int r = group ? (json_object_get(x->members, group) ? 0 : -ENOENT)
			      : plan_prefix_set(in, p, family, list);

		if (r < 0)
			return r == -ENOENT ? 0 : r;
		if (group)
			set_name(family, group, name);
		snprintf(set, sizeof set, "-m set --match-set %s %s ", group ? name : list,
			 is_egress ? "dst" : "src");
	} else if (!cidr) {
		return 0;
	} else if (plan_match_cidr(is_egress ? "-d" : "-s", cidr, peer, sizeof peer) < 0) {
		return -EINVAL;
	}
	ruleset_rule(plan_chains(p, family), "filter", chain, "%s%s%s%s", peer, protocol, set,
		     is_egress ? "-g ingress" : "-j ACCEPT");
	return 0;
}

static int plan_group(const struct plan_input *in, struct plan *p, enum rules_family family,
		      const struct index *x, const char *id)
{
	struct ruleset *s = plan_chains(p, family);
	char in_chain[32], out_chain[32], name[32];
	struct item *set;
	const json_t *rule;
	size_t i;

	set_name(family, id, name);
	set = items_add(&p->router, ITEM_SET, name);
	snprintf(set->text, sizeof set->text, "hash:ip");
	set->address.family = family == RULES_IPV6 ? AF_INET6 : 0;
	snprintf(in_chain, sizeof in_chain, "%.24s-in", id);
	snprintf(out_chain, sizeof out_chain, "%.24s-out", id);
	ruleset_rule(s, "filter", "egress", "-m set --match-set %s src -j %s", name, out_chain);
	ruleset_rule(s, "filter", "ingress", "-m set --match-set %s dst -j %s", name, in_chain);
	ruleset_chain(s, "filter", in_chain, "-");
	ruleset_chain(s, "filter", out_chain, "-");
	json_array_foreach (json_object_get(x->rules, id), i, rule)
		if (plan_group_rule(in, p, family, x,
				    jbool(rule, "IsEgress", 0) ? out_chain : in_chain, rule) < 0)
			return -EINVAL;
	return 0;
}

static int plan_members(const struct plan_input *in, struct plan *p, enum rules_family family)
{
	const json_t *group, *eni, *address;
	char name[32];
	size_t i, g, a;

	json_array_foreach (in->network_interfaces, i, eni)
		if (plan_is_active(eni))
			json_array_foreach (json_object_get(eni, "Groups"), g, group)
				json_array_foreach (addresses_of(eni, family), a, address) {
					struct item *member;

					set_name(family, jstr_or(group, "GroupId", ""), name);
					member = items_add(&p->router, ITEM_MEMBER, name);
					if (ip_any_parse(text_of(address, family),
							 &member->address) < 0)
						return -EINVAL;
				}
	return 0;
}

int plan_groups(const struct plan_input *in, struct plan *p, enum rules_family family)
{
	OWN(index_clear) struct index x = {json_object(), json_object()};
	const json_t *group;
	size_t i;
	int r;

	if ((r = index_rules(in, &x)) < 0 || (r = index_members(in, family, &x)) < 0)
		return r;
	json_array_foreach (in->security_groups, i, group) {
		const char *id = jstr(group, "GroupId");

		if (id && json_object_get(x.members, id) && plan_group(in, p, family, &x, id) < 0)
			return -EINVAL;
	}
	if (family == RULES_IPV4 && (r = plan_peer_groups(in, p)) < 0)
		return r;
	return plan_members(in, p, family);
}
