/*
 * The store's index: all documents in memory, found by kind and id, and of each kind a list in order
 * of sequence. Used by store.c alone. What needs memory can fail and changes nothing that is seen;
 * what a commit does after its file is written (append, remove, swap) cannot fail.
 */
#pragma once

#include "store.h"

struct store_entry {
	struct doc doc; /* first: a doc pointer is its entry */
	struct store_entry *prev, *next;
	struct store_entry *same_bucket;
	uint32_t hash;
	char text[]; /* id, account, region */
};

struct store_kind {
	char *name;
	struct store_entry *first, *last;
	size_t n_entries;
	void (*changed)(void *userdata, const struct doc *before,
			const struct doc *after); /* NULL: nobody watches */
	void *userdata;
};

struct store_index {
	struct store_kind **kinds;
	size_t n_kinds;
	struct store_entry **buckets;
	size_t n_buckets; /* a power of two; 0 before the first store_index_reserve() */
	size_t n_entries;
};
void store_index_clear(struct store_index *x);

uint32_t store_hash(const char *kind, const char *id);

/* NULL: no document was ever of this kind, and nobody watches it. */
struct store_kind *store_index_kind(const struct store_index *x, const char *name);
/* The same, made if there is none. NULL: out of memory. */
struct store_kind *store_index_make_kind(struct store_index *x, const char *name);

struct store_entry *store_index_find(const struct store_index *x, uint32_t hash, const char *kind,
				     const char *id);

/* An entry that is in no list yet, with a reference to `json` of its own; its kind is there from now
 * on. NULL: out of memory. */
struct store_entry *store_entry_new(struct store_index *x, const char *kind, const char *id,
				    const char *account, const char *region, json_t *json);
void store_entry_free(struct store_entry *e);

/* Room in the hash table for n more: 0 or -ENOMEM. */
int store_index_reserve(struct store_index *x, size_t n);
/* At its kind's end; there is room. */
void store_index_append(struct store_index *x, struct store_entry *e);
/* It is freed. */
void store_index_remove(struct store_index *x, struct store_entry *e);
/* `e` takes the place of `old`, which is freed. */
void store_index_swap(struct store_index *x, struct store_entry *old, struct store_entry *e);
