/* Layers: their documents, who needs them, and their files. */
#include "layer.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include "fiber.h"
#include "id.h"
#include "qcow2.h"
#include "step.h"
#include "volume-key.h"
#include "stord.h"

const char *const layer_volume_kinds[] = {"volume", "volume-in-bin", NULL};
const char *const layer_snapshot_kinds[] = {"snapshot", "snapshot-in-bin", NULL};

/* ---- documents ---- */

const struct doc *layer_find(const struct store *s, const char *name)
{
	return name ? store_find(s, LAYER_KIND, name) : NULL;
}

int layer_put(struct txn *t, const char *name, const char *format, int64_t bytes,
	      const char *backing)
{
	const json_t *under = backing ? txn_look(t, LAYER_KIND, backing) : NULL;
	json_t *json = json_pack("{s:s, s:I, s:s*, s:s*}", "Format", format, "Bytes",
				 (json_int_t)bytes, "Backing", backing, "Key", jstr(under, "Key"));

	return txn_put(t, LAYER_KIND, name, "", "", json);
}

int layer_set_backing(struct txn *t, const struct doc *layer, const char *backing)
{
	json_t *json = doc_edit(layer);

	if (json && jset(json, "Backing", backing) < 0) {
		json_decref(json);
		return -ENOMEM;
	}
	return txn_replace(t, layer, json);
}

static const char *backing_of(const struct store *s, const char *name)
{
	const struct doc *d = layer_find(s, name);

	return d ? jstr(d->json, "Backing") : NULL;
}

unsigned layer_depth(const struct store *s, const char *name)
{
	unsigned n = 0;

	for (; name && n < LAYERS_FOLLOWED; name = backing_of(s, name))
		n++;
	return n;
}

const char *layer_root(const struct store *s, const char *name)
{
	const char *under;

	for (unsigned n = 0; (under = backing_of(s, name)) && n < LAYERS_FOLLOWED; n++)
		name = under;
	return name;
}

/* ---- needs ---- */

static int names(const json_t *json, const char *member, const char *name)
{
	const char *value = json ? jstr(json, member) : NULL;

	return value && strcmp(value, name) == 0;
}

void layer_needs(const struct txn *t, const char *name, struct layer_needs *ret_needs)
{
	const struct store *s = txn_store(t);
	struct layer_needs n = {0};

	for (const char *const *kind = layer_volume_kinds; *kind; kind++)
		store_each (s, *kind, v) {
			const json_t *json = txn_look(t, v->kind, v->id);

			n.n_volumes +=
				names(json, "_Layer", name) || names(json, "_NextLayer", name);
		}
	for (const char *const *kind = layer_snapshot_kinds; *kind; kind++)
		store_each (s, *kind, snapshot)
			n.n_snapshots +=
				names(txn_look(t, snapshot->kind, snapshot->id), "_Layer", name);
	store_each (s, LAYER_KIND, l)
		if (names(txn_look(t, l->kind, l->id), "Backing", name)) {
			n.n_layers++;
			n.child = l->id;
		}
	store_each (s, LAYER_KIND, l)
		n.n_snapshots += names(txn_look(t, l->kind, l->id), "Copy", name);
	*ret_needs = n;
}

int layer_release_key(struct txn *t, const char *key)
{
	char name[FILE_NAME_MAX];

	store_each (txn_store(t), LAYER_KIND, l)
		if (names(txn_look(t, l->kind, l->id), "Key", key))
			return 0;
	volume_key_name(key, name);
	return unlink_mark(t, name);
}

int layer_release(struct txn *t, const char *name)
{
	int r = 0;

	for (unsigned i = 0; r == 0 && name && i < LAYERS_FOLLOWED; i++) {
		const json_t *json = txn_look(t, LAYER_KIND, name);
		struct layer_needs needs;

		layer_needs(t, name, &needs);
		if (!json || needs.n_volumes || needs.n_snapshots || needs.n_layers)
			return 0;
		/* Before the deletion: both texts live as long as the committed document. */
		const char *under = backing_of(txn_store(t), name);
		const struct doc *layer = layer_find(txn_store(t), name);
		const char *key = layer ? jstr(layer->json, "Key") : NULL;

		if (!under && layer)
			under = jstr(layer->json, "Copy");

		r = unlink_mark(t, name);
		if (r == 0)
			r = txn_delete(t, LAYER_KIND, name);
		if (r == 0 && key)
			r = layer_release_key(t, key);
		name = under;
	}
	return r;
}

int layer_set_key(struct txn *t, const char *name, const char *owner_id)
{
	json_t *layer = txn_look(t, LAYER_KIND, name);

	return layer ? jset(layer, "Key", owner_id) : -ENOENT;
}

int layer_set_copy(struct txn *t, const char *name, const char *source)
{
	json_t *layer = txn_look(t, LAYER_KIND, name);

	return layer ? jset(layer, "Copy", source) : -ENOENT;
}

/* ---- files ---- */

struct making {
	char path[FILE_PATH_MAX];
	char backing_path[FILE_PATH_MAX]; /* "": none */
	char backing_format[8];
	uint64_t bytes;
	int is_raw, is_synced;
};

static int fill(int fd, const void *arg)
{
	const struct making *m = arg;

	if (m->is_raw)
		return ftruncate(fd, (off_t)m->bytes) < 0 ? -errno : 0;
	return qcow2_write_empty(fd, m->bytes, m->backing_path[0] ? m->backing_path : NULL,
				 m->backing_format);
}

/* On a worker. For the group too: libvirt gives the file to QEMU's user and group while a guest has
 * it, and it stays ours by group. */
static int make_file(void *arg)
{
	const struct making *m = arg;

	step("a layer's file");
	return file_make(m->path, 0660, m->is_synced, fill, m);
}

int layer_make(struct daemon *d, const char *name, int is_lost)
{
	const struct doc *layer = layer_find(d->store, name);
	struct making m = {.is_synced = files_are_synced(d)};

	if (!layer)
		return -ENOENT;
	file_path(d, name, m.path);
	if (file_exists(m.path) && !jstr(layer->json, "Copy"))
		return 0;
	if (is_lost)
		return -ENODATA;
	if (jstr(layer->json, "Copy"))
		return layer_copy(d, name);
	const struct doc *backing = layer_find(d->store, jstr(layer->json, "Backing"));

	if (!backing && jstr(layer->json, "Backing"))
		return -ENODATA;
	m.bytes = (uint64_t)jint(layer->json, "Bytes", 0);
	m.is_raw = strcmp(jstr_or(layer->json, "Format", ""), "raw") == 0;
	if (backing) {
		file_path(d, backing->id, m.backing_path);
		snprintf(m.backing_format, sizeof m.backing_format, "%s",
			 jstr_or(backing->json, "Format", "qcow2"));
	}
	if (jstr(layer->json, "Key")) {
		char key[ID_MAX];

		snprintf(key, sizeof key, "%s", jstr(layer->json, "Key"));
		return volume_key_make_image(d, key, m.path, (int64_t)m.bytes,
					     backing ? m.backing_path : NULL);
	}
	return fiber_work(make_file, &m);
}

struct measuring {
	char path[FILE_PATH_MAX];
	int is_raw;
	uint64_t bytes;
};

static int measure_work(void *arg)
{
	struct measuring *m = arg;
	OWN(fd_close) int fd = open(m->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	struct stat st;

	if (fd < 0)
		return -errno;
	if (!m->is_raw)
		return qcow2_read_bytes(fd, &m->bytes);
	if (fstat(fd, &st) < 0)
		return -errno;
	m->bytes = (uint64_t)st.st_size;
	return 0;
}

int layer_file_bytes(struct daemon *d, const char *name, int64_t *ret_bytes)
{
	const struct doc *layer = layer_find(d->store, name);
	struct measuring m = {.bytes = 0};

	if (!layer)
		return -ENOENT;
	file_path(d, name, m.path);
	m.is_raw = strcmp(jstr_or(layer->json, "Format", ""), "raw") == 0;
	int r = fiber_work(measure_work, &m);

	if (r == 0)
		*ret_bytes = (int64_t)m.bytes;
	return r;
}

/* ---- pins ---- */

struct pin {
	struct pin *next;
	char name[FILE_NAME_MAX];
};
static struct pin *pins;

int layer_pin(const char *name)
{
	struct pin *p = calloc(1, sizeof *p);

	if (!p)
		return -ENOMEM;
	snprintf(p->name, sizeof p->name, "%s", name);
	p->next = pins;
	pins = p;
	return 0;
}

void layer_unpin(const char *name)
{
	for (struct pin **slot = &pins; *slot; slot = &(*slot)->next)
		if (strcmp((*slot)->name, name) == 0) {
			struct pin *p = *slot;

			*slot = p->next;
			free(p);
			return;
		}
}

int layer_is_pinned(const struct store *s, const char *name)
{
	for (const struct pin *p = pins; p; p = p->next) {
		const char *at = p->name;

		for (unsigned n = 0; at && n < LAYERS_FOLLOWED; n++, at = backing_of(s, at))
			if (strcmp(at, name) == 0)
				return 1;
	}
	return 0;
}
