/* What routes lead to. */
#include "route-target.h"
#include "nat-gateway.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "peering.h"

static int is_elsewhere(const struct doc *table, const struct doc *target, struct fault *f)
{
	if (jis(target->json, "VpcId", jstr(table->json, "VpcId")))
		return 0;
	return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
			 "route table %s and %s %s belong to different networks", table->id,
			 target->kind, target->id);
}

/* The gateway is not the one of the table's VPC. */
static int is_not_its(const struct doc *table, const struct doc *gateway, const struct doc *its,
		      struct fault *f)
{
	if (gateway == its)
		return 0;
	return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
			 "route table %s and network gateway %s belong to different networks",
			 table->id, gateway->id);
}

static int get_gateway(const struct call *c, const char *id, const struct doc *table,
		       struct route_target *t, struct fault *f)
{
	const struct doc *gateway = store_get(c->store, c->ctx, "internet-gateway", id);

	if (!gateway)
		return fault_set(f, FAULT_INVALID_GATEWAY_ID_NOT_FOUND,
				 "The gateway ID '%.64s' does not exist", id);
	t->state = "active";
	return is_not_its(table, gateway, gateway_of(c, jstr(table->json, "VpcId")), f);
}

/* Only ReplaceRoute has it. */
static int get_local(const struct call *c, const char *id, const struct doc *table,
		     struct route_target *t, struct fault *f)
{
	(void)c, (void)id, (void)table, (void)f;
	t->member = "GatewayId";
	snprintf(t->id, sizeof t->id, "local");
	t->state = "active";
	return 0;
}

static int get_egress_only(const struct call *c, const char *id, const struct doc *table,
			   struct route_target *t, struct fault *f)
{
	const struct doc *gateway;
	int r = kind_get(c, &kind_egress_only_gateway, "EgressOnlyInternetGatewayId", id, &gateway,
			 f);

	if (r < 0)
		return r;
	t->state = "active";
	return is_not_its(table, gateway, egress_gateway_of(c, jstr(table->json, "VpcId")), f);
}

/* Its first interface says so, for all of them. */
static int is_stopped(const struct call *c, const char *instance_id)
{
	if (!instance_id)
		return 0; /* a NAT gateway's */
	store_each (c->store, "network-interface", d)
		if (jbool(d->json, "_IsReleased", 0) &&
		    jis(json_object_get(d->json, "Attachment"), "InstanceId", instance_id))
			return 1;
	return 0;
}

static const char *state_of(const struct call *c, const json_t *attachment)
{
	return attachment && !is_stopped(c, jstr(attachment, "InstanceId")) ? "active"
									    : "blackhole";
}

static void take_interface(const struct call *c, const struct doc *interface,
			   struct route_target *t)
{
	const json_t *attachment = json_object_get(interface->json, "Attachment");

	snprintf(t->id, sizeof t->id, "%s", interface->id);
	snprintf(t->instance_id, sizeof t->instance_id, "%s",
		 jstr_or(attachment, "InstanceId", ""));
	t->state = state_of(c, attachment);
	t->is_local_allowed = 1;
}

static int get_interface(const struct call *c, const char *id, const struct doc *table,
			 struct route_target *t, struct fault *f)
{
	const struct doc *interface;
	int r = kind_get(c, &kind_network_interface, "NetworkInterfaceId", id, &interface, f);

	if (r == 0)
		r = is_elsewhere(table, interface, f);
	if (r == 0)
		take_interface(c, interface, t);
	return r;
}

/* AWS keeps a route to an instance as one to its only interface. */
static int get_instance(const struct call *c, const char *id, const struct doc *table,
			struct route_target *t, struct fault *f)
{
	const struct doc *interface;
	int r = instance_interface(c, id, &interface, f);

	if (r == 0)
		r = is_elsewhere(table, interface, f);
	if (r < 0)
		return r;
	t->member = "NetworkInterfaceId";
	take_interface(c, interface, t);
	return 0;
}

/* A route may wait for its connection to be accepted. Source: VPC peering guide, "Update your route
 * tables". */
static int get_peering(const struct call *c, const char *id, const struct doc *table,
		       struct route_target *t, struct fault *f)
{
	const struct doc *peering;
	enum peering_side side;
	int r = peering_get(c, id, &peering, f);

	if (r < 0)
		return r;
	if (!peering_is_live(peering->json))
		return fault_set(f, FAULT_INVALID_VPC_PEERING_CONNECTION_ID_NOT_FOUND,
				 "The vpcPeeringConnection ID '%s' does not exist", id);
	if (!peering_has_vpc(peering->json, jstr(table->json, "VpcId"), &side))
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "route table %s and vpc peering connection %s belong to different "
				 "networks",
				 table->id, id);
	t->state = peering_is(peering->json, "active") ? "active" : "blackhole";
	return 0;
}

static int get_nat_gateway(const struct call *c, const char *id, const struct doc *table,
			   struct route_target *t, struct fault *f)
{
	const struct doc *nat;
	int r = kind_get(c, &kind_nat_gateway, "NatGatewayId", id, &nat, f);

	if (r == 0 && !nat_gateway_is_there(nat))
		return fault_set(f, FAULT_NAT_GATEWAY_NOT_FOUND,
				 "The NatGateway '%s' does not exist", id);
	if (r == 0)
		r = is_elsewhere(table, nat, f);
	if (r < 0)
		return r;
	t->state = "active";
	t->is_local_allowed = 1;
	return 0;
}

static const struct {
	const char *parameter; /* and, unless it says otherwise, the member of the route */
	int (*get)(const struct call *c, const char *id, const struct doc *table,
		   struct route_target *t, struct fault *f);
} targets[] = {
	{"GatewayId", get_gateway},
	{"InstanceId", get_instance},
	{"NatGatewayId", get_nat_gateway},
	{"NetworkInterfaceId", get_interface},
	{"CarrierGatewayId", NULL},
	{"CoreNetworkArn", NULL},
	{"EgressOnlyInternetGatewayId", get_egress_only},
	{"LocalGatewayId", NULL},
	{"LocalTarget", get_local},
	{"TransitGatewayId", NULL},
	{"VpcEndpointId", NULL},
	{"VpcPeeringConnectionId", get_peering},
};
#define N_TARGETS (sizeof targets / sizeof *targets)

int route_target_get(const struct call *c, json_t *parameters, const struct doc *table,
		     struct route_target *ret_target, struct fault *f)
{
	size_t chosen = 0, n = 0;
	const char *id;

	for (size_t i = 0; i < N_TARGETS; i++)
		if (json_object_get(parameters, targets[i].parameter) &&
		    !json_is_false(json_object_get(parameters, targets[i].parameter))) {
			chosen = i;
			n++;
		}
	if (n == 0)
		return fault_set(f, FAULT_MISSING_PARAMETER,
				 "The request must contain the parameter gatewayId or another "
				 "target");
	if (n > 1)
		return fault_set(f, FAULT_INVALID_PARAMETER_COMBINATION,
				 "A route has exactly one target");
	if (!targets[chosen].get)
		return fault_set(f, FAULT_UNSUPPORTED_OPERATION, "Routes to %s are not supported",
				 targets[chosen].parameter);
	id = jstr_or(parameters, targets[chosen].parameter, "");
	*ret_target = (struct route_target){.member = targets[chosen].parameter};
	snprintf(ret_target->id, sizeof ret_target->id, "%.*s", ID_MAX - 1, id);
	return targets[chosen].get(c, id, table, ret_target, f);
}

static int set_instance(const struct call *c, json_t *route, const char *instance_id)
{
	const int is_there = instance_id && *instance_id;
	int r = jset(route, "InstanceId", is_there ? instance_id : NULL);

	return r < 0 ? r : jset(route, "InstanceOwnerId", is_there ? c->ctx->account : NULL);
}

int route_target_set(const struct call *c, json_t *route, const struct route_target *target)
{
	int r;

	for (size_t i = 0; i < N_TARGETS; i++)
		(void)json_object_del(route, targets[i].parameter); /* at most one is there */
	r = jset(route, target->member, target->id);
	if (r == 0)
		r = set_instance(c, route, target->instance_id);
	return r < 0 ? r : jset(route, "State", target->state);
}

/* ---- what becomes of targets ---- */

struct marking {
	const char *member, *id, *state;
	const json_t *attachment;
	int is_interface;
};

/* Whether a route was changed, or -ENOMEM. */
static int mark_routes(const struct call *c, json_t *table, const struct marking *m)
{
	json_t *route;
	size_t i;
	int is_changed = 0, r = 0;

	json_array_foreach (json_object_get(table, "Routes"), i, route) {
		if (!jis(route, m->member, m->id))
			continue;
		is_changed = 1;
		r = jset(route, "State", m->state);
		if (r == 0 && m->is_interface)
			r = set_instance(c, route, jstr(m->attachment, "InstanceId"));
		if (r < 0)
			return r;
	}
	return is_changed;
}

static int mark_tables(const struct call *c, const char *vpc_id, const struct marking *m)
{
	store_each (c->store, "route-table", d) {
		if (!jis(d->json, "VpcId", vpc_id))
			continue;
		OWN(json_decref) json_t *json = json_deep_copy(txn_look(c->txn, d->kind, d->id));
		int r = mark_routes(c, json, m);

		if (r > 0)
			r = txn_replace(c->txn, d, give(json));
		if (r < 0)
			return r;
	}
	return 0;
}

int routes_mark_target(const struct call *c, const char *vpc_id, const char *member, const char *id,
		       const char *state)
{
	return mark_tables(c, vpc_id,
			   &(struct marking){.member = member, .id = id, .state = state});
}

int routes_follow_interface(const struct call *c, const char *vpc_id, const char *interface_id,
			    const json_t *attachment)
{
	return mark_tables(c, vpc_id,
			   &(struct marking){.member = "NetworkInterfaceId",
					     .id = interface_id,
					     .state = state_of(c, attachment),
					     .attachment = attachment,
					     .is_interface = 1});
}

int routes_follow_instance(const struct call *c, const char *instance_id, const char *state)
{
	int r = 0;

	store_each (c->store, "network-interface", d) {
		const json_t *attachment = json_object_get(d->json, "Attachment");

		if (r == 0 && jis(attachment, "InstanceId", instance_id))
			r = mark_tables(c, jstr_or(d->json, "VpcId", ""),
					&(struct marking){.member = "NetworkInterfaceId",
							  .id = d->id,
							  .state = state,
							  .attachment = attachment,
							  .is_interface = 1});
	}
	return r;
}
