/*
 * Route targets: what a route may lead to. Each is a row in route-target.c, which finds the target
 * among the caller's resources and says how the route's document names it; the kernel's side is in
 * plan-route.c.
 */
#pragma once

#include "netd.h"

struct route_target {
	/* AWS's member of a route and the id in it */
	const char *member;
	char id[ID_MAX];
	char instance_id[ID_MAX]; /* at whose interface it ends, "" if at none */
	const char *state;	  /* "active", "blackhole" */
	int is_local_allowed;	  /* may serve a whole subnet within the VPC (a middlebox) */
};

/* The one target that the parameters name; it belongs to the table's VPC. */
int route_target_get(const struct call *c, json_t *parameters, const struct doc *table,
		     struct route_target *ret_target, struct fault *f);
/* Makes the route lead there and nowhere else. 0 or -ENOMEM. */
int route_target_set(const struct call *c, json_t *route, const struct route_target *target);

/* In the transaction: routes of all the VPC's tables whose `member` is `id` get this state. */
int routes_mark_target(const struct call *c, const char *vpc_id, const char *member, const char *id,
		       const char *state);
/* In the transaction: routes to the interface follow its attachment (NULL: it has none). */
int routes_follow_interface(const struct call *c, const char *vpc_id, const char *interface_id,
			    const json_t *attachment);
/* In the transaction: routes to any interface of the instance get this state: AWS shows a blackhole
 * while an instance is stopped. */
int routes_follow_instance(const struct call *c, const char *instance_id, const char *state);
