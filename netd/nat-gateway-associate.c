/* Secondary addresses of NAT gateways: the actions that add them and take them away. */
#include "nat-gateway-address.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "address.h"
#include "interface.h"
#include "nat-gateway.h"

#define DRAIN_SEC 350 /* AWS's default */

static const struct nat_parameters associate_parameters = {"AllocationIds", "PrivateIpAddresses",
							   NULL};
static const struct nat_parameters assign_parameters = {NULL, "PrivateIpAddresses",
							"PrivateIpAddressCount"};

/* One request: its gateway, changed copies of the two documents, and the rows that it answers. */
struct change {
	const struct doc *nat, *interface;
	json_t *json, *changed, *shown;
};

static void change_free(struct change *g)
{
	json_decref(g->json);
	json_decref(g->changed);
	json_decref(g->shown);
}

static inline void own_change_free(struct change *g)
{
	change_free(g);
}

/* "[eipalloc-…, eipalloc-…]": what comes, or goes. */
static void list_passing(const json_t *nat, const char *status, char *out, size_t n_out)
{
	const json_t *row;
	size_t i, n = 0;

	out[0] = '\0';
	json_array_foreach (nat_rows(nat), i, row)
		if (jis(row, "Status", status) && n < n_out)
			n += (size_t)snprintf(out + n, n_out - n, "%s%s", n ? ", " : "",
					      jstr_or(row, nat_ways(nat)->shown, ""));
}

/* AWS takes one change of a gateway's addresses at a time. */
static int idle_check(const struct doc *nat, struct fault *f)
{
	const struct nat_ways *w = nat_ways(nat->json);
	char coming[256], going[256];

	list_passing(nat->json, w->coming, coming, sizeof coming);
	list_passing(nat->json, w->going, going, sizeof going);
	if (coming[0])
		return fault_set(f, FAULT_OPERATION_IN_PROGRESS,
				 "Service is currently %s the following %s: [%s].",
				 w->in_message_coming, w->noun, coming);
	if (going[0])
		return fault_set(f, FAULT_OPERATION_IN_PROGRESS,
				 "Service is currently %s the following %s: [%s].",
				 w->in_message_going, w->noun, going);
	return 0;
}

/* The gateway, of this kind, available, and nothing of its addresses passes. */
static int gateway_check(const struct doc *nat, int is_for_private, struct fault *f)
{
	if (!nat_gateway_is_there(nat))
		return fault_set(f, FAULT_NAT_GATEWAY_NOT_FOUND,
				 "The NatGateway '%s' does not exist", nat->id);
	if (nat_is_private(nat->json) != is_for_private)
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE, "The NAT gateway %s is a %s one",
				 nat->id, is_for_private ? "public" : "private");
	if (!jis(nat->json, "State", "available"))
		return fault_set(f, FAULT_INCORRECT_STATE, "The NAT gateway %s is %s", nat->id,
				 jstr_or(nat->json, "State", ""));
	return idle_check(nat, f);
}

static int change_open(const struct call *c, json_t *parameters, int is_for_private,
		       struct change *g, struct fault *f)
{
	int r = kind_get_parameter(c, &kind_nat_gateway, parameters, "NatGatewayId", &g->nat, f);

	if (r == 0)
		r = gateway_check(g->nat, is_for_private, f);
	if (r == 0)
		r = kind_get(c, &kind_network_interface, "NetworkInterfaceId",
			     jstr(json_array_get(nat_rows(g->nat->json), 0), "NetworkInterfaceId"),
			     &g->interface, f);
	if (r < 0)
		return r;
	g->json = doc_edit(g->nat);
	g->changed = doc_edit(g->interface);
	g->shown = json_array();
	return g->json && g->changed && g->shown ? 0 : -ENOMEM;
}

static int answer(const struct change *g, json_t **ret_reply)
{
	*ret_reply =
		json_pack("{s:s s:O}", "NatGatewayId", g->nat->id, "NatGatewayAddresses", g->shown);
	return *ret_reply ? 0 : -ENOMEM;
}

/* ---- to add ---- */

/* The interface gets the private addresses, which no flow takes yet. */
static int places_take(const struct call *c, struct change *g, const json_t *places, json_t *taken,
		       struct fault *f)
{
	const struct doc *subnet;
	char text[IP_TEXT_MAX];
	const json_t *place;
	size_t i;
	int r = kind_get(c, &kind_subnet, "SubnetId", jstr(g->nat->json, "SubnetId"), &subnet, f);

	json_array_foreach (places, i, place) {
		const char *wanted = jstr(place, "PrivateIpAddress");

		if (r == 0)
			r = address_take(subnet->json, wanted, taken, text);
		if (r < 0)
			return interface_address_fault(r, wanted, subnet->id, f);
		OWN(json_decref) json_t *element = interface_address(c, text, 0);

		r = jset_new(element, "_Idle", json_true());
		if (r < 0 || json_array_append_new(taken, json_string(text)) < 0 ||
		    json_array_append(json_object_get(g->changed, "PrivateIpAddresses"), element))
			return -ENOMEM;
	}
	return r < 0 ? r : txn_replace(c->txn, g->interface, json_incref(g->changed));
}

static int rows_add(const struct call *c, struct change *g, const struct nat_wanted *w,
		    const json_t *taken)
{
	json_t *rows = nat_rows(g->json);
	const json_t *private_ip;
	size_t i;
	int r = 0;

	json_array_foreach (taken, i, private_ip) {
		if (r == 0)
			r = nat_address_join(c, i < w->n_elastics ? w->elastics[i] : NULL,
					     g->interface->id, json_string_value(private_ip), 0,
					     rows);
		json_t *row = json_array_get(rows, json_array_size(rows) - 1);

		if (r == 0)
			r = jset(row, "Status", nat_ways(g->json)->coming);
		if (r == 0 && json_array_append_new(g->shown, json_deep_copy(row)) < 0)
			r = -ENOMEM;
	}
	return r < 0 ? r : txn_replace(c->txn, g->nat, json_incref(g->json));
}

static int add(struct call *c, json_t *parameters, int is_for_private, json_t **ret_reply,
	       struct fault *f)
{
	const struct nat_parameters *names =
		is_for_private ? &assign_parameters : &associate_parameters;
	OWN(change_free) struct change g = {0};
	struct nat_wanted w = {0};
	int r = change_open(c, parameters, is_for_private, &g, f);

	if (r == 0)
		r = nat_wanted_read(c, parameters, names, is_for_private,
				    json_array_size(nat_rows(g.json)), &w, f);
	OWN(json_decref) json_t *places = w.places;
	OWN(json_decref) json_t *taken = json_array();

	if (r == 0 && json_array_size(places) == 0)
		r = fault_set(f, FAULT_MISSING_PARAMETER,
			      "The request must contain the parameter %s",
			      is_for_private ? "PrivateIpAddressCount or PrivateIpAddress"
					     : "AllocationId");
	if (r == 0)
		r = places_take(c, &g, places, taken, f);
	if (r == 0)
		r = rows_add(c, &g, &w, taken);
	if (r == 0)
		r = answer(&g, ret_reply);
	if (r < 0)
		return r;
	kernel_touch(jstr_or(g.json, "VpcId", ""));
	nat_gateway_follow(c->store, g.nat->id);
	return 0;
}

int associate_nat_gateway_address(struct call *c, json_t *parameters, json_t **ret_reply,
				  struct fault *f)
{
	/* Those of a gateway that serves all zones. */
	static const char *const unsupported[] = {"AvailabilityZone", "AvailabilityZoneId", NULL};
	int r = unsupported_check(parameters, unsupported, f);

	return r < 0 ? r : add(c, parameters, 0, ret_reply, f);
}

int assign_private_nat_gateway_address(struct call *c, json_t *parameters, json_t **ret_reply,
				       struct fault *f)
{
	return add(c, parameters, 1, ret_reply, f);
}

/* ---- to take away ---- */

static int row_drain(struct change *g, json_t *row, int64_t end_usec)
{
	size_t where;
	json_t *element = nat_element(g->changed, jstr_or(row, "PrivateIp", ""), &where);
	int r = jset_new(element, "_Idle", json_true());

	if (r == 0)
		r = jset(row, "Status", nat_ways(g->json)->going);
	if (r == 0)
		r = jset_new(row, "_DrainEnd", jtime(end_usec));
	return r < 0 || json_array_append_new(g->shown, json_deep_copy(row)) < 0 ? -ENOMEM : 0;
}

static json_t *row_find(const json_t *nat, const char *member, const char *value)
{
	json_t *row;
	size_t i;

	json_array_foreach (nat_rows(nat), i, row)
		if (jis(row, member, value))
			return row;
	return NULL;
}

/* `member` of a row is what the request names it by. */
static int rows_drain(struct change *g, const json_t *values, const char *member, int64_t end_usec,
		      struct fault *f)
{
	const json_t *value;
	size_t i;
	int r = 0;

	json_array_foreach (values, i, value) {
		const char *text = json_string_value(value);
		json_t *row = row_find(g->json, member, text);

		if (!row && strcmp(member, "AssociationId") == 0)
			return fault_set(f, FAULT_INVALID_ASSOCIATION_ID_NOT_FOUND,
					 "The association ID '%.64s' does not exist", text);
		if (!row)
			return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
					 "The address %.64s is not assigned to the NAT gateway %s",
					 text, g->nat->id);
		if (jbool(row, "IsPrimary", 0))
			return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
					 "%.64s is the primary address of the NAT gateway %s", text,
					 g->nat->id);
		if (r == 0 && !jstr(row, "Status")) /* else it was named before */
			r = row_drain(g, row, end_usec);
	}
	return r;
}

/* When this returns, no flow begins with what goes. */
static int drain(struct call *c, json_t *parameters, int is_for_private, json_t **ret_reply,
		 struct fault *f)
{
	const char *parameter = is_for_private ? "PrivateIpAddresses" : "AssociationIds";
	const json_t *values = json_object_get(parameters, parameter);
	int64_t sec = jint(parameters, "MaxDrainDurationSeconds", DRAIN_SEC);
	OWN(change_free) struct change g = {0};
	char id[ID_MAX];
	int r = change_open(c, parameters, is_for_private, &g, f);

	if (r == 0 && json_array_size(values) == 0)
		r = fault_set(f, FAULT_MISSING_PARAMETER,
			      "The request must contain the parameter %s", parameter);
	if (r == 0)
		r = rows_drain(&g, values, is_for_private ? "PrivateIp" : "AssociationId",
			       jtime_now_usec() + sec * 1000000, f);
	if (r == 0)
		r = txn_replace(c->txn, g.interface, json_incref(g.changed));
	if (r == 0)
		r = txn_replace(c->txn, g.nat, json_incref(g.json));
	if (r == 0)
		r = answer(&g, ret_reply);
	if (r < 0)
		return r;
	snprintf(id, sizeof id, "%s", g.nat->id);
	r = txn_commit(c->txn);
	if (r < 0)
		return r;
	kernel_touch(jstr_or(g.json, "VpcId", ""));
	nat_gateway_follow(c->store, id);
	(void)nat_gateway_wait(g.json); /* the change is durable: the kernel room tries again */
	return 0;
}

int disassociate_nat_gateway_address(struct call *c, json_t *parameters, json_t **ret_reply,
				     struct fault *f)
{
	return drain(c, parameters, 0, ret_reply, f);
}

int unassign_private_nat_gateway_address(struct call *c, json_t *parameters, json_t **ret_reply,
					 struct fault *f)
{
	return drain(c, parameters, 1, ret_reply, f);
}
