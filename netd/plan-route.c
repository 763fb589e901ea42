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
static int route_to_interface(struct item *i, const json_t *eni)
{
	if (!eni || ip_any_parse(jstr(eni, "PrivateIpAddress"), &i->via) < 0)
		return -ENOENT;
	id_link_name('l', jstr_or(eni, "SubnetId", ""), i->link);
	return 0;
}

static const json_t *interface_of_nat_gateway(const struct making *m, const char *id)
{
	const json_t *eni;
	size_t i;

	json_array_foreach (m->in->network_interfaces, i, eni)
		if (strcmp(jpath_str(eni, "Attachment.NatGatewayId") ?: "", id) == 0)
			return eni;
	return NULL;
}

/* The interface that the route leads to, NULL if to none, or it is gone, or its instance stopped. */
static const json_t *interface_of_route(const struct making *m, const json_t *doc)
{
	const char *eni = jstr(doc, "NetworkInterfaceId"), *nat = jstr(doc, "NatGatewayId");

	if (nat)
		return interface_of_nat_gateway(m, nat);
	if (strcmp(jstr_or(doc, "State", ""), "blackhole") == 0)
		return NULL;
	return plan_find(m->in->network_interfaces, "NetworkInterfaceId", eni);
}

/* A target that is gone or that we do not have swallows its packets: AWS calls the route a
 * blackhole. */
static void plan_route(const struct making *m, uint32_t table, struct cidr destination,
		       const json_t *doc)
{
	const char *gateway = jstr(doc, "GatewayId"),
		   *peering = jstr(doc, "VpcPeeringConnectionId");
	struct item *i = plan_route_add(&m->p->router, table, destination, RTN_BLACKHOLE);

	if (gateway && strcmp(gateway, "local") == 0) {
		i->type = RTN_THROW;
	} else if (gateway && m->igw && strcmp(gateway, m->igw) == 0) {
		i->type = RTN_UNICAST;
		i->via = ip4(plan_transit(m));
		snprintf(i->link, sizeof i->link, "igw");
	} else if (route_to_interface(i, interface_of_route(m, doc)) == 0 ||
		   (peering && plan_route_to_peer(m, i, peering) == 0)) {
		i->type = RTN_UNICAST;
	}
}

/* The table, whose items begin at `first`, has a route for exactly this block. */
static int is_planned(const struct making *m, size_t first, struct cidr block)
{
	const struct items *s = &m->p->router;
	struct address address = ip4(cidr_first(block));

	for (size_t i = first; i < s->n; i++)
		if (s->at[i].kind == ITEM_ROUTE && s->at[i].plen == block.bits &&
		    ip_is(&s->at[i].address, &address))
			return 1;
	return 0;
}

static int is_local(const struct making *m, struct cidr block)
{
	const json_t *association;
	struct cidr cidr;
	size_t i;

	json_array_foreach (json_object_get(m->in->vpc, "CidrBlockAssociationSet"), i, association)
		if (cidr_parse(jstr(association, "CidrBlock"), &cidr) == 0 &&
		    cidr_has_cidr(cidr, block))
			return 1;
	return cidr_parse(jstr(m->in->vpc, "CidrBlock"), &cidr) == 0 && cidr_has_cidr(cidr, block);
}

/* A route to a prefix list is one to each of its blocks; where they meet, local routes and those
 * that name the very block come first. Source: VPC user guide, "Route priority for prefix lists".
 */
static void plan_prefix_route(const struct making *m, uint32_t table, size_t first,
			      const json_t *doc)
{
	const json_t *entry;
	struct cidr block;
	size_t i;

	json_array_foreach (plan_prefix_entries(m->in, jstr(doc, "DestinationPrefixListId")), i,
			    entry) {
		if (cidr_parse(jstr(entry, "Cidr"), &block) < 0)
			continue; /* a list of IPv6 */
		if (!is_local(m, block) && !is_planned(m, first, block))
			plan_route(m, table, block, doc);
	}
}

/* A customer may have led a local route elsewhere: then it stands already. */
static void plan_local(const struct making *m, uint32_t table, size_t first)
{
	const json_t *association;
	struct cidr cidr;
	size_t i;

	json_array_foreach (json_object_get(m->in->vpc, "CidrBlockAssociationSet"), i, association)
		if (cidr_parse(jstr(association, "CidrBlock"), &cidr) == 0 &&
		    !is_planned(m, first, cidr))
			(void)plan_route_add(&m->p->router, table, cidr, RTN_THROW);
	if (cidr_parse(jstr(m->in->vpc, "CidrBlock"), &cidr) == 0 && !is_planned(m, first, cidr))
		(void)plan_route_add(&m->p->router, table, cidr, RTN_THROW);
}

/* Routes to blocks. */
static int plan_block_routes(const struct making *m, uint32_t table, const json_t *routes,
			     const struct cidr *own)
{
	const json_t *doc;
	struct cidr block;
	size_t i;

	json_array_foreach (routes, i, doc) {
		const char *text = jstr(doc, "DestinationCidrBlock");

		if (text && cidr_parse(text, &block) < 0)
			return -EINVAL;
		if (text && !(own && cidr_has_cidr(*own, block)))
			plan_route(m, table, block, doc);
	}
	return 0;
}

/* In AWS what stays within a subnet is not routed: no route table is asked. */
int plan_table(struct making *m, uint32_t table, const char *link, const struct cidr *own,
	       const json_t *route_table)
{
	struct item *rule = items_add(&m->p->router, ITEM_RULE, link);
	const json_t *routes = json_object_get(route_table, "Routes"), *doc;
	size_t first = m->p->router.n, i;
	struct cidr block;

	rule->address.family = AF_INET;
	rule->table = table;
	rule->metric = RULE_PRIORITY;
	if (own)
		(void)plan_route_add(&m->p->router, table, *own, RTN_THROW);
	if (plan_block_routes(m, table, routes, own) < 0)
		return plan_bad(m, route_table, "RouteTableId");
	plan_local(m, table, first);
	json_array_foreach (routes, i, doc)
		plan_prefix_route(m, table, first, doc);
	block = (struct cidr){0, 0};
	if (!is_planned(m, first, block))
		(void)plan_route_add(&m->p->router, table, block, RTN_BLACKHOLE);
	return 0;
}
