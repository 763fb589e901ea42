/* Merges without a guest: by qemu-img, or by hand into encrypted layers. */
#include "merge-offline.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>
#include <openssl/crypto.h>
#include "chain.h"
#include "fiber.h"
#include "header.h"
#include "layer-tool.h"
#include "layer.h"
#include "log.h"
#include "run.h"
#include "step.h"
#include "stord.h"
#include "target.h"
#include "volume-key.h"

#define CLUSTERS_A_STEP 512 /* 32 MiB: between them the loop has a look */

/* ---- stopping ---- */

static struct {
	int fd; /* readable: the tool is killed; 0: not made yet */
	int is_stopped;
} self;

int offline_begin(void)
{
	eventfd_t n;

	if (!self.fd) {
		int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

		if (fd < 0)
			return -errno;
		self.fd = fd;
	}
	(void)eventfd_read(self.fd, &n); /* not readable is what is wanted */
	self.is_stopped = 0;
	return 0;
}

void offline_stop(void)
{
	self.is_stopped = 1;
	if (self.fd)
		(void)eventfd_write(self.fd, 1); /* full is readable, too */
}

/* ---- flushes and modes ---- */

static int flush_work(void *arg)
{
	OWN(fd_close) int fd = open(arg, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

	step("a file's flush");
	return fd < 0 || fsync(fd) < 0 ? -errno : 0;
}

int layer_flush(const struct daemon *d, const char *name)
{
	char path[FILE_PATH_MAX];

	file_path(d, name, path);
	return files_are_synced(d) ? fiber_work(flush_work, path) : 0;
}

/* "" or whose key opens the layer: a copy, for documents may change. */
static void key_of(const struct daemon *d, const char *name, char ret_key[static ID_MAX])
{
	const struct doc *l = layer_find(d->store, name);

	snprintf(ret_key, ID_MAX, "%s", l ? jstr_or(l->json, "Key", "") : "");
}

/* ---- qemu-img ---- */

static int run_qemu_img(struct daemon *d, const char *name, unsigned n_written, int key_fd,
			const char *const *arguments)
{
	OWN(run_result_clear) struct run_result result = {0};
	int r = layer_tool(d, name, n_written, key_fd, self.fd, arguments, &result);

	if (r == 0 && result.status != 0) {
		log_warning(0, "qemu-img failed", "QEMU_IMG", result.err, "FILE", name);
		r = strstr(result.err, "No space left") ? -ENOSPC : -EIO;
	}
	return r;
}

static int commit_encrypted(struct daemon *d, const char *key, const char *over)
{
	OWN(volume_key_lent_clear) struct volume_key_lent lent = VOLUME_KEY_NOT_LENT;
	OWN(free) char *image = volume_key_chain(d, over);
	const char *const arguments[] = {"commit",    "-q",  "-d", "--object",
					 lent.object, image, NULL};
	int r = image ? volume_key_lend(d, key, &lent) : -ENOMEM;

	return r == 0 ? run_qemu_img(d, over, 2, lent.fd, arguments) : r;
}

int offline_commit(struct daemon *d, const char *over)
{
	const struct doc *l = layer_find(d->store, over);
	char path[FILE_PATH_MAX], key[ID_MAX], under[FILE_NAME_MAX];
	const char *const arguments[] = {"commit", "-q", "-d", "-f", "qcow2", path, NULL};

	if (!l || !jstr(l->json, "Backing"))
		return -ECANCELED;
	snprintf(under, sizeof under, "%s", jstr(l->json, "Backing"));
	key_of(d, over, key);
	file_path(d, over, path);
	int r = key[0] ? commit_encrypted(d, key, over) : run_qemu_img(d, over, 2, -1, arguments);

	return r == 0 ? layer_flush(d, under) : r;
}

int offline_rebase(struct daemon *d, const char *child, const char *under)
{
	char path[FILE_PATH_MAX], under_path[FILE_PATH_MAX], key[ID_MAX];

	key_of(d, child, key);
	file_path(d, child, path);
	file_path(d, under, under_path);
	int r = header_rewrite(d, key[0] ? key : NULL, path, under_path, "qcow2");

	return r == 0 ? layer_flush(d, child) : r;
}

static int pull_plain(struct daemon *d, const char *over, const char *base, const char *format)
{
	char path[FILE_PATH_MAX], base_path[FILE_PATH_MAX] = "";
	const char *const with_base[] = {"rebase",  "-q", "-f",	  "qcow2", "-b",
					 base_path, "-F", format, path,	   NULL};
	const char *const without[] = {"rebase", "-q", "-f", "qcow2", "-b", "", path, NULL};

	file_path(d, over, path);
	if (base)
		file_path(d, base, base_path);
	int r = run_qemu_img(d, over, 1, -1, base ? with_base : without);

	return r == 0 ? layer_flush(d, over) : r;
}

/* ---- by hand ---- */

struct rewriting {
	char path[FILE_PATH_MAX], beside[FILE_PATH_MAX + 8], base[FILE_PATH_MAX];
	const char *passphrase;
	struct chain *chain;
	size_t n_top; /* so many of its layers become one */
	struct target target;
	uint64_t at, n; /* clusters */
	int is_synced;
};

static void rewriting_clear(struct rewriting *w)
{
	target_close(&w->target);
	chain_free(w->chain);
}

static int rewrite_begin(void *arg)
{
	struct rewriting *w = arg;
	uint64_t bytes = chain_bytes(w->chain);
	int r = target_make(w->beside, bytes, w->base[0] ? w->base : NULL, "qcow2", w->passphrase,
			    0);

	w->n = (bytes + TARGET_CLUSTER - 1) / TARGET_CLUSTER;
	return r == 0 ? target_open(w->beside, bytes, w->passphrase, &w->target) : r;
}

/* What is neither data nor zeros here is shown from under it, as before. */
static int rewrite_cluster(struct rewriting *w, uint8_t *data, unsigned *n_done)
{
	uint64_t offset = w->at * TARGET_CLUSTER;
	int has = chain_holds(w->chain, w->n_top, offset);

	if (has <= 0)
		return has;
	(*n_done)++;
	if (has == 2)
		return target_put_cluster(&w->target, w->at, NULL);
	int r = chain_read(w->chain, offset, data, TARGET_CLUSTER);

	return r == 0 ? target_put_cluster(&w->target, w->at, data) : r;
}

static int rewrite_step(void *arg)
{
	struct rewriting *w = arg;
	OWN(free) uint8_t *data = malloc(TARGET_CLUSTER);
	int r = data ? 0 : -ENOMEM;

	for (unsigned n = 0; r == 0 && w->at < w->n && n < CLUSTERS_A_STEP; w->at += r == 0)
		r = rewrite_cluster(w, data, &n);
	return r;
}

static int rewrite_end(void *arg)
{
	struct rewriting *w = arg;
	int r = target_finish(&w->target, 0660, w->is_synced);

	return r == 0 ? file_place(w->beside, w->path, w->is_synced) : r;
}

static int rewrite(struct daemon *d, const char *over, struct rewriting *w)
{
	int r = chain_open(d, over, &w->chain);

	if (r == 0)
		r = fiber_work(rewrite_begin, w);
	while (r == 0 && w->at < w->n)
		r = self.is_stopped ? -ECANCELED : fiber_work(rewrite_step, w);
	if (r == 0)
		r = fiber_work(rewrite_end, w);
	if (r < 0)
		(void)file_remove(w->beside, 0); /* else at the next start */
	return r;
}

static int pull_encrypted(struct daemon *d, const char *over, const char *base, const char *key)
{
	__attribute__((cleanup(rewriting_clear))) struct rewriting w = {
		.target.fd = -1,
		.is_synced = files_are_synced(d),
		.n_top = layer_depth(d->store, over) - (base ? layer_depth(d->store, base) : 0)};
	char passphrase[VOLUME_KEY_BYTES];

	file_path(d, over, w.path);
	snprintf(w.beside, sizeof w.beside, "%s.new", w.path);
	if (base)
		file_path(d, base, w.base);
	w.passphrase = passphrase;
	int r = volume_key_get(d, key, 0, passphrase);

	if (r == 0)
		r = rewrite(d, over, &w);
	OPENSSL_cleanse(passphrase, sizeof passphrase);
	return r;
}

int offline_pull(struct daemon *d, const char *over, const char *base)
{
	const struct doc *b = layer_find(d->store, base);
	char key[ID_MAX], format[8], over_name[FILE_NAME_MAX], base_name[FILE_NAME_MAX];

	snprintf(over_name, sizeof over_name, "%s", over);
	snprintf(base_name, sizeof base_name, "%s", base ? base : "");
	snprintf(format, sizeof format, "%s", b ? jstr_or(b->json, "Format", "qcow2") : "qcow2");
	key_of(d, over, key);
	base = base ? base_name : NULL;
	return key[0] ? pull_encrypted(d, over_name, base, key)
		      : pull_plain(d, over_name, base, format);
}
