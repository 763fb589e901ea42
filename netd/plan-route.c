/* Plan, routes: AWS route tables become Linux ones. */
#include "plan-internal.h"

#include <errno.h>
#include <linux/rtnetlink.h>
#include <string.h>

#define RULE_PRIORITY 100

const json_t *plan_table_of_subnet(const struct making *m, const char *subnet_id)
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

struct item *plan_route_add(struct items *s, uint32_t table, struct cidr to, uint32_t type)
{
	struct item *i = items_add(s, ITEM_ROUTE, NULL);

	i->table = table;
	i->address = ip4(cidr_first(to));
	i->plen = to.bits;
	i->type = type;
	return i;
}

/* Through an interface: to its address on its subnet's leg (a middlebox, a NAT instance). */
static int route_to_interface(const struct making *m, struct item *i, const char *id)
{
	const json_t *eni = plan_find(m->in->network_interfaces, "NetworkInterfaceId", id);

	if (!eni || !plan_is_active(eni) ||
	    ip_any_parse(jstr(eni, "PrivateIpAddress"), &i->via) < 0)
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
	i = plan_route_add(&m->p->router, table, destination, RTN_BLACKHOLE);
	if (gateway && strcmp(gateway, "local") == 0) {
		i->type = RTN_THROW;
	} else if (gateway && m->igw && strcmp(gateway, m->igw) == 0) {
		i->type = RTN_UNICAST;
		i->via = ip4(plan_transit(m));
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
			(void)plan_route_add(&m->p->router, table, cidr, RTN_THROW);
	if (cidr_parse(jstr(m->in->vpc, "CidrBlock"), &cidr) == 0)
		(void)plan_route_add(&m->p->router, table, cidr, RTN_THROW);
}

int plan_table(struct making *m, uint32_t table, const char *link, const json_t *route_table)
{
	struct item *rule = items_add(&m->p->router, ITEM_RULE, link);
	int has_default = 0;
	const json_t *doc;
	size_t i;

	rule->address.family = AF_INET;
	rule->table = table;
	rule->metric = RULE_PRIORITY;
	plan_local(m, table);
	json_array_foreach (json_object_get(route_table, "Routes"), i, doc) {
		if (plan_route(m, table, doc) < 0)
			return plan_bad(m, route_table, "RouteTableId");
		has_default |= strcmp(jstr_or(doc, "DestinationCidrBlock", ""), "0.0.0.0/0") == 0;
	}
	if (!has_default)
		(void)plan_route_add(&m->p->router, table, (struct cidr){0, 0}, RTN_BLACKHOLE);
	return 0;
}
