/* Chains: layers' files, one upon the other. */
#include "chain.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <openssl/crypto.h>
#include "fiber.h"
#include "files.h"
#include "jsonx.h"
#include "layer.h"
#include "volume-key.h"

#define OPEN_AGAIN 3

struct chain {
	struct chain_file **files; /* the top one first */
	size_t n;
	json_t *pinned; /* names */
};

/* ---- to open ---- */

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

/* ---- to read ---- */

uint64_t chain_bytes(const struct chain *c)
{
	return chain_file_bytes(c->files[0]);
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
		*ret_place = (struct place){file ? chain_file_name(file) : NULL, file ? at : 0};
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
	uint64_t end = chain_bytes(c);

	for (; offset < end; offset = (offset / CHAIN_TABLE_BYTES + 1) * CHAIN_TABLE_BYTES)
		for (size_t i = 0; i < c->n; i++)
			if (chain_file_has_table(c->files[i], offset))
				return offset;
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
	uint64_t end = chain_file_bytes(file), left = offset < end ? end - offset : 0;

	return chain_file_read(file, at + within, buffer, n < left ? n : left);
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
