/*
 * The store's file: all that knows SQLite. Used by store.c alone.
 *
 * One table, a row per document; application_id tells our files from others', user_version is the
 * daemon's. The file is locked for its opener's lifetime, so two daemons can never write one state.
 * All errors come back as -errno: -EUCLEAN damaged or not ours, -EBUSY held by another process,
 * -ENOSPC disk full.
 */
#pragma once

#include <stdint.h>
#include "own.h"

struct store_file;

struct store_row {
	uint64_t sequence;
	const char *kind, *id, *account, *region, *text; /* text: the document as JSON */
};

/* Opens or makes the file (0600), checked for damage. *ret_version is 0 and *ret_is_new 1 for a new
 * one. */
int store_file_open(const char *path, struct store_file **ret_file, unsigned *ret_version,
		    int *ret_is_new);
void store_file_free(struct store_file *f);
OWN_DEFINE(struct store_file *, store_file_free);

/* Calls `row` for every document in order of sequence; ends at the first failure and returns it. */
int store_file_load(struct store_file *f, int (*row)(void *arg, const struct store_row *r),
		    void *arg);

/* One transaction: begin, any number of changes, then commit or, after any failure, rollback. */
int store_file_begin(struct store_file *f);
int store_file_put(struct store_file *f, const struct store_row *r);
int store_file_delete(struct store_file *f, const char *kind, const char *id);
int store_file_set_version(struct store_file *f, unsigned version);
int store_file_commit(struct store_file *f); /* durable when it returns 0 */
void store_file_rollback(struct store_file *f);
