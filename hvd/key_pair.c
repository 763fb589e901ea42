/* Key pairs: made, imported, shown, deleted. Private keys go to the customer and are not kept. */
#include "catalog-rooms.h"

#include <errno.h>
#include <string.h>
#include <openssl/evp.h>
#include "describe.h"
#include "fiber.h"
#include "id.h"
#include "jsonx.h"
#include "key_material.h"
#include "tags.h"

#define KIND "key-pair"
/* AWS's quota per region. */
#define KEY_PAIRS_MAX 5000
#define KEY_NAME_MAX  255

static const char *const taggable[] = {"key-pair", NULL};

static const struct filter filters[] = {
	{"fingerprint", "KeyFingerprint"},
	{"key-name", "KeyName"},
	{"key-pair-id", "KeyPairId"},
	FILTER_TAGS,
	{NULL},
};

/* Printable ASCII without spaces around it. Nothing else may come into a guest's authorized_keys as
 * the key's comment. */
static int name_check(const char *name, struct fault *f)
{
	size_t n = name ? strlen(name) : 0;

	if (n == 0)
		return fault_set(f, FAULT_MISSING_PARAMETER,
				 "The request must contain the parameter KeyName");
	for (size_t i = 0; i < n; i++)
		if (name[i] < ' ' || name[i] > '~')
			return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
					 "Value for parameter KeyName is invalid. Only ASCII "
					 "characters are allowed");
	if (n > KEY_NAME_MAX || name[0] == ' ' || name[n - 1] == ' ')
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "Value (%.64s) for parameter KeyName is invalid. It must have 1 "
				 "to 255 characters and no spaces around it",
				 name);
	return 0;
}

/* By name in the context's account and region; NULL: none. */
static const struct doc *find(const struct store *s, const struct context *ctx, const char *name)
{
	store_each (s, KIND, d)
		if (name && strcmp(d->account, ctx->account) == 0 &&
		    strcmp(d->region, ctx->region) == 0 &&
		    strcmp(jstr_or(d->json, "KeyName", ""), name) == 0)
			return d;
	return NULL;
}

int key_pair_find(const struct store *s, const struct context *ctx, const char *key_name,
		  const struct doc **ret_key, struct fault *f)
{
	const struct doc *d = find(s, ctx, key_name);

	if (!d)
		return fault_set(f, FAULT_INVALID_KEY_PAIR_NOT_FOUND,
				 "The key pair '%s' does not exist", key_name ? key_name : "");
	*ret_key = d;
	return 0;
}

static int room_check(const struct call *c, const char *name, struct fault *f)
{
	size_t n = 0;

	if (find(c->store, c->ctx, name))
		return fault_set(f, FAULT_INVALID_KEY_PAIR_DUPLICATE, "The keypair already exists");
	store_each (c->store, KIND, d)
		n += strcmp(d->account, c->ctx->account) == 0 &&
		     strcmp(d->region, c->ctx->region) == 0;
	if (n >= KEY_PAIRS_MAX)
		return fault_set(f, FAULT_RESOURCE_LIMIT_EXCEEDED,
				 "You have reached the limit of %d key pairs", KEY_PAIRS_MAX);
	return 0;
}

/* Puts the document; the reply is what AWS answers, without the private key. */
static int save(struct call *c, const char *name, const struct key_material *key, json_t *tags,
		json_t **ret_reply, struct fault *f)
{
	char id[ID_MAX];
	json_t *doc;

	id_new("key", id);
	doc = json_pack("{s:s, s:s, s:s, s:s, s:O, s:o, s:s++}", "KeyPairId", id, "KeyName", name,
			"KeyType", key_type_name(key->type), "KeyFingerprint", key->fingerprint,
			"Tags", tags, "CreateTime", jtime_now(), "_PublicKey", key->public_line,
			" ", name);
	if (txn_put(c->txn, KIND, id, c->ctx->account, c->ctx->region, doc) < 0)
		return fault_set(f, FAULT_INTERNAL_ERROR, "Out of memory");
	*ret_reply = json_pack("{s:s, s:s, s:s, s:O}", "KeyPairId", id, "KeyName", name,
			       "KeyFingerprint", key->fingerprint, "Tags", tags);
	return *ret_reply ? 0 : fault_set(f, FAULT_INTERNAL_ERROR, "Out of memory");
}

struct making {
	enum key_type type;
	struct key_material key;
};

static int make(void *arg)
{
	struct making *m = arg;

	return key_material_make(m->type, &m->key);
}

int key_pair_create(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	const char *name = jstr(parameters, "KeyName"),
		   *type = jstr_or(parameters, "KeyType", "rsa");
	struct making m = {.type = strcmp(type, "ed25519") == 0 ? KEY_ED25519 : KEY_RSA};
	OWN(json_decref) json_t *tags = NULL;
	OWN(json_decref) json_t *reply = NULL;
	int r = name_check(name, f);

	if (r == 0 && strcmp(type, "rsa") != 0 && strcmp(type, "ed25519") != 0)
		r = fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
			      "Value (%s) for parameter KeyType is invalid", type);
	if (r == 0 && strcmp(jstr_or(parameters, "KeyFormat", "pem"), "pem") != 0)
		r = fault_set(f, FAULT_UNSUPPORTED_OPERATION,
			      "Keys are made in the format pem only");
	if (r == 0)
		r = tags_from_specifications(parameters, "key-pair", taggable, &tags, f);
	if (r == 0)
		r = room_check(c, name, f);
	if (r < 0)
		return r;
	if (fiber_work(make, &m) < 0)
		return fault_set(f, FAULT_INTERNAL_ERROR, "The key could not be made");
	/* Another request may have taken the name meanwhile. */
	OWN(key_material_clear) struct key_material key = m.key;
	r = room_check(c, name, f);
	if (r == 0)
		r = save(c, name, &key, tags, &reply, f);
	if (r == 0 && jset(reply, "KeyMaterial", key.private_pem) < 0)
		r = fault_set(f, FAULT_INTERNAL_ERROR, "Out of memory");
	if (r == 0)
		*ret_reply = give(reply);
	return r;
}

int key_pair_import(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	const char *name = jstr(parameters, "KeyName"),
		   *material = jstr_or(parameters, "PublicKeyMaterial", "");
	OWN(key_material_clear) struct key_material key = {0};
	OWN(json_decref) json_t *tags = NULL;
	OWN(free) unsigned char *text = NULL;
	size_t n = strlen(material);
	int r = name_check(name, f), got;

	if (r == 0)
		r = tags_from_specifications(parameters, "key-pair", taggable, &tags, f);
	if (r == 0)
		r = room_check(c, name, f);
	if (r < 0)
		return r;
	text = malloc(n / 4 * 3 + 4);
	got = text && n > 0 && n % 4 == 0
		      ? EVP_DecodeBlock(text, (const unsigned char *)material, (int)n)
		      : -1;
	for (size_t i = n; got > 0 && i > n - 2 && material[i - 1] == '='; i--)
		got--;
	r = got > 0 ? key_material_parse((const char *)text, (size_t)got, &key) : -EINVAL;
	if (r == -ERANGE)
		return fault_set(f, FAULT_INVALID_KEY_FORMAT,
				 "Key length is not supported: 1024, 2048 and 4096 bits are");
	if (r < 0)
		return fault_set(f, FAULT_INVALID_KEY_FORMAT,
				 "Key is not in valid OpenSSH public key format");
	return save(c, name, &key, tags, ret_reply, f);
}

static json_t *present_with_key(const struct call *c, const struct doc *d)
{
	OWN(json_decref) json_t *j = doc_edit(d);

	(void)c;
	return j && jset(j, "PublicKey", jstr(d->json, "_PublicKey")) == 0 ? give(j) : NULL;
}

/* KeyNames become KeyPairIds, so that one rule finds both. */
static int names_to_ids(const struct call *c, json_t *parameters, struct fault *f)
{
	json_t *names = json_object_get(parameters, "KeyNames"),
	       *given = json_object_get(parameters, "KeyPairIds"), *ids, *name;
	size_t i;

	if (json_array_size(names) == 0)
		return 0;
	ids = given ? json_copy(given) : json_array();
	if (!ids || json_object_set_new(parameters, "KeyPairIds", ids) < 0)
		return fault_set(f, FAULT_INTERNAL_ERROR, "Out of memory");
	json_array_foreach (names, i, name) {
		const struct doc *d = NULL;
		int r = key_pair_find(c->store, c->ctx, json_string_value(name), &d, f);

		if (r < 0)
			return r;
		if (!jarray_has(ids, d->id) && json_array_append_new(ids, json_string(d->id)) < 0)
			return fault_set(f, FAULT_INTERNAL_ERROR, "Out of memory");
	}
	return 0;
}

int key_pair_describe(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	struct describe d = {.kind = KIND,
			     .result = "KeyPairs",
			     .ids = "KeyPairIds",
			     .malformed = FAULT_INVALID_KEY_PAIR_NOT_FOUND,
			     .not_found = FAULT_INVALID_KEY_PAIR_NOT_FOUND,
			     .filters = filters,
			     .present = jbool(parameters, "IncludePublicKey", 0) ? present_with_key
										 : NULL};
	OWN(json_decref) json_t *copy = json_copy(parameters);
	int r = copy ? names_to_ids(c, copy, f)
		     : fault_set(f, FAULT_INTERNAL_ERROR, "Out of memory");

	return r == 0 ? describe_run(c, &d, copy, ret_reply, f) : r;
}

int key_pair_delete(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	const char *name = jstr(parameters, "KeyName"), *id = jstr(parameters, "KeyPairId");
	const struct doc *d = NULL;

	if (!name && !id)
		return fault_set(f, FAULT_MISSING_PARAMETER,
				 "The request must contain the parameter KeyName or KeyPairId");
	d = id ? store_get(c->store, c->ctx, KIND, id) : find(c->store, c->ctx, name);
	if (d && id && name && strcmp(jstr_or(d->json, "KeyName", ""), name) != 0)
		return fault_set(f, FAULT_INVALID_PARAMETER_COMBINATION,
				 "KeyName and KeyPairId name different key pairs");
	if (id && !d)
		return fault_set(f, FAULT_INVALID_KEY_PAIR_NOT_FOUND,
				 "The key pair ID '%.64s' does not exist", id);
	if (d && txn_delete(c->txn, KIND, d->id) < 0)
		return fault_set(f, FAULT_INTERNAL_ERROR, "Out of memory");
	/* As AWS: deleting a name that is not there succeeds. */
	*ret_reply = d ? json_pack("{s:b, s:s}", "Return", 1, "KeyPairId", d->id)
		       : json_pack("{s:b}", "Return", 1);
	return *ret_reply ? 0 : fault_set(f, FAULT_INTERNAL_ERROR, "Out of memory");
}
