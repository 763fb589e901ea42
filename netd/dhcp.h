/*
 * DHCP inside a VPC: answers guests from the plan, by their MAC and the leg the question came from.
 * There are no leases to keep: an address belongs to its interface. Answers go to the asking MAC
 * only, also those that IP addresses to everybody. RFC 2131, 2132.
 */
#pragma once

#include <systemd/sd-event.h>
#include "netns.h"
#include "plan.h"

struct dhcp;

/* Opens the sockets in the namespace. `plan` is borrowed until dhcp_set_plan() or dhcp_free(). 0 or
 * -errno. */
int dhcp_new(sd_event *loop, const struct netns *n, const struct plan *plan,
	     struct dhcp **ret_dhcp);
void dhcp_set_plan(struct dhcp *d, const struct plan *plan);
void dhcp_free(struct dhcp *d);
OWN_DEFINE(struct dhcp *, dhcp_free);

#define DHCP_MESSAGE_MAX 1500

/* Pure: what `plan` answers to this message (UDP payload) from this leg. Bytes of the answer (with
 * *ret_destination, its IPv4 address, and *ret_guest), 0 when there is nothing to say. */
size_t dhcp_answer(const struct plan *plan, const char *leg, const uint8_t *message,
		   size_t n_message, uint8_t ret_answer[static DHCP_MESSAGE_MAX],
		   uint32_t *ret_destination, const struct plan_guest **ret_guest);
