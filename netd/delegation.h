/*
 * Prefixes of interfaces (AWS: prefix delegation): blocks of a subnet, /28 of IPv4 and /80 of IPv6,
 * all of whose addresses lead to one interface; who uses which is decided inside the instance. Source:
 * EC2 user guide, "Prefix delegation for Amazon EC2 network interfaces"; VPC user guide, "Subnet CIDR
 * reservations".
 *
 * Documents of interfaces have AWS's members, Ipv4Prefixes [{Ipv4Prefix}] and Ipv6Prefixes
 * [{Ipv6Prefix}], in canonical text; an interface without has no such member. A prefix is nobody
 * else's, and no single address of it is anybody's.
 */
#pragma once

#include <jansson.h>
#include "cidr.h"
#include "fault.h"

struct delegation {
	uint8_t family;
	unsigned bits;		    /* of each prefix */
	const char *list, *element; /* members of documents and requests: "Ipv4Prefixes" … */
	const char *count;	    /* of requests: "Ipv4PrefixCount" */
};
extern const struct delegation delegation_ipv4, delegation_ipv6;
#define DELEGATION_BITS4 28
#define DELEGATION_BITS6 80
#define DELEGATION_SIZE4 (1 << (32 - DELEGATION_BITS4))

/* The block, as long as a prefix, that an address of either family is in. 0 or -EINVAL. */
int delegation_of(const char *address, char ret_prefix[static CIDR6_TEXT_MAX]);
/* How many an interface has. */
size_t delegation_n(const struct delegation *d, const json_t *interface);
/* One of the texts is this prefix, or this address, or has it within. */
int delegation_has(const json_t *texts, const char *address);

/* ---- for a request; all of it within one handler, without a wait ---- */

/* It has the list or a count of more than none. */
int delegation_is_asked(const struct delegation *d, const json_t *parameters);
/* Those that the request names: in canonical text, each once, without those that the interface has
 * (NULL: none). InvalidParameterValue, InvalidIPAddress.InUse; InvalidParameterCombination with a
 * count. *ret_texts is a new list. */
int delegation_named(const struct delegation *d, const json_t *subnet, const json_t *parameters,
		     const json_t *interface, json_t **ret_texts, struct fault *f);
/* Appends as many as the request's count says: of the subnet's reservations of the type `prefix`,
 * then of what is not reserved at all. `also` are texts of addresses that the same request took.
 * InsufficientCidrBlocks. */
int delegation_take(const struct delegation *d, const json_t *subnet, const json_t *parameters,
		    const json_t *also, json_t *texts, struct fault *f);
/* They become the changeable document's. 0 or -ENOMEM. */
int delegation_add(const struct delegation *d, json_t *interface, const json_t *texts);
/* Takes those away that the request names; they are appended to `removed` (texts).
 * InvalidParameterValue when it has not all of them. */
int delegation_remove(const struct delegation *d, json_t *interface, const json_t *parameters,
		      json_t *removed, struct fault *f);
