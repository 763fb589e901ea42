/*
 * Addresses: who has which, private ones in a subnet and public ones of the pool; and their names.
 *
 * There is no table of taken addresses that could disagree with the interfaces: a set is made from the documents when it is
 * needed (two milliseconds with 10,000 interfaces). Within one handler, without a wait, what the set says stays true until the commit.
 */
#pragma once

#include <jansson.h>
#include <stdint.h>
#include "action.h"
#include "cidr.h"
#include "own.h"

/* Addresses of one block, one bit each. */
struct address_set {
	struct cidr block;
	uint8_t *taken;
	uint64_t n_taken; /* within the block, reserved ones included */
};
void address_set_clear(struct address_set *s);
static inline void own_address_set_clear(struct address_set *s)
{
	address_set_clear(s);
}

/* The subnet's: AWS reserves the first four addresses (network, router, DNS, future) and the last one. 0 or -errno. */
int address_set_load(const struct store *s, const json_t *subnet, struct address_set *ret_set);
/* Takes a free one, anywhere: an address that was just given back should not be somebody else's at once. -ENOSPC when there is none. */
int address_set_take(struct address_set *set, uint32_t *ret_address);
/* Takes this one. -ERANGE outside of the block or reserved, -EADDRINUSE. */
int address_set_take_this(struct address_set *set, uint32_t address);
/* Addresses of the subnet that can still be taken. */
uint64_t address_count_free(const struct store *s, const json_t *subnet);

/* A free address of the configured pool. InsufficientAddressCapacity when there is none. */
int address_take_public(const struct call *c, char ret_text[static IP_TEXT_MAX], struct fault *f);

#define ADDRESS_NAME_MAX 96
/* "ip-172-31-0-5.ec2.internal", "ip-172-31-0-5.ap-northeast-2.compute.internal" */
void address_private_name(const char *region, const char *address, char ret_name[static ADDRESS_NAME_MAX]);
/* "ec2-198-18-0-5.compute-1.amazonaws.com", "ec2-198-18-0-5.ap-northeast-2.compute.amazonaws.com" */
void address_public_name(const char *region, const char *address, char ret_name[static ADDRESS_NAME_MAX]);
