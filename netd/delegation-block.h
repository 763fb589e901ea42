/*
 * The blocks of a subnet that can be prefixes: which of them are free. Made for one choice, from
 * what taken.h says; at most 4,096 of IPv4, 65,536 of IPv6.
 */
#pragma once

#include "delegation.h"
#include "own.h"

struct blocks {
	const struct delegation *d;
	struct address first; /* of the subnet */
	size_t n;
	uint8_t *flags; /* of each */
};
void blocks_clear(struct blocks *b);
static inline void own_blocks_clear(struct blocks *b)
{
	blocks_clear(b);
}

/* None in a subnet without the family. 0, -EUCLEAN or -ENOMEM. */
int blocks_read(const struct delegation *d, const json_t *subnet, struct blocks *ret_blocks);
/* The block of this text, in canonical form or not. 0; -EINVAL: no block, -EDOM: not of the length
 * or not aligned; -ERANGE: outside of the subnet. */
int blocks_find(const struct blocks *b, const char *text, size_t *ret_at);
/* What is of the text, an address or a block, cannot be had any more. */
void blocks_use(struct blocks *b, const char *text);
/* Nobody has an address of it, AWS keeps none of it. */
int blocks_is_free(const struct blocks *b, size_t at);
/* A free one, not always the first, as delegation_take() wants it. -ENOSPC. */
int blocks_choose(const struct blocks *b, size_t *ret_at);
void blocks_format(const struct blocks *b, size_t at, char ret_text[static CIDR6_TEXT_MAX]);
