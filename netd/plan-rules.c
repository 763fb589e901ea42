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
#include "plan-internal.h"

#include <errno.h>
#include <string.h>

/* "-s 10.0.0.0/8 ", "-s fd00::/8 ", or nothing for everything. */
int plan_match_cidr(const char *flag, const char *cidr, char *out, size_t n_out)
{
	struct cidr c;
	char canonical[CIDR6_TEXT_MAX];

	if (cidr_parse(cidr, &c) == 0)
		cidr_format(cidr_canonical(c), canonical);
	else if (cidr6_canonical(cidr, canonical) == 0)
		c.bits = strcmp(canonical, "::/0") != 0;
	else
		return -EINVAL;
	snprintf(out, n_out, "%s%s%s%s", c.bits ? flag : "", c.bits ? " " : "",
		 c.bits ? canonical : "", c.bits ? " " : "");
	return 0;
}

static void match_icmp(enum rules_family family, int64_t type, int64_t code, char *out,
		       size_t n_out)
{
	const char *match =
		family == RULES_IPV6 ? "58 -m icmp6 --icmpv6-type" : "icmp -m icmp --icmp-type";

	if (type < 0)
		snprintf(out, n_out, "-p %s ", family == RULES_IPV6 ? "58" : "icmp");
	else if (code < 0)
		snprintf(out, n_out, "-p %s %d ", match, (int)type);
	else
		snprintf(out, n_out, "-p %s %d/%d ", match, (int)type, (int)code);
}

int plan_match_protocol(enum rules_family family, const char *protocol, int64_t from, int64_t to,
			char *out, size_t n_out)
{
	static const struct {
		const char *aws, *iptables;
	} names[] = {{"6", "tcp"}, {"17", "udp"}, {"1", "icmp"}, {"58", "icmpv6"}};
	const char *name = protocol;

	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		if (strcmp(protocol, names[i].aws) == 0)
			name = names[i].iptables;
	out[0] = '\0';
	if (strcmp(name, "-1") == 0 || strcmp(name, "all") == 0)
		return 0;
	if (strcmp(name, "0") == 0)
		return -ENOENT; /* HOPOPT; to iptables the number 0 is every protocol */
	if (strcmp(name, family == RULES_IPV6 ? "icmp" : "icmpv6") == 0)
		return -ENOENT;
	if (strncmp(name, "icmp", 4) == 0) {
		match_icmp(family, from, to, out, n_out);
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

static void plan_input_chain(struct plan *p)
{
	static const char *const protocols[] = {"udp", "tcp"};
	struct ruleset *s = &p->rules;
	char dns[IP_TEXT_MAX];

	ip_format(p->dns, dns);
	ruleset_chain(s, "filter", "INPUT", "DROP");
	ruleset_rule(s, "filter", "INPUT", "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT");
	ruleset_rule(s, "filter", "INPUT", "-i igw -j DROP");
	if (plan_has_peers(p))
		ruleset_rule(s, "filter", "INPUT", "-i %c+ -j DROP", PLAN_PEERING_LETTER);
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
	if (plan_has_peers(p))
		ruleset_rule(&p->rules, "raw", "PREROUTING",
			     "-i %c+ -m set --match-set local src -j DROP", PLAN_PEERING_LETTER);
	json_array_foreach (in->network_interfaces, i, eni)
		if (!jbool(eni, "SourceDestCheck", 1)) {
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

int plan_rules(const struct plan_input *in, struct plan *p)
{
	int r;

	plan_spoof_chain(in, p);
	plan_input_chain(p);
	plan_forward_chain(p);
	plan_ungrouped(in, p);
	if ((r = plan_nat(in, p)) < 0 || (r = plan_acls(in, p, RULES_IPV4)) < 0 ||
	    (r = plan_groups(in, p, RULES_IPV4)) < 0)
		return r;
	ruleset_rule(&p->rules, "filter", "egress", "-j DROP");
	ruleset_rule(&p->rules, "filter", "ingress", "-j DROP");
	return p->rules.error;
}
