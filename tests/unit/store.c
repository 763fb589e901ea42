/* The store keeps what it acknowledged, and nothing else, whatever happens. */
#include "tap.h"
#include "store.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sqlite3.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

static char dir[64], path[96];

static void fresh(void)
{
	char command[160];

	snprintf(command, sizeof command, "rm -rf %s && mkdir %s", dir, dir);
	if (system(command) != 0)
		exit(1);
}

static struct store *open_or_die(void)
{
	struct store *s = NULL;
	int r = store_open(path, 1, NULL, &s);

	if (r < 0) {
		printf("Bail out! store_open: %s\n", strerror(-r));
		exit(1);
	}
	return s;
}

static int put(struct txn *t, const char *kind, const char *id, int n)
{
	return txn_put(t, kind, id, "123456789012", "us-east-1", json_pack("{s:i}", "N", n));
}

static int n_of(const struct doc *d)
{
	return d ? (int)json_integer_value(json_object_get(d->json, "N")) : -1;
}

static void what_is_committed_is_there_after_opening_again(void)
{
	fresh();
	{
		OWN(store_free) struct store *s = open_or_die();
		OWN(txn_free) struct txn *t = txn_new(s);

		put(t, "vpc", "vpc-1", 1);
		put(t, "subnet", "vpc-1", 2);
		put(t, "vpc", "vpc-2", 3);
		ok(!store_find(s, "vpc", "vpc-1"), "not seen before the commit");
		is_int(txn_commit(t), 0, "committed");
		put(t, "vpc", "vpc-3", 4);
	}
	OWN(store_free) struct store *s = open_or_die();

	is_int(n_of(store_find(s, "vpc", "vpc-1")), 1, "first");
	is_int(n_of(store_find(s, "subnet", "vpc-1")), 2, "the same id in another kind");
	is_int(store_count(s, "vpc"), 2, "what was not committed is not there");
	is_int(store_count(s, "nothing"), 0, "an unknown kind is empty");
}

static void order_is_that_of_creation(void)
{
	fresh();
	char seen[64] = "";
	{
		OWN(store_free) struct store *s = open_or_die();
		OWN(txn_free) struct txn *t = txn_new(s);

		put(t, "k", "c", 1);
		put(t, "k", "a", 1);
		put(t, "k", "b", 1);
		txn_commit(t);
		put(t, "k", "d", 1);
		put(t, "k", "c", 2); /* a change does not move it */
		txn_delete(t, "k", "a");
		txn_commit(t);
		store_each (s, "k", d)
			strcat(seen, d->id);
		is_str(seen, "cbd", "in memory");
	}
	OWN(store_free) struct store *s = open_or_die();

	seen[0] = '\0';
	store_each (s, "k", d)
		strcat(seen, d->id);
	is_str(seen, "cbd", "after opening again");
	is_int(n_of(store_find(s, "k", "c")), 2, "changed");
}

static void the_last_change_of_a_transaction_counts(void)
{
	fresh();
	OWN(store_free) struct store *s = open_or_die();
	OWN(txn_free) struct txn *t = txn_new(s);

	put(t, "k", "a", 1);
	put(t, "k", "a", 2);
	put(t, "k", "b", 1);
	txn_delete(t, "k", "b");
	txn_delete(t, "k", "never");
	is_int(json_integer_value(json_object_get(txn_look(t, "k", "a"), "N")), 2, "looked at");
	ok(!txn_look(t, "k", "b"), "deleted within");
	is_int(txn_commit(t), 0, "committed");
	is_int(n_of(store_find(s, "k", "a")), 2, "the last put");
	ok(!store_find(s, "k", "b"), "the last was a delete");
	txn_delete(t, "k", "a");
	put(t, "k", "a", 5);
	txn_commit(t);
	is_int(n_of(store_find(s, "k", "a")), 5, "made again");
	is_int(store_count(s, "k"), 1, "one");
	ok(json_object_size(txn_look(t, "k", "a")) == 1, "untouched: what is committed");
}

static void each_account_and_region_sees_its_own(void)
{
	fresh();
	OWN(store_free) struct store *s = open_or_die();
	OWN(txn_free) struct txn *t = txn_new(s);
	struct context ctx = {.account = "123456789012", .region = "us-east-1"};

	put(t, "k", "a", 1);
	txn_commit(t);
	ok(store_get(s, &ctx, "k", "a"), "own");
	strcpy(ctx.region, "eu-west-1");
	ok(!store_get(s, &ctx, "k", "a"), "another region");
	strcpy(ctx.region, "us-east-1");
	strcpy(ctx.account, "999999999999");
	ok(!store_get(s, &ctx, "k", "a"), "another account");
	ok(!store_get(s, &ctx, "k", NULL), "no id");
}

static void a_document_is_not_changed_in_place(void)
{
	fresh();
	OWN(store_free) struct store *s = open_or_die();
	OWN(txn_free) struct txn *t = txn_new(s);

	txn_put(t, "k", "a", "1", "r", json_pack("{s:{s:i}}", "In", "N", 1));
	txn_commit(t);
	const struct doc *d = store_find(s, "k", "a");
	json_t *copy = doc_edit(d);
	OWN(json_decref) json_t *kept = json_incref(d->json);

	json_object_set_new(json_object_get(copy, "In"), "N", json_integer(2));
	is_int(json_integer_value(json_object_get(json_object_get(d->json, "In"), "N")), 1,
	       "the copy is deep");
	txn_replace(t, d, copy);
	txn_commit(t);
	is_int(json_integer_value(json_object_get(json_object_get(kept, "In"), "N")), 1,
	       "a kept one stays as it was");
	is_str(store_find(s, "k", "a")->account, "1", "owner stays");
}

static void odd_text_comes_back(void)
{
	fresh();
	{
		OWN(store_free) struct store *s = open_or_die();
		OWN(txn_free) struct txn *t = txn_new(s);

		txn_put(t, "k", "구'\"", "", "",
			json_pack("{s:s, s:o}", "S", "구름 \"'; DROP TABLE doc; --\n", "Z",
				  json_stringn("a\0b", 3)));
		is_int(txn_commit(t), 0, "committed");
	}
	OWN(store_free) struct store *s = open_or_die();
	const struct doc *d = store_find(s, "k", "구'\"");

	ok(d != NULL, "found by an odd id");
	is_str(d ? json_string_value(json_object_get(d->json, "S")) : NULL,
	       "구름 \"'; DROP TABLE doc; --\n", "odd text");
	is_int(d ? json_string_length(json_object_get(d->json, "Z")) : 0, 3, "NUL inside");
}

static int migrate_n(struct txn *t, unsigned from)
{
	store_each (txn_store(t), "k", d) {
		json_t *j = doc_edit(d);

		json_object_set_new(j, "N", json_integer(n_of(d) + 100 * (int)from));
		txn_replace(t, d, j);
	}
	return 0;
}

static int migrate_badly(struct txn *t, unsigned from)
{
	(void)migrate_n(t, from);
	return -EINVAL;
}

static void versions_go_up_only(void)
{
	struct store *s = NULL;

	fresh();
	s = open_or_die();
	OWN(txn_free) struct txn *t = txn_new(s);
	put(t, "k", "a", 7);
	txn_commit(t);
	store_free(s);
	is_int(store_open(path, 2, migrate_badly, &s), -EINVAL,
	       "a failed migration fails the opening");
	is_int(store_open(path, 2, migrate_n, &s), 0, "migrated");
	is_int(n_of(store_find(s, "k", "a")), 107, "once, from 1");
	store_free(s);
	is_int(store_open(path, 2, migrate_badly, &s), 0, "not again");
	is_int(n_of(store_find(s, "k", "a")), 107, "durable");
	store_free(s);
	is_int(store_open(path, 1, NULL, &s), -EPROTONOSUPPORT, "a newer file is refused");
}

static void two_cannot_hold_one_file(void)
{
	struct store *again = NULL;

	fresh();
	OWN(store_free) struct store *s = open_or_die();
	pid_t pid = fork();

	if (pid == 0)
		_exit(store_open(path, 1, NULL, &again) == -EBUSY ? 0 : 1);
	int status;

	waitpid(pid, &status, 0);
	is_int(status, 0, "-EBUSY in another process");
	struct stat st;

	is_int(stat(path, &st), 0, "a file");
	is_int(st.st_mode & 0777, 0600, "nobody else reads it");
}

static void write_file(const char *name, const char *bytes, size_t n)
{
	int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	if (fd < 0 || write(fd, bytes, n) != (ssize_t)n)
		exit(1);
	close(fd);
}

static void damage_is_noticed(void)
{
	struct store *s = NULL;
	sqlite3 *db;

	fresh();
	write_file(path, "this is no database, but a text of more than sixteen bytes", 58);
	is_int(store_open(path, 1, NULL, &s), -EUCLEAN, "not a database");

	fresh();
	sqlite3_open(path, &db);
	sqlite3_exec(db, "CREATE TABLE other (x)", NULL, NULL, NULL);
	sqlite3_close(db);
	is_int(store_open(path, 1, NULL, &s), -EUCLEAN, "somebody else's database");

	fresh();
	s = open_or_die();
	OWN(txn_free) struct txn *t = txn_new(s);
	for (int i = 0; i < 500; i++) {
		char id[16];

		snprintf(id, sizeof id, "id-%d", i);
		put(t, "k", id, i);
	}
	txn_commit(t);
	store_free(s);
	struct stat st;
	int fd = open(path, O_RDWR);
	char junk[4096];

	fstat(fd, &st);
	memset(junk, 0xa5, sizeof junk);
	ok(pwrite(fd, junk, sizeof junk, 8192) == sizeof junk, "a page overwritten");
	is_int(store_open(path, 1, NULL, &s), -EUCLEAN, "a damaged page");
	ok(ftruncate(fd, st.st_size / 2) == 0, "cut in half");
	is_int(store_open(path, 1, NULL, &s), -EUCLEAN, "a file cut in half");
	close(fd);

	fresh();
	s = open_or_die();
	store_free(s);
	sqlite3_open(path, &db);
	sqlite3_exec(db, "INSERT INTO doc VALUES (1, 'k', 'i', '', '', '{\"half\": ')", NULL, NULL,
		     NULL);
	sqlite3_close(db);
	is_int(store_open(path, 1, NULL, &s), -EUCLEAN, "a document that is no JSON");
}

static void a_missing_directory_is_an_error(void)
{
	struct store *s = NULL;

	is_int(store_open("/nonexistent/dir/state.db", 1, NULL, &s), -ENOENT, "-ENOENT");
}

/* Fills until a commit fails; returns 0 when memory and file then agree and it works again after
 * `relieve`. */
static int fill_until_refused(int want, void (*relieve)(void))
{
	struct store *s = open_or_die();
	struct txn *t = txn_new(s);
	char id[16], big[2000];
	int i, r = 0;

	memset(big, 'x', sizeof big - 1);
	big[sizeof big - 1] = '\0';
	for (i = 0; i < 2000 && r == 0; i++) {
		snprintf(id, sizeof id, "id-%d", i);
		txn_put(t, "k", id, "", "", json_pack("{s:s}", "Big", big));
		r = txn_commit(t);
	}
	if (r != want || store_find(s, "k", id) || store_count(s, "k") != (size_t)i - 1)
		return 1;
	relieve();
	if (txn_commit(t) != 0 || !store_find(s, "k", id))
		return 2;
	txn_free(t);
	store_free(s);
	s = open_or_die();
	return store_count(s, "k") == (size_t)i ? 0 : 3;
}

static void grow_tmpfs(void)
{
	if (mount("none", dir, NULL, MS_REMOUNT, "size=64m") < 0)
		_exit(9);
}

static void lift_limit(void)
{
	setrlimit(RLIMIT_FSIZE, &(struct rlimit){RLIM_INFINITY, RLIM_INFINITY});
}

static void a_full_disk_changes_nothing(void)
{
	int status;

	fresh();
	pid_t pid = fork();

	if (pid == 0) {
		if (unshare(CLONE_NEWNS) < 0 ||
		    mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
		    mount("none", dir, "tmpfs", 0, "size=256k") < 0)
			_exit(77);
		_exit(fill_until_refused(-ENOSPC, grow_tmpfs));
	}
	waitpid(pid, &status, 0);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
		skip("mounting a small tmpfs needs root");
	else
		is_int(WEXITSTATUS(status), 0, "refused, then taken when there is room");
	fresh();
	pid = fork();
	if (pid == 0) {
		signal(SIGXFSZ, SIG_IGN);
		setrlimit(RLIMIT_FSIZE, &(struct rlimit){200000, RLIM_INFINITY});
		_exit(fill_until_refused(-EIO, lift_limit));
	}
	waitpid(pid, &status, 0);
	is_int(WEXITSTATUS(status), 0, "a file that may not grow: the same");
}

/* Commits pairs for ever and says each number once it is acknowledged. */
static void commit_for_ever(int out)
{
	struct store *s = open_or_die();
	struct txn *t = txn_new(s);

	for (int n = (int)store_count(s, "left"); t; n++) {
		char id[32];

		snprintf(id, sizeof id, "id-%d", n);
		put(t, "left", id, n);
		put(t, "right", id, n);
		txn_put(t, "count", "one", "", "", json_pack("{s:i}", "N", n));
		if (txn_commit(t) < 0 || write(out, &n, sizeof n) != sizeof n)
			_exit(1);
	}
}

static void kill_9_loses_nothing_acknowledged(void)
{
	int rounds = 40, whole = 1, kept = 1, last = -1;

	fresh();
	for (int round = 0; round < rounds; round++) {
		int p[2];

		if (pipe2(p, O_CLOEXEC) < 0)
			exit(1);
		pid_t pid = fork();

		if (pid == 0)
			commit_for_ever(p[1]);
		close(p[1]);
		/* Killed at a moment of its own choosing: after a random number of
		 * acknowledgements, or during opening. */
		for (int n, i = rand() % 30; i > 0 && read(p[0], &n, sizeof n) == sizeof n; i--)
			last = n;
		nanosleep(&(struct timespec){0, rand() % 3000000}, NULL);
		kill(pid, SIGKILL);
		for (int n; read(p[0], &n, sizeof n) == sizeof n;)
			last = n;
		close(p[0]);
		waitpid(pid, NULL, 0);
		OWN(store_free) struct store *s = open_or_die();

		whole &= store_count(s, "left") == store_count(s, "right");
		whole &= n_of(store_find(s, "count", "one")) == (int)store_count(s, "left") - 1;
		kept &= (int)store_count(s, "left") > last;
	}
	ok(whole, "every transaction is whole");
	ok(kept, "every acknowledged one is there");
	ok(last > 0, "there were some");
}

static char watched[128];

static void note_change(void *userdata, const struct doc *before, const struct doc *after)
{
	size_t n = strlen(watched);

	(void)userdata;
	snprintf(watched + n, sizeof watched - n, "%d>%d ", n_of(before), n_of(after));
}

static void a_watcher_sees_each_commit_and_nothing_else(void)
{
	fresh();
	OWN(store_free) struct store *s = open_or_die();
	OWN(txn_free) struct txn *t = txn_new(s);

	is_int(store_watch(s, "vpc", note_change, NULL), 0, "a kind that has no documents yet");
	put(t, "vpc", "vpc-1", 1);
	put(t, "vpc", "vpc-1", 2);
	put(t, "subnet", "subnet-1", 9);
	is_str(watched, "", "not before the commit");
	txn_commit(t);
	is_str(watched, "-1>2 ", "made: the last form, and no other kind's");
	put(t, "vpc", "vpc-1", 3);
	txn_commit(t);
	txn_delete(t, "vpc", "vpc-1");
	txn_commit(t);
	is_str(watched, "-1>2 2>3 3>-1 ", "changed, deleted");
	put(t, "vpc", "vpc-2", 1);
	txn_delete(t, "vpc", "vpc-2");
	txn_commit(t);
	is_str(watched, "-1>2 2>3 3>-1 ", "what never was is not told");
}

static void ten_thousand_are_found_at_once(void)
{
	fresh();
	OWN(store_free) struct store *s = open_or_die();
	OWN(txn_free) struct txn *t = txn_new(s);
	char id[32];
	int found = 0;

	for (int i = 0; i < 10000; i++) {
		snprintf(id, sizeof id, "i-%017x", i * 7919);
		put(t, "instance", id, i);
	}
	is_int(txn_commit(t), 0, "in one transaction");
	for (int i = 0; i < 10000; i++) {
		snprintf(id, sizeof id, "i-%017x", i * 7919);
		found += n_of(store_find(s, "instance", id)) == i;
	}
	is_int(found, 10000, "each by id");
	for (int i = 0; i < 10000; i += 2) {
		snprintf(id, sizeof id, "i-%017x", i * 7919);
		txn_delete(t, "instance", id);
	}
	is_int(txn_commit(t), 0, "half deleted");
	found = 0;
	store_each (s, "instance", d)
		found += n_of(d) % 2;
	is_int(found, 5000, "the other half is left");
}

int main(void)
{
	snprintf(dir, sizeof dir, "/tmp/gureum-store-%d", getpid());
	snprintf(path, sizeof path, "%s/state.db", dir);
	srand(1);
	RUN(what_is_committed_is_there_after_opening_again);
	RUN(order_is_that_of_creation);
	RUN(the_last_change_of_a_transaction_counts);
	RUN(each_account_and_region_sees_its_own);
	RUN(a_document_is_not_changed_in_place);
	RUN(odd_text_comes_back);
	RUN(versions_go_up_only);
	RUN(two_cannot_hold_one_file);
	RUN(damage_is_noticed);
	RUN(a_missing_directory_is_an_error);
	RUN(a_full_disk_changes_nothing);
	RUN(kill_9_loses_nothing_acknowledged);
	RUN(a_watcher_sees_each_commit_and_nothing_else);
	RUN(ten_thousand_are_found_at_once);
	char command[96];

	snprintf(command, sizeof command, "rm -rf %s", dir);
	if (system(command) != 0)
		return 1;
	return tests_done();
}
