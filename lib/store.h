/*
 * Store: a daemon's durable state. One SQLite file (WAL, synchronous=FULL, STRICT), a document per
 * resource: kind, id, account, region, and JSON in the shape the AWS API shows it; members whose
 * names start with "_" are ours and never leave the daemons. All documents are held in memory by an
 * index; reads never touch SQLite. Documents are immutable: to change one, copy it (doc_edit),
 * change the copy and put it. Writes are collected in a txn and become visible and durable together
 * at txn_commit(), or not at all. Reads see committed state only.
 *
 * "Theory": handlers run as fibers; between two waits a handler is alone, so read → check → put →
 * commit without a wait in between is atomic.
 */
#pragma once

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>
#include "fault.h"
#include "own.h"
#include "rpc.h"

struct store;
struct txn;

struct doc {
	const char *kind;    /* "vpc", "instance": AWS's resource type names */
	const char *id;	     /* unique within its kind over all accounts and regions */
	const char *account; /* "" for documents of the daemon itself */
	const char *region;
	json_t *json;	   /* immutable */
	uint64_t sequence; /* order of creation, stays over changes and restarts */
};

/* Opens or makes the file. `version` is user_version: a newer file is refused (-EPROTONOSUPPORT),
 * an older one is migrated by `migrate` (may be NULL) inside one transaction. -EUCLEAN: the file is
 * damaged. */
int store_open(const char *path, unsigned version,
	       int (*migrate)(struct txn *t, unsigned from_version), struct store **ret_store);
void store_free(struct store *s);
OWN_DEFINE(struct store *, store_free);

/* The document or NULL; valid until the next commit: keep it by json_incref(doc->json). */
const struct doc *store_find(const struct store *s, const char *kind, const char *id);
/* The same, and only if it belongs to the context's account and region. */
const struct doc *store_get(const struct store *s, const struct context *ctx, const char *kind,
			    const char *id);
/* All documents of a kind in order of creation. The set must not change while iterating: no commit,
 * no wait. */
const struct doc *store_next(const struct store *s, const char *kind, const struct doc *after);
#define store_each(s, kind, d) for (const struct doc *d = NULL; ((d) = store_next(s, kind, d));)
size_t store_count(const struct store *s, const char *kind);
/* `changed` is called for every document of the kind that a commit changes, while both its forms
 * are there: before NULL is a new one, after NULL a deleted one. For indexes that a daemon keeps
 * over its documents; it must not fail, commit or wait. One per kind. 0 or -ENOMEM. */
int store_watch(struct store *s, const char *kind,
		void (*changed)(void *userdata, const struct doc *before, const struct doc *after),
		void *userdata);

/* A new, changeable copy of the document's JSON (a new reference). NULL out of memory. */
json_t *doc_edit(const struct doc *d);

struct txn *txn_new(struct store *s);
/* Drops what was not committed. */
void txn_free(struct txn *t);
OWN_DEFINE(struct txn *, txn_free);
/* Will create or replace. `json` is taken over, also on failure (NULL json: -ENOMEM). */
int txn_put(struct txn *t, const char *kind, const char *id, const char *account,
	    const char *region, json_t *json);
/* The same for a changed copy of an existing document: its account and region stay. */
int txn_replace(struct txn *t, const struct doc *d, json_t *json);
int txn_delete(struct txn *t, const char *kind, const char *id);
/* What this transaction would leave: put → its JSON (borrowed), deleted → NULL, untouched → the
 * committed document's JSON. */
json_t *txn_look(const struct txn *t, const char *kind, const char *id);
/* Where it writes to: what a migration reads. */
struct store *txn_store(const struct txn *t);
/* Makes it durable, then visible. Blocks for one fsync. The txn is empty afterwards and can be used
 * again. 0 or -errno: nothing of it happened then, and it is still in the txn (-ENOSPC: disk full).
 * A migration does not call this: store_open() does. */
int txn_commit(struct txn *t);
