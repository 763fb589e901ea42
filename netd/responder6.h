/*
 * The responder of a VPC with IPv6: hears router solicitations, DHCPv6 and neighbour solicitations
 * for addresses of prefixes on every leg, and answers the asking MAC alone (ra.h, dhcp6.h); advertises itself to guests that the plan newly has, and to
 * all of them now and then, so that the default route they learnt does not run out.
 *
 * One packet socket in the router's namespace: it hears a leg's multicasts without joining groups
 * on links that come and go, sees the MAC, and needs nothing opened in the router's own chains.
 */
#pragma once

#include <systemd/sd-event.h>
#include "netns.h"
#include "plan.h"

struct responder6;

/* `plan` is borrowed until responder6_set_plan() or responder6_free(). 0 or -errno. */
int responder6_new(sd_event *loop, const struct netns *n, const struct plan *plan,
		   struct responder6 **ret_responder);
void responder6_set_plan(struct responder6 *r, const struct plan *plan);
/* The kernel is as the plan says: guests that are new to it are told of their router. */
void responder6_announce(struct responder6 *r);
void responder6_free(struct responder6 *r);
OWN_DEFINE(struct responder6 *, responder6_free);
