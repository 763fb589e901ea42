/*
 * Pulse: what the kernel does not tell of. Nobody is notified when a set of addresses is emptied or
 * a setting is changed; so each VPC's are looked at now and then, in a way that costs next to
 * nothing: one netlink question for the sizes of all sets, and the settings' files.
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
 * the host's. 0: something differs. -errno. */
int pulse_is_well(const struct pulse *p, const struct netns *n, const struct netns *host,
		  const struct plan *plan);
