/* Network interfaces: to describe them. */
#include "interface.h"

#include "describe.h"

static const struct filter interface_filters[] = {
	{"addresses.association.allocation-id", "PrivateIpAddresses.Association.AllocationId"},
	{"addresses.association.association-id", "PrivateIpAddresses.Association.AssociationId"},
	{"addresses.association.owner-id", "PrivateIpAddresses.Association.IpOwnerId"},
	{"addresses.association.public-dns-name", "PrivateIpAddresses.Association.PublicDnsName"},
	{"addresses.association.public-ip", "PrivateIpAddresses.Association.PublicIp"},
	{"addresses.primary", "PrivateIpAddresses.Primary"},
	{"addresses.private-dns-name", "PrivateIpAddresses.PrivateDnsName"},
	{"addresses.private-ip-address", "PrivateIpAddresses.PrivateIpAddress"},
	{"association.allocation-id", "Association.AllocationId"},
	{"association.association-id", "Association.AssociationId"},
	{"association.ip-owner-id", "Association.IpOwnerId"},
	{"association.public-dns-name", "Association.PublicDnsName"},
	{"association.public-ip", "Association.PublicIp"},
	{"attachment.attach-time", "Attachment.AttachTime"},
	{"attachment.attachment-id", "Attachment.AttachmentId"},
	{"attachment.delete-on-termination", "Attachment.DeleteOnTermination"},
	{"attachment.device-index", "Attachment.DeviceIndex"},
	{"attachment.instance-id", "Attachment.InstanceId"},
	{"attachment.instance-owner-id", "Attachment.InstanceOwnerId"},
	{"attachment.nat-gateway-id", "Attachment.NatGatewayId"},
	{"attachment.status", "Attachment.Status"},
	{"availability-zone", "AvailabilityZone"},
	{"description", "Description"},
	{"group-id", "Groups.GroupId"},
	{"group-name", "Groups.GroupName"},
	{"interface-type", "InterfaceType"},
	{"ipv6-addresses.ipv6-address", "Ipv6Addresses.Ipv6Address"},
	{"mac-address", "MacAddress"},
	{"network-interface-id", "NetworkInterfaceId"},
	{"owner-id", "OwnerId"},
	{"private-dns-name", "PrivateDnsName"},
	{"private-ip-address", "PrivateIpAddresses.PrivateIpAddress"},
	{"requester-id", "RequesterId"},
	{"requester-managed", "RequesterManaged"},
	{"source-dest-check", "SourceDestCheck"},
	{"status", "Status"},
	{"subnet-id", "SubnetId"},
	{"vpc-id", "VpcId"},
	FILTER_TAGS,
	{NULL},
};

static const struct describe interfaces = {
	.kind = "network-interface",
	.result = "NetworkInterfaces",
	.ids = "NetworkInterfaceIds",
	.prefix = "eni",
	.malformed = FAULT_INVALID_NETWORK_INTERFACE_ID_MALFORMED,
	.not_found = FAULT_INVALID_NETWORK_INTERFACE_ID_NOT_FOUND,
	.filters = interface_filters,
	.present = interface_present,
};

json_t *interface_shown(const json_t *json)
{
	OWN(json_decref) json_t *shown = json_copy((json_t *)json);
	json_t *first = json_object_get(json_array_get(json_object_get(json, "Ipv6Addresses"), 0),
					"Ipv6Address");

	if (json_object_set(shown, "TagSet", json_object_get(json, "Tags")) < 0)
		return NULL;
	json_object_del(shown, "Tags");
	if (first && json_object_set(shown, "Ipv6Address", first) < 0)
		return NULL;
	return give(shown);
}

json_t *interface_present(const struct call *c, const struct doc *d)
{
	(void)c;
	return interface_shown(d->json);
}

int describe_network_interfaces(struct call *c, json_t *parameters, json_t **ret_reply,
				struct fault *f)
{
	return describe_run(c, &interfaces, parameters, ret_reply, f);
}
