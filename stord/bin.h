/*
 * Bin: the recycle bin. A deleted snapshot keeps its layer and its place in the customer's
 * regions for the longest retention that its
 * owner's rules (rule.c) and the configuration give it, and can be restored; afterwards it goes for
 * good.
 */
#pragma once

#include "action.h"
#include "daemon.h"

/* Adds to the transaction that deletes this snapshot: 1: it is in the bin, and its
 * layer stays; 0: there is no bin for it. */
int bin_put(struct call *c, const struct doc *snapshot);
/* rule.c: for how many days the rules of its owner keep this snapshot: the longest of those that
 * apply, 0: none does. */
int64_t rule_days(const struct store *s, const struct doc *resource);
/* Lets go what is over its time, now and from now on. */
void bin_start(struct daemon *d);
