/*
 * Leaves: the volumes whose chains have a layer, which are who opens its file. One in the recycle
 * bin may be restored at any time: it counts.
 */
#pragma once

#include "id.h"
#include "store.h"

#define LEAVES_MAX 8

/* Whether `name` is in the chain that begins with `top` (NULL: no). */
int layer_stands_on(const struct store *s, const char *top, const char *name);
/* Their ids in order. Their number, or -E2BIG. */
int leaves_find(const struct store *s, const char *layer, char ret_ids[LEAVES_MAX][ID_MAX]);
/* The volume, also one in the recycle bin, or NULL. */
const struct doc *leaf_find(const struct store *s, const char *id);
/* (fiber) 1: a running guest has it, as the volume *ret_id. 0. -errno: hvd cannot say. However many
 * there are. */
int leaves_live(const struct store *s, const char *layer, char ret_id[static ID_MAX]);
