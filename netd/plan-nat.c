/* Plan, translation: public addresses to private ones and back. */
#include "plan-internal.h"

int plan_nat(const struct plan_input *in, struct plan *p)
{
	const json_t *eni, *address;
	size_t i, a;

	ruleset_chain(&p->rules, "nat", "PREROUTING", "ACCEPT");
	ruleset_chain(&p->rules, "nat", "POSTROUTING", "ACCEPT");
	if (!items_has(&p->router, ITEM_LEG, "igw"))
		return 0;
	json_array_foreach (in->network_interfaces, i, eni)
		json_array_foreach (json_object_get(eni, "PrivateIpAddresses"), a, address) {
			const char *private = jstr_or(address, "PrivateIpAddress", ""),
				   *public = jpath_str(address, "Association.PublicIp");

			if (!public)
				continue;
			ruleset_rule(&p->rules, "nat", "PREROUTING",
				     "-d %s/32 -i igw -j DNAT --to-destination %s", public,
				     private);
			ruleset_rule(&p->rules, "nat", "POSTROUTING",
				     "-s %s/32 -o igw -j SNAT --to-source %s", private, public);
		}
	return 0;
}

/* AWS forgets a flow that says nothing for 350 seconds; a guest behind a NAT gateway should find
 * out here, not there. */
#define NAT_IDLE_SEC "350"

/* The chain's rules for what the gateway passes on. A flow gets its address with its first packet,
 * and keeps it: the next of those that take flows, in turn. That spreads as evenly as can be, and who
 * finds no free port with one address finds one with the next when he tries again; a hash of the
 * flow (what SNAT does with a range, which must have no gaps) would give him the same again. What
 * has one of the gateway's addresses stays as it is; a rule for each makes the chain another when an
 * address goes, too, and its flows are looked for then. */
static void translate(struct node *n)
{
	struct ruleset *s = &n->plan->rules;
	const json_t *addresses = json_object_get(n->eni, "PrivateIpAddresses"), *a;
	size_t i, n_left = 0;

	json_array_foreach (addresses, i, a) {
		n_left += !jbool(a, "_Idle", 0);
		ruleset_rule(s, "nat", "POSTROUTING", "-s %s/32 -o eth0 -j ACCEPT",
			     jstr_or(a, "PrivateIpAddress", ""));
	}
	json_array_foreach (addresses, i, a) {
		char turn[80] = "";

		if (jbool(a, "_Idle", 0))
			continue;
		if (n_left > 1)
			snprintf(turn, sizeof turn,
				 "-m statistic --mode nth --every %zu --packet 0 ", n_left);
		ruleset_rule(s, "nat", "POSTROUTING", "-o eth0 %s-j SNAT --to-source %s", turn,
			     jstr_or(a, "PrivateIpAddress", ""));
		n_left--;
	}
}

/* New flows come from the VPC only: what a public address brings in is for the gateway itself, and
 * it listens to nobody. */
void plan_node_nat(struct node *n)
{
	struct ruleset *s = &n->plan->rules;

	n->plan->is_translator = 1;
	plan_sysctl(&n->plan->router, "ipv4/ip_forward", "", "1");
	plan_sysctl(&n->plan->router, "netfilter/nf_conntrack_tcp_timeout_established", "",
		    NAT_IDLE_SEC);
	ruleset_chain(s, "filter", "INPUT", "DROP");
	ruleset_chain(s, "filter", "FORWARD", "DROP");
	ruleset_chain(s, "filter", "OUTPUT", "ACCEPT");
	ruleset_rule(s, "filter", "FORWARD", "-m conntrack --ctstate INVALID -j DROP");
	ruleset_rule(s, "filter", "FORWARD", "-i eth0 -o eth0 -j ACCEPT");
	ruleset_chain(s, "nat", "PREROUTING", "ACCEPT");
	ruleset_chain(s, "nat", "POSTROUTING", "ACCEPT");
	translate(n);
}

/* An interface without groups, of a NAT gateway: it may send anywhere, and lets nothing in but
 * answers. */
void plan_ungrouped(const struct plan_input *in, struct plan *p)
{
	const json_t *eni, *address;
	size_t i, a;

	json_array_foreach (in->network_interfaces, i, eni)
		if (json_array_size(json_object_get(eni, "Groups")) == 0)
			json_array_foreach (json_object_get(eni, "PrivateIpAddresses"), a, address)
				ruleset_rule(&p->rules, "filter", "egress", "-s %s/32 -g ingress",
					     jstr_or(address, "PrivateIpAddress", ""));
}
