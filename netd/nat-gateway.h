/*
 * NAT gateways: kind "natgateway". Its interface (and with it what is in the kernel) comes and goes
 * in the same transaction as its state: pending and available have one, deleting, deleted and
 * failed have none. A fiber takes it, and its secondary addresses (nat-gateway-address.h), from a
 * state that passes to the next; whoever is killed finds them at the next start.
 */
#pragma once

#include "netd.h"

/* (at start, the kernel is being watched) Follows every gateway whose state passes. */
void nat_gateways_open(struct store *s);
/* It has an interface: routes lead to it. */
int nat_gateway_is_there(const struct doc *nat);
/* Something of it passes, or is about to by the commit that follows: from then on it is followed. */
void nat_gateway_follow(struct store *s, const char *id);
/* (fiber) Until the kernel does what the gateway's documents say. 0 or -errno. */
int nat_gateway_wait(const json_t *nat);
