/* RunInstances' parameters: checked, completed, and turned into what all instances of the launch
 * have in common. */
#include <errno.h>
#include <string.h>
#include <sys/sysinfo.h>

#include "instance-rooms.h"
#include "tags.h"
#include "zones.h"

#define TYPE_DEFAULT "t3.micro" /* AWS's is m1.small, which is no more to be had */

/* AWS's parameters for what one box does not have. */
static const char *const unsupported[] = {
	"LaunchTemplate",
	"InstanceMarketOptions",
	"IamInstanceProfile",
	"LicenseSpecifications",
	"HibernationOptions.Configured",
	"KernelId",
	"RamdiskId",
	"EnclaveOptions.Enabled",
	"Ipv6AddressCount",
	"Ipv6Addresses",
	"AdditionalInfo",
	"ElasticGpuSpecification",
	"ElasticInferenceAccelerators",
	"Placement.HostId",
	"Placement.HostResourceGroupArn",
	"Placement.Affinity",
	"Placement.GroupId",
	"Placement.GroupName",
	"Placement.PartitionNumber",
	"Placement.SpreadDomain",
	"CapacityReservationSpecification.CapacityReservationTarget",
	NULL};

/* What every instance shows, whoever made it. */
static const char common[] =
	"{\"Hypervisor\": \"xen\", \"VirtualizationType\": \"hvm\", \"RootDeviceType\": \"ebs\","
	" \"ProductCodes\": [], \"NetworkInterfaces\": [], \"SecurityGroups\": [],"
	" \"BlockDeviceMappings\": [], \"PublicDnsName\": \"\", \"PrivateDnsName\": \"\","
	" \"StateTransitionReason\": \"\", \"EnclaveOptions\": {\"Enabled\": false},"
	" \"HibernationOptions\": {\"Configured\": false},"
	" \"CapacityReservationSpecification\": {\"CapacityReservationPreference\": \"open\"},"
	" \"MaintenanceOptions\": {\"AutoRecovery\": \"default\"},"
	" \"PrivateDnsNameOptions\": {\"HostnameType\": \"ip-name\","
	"  \"EnableResourceNameDnsARecord\": false, \"EnableResourceNameDnsAAAARecord\": false},"
	" \"MetadataOptions\": {\"State\": \"applied\", \"HttpTokens\": \"optional\","
	"  \"HttpPutResponseHopLimit\": 1, \"HttpEndpoint\": \"enabled\","
	"  \"HttpProtocolIpv6\": \"disabled\", \"InstanceMetadataTags\": \"disabled\"},"
	" \"Placement\": {\"GroupName\": \"\", \"Tenancy\": \"default\"}}";

void launch_clear(struct launch *l)
{
	json_decref(l->instance);
	json_decref(l->interfaces);
	json_decref(l->volumes);
	json_decref(l->volume_tags);
	json_decref(l->interface_tags);
	*l = (struct launch){0};
}

static int box_check(const json_t *parameters, struct fault *f)
{
	int r = unsupported_check(parameters, unsupported, f);

	if (r < 0)
		return r;
	if (strcmp(jstr_or(json_object_get(parameters, "Placement"), "Tenancy", "default"),
		   "default") != 0)
		return fault_set(f, FAULT_UNSUPPORTED_OPERATION,
				 "Only default tenancy is supported");
	return 0;
}

static int read_counts(const json_t *parameters, struct launch *l, struct fault *f)
{
	const json_t *min = json_object_get(parameters, "MinCount"),
		     *max = json_object_get(parameters, "MaxCount");

	if (!json_is_integer(min) || !json_is_integer(max))
		return fault_set(f, FAULT_MISSING_PARAMETER,
				 "The request must contain the parameter %s",
				 json_is_integer(min) ? "MaxCount" : "MinCount");
	l->n_min = json_integer_value(min);
	l->n_max = json_integer_value(max);
	if (l->n_max < 1)
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "Maximum instance count must be greater than zero");
	if (l->n_min < 1)
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "Minimum instance count must be greater than zero");
	if (l->n_min > l->n_max)
		return fault_set(f, FAULT_INVALID_PARAMETER_COMBINATION,
				 "Minimum instance count (%lld) must not be greater than the "
				 "maximum instance count (%lld)",
				 (long long)l->n_min, (long long)l->n_max);
	return 0;
}

/* What launches have promised that are not stored yet. */
static int64_t n_in_making, mib_in_making;

void launch_promise(const struct launch *l, int64_t n)
{
	n_in_making += n;
	mib_in_making += n * l->type->memory_mib;
}

/* Memory of the whole box that instances do not have, which run or may. */
static int64_t mib_left(const struct call *c)
{
	int64_t percent = config_integer(c->daemon->config, "Compute", "MemoryPercent"),
		mib = mib_in_making;
	struct sysinfo host;

	if (percent == 0 || sysinfo(&host) < 0)
		return INT64_MAX;
	store_each (c->store, INSTANCE_KIND, d) {
		enum instance_state s = instance_state_of(d->json);
		const struct instance_type *type =
			instance_type_find(jstr_or(d->json, "InstanceType", ""));
		if (type && s != INSTANCE_TERMINATED && s != INSTANCE_STOPPED)
			mib += type->memory_mib;
	}
	return (int64_t)((uint64_t)host.totalram * host.mem_unit >> 20) * percent / 100 - mib;
}

static int no_memory(const char *type, struct fault *f)
{
	return fault_set(f, FAULT_INSUFFICIENT_INSTANCE_CAPACITY,
			 "We currently do not have sufficient %s capacity: the host's memory is "
			 "promised to other instances.",
			 type);
}

int instances_start_check(struct call *c, json_t *parameters, struct fault *f)
{
	int64_t left = mib_left(c);
	json_t *id;
	size_t i;

	json_array_foreach (json_object_get(parameters, "InstanceIds"), i, id) {
		const struct doc *d = store_find(c->store, INSTANCE_KIND, json_string_value(id));
		const struct instance_type *type =
			d ? instance_type_find(jstr_or(d->json, "InstanceType", "")) : NULL;
		if (!type || instance_state_of(d->json) != INSTANCE_STOPPED)
			continue;
		left -= type->memory_mib;
		if (left < 0)
			return no_memory(type->name, f);
	}
	return 0;
}

/* Counts of this region, and memory. */
static int capacity_check(struct call *c, struct launch *l, struct fault *f)
{
	int64_t limit = config_integer(c->daemon->config, "Compute", "MaxInstances");
	int64_t n = n_in_making, n_room, n_fit = mib_left(c) / l->type->memory_mib;

	store_each (c->store, INSTANCE_KIND, d)
		n += instance_state_of(d->json) != INSTANCE_TERMINATED &&
		     strcmp(d->region, c->ctx->region) == 0;
	n_room = limit - n;
	if (n_room < l->n_min)
		return fault_set(f, FAULT_INSTANCE_LIMIT_EXCEEDED,
				 "You have requested more instances (%lld) than your current "
				 "instance limit of %lld allows for the specified "
				 "instance type.",
				 (long long)(n + l->n_min), (long long)limit);
	if (n_fit < l->n_min)
		return no_memory(l->type->name, f);
	if (l->n_max > n_room)
		l->n_max = n_room;
	if (l->n_max > n_fit)
		l->n_max = n_fit;
	return 0;
}

static int read_type(const json_t *parameters, const json_t *image, struct launch *l,
		     struct fault *f)
{
	const char *name = jstr_or(parameters, "InstanceType", TYPE_DEFAULT);
	const char *architecture = jstr_or(image, "Architecture", "x86_64");

	l->type = instance_type_find(name);
	if (!l->type)
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "Invalid value '%.64s' for InstanceType.", name);
	if (strcmp(architecture, "x86_64") != 0)
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "The architecture 'x86_64' of the specified instance type does "
				 "not match the architecture '%.32s' of the "
				 "specified AMI.",
				 architecture);
	return instance_set_type(l->instance, l->type);
}

/* Both absent, or within what the type has. */
static int read_cpu(const json_t *parameters, struct launch *l, struct fault *f)
{
	const json_t *cpu = json_object_get(parameters, "CpuOptions");
	int64_t n_cores = jint(
		cpu, "CoreCount",
		l->type->n_vcpus / (l->type->n_threads_per_core ? l->type->n_threads_per_core : 1));
	int64_t n_threads = jint(cpu, "ThreadsPerCore", l->type->n_threads_per_core);
	const char *credits = jpath_str(parameters, "CreditSpecification.CpuCredits");

	if (cpu && (n_cores < 1 || n_threads < 1 || n_threads > 2 ||
		    n_cores * n_threads > l->type->n_vcpus))
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "The specified CpuOptions are not valid for %s.", l->type->name);
	if (cpu && jset_new(l->instance, "CpuOptions",
			    json_pack("{s:I, s:I}", "CoreCount", (json_int_t)n_cores,
				      "ThreadsPerCore", (json_int_t)n_threads)) < 0)
		return -ENOMEM;
	if (!credits)
		return 0;
	if (!l->type->is_burstable)
		return fault_set(f, FAULT_INVALID_PARAMETER_COMBINATION,
				 "CpuCredits can only be specified for burstable instance types");
	if (strcmp(credits, "standard") != 0 && strcmp(credits, "unlimited") != 0)
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "Invalid value '%.32s' for CpuCredits", credits);
	return jset(l->instance, "_CpuCredits", credits);
}

static int read_key(struct call *c, const json_t *parameters, struct launch *l, struct fault *f)
{
	const char *name = jstr(parameters, "KeyName");
	const struct doc *key;

	if (!name)
		return 0;
	int r = key_pair_find(c->store, c->ctx, name, &key, f);
	if (r == 0)
		r = jset(l->instance, "KeyName", name);
	return r < 0 ? r : jset(l->instance, "_PublicKey", jstr(key->json, "_PublicKey"));
}

static int read_user_data(const json_t *parameters, struct launch *l, struct fault *f)
{
	const char *base64 = jstr(parameters, "UserData");

	if (!base64 || !*base64)
		return 0;
	int r = user_data_check(base64, f);
	return r < 0 ? r : jset(l->instance, "_UserData", base64);
}

/* What the image gives: shown, and how it boots. */
static int read_image(const json_t *image, struct launch *l)
{
	static const char *const same[] = {
		"ImageId",  "Architecture", "RootDeviceName",  "KernelId",	 "RamdiskId",
		"_Cmdline", "BootMode",	    "PlatformDetails", "UsageOperation", "Platform",
		NULL};

	for (const char *const *name = same; *name; name++) {
		json_t *value = json_object_get(image, *name);
		if (value && json_object_set(l->instance, *name, value) < 0)
			return -ENOMEM;
	}
	json_t *options = json_object_get(l->instance, "MetadataOptions");
	if (strcmp(jstr_or(image, "ImdsSupport", ""), "v2.0") != 0)
		return 0;
	/* AWS: an image that says so gets these defaults. */
	int r = jset(options, "HttpTokens", "required");
	return r < 0 ? r : jset_new(options, "HttpPutResponseHopLimit", json_integer(2));
}

static int read_switches(const json_t *parameters, struct launch *l)
{
	json_t *i = l->instance;
	int is_monitored = json_is_true(jpath(parameters, "Monitoring.Enabled"));
	int r = jset(i, "_ShutdownBehavior",
		     jstr_or(parameters, "InstanceInitiatedShutdownBehavior", "stop"));

	if (r == 0)
		r = jset_new(i, "_DisableApiTermination",
			     json_boolean(jbool(parameters, "DisableApiTermination", 0)));
	if (r == 0)
		r = jset_new(i, "_DisableApiStop",
			     json_boolean(jbool(parameters, "DisableApiStop", 0)));
	if (r == 0)
		r = jset_new(i, "EbsOptimized", json_boolean(jbool(parameters, "EbsOptimized", 0)));
	if (r == 0)
		r = jset_new(i, "EnaSupport", json_true());
	if (r == 0)
		r = jset_new(i, "Monitoring",
			     json_pack("{s:s}", "State", is_monitored ? "enabled" : "disabled"));
	const char *preference = jpath_str(
		parameters, "CapacityReservationSpecification.CapacityReservationPreference");

	if (r == 0 && preference)
		r = jset(json_object_get(i, "CapacityReservationSpecification"),
			 "CapacityReservationPreference", preference);
	/* AWS shows an empty token where none was given. */
	if (r == 0)
		r = jset(i, "ClientToken", jstr_or(parameters, "ClientToken", ""));
	for (int k = 0; r == 0 && k < 2; k++) {
		const char *const names[] = {"PrivateDnsNameOptions", "MaintenanceOptions"};
		json_t *given = json_object_get(parameters, names[k]);
		if (given && json_object_update(json_object_get(i, names[k]), given) < 0)
			r = -ENOMEM;
	}
	return r;
}

static int read_tags(json_t *parameters, struct launch *l, struct fault *f)
{
	static const char *const allowed[] = {"instance", "volume", "network-interface", NULL};
	json_t *tags = NULL;
	int r = tags_from_specifications(parameters, "instance", allowed, &tags, f);

	if (r == 0)
		r = jset_new(l->instance, "Tags", tags);
	if (r == 0)
		r = tags_from_specifications(parameters, "volume", allowed, &l->volume_tags, f);
	if (r == 0)
		r = tags_from_specifications(parameters, "network-interface", allowed,
					     &l->interface_tags, f);
	return r;
}

static int read_zone(struct call *c, const json_t *parameters, struct launch *l, struct fault *f)
{
	l->zone = jpath_str(parameters, "Placement.AvailabilityZone");
	if (l->zone && !*l->zone)
		l->zone = NULL;
	if (l->zone && !zone_exists(c->daemon->config, c->ctx->region, l->zone))
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "Invalid availability zone: [%.64s]", l->zone);
	return 0;
}

/* What needs no other daemon. `image` is held by the caller. */
static int read_own(struct call *c, json_t *parameters, const json_t *image, struct launch *l,
		    struct fault *f)
{
	int r = read_image(image, l);

	if (r == 0)
		r = read_type(parameters, image, l, f);
	if (r == 0)
		r = read_cpu(parameters, l, f);
	if (r == 0)
		r = read_zone(c, parameters, l, f);
	if (r == 0)
		r = read_key(c, parameters, l, f);
	if (r == 0)
		r = read_user_data(parameters, l, f);
	if (r == 0)
		r = read_switches(parameters, l);
	if (r == 0)
		r = metadata_options_apply(json_object_get(l->instance, "MetadataOptions"),
					   json_object_get(parameters, "MetadataOptions"), f);
	if (r == 0)
		r = read_tags(parameters, l, f);
	return r;
}

int launch_read(struct call *c, json_t *parameters, struct launch *l, struct fault *f)
{
	const char *image_id = jstr(parameters, "ImageId");
	const struct doc *found;
	OWN(json_decref) json_t *image = NULL;
	int r;

	*l = (struct launch){.instance = json_loads(common, 0, NULL)};
	if (!l->instance)
		return -ENOMEM;
	if ((r = box_check(parameters, f)) < 0 || (r = read_counts(parameters, l, f)) < 0)
		return r;
	if (!image_id)
		return fault_set(f, FAULT_MISSING_PARAMETER,
				 "The request must contain the parameter ImageId");
	if ((r = image_find(c->store, c->ctx, image_id, &found, f)) < 0)
		return r;
	image = json_incref(found->json);
	if ((r = read_own(c, parameters, image, l, f)) < 0)
		return r;
	if ((r = launch_read_volumes(c, parameters, image, found->account, l, f)) < 0)
		return r;
	if ((r = launch_read_interfaces(c, parameters, l, f)) < 0)
		return r;
	return capacity_check(c, l, f); /* last: nothing is waited for any more */
}
