/*
 * Who has a volume: attachments come and go. hvd asks; it owns the guests and does the plugging.
 *
 * An attachment is reserved first (`attaching`, _Begin), so that two customers cannot both have the
 * volume, and `attached` when the guest has it. A Multi-Attach volume has up to
 * ATTACHMENTS_MAX of them, any other one.
 */
#include "stord.h"

#include <errno.h>
#include <string.h>
#include <openssl/crypto.h>
#include "files.h"
#include "hold.h"
#include "config.h"
#include "layer.h"
#include "merge.h"
#include "volume-key.h"
#include "volume_type.h"

#define ATTACHMENTS_MAX 16 /* EBS user guide, "Attach an EBS volume to multiple instances" */

/* The volume's attachment to this instance and its place in the list; NULL: none. */
static json_t *attachment_find(const json_t *volume, const char *instance, size_t *ret_at)
{
	json_t *attachment;
	size_t i;

	json_array_foreach (json_object_get(volume, "Attachments"), i, attachment)
		if (strcmp(jstr_or(attachment, "InstanceId", ""), instance) == 0) {
			*ret_at = i;
			return attachment;
		}
	return NULL;
}

int volume_is_limited(const struct daemon *d)
{
	return config_bool(d->config, "Storage", "EnforceLimits");
}

/* What an encrypted layer stands on, from the top down: whoever opens the chain must give each of
 * them the key. NULL out of memory. */
static json_t *chain_under(const struct call *c, const struct doc *layer)
{
	OWN(json_decref) json_t *list = json_array();
	char path[FILE_PATH_MAX];

	for (unsigned n = 0; layer && n < LAYERS_FOLLOWED; n++) {
		layer = layer_find(c->store, jstr(layer->json, "Backing"));
		if (!layer)
			break;
		file_path(c->daemon, layer->id, path);
		if (json_array_append_new(list,
					  json_pack("{s:s, s:s}", "Path", path, "Format",
						    jstr_or(layer->json, "Format", "qcow2"))) < 0)
			return NULL;
	}
	return give(list);
}

static int attach_reply(const struct call *c, const json_t *volume, const char *instance,
			const char *key, json_t **ret_reply)
{
	char path[FILE_PATH_MAX];
	size_t at;
	OWN(json_decref) json_t *reply = json_copy(attachment_find(volume, instance, &at));

	file_path(c->daemon, jstr_or(volume, "_Layer", ""), path);
	const struct doc *layer = layer_find(c->store, jstr_or(volume, "_Layer", ""));
	int r = reply ? jset(reply, "_Path", path) : -ENOMEM;

	if (r == 0)
		r = jset(reply, "_Format", layer ? jstr(layer->json, "Format") : "qcow2");
	if (r == 0 && key)
		r = jset(reply, "_Passphrase", key);
	if (r == 0 && key)
		r = jset_new(reply, "_Chain", chain_under(c, layer));
	if (r == 0 && volume_is_limited(c->daemon))
		r = jset_new(reply, "_Limits", volume_limits(volume));
	if (r == 0 && jbool(volume, "MultiAttachEnabled", 0))
		r = jset_new(reply, "_IsShared", json_true());
	if (r == 0)
		*ret_reply = give(reply);
	return r;
}

/* Another instance has it already, or the volume is not where the instance is. */
static int attach_check_new(const struct doc *d, const json_t *parameters, struct fault *f)
{
	const char *zone = jstr(parameters, "_AvailabilityZone"),
		   *state = jstr_or(d->json, "State", ""), *its_zone;
	size_t n = json_array_size(json_object_get(d->json, "Attachments"));

	its_zone = jstr_or(d->json, "AvailabilityZone", "");
	if (!jstr(parameters, "Device"))
		return fault_set(f, FAULT_MISSING_PARAMETER,
				 "The request must contain the parameter device");
	if (zone && strcmp(zone, its_zone) != 0)
		return fault_set(f, FAULT_INVALID_VOLUME_ZONE_MISMATCH,
				 "The volume '%s' is not in the same availability zone as instance "
				 "'%.40s'",
				 d->id, jstr(parameters, "InstanceId"));
	if (n > 0 && !jbool(d->json, "MultiAttachEnabled", 0))
		return fault_set(f, FAULT_VOLUME_IN_USE, "%s is already attached to an instance",
				 d->id);
	if (n >= ATTACHMENTS_MAX)
		return fault_set(f, FAULT_ATTACHMENT_LIMIT_EXCEEDED,
				 "Volume '%s' is attached to %d instances, which is the limit.",
				 d->id, ATTACHMENTS_MAX);
	if (n == 0 && strcmp(state, "available") != 0 && strcmp(state, "in-use") != 0)
		return fault_set(f, FAULT_INCORRECT_STATE, "Volume '%s' is in the '%.16s' state.",
				 d->id, state);
	return 0;
}

static int attach_check(const struct doc *d, const json_t *parameters, struct fault *f)
{
	const char *instance = jstr(parameters, "InstanceId"),
		   *state = jstr_or(d->json, "State", "");
	size_t at;

	if (!instance)
		return fault_set(f, FAULT_MISSING_PARAMETER,
				 "The request must contain the parameter instanceId");
	if (strcmp(state, "error") == 0)
		return fault_set(f, FAULT_INCORRECT_STATE, "Volume '%s' is in the 'error' state.",
				 d->id);
	return attachment_find(d->json, instance, &at) ? 0 : attach_check_new(d, parameters, f);
}

/* The volume's new JSON: reserved for the instance, or attached to it. NULL out of memory. */
static json_t *attached_new(const struct doc *d, const json_t *parameters)
{
	const char *instance = jstr(parameters, "InstanceId");
	OWN(json_decref) json_t *v = doc_edit(d);
	json_t *list = json_object_get(v, "Attachments");
	size_t at;
	json_t *attachment = attachment_find(v, instance, &at);
	int r = list ? 0 : -ENOMEM, is_new = !attachment;

	if (r == 0 && is_new) {
		attachment =
			json_pack("{s:s, s:s, s:s, s:s, s:o, s:b}", "VolumeId", d->id, "InstanceId",
				  instance, "Device", jstr(parameters, "Device"), "State",
				  "attaching", "AttachTime", jtime_now(), "DeleteOnTermination", 0);
		r = json_array_append_new(list, attachment) < 0 ? -ENOMEM : 0;
	}
	json_t *value = json_object_get(parameters, "_DeleteOnTermination");

	if (r == 0 && value && json_object_set(attachment, "DeleteOnTermination", value) < 0)
		r = -ENOMEM;
	if (r == 0 && !jbool(parameters, "_Begin", 0))
		r = jset(attachment, "State", "attached");
	(void)json_object_del(v, "_IoError"); /* a new start; hvd says if it is not over */
	if (r == 0)
		r = jset(v, "State", "in-use");
	if (r == 0)
		r = jset_new(v, "_Ready", json_true());
	return r == 0 ? give(v) : NULL;
}

int volume_attach(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	OWN(hold_leave) struct hold *h = NULL;
	OWN(json_decref) json_t *volume = NULL;
	const struct doc *d = NULL;
	char key[VOLUME_KEY_BYTES];
	int r = volume_enter(c, parameters, &h, &d, f);

	if (r == 0)
		r = attach_check(d, parameters, f);
	if (r < 0)
		return r;
	r = volume_prepare(c->daemon, jstr(parameters, "VolumeId"));
	if (r == -ENOSPC || r == -EDQUOT)
		return fault_set(f, FAULT_INSUFFICIENT_VOLUME_CAPACITY,
				 "There is no room for the volume.");
	if (r == -EAGAIN)
		return fault_set(f, FAULT_SERVICE_UNAVAILABLE,
				 "A snapshot of the volume is still under way.");
	if (r == -ENODATA)
		return fault_set(f, FAULT_INCORRECT_STATE, "The data of volume '%s' is lost.",
				 jstr(parameters, "VolumeId"));
	if (r == 0)
		r = volume_get(c, parameters, &d, f); /* held: still there; tags may have changed */
	if (r < 0)
		return r;
	const struct doc *layer = layer_find(c->store, jstr(d->json, "_Layer"));
	int is_encrypted = jbool(d->json, "Encrypted", 0);
	char owner[ID_MAX];

	snprintf(owner, sizeof owner, "%s", layer ? jstr_or(layer->json, "Key", "") : "");
	if (is_encrypted && (r = volume_key_get(c->daemon, owner, 0, key)) < 0)
		return fault_set(f, FAULT_INCORRECT_STATE, "The key of volume '%s' is lost.",
				 jstr(parameters, "VolumeId"));
	r = volume_get(c, parameters, &d, f);
	volume = r == 0 ? attached_new(d, parameters) : NULL;
	if (r == 0)
		r = volume ? attach_reply(c, volume, jstr(parameters, "InstanceId"),
					  is_encrypted ? key : NULL, ret_reply)
			   : -ENOMEM;
	OPENSSL_cleanse(key, sizeof key);
	return r < 0 || json_equal(volume, d->json) ? r : txn_replace(c->txn, d, give(volume));
}

/* Takes the attachment away, or (_Begin) says that it is being taken away. */
static int detached(json_t *volume, json_t *attachment, size_t at, int is_begin)
{
	json_t *list = json_object_get(volume, "Attachments");
	int is_ready = jbool(volume, "_Ready", 0);

	if (is_begin)
		return jset(attachment, "State", "detaching");
	if (json_array_remove(list, at) < 0)
		return -ENOMEM;
	(void)json_object_del(volume, "_IoError"); /* seldom there */
	return json_array_size(list) > 0
		       ? 0
		       : jset(volume, "State", is_ready ? "available" : "creating");
}

int volume_detach(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	OWN(hold_leave) struct hold *h = NULL;
	OWN(json_decref) json_t *volume = NULL, *reply = NULL;
	const struct doc *d = NULL;
	int r = volume_enter(c, parameters, &h, &d, f), is_begin = jbool(parameters, "_Begin", 0);
	size_t at;

	if (r < 0)
		return r;
	const char *instance = jstr_or(parameters, "InstanceId", volume_attached_to(d->json));

	if (!instance || !volume_attached_to(d->json))
		return fault_set(f, FAULT_INCORRECT_STATE, "Volume '%s' is in the '%s' state.",
				 d->id, jstr_or(d->json, "State", ""));
	volume = doc_edit(d);
	json_t *attachment = attachment_find(volume, instance, &at);

	if (volume && !attachment)
		return fault_set(f, FAULT_INVALID_ATTACHMENT_NOT_FOUND,
				 "The volume '%s' is not attached to instance '%.64s'.", d->id,
				 instance);
	reply = json_copy(attachment);
	r = reply ? jset(reply, "State", is_begin ? "detaching" : "detached") : -ENOMEM;
	if (r == 0)
		r = detached(volume, attachment, at, is_begin);
	int is_unmade = strcmp(jstr_or(volume, "State", ""), "creating") == 0;

	if (r == 0)
		r = txn_replace(c->txn, d, give(volume));
	if (r == 0 && !is_begin)
		merge_kick(c->daemon); /* what was too much to merge while a start might come */
	if (r == 0 && is_unmade)
		r = volume_prepare_later(c->daemon, jstr(parameters, "VolumeId"));
	if (r == 0)
		*ret_reply = give(reply);
	return r;
}
