/*
 * Plan, rules: security groups, network ACLs and the router's own protection as iptables chains.
 *
 * - raw PREROUTING: what a guest sends must carry its own address and MAC.
 * - nat PREROUTING: public address → private, for what comes in by the internet gateway;
 *   POSTROUTING is the reverse.
 * - filter FORWARD: ACLs; no public address, no way out; established → accept; egress.
 * - filter egress: the source's groups, each rule "-g ingress".
 * - filter ingress: the destination's groups, each rule "-j ACCEPT"; then DROP.
 * - filter INPUT: DHCP, DNS, instance metadata, echo. Neither groups nor ACLs apply to these in
 * AWS.
 *
 * Groups that refer to groups do so by an ipset of the members' addresses, so a change of
 * membership changes a set and no rule. Rules are written exactly as iptables-save prints them.
 */
#include "plan.h"

#include <errno.h>
#include <string.h>
#include "cidr.h"
#include "jsonx.h"

/* "-s 10.0.0.0/8 " or nothing for everything. */
static int match_cidr(const char *flag, const char *cidr, char *out, size_t n_out)
{
	struct cidr c;
	char canonical[CIDR_TEXT_MAX];

	if (cidr_parse(cidr, &c) < 0)
		return -EINVAL;
	cidr_format(cidr_canonical(c), canonical);
	snprintf(out, n_out, "%s%s%s%s", c.bits ? flag : "", c.bits ? " " : "",
		 c.bits ? canonical : "", c.bits ? " " : "");
	return 0;
}

/* AWS's protocol and ports (ICMP: type and code) as a match. -ENOENT: nothing in IPv4 fits it. */
static int match_protocol(const char *protocol, int64_t from, int64_t to, char *out, size_t n_out)
{
	static const struct {
		const char *aws, *iptables;
	} names[] = {{"6", "tcp"}, {"17", "udp"}, {"1", "icmp"}};
	const char *name = protocol;

	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		if (strcmp(protocol, names[i].aws) == 0)
			name = names[i].iptables;
	out[0] = '\0';
	if (strcmp(name, "-1") == 0 || strcmp(name, "all") == 0)
		return 0;
	if (strcmp(name, "icmpv6") == 0 || strcmp(name, "58") == 0)
		return -ENOENT;
	if (strcmp(name, "icmp") == 0) {
		if (from < 0)
			snprintf(out, n_out, "-p icmp ");
		else if (to < 0)
			snprintf(out, n_out, "-p icmp -m icmp --icmp-type %d ", (int)from);
		else
			snprintf(out, n_out, "-p icmp -m icmp --icmp-type %d/%d ", (int)from,
				 (int)to);
	} else if (strcmp(name, "tcp") == 0 || strcmp(name, "udp") == 0) {
		if (from < 0 || (from == 0 && to >= 65535))
			snprintf(out, n_out, "-p %s ", name);
		else if (from == to)
			snprintf(out, n_out, "-p %s -m %s --dport %d ", name, name, (int)from);
		else
			snprintf(out, n_out, "-p %s -m %s --dport %d:%d ", name, name, (int)from,
				 (int)to);
	} else {
		snprintf(out, n_out, "-p %s ", name);
	}
	return 0;
}

/* ---- security groups ---- */

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

	if (match_protocol(jstr_or(rule, "IpProtocol", "-1"), jint(rule, "FromPort", -1),
			   jint(rule, "ToPort", -1), protocol, sizeof protocol) < 0)
		return 0;
	if (group) {
		if (!has_members(in, group))
			return 0;
		snprintf(set, sizeof set, "-m set --match-set %s %s ", group,
			 is_egress ? "dst" : "src");
	} else if (!cidr) {
		return 0;
	} else if (match_cidr(is_egress ? "-d" : "-s", cidr, peer, sizeof peer) < 0) {
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

static int plan_groups(const struct plan_input *in, struct plan *p)
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

					if (ip_parse(jstr(address, "PrivateIpAddress"),
						     &member->address) < 0)
						return -EINVAL;
				}
	return 0;
}

/* ---- network ACLs ---- */

#define NUMBER_LAST 32767

static int by_number(const void *va, const void *vb)
{
	const json_t *a = *(const json_t *const *)va, *b = *(const json_t *const *)vb;
	int64_t x = jint(a, "RuleNumber", NUMBER_LAST), y = jint(b, "RuleNumber", NUMBER_LAST);

	return x < y ? -1 : x > y;
}

/* The entries of one direction in the order of their numbers, without the last one that denies the
 * rest: a new array of borrowed objects. */
static int entries_of(const json_t *acl, int is_egress, const json_t ***ret_entries, size_t *ret_n)
{
	json_t *all = json_object_get(acl, "Entries");
	const json_t **entries = calloc(json_array_size(all) + 1, sizeof *entries), *entry;
	size_t n = 0, i;

	if (!entries)
		return -ENOMEM;
	json_array_foreach (all, i, entry)
		if (jbool(entry, "Egress", 0) == is_egress && jstr(entry, "CidrBlock") &&
		    jint(entry, "RuleNumber", NUMBER_LAST) < NUMBER_LAST)
			entries[n++] = entry;
	qsort(entries, n, sizeof *entries, by_number);
	*ret_entries = entries;
	*ret_n = n;
	return 0;
}

static int is_allow(const json_t *entry)
{
	return strcmp(jstr_or(entry, "RuleAction", "deny"), "allow") == 0;
}

static int is_everything(const json_t *entry)
{
	return strcmp(jstr_or(entry, "Protocol", "-1"), "-1") == 0 &&
	       strcmp(jstr_or(entry, "CidrBlock", ""), "0.0.0.0/0") == 0;
}

static int plan_entry(struct plan *p, const char *chain, const json_t *entry, int is_egress)
{
	const char *protocol = jstr_or(entry, "Protocol", "-1");
	int is_icmp = strcmp(protocol, "1") == 0 || strcmp(protocol, "icmp") == 0;
	json_t *range = json_object_get(entry, is_icmp ? "IcmpTypeCode" : "PortRange");
	char peer[48], match[80];

	if (match_protocol(protocol, jint(range, is_icmp ? "Type" : "From", -1),
			   jint(range, is_icmp ? "Code" : "To", -1), match, sizeof match) < 0)
		return 0;
	if (match_cidr(is_egress ? "-d" : "-s", jstr(entry, "CidrBlock"), peer, sizeof peer) < 0)
		return -EINVAL;
	ruleset_rule(&p->rules, "filter", chain, "%s%s-j %s", peer, match,
		     is_allow(entry) ? "RETURN" : "DROP");
	return 0;
}

/* One direction of one ACL for one subnet; an ACL that lets everything pass costs nothing. Within a
 * subnet ACLs do not apply. */
static int plan_acl(struct plan *p, const json_t *acl, const char *leg, int is_egress)
{
	OWN(free) const json_t **entries = NULL;
	char chain[32];
	size_t n, i;
	int r = entries_of(acl, is_egress, &entries, &n);

	if (r < 0)
		return r;
	if (n && is_allow(entries[0]) && is_everything(entries[0]))
		return 0;
	snprintf(chain, sizeof chain, "%.24s-%s", jstr_or(acl, "NetworkAclId", "acl"),
		 is_egress ? "out" : "in");
	if (is_egress)
		ruleset_rule(&p->rules, "filter", "acl", "-i %s ! -o %s -j %s", leg, leg, chain);
	else
		ruleset_rule(&p->rules, "filter", "acl", "! -i %s -o %s -j %s", leg, leg, chain);
	if (ruleset_has(&p->rules, "filter", chain))
		return 0; /* another subnet has the same ACL */
	ruleset_chain(&p->rules, "filter", chain, "-");
	for (i = 0; i < n; i++)
		if (plan_entry(p, chain, entries[i], is_egress) < 0)
			return -EINVAL;
	ruleset_rule(&p->rules, "filter", chain, "-j DROP");
	return 0;
}

static int plan_acls(const struct plan_input *in, struct plan *p)
{
	const json_t *acl, *association;
	size_t i, a;
	int r;

	json_array_foreach (in->network_acls, i, acl)
		json_array_foreach (json_object_get(acl, "Associations"), a, association) {
			char leg[16];

			id_link_name('l', jstr_or(association, "SubnetId", ""), leg);
			if (!items_has(&p->router, ITEM_LEG, leg))
				continue;
			if ((r = plan_acl(p, acl, leg, 1)) < 0 ||
			    (r = plan_acl(p, acl, leg, 0)) < 0)
				return r;
		}
	return 0;
}

/* ---- the router ---- */

static void plan_input_chain(struct plan *p)
{
	static const char *const protocols[] = {"udp", "tcp"};
	struct ruleset *s = &p->rules;
	char dns[IP_TEXT_MAX];

	ip_format(p->dns, dns);
	ruleset_chain(s, "filter", "INPUT", "DROP");
	ruleset_rule(s, "filter", "INPUT", "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT");
	ruleset_rule(s, "filter", "INPUT", "-i igw -j DROP");
	ruleset_rule(s, "filter", "INPUT", "-p udp -m udp --dport 67 -j ACCEPT");
	for (size_t i = 0; p->has_dns && i < 2; i++) {
		ruleset_rule(s, "filter", "INPUT", "-d %s/32 -p %s -m %s --dport 53 -j ACCEPT", dns,
			     protocols[i], protocols[i]);
		ruleset_rule(s, "filter", "INPUT",
			     "-d 169.254.169.253/32 -p %s -m %s --dport 53 -j ACCEPT", protocols[i],
			     protocols[i]);
	}
	ruleset_rule(s, "filter", "INPUT",
		     "-d 169.254.169.254/32 -p tcp -m tcp --dport 80 -j ACCEPT");
	ruleset_rule(s, "filter", "INPUT", "-p icmp -m icmp --icmp-type 8 -j ACCEPT");
}

/* INVALID is dropped: NAT passes it by, so it would leave with a private address. */
static void plan_forward_chain(struct plan *p)
{
	struct ruleset *s = &p->rules;

	ruleset_chain(s, "filter", "OUTPUT", "ACCEPT");
	ruleset_chain(s, "filter", "FORWARD", "DROP");
	ruleset_rule(s, "filter", "FORWARD", "-j acl");
	ruleset_rule(s, "filter", "FORWARD", "-o igw -m set ! --match-set public src -j DROP");
	ruleset_rule(s, "filter", "FORWARD",
		     "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT");
	ruleset_rule(s, "filter", "FORWARD", "-m conntrack --ctstate INVALID -j DROP");
	ruleset_rule(s, "filter", "FORWARD", "-j egress");
	ruleset_chain(s, "filter", "acl", "-");
	ruleset_chain(s, "filter", "egress", "-");
	ruleset_chain(s, "filter", "ingress", "-");
	ruleset_rule(s, "filter", "egress", "-m set ! --match-set local src -g ingress");
	ruleset_rule(s, "filter", "ingress", "-m set ! --match-set local dst -j ACCEPT");
}

/* An interface without source/destination check may send any address, but still only with its own
 * MAC (the port is locked to it). */
static void plan_spoof_chain(const struct plan_input *in, struct plan *p)
{
	const json_t *eni, *subnet;
	char leg[16], mac[18];
	size_t i;

	ruleset_chain(&p->rules, "raw", "PREROUTING", "ACCEPT");
	json_array_foreach (in->network_interfaces, i, eni)
		if (plan_is_active(eni) && !jbool(eni, "SourceDestCheck", 1)) {
			id_link_name('l', jstr_or(eni, "SubnetId", ""), leg);
			snprintf(mac, sizeof mac, "%s", jstr_or(eni, "MacAddress", ""));
			ruleset_rule(&p->rules, "raw", "PREROUTING",
				     "-i %s -m mac --mac-source %s -j ACCEPT", leg, mac);
		}
	json_array_foreach (in->subnets, i, subnet) {
		const char *id = jstr_or(subnet, "SubnetId", "");

		id_link_name('l', id, leg);
		if (!items_has(&p->router, ITEM_LEG, leg))
			continue;
		ruleset_rule(&p->rules, "raw", "PREROUTING",
			     "-s 0.0.0.0/32 -i %s -p udp -m udp --sport 68 --dport 67 -j ACCEPT",
			     leg);
		ruleset_rule(&p->rules, "raw", "PREROUTING",
			     "-i %s -m set ! --match-set %s src,src -j DROP", leg, id);
	}
}

static int plan_nat(const struct plan_input *in, struct plan *p)
{
	const json_t *eni, *address;
	size_t i, a;

	ruleset_chain(&p->rules, "nat", "PREROUTING", "ACCEPT");
	ruleset_chain(&p->rules, "nat", "POSTROUTING", "ACCEPT");
	if (!items_has(&p->router, ITEM_LEG, "igw"))
		return 0;
	json_array_foreach (in->network_interfaces, i, eni)
		if (plan_is_active(eni))
			json_array_foreach (json_object_get(eni, "PrivateIpAddresses"), a,
					    address) {
				const char *private = jstr_or(address, "PrivateIpAddress", ""),
					   *public = jpath_str(address, "Association.PublicIp");

				if (!public)
					continue;
				ruleset_rule(&p->rules, "nat", "PREROUTING",
					     "-d %s/32 -i igw -j DNAT --to-destination %s", public,
					     private);
				ruleset_rule(&p->rules, "nat", "POSTROUTING",
					     "-s %s/32 -o igw -j SNAT --to-source %s", private,
					     public);
			}
	return 0;
}

int plan_rules(const struct plan_input *in, struct plan *p)
{
	int r;

	plan_spoof_chain(in, p);
	plan_input_chain(p);
	plan_forward_chain(p);
	if ((r = plan_nat(in, p)) < 0 || (r = plan_acls(in, p)) < 0 || (r = plan_groups(in, p)) < 0)
		return r;
	ruleset_rule(&p->rules, "filter", "egress", "-j DROP");
	ruleset_rule(&p->rules, "filter", "ingress", "-j DROP");
	return p->rules.error;
}
