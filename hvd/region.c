/* Regions, zones, and what an account may have. */
#include "catalog-rooms.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "describe.h"
#include "jsonx.h"
#include "zones.h"

static const struct filter region_filters[] = {
	{"endpoint", "Endpoint"},
	{"opt-in-status", "OptInStatus"},
	{"region-name", "RegionName"},
	{NULL},
};

static const struct filter zone_filters[] = {
	{"group-long-name", "GroupLongName"},
	{"group-name", "GroupName"},
	{"message", "Messages.Message"},
	{"opt-in-status", "OptInStatus"},
	{"parent-zone-id", "ParentZoneId"},
	{"parent-zone-name", "ParentZoneName"},
	{"parent-zoneID", "ParentZoneId"}, /* so in the reference */
	{"parent-zoneName", "ParentZoneName"},
	{"region-name", "RegionName"},
	{"state", "State"},
	{"zone-id", "ZoneId"},
	{"zone-name", "ZoneName"},
	{"zone-type", "ZoneType"},
	{NULL},
};

static json_t *region_json(const char *name)
{
	char endpoint[80];

	snprintf(endpoint, sizeof endpoint, "ec2.%.31s.amazonaws.com", name);
	return json_pack("{s:s, s:s, s:s}", "RegionName", name, "Endpoint", endpoint, "OptInStatus",
			 "opt-in-not-required");
}

int region_describe(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	static const struct describe d = {
		.kind = "region", .result = "Regions", .filters = region_filters};
	json_t *names = json_object_get(parameters, "RegionNames");
	OWN(json_decref) json_t *items = json_array();
	size_t i;
	json_t *name;

	json_array_foreach (names, i, name)
		if (!region_exists(c->daemon->config, json_string_value(name)))
			return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
					 "Invalid region provided: '%s'", json_string_value(name));
	for (const char *const *r = config_list(c->daemon->config, "Cloud", "Regions"); r && *r;
	     r++)
		if ((json_array_size(names) == 0 || jarray_has(names, *r)) &&
		    json_array_append_new(items, region_json(*r)) < 0)
			return fault_set(f, FAULT_INTERNAL_ERROR, "Out of memory");
	return describe_list(c, &d, items, parameters, ret_reply, f);
}

static json_t *zone_json(const char *region, int i)
{
	char name[ZONE_NAME_MAX], id[ZONE_ID_MAX], group[64];

	zone_name(region, i, name);
	zone_id(region, i, id);
	snprintf(group, sizeof group, "%.31s-zg-1", region);
	return json_pack("{s:s, s:s, s:[], s:s, s:s, s:s, s:s, s:s, s:s}", "State", "available",
			 "OptInStatus", "opt-in-not-required", "Messages", "RegionName", region,
			 "ZoneName", name, "ZoneId", id, "GroupName", group, "NetworkBorderGroup",
			 region, "ZoneType", "availability-zone");
}

/* Every named zone exists in the caller's region. */
static int zones_check(const struct call *c, json_t *names, const char *what, struct fault *f)
{
	size_t i;
	json_t *name;

	json_array_foreach (names, i, name)
		if (zone_index(c->daemon->config, c->ctx->region, json_string_value(name)) < 0)
			return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
					 "Invalid availability %s: [%s]", what,
					 json_string_value(name));
	return 0;
}

int zone_describe(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	static const struct describe d = {.kind = "availability-zone",
					  .result = "AvailabilityZones",
					  .filters = zone_filters};
	json_t *names = json_object_get(parameters, "ZoneNames"),
	       *ids = json_object_get(parameters, "ZoneIds");
	OWN(json_decref) json_t *items = json_array();
	int r = zones_check(c, names, "zone", f);

	if (r == 0)
		r = zones_check(c, ids, "zone-id", f);
	if (r < 0)
		return r;
	if (!region_exists(c->daemon->config, c->ctx->region))
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE, "There is no region %s",
				 c->ctx->region);
	for (int i = 0; i < zone_count(c->daemon->config); i++) {
		OWN(json_decref) json_t *zone = zone_json(c->ctx->region, i);

		if (!zone)
			return fault_set(f, FAULT_INTERNAL_ERROR, "Out of memory");
		if (json_array_size(names) > 0 && !jarray_has(names, jstr(zone, "ZoneName")))
			continue;
		if (json_array_size(ids) > 0 && !jarray_has(ids, jstr(zone, "ZoneId")))
			continue;
		if (json_array_append(items, zone) < 0)
			return fault_set(f, FAULT_INTERNAL_ERROR, "Out of memory");
	}
	return describe_list(c, &d, items, parameters, ret_reply, f);
}

/* (fiber) The id of the account's default VPC in the region, "none" without one: netd owns it. */
static int default_vpc(struct call *c, char ret_id[static 64], struct fault *f)
{
	OWN(json_decref)
	json_t *ask =
		json_pack("{s:[{s:s, s:[s]}]}", "Filters", "Name", "is-default", "Values", "true");
	OWN(json_decref) json_t *reply = NULL;
	int r = rpc_call(daemon_peer("netd"), c->ctx, "ec2.DescribeVpcs", ask, NULL, &reply, NULL,
			 f);

	if (r < 0)
		return r;
	snprintf(ret_id, 64, "%s",
		 jstr_or(json_array_get(json_object_get(reply, "Vpcs"), 0), "VpcId", "none"));
	return 0;
}

static int attribute_add(json_t *list, json_t *asked, const char *name, const char *value)
{
	if (json_array_size(asked) > 0 && !jarray_has(asked, name))
		return 0;
	return json_array_append_new(list, json_pack("{s:s, s:[{s:s}]}", "AttributeName", name,
						     "AttributeValues", "AttributeValue", value));
}

int account_attributes_describe(struct call *c, json_t *parameters, json_t **ret_reply,
				struct fault *f)
{
	static const char *const names[] = {"supported-platforms",
					    "default-vpc",
					    "max-instances",
					    "vpc-max-security-groups-per-interface",
					    "max-elastic-ips",
					    "vpc-max-elastic-ips",
					    NULL};
	/* The quotas of VPC are AWS's defaults, or settings; netd holds them. */
	char vpc[64] = "none", max_instances[24], max_elastic_ips[24];
	const char *const values[] = {"VPC",	      vpc, max_instances, "5", max_elastic_ips,
				      max_elastic_ips};
	json_t *asked = json_object_get(parameters, "AttributeNames");
	OWN(json_decref) json_t *list = json_array();
	int r = 0;

	for (size_t k = 0; k < json_array_size(asked); k++) {
		const char *name = json_string_value(json_array_get(asked, k));
		size_t i = 0;

		while (names[i] && name && strcmp(names[i], name) != 0)
			i++;
		if (!name || !names[i])
			return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
					 "Value (%s) for parameter attributeName is invalid.",
					 name ? name : "");
	}
	snprintf(max_elastic_ips, sizeof max_elastic_ips, "%lld",
		 (long long)config_integer(c->daemon->config, "Network", "ElasticIps"));
	snprintf(max_instances, sizeof max_instances, "%lld",
		 (long long)config_integer(c->daemon->config, "Compute", "MaxInstances"));
	if (json_array_size(asked) == 0 || jarray_has(asked, "default-vpc"))
		r = default_vpc(c, vpc, f);
	if (r < 0)
		return r;
	for (size_t i = 0; names[i]; i++)
		r |= attribute_add(list, asked, names[i], values[i]);
	*ret_reply = json_pack("{s:O}", "AccountAttributes", list);
	return r == 0 && *ret_reply ? 0 : fault_set(f, FAULT_INTERNAL_ERROR, "Out of memory");
}

/* AWS's list of resources whose ids were once short; all are long here. Source: DescribeIdFormat.
 */
static json_t *id_formats(const char *resource)
{
	static const char *const resources[] = {"bundle",
						"conversion-task",
						"customer-gateway",
						"dhcp-options",
						"elastic-ip-allocation",
						"elastic-ip-association",
						"export-task",
						"flow-log",
						"image",
						"import-task",
						"instance",
						"internet-gateway",
						"network-acl",
						"network-acl-association",
						"network-interface",
						"network-interface-attachment",
						"prefix-list",
						"reservation",
						"route-table",
						"route-table-association",
						"security-group",
						"snapshot",
						"subnet",
						"subnet-cidr-block-association",
						"volume",
						"vpc",
						"vpc-cidr-block-association",
						"vpc-endpoint",
						"vpc-peering-connection",
						"vpn-connection",
						"vpn-gateway",
						NULL};
	OWN(json_decref) json_t *list = json_array();

	for (size_t i = 0; resources[i]; i++)
		if ((!resource || strcmp(resource, resources[i]) == 0) &&
		    json_array_append_new(list, json_pack("{s:s, s:b}", "Resource", resources[i],
							  "UseLongIds", 1)) < 0)
			return NULL;
	return give(list);
}

int id_format_describe(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	const char *resource = jstr(parameters, "Resource");
	OWN(json_decref) json_t *list = id_formats(resource);

	(void)c;
	if (!list)
		return -ENOMEM;
	if (resource && json_array_size(list) == 0)
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "Value (%.64s) for parameter resource is invalid.", resource);
	*ret_reply = json_pack("{s:O}", "Statuses", list);
	return 0;
}

int id_format_aggregate(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	OWN(json_decref) json_t *list = id_formats(NULL);

	(void)c, (void)parameters, (void)f;
	if (!list)
		return -ENOMEM;
	*ret_reply = json_pack("{s:b, s:O}", "UseLongIdsAggregated", 1, "Statuses", list);
	return 0;
}
