/*
 * How much a snapshot holds: FullSnapshotSizeInBytes, the blocks of 512 KiB that have data, whoever
 * they are shared with; as many as ListSnapshotBlocks tells. Source: EC2 API reference, "Snapshot".
 *
 * It is read from the layers' tables, which takes longer the larger the snapshot is. So nobody waits
 * for it: a snapshot is completed first, and has its size soon after. What a crash left without,
 * and what was made before sizes were kept, is counted at the next start, and what comes back from
 * the recycle bin when it does. A snapshot whose layers cannot be read stays without.
 */
#include "stord.h"

#include <errno.h>
#include <string.h>
#include "chain.h"
#include "direct.h"
#include "fiber.h"
#include "log.h"

#define BLOCKS_A_STEP 65536 /* with data or without; between them others have the worker */

static struct {
	json_t *queue; /* ids */
	int is_running;
} self;

static int is_without(const json_t *snapshot)
{
	return strcmp(jstr_or(snapshot, "State", ""), "completed") == 0 &&
	       !json_object_get(snapshot, "FullSnapshotSizeInBytes");
}

/* ---- one snapshot ---- */

struct counting {
	struct chain *chain;
	uint64_t at, n_blocks;
};

/* On a worker. */
static int count_step(void *arg)
{
	struct counting *n = arg;
	int r = 0;

	for (unsigned i = 0; r >= 0 && i < BLOCKS_A_STEP && n->at < chain_bytes(n->chain); i++) {
		n->at = chain_next_table(n->chain, n->at);
		r = chain_has_data(n->chain, n->at, DIRECT_BLOCK);
		n->n_blocks += r > 0;
		n->at += DIRECT_BLOCK;
	}
	return r < 0 ? r : 0;
}

static int count_blocks(struct daemon *d, const char *id, uint64_t *ret_n)
{
	OWN(chain_free) struct chain *chain = NULL;
	struct counting n = {0};
	int r = chain_open_snapshot(d, id, &chain);

	n.chain = chain;
	while (r == 0 && n.at < chain_bytes(chain))
		r = fiber_work(count_step, &n);
	if (r == 0)
		*ret_n = n.n_blocks;
	return r;
}

static int keep_size(struct daemon *d, const char *id, uint64_t n_blocks)
{
	const struct doc *s = store_find(d->store, "snapshot", id);
	OWN(txn_free) struct txn *t = txn_new(d->store);
	OWN(json_decref) json_t *json = s ? doc_edit(s) : NULL;

	if (!s)
		return 0; /* deleted meanwhile */
	int r = json && t ? jset_new(json, "FullSnapshotSizeInBytes",
				     json_integer((json_int_t)(n_blocks * DIRECT_BLOCK)))
			  : -ENOMEM;

	if (r == 0)
		r = txn_replace(t, s, give(json));
	return r == 0 ? txn_commit(t) : r;
}

static void count_one(struct daemon *d, const char *id)
{
	const struct doc *s = store_find(d->store, "snapshot", id);
	uint64_t n_blocks = 0;

	if (!s || !is_without(s->json))
		return;
	int r = count_blocks(d, id, &n_blocks);

	if (r == 0)
		r = keep_size(d, id, n_blocks);
	if (r < 0)
		log_warning(r, "a snapshot's size is not known", "SNAPSHOT_ID", id);
}

/* ---- all that wait ---- */

static void run(void *arg)
{
	(void)fiber_sleep(0); /* what it is about is committed by then */
	while (json_array_size(self.queue) > 0) {
		OWN(json_decref) json_t *id = json_incref(json_array_get(self.queue, 0));

		(void)json_array_remove(self.queue, 0); /* it is there */
		count_one(arg, json_string_value(id));
	}
	self.is_running = 0;
}

/* Out of memory: at the next start. */
static void count_later(struct daemon *d, const char *id)
{
	if (!self.queue)
		self.queue = json_array();
	(void)json_array_append_new(self.queue, json_string(id));
	if (!self.is_running)
		self.is_running = fiber_spawn(run, d) == 0;
}

static void on_snapshot(void *userdata, const struct doc *before, const struct doc *after)
{
	if (after && is_without(after->json) && !(before && is_without(before->json)))
		count_later(userdata, after->id);
}

int snapshot_size_start(struct daemon *d)
{
	store_each (d->store, "snapshot", s)
		if (is_without(s->json))
			count_later(d, s->id);
	return store_watch(d->store, "snapshot", on_snapshot, d);
}
