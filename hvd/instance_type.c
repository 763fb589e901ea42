/* Instance types: AWS's own, as a table, and the actions that show it. */
#include "catalog-rooms.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "describe.h"
#include "jsonx.h"
#include "zones.h"

/* Above this AWS does not hibernate. Source: EC2 user guide, "Prerequisites for hibernation" (150
 * GiB). */
#define HIBERNATION_MAX_MIB (150u * 1024)

struct instance_family {
	const char *manufacturer;
	int is_nitro, is_burstable, is_current, has_encryption_in_transit, has_dedicated_hosts,
		has_hibernation;
	int n_attachments;
	const char *attachment_limit;
};

#define FAMILY(name, manufacturer, nitro, burstable, current, encryption, dedicated, hibernation,  \
	       n, limit)                                                                           \
	static const struct instance_family family_##name = {manufacturer, nitro,      burstable,  \
							     current,	   encryption, dedicated,  \
							     hibernation,  n,	       limit};
#include "instance-type-table.h"
#undef FAMILY

static const struct instance_type types[] = {
#define TYPE(fam, name_, vcpus, mib, interfaces, ipv4, network_, net_base, net_peak, clock,        \
	     permille, ebs_mbps, ebs_iops, ebs_max_mbps_, ebs_max_iops_, cores)                    \
	{.name = name_,                                                                            \
	 .n_vcpus = vcpus,                                                                         \
	 .memory_mib = mib,                                                                        \
	 .n_interfaces = interfaces,                                                               \
	 .n_ipv4_per_interface = ipv4,                                                             \
	 .baseline_permille = permille,                                                            \
	 .ebs_baseline_mbps = ebs_mbps,                                                            \
	 .ebs_baseline_iops = ebs_iops,                                                            \
	 .ebs_max_mbps = ebs_max_mbps_,                                                            \
	 .ebs_max_iops = ebs_max_iops_,                                                            \
	 .network = network_,                                                                      \
	 .network_baseline_mbps = net_base,                                                        \
	 .network_peak_mbps = net_peak,                                                            \
	 .clock_mhz = clock,                                                                       \
	 .valid_cores = cores,                                                                     \
	 .family = &family_##fam,                                                                  \
	 .n_threads_per_core = 1 + (sizeof cores > 1),                                             \
	 .is_nitro = sizeof cores > 1,                                                             \
	 .is_burstable = (permille) > 0},
#include "instance-type-table.h"
#undef TYPE
};

static const struct filter type_filters[] = {
	{"auto-recovery-supported", "AutoRecoverySupported"},
	{"bare-metal", "BareMetal"},
	{"burstable-performance-supported", "BurstablePerformanceSupported"},
	{"current-generation", "CurrentGeneration"},
	{"dedicated-hosts-supported", "DedicatedHostsSupported"},
	{"ebs-info.ebs-optimized-info.baseline-bandwidth-in-mbps",
	 "EbsInfo.EbsOptimizedInfo.BaselineBandwidthInMbps"},
	{"ebs-info.ebs-optimized-info.baseline-iops", "EbsInfo.EbsOptimizedInfo.BaselineIops"},
	{"ebs-info.ebs-optimized-info.baseline-throughput-in-mbps",
	 "EbsInfo.EbsOptimizedInfo.BaselineThroughputInMBps"},
	{"ebs-info.ebs-optimized-info.maximum-bandwidth-in-mbps",
	 "EbsInfo.EbsOptimizedInfo.MaximumBandwidthInMbps"},
	{"ebs-info.ebs-optimized-info.maximum-iops", "EbsInfo.EbsOptimizedInfo.MaximumIops"},
	{"ebs-info.ebs-optimized-info.maximum-throughput-in-mbps",
	 "EbsInfo.EbsOptimizedInfo.MaximumThroughputInMBps"},
	{"ebs-info.ebs-optimized-support", "EbsInfo.EbsOptimizedSupport"},
	{"ebs-info.encryption-support", "EbsInfo.EncryptionSupport"},
	{"ebs-info.nvme-support", "EbsInfo.NvmeSupport"},
	{"free-tier-eligible", "FreeTierEligible"},
	{"hibernation-supported", "HibernationSupported"},
	{"hypervisor", "Hypervisor"},
	{"instance-storage-info.disk.count", "InstanceStorageInfo.Disks.Count"},
	{"instance-storage-info.disk.size-in-gb", "InstanceStorageInfo.Disks.SizeInGB"},
	{"instance-storage-info.disk.type", "InstanceStorageInfo.Disks.Type"},
	{"instance-storage-info.encryption-support", "InstanceStorageInfo.EncryptionSupport"},
	{"instance-storage-info.nvme-support", "InstanceStorageInfo.NvmeSupport"},
	{"instance-storage-info.total-size-in-gb", "InstanceStorageInfo.TotalSizeInGB"},
	{"instance-storage-supported", "InstanceStorageSupported"},
	{"instance-type", "InstanceType"},
	{"memory-info.size-in-mib", "MemoryInfo.SizeInMiB"},
	{"network-info.efa-info.maximum-efa-interfaces",
	 "NetworkInfo.EfaInfo.MaximumEfaInterfaces"},
	{"network-info.efa-supported", "NetworkInfo.EfaSupported"},
	{"network-info.ena-support", "NetworkInfo.EnaSupport"},
	{"network-info.encryption-in-transit-supported",
	 "NetworkInfo.EncryptionInTransitSupported"},
	{"network-info.ipv4-addresses-per-interface", "NetworkInfo.Ipv4AddressesPerInterface"},
	{"network-info.ipv6-addresses-per-interface", "NetworkInfo.Ipv6AddressesPerInterface"},
	{"network-info.ipv6-supported", "NetworkInfo.Ipv6Supported"},
	{"network-info.maximum-network-cards", "NetworkInfo.MaximumNetworkCards"},
	{"network-info.maximum-network-interfaces", "NetworkInfo.MaximumNetworkInterfaces"},
	{"network-info.network-performance", "NetworkInfo.NetworkPerformance"},
	{"nitro-enclaves-support", "NitroEnclavesSupport"},
	{"nitro-tpm-info.supported-versions", "NitroTpmInfo.SupportedVersions"},
	{"nitro-tpm-support", "NitroTpmSupport"},
	{"processor-info.supported-architecture", "ProcessorInfo.SupportedArchitectures"},
	{"processor-info.supported-features", "ProcessorInfo.SupportedFeatures"},
	{"processor-info.sustained-clock-speed-in-ghz", "ProcessorInfo.SustainedClockSpeedInGhz"},
	{"supported-boot-mode", "SupportedBootModes"},
	{"supported-root-device-type", "SupportedRootDeviceTypes"},
	{"supported-usage-class", "SupportedUsageClasses"},
	{"supported-virtualization-type", "SupportedVirtualizationTypes"},
	{"vcpu-info.default-cores", "VCpuInfo.DefaultCores"},
	{"vcpu-info.default-threads-per-core", "VCpuInfo.DefaultThreadsPerCore"},
	{"vcpu-info.default-vcpus", "VCpuInfo.DefaultVCpus"},
	{"vcpu-info.valid-cores", "VCpuInfo.ValidCores"},
	{"vcpu-info.valid-threads-per-core", "VCpuInfo.ValidThreadsPerCore"},
	{NULL},
};

static const struct filter offering_filters[] = {
	{"instance-type", "InstanceType"},
	{"location", "Location"},
	{NULL},
};

static json_t *processor_json(const struct instance_type *t)
{
	int has_i386 = !t->is_nitro && t->memory_mib <= 4096;

	return json_pack("{s:o, s:f, s:s}", "SupportedArchitectures",
			 has_i386 ? json_pack("[s, s]", "i386", "x86_64")
				  : json_pack("[s]", "x86_64"),
			 "SustainedClockSpeedInGhz", t->clock_mhz / 1000.0, "Manufacturer",
			 t->family->manufacturer);
}

static json_t *cpu_json(const struct instance_type *t)
{
	OWN(json_decref)
	json_t *cpu = json_pack("{s:i, s:i, s:i}", "DefaultVCpus", t->n_vcpus, "DefaultCores",
				t->n_vcpus / t->n_threads_per_core, "DefaultThreadsPerCore",
				t->n_threads_per_core);
	OWN(json_decref) json_t *cores = json_array();

	if (!cpu || !cores)
		return NULL;
	for (const char *at = t->valid_cores; *at; at += strspn(at, " ")) {
		char *end = NULL;

		if (json_array_append_new(cores, json_integer(strtol(at, &end, 10))) < 0)
			return NULL;
		at = end;
	}
	if (json_array_size(cores) > 0 &&
	    (jset_new(cpu, "ValidCores", give(cores)) < 0 ||
	     jset_new(cpu, "ValidThreadsPerCore", json_pack("[i, i]", 1, 2)) < 0))
		return NULL;
	return give(cpu);
}

static json_t *ebs_json(const struct instance_type *t)
{
	OWN(json_decref)
	json_t *ebs = json_pack(
		"{s:s, s:s, s:s, s:i, s:s}", "EbsOptimizedSupport",
		t->ebs_max_mbps ? "default" : "unsupported", "EncryptionSupport", "supported",
		"NvmeSupport", t->is_nitro ? "required" : "unsupported", "MaximumEbsAttachments",
		t->family->n_attachments, "AttachmentLimitType", t->family->attachment_limit);

	if (t->ebs_max_mbps &&
	    jset_new(ebs, "EbsOptimizedInfo",
		     json_pack("{s:i, s:f, s:i, s:i, s:f, s:i}", "BaselineBandwidthInMbps",
			       t->ebs_baseline_mbps, "BaselineThroughputInMBps",
			       t->ebs_baseline_mbps / 8.0, "BaselineIops", t->ebs_baseline_iops,
			       "MaximumBandwidthInMbps", t->ebs_max_mbps, "MaximumThroughputInMBps",
			       t->ebs_max_mbps / 8.0, "MaximumIops", t->ebs_max_iops)) < 0)
		return NULL;
	return give(ebs);
}

static json_t *network_json(const struct instance_type *t)
{
	return json_pack(
		"{s:s, s:i, s:i, s:i, s:[{s:i, s:s, s:i, s:f, s:f}], s:i, s:i, s:b, s:s, s:b, s:b, "
		"s:b}",
		"NetworkPerformance", t->network, "MaximumNetworkInterfaces", t->n_interfaces,
		"MaximumNetworkCards", 1, "DefaultNetworkCardIndex", 0, "NetworkCards",
		"NetworkCardIndex", 0, "NetworkPerformance", t->network, "MaximumNetworkInterfaces",
		t->n_interfaces, "BaselineBandwidthInGbps", t->network_baseline_mbps / 1000.0,
		"PeakBandwidthInGbps", t->network_peak_mbps / 1000.0, "Ipv4AddressesPerInterface",
		t->n_ipv4_per_interface, "Ipv6AddressesPerInterface", t->n_ipv4_per_interface,
		"Ipv6Supported", 1, "EnaSupport", t->is_nitro ? "required" : "unsupported",
		"EfaSupported", 0, "EncryptionInTransitSupported",
		t->family->has_encryption_in_transit, "EnaSrdSupported", 0);
}

/* What has no structure of its own. */
static json_t *flags_json(const struct instance_type *t)
{
	int is_free = strcmp(t->name, "t3.micro") == 0 || strcmp(t->name, "t3.small") == 0;
	int has_enclaves = t->is_nitro && !t->is_burstable && t->n_vcpus >= 4;

	return json_pack(
		"{s:s, s:b, s:b, s:b, s:s, s:b, s:b, s:b, s:b, s:b, s:s, s:s}", "InstanceType",
		t->name, "CurrentGeneration", t->family->is_current, "FreeTierEligible", is_free,
		"BareMetal", 0, "Hypervisor", t->is_nitro ? "nitro" : "xen",
		"InstanceStorageSupported", 0, "HibernationSupported",
		t->family->has_hibernation && t->memory_mib <= HIBERNATION_MAX_MIB,
		"BurstablePerformanceSupported", t->is_burstable, "DedicatedHostsSupported",
		t->family->has_dedicated_hosts, "AutoRecoverySupported", 1, "NitroEnclavesSupport",
		has_enclaves ? "supported" : "unsupported", "NitroTpmSupport",
		t->is_nitro ? "supported" : "unsupported");
}

static json_t *type_json(const struct instance_type *t)
{
	OWN(json_decref) json_t *j = flags_json(t);
	json_t *modes = t->is_nitro ? json_pack("[s, s]", "legacy-bios", "uefi")
				    : json_pack("[s]", "legacy-bios");
	json_t *strategies = t->is_burstable
				     ? json_pack("[s, s]", "partition", "spread")
				     : json_pack("[s, s, s]", "cluster", "partition", "spread");
	int r = 0;

	r |= jset_new(j, "SupportedBootModes", modes);
	r |= jset_new(j, "PlacementGroupInfo",
		      json_pack("{s:o}", "SupportedStrategies", strategies));
	r |= jset_new(j, "SupportedUsageClasses", json_pack("[s, s]", "on-demand", "spot"));
	r |= jset_new(j, "SupportedRootDeviceTypes", json_pack("[s]", "ebs"));
	r |= jset_new(j, "SupportedVirtualizationTypes", json_pack("[s]", "hvm"));
	r |= jset_new(j, "ProcessorInfo", processor_json(t));
	r |= jset_new(j, "VCpuInfo", cpu_json(t));
	r |= jset_new(j, "MemoryInfo", json_pack("{s:i}", "SizeInMiB", t->memory_mib));
	r |= jset_new(j, "EbsInfo", ebs_json(t));
	r |= jset_new(j, "NetworkInfo", network_json(t));
	if (t->is_nitro)
		r |= jset_new(j, "NitroTpmInfo", json_pack("{s:[s]}", "SupportedVersions", "2.0"));
	return r == 0 ? give(j) : NULL;
}

const struct instance_type *instance_type_find(const char *name)
{
	for (size_t i = 0; name && i < sizeof types / sizeof *types; i++)
		if (strcmp(types[i].name, name) == 0)
			return &types[i];
	return NULL;
}

unsigned instance_type_max_volumes(const struct instance_type *type, unsigned n_interfaces)
{
	unsigned n = (unsigned)type->family->n_attachments;

	if (strcmp(type->family->attachment_limit, "shared") != 0 || !type->is_nitro)
		return n;
	return n > n_interfaces ? n - n_interfaces : 0;
}

const struct instance_type *instance_type_next(const struct instance_type *after)
{
	const struct instance_type *next = after ? after + 1 : types;

	return next < types + sizeof types / sizeof *types ? next : NULL;
}

/* All names are known; else the fault tells those that are not, in AWS's sentence. */
static int names_check(json_t *names, struct fault *f)
{
	char unknown[256] = "";
	size_t i;
	json_t *name;

	if (json_array_size(names) > 100)
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "At most 100 instance types can be named");
	json_array_foreach (names, i, name) {
		size_t n = strlen(unknown);
		const char *text = json_string_value(name);

		if (!instance_type_find(text) && n < sizeof unknown)
			snprintf(unknown + n, sizeof unknown - n, "%s%s", n ? ", " : "",
				 text ? text : "");
	}
	if (*unknown)
		return fault_set(f, FAULT_INVALID_INSTANCE_TYPE,
				 "The following supplied instance types do not exist: [%s]",
				 unknown);
	return 0;
}

int instance_type_describe(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	static const struct describe d = {.kind = "instance-type",
					  .result = "InstanceTypes",
					  .filters = type_filters,
					  .n_max_default = 100,
					  .n_max_low = 5,
					  .n_max_high = 100};
	json_t *names = json_object_get(parameters, "InstanceTypes");
	OWN(json_decref) json_t *items = json_array();
	int r = names_check(names, f);

	if (r < 0)
		return r;
	for (const struct instance_type *t = NULL; (t = instance_type_next(t));)
		if ((json_array_size(names) == 0 || jarray_has(names, t->name)) &&
		    json_array_append_new(items, type_json(t)) < 0)
			return fault_set(f, FAULT_INTERNAL_ERROR, "Out of memory");
	return describe_list(c, &d, items, parameters, ret_reply, f);
}

/* One row per type and place. */
static int offerings_add(json_t *items, const char *location_type, const char *location)
{
	for (const struct instance_type *t = NULL; (t = instance_type_next(t));)
		if (json_array_append_new(items, json_pack("{s:s, s:s, s:s}", "InstanceType",
							   t->name, "LocationType", location_type,
							   "Location", location)) < 0)
			return -ENOMEM;
	return 0;
}

int instance_type_offerings(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	static const struct describe d = {.kind = "instance-type-offering",
					  .result = "InstanceTypeOfferings",
					  .filters = offering_filters,
					  .n_max_default = 1000};
	const char *kind = jstr_or(parameters, "LocationType", "region");
	OWN(json_decref) json_t *items = json_array();
	int r = 0;

	if (strcmp(kind, "region") == 0)
		r = offerings_add(items, kind, c->ctx->region);
	else if (strcmp(kind, "outpost") != 0)
		for (int i = 0; r == 0 && i < zone_count(c->daemon->config); i++) {
			char name[ZONE_NAME_MAX], id[ZONE_ID_MAX];

			zone_name(c->ctx->region, i, name);
			zone_id(c->ctx->region, i, id);
			r = offerings_add(items, kind,
					  strcmp(kind, "availability-zone") == 0 ? name : id);
		}
	if (r < 0)
		return fault_set(f, FAULT_INTERNAL_ERROR, "Out of memory");
	return describe_list(c, &d, items, parameters, ret_reply, f);
}
