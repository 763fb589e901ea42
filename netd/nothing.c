/* What a box does not have: Describe answers an empty set, as an account without such things gets it; an id is never known. */
#include "netd.h"

#include <errno.h>
#include <string.h>

static const struct {
	const char *method, *result;
	const char *not_found; /* AWS's code for an id of this kind */
} nothings[] = {
	{"ec2.DescribeCarrierGateways", "CarrierGateways", "InvalidCarrierGatewayID.NotFound"},
	{"ec2.DescribeCustomerGateways", "CustomerGateways", "InvalidCustomerGatewayID.NotFound"},
	{"ec2.DescribeEgressOnlyInternetGateways", "EgressOnlyInternetGateways",
	 "InvalidEgressOnlyInternetGatewayId.NotFound"},
	{"ec2.DescribeFlowLogs", "FlowLogs", "InvalidFlowLogId.NotFound"},
	{"ec2.DescribeManagedPrefixLists", "PrefixLists", "InvalidPrefixListID.NotFound"},
	{"ec2.DescribeNatGateways", "NatGateways", "NatGatewayNotFound"},
	{"ec2.DescribePrefixLists", "PrefixLists", "InvalidPrefixListId.NotFound"},
	{"ec2.DescribeSecurityGroupReferences", "SecurityGroupReferenceSet", NULL},
	{"ec2.DescribeStaleSecurityGroups", "StaleSecurityGroupSet", NULL},
	{"ec2.DescribeTransitGatewayAttachments", "TransitGatewayAttachments",
	 "InvalidTransitGatewayAttachmentID.NotFound"},
	{"ec2.DescribeTransitGateways", "TransitGateways", "InvalidTransitGatewayID.NotFound"},
	{"ec2.DescribeVpcClassicLink", "Vpcs", NULL},
	{"ec2.DescribeVpcEndpoints", "VpcEndpoints", "InvalidVpcEndpointId.NotFound"},
	{"ec2.DescribeVpcPeeringConnections", "VpcPeeringConnections", "InvalidVpcPeeringConnectionID.NotFound"},
	{"ec2.DescribeVpnConnections", "VpnConnections", "InvalidVpnConnectionID.NotFound"},
	{"ec2.DescribeVpnGateways", "VpnGateways", "InvalidVpnGatewayID.NotFound"},
};

/* The first id that the request asks for, in whatever list of ids its action has. */
static const char *id_asked(json_t *parameters)
{
	const char *name;
	json_t *value;

	json_object_foreach(parameters, name, value) {
		size_t n = strlen(name);

		if (n > 3 && strcmp(name + n - 3, "Ids") == 0 && json_array_size(value) > 0)
			return json_string_value(json_array_get(value, 0));
	}
	return NULL;
}

int describe_nothing(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	const char *id = id_asked(parameters);
	size_t i = 0;

	while (strcmp(nothings[i].method, c->method) != 0)
		i++; /* every row of the action table that leads here is in this one */
	if (id && nothings[i].not_found)
		return fault_set_code(f, nothings[i].not_found, 400, "The ID '%.64s' does not exist", id);
	*ret_reply = json_pack("{s:[]}", nothings[i].result);
	return *ret_reply ? 0 : -ENOMEM;
}
