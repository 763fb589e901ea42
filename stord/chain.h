/*
 * Chains: the contents of a snapshot, read through its layers (layer.h) without QEMU.
 *
 * Encrypted layers are opened by their key. Nothing is written.
 *
 * A chain is opened on the loop, where the documents are; it is then read on a worker. While it is
 * open each of its layers is pinned, so nothing is merged into one under the reader, even where the
 * snapshot that is read has been deleted.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include "chain-file.h"
#include "daemon.h"
#include "own.h"

struct chain;

/* Where a cluster's contents are. Equal places have equal contents. */
struct place {
	const char *layer; /* NULL: zeros */
	uint64_t offset;
};

/* (fiber) The layer `name` and all under it. 0 or -errno; -ENODATA: a layer, or its key, is missing;
 * -EKEYREJECTED: a layer is encrypted with another key than its document says. */
int chain_open(struct daemon *d, const char *name, struct chain **ret_chain);
/* (fiber) The same for a snapshot's layers, though a merge that ends meanwhile puts it on another. */
int chain_open_snapshot(struct daemon *d, const char *id, struct chain **ret_chain);
void chain_free(struct chain *c);
OWN_DEFINE(struct chain *, chain_free);

/* The virtual size of the top layer. */
uint64_t chain_bytes(const struct chain *c);
/* 0 with the place of the cluster at `offset` (a multiple of CHAIN_CLUSTER), or -errno. */
int chain_place(struct chain *c, uint64_t offset, struct place *ret_place);
int place_is(const struct place *a, const struct place *b);
/* The first offset from here on that a layer's tables may have something for; the end: none. */
uint64_t chain_next_table(const struct chain *c, uint64_t offset);
/* Any cluster within [offset, offset + n_bytes) is more than zeros that were never written: 1, 0 or
 * -errno. */
int chain_has_data(struct chain *c, uint64_t offset, uint64_t n_bytes);
/* What the first n_top layers say of the cluster: 1: it has data there, 2: zeros, 0: they do not
 * have it. -errno. */
int chain_holds(struct chain *c, size_t n_top, uint64_t offset);
/* Reads; what is beyond the end is zeros. Both are multiples of 512. 0 or -errno. */
int chain_read(struct chain *c, uint64_t offset, void *buffer, size_t n_bytes);

/* Both chains have a layer in common: by documents alone. */
int layers_meet(const struct store *s, const char *one, const char *other);

/* A chain of one file that is no layer, which it takes over. */
int chain_of_file(int fd, const char *format, struct chain **ret_chain);
