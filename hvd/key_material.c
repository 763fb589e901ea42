/* Key pairs as bytes: made, read, written, fingerprinted. */
#include "key_material.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <openssl/bio.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509.h>

#define RSA_BITS      2048
#define RSA_BITS_MIN  1024
#define RSA_BITS_MAX  4096
#define ED25519_BYTES 32
#define BLOB_MAX      2048

OWN_DEFINE(EVP_PKEY *, EVP_PKEY_free);
OWN_DEFINE(EVP_PKEY_CTX *, EVP_PKEY_CTX_free);
OWN_DEFINE(BIO *, BIO_free_all);
OWN_DEFINE(BIGNUM *, BN_free);
OWN_DEFINE(OSSL_PARAM *, OSSL_PARAM_free);
OWN_DEFINE(OSSL_PARAM_BLD *, OSSL_PARAM_BLD_free);
OWN_DEFINE(PKCS8_PRIV_KEY_INFO *, PKCS8_PRIV_KEY_INFO_free);

/* Bytes in SSH's wire form (RFC 4251, 5): written to, or read from. */
struct blob {
	uint8_t bytes[BLOB_MAX];
	size_t n;
	int is_full;
};

static void blob_bytes(struct blob *b, const void *bytes, size_t n)
{
	if (b->is_full || n > sizeof b->bytes - b->n) {
		b->is_full = 1;
		return;
	}
	memcpy(b->bytes + b->n, bytes, n);
	b->n += n;
}

static void blob_u32(struct blob *b, uint32_t v)
{
	blob_bytes(b, (uint8_t[]){v >> 24, v >> 16, v >> 8, v}, 4);
}

static void blob_string(struct blob *b, const void *bytes, size_t n)
{
	blob_u32(b, (uint32_t)n);
	blob_bytes(b, bytes, n);
}

static void blob_number(struct blob *b, const BIGNUM *v)
{
	uint8_t bytes[RSA_BITS_MAX / 8 + 1] = {0};
	size_t n = (size_t)BN_num_bytes(v);

	if (n > RSA_BITS_MAX / 8) {
		b->is_full = 1;
		return;
	}
	BN_bn2bin(v, bytes + 1);
	/* A set top bit would mean a negative number. */
	if (n > 0 && bytes[1] & 0x80)
		blob_string(b, bytes, n + 1);
	else
		blob_string(b, bytes + 1, n);
}

/* The next string of the blob at *at; -EINVAL when it is cut off. */
static int blob_take(const uint8_t *bytes, size_t n_bytes, size_t *at, const uint8_t **ret_bytes,
		     size_t *ret_n)
{
	size_t n;

	if (n_bytes - *at < 4)
		return -EINVAL;
	n = (size_t)bytes[*at] << 24 | (size_t)bytes[*at + 1] << 16 | (size_t)bytes[*at + 2] << 8 |
	    bytes[*at + 3];
	if (n > n_bytes - *at - 4)
		return -EINVAL;
	*ret_bytes = bytes + *at + 4;
	*ret_n = n;
	*at += 4 + n;
	return 0;
}

static char *base64(const void *bytes, size_t n)
{
	char *text = malloc((n + 2) / 3 * 4 + 1);

	if (text)
		EVP_EncodeBlock((unsigned char *)text, bytes, (int)n);
	return text;
}

/* Strict base64 with white space allowed between; -EINVAL otherwise, or when it is longer than
 * `size`. */
static int base64_parse(const char *text, size_t n, uint8_t *ret_bytes, size_t size, size_t *ret_n)
{
	char packed[KEY_MATERIAL_MAX_BYTES + 4];
	size_t n_packed = 0, n_pad = 0;
	int got;

	for (size_t i = 0; i < n; i++) {
		if (text[i] == ' ' || text[i] == '\t' || text[i] == '\r' || text[i] == '\n')
			continue;
		if (n_packed >= KEY_MATERIAL_MAX_BYTES || (n_pad && text[i] != '='))
			return -EINVAL;
		n_pad += text[i] == '=';
		packed[n_packed++] = text[i];
	}
	if (n_packed == 0 || n_packed % 4 != 0 || n_pad > 2 || n_packed / 4 * 3 > size)
		return -EINVAL;
	got = EVP_DecodeBlock(ret_bytes, (const unsigned char *)packed, (int)n_packed);
	if (got < 0)
		return -EINVAL;
	*ret_n = (size_t)got - n_pad;
	return 0;
}

const char *key_type_name(enum key_type type)
{
	return type == KEY_RSA ? "rsa" : "ed25519";
}

static const char *ssh_name(enum key_type type)
{
	return type == KEY_RSA ? "ssh-rsa" : "ssh-ed25519";
}

/* The public key in SSH's form. */
static int public_blob(EVP_PKEY *key, struct blob *ret_blob)
{
	int is_rsa = EVP_PKEY_is_a(key, "RSA");
	OWN(BN_free) BIGNUM *e = NULL;
	OWN(BN_free) BIGNUM *n = NULL;
	uint8_t raw[ED25519_BYTES];
	size_t n_raw = sizeof raw;

	blob_string(ret_blob, ssh_name(is_rsa ? KEY_RSA : KEY_ED25519), is_rsa ? 7 : 11);
	if (!is_rsa) {
		if (EVP_PKEY_get_raw_public_key(key, raw, &n_raw) != 1)
			return -EIO;
		blob_string(ret_blob, raw, n_raw);
		return 0;
	}
	if (EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_RSA_E, &e) != 1 ||
	    EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_RSA_N, &n) != 1)
		return -EIO;
	blob_number(ret_blob, e);
	blob_number(ret_blob, n);
	return ret_blob->is_full ? -EINVAL : 0;
}

static int public_line(EVP_PKEY *key, char **ret_line)
{
	struct blob b = {0};
	OWN(free) char *text = NULL;
	int r = public_blob(key, &b);

	if (r < 0)
		return r;
	text = base64(b.bytes, b.n);
	if (!text ||
	    asprintf(ret_line, "%s %s", ssh_name(EVP_PKEY_is_a(key, "RSA") ? KEY_RSA : KEY_ED25519),
		     text) < 0)
		return -ENOMEM;
	return 0;
}

/* "1f:51:…" of a digest over `bytes`. */
static char *hex_digest(const EVP_MD *md, const uint8_t *bytes, size_t n)
{
	uint8_t digest[EVP_MAX_MD_SIZE];
	unsigned n_digest = 0;
	char *text;

	if (EVP_Digest(bytes, n, digest, &n_digest, md, NULL) != 1)
		return NULL;
	text = malloc(n_digest * 3 + 1);
	for (unsigned i = 0; text && i < n_digest; i++)
		sprintf(text + i * 3, "%02x%s", digest[i], i + 1 < n_digest ? ":" : "");
	return text;
}

/* RSA made here: SHA-1 of the private key in PKCS#8; RSA imported: MD5 of the public key's DER;
 * ed25519: SHA-256 of SSH's form, in base64. */
static int fingerprint(EVP_PKEY *key, int is_made, char **ret_text)
{
	OWN(PKCS8_PRIV_KEY_INFO_free) PKCS8_PRIV_KEY_INFO *p8 = NULL;
	struct blob b = {0};
	uint8_t *der = NULL, digest[EVP_MAX_MD_SIZE];
	int n;

	if (!EVP_PKEY_is_a(key, "RSA")) {
		n = public_blob(key, &b);
		if (n < 0)
			return n;
		if (EVP_Digest(b.bytes, b.n, digest, NULL, EVP_sha256(), NULL) != 1)
			return -EIO;
		*ret_text = base64(digest, 32);
		return *ret_text ? 0 : -ENOMEM;
	}
	if (is_made) {
		p8 = EVP_PKEY2PKCS8(key);
		n = p8 ? i2d_PKCS8_PRIV_KEY_INFO(p8, &der) : -1;
	} else {
		n = i2d_PUBKEY(key, &der);
	}
	if (n <= 0)
		return -EIO;
	*ret_text = hex_digest(is_made ? EVP_sha1() : EVP_md5(), der, (size_t)n);
	OPENSSL_clear_free(der, (size_t)n);
	return *ret_text ? 0 : -ENOMEM;
}

static int rsa_pem(EVP_PKEY *key, char **ret_pem)
{
	OWN(BIO_free_all) BIO *out = BIO_new(BIO_s_secmem());
	char *text = NULL;
	long n;

	if (!out || PEM_write_bio_PrivateKey_traditional(out, key, NULL, NULL, 0, NULL, NULL) != 1)
		return -EIO;
	n = BIO_get_mem_data(out, &text);
	*ret_pem = n > 0 ? strndup(text, (size_t)n) : NULL;
	return *ret_pem ? 0 : -ENOMEM;
}

/* What PROTOCOL.key calls the list of private keys: check numbers, the pair, an empty comment,
 * padding. */
static int ed25519_private(EVP_PKEY *key, struct blob *b)
{
	uint8_t pair[2 * ED25519_BYTES], check[4];
	size_t n_seed = ED25519_BYTES, n_public = ED25519_BYTES;

	if (RAND_bytes(check, sizeof check) != 1 ||
	    EVP_PKEY_get_raw_private_key(key, pair, &n_seed) != 1 ||
	    EVP_PKEY_get_raw_public_key(key, pair + ED25519_BYTES, &n_public) != 1)
		return -EIO;
	blob_bytes(b, check, sizeof check);
	blob_bytes(b, check, sizeof check);
	blob_string(b, "ssh-ed25519", 11);
	blob_string(b, pair + ED25519_BYTES, ED25519_BYTES);
	blob_string(b, pair, sizeof pair);
	blob_string(b, "", 0);
	for (uint8_t i = 1; b->n % 8 != 0; i++)
		blob_bytes(b, &i, 1);
	OPENSSL_cleanse(pair, sizeof pair);
	return 0;
}

/* OpenSSH reads ed25519 keys in no other form than its own. */
static int ed25519_pem(EVP_PKEY *key, char **ret_pem)
{
	struct blob all = {0}, secret = {0}, public = {0};
	OWN(free) char *text = NULL;
	char *pem, *to;
	int r = public_blob(key, &public);

	if (r == 0)
		r = ed25519_private(key, &secret);
	if (r < 0)
		return r;
	blob_bytes(&all, "openssh-key-v1", 15);
	blob_string(&all, "none", 4);
	blob_string(&all, "none", 4);
	blob_string(&all, "", 0);
	blob_u32(&all, 1);
	blob_string(&all, public.bytes, public.n);
	blob_string(&all, secret.bytes, secret.n);
	text = base64(all.bytes, all.n);
	OPENSSL_cleanse(&all, sizeof all);
	OPENSSL_cleanse(&secret, sizeof secret);
	pem = text ? malloc(strlen(text) / 70 + strlen(text) + 100) : NULL;
	if (!pem)
		return -ENOMEM;
	to = stpcpy(pem, "-----BEGIN OPENSSH PRIVATE KEY-----\n");
	for (const char *at = text; *at; at += strnlen(at, 70))
		to += sprintf(to, "%.70s\n", at);
	strcpy(to, "-----END OPENSSH PRIVATE KEY-----\n");
	OPENSSL_cleanse(text, strlen(text));
	*ret_pem = pem;
	return 0;
}

void key_material_clear(struct key_material *k)
{
	if (k->private_pem)
		OPENSSL_cleanse(k->private_pem, strlen(k->private_pem));
	free(k->private_pem);
	free(k->public_line);
	free(k->fingerprint);
	memset(k, 0, sizeof *k);
}

static int material_fill(EVP_PKEY *key, int is_made, struct key_material *ret_key)
{
	OWN(key_material_clear)
	struct key_material k = {.type = EVP_PKEY_is_a(key, "RSA") ? KEY_RSA : KEY_ED25519};
	int r = public_line(key, &k.public_line);

	if (r == 0)
		r = fingerprint(key, is_made, &k.fingerprint);
	if (r == 0 && is_made)
		r = k.type == KEY_RSA ? rsa_pem(key, &k.private_pem)
				      : ed25519_pem(key, &k.private_pem);
	if (r < 0)
		return r;
	*ret_key = k;
	memset(&k, 0, sizeof k);
	return 0;
}

int key_material_make(enum key_type type, struct key_material *ret_key)
{
	OWN(EVP_PKEY_free)
	EVP_PKEY *key =
		type == KEY_RSA ? EVP_RSA_gen(RSA_BITS) : EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");

	return key ? material_fill(key, 1, ret_key) : -EIO;
}

static EVP_PKEY *rsa_from_numbers(const uint8_t *e, size_t n_e, const uint8_t *n, size_t n_n)
{
	OWN(BN_free) BIGNUM *be = BN_bin2bn(e, (int)n_e, NULL);
	OWN(BN_free) BIGNUM *bn = BN_bin2bn(n, (int)n_n, NULL);
	OWN(OSSL_PARAM_BLD_free) OSSL_PARAM_BLD *build = OSSL_PARAM_BLD_new();
	OWN(OSSL_PARAM_free) OSSL_PARAM *params = NULL;
	OWN(EVP_PKEY_CTX_free) EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, "RSA", NULL);
	EVP_PKEY *key = NULL;

	if (!be || !bn || !build || !ctx ||
	    OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_E, be) != 1 ||
	    OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_N, bn) != 1)
		return NULL;
	params = OSSL_PARAM_BLD_to_param(build);
	if (!params || EVP_PKEY_fromdata_init(ctx) != 1 ||
	    EVP_PKEY_fromdata(ctx, &key, EVP_PKEY_PUBLIC_KEY, params) != 1)
		return NULL;
	return key;
}

/* SSH's form, all of it. NULL: it is none. */
static EVP_PKEY *blob_parse(const uint8_t *bytes, size_t n_bytes)
{
	const uint8_t *name, *first, *second = NULL;
	size_t at = 0, n_name, n_first, n_second = 0;

	if (blob_take(bytes, n_bytes, &at, &name, &n_name) < 0 ||
	    blob_take(bytes, n_bytes, &at, &first, &n_first) < 0)
		return NULL;
	if (n_name == 11 && memcmp(name, "ssh-ed25519", 11) == 0)
		return at == n_bytes && n_first == ED25519_BYTES
			       ? EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, first, n_first)
			       : NULL;
	if (n_name != 7 || memcmp(name, "ssh-rsa", 7) != 0 ||
	    blob_take(bytes, n_bytes, &at, &second, &n_second) < 0 || at != n_bytes)
		return NULL;
	return rsa_from_numbers(first, n_first, second, n_second);
}

static EVP_PKEY *blob_parse_base64(const char *text, size_t n)
{
	uint8_t bytes[BLOB_MAX];
	size_t n_bytes = 0;

	return base64_parse(text, n, bytes, sizeof bytes, &n_bytes) == 0
		       ? blob_parse(bytes, n_bytes)
		       : NULL;
}

/* "ssh-rsa AAAA… comment": the second word is the key. */
static EVP_PKEY *line_parse(const char *text)
{
	const char *word = text + strcspn(text, " \t");
	const char *rest = text + strcspn(text, "\n");

	word += strspn(word, " \t");
	/* One key only: a second line would be a second key. */
	if (rest[strspn(rest, " \t\r\n")] != '\0')
		return NULL;
	return blob_parse_base64(word, strcspn(word, " \t\r\n"));
}

/* RFC 4716: headers ("Comment: …", continued by a backslash), then base64, between the two marks.
 */
static EVP_PKEY *rfc4716_parse(const char *text)
{
	const char *at = strchr(text, '\n'), *end = strstr(text, "---- END SSH2 PUBLIC KEY ----");
	int is_continued = 0;

	if (!at || !end || at > end)
		return NULL;
	for (at++; at < end;) {
		size_t n = strcspn(at, "\r\n");

		if (!is_continued && !memchr(at, ':', n))
			break;
		is_continued = n > 0 && at[n - 1] == '\\';
		at += n;
		at += strspn(at, "\r\n");
	}
	return at < end ? blob_parse_base64(at, (size_t)(end - at)) : NULL;
}

static EVP_PKEY *pem_parse(const char *text, size_t n)
{
	OWN(BIO_free_all) BIO *in = BIO_new_mem_buf(text, (int)n);
	EVP_PKEY *key = NULL;

	if (!in)
		return NULL;
	if (strncmp(text, "-----BEGIN RSA PUBLIC KEY-----", 30) == 0) {
		/* PKCS#1, which `ssh-keygen -e -m PEM` writes. */
		OWN(free) char *name = NULL;
		OWN(free) char *header = NULL;
		unsigned char *der = NULL;
		const unsigned char *at;
		long n_der = 0;

		if (PEM_read_bio(in, &name, &header, &der, &n_der) != 1)
			return NULL;
		at = der;
		key = d2i_PublicKey(EVP_PKEY_RSA, NULL, &at, n_der);
		OPENSSL_free(der);
		return key;
	}
	return PEM_read_bio_PUBKEY(in, NULL, NULL, NULL);
}

static EVP_PKEY *der_parse(const char *text, size_t n)
{
	uint8_t bytes[BLOB_MAX];
	const uint8_t *at = bytes;
	size_t n_bytes = 0;

	if (base64_parse(text, n, bytes, sizeof bytes, &n_bytes) < 0)
		return NULL;
	return d2i_PUBKEY(NULL, &at, (long)n_bytes);
}

int key_material_parse(const char *text, size_t n_bytes, struct key_material *ret_key)
{
	OWN(EVP_PKEY_free) EVP_PKEY *key = NULL;
	OWN(free) char *copy = NULL;
	const char *at;

	if (n_bytes == 0 || n_bytes > KEY_MATERIAL_MAX_BYTES || memchr(text, '\0', n_bytes))
		return -EINVAL;
	copy = strndup(text, n_bytes);
	if (!copy)
		return -ENOMEM;
	at = copy + strspn(copy, " \t\r\n");
	if (strncmp(at, "ssh-", 4) == 0)
		key = line_parse(at);
	else if (strncmp(at, "---- BEGIN SSH2 PUBLIC KEY ----", 31) == 0)
		key = rfc4716_parse(at);
	else if (strncmp(at, "-----BEGIN", 10) == 0)
		key = pem_parse(at, strlen(at));
	else
		key = der_parse(at, strlen(at));
	ERR_clear_error();
	if (!key || (!EVP_PKEY_is_a(key, "RSA") && !EVP_PKEY_is_a(key, "ED25519")))
		return -EINVAL;
	if (EVP_PKEY_is_a(key, "RSA") &&
	    (EVP_PKEY_get_bits(key) < RSA_BITS_MIN || EVP_PKEY_get_bits(key) > RSA_BITS_MAX))
		return -ERANGE;
	return material_fill(key, 0, ret_key);
}
