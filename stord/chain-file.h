/*
 * A layer's file: where in it each cluster is.
 *
 * Guests' QEMU wrote these files, and a guest may have taken its QEMU over: every offset that a
 * file says is checked against the file, and what our own tools never write (other files,
 * compression, extended entries) is refused. An encrypted one (luks.h) is opened by its passphrase.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include "own.h"

#define CHAIN_CLUSTER	  65536u /* what places are told in; layers of other clusters are refused */
#define CHAIN_TABLE_BYTES ((uint64_t)CHAIN_CLUSTER * (CHAIN_CLUSTER / 8)) /* of one table */

struct chain_file;

/* Takes `fd` over when it succeeds; `format` is "raw" or qcow2's. `passphrase` NULL: it must not be
 * encrypted. 0 or -errno: -EUCLEAN: it is no such file, -EOPNOTSUPP: one of a kind that we do not
 * write, -EKEYREJECTED. */
int chain_file_new(int fd, const char *name, const char *format, const char *passphrase,
		   struct chain_file **ret_file);
void chain_file_free(struct chain_file *f);
OWN_DEFINE(struct chain_file *, chain_file_free);

const char *chain_file_name(const struct chain_file *f);
/* Its virtual size. */
uint64_t chain_file_bytes(const struct chain_file *f);
/* The cluster at `offset` is 1: at *ret_offset in the file, 0: not in this layer, 2: zeros. -errno. */
int chain_file_find(struct chain_file *f, uint64_t offset, uint64_t *ret_offset);
/* The file has a table for the CHAIN_TABLE_BYTES around this offset. A raw file has no tables: it
 * may have something anywhere. */
int chain_file_has_table(const struct chain_file *f, uint64_t offset);
/* Reads at an offset in the file, within one cluster, and decrypts; what is beyond the file's end is
 * left as it was. 0 or -errno. */
int chain_file_read(const struct chain_file *f, uint64_t offset, void *buffer, size_t n);
