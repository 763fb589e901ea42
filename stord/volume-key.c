/* Keys of encrypted volumes, how tools get them, and the images that are made with them. */
#include "volume-key.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include "confine.h"
#include "fiber.h"
#include "id.h"
#include "jsonx.h"
#include "layer.h"
#include "log.h"
#include "luks.h"
#include "own.h"
#include "qcow2.h"
#include "run.h"
#include "step.h"
#include "stord.h"

#define KEY_BYTES   32
#define NONCE_BYTES 12
#define TAG_BYTES   16

OWN_DEFINE(EVP_CIPHER_CTX *, EVP_CIPHER_CTX_free);

void volume_key_name(const char *volume_id, char ret_name[static FILE_NAME_MAX])
{
	snprintf(ret_name, FILE_NAME_MAX, "keys/%.40s.key", volume_id);
}

/* ---- files of a few bytes, on a worker ---- */

struct small {
	const void *bytes;
	size_t n;
};

static int fill_small(int fd, const void *arg)
{
	const struct small *s = arg;
	ssize_t n = write(fd, s->bytes, s->n);

	return n < 0 ? -errno : n == (ssize_t)s->n ? 0 : -ENOSPC;
}

static int write_small(const char *path, const void *bytes, size_t n, int is_synced)
{
	struct small s = {bytes, n};

	step("a key's file");
	return file_make(path, 0600, is_synced, fill_small, &s);
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

int volume_key_of_layer(struct daemon *d, const char *layer, int may_make,
			char ret_key[static VOLUME_KEY_BYTES])
{
	const struct doc *l = layer_find(d->store, layer);
	char owner[ID_MAX];

	ret_key[0] = '\0';
	if (!l || !jstr(l->json, "Key"))
		return 0;
	snprintf(owner, sizeof owner, "%s", jstr(l->json, "Key"));
	return volume_key_get(d, owner, may_make, ret_key);
}

void volume_key_drop(struct daemon *d, const char *volume_id)
{
	OWN(txn_free) struct txn *t = txn_new(d->store);
	int r = t ? layer_release_key(t, volume_id) : -ENOMEM;

	if (r == 0)
		r = txn_commit(t);
	if (r < 0)
		log_warning(r, "a key of nothing stays", "OWNER", volume_id);
	unlink_marked(d);
}

/* ---- lending ---- */

void volume_key_lent_clear(struct volume_key_lent *l)
{
	if (l->fd >= 0)
		close(l->fd);
	l->fd = -1;
}

int volume_key_lend(struct daemon *d, const char *volume_id, struct volume_key_lent *ret_lent)
{
	char key[VOLUME_KEY_BYTES];
	int r = volume_key_get(d, volume_id, 0, key);

	if (r < 0)
		return r;
	OWN(fd_close) int fd = memfd_create("key", MFD_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : write(fd, key, strlen(key));

	r = fd < 0 || n < 0 ? -errno : n == (ssize_t)strlen(key) ? 0 : -EIO;
	OPENSSL_cleanse(key, sizeof key);
	if (r < 0)
		return r;
	snprintf(ret_lent->object, sizeof ret_lent->object, "secret,id=key,file=/proc/self/fd/%d",
		 fd);
	ret_lent->fd = give(fd);
	return 0;
}

static json_t *image_of(json_t *backing, const char *path)
{
	return json_pack("{s:s, s:o, s:{s:s, s:s}, s:{s:s, s:s}}", "driver", "qcow2", "backing",
			 backing, "encrypt", "format", "luks", "key-secret", "key", "file",
			 "driver", "file", "filename", path);
}

static char *name_of(json_t *taken)
{
	OWN(json_decref) json_t *image = taken;
	OWN(free) char *text = image ? json_dumps(image, JSON_COMPACT) : NULL;
	char *name = NULL;

	return text && asprintf(&name, "json:%s", text) >= 0 ? name : NULL;
}

char *volume_key_alone(const char *path)
{
	return name_of(image_of(json_null(), path));
}

char *volume_key_chain(const struct daemon *d, const char *layer)
{
	const char *way[CONFINE_CHAIN_MAX];
	char path[FILE_PATH_MAX];
	json_t *image = json_null();
	size_t n = 0;

	for (; layer && n < CONFINE_CHAIN_MAX; n++) {
		const struct doc *l = layer_find(d->store, layer);

		way[n] = layer;
		layer = l ? jstr(l->json, "Backing") : NULL;
	}
	while (n-- > 0) {
		file_path(d, way[n], path);
		image = image_of(image, path);
	}
	return name_of(image);
}

/* ---- images ---- */

struct making {
	const char *path, *backing, *passphrase;
	int64_t bytes;
	int is_synced;
};

static int fill_image(int fd, const void *arg)
{
	const struct making *m = arg;
	OWN(luks_free) struct luks *luks = NULL;
	OWN(free) uint8_t *header = NULL;
	int r = luks_make(m->passphrase, &luks, &header);

	return r == 0 ? qcow2_write_encrypted(fd, (uint64_t)m->bytes, m->backing, "qcow2", header)
		      : r;
}

/* On a worker. */
static int make_work(void *arg)
{
	const struct making *m = arg;

	step("a layer's file");
	return file_make(m->path, 0660, m->is_synced, fill_image, m);
}

int volume_key_make_image(struct daemon *d, const char *volume_id, const char *path, int64_t bytes,
			  const char *backing)
{
	char key[VOLUME_KEY_BYTES];
	struct making m = {.path = path,
			   .backing = backing,
			   .passphrase = key,
			   .bytes = bytes,
			   .is_synced = files_are_synced(d)};
	int r = volume_key_get(d, volume_id, !backing, key);

	if (r == 0)
		r = fiber_work(make_work, &m);
	OPENSSL_cleanse(key, sizeof key);
	return r;
}

int volume_key_grow_image(struct daemon *d, const char *volume_id, const char *path, int64_t bytes)
{
	OWN(volume_key_lent_clear) struct volume_key_lent lent = VOLUME_KEY_NOT_LENT;
	OWN(run_result_clear) struct run_result result = {0};
	OWN(free) char *image = volume_key_alone(path);
	char size[24];

	snprintf(size, sizeof size, "%lld", (long long)bytes);
	const char *const arguments[] = {"resize", "-q", "--object", lent.object,
					 image,	   size, NULL};
	const struct confined_file file = {.path = path, .is_written = 1};
	int r = image ? volume_key_lend(d, volume_id, &lent) : -ENOMEM;

	if (r == 0)
		r = confine_qemu_img_chain(&file, 1, lent.fd, -1, arguments, &result);
	if (r == 0 && result.status != 0) {
		log_warning(0, "qemu-img failed on an encrypted volume", "FILE", path, "REASON",
			    result.err);
		r = -EIO;
	}
	return r;
}

int volume_key_check_image(struct daemon *d, const char *volume_id, const char *path,
			   int is_mending, struct run_result *ret_result)
{
	OWN(volume_key_lent_clear) struct volume_key_lent lent = VOLUME_KEY_NOT_LENT;
	OWN(free) char *image = volume_key_alone(path);
	const char *const look[] = {"check", "-q", "--object", lent.object, image, NULL};
	const char *const mend[] = {"check",	"-q",	     "-r",  "leaks",
				    "--object", lent.object, image, NULL};
	const struct confined_file file = {.path = path, .is_written = is_mending};
	int r = image ? volume_key_lend(d, volume_id, &lent) : -ENOMEM;

	return r == 0 ? confine_qemu_img_chain(&file, 1, lent.fd, -1, is_mending ? mend : look,
					       ret_result)
		      : r;
}
