/*
 * Host: the namespace in which netd runs, which is the user's own. What netd needs there beside
 * links: forwarding between the gateways and the uplink, address translation to the uplink, room in
 * the user's FORWARD chain (Docker's policy there is DROP), and guests kept off the host's own
 * addresses. All of it is in chains of our own (gureum-…), reached by one jump each; nothing else
 * is touched, nothing is flushed, and without a running interface nothing is there.
 */
#pragma once

#include "cidr.h"
#include "netns.h"

struct host_settings {
	struct cidr public_pool, transit_pool;
	struct cidr6 ipv6_pool;
	char uplink[16];	/* "auto", "none" or a link's name */
	int is_host_reachable;	/* by guests */
	int is_firewall_passed; /* netd lets our links pass the owner's own tables: see firewall.h */
};

/* What the host's namespace should have of a family besides the VPCs' own items; `is_used`: some
 * VPC has a gateway for it in the kernel. Looks up the default route when the uplink is "auto".
 * `items` is added to, `ret_rules` is sorted. 0 or -errno. */
int host_plan(const struct host_settings *s, const struct netns *host, enum rules_family family,
	      int is_used, struct items *items, struct ruleset *ret_rules);
/* Brings our chains and the jumps to them to what `rules` says. How many chains were changed, or
 * -errno. */
int host_apply_rules(struct netns *host, enum rules_family family, const struct ruleset *rules);
/* The link of the family's default route with the lowest metric; "" without one. */
int host_uplink(const struct netns *host, enum rules_family family, char ret_name[static 16]);

/* Bridged frames would pass the host's iptables (br_netfilter): in a namespace of our own it is
 * switched off; on a machine's own network that is its owner's choice. 1: switched on still, 0: off
 * or absent. */
int host_bridge_filter(void);
/* (host-doctor.c) A list of {Name, State "ok" | "warning", Text}: what an operator should know;
 * `has_ipv6`: a VPC has. Of one name there may be several. Runs commands in a namespace of its own: blocks for some tenths of a
 * second. A new reference. */
json_t *host_doctor(const struct host_settings *s, struct netns *host, int has_ipv6);
