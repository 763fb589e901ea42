/* Address arithmetic. */
#include "cidr.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

/* A decimal number of at most `max` without leading zeros; the rest of the text, or NULL. */
static const char *number_parse(const char *text, unsigned max, unsigned *ret_number)
{
	size_t n = strspn(text, "0123456789");
	unsigned value = 0;

	if (n == 0 || n > 3 || (n > 1 && text[0] == '0'))
		return NULL;
	for (size_t i = 0; i < n; i++)
		value = value * 10 + (unsigned)(text[i] - '0');
	if (value > max)
		return NULL;
	*ret_number = value;
	return text + n;
}

/* An address at the start of the text; what follows it, or NULL. */
static const char *address_parse(const char *text, uint32_t *ret_address)
{
	uint32_t address = 0;
	unsigned part;

	for (int i = 0; i < 4; i++) {
		if (i > 0 && *text++ != '.')
			return NULL;
		text = number_parse(text, 255, &part);
		if (!text)
			return NULL;
		address = address << 8 | part;
	}
	*ret_address = address;
	return text;
}

int ip_parse(const char *text, uint32_t *ret_address)
{
	uint32_t address;
	const char *rest = text ? address_parse(text, &address) : NULL;

	if (!rest || *rest)
		return -EINVAL;
	*ret_address = address;
	return 0;
}

void ip_format(uint32_t a, char ret_text[static IP_TEXT_MAX])
{
	snprintf(ret_text, IP_TEXT_MAX, "%u.%u.%u.%u", a >> 24 & 255, a >> 16 & 255, a >> 8 & 255,
		 a & 255);
}

int cidr_parse(const char *text, struct cidr *ret_cidr)
{
	struct cidr c;
	const char *rest = text ? address_parse(text, &c.address) : NULL;

	if (!rest || *rest != '/')
		return -EINVAL;
	rest = number_parse(rest + 1, 32, &c.bits);
	if (!rest || *rest)
		return -EINVAL;
	*ret_cidr = c;
	return 0;
}

void cidr_format(struct cidr c, char ret_text[static CIDR_TEXT_MAX])
{
	char address[IP_TEXT_MAX];

	ip_format(c.address, address);
	snprintf(ret_text, CIDR_TEXT_MAX, "%s/%u", address, c.bits);
}

int cidr6_canonical(const char *text, char ret_text[static CIDR6_TEXT_MAX])
{
	const char *slash = text ? strchr(text, '/') : NULL;
	char address[INET6_ADDRSTRLEN];
	struct in6_addr a;
	unsigned bits;

	if (!slash || (size_t)(slash - text) >= sizeof address)
		return -EINVAL;
	const char *rest = number_parse(slash + 1, 128, &bits);

	if (!rest || *rest)
		return -EINVAL;
	snprintf(address, sizeof address, "%.*s", (int)(slash - text), text);
	if (inet_pton(AF_INET6, address, &a) != 1)
		return -EINVAL;
	for (unsigned i = 0; i < 16; i++) {
		unsigned kept = bits > i * 8 ? bits - i * 8 : 0;

		if (kept < 8)
			a.s6_addr[i] &= (uint8_t)(0xff00 >> kept);
	}
	inet_ntop(AF_INET6, &a, address, sizeof address);
	snprintf(ret_text, CIDR6_TEXT_MAX, "%s/%u", address, bits);
	return 0;
}

uint32_t cidr_mask(unsigned bits)
{
	return bits == 0 ? 0 : UINT32_MAX << (32 - bits);
}

struct cidr cidr_canonical(struct cidr c)
{
	return (struct cidr){cidr_first(c), c.bits};
}

int cidr_is_canonical(struct cidr c)
{
	return c.address == cidr_first(c);
}

uint32_t cidr_first(struct cidr c)
{
	return c.address & cidr_mask(c.bits);
}

uint32_t cidr_last(struct cidr c)
{
	return c.address | ~cidr_mask(c.bits);
}

uint64_t cidr_size(struct cidr c)
{
	return (uint64_t)1 << (32 - c.bits);
}

int cidr_has(struct cidr c, uint32_t address)
{
	return ((c.address ^ address) & cidr_mask(c.bits)) == 0;
}

int cidr_has_cidr(struct cidr outer, struct cidr inner)
{
	return inner.bits >= outer.bits && cidr_has(outer, inner.address);
}

int cidr_overlap(struct cidr a, struct cidr b)
{
	return a.bits < b.bits ? cidr_has(a, b.address) : cidr_has(b, a.address);
}

struct cidr cidr_part(struct cidr c, unsigned bits, uint32_t part)
{
	return (struct cidr){cidr_first(c) + (uint32_t)((uint64_t)part << (32 - bits)), bits};
}
