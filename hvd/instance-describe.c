/* DescribeInstances: the instances that match, by their reservations. */
#include <errno.h>
#include <string.h>

#include "describe.h"
#include "instance-rooms.h"

/* Source: EC2 API reference, DescribeInstances, "Filters". What no box has (hosts, outposts,
 * spot …) matches nothing. */
static const struct filter filters[] = {
	{"affinity", "Placement.Affinity"},
	{"architecture", "Architecture"},
	{"availability-zone", "Placement.AvailabilityZone"},
	{"block-device-mapping.attach-time", "BlockDeviceMappings.Ebs.AttachTime"},
	{"block-device-mapping.delete-on-termination",
	 "BlockDeviceMappings.Ebs.DeleteOnTermination"},
	{"block-device-mapping.device-name", "BlockDeviceMappings.DeviceName"},
	{"block-device-mapping.status", "BlockDeviceMappings.Ebs.Status"},
	{"block-device-mapping.volume-id", "BlockDeviceMappings.Ebs.VolumeId"},
	{"boot-mode", "BootMode"},
	{"capacity-reservation-id", "CapacityReservationId"},
	{"client-token", "ClientToken"},
	{"current-instance-boot-mode", "CurrentInstanceBootMode"},
	{"dns-name", "PublicDnsName"},
	{"ebs-optimized", "EbsOptimized"},
	{"ena-support", "EnaSupport"},
	{"enclave-options.enabled", "EnclaveOptions.Enabled"},
	{"group-id", "ClassicGroups.GroupId"}, /* EC2-Classic's: nobody is in one */
	{"group-name", "ClassicGroups.GroupName"},
	{"hibernation-options.configured", "HibernationOptions.Configured"},
	{"host-id", "Placement.HostId"},
	{"hypervisor", "Hypervisor"},
	{"iam-instance-profile.arn", "IamInstanceProfile.Arn"},
	{"iam-instance-profile.id", "IamInstanceProfile.Id"},
	{"image-id", "ImageId"},
	{"instance-id", "InstanceId"},
	{"instance-lifecycle", "InstanceLifecycle"},
	{"instance-state-code", "State.Code"},
	{"instance-state-name", "State.Name"},
	{"instance-type", "InstanceType"},
	{"instance.group-id", "SecurityGroups.GroupId"},
	{"instance.group-name", "SecurityGroups.GroupName"},
	{"ip-address", "PublicIpAddress"},
	{"ipv6-address", "NetworkInterfaces.Ipv6Addresses.Ipv6Address"},
	{"kernel-id", "KernelId"},
	{"key-name", "KeyName"},
	{"launch-index", "AmiLaunchIndex"},
	{"launch-time", "LaunchTime"},
	{"maintenance-options.auto-recovery", "MaintenanceOptions.AutoRecovery"},
	{"metadata-options.http-endpoint", "MetadataOptions.HttpEndpoint"},
	{"metadata-options.http-protocol-ipv4", "MetadataOptions.HttpProtocolIpv4"},
	{"metadata-options.http-protocol-ipv6", "MetadataOptions.HttpProtocolIpv6"},
	{"metadata-options.http-put-response-hop-limit", "MetadataOptions.HttpPutResponseHopLimit"},
	{"metadata-options.http-tokens", "MetadataOptions.HttpTokens"},
	{"metadata-options.instance-metadata-tags", "MetadataOptions.InstanceMetadataTags"},
	{"metadata-options.state", "MetadataOptions.State"},
	{"monitoring-state", "Monitoring.State"},
	{"network-interface.addresses.association.allocation-id",
	 "NetworkInterfaces.PrivateIpAddresses.Association.AllocationId"},
	{"network-interface.addresses.association.association-id",
	 "NetworkInterfaces.PrivateIpAddresses.Association.AssociationId"},
	{"network-interface.addresses.association.ip-owner-id",
	 "NetworkInterfaces.PrivateIpAddresses.Association.IpOwnerId"},
	{"network-interface.addresses.association.public-ip",
	 "NetworkInterfaces.PrivateIpAddresses.Association.PublicIp"},
	{"network-interface.addresses.primary", "NetworkInterfaces.PrivateIpAddresses.Primary"},
	{"network-interface.addresses.private-ip-address",
	 "NetworkInterfaces.PrivateIpAddresses.PrivateIpAddress"},
	{"network-interface.association.allocation-id",
	 "NetworkInterfaces.Association.AllocationId"},
	{"network-interface.association.association-id",
	 "NetworkInterfaces.Association.AssociationId"},
	{"network-interface.association.carrier-ip", "NetworkInterfaces.Association.CarrierIp"},
	{"network-interface.association.customer-owned-ip",
	 "NetworkInterfaces.Association.CustomerOwnedIp"},
	{"network-interface.association.ip-owner-id", "NetworkInterfaces.Association.IpOwnerId"},
	{"network-interface.association.public-dns-name",
	 "NetworkInterfaces.Association.PublicDnsName"},
	{"network-interface.association.public-ip", "NetworkInterfaces.Association.PublicIp"},
	{"network-interface.attachment.attach-time", "NetworkInterfaces.Attachment.AttachTime"},
	{"network-interface.attachment.attachment-id", "NetworkInterfaces.Attachment.AttachmentId"},
	{"network-interface.attachment.delete-on-termination",
	 "NetworkInterfaces.Attachment.DeleteOnTermination"},
	{"network-interface.attachment.device-index", "NetworkInterfaces.Attachment.DeviceIndex"},
	{"network-interface.attachment.instance-id", "InstanceId"},
	{"network-interface.attachment.instance-owner-id", "_OwnerId"},
	{"network-interface.attachment.network-card-index",
	 "NetworkInterfaces.Attachment.NetworkCardIndex"},
	{"network-interface.attachment.status", "NetworkInterfaces.Attachment.Status"},
	{"network-interface.availability-zone", "Placement.AvailabilityZone"},
	{"network-interface.description", "NetworkInterfaces.Description"},
	{"network-interface.group-id", "NetworkInterfaces.Groups.GroupId"},
	{"network-interface.group-name", "NetworkInterfaces.Groups.GroupName"},
	{"network-interface.ipv6-addresses.ipv6-address",
	 "NetworkInterfaces.Ipv6Addresses.Ipv6Address"},
	{"network-interface.mac-address", "NetworkInterfaces.MacAddress"},
	{"network-interface.network-interface-id", "NetworkInterfaces.NetworkInterfaceId"},
	{"network-interface.outpost-arn", "NetworkInterfaces.OutpostArn"},
	{"network-interface.owner-id", "NetworkInterfaces.OwnerId"},
	{"network-interface.private-dns-name", "NetworkInterfaces.PrivateDnsName"},
	{"network-interface.private-ip-address", "NetworkInterfaces.PrivateIpAddress"},
	{"network-interface.public-dns-name", "NetworkInterfaces.Association.PublicDnsName"},
	{"network-interface.requester-id", "NetworkInterfaces.RequesterId"},
	{"network-interface.requester-managed", "NetworkInterfaces.RequesterManaged"},
	{"network-interface.source-dest-check", "NetworkInterfaces.SourceDestCheck"},
	{"network-interface.status", "NetworkInterfaces.Status"},
	{"network-interface.subnet-id", "NetworkInterfaces.SubnetId"},
	{"network-interface.tag-key", "NetworkInterfaces.TagSet.Key"},
	{"network-interface.tag-value", "NetworkInterfaces.TagSet.Value"},
	{"network-interface.vpc-id", "NetworkInterfaces.VpcId"},
	{"outpost-arn", "OutpostArn"},
	{"owner-id", "_OwnerId"},
	{"placement-group-name", "Placement.GroupName"},
	{"placement-partition-number", "Placement.PartitionNumber"},
	{"platform", "Platform"},
	{"platform-details", "PlatformDetails"},
	{"private-dns-name", "PrivateDnsName"},
	{"private-dns-name-options.enable-resource-name-dns-a-record",
	 "PrivateDnsNameOptions.EnableResourceNameDnsARecord"},
	{"private-dns-name-options.enable-resource-name-dns-aaaa-record",
	 "PrivateDnsNameOptions.EnableResourceNameDnsAAAARecord"},
	{"private-dns-name-options.hostname-type", "PrivateDnsNameOptions.HostnameType"},
	{"private-ip-address", "PrivateIpAddress"},
	{"product-code", "ProductCodes.ProductCodeId"},
	{"product-code.type", "ProductCodes.ProductCodeType"},
	{"ramdisk-id", "RamdiskId"},
	{"reason", "StateTransitionReason"},
	{"requester-id", "RequesterId"},
	{"reservation-id", "_ReservationId"},
	{"root-device-name", "RootDeviceName"},
	{"root-device-type", "RootDeviceType"},
	{"source-dest-check", "SourceDestCheck"},
	{"spot-instance-request-id", "SpotInstanceRequestId"},
	{"state-reason-code", "StateReason.Code"},
	{"state-reason-message", "StateReason.Message"},
	{"subnet-id", "SubnetId"},
	FILTER_TAGS,
	{"tenancy", "Placement.Tenancy"},
	{"tpm-support", "TpmSupport"},
	{"usage-operation", "UsageOperation"},
	{"usage-operation-update-time", "UsageOperationUpdateTime"},
	{"virtualization-type", "VirtualizationType"},
	{"vpc-id", "VpcId"},
	{NULL},
};

static const struct describe instances = {
	.kind = INSTANCE_KIND,
	.result = "Reservations",
	.ids = "InstanceIds",
	.prefix = "i",
	.malformed = FAULT_INVALID_INSTANCE_ID_MALFORMED,
	.not_found = FAULT_INVALID_INSTANCE_ID_NOT_FOUND,
	.filters = filters,
};

/* The reservation's object, made when its first instance comes. NULL out of memory. */
static json_t *reservation_get(json_t *by_id, json_t *list, const json_t *instance)
{
	const char *id = jstr_or(instance, "_ReservationId", "");
	json_t *reservation = json_object_get(by_id, id);

	if (reservation)
		return reservation;
	reservation = json_pack("{s:s, s:s, s:[], s:[]}", "ReservationId", id, "OwnerId",
				jstr_or(instance, "_OwnerId", ""), "Groups", "Instances");
	if (json_array_append_new(list, reservation) < 0 ||
	    json_object_set(by_id, id, reservation) < 0)
		return NULL;
	return reservation;
}

int instances_describe(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	OWN(json_decref) json_t *ids = NULL;
	OWN(json_decref) json_t *by_id = json_object();
	OWN(json_decref) json_t *list = json_array();
	OWN(free) char *token = NULL;
	json_t *id;
	size_t i;
	int r = describe_select(c, &instances, parameters, &ids, &token, f);

	if (r < 0)
		return r;
	json_array_foreach (ids, i, id) {
		const struct doc *d = store_find(c->store, INSTANCE_KIND, json_string_value(id));
		json_t *reservation = reservation_get(by_id, list, d->json);
		if (!reservation || json_array_append_new(json_object_get(reservation, "Instances"),
							  instance_present(c, d)) < 0)
			return -ENOMEM;
	}
	*ret_reply = json_pack("{s:O, s:s*}", "Reservations", list, "NextToken", token);
	return *ret_reply ? 0 : -ENOMEM;
}
