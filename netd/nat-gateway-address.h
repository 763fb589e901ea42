/*
 * Addresses of NAT gateways: the rows of NatGatewayAddresses, the elements of its interface's
 * PrivateIpAddresses that they tell of, and the actions that add and take away secondary ones.
 *
 * A row is AWS's, with Status only while the address comes ("associating", "assigning") or goes
 * ("disassociating", "unassigning"), and then _DrainEnd: when its flows are cut. The interface's
 * element has _Idle (true: no flow begins with it) until the kernel knows the way back to a new
 * address, and from the request that takes it away until its end. Both documents change together.
 */
#pragma once

#include "netd.h"

static inline int nat_is_private(const json_t *nat)
{
	return jis(nat, "ConnectivityType", "private");
}

/* What AWS calls an address's way, by the kind of gateway. */
struct nat_ways {
	const char *coming, *going;			  /* Status */
	const char *in_message_coming, *in_message_going; /* as an error says it */
	const char *shown; /* member of the row by which an error names it */
	const char *noun;
};
const struct nat_ways *nat_ways(const json_t *nat);
/* The gateway's rows, the first is the primary address's. */
json_t *nat_rows(const json_t *nat);
/* The element of the interface's list, NULL if none, and where it is. */
json_t *nat_element(const json_t *interface, const char *private_ip, size_t *ret_at);

/* Secondary addresses that a request asks for. */
struct nat_wanted {
	const struct doc
		*elastics[LIMIT_ADDRESSES_PER_NAT_GATEWAY]; /* none for a private gateway */
	size_t n_elastics;
	json_t *places; /* the caller's: [{PrivateIpAddress}], without the member: any */
};
/* The parameters that say so: Create's begin with Secondary. */
struct nat_parameters {
	const char *elastics, *private_ips, *count;
};
/* `n_there`: how many the gateway has, with the primary one. */
int nat_wanted_read(const struct call *c, json_t *parameters, const struct nat_parameters *names,
		    int is_private, size_t n_there, struct nat_wanted *ret_wanted, struct fault *f);
/* An elastic address of the caller's that nothing has: InvalidAllocationID.NotFound,
 * Resource.AlreadyAssociated. */
int nat_elastic_get(const struct call *c, const char *parameter, const char *id,
		    const struct doc **ret_elastic, struct fault *f);

/* Puts the elastic address (NULL: the gateway is private) on the interface's private one, and tells
 * of it in a new row, in the transaction. */
int nat_address_join(const struct call *c, const struct doc *elastic, const char *interface_id,
		     const char *private_ip, int is_primary, json_t *rows);

/* Each of `rows` gets the Status that it shows; `nat` is its gateway. 0 or -ENOMEM. */
int nat_addresses_present(const json_t *nat, json_t *rows);

/* Some address comes or goes. */
int nat_addresses_pass(const json_t *nat);
/* How long until what goes is to be cut; 0: now, or nothing goes. */
uint64_t nat_addresses_drain_usec(const json_t *nat);
/* The kernel follows the documents: a step further, in the transaction. `json` is the gateway's
 * editable copy. */
int nat_addresses_advance(const struct call *c, json_t *json);
