/*
 * What an instance is made of: netd's interfaces and stord's volumes.
 *
 * Theory: both are born attached to the instance's id, in one durable step of their owner, before
 * the instance itself is durable. So at any moment of a launch a crash leaves parts that name an
 * instance which does not exist, and nothing else; they are found by that name and removed
 * (parts_sweep_unknown). An instance under way in this process is claimed, so that it is not taken
 * for one.
 */
#include <errno.h>
#include <string.h>

#include "config.h"
#include "instance-rooms.h"
#include "volume.h"

#define RETRY_FIRST_USEC 1000000ull
#define RETRY_LAST_USEC	 60000000ull

static json_t *claims; /* instance id → [account, region] */

void parts_claim(const struct context *ctx, const char *instance_id)
{
	if (!claims)
		claims = json_object();
	/* out of memory: see parts_abandon */
	(void)json_object_set_new(claims, instance_id,
				  json_pack("[s, s]", ctx->account, ctx->region));
}

void parts_unclaim(const char *instance_id)
{
	(void)json_object_del(claims, instance_id); /* most are not */
}

void parts_abandon(const char *instance_id)
{
	const json_t *claim = json_object_get(claims, instance_id);
	struct context ctx = {0};

	if (!claim)
		return; /* the next start finds its parts */
	snprintf(ctx.account, sizeof(ctx.account), "%s",
		 json_string_value(json_array_get(claim, 0)));
	snprintf(ctx.region, sizeof(ctx.region), "%s", json_string_value(json_array_get(claim, 1)));
	id_uuid(ctx.request);
	parts_sweep_later(&ctx, instance_id);
}

int parts_call(const char *peer, const struct context *ctx, const char *method, json_t *parameters,
	       struct fault *f)
{
	OWN(json_decref) json_t *reply = NULL;
	OWN(json_decref) json_t *given = parameters;

	if (!given)
		return -ENOMEM;
	return rpc_call(daemon_peer(peer), ctx, method, given, NULL, &reply, NULL, f);
}

/* What a peer lists as attached to instances whose id fits `pattern` (a new list). */
static int attached(const char *peer, const struct context *ctx, const char *method,
		    const char *result, const char *pattern, json_t **ret_list, struct fault *f)
{
	OWN(json_decref) json_t *reply = NULL;
	OWN(json_decref)
	json_t *ask = json_pack("{s:[{s:s, s:[s]}]}", "Filters", "Name", "attachment.instance-id",
				"Values", pattern);

	if (!ask)
		return -ENOMEM;
	int r = rpc_call(daemon_peer(peer), ctx, method, ask, NULL, &reply, NULL, f);
	if (r < 0)
		return r;
	json_t *list = json_object_get(reply, result);
	*ret_list = list ? json_incref(list) : json_array();
	return 0;
}

int parts_interfaces(const struct context *ctx, const char *instance_id, json_t **ret_interfaces,
		     struct fault *f)
{
	return attached("netd", ctx, "ec2.DescribeNetworkInterfaces", "NetworkInterfaces",
			instance_id, ret_interfaces, f);
}

static int volumes_of(const struct context *ctx, const char *pattern, json_t **ret_volumes,
		      struct fault *f)
{
	return attached("stord", ctx, "ec2.DescribeVolumes", "Volumes", pattern, ret_volumes, f);
}

/* ---- making ---- */

static json_t *tag_specifications(const char *type, json_t *tags)
{
	return json_array_size(tags) ? json_pack("[{s:s, s:O}]", "ResourceType", type, "Tags", tags)
				     : NULL;
}

/* An interface of the customer's is attached; it stays when the instance goes, unless he says
 * so. */
static int take_interface(const struct context *ctx, const char *instance_id, json_t *spec,
			  json_t **ret_interface, struct fault *f)
{
	const char *id = jstr(spec, "NetworkInterfaceId");
	OWN(json_decref) json_t *reply = NULL;
	OWN(json_decref)
	json_t *ask =
		json_pack("{s:s, s:s, s:I, s:b, s:O}", "NetworkInterfaceId", id, "InstanceId",
			  instance_id, "DeviceIndex", (json_int_t)jint(spec, "_DeviceIndex", 0),
			  "_DeleteOnTermination", jbool(spec, "_DeleteOnTermination", 0),
			  "_AddressLimit", json_object_get(spec, "_AddressLimit"));
	OWN(json_decref) json_t *which = json_pack("{s:[s]}", "NetworkInterfaceIds", id);

	if (!ask || !which)
		return -ENOMEM;
	int r = parts_call("netd", ctx, "ec2.AttachNetworkInterface", json_incref(ask), f);
	if (r == 0)
		r = rpc_call(daemon_peer("netd"), ctx, "ec2.DescribeNetworkInterfaces", which, NULL,
			     &reply, NULL, f);
	if (r < 0)
		return r;
	*ret_interface =
		json_incref(json_array_get(json_object_get(reply, "NetworkInterfaces"), 0));
	return *ret_interface ? 0 : -EPROTO;
}

static int make_interface(const struct context *ctx, const struct launch *l,
			  const char *instance_id, json_t *spec, json_t **ret_interface,
			  struct fault *f)
{
	OWN(json_decref) json_t *reply = NULL;
	OWN(json_decref) json_t *ask = json_copy(spec);
	int r = jset_new(ask, "_AddressLimit",
			 json_integer((json_int_t)l->type->n_ipv4_per_interface));

	if (r < 0)
		return r;
	json_t *tags = tag_specifications("network-interface", l->interface_tags);

	if (jstr(spec, "NetworkInterfaceId")) {
		json_decref(tags);
		return take_interface(ctx, instance_id, ask, ret_interface, f);
	}
	if (tags && jset_new(ask, "TagSpecifications", tags) < 0)
		return -ENOMEM;
	if (jset(ask, "_InstanceId", instance_id) < 0 ||
	    jset(ask, "_AvailabilityZone", l->zone) < 0)
		return -ENOMEM;
	r = rpc_call(daemon_peer("netd"), ctx, "ec2.CreateNetworkInterface", ask, NULL, &reply,
		     NULL, f);
	if (r < 0)
		return r;
	*ret_interface = json_incref(json_object_get(reply, "NetworkInterface"));
	return *ret_interface ? 0 : -EPROTO;
}

static int make_interfaces(const struct context *ctx, const struct launch *l, json_t *instance,
			   struct fault *f)
{
	OWN(json_decref) json_t *list = json_array();
	const char *zone = NULL;
	json_t *spec, *interface;
	size_t i;

	json_array_foreach (l->interfaces, i, spec) {
		int r = make_interface(ctx, l, jstr(instance, "InstanceId"), spec, &interface, f);
		if (r < 0)
			return r;
		if (json_array_append_new(list, interface) < 0)
			return -ENOMEM;
		const char *its = jstr(interface, "AvailabilityZone");
		if (zone && its && strcmp(zone, its) != 0)
			return fault_set(f, FAULT_INVALID_PARAMETER_COMBINATION,
					 "Network interfaces of one instance must be in one zone");
		zone = its ? its : zone;
	}
	if (!zone)
		return -EPROTO;
	if (l->zone && strcmp(l->zone, zone) != 0)
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "Value (%s) for parameter availabilityZone is invalid. Subnet is "
				 "in the availability zone %s",
				 l->zone, zone);
	if (jset(json_object_get(instance, "Placement"), "AvailabilityZone", zone) < 0)
		return -ENOMEM;
	return instance_set_interfaces(instance, list);
}

static json_t *volume_request(const struct launch *l, const json_t *instance, const json_t *mapping)
{
	static const char *const same[][2] = {
		{"SnapshotId", "SnapshotId"}, {"VolumeSize", "Size"},
		{"VolumeType", "VolumeType"}, {"Iops", "Iops"},
		{"Throughput", "Throughput"}, {"Encrypted", "Encrypted"},
		{"KmsKeyId", "KmsKeyId"},     {"_SnapshotAccount", "_SnapshotAccount"}};
	const json_t *ebs = json_object_get(mapping, "Ebs");
	OWN(json_decref)
	json_t *ask =
		json_pack("{s:s, s:s, s:s, s:b}", "AvailabilityZone",
			  jpath_str(instance, "Placement.AvailabilityZone"), "_InstanceId",
			  jstr(instance, "InstanceId"), "_Device", jstr(mapping, "DeviceName"),
			  "_DeleteOnTermination", jbool(ebs, "DeleteOnTermination", 1));
	json_t *tags = tag_specifications("volume", l->volume_tags);

	if (tags && jset_new(ask, "TagSpecifications", tags) < 0)
		return NULL;
	for (size_t i = 0; i < sizeof(same) / sizeof(same[0]); i++) {
		json_t *value = json_object_get(ebs, same[i][0]);
		if (value && json_object_set(ask, same[i][1], value) < 0)
			return NULL;
	}
	return give(ask);
}

/* A row of the instance's own block device mapping. */
static json_t *mapping_of(const json_t *mapping, const json_t *volume)
{
	const json_t *attachment = json_array_get(json_object_get(volume, "Attachments"), 0);
	const char *since = jstr(attachment, "AttachTime");

	return json_pack("{s:s, s:{s:s, s:s, s:o, s:b}}", "DeviceName", jstr(mapping, "DeviceName"),
			 "Ebs", "VolumeId", jstr(volume, "VolumeId"), "Status",
			 jstr_or(attachment, "State", "attaching"), "AttachTime",
			 since ? json_string(since) : jtime_now(), "DeleteOnTermination",
			 jbool(json_object_get(mapping, "Ebs"), "DeleteOnTermination", 1));
}

static int make_volumes(const struct context *ctx, const struct launch *l, json_t *instance,
			struct fault *f)
{
	OWN(json_decref) json_t *list = json_array();
	json_t *mapping;
	size_t i;

	json_array_foreach (l->volumes, i, mapping) {
		OWN(json_decref) json_t *volume = NULL;
		OWN(json_decref) json_t *ask = volume_request(l, instance, mapping);
		if (!ask)
			return -ENOMEM;
		int r = rpc_call(daemon_peer("stord"), ctx, "ec2.CreateVolume", ask, NULL, &volume,
				 NULL, f);
		if (r < 0)
			return r;
		if (json_array_append_new(list, mapping_of(mapping, volume)) < 0)
			return -ENOMEM;
	}
	return jset_new(instance, "BlockDeviceMappings", give(list));
}

int parts_make(const struct context *ctx, const struct launch *l, json_t *instance, struct fault *f)
{
	int r = make_interfaces(ctx, l, instance, f);

	return r < 0 ? r : make_volumes(ctx, l, instance, f);
}

/* ---- unmaking ---- */

/* A launch that came to nothing takes back what was made for it, and nothing else. */
static int sweep_interface(const struct context *ctx, const json_t *instance,
			   const json_t *interface, struct fault *f)
{
	int is_deleted = json_is_true(
		jpath(interface, instance ? "Attachment.DeleteOnTermination" : "Attachment._Born"));
	json_t *ask = json_pack("{s:s, s:b}", "NetworkInterfaceId",
				jstr(interface, "NetworkInterfaceId"), "_Force", 1);
	int r = parts_call("netd", ctx,
			   is_deleted ? "ec2.DeleteNetworkInterface" : "ec2.DetachNetworkInterface",
			   ask, f);

	return f && fault_is(f, FAULT_INVALID_NETWORK_INTERFACE_ID_NOT_FOUND) ? 0 : r;
}

/* What the instance's document says of the volume; a volume that it does not know was attached
 * later, and stays. */
static int volume_is_deleted(const char *instance_id, const json_t *instance, const json_t *volume)
{
	const char *id = jstr_or(volume, "VolumeId", "");
	const json_t *attachment = volume_attachment(volume, instance_id);
	json_t *mapping;
	size_t i;

	/* Other instances have it still. */
	if (json_array_size(json_object_get(volume, "Attachments")) > 1)
		return 0;
	/* Born attached, a volume is `attaching` until the instance is durable and starts: only
	 * such a one is a leftover. */
	if (!instance)
		return jbool(attachment, "_Born", 0) &&
		       strcmp(jstr_or(attachment, "State", ""), "attached") != 0;
	json_array_foreach (json_object_get(instance, "BlockDeviceMappings"), i, mapping) {
		const json_t *ebs = json_object_get(mapping, "Ebs");
		if (strcmp(jstr_or(ebs, "VolumeId", ""), id) == 0)
			return jbool(ebs, "DeleteOnTermination", 0);
	}
	return jbool(attachment, "DeleteOnTermination", 0);
}

static int sweep_volume(const struct context *ctx, const char *instance_id, const json_t *instance,
			const json_t *volume, struct fault *f)
{
	json_t *ask = json_pack("{s:s, s:s, s:b}", "VolumeId", jstr(volume, "VolumeId"),
				"InstanceId", instance_id, "_Force", 1);
	int r = parts_call("stord", ctx,
			   volume_is_deleted(instance_id, instance, volume) ? "ec2.DeleteVolume"
									    : "ec2.DetachVolume",
			   ask, f);

	return f && fault_is(f, FAULT_INVALID_VOLUME_NOT_FOUND) ? 0 : r;
}

int parts_sweep(const struct context *ctx, const char *instance_id, const json_t *instance,
		struct fault *f)
{
	OWN(json_decref) json_t *interfaces = NULL;
	OWN(json_decref) json_t *volumes = NULL;
	json_t *item;
	size_t i;
	int r = parts_interfaces(ctx, instance_id, &interfaces, f);

	if (r == 0)
		r = volumes_of(ctx, instance_id, &volumes, f);
	json_array_foreach (interfaces, i, item)
		if (r == 0)
			r = sweep_interface(ctx, instance, item, f);
	json_array_foreach (volumes, i, item)
		if (r == 0)
			r = sweep_volume(ctx, instance_id, instance, item, f);
	return r;
}

struct sweep {
	struct context ctx;
	char instance_id[ID_MAX];
};

static void sweep_run(void *arg)
{
	OWN(free) struct sweep *s = arg;
	uint64_t wait_usec = RETRY_FIRST_USEC;

	for (;;) {
		struct fault fault = {0};
		int r = parts_sweep(&s->ctx, s->instance_id, NULL, &fault);
		if (r == 0)
			break;
		log_warning(r, "parts of an instance that came to nothing are left for now",
			    "INSTANCE", s->instance_id, "CODE", fault.code, "MESSAGE_TEXT",
			    fault.message);
		(void)fiber_sleep(wait_usec); /* a shorter wait is no harm */
		wait_usec = wait_usec * 2 < RETRY_LAST_USEC ? wait_usec * 2 : RETRY_LAST_USEC;
	}
	parts_unclaim(s->instance_id);
}

void parts_sweep_later(const struct context *ctx, const char *instance_id)
{
	struct sweep *s = calloc(1, sizeof(*s));

	if (!s)
		return; /* found again at the next start */
	s->ctx = *ctx;
	snprintf(s->instance_id, sizeof(s->instance_id), "%s", instance_id);
	if (fiber_spawn(sweep_run, s) < 0)
		free(s);
}

/* Adds the instance id that the attachment names if neither the store nor a launch under way
 * knows it: true when it is a leftover of a launch; false when it had been running, for then it
 * was durable once, and it is our memory that is amiss. */
static void collect_unknown(struct daemon *d, const json_t *attachment, json_t *unknown)
{
	const char *id = jstr(attachment, "InstanceId");

	if (!id || json_object_get(claims, id) || store_find(d->store, INSTANCE_KIND, id))
		return;
	/* volumes only: of interfaces the member is "Status" */
	int has_run = strcmp(jstr_or(attachment, "State", ""), "attached") == 0;
	if (has_run || !json_is_false(json_object_get(unknown, id)))
		/* out of memory: at the next start */
		(void)json_object_set_new(unknown, id, json_boolean(!has_run));
}

static void sweep_region(struct daemon *d, const struct context *ctx)
{
	OWN(json_decref) json_t *interfaces = NULL;
	OWN(json_decref) json_t *volumes = NULL;
	OWN(json_decref) json_t *unknown = json_object();
	struct fault fault = {0};
	const char *id;
	json_t *item, *attachment;
	size_t i, k;
	int r;

	/* A launch that begins while we ask is claimed before it makes anything, and what it
	 * made is claimed until it is stored. */
	while ((r = parts_interfaces(ctx, "i-*", &interfaces, &fault)) < 0 ||
	       (r = volumes_of(ctx, "i-*", &volumes, &fault)) < 0) {
		json_decref(interfaces);
		interfaces = NULL;
		(void)fiber_sleep(RETRY_FIRST_USEC * 5); /* a shorter wait is no harm */
	}
	json_array_foreach (interfaces, i, item)
		collect_unknown(d, json_object_get(item, "Attachment"), unknown);
	json_array_foreach (volumes, i, item)
		json_array_foreach (json_object_get(item, "Attachments"), k, attachment)
			collect_unknown(d, attachment, unknown);
	volumes_take_back(ctx, volumes);
	json_object_foreach (unknown, id, item) {
		if (json_is_false(item)) {
			log_error(0,
				  "a volume is attached to an instance that is not known; it is "
				  "left alone",
				  "INSTANCE", id);
			continue;
		}
		log_warning(0, "removing what a launch left behind that was cut off", "INSTANCE",
			    id);
		parts_sweep_later(ctx, id);
	}
}

void parts_sweep_unknown(struct daemon *d)
{
	struct context ctx = {0};

	snprintf(ctx.account, sizeof(ctx.account), "%s",
		 config_string(d->config, "Cloud", "Account"));
	id_uuid(ctx.request);
	for (const char *const *region = config_list(d->config, "Cloud", "Regions"); *region;
	     region++) {
		snprintf(ctx.region, sizeof(ctx.region), "%s", *region);
		sweep_region(d, &ctx);
	}
}
