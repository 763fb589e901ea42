/*
 * A layer's file: qcow2's two levels of tables, walked by hand. Source: QEMU's docs/interop/qcow2.txt.
 *
 * The L1 table is read when a file is opened; of the L2 tables the last one used is kept, for
 * readers go upwards.
 */
#include "chain-file.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "bytes.h"
#include "files.h"
#include "luks.h"

#define MAGIC	       0x514649fbu
#define CLUSTER_BITS   16
#define L2_ENTRIES     (CHAIN_CLUSTER / 8)
#define L1_ENTRIES_MAX ((32u << 20) / 8)
#define OFFSET_MASK    UINT64_C(0x00fffffffffffe00)
#define COMPRESSED     (UINT64_C(1) << 62)
#define ZERO	       UINT64_C(1)
/* Dirty and corrupt are marks of a writer that ended early: the tables are as they are. */
#define HARMLESS UINT64_C(3)

#define CRYPT_LUKS     2
#define ENCRYPTION     0x0537be77u /* the extension that says where LUKS is */
#define EXTENSIONS_MAX 16

struct chain_file {
	int fd;
	int is_raw;
	char name[FILE_NAME_MAX];
	uint64_t bytes, file_bytes;
	uint64_t *l1; /* in host order */
	uint32_t n_l1;
	uint64_t *l2;	    /* one table, as it is in the file */
	uint64_t l2_offset; /* 0: none is kept */
	struct luks *luks;  /* NULL: not encrypted */
};

static int read_at(int fd, void *buffer, size_t n, uint64_t offset)
{
	ssize_t got = pread(fd, buffer, n, (off_t)offset);

	return got < 0 ? -errno : (size_t)got < n ? -EUCLEAN : 0;
}

static int read_l1(struct chain_file *f, uint64_t offset)
{
	uint64_t n_bytes = (uint64_t)f->n_l1 * 8;
	uint64_t needed = (f->bytes + CHAIN_TABLE_BYTES - 1) / CHAIN_TABLE_BYTES;

	if (f->n_l1 > L1_ENTRIES_MAX || f->n_l1 < needed || offset % CHAIN_CLUSTER ||
	    offset > f->file_bytes || n_bytes > f->file_bytes - offset)
		return -EUCLEAN;
	f->l1 = calloc(f->n_l1 ? f->n_l1 : 1, 8);
	f->l2 = malloc(CHAIN_CLUSTER);
	if (!f->l1 || !f->l2)
		return -ENOMEM;
	int r = read_at(f->fd, f->l1, n_bytes, offset);

	for (uint32_t i = 0; r == 0 && i < f->n_l1; i++)
		f->l1[i] = be64toh(f->l1[i]);
	return r;
}

/* Where the extensions say that LUKS is. */
static int find_luks(const struct chain_file *f, uint64_t at, uint64_t *ret_offset,
		     uint64_t *ret_bytes)
{
	uint8_t e[24];

	for (int n = 0; n < EXTENSIONS_MAX && at + sizeof e <= CHAIN_CLUSTER; n++) {
		int r = read_at(f->fd, e, sizeof e, at);

		if (r < 0)
			return r;
		if (be32(e) == 0)
			return -EUCLEAN;
		if (be32(e) == ENCRYPTION && be32(e + 4) == 16) {
			*ret_offset = be64(e + 8);
			*ret_bytes = be64(e + 16);
			return *ret_offset % CHAIN_CLUSTER || *ret_offset > f->file_bytes ? -EUCLEAN
											  : 0;
		}
		at += 8 + (((uint64_t)be32(e + 4) + 7) & ~UINT64_C(7));
	}
	return -EUCLEAN;
}

static int read_luks(struct chain_file *f, const uint8_t *header, const char *passphrase)
{
	uint64_t offset, n_bytes;
	int r = find_luks(f, be32(header + 4) == 3 ? be32(header + 100) : 72, &offset, &n_bytes);

	return r == 0 ? luks_open(f->fd, offset, n_bytes, passphrase, &f->luks) : r;
}

/* A layer whose key is known has it: else what is read is not what was written. */
static int read_encryption(struct chain_file *f, const uint8_t *header, const char *passphrase)
{
	if (be32(header + 32) == (passphrase ? CRYPT_LUKS : 0))
		return passphrase ? read_luks(f, header, passphrase) : 0;
	return passphrase ? -EUCLEAN : -EOPNOTSUPP;
}

static int read_header(struct chain_file *f, const char *passphrase)
{
	uint8_t h[104] = {0};
	int r = read_at(f->fd, h, 72, 0);

	if (r < 0)
		return r;
	uint32_t version = be32(h + 4);

	if (be32(h) != MAGIC || (version != 2 && version != 3))
		return -EUCLEAN;
	if (version == 3)
		r = read_at(f->fd, h, sizeof h, 0);
	if (r < 0)
		return r;
	if (be32(h + 20) != CLUSTER_BITS || (be64(h + 72) & ~HARMLESS))
		return -EOPNOTSUPP;
	r = read_encryption(f, h, passphrase);
	if (r < 0)
		return r;
	f->bytes = be64(h + 24);
	f->n_l1 = be32(h + 36);
	return f->bytes > (uint64_t)INT64_MAX ? -EUCLEAN : read_l1(f, be64(h + 40));
}

int chain_file_new(int fd, const char *name, const char *format, const char *passphrase,
		   struct chain_file **ret_file)
{
	OWN(chain_file_free) struct chain_file *f = calloc(1, sizeof *f);
	struct stat st;

	if (!f)
		return -ENOMEM;
	f->fd = -1;
	if (fstat(fd, &st) < 0)
		return -errno;
	f->fd = fd;
	f->file_bytes = f->bytes = (uint64_t)st.st_size;
	f->is_raw = strcmp(format, "raw") == 0;
	snprintf(f->name, sizeof f->name, "%s", name);
	int r = f->is_raw ? 0 : read_header(f, passphrase);

	if (r < 0) {
		f->fd = -1; /* the caller's still */
		return r;
	}
	*ret_file = give(f);
	return 0;
}

void chain_file_free(struct chain_file *f)
{
	if (!f)
		return;
	if (f->fd >= 0)
		close(f->fd);
	free(f->l1);
	free(f->l2);
	luks_free(f->luks);
	free(f);
}

const char *chain_file_name(const struct chain_file *f)
{
	return f->name;
}

uint64_t chain_file_bytes(const struct chain_file *f)
{
	return f->bytes;
}

static int find_raw(const struct chain_file *f, uint64_t offset, uint64_t *ret_offset)
{
	off_t data = lseek(f->fd, (off_t)offset, SEEK_DATA);

	if (data < 0 && errno == ENXIO)
		return 2;
	if (data >= 0 && (uint64_t)data >= offset + CHAIN_CLUSTER)
		return 2;
	*ret_offset = offset; /* also where the file system does not tell */
	return 1;
}

int chain_file_find(struct chain_file *f, uint64_t offset, uint64_t *ret_offset)
{
	uint64_t cluster = offset / CHAIN_CLUSTER, table;

	if (offset >= f->bytes)
		return 2;
	if (f->is_raw)
		return find_raw(f, offset, ret_offset);
	table = f->l1[cluster / L2_ENTRIES] & OFFSET_MASK; /* n_l1 was checked against bytes */
	if (table == 0)
		return 0;
	if (table % CHAIN_CLUSTER || table > f->file_bytes || f->file_bytes - table < CHAIN_CLUSTER)
		return -EUCLEAN;
	if (table != f->l2_offset) {
		int r = read_at(f->fd, f->l2, CHAIN_CLUSTER, table);

		f->l2_offset = r < 0 ? 0 : table;
		if (r < 0)
			return r;
	}
	uint64_t entry = be64toh(f->l2[cluster % L2_ENTRIES]), at = entry & OFFSET_MASK;

	if (entry & COMPRESSED)
		return -EOPNOTSUPP;
	if (entry & ZERO)
		return 2;
	if (at == 0)
		return 0;
	/* The file's last cluster may be cut short: what is missing is zeros. */
	if (at % CHAIN_CLUSTER || at >= f->file_bytes)
		return -EUCLEAN;
	*ret_offset = at;
	return 1;
}

int chain_file_has_table(const struct chain_file *f, uint64_t offset)
{
	return f->is_raw ||
	       (offset < f->bytes && (f->l1[offset / CHAIN_TABLE_BYTES] & OFFSET_MASK));
}

int chain_file_read(const struct chain_file *f, uint64_t offset, void *buffer, size_t n)
{
	ssize_t got = pread(f->fd, buffer, n, (off_t)offset);

	if (got < 0)
		return -errno;
	return f->luks ? luks_decrypt(f->luks, offset, buffer,
				      (size_t)got / LUKS_SECTOR * LUKS_SECTOR)
		       : 0;
}
