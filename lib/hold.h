/*
 * Holds: one at a time for each id. What waits in the middle (a file being made, deleted) holds its
 * volume, so that nobody sees it half done; documents alone need no hold.
 */
#pragma once

#include "own.h"

struct hold;

/* (fiber) Waits until nobody else holds `id`. NULL out of memory. */
struct hold *hold_enter(const char *id);
/* (fiber) The same if nobody holds it: 0; -EBUSY; -ENOMEM. */
int hold_try(const char *id, struct hold **ret_hold);
/* Somebody waits for what is held. */
int hold_is_wanted(const struct hold *h);
void hold_leave(struct hold *h);
OWN_DEFINE(struct hold *, hold_leave);
