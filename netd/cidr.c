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

int ip_compare(const struct address *a, const struct address *b)
{
	return memcmp(a, b, sizeof *a);
}

int ip_any_parse(const char *text, struct address *ret_ip)
{
	struct in6_addr six;
	uint32_t four;

	if (ip_parse(text, &four) == 0)
		*ret_ip = ip4(four);
	else if (text && inet_pton(AF_INET6, text, &six) == 1)
		*ret_ip = ip6(six);
	else
		return -EINVAL;
	return 0;
}

void ip_any_format(const struct address *ip, char ret_text[static IP_ANY_TEXT_MAX])
{
	ret_text[0] = '\0';
	if (ip->family)
		inet_ntop(ip->family, ip->bytes, ret_text, IP_ANY_TEXT_MAX);
}

int cidr6_parse(const char *text, struct cidr6 *ret_cidr)
{
	const char *slash = text ? strchr(text, '/') : NULL;
	char address[INET6_ADDRSTRLEN];
	struct cidr6 c;

	if (!slash || (size_t)(slash - text) >= sizeof address)
		return -EINVAL;
	const char *rest = number_parse(slash + 1, 128, &c.bits);

	if (!rest || *rest)
		return -EINVAL;
	snprintf(address, sizeof address, "%.*s", (int)(slash - text), text);
	if (inet_pton(AF_INET6, address, &c.address) != 1)
		return -EINVAL;
	*ret_cidr = c;
	return 0;
}

void cidr6_format(struct cidr6 c, char ret_text[static CIDR6_TEXT_MAX])
{
	char address[INET6_ADDRSTRLEN];

	inet_ntop(AF_INET6, &c.address, address, sizeof address);
	snprintf(ret_text, CIDR6_TEXT_MAX, "%s/%u", address, c.bits);
}

struct in6_addr cidr6_first(struct cidr6 c)
{
	struct in6_addr a = c.address;

	for (unsigned i = 0; i < 16; i++) {
		unsigned kept = c.bits > i * 8 ? c.bits - i * 8 : 0;

		if (kept < 8)
			a.s6_addr[i] &= (uint8_t)(0xff00 >> kept);
	}
	return a;
}

int cidr6_has(struct cidr6 c, struct in6_addr address)
{
	struct in6_addr ours = cidr6_first(c),
			theirs = cidr6_first((struct cidr6){address, c.bits});

	return memcmp(&ours, &theirs, sizeof ours) == 0;
}

int cidr6_has_cidr(struct cidr6 outer, struct cidr6 inner)
{
	return inner.bits >= outer.bits && cidr6_has(outer, inner.address);
}

int cidr6_overlap(struct cidr6 a, struct cidr6 b)
{
	return a.bits < b.bits ? cidr6_has(a, b.address) : cidr6_has(b, a.address);
}

struct cidr6 cidr6_part(struct cidr6 c, unsigned bits, uint64_t part)
{
	struct cidr6 p = {cidr6_first(c), bits};

	for (unsigned i = 0; i < 64 && i < bits - c.bits; i++) {
		unsigned at = bits - 1 - i;

		if (part >> i & 1)
			p.address.s6_addr[at / 8] |= (uint8_t)(0x80 >> at % 8);
	}
	return p;
}

int cidr6_canonical(const char *text, char ret_text[static CIDR6_TEXT_MAX])
{
	struct cidr6 c;
	int r = cidr6_parse(text, &c);

	if (r < 0)
		return r;
	c.address = cidr6_first(c);
	cidr6_format(c, ret_text);
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
