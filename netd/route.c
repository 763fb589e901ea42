/* Routes: destinations and targets within a route table. */
#include "netd.h"

#include <errno.h>
#include <string.h>

int route_append(json_t *table, const char *destination, const char *gateway_id, const char *origin)
{
	return json_array_append_new(json_object_get(table, "Routes"),
				     json_pack("{s:s s:s s:s s:s}", "DestinationCidrBlock",
					       destination, "GatewayId", gateway_id, "Origin",
					       origin, "State", "active")) < 0
		       ? -ENOMEM
		       : 0;
}

int routes_mark(const struct call *c, const char *vpc_id, const char *gateway_id, const char *state)
{
	store_each (c->store, "route-table", d) {
		if (!jis(d->json, "VpcId", vpc_id))
			continue;
		OWN(json_decref) json_t *json = doc_edit(d);
		json_t *routes = json_object_get(json, "Routes"), *route;
		size_t i;
		int is_changed = 0, r = 0;

		json_array_foreach (routes, i, route)
			if (jis(route, "GatewayId", gateway_id)) {
				r = jset(route, "State", state);
				is_changed = 1;
			}
		if (r == 0 && is_changed)
			r = txn_replace(c->txn, d, give(json));
		if (r < 0)
			return r;
	}
	return 0;
}

/* The table, an editable copy, and the destination in canonical form: what each call on a route
 * begins with. */
struct route_call {
	const struct doc *table;
	json_t *json; /* the caller's */
	struct cidr destination;
	char text[CIDR_TEXT_MAX];
};

static int route_call_start(const struct call *c, json_t *parameters, struct route_call *rc,
			    struct fault *f)
{
	const char *text = jstr(parameters, "DestinationCidrBlock");
	int r = kind_get_parameter(c, &kind_route_table, parameters, "RouteTableId", &rc->table, f);

	if (r < 0)
		return r;
	if (jstr(parameters, "DestinationIpv6CidrBlock") ||
	    jstr(parameters, "DestinationPrefixListId"))
		return fault_set(f, FAULT_UNSUPPORTED_OPERATION,
				 "Routes have IPv4 destinations only so far");
	if (!text)
		return fault_set(f, FAULT_MISSING_PARAMETER,
				 "The request must contain the parameter destinationCidrBlock");
	if (cidr_parse(text, &rc->destination) < 0)
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "Value (%.64s) for parameter destinationCidrBlock is invalid. "
				 "This is not a valid "
				 "CIDR block.",
				 text);
	rc->destination = cidr_canonical(rc->destination);
	cidr_format(rc->destination, rc->text);
	rc->json = doc_edit(rc->table);
	return rc->json ? 0 : -ENOMEM;
}

static int route_find(const json_t *table, const char *destination, size_t *ret_at)
{
	json_t *routes = json_object_get(table, "Routes"), *route;
	size_t i;

	json_array_foreach (routes, i, route)
		if (jis(route, "DestinationCidrBlock", destination)) {
			*ret_at = i;
			return 1;
		}
	return 0;
}

/* The one target of the parameters: an internet gateway that is attached to the table's VPC. */
static int target_get(const struct call *c, json_t *parameters, const struct doc *table,
		      const char **ret_gateway_id, struct fault *f)
{
	static const char *const others[] = {
		"VpcEndpointId",    "EgressOnlyInternetGatewayId",
		"InstanceId",	    "NatGatewayId",
		"TransitGatewayId", "LocalGatewayId",
		"CarrierGatewayId", "NetworkInterfaceId",
		"CoreNetworkArn",   "VpcPeeringConnectionId",
		"LocalTarget",
	};
	const struct doc *gateway, *attached;

	for (size_t i = 0; i < sizeof others / sizeof *others; i++)
		if (json_object_get(parameters, others[i]))
			return fault_set(f, FAULT_UNSUPPORTED_OPERATION,
					 "Routes to %s are not supported", others[i]);
	int r = kind_get_parameter(c, &kind_internet_gateway, parameters, "GatewayId", &gateway, f);

	if (r < 0)
		return r;
	attached = gateway_of(c, jstr(table->json, "VpcId"));
	if (attached != gateway)
		return fault_set(
			f, FAULT_INVALID_PARAMETER_VALUE,
			"route table %s and network gateway %s belong to different networks",
			table->id, gateway->id);
	*ret_gateway_id = gateway->id;
	return 0;
}

static int has_local_route_over(const json_t *table, struct cidr destination)
{
	json_t *routes = json_object_get(table, "Routes"), *route;
	struct cidr local;
	size_t i;

	json_array_foreach (routes, i, route)
		if (jis(route, "GatewayId", "local") &&
		    cidr_parse(jstr(route, "DestinationCidrBlock"), &local) == 0 &&
		    cidr_has_cidr(local, destination))
			return 1;
	return 0;
}

int create_route(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	struct route_call rc;
	const char *gateway_id;
	size_t at;
	int r = route_call_start(c, parameters, &rc, f);

	if (r < 0)
		return r;
	OWN(json_decref) json_t *json = rc.json;

	r = target_get(c, parameters, rc.table, &gateway_id, f);
	if (r < 0)
		return r;
	if (route_find(json, rc.text, &at))
		return fault_set(f, FAULT_ROUTE_ALREADY_EXISTS,
				 "The route identified by %s already exists.", rc.text);
	if (has_local_route_over(json, rc.destination))
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "The destination CIDR block %s is equal to or more specific than "
				 "one of this VPC's CIDR "
				 "blocks. This route can target only an interface or an instance.",
				 rc.text);
	if (json_array_size(json_object_get(json, "Routes")) > LIMIT_ROUTES_PER_TABLE)
		return fault_set(f, FAULT_ROUTE_LIMIT_EXCEEDED,
				 "The maximum number of routes has been reached.");
	r = route_append(json, rc.text, gateway_id, "CreateRoute");
	if (r < 0)
		return r;
	kernel_touch(jstr(json, "VpcId"));
	*ret_reply = reply_true();
	return txn_replace(c->txn, rc.table, give(json));
}

/* Finds a route that a customer may change. */
static int route_get(const struct route_call *rc, size_t *ret_at, struct fault *f)
{
	if (!route_find(rc->json, rc->text, ret_at))
		return fault_set(f, FAULT_INVALID_ROUTE_NOT_FOUND,
				 "no route with destination-cidr-block %s in route table %s",
				 rc->text, rc->table->id);
	if (jis(json_array_get(json_object_get(rc->json, "Routes"), *ret_at), "GatewayId", "local"))
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "cannot remove local route %s in route table %s", rc->text,
				 rc->table->id);
	return 0;
}

int delete_route(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	struct route_call rc;
	size_t at;
	int r = route_call_start(c, parameters, &rc, f);

	if (r < 0)
		return r;
	OWN(json_decref) json_t *json = rc.json;

	r = route_get(&rc, &at, f);
	if (r < 0)
		return r;
	json_array_remove(json_object_get(json, "Routes"), at);
	kernel_touch(jstr(json, "VpcId"));
	*ret_reply = reply_true();
	return txn_replace(c->txn, rc.table, give(json));
}

int replace_route(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	struct route_call rc;
	const char *gateway_id;
	size_t at;
	int r = route_call_start(c, parameters, &rc, f);

	if (r < 0)
		return r;
	OWN(json_decref) json_t *json = rc.json;

	r = target_get(c, parameters, rc.table, &gateway_id, f);
	if (r == 0)
		r = route_get(&rc, &at, f);
	if (r < 0)
		return r;
	json_t *route = json_array_get(json_object_get(json, "Routes"), at);

	r = jset(route, "GatewayId", gateway_id);
	if (r == 0)
		r = jset(route, "State", "active");
	if (r < 0)
		return r;
	kernel_touch(jstr(json, "VpcId"));
	*ret_reply = reply_true();
	return txn_replace(c->txn, rc.table, give(json));
}
