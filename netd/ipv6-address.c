/* IPv6 addresses of interfaces. Source: EC2 API reference, AssignIpv6Addresses,
 * UnassignIpv6Addresses. */
#include "ipv6.h"

#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "delegation.h"
#include "interface.h"
#include "refresh.h"
#include "taken.h"

/* As in IPv4, a subnet's first four addresses and its last one are AWS's. */
#define RESERVED_FIRST 4
#define LOTS	       100

static int is_reserved(struct cidr6 subnet, struct in6_addr address)
{
	static const uint8_t last[8] = {255, 255, 255, 255, 255, 255, 255, 255};
	static const uint8_t none[7];

	(void)subnet; /* always a /64: what counts is the second half */
	return memcmp(address.s6_addr + 8, last, 8) == 0 ||
	       (memcmp(address.s6_addr + 8, none, 7) == 0 && address.s6_addr[15] < RESERVED_FIRST);
}

/* The second half as a number. */
static uint64_t host_of(struct in6_addr address)
{
	uint64_t host;

	memcpy(&host, address.s6_addr + 8, 8);
	return be64toh(host);
}

static void set_host(struct in6_addr *address, uint64_t host)
{
	host = htobe64(host);
	memcpy(address->s6_addr + 8, &host, 8);
}

/* What one request takes. */
struct taking {
	const json_t *subnet, *prefixes;
	struct cidr6 block;
	json_t *addresses; /* so far */
};

static int is_taken(const struct taking *t, const char *text)
{
	const json_t *a;
	size_t i;

	json_array_foreach (t->addresses, i, a)
		if (jis(a, "Ipv6Address", text))
			return 1;
	return delegation_has(t->prefixes, text) ||
	       taken_private(jstr_or(t->subnet, "SubnetId", ""), text);
}

static int add(json_t *addresses, const char *text)
{
	return json_array_append_new(addresses, json_pack("{s:s s:b}", "Ipv6Address", text,
							  "IsPrimaryIpv6", 0)) < 0
		       ? -ENOMEM
		       : 0;
}

static int take_named(const struct taking *t, const char *text, struct fault *f)
{
	char canonical[INET6_ADDRSTRLEN];
	struct in6_addr address;

	if (!text || inet_pton(AF_INET6, text, &address) != 1)
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "Value (%.64s) for parameter ipv6Address is invalid. Invalid "
				 "IPv6 address.",
				 text ? text : "null");
	if (!cidr6_has(t->block, address))
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "Address does not fall within the subnet's address range");
	if (is_reserved(t->block, address))
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "Address %s is in subnet's reserved address range", text);
	inet_ntop(AF_INET6, &address, canonical, sizeof canonical);
	if (is_taken(t, canonical))
		return fault_set(f, FAULT_INVALID_IP_ADDRESS_IN_USE, "Address %s is in use.",
				 canonical);
	return add(t->addresses, canonical);
}

/* How far it is from the address to the first one behind the block. */
static unsigned __int128 past(struct cidr6 block, struct in6_addr address)
{
	return host_of(cidr6_first(block)) - (unsigned __int128)host_of(address) +
	       ((unsigned __int128)1 << (128 - block.bits));
}

/* How far it is from the address to the next one that may be free: past the reservation it is in,
 * 0: it is in none. */
static unsigned __int128 set_aside(const json_t *reservations, struct in6_addr address)
{
	struct cidr6 block;
	const char *text;
	json_t *type;

	json_object_foreach ((json_t *)reservations, text, type)
		if (cidr6_parse(text, &block) == 0 && cidr6_has(block, address))
			return past(block, address);
	return 0;
}

/* The same of the prefix that it is in, somebody's or the request's own. */
static unsigned __int128 of_prefix(const struct taking *t, struct in6_addr address)
{
	const json_t *prefixes = taken_prefixes(jstr_or(t->subnet, "SubnetId", ""));
	struct cidr6 block = {address, DELEGATION_BITS6};
	char text[CIDR6_TEXT_MAX];

	block.address = cidr6_first(block);
	cidr6_format(block, text);
	return json_object_get(prefixes, text) || jarray_has(t->prefixes, text)
		       ? past(block, address)
		       : 0;
}

/* By lot; but reservations and prefixes may leave so little that no lot meets it: then the next one
 * behind. */
static int take_any(const struct taking *t, struct fault *f)
{
	const char *subnet_id = jstr_or(t->subnet, "SubnetId", "");
	const json_t *reservations = taken_reservations(subnet_id);
	unsigned __int128 gone = 0, step;
	char text[INET6_ADDRSTRLEN];
	uint64_t host = 0;

	for (int n_lots = 0; gone >> 64 == 0; gone += step) {
		struct in6_addr address = cidr6_first(t->block);

		if (n_lots++ < LOTS)
			(void)!getrandom(&host, sizeof host, 0); /* cannot fail for so few bytes */
		set_host(&address, host + (uint64_t)gone);
		step = set_aside(reservations, address);
		if (step == 0)
			step = of_prefix(t, address);
		inet_ntop(AF_INET6, &address, text, sizeof text);
		if (step == 0 && !is_reserved(t->block, address) && !is_taken(t, text))
			return add(t->addresses, text);
		step = n_lots < LOTS ? 0 : step ? step : 1;
	}
	return fault_set(f, FAULT_INSUFFICIENT_FREE_ADDRESSES,
			 "There are not enough free addresses in subnet '%s' to satisfy the "
			 "requested number of addresses.",
			 subnet_id);
}

static int take_addresses(const json_t *subnet, const json_t *parameters, const json_t *has,
			  const json_t *prefixes, int is_birth, json_t **ret_addresses,
			  struct fault *f)
{
	json_t *named = json_object_get(parameters, "Ipv6Addresses"), *a;
	int64_t n = jint(parameters, "Ipv6AddressCount", 0);
	OWN(json_decref) json_t *addresses = json_array();
	struct taking t = {.subnet = subnet, .prefixes = prefixes, .addresses = addresses};
	size_t i;
	int r = count_check(parameters, "Ipv6AddressCount", 0, f);

	if (r < 0)
		return r;
	if (json_object_get(parameters, "Ipv6AddressCount") && named)
		return fault_set(f, FAULT_INVALID_PARAMETER_COMBINATION,
				 "Ipv6Addresses and Ipv6AddressCount may not be used together");
	if (n > LIMIT_ADDRESSES_PER_INTERFACE ||
	    (size_t)n + json_array_size(named) + json_array_size(has) >
		    LIMIT_ADDRESSES_PER_INTERFACE)
		return fault_set(f, FAULT_PRIVATE_IP_ADDRESS_LIMIT_EXCEEDED,
				 "Number of IPv6 addresses will exceed limit.");
	if (is_birth && !named && !json_object_get(parameters, "Ipv6AddressCount"))
		n = jbool(subnet, "AssignIpv6AddressOnCreation", 0);
	if ((n || json_array_size(named)) && ipv6_block_of(subnet, &t.block) < 0)
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "The subnet %s has no IPv6 CIDR block",
				 jstr_or(subnet, "SubnetId", ""));
	json_array_foreach (named, i, a)
		if (r == 0)
			r = take_named(&t,
				       json_is_string(a) ? json_string_value(a)
							 : jstr(a, "Ipv6Address"),
				       f);
	for (; r == 0 && n > 0; n--)
		r = take_any(&t, f);
	if (r < 0)
		return r;
	*ret_addresses = give(addresses);
	return 0;
}

static json_t *texts_of(const json_t *addresses)
{
	OWN(json_decref) json_t *texts = json_array();
	const json_t *a;
	size_t i;

	json_array_foreach (addresses, i, a)
		if (json_array_append(texts, json_object_get(a, "Ipv6Address")) < 0)
			return NULL;
	return give(texts);
}

/* What is named comes before what is chosen. */
int ipv6_take(const json_t *subnet, const json_t *parameters, const json_t *interface, int is_birth,
	      json_t **ret_addresses, json_t **ret_prefixes, struct fault *f)
{
	const struct delegation *d = &delegation_ipv6;
	OWN(json_decref) json_t *addresses = NULL, *prefixes = NULL, *taken = NULL;
	int r = delegation_named(d, subnet, parameters, interface, &prefixes, f);

	if (r == 0)
		r = take_addresses(subnet, parameters, json_object_get(interface, "Ipv6Addresses"),
				   prefixes, is_birth, &addresses, f);
	if (r < 0)
		return r;
	taken = texts_of(addresses);
	r = taken ? jarray_extend_all(taken, prefixes) : -ENOMEM;
	if (r == 0)
		r = delegation_take(d, subnet, parameters, taken, prefixes, f);
	if (r < 0)
		return r;
	*ret_addresses = give(addresses);
	*ret_prefixes = give(prefixes);
	return 0;
}

/* ---- of an interface that is there ---- */

/* What packets feel is felt when the answer is sent. */
static int commit(const struct call *c, const struct doc *d, json_t *json)
{
	char id[ID_MAX];
	int r = refresh_mark(json);

	snprintf(id, sizeof id, "%s", d->id);
	if (r == 0)
		r = txn_replace(c->txn, d, json_incref(json));
	if (r == 0)
		r = call_apply(c, jstr_or(json, "VpcId", ""));
	if (r == 0)
		refresh_start(c->store, id);
	return r;
}

int assign_ipv6_addresses(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	OWN(json_decref) json_t *added = NULL, *prefixes = NULL;
	const struct doc *d, *subnet;
	int r = interface_get_customers(c, parameters, &d, f);

	if (r == 0)
		r = kind_get(c, &kind_subnet, "SubnetId", jstr(d->json, "SubnetId"), &subnet, f);
	if (r == 0)
		r = count_check(parameters, "Ipv6AddressCount", 1, f);
	if (r == 0)
		r = count_check(parameters, delegation_ipv6.count, 1, f);
	if (r < 0)
		return r;
	if (!json_object_get(parameters, "Ipv6Addresses") &&
	    !json_object_get(parameters, "Ipv6AddressCount") &&
	    !delegation_is_asked(&delegation_ipv6, parameters))
		return fault_set(f, FAULT_MISSING_PARAMETER,
				 "The request must contain the parameter ipv6Addresses, "
				 "ipv6AddressCount, ipv6Prefix or ipv6PrefixCount");
	r = ipv6_take(subnet->json, parameters, d->json, 0, &added, &prefixes, f);
	if (r == 0)
		r = interface_limit_check(json_object_get(d->json, "Attachment"), d->json, 0,
					  json_array_size(added) + json_array_size(prefixes), f);
	if (r < 0)
		return r;
	OWN(json_decref) json_t *json = doc_edit(d);

	r = json ? jarray_extend_all(json_object_get(json, "Ipv6Addresses"), added) : -ENOMEM;
	if (r == 0)
		r = delegation_add(&delegation_ipv6, json, prefixes);
	if (r < 0)
		return r;
	*ret_reply =
		json_pack("{s:s s:o s:O}", "NetworkInterfaceId", d->id, "AssignedIpv6Addresses",
			  texts_of(added), "AssignedIpv6Prefixes", prefixes);
	return *ret_reply ? commit(c, d, json) : -ENOMEM;
}

/* Takes one address out of the list; in any text. */
static int take_out(json_t *addresses, const char *interface_id, const char *text, json_t *removed,
		    struct fault *f)
{
	char canonical[INET6_ADDRSTRLEN] = "";
	struct in6_addr address;
	json_t *a;
	size_t i;

	if (text && inet_pton(AF_INET6, text, &address) == 1)
		inet_ntop(AF_INET6, &address, canonical, sizeof canonical);
	json_array_foreach (addresses, i, a)
		if (jis(a, "Ipv6Address", canonical)) {
			if (json_array_append(removed, a) < 0)
				return -ENOMEM;
			json_array_remove(addresses, i);
			return 0;
		}
	return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
			 "Some of the specified addresses are not assigned to interface %s",
			 interface_id);
}

int unassign_ipv6_addresses(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	json_t *named = json_object_get(parameters, "Ipv6Addresses"), *text;
	OWN(json_decref) json_t *removed = json_array(), *prefixes = json_array();
	const struct doc *d;
	size_t i;
	int r = interface_get_customers(c, parameters, &d, f);

	if (r < 0)
		return r;
	if (!json_array_size(named) && !delegation_is_asked(&delegation_ipv6, parameters))
		return fault_set(f, FAULT_MISSING_PARAMETER,
				 "The request must contain the parameter ipv6Addresses or "
				 "ipv6Prefix");
	OWN(json_decref) json_t *json = doc_edit(d);

	r = json && removed && prefixes
		    ? delegation_remove(&delegation_ipv6, json, parameters, prefixes, f)
		    : -ENOMEM;
	json_array_foreach (named, i, text)
		if (r == 0)
			r = take_out(json_object_get(json, "Ipv6Addresses"), d->id,
				     json_string_value(text), removed, f);
	if (r < 0)
		return r;
	*ret_reply =
		json_pack("{s:s s:o s:O}", "NetworkInterfaceId", d->id, "UnassignedIpv6Addresses",
			  texts_of(removed), "UnassignedIpv6Prefixes", prefixes);
	return *ret_reply ? commit(c, d, json) : -ENOMEM;
}
