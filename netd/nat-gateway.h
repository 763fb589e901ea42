/*
 * NAT gateways: kind "natgateway". Its interface (and with it what is in the kernel) comes and goes
 * in the same transaction as its state: pending and available have one, deleting, deleted and
 * failed have none. A fiber takes it from a state that passes to the next; whoever is killed finds
 * them at the next start.
 */
#pragma once

#include "netd.h"

/* (at start, the kernel is being watched) Follows every gateway whose state passes. */
void nat_gateways_open(struct store *s);
/* It has an interface: routes lead to it. */
int nat_gateway_is_there(const struct doc *nat);
