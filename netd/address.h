/*
 * Addresses: private ones of a subnet, public ones of the pool, and their names. Which are taken
 * is asked of taken.h.
 */
#pragma once

#include <jansson.h>
#include <stdint.h>
#include "action.h"
#include "cidr.h"

/* An address of the subnet: `wanted`, or (NULL) any free one, not always the lowest: an address
 * that was just given back should not be somebody else's at once. `also_taken` are texts that
 * the same request took before, prefixes among them. AWS reserves the first four addresses of a
 * subnet (network, router, DNS, future) and the last one; those of the subnet's reservations are
 * given by name only, those of interfaces' prefixes (delegation.h) to nobody. 0, -EINVAL: no
 * address; -ERANGE: outside of the subnet; -EPERM: reserved; -EADDRINUSE; -ENOSPC: none is free. */
int address_take(const json_t *subnet, const char *wanted, const json_t *also_taken,
		 char ret_text[static IP_TEXT_MAX]);
/* Addresses of the subnet that can still be taken without a name: AWS counts none of reservations. */
uint64_t address_count_free(const json_t *subnet);

/* A free address of the pool. 0 or -ENOSPC. */
int address_take_from_pool(struct cidr pool, char ret_text[static IP_TEXT_MAX]);
/* The same of the configured pool; InsufficientAddressCapacity when there is none. */
int address_take_public(const struct call *c, char ret_text[static IP_TEXT_MAX], struct fault *f);

#define ADDRESS_NAME_MAX 96
/* "ip-172-31-0-5.ec2.internal", "ip-172-31-0-5.ap-northeast-2.compute.internal" */
void address_private_name(const char *region, const char *address,
			  char ret_name[static ADDRESS_NAME_MAX]);
/* "ec2.internal", "ap-northeast-2.compute.internal": what private names end with. */
void address_zone(const char *region, char ret_zone[static ADDRESS_NAME_MAX]);
/* "ec2-198-18-0-5.compute-1.amazonaws.com",
 * "ec2-198-18-0-5.ap-northeast-2.compute.amazonaws.com" */
void address_public_name(const char *region, const char *address,
			 char ret_name[static ADDRESS_NAME_MAX]);
