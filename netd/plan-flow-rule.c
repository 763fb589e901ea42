/* Plan, flow logs: the rules of security groups and ACLs in the form that flow lines are told from. */
#include "plan-internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Room for one more in an array that grows by doubling. -ENOMEM. */
static int grow(void *array, size_t n, size_t size)
{
	void **at = array, *grown;

	if (n & (n - 1))
		return 0;
	grown = reallocarray(*at, n ? n * 2 : 1, size);
	if (!grown)
		return -ENOMEM;
	*at = grown;
	return 0;
}

static int net_read(const char *text, struct flow_net *n)
{
	char address[CIDR6_TEXT_MAX];
	const char *slash = strchr(text, '/');

	snprintf(address, sizeof address, "%.*s", (int)strcspn(text, "/"), text);
	if (ip_any_parse(address, &n->address) < 0)
		return -EINVAL;
	n->bits = slash ? (unsigned)atoi(slash + 1) : n->address.family == AF_INET6 ? 128 : 32;
	return 0;
}

static int net_add(struct flow_rules *s, const char *text)
{
	struct flow_net n = {0};

	if (net_read(text, &n) < 0)
		return 0; /* checked when it was written */
	if (grow(&s->nets, s->n_nets, sizeof *s->nets) < 0)
		return -ENOMEM;
	memset(&s->nets[s->n_nets], 0, sizeof *s->nets); /* compared by memory */
	s->nets[s->n_nets].address = n.address;
	s->nets[s->n_nets++].bits = n.bits;
	return 0;
}

/* The addresses and prefixes of an interface. */
static int addresses_add(struct flow_rules *s, const json_t *eni)
{
	const json_t *address;
	size_t i;
	int r = 0;

	plan_addresses_each(of)
		json_array_foreach (json_object_get(eni, of->list), i, address) if (r == 0) r =
			net_add(s, jstr_or(address, of->element, ""));
	return r;
}

json_t *plan_flow_members(const struct plan_input *in)
{
	OWN(json_decref) json_t *members = json_object();
	const json_t *group;
	json_t *eni;
	size_t i, g;

	json_array_foreach (in->network_interfaces, i, eni)
		json_array_foreach (json_object_get(eni, "Groups"), g, group)
			if (jarray_add_under(members, jstr_or(group, "GroupId", ""), eni) < 0)
				return NULL;
	return give(members);
}

static int members_add(struct flow_rules *s, const struct plan_input *in, const json_t *members,
		       const char *group_id)
{
	const json_t *eni, *address;
	size_t i;
	int r = 0;

	json_array_foreach (json_object_get(members, group_id), i, eni)
		if (r == 0)
			r = addresses_add(s, eni);
	json_array_foreach (json_object_get(in->peer_groups, group_id), i, address)
		if (r == 0)
			r = net_add(s,
				    json_string_value(address) ? json_string_value(address) : "");
	return r;
}

static int blocks_add(struct flow_rules *s, const struct plan_input *in, const char *list_id)
{
	const json_t *list = plan_find(in->prefix_lists, "PrefixListId", list_id), *entry;
	size_t i;
	int r = 0;

	json_array_foreach (json_object_get(list, "Entries"), i, entry)
		if (r == 0)
			r = net_add(s, jstr_or(entry, "Cidr", ""));
	return r;
}

static int nets_add(struct flow_rules *s, const struct plan_input *in, const json_t *members,
		    const json_t *rule)
{
	const char *group = jpath_str(rule, "ReferencedGroupInfo.GroupId"),
		   *list = jstr(rule, "PrefixListId"), *cidr = jstr(rule, "CidrIpv4");

	if (group)
		return members_add(s, in, members, group);
	if (list)
		return blocks_add(s, in, list);
	return net_add(s, cidr ? cidr : jstr_or(rule, "CidrIpv6", ""));
}

static int protocol_of(const char *text)
{
	static const struct {
		const char *name;
		int number;
	} names[] = {{"tcp", IPPROTO_TCP},
		     {"udp", IPPROTO_UDP},
		     {"icmp", IPPROTO_ICMP},
		     {"icmpv6", IPPROTO_ICMPV6},
		     {"all", -1}};

	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		if (strcmp(names[i].name, text) == 0)
			return names[i].number;
	return atoi(text);
}

static int rule_add(struct flow_rules *s, const struct plan_input *in, const json_t *members,
		    const json_t *rule)
{
	struct flow_rule *r;

	if (grow(&s->rules, s->n_rules, sizeof *s->rules) < 0)
		return -ENOMEM;
	r = memset(&s->rules[s->n_rules++], 0, sizeof *r);
	snprintf(r->id, sizeof r->id, "%s", jstr_or(rule, "SecurityGroupRuleId", "-"));
	r->is_egress = jbool(rule, "IsEgress", 0);
	r->protocol = protocol_of(jstr_or(rule, "IpProtocol", "-1"));
	r->from = (int)jint(rule, "FromPort", -1);
	r->to = (int)jint(rule, "ToPort", -1);
	r->first_net = s->n_nets;
	if (nets_add(s, in, members, rule) < 0)
		return -ENOMEM;
	r->n_nets = s->n_nets - r->first_net;
	return 0;
}

static int group_add(struct flow_rules *s, const struct plan_input *in, const json_t *members,
		     const char *id)
{
	const json_t *rule;
	size_t i;
	int r = 0;

	if (grow(&s->groups, s->n_groups, sizeof *s->groups) < 0)
		return -ENOMEM;
	struct flow_group *g = memset(&s->groups[s->n_groups++], 0, sizeof *g);

	snprintf(g->id, sizeof g->id, "%s", id);
	g->first_rule = s->n_rules;
	json_array_foreach (json_object_get(in->group_rules, id), i, rule)
		if (r == 0)
			r = rule_add(s, in, members, rule);
	g->n_rules = s->n_rules - g->first_rule;
	return r;
}

int plan_flow_groups(struct flow_rules *s, const struct plan_input *in, const json_t *members,
		     const json_t *eni, struct flow_interface *i)
{
	const json_t *group;
	size_t g, known;

	json_array_foreach (json_object_get(eni, "Groups"), g, group) {
		const char *id = jstr_or(group, "GroupId", "");

		for (known = 0; known < s->n_groups && strcmp(s->groups[known].id, id) != 0;)
			known++;
		if (known == s->n_groups && group_add(s, in, members, id) < 0)
			return -ENOMEM;
		if (i->n_groups < FLOW_GROUPS_PER_INTERFACE)
			i->groups[i->n_groups++] = (unsigned short)known;
	}
	return 0;
}

/* ---- ACLs ---- */

static int by_number(const void *va, const void *vb)
{
	const struct flow_entry *a = va, *b = vb;

	return a->number < b->number ? -1 : a->number > b->number;
}

static int entry_add(struct flow_rules *s, const json_t *entry)
{
	const char *cidr = jstr(entry, "CidrBlock");
	struct flow_net n = {0};
	struct flow_entry *e;

	if (net_read(cidr ? cidr : jstr_or(entry, "Ipv6CidrBlock", ""), &n) < 0)
		return 0; /* checked when it was written */
	if (grow(&s->entries, s->n_entries, sizeof *s->entries) < 0)
		return -ENOMEM;
	e = memset(&s->entries[s->n_entries++], 0, sizeof *e); /* compared by memory */
	e->number = (int)jint(entry, "RuleNumber", 0);
	e->is_egress = jbool(entry, "Egress", 0);
	e->is_allow = strcmp(jstr_or(entry, "RuleAction", ""), "allow") == 0;
	e->protocol = protocol_of(jstr_or(entry, "Protocol", "-1"));
	int is_icmp = e->protocol == IPPROTO_ICMP || e->protocol == IPPROTO_ICMPV6;
	const json_t *range = json_object_get(entry, is_icmp ? "IcmpTypeCode" : "PortRange");

	e->from = (int)jint(range, is_icmp ? "Type" : "From", -1);
	e->to = (int)jint(range, is_icmp ? "Code" : "To", -1);
	e->net.address = n.address;
	e->net.bits = n.bits;
	return 0;
}

static int acl_add(struct flow_rules *s, const json_t *acl)
{
	const json_t *entry;
	size_t i;
	int r = 0;

	if (grow(&s->acls, s->n_acls, sizeof *s->acls) < 0)
		return -ENOMEM;
	struct flow_acl *a = memset(&s->acls[s->n_acls++], 0, sizeof *a);

	snprintf(a->id, sizeof a->id, "%s", jstr_or(acl, "NetworkAclId", ""));
	a->first_entry = s->n_entries;
	json_array_foreach (json_object_get(acl, "Entries"), i, entry)
		if (r == 0)
			r = entry_add(s, entry);
	a->n_entries = s->n_entries - a->first_entry;
	if (a->n_entries)
		qsort(s->entries + a->first_entry, a->n_entries, sizeof *s->entries, by_number);
	return r;
}

int plan_flow_acl(struct flow_rules *s, const struct plan_input *in, struct flow_interface *i)
{
	const json_t *acl;
	size_t a, known;

	json_array_foreach (in->network_acls, a, acl) {
		if (!plan_find(json_object_get(acl, "Associations"), "SubnetId", i->subnet_id))
			continue;
		for (known = 0; known < s->n_acls &&
				strcmp(jstr_or(acl, "NetworkAclId", ""), s->acls[known].id) != 0;)
			known++;
		if (known == s->n_acls && acl_add(s, acl) < 0)
			return -ENOMEM;
		i->acl = known + 1;
	}
	return 0;
}
