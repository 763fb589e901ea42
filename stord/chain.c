/*
 * Chains: qcow2's two levels of tables, walked by hand. Source: QEMU's docs/interop/qcow2.txt.
 *
 * The L1 table is read when a file is opened; of the L2 tables the last one used is kept, for
 * readers go upwards.
 */
#include "chain.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <openssl/crypto.h>
#include "bytes.h"
#include "fiber.h"
#include "files.h"
#include "jsonx.h"
#include "layer.h"
#include "luks.h"
#include "volume-key.h"

#define MAGIC	       0x514649fbu
#define CLUSTER_BITS   16
#define L2_ENTRIES     (CHAIN_CLUSTER / 8)
#define L1_ENTRIES_MAX ((32u << 20) / 8)
#define OFFSET_MASK    UINT64_C(0x00fffffffffffe00)
#define COMPRESSED     (UINT64_C(1) << 62)
#define ZERO	       UINT64_C(1)
/* Dirty and corrupt are marks of a writer that ended early: the tables are as they are. */
#define HARMLESS   UINT64_C(3)
#define OPEN_AGAIN 3

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

struct chain {
	struct chain_file **files; /* the top one first */
	size_t n;
	json_t *pinned; /* names */
};

static int read_at(int fd, void *buffer, size_t n, uint64_t offset)
{
	ssize_t got = pread(fd, buffer, n, (off_t)offset);

	return got < 0 ? -errno : (size_t)got < n ? -EUCLEAN : 0;
}

static int read_l1(struct chain_file *f, uint64_t offset)
{
	uint64_t n_bytes = (uint64_t)f->n_l1 * 8;
	uint64_t needed = (f->bytes + (uint64_t)CHAIN_CLUSTER * L2_ENTRIES - 1) /
			  ((uint64_t)CHAIN_CLUSTER * L2_ENTRIES);

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

/* ---- chains ---- */

struct opening {
	char path[FILE_PATH_MAX];
	const char *name, *format, *passphrase; /* NULL: not encrypted */
	struct chain_file *file;
};

/* On a worker. */
static int open_file(void *arg)
{
	struct opening *o = arg;
	OWN(fd_close) int fd = open(o->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);

	if (fd < 0)
		return errno == ENOENT ? -ENODATA : -errno;
	int r = chain_file_new(fd, o->name, o->format, o->passphrase, &o->file);

	if (r == 0)
		(void)give(fd);
	return r;
}

static int open_layer(struct daemon *d, struct chain *c, const json_t *step)
{
	const char *key = jstr(step, "key");
	char passphrase[VOLUME_KEY_BYTES];
	struct opening o = {.name = jstr(step, "name"), .format = jstr(step, "format")};
	struct chain_file **files = realloc(c->files, (c->n + 1) * sizeof(struct chain_file *));

	if (!files)
		return -ENOMEM;
	c->files = files;
	file_path(d, o.name, o.path);
	int r = key ? volume_key_get(d, key, 0, passphrase) : 0;

	if (key)
		o.passphrase = passphrase;
	if (r == 0)
		r = fiber_work(open_file, &o);
	OPENSSL_cleanse(passphrase, sizeof passphrase);

	if (r == 0)
		c->files[c->n++] = o.file;
	return r;
}

/* By its own name: what it is found from may go before we have read it, a snapshot that is deleted or
 * a layer that a merge takes away, and then it may seem to be spare. */
static int pin(struct chain *c, const char *name)
{
	int r = layer_pin(name);

	if (r == 0 && json_array_append_new(c->pinned, json_string(name)) < 0) {
		layer_unpin(name);
		r = -ENOMEM;
	}
	return r;
}

/* Names are copied: documents may change while files are opened. A merge that ended meanwhile makes
 * a chain that never was, so the way down is written down first. */
static int open_all(struct daemon *d, struct chain *c, const char *name)
{
	OWN(json_decref) json_t *way = json_array();
	size_t i;
	json_t *step;
	int r = 0;

	for (unsigned n = 0; name; n++) {
		const struct doc *layer = layer_find(d->store, name);

		if (!layer || n >= LAYERS_FOLLOWED)
			return -ENODATA;
		if (json_array_append_new(way, json_pack("{s:s, s:s, s:s*}", "name", name, "format",
							 jstr_or(layer->json, "Format", "qcow2"),
							 "key", jstr(layer->json, "Key"))) < 0)
			return -ENOMEM;
		r = pin(c, name);
		if (r < 0)
			return r;
		name = jstr(layer->json, "Backing");
	}
	json_array_foreach (way, i, step)
		if (r == 0)
			r = open_layer(d, c, step);
	return r;
}

static void close_all(struct chain *c)
{
	json_t *name;
	size_t i;

	for (i = 0; i < c->n; i++)
		chain_file_free(c->files[i]);
	c->n = 0;
	json_array_foreach (c->pinned, i, name)
		layer_unpin(json_string_value(name));
	(void)json_array_clear(c->pinned); /* NULL where nothing is pinned */
}

int chain_open(struct daemon *d, const char *name, struct chain **ret_chain)
{
	OWN(chain_free) struct chain *c = calloc(1, sizeof *c);
	char top[FILE_NAME_MAX];

	if (!c || !(c->pinned = json_array()))
		return -ENOMEM;
	if (!name)
		return -ENODATA;
	snprintf(top, sizeof top, "%s", name);
	int r = open_all(d, c, top);

	/* A merge that was under way before the pins may have ended between two files. */
	for (int again = 0; r == -ENODATA && again < OPEN_AGAIN; again++) {
		close_all(c);
		r = open_all(d, c, top);
	}
	if (r == 0)
		*ret_chain = give(c);
	return r;
}

int chain_open_snapshot(struct daemon *d, const char *id, struct chain **ret_chain)
{
	char layer[FILE_NAME_MAX] = "";
	int r = -ENODATA;

	while (r == -ENODATA) {
		const struct doc *s = store_find(d->store, "snapshot", id);
		const char *its = s ? jstr(s->json, "_Layer") : NULL;

		if (!its || strcmp(its, layer) == 0)
			return r;
		snprintf(layer, sizeof layer, "%s", its);
		r = chain_open(d, layer, ret_chain);
	}
	return r;
}

int chain_of_file(int fd, const char *format, struct chain **ret_chain)
{
	OWN(chain_free) struct chain *c = calloc(1, sizeof *c);

	if (!c || !(c->files = calloc(1, sizeof *c->files)))
		return -ENOMEM;
	int r = chain_file_new(fd, "", format, NULL, &c->files[0]);

	if (r < 0)
		return r;
	c->n = 1;
	*ret_chain = give(c);
	return 0;
}

void chain_free(struct chain *c)
{
	if (!c)
		return;
	close_all(c);
	json_decref(c->pinned);
	free(c->files);
	free(c);
}

uint64_t chain_bytes(const struct chain *c)
{
	return c->files[0]->bytes;
}

/* The file that has the cluster; NULL: zeros. */
static int find(struct chain *c, uint64_t offset, const struct chain_file **ret_file,
		uint64_t *ret_offset)
{
	*ret_file = NULL;
	for (size_t i = 0; i < c->n; i++) {
		int r = chain_file_find(c->files[i], offset, ret_offset);

		if (r == 1)
			*ret_file = c->files[i];
		if (r != 0)
			return r < 0 ? r : 0;
	}
	return 0;
}

int chain_place(struct chain *c, uint64_t offset, struct place *ret_place)
{
	const struct chain_file *file;
	uint64_t at = 0;
	int r = find(c, offset, &file, &at);

	if (r == 0)
		*ret_place = (struct place){file ? file->name : NULL, file ? at : 0};
	return r;
}

int place_is(const struct place *a, const struct place *b)
{
	if (!a->layer || !b->layer)
		return a->layer == b->layer;
	return a->offset == b->offset && strcmp(a->layer, b->layer) == 0;
}

int chain_has_data(struct chain *c, uint64_t offset, uint64_t n_bytes)
{
	for (uint64_t at = offset; at < offset + n_bytes; at += CHAIN_CLUSTER) {
		struct place place;
		int r = chain_place(c, at, &place);

		if (r < 0 || place.layer)
			return r < 0 ? r : 1;
	}
	return 0;
}

uint64_t chain_next_table(const struct chain *c, uint64_t offset)
{
	const uint64_t span = (uint64_t)CHAIN_CLUSTER * L2_ENTRIES;
	uint64_t end = chain_bytes(c);

	for (; offset < end; offset = (offset / span + 1) * span)
		for (size_t i = 0; i < c->n; i++) {
			const struct chain_file *f = c->files[i];

			if (f->is_raw || (offset < f->bytes && f->l1[offset / span] & OFFSET_MASK))
				return offset;
		}
	return end;
}

int chain_holds(struct chain *c, size_t n_top, uint64_t offset)
{
	uint64_t at;
	int r = 0;

	for (size_t i = 0; r == 0 && i < c->n && i < n_top; i++)
		r = chain_file_find(c->files[i], offset, &at);
	return r;
}

/* Within one cluster. */
static int read_part(struct chain *c, uint64_t offset, uint8_t *buffer, size_t n)
{
	const struct chain_file *file;
	uint64_t within = offset % CHAIN_CLUSTER, at = 0;
	int r = find(c, offset - within, &file, &at);

	memset(buffer, 0, n);
	if (r < 0 || !file)
		return r;
	/* A backing that ends within the cluster shows zeros behind its end, a file's end likewise.
	 */
	uint64_t left = offset < file->bytes ? file->bytes - offset : 0;
	ssize_t got = pread(file->fd, buffer, n < left ? n : left, (off_t)(at + within));

	if (got < 0)
		return -errno;
	return file->luks ? luks_decrypt(file->luks, at + within, buffer,
					 (size_t)got / LUKS_SECTOR * LUKS_SECTOR)
			  : 0;
}

int chain_read(struct chain *c, uint64_t offset, void *buffer, size_t n_bytes)
{
	uint8_t *out = buffer;

	while (n_bytes > 0) {
		size_t n = CHAIN_CLUSTER - offset % CHAIN_CLUSTER;
		uint64_t left = offset < chain_bytes(c) ? chain_bytes(c) - offset : 0;
		int r = 0;

		n = n < n_bytes ? n : n_bytes;
		if (left == 0)
			memset(out, 0, n);
		else
			r = read_part(c, offset, out, n);
		if (r < 0)
			return r;
		if (left > 0 && left < n) /* the layers under the top one may be larger */
			memset(out + left, 0, n - left);
		out += n;
		offset += n;
		n_bytes -= n;
	}
	return 0;
}

int layers_meet(const struct store *s, const char *one, const char *other)
{
	/* Chains that meet go on together: down to the same end. */
	return *one && *other && strcmp(layer_root(s, one), layer_root(s, other)) == 0;
}
