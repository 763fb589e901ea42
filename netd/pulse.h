/*
 * Pulse: what the kernel does not tell of. Nobody is notified when a set of addresses is emptied or
 * a setting is changed; so each VPC's are looked at now and then, in a way that costs next to
 * nothing: one netlink question for the sizes of all sets, and the settings' files. One member put
 * in another's place leaves the size as it was, so the members of some sets are read, too, of others
 * the next time: all of a VPC with a few hundred members each time, and never many at once.
 */
#pragma once

#include "netns.h"
#include "plan.h"

struct pulse;

/* 0 or -errno. */
int pulse_new(const struct netns *n, struct pulse **ret_pulse);
void pulse_free(struct pulse *p);
OWN_DEFINE(struct pulse *, pulse_free);

/* 1: sets are as large and settings as they should be, in the namespace and of the plan's links in
 * the host's, and so are the members of the sets whose turn it is. 0: something differs. -errno. */
int pulse_is_well(struct pulse *p, const struct netns *n, const struct netns *host,
		  const struct plan *plan);
