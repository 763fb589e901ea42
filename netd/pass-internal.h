/*
 * What the rooms of the pass share: pass.c (the whole), pass-peering.c (links between routers).
 */
#pragma once

#include "pass.h"

/* Makes the links to its peers that are not whole; routers whose links were made are touched. A
 * peer that has nothing in the kernel is passed over. 0 or -errno with the link. */
int peerings_connect(struct pass *p, struct router *r, const struct item **ret_item);
/* What the router's namespace should have from its links on, without what stands on links to peers
 * that are not there. `ret_items` is added to. 0 or -ENOMEM. */
int peerings_wanted(const struct router *r, struct items *ret_items);
