/* Plan: a VPC's documents become links, addresses, routes and neighbours. (Chains: plan-rules.c.)
 */
#include "plan.h"

#include <errno.h>
#include <linux/rtnetlink.h>
#include <string.h>
#include "cidr.h"
#include "jsonx.h"

/* Every router leg and bridge has the same addresses: each is alone on its bridge, and a guest that
 * moves between hosts keeps its gateway. */
static const uint8_t leg_mac[6] = {0x02, 0x67, 0x75, 0x00, 0x00, 0x01};
static const uint8_t bridge_mac[6] = {0x02, 0x67, 0x75, 0x00, 0x00, 0x02};

#define RULE_PRIORITY 100

/* Of a new namespace and its future links. IPv6 is off until VPCs have it: otherwise link-local
 * addresses would reach the router. */
static const struct {
	const char *path, *value;
} router_sysctls[] = {
	{"ipv4/conf/all/accept_redirects", "0"},
	{"ipv4/conf/all/rp_filter", "0"},
	{"ipv4/conf/all/send_redirects", "0"},
	{"ipv4/conf/default/accept_redirects", "0"},
	{"ipv4/conf/default/rp_filter", "0"},
	{"ipv4/conf/default/send_redirects", "0"},
	{"ipv4/ip_forward", "1"},
	{"ipv6/conf/all/disable_ipv6", "1"},
	{"ipv6/conf/default/disable_ipv6", "1"},
};

/* proxy_delay: by default ARP is answered after up to 0.8 s. */
static const struct {
	const char *path, *value;
} leg_sysctls[] = {
	{"ipv4/conf/%s/proxy_arp_pvlan", "1"},
	{"ipv4/conf/%s/rp_filter", "0"},
	{"ipv4/conf/%s/send_redirects", "0"},
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

struct making {
	const struct plan_settings *settings;
	const struct plan_input *in;
	struct plan *p;
	uint32_t index;	   /* of the VPC */
	const char *igw;   /* its id, NULL without one */
	char igw_link[16]; /* host's end */
	char *what;
};

static int mac_parse(const char *text, uint8_t mac[static 6])
{
	return text && sscanf(text, "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", &mac[0], &mac[1], &mac[2],
			      &mac[3], &mac[4], &mac[5]) == 6
		       ? 0
		       : -EINVAL;
}

int plan_is_active(const json_t *network_interface)
{
	return jpath_str(network_interface, "Attachment.InstanceId") != NULL &&
	       jstr(network_interface, "_Tap") != NULL;
}

void plan_netns_name(const char *vpc_id, char ret_name[static ID_MAX + 8])
{
	snprintf(ret_name, ID_MAX + 8, "gureum-%s", vpc_id);
}

static int bad(struct making *m, const json_t *doc, const char *id_member)
{
	snprintf(m->what, ID_MAX, "%s", jstr_or(doc, id_member, "?"));
	return -EINVAL;
}

static const json_t *find_by(const json_t *array, const char *member, const char *value)
{
	const json_t *o;
	size_t i;

	json_array_foreach (array, i, o)
		if (value && strcmp(jstr_or(o, member, ""), value) == 0)
			return o;
	return NULL;
}

/* ---- routes ---- */

static const json_t *table_of_subnet(const struct making *m, const char *subnet_id)
{
	const json_t *table, *association, *main_table = NULL;
	size_t t, a;

	json_array_foreach (m->in->route_tables, t, table)
		json_array_foreach (json_object_get(table, "Associations"), a, association) {
			if (strcmp(jstr_or(association, "SubnetId", ""), subnet_id) == 0)
				return table;
			if (jbool(association, "Main", 0))
				main_table = table;
		}
	return main_table;
}

static struct item *route(struct items *s, uint32_t table, struct cidr to, uint32_t type)
{
	struct item *i = items_add(s, ITEM_ROUTE, NULL);

	i->table = table;
	i->address = cidr_first(to);
	i->plen = to.bits;
	i->type = type;
	return i;
}

static uint32_t transit(const struct making *m)
{
	return m->settings->transit + 2 * m->index;
}

/* Through an interface: to its address on its subnet's leg (a middlebox, a NAT instance). */
static int route_to_interface(const struct making *m, struct item *i, const char *id)
{
	const json_t *eni = find_by(m->in->network_interfaces, "NetworkInterfaceId", id);

	if (!eni || !plan_is_active(eni) || ip_parse(jstr(eni, "PrivateIpAddress"), &i->via) < 0)
		return -ENOENT;
	id_link_name('l', jstr_or(eni, "SubnetId", ""), i->link);
	return 0;
}

/* A target that is gone or that we do not have swallows its packets: AWS calls the route a
 * blackhole. */
static int plan_route(const struct making *m, uint32_t table, const json_t *doc)
{
	const char *gateway = jstr(doc, "GatewayId"), *eni = jstr(doc, "NetworkInterfaceId");
	struct cidr destination;
	struct item *i;

	if (!jstr(doc, "DestinationCidrBlock"))
		return 0; /* IPv6, prefix lists: not in our VPCs yet */
	if (cidr_parse(jstr(doc, "DestinationCidrBlock"), &destination) < 0)
		return -EINVAL;
	i = route(&m->p->router, table, destination, RTN_BLACKHOLE);
	if (gateway && strcmp(gateway, "local") == 0) {
		i->type = RTN_THROW;
	} else if (gateway && m->igw && strcmp(gateway, m->igw) == 0) {
		i->type = RTN_UNICAST;
		i->via = transit(m);
		snprintf(i->link, sizeof i->link, "igw");
	} else if (eni && route_to_interface(m, i, eni) == 0) {
		i->type = RTN_UNICAST;
	}
	return 0;
}

static void plan_local(const struct making *m, uint32_t table)
{
	const json_t *association;
	struct cidr cidr;
	size_t i;

	json_array_foreach (json_object_get(m->in->vpc, "CidrBlockAssociationSet"), i, association)
		if (cidr_parse(jstr(association, "CidrBlock"), &cidr) == 0)
			(void)route(&m->p->router, table, cidr, RTN_THROW);
	if (cidr_parse(jstr(m->in->vpc, "CidrBlock"), &cidr) == 0)
		(void)route(&m->p->router, table, cidr, RTN_THROW);
}

static int plan_table(struct making *m, uint32_t table, const char *link, const json_t *route_table)
{
	struct item *rule = items_add(&m->p->router, ITEM_RULE, link);
	int has_default = 0;
	const json_t *doc;
	size_t i;

	rule->table = table;
	rule->metric = RULE_PRIORITY;
	plan_local(m, table);
	json_array_foreach (json_object_get(route_table, "Routes"), i, doc) {
		if (plan_route(m, table, doc) < 0)
			return bad(m, route_table, "RouteTableId");
		has_default |= strcmp(jstr_or(doc, "DestinationCidrBlock", ""), "0.0.0.0/0") == 0;
	}
	if (!has_default)
		(void)route(&m->p->router, table, (struct cidr){0, 0}, RTN_BLACKHOLE);
	return 0;
}

/* ---- links ---- */

static struct item *link_item(struct items *s, enum item_kind kind, const char *name, uint32_t mtu,
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

static void sysctl(struct items *s, const char *format, const char *link, const char *value)
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

static void address(struct items *s, const char *link, uint32_t a, uint32_t plen)
{
	struct item *i = items_add(s, ITEM_ADDRESS, link);

	i->address = a;
	i->plen = plen;
}

static void fdb(struct items *s, const char *port, const uint8_t mac[static 6])
{
	memcpy(items_add(s, ITEM_FDB, port)->mac, mac, 6);
}

static int plan_subnet(struct making *m, const json_t *subnet)
{
	const char *id = jstr(subnet, "SubnetId");
	uint32_t index = (uint32_t)jint(subnet, "_Index", 0);
	struct plan *p = m->p;
	struct cidr cidr;
	char bridge[16], leg[16];
	struct item *i;

	if (!id || cidr_parse(jstr(subnet, "CidrBlock"), &cidr) < 0 || cidr.bits < 16)
		return bad(m, subnet, "SubnetId");
	id_link_name('b', id, bridge);
	id_link_name('l', id, leg);
	memcpy(link_item(&p->host, ITEM_BRIDGE, bridge, PLAN_MTU, 0, id)->mac, bridge_mac, 6);
	for (size_t s = 0; s < sizeof bridge_sysctls / sizeof *bridge_sysctls; s++)
		sysctl(&p->host, bridge_sysctls[s].path, bridge, bridge_sysctls[s].value);
	i = link_item(&p->host, ITEM_VETH, leg, PLAN_MTU, ITEM_ROUTER_PORT, id);
	snprintf(i->link, sizeof i->link, "%s", bridge);
	fdb(&p->host, leg, leg_mac);
	sysctl(&p->host, "ipv6/conf/%s/disable_ipv6", leg, "1");

	memcpy(link_item(&p->router, ITEM_LEG, leg, PLAN_MTU, 0, NULL)->mac, leg_mac, 6);
	for (size_t s = 0; s < sizeof leg_sysctls / sizeof *leg_sysctls; s++)
		sysctl(&p->router, leg_sysctls[s].path, leg, leg_sysctls[s].value);
	address(&p->router, leg, cidr_first(cidr) + 1, 32);
	(void)route(&p->router, RT_TABLE_MAIN, cidr, RTN_BLACKHOLE);
	i = items_add(&p->router, ITEM_SET, id);
	snprintf(i->text, sizeof i->text, "bitmap:ip,mac");
	i->via = cidr_first(cidr);
	i->type = cidr.bits;
	return plan_table(m, PLAN_TABLE + index, leg, table_of_subnet(m, id));
}

static void plan_gateway(struct making *m)
{
	const char *link = m->igw_link;
	struct plan *p = m->p;

	(void)link_item(&p->host, ITEM_VETH, link, PLAN_MTU_IGW, 0, m->igw);
	sysctl(&p->host, "ipv4/conf/%s/forwarding", link, "1");
	sysctl(&p->host, "ipv4/conf/%s/rp_filter", link,
	       "1"); /* what comes out has an address that is routed in */
	sysctl(&p->host, "ipv6/conf/%s/disable_ipv6", link, "1");
	address(&p->host, link, transit(m), 31);
	(void)link_item(&p->router, ITEM_LEG, "igw", PLAN_MTU_IGW, 0, NULL);
	address(&p->router, "igw", transit(m) + 1, 31);
	(void)plan_table(m, PLAN_TABLE_IGW, "igw",
			 NULL); /* fails only for routes, and there are none */
}

/* ---- interfaces ---- */

static int plan_address(struct making *m, const json_t *eni, const json_t *private_address,
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
	snprintf(g->host_name, sizeof g->host_name, "ip-%u-%u-%u-%u", g->address >> 24,
		 g->address >> 16 & 255, g->address >> 8 & 255, g->address & 255);
	snprintf(g->public_name, sizeof g->public_name, "%s",
		 jpath_str(private_address, "Association.PublicDnsName") ?: "");
	p->n_guests++;

	i = route(&p->router, RT_TABLE_MAIN, (struct cidr){g->address, 32}, RTN_UNICAST);
	snprintf(i->link, sizeof i->link, "%s", g->leg);
	i = items_add(&p->router, ITEM_NEIGHBOUR, g->leg);
	i->address = g->address;
	memcpy(i->mac, g->mac, 6);
	i = items_add(&p->router, ITEM_MEMBER, jstr(eni, "SubnetId"));
	i->address = g->address;
	memcpy(i->mac, g->mac, 6);
	items_add(&p->router, ITEM_MEMBER, "local")->address = g->address;
	if (public && m->igw) {
		if (ip_parse(public, &g->public_address) < 0)
			return -EINVAL;
		i = route(&p->host, RT_TABLE_MAIN, (struct cidr){g->public_address, 32},
			  RTN_UNICAST);
		i->via = transit(m) + 1;
		snprintf(i->link, sizeof i->link, "%s", m->igw_link);
		items_add(&p->router, ITEM_MEMBER, "public")->address = g->address;
	}
	return 0;
}

static int plan_interface(struct making *m, const json_t *eni)
{
	const char *id = jstr(eni, "NetworkInterfaceId"), *tap = jstr(eni, "_Tap"),
		   *subnet_id = jstr_or(eni, "SubnetId", "");
	const json_t *subnet = find_by(m->in->subnets, "SubnetId", subnet_id), *private_address;
	struct plan_guest like = {0};
	struct cidr cidr;
	struct item *i;
	size_t a;

	if (!id || !subnet || mac_parse(jstr(eni, "MacAddress"), like.mac) < 0 ||
	    strlen(tap) > 15 || cidr_parse(jstr(subnet, "CidrBlock"), &cidr) < 0)
		return bad(m, eni, "NetworkInterfaceId");
	like.gateway = cidr_first(cidr) + 1;
	like.plen = cidr.bits;
	id_link_name('l', subnet_id, like.leg);
	i = link_item(&m->p->host, ITEM_TAP, tap, PLAN_MTU, ITEM_GUEST_PORT | ITEM_OWNED, id);
	id_link_name('b', subnet_id, i->link);
	fdb(&m->p->host, tap, like.mac);
	sysctl(&m->p->host, "ipv6/conf/%s/disable_ipv6", tap, "1");
	json_array_foreach (json_object_get(eni, "PrivateIpAddresses"), a, private_address)
		if (plan_address(m, eni, private_address, &like) < 0)
			return bad(m, eni, "NetworkInterfaceId");
	return 0;
}

/* ---- the whole ---- */

static void plan_set(struct items *s, const char *name)
{
	struct item *i = items_add(s, ITEM_SET, name);

	snprintf(i->text, sizeof i->text, "hash:ip");
}

static void servers_from(const json_t *configuration, struct plan *p, uint32_t servers[static 4],
			 size_t *n)
{
	const json_t *value;
	size_t i;

	json_array_foreach (json_object_get(configuration, "Values"), i, value) {
		const char *text = jstr_or(value, "Value", "");

		if (*n < 4 && ip_parse(text, &servers[*n]) == 0)
			(*n)++;
		else if (*n < 4 && strcmp(text, "AmazonProvidedDNS") == 0 && p->has_dns)
			servers[(*n)++] = p->dns;
	}
}

/* What DHCP and DNS say. Source: VPC user guide, "DHCP option sets in Amazon VPC", "DNS attributes
 * for your VPC". */
static void plan_names(struct making *m)
{
	struct plan *p = m->p;
	const json_t *configuration;
	size_t i;

	p->has_dns = jbool(m->in->vpc, "_EnableDnsSupport", 1);
	if (strcmp(m->in->region, "us-east-1") == 0)
		snprintf(p->zone, sizeof p->zone, "ec2.internal");
	else
		snprintf(p->zone, sizeof p->zone, "%s.compute.internal", m->in->region);
	snprintf(p->domain, sizeof p->domain, "%s", p->zone);
	json_array_foreach (json_object_get(m->in->dhcp_options, "DhcpConfigurations"), i,
			    configuration) {
		const char *key = jstr_or(configuration, "Key", "");

		if (strcmp(key, "domain-name") == 0)
			snprintf(
				p->domain, sizeof p->domain, "%s",
				jstr_or(json_array_get(json_object_get(configuration, "Values"), 0),
					"Value", ""));
		else if (strcmp(key, "domain-name-servers") == 0)
			servers_from(configuration, p, p->dns_servers, &p->n_dns_servers);
		else if (strcmp(key, "ntp-servers") == 0)
			servers_from(configuration, p, p->ntp_servers, &p->n_ntp_servers);
	}
	if (!m->in->dhcp_options && p->has_dns)
		p->dns_servers[p->n_dns_servers++] = p->dns;
}

static void plan_router(struct making *m)
{
	struct items *s = &m->p->router;

	for (size_t i = 0; i < sizeof router_sysctls / sizeof *router_sysctls; i++)
		sysctl(s, router_sysctls[i].path, "", router_sysctls[i].value);
	(void)link_item(s, ITEM_LEG, "lo", 0, 0, NULL);
	address(s, "lo", ADDRESS_IMDS, 32);
	address(s, "lo", ADDRESS_DNS, 32);
	address(s, "lo", m->p->dns, 32);
	plan_set(s, "local");
	plan_set(s, "public");
}

static int plan_parts(struct making *m)
{
	const json_t *subnet, *eni;
	size_t i, j, n_room = 0;
	int r;

	plan_names(m);
	plan_router(m);
	if (m->igw)
		plan_gateway(m);
	json_array_foreach (m->in->subnets, i, subnet) {
		int is_used = 0;

		json_array_foreach (m->in->network_interfaces, j, eni)
			is_used |= plan_is_active(eni) &&
				   strcmp(jstr_or(eni, "SubnetId", ""),
					  jstr_or(subnet, "SubnetId", "?")) == 0;
		if (is_used && (r = plan_subnet(m, subnet)) < 0)
			return r;
	}
	json_array_foreach (m->in->network_interfaces, j, eni)
		n_room += json_array_size(json_object_get(eni, "PrivateIpAddresses"));
	m->p->guests = calloc(n_room + 1, sizeof *m->p->guests);
	if (!m->p->guests)
		return -ENOMEM;
	json_array_foreach (m->in->network_interfaces, j, eni)
		if (plan_is_active(eni) && (r = plan_interface(m, eni)) < 0)
			return r;
	m->p->is_idle = m->p->n_guests == 0;
	return 0;
}

int plan_make(const struct plan_settings *settings, const struct plan_input *in,
	      struct plan **ret_plan, char ret_what[static ID_MAX])
{
	OWN(plan_free) struct plan *p = calloc(1, sizeof *p);
	struct making m = {.settings = settings, .in = in, .p = p, .what = ret_what};
	const json_t *igw, *attachment;
	struct cidr cidr;
	size_t i, a;
	int r;

	ret_what[0] = '\0';
	if (!p)
		return -ENOMEM;
	snprintf(p->vpc_id, sizeof p->vpc_id, "%s", jstr_or(in->vpc, "VpcId", ""));
	plan_netns_name(p->vpc_id, p->netns);
	m.index = (uint32_t)jint(in->vpc, "_Index", 0);
	if (cidr_parse(jstr(in->vpc, "CidrBlock"), &cidr) < 0 ||
	    2 * m.index >> (32 - settings->transit_plen))
		return bad(&m, in->vpc, "VpcId");
	p->dns = cidr_first(cidr) + 2;
	json_array_foreach (in->internet_gateways, i, igw)
		json_array_foreach (json_object_get(igw, "Attachments"), a, attachment)
			if (strcmp(jstr_or(attachment, "VpcId", ""), p->vpc_id) == 0)
				m.igw = jstr(igw, "InternetGatewayId");
	id_link_name('g', p->vpc_id, m.igw_link);
	if ((r = plan_parts(&m)) < 0 || (r = plan_rules(in, p)) < 0)
		return r;
	if ((r = items_sort(&p->router)) < 0 || (r = items_sort(&p->host)) < 0 ||
	    (r = ruleset_sort(&p->rules)) < 0)
		return r;
	*ret_plan = give(p);
	return 0;
}

void plan_free(struct plan *p)
{
	if (!p)
		return;
	items_free(&p->router);
	items_free(&p->host);
	ruleset_free(&p->rules);
	free(p->guests);
	free(p);
}

static void print_items(const char *title, const struct items *s, FILE *out)
{
	fprintf(out, "# %s\n", title);
	for (size_t i = 0; i < s->n; i++) {
		item_print(&s->at[i], out);
		fputc('\n', out);
	}
}

void plan_print(const struct plan *p, FILE *out)
{
	fprintf(out, "# %s in %s%s\n", p->vpc_id, p->netns, p->is_idle ? ", idle" : "");
	print_items("host", &p->host, out);
	print_items("router", &p->router, out);
	fprintf(out, "# rules\n");
	ruleset_print(&p->rules, out);
	fprintf(out, "# names: zone %s, domain %s, %zu resolvers\n", p->zone, p->domain,
		p->n_dns_servers);
	for (size_t i = 0; i < p->n_guests; i++)
		fprintf(out, "guest %s on %s%s%s%s\n", p->guests[i].host_name, p->guests[i].leg,
			p->guests[i].is_primary ? " primary" : "",
			p->guests[i].public_name[0] ? " " : "", p->guests[i].public_name);
}
