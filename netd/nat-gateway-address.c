/* Addresses of NAT gateways: what is asked for, how they are told of, how they come and go. */
#include "nat-gateway-address.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "elastic.h"

const struct nat_ways *nat_ways(const json_t *nat)
{
	static const struct nat_ways ways[] = {{"associating", "disassociating", "ASSOCIATING",
						"DISASSOCIATING", "AllocationId", "EIPs"},
					       {"assigning", "unassigning", "ASSIGNING",
						"UNASSIGNING", "PrivateIp", "private IPs"}};

	return &ways[nat_is_private(nat)];
}

json_t *nat_rows(const json_t *nat)
{
	return json_object_get(nat, "NatGatewayAddresses");
}

json_t *nat_element(const json_t *interface, const char *private_ip, size_t *ret_at)
{
	json_t *a;
	size_t i;

	json_array_foreach (json_object_get(interface, "PrivateIpAddresses"), i, a)
		if (jis(a, "PrivateIpAddress", private_ip)) {
			*ret_at = i;
			return a;
		}
	return NULL;
}

/* ---- what a request asks for ---- */

int nat_elastic_get(const struct call *c, const char *parameter, const char *id,
		    const struct doc **ret_elastic, struct fault *f)
{
	const struct doc *elastic;
	int r = kind_get(c, &kind_elastic_ip, parameter, id, &elastic, f);

	if (r < 0)
		return r;
	if (jstr(elastic->json, "AssociationId"))
		return fault_set(f, FAULT_RESOURCE_ALREADY_ASSOCIATED,
				 "Elastic IP address [%s] is already associated", elastic->id);
	*ret_elastic = elastic;
	return 0;
}

/* AWS's quota of a public gateway begins at 2, and can be raised to what an interface takes. */
static size_t elastics_max(const struct call *c)
{
	int64_t n = config_integer(c->daemon->config, "Network", "NatGatewayElasticIps");

	assert(n <= LIMIT_ADDRESSES_PER_NAT_GATEWAY); /* by the setting's range */
	return (size_t)n;
}

static int quota_check(const struct call *c, int is_of_private, size_t n, struct fault *f)
{
	if (is_of_private && n > LIMIT_ADDRESSES_PER_NAT_GATEWAY)
		return fault_set(f, FAULT_PRIVATE_IP_ADDRESS_LIMIT_EXCEEDED,
				 "A private NAT gateway may have %d private IP addresses",
				 LIMIT_ADDRESSES_PER_NAT_GATEWAY);
	if (!is_of_private && n > elastics_max(c))
		return fault_set(f, FAULT_ADDRESS_LIMIT_EXCEEDED,
				 "A public NAT gateway may have %zu Elastic IP addresses",
				 elastics_max(c));
	return 0;
}

static int combination_check(const json_t *elastics, const json_t *list, const json_t *count,
			     int is_of_private, struct fault *f)
{
	if (is_of_private && elastics)
		return fault_set(f, FAULT_INVALID_PARAMETER_COMBINATION,
				 "Elastic IP addresses cannot be specified for a private NAT "
				 "gateway");
	if (!is_of_private && count)
		return fault_set(f, FAULT_INVALID_PARAMETER_COMBINATION,
				 "A number of private IP addresses can be specified for a private "
				 "NAT gateway only");
	if (list && count)
		return fault_set(f, FAULT_INVALID_PARAMETER_COMBINATION,
				 "Private IP addresses and their number may not be used together");
	if (!is_of_private && json_array_size(list) > json_array_size(elastics))
		return fault_set(f, FAULT_INVALID_PARAMETER_COMBINATION,
				 "More private IP addresses than Elastic IP addresses were "
				 "specified");
	return 0;
}

static int elastics_read(const struct call *c, const char *parameter, const json_t *ids,
			 struct nat_wanted *w, struct fault *f)
{
	const json_t *id;
	size_t i;
	int r = 0;

	json_array_foreach (ids, i, id) {
		for (size_t k = 0; r == 0 && k < i; k++)
			if (json_equal(json_array_get(ids, k), id))
				r = fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
					      "The allocation ID '%.64s' is specified twice",
					      json_string_value(id));
		if (r == 0)
			r = nat_elastic_get(c, parameter, json_string_value(id), &w->elastics[i],
					    f);
	}
	w->n_elastics = json_array_size(ids);
	return r;
}

/* Named ones first: a free one is not to take a named one's place. */
static json_t *places_make(const json_t *list, size_t n)
{
	OWN(json_decref) json_t *places = json_array();

	for (size_t i = 0; i < n; i++)
		if (json_array_append_new(places, json_pack("{s:O*}", "PrivateIpAddress",
							    json_array_get(list, i))) < 0)
			return NULL;
	return give(places);
}

int nat_wanted_read(const struct call *c, json_t *parameters, const struct nat_parameters *names,
		    int is_of_private, size_t n_there, struct nat_wanted *ret_wanted,
		    struct fault *f)
{
	const json_t *elastics =
			     names->elastics ? json_object_get(parameters, names->elastics) : NULL,
		     *list = json_object_get(parameters, names->private_ips),
		     *count = names->count ? json_object_get(parameters, names->count) : NULL;
	int64_t n_free = count ? json_integer_value(count) : 0;
	struct nat_wanted w = {0};
	int r = names->count ? count_check(parameters, names->count, 1, f) : 0;
	size_t n = !is_of_private ? json_array_size(elastics)
		   : n_free > 0	  ? (size_t)n_free
				  : json_array_size(list);

	if (r == 0)
		r = combination_check(elastics, list, count, is_of_private, f);
	if (r == 0)
		r = quota_check(c, is_of_private, n_there + n, f);
	if (r == 0)
		r = elastics_read(c, names->elastics, elastics, &w, f);
	if (r < 0)
		return r;
	w.places = places_make(list, n);
	if (!w.places)
		return -ENOMEM;
	*ret_wanted = w;
	return 0;
}

/* ---- rows ---- */

int nat_address_join(const struct call *c, const struct doc *elastic, const char *interface_id,
		     const char *private_ip, int is_primary, json_t *rows)
{
	struct moved m = {0};
	int r = elastic ? elastic_join(c, elastic, interface_id, private_ip, &m) : 0;
	const json_t *json = elastic ? txn_look(c->txn, elastic->kind, elastic->id) : NULL;

	if (r < 0)
		return r;
	return json_array_append_new(rows,
				     json_pack("{s:s* s:s* s:b s:s s:s s:s*}", "AllocationId",
					       elastic ? elastic->id : NULL, "AssociationId",
					       jstr(json, "AssociationId"), "IsPrimary", is_primary,
					       "NetworkInterfaceId", interface_id, "PrivateIp",
					       private_ip, "PublicIp", jstr(json, "PublicIp"))) < 0
		       ? -ENOMEM
		       : 0;
}

/* AWS tells of each address how far it is: as far as the gateway, if it does not pass by itself. */
int nat_addresses_present(const json_t *nat, json_t *rows)
{
	int is_failed = jis(nat, "State", "failed"), is_pending = jis(nat, "State", "pending"),
	    is_available = jis(nat, "State", "available");
	json_t *row;
	size_t i;
	int r = 0;

	json_array_foreach (rows, i, row) {
		const char *own = is_available ? jstr(row, "Status") : NULL;

		if (r == 0)
			r = jset(row, "Status",
				 own	      ? own
				 : is_failed  ? "failed"
				 : is_pending ? nat_ways(nat)->coming
					      : "succeeded");
		if (r == 0)
			r = jset(row, "FailureMessage", jstr(nat, "FailureMessage"));
	}
	return r;
}

/* ---- addresses that come and go ---- */

int nat_addresses_pass(const json_t *nat)
{
	const json_t *row;
	size_t i;

	json_array_foreach (nat_rows(nat), i, row)
		if (jstr(row, "Status"))
			return 1;
	return 0;
}

uint64_t nat_addresses_drain_usec(const json_t *nat)
{
	int64_t now = jtime_now_usec(), end, last = now;
	const json_t *row;
	size_t i;

	json_array_foreach (nat_rows(nat), i, row) {
		end = jtime_parse(jstr_or(row, "_DrainEnd", ""));
		last = end > last ? end : last;
	}
	return (uint64_t)(last - now);
}

/* A new one is used for flows once the way back is known everywhere, and then said to be there. */
static void come(json_t *row, json_t *element)
{
	if (json_object_del(element, "_Idle") < 0)
		(void)json_object_del(row, "Status"); /* it is there */
}

/* Its flows are cut, its elastic address is free. */
static int go(const struct call *c, json_t *interface, json_t *rows, size_t at)
{
	const char *private_ip = jstr_or(json_array_get(rows, at), "PrivateIp", "");
	size_t where;
	int r = elastic_orphan(c, interface, private_ip);

	if (r == 0 && nat_element(interface, private_ip, &where))
		r = json_array_remove(json_object_get(interface, "PrivateIpAddresses"), where);
	return r < 0 ? r : json_array_remove(rows, at);
}

int nat_addresses_advance(const struct call *c, json_t *json)
{
	json_t *rows = nat_rows(json);
	const struct doc *interface =
		store_get(c->store, c->ctx, "network-interface",
			  jstr_or(json_array_get(rows, 0), "NetworkInterfaceId", ""));
	OWN(json_decref) json_t *changed = interface ? doc_edit(interface) : NULL;
	size_t where;
	int r = 0;

	if (!changed)
		return interface ? -ENOMEM : -ENOENT;
	for (size_t i = json_array_size(rows); r == 0 && i-- > 0;) {
		json_t *row = json_array_get(rows, i);

		if (jis(row, "Status", nat_ways(json)->coming))
			come(row, nat_element(changed, jstr_or(row, "PrivateIp", ""), &where));
		else if (jstr(row, "Status"))
			r = go(c, changed, rows, i);
	}
	return r < 0 ? r : txn_replace(c->txn, interface, give(changed));
}
