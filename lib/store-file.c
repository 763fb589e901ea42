/* The store's SQLite file. */
#include "store-file.h"

#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define APPLICATION_ID 1198879333 /* "Gure" */
#define TEXT(x)	       #x
#define TEXT_OF(x)     TEXT(x)

enum statement { BEGIN, PUT, DELETE, COMMIT, ROLLBACK, N_STATEMENTS };

static const char *const sql[N_STATEMENTS] = {
	[BEGIN] = "BEGIN IMMEDIATE",
	[PUT] = "INSERT INTO doc (sequence, kind, id, account, region, json) VALUES (?1, ?2, ?3, "
		"?4, ?5, ?6)"
		" ON CONFLICT (kind, id) DO UPDATE SET account = ?4, region = ?5, json = ?6",
	[DELETE] = "DELETE FROM doc WHERE kind = ?1 AND id = ?2",
	[COMMIT] = "COMMIT",
	[ROLLBACK] = "ROLLBACK",
};

struct store_file {
	sqlite3 *db;
	sqlite3_stmt *statement[N_STATEMENTS];
};

static int errno_of(int rc)
{
	switch (rc & 0xff) {
	case SQLITE_OK:
	case SQLITE_DONE:
	case SQLITE_ROW:
		return 0;
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
	case SQLITE_SCHEMA:
	case SQLITE_MISMATCH:
	case SQLITE_CONSTRAINT:
		return -EUCLEAN;
	case SQLITE_FULL:
		return -ENOSPC;
	case SQLITE_NOMEM:
		return -ENOMEM;
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		return -EBUSY;
	case SQLITE_READONLY:
		return -EROFS;
	case SQLITE_PERM:
	case SQLITE_AUTH:
		return -EACCES;
	case SQLITE_CANTOPEN:
		return -ENOENT;
	case SQLITE_TOOBIG:
		return -EMSGSIZE;
	default:
		return -EIO;
	}
}

static int run_text(sqlite3 *db, const char *text)
{
	return errno_of(sqlite3_exec(db, text, NULL, NULL, NULL));
}

/* The one value that a query gives, as an integer. */
static int ask_integer(sqlite3 *db, const char *text, int64_t *ret_value)
{
	sqlite3_stmt *q = NULL;
	int rc = sqlite3_prepare_v2(db, text, -1, &q, NULL);

	if (rc == SQLITE_OK)
		rc = sqlite3_step(q);
	if (rc == SQLITE_ROW)
		*ret_value = sqlite3_column_int64(q, 0);
	sqlite3_finalize(q);
	return rc == SQLITE_DONE ? -EUCLEAN : errno_of(rc);
}

static int check_for_damage(sqlite3 *db)
{
	sqlite3_stmt *q = NULL;
	int rc = sqlite3_prepare_v2(db, "PRAGMA quick_check(1)", -1, &q, NULL), r = errno_of(rc);

	if (rc == SQLITE_OK) {
		rc = sqlite3_step(q);
		const char *answer =
			rc == SQLITE_ROW ? (const char *)sqlite3_column_text(q, 0) : NULL;

		r = errno_of(rc);
		if (r == 0 && (!answer || strcmp(answer, "ok") != 0))
			r = -EUCLEAN;
	}
	sqlite3_finalize(q);
	return r;
}

/* Makes the table where there is nothing yet; a file with something else in it is not ours to
 * touch. */
static int make_or_recognise(sqlite3 *db, unsigned *ret_version, int *ret_is_new)
{
	static const char schema[] =
		"BEGIN IMMEDIATE;"
		"CREATE TABLE doc (sequence INTEGER PRIMARY KEY, kind TEXT NOT NULL, id TEXT NOT "
		"NULL,"
		" account TEXT NOT NULL, region TEXT NOT NULL, json TEXT NOT NULL,"
		" UNIQUE (kind, id)) STRICT;"
		"PRAGMA application_id = " TEXT_OF(APPLICATION_ID) ";"
								   "COMMIT";
	int64_t n_objects = 0, application = 0, version = 0;
	int r = ask_integer(db, "SELECT count(*) FROM sqlite_master", &n_objects);

	if (r == 0)
		r = ask_integer(db, "PRAGMA application_id", &application);
	if (r == 0)
		r = ask_integer(db, "PRAGMA user_version", &version);
	if (r < 0)
		return r;
	if (n_objects > 0 && application != APPLICATION_ID)
		return -EUCLEAN;
	*ret_is_new = n_objects == 0;
	*ret_version = (unsigned)version;
	return *ret_is_new ? run_text(db, schema) : check_for_damage(db);
}

int store_file_open(const char *path, struct store_file **ret_file, unsigned *ret_version,
		    int *ret_is_new)
{
	/* EXCLUSIVE before WAL: the lock is held for good and no shared-memory file is needed.
	 * FULL: every commit is flushed. The page cache is small because reads never come here. */
	static const char settings[] =
		"PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = "
		"FULL;"
		"PRAGMA cache_size = -512; PRAGMA journal_size_limit = 4194304;"
		"PRAGMA trusted_schema = OFF; BEGIN IMMEDIATE; COMMIT";
	OWN(store_file_free) struct store_file *f = calloc(1, sizeof *f);
	/* SQLite would make it by the umask; its -wal takes over the file's mode. */
	OWN(fd_close) int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (!f)
		return -ENOMEM;
	if (fd < 0)
		return -errno;
	(void)close(give(fd)); /* a later close would drop SQLite's locks on the same file */
	int r = errno_of(sqlite3_open_v2(
		path, &f->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_NOFOLLOW,
		NULL));

	if (r == 0)
		r = run_text(f->db, settings);
	if (r == 0)
		r = make_or_recognise(f->db, ret_version, ret_is_new);
	for (int i = 0; r == 0 && i < N_STATEMENTS; i++)
		r = errno_of(sqlite3_prepare_v3(f->db, sql[i], -1, SQLITE_PREPARE_PERSISTENT,
						&f->statement[i], NULL));
	if (r < 0)
		return r;
	*ret_file = give(f);
	return 0;
}

void store_file_free(struct store_file *f)
{
	if (!f)
		return;
	for (int i = 0; i < N_STATEMENTS; i++)
		sqlite3_finalize(f->statement[i]);
	sqlite3_close(f->db);
	free(f);
}

int store_file_load(struct store_file *f, int (*row)(void *arg, const struct store_row *r),
		    void *arg)
{
	sqlite3_stmt *q = NULL;
	int rc = sqlite3_prepare_v2(
		f->db,
		"SELECT sequence, kind, id, account, region, json FROM doc ORDER BY sequence", -1,
		&q, NULL);
	int r = errno_of(rc);

	while (r == 0 && (rc = sqlite3_step(q)) == SQLITE_ROW) {
		struct store_row here = {
			.sequence = (uint64_t)sqlite3_column_int64(q, 0),
			.kind = (const char *)sqlite3_column_text(q, 1),
			.id = (const char *)sqlite3_column_text(q, 2),
			.account = (const char *)sqlite3_column_text(q, 3),
			.region = (const char *)sqlite3_column_text(q, 4),
			.text = (const char *)sqlite3_column_text(q, 5),
		};

		r = here.kind && here.id && here.account && here.region && here.text
			    ? row(arg, &here)
			    : -ENOMEM;
	}
	sqlite3_finalize(q);
	return r < 0 ? r : errno_of(rc);
}

static int step(struct store_file *f, enum statement i)
{
	int rc = sqlite3_step(f->statement[i]);

	(void)sqlite3_reset(f->statement[i]); /* repeats the error of the step */
	return errno_of(rc);
}

static void bind_text(struct store_file *f, enum statement i, int column, const char *text)
{
	/* Fails for a wrong column only; the text outlives the step. */
	(void)sqlite3_bind_text(f->statement[i], column, text, -1, SQLITE_STATIC);
}

int store_file_begin(struct store_file *f)
{
	return step(f, BEGIN);
}

int store_file_put(struct store_file *f, const struct store_row *r)
{
	(void)sqlite3_bind_int64(f->statement[PUT], 1, (sqlite3_int64)r->sequence);
	bind_text(f, PUT, 2, r->kind);
	bind_text(f, PUT, 3, r->id);
	bind_text(f, PUT, 4, r->account);
	bind_text(f, PUT, 5, r->region);
	bind_text(f, PUT, 6, r->text);
	return step(f, PUT);
}

int store_file_delete(struct store_file *f, const char *kind, const char *id)
{
	bind_text(f, DELETE, 1, kind);
	bind_text(f, DELETE, 2, id);
	return step(f, DELETE);
}

int store_file_set_version(struct store_file *f, unsigned version)
{
	char text[64];

	snprintf(text, sizeof text, "PRAGMA user_version = %u", version);
	return run_text(f->db, text);
}

int store_file_commit(struct store_file *f)
{
	return step(f, COMMIT);
}

void store_file_rollback(struct store_file *f)
{
	/* SQLite may have rolled back by itself (disk full): then this fails, and all is well. */
	if (!sqlite3_get_autocommit(f->db))
		(void)step(f, ROLLBACK);
}
