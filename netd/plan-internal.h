/*
 * What the rooms of the plan share while one is made: plan.c (the whole, names), plan-link.c (links
 * and interfaces), plan-route.c (route tables), plan-peering.c (links to other
 * VPCs), plan-rules.c (the router's own chains),
 * plan-group.c, plan-acl.c, plan-nat.c (the chains of those).
 */
#pragma once

#include "cidr.h"
#include "jsonx.h"
#include "plan.h"

#define PLAN_BLOCKS6_MAX 50 /* AWS raises a VPC's quota so far */

struct making {
	const struct plan_settings *settings;
	const struct plan_input *in;
	struct plan *p;
	uint32_t index;				/* of the VPC */
	const char *igw;			/* its id, NULL without one */
	char igw_link[16];			/* host's end */
	struct cidr6 blocks6[PLAN_BLOCKS6_MAX]; /* the VPC's, if the plan has IPv6 */
	size_t n_blocks6;
	const char *egress; /* id of the egress-only gateway, NULL without one */
	char *what;
};

/* Says which document is not as its contract says. -EINVAL. */
int plan_bad(struct making *m, const json_t *doc, const char *id_member);
/* The object of the array whose member has this value, NULL if none. */
const json_t *plan_find(const json_t *array, const char *member, const char *value);
/* The router's end of the internet gateway's link has this address + 1. */
uint32_t plan_transit(const struct making *m);

/* ---- plan-link.c ---- */

/* A link that is up. `s` is the plan's router or host list; `alias` may be NULL. */
struct item *plan_link(struct items *s, enum item_kind kind, const char *name, uint32_t mtu,
		       uint32_t flags, const char *alias);
/* `format` may have one %s, for the link. */
void plan_sysctl(struct items *s, const char *format, const char *link, const char *value);
void plan_address_add(struct items *s, const char *link, uint32_t address, uint32_t plen);
/* The subnet's bridge, leg and route table. */
int plan_subnet(struct making *m, const json_t *subnet);
/* The internet gateway's link. */
void plan_gateway(struct making *m);
/* An interface that is in use: its tap, and plan_guest rows for its addresses. */
int plan_interface(struct making *m, const json_t *eni);

/* A static entry of the bridge: frames to `mac` leave by this port. */
void plan_fdb(struct items *s, const char *port, const uint8_t mac[static 6]);

/* ---- plan-delegation.c ---- */

/* An address or a prefix as members of `set` (`s` NULL: none; `mac` may be NULL). Its family, or
 * -EINVAL. */
int plan_members(struct items *s, const char *set, const char *text, const uint8_t *mac);
/* Routes and members of an interface's prefixes; `like` has its MAC and leg. 0 or -EINVAL. */
int plan_prefixes4(struct making *m, const json_t *eni, const struct plan_guest *like);
/* The same of IPv6, and their rows of guests6, for which there is room. */
int plan_prefixes6(struct plan *p, const json_t *eni, const struct plan_guest6 *like);

/* ---- plan-node.c ---- */

/*
 * An interface with the member _Node lives in a namespace of its own instead of a guest, on an
 * ordinary port of its subnet's bridge: groups, ACLs and the check of addresses are the same as a
 * guest's, and nothing but its packets leads out of it. _Node is the kind, a row in plan-node.c,
 * whose function writes the rules inside; what else is there is the same for all: eth0 with the
 * interface's MAC and addresses, everything goes to the router's leg. The namespace is called
 * gureum-eni-…, comes with the interface's document and goes with it.
 */
struct node {
	struct plan *plan; /* of the node */
	const json_t *eni; /* its document, whose addresses are as they should be */
};
int plan_node(struct making *m, const json_t *eni, const struct plan_guest *like);
/* The rules inside a NAT gateway (plan-nat.c). */
void plan_node_nat(struct node *n);

/* ---- plan-route.c ---- */

/* The table that a subnet uses: its own, or the VPC's main one. */
const json_t *plan_table_of_subnet(const struct making *m, const char *subnet_id);
struct item *plan_route_add(struct items *s, uint32_t table, struct cidr to, uint32_t type);
/* The Linux table for what comes in by the link: the way to its own subnet (`own`, NULL: none), the
 * local routes, `route_table`'s (NULL: none),
 * and a blackhole for the rest. */
int plan_table(struct making *m, uint32_t table, const char *link, const struct cidr *own,
	       const json_t *route_table);

/* ---- plan-peering.c ---- */

/* The links to the VPC's peers. */
int plan_peerings(struct making *m);
/* The members of the family of a peer's group that rules name, as members of `set` (`s` NULL: they
 * are only counted). How many, or -EINVAL. */
int plan_peer_group(const struct plan_input *in, struct items *s, int family, const char *id,
		    const char *set);
/* After plan_peerings(). */
int plan_has_peers(const struct plan *p);
/* Makes a route lead to a peer. 0, or -1 if there is no such peer. */
int plan_route_to_peer(const struct making *m, struct item *i, const char *peering_id);

/* ---- plan-ipv6.c: the IPv6 side of each; nothing for a VPC without a block ---- */

/* Called first: looks up the VPC's blocks. 0 or -EINVAL. */
int plan_ipv6_router(struct making *m);
void plan_ipv6_gateways(struct making *m);
/* After the subnet's links are planned. */
int plan_ipv6_subnet(struct making *m, const json_t *subnet, const char *leg, uint32_t table);
/* `like` has the interface's MAC and leg. */
int plan_ipv6_interface(struct making *m, const json_t *eni, const struct plan_guest *like);
int plan_rules6(const struct plan_input *in, struct plan *p);
/* Who may send what (plan-source6.c). 0 or -ENOMEM. */
int plan_sources6(const struct plan_input *in, struct plan *p);
/* The link to a peer, whose router has this MAC. */
void plan_ipv6_peer(struct making *m, const char *link, const uint8_t far_mac[static 6]);
struct address plan_ipv6_far_router(void);

/* ---- plan-flow-rule.c ---- */

/* The interfaces by their groups: {id: [interfaces]}, asked for every rule. NULL out of memory. */
json_t *plan_flow_members(const struct plan_input *in);
/* The rules of the interface's groups, each group once, and its groups' indexes. 0 or -ENOMEM. */
int plan_flow_groups(struct flow_rules *s, const struct plan_input *in, const json_t *members,
		     const json_t *eni, struct flow_interface *i);
/* The entries of its subnet's ACL, likewise. */
int plan_flow_acl(struct flow_rules *s, const struct plan_input *in, struct flow_interface *i);

/* ---- plan-flow.c ---- */

/* Flow logs; after all chains are made. */
int plan_flows(const struct plan_input *in, struct plan *p);

/* ---- chains, for either family ---- */

static inline struct ruleset *plan_chains(struct plan *p, enum rules_family family)
{
	return family == RULES_IPV6 ? &p->rules6 : &p->rules;
}

/* "-s 10.0.0.0/8 ", or nothing for everything. 0 or -EINVAL. */
int plan_match_cidr(const char *flag, const char *cidr, char *out, size_t n_out);
/* AWS's protocol and ports (ICMP: type and code) as a match. -ENOENT: nothing in the family fits
 * it. */
int plan_match_protocol(enum rules_family family, const char *protocol, int64_t from, int64_t to,
			char *out, size_t n_out);
/* Plans the set of a prefix list, once (plan-prefix.c). -ENOENT: it is gone, or of the other
 * family; -EINVAL. */
int plan_prefix_set(const struct plan_input *in, struct plan *p, enum rules_family family,
		    const char *id);
/* The blocks of a prefix list: [{Cidr}], NULL if it is gone. */
const json_t *plan_prefix_entries(const struct plan_input *in, const char *id);
/* The way from "egress" and "ingress" to the chains of these groups, whose order is changed
 * (plan-dispatch.c). `depths` gets {id: n}: members of the group belong to n more sets. 0 or -ENOMEM. */
#define PLAN_DEPTH_MAX 4
int plan_dispatch(struct plan *p, enum rules_family family, const char **ids, size_t n,
		  json_t *depths);
/* The name of the set of the branch that the group's last n digits lead to. */
void plan_set_of_branch(enum rules_family family, const char *id, size_t n_digits,
			char ret_name[static 32]);
/* A set of addresses of the family. */
void plan_member_set(struct plan *p, enum rules_family family, const char *name);
/* Sets and chains of security groups (plan-group.c), of ACLs (plan-acl.c), of translation
 * (plan-nat.c). */
int plan_groups(const struct plan_input *in, struct plan *p, enum rules_family family);
int plan_acls(const struct plan_input *in, struct plan *p, enum rules_family family);
int plan_nat(const struct plan_input *in, struct plan *p);
void plan_ungrouped(const struct plan_input *in, struct plan *p);
