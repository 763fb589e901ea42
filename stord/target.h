/*
 * Target: a qcow2 layer that is filled block by block, in any order, over any time: a snapshot that
 * EBS direct writes, or a copy.
 *
 * The file is laid out when it is made, all of it but holes: header, L1 table, reference counts, L2
 * tables, room for every cluster at its place, and behind that the checksum of every block that was
 * written. So a block is two writes without any bookkeeping, the same block may come again, and
 * nothing is copied at the end: target_finish() counts the references and cuts the checksums off.
 * Until then the file is no valid image for anybody else. Cut off anywhere, every block that was
 * put is there.
 *
 * All calls block: on a worker. One at a time for each file.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "own.h"

#define TARGET_BLOCK   (512u << 10)
#define TARGET_CLUSTER 65536u

struct target {
	int fd;
	struct luks *luks; /* NULL: not encrypted */
	uint64_t bytes;
	/* in clusters of 64 KiB: where each part begins */
	uint64_t n_l1, n_luks, table, counts, n_counts, l2, data, n_data;
};

/* The empty file at `path` (made beside it and renamed): 0 or -errno, -EINVAL for a size that the
 * format cannot hold. `passphrase` NULL: it is not encrypted. */
int target_make(const char *path, uint64_t bytes, const char *backing_path,
		const char *backing_format, const char *passphrase, int is_synced);
/* Opens what was made with the same size and passphrase. */
int target_open(const char *path, uint64_t bytes, const char *passphrase,
		struct target *ret_target);
void target_close(struct target *t);
static inline void own_target_close(struct target *t)
{
	target_close(t);
}
/* How many blocks the whole has. */
uint64_t target_blocks(const struct target *t);
/* Writes a block of TARGET_BLOCK bytes; zeros take no room. With is_synced it is on the disk when
 * this returns. */
int target_put(struct target *t, uint64_t index, const void *block, const uint8_t sum[static 32],
	       int is_synced);
/* One cluster of TARGET_CLUSTER bytes: `data` NULL: zeros. Without a checksum, not flushed. */
int target_put_cluster(struct target *t, uint64_t index, const void *data);
/* How many blocks were put, and the SHA-256 of their checksums in order of the blocks. */
int target_count(const struct target *t, uint64_t *ret_n, uint8_t ret_sum[static 32]);
/* Reads a block back: 1: it is what was put, 0: it was not put; -EBADMSG: it is not what was put.
 * `block` has room for it. */
int target_verify(const struct target *t, uint64_t index, uint8_t *block);
/* The file becomes the image, with this mode (0444: read-only for all). May be repeated. */
int target_finish(struct target *t, mode_t mode, int is_synced);
