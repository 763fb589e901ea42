/*
 * Bin: the recycle bin. A deleted snapshot or volume keeps its layers and its place in the
 * customer's regions for the longest retention that its owner's rules (rule.c) and, for snapshots,
 * the configuration give it, and can be restored; afterwards it goes for good. In the bin it is a
 * document of another kind ("snapshot-in-bin", "volume-in-bin") with the same members and
 * `_BinEnter` and `_BinExit`, so nothing that looks for volumes or snapshots sees it; those who ask
 * who needs a layer do (layer.h). Images have a bin in hvd.
 */
#pragma once

#include "action.h"
#include "daemon.h"

/* Adds to the transaction that deletes this snapshot or volume: 1: it is in the bin as `json` says
 * (NULL: as it is; taken over), and its layers stay; 0: there is no bin for it. */
int bin_put(struct call *c, const struct doc *doc, json_t *json);
/* Lets go what is over its time, now and from now on. */
void bin_start(struct daemon *d);
