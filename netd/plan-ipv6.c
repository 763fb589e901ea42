/*
 * Plan, IPv6: what a VPC with IPv6 blocks has beside its IPv4 side; nothing at all without.
 *
 * The shape is IPv4's: every known address is a /128 route with a permanent neighbour, neighbour
 * discovery is answered by the router for all of them (proxy), so traffic within a subnet passes
 * the groups. Every leg is fe80::1. What differs:
 *
 * - The kernel has no set of IPv6 addresses and MACs together: who may send what is a tree of
 *   chains per subnet (plan-source6.c). Of link-local senders only neighbour discovery and DHCPv6
 *   are let in, and questions for duplicates are dropped: the proxy would answer them, and no one
 *   else can have the address.
 * - Multicast reaches the router (neighbour discovery needs it), and it alone.
 * - Nothing is translated: what comes from outside by the internet gateway has the guest's own
 *   address. An egress-only gateway is a link of its own by which no connection can begin outside.
 */
#include "plan-internal.h"
#include "delegation.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/rtnetlink.h>
#include <string.h>

#define RULE_PRIORITY 100

/* The router on its legs, and the host's and the router's end of a gateway's link. */
static const struct in6_addr address_leg = {.s6_addr = {0xfe, 0x80, [15] = 1}},
			     address_far = {.s6_addr = {0xfe, 0x80, [15] = 3}}, /* a neighbour */
	address_host = {.s6_addr = {0xfe, 0x80, [15] = 1}},
			     address_router = {.s6_addr = {0xfe, 0x80, [15] = 2}};

struct setting {
	const char *path, *value;
};

static const struct setting off_sysctls[] = {
	{"ipv6/conf/all/disable_ipv6", "1"},
	{"ipv6/conf/default/disable_ipv6", "1"},
};

/* addr_gen_mode 1: no addresses but those that are planned. Legs without IPv6 let nothing in (raw
 * chain). */
static const struct setting on_sysctls[] = {
	{"ipv6/conf/all/addr_gen_mode", "1"},	 {"ipv6/conf/all/disable_ipv6", "0"},
	{"ipv6/conf/all/forwarding", "1"},	 {"ipv6/conf/all/proxy_ndp", "1"},
	{"ipv6/conf/default/disable_ipv6", "0"},
};

/* The host's end of a gateway: it forwards, and believes nobody. */
static const struct setting gateway_sysctls[] = {
	{"ipv6/conf/%s/accept_ra", "0"},
	{"ipv6/conf/%s/addr_gen_mode", "1"},
	{"ipv6/conf/%s/disable_ipv6", "0"},
	{"ipv6/conf/%s/force_forwarding", "1"},
};

static void sysctls(struct items *s, const struct setting *settings, size_t n, const char *link)
{
	for (size_t i = 0; i < n; i++)
		plan_sysctl(s, settings[i].path, link, settings[i].value);
}

/* The blocks of a VPC or a subnet, `n_max` at most. How many, or -EINVAL. */
static int blocks_of(const json_t *vpc_or_subnet, struct cidr6 *blocks, size_t n_max)
{
	const json_t *association;
	size_t i;

	json_array_foreach (json_object_get(vpc_or_subnet, "Ipv6CidrBlockAssociationSet"), i,
			    association)
		if (i >= n_max || cidr6_parse(jstr(association, "Ipv6CidrBlock"), &blocks[i]) < 0)
			return -EINVAL;
	return (int)json_array_size(json_object_get(vpc_or_subnet, "Ipv6CidrBlockAssociationSet"));
}

/* It is within the VPC. */
static int is_local(const struct making *m, struct cidr6 block)
{
	for (size_t i = 0; i < m->n_blocks6; i++)
		if (cidr6_has_cidr(m->blocks6[i], block))
			return 1;
	return 0;
}

static struct item *route6(struct items *s, uint32_t table, struct cidr6 to, uint32_t type,
			   const char *link)
{
	struct item *i = items_add(s, ITEM_ROUTE, NULL);

	i->table = table;
	i->address = ip6(cidr6_first(to));
	i->plen = to.bits;
	i->type = type;
	snprintf(i->link, sizeof i->link, "%s", link);
	return i;
}

static void address6(struct items *s, const char *link, struct in6_addr address, uint32_t plen)
{
	struct item *i = items_add(s, ITEM_ADDRESS, link);

	i->address = ip6(address);
	i->plen = plen;
}

/* ---- route tables ---- */

static int route_to_interface(const struct making *m, struct item *i, const char *id)
{
	const json_t *eni = plan_find(m->in->network_interfaces, "NetworkInterfaceId", id);
	const json_t *first = json_array_get(json_object_get(eni, "Ipv6Addresses"), 0);

	if (!eni || ip_any_parse(jstr(first, "Ipv6Address"), &i->via) < 0 ||
	    i->via.family != AF_INET6)
		return -ENOENT;
	id_link_name('l', jstr_or(eni, "SubnetId", ""), i->link);
	return 0;
}

static void to_gateway(struct item *i, const char *link)
{
	i->type = RTN_UNICAST;
	i->via = ip6(address_host);
	snprintf(i->link, sizeof i->link, "%s", link);
}

static void plan_route6(const struct making *m, uint32_t table, struct cidr6 destination,
			const json_t *doc)
{
	const char *gateway = jstr(doc, "GatewayId"), *eni = jstr(doc, "NetworkInterfaceId"),
		   *egress = jstr(doc, "EgressOnlyInternetGatewayId"),
		   *peering = jstr(doc, "VpcPeeringConnectionId");
	struct item *i = route6(&m->p->router, table, destination, RTN_BLACKHOLE, "");

	if (gateway && strcmp(gateway, "local") == 0)
		i->type = RTN_THROW;
	else if (gateway && m->igw && strcmp(gateway, m->igw) == 0)
		to_gateway(i, "igw");
	else if (egress && m->egress && strcmp(egress, m->egress) == 0)
		to_gateway(i, "eigw");
	else if ((eni && strcmp(jstr_or(doc, "State", ""), "blackhole") != 0 &&
		  route_to_interface(m, i, eni) == 0) ||
		 (peering && plan_route_to_peer(m, i, peering) == 0))
		i->type = RTN_UNICAST;
}

/* The table, whose items begin at `first`, has a route for exactly this block. */
static int is_planned(const struct making *m, size_t first, struct cidr6 block)
{
	const struct items *s = &m->p->router;
	struct address address = ip6(cidr6_first(block));

	for (size_t i = first; i < s->n; i++)
		if (s->at[i].kind == ITEM_ROUTE && s->at[i].plen == block.bits &&
		    ip_is(&s->at[i].address, &address))
			return 1;
	return 0;
}

static int plan_block_routes(const struct making *m, uint32_t table, const json_t *routes,
			     const struct cidr6 *own)
{
	const json_t *doc;
	struct cidr6 block;
	size_t i;

	json_array_foreach (routes, i, doc) {
		const char *text = jstr(doc, "DestinationIpv6CidrBlock");

		if (text && cidr6_parse(text, &block) < 0)
			return -EINVAL;
		if (text && !(own && cidr6_has_cidr(*own, block)))
			plan_route6(m, table, block, doc);
	}
	return 0;
}

static void plan_prefix_route(const struct making *m, uint32_t table, size_t first,
			      const json_t *doc)
{
	const json_t *entry;
	struct cidr6 block;
	size_t i;

	json_array_foreach (plan_prefix_entries(m->in, jstr(doc, "DestinationPrefixListId")), i,
			    entry)
		if (cidr6_parse(jstr(entry, "Cidr"), &block) == 0 && !is_local(m, block) &&
		    !is_planned(m, first, block))
			plan_route6(m, table, block, doc);
}

/* As plan_table(): what stays within a subnet asks no route table, local routes may be led
 * elsewhere, and prefix lists come last. */
static int plan_table6(struct making *m, uint32_t table, const char *link, const struct cidr6 *own,
		       const json_t *route_table)
{
	struct item *rule = items_add(&m->p->router, ITEM_RULE, link);
	const json_t *routes = json_object_get(route_table, "Routes"), *doc;
	size_t first = m->p->router.n, i;

	rule->address.family = AF_INET6;
	rule->table = table;
	rule->metric = RULE_PRIORITY;
	if (own)
		(void)route6(&m->p->router, table, *own, RTN_THROW, "");
	if (plan_block_routes(m, table, routes, own) < 0)
		return plan_bad(m, route_table, "RouteTableId");
	for (i = 0; i < m->n_blocks6; i++)
		if (!is_planned(m, first, m->blocks6[i]))
			(void)route6(&m->p->router, table, m->blocks6[i], RTN_THROW, "");
	json_array_foreach (routes, i, doc)
		plan_prefix_route(m, table, first, doc);
	if (!is_planned(m, first, (struct cidr6){0}))
		(void)route6(&m->p->router, table, (struct cidr6){0}, RTN_BLACKHOLE, "");
	return 0;
}

/* ---- the router, its links, its guests ---- */

int plan_ipv6_router(struct making *m)
{
	struct items *s = &m->p->router;
	int n = blocks_of(m->in->vpc, m->blocks6, PLAN_BLOCKS6_MAX);

	if (n < 0)
		return plan_bad(m, m->in->vpc, "VpcId");
	m->n_blocks6 = (size_t)n;
	m->p->has_ipv6 = n > 0;
	if (!m->p->has_ipv6) {
		sysctls(s, off_sysctls, sizeof off_sysctls / sizeof *off_sysctls, "");
		return 0;
	}
	sysctls(s, on_sysctls, sizeof on_sysctls / sizeof *on_sysctls, "");
	address6(s, "lo", address_dns6, 128);
	address6(s, "lo", address_imds6, 128);
	plan_member_set(m->p, RULES_IPV6, PLAN_LOCAL6);
	return 0;
}

/* The VPC's blocks lead to its internet gateway, or else to its egress-only one: answers to what
 * left by the one may come back by the other. */
static void gateway(struct making *m, const char *id, const char *host_link, const char *link,
		    uint32_t table)
{
	struct plan *p = m->p;

	if (strcmp(link, "igw") != 0) {
		(void)plan_link(&p->host, ITEM_VETH, host_link, PLAN_MTU_IGW, 0, id);
		(void)plan_link(&p->router, ITEM_LEG, link, PLAN_MTU_IGW, 0, NULL);
		plan_sysctl(&p->host, "ipv4/conf/%s/forwarding", host_link, "0");
	}
	sysctls(&p->host, gateway_sysctls, sizeof gateway_sysctls / sizeof *gateway_sysctls,
		host_link);
	address6(&p->host, host_link, address_host, 64);
	address6(&p->router, link, address_router, 64);
	(void)plan_table6(m, table, link, NULL,
			  NULL); /* fails only for routes, and there are none */
	if (m->igw && strcmp(link, "igw") != 0)
		return;
	for (size_t i = 0; i < m->n_blocks6; i++)
		route6(&p->host, RT_TABLE_MAIN, m->blocks6[i], RTN_UNICAST, host_link)->via =
			ip6(address_router);
}

void plan_ipv6_gateways(struct making *m)
{
	char link[16];

	if (!m->p->has_ipv6)
		return;
	if (m->igw)
		gateway(m, m->igw, m->igw_link, "igw", PLAN_TABLE_IGW);
	if (!m->egress)
		return;
	id_link_name('x', m->p->vpc_id, link);
	gateway(m, m->egress, link, "eigw", PLAN_TABLE_EGRESS);
}

/* Links to peers: as over IPv4 (plan-peering.c), the far router is a neighbour known by its MAC. */
static const struct setting peer_sysctls[] = {
	{"ipv6/conf/%s/addr_gen_mode", "1"},
	{"ipv6/conf/%s/disable_ipv6", "0"},
};

struct address plan_ipv6_far_router(void)
{
	return ip6(address_far);
}

void plan_ipv6_peer(struct making *m, const char *link, const uint8_t far_mac[static 6])
{
	struct items *s = &m->p->router;
	struct item *i;

	if (!m->p->has_ipv6) {
		plan_sysctl(s, "ipv6/conf/%s/disable_ipv6", link, "1");
		return;
	}
	sysctls(s, peer_sysctls, sizeof peer_sysctls / sizeof *peer_sysctls, link);
	i = items_add(s, ITEM_NEIGHBOUR, link);
	i->address = ip6(address_far);
	memcpy(i->mac, far_mac, 6);
	(void)plan_table6(m, PLAN_TABLE_PEERING, link, NULL,
			  NULL); /* fails only for routes, and there are none */
}

int plan_ipv6_subnet(struct making *m, const json_t *subnet, const char *leg, uint32_t table)
{
	struct cidr6 block;
	struct item *port;
	int n;

	n = m->p->has_ipv6 ? blocks_of(subnet, &block, 1) : 0;
	if (n == 0)
		return 0;
	if (n < 0 || !is_local(m, block))
		return plan_bad(m, subnet, "SubnetId");
	for (size_t i = 0; i < m->p->host.n; i++) {
		port = &m->p->host.at[i];
		if (port->kind == ITEM_VETH && strcmp(port->name, leg) == 0)
			port->flags |= ITEM_MULTICAST;
	}
	plan_sysctl(&m->p->router, "ipv6/neigh/%s/proxy_delay", leg, "0");
	address6(&m->p->router, leg, address_leg, 64);
	(void)route6(&m->p->router, RT_TABLE_MAIN, block, RTN_BLACKHOLE, "");
	return plan_table6(m, table, leg, &block,
			   plan_table_of_subnet(m, jstr(subnet, "SubnetId")));
}

static int guest6(struct plan *p, struct plan_guest6 *g, const char *text)
{
	struct item *i;
	if (!text || inet_pton(AF_INET6, text, &g->address) != 1)
		return -EINVAL;
	(void)route6(&p->router, RT_TABLE_MAIN, (struct cidr6){g->address, 128}, RTN_UNICAST,
		     g->leg);
	i = items_add(&p->router, ITEM_NEIGHBOUR, g->leg);
	i->address = ip6(g->address);
	memcpy(i->mac, g->mac, 6);
	items_add(&p->router, ITEM_PROXY, g->leg)->address = ip6(g->address);
	items_add(&p->router, ITEM_MEMBER, PLAN_LOCAL6)->address = ip6(g->address);
	return 0;
}

int plan_ipv6_interface(struct making *m, const json_t *eni, const struct plan_guest *like)
{
	const json_t *subnet = plan_find(m->in->subnets, "SubnetId", jstr_or(eni, "SubnetId", "")),
		     *addresses = json_object_get(eni, "Ipv6Addresses"), *address;
	struct plan *p = m->p;
	struct plan_guest6 guest = {0}, *grown;
	size_t i, n = json_array_size(addresses) + delegation_n(&delegation_ipv6, eni);

	if (!p->has_ipv6 || !n || blocks_of(subnet, &guest.subnet, 1) != 1)
		return 0;
	grown = realloc(p->guests6, (p->n_guests6 + n) * sizeof *grown);
	if (!grown)
		return -ENOMEM;
	p->guests6 = grown;
	memcpy(guest.mac, like->mac, 6);
	snprintf(guest.leg, sizeof guest.leg, "%s", like->leg);
	json_array_foreach (addresses, i, address) {
		if (guest6(p, &guest, jstr(address, "Ipv6Address")) < 0)
			return plan_bad(m, eni, "NetworkInterfaceId");
		p->guests6[p->n_guests6++] = guest;
	}
	if (plan_prefixes6(p, eni, &guest) < 0)
		return plan_bad(m, eni, "NetworkInterfaceId");
	return 0;
}

/* ---- chains ---- */

static void discovery(struct ruleset *s, const char *chain, int type, const char *verdict)
{
	ruleset_rule(s, "filter", chain, "-p 58 -m icmp6 --icmpv6-type %d -j %s", type, verdict);
}

enum { NEIGHBOUR_SOLICITATION = 135, NEIGHBOUR_ADVERTISEMENT, REDIRECT };
enum { ECHO_REQUEST = 128 };

static void input_chain(struct plan *p)
{
	static const char *const protocols[] = {"udp", "tcp"};
	struct ruleset *s = &p->rules6;

	ruleset_chain(s, "filter", "INPUT", "DROP");
	ruleset_rule(s, "filter", "INPUT", "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT");
	if (plan_has_peers(p))
		ruleset_rule(s, "filter", "INPUT", "-i %c+ -j DROP", PLAN_PEERING_LETTER);
	discovery(s, "INPUT", NEIGHBOUR_SOLICITATION, "ACCEPT");
	discovery(s, "INPUT", NEIGHBOUR_ADVERTISEMENT, "ACCEPT");
	ruleset_rule(s, "filter", "INPUT", "-i igw -j DROP");
	ruleset_rule(s, "filter", "INPUT", "-i eigw -j DROP");
	for (size_t i = 0; p->has_dns && i < 2; i++)
		ruleset_rule(s, "filter", "INPUT",
			     "-d fd00:ec2::253/128 -p %s -m %s --dport 53 -j ACCEPT", protocols[i],
			     protocols[i]);
	ruleset_rule(s, "filter", "INPUT",
		     "-d fd00:ec2::254/128 -p tcp -m tcp --dport 80 -j ACCEPT");
	discovery(s, "INPUT", ECHO_REQUEST, "ACCEPT");
}

/* The router must not tell guests of a shorter way: within a subnet there is none. */
static void forward_chain(struct plan *p)
{
	struct ruleset *s = &p->rules6;

	ruleset_chain(s, "filter", "OUTPUT", "ACCEPT");
	discovery(s, "OUTPUT", REDIRECT, "DROP");
	ruleset_chain(s, "filter", "FORWARD", "DROP");
	ruleset_rule(s, "filter", "FORWARD", "-j acl");
	ruleset_rule(s, "filter", "FORWARD", "-o eigw -m conntrack --ctdir REPLY -j DROP");
	ruleset_rule(s, "filter", "FORWARD",
		     "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT");
	ruleset_rule(s, "filter", "FORWARD", "-m conntrack --ctstate INVALID -j DROP");
	ruleset_rule(s, "filter", "FORWARD", "-i eigw -j DROP");
	ruleset_rule(s, "filter", "FORWARD", "-j egress");
	ruleset_chain(s, "filter", "acl", "-");
	ruleset_chain(s, "filter", "egress", "-");
	ruleset_chain(s, "filter", "ingress", "-");
	ruleset_rule(s, "filter", "egress", "-m set ! --match-set " PLAN_LOCAL6 " src -g ingress");
	ruleset_rule(s, "filter", "ingress", "-m set ! --match-set " PLAN_LOCAL6 " dst -j ACCEPT");
}

int plan_rules6(const struct plan_input *in, struct plan *p)
{
	int r;

	if (!p->has_ipv6)
		return 0;
	if ((r = plan_sources6(in, p)) < 0)
		return r;
	input_chain(p);
	forward_chain(p);
	if ((r = plan_acls(in, p, RULES_IPV6)) < 0 || (r = plan_groups(in, p, RULES_IPV6)) < 0)
		return r;
	ruleset_rule(&p->rules6, "filter", "egress", "-j DROP");
	ruleset_rule(&p->rules6, "filter", "ingress", "-j DROP");
	return p->rules6.error;
}
