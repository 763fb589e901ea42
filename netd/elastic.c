/* Elastic addresses. */
#include "netd.h"

#include "describe.h"

static const struct filter address_filters[] = {
	{"allocation-id", "AllocationId"},
	{"association-id", "AssociationId"},
	{"domain", "Domain"},
	{"instance-id", "InstanceId"},
	{"network-border-group", "NetworkBorderGroup"},
	{"network-interface-id", "NetworkInterfaceId"},
	{"network-interface-owner-id", "NetworkInterfaceOwnerId"},
	{"private-ip-address", "PrivateIpAddress"},
	{"public-ip", "PublicIp"},
	FILTER_TAGS,
	{NULL},
};

static const struct describe addresses = {
	.kind = "elastic-ip",
	.result = "Addresses",
	.ids = "AllocationIds",
	.prefix = "eipalloc",
	.malformed = FAULT_INVALID_ALLOCATION_ID_NOT_FOUND,
	.not_found = FAULT_INVALID_ALLOCATION_ID_NOT_FOUND,
	.filters = address_filters,
};

int describe_addresses(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	return describe_run(c, &addresses, parameters, ret_reply, f);
}
