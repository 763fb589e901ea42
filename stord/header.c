/* What a layer's file says it stands on, against its document. */
#include "header.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include "confine.h"
#include "fiber.h"
#include "layer.h"
#include "log.h"
#include "qcow2.h"
#include "run.h"
#include "volume-key.h"
#include "stord.h"

#define TRIES	 30
#define TRY_USEC 100000

static struct fiber_lock turn;

struct look {
	const char *path, *backing;
};

static int look_work(void *arg)
{
	const struct look *l = arg;
	char its[QCOW2_BACKING_MAX + 1];
	OWN(fd_close) int fd = open(l->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	int r = fd < 0 ? -errno : qcow2_read_backing(fd, its);

	return r < 0 ? r : strcmp(its, l->backing) == 0;
}

int header_is(const char *path, const char *backing_path)
{
	struct look l = {path, backing_path};

	return fiber_work(look_work, &l);
}

/* What the document says: its path, "" for none, and its format. */
static void documented(const struct daemon *d, const struct doc *layer,
		       char ret_path[static FILE_PATH_MAX], char ret_format[static 8])
{
	const struct doc *backing = layer_find(d->store, jstr(layer->json, "Backing"));

	ret_path[0] = '\0';
	if (backing)
		file_path(d, backing->id, ret_path);
	snprintf(ret_format, 8, "%s",
		 backing ? jstr_or(backing->json, "Format", "qcow2") : "qcow2");
}

static int agrees(struct daemon *d, const struct doc *layer)
{
	char path[FILE_PATH_MAX], backing[FILE_PATH_MAX], format[8];

	if (strcmp(jstr_or(layer->json, "Format", ""), "qcow2") != 0)
		return 1;
	file_path(d, layer->id, path);
	documented(d, layer, backing, format);
	int r = header_is(path, backing);

	return r == -ENOENT ? 1 : r; /* not made yet */
}

int header_agrees(struct daemon *d, const char *name)
{
	const struct doc *layer = layer_find(d->store, name);

	return layer ? agrees(d, layer) : -ENOENT;
}

int header_rewrite(struct daemon *d, const char *key, const char *path, const char *backing,
		   const char *format)
{
	OWN(volume_key_lent_clear) struct volume_key_lent lent = VOLUME_KEY_NOT_LENT;
	OWN(free) char *image = key ? volume_key_alone(path) : strdup(path);
	const char *arguments[16] = {"rebase", "-q", "-u", "-b", backing};
	OWN(run_result_clear) struct run_result result = {0};
	struct confined_file file = {path, 1};
	int n = 5, r = !image ? -ENOMEM : key ? volume_key_lend(d, key, &lent) : 0;

	if (r < 0)
		return r;
	arguments[n++] = key ? "--object" : "-f";
	arguments[n++] = key ? lent.object : "qcow2";
	if (backing[0]) {
		arguments[n++] = "-F";
		arguments[n++] = format;
	}
	arguments[n] = image;
	r = confine_qemu_img_chain(&file, 1, lent.fd, -1, arguments, &result);
	if (r < 0 || result.status == 0)
		return r;
	if (strstr(result.err, "lock"))
		return -EBUSY;
	log_warning(0, "qemu-img failed", "QEMU_IMG", result.err, "FILE", path);
	return -EIO;
}

void headers_lock(void)
{
	fiber_lock(&turn);
}

void headers_unlock(void)
{
	fiber_unlock(&turn);
}

/* One try; -EBUSY: somebody has it open. */
static int restore_locked(struct daemon *d, const char *name)
{
	char path[FILE_PATH_MAX], backing[FILE_PATH_MAX], format[8], key[ID_MAX];
	int r = header_agrees(d, name);

	if (r != 0)
		return r < 0 ? r : 0;
	const struct doc *layer = layer_find(d->store, name);

	if (!layer)
		return -ENOENT;
	file_path(d, name, path);
	documented(d, layer, backing, format);
	snprintf(key, sizeof key, "%s", jstr_or(layer->json, "Key", ""));
	r = header_rewrite(d, key[0] ? key : NULL, path, backing, format);
	if (r == 0)
		log_info("a merge that was cut off is taken back", "FILE", path);
	return r;
}

int header_restore(struct daemon *d, const char *name)
{
	int r = -EBUSY;

	for (int i = 0; r == -EBUSY && i < TRIES; i++) {
		if (i > 0)
			(void)fiber_sleep(TRY_USEC); /* a shorter wait is no harm */
		headers_lock();
		r = restore_locked(d, name);
		headers_unlock();
	}
	return r == -EBUSY ? -EAGAIN : r;
}

/* Calls `what` down the chain until one does not return 0. Names are copied: documents may change
 * across waits. */
static int each_down(struct daemon *d, const char *name, int (*what)(struct daemon *, const char *))
{
	char at[FILE_NAME_MAX];
	int r = 0;

	snprintf(at, sizeof at, "%s", name);
	for (unsigned n = 0; r == 0 && at[0] && n < LAYERS_FOLLOWED; n++) {
		r = what(d, at);
		const struct doc *layer = layer_find(d->store, at);

		snprintf(at, sizeof at, "%s", layer ? jstr_or(layer->json, "Backing", "") : "");
	}
	return r;
}

/* A chain's files and what their documents say of them. */
struct link {
	char path[FILE_PATH_MAX], backing[FILE_PATH_MAX];
};
struct look_chain {
	struct link *links;
	size_t n;
};

static int look_chain_work(void *arg)
{
	const struct look_chain *c = arg;
	int r = 1;

	for (size_t i = 0; r == 1 && i < c->n; i++) {
		struct look l = {c->links[i].path, c->links[i].backing};

		r = look_work(&l);
		if (r == -ENOENT)
			r = 1; /* not made yet */
	}
	return r;
}

/* One visit to the workers for the whole chain: a snapshot waits for it, and on a busy machine each
 * visit costs more than what is read there. */
int headers_agree(struct daemon *d, const char *name)
{
	unsigned depth = layer_depth(d->store, name);
	OWN(free) struct link *links = calloc(depth + 1, sizeof *links);
	struct look_chain c = {.links = links};
	char format[8];

	if (!links)
		return -ENOMEM;
	for (unsigned i = 0; i < depth; i++) {
		const struct doc *layer = layer_find(d->store, name);

		if (!layer)
			break;
		if (strcmp(jstr_or(layer->json, "Format", ""), "qcow2") == 0) {
			file_path(d, layer->id, links[c.n].path);
			documented(d, layer, links[c.n].backing, format);
			c.n++;
		}
		name = jstr(layer->json, "Backing");
	}
	return fiber_work(look_chain_work, &c);
}

int headers_restore(struct daemon *d, const char *name)
{
	return each_down(d, name, header_restore);
}
