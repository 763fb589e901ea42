/*
 * Switch: a volume goes on in a new, empty layer, and the one it wrote stays as it was at that
 * moment. doc/storage.md, "A snapshot", tells the steps and why each may be cut off.
 *
 * The volumes are held by the caller. Between begin and finish their documents have `_NextLayer`;
 * whoever finds one so finishes it first (switch_settle). Snapshots that wait for the switch have
 * `_Switching`, and are completed or taken back with it.
 */
#pragma once

#include "action.h"
#include "daemon.h"

/* Adds the intent to the transaction: the volume's `_NextLayer` (in `json`, the copy that will
 * replace it) and that layer. 0 or -errno. */
int switch_begin(struct txn *t, const struct doc *volume, json_t *json);

/* (fiber) Carries out what was begun for these volumes (an array of ids): all at the same instant
 * for a guest that has several. 0: committed. -EBUSY: the guest goes on with the old layers, and
 * the intent is taken back. -EAGAIN: not known, hvd is away or cannot be asked; the intent stays.
 * -ENOSPC and the like: the layer cannot be made, the intent is taken back. */
int switch_finish(struct daemon *d, const json_t *volume_ids);

/* (fiber) The volume (held) has no switch under way when it returns 0. */
int switch_settle(struct daemon *d, const char *volume_id);
/* The same in the background, until it succeeds. */
void switch_settle_later(struct daemon *d, const char *volume_id);

/* (fiber) What the guest of an instance has of these disks: asked of hvd, which forgets at the same
 * time what paths it was told for those it has not. 1: has at least one; 0: none; -EAGAIN: hvd is
 * away. */
int switch_is_live(const struct doc *volume);
