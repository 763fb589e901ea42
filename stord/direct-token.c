/* EBS direct: tokens and checksums as text. */
#include "direct.h"

#include <endian.h>
#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <string.h>
#include <time.h>

#define KEY_KIND  "_direct-key"
#define LIFE_SEC  (7 * 24 * 3600)
#define RAW_BYTES 32 /* index, expiry, half of the MAC */

int64_t token_expiry(void)
{
	return (int64_t)time(NULL) + LIFE_SEC;
}

void sum_print(const uint8_t sum[static 32], char ret_text[static 48])
{
	(void)EVP_EncodeBlock((unsigned char *)ret_text, sum, 32);
}

int sum_parse(const char *text, uint8_t ret_sum[static 32])
{
	uint8_t raw[36];

	/* 44 characters with one "=": EVP_DecodeBlock gives 33 bytes, the last for the padding. */
	if (strlen(text) != 44 || text[43] != '=' || text[42] == '=' ||
	    EVP_DecodeBlock(raw, (const unsigned char *)text, 44) != 33)
		return -EINVAL;
	memcpy(ret_sum, raw, 32);
	return 0;
}

/* The key, made when it is first needed. */
static int key_get(struct daemon *d, uint8_t ret_key[static 32])
{
	const struct doc *doc = store_find(d->store, KEY_KIND, "key");
	OWN(txn_free) struct txn *t = NULL;
	char text[48];

	if (doc)
		return sum_parse(jstr_or(doc->json, "Key", ""), ret_key);
	if (RAND_bytes(ret_key, 32) != 1)
		return -EIO;
	sum_print(ret_key, text);
	t = txn_new(d->store);
	int r = t ? txn_put(t, KEY_KIND, "key", "", "", json_pack("{s:s}", "Key", text)) : -ENOMEM;

	return r == 0 ? txn_commit(t) : r;
}

static int mac_of(struct daemon *d, const char *what, const uint8_t raw[static 16],
		  uint8_t ret_mac[static 32])
{
	uint8_t key[32], text[TOKEN_PLACE_BYTES + 16];
	size_t n = strlen(what);
	unsigned n_mac = 32;
	int r = n < TOKEN_PLACE_BYTES ? key_get(d, key) : -EINVAL;

	if (r < 0)
		return r;
	memcpy(text, raw, 16);
	memcpy(text + 16, what, n);
	if (!HMAC(EVP_sha256(), key, sizeof key, text, 16 + n, ret_mac, &n_mac))
		r = -ENOMEM;
	OPENSSL_cleanse(key, sizeof key);
	return r;
}

int token_make(struct daemon *d, const char *what, const struct token *token,
	       char ret_text[static TOKEN_BYTES_MAX])
{
	uint64_t plain[2] = {htobe64(token->index), htobe64((uint64_t)token->expiry_sec)};
	uint8_t raw[16 + 32];

	memcpy(raw, plain, 16);
	int r = mac_of(d, what, raw, raw + 16);

	if (r == 0)
		(void)EVP_EncodeBlock((unsigned char *)ret_text, raw, RAW_BYTES);
	return r;
}

int token_read(struct daemon *d, const char *what, const char *text, struct token *ret_token)
{
	uint8_t raw[RAW_BYTES], mac[32];
	uint64_t plain[2];
	int r = sum_parse(text, raw); /* as long as a checksum */

	if (r == 0)
		r = mac_of(d, what, raw, mac);
	if (r < 0)
		return r;
	memcpy(plain, raw, 16);
	struct token token = {be64toh(plain[0]), (int64_t)be64toh(plain[1])};

	if (CRYPTO_memcmp(mac, raw + 16, RAW_BYTES - 16) != 0 ||
	    token.expiry_sec < (int64_t)time(NULL))
		return -EINVAL;
	*ret_token = token;
	return 0;
}
