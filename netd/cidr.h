/*
 * CIDR: address arithmetic, without I/O and without opinions. Where only IPv4 can be meant, an
 * address is a host-order uint32_t and a block a struct cidr; IPv6 has struct in6_addr and struct
 * cidr6; what may be either is a struct address. Documents hold text.
 */
#pragma once

#include <netinet/in.h>
#include <stdint.h>
#include <string.h>

struct cidr {
	uint32_t address; /* host order; host bits may be set until cidr_canonical() */
	unsigned bits;	  /* 0..32 */
};

#define IP_TEXT_MAX    16		      /* "255.255.255.255" and its NUL */
#define CIDR_TEXT_MAX  20		      /* "255.255.255.255/32" and its NUL */
#define CIDR6_TEXT_MAX (INET6_ADDRSTRLEN + 4) /* an IPv6 block and its NUL */

/* A block of IPv6. */
struct cidr6 {
	struct in6_addr address; /* host bits may be set until cidr6_first() */
	unsigned bits;		 /* 0..128 */
};

/* An address of either family, or none (all zero). No padding: values compare by memory. */
struct address {
	uint8_t family;	   /* 0, AF_INET or AF_INET6 */
	uint8_t bytes[16]; /* network order; IPv4 has the first four */
};
#define IP_ANY_TEXT_MAX INET6_ADDRSTRLEN

static inline struct address ip4(uint32_t address)
{
	return (struct address){AF_INET,
				{(uint8_t)(address >> 24), (uint8_t)(address >> 16),
				 (uint8_t)(address >> 8), (uint8_t)address}};
}
static inline struct address ip6(struct in6_addr address)
{
	struct address ip = {.family = AF_INET6};

	memcpy(ip.bytes, &address, 16);
	return ip;
}
/* Bytes of an address of the family. */
static inline int ip_size(uint8_t family)
{
	return family == AF_INET6 ? 16 : 4;
}
/* By family (none first), then by number. */
int ip_compare(const struct address *a, const struct address *b);
static inline int ip_is(const struct address *a, const struct address *b)
{
	return ip_compare(a, b) == 0;
}
/* Either family's text. 0 or -EINVAL. */
int ip_any_parse(const char *text, struct address *ret_ip);
/* "" for none. */
void ip_any_format(const struct address *ip, char ret_text[static IP_ANY_TEXT_MAX]);

/* "10.0.0.1": exactly four decimal parts, no leading zeros (which some read as octal). 0 or
 * -EINVAL. */
int ip_parse(const char *text, uint32_t *ret_address);
void ip_format(uint32_t address, char ret_text[static IP_TEXT_MAX]);

/* "10.0.0.0/16"; the mask must be written. 0 or -EINVAL. */
int cidr_parse(const char *text, struct cidr *ret_cidr);
void cidr_format(struct cidr c, char ret_text[static CIDR_TEXT_MAX]);
/* Any IPv6 block as canonical text, host bits cleared ("2001:DB8::1/32" → "2001:db8::/32"). 0
 * or -EINVAL. */
int cidr6_canonical(const char *text, char ret_text[static CIDR6_TEXT_MAX]);

int cidr6_parse(const char *text, struct cidr6 *ret_cidr);
void cidr6_format(struct cidr6 c, char ret_text[static CIDR6_TEXT_MAX]);
/* The address without what comes after the first `bits`. */
struct in6_addr cidr6_first(struct cidr6 c);
int cidr6_has(struct cidr6 c, struct in6_addr address);
int cidr6_has_cidr(struct cidr6 outer, struct cidr6 inner);
int cidr6_overlap(struct cidr6 a, struct cidr6 b);
/* The part-th block of `bits` bits within `c`, at most 64 bits of them counted; the caller keeps
 * within it. */
struct cidr6 cidr6_part(struct cidr6 c, unsigned bits, uint64_t part);

uint32_t cidr_mask(unsigned bits);
/* The block without host bits. */
struct cidr cidr_canonical(struct cidr c);
uint32_t cidr_first(struct cidr c);
uint32_t cidr_last(struct cidr c);
/* Addresses in it: 1..2^32. */
uint64_t cidr_size(struct cidr c);
int cidr_has(struct cidr c, uint32_t address);
int cidr_has_cidr(struct cidr outer, struct cidr inner);
int cidr_overlap(struct cidr a, struct cidr b);
/* The part-th block of `bits` bits within `c`; the caller keeps within it. */
struct cidr cidr_part(struct cidr c, unsigned bits, uint32_t part);
