/*
 * Merges without a guest: what becomes of the files of layers that nobody has open. What a layer
 * shows never changes; the documents are the caller's. Each may be cut off and done again.
 *
 * qemu-img does it, confined. A chain is encrypted with one key, and then the tool gets it by
 * descriptor (volume-key.h); but it cannot open an encrypted layer that it is told of by name, so
 * what is pulled into an encrypted layer is written by ourselves into a new file, which then takes
 * the layer's place.
 *
 * One is under way at a time, and can be stopped while data is copied: it leaves what a kill leaves,
 * and is begun again from the start.
 */
#pragma once

#include "daemon.h"

/* Before each: what was stopped before does not count. 0 or -errno. */
int offline_begin(void);
/* The one under way, if it still copies, ends soon with -ECANCELED. From anywhere on the loop's
 * thread. */
void offline_stop(void);

/* (fiber) The layer's data goes into the one under it. Flushed when it returns 0. */
int offline_commit(struct daemon *d, const char *over);
/* (fiber) All that the layer shows above `base` (NULL: above nothing) is in the layer itself, and its
 * header names `base`. Flushed when it returns 0. */
int offline_pull(struct daemon *d, const char *over, const char *base);
/* (fiber) The header of `child` names the layer `under`. Flushed when it returns 0. */
int offline_rebase(struct daemon *d, const char *child, const char *under);
/* (fiber) What was written to the layer's file by others is on the disk. */
int layer_flush(const struct daemon *d, const char *name);
