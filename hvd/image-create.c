/*
 * CreateImage: an image of an instance, of all its volumes at one moment.
 *
 * Without NoReboot the guest is rebooted and the moment is when it has powered off cleanly: nothing
 * is mounted then, and its next start has not reached its disks yet. A guest that does not listen
 * is reset after the time that RebootInstances gives it. With NoReboot the agent inside is asked to
 * freeze the file systems for that moment, if there is one; else the snapshot is as of a power cut,
 * as AWS says of it.
 */
#include "image-work.h"

#include <errno.h>
#include <string.h>
#include "fiber.h"
#include "guest.h"
#include "id.h"
#include "instance-rooms.h"
#include "jsonx.h"
#include "tags.h"

#define MAPPINGS_MAX 27

/* ---- waiting for a reboot ---- */

struct waiter {
	struct waiter *next;
	const char *instance_id;
	int has_rebooted;
};
static struct waiter *waiters;

void image_on_event(const char *instance_id, enum virt_event event)
{
	for (struct waiter *w = waiters; w; w = w->next)
		if (strcmp(w->instance_id, instance_id) == 0 &&
		    (event == VIRT_REBOOTED || event == VIRT_SHUTDOWN || event == VIRT_DESTROYED))
			w->has_rebooted = 1;
}

/* (fiber) Returns when the guest is off, or on its way up again. Not running: at once. */
static int reboot(struct daemon *d, const char *instance_id)
{
	const struct doc *instance = store_find(d->store, INSTANCE_KIND, instance_id);
	uint64_t patience = (uint64_t)config_integer(d->config, "Compute", "StopTimeoutSec") *
			    UINT64_C(1000000);
	struct waiter w = {.instance_id = instance_id, .next = waiters};

	if (!instance || instance_state_of(instance->json) != INSTANCE_RUNNING)
		return 0;
	if (!virt_is_connected(hvd_get()->virt))
		return -ENOTCONN;
	OWN(json_decref) json_t *changed = doc_edit(instance);
	int r = changed ? instance_want_reboot(changed) : -ENOMEM;

	if (r == 0)
		r = instance_commit(instance, give(changed));
	waiters = &w;
	instance_kick(instance_id);
	/* Its reset comes after `patience`, and that may begin when its agent has been waited for, so
	 * this ends. */
	for (uint64_t end = now_usec() + GUEST_WAIT_USEC + 2 * patience; r == 0 && !w.has_rebooted;)
		r = now_usec() > end ? -ETIMEDOUT : fiber_sleep(5000);
	for (struct waiter **slot = &waiters; *slot; slot = &(*slot)->next)
		if (*slot == &w) {
			*slot = w.next;
			break;
		}
	return r;
}

/* ---- the work ---- */

static void describe(const char *instance_id, const char *image_id, char ret_text[static 128])
{
	snprintf(ret_text, 128, "Created by CreateImage(%s) for %s", instance_id, image_id);
}

/* The volumes of the rows that still need a snapshot. */
static json_t *volumes_of(const json_t *image)
{
	json_t *ids = json_array(), *m;
	size_t i;

	json_array_foreach (json_object_get(image, "BlockDeviceMappings"), i, m)
		if (jpath(m, "Ebs._Volume"))
			(void)json_array_append(ids,
						jpath(m, "Ebs._Volume")); /* short: asked again */
	return ids;
}

/* (fiber) Those that an earlier try made. How many rows are left without, or -errno. */
static int adopt(struct daemon *d, const char *image_id, const char *description, struct fault *f)
{
	const struct doc *image = image_pending(d, image_id);
	OWN(json_decref) json_t *json = image ? json_incref(image->json) : NULL;
	struct context ctx = image ? image_context(image) : (struct context){0};
	int n_left = 0;
	size_t i;
	json_t *m;

	json_array_foreach (json_object_get(json, "BlockDeviceMappings"), i, m) {
		const char *volume = jpath_str(m, "Ebs._Volume");
		char snapshot[40];

		if (!volume)
			continue;
		int r = image_find_snapshot(&ctx, description, volume, snapshot, f);

		if (r == 0 && snapshot[0])
			r = image_set_snapshot(d, image_id, i, snapshot, f);
		else
			n_left++;
		if (r < 0)
			return r;
	}
	return json ? n_left : -ECANCELED;
}

/* The instance's other volumes are not asked for. */
static int excluded(const struct daemon *d, const char *instance_id, const json_t *volumes,
		    json_t *specification)
{
	const struct doc *instance = store_find(d->store, INSTANCE_KIND, instance_id);
	OWN(json_decref) json_t *others = json_array();
	size_t i;
	json_t *m;

	if (!instance)
		return -ECANCELED;
	json_array_foreach (json_object_get(instance->json, "BlockDeviceMappings"), i, m) {
		const char *volume = jpath_str(m, "Ebs.VolumeId");

		if (volume && !jarray_has(volumes, volume) &&
		    json_array_append_new(others, json_string(volume)) < 0)
			return -ENOMEM;
	}
	return json_array_size(others) == 0
		       ? 0
		       : jset_new(specification, "ExcludeDataVolumeIds", give(others));
}

/* (fiber) All at one moment. */
static int take(struct daemon *d, const char *image_id, const char *description, struct fault *f)
{
	const struct doc *image = image_pending(d, image_id);
	OWN(json_decref) json_t *json = image ? json_incref(image->json) : NULL;
	OWN(json_decref) json_t *volumes = volumes_of(json), *reply = NULL;
	const json_t *work = json_object_get(json, "_Work");
	const char *instance_id = jstr_or(work, "Instance", "");
	OWN(json_decref)
	json_t *ask = json_pack("{s:s, s:{s:s}}", "Description", description,
				"InstanceSpecification", "InstanceId", instance_id);

	if (!image)
		return -ECANCELED;
	struct context ctx = image_context(image);
	int r = !ask || !volumes ? -ENOMEM
				 : excluded(d, instance_id, volumes,
					    json_object_get(ask, "InstanceSpecification"));

	if (r == -ECANCELED)
		return fault_set(f, FAULT_INVALID_INSTANCE_ID_NOT_FOUND,
				 "The instance ID '%s' does not exist", instance_id);
	if (r == 0 && json_array_size(json_object_get(work, "SnapshotTags")) > 0)
		r = jset_new(ask, "TagSpecifications",
			     json_pack("[{s:s, s:O}]", "ResourceType", "snapshot", "Tags",
				       json_object_get(work, "SnapshotTags")));
	if (r == 0)
		r = rpc_call(daemon_peer("stord"), &ctx, "ec2.CreateSnapshots", ask, NULL, &reply,
			     NULL, f);
	return r;
}

int image_create_work(struct daemon *d, const char *image_id, struct fault *f)
{
	const struct doc *image = image_pending(d, image_id);
	char description[128], instance_id[ID_MAX];

	if (!image)
		return -ECANCELED;
	const json_t *work = json_object_get(image->json, "_Work");
	int is_reboot = jbool(work, "Reboot", 0);

	snprintf(instance_id, sizeof instance_id, "%s", jstr_or(work, "Instance", ""));
	describe(instance_id, image_id, description);
	int n_left = adopt(d, image_id, description, f);

	if (n_left <= 0)
		return n_left;
	int r = is_reboot ? reboot(d, instance_id) : 0;

	if (r < 0)
		return fault_set(f, FAULT_SERVICE_UNAVAILABLE,
				 "The instance could not be rebooted");
	int is_frozen = r == 0 && !is_reboot && guest_freeze(instance_id) == 0;

	r = take(d, image_id, description, f);
	if (is_frozen)
		guest_thaw(instance_id);
	n_left = r == 0 ? adopt(d, image_id, description, f) : r;
	if (n_left > 0)
		return fault_set(f, FAULT_INTERNAL_ERROR, "A volume was not snapshotted");
	return n_left;
}

/* ---- the action ---- */

static json_t *row_find(const json_t *rows, const char *device, size_t *ret_i)
{
	size_t i;
	json_t *row;

	json_array_foreach (rows, i, row)
		if (strcmp(jstr_or(row, "DeviceName", ""), device) == 0) {
			*ret_i = i;
			return row;
		}
	return NULL;
}

/* What the request says of a device goes over what the instance has. */
static int rows_merge(json_t *rows, const json_t *given, const char *root, struct fault *f)
{
	const char *device = jstr(given, "DeviceName");
	const json_t *ebs = json_object_get(given, "Ebs");
	size_t i = 0;

	if (!device)
		return fault_set(f, FAULT_MISSING_PARAMETER,
				 "The request must contain the parameter deviceName");
	json_t *row = row_find(rows, device, &i);

	if (json_object_get(given, "NoDevice")) {
		if (strcmp(device, root) == 0)
			return fault_set(f, FAULT_INVALID_BLOCK_DEVICE_MAPPING,
					 "The root device cannot be left out");
		return row && json_array_remove(rows, i) < 0 ? -ENOMEM : 0;
	}
	if (!ebs)
		return jstr(given, "VirtualName")
			       ? 0
			       : fault_set(f, FAULT_INVALID_BLOCK_DEVICE_MAPPING,
					   "The device '%.64s' names no volume", device);
	if (row && (jstr(ebs, "SnapshotId") || jstr(ebs, "KmsKeyId")))
		return fault_set(f, FAULT_INVALID_BLOCK_DEVICE_MAPPING,
				 "The snapshot of device '%.64s' is made by this request", device);
	if (!row)
		return json_array_append_new(rows, json_deep_copy(given)) < 0 ? -ENOMEM : 0;
	if (jint(ebs, "VolumeSize", INT64_MAX) < jint(json_object_get(row, "Ebs"), "VolumeSize", 1))
		return fault_set(f, FAULT_INVALID_BLOCK_DEVICE_MAPPING,
				 "The volume of device '%.64s' cannot be smaller", device);
	return json_object_update(json_object_get(row, "Ebs"), (json_t *)ebs) < 0 ? -ENOMEM : 0;
}

/* (fiber) A row for each volume of the instance, with its type and size. */
static int rows_of(const struct call *c, const json_t *instance, json_t **ret_rows, struct fault *f)
{
	OWN(json_decref) json_t *rows = json_array(), *ids = json_array(), *reply = NULL;
	size_t i, k;
	json_t *m, *v;

	json_array_foreach (json_object_get(instance, "BlockDeviceMappings"), i, m)
		if (jpath(m, "Ebs.VolumeId") &&
		    json_array_append(ids, jpath(m, "Ebs.VolumeId")) < 0)
			return -ENOMEM;
	OWN(json_decref) json_t *ask = json_pack("{s:O}", "VolumeIds", ids);
	int r = rpc_call(daemon_peer("stord"), c->ctx, "ec2.DescribeVolumes", ask, NULL, &reply,
			 NULL, f);

	if (r < 0)
		return r;
	json_array_foreach (json_object_get(instance, "BlockDeviceMappings"), i, m)
		json_array_foreach (json_object_get(reply, "Volumes"), k, v) {
			const char *id = jstr_or(v, "VolumeId", "");
			json_t *ebs;

			if (strcmp(id, jpath_str(m, "Ebs.VolumeId") ?: "") != 0)
				continue;
			ebs = json_pack("{s:s, s:I, s:s, s:b, s:b, s:O*, s:O*}", "_Volume", id,
					"VolumeSize", (json_int_t)jint(v, "Size", 1), "VolumeType",
					jstr_or(v, "VolumeType", "gp2"), "DeleteOnTermination",
					jbool(json_object_get(m, "Ebs"), "DeleteOnTermination", 0),
					"Encrypted", jbool(v, "Encrypted", 0), "Iops",
					strcmp(jstr_or(v, "VolumeType", ""), "gp2") == 0
						? NULL
						: json_object_get(v, "Iops"),
					"Throughput", json_object_get(v, "Throughput"));
			if (json_array_append_new(rows, json_pack("{s:O, s:o}", "DeviceName",
								  json_object_get(m, "DeviceName"),
								  "Ebs", ebs)) < 0)
				return -ENOMEM;
		}
	*ret_rows = give(rows);
	return 0;
}

static int rows_make(const struct call *c, json_t *p, const json_t *instance, json_t **ret_rows,
		     struct fault *f)
{
	json_t *rows = NULL, *given;
	size_t i;
	int r = rows_of(c, instance, &rows, f);

	json_array_foreach (json_object_get(p, "BlockDeviceMappings"), i, given)
		if (r == 0)
			r = rows_merge(rows, given, jstr_or(instance, "RootDeviceName", ""), f);
	if (r == 0 && json_array_size(rows) > MAPPINGS_MAX)
		r = fault_set(f, FAULT_INVALID_BLOCK_DEVICE_MAPPING,
			      "At most %d devices can be mapped", MAPPINGS_MAX);
	/* As RegisterImage's; an encrypted volume is what it is. */
	json_array_foreach (rows, i, given)
		if (r == 0 && !(jpath(given, "Ebs._Volume") &&
				jbool(json_object_get(given, "Ebs"), "Encrypted", 0)))
			r = image_mapping_check(c, given, f);
	if (r < 0)
		json_decref(rows);
	else
		*ret_rows = rows;
	return r;
}

static json_t *image_json(const struct call *c, json_t *p, const json_t *instance, const char *id,
			  json_t *rows, json_t *tags)
{
	static const char *const copied[] = {
		"Architecture", "KernelId",	      "RamdiskId",	"_Cmdline",
		"BootMode",	"VirtualizationType", "RootDeviceName", "EnaSupport",
		"Hypervisor",	"PlatformDetails",    "UsageOperation"};
	const char *name = jstr(p, "Name");
	OWN(json_decref)
	json_t *j = json_pack(
		"{s:s, s:s, s:s++, s:s, s:b, s:s, s:s, s:s, s:b, s:b, s:o, s:O, s:O, s:s, s:s*}",
		"ImageId", id, "Name", name, "ImageLocation", c->ctx->account, "/", name,
		"ImageType", "machine", "Public", 0, "OwnerId", c->ctx->account, "State", "pending",
		"RootDeviceType", "ebs", "ImageAllowed", 1, "FreeTierEligible", 1, "CreationDate",
		jtime_now(), "BlockDeviceMappings", rows, "Tags", tags, "SourceInstanceId",
		jstr(p, "InstanceId"), "Description", jstr(p, "Description"));
	int r = j ? 0 : -1;

	for (size_t i = 0; i < sizeof copied / sizeof *copied; i++)
		if (json_object_get(instance, copied[i]))
			r |= json_object_set(j, copied[i], json_object_get(instance, copied[i]));
	return r == 0 ? give(j) : NULL;
}

static int instance_allows(const struct call *c, const char *id, const struct doc **ret_instance,
			   struct fault *f)
{
	int r = instance_get(c, id, ret_instance, f);

	if (r < 0)
		return r;
	enum instance_state state = instance_state_of((*ret_instance)->json);

	if (state != INSTANCE_RUNNING && state != INSTANCE_STOPPED)
		return fault_set(f, FAULT_INCORRECT_INSTANCE_STATE,
				 "Instance '%s' is not in a state from which an image can be made: "
				 "%s",
				 id, instance_state_name(state));
	return 0;
}

int image_create(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	static const char *const taggable[] = {"image", "snapshot", NULL};
	const char *instance_id = jstr(parameters, "InstanceId"),
		   *description = jstr_or(parameters, "Description", "");
	OWN(json_decref) json_t *rows = NULL, *tags = NULL, *snapshot_tags = NULL, *image = NULL;
	const struct doc *found = NULL;
	char id[ID_MAX];
	int r = image_name_check(c, jstr(parameters, "Name"), f);

	if (r == 0)
		r = instance_allows(c, instance_id, &found, f);
	if (r == 0)
		r = tags_from_specifications(parameters, "image", taggable, &tags, f);
	if (r == 0)
		r = tags_from_specifications(parameters, "snapshot", taggable, &snapshot_tags, f);
	if (r < 0)
		return r;
	if (strlen(description) > 255)
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "Description may have at most 255 characters");
	OWN(json_decref) json_t *instance = json_incref(found->json); /* across the waits */

	r = rows_make(c, parameters, instance, &rows, f);
	if (r == 0) /* another request may have taken the name meanwhile */
		r = image_name_check(c, jstr(parameters, "Name"), f);
	if (r < 0)
		return r;
	id_new("ami", id);
	image = image_json(c, parameters, instance, id, rows, tags);
	r = image ? jset_new(image, "_Work",
			     json_pack("{s:s, s:s, s:b, s:O}", "Kind", "create", "Instance",
				       instance_id, "Reboot", !jbool(parameters, "NoReboot", 0),
				       "SnapshotTags", snapshot_tags))
		  : -ENOMEM;
	if (r == 0)
		r = txn_put(c->txn, IMAGE_KIND, id, c->ctx->account, c->ctx->region, give(image));
	if (r == 0)
		r = image_work_start(c->daemon, id);
	if (r == 0)
		*ret_reply = json_pack("{s:s}", "ImageId", id);
	return r;
}
