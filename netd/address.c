/* Who gets which address. */
#include "address.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "config.h"
#include "daemon.h"
#include "delegation.h"
#include "jsonx.h"
#include "taken.h"

#define RESERVED_FIRST 4
#define RESERVED_LAST  1

/* Where to begin to look: any place is right, this only spreads. */
static uint32_t random_start(void)
{
	uint32_t start = 0;

	(void)!getrandom(&start, sizeof start, 0);
	return start;
}

static int take_this(struct cidr block, const char *subnet_id, const char *wanted,
		     const json_t *also_taken, char ret_text[static IP_TEXT_MAX])
{
	uint32_t address;

	if (ip_parse(wanted, &address) < 0)
		return -EINVAL;
	uint64_t at = (uint64_t)address - cidr_first(block);

	if (!cidr_has(block, address))
		return -ERANGE;
	if (at < RESERVED_FIRST || at >= cidr_size(block) - RESERVED_LAST)
		return -EPERM;
	if (taken_private(subnet_id, wanted) || delegation_has(also_taken, wanted))
		return -EADDRINUSE;
	snprintf(ret_text, IP_TEXT_MAX, "%s", wanted);
	return 0;
}

/* ---- reservations ---- */

/* The reservation that has the address. */
static int find_reserved(const json_t *reservations, uint32_t address, struct cidr *ret_block)
{
	const char *text;
	json_t *type;

	json_object_foreach ((json_t *)reservations, text, type)
		if (cidr_parse(text, ret_block) == 0 && cidr_has(*ret_block, address))
			return 1;
	return 0;
}

/* Addresses of the prefix that are of reservations, which may be larger or smaller. */
static uint64_t count_prefix_reserved(const json_t *reservations, const char *prefix)
{
	struct cidr block, reserved;
	uint64_t n = 0;
	const char *text;
	json_t *type;

	if (cidr_parse(prefix, &block) < 0)
		return 0; /* of IPv6 */
	json_object_foreach ((json_t *)reservations, text, type)
		if (cidr_parse(text, &reserved) == 0 && cidr_overlap(block, reserved))
			n += cidr_size(reserved.bits > block.bits ? reserved : block);
	return n;
}

static uint64_t count_reserved_taken(const char *subnet_id, const json_t *reservations)
{
	const char *text;
	struct cidr block;
	uint32_t address;
	uint64_t n = 0;
	json_t *times;

	json_object_foreach ((json_t *)taken_addresses(subnet_id), text, times)
		n += ip_parse(text, &address) == 0 && find_reserved(reservations, address, &block);
	json_object_foreach ((json_t *)taken_prefixes(subnet_id), text, times)
		n += count_prefix_reserved(reservations, text);
	return n;
}

/* Addresses of the block that can be given at all, as a range. */
static void usable(struct cidr whole, uint32_t *ret_first, uint32_t *ret_last)
{
	*ret_first = cidr_first(whole) + RESERVED_FIRST;
	*ret_last = cidr_last(whole) - RESERVED_LAST;
}

/* How many addresses of reservations nobody has: all there are in these blocks, which do not
 * overlap, without what AWS keeps and what is taken. */
static uint64_t count_reserved(const char *subnet_id, struct cidr whole)
{
	json_t *reservations = (json_t *)taken_reservations(subnet_id), *type;
	uint32_t usable_first, usable_last;
	uint64_t n = 0;
	const char *text;
	struct cidr block;

	usable(whole, &usable_first, &usable_last);
	json_object_foreach (reservations, text, type) {
		if (cidr_parse(text, &block) < 0)
			continue; /* of IPv6 */
		uint32_t first = cidr_first(block), last = cidr_last(block);

		first = first < usable_first ? usable_first : first;
		last = last > usable_last ? usable_last : last;
		n += first <= last ? (uint64_t)last - first + 1 : 0;
	}
	return n ? n - count_reserved_taken(subnet_id, reservations) : 0;
}

int address_take(const json_t *subnet, const char *wanted, const json_t *also_taken,
		 char ret_text[static IP_TEXT_MAX])
{
	const char *subnet_id = jstr_or(subnet, "SubnetId", "");
	char text[IP_TEXT_MAX];
	struct cidr block;

	if (cidr_parse(jstr(subnet, "CidrBlock"), &block) < 0)
		return -EUCLEAN;
	if (wanted)
		return take_this(block, subnet_id, wanted, also_taken, ret_text);
	const json_t *reservations = taken_reservations(subnet_id);

	/* With reservations what the request has already may be one of them. */
	if (!json_object_size(reservations) &&
	    address_count_free(subnet) <= json_array_size(also_taken))
		return -ENOSPC;
	uint32_t first, last, start = random_start();

	usable(block, &first, &last);
	uint64_t n = (uint64_t)last - first + 1;

	for (uint64_t i = 0; i < n; i++) {
		uint32_t address = first + (uint32_t)((start + i) % n);
		struct cidr reserved;

		if (find_reserved(reservations, address, &reserved)) {
			uint32_t end = cidr_last(reserved);

			i += (end > last ? last : end) - address; /* all of it at once */
			continue;
		}
		ip_format(address, text);
		if (!taken_private(subnet_id, text) && !delegation_has(also_taken, text)) {
			snprintf(ret_text, IP_TEXT_MAX, "%s", text);
			return 0;
		}
	}
	return -ENOSPC;
}

uint64_t address_count_free(const json_t *subnet)
{
	uint64_t n_taken =
		taken_count(jstr_or(subnet, "SubnetId", "")) + RESERVED_FIRST + RESERVED_LAST;
	struct cidr block;

	if (cidr_parse(jstr(subnet, "CidrBlock"), &block) < 0)
		return 0;
	n_taken += count_reserved(jstr_or(subnet, "SubnetId", ""), block);
	if (cidr_size(block) <= n_taken)
		return 0;
	return cidr_size(block) - n_taken;
}

/* A network's own address and its broadcast address are no one's, where there is room to be so
 * careful. */
int address_take_from_pool(struct cidr pool, char ret_text[static IP_TEXT_MAX])
{
	uint32_t edge = cidr_size(pool) > 2, start = random_start();
	uint64_t n = cidr_size(pool) - 2 * edge;

	for (uint64_t i = 0; i < n; i++) {
		char text[IP_TEXT_MAX];

		ip_format(cidr_first(pool) + edge + (uint32_t)((start + i) % n), text);
		if (!taken_public(text)) {
			snprintf(ret_text, IP_TEXT_MAX, "%s", text);
			return 0;
		}
	}
	return -ENOSPC;
}

int address_take_public(const struct call *c, char ret_text[static IP_TEXT_MAX], struct fault *f)
{
	struct cidr pool;
	int r = cidr_parse(config_string(c->daemon->config, "Network", "PublicPool"), &pool);

	if (r == 0)
		r = address_take_from_pool(pool, ret_text);
	if (r == -ENOSPC)
		return fault_set(f, FAULT_INSUFFICIENT_ADDRESS_CAPACITY,
				 "Not enough free public addresses: the pool is used up");
	return r;
}

static void dashed(const char *address, char ret_text[static IP_TEXT_MAX])
{
	snprintf(ret_text, IP_TEXT_MAX, "%s", address);
	for (char *p = ret_text; (p = strchr(p, '.'));)
		*p = '-';
}

void address_zone(const char *region, char ret_zone[static ADDRESS_NAME_MAX])
{
	if (strcmp(region, "us-east-1") == 0)
		snprintf(ret_zone, ADDRESS_NAME_MAX, "ec2.internal");
	else
		snprintf(ret_zone, ADDRESS_NAME_MAX, "%s.compute.internal", region);
}

void address_private_name(const char *region, const char *address,
			  char ret_name[static ADDRESS_NAME_MAX])
{
	char ip[IP_TEXT_MAX], zone[ADDRESS_NAME_MAX];

	dashed(address, ip);
	address_zone(region, zone);
	snprintf(ret_name, ADDRESS_NAME_MAX, "ip-%s.%.70s", ip, zone);
}

void address_public_name(const char *region, const char *address,
			 char ret_name[static ADDRESS_NAME_MAX])
{
	char ip[IP_TEXT_MAX];

	dashed(address, ip);
	if (strcmp(region, "us-east-1") == 0)
		snprintf(ret_name, ADDRESS_NAME_MAX, "ec2-%s.compute-1.amazonaws.com", ip);
	else
		snprintf(ret_name, ADDRESS_NAME_MAX, "ec2-%s.%s.compute.amazonaws.com", ip, region);
}
