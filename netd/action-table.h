/* ROW(service, action, handler, flags): every action of netd. The rooms are named by the handlers' groups. */

/* vpc.c */
ROW(ec2, CreateDefaultVpc, create_default_vpc, 0)
ROW(ec2, CreateVpc, create_vpc, 0)
ROW(ec2, DeleteVpc, delete_vpc, 0)
ROW(ec2, DescribeVpcAttribute, describe_vpc_attribute, 0)
ROW(ec2, DescribeVpcs, describe_vpcs, 0)
ROW(ec2, ModifyVpcAttribute, modify_vpc_attribute, 0)
ROW(ec2, ModifyVpcTenancy, modify_vpc_tenancy, 0)

/* vpc-cidr.c */
ROW(ec2, AssociateVpcCidrBlock, associate_vpc_cidr_block, 0)
ROW(ec2, DisassociateVpcCidrBlock, disassociate_vpc_cidr_block, 0)

/* endpoint.c */
ROW(ec2, CreateVpcEndpoint, create_vpc_endpoint, ACTION_CLIENT_TOKEN)
ROW(ec2, DeleteVpcEndpoints, delete_vpc_endpoints, 0)
ROW(ec2, DescribeVpcEndpoints, describe_vpc_endpoints, 0)
ROW(ec2, DescribeVpcEndpointServices, describe_vpc_endpoint_services, 0)
ROW(ec2, ModifyVpcEndpoint, modify_vpc_endpoint, 0)

/* peering.c, peering-state.c */
ROW(ec2, AcceptVpcPeeringConnection, accept_vpc_peering_connection, 0)
ROW(ec2, CreateVpcPeeringConnection, create_vpc_peering_connection, 0)
ROW(ec2, DeleteVpcPeeringConnection, delete_vpc_peering_connection, 0)
ROW(ec2, DescribeVpcPeeringConnections, describe_vpc_peering_connections, 0)
ROW(ec2, ModifyVpcPeeringConnectionOptions, modify_vpc_peering_connection_options, 0)
ROW(ec2, RejectVpcPeeringConnection, reject_vpc_peering_connection, 0)

/* dhcp_options.c */
ROW(ec2, AssociateDhcpOptions, associate_dhcp_options, 0)
ROW(ec2, CreateDhcpOptions, create_dhcp_options, 0)
ROW(ec2, DeleteDhcpOptions, delete_dhcp_options, 0)
ROW(ec2, DescribeDhcpOptions, describe_dhcp_options, 0)

/* subnet.c */
ROW(ec2, CreateDefaultSubnet, create_default_subnet, 0)
ROW(ec2, CreateSubnet, create_subnet, 0)
ROW(ec2, DeleteSubnet, delete_subnet, 0)
ROW(ec2, DescribeSubnets, describe_subnets, 0)
ROW(ec2, ModifySubnetAttribute, modify_subnet_attribute, 0)

/* reservation.c */
ROW(ec2, CreateSubnetCidrReservation, create_subnet_cidr_reservation, 0)
ROW(ec2, DeleteSubnetCidrReservation, delete_subnet_cidr_reservation, 0)
ROW(ec2, GetSubnetCidrReservations, get_subnet_cidr_reservations, 0)

/* route_table.c, route.c */
ROW(ec2, AssociateRouteTable, associate_route_table, 0)
ROW(ec2, CreateRoute, create_route, 0)
ROW(ec2, CreateRouteTable, create_route_table, ACTION_CLIENT_TOKEN)
ROW(ec2, DeleteRoute, delete_route, 0)
ROW(ec2, DeleteRouteTable, delete_route_table, 0)
ROW(ec2, DescribeRouteTables, describe_route_tables, 0)
ROW(ec2, DisassociateRouteTable, disassociate_route_table, 0)
ROW(ec2, ReplaceRoute, replace_route, 0)
ROW(ec2, ReplaceRouteTableAssociation, replace_route_table_association, 0)

/* gateway.c */
ROW(ec2, AttachInternetGateway, attach_internet_gateway, 0)
ROW(ec2, CreateInternetGateway, create_internet_gateway, 0)
ROW(ec2, DeleteInternetGateway, delete_internet_gateway, 0)
ROW(ec2, DescribeInternetGateways, describe_internet_gateways, 0)
ROW(ec2, DetachInternetGateway, detach_internet_gateway, 0)
ROW(ec2, DescribeVpcBlockPublicAccessOptions, describe_vpc_block_public_access_options, 0)

/* egress.c */
ROW(ec2, CreateEgressOnlyInternetGateway, create_egress_only_internet_gateway, ACTION_CLIENT_TOKEN)
ROW(ec2, DeleteEgressOnlyInternetGateway, delete_egress_only_internet_gateway, 0)
ROW(ec2, DescribeEgressOnlyInternetGateways, describe_egress_only_internet_gateways, 0)

/* ipv6-block.c, ipv6-address.c */
ROW(ec2, AssignIpv6Addresses, assign_ipv6_addresses, 0)
ROW(ec2, AssociateSubnetCidrBlock, associate_subnet_cidr_block, 0)
ROW(ec2, DisassociateSubnetCidrBlock, disassociate_subnet_cidr_block, 0)
ROW(ec2, UnassignIpv6Addresses, unassign_ipv6_addresses, 0)

/* acl.c */
ROW(ec2, CreateNetworkAcl, create_network_acl, 0)
ROW(ec2, DeleteNetworkAcl, delete_network_acl, 0)
ROW(ec2, DescribeNetworkAcls, describe_network_acls, 0)
ROW(ec2, ReplaceNetworkAclAssociation, replace_network_acl_association, 0)

/* acl-entry.c */
ROW(ec2, CreateNetworkAclEntry, create_network_acl_entry, 0)
ROW(ec2, DeleteNetworkAclEntry, delete_network_acl_entry, 0)
ROW(ec2, ReplaceNetworkAclEntry, replace_network_acl_entry, 0)

/* prefix-list.c */
ROW(ec2, CreateManagedPrefixList, create_managed_prefix_list, ACTION_CLIENT_TOKEN)
ROW(ec2, DeleteManagedPrefixList, delete_managed_prefix_list, 0)
ROW(ec2, DescribeManagedPrefixLists, describe_managed_prefix_lists, 0)
ROW(ec2, DescribePrefixLists, describe_prefix_lists, 0)

/* prefix-list-modify.c */
ROW(ec2, GetManagedPrefixListAssociations, get_managed_prefix_list_associations, 0)
ROW(ec2, GetManagedPrefixListEntries, get_managed_prefix_list_entries, 0)
ROW(ec2, ModifyManagedPrefixList, modify_managed_prefix_list, 0)
ROW(ec2, RestoreManagedPrefixListVersion, restore_managed_prefix_list_version, 0)

/* group.c */
ROW(ec2, CreateSecurityGroup, create_security_group, 0)
ROW(ec2, DeleteSecurityGroup, delete_security_group, 0)
ROW(ec2, DescribeSecurityGroups, describe_security_groups, 0)

/* group-peer.c */
ROW(ec2, DescribeSecurityGroupReferences, describe_security_group_references, 0)
ROW(ec2, DescribeStaleSecurityGroups, describe_stale_security_groups, 0)
ROW(ec2, GetSecurityGroupsForVpc, get_security_groups_for_vpc, 0)

/* group_rule.c */
ROW(ec2, AuthorizeSecurityGroupEgress, authorize_egress, 0)
ROW(ec2, AuthorizeSecurityGroupIngress, authorize_ingress, 0)
ROW(ec2, DescribeSecurityGroupRules, describe_security_group_rules, 0)
ROW(ec2, ModifySecurityGroupRules, modify_security_group_rules, 0)
ROW(ec2, RevokeSecurityGroupEgress, revoke_egress, 0)
ROW(ec2, RevokeSecurityGroupIngress, revoke_ingress, 0)
ROW(ec2, UpdateSecurityGroupRuleDescriptionsEgress, update_egress_descriptions, 0)
ROW(ec2, UpdateSecurityGroupRuleDescriptionsIngress, update_ingress_descriptions, 0)

/* interface.c, interface-address.c, interface-attribute.c, attachment.c */
ROW(ec2, AssignPrivateIpAddresses, assign_private_ip_addresses, 0)
ROW(ec2, AttachNetworkInterface, attach_network_interface, ACTION_INTERNAL)
ROW(ec2, CreateNetworkInterface, create_network_interface, ACTION_CLIENT_TOKEN)
ROW(ec2, DeleteNetworkInterface, delete_network_interface, 0)
ROW(ec2, DescribeNetworkInterfaceAttribute, describe_network_interface_attribute, 0)
ROW(ec2, DescribeNetworkInterfaces, describe_network_interfaces, 0)
ROW(ec2, DetachNetworkInterface, detach_network_interface, ACTION_INTERNAL)
ROW(ec2, ModifyNetworkInterfaceAttribute, modify_network_interface_attribute, 0)
ROW(ec2, ResetNetworkInterfaceAttribute, reset_network_interface_attribute, 0)
ROW(ec2, UnassignPrivateIpAddresses, unassign_private_ip_addresses, 0)
ROW(gureum, Assign, assign_public_address, ACTION_INTERNAL)
ROW(gureum, OpenMetadata, open_metadata, ACTION_INTERNAL)
ROW(gureum, Release, release_public_address, ACTION_INTERNAL)

/* interface-name.c */
ROW(ec2, ModifyPrivateDnsNameOptions, modify_private_dns_name_options, ACTION_INTERNAL)

/* elastic.c, elastic-associate.c, elastic-attribute.c */
ROW(ec2, AllocateAddress, allocate_address, 0)
ROW(ec2, AssociateAddress, associate_address, 0)
ROW(ec2, DescribeAddresses, describe_addresses, 0)
ROW(ec2, DescribeAddressesAttribute, describe_addresses_attribute, 0)
ROW(ec2, DisassociateAddress, disassociate_address, 0)
ROW(ec2, ModifyAddressAttribute, modify_address_attribute, 0)
ROW(ec2, ReleaseAddress, release_address, 0)
ROW(ec2, ResetAddressAttribute, reset_address_attribute, 0)

/* nat-gateway.c, nat-gateway-associate.c */
ROW(ec2, AssignPrivateNatGatewayAddress, assign_private_nat_gateway_address, 0)
ROW(ec2, AssociateNatGatewayAddress, associate_nat_gateway_address, 0)
ROW(ec2, CreateNatGateway, create_nat_gateway, ACTION_CLIENT_TOKEN)
ROW(ec2, DeleteNatGateway, delete_nat_gateway, 0)
ROW(ec2, DescribeNatGateways, describe_nat_gateways, 0)
ROW(ec2, DisassociateNatGatewayAddress, disassociate_nat_gateway_address, 0)
ROW(ec2, UnassignPrivateNatGatewayAddress, unassign_private_nat_gateway_address, 0)

/* flow_log.c */
ROW(ec2, CreateFlowLogs, create_flow_logs, ACTION_CLIENT_TOKEN)
ROW(ec2, DeleteFlowLogs, delete_flow_logs, 0)
ROW(ec2, DescribeFlowLogs, describe_flow_logs, 0)
ROW(gureum, FlushFlowLogs, flush_flow_logs, ACTION_INTERNAL)

/* tag.c */
ROW(ec2, CreateTags, create_tags, 0)
ROW(ec2, DeleteTags, delete_tags, 0)
ROW(ec2, DescribeTags, describe_tags, 0)

/* doctor.c */
ROW(gureum, Doctor, doctor, ACTION_INTERNAL)
ROW(gureum, Reconcile, reconcile, ACTION_INTERNAL)
