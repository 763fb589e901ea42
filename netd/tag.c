/* Tags of netd's kinds. */
#include "netd.h"

static const struct tags_kind kinds[] = {
	{"dhcp-options", "dhcp-options", "dopt", FAULT_INVALID_DHCP_OPTIONS_ID_NOT_FOUND},
	{"egress-only-internet-gateway", "egress-only-internet-gateway", "eigw",
	 FAULT_INVALID_GATEWAY_ID_NOT_FOUND},
	{"elastic-ip", "elastic-ip", "eipalloc", FAULT_INVALID_ALLOCATION_ID_NOT_FOUND},
	{"flow-log", "vpc-flow-log", "fl", FAULT_INVALID_FLOW_LOG_ID_NOT_FOUND},
	{"internet-gateway", "internet-gateway", "igw",
	 FAULT_INVALID_INTERNET_GATEWAY_ID_NOT_FOUND},
	{"network-acl", "network-acl", "acl", FAULT_INVALID_NETWORK_ACL_ID_NOT_FOUND},
	{"network-interface", "network-interface", "eni",
	 FAULT_INVALID_NETWORK_INTERFACE_ID_NOT_FOUND},
	{"prefix-list", "prefix-list", "pl", FAULT_INVALID_PREFIX_LIST_ID_NOT_FOUND},
	{"natgateway", "natgateway", "nat", FAULT_NAT_GATEWAY_NOT_FOUND},
	{"route-table", "route-table", "rtb", FAULT_INVALID_ROUTE_TABLE_ID_NOT_FOUND},
	{"security-group", "security-group", "sg", FAULT_INVALID_GROUP_NOT_FOUND},
	{"security-group-rule", "security-group-rule", "sgr",
	 FAULT_INVALID_SECURITY_GROUP_RULE_ID_NOT_FOUND},
	{"subnet", "subnet", "subnet", FAULT_INVALID_SUBNET_ID_NOT_FOUND},
	{"subnet-cidr-reservation", "subnet-cidr-reservation", "scr",
	 FAULT_INVALID_SUBNET_CIDR_RESERVATION_ID_NOT_FOUND},
	{"vpc", "vpc", "vpc", FAULT_INVALID_VPC_ID_NOT_FOUND},
	{"vpc-endpoint", "vpc-endpoint", "vpce", FAULT_INVALID_VPC_ENDPOINT_ID_NOT_FOUND},
	{"vpc-peering-connection", "vpc-peering-connection", "pcx",
	 FAULT_INVALID_VPC_PEERING_CONNECTION_ID_NOT_FOUND},
	{"vpc-peering-accepter", "vpc-peering-connection", "pcx",
	 FAULT_INVALID_VPC_PEERING_CONNECTION_ID_NOT_FOUND},
	{NULL},
};

int create_tags(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	return tags_create(c, kinds, parameters, ret_reply, f);
}

int delete_tags(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	return tags_delete(c, kinds, parameters, ret_reply, f);
}

int describe_tags(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	return tags_describe(c, kinds, parameters, ret_reply, f);
}
