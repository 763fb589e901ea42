/*
 * What the rooms of the pass share: pass.c (the whole), pass-router.c (inside a router's
 * namespace), pass-host.c (the host's namespace), pass-peering.c (links between routers).
 *
 * What was read of a namespace, or made of it by the last pass, stays in its struct netns. It is
 * known as long as the last pass ended well and nobody else has changed anything since (watch.h,
 * pulse.h): then a pass asks the kernel nothing, and costs what it changes. While a pass works on
 * it, it is not known.
 */
#pragma once

#include "pass.h"

/* ---- pass.c ---- */

/* The first failure is kept, with what it was about. */
void router_failed(struct router *r, int error, const struct item *i);
void pass_failed(struct pass *p, int error, const struct item *i);
void host_failed(struct pass *p, int error, const struct item *i);
/* Something in its namespace was made or went: it is read anew. */
void router_doubt(struct router *r);

/* ---- pass-router.c ---- */

/* Sets and chains, before anything connects. 0 or -errno. */
int router_protect(struct router *r);
/* What is in the namespace beyond sets and chains; then what should not be; then the flows of
 * addresses that went. The sets come last: while they differ, a later pass still knows whose flows
 * are to be forgotten. */
void router_connect(struct pass *p, struct router *r);

/* ---- pass-host.c ---- */

/* What the host's namespace should have: for itself, and for all plans together. */
struct host_wants {
	struct items own, all;
	int passing; /* FIREWALL_… */
	struct ruleset rules[RULES_FAMILIES];
};

void own_host_wants_free(struct host_wants *w);

/* Looks up what there should be, and applies the rules. 0 or -errno. */
int host_apply(struct pass *p, struct host_wants *w);
/* What there is, or is known. 0 or -errno. */
int host_read(struct pass *p, const struct host_wants *w);
/* A router's links; it is touched if its namespace has something new by it. */
void host_connect(struct pass *p, struct router *r);
/* The uplink's forwarding, the pool's route. */
void host_connect_own(struct pass *p, const struct host_wants *w);
/* Removes everything that no plan has. Links go together, at last. */
void host_clean(struct pass *p, const struct host_wants *w);
/* At the end: if nothing failed, what was wanted is there. `w` is given away. */
void host_know(struct pass *p, struct host_wants *w);

/* ---- pass-peering.c ---- */

/* Makes the links to its peers that are not whole; routers whose links were made are touched. A
 * peer that has nothing in the kernel is passed over. 0 or -errno with the link. */
int peerings_connect(struct pass *p, struct router *r, const struct item **ret_item);
/* What the router's namespace should have from its links on, without what stands on links to peers
 * that are not there. `ret_items` is added to. 0 or -ENOMEM. */
int peerings_wanted(const struct router *r, struct items *ret_items);
