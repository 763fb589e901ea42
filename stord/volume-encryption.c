/*
 * Encryption as customers ask for it: Encrypted and KmsKeyId of CreateVolume, and the account's
 * default key. There is no key service: an id of a key is kept and shown, and the data's keys are
 * stord's own (volume-key.h).
 *
 * Not everything can be encrypted yet: volumes from snapshots that are not encrypted cannot (their
 * data lies in layers that are not), so encryption by default, which would have to encrypt roots,
 * is refused.
 */
#include "stord.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>

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

static const char *default_key(const struct call *c)
{
	char id[64];

	settings_id(c, id);
	const struct doc *d = store_find(c->store, SETTINGS_KIND, id);

	return d ? jstr_or(d->json, "KmsKeyId", DEFAULT_KEY) : DEFAULT_KEY;
}

/* A volume from an encrypted snapshot is encrypted, by the snapshot's key. */
static int check_origin(const struct call *c, const json_t *parameters, const struct doc *snapshot,
			struct fault *f)
{
	const char *key = jstr_or(parameters, "KmsKeyId", "");

	if (!jbool(snapshot->json, "Encrypted", 0))
		return !jbool(parameters, "Encrypted", 0)
			       ? 0
			       : fault_set(f, FAULT_UNSUPPORTED_OPERATION,
					   "An encrypted volume from a snapshot that is not "
					   "encrypted is not supported here.");
	if (!jbool(parameters, "Encrypted", 1))
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "Snapshot '%s' is encrypted: a volume from it cannot be "
				 "unencrypted.",
				 snapshot->id);
	OWN(json_decref) json_t *arn = *key ? key_arn(c, key) : NULL;

	if (arn && strcmp(json_string_value(arn), jstr_or(snapshot->json, "KmsKeyId", "")) != 0)
		return fault_set(f, FAULT_UNSUPPORTED_OPERATION,
				 "A volume from an encrypted snapshot under another key is not "
				 "supported here.");
	return 0;
}

int volume_encryption_check(const struct call *c, const json_t *parameters,
			    const struct doc *snapshot, struct fault *f)
{
	const char *key = jstr(parameters, "KmsKeyId");

	if (key && *key && !jbool(parameters, "Encrypted", 0))
		return fault_set(f, FAULT_INVALID_PARAMETER_DEPENDENCY,
				 "The parameter KmsKeyId requires the parameter Encrypted to be "
				 "set.");
	int r = key && *key ? key_check(c, key, f) : 0;

	if (r == 0 && snapshot)
		r = check_origin(c, parameters, snapshot, f);
	if (r < 0 || !jbool(parameters, "Encrypted", 0))
		return r;
	if (jbool(parameters, "MultiAttachEnabled", 0))
		return fault_set(f, FAULT_UNSUPPORTED_OPERATION,
				 "An encrypted Multi-Attach volume is not supported here.");
	return 0;
}

int volume_encryption_set(const struct call *c, const json_t *parameters,
			  const struct doc *snapshot, json_t *volume)
{
	const char *key = jstr_or(parameters, "KmsKeyId", "");
	int is_inherited = snapshot && jbool(snapshot->json, "Encrypted", 0);

	if (!jbool(parameters, "Encrypted", 0) && !is_inherited)
		return 0;
	int r = jset_new(volume, "Encrypted", json_true());

	if (r == 0 && is_inherited)
		return jset(volume, "KmsKeyId", jstr_or(snapshot->json, "KmsKeyId", DEFAULT_KEY));
	return r < 0 ? r : jset_new(volume, "KmsKeyId", key_arn(c, *key ? key : default_key(c)));
}

/* ---- the account's settings ---- */

int ebs_get_encryption(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	(void)c, (void)parameters, (void)f;
	*ret_reply = json_pack("{s:b}", "EbsEncryptionByDefault", 0);
	return *ret_reply ? 0 : -ENOMEM;
}

int ebs_enable_encryption(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	(void)c, (void)parameters, (void)ret_reply;
	return fault_set(f, FAULT_UNSUPPORTED_OPERATION,
			 "Encryption by default is not supported here: volumes from snapshots "
			 "that are not encrypted cannot be.");
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
	char id[64];
	int r = key_check(c, key, f);

	if (r < 0)
		return r;
	OWN(json_decref) json_t *arn = key_arn(c, key);

	settings_id(c, id);
	r = txn_put(c->txn, SETTINGS_KIND, id, c->ctx->account, c->ctx->region,
		    json_pack("{s:O}", "KmsKeyId", arn));
	if (r == 0)
		*ret_reply = json_pack("{s:O}", "KmsKeyId", arn);
	return r < 0 ? r : *ret_reply ? 0 : -ENOMEM;
}

int ebs_reset_key(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	char id[64];

	(void)parameters, (void)f;
	settings_id(c, id);
	if (store_find(c->store, SETTINGS_KIND, id)) {
		int r = txn_delete(c->txn, SETTINGS_KIND, id);

		if (r < 0)
			return r;
	}
	*ret_reply = json_pack("{s:s}", "KmsKeyId", DEFAULT_KEY);
	return *ret_reply ? 0 : -ENOMEM;
}
