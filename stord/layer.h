/*
 * Layers: the files that volumes and snapshots are made of; doc/storage.md tells how they are used.
 * A layer's document is of the kind "_layer", its id is the file's name (files.h), and it has
 *	Format	"qcow2" or "raw"
 *	Bytes	the virtual size
 *	Backing	the layer under it; absent: none
 *	Key	the volume or snapshot whose key it is encrypted with; absent: it is not. A layer
 *		on an encrypted one has the same: one key opens a whole chain. The key's file goes
 *		with the last such layer
 *	Copy	a layer whose contents it will have under its own key (Backing is absent): until
 *		then that one is needed (layer-copy.c)
 * The document is made before the file and goes before it.
 */
#pragma once

#include <stdint.h>
#include "daemon.h"
#include "files.h"
#include "store.h"

#define LAYER_KIND "_layer"
/* A volume's chain that is longer is shortened in the background. */
#define LAYERS_MAX 16
/* No snapshot makes a longer one, however fast they are asked for. */
#define LAYERS_BURST (2 * LAYERS_MAX)
/* The longest chain that is followed: more is a cycle, or not ours. */
#define LAYERS_FOLLOWED 1024

/* The kinds of documents that name layers, the recycle bin's among them; each list ends with NULL.
 * What is of a volume's kind may have been written by a guest, and is held (hold.h) by its id. */
extern const char *const layer_volume_kinds[], *const layer_snapshot_kinds[];

/* NULL: there is none of this name. */
const struct doc *layer_find(const struct store *s, const char *name);
int layer_put(struct txn *t, const char *name, const char *format, int64_t bytes,
	      const char *backing);
/* The layer that this transaction makes is encrypted with the key of this volume or snapshot. */
int layer_set_key(struct txn *t, const char *name, const char *owner_id);
/* The layer that this transaction makes, on nothing, gets the contents of `source`. */
int layer_set_copy(struct txn *t, const char *name, const char *source);
/* The same layer on another backing (NULL: none). */
int layer_set_backing(struct txn *t, const struct doc *layer, const char *backing);
/* How many layers a chain has from this one down. */
unsigned layer_depth(const struct store *s, const char *name);
/* The lowest layer of the chain. Valid until the next commit. */
const char *layer_root(const struct store *s, const char *name);

/* Who needs a layer, in what the transaction would leave. */
struct layer_needs {
	unsigned n_volumes, n_snapshots, n_layers;
	const char *child; /* one of the layers that stand on it; borrowed */
};
void layer_needs(const struct txn *t, const char *name, struct layer_needs *ret_needs);
/* Whoever needed this layer does not any more: if nobody else does, its document goes, its file is
 * marked, and the layer under it is released likewise. */
int layer_release(struct txn *t, const char *name);
/* The key of this volume or snapshot opens no layer any more, or was made for none: its file is
 * marked. If it opens one, nothing happens. */
int layer_release_key(struct txn *t, const char *owner_id);

/* (fiber) The layer's file is there when it returns 0: made empty over its backing if it was not.
 * -ENODATA: it may not be made anew (is_lost), and is not there. */
int layer_make(struct daemon *d, const char *name, int is_lost);

/* (fiber) How much a guest sees of the layer, as its file says. 0 or -errno. */
int layer_file_bytes(struct daemon *d, const char *name, int64_t *ret_bytes);

/* layer-copy.c: (fiber) a layer with Copy: its file is whole and its document says so when it returns
 * 0. */
int layer_copy(struct daemon *d, const char *name);
struct chain;
/* (fiber) What the chain shows becomes one file at `path`, `bytes` large, encrypted unless passphrase
 * is NULL; hashed on the way and read back, flushed, and only then in its place. */
int layer_copy_chain(struct daemon *d, struct chain *source, const char *path, uint64_t bytes,
		     const char *passphrase, unsigned mode);

/* Somebody reads the chain from this layer down by path: it is not merged meanwhile. 0 or -ENOMEM;
 * each pin is taken off once. */
int layer_pin(const char *name);
void layer_unpin(const char *name);
/* The layer, or one that stands on it, is pinned. */
int layer_is_pinned(const struct store *s, const char *name);
