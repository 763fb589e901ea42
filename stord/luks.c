/* LUKS inside qcow2: header, key slot, sectors. */
#include "luks.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include "bytes.h"

#define KEY_BYTES      64 /* two keys: XTS */
#define DIGEST_BYTES   32
#define SALT_BYTES     32
#define CHECK_BYTES    20
#define STRIPES	       4000
#define MATERIAL_BYTES (STRIPES * KEY_BYTES)
#define N_SLOTS	       8
#define SLOT_SECTORS   504 /* of key material, and room to a multiple of 4096 */
#define ITERATIONS     1000
/* Of all slots together, some tenths of a second. QEMU was asked for what takes ten milliseconds when
 * it still made these; who writes more into a header wants our workers to be busy. */
#define ITERATIONS_MAX (1u << 17)
#define SLOT_ACTIVE    0x00ac71f3u
#define SLOT_FREE      0x0000deadu
#define SEAL_NUMBER    (UINT64_C(1) << 63) /* no sector has such a number */
#define N_KNOWN	       128

struct slot {
	uint32_t active, iterations;
	uint8_t salt[SALT_BYTES];
	uint32_t offset_sectors, stripes;
} __attribute__((packed));

/* All numbers big endian. */
struct header {
	uint8_t magic[6];
	uint16_t version;
	char cipher[32], mode[32], hash[32];
	uint32_t payload_sectors, key_bytes;
	uint8_t check[CHECK_BYTES], check_salt[SALT_BYTES];
	uint32_t check_iterations;
	char uuid[40];
	struct slot slots[N_SLOTS];
} __attribute__((packed));

_Static_assert(sizeof(struct header) == 592, "as the format has it");

static const uint8_t magic[6] = {'L', 'U', 'K', 'S', 0xba, 0xbe};

struct luks {
	uint8_t key[KEY_BYTES];
};

OWN_DEFINE(EVP_CIPHER_CTX *, EVP_CIPHER_CTX_free);

/* ---- sectors ---- */

static int run_unit(EVP_CIPHER_CTX *c, uint64_t number, uint8_t *data, size_t n, int is_encrypting)
{
	uint8_t tweak[16] = {0};
	uint64_t little = htole64(number);
	int done;

	memcpy(tweak, &little, sizeof little);
	return EVP_CipherInit_ex(c, NULL, NULL, NULL, tweak, is_encrypting) == 1 &&
			       EVP_CipherUpdate(c, data, &done, data, (int)n) == 1
		       ? 0
		       : -EIO;
}

/* Units of at most a sector, numbered from `number` on. */
static int run_units(const uint8_t *key, uint64_t number, void *data, size_t n_bytes,
		     int is_encrypting)
{
	OWN(EVP_CIPHER_CTX_free) EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
	uint8_t *at = data;
	int r = c && EVP_CipherInit_ex(c, EVP_aes_256_xts(), NULL, key, NULL, is_encrypting) == 1
			? 0
			: -EIO;

	for (; r == 0 && n_bytes > 0; number++) {
		size_t n = n_bytes < LUKS_SECTOR ? n_bytes : LUKS_SECTOR;

		r = run_unit(c, number, at, n, is_encrypting);
		at += n;
		n_bytes -= n;
	}
	return r;
}

int luks_encrypt(const struct luks *l, uint64_t offset, void *data, size_t n_bytes)
{
	return run_units(l->key, offset / LUKS_SECTOR, data, n_bytes, 1);
}

int luks_decrypt(const struct luks *l, uint64_t offset, void *data, size_t n_bytes)
{
	return run_units(l->key, offset / LUKS_SECTOR, data, n_bytes, 0);
}

int luks_seal(const struct luks *l, uint64_t number, void *data, size_t n_bytes)
{
	return run_units(l->key, SEAL_NUMBER | number, data, n_bytes, 1);
}

int luks_unseal(const struct luks *l, uint64_t number, void *data, size_t n_bytes)
{
	return run_units(l->key, SEAL_NUMBER | number, data, n_bytes, 0);
}

void luks_free(struct luks *l)
{
	if (l)
		OPENSSL_cleanse(l, sizeof *l);
	free(l);
}

/* ---- keys ---- */

static int stretch(const void *secret, size_t n_secret, const uint8_t *salt, uint32_t iterations,
		   uint8_t *ret_key, size_t n_key)
{
	return PKCS5_PBKDF2_HMAC(secret, (int)n_secret, salt, SALT_BYTES, (int)iterations,
				 EVP_sha256(), (int)n_key, ret_key) == 1
		       ? 0
		       : -EIO;
}

/* The format's anti-forensic diffusion: each digest-sized part is hashed with its number. */
static int diffuse(uint8_t *block)
{
	uint8_t numbered[4 + DIGEST_BYTES];

	for (uint32_t i = 0; i < KEY_BYTES / DIGEST_BYTES; i++) {
		uint32_t big = htobe32(i);

		memcpy(numbered, &big, 4);
		memcpy(numbered + 4, block + i * DIGEST_BYTES, DIGEST_BYTES);
		if (EVP_Digest(numbered, sizeof numbered, block + i * DIGEST_BYTES, NULL,
			       EVP_sha256(), NULL) != 1)
			return -EIO;
	}
	return 0;
}

static void mix(uint8_t *block, const uint8_t *with)
{
	for (size_t i = 0; i < KEY_BYTES; i++)
		block[i] ^= with[i];
}

/* What all stripes but the last come to: with the last one it is the key. */
static int merge_stripes(const uint8_t *material, uint8_t *ret_block)
{
	int r = 0;

	memset(ret_block, 0, KEY_BYTES);
	for (unsigned i = 0; r == 0 && i < STRIPES - 1; i++) {
		mix(ret_block, material + i * KEY_BYTES);
		r = diffuse(ret_block);
	}
	return r;
}

/* ---- opening ---- */

/* What trying all slots would take. */
static uint64_t all_iterations(const struct header *h)
{
	uint64_t n = 0;

	for (size_t i = 0; i < N_SLOTS; i++)
		if (be32toh(h->slots[i].active) == SLOT_ACTIVE)
			n += (uint64_t)be32toh(h->slots[i].iterations) +
			     be32toh(h->check_iterations);
	return n;
}

static int check_header(const struct header *h, uint64_t n_bytes)
{
	if (memcmp(h->magic, magic, sizeof magic) != 0 || be16toh(h->version) != 1)
		return -EUCLEAN;
	if (strncmp(h->cipher, "aes", sizeof h->cipher) != 0 ||
	    strncmp(h->mode, "xts-plain64", sizeof h->mode) != 0 ||
	    strncmp(h->hash, "sha256", sizeof h->hash) != 0 || be32toh(h->key_bytes) != KEY_BYTES)
		return -EOPNOTSUPP;
	if (all_iterations(h) > ITERATIONS_MAX || n_bytes < sizeof *h)
		return -EUCLEAN;
	return 0;
}

/* -EKEYREJECTED: not this slot. */
static int open_slot(int fd, uint64_t offset, uint64_t n_bytes, const struct header *h,
		     const struct slot *s, const char *passphrase, uint8_t *ret_key)
{
	uint64_t at = (uint64_t)be32toh(s->offset_sectors) * LUKS_SECTOR;
	OWN(free) uint8_t *material = malloc(MATERIAL_BYTES);
	uint8_t key[KEY_BYTES], check[CHECK_BYTES];

	if (!material)
		return -ENOMEM;
	if (be32toh(s->stripes) != STRIPES || at > n_bytes || n_bytes - at < MATERIAL_BYTES)
		return -EUCLEAN;
	ssize_t got = pread(fd, material, MATERIAL_BYTES, (off_t)(offset + at));

	if (got != MATERIAL_BYTES)
		return got < 0 ? -errno : -EUCLEAN;
	int r = stretch(passphrase, strlen(passphrase), s->salt, be32toh(s->iterations), key,
			sizeof key);

	if (r == 0)
		r = run_units(key, 0, material, MATERIAL_BYTES, 0);
	if (r == 0)
		r = merge_stripes(material, ret_key);
	if (r == 0) {
		mix(ret_key, material + MATERIAL_BYTES - KEY_BYTES);
		r = stretch(ret_key, KEY_BYTES, h->check_salt, be32toh(h->check_iterations), check,
			    sizeof check);
	}
	if (r == 0 && CRYPTO_memcmp(check, h->check, CHECK_BYTES) != 0)
		r = -EKEYREJECTED;
	OPENSSL_cleanse(key, sizeof key);
	OPENSSL_cleanse(material, MATERIAL_BYTES);
	return r;
}

/* What was opened before: who reads a snapshot by blocks opens its chain for each. By a digest of
 * header and passphrase, so that neither can be another. */
static struct known {
	uint8_t name[DIGEST_BYTES], key[KEY_BYTES];
} known[N_KNOWN];
static unsigned n_known;
static pthread_mutex_t known_lock = PTHREAD_MUTEX_INITIALIZER;

static int known_name(const struct header *h, const char *passphrase, uint8_t *ret_name)
{
	EVP_MD_CTX *c = EVP_MD_CTX_new();
	int is = c && EVP_DigestInit_ex(c, EVP_sha256(), NULL) == 1 &&
		 EVP_DigestUpdate(c, h, sizeof *h) == 1 &&
		 EVP_DigestUpdate(c, passphrase, strlen(passphrase)) == 1 &&
		 EVP_DigestFinal_ex(c, ret_name, NULL) == 1;

	EVP_MD_CTX_free(c);
	return is ? 0 : -ENOMEM;
}

static int known_find(const uint8_t *name, uint8_t *ret_key)
{
	int is = 0;

	(void)pthread_mutex_lock(&known_lock); /* fails for mistakes of ours alone */
	for (size_t i = 0; !is && i < N_KNOWN && i < n_known; i++)
		if (memcmp(known[i].name, name, DIGEST_BYTES) == 0) {
			memcpy(ret_key, known[i].key, KEY_BYTES);
			is = 1;
		}
	(void)pthread_mutex_unlock(&known_lock);
	return is;
}

static void known_add(const uint8_t *name, const uint8_t *key)
{
	(void)pthread_mutex_lock(&known_lock);
	struct known *k = &known[n_known++ % N_KNOWN];

	memcpy(k->name, name, DIGEST_BYTES);
	memcpy(k->key, key, KEY_BYTES);
	if (n_known == 2 * N_KNOWN)
		n_known = N_KNOWN;
	(void)pthread_mutex_unlock(&known_lock);
}

int luks_open(int fd, uint64_t offset, uint64_t n_bytes, const char *passphrase,
	      struct luks **ret_luks)
{
	OWN(luks_free) struct luks *l = calloc(1, sizeof *l);
	struct header h;
	uint8_t name[DIGEST_BYTES];

	if (!l)
		return -ENOMEM;
	ssize_t got = pread(fd, &h, sizeof h, (off_t)offset);

	if (got != sizeof h)
		return got < 0 ? -errno : -EUCLEAN;
	int r = check_header(&h, n_bytes);

	if (r == 0)
		r = known_name(&h, passphrase, name);
	if (r < 0)
		return r;
	int is_known = known_find(name, l->key);

	r = is_known ? 0 : -EKEYREJECTED;
	for (size_t i = 0; r == -EKEYREJECTED && i < N_SLOTS; i++)
		if (be32toh(h.slots[i].active) == SLOT_ACTIVE)
			r = open_slot(fd, offset, n_bytes, &h, &h.slots[i], passphrase, l->key);
	if (r < 0)
		return r;
	if (!is_known)
		known_add(name, l->key);
	*ret_luks = give(l);
	return 0;
}

/* ---- making ---- */

static int make_header(struct header *h, const uint8_t *key)
{
	uint8_t random[16];

	*h = (struct header){.version = htobe16(1),
			     .cipher = "aes",
			     .mode = "xts-plain64",
			     .hash = "sha256",
			     .payload_sectors = htobe32(LUKS_BYTES / LUKS_SECTOR),
			     .key_bytes = htobe32(KEY_BYTES),
			     .check_iterations = htobe32(ITERATIONS)};
	memcpy(h->magic, magic, sizeof magic);
	for (uint32_t i = 0; i < N_SLOTS; i++)
		h->slots[i] = (struct slot){.active = htobe32(i == 0 ? SLOT_ACTIVE : SLOT_FREE),
					    .iterations = htobe32(i == 0 ? ITERATIONS : 0),
					    .offset_sectors = htobe32(8 + i * SLOT_SECTORS),
					    .stripes = htobe32(STRIPES)};
	if (RAND_bytes(h->check_salt, SALT_BYTES) != 1 ||
	    RAND_bytes(h->slots[0].salt, SALT_BYTES) != 1 || RAND_bytes(random, sizeof random) != 1)
		return -EIO;
	random[6] = (random[6] & 0x0f) | 0x40; /* RFC 4122: version 4 */
	random[8] = (random[8] & 0x3f) | 0x80;
	snprintf(h->uuid, sizeof h->uuid,
		 "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", random[0],
		 random[1], random[2], random[3], random[4], random[5], random[6], random[7],
		 random[8], random[9], random[10], random[11], random[12], random[13], random[14],
		 random[15]);
	return stretch(key, KEY_BYTES, h->check_salt, ITERATIONS, h->check, CHECK_BYTES);
}

static int make_material(const struct header *h, const char *passphrase, const uint8_t *key,
			 uint8_t *ret_material)
{
	uint8_t *last = ret_material + MATERIAL_BYTES - KEY_BYTES, slot_key[KEY_BYTES];
	int r = RAND_bytes(ret_material, MATERIAL_BYTES) == 1 ? 0 : -EIO;

	if (r == 0)
		r = merge_stripes(ret_material, last);
	if (r < 0)
		return r;
	mix(last, key);
	r = stretch(passphrase, strlen(passphrase), h->slots[0].salt, ITERATIONS, slot_key,
		    sizeof slot_key);
	if (r == 0)
		r = run_units(slot_key, 0, ret_material, MATERIAL_BYTES, 1);
	OPENSSL_cleanse(slot_key, sizeof slot_key);
	return r;
}

int luks_make(const char *passphrase, struct luks **ret_luks, uint8_t **ret_header)
{
	OWN(luks_free) struct luks *l = calloc(1, sizeof *l);
	OWN(free) uint8_t *bytes = calloc(1, LUKS_USED_BYTES);
	struct header h;

	if (!l || !bytes)
		return -ENOMEM;
	int r = RAND_bytes(l->key, KEY_BYTES) == 1 ? make_header(&h, l->key) : -EIO;

	if (r == 0)
		r = make_material(&h, passphrase, l->key, bytes + 4096);
	if (r < 0)
		return r;
	memcpy(bytes, &h, sizeof h);
	*ret_luks = give(l);
	*ret_header = give(bytes);
	return 0;
}
