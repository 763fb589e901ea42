/* Which blocks of a subnet are free. */
#include "delegation-block.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "ipv6.h"
#include "jsonx.h"
#include "taken.h"

enum { USED = 1, RESERVED = 2, FOR_PREFIXES = 4 };

/* Subnets of IPv6 are /64: a block is told by the two bytes after that. */
#define BLOCKS6 65536

void blocks_clear(struct blocks *b)
{
	free(b->flags);
	b->flags = NULL;
	b->n = 0;
}

static uint32_t number4(const struct address *a)
{
	return (uint32_t)a->bytes[0] << 24 | (uint32_t)a->bytes[1] << 16 |
	       (uint32_t)a->bytes[2] << 8 | a->bytes[3];
}

/* Where the address's block would be, if it is in the subnet. */
static int index_of(const struct blocks *b, const struct address *a, size_t *ret_at)
{
	size_t at;

	if (a->family != b->d->family)
		return -ERANGE;
	if (a->family == AF_INET)
		at = (number4(a) - number4(&b->first)) / DELEGATION_SIZE4;
	else if (memcmp(a->bytes, b->first.bytes, 8) == 0)
		at = (size_t)a->bytes[8] << 8 | a->bytes[9];
	else
		return -ERANGE;
	if (at >= b->n)
		return -ERANGE;
	*ret_at = at;
	return 0;
}

/* An address, or a block's first one and its length. */
static int read_text(const char *text, struct address *ret_first, unsigned *ret_bits)
{
	struct cidr6 v6;
	struct cidr v4;

	if (cidr_parse(text, &v4) == 0) {
		*ret_first = ip4(cidr_first(v4));
		*ret_bits = v4.bits;
	} else if (cidr6_parse(text, &v6) == 0) {
		*ret_first = ip6(cidr6_first(v6));
		*ret_bits = v6.bits;
	} else if (ip_any_parse(text, ret_first) == 0) {
		*ret_bits = ret_first->family == AF_INET6 ? 128 : 32;
	} else {
		return -EINVAL;
	}
	return 0;
}

/* All blocks that have something of the text in common. */
static void mark(struct blocks *b, const char *text, uint8_t flags)
{
	struct address first;
	unsigned bits;
	size_t at;

	if (read_text(text, &first, &bits) < 0 || index_of(b, &first, &at) < 0)
		return; /* of the other family */
	size_t n = bits >= b->d->bits ? 1 : (size_t)1 << (b->d->bits - bits);

	for (size_t i = at; i < b->n && i < at + n; i++)
		b->flags[i] |= flags;
}

void blocks_use(struct blocks *b, const char *text)
{
	mark(b, text, USED);
}

/* A reservation that is smaller than a block keeps it from being chosen, and offers none. */
static void mark_reservations(struct blocks *b, const json_t *reservations)
{
	struct address first;
	const char *text;
	unsigned bits;
	json_t *type;

	json_object_foreach ((json_t *)reservations, text, type) {
		int is_for_prefixes = strcmp(json_string_value(type) ?: "", "prefix") == 0 &&
				      read_text(text, &first, &bits) == 0 && bits <= b->d->bits;

		mark(b, text, is_for_prefixes ? RESERVED | FOR_PREFIXES : RESERVED);
	}
}

static int subnet_read(const struct delegation *d, const json_t *subnet, struct blocks *b)
{
	struct cidr6 v6;
	struct cidr v4;

	if (d->family == AF_INET6) {
		if (ipv6_block_of(subnet, &v6) < 0)
			return 0;
		b->first = ip6(cidr6_first(v6));
		b->n = BLOCKS6;
		return 0;
	}
	if (cidr_parse(jstr(subnet, "CidrBlock"), &v4) < 0)
		return -EUCLEAN;
	b->first = ip4(cidr_first(v4));
	b->n = v4.bits <= d->bits ? (size_t)1 << (d->bits - v4.bits) : 0;
	return 0;
}

int blocks_read(const struct delegation *d, const json_t *subnet, struct blocks *ret_blocks)
{
	const char *subnet_id = jstr_or(subnet, "SubnetId", ""), *text;
	struct blocks b = {.d = d};
	json_t *times;
	int r = subnet_read(d, subnet, &b);

	if (r < 0)
		return r;
	b.flags = calloc(b.n + 1, 1);
	if (!b.flags)
		return -ENOMEM;
	if (b.n) /* AWS's own addresses are in these */
		b.flags[0] = b.flags[b.n - 1] = USED;
	json_object_foreach ((json_t *)taken_addresses(subnet_id), text, times)
		mark(&b, text, USED);
	json_object_foreach ((json_t *)taken_prefixes(subnet_id), text, times)
		mark(&b, text, USED);
	mark_reservations(&b, taken_reservations(subnet_id));
	*ret_blocks = b;
	return 0;
}

int blocks_find(const struct blocks *b, const char *text, size_t *ret_at)
{
	struct address first;
	struct cidr6 v6;
	struct cidr v4;

	if (cidr_parse(text, &v4) == 0) {
		if (v4.bits != b->d->bits || cidr_first(v4) != v4.address)
			return -EDOM;
		first = ip4(cidr_first(v4));
	} else if (cidr6_parse(text, &v6) == 0) {
		struct in6_addr canonical = cidr6_first(v6);

		if (v6.bits != b->d->bits || memcmp(&canonical, &v6.address, sizeof canonical) != 0)
			return -EDOM;
		first = ip6(canonical);
	} else {
		return -EINVAL;
	}
	return first.family == b->d->family ? index_of(b, &first, ret_at) : -EINVAL;
}

int blocks_is_free(const struct blocks *b, size_t at)
{
	return !(b->flags[at] & USED);
}

/* Any place to begin is right, this only spreads: what was just given back should not be somebody
 * else's at once. */
static int choose_with(const struct blocks *b, uint8_t flags, size_t *ret_at)
{
	uint32_t start = 0;

	(void)!getrandom(&start, sizeof start, 0);
	for (size_t i = 0; i < b->n; i++) {
		size_t at = (start + i) % b->n;

		if (b->flags[at] == flags) {
			*ret_at = at;
			return 0;
		}
	}
	return -ENOSPC;
}

int blocks_choose(const struct blocks *b, size_t *ret_at)
{
	return choose_with(b, RESERVED | FOR_PREFIXES, ret_at) == 0 ? 0 : choose_with(b, 0, ret_at);
}

void blocks_format(const struct blocks *b, size_t at, char ret_text[static CIDR6_TEXT_MAX])
{
	struct cidr6 v6 = {.bits = b->d->bits};

	if (b->d->family == AF_INET) {
		cidr_format((struct cidr){number4(&b->first) + (uint32_t)at * DELEGATION_SIZE4,
					  b->d->bits},
			    ret_text);
		return;
	}
	memcpy(&v6.address, b->first.bytes, 16);
	v6.address.s6_addr[8] = (uint8_t)(at >> 8);
	v6.address.s6_addr[9] = (uint8_t)at;
	cidr6_format(v6, ret_text);
}
