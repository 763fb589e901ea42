/* MaxResults and NextToken. */
#include "page.h"

#include <errno.h>
#include <endian.h>
#include <inttypes.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <string.h>
#include <sys/random.h>
#include "jsonx.h"

#define KEY_BYTES   32
#define MAC_BYTES   16
#define TOKEN_BYTES (8 + MAC_BYTES) /* a multiple of 3: base64 without padding */
#define TOKEN_CHARS (TOKEN_BYTES / 3 * 4)

/* The daemon's key, made at first need; a daemon without a store forgets it at its end. */
static int key_get(const struct call *c, uint8_t ret_key[static KEY_BYTES])
{
	static uint8_t forgetful[KEY_BYTES];
	static int has_forgetful;
	const struct doc *d = c->store ? store_find(c->store, "_secret", "page") : NULL;
	const char *hex = d ? jstr(d->json, "Key") : NULL;

	if (hex && strlen(hex) == 2 * KEY_BYTES) {
		for (int i = 0; i < KEY_BYTES; i++)
			if (sscanf(hex + 2 * i, "%2" SCNx8, &ret_key[i]) != 1)
				return -EUCLEAN;
		return 0;
	}
	if (!has_forgetful && getrandom(forgetful, sizeof forgetful, 0) != sizeof forgetful)
		return -EIO;
	has_forgetful = 1;
	memcpy(ret_key, forgetful, KEY_BYTES);
	if (!c->store)
		return 0;
	char text[2 * KEY_BYTES + 1];
	OWN(txn_free) struct txn *t = txn_new(c->store);

	for (int i = 0; i < KEY_BYTES; i++)
		snprintf(text + 2 * i, 3, "%02x", ret_key[i]);
	int r = t ? txn_put(t, "_secret", "page", "", "", json_pack("{s:s}", "Key", text))
		  : -ENOMEM;

	return r < 0 ? r : txn_commit(t);
}

static int mac_of(const struct call *c, const json_t *parameters, uint64_t position,
		  uint8_t ret_mac[static MAC_BYTES])
{
	OWN(json_decref) json_t *question = json_copy((json_t *)parameters);
	OWN(json_decref) json_t *all = NULL;
	OWN(free) char *text = NULL;
	uint8_t key[KEY_BYTES], mac[EVP_MAX_MD_SIZE];
	unsigned n = 0;
	int r = key_get(c, key);

	if (r < 0)
		return r;
	(void)json_object_del(question, "NextToken");  /* absent on the first page */
	(void)json_object_del(question, "MaxResults"); /* a client may take smaller bites */
	all = json_pack("[s,s,s,I,O]", c->method, c->ctx->account, c->ctx->region,
			(json_int_t)position, question);
	text = json_dumps(all, JSON_COMPACT | JSON_SORT_KEYS);
	if (!text ||
	    !HMAC(EVP_sha256(), key, sizeof key, (const uint8_t *)text, strlen(text), mac, &n))
		return -ENOMEM;
	memcpy(ret_mac, mac, MAC_BYTES);
	return 0;
}

char *page_token(const struct call *c, const json_t *parameters, uint64_t position)
{
	uint64_t wire = htobe64(position);
	uint8_t bytes[TOKEN_BYTES];
	char *text = malloc(TOKEN_CHARS + 1);

	memcpy(bytes, &wire, 8);
	if (!text || mac_of(c, parameters, position, bytes + 8) < 0) {
		free(text);
		return NULL;
	}
	EVP_EncodeBlock((uint8_t *)text, bytes, sizeof bytes);
	return text;
}

static int token_parse(const struct call *c, const json_t *parameters, const char *token,
		       uint64_t *ret_position, struct fault *f)
{
	uint8_t bytes[TOKEN_BYTES + 1], mac[MAC_BYTES];
	uint64_t wire;

	if (strlen(token) == TOKEN_CHARS &&
	    EVP_DecodeBlock(bytes, (const uint8_t *)token, TOKEN_CHARS) == TOKEN_BYTES) {
		memcpy(&wire, bytes, 8);
		int r = mac_of(c, parameters, be64toh(wire), mac);

		if (r < 0)
			return r;
		if (CRYPTO_memcmp(mac, bytes + 8, MAC_BYTES) == 0) {
			*ret_position = be64toh(wire);
			return 0;
		}
	}
	return fault_set(f, FAULT_INVALID_PAGINATION_TOKEN, "The token '%.64s' is invalid", token);
}

int page_parse(const struct call *c, const struct describe *d, const json_t *parameters,
	       struct page *ret_page, struct fault *f)
{
	const json_t *max = json_object_get(parameters, "MaxResults"),
		     *token = json_object_get(parameters, "NextToken");
	int has_ids = d->ids && json_array_size(json_object_get(parameters, d->ids)) > 0;
	int64_t low = d->n_max_low || d->n_max_high ? d->n_max_low : 5;
	int64_t high = d->n_max_low || d->n_max_high ? d->n_max_high : 1000;
	struct page p = {.n_max = has_ids ? 0 : d->n_max_default};

	if (json_is_null(max))
		max = NULL;
	if (has_ids && max)
		return fault_set(f, FAULT_INVALID_PARAMETER_COMBINATION,
				 "The parameter %s cannot be used with the parameter maxResults",
				 d->ids);
	if (max) {
		p.n_max = json_integer_value(max);
		if (!json_is_integer(max) || p.n_max < low || p.n_max > high)
			return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
					 "Value ( %lld ) for parameter maxResults is invalid. "
					 "Expecting a value between %lld and %lld",
					 (long long)p.n_max, (long long)low, (long long)high);
	}
	/* An empty token is what some clients send for "from the start". */
	if (json_string_length(token) > 0) {
		int r = token_parse(c, parameters, json_string_value(token), &p.after, f);

		if (r < 0)
			return r;
	}
	*ret_page = p;
	return 0;
}
