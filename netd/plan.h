/*
 * Plan: what one VPC's documents mean in the kernel. plan_make() is a pure function: documents in,
 * items, rules and the responders' tables out; nothing is read from the machine. The golden tests
 * hold it (tests/golden/netd).
 *
 * The shape (proved in experiments): a router namespace per VPC; a bridge per subnet in the host's
 * namespace; each guest's tap an isolated, locked port with a static bridge entry; the router's leg
 * answers ARP for every known address (proxy_arp_pvlan), so even traffic within a subnet is routed,
 * and filtered in the VPC's own namespace with the VPC's own connection tracking. VPCs may overlap.
 */
#pragma once

#include <jansson.h>
#include "flow-line.h"
#include "id.h"
#include "item.h"
#include "rules.h"

#define PLAN_MTU      9001  /* inside a VPC, as in AWS */
#define PLAN_MTU_IGW  1500  /* through the internet gateway, as in AWS */
#define PLAN_PROTOCOL 103   /* marks our routes, rules and neighbours in the host's namespace */
#define PLAN_GROUP    26485 /* marks our links in the host's namespace: "gu" */
#define PLAN_TABLE_IGW                                                                             \
	999 /* routes what comes from the internet gateway; subnets have PLAN_TABLE + _Index */
#define PLAN_TABLE	    1000
#define PLAN_TABLE_EGRESS   998 /* from the egress-only gateway, where nothing can begin */
#define PLAN_TABLE_PEERING  997 /* routes what comes from peers */
#define PLAN_PEERING_LETTER 'p' /* in a router begins the names of links to peers */

#define ADDRESS_IMDS 0xa9fea9feu /* 169.254.169.254 */
#define ADDRESS_DNS  0xa9fea9fdu /* 169.254.169.253; also the VPC's base address + 2 */

/* The same over IPv6, as in AWS. */
static const struct in6_addr address_imds6 = {.s6_addr = {0xfd, 0, 0x0e, 0xc2, [14] = 2, 0x54}},
			     address_dns6 = {.s6_addr = {0xfd, 0, 0x0e, 0xc2, [14] = 2, 0x53}};

struct plan_settings {
	uint32_t transit; /* TransitPool: the VPC with _Index n has the /31 at transit + 2n */
	uint32_t transit_plen;
};

/* The documents of one VPC; borrowed. Arrays hold those of this VPC only, but for `rules`, where
 * others are ignored. */
struct plan_input {
	struct plan_memo *memo; /* of the same VPC's last plan (plan-memo.h), NULL: none */
	const char *region;
	json_t *vpc;
	json_t *dhcp_options; /* NULL: guests are told of no domain and no resolver */
	json_t *subnets, *route_tables, *internet_gateways, *network_acls, *security_groups,
		*group_rules;	    /* {group's id: [its rules]} */
	json_t *named;		    /* what rules name, groups and prefix lists: {id: true} */
	json_t *network_interfaces; /* plan_make() chooses those in use */
	json_t *egress_only_gateways;
	json_t *prefix_lists; /* [{PrefixListId, AddressFamily, Entries[{Cidr}]}]: those referred to
			       */
	/* Active ones: [{VpcPeeringConnectionId, VpcId (of the peer), IsRequester, IsWatched: what
	 * is here of its members or names is to follow it}] */
	json_t *peers;
	json_t *peer_groups; /* groups of peers that rules name: {"sg-…": [addresses and prefixes]},
				of both families */
	json_t *peer_names; /* public names of peers that lead inside: {name: private address} */
	json_t *flow_logs;  /* of the VPC, its subnets and interfaces */
};

/* One private address of one interface: what DHCP and DNS know of it. */
struct plan_guest {
	uint8_t mac[6];
	char leg[16];
	uint32_t address, gateway, plen;
	uint32_t public_address; /* 0: none */
	int is_primary;
	char host_name[64];	 /* "ip-10-0-1-10" */
	char instance[ID_MAX];	 /* "i-…" of a primary address at an instance's first interface */
	int is_resource_named;	 /* the instance is called by its id */
	int has_resource_record; /* the id is resolved, too */
	int has_resource_record6;
	struct in6_addr address6; /* by IPv6: to this */
	char public_name[128];	  /* "ec2-….amazonaws.com", "" if none */
	char ptr_record[256];	  /* what the public address is called in reverse, "" if not said */
};

/* One IPv6 address or prefix of one interface. Those of one interface follow one another. */
struct plan_guest6 {
	uint8_t mac[6];
	char leg[16];
	struct in6_addr address;
	struct cidr6 subnet; /* the subnet's block */
	unsigned bits;	     /* of a prefix; 0: the address alone */
};
/* Sets of IPv6 addresses end so: the same as IPv4's are "sg-…", "local" and so on. */
#define PLAN_SUFFIX6 "-net-6"
#define PLAN_LOCAL6  "local" PLAN_SUFFIX6
/* Of every router leg, in every VPC. */
extern const uint8_t plan_leg_mac[6];

struct plan {
	char vpc_id[ID_MAX];
	char netns[ID_MAX + 8];	  /* name below /run/netns */
	int is_idle;		  /* no interface in use, no peer: nothing need be in the kernel */
	struct items router;	  /* inside the namespace */
	struct items host;	  /* in the host's namespace */
	struct ruleset rules;	  /* inside the namespace */
	struct flow_setup *flows; /* NULL: nothing is logged */
	int has_ipv6;
	struct ruleset rules6; /* ip6tables', likewise */
	struct plan_guest6 *guests6;
	size_t n_guests6;
	struct plan_guest *guests;
	size_t n_guests;
	int has_dns;
	int has_names;	  /* private names are resolved: the VPC has DNS host names, too */
	uint32_t dns;	  /* the VPC's resolver: base + 2 */
	char zone[64];	  /* of private names: "ec2.internal" */
	char domain[256]; /* given out by DHCP, by the DHCP options; "": none */
	uint32_t dns_servers[4], ntp_servers[4], netbios_servers[4];
	size_t n_dns_servers, n_ntp_servers, n_netbios_servers;
	uint8_t netbios_node; /* RFC 2132, 8.7; 0: not said */
	json_t *peer_names;   /* as in the input */
	json_t *watched;      /* ids of VPCs whose changes change this plan */
	struct plan **nodes;  /* the VPC's ENI namespaces; each one's id is its interface's */
	size_t n_nodes;
	char node_id[ID_MAX]; /* of a node's plan: its interface; "" in a VPC's */
	int is_translator;    /* of a node's plan: what it passes on has an address of its own */
};

/* An ENI namespace (plan-node.c) has a plan, too: its port in the host's namespace, and what is
 * inside. */

/* 0; -EINVAL when a document is not as its contract says (then *ret_what names it); -ENOMEM. */
int plan_make(const struct plan_settings *settings, const struct plan_input *in,
	      struct plan **ret_plan, char ret_what[static ID_MAX]);
void plan_free(struct plan *p);
OWN_DEFINE(struct plan *, plan_free);

/* "gureum-" and the id of a VPC or of a node's interface. */
void plan_netns_name(const char *id, char ret_name[static ID_MAX + 8]);
/* They mean the same in the kernel (NULL: nothing). */
int plan_is_same(const struct plan *a, const struct plan *b);
/* Everything, for people and golden tests. */
void plan_print(const struct plan *p, FILE *out);

/* ---- between the rooms of the plan ---- */

/* The chains of security groups and ACLs, and of the router itself (plan-rules.c). */
int plan_rules(const struct plan_input *in, struct plan *p);
/* The interfaces that are in the kernel: with an attachment. */
int plan_is_active(const json_t *network_interface);
/* Where documents of interfaces have addresses and prefixes, those of a family one after the other. */
struct plan_addresses {
	int family;
	const char *list, *element;
};
#define PLAN_ADDRESSES 4
extern const struct plan_addresses plan_addresses[PLAN_ADDRESSES];
#define plan_addresses_each(a)                                                                     \
	for (const struct plan_addresses *a = plan_addresses; a < plan_addresses + PLAN_ADDRESSES; \
	     (a)++)
