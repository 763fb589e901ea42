/*
 * DHCPv6 inside a VPC: answers guests from the plan, by the MAC and the leg that the question came
 * from. As with DHCP there are no leases to keep: an address belongs to its interface, and all
 * addresses of an interface are given to whoever asks for one. No prefixes, no relays. RFC 8415.
 */
#pragma once

#include "plan.h"

#define DHCP6_MESSAGE_MAX 1232 /* what always fits in an IPv6 packet, as UDP payload */

/* Pure: what `plan` answers to this message (UDP payload). Bytes of the answer, 0 when there is
 * nothing to say. */
size_t dhcp6_answer(const struct plan *plan, const char *leg, const uint8_t mac[static 6],
		    const uint8_t *message, size_t n_message,
		    uint8_t ret_answer[static DHCP6_MESSAGE_MAX]);
