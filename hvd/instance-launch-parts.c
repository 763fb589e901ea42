/* The volumes and interfaces that a launch asks for, as stord and netd will be asked for them. */
#include <errno.h>
#include <string.h>

#include "domain.h"
#include "instance-rooms.h"

/* ---- volumes ---- */

static json_t *mapping_find(const json_t *mappings, const char *device_name)
{
	json_t *mapping;
	size_t i;

	json_array_foreach (mappings, i, mapping)
		if (strcmp(jstr_or(mapping, "DeviceName", ""), device_name) == 0)
			return mapping;
	return NULL;
}

/* What the request says goes over what the image says. */
static int mapping_merge(json_t *mappings, const json_t *given, struct fault *f)
{
	const char *device_name = jstr(given, "DeviceName");
	const json_t *ebs = json_object_get(given, "Ebs");
	json_t *known = device_name ? mapping_find(mappings, device_name) : NULL;

	if (!device_name || !*device_name)
		return fault_set(f, FAULT_MISSING_PARAMETER,
				 "The request must contain the parameter deviceName");
	if (jstr(given, "VirtualName"))
		/* instance store: none of our types has it, and AWS then ignores it too */
		return 0;
	if (!ebs)
		return fault_set(f, FAULT_INVALID_BLOCK_DEVICE_MAPPING,
				 "The device '%.64s' names no volume", device_name);
	if (!known)
		return json_array_append_new(mappings,
					     json_pack("{s:s, s:o}", "DeviceName", device_name,
						       "Ebs", json_deep_copy(ebs))) < 0
			       ? -ENOMEM
			       : 0;
	const char *its = jpath_str(known, "Ebs.SnapshotId"), *other = jstr(ebs, "SnapshotId");
	if (its && other && strcmp(its, other) != 0)
		return fault_set(f, FAULT_INVALID_BLOCK_DEVICE_MAPPING,
				 "snapshotId cannot be modified on device '%.64s'", device_name);
	int64_t gib = jint(json_object_get(known, "Ebs"), "VolumeSize", 0);
	if (its && jint(ebs, "VolumeSize", gib) < gib)
		return fault_set(f, FAULT_INVALID_BLOCK_DEVICE_MAPPING,
				 "Volume of size %lldGB is smaller than snapshot '%s', expect size "
				 ">= %lldGB",
				 (long long)jint(ebs, "VolumeSize", 0), its, (long long)gib);
	return json_object_update(json_object_get(known, "Ebs"), (json_t *)ebs) < 0 ? -ENOMEM : 0;
}

/* NoDevice takes the image's row away. */
static int mapping_remove(json_t *mappings, const char *device_name, const char *root,
			  struct fault *f)
{
	json_t *mapping;
	size_t i;

	if (strcmp(device_name, root) == 0)
		return fault_set(f, FAULT_INVALID_BLOCK_DEVICE_MAPPING,
				 "The root device '%.64s' cannot be left out", root);
	json_array_foreach (mappings, i, mapping)
		if (strcmp(jstr_or(mapping, "DeviceName", ""), device_name) == 0)
			return json_array_remove(mappings, i) < 0 ? -ENOMEM : 0;
	return 0;
}

/* The image's volumes, the root first: it becomes vda. */
static json_t *image_mappings(const json_t *image, const char *root)
{
	OWN(json_decref) json_t *list = json_array();
	json_t *mapping;
	size_t i;

	json_array_foreach (json_object_get(image, "BlockDeviceMappings"), i, mapping) {
		int is_root = strcmp(jstr_or(mapping, "DeviceName", ""), root) == 0;
		if (!json_object_get(mapping, "Ebs"))
			continue;
		if (json_array_insert_new(list, is_root ? 0 : json_array_size(list),
					  json_deep_copy(mapping)) < 0)
			return NULL;
	}
	return give(list);
}

/* Every image's snapshot belongs to the image's account, whoever launches. */
static int mark_owner(json_t *mappings, const char *account)
{
	json_t *mapping;
	size_t i;

	json_array_foreach (mappings, i, mapping)
		if (jset(json_object_get(mapping, "Ebs"), "_SnapshotAccount", account) < 0)
			return -ENOMEM;
	return 0;
}

int launch_read_volumes(struct call *c, json_t *parameters, const json_t *image,
			const char *image_account, struct launch *l, struct fault *f)
{
	const char *root = jstr_or(image, "RootDeviceName", "/dev/xvda");
	json_t *given;
	size_t i;
	int r = 0;

	l->volumes = image_mappings(image, root);
	if (!l->volumes)
		return -ENOMEM;
	if (!mapping_find(l->volumes, root))
		return fault_set(f, FAULT_INVALID_AMI_ATTRIBUTE,
				 "The image has no root volume '%.64s'", root);
	if (strcmp(image_account, c->ctx->account) != 0)
		r = mark_owner(l->volumes, image_account);
	json_array_foreach (json_object_get(parameters, "BlockDeviceMappings"), i, given)
		if (r == 0)
			r = jstr(given, "NoDevice")
				    ? mapping_remove(l->volumes, jstr_or(given, "DeviceName", ""),
						     root, f)
				    : mapping_merge(l->volumes, given, f);
	if (r < 0)
		return r;
	if (json_array_size(l->volumes) > DOMAIN_DISKS_MAX)
		return fault_set(f, FAULT_INVALID_BLOCK_DEVICE_MAPPING,
				 "An instance may have at most %d volumes", DOMAIN_DISKS_MAX);
	return 0;
}

/* ---- interfaces ---- */

/* Security groups by name are those of the default VPC. */
static int groups_by_name(struct call *c, json_t *names, json_t **ret_ids, struct fault *f)
{
	OWN(json_decref) json_t *ask = json_pack("{s:O}", "GroupNames", names);
	OWN(json_decref) json_t *reply = NULL;
	OWN(json_decref) json_t *ids = json_array();
	json_t *group;
	size_t i;

	if (!ask)
		return -ENOMEM;
	int r = rpc_call(daemon_peer("netd"), c->ctx, "ec2.DescribeSecurityGroups", ask, NULL,
			 &reply, NULL, f);
	if (r < 0)
		return r;
	json_array_foreach (json_object_get(reply, "SecurityGroups"), i, group)
		if (json_array_append(ids, json_object_get(group, "GroupId")) < 0)
			return -ENOMEM;
	*ret_ids = give(ids);
	return 0;
}

/* No NetworkInterfaces: the one interface follows from the instance's own parameters. */
static int read_plain(struct call *c, json_t *parameters, struct launch *l, struct fault *f)
{
	json_t *names = json_object_get(parameters, "SecurityGroups"),
	       *ids = json_object_get(parameters, "SecurityGroupIds");
	const char *subnet = jstr(parameters, "SubnetId"),
		   *address = jstr(parameters, "PrivateIpAddress");
	OWN(json_decref) json_t *groups = ids ? json_incref(ids) : NULL;
	OWN(json_decref)
	json_t *spec = json_pack("{s:i, s:b}", "_DeviceIndex", 0, "_DeleteOnTermination", 1);

	if (json_array_size(names) && subnet)
		return fault_set(
			f, FAULT_INVALID_PARAMETER_COMBINATION,
			"The parameter groupName cannot be used with the parameter subnet");
	if (json_array_size(names) && json_array_size(ids))
		return fault_set(
			f, FAULT_INVALID_PARAMETER_COMBINATION,
			"The parameter groupName cannot be used with the parameter groupId");
	if (json_array_size(names)) {
		json_decref(groups);
		groups = NULL;
		int r = groups_by_name(c, names, &groups, f);
		if (r < 0)
			return r;
	}
	if (jset(spec, "SubnetId", subnet) < 0 || jset(spec, "PrivateIpAddress", address) < 0)
		return -ENOMEM;
	if (groups && jset_new(spec, "Groups", json_incref(groups)) < 0)
		return -ENOMEM;
	return json_array_append(l->interfaces, spec) < 0 ? -ENOMEM : 0;
}

/* One of NetworkInterfaces, as CreateNetworkInterface takes it. */
static int read_interface(const json_t *given, struct launch *l, struct fault *f)
{
	static const char *const same[][2] = {
		{"NetworkInterfaceId", "NetworkInterfaceId"},
		{"SubnetId", "SubnetId"},
		{"Groups", "Groups"},
		{"PrivateIpAddress", "PrivateIpAddress"},
		{"PrivateIpAddresses", "PrivateIpAddresses"},
		{"SecondaryPrivateIpAddressCount", "SecondaryPrivateIpAddressCount"},
		{"Description", "Description"},
		{"InterfaceType", "InterfaceType"},
		{"Ipv6AddressCount", "Ipv6AddressCount"},
		{"Ipv6Addresses", "Ipv6Addresses"},
		{"Ipv4PrefixCount", "Ipv4PrefixCount"},
		{"Ipv4Prefixes", "Ipv4Prefixes"},
		{"Ipv6PrefixCount", "Ipv6PrefixCount"},
		{"Ipv6Prefixes", "Ipv6Prefixes"},
		{"AssociatePublicIpAddress", "_AssociatePublicIpAddress"},
		{"DeviceIndex", "_DeviceIndex"}};
	static const char *const unsupported[] = {"AssociateCarrierIpAddress", "NetworkCardIndex",
						  NULL};
	static const char *const counts[] = {"SecondaryPrivateIpAddressCount", "Ipv6AddressCount",
					     "Ipv4PrefixCount", "Ipv6PrefixCount"};
	int is_taken = jstr(given, "NetworkInterfaceId") != NULL;
	/* AWS: an interface that existed before the instance outlives it unless told otherwise. */
	OWN(json_decref)
	json_t *spec = json_pack("{s:b}", "_DeleteOnTermination",
				 jbool(given, "DeleteOnTermination", !is_taken));

	int r = unsupported_check(given, unsupported, f);

	for (size_t i = 0; r == 0 && i < sizeof counts / sizeof counts[0]; i++)
		r = count_check(given, counts[i], 0, f);
	if (r < 0)
		return r;
	if (!json_is_integer(json_object_get(given, "DeviceIndex")))
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "Each network interface requires a device index.");
	if (is_taken && l->n_max > 1)
		return fault_set(f, FAULT_INVALID_PARAMETER_COMBINATION,
				 "A network interface id may not be specified when launching more "
				 "than one instance");
	if (is_taken && (jstr(given, "SubnetId") || json_object_get(given, "Groups") ||
			 json_object_get(given, "AssociatePublicIpAddress")))
		return fault_set(f, FAULT_INVALID_PARAMETER_COMBINATION,
				 "The parameter networkInterfaceId cannot be used with subnetId, "
				 "groups or associatePublicIpAddress");
	for (size_t i = 0; i < sizeof(same) / sizeof(same[0]); i++) {
		json_t *value = json_object_get(given, same[i][0]);
		if (value && json_object_set(spec, same[i][1], value) < 0)
			return -ENOMEM;
	}
	return json_array_append(l->interfaces, spec) < 0 ? -ENOMEM : 0;
}

static int interfaces_check(const struct launch *l, const json_t *given, struct fault *f)
{
	json_t *interface;
	unsigned seen = 0;
	size_t i;

	json_array_foreach (given, i, interface) {
		int64_t index = jint(interface, "DeviceIndex", -1);
		if (index < 0 || index >= DOMAIN_NICS_MAX || seen & 1u << index)
			return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
					 "Invalid or repeated device index %lld", (long long)index);
		seen |= 1u << index;
		if (json_object_get(interface, "AssociatePublicIpAddress") &&
		    json_array_size(given) > 1)
			return fault_set(f, FAULT_INVALID_PARAMETER_COMBINATION,
					 "The associatePublicIPAddress parameter cannot be "
					 "specified when launching with multiple network "
					 "interfaces.");
	}
	if (!(seen & 1))
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "When specifying network interfaces, you must include a device at "
				 "index 0.");
	if (json_array_size(given) > l->type->n_interfaces)
		return fault_set(f, FAULT_INVALID_PARAMETER_COMBINATION,
				 "Interface count %zu exceeds the limit for %s",
				 json_array_size(given), l->type->name);
	return 0;
}

static int read_interfaces(struct call *c, json_t *parameters, struct launch *l, struct fault *f)
{
	static const char *const instead[][2] = {{"SubnetId", "subnet ID"},
						 {"SecurityGroupIds", "security groups"},
						 {"SecurityGroups", "security groups"},
						 {"PrivateIpAddress", "private address"}};
	json_t *given = json_object_get(parameters, "NetworkInterfaces"), *interface;
	size_t i;
	int r;

	l->interfaces = json_array();
	if (jstr(parameters, "PrivateIpAddress") && l->n_max > 1)
		return fault_set(f, FAULT_INVALID_PARAMETER_COMBINATION,
				 "A private address may not be specified when launching more than "
				 "one instance");
	if (json_array_size(given) == 0)
		return read_plain(c, parameters, l, f);
	for (i = 0; i < sizeof(instead) / sizeof(instead[0]); i++)
		if (json_object_get(parameters, instead[i][0]))
			return fault_set(f, FAULT_INVALID_PARAMETER_COMBINATION,
					 "Network interfaces and an instance-level %s may not be "
					 "specified on the same request",
					 instead[i][1]);
	json_array_foreach (given, i, interface)
		if ((r = read_interface(interface, l, f)) < 0)
			return r;
	return interfaces_check(l, given, f);
}

/* netd makes the names: what the launch does not say, the subnet says. */
int launch_read_interfaces(struct call *c, json_t *parameters, struct launch *l, struct fault *f)
{
	json_t *options = json_object_get(parameters, "PrivateDnsNameOptions"), *spec;
	size_t i;
	int r = read_interfaces(c, parameters, l, f);

	json_array_foreach (l->interfaces, i, spec)
		if (r == 0 && options &&
		    json_object_set(spec, "_PrivateDnsNameOptions", options) < 0)
			r = -ENOMEM;
	return r;
}
