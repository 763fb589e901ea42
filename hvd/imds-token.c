/* Session tokens: version, end, a number used once, MAC; in base64. */
#include "imds-token.h"

#include <errno.h>
#include <string.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>

#define VERSION	    1
#define HEAD_BYTES  17 /* version, end, number */
#define TOKEN_BYTES 42
#define MAC_BYTES   (TOKEN_BYTES - HEAD_BYTES)

static int mac_of(const struct imds_key *key, const char *instance_id, const uint8_t *head,
		  uint8_t ret_mac[static EVP_MAX_MD_SIZE])
{
	uint8_t text[HEAD_BYTES + 64] = {0};
	size_t n = strlen(instance_id);
	unsigned n_mac = 0;

	if (n > sizeof text - HEAD_BYTES)
		return -EIO;
	memcpy(text, head, HEAD_BYTES);
	memcpy(text + HEAD_BYTES, instance_id, n);
	if (!HMAC(EVP_sha256(), key->bytes, sizeof key->bytes, text, HEAD_BYTES + n, ret_mac,
		  &n_mac))
		return -EIO;
	return 0;
}

int imds_token_make(const struct imds_key *key, const char *instance_id, int64_t ttl_sec,
		    int64_t now_sec, char ret_token[static IMDS_TOKEN_CHARS + 1])
{
	uint8_t bytes[TOKEN_BYTES] = {VERSION}, mac[EVP_MAX_MD_SIZE];
	uint64_t end = (uint64_t)(now_sec + ttl_sec);

	for (int i = 0; i < 8; i++)
		bytes[1 + i] = (uint8_t)(end >> (56 - 8 * i));
	if (RAND_bytes(bytes + 9, 8) != 1 || mac_of(key, instance_id, bytes, mac) < 0)
		return -EIO;
	memcpy(bytes + HEAD_BYTES, mac, MAC_BYTES);
	EVP_EncodeBlock((unsigned char *)ret_token, bytes, sizeof bytes);
	return 0;
}

int64_t imds_token_check(const struct imds_key *key, const char *instance_id, const char *token,
			 int64_t now_sec)
{
	uint8_t bytes[TOKEN_BYTES], mac[EVP_MAX_MD_SIZE];
	uint64_t end = 0;

	if (strlen(token) != IMDS_TOKEN_CHARS || strchr(token, '=') ||
	    EVP_DecodeBlock(bytes, (const unsigned char *)token, IMDS_TOKEN_CHARS) != TOKEN_BYTES ||
	    bytes[0] != VERSION || mac_of(key, instance_id, bytes, mac) < 0 ||
	    CRYPTO_memcmp(mac, bytes + HEAD_BYTES, MAC_BYTES) != 0)
		return -EACCES;
	for (int i = 0; i < 8; i++)
		end = end << 8 | bytes[1 + i];
	return (int64_t)end > now_sec ? (int64_t)end - now_sec : -EACCES;
}
