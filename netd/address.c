/* Who has which address. */
#include "address.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "config.h"
#include "daemon.h"
#include "describe.h"
#include "netd.h"

void address_set_clear(struct address_set *s)
{
	free(s->taken);
	*s = (struct address_set){0};
}

static int address_set_new(struct cidr block, struct address_set *ret_set)
{
	uint8_t *taken = calloc(1, (size_t)(cidr_size(block) / 8 + 1));

	if (!taken)
		return -ENOMEM;
	*ret_set = (struct address_set){.block = cidr_canonical(block), .taken = taken};
	return 0;
}

static int is_taken(const struct address_set *s, uint32_t at)
{
	return s->taken[at / 8] >> (at % 8) & 1;
}

static void mark(struct address_set *s, uint32_t at)
{
	s->n_taken += !is_taken(s, at);
	s->taken[at / 8] |= (uint8_t)(1u << (at % 8));
}

/* No address, or one outside of the block, is nobody's business here. */
static void mark_text(struct address_set *s, const char *text)
{
	uint32_t address;

	if (ip_parse(text, &address) == 0 && cidr_has(s->block, address))
		mark(s, address - s->block.address);
}

static void mark_reserved(struct address_set *s)
{
	for (uint32_t at = 0; at < 4 && at < cidr_size(s->block); at++)
		mark(s, at);
	mark(s, (uint32_t)(cidr_size(s->block) - 1));
}

int address_set_load(const struct store *s, const json_t *subnet, struct address_set *ret_set)
{
	OWN(address_set_clear) struct address_set set = {0};
	const char *subnet_id = jstr(subnet, "SubnetId");
	struct cidr block;
	int r = cidr_parse(jstr(subnet, "CidrBlock"), &block);

	if (r == 0)
		r = address_set_new(block, &set);
	if (r < 0)
		return r;
	mark_reserved(&set);
	store_each(s, "network-interface", d) {
		json_t *list = json_object_get(d->json, "PrivateIpAddresses"), *a;
		size_t i;

		if (!jis(d->json, "SubnetId", subnet_id))
			continue;
		json_array_foreach(list, i, a)
			mark_text(&set, jstr(a, "PrivateIpAddress"));
	}
	*ret_set = set;
	set.taken = NULL;
	return 0;
}

int address_set_take(struct address_set *s, uint32_t *ret_address)
{
	uint64_t size = cidr_size(s->block);
	uint32_t start = 0;

	if (s->n_taken >= size)
		return -ENOSPC;
	(void)!getrandom(&start, sizeof start, 0); /* any start is right: this only spreads */
	for (uint64_t i = 0; i < size; i++) {
		uint32_t at = (uint32_t)((start + i) % size);

		if (!is_taken(s, at)) {
			mark(s, at);
			*ret_address = s->block.address + at;
			return 0;
		}
	}
	return -ENOSPC;
}

int address_set_take_this(struct address_set *s, uint32_t address)
{
	uint32_t at = address - s->block.address;

	if (!cidr_has(s->block, address) || at < 4 || at == cidr_size(s->block) - 1)
		return -ERANGE;
	if (is_taken(s, at))
		return -EADDRINUSE;
	mark(s, at);
	return 0;
}

uint64_t address_count_free(const struct store *s, const json_t *subnet)
{
	OWN(address_set_clear) struct address_set set = {0};

	if (address_set_load(s, subnet, &set) < 0)
		return 0;
	return cidr_size(set.block) - set.n_taken;
}

static int public_set_load(const struct call *c, struct address_set *ret_set)
{
	OWN(address_set_clear) struct address_set set = {0};
	struct cidr pool;
	int r = cidr_parse(config_string(c->daemon->config, "Network", "PublicPool"), &pool);

	if (r == 0)
		r = address_set_new(pool, &set);
	if (r < 0)
		return r;
	if (cidr_size(pool) > 2) { /* a network's own and its broadcast address are no one's */
		mark(&set, 0);
		mark(&set, (uint32_t)(cidr_size(pool) - 1));
	}
	store_each(c->store, "network-interface", d) {
		json_t *list = json_object_get(d->json, "PrivateIpAddresses"), *a;
		size_t i;

		json_array_foreach(list, i, a)
			mark_text(&set, jpath_str(a, "Association.PublicIp"));
	}
	store_each(c->store, "elastic-ip", d)
		mark_text(&set, jstr(d->json, "PublicIp"));
	*ret_set = set;
	set.taken = NULL;
	return 0;
}

int address_take_public(const struct call *c, char ret_text[static IP_TEXT_MAX], struct fault *f)
{
	OWN(address_set_clear) struct address_set set = {0};
	uint32_t address;
	int r = public_set_load(c, &set);

	if (r == 0)
		r = address_set_take(&set, &address);
	if (r == -ENOSPC)
		return fault_set(f, FAULT_INSUFFICIENT_ADDRESS_CAPACITY,
				 "Not enough free public addresses: the pool is used up");
	if (r < 0)
		return r;
	ip_format(address, ret_text);
	return 0;
}

static void dashed(const char *address, char ret_text[static IP_TEXT_MAX])
{
	snprintf(ret_text, IP_TEXT_MAX, "%s", address);
	for (char *p = ret_text; (p = strchr(p, '.'));)
		*p = '-';
}

void address_private_name(const char *region, const char *address, char ret_name[static ADDRESS_NAME_MAX])
{
	char ip[IP_TEXT_MAX];

	dashed(address, ip);
	if (strcmp(region, "us-east-1") == 0)
		snprintf(ret_name, ADDRESS_NAME_MAX, "ip-%s.ec2.internal", ip);
	else
		snprintf(ret_name, ADDRESS_NAME_MAX, "ip-%s.%s.compute.internal", ip, region);
}

void address_public_name(const char *region, const char *address, char ret_name[static ADDRESS_NAME_MAX])
{
	char ip[IP_TEXT_MAX];

	dashed(address, ip);
	if (strcmp(region, "us-east-1") == 0)
		snprintf(ret_name, ADDRESS_NAME_MAX, "ec2-%s.compute-1.amazonaws.com", ip);
	else
		snprintf(ret_name, ADDRESS_NAME_MAX, "ec2-%s.%s.compute.amazonaws.com", ip, region);
}
