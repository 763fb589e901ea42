/*
 * CIDR: address arithmetic, without I/O and without opinions. IPv4 addresses are host-order
 * uint32_t here and dotted text in documents; IPv6 blocks are only ever checked and put into their
 * canonical text.
 */
#pragma once

#include <netinet/in.h>
#include <stdint.h>

struct cidr {
	uint32_t address; /* host order; host bits may be set until cidr_canonical() */
	unsigned bits;	  /* 0..32 */
};

#define IP_TEXT_MAX    16		      /* "255.255.255.255" and its NUL */
#define CIDR_TEXT_MAX  20		      /* "255.255.255.255/32" and its NUL */
#define CIDR6_TEXT_MAX (INET6_ADDRSTRLEN + 4) /* an IPv6 block and its NUL */

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

uint32_t cidr_mask(unsigned bits);
/* The block without host bits. */
struct cidr cidr_canonical(struct cidr c);
int cidr_is_canonical(struct cidr c);
uint32_t cidr_first(struct cidr c);
uint32_t cidr_last(struct cidr c);
/* Addresses in it: 1..2^32. */
uint64_t cidr_size(struct cidr c);
int cidr_has(struct cidr c, uint32_t address);
int cidr_has_cidr(struct cidr outer, struct cidr inner);
int cidr_overlap(struct cidr a, struct cidr b);
/* The part-th block of `bits` bits within `c`; the caller keeps within it. */
struct cidr cidr_part(struct cidr c, unsigned bits, uint32_t part);
