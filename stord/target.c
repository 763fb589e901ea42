/* A layer that is filled block by block. */
#include "target.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "files.h"
#include "luks.h"
#include "qcow2.h"
#include "step.h"

#define CLUSTER	      TARGET_CLUSTER
#define L1_AT	      3 /* cluster: where qcow2_write_empty() puts it */
#define L2_ENTRIES    (CLUSTER / 8)
#define COUNT_ENTRIES (CLUSTER / 2)
#define PER_BLOCK     (TARGET_BLOCK / CLUSTER)
#define COPIED	      (UINT64_C(1) << 63)
#define ZERO	      UINT64_C(1)
#define TABLE_OFFSET  48 /* in the header: of the table of reference counts, and its clusters */
#define TABLE_LENGTH  56

static uint64_t ceiling(uint64_t n, uint64_t unit)
{
	return n / unit + (n % unit != 0);
}

/* The counts must count themselves: a few rounds until they do. */
static void lay_out(uint64_t bytes, int is_encrypted, struct target *t)
{
	uint64_t n_table = 1, before = 0;

	*t = (struct target){.fd = -1, .bytes = bytes, .n_counts = 1};
	t->n_data = ceiling(bytes, CLUSTER);
	t->n_l1 = ceiling(t->n_data, L2_ENTRIES);
	t->n_luks = is_encrypted ? ceiling(LUKS_BYTES, CLUSTER) : 0;
	t->table = L1_AT + ceiling(t->n_l1 * 8, CLUSTER) + t->n_luks;
	while (t->n_counts != before) {
		before = t->n_counts;
		n_table = ceiling(t->n_counts * 8, CLUSTER);
		t->counts = t->table + n_table;
		t->l2 = t->counts + t->n_counts;
		t->data = t->l2 + t->n_l1;
		t->n_counts = ceiling(t->data + t->n_data, COUNT_ENTRIES);
	}
}

static uint64_t sums_offset(const struct target *t)
{
	return (t->data + t->n_data) * CLUSTER;
}

uint64_t target_blocks(const struct target *t)
{
	return ceiling(t->bytes, TARGET_BLOCK);
}

static int write_at(int fd, const void *bytes, size_t n, uint64_t offset)
{
	ssize_t r = pwrite(fd, bytes, n, (off_t)offset);

	return r == (ssize_t)n ? 0 : r < 0 ? -errno : -ENOSPC;
}

static int read_at(int fd, void *bytes, size_t n, uint64_t offset)
{
	ssize_t r = pread(fd, bytes, n, (off_t)offset);

	return r == (ssize_t)n ? 0 : r < 0 ? -errno : -EUCLEAN;
}

/* The L1 table names every L2 table; the header names our table of counts. */
static int write_tables(const struct target *t, int fd)
{
	OWN(free) uint64_t *l1 = calloc(t->n_l1, 8);
	OWN(free) uint64_t *table = calloc(t->n_counts, 8);
	uint64_t at = htobe64(t->table * CLUSTER);
	uint32_t length = htobe32((uint32_t)(t->counts - t->table));

	if (!l1 || !table)
		return -ENOMEM;
	for (uint64_t i = 0; i < t->n_l1; i++)
		l1[i] = htobe64((t->l2 + i) * CLUSTER | COPIED);
	for (uint64_t i = 0; i < t->n_counts; i++)
		table[i] = htobe64((t->counts + i) * CLUSTER);
	int r = ftruncate(fd, (off_t)(sums_offset(t) + target_blocks(t) * 32)) < 0 ? -errno : 0;

	if (r == 0)
		r = write_at(fd, l1, t->n_l1 * 8, L1_AT * (uint64_t)CLUSTER);
	if (r == 0)
		r = write_at(fd, table, t->n_counts * 8, t->table * CLUSTER);
	if (r == 0)
		r = write_at(fd, &at, sizeof at, TABLE_OFFSET);
	return r == 0 ? write_at(fd, &length, sizeof length, TABLE_LENGTH) : r;
}

/* An image that is to be written. */
struct making {
	struct target target;
	uint64_t bytes;
	const char *path, *format; /* of what it stands on */
	const uint8_t *header;	   /* LUKS's, NULL: it is not encrypted */
};

static int fill(int fd, const void *arg)
{
	const struct making *m = arg;
	int r = m->header ? qcow2_write_encrypted(fd, m->bytes, m->path, m->format, m->header)
			  : qcow2_write_empty(fd, m->bytes, m->path, m->format);

	return r == 0 ? write_tables(&m->target, fd) : r;
}

int target_make(const char *path, uint64_t bytes, const char *backing_path,
		const char *backing_format, const char *passphrase, int is_synced)
{
	OWN(luks_free) struct luks *luks = NULL;
	OWN(free) uint8_t *header = NULL;
	struct making m = {.bytes = bytes, .path = backing_path, .format = backing_format};
	int r = passphrase ? luks_make(passphrase, &luks, &header) : 0;

	if (r < 0)
		return r;
	lay_out(bytes, passphrase != NULL, &m.target);
	m.header = header;
	step("a layer's file");
	return file_make(path, 0600, is_synced, fill, &m);
}

int target_open(const char *path, uint64_t bytes, const char *passphrase, struct target *ret_target)
{
	OWN(fd_close) int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	struct luks *luks = NULL;
	struct target t;

	if (fd < 0)
		return errno == ENOENT ? -ENODATA : -errno;
	lay_out(bytes, passphrase != NULL, &t);
	int r = passphrase ? luks_open(fd, (t.table - t.n_luks) * CLUSTER, LUKS_BYTES, passphrase,
				       &luks)
			   : 0;

	if (r < 0)
		return r;
	*ret_target = t;
	ret_target->luks = luks;
	ret_target->fd = give(fd);
	return 0;
}

void target_close(struct target *t)
{
	if (t->fd >= 0)
		close(t->fd);
	t->fd = -1;
	luks_free(t->luks);
	t->luks = NULL;
}

/* Data, or what takes its place in the file, at its offset there. */
static int write_data(const struct target *t, const void *data, size_t n, uint64_t offset)
{
	OWN(free) uint8_t *sealed = t->luks ? malloc(n) : NULL;

	if (!t->luks)
		return write_at(t->fd, data, n, offset);
	if (!sealed)
		return -ENOMEM;
	memcpy(sealed, data, n);
	int r = luks_encrypt(t->luks, offset, sealed, n);

	return r == 0 ? write_at(t->fd, sealed, n, offset) : r;
}

static int read_data(const struct target *t, void *data, size_t n, uint64_t offset)
{
	int r = read_at(t->fd, data, n, offset);

	return r == 0 && t->luks ? luks_decrypt(t->luks, offset, data, n) : r;
}

/* Checksums tell what is in a block to who guesses it: they are encrypted, too. */
static int write_sum(const struct target *t, uint64_t index, const uint8_t sum[static 32])
{
	uint8_t sealed[32];
	int r = 0;

	memcpy(sealed, sum, 32);
	if (t->luks)
		r = luks_seal(t->luks, index, sealed, 32);
	return r == 0 ? write_at(t->fd, sealed, 32, sums_offset(t) + index * 32) : r;
}

/* n checksums from `index` on; all zeros: that block was not put. */
static int read_sums(const struct target *t, uint64_t index, size_t n, uint8_t ret_sums[][32])
{
	static const uint8_t none[32];
	int r = read_at(t->fd, ret_sums, n * 32, sums_offset(t) + index * 32);

	for (size_t i = 0; r == 0 && t->luks && i < n; i++)
		if (memcmp(ret_sums[i], none, 32) != 0)
			r = luks_unseal(t->luks, index + i, ret_sums[i], 32);
	return r;
}

static int is_zero(const uint8_t *block, size_t n)
{
	return block[0] == 0 && memcmp(block, block + 1, n - 1) == 0;
}

/* The data before what names it. */
int target_put(struct target *t, uint64_t index, const void *block, const uint8_t sum[static 32],
	       int is_synced)
{
	uint64_t entries[PER_BLOCK], first = index * PER_BLOCK;
	size_t n = PER_BLOCK;
	int is_hole = is_zero(block, TARGET_BLOCK);

	if (index >= target_blocks(t))
		return -ERANGE;
	if (n > t->n_data - first)
		n = (size_t)(t->n_data - first);
	step("a block's bytes");
	int r = is_hole ? 0 : write_data(t, block, n * CLUSTER, (t->data + first) * CLUSTER);

	for (size_t i = 0; i < n; i++)
		entries[i] = htobe64(is_hole ? ZERO : (t->data + first + i) * CLUSTER | COPIED);
	step("a block's entry");
	if (r == 0)
		r = write_at(t->fd, entries, n * 8, t->l2 * CLUSTER + first * 8);
	step("a block's checksum");
	if (r == 0)
		r = write_sum(t, index, sum);
	step("a block's flush");
	if (r == 0 && is_synced && fdatasync(t->fd) < 0)
		r = -errno;
	return r;
}

int target_put_cluster(struct target *t, uint64_t index, const void *data)
{
	uint64_t at = (t->data + index) * CLUSTER, entry = htobe64(data ? at | COPIED : ZERO);

	if (index >= t->n_data)
		return -ERANGE;
	int r = data ? write_data(t, data, CLUSTER, at) : 0;

	return r == 0 ? write_at(t->fd, &entry, sizeof entry, t->l2 * CLUSTER + index * 8) : r;
}

/* The checksum of no block is all zeros: that one was not put. */
int target_count(const struct target *t, uint64_t *ret_n, uint8_t ret_sum[static 32])
{
	EVP_MD_CTX *digest = EVP_MD_CTX_new();
	uint8_t sums[128][32], none[32] = {0};
	uint64_t n_blocks = target_blocks(t), n_put = 0;
	int r = digest && EVP_DigestInit_ex(digest, EVP_sha256(), NULL) ? 0 : -ENOMEM;

	for (uint64_t at = 0; r == 0 && at < n_blocks; at += 128) {
		size_t n = n_blocks - at < 128 ? (size_t)(n_blocks - at) : 128;

		r = read_sums(t, at, n, sums);
		for (size_t i = 0; r == 0 && i < n; i++) {
			if (memcmp(sums[i], none, 32) == 0)
				continue;
			n_put++;
			r = EVP_DigestUpdate(digest, sums[i], 32) ? 0 : -ENOMEM;
		}
	}
	if (r == 0 && !EVP_DigestFinal_ex(digest, ret_sum, NULL))
		r = -ENOMEM;
	EVP_MD_CTX_free(digest);
	if (r == 0)
		*ret_n = n_put;
	return r;
}

/* Zeros were not written: their entries say so. */
static int read_block(const struct target *t, uint64_t index, uint8_t *block)
{
	uint64_t entries[PER_BLOCK], first = index * PER_BLOCK;
	size_t n = t->n_data - first < PER_BLOCK ? (size_t)(t->n_data - first) : PER_BLOCK;
	int r = read_at(t->fd, entries, n * 8, t->l2 * CLUSTER + first * 8);

	memset(block, 0, TARGET_BLOCK);
	for (size_t i = 0; r == 0 && i < n; i++) {
		uint64_t at = be64toh(entries[i]) & ~(COPIED | ZERO);

		if (at == 0)
			continue;
		if (at != (t->data + first + i) * CLUSTER)
			return -EBADMSG;
		r = read_data(t, block + i * CLUSTER, CLUSTER, at);
	}
	return r;
}

int target_verify(const struct target *t, uint64_t index, uint8_t *block)
{
	uint8_t sum[1][32], none[32] = {0}, got[32];
	int r = read_sums(t, index, 1, sum);

	if (r < 0 || memcmp(sum[0], none, 32) == 0)
		return r;
	r = read_block(t, index, block);
	if (r == 0 && !EVP_Digest(block, TARGET_BLOCK, got, NULL, EVP_sha256(), NULL))
		r = -ENOMEM;
	return r < 0 ? r : memcmp(sum[0], got, 32) == 0 ? 1 : -EBADMSG;
}

/* Whether each cluster of the file is used, in order; the L2 table at hand is kept. */
struct count {
	const struct target *t;
	uint64_t table[L2_ENTRIES], table_index,
		n_used; /* n_used: clusters up to the last in use */
	int has_table;
};

static int is_used(struct count *c, uint64_t cluster, int *ret_is)
{
	const struct target *t = c->t;

	if (cluster < t->data) {
		*ret_is = cluster == 0 || cluster >= L1_AT;
		return 0;
	}
	uint64_t guest = cluster - t->data;

	if (!c->has_table || c->table_index != guest / L2_ENTRIES) {
		int r = read_at(t->fd, c->table, CLUSTER,
				(t->l2 + guest / L2_ENTRIES) * (uint64_t)CLUSTER);

		if (r < 0)
			return r;
		c->table_index = guest / L2_ENTRIES;
		c->has_table = 1;
	}
	*ret_is = (be64toh(c->table[guest % L2_ENTRIES]) & ~(COPIED | ZERO)) != 0;
	return 0;
}

static int write_counts(struct count *c)
{
	const struct target *t = c->t;
	OWN(free) uint16_t *counts = malloc(CLUSTER);
	uint64_t end = t->data + t->n_data;

	if (!counts)
		return -ENOMEM;
	c->n_used = t->data;
	for (uint64_t i = 0; i < t->n_counts; i++) {
		int any = 0;

		memset(counts, 0, CLUSTER);
		for (uint64_t k = 0; k < COUNT_ENTRIES && i * COUNT_ENTRIES + k < end; k++) {
			uint64_t cluster = i * COUNT_ENTRIES + k;
			int is = 0, r = is_used(c, cluster, &is);

			if (r < 0)
				return r;
			counts[k] = htobe16(is ? 1 : 0);
			any |= is;
			if (is && cluster >= c->n_used)
				c->n_used = cluster + 1;
		}
		int r = any ? write_at(t->fd, counts, CLUSTER, (t->counts + i) * CLUSTER) : 0;

		if (r < 0)
			return r;
	}
	return 0;
}

int target_finish(struct target *t, mode_t mode, int is_synced)
{
	OWN(free) struct count *c = calloc(1, sizeof *c);

	if (!c)
		return -ENOMEM;
	c->t = t;
	step("the counts of a file written by blocks");
	int r = write_counts(c);

	if (r == 0 && ftruncate(t->fd, (off_t)(c->n_used * CLUSTER)) < 0)
		r = -errno;
	if (r == 0 && fchmod(t->fd, mode) < 0)
		r = -errno;
	step("a file's flush");
	if (r == 0 && is_synced && fsync(t->fd) < 0)
		r = -errno;
	return r;
}
