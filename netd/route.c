/* Routes: destinations and targets within a route table. */
#include "ipv6.h"
#include "prefix-list.h"
#include "route-target.h"
#include "vpc.h"

#include <errno.h>
#include <string.h>

const char *route_member(const char *destination)
{
	return strchr(destination, ':') ? "DestinationIpv6CidrBlock" : "DestinationCidrBlock";
}

int route_append(json_t *table, const char *destination, const char *gateway_id, const char *origin)
{
	return json_array_append_new(json_object_get(table, "Routes"),
				     json_pack("{s:s s:s s:s s:s}", route_member(destination),
					       destination, "GatewayId", gateway_id, "Origin",
					       origin, "State", "active")) < 0
		       ? -ENOMEM
		       : 0;
}

int routes_mark(const struct call *c, const char *vpc_id, const char *gateway_id, const char *state)
{
	return routes_mark_target(c, vpc_id, "GatewayId", gateway_id, state);
}

/* The table, an editable copy, and the destination in canonical form: what each call on a route
 * begins with. */
struct route_call {
	const struct doc *table;
	json_t *json;		   /* the caller's */
	const char *member;	   /* of a route: its destination */
	struct cidr destination;   /* of DestinationCidrBlock */
	struct cidr6 destination6; /* of DestinationIpv6CidrBlock */
	char text[CIDR6_TEXT_MAX];
};

static int read_block(const struct call *c, const char *text, struct route_call *rc,
		      struct fault *f)
{
	(void)c;
	if (cidr_parse(text, &rc->destination) < 0)
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "Value (%.64s) for parameter destinationCidrBlock is invalid. "
				 "This is not a valid "
				 "CIDR block.",
				 text);
	rc->destination = cidr_canonical(rc->destination);
	cidr_format(rc->destination, rc->text);
	return 0;
}

static int read_ipv6_block(const struct call *c, const char *text, struct route_call *rc,
			   struct fault *f)
{
	(void)c;
	if (cidr6_parse(text, &rc->destination6) < 0)
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "Value (%.64s) for parameter destinationIpv6CidrBlock is invalid. "
				 "This is not a valid CIDR block.",
				 text);
	rc->destination6.address = cidr6_first(rc->destination6);
	cidr6_format(rc->destination6, rc->text);
	return 0;
}

static int read_prefix_list(const struct call *c, const char *text, struct route_call *rc,
			    struct fault *f)
{
	const struct doc *list;
	int r = prefix_list_get(c, text, &list, f);

	if (r < 0)
		return r;
	snprintf(rc->text, sizeof rc->text, "%s", list->id);
	return 0;
}

/* What a route may have as its destination: exactly one of these. */
static const struct {
	const char *member;
	int (*read)(const struct call *c, const char *text, struct route_call *rc, struct fault *f);
} destinations[] = {
	{"DestinationCidrBlock", read_block},
	{"DestinationIpv6CidrBlock", read_ipv6_block},
	{"DestinationPrefixListId", read_prefix_list},
};
#define N_DESTINATIONS (sizeof destinations / sizeof *destinations)

static int destination_read(const struct call *c, json_t *parameters, struct route_call *rc,
			    struct fault *f)
{
	size_t at = N_DESTINATIONS;

	for (size_t i = 0; i < N_DESTINATIONS; i++) {
		if (!jstr(parameters, destinations[i].member))
			continue;
		if (at < N_DESTINATIONS)
			return fault_set(f, FAULT_INVALID_PARAMETER_COMBINATION,
					 "The parameters %s and %s may not be used together",
					 destinations[at].member, destinations[i].member);
		at = i;
	}
	if (at == N_DESTINATIONS)
		return fault_set(f, FAULT_MISSING_PARAMETER,
				 "The request must contain the parameter destinationCidrBlock");
	rc->member = destinations[at].member;
	return destinations[at].read(c, jstr(parameters, rc->member), rc, f);
}

static int route_call_start(const struct call *c, json_t *parameters, struct route_call *rc,
			    struct fault *f)
{
	int r;

	*rc = (struct route_call){0};
	r = kind_get_parameter(c, &kind_route_table, parameters, "RouteTableId", &rc->table, f);
	if (r < 0)
		return r;
	r = destination_read(c, parameters, rc, f);
	if (r < 0)
		return r;
	rc->json = doc_edit(rc->table);
	return rc->json ? 0 : -ENOMEM;
}

static int route_find(const struct route_call *rc, size_t *ret_at)
{
	json_t *routes = json_object_get(rc->json, "Routes"), *route;
	size_t i;

	json_array_foreach (routes, i, route)
		if (jis(route, rc->member, rc->text)) {
			*ret_at = i;
			return 1;
		}
	return 0;
}

static int is_ipv6(const struct route_call *rc)
{
	return strcmp(rc->member, "DestinationIpv6CidrBlock") == 0;
}

static int is_prefix_list(const struct route_call *rc)
{
	return strcmp(rc->member, "DestinationPrefixListId") == 0;
}

/* The destination is of the VPC's own. */
static int is_within(const struct route_call *rc, const json_t *vpc)
{
	if (is_ipv6(rc))
		return ipv6_vpc_has(vpc, rc->destination6);
	return !is_prefix_list(rc) && vpc_has_cidr(vpc, rc->destination);
}

/* A route that the table was born with, wherever it leads by now. */
static int is_local(const json_t *route)
{
	return jis(route, "Origin", "CreateRouteTable");
}

/* Commits the changed table; packets take the new way when the answer is sent. */
static int route_commit(const struct call *c, const struct doc *table, json_t *json)
{
	int r = txn_replace(c->txn, table, json);

	return r < 0 ? r : call_apply(c, jstr_or(table->json, "VpcId", ""));
}

static int is_ipv6_block(const json_t *subnet, const char *cidr)
{
	char text[CIDR6_TEXT_MAX];
	struct cidr6 block;

	if (ipv6_block_of(subnet, &block) < 0)
		return 0;
	cidr6_format(block, text);
	return strcmp(text, cidr) == 0;
}

static int is_subnet(const struct call *c, const char *vpc_id, const char *cidr)
{
	for (const struct doc *d = NULL; (d = subnet_next_in_vpc(c, vpc_id, d));)
		if (jis(d->json, "CidrBlock", cidr) || is_ipv6_block(d->json, cidr))
			return 1;
	return 0;
}

/* The destination is of IPv6, a block or a prefix list. */
static int is_family6(const struct call *c, const struct route_call *rc)
{
	const struct doc *list =
		is_prefix_list(rc) ? store_find(c->store, kind_prefix_list.name, rc->text) : NULL;

	return list ? jis(list->json, "AddressFamily", "IPv6") : is_ipv6(rc);
}

/* An egress-only gateway knows no IPv4, and our NAT gateways no IPv6: AWS's translate 64:ff9b::/96
 * (NAT64). */
static int family_check(const struct call *c, const struct route_call *rc,
			const struct route_target *target, struct fault *f)
{
	int is6 = is_family6(c, rc);

	if (!is6 && strcmp(target->member, "EgressOnlyInternetGatewayId") == 0)
		return fault_set(f, FAULT_INVALID_PARAMETER_COMBINATION,
				 "An egress-only internet gateway is for IPv6 destinations only");
	if (is6 && strcmp(target->member, "NatGatewayId") == 0)
		return fault_set(f, FAULT_UNSUPPORTED_OPERATION,
				 "NAT gateways are for IPv4 destinations only");
	return 0;
}

/* Within the VPC a route may only put a middlebox before a whole subnet. Source: VPC user guide,
 * "Middlebox routing". */
static int local_check(const struct call *c, const struct route_call *rc,
		       const struct route_target *target, struct fault *f)
{
	const struct doc *vpc = store_find(c->store, "vpc", jstr_or(rc->json, "VpcId", ""));

	if (!vpc || !is_within(rc, vpc->json))
		return 0;
	if (!target->is_local_allowed)
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "The destination CIDR block %s is equal to or more specific than "
				 "one of this VPC's CIDR "
				 "blocks. This route can target only an interface or an instance.",
				 rc->text);
	if (!is_subnet(c, jstr(rc->json, "VpcId"), rc->text))
		return fault_set(
			f, FAULT_INVALID_PARAMETER_VALUE,
			"The destination CIDR block %s is within the VPC, but not the CIDR "
			"block of one of its subnets.",
			rc->text);
	return 0;
}

/* Appends a route that a customer made. */
static int append_target(const struct call *c, const struct route_call *rc,
			 const struct route_target *target)
{
	json_t *route = json_pack("{s:s s:s}", rc->member, rc->text, "Origin", "CreateRoute");
	int r = json_array_append_new(json_object_get(rc->json, "Routes"), route);

	return r < 0 ? -ENOMEM : route_target_set(c, route, target);
}

/* The call's target, which is of the route's family. */
static int target_get(struct call *c, json_t *parameters, const struct route_call *rc,
		      struct route_target *ret_target, struct fault *f)
{
	int r = route_target_get(c, parameters, rc->table, ret_target, f);

	return r < 0 ? r : family_check(c, rc, ret_target, f);
}

int create_route(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	struct route_target target;
	struct route_call rc;
	size_t at;
	int r = route_call_start(c, parameters, &rc, f);

	if (r < 0)
		return r;
	OWN(json_decref) json_t *json = rc.json;

	r = target_get(c, parameters, &rc, &target, f);
	if (r < 0)
		return r;
	if (route_find(&rc, &at))
		return fault_set(f, FAULT_ROUTE_ALREADY_EXISTS,
				 "The route identified by %s already exists.", rc.text);
	r = local_check(c, &rc, &target, f);
	if (r < 0)
		return r;
	if (prefix_list_routes_count(c, json) +
		    (is_prefix_list(&rc) ? prefix_list_weight(c, rc.text) : 1) >
	    LIMIT_ROUTES_PER_TABLE)
		return fault_set(f, FAULT_ROUTE_LIMIT_EXCEEDED,
				 "The maximum number of routes has been reached.");
	r = append_target(c, &rc, &target);
	if (r < 0)
		return r;
	*ret_reply = reply_true();
	return route_commit(c, rc.table, give(json));
}

static json_t *route_at(const struct route_call *rc, size_t at)
{
	return json_array_get(json_object_get(rc->json, "Routes"), at);
}

static int route_get(const struct route_call *rc, size_t *ret_at, struct fault *f)
{
	if (!route_find(rc, ret_at))
		return fault_set(f, FAULT_INVALID_ROUTE_NOT_FOUND,
				 "no route with destination-%s %s in route table %s",
				 is_ipv6(rc)	      ? "ipv6-cidr-block"
				 : is_prefix_list(rc) ? "prefix-list-id"
						      : "cidr-block",
				 rc->text, rc->table->id);
	return 0;
}

/* An endpoint's routes come and go with it. */
static int endpoint_check(const struct route_call *rc, const json_t *route, struct fault *f)
{
	if (!id_is(jstr_or(route, "GatewayId", ""), "vpce"))
		return 0;
	return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
			 "cannot remove or replace VPC endpoint route %s in route table %s",
			 rc->text, rc->table->id);
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
	if (is_local(route_at(&rc, at)))
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "cannot remove local route %s in route table %s", rc.text,
				 rc.table->id);
	r = endpoint_check(&rc, route_at(&rc, at), f);
	if (r < 0)
		return r;
	json_array_remove(json_object_get(json, "Routes"), at);
	*ret_reply = reply_true();
	return route_commit(c, rc.table, give(json));
}

/* A local route may be led through a middlebox, and back; no other may become local. Source: VPC
 * user guide, "Replace or restore the target for a local route". */
static int replace_check(const struct call *c, const struct route_call *rc, const json_t *route,
			 const struct route_target *target, struct fault *f)
{
	const int to_local = strcmp(target->id, "local") == 0;
	int r = endpoint_check(rc, route, f);

	if (r < 0)
		return r;

	if (!is_local(route) && to_local)
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "The route %s in route table %s is not a local one", rc->text,
				 rc->table->id);
	if (is_local(route) && !to_local && !target->is_local_allowed)
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "cannot replace local route %s in route table %s with this target",
				 rc->text, rc->table->id);
	return is_local(route) ? 0 : local_check(c, rc, target, f);
}

int replace_route(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	struct route_target target;
	struct route_call rc;
	size_t at;
	int r = route_call_start(c, parameters, &rc, f);

	if (r < 0)
		return r;
	OWN(json_decref) json_t *json = rc.json;

	r = target_get(c, parameters, &rc, &target, f);
	if (r == 0)
		r = route_get(&rc, &at, f);
	if (r == 0)
		r = replace_check(c, &rc, route_at(&rc, at), &target, f);
	if (r == 0)
		r = route_target_set(c, route_at(&rc, at), &target);
	if (r < 0)
		return r;
	*ret_reply = reply_true();
	return route_commit(c, rc.table, give(json));
}
