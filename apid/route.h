/*
 * Routes: which daemon owns an action, and which one a resource's id. The daemons say so themselves
 * ("gureum.Describe"); what they said is kept over their restarts, and they are asked again when
 * something is looked for that nobody is known to own. No timer runs.
 */
#pragma once

#include <jansson.h>
#include "fault.h"
#include "own.h"
#include "rpc.h"

struct routes;

/* Routes to the daemons of these names (NULL-terminated), and asks each once in the background. */
struct routes *routes_new(const char *const *names);
void routes_free(struct routes *r);
OWN_DEFINE(struct routes *, routes_free);

/* (fiber) The owner of an action ("ec2.RunInstances"), by number. UnsupportedOperation: nobody;
 * ServiceUnavailable: a daemon that could own it has not answered yet and does not within a short
 * wait. -errno with `f` filled. */
int route_find(struct routes *r, const char *action, struct fault *f);
/* UnsupportedOperation for an action that nobody owns. */
int route_lacks(const char *action, struct fault *f);
/* (fiber) The owner of a resource's id, by number. InvalidID: nobody's. */
int route_find_id(struct routes *r, const char *id, struct fault *f);
/* (fiber) Returns when all owners are known, or ServiceUnavailable. */
int routes_complete(struct routes *r, struct fault *f);

size_t routes_count(const struct routes *r);
/* Owner number `i` announced this action. */
int route_has(const struct routes *r, size_t i, const char *action);
struct rpc_peer *route_peer(const struct routes *r, size_t i);

/* (fiber) Who answers right now: {"hvd": "ok", "netd": "away"} (a new reference). Asks each at most
 * once a second. */
json_t *routes_health(struct routes *r);
