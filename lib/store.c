/*
 * Store: documents in memory, written through to the file.
 *
 * Every document is an entry in one hash table (by kind and id) and in its kind's list (by
 * sequence). A commit has three parts: make ready all memory it will need, write the file, change
 * the index. The first two may fail and then nothing has changed; the third cannot fail. A replaced
 * document gets a new entry in its predecessor's place.
 */
#include "store.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include "step.h"
#include "store-file.h"
#include "store-index.h"

struct store {
	struct store_file *file;
	struct store_index index;
	uint64_t next_sequence;
};

/* One change; of several to one document the last counts. */
struct change {
	uint32_t hash;
	char *kind, *id;
	char *account, *region;
	json_t *json;		   /* NULL: delete */
	struct store_entry *entry; /* made ready by commit */
	char *dump;
};

struct txn {
	struct store *store;
	struct change *changes;
	size_t n_changes, n_space;
	int is_migration;
};

/* ---- opening ---- */

static int load_row(void *arg, const struct store_row *row)
{
	struct store *s = arg;
	OWN(json_decref) json_t *json = json_loads(row->text, JSON_ALLOW_NUL, NULL);
	int r = json_is_object(json) ? store_index_reserve(&s->index, 1) : -EUCLEAN;

	if (r < 0)
		return r;
	struct store_entry *e =
		store_entry_new(&s->index, row->kind, row->id, row->account, row->region, json);

	if (!e)
		return -ENOMEM;
	e->doc.sequence = row->sequence;
	store_index_append(&s->index, e);
	s->next_sequence = row->sequence + 1;
	return 0;
}

static int write_all(struct txn *t, unsigned version);

static int migrate_to(struct store *s, unsigned version,
		      int (*migrate)(struct txn *t, unsigned from_version), unsigned from)
{
	OWN(txn_free) struct txn *t = txn_new(s);

	if (!t)
		return -ENOMEM;
	t->is_migration = 1;
	int r = migrate ? migrate(t, from) : 0;

	return r < 0 ? r : write_all(t, version);
}

int store_open(const char *path, unsigned version,
	       int (*migrate)(struct txn *t, unsigned from_version), struct store **ret_store)
{
	OWN(store_free) struct store *s = calloc(1, sizeof *s);
	unsigned found = 0;
	int is_new = 0;

	assert(version > 0);
	if (!s)
		return -ENOMEM;
	s->next_sequence = 1;
	int r = store_file_open(path, &s->file, &found, &is_new);

	if (r == 0 && found > version)
		r = -EPROTONOSUPPORT;
	if (r == 0)
		r = store_file_load(s->file, load_row, s);
	/* A file without rows and version was left by a death right after its making: as new. */
	if (r == 0 && found < version)
		r = migrate_to(s, version, is_new || found == 0 ? NULL : migrate, found);
	if (r < 0)
		return r;
	*ret_store = give(s);
	return 0;
}

void store_free(struct store *s)
{
	if (!s)
		return;
	store_index_clear(&s->index);
	store_file_free(s->file);
	free(s);
}

/* ---- reading ---- */

const struct doc *store_find(const struct store *s, const char *kind, const char *id)
{
	struct store_entry *e =
		id ? store_index_find(&s->index, store_hash(kind, id), kind, id) : NULL;

	return e ? &e->doc : NULL;
}

const struct doc *store_get(const struct store *s, const struct context *ctx, const char *kind,
			    const char *id)
{
	const struct doc *d = store_find(s, kind, id);

	return d && strcmp(d->account, ctx->account) == 0 && strcmp(d->region, ctx->region) == 0
		       ? d
		       : NULL;
}

const struct doc *store_next(const struct store *s, const char *kind, const struct doc *after)
{
	const struct store_kind *k = after ? NULL : store_index_kind(&s->index, kind);
	const struct store_entry *e = after ? ((const struct store_entry *)after)->next
				      : k   ? k->first
					    : NULL;

	return e ? &e->doc : NULL;
}

size_t store_count(const struct store *s, const char *kind)
{
	const struct store_kind *k = store_index_kind(&s->index, kind);

	return k ? k->n_entries : 0;
}

int store_watch(struct store *s, const char *kind,
		void (*changed)(void *userdata, const struct doc *before, const struct doc *after),
		void *userdata)
{
	struct store_kind *k = store_index_make_kind(&s->index, kind);

	if (!k)
		return -ENOMEM;
	k->changed = changed;
	k->userdata = userdata;
	return 0;
}

json_t *doc_edit(const struct doc *d)
{
	return json_deep_copy(d->json);
}

/* ---- writing ---- */

struct txn *txn_new(struct store *s)
{
	struct txn *t = calloc(1, sizeof *t);

	if (t)
		t->store = s;
	return t;
}

struct store *txn_store(const struct txn *t)
{
	return t->store;
}

static void change_clear(struct change *c)
{
	free(c->kind);
	free(c->id);
	free(c->account);
	free(c->region);
	free(c->dump);
	json_decref(c->json);
	store_entry_free(c->entry);
}

static void txn_empty(struct txn *t)
{
	for (size_t i = 0; i < t->n_changes; i++)
		change_clear(&t->changes[i]);
	t->n_changes = 0;
}

void txn_free(struct txn *t)
{
	if (!t)
		return;
	txn_empty(t);
	free(t->changes);
	free(t);
}

static struct change *change_find(const struct txn *t, uint32_t hash, const char *kind,
				  const char *id)
{
	for (size_t i = t->n_changes; i-- > 0;) {
		struct change *c = &t->changes[i];

		if (c->hash == hash && strcmp(c->id, id) == 0 && strcmp(c->kind, kind) == 0)
			return c;
	}
	return NULL;
}

/* Takes `json` over. */
static int txn_add(struct txn *t, const char *kind, const char *id, const char *account,
		   const char *region, json_t *json)
{
	struct change new = {.hash = store_hash(kind, id),
			     .kind = strdup(kind),
			     .id = strdup(id),
			     .account = strdup(account),
			     .region = strdup(region),
			     .json = json};
	struct change *c = change_find(t, new.hash, kind, id);

	if (new.kind &&new.id &&new.account &&new.region && !c && t->n_changes == t->n_space) {
		size_t n = t->n_space ? t->n_space * 2 : 8;
		struct change *more = realloc(t->changes, n * sizeof *more);

		if (more) {
			t->changes = more;
			t->n_space = n;
		}
	}
	if (!new.kind || !new.id || !new.account || !new.region ||
	    (!c && t->n_changes == t->n_space)) {
		change_clear(&new);
		return -ENOMEM;
	}
	if (c)
		change_clear(c);
	else
		c = &t->changes[t->n_changes++];
	*c = new;
	return 0;
}

int txn_put(struct txn *t, const char *kind, const char *id, const char *account,
	    const char *region, json_t *json)
{
	return json ? txn_add(t, kind, id, account, region, json) : -ENOMEM;
}

int txn_replace(struct txn *t, const struct doc *d, json_t *json)
{
	return txn_put(t, d->kind, d->id, d->account, d->region, json);
}

int txn_delete(struct txn *t, const char *kind, const char *id)
{
	return txn_add(t, kind, id, "", "", NULL);
}

json_t *txn_look(const struct txn *t, const char *kind, const char *id)
{
	uint32_t hash = store_hash(kind, id);
	const struct change *c = change_find(t, hash, kind, id);
	const struct store_entry *e = c ? NULL : store_index_find(&t->store->index, hash, kind, id);

	return c ? c->json : e ? e->doc.json : NULL;
}

/* All memory that the commit will need. */
static int make_ready(struct txn *t)
{
	struct store *s = t->store;
	uint64_t sequence = s->next_sequence;

	for (size_t i = 0; i < t->n_changes; i++) {
		struct change *c = &t->changes[i];

		if (!c->json)
			continue;
		/* What a commit that failed left may be of older JSON. */
		store_entry_free(c->entry);
		c->entry =
			store_entry_new(&s->index, c->kind, c->id, c->account, c->region, c->json);
		free(c->dump);
		c->dump = json_dumps(c->json, JSON_COMPACT);
		if (!c->entry || !c->dump)
			return -ENOMEM;
	}
	for (size_t i = 0; i < t->n_changes; i++) {
		struct change *c = &t->changes[i];
		const struct store_entry *old =
			store_index_find(&s->index, c->hash, c->kind, c->id);

		if (c->json)
			c->entry->doc.sequence = old ? old->doc.sequence : sequence++;
	}
	return store_index_reserve(&s->index, t->n_changes);
}

static int write_changes(struct txn *t, unsigned version)
{
	struct store_file *f = t->store->file;
	int r = store_file_begin(f);

	for (size_t i = 0; r == 0 && i < t->n_changes; i++) {
		const struct change *c = &t->changes[i];
		struct store_row row = {.kind = c->kind,
					.id = c->id,
					.account = c->account,
					.region = c->region,
					.text = c->dump};

		row.sequence = c->json ? c->entry->doc.sequence : 0;
		r = c->json ? store_file_put(f, &row) : store_file_delete(f, c->kind, c->id);
	}
	if (r == 0 && version > 0)
		r = store_file_set_version(f, version);
	if (r == 0)
		r = store_file_commit(f);
	if (r < 0)
		store_file_rollback(f);
	return r;
}

static int write_all(struct txn *t, unsigned version)
{
	struct store *s = t->store;
	int r = make_ready(t);

	if (r == 0)
		r = write_changes(t, version);
	if (r < 0)
		return r;
	for (size_t i = 0; i < t->n_changes; i++) {
		struct change *c = &t->changes[i];
		struct store_entry *old = store_index_find(&s->index, c->hash, c->kind, c->id),
				   *e = give(c->entry);

		if (e && e->doc.sequence >= s->next_sequence)
			s->next_sequence = e->doc.sequence + 1;
		const struct store_kind *k = store_index_kind(&s->index, c->kind);

		if (k && k->changed && (e || old))
			k->changed(k->userdata, old ? &old->doc : NULL, e ? &e->doc : NULL);
		if (e && old)
			store_index_swap(&s->index, old, e);
		else if (e)
			store_index_append(&s->index, e);
		else if (old)
			store_index_remove(&s->index, old);
	}
	txn_empty(t);
	return 0;
}

int txn_commit(struct txn *t)
{
	assert(!t->is_migration); /* store_open() commits a migration, with its version */
	if (t->n_changes == 0)
		return 0;
	step("a transaction");
	int r = write_all(t, 0);

	step("what follows a transaction");
	return r;
}
