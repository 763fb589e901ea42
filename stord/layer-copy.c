/*
 * A layer that has the contents of another under a key of its own: what was not encrypted is
 * encrypted, or goes from one key to another. Until its file is whole its document has Copy, which
 * keeps the source; cut off before that, it begins again.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include "chain.h"
#include "fiber.h"
#include "files.h"
#include "id.h"
#include "jsonx.h"
#include "layer.h"
#include "log.h"
#include "merge.h"
#include "stord.h"
#include "target.h"
#include "volume-key.h"

#define BLOCKS_A_STEP 64 /* 32 MiB: between them the loop has a look */

/* One at a time: they would only take the disk from each other. */
static struct fiber_lock one_at_a_time;

struct filling {
	struct chain *source;
	struct target target;
	char beside[FILE_PATH_MAX + 8];
	const char *path, *passphrase;
	uint64_t bytes, at; /* at: block */
	unsigned mode;
	int is_verify, is_synced;
};

static int fill_begin(void *arg)
{
	struct filling *w = arg;
	int r = target_make(w->beside, w->bytes, NULL, NULL, w->passphrase, 0);

	return r == 0 ? target_open(w->beside, w->bytes, w->passphrase, &w->target) : r;
}

static int fill_block(struct filling *w, uint8_t *data)
{
	uint8_t sum[32];
	int r = chain_read(w->source, w->at * TARGET_BLOCK, data, TARGET_BLOCK);

	if (r == 0 && !EVP_Digest(data, TARGET_BLOCK, sum, NULL, EVP_sha256(), NULL))
		r = -ENOMEM;
	return r == 0 ? target_put(&w->target, w->at, data, sum, 0) : r;
}

/* Holes are quick to pass: they do not count. */
static int fill_step(void *arg)
{
	struct filling *w = arg;
	OWN(free) uint8_t *data = malloc(TARGET_BLOCK);
	uint64_t end = target_blocks(&w->target);
	int r = data ? 0 : -ENOMEM;

	for (unsigned n = 0; r == 0 && w->at < end && n < BLOCKS_A_STEP; w->at++) {
		int has = w->is_verify
				  ? target_verify(&w->target, w->at, data)
				  : chain_has_data(w->source, w->at * TARGET_BLOCK, TARGET_BLOCK);

		n += has > 0;
		r = has < 0 ? has : has && !w->is_verify ? fill_block(w, data) : 0;
	}
	return r;
}

static int fill_end(void *arg)
{
	struct filling *w = arg;
	int r = target_finish(&w->target, (mode_t)w->mode, w->is_synced);

	return r == 0 ? file_place(w->beside, w->path, w->is_synced) : r;
}

int layer_copy_chain(struct daemon *d, struct chain *source, const char *path, uint64_t bytes,
		     const char *passphrase, unsigned mode)
{
	struct filling w = {.source = source,
			    .target.fd = -1,
			    .path = path,
			    .passphrase = passphrase,
			    .bytes = bytes,
			    .mode = mode,
			    .is_synced = files_are_synced(d)};

	snprintf(w.beside, sizeof w.beside, "%s.new", path);
	int r = fiber_work(fill_begin, &w);

	while (r == 0 && w.at < target_blocks(&w.target))
		r = fiber_work(fill_step, &w);
	w.is_verify = 1;
	w.at = 0;
	while (r == 0 && w.at < target_blocks(&w.target))
		r = fiber_work(fill_step, &w);
	if (r == 0)
		r = fiber_work(fill_end, &w);
	target_close(&w.target);
	if (r < 0)
		(void)file_remove(w.beside, 0); /* else at the next start */
	return r;
}

/* The copy stands for itself from here on. */
static int record_end(struct daemon *d, const char *name)
{
	const struct doc *layer = layer_find(d->store, name);
	OWN(txn_free) struct txn *t = txn_new(d->store);
	json_t *json = layer ? doc_edit(layer) : NULL;
	char source[FILE_NAME_MAX];

	if (!layer)
		return -ECANCELED;
	snprintf(source, sizeof source, "%s", jstr_or(layer->json, "Copy", ""));
	int r = json && t ? jset(json, "Copy", NULL) : -ENOMEM;

	if (r < 0)
		json_decref(json);
	if (r == 0)
		r = txn_replace(t, layer, json);
	if (r == 0)
		r = layer_release(t, source);
	if (r == 0)
		r = txn_commit(t);
	if (r == 0) {
		unlink_marked(d);
		merge_kick(d);
	}
	return r;
}

static int fill(struct daemon *d, const char *name, const char *path)
{
	const struct doc *layer = layer_find(d->store, name);
	OWN(chain_free) struct chain *source = NULL;
	char from[FILE_NAME_MAX], owner[ID_MAX], key[VOLUME_KEY_BYTES];

	if (!layer)
		return -ECANCELED;
	uint64_t bytes = (uint64_t)jint(layer->json, "Bytes", 0);

	snprintf(from, sizeof from, "%s", jstr_or(layer->json, "Copy", ""));
	snprintf(owner, sizeof owner, "%s", jstr_or(layer->json, "Key", ""));
	int r = chain_open(d, from, &source);

	if (r == 0)
		r = volume_key_get(d, owner, 1, key);
	if (r == 0)
		r = layer_copy_chain(d, source, path, bytes, key, 0660);
	OPENSSL_cleanse(key, sizeof key);
	return r;
}

int layer_copy(struct daemon *d, const char *asked)
{
	char name[FILE_NAME_MAX], path[FILE_PATH_MAX];
	int r = 0;

	snprintf(name, sizeof name, "%s", asked);
	file_path(d, name, path);
	fiber_lock(&one_at_a_time);
	const struct doc *layer = layer_find(d->store, name);

	if (!layer)
		r = -ENOENT;
	else if (jstr(layer->json, "Copy"))
		r = file_exists(path) ? 0 : fill(d, name, path);
	layer = layer_find(d->store, name);
	if (r == 0 && layer && jstr(layer->json, "Copy"))
		r = record_end(d, name);
	fiber_unlock(&one_at_a_time);
	return r;
}
