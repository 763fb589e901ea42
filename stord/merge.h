/*
 * Merge: spare layers go, and chains stay short; doc/storage.md, "Merging", tells how. One fiber
 * works through what there is to do, one merge at a time; who needs a layer that a merge has open has
 * it stopped.
 */
#pragma once

#include "daemon.h"
#include "store.h"

/* Something changed that may have left a spare layer or made a chain too long. From anywhere on the
 * loop's thread. */
void merge_kick(struct daemon *d);
/* (fiber) A guest is about to open this volume's chain: a merge that has part of it open for
 * writing is ended first. 0; -EAGAIN: it does not end, for the guest's host is silent. */
int merge_yield(struct daemon *d, const char *volume_id);
/* Somebody is about to wait for this volume, which a merge without a guest may hold for as long as it
 * copies: it is stopped, and begun again later. */
void merge_give_way(struct daemon *d, const char *volume_id);
/* (fiber) For who looks into a layer's file meanwhile: 1, and no merge begins before
 * merge_looked; 0 at once, when the one under way writes that file. Not nested. */
int merge_look(const struct daemon *d, const char *layer);
void merge_looked(void);
/* Nothing is under way and nothing is left to do that could be done now. */
int merge_is_idle(void);
