/*
 * Router advertisements: what a guest of a subnet with IPv6 is told of its router. Addresses come
 * by DHCPv6 (the M flag); the subnet is on-link, and its router answers for every neighbour in it.
 * RFC 4861, 4.2 and 4.6.
 */
#pragma once

#include "plan.h"

#define RA_MESSAGE_MAX	128
#define RA_LIFETIME_SEC 9000 /* the longest allowed; sent anew long before */
#define RA_REPEAT_SEC	1800

/* Pure: the advertisement for the guest, an ICMPv6 message whose checksum is left 0. Its bytes. */
size_t ra_write(const struct plan_guest6 *g, uint8_t ret_message[static RA_MESSAGE_MAX]);
/* Pure: the ICMPv6 message is a router solicitation. */
int ra_is_solicitation(const uint8_t *message, size_t n_message);
