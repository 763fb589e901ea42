/* Plan, security groups: a set of members and two chains each. */
#include "plan-internal.h"
#include "plan-memo.h"

#include <errno.h>
#include <string.h>

static int family_of(enum rules_family family)
{
	return family == RULES_IPV6 ? AF_INET6 : AF_INET;
}

/* The name of the group's members of the family. */
static void set_name(enum rules_family family, const char *group_id, char ret_name[static 32])
{
	snprintf(ret_name, 32, "%.24s%s", group_id, family == RULES_IPV6 ? PLAN_SUFFIX6 : "");
}

/* What is asked for every rule. */
struct index {
	json_t *members; /* by a group's id: [addresses and prefixes], none of a peer's; no group has
			    none */
	json_t *peers;	 /* of the group under way: what its rules name, and whether it is there */
	json_t *depths;	 /* by a group's id: see plan_dispatch() */
};

static void own_index_clear(struct index *x)
{
	json_decref(x->members);
	json_decref(x->peers);
	json_decref(x->depths);
}

static int index_addresses(struct index *x, const char *group_id, const json_t *eni,
			   const struct plan_addresses *of)
{
	json_t *address;
	size_t i;
	int r = 0;

	json_array_foreach (json_object_get(eni, of->list), i, address)
		if (r == 0)
			r = jarray_add_under(x->members, group_id,
					     json_object_get(address, of->element));
	return r;
}

static int index_members(const struct plan_input *in, enum rules_family family, struct index *x)
{
	const json_t *eni, *group;
	const char *id;
	json_t *list;
	size_t i, g;
	int r = 0;

	json_object_foreach (in->peer_groups, id, list)
		if (plan_peer_group(in, NULL, family_of(family), id, NULL) > 0)
			r |= json_object_set_new(x->members, id, json_array());
	json_array_foreach (in->network_interfaces, i, eni)
		plan_addresses_each(of) if (of->family == family_of(family))
			json_array_foreach (json_object_get(eni, "Groups"), g, group) r |=
			index_addresses(x, jstr_or(group, "GroupId", ""), eni, of);
	return r < 0 ? -ENOMEM : 0;
}

/* A group with members, or a prefix list of the family; the list's set is planned. 1, 0 or an
 * error.
 */
static int is_there(const struct plan_input *in, struct plan *p, enum rules_family family,
		    const struct index *x, const char *peer)
{
	int r;

	if (strncmp(peer, "pl-", 3) != 0)
		return json_object_get(x->members, peer) != NULL;
	r = plan_prefix_set(in, p, family, peer);
	return r == -ENOENT ? 0 : r < 0 ? r : 1;
}

/* The peers are there or not as they were. 1, 0 or an error. */
static int are_there_as_before(const struct plan_input *in, struct plan *p,
			       enum rules_family family, const struct index *x, json_t *peers)
{
	const char *peer;
	json_t *was;

	json_object_foreach (peers, peer, was) {
		int r = is_there(in, p, family, x, peer);

		if (r < 0 || r != json_is_true(was))
			return r < 0 ? r : 0;
	}
	return 1;
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
		const char *peer_id = group ? group : list;
		int r = is_there(in, p, family, x, peer_id);

		if (r >= 0 && json_object_set_new(x->peers, peer_id, json_boolean(r)) < 0)
			return -ENOMEM;
		if (r <= 0)
			return r;
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

static int plan_group_rules(const struct plan_input *in, struct plan *p, enum rules_family family,
			    struct index *x, const char *id, const char *const chains[])
{
	struct ruleset *s = plan_chains(p, family);
	json_t *rules = json_object_get(in->group_rules, id), *rule;
	const struct memo_group *known = plan_memo_find(in->memo, family, id, rules);
	int r = known ? are_there_as_before(in, p, family, x, known->peers) : 0;
	size_t i;

	if (r < 0)
		return r;
	for (i = 0; r && i < MEMO_CHAINS; i++)
		ruleset_append(s, "filter", chains[i], known->text[i]);
	if (r)
		return 0;
	json_object_clear(x->peers);
	json_array_foreach (rules, i, rule) {
		int way = jbool(rule, "IsEgress", 0) ? MEMO_OUT : MEMO_IN;

		r = plan_group_rule(in, p, family, x, chains[way], rule);
		if (r < 0)
			return r;
	}
	OWN(json_decref) json_t *peers = json_copy(x->peers);
	const char *const texts[] = {ruleset_text(s, "filter", chains[MEMO_IN]),
				     ruleset_text(s, "filter", chains[MEMO_OUT])};

	if (!peers)
		return -ENOMEM;
	plan_memo_put(in->memo, family, id, rules, peers, texts);
	return 0;
}

void plan_member_set(struct plan *p, enum rules_family family, const char *name)
{
	struct item *set = items_add(&p->router, ITEM_SET, name);

	snprintf(set->text, sizeof set->text, family == RULES_IPV6 ? "hash:net" : "hash:ip");
	set->address.family = family == RULES_IPV6 ? AF_INET6 : 0;
}

static int plan_group(const struct plan_input *in, struct plan *p, enum rules_family family,
		      struct index *x, const char *id)
{
	struct ruleset *s = plan_chains(p, family);
	char in_chain[32], out_chain[32], name[32];
	const char *const chains[] = {[MEMO_IN] = in_chain, [MEMO_OUT] = out_chain};

	set_name(family, id, name);
	plan_member_set(p, family, name);
	snprintf(in_chain, sizeof in_chain, "%.24s-in", id);
	snprintf(out_chain, sizeof out_chain, "%.24s-out", id);
	ruleset_chain(s, "filter", in_chain, "-");
	ruleset_chain(s, "filter", out_chain, "-");
	return plan_group_rules(in, p, family, x, id, chains);
}

/* Of the group, and of all branches on the way to it. */
static int memberships_add(struct plan *p, enum rules_family family, const struct index *x,
			   const char *group_id, const json_t *members)
{
	size_t depth = (size_t)json_integer_value(json_object_get(x->depths, group_id)), i;
	char names[PLAN_DEPTH_MAX + 1][32];
	const json_t *text;

	set_name(family, group_id, names[0]);
	for (size_t n = 1; n <= depth; n++)
		plan_set_of_branch(family, group_id, n, names[n]);
	json_array_foreach (members, i, text)
		for (size_t n = 0; n <= depth; n++)
			if (plan_members(&p->router, names[n], json_string_value(text), NULL) < 0)
				return -EINVAL;
	return 0;
}

static int plan_memberships(struct plan *p, enum rules_family family, const struct index *x)
{
	const char *id;
	json_t *members;

	json_object_foreach (x->members, id, members)
		if (memberships_add(p, family, x, id, members) < 0)
			return -EINVAL;
	return 0;
}

/* Peers' groups that rules name. */
static int plan_peer_sets(const struct plan_input *in, struct plan *p, enum rules_family family)
{
	const char *id;
	json_t *list;
	char name[32];

	json_object_foreach (in->peer_groups, id, list) {
		set_name(family, id, name);
		int n = plan_peer_group(in, &p->router, family_of(family), id, name);

		if (n < 0)
			return n;
		if (n > 0)
			plan_member_set(p, family, name);
	}
	return 0;
}

/* Those with members. */
static int plan_chosen(const struct plan_input *in, struct plan *p, enum rules_family family,
		       struct index *x)
{
	OWN(free) const char **ids = calloc(json_array_size(in->security_groups) + 1, sizeof *ids);
	const json_t *group;
	size_t i, n = 0;
	int r = ids ? 0 : -ENOMEM;

	json_array_foreach (in->security_groups, i, group) {
		const char *id = jstr(group, "GroupId");

		if (r < 0 || !id || !json_object_get(x->members, id))
			continue;
		ids[n++] = id;
		r = plan_group(in, p, family, x, id);
	}
	return r < 0 ? r : plan_dispatch(p, family, ids, n, x->depths);
}

int plan_groups(const struct plan_input *in, struct plan *p, enum rules_family family)
{
	OWN(index_clear) struct index x = {json_object(), json_object(), json_object()};
	int r = index_members(in, family, &x);

	if (r == 0)
		r = plan_chosen(in, p, family, &x);
	if (r < 0)
		return r;
	plan_memo_sweep(in->memo, family);
	if ((r = plan_peer_sets(in, p, family)) < 0)
		return r;
	return plan_memberships(p, family, &x);
}
