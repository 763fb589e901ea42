/* Credentials: access keys in the store, and the file that shows root's. */
#include "credentials.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <string.h>
#include <sys/stat.h>
#include "jsonx.h"
#include "own.h"

#define KIND "access-key"

/* `n` random characters of an alphabet of `n_letters`, a power of two so that each is as likely as
 * any other. */
static int random_text(const char *letters, size_t n_letters, char *ret_text, size_t n)
{
	unsigned char bytes[64];
	if (n > sizeof(bytes) || RAND_bytes(bytes, (int)n) != 1)
		return -EIO;
	for (size_t i = 0; i < n; i++)
		ret_text[i] = letters[bytes[i] & (n_letters - 1)];
	ret_text[n] = '\0';
	OPENSSL_cleanse(bytes, sizeof(bytes));
	return 0;
}

static const struct doc *find_root(const struct store *s, const char *account)
{
	store_each (s, KIND, d)
		if (strcmp(d->account, account) == 0 && jbool(d->json, "_Root", 0))
			return d;
	return NULL;
}

static int make_root(struct store *s, const char *account)
{
	OWN(txn_free) struct txn *t = txn_new(s);
	char id[21] = "AKIA", secret[41], arn[64];
	if (!t)
		return -ENOMEM;
	int r = random_text("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", 32, id + 4, 16);
	if (r == 0)
		r = random_text("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/",
				64, secret, 40);
	if (r < 0)
		return r;
	snprintf(arn, sizeof(arn), "arn:aws:iam::%s:root", account);
	r = txn_put(t, KIND, id, account, "",
		    json_pack("{s:s, s:s, s:s, s:s, s:s, s:o, s:b}", "AccessKeyId", id,
			      "SecretAccessKey", secret, "Status", "Active", "_Principal", arn,
			      "_UserId", account, "CreateDate", jtime_now(), "_Root", 1));
	OPENSSL_cleanse(secret, sizeof(secret));
	return r < 0 ? r : txn_commit(t);
}

/* The file's text for this key, malloced. */
static char *file_text(const struct doc *d)
{
	char *text = NULL;
	if (asprintf(&text, "[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n",
		     d->id, jstr_or(d->json, "SecretAccessKey", "")) < 0)
		return NULL;
	return text;
}

/* The file holds `text`, and nobody else may read it. */
static int is_written(const char *path, const char *text)
{
	OWN(fd_close) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	char got[512];
	struct stat st;
	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || (st.st_mode & 0777) != 0600)
		return 0;
	ssize_t n = read(fd, got, sizeof(got));
	return n == (ssize_t)strlen(text) && memcmp(got, text, (size_t)n) == 0;
}

/* Written beside and renamed: whoever reads it sees all of it. */
static int write_file(const char *state_dir, const char *text)
{
	OWN(fd_close) int dir = open(state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return -errno;
	if (unlinkat(dir, ".root-credentials.new", 0) < 0 && errno != ENOENT)
		return -errno;
	OWN(fd_close)
	int fd =
		openat(dir, ".root-credentials.new", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	ssize_t n = write(fd, text, strlen(text));
	if (n != (ssize_t)strlen(text))
		return n < 0 ? -errno : -ENOSPC;
	if (fsync(fd) < 0 || renameat(dir, ".root-credentials.new", dir, "root-credentials") < 0 ||
	    fsync(dir) < 0)
		return -errno;
	return 0;
}

int credentials_open(struct store *s, const char *state_dir, const char *account)
{
	char path[512];
	int r = find_root(s, account) ? 0 : make_root(s, account);
	if (r < 0)
		return r;
	OWN(free) char *text = file_text(find_root(s, account));
	if (!text)
		return -ENOMEM;
	if ((size_t)snprintf(path, sizeof(path), "%s/root-credentials", state_dir) >= sizeof(path))
		return -ENAMETOOLONG;
	return is_written(path, text) ? 0 : write_file(state_dir, text);
}

int credentials_find(const struct store *s, const char *access_key_id, struct access_key *ret_key)
{
	const struct doc *d = store_find(s, KIND, access_key_id);
	if (!d || strcmp(jstr_or(d->json, "Status", ""), "Active") != 0 ||
	    !jstr(d->json, "SecretAccessKey"))
		return -ENOENT;
	*ret_key = (struct access_key){.secret = jstr(d->json, "SecretAccessKey"),
				       .account = d->account,
				       .principal = jstr_or(d->json, "_Principal", ""),
				       .user_id = jstr_or(d->json, "_UserId", "")};
	return 0;
}
