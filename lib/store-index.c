/* Store index: the documents in memory. */
#include "store-index.h"

#include <errno.h>
#include <string.h>

#define BUCKETS 64 /* at first */

uint32_t store_hash(const char *kind, const char *id)
{
	uint32_t h = 2166136261u; /* FNV-1a */

	for (; *kind; kind++)
		h = (h ^ (uint8_t)*kind) * 16777619u;
	h = (h ^ 0xff) * 16777619u;
	for (; *id; id++)
		h = (h ^ (uint8_t)*id) * 16777619u;
	return h;
}

struct store_kind *store_index_kind(const struct store_index *x, const char *name)
{
	for (size_t i = 0; i < x->n_kinds; i++)
		if (strcmp(x->kinds[i]->name, name) == 0)
			return x->kinds[i];
	return NULL;
}

struct store_kind *store_index_make_kind(struct store_index *x, const char *name)
{
	struct store_kind *k = store_index_kind(x, name);

	if (k)
		return k;
	struct store_kind **more = realloc(x->kinds, (x->n_kinds + 1) * sizeof *more);

	if (!more)
		return NULL;
	x->kinds = more;
	k = calloc(1, sizeof *k);
	if (!k || !(k->name = strdup(name))) {
		free(k);
		return NULL;
	}
	x->kinds[x->n_kinds++] = k;
	return k;
}

struct store_entry *store_index_find(const struct store_index *x, uint32_t hash, const char *kind,
				     const char *id)
{
	for (struct store_entry *e = x->n_buckets ? x->buckets[hash & (x->n_buckets - 1)] : NULL; e;
	     e = e->same_bucket)
		if (e->hash == hash && strcmp(e->doc.id, id) == 0 && strcmp(e->doc.kind, kind) == 0)
			return e;
	return NULL;
}

struct store_entry *store_entry_new(struct store_index *x, const char *kind, const char *id,
				    const char *account, const char *region, json_t *json)
{
	size_t n_id = strlen(id) + 1, n_account = strlen(account) + 1,
	       n_region = strlen(region) + 1;
	struct store_kind *k = store_index_make_kind(x, kind);
	struct store_entry *e = k ? calloc(1, sizeof *e + n_id + n_account + n_region) : NULL;

	if (!e)
		return NULL;
	e->hash = store_hash(kind, id);
	e->doc.kind = k->name;
	e->doc.id = memcpy(e->text, id, n_id);
	e->doc.account = memcpy(e->text + n_id, account, n_account);
	e->doc.region = memcpy(e->text + n_id + n_account, region, n_region);
	e->doc.json = json_incref(json);
	return e;
}

void store_entry_free(struct store_entry *e)
{
	if (!e)
		return;
	json_decref(e->doc.json);
	free(e);
}

int store_index_reserve(struct store_index *x, size_t n)
{
	size_t want = x->n_buckets ? x->n_buckets : BUCKETS;

	while (x->n_entries + n > want)
		want *= 2;
	if (want == x->n_buckets)
		return 0;
	struct store_entry **buckets = calloc(want, sizeof *buckets);

	if (!buckets)
		return -ENOMEM;
	for (size_t i = 0; i < x->n_buckets; i++)
		for (struct store_entry *e = x->buckets[i], *next; e; e = next) {
			struct store_entry **slot = &buckets[e->hash & (want - 1)];

			next = e->same_bucket;
			e->same_bucket = *slot;
			*slot = e;
		}
	free(x->buckets);
	x->buckets = buckets;
	x->n_buckets = want;
	return 0;
}

static void bucket_add(struct store_index *x, struct store_entry *e)
{
	struct store_entry **slot = &x->buckets[e->hash & (x->n_buckets - 1)];

	e->same_bucket = *slot;
	*slot = e;
}

static void bucket_remove(struct store_index *x, struct store_entry *e)
{
	struct store_entry **slot = &x->buckets[e->hash & (x->n_buckets - 1)];

	while (*slot != e)
		slot = &(*slot)->same_bucket;
	*slot = e->same_bucket;
}

void store_index_append(struct store_index *x, struct store_entry *e)
{
	struct store_kind *k = store_index_kind(x, e->doc.kind);

	bucket_add(x, e);
	e->prev = k->last;
	*(k->last ? &k->last->next : &k->first) = e;
	k->last = e;
	k->n_entries++;
	x->n_entries++;
}

void store_index_remove(struct store_index *x, struct store_entry *e)
{
	struct store_kind *k = store_index_kind(x, e->doc.kind);

	bucket_remove(x, e);
	*(e->prev ? &e->prev->next : &k->first) = e->next;
	*(e->next ? &e->next->prev : &k->last) = e->prev;
	k->n_entries--;
	x->n_entries--;
	store_entry_free(e);
}

void store_index_swap(struct store_index *x, struct store_entry *old, struct store_entry *e)
{
	struct store_kind *k = store_index_kind(x, e->doc.kind);

	bucket_remove(x, old);
	bucket_add(x, e);
	e->prev = old->prev;
	e->next = old->next;
	*(e->prev ? &e->prev->next : &k->first) = e;
	*(e->next ? &e->next->prev : &k->last) = e;
	store_entry_free(old);
}

void store_index_clear(struct store_index *x)
{
	for (size_t i = 0; i < x->n_kinds; i++) {
		for (struct store_entry *e = x->kinds[i]->first, *next; e; e = next) {
			next = e->next;
			store_entry_free(e);
		}
		free(x->kinds[i]->name);
		free(x->kinds[i]);
	}
	free(x->kinds);
	free(x->buckets);
	*x = (struct store_index){0};
}
