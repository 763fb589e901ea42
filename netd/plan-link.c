/* Plan, links: bridges, legs, gateways, taps and their addresses. */
#include "plan-internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/rtnetlink.h>
#include <string.h>

/* Every router leg and bridge has the same addresses: each is alone on its bridge, and a guest that
 * moves between hosts keeps its gateway. */
const uint8_t plan_leg_mac[6] = {0x02, 0x67, 0x75, 0x00, 0x00, 0x01};
static const uint8_t bridge_mac[6] = {0x02, 0x67, 0x75, 0x00, 0x00, 0x02};

/* proxy_delay: by default ARP is answered after up to 0.8 s. accept_local: a middlebox passes on
 * what the router says of its packets (too big, unreachable), in the router's own name; that a
 * guest does not make such packets up is held by the check of addresses. */
static const struct {
	const char *path, *value;
} leg_sysctls[] = {
	{"ipv4/conf/%s/accept_local", "1"}, {"ipv4/conf/%s/proxy_arp_pvlan", "1"},
	{"ipv4/conf/%s/rp_filter", "0"},    {"ipv4/conf/%s/send_redirects", "0"},
	{"ipv4/neigh/%s/proxy_delay", "0"},
};

/* The host must not be reachable through its side of a subnet's bridge: the bridge has no address
 * and no route leads back into it, so strict reverse path filtering drops whatever a guest sends to
 * the bridge's own address; ARP is never answered. (A bridge VLAN filter would do the same one
 * layer lower, but not every kernel has it.) */
static const struct {
	const char *path, *value;
} bridge_sysctls[] = {
	{"ipv4/conf/%s/arp_ignore", "8"},
	{"ipv4/conf/%s/forwarding", "0"},
	{"ipv4/conf/%s/rp_filter", "1"},
	{"ipv6/conf/%s/disable_ipv6", "1"},
};

static int mac_parse(const char *text, uint8_t mac[static 6])
{
	return text && sscanf(text, "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", &mac[0], &mac[1], &mac[2],
			      &mac[3], &mac[4], &mac[5]) == 6
		       ? 0
		       : -EINVAL;
}

struct item *plan_link(struct items *s, enum item_kind kind, const char *name, uint32_t mtu,
		       uint32_t flags, const char *alias)
{
	struct item *i;

	(void)items_add(s, ITEM_UP, name);
	i = items_add(s, kind, name);
	i->mtu = mtu;
	i->flags = flags;
	if (alias)
		snprintf(i->text, sizeof i->text, "%s", alias);
	return i;
}

void plan_sysctl(struct items *s, const char *format, const char *link, const char *value)
{
	struct item *i = items_add(s, ITEM_SYSCTL, NULL);
	const char *hole = strstr(format, "%s");

	if (hole)
		snprintf(i->name, sizeof i->name, "%.*s%s%s", (int)(hole - format), format, link,
			 hole + 2);
	else
		snprintf(i->name, sizeof i->name, "%s", format);
	snprintf(i->text, sizeof i->text, "%s", value);
}

void plan_address_add(struct items *s, const char *link, uint32_t a, uint32_t plen)
{
	struct item *i = items_add(s, ITEM_ADDRESS, link);

	i->address = ip4(a);
	i->plen = plen;
}

void plan_fdb(struct items *s, const char *port, const uint8_t mac[static 6])
{
	memcpy(items_add(s, ITEM_FDB, port)->mac, mac, 6);
}

int plan_subnet(struct making *m, const json_t *subnet)
{
	const char *id = jstr(subnet, "SubnetId");
	uint32_t index = (uint32_t)jint(subnet, "_Index", 0);
	struct plan *p = m->p;
	struct cidr cidr;
	char bridge[16], leg[16];
	struct item *i;
	int r;

	if (!id || cidr_parse(jstr(subnet, "CidrBlock"), &cidr) < 0 || cidr.bits < 16)
		return plan_bad(m, subnet, "SubnetId");
	id_link_name('b', id, bridge);
	id_link_name('l', id, leg);
	memcpy(plan_link(&p->host, ITEM_BRIDGE, bridge, PLAN_MTU, 0, id)->mac, bridge_mac, 6);
	for (size_t s = 0; s < sizeof bridge_sysctls / sizeof *bridge_sysctls; s++)
		plan_sysctl(&p->host, bridge_sysctls[s].path, bridge, bridge_sysctls[s].value);
	i = plan_link(&p->host, ITEM_VETH, leg, PLAN_MTU, ITEM_ROUTER_PORT, id);
	snprintf(i->link, sizeof i->link, "%s", bridge);
	plan_fdb(&p->host, leg, plan_leg_mac);
	plan_sysctl(&p->host, "ipv6/conf/%s/disable_ipv6", leg, "1");

	memcpy(plan_link(&p->router, ITEM_LEG, leg, PLAN_MTU, 0, NULL)->mac, plan_leg_mac, 6);
	for (size_t s = 0; s < sizeof leg_sysctls / sizeof *leg_sysctls; s++)
		plan_sysctl(&p->router, leg_sysctls[s].path, leg, leg_sysctls[s].value);
	plan_address_add(&p->router, leg, cidr_first(cidr) + 1, 32);
	(void)plan_route_add(&p->router, RT_TABLE_MAIN, cidr, RTN_BLACKHOLE);
	i = items_add(&p->router, ITEM_SET, id);
	snprintf(i->text, sizeof i->text, "bitmap:ip,mac");
	i->via = ip4(cidr_first(cidr));
	i->type = cidr.bits;
	r = plan_table(m, PLAN_TABLE + index, leg, &cidr, plan_table_of_subnet(m, id));
	return r < 0 ? r : plan_ipv6_subnet(m, subnet, leg, PLAN_TABLE + index);
}

void plan_gateway(struct making *m)
{
	const char *link = m->igw_link;
	struct plan *p = m->p;

	(void)plan_link(&p->host, ITEM_VETH, link, PLAN_MTU_IGW, 0, m->igw);
	plan_sysctl(&p->host, "ipv4/conf/%s/forwarding", link, "1");
	plan_sysctl(&p->host, "ipv4/conf/%s/rp_filter", link,
		    "1"); /* what comes out has an address that is routed in */
	if (!p->has_ipv6)
		plan_sysctl(&p->host, "ipv6/conf/%s/disable_ipv6", link, "1");
	plan_address_add(&p->host, link, plan_transit(m), 31);
	(void)plan_link(&p->router, ITEM_LEG, "igw", PLAN_MTU_IGW, 0, NULL);
	plan_address_add(&p->router, "igw", plan_transit(m) + 1, 31);
	(void)plan_table(m, PLAN_TABLE_IGW, "igw", NULL,
			 NULL); /* fails only for routes, and there are none */
}

/* ---- interfaces ---- */

static void name_by_instance(const json_t *eni, int has_ipv6, struct plan_guest *g)
{
	const json_t *options = json_object_get(eni, "_PrivateDnsNameOptions");
	const char *first6 =
		jstr(json_array_get(json_object_get(eni, "Ipv6Addresses"), 0), "Ipv6Address");

	if (!options)
		return;
	snprintf(g->instance, sizeof g->instance, "%s",
		 jpath_str(eni, "Attachment.InstanceId") ?: "");
	g->is_resource_named = strcmp(jstr_or(options, "HostnameType", ""), "resource-name") == 0;
	g->has_resource_record = jbool(options, "EnableResourceNameDnsARecord", 0);
	g->has_resource_record6 = has_ipv6 &&
				  jbool(options, "EnableResourceNameDnsAAAARecord", 0) && first6 &&
				  inet_pton(AF_INET6, first6, &g->address6) == 1;
}

static int plan_guest(struct making *m, const json_t *eni, const json_t *private_address,
		      const struct plan_guest *like)
{
	struct plan *p = m->p;
	const char *public = jpath_str(private_address, "Association.PublicIp");
	struct plan_guest *g = &p->guests[p->n_guests];
	struct item *i;

	*g = *like;
	if (ip_parse(jstr(private_address, "PrivateIpAddress"), &g->address) < 0)
		return -EINVAL;
	g->is_primary = jbool(private_address, "Primary", 0);
	if (g->is_primary)
		name_by_instance(eni, p->has_ipv6, g);
	snprintf(g->host_name, sizeof g->host_name, "ip-%u-%u-%u-%u", g->address >> 24,
		 g->address >> 16 & 255, g->address >> 8 & 255, g->address & 255);
	snprintf(g->public_name, sizeof g->public_name, "%s",
		 jpath_str(private_address, "Association.PublicDnsName") ?: "");
	snprintf(g->ptr_record, sizeof g->ptr_record, "%s",
		 jpath_str(private_address, "Association._PtrRecord") ?: "");
	p->n_guests++;

	i = plan_route_add(&p->router, RT_TABLE_MAIN, (struct cidr){g->address, 32}, RTN_UNICAST);
	snprintf(i->link, sizeof i->link, "%s", g->leg);
	i = items_add(&p->router, ITEM_NEIGHBOUR, g->leg);
	i->address = ip4(g->address);
	memcpy(i->mac, g->mac, 6);
	i = items_add(&p->router, ITEM_MEMBER, jstr(eni, "SubnetId"));
	i->address = ip4(g->address);
	memcpy(i->mac, g->mac, 6);
	items_add(&p->router, ITEM_MEMBER, "local")->address = ip4(g->address);
	if (public && m->igw) {
		if (ip_parse(public, &g->public_address) < 0)
			return -EINVAL;
		i = plan_route_add(&p->host, RT_TABLE_MAIN, (struct cidr){g->public_address, 32},
				   RTN_UNICAST);
		i->via = ip4(plan_transit(m) + 1);
		snprintf(i->link, sizeof i->link, "%s", m->igw_link);
		items_add(&p->router, ITEM_MEMBER, "public")->address = ip4(g->address);
	}
	return 0;
}

static void plan_tap(struct making *m, const json_t *eni, const struct plan_guest *like)
{
	const char *tap = jstr(eni, "_Tap");
	struct item *i = plan_link(&m->p->host, ITEM_TAP, tap, PLAN_MTU,
				   ITEM_GUEST_PORT | ITEM_OWNED, jstr(eni, "NetworkInterfaceId"));

	id_link_name('b', jstr_or(eni, "SubnetId", ""), i->link);
	plan_fdb(&m->p->host, tap, like->mac);
	plan_sysctl(&m->p->host, "ipv6/conf/%s/disable_ipv6", tap, "1");
}

int plan_interface(struct making *m, const json_t *eni)
{
	const char *id = jstr(eni, "NetworkInterfaceId"), *tap = jstr(eni, "_Tap"),
		   *subnet_id = jstr_or(eni, "SubnetId", "");
	const json_t *subnet = plan_find(m->in->subnets, "SubnetId", subnet_id), *private_address;
	struct plan_guest like = {0};
	struct cidr cidr;
	size_t a;
	int r = 0;

	if (!id || !subnet || mac_parse(jstr(eni, "MacAddress"), like.mac) < 0 ||
	    strlen(tap) > 15 || cidr_parse(jstr(subnet, "CidrBlock"), &cidr) < 0)
		return plan_bad(m, eni, "NetworkInterfaceId");
	like.gateway = cidr_first(cidr) + 1;
	like.plen = cidr.bits;
	id_link_name('l', subnet_id, like.leg);
	if (jstr(eni, "_Node"))
		r = plan_node(m, eni, &like);
	else
		plan_tap(m, eni, &like);
	if (r < 0)
		return r == -EINVAL ? plan_bad(m, eni, "NetworkInterfaceId") : r;
	json_array_foreach (json_object_get(eni, "PrivateIpAddresses"), a, private_address)
		if (plan_guest(m, eni, private_address, &like) < 0)
			return plan_bad(m, eni, "NetworkInterfaceId");
	if (plan_prefixes4(m, eni, &like) < 0)
		return plan_bad(m, eni, "NetworkInterfaceId");
	return plan_ipv6_interface(m, eni, &like);
}
