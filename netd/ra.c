/* Router advertisements, without I/O. */
#include "ra.h"

#include <netinet/icmp6.h>
#include <string.h>

#define HOP_LIMIT 64

/* RFC 4861, 4.6.1, 4.6.2, 4.6.4: types and their length in units of 8 bytes */
enum { OPTION_SOURCE = 1, OPTION_PREFIX = 3, OPTION_MTU = 5 };
enum { PREFIX_ON_LINK = 0x80 };
enum { RA_HEADER_BYTES = 16, SOLICITATION_BYTES = 8 };

static void put32(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v >> 24), p[1] = (uint8_t)(v >> 16), p[2] = (uint8_t)(v >> 8),
	p[3] = (uint8_t)v;
}

size_t ra_write(const struct plan_guest6 *g, uint8_t ret_message[static RA_MESSAGE_MAX])
{
	struct in6_addr prefix = cidr6_first(g->subnet);
	uint8_t *p = ret_message;

	memset(p, 0, RA_MESSAGE_MAX);
	p[0] = ND_ROUTER_ADVERT;
	p[4] = HOP_LIMIT;
	p[5] = ND_RA_FLAG_MANAGED | ND_RA_FLAG_OTHER;
	p[6] = RA_LIFETIME_SEC >> 8;
	p[7] = RA_LIFETIME_SEC & 255;
	p += RA_HEADER_BYTES;

	p[0] = OPTION_SOURCE;
	p[1] = 1;
	memcpy(p + 2, plan_leg_mac, 6);
	p += 8;

	p[0] = OPTION_MTU;
	p[1] = 1;
	put32(p + 4, PLAN_MTU);
	p += 8;

	p[0] = OPTION_PREFIX;
	p[1] = 4;
	p[2] = (uint8_t)g->subnet.bits;
	p[3] = PREFIX_ON_LINK; /* and not autonomous: a guest's address is the one it was given */
	put32(p + 4, RA_LIFETIME_SEC);
	put32(p + 8, RA_LIFETIME_SEC);
	memcpy(p + 16, &prefix, sizeof prefix);
	return (size_t)(p + 32 - ret_message);
}

int ra_is_solicitation(const uint8_t *message, size_t n_message)
{
	return n_message >= SOLICITATION_BYTES && message[0] == ND_ROUTER_SOLICIT &&
	       message[1] == 0;
}
