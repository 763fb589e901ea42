/* The qcow2 header. */
#include "qcow2.h"

#include <endian.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "luks.h"

#define MAGIC		   0x514649fb
#define CLUSTER_BITS	   16
#define CLUSTER		   (1u << CLUSTER_BITS)
#define L1_BYTES_MAX	   (32u << 20) /* QEMU's own limits */
#define REFCOUNT_TABLE_MAX (8u << 20)

enum incompatible { DIRTY = 1, CORRUPT = 2, EXTERNAL_DATA = 4, COMPRESSION = 8, EXTENDED_L2 = 16 };
enum extension {
	END = 0,
	BACKING_FORMAT = 0xe2792aca,
	EXTERNAL_DATA_NAME = 0x44415441,
	ENCRYPTION = 0x0537be77
};

struct header {
	uint32_t magic, version;
	uint64_t backing_offset;
	uint32_t backing_bytes, cluster_bits;
	uint64_t size;
	uint32_t crypt_method, l1_entries;
	uint64_t l1_offset, refcount_offset;
	uint32_t refcount_clusters, n_snapshots;
	uint64_t snapshots_offset;
	/* from version 3 */
	uint64_t incompatible, compatible, autoclear;
	uint32_t refcount_order, header_bytes;
} __attribute__((packed));

_Static_assert(sizeof(struct header) == 104, "as the format has it");
#define V2_BYTES      72
#define CRYPT_LUKS    2
#define LUKS_CLUSTERS ((LUKS_BYTES + CLUSTER - 1) / CLUSTER)

/* ---- writing ---- */

static int write_at(int fd, const void *bytes, size_t n, off_t offset)
{
	ssize_t r = pwrite(fd, bytes, n, offset);

	return r == (ssize_t)n ? 0 : r < 0 ? -errno : -ENOSPC;
}

/* The first cluster: header, where LUKS is (0: none), the backing's format, the end of extensions,
 * the backing's path. Returns its length. */
static size_t put_header(char *out, const struct header *h, uint64_t luks_offset,
			 const char *backing_path, const char *backing_format)
{
	size_t n = sizeof *h, n_format = strlen(backing_format);
	uint32_t extension[2] = {htobe32(BACKING_FORMAT), htobe32((uint32_t)n_format)};
	uint32_t encryption[2] = {htobe32(ENCRYPTION), htobe32(16)};
	uint64_t where[2] = {htobe64(luks_offset), htobe64(LUKS_BYTES)};

	memcpy(out, h, sizeof *h);
	if (luks_offset) {
		memcpy(out + n, encryption, sizeof encryption);
		memcpy(out + n + 8, where, sizeof where);
		n += 8 + sizeof where;
	}
	if (!backing_path)
		return n + 8; /* the end of extensions is zero, as `out` is */
	memcpy(out + n, extension, sizeof extension);
	memcpy(out + n + 8, backing_format, n_format);
	n += 8 + ((n_format + 7) & ~(size_t)7) + 8;
	((struct header *)out)->backing_offset = htobe64(n);
	memcpy(out + n, backing_path, strlen(backing_path));
	return n + strlen(backing_path);
}

static int write_image(int fd, uint64_t bytes, const char *backing_path, const char *backing_format,
		       const uint8_t *luks)
{
	uint64_t per_entry = (uint64_t)CLUSTER * (CLUSTER / 8); /* what one L2 table maps */
	uint64_t l1_entries = (bytes + per_entry - 1) / per_entry;
	uint64_t luks_at = 3 + (l1_entries * 8 + CLUSTER - 1) / CLUSTER;
	uint64_t n_clusters = luks_at + (luks ? LUKS_CLUSTERS : 0);
	char first[sizeof(struct header) + 96 + QCOW2_BACKING_MAX] = {0};
	uint16_t counts[3 + L1_BYTES_MAX / CLUSTER + LUKS_CLUSTERS];
	uint64_t block = htobe64(2 * CLUSTER);

	if (bytes == 0 || bytes % 512 || l1_entries * 8 > L1_BYTES_MAX ||
	    (backing_path &&
	     (strlen(backing_path) > QCOW2_BACKING_MAX || strlen(backing_format) > 16)))
		return -EINVAL;
	struct header h = {
		.magic = htobe32(MAGIC),
		.version = htobe32(3),
		.backing_bytes = htobe32(backing_path ? (uint32_t)strlen(backing_path) : 0),
		.cluster_bits = htobe32(CLUSTER_BITS),
		.size = htobe64(bytes),
		.crypt_method = htobe32(luks ? CRYPT_LUKS : 0),
		.l1_entries = htobe32((uint32_t)l1_entries),
		.l1_offset = htobe64(3 * CLUSTER),
		.refcount_offset = htobe64(CLUSTER),
		.refcount_clusters = htobe32(1),
		.refcount_order = htobe32(4),
		.header_bytes = htobe32(sizeof h),
	};
	size_t n = put_header(first, &h, luks ? luks_at * CLUSTER : 0, backing_path,
			      backing_path ? backing_format : "");

	for (size_t i = 0; i < n_clusters; i++)
		counts[i] = htobe16(1);
	/* The L1 table is a hole: zeros. */
	int r = ftruncate(fd, (off_t)(n_clusters * CLUSTER)) < 0 ? -errno : 0;

	if (r == 0)
		r = write_at(fd, first, n, 0);
	if (r == 0)
		r = write_at(fd, &block, sizeof block, CLUSTER);
	if (r == 0 && luks)
		r = write_at(fd, luks, LUKS_USED_BYTES, (off_t)(luks_at * CLUSTER));
	return r == 0 ? write_at(fd, counts, n_clusters * sizeof counts[0], 2 * CLUSTER) : r;
}

int qcow2_write_empty(int fd, uint64_t bytes, const char *backing_path, const char *backing_format)
{
	return write_image(fd, bytes, backing_path, backing_format, NULL);
}

int qcow2_write_encrypted(int fd, uint64_t bytes, const char *backing_path,
			  const char *backing_format, const uint8_t *luks)
{
	return write_image(fd, bytes, backing_path, backing_format, luks);
}

/* ---- reading ---- */

static int refuse(char reason[static QCOW2_REASON_MAX], const char *format, ...)
	__attribute__((format(printf, 2, 3)));

static int refuse(char reason[static QCOW2_REASON_MAX], const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(reason, QCOW2_REASON_MAX, format, arguments);
	va_end(arguments);
	return -EINVAL;
}

static void to_host(struct header *h)
{
	h->magic = be32toh(h->magic);
	h->version = be32toh(h->version);
	h->backing_offset = be64toh(h->backing_offset);
	h->backing_bytes = be32toh(h->backing_bytes);
	h->cluster_bits = be32toh(h->cluster_bits);
	h->size = be64toh(h->size);
	h->crypt_method = be32toh(h->crypt_method);
	h->l1_entries = be32toh(h->l1_entries);
	h->l1_offset = be64toh(h->l1_offset);
	h->refcount_offset = be64toh(h->refcount_offset);
	h->refcount_clusters = be32toh(h->refcount_clusters);
	h->incompatible = be64toh(h->incompatible);
	h->refcount_order = be32toh(h->refcount_order);
	h->header_bytes = be32toh(h->header_bytes);
	if (h->version == 2) { /* what a version 2 header does not have lies in other structures */
		h->incompatible = 0;
		h->refcount_order = 4;
		h->header_bytes = V2_BYTES;
	}
}

/* A table of n bytes at an offset lies in the file and begins on a cluster. */
static int is_inside(uint64_t offset, uint64_t n, uint64_t file_bytes, uint64_t cluster)
{
	return offset >= cluster && offset % cluster == 0 && offset <= file_bytes &&
	       n <= file_bytes - offset;
}

static int check_needs(const struct header *h, char reason[static QCOW2_REASON_MAX])
{
	if (h->backing_offset || h->backing_bytes)
		return refuse(reason, "the image names a backing file");
	if (h->crypt_method)
		return refuse(reason, "the image is encrypted");
	if (h->incompatible & EXTERNAL_DATA)
		return refuse(reason, "the image keeps its data in another file");
	if (h->incompatible & CORRUPT)
		return refuse(reason, "the image is marked as corrupt");
	if (h->incompatible & DIRTY)
		return refuse(reason, "the image was not closed cleanly");
	if (h->incompatible & ~(uint64_t)(COMPRESSION | EXTENDED_L2))
		return refuse(reason, "the image uses features that are not known here");
	return 0;
}

static int check_tables(const struct header *h, uint64_t file_bytes, uint64_t max_bytes,
			char reason[static QCOW2_REASON_MAX])
{
	uint64_t cluster = UINT64_C(1) << h->cluster_bits;
	uint64_t per_entry = cluster * (cluster / (h->incompatible & EXTENDED_L2 ? 16 : 8));
	uint64_t need;

	if (h->size == 0 || h->size % 512)
		return refuse(reason, "the virtual size is not a number of sectors");
	if (h->size > max_bytes)
		return refuse(reason, "the virtual size of %llu bytes is over the limit of %llu",
			      (unsigned long long)h->size, (unsigned long long)max_bytes);
	need = (h->size + per_entry - 1) / per_entry;
	if (h->l1_entries < need || (uint64_t)h->l1_entries * 8 > L1_BYTES_MAX)
		return refuse(reason, "the L1 table has %u entries, the size needs %llu",
			      h->l1_entries, (unsigned long long)need);
	if (!is_inside(h->l1_offset, (uint64_t)h->l1_entries * 8, file_bytes, cluster))
		return refuse(reason, "the L1 table is not inside the file");
	if (h->refcount_order > 6)
		return refuse(reason, "the refcounts are of a size that does not exist");
	if (h->refcount_clusters == 0 || h->refcount_clusters * cluster > REFCOUNT_TABLE_MAX ||
	    !is_inside(h->refcount_offset, h->refcount_clusters * cluster, file_bytes, cluster))
		return refuse(reason, "the refcount table is not inside the file");
	return 0;
}

/* Extensions lie between the header and the end of its cluster. */
static int check_extensions(int fd, const struct header *h, char reason[static QCOW2_REASON_MAX])
{
	uint64_t cluster = UINT64_C(1) << h->cluster_bits, at = h->header_bytes;

	for (int n = 0; n < 64 && at + 8 <= cluster; n++) {
		uint32_t e[2];

		if (pread(fd, e, sizeof e, (off_t)at) != sizeof e)
			return refuse(reason, "the file ends within its header");
		uint32_t type = be32toh(e[0]), bytes = be32toh(e[1]);

		if (type == END)
			return 0;
		if (type == EXTERNAL_DATA_NAME)
			return refuse(reason, "the image keeps its data in another file");
		if (type == ENCRYPTION)
			return refuse(reason, "the image is encrypted");
		if (type == BACKING_FORMAT)
			return refuse(reason, "the image names a backing file");
		if (bytes > cluster - at - 8)
			return refuse(reason,
				      "a header extension is longer than the header's cluster");
		at += 8 + (((uint64_t)bytes + 7) & ~UINT64_C(7));
	}
	return at + 8 > cluster ? 0 : refuse(reason, "the header has too many extensions");
}

/* What the file begins with, in the host's order; how many bytes were there, fewer than a whole
 * header perhaps. -EINVAL: not qcow2. */
static ssize_t read_header(int fd, struct header *ret_header)
{
	*ret_header = (struct header){0};
	ssize_t n = pread(fd, ret_header, sizeof *ret_header, 0);

	if (n < 0)
		return -errno;
	if (n < V2_BYTES || be32toh(ret_header->magic) != MAGIC)
		return -EINVAL;
	to_host(ret_header);
	return n;
}

int qcow2_check_header(int fd, uint64_t max_bytes, uint64_t *ret_bytes,
		       char ret_reason[static QCOW2_REASON_MAX])
{
	struct header h;
	struct stat st;
	ssize_t n = read_header(fd, &h);

	if (n == -EINVAL)
		return refuse(ret_reason, "the file is not a qcow2 image");
	if (n < 0 || fstat(fd, &st) < 0)
		return n < 0 ? (int)n : -errno;
	if (h.version != 2 && h.version != 3)
		return refuse(ret_reason, "qcow2 version %u is not known here", h.version);
	if (h.cluster_bits < 9 || h.cluster_bits > 21)
		return refuse(ret_reason, "a cluster size of 2^%u bytes does not exist",
			      h.cluster_bits);
	if (h.version == 3 && (n < (ssize_t)sizeof h || h.header_bytes < sizeof h ||
			       h.header_bytes % 8 || h.header_bytes > 1u << h.cluster_bits))
		return refuse(ret_reason, "the header has a length that cannot be");
	int r = check_needs(&h, ret_reason);

	if (r == 0)
		r = check_tables(&h, (uint64_t)st.st_size, max_bytes, ret_reason);
	if (r == 0)
		r = check_extensions(fd, &h, ret_reason);
	if (r == 0)
		*ret_bytes = h.size;
	return r;
}

int qcow2_read_backing(int fd, char ret_path[static QCOW2_BACKING_MAX + 1])
{
	struct header h;
	ssize_t n = read_header(fd, &h);

	if (n < 0)
		return (int)n;
	if (h.backing_bytes > QCOW2_BACKING_MAX)
		return -EINVAL;
	if (h.backing_offset == 0 || h.backing_bytes == 0) {
		ret_path[0] = '\0';
		return 0;
	}
	n = pread(fd, ret_path, h.backing_bytes, (off_t)h.backing_offset);
	if (n != (ssize_t)h.backing_bytes)
		return n < 0 ? -errno : -EINVAL;
	ret_path[n] = '\0';
	return 0;
}

int qcow2_read_bytes(int fd, uint64_t *ret_bytes)
{
	struct header h;
	ssize_t n = read_header(fd, &h);

	if (n < 0)
		return (int)n;
	*ret_bytes = h.size;
	return 0;
}

int qcow2_is(int fd)
{
	uint32_t magic = 0;

	return pread(fd, &magic, sizeof magic, 0) == sizeof magic && be32toh(magic) == MAGIC;
}
