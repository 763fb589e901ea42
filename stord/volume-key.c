/* Keys of encrypted volumes, and the images that are made with them. */
#include "volume-key.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include "confine.h"
#include "fiber.h"
#include "id.h"
#include "jsonx.h"
#include "log.h"
#include "own.h"
#include "run.h"

#define KEY_BYTES   32
#define NONCE_BYTES 12
#define TAG_BYTES   16
#define TRIES	    12

OWN_DEFINE(EVP_CIPHER_CTX *, EVP_CIPHER_CTX_free);

void volume_key_name(const char *volume_id, char ret_name[static FILE_NAME_MAX])
{
	snprintf(ret_name, FILE_NAME_MAX, "keys/%.40s.key", volume_id);
}

/* ---- files of a few bytes, on a worker ---- */

static int write_small(const char *path, const void *bytes, size_t n, int is_synced)
{
	char beside[FILE_PATH_MAX + 8];

	snprintf(beside, sizeof beside, "%s.new", path);
	OWN(fd_close)
	int fd = open(beside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0)
		return -errno;
	ssize_t w = write(fd, bytes, n);

	if (w != (ssize_t)n)
		return w < 0 ? -errno : -ENOSPC;
	if (is_synced && fsync(fd) < 0)
		return -errno;
	return file_place(beside, path, is_synced);
}

/* -ENODATA: there is no such file; -EBADMSG: it is of another length. */
static int read_small(const char *path, void *ret_bytes, size_t n)
{
	OWN(fd_close) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	char more;

	if (fd < 0)
		return errno == ENOENT ? -ENODATA : -errno;
	ssize_t r = read(fd, ret_bytes, n);

	return r < 0 ? -errno : r != (ssize_t)n || read(fd, &more, 1) != 0 ? -EBADMSG : 0;
}

/* ---- wrapping ---- */

/* AES-256-GCM: nonce, text, tag. The volume's id is authenticated with it, so that one volume's key
 * is not taken for another's. */
static int seal(const unsigned char *master, const char *volume_id, const unsigned char *key,
		unsigned char *ret_sealed)
{
	OWN(EVP_CIPHER_CTX_free) EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
	unsigned char *text = ret_sealed + NONCE_BYTES;
	int n;

	return c && RAND_bytes(ret_sealed, NONCE_BYTES) == 1 &&
			       EVP_EncryptInit_ex(c, EVP_aes_256_gcm(), NULL, master, ret_sealed) ==
				       1 &&
			       EVP_EncryptUpdate(c, NULL, &n, (const unsigned char *)volume_id,
						 (int)strlen(volume_id)) == 1 &&
			       EVP_EncryptUpdate(c, text, &n, key, KEY_BYTES) == 1 &&
			       EVP_EncryptFinal_ex(c, text + KEY_BYTES, &n) == 1 &&
			       EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_GCM_GET_TAG, TAG_BYTES,
						   text + KEY_BYTES) == 1
		       ? 0
		       : -EIO;
}

static int unseal(const unsigned char *master, const char *volume_id, unsigned char *sealed,
		  unsigned char *ret_key)
{
	OWN(EVP_CIPHER_CTX_free) EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
	unsigned char *text = sealed + NONCE_BYTES;
	int n;

	return c && EVP_DecryptInit_ex(c, EVP_aes_256_gcm(), NULL, master, sealed) == 1 &&
			       EVP_DecryptUpdate(c, NULL, &n, (const unsigned char *)volume_id,
						 (int)strlen(volume_id)) == 1 &&
			       EVP_DecryptUpdate(c, ret_key, &n, text, KEY_BYTES) == 1 &&
			       EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_GCM_SET_TAG, TAG_BYTES,
						   text + KEY_BYTES) == 1 &&
			       EVP_DecryptFinal_ex(c, ret_key + KEY_BYTES, &n) == 1
		       ? 0
		       : -EBADMSG;
}

/* ---- the keys ---- */

struct getting {
	char directory[FILE_PATH_MAX], master_path[FILE_PATH_MAX], path[FILE_PATH_MAX];
	const char *volume_id;
	int may_make, is_synced;
	char *key; /* result */
};

static int get_master(const struct getting *g, unsigned char *ret_master)
{
	int r = read_small(g->master_path, ret_master, KEY_BYTES);

	if (r != -ENODATA || !g->may_make)
		return r;
	if (mkdir(g->directory, 0700) < 0 && errno != EEXIST)
		return -errno;
	if (RAND_bytes(ret_master, KEY_BYTES) != 1)
		return -EIO;
	return write_small(g->master_path, ret_master, KEY_BYTES, g->is_synced);
}

/* On a worker; one at a time, for the first makes the master key. */
static int get_work(void *arg)
{
	struct getting *g = arg;
	unsigned char master[KEY_BYTES], key[KEY_BYTES + TAG_BYTES];
	unsigned char sealed[NONCE_BYTES + KEY_BYTES + TAG_BYTES];
	int r = get_master(g, master);

	if (r == 0)
		r = read_small(g->path, sealed, sizeof sealed);
	if (r == 0)
		r = unseal(master, g->volume_id, sealed, key);
	else if (r == -ENODATA && g->may_make) {
		r = RAND_bytes(key, KEY_BYTES) == 1 ? seal(master, g->volume_id, key, sealed)
						    : -EIO;
		if (r == 0)
			r = write_small(g->path, sealed, sizeof sealed, g->is_synced);
	}
	if (r == 0)
		EVP_EncodeBlock((unsigned char *)g->key, key, KEY_BYTES);
	OPENSSL_cleanse(master, sizeof master);
	OPENSSL_cleanse(key, sizeof key);
	return r;
}

int volume_key_get(struct daemon *d, const char *volume_id, int may_make,
		   char ret_key[static VOLUME_KEY_BYTES])
{
	static struct fiber_lock lock;
	struct getting g = {.volume_id = volume_id,
			    .may_make = may_make,
			    .is_synced = files_are_synced(d),
			    .key = ret_key};
	char name[FILE_NAME_MAX];

	file_path(d, "keys", g.directory);
	file_path(d, "keys/master", g.master_path);
	volume_key_name(volume_id, name);
	file_path(d, name, g.path);
	fiber_lock(&lock);
	int r = fiber_work(get_work, &g);

	fiber_unlock(&lock);
	return r;
}

/* ---- images ---- */

/* The passphrase in a file of its own for as long as qemu-img runs: a command line is seen by all.
 * tmp/ is emptied at every start. */
struct lent {
	char path[FILE_PATH_MAX];
	char object[FILE_PATH_MAX + 64]; /* qemu-img's argument */
};

static void lent_clear(struct lent *l)
{
	(void)file_remove(l->path, 0); /* at the next start */
}

static int lend(struct daemon *d, const char *volume_id, int may_make, struct lent *ret_lent)
{
	char key[VOLUME_KEY_BYTES], name[FILE_NAME_MAX];
	int r = volume_key_get(d, volume_id, may_make, key);

	snprintf(name, sizeof name, "tmp/%.40s.key", volume_id);
	file_path(d, name, ret_lent->path);
	snprintf(ret_lent->object, sizeof ret_lent->object, "secret,id=key,file=%s",
		 ret_lent->path);
	if (r == 0)
		r = write_small(ret_lent->path, key, strlen(key), 0);
	OPENSSL_cleanse(key, sizeof key);
	return r;
}

static int qemu_img(const struct confined_file *files, size_t n_files, const char *const *arguments)
{
	OWN(run_result_clear) struct run_result result = {0};
	int r = confine_qemu_img_chain(files, n_files, arguments, &result);

	if (r == 0 && result.status != 0) {
		log_warning(0, "qemu-img failed on an encrypted volume", "FILE", files[0].path,
			    "REASON", result.err);
		r = -EIO;
	}
	return r;
}

struct placing {
	const char *from, *to;
	int is_synced;
};

static int begin_work(void *arg)
{
	OWN(fd_close)
	int fd = open(arg, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0660);

	return fd < 0 ? -errno : 0;
}

static int place_work(void *arg)
{
	const struct placing *p = arg;
	OWN(fd_close) int fd = open(p->from, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

	if (fd < 0 || (p->is_synced && fsync(fd) < 0))
		return -errno;
	return file_place(p->from, p->to, p->is_synced);
}

/* qemu-img's name of an image alone, without what it stands on: neither its tables nor its size
 * need that, which would have to be opened by the key, too. NULL out of memory. */
static char *alone(const char *path)
{
	OWN(json_decref)
	json_t *image = json_pack("{s:s, s:n, s:{s:s}, s:{s:s, s:s}}", "driver", "qcow2", "backing",
				  "encrypt", "key-secret", "key", "file", "driver", "file",
				  "filename", path);
	OWN(free) char *text = image ? json_dumps(image, JSON_COMPACT) : NULL;
	char *name = NULL;

	return text && asprintf(&name, "json:%s", text) >= 0 ? name : NULL;
}

int volume_key_make_image(struct daemon *d, const char *volume_id, const char *path, int64_t bytes,
			  const char *backing)
{
	__attribute__((cleanup(lent_clear))) struct lent lent = {0};
	char beside[FILE_PATH_MAX + 8], size[24];

	snprintf(beside, sizeof beside, "%s.new", path);
	snprintf(size, sizeof size, "%lld", (long long)bytes);
	/* The passphrase is as random as the key under it: stretching it would only cost time. */
	static const char options[] =
		"encrypt.format=luks,encrypt.key-secret=key,encrypt.iter-time=10";
	const char *const empty[] = {"create", "-q",	"-f",	"qcow2", "--object", lent.object,
				     "-o",     options, beside, size,	 NULL};
	/* -u: what is under it is not opened. */
	const char *const over[] = {"create", "-q",    "-f", "qcow2", "--object", lent.object,
				    "-o",     options, "-u", "-b",    backing,	  "-F",
				    "qcow2",  beside,  size, NULL};
	const struct confined_file files[] = {{.path = beside, .is_written = 1},
					      {.path = lent.path}};
	struct placing p = {.from = beside, .to = path, .is_synced = files_are_synced(d)};
	int r = lend(d, volume_id, !backing, &lent);

	/* QEMU measures the CPU for LUKS' sake, and where a machine's clock of CPU time is coarse
	 * it gives up by chance ("Unable to get accurate CPU usage"). */
	for (int n = 0; n < TRIES && (r == 0 || n > 0); n++) {
		r = fiber_work(begin_work, beside);
		if (r == 0)
			r = qemu_img(files, 2, backing ? over : empty);
		if (r != -EIO)
			break;
	}
	return r == 0 ? fiber_work(place_work, &p) : r;
}

int volume_key_grow_image(struct daemon *d, const char *volume_id, const char *path, int64_t bytes)
{
	__attribute__((cleanup(lent_clear))) struct lent lent = {0};
	OWN(free) char *image = alone(path);
	char size[24];

	snprintf(size, sizeof size, "%lld", (long long)bytes);
	const char *const arguments[] = {"resize", "-q", "--object", lent.object,
					 image,	   size, NULL};
	const struct confined_file files[] = {{.path = path, .is_written = 1}, {.path = lent.path}};
	int r = image ? lend(d, volume_id, 0, &lent) : -ENOMEM;

	return r == 0 ? qemu_img(files, 2, arguments) : r;
}

int volume_key_check_image(struct daemon *d, const char *volume_id, const char *path,
			   int is_mending, struct run_result *ret_result)
{
	__attribute__((cleanup(lent_clear))) struct lent lent = {0};
	OWN(free) char *image = alone(path);
	const char *const look[] = {"check", "-q", "--object", lent.object, image, NULL};
	const char *const mend[] = {"check",	"-q",	     "-r",  "leaks",
				    "--object", lent.object, image, NULL};
	const struct confined_file files[] = {{.path = path, .is_written = is_mending},
					      {.path = lent.path}};
	int r = image ? lend(d, volume_id, 0, &lent) : -ENOMEM;

	return r == 0 ? confine_qemu_img_chain(files, 2, is_mending ? mend : look, ret_result) : r;
}
