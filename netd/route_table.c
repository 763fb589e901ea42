/* Route tables and which subnets use them; the routes in them are in route.c. */
#include "netd.h"

#include <errno.h>
#include <string.h>

#include "describe.h"
#include "endpoint.h"

static const struct filter route_table_filters[] = {
	{"association.gateway-id", "Associations.GatewayId"},
	{"association.main", "Associations.Main"},
	{"association.route-table-association-id", "Associations.RouteTableAssociationId"},
	{"association.route-table-id", "Associations.RouteTableId"},
	{"association.subnet-id", "Associations.SubnetId"},
	{"owner-id", "OwnerId"},
	{"route-table-id", "RouteTableId"},
	{"route.destination-cidr-block", "Routes.DestinationCidrBlock"},
	{"route.destination-ipv6-cidr-block", "Routes.DestinationIpv6CidrBlock"},
	{"route.destination-prefix-list-id", "Routes.DestinationPrefixListId"},
	{"route.egress-only-internet-gateway-id", "Routes.EgressOnlyInternetGatewayId"},
	{"route.gateway-id", "Routes.GatewayId"},
	{"route.instance-id", "Routes.InstanceId"},
	{"route.nat-gateway-id", "Routes.NatGatewayId"},
	{"route.origin", "Routes.Origin"},
	{"route.state", "Routes.State"},
	{"route.transit-gateway-id", "Routes.TransitGatewayId"},
	{"route.vpc-peering-connection-id", "Routes.VpcPeeringConnectionId"},
	{"vpc-id", "VpcId"},
	FILTER_TAGS,
	{NULL},
};

static const struct describe route_tables = {
	.kind = "route-table",
	.result = "RouteTables",
	.ids = "RouteTableIds",
	.prefix = "rtb",
	.malformed = FAULT_INVALID_ROUTE_TABLE_ID_MALFORMED,
	.not_found = FAULT_INVALID_ROUTE_TABLE_ID_NOT_FOUND,
	.filters = route_table_filters,
};

/* `subnet_id` NULL: the main association. */
static json_t *association_json(const char *table_id, const char *subnet_id,
				char ret_id[static ID_MAX])
{
	id_new("rtbassoc", ret_id);
	json_t *json = json_pack("{s:b s:s s:s s:{s:s}}", "Main", !subnet_id,
				 "RouteTableAssociationId", ret_id, "RouteTableId", table_id,
				 "AssociationState", "State", "associated");

	if (subnet_id && jset(json, "SubnetId", subnet_id) < 0) {
		json_decref(json);
		return NULL;
	}
	return json;
}

int route_table_make(const struct call *c, const char *vpc_id, const json_t *blocks, int is_main,
		     json_t *tags, char ret_id[static ID_MAX])
{
	char association_id[ID_MAX];
	const json_t *block;
	size_t i;
	int r = 0;

	id_new("rtb", ret_id);
	OWN(json_decref)
	json_t *json = json_pack("{s:s s:s s:s s:[] s:[] s:[] s:o}", "RouteTableId", ret_id,
				 "VpcId", vpc_id, "OwnerId", c->ctx->account, "PropagatingVgws",
				 "Associations", "Routes", "Tags", tags_or_none(tags));

	json_array_foreach (blocks, i, block)
		if (r == 0)
			r = route_append(
				json,
				jstr_or(block, "CidrBlock", jstr_or(block, "Ipv6CidrBlock", "")),
				"local", "CreateRouteTable");
	if (r == 0 && is_main)
		r = json_array_append_new(json_object_get(json, "Associations"),
					  association_json(ret_id, NULL, association_id)) < 0
			    ? -ENOMEM
			    : 0;
	return r < 0 ? r : put_new(c, &kind_route_table, ret_id, give(json));
}

int route_table_is_main(const json_t *table)
{
	json_t *list = json_object_get(table, "Associations"), *a;
	size_t i;

	json_array_foreach (list, i, a)
		if (jbool(a, "Main", 0))
			return 1;
	return 0;
}

int describe_route_tables(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	return describe_run(c, &route_tables, parameters, ret_reply, f);
}

int create_route_table(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	const struct doc *vpc;
	OWN(json_decref) json_t *tags = NULL;
	char id[ID_MAX];
	int r = kind_get_parameter(c, &kind_vpc, parameters, "VpcId", &vpc, f);

	if (r == 0)
		r = kind_tags(&kind_route_table, parameters, &tags, f);
	if (r < 0)
		return r;
	if (kind_count_in_vpc(c, &kind_route_table, vpc->id) >= LIMIT_ROUTE_TABLES_PER_VPC)
		return fault_set(f, FAULT_ROUTE_TABLE_LIMIT_EXCEEDED,
				 "The maximum number of route tables has been reached.");
	OWN(json_decref) json_t *blocks = json_array();

	r = jarray_extend_all(blocks, json_object_get(vpc->json, "CidrBlockAssociationSet"));
	if (r == 0)
		r = jarray_extend_all(blocks,
				      json_object_get(vpc->json, "Ipv6CidrBlockAssociationSet"));
	if (r == 0)
		r = route_table_make(c, vpc->id, blocks, 0, tags, id);
	if (r < 0)
		return r;
	*ret_reply = json_pack("{s:O}", "RouteTable", txn_look(c->txn, "route-table", id));
	return *ret_reply ? 0 : -ENOMEM;
}

int delete_route_table(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	const struct doc *table = NULL;
	int r = kind_get_parameter(c, &kind_route_table, parameters, "RouteTableId", &table, f);

	if (r < 0)
		return r;
	if (json_array_size(json_object_get(table->json, "Associations")) > 0)
		return fault_set(f, FAULT_DEPENDENCY_VIOLATION,
				 "The routeTable '%s' has dependencies and cannot be deleted.",
				 table->id);
	r = endpoints_forget_table(c, table->id);
	if (r < 0)
		return r;
	*ret_reply = reply_true();
	return txn_delete(c->txn, "route-table", table->id);
}

static int association_get(const struct call *c, json_t *parameters, const struct doc **ret_table,
			   size_t *ret_at, struct fault *f)
{
	return kind_find_association(c, &kind_route_table, parameters, "RouteTableAssociationId",
				     ret_table, ret_at, f);
}

static const struct doc *table_of_subnet(const struct call *c, const char *subnet_id,
					 size_t *ret_at)
{
	return kind_find_row(c, "route-table", "Associations", "SubnetId", subnet_id, ret_at);
}

/* Appends to the table as the transaction would leave it, and replies with the new association. */
static int association_add(const struct call *c, const char *table_id, const char *subnet_id,
			   const char *reply_member, json_t **ret_reply)
{
	OWN(json_decref) json_t *json = json_deep_copy(txn_look(c->txn, "route-table", table_id));
	char id[ID_MAX];

	if (json_array_append_new(json_object_get(json, "Associations"),
				  association_json(table_id, subnet_id, id)) < 0)
		return -ENOMEM;
	*ret_reply = json_pack("{s:s s:{s:s}}", reply_member, id, "AssociationState", "State",
			       "associated");
	return *ret_reply ? put_new(c, &kind_route_table, table_id, give(json)) : -ENOMEM;
}

int associate_route_table(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	const struct doc *table, *subnet;
	size_t at;
	int r = kind_get_parameter(c, &kind_route_table, parameters, "RouteTableId", &table, f);

	if (r < 0)
		return r;
	if (jstr(parameters, "GatewayId"))
		return fault_set(f, FAULT_UNSUPPORTED_OPERATION,
				 "Gateway route tables are not supported");
	r = kind_get_parameter(c, &kind_subnet, parameters, "SubnetId", &subnet, f);
	if (r < 0)
		return r;
	if (!jis(subnet->json, "VpcId", jstr(table->json, "VpcId")))
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "Route table %s and subnet %s belong to different networks",
				 table->id, subnet->id);
	if (table_of_subnet(c, subnet->id, &at))
		return fault_set(f, FAULT_RESOURCE_ALREADY_ASSOCIATED,
				 "the specified association for route table %s conflicts with an "
				 "existing association",
				 table->id);
	r = association_add(c, table->id, subnet->id, "AssociationId", ret_reply);
	return r < 0 ? r : call_apply(c, jstr_or(table->json, "VpcId", ""));
}

int disassociate_route_table(struct call *c, json_t *parameters, json_t **ret_reply,
			     struct fault *f)
{
	const struct doc *table = NULL;
	size_t at;
	int r = association_get(c, parameters, &table, &at, f);

	if (r < 0)
		return r;
	if (jbool(json_array_get(json_object_get(table->json, "Associations"), at), "Main", 0))
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "cannot disassociate the main route table association %s",
				 jstr(parameters, "AssociationId"));
	*ret_reply = reply_true();
	r = kind_drop_row(c, table, "Associations", at);
	return r < 0 ? r : call_apply(c, jstr_or(table->json, "VpcId", ""));
}

int replace_route_table_association(struct call *c, json_t *parameters, json_t **ret_reply,
				    struct fault *f)
{
	const struct doc *table = NULL, *old = NULL;
	size_t at;
	int r = association_get(c, parameters, &old, &at, f);

	if (r == 0)
		r = kind_get_parameter(c, &kind_route_table, parameters, "RouteTableId", &table, f);
	if (r < 0)
		return r;
	if (!jis(table->json, "VpcId", jstr(old->json, "VpcId")))
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "Route table %s and network %s belong to different networks",
				 table->id, jstr(old->json, "VpcId"));
	const json_t *association = json_array_get(json_object_get(old->json, "Associations"), at);

	r = kind_drop_row(c, old, "Associations", at);
	if (r < 0)
		return r;
	r = association_add(c, table->id, jstr(association, "SubnetId"), "NewAssociationId",
			    ret_reply);
	return r < 0 ? r : call_apply(c, jstr_or(table->json, "VpcId", ""));
}

int route_table_forget_subnet(const struct call *c, const char *subnet_id)
{
	size_t at;
	const struct doc *table = table_of_subnet(c, subnet_id, &at);

	return table ? kind_drop_row(c, table, "Associations", at) : 0;
}
