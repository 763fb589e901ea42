/* Encryption as customers ask for it: requests, and the account's settings. */
#include "encryption.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>
#include "stord.h"

#define SETTINGS_KIND "_ebs-settings"
#define DEFAULT_KEY   "alias/aws/ebs"

static void settings_id(const struct call *c, char ret_id[static 64])
{
	snprintf(ret_id, 64, "%s/%s", c->ctx->account, c->ctx->region);
}

/* A key's id, alias or either's ARN of this region: KMS API reference, "KeyId". */
static int key_check(const struct call *c, const char *key, struct fault *f)
{
	char prefix[64];
	const char *name = key;

	snprintf(prefix, sizeof prefix, "arn:aws:kms:%s:", c->ctx->region);
	if (strncmp(key, "arn:", 4) == 0) {
		name = strncmp(key, prefix, strlen(prefix)) == 0 ? strchr(key + strlen(prefix), ':')
								 : NULL;
		name = name ? name + 1 : "";
		if (strncmp(name, "key/", 4) == 0)
			name += 4;
		else if (strncmp(name, "alias/", 6) != 0)
			name = "";
	}
	size_t n =
		strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_/");

	if (n > 0 && !name[n] && n <= 256)
		return 0;
	return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
			 "Value (%.64s) for parameter kmsKeyId is invalid.", key);
}

/* As AWS shows it (a new reference). */
static json_t *key_arn(const struct call *c, const char *key)
{
	if (strncmp(key, "arn:", 4) == 0)
		return json_string(key);
	return json_sprintf("arn:aws:kms:%s:%s:%s%s", c->ctx->region, c->ctx->account,
			    strncmp(key, "alias/", 6) == 0 ? "" : "key/", key);
}

static const json_t *settings_of(const struct call *c)
{
	char id[64];

	settings_id(c, id);
	const struct doc *d = store_find(c->store, SETTINGS_KIND, id);

	return d ? d->json : NULL;
}

static const char *default_key(const struct call *c)
{
	return jstr_or(settings_of(c), "KmsKeyId", DEFAULT_KEY);
}

int encryption_is_default(const struct call *c)
{
	return jbool(settings_of(c), "EncryptionByDefault", 0);
}

/* ---- requests ---- */

struct encryption_ask encryption_asked(const json_t *parameters, const char *key_member)
{
	return (struct encryption_ask){.is_said = json_object_get(parameters, "Encrypted") != NULL,
				       .is_on = jbool(parameters, "Encrypted", 0),
				       .is_plain = jbool(parameters, "_Plain", 0),
				       .key = jstr(parameters, key_member)};
}

/* By which key: the one that is named; else the origin's, if it is the caller's own and of this
 * region; else the account's default. */
static int choose_key(const struct call *c, const char *named, const struct doc *origin,
		      char ret_key[static KMS_KEY_MAX])
{
	int is_own = origin && jbool(origin->json, "Encrypted", 0) &&
		     strcmp(origin->account, c->ctx->account) == 0 &&
		     strcmp(origin->region, c->ctx->region) == 0;
	const char *key = named	   ? named
			  : is_own ? jstr_or(origin->json, "KmsKeyId", DEFAULT_KEY)
				   : default_key(c);
	OWN(json_decref) json_t *arn = key_arn(c, key);

	if (!arn)
		return -ENOMEM;
	snprintf(ret_key, KMS_KEY_MAX, "%s", json_string_value(arn));
	return 0;
}

int encryption_choose(const struct call *c, const struct encryption_ask *ask,
		      const struct doc *origin, struct encryption *ret_encryption, struct fault *f)
{
	const char *named = ask->key && *ask->key ? ask->key : NULL;
	int is_origin = origin && jbool(origin->json, "Encrypted", 0);
	struct encryption e = {.is_on = !ask->is_plain &&
					(ask->is_on || is_origin || encryption_is_default(c))};

	if (is_origin && ask->is_said && !ask->is_on)
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "Snapshot '%s' is encrypted: what is made from it cannot be "
				 "unencrypted.",
				 origin->id);
	if (named && !e.is_on)
		return fault_set(f, FAULT_INVALID_PARAMETER_DEPENDENCY,
				 "The parameter KmsKeyId requires the parameter Encrypted to be "
				 "set.");
	int r = named ? key_check(c, named, f) : 0;

	if (r == 0 && e.is_on)
		r = choose_key(c, named, origin, e.key);
	if (r < 0)
		return r;
	e.is_anew = e.is_on && origin &&
		    (!is_origin || strcmp(e.key, jstr_or(origin->json, "KmsKeyId", "")) != 0);
	*ret_encryption = e;
	return 0;
}

int encryption_set(json_t *json, const struct encryption *e)
{
	int r = jset_new(json, "Encrypted", json_boolean(e->is_on));

	return r == 0 && e->is_on ? jset(json, "KmsKeyId", e->key) : r;
}

void encryption_data_key(const char *owner, char ret_id[static ID_MAX + 8])
{
	const char *dash = strchr(owner, '-');

	snprintf(ret_id, ID_MAX + 8, "dek-%s", dash ? dash + 1 : owner);
}

/* ---- the account's settings ---- */

/* One setting changes (value NULL: it goes back to what it was); `value` is taken over. */
static int change_setting(struct call *c, const char *name, json_t *value)
{
	char id[64];
	const json_t *old = settings_of(c);
	OWN(json_decref) json_t *json = old ? json_copy((json_t *)old) : json_object();
	int r = json ? 0 : -ENOMEM;

	settings_id(c, id);
	if (r == 0 && value)
		r = jset_new(json, name, value);
	else if (json)
		(void)json_object_del(json, name); /* it may not be there */
	return r == 0 ? txn_put(c->txn, SETTINGS_KIND, id, c->ctx->account, c->ctx->region,
				give(json))
		      : r;
}

static int answer_default(int is_on, json_t **ret_reply)
{
	*ret_reply = json_pack("{s:b, s:s}", "EbsEncryptionByDefault", is_on, "SseType",
			       is_on ? "sse-kms" : "none");
	return *ret_reply ? 0 : -ENOMEM;
}

int ebs_get_encryption(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	(void)parameters, (void)f;
	return answer_default(encryption_is_default(c), ret_reply);
}

static int switch_default(struct call *c, int is_on, json_t **ret_reply)
{
	int r = change_setting(c, "EncryptionByDefault", is_on ? json_true() : NULL);

	if (r == 0)
		*ret_reply = json_pack("{s:b}", "EbsEncryptionByDefault", is_on);
	return r < 0 ? r : *ret_reply ? 0 : -ENOMEM;
}

int ebs_enable_encryption(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	(void)parameters, (void)f;
	return switch_default(c, 1, ret_reply);
}

int ebs_disable_encryption(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	(void)parameters, (void)f;
	return switch_default(c, 0, ret_reply);
}

int ebs_get_key(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	(void)parameters, (void)f;
	*ret_reply = json_pack("{s:s}", "KmsKeyId", default_key(c));
	return *ret_reply ? 0 : -ENOMEM;
}

int ebs_modify_key(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	const char *key = jstr_or(parameters, "KmsKeyId", "");
	int r = key_check(c, key, f);

	if (r < 0)
		return r;
	OWN(json_decref) json_t *arn = key_arn(c, key);

	r = arn ? change_setting(c, "KmsKeyId", json_incref(arn)) : -ENOMEM;
	if (r == 0)
		*ret_reply = json_pack("{s:O}", "KmsKeyId", arn);
	return r < 0 ? r : *ret_reply ? 0 : -ENOMEM;
}

int ebs_reset_key(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	int r = change_setting(c, "KmsKeyId", NULL);

	(void)parameters, (void)f;
	if (r == 0)
		*ret_reply = json_pack("{s:s}", "KmsKeyId", DEFAULT_KEY);
	return r < 0 ? r : *ret_reply ? 0 : -ENOMEM;
}
