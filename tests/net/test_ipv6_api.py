"""IPv6 in VPCs: what the API promises and refuses."""

import ipaddress

from lab import eventually, refused


def test_blocks_are_given_and_taken_back(netd, vpc):
    vpc_id = vpc()
    assert netd.ec2("DescribeVpcs", VpcIds=[vpc_id])["Vpcs"][0]["Ipv6CidrBlockAssociationSet"] == []
    added = netd.ec2("AssociateVpcCidrBlock", VpcId=vpc_id, AmazonProvidedIpv6CidrBlock=True)["Ipv6CidrBlockAssociation"]
    assert added["Ipv6CidrBlockState"]["State"] == "associating" and added["Ipv6Pool"] == "Amazon"
    block = ipaddress.ip_network(added["Ipv6CidrBlock"])
    assert block.prefixlen == 56 and block.subnet_of(ipaddress.ip_network("fc00::/7"))
    other = {"VpcId": vpc_id, "Ipv6CidrBlockNetworkBorderGroup": "eu-west-1"}
    refused("InvalidParameterCombination", netd.ec2, "AssociateVpcCidrBlock", CidrBlock="10.21.0.0/16", **other)
    refused("InvalidParameterValue", netd.ec2, "AssociateVpcCidrBlock", AmazonProvidedIpv6CidrBlock=True, **other)
    here = {**other, "Ipv6CidrBlockNetworkBorderGroup": netd.region}
    second = netd.ec2("AssociateVpcCidrBlock", AmazonProvidedIpv6CidrBlock=True, **here)["Ipv6CidrBlockAssociation"]
    assert second["NetworkBorderGroup"] == netd.region
    netd.ec2("DisassociateVpcCidrBlock", AssociationId=second["AssociationId"])
    filters = [{"Name": "ipv6-cidr-block-association.ipv6-cidr-block", "Values": [str(block)]}]
    assert [v["VpcId"] for v in netd.ec2("DescribeVpcs", Filters=filters)["Vpcs"]] == [vpc_id]
    of_vpc = [{"Name": "vpc-id", "Values": [vpc_id]}]
    (table,) = netd.ec2("DescribeRouteTables", Filters=of_vpc)["RouteTables"]
    assert {"DestinationIpv6CidrBlock": str(block), "GatewayId": "local"}.items() <= table["Routes"][1].items()
    (acl,) = netd.ec2("DescribeNetworkAcls", Filters=of_vpc)["NetworkAcls"]
    six = [(e["Egress"], e["RuleNumber"], e["RuleAction"]) for e in acl["Entries"] if e.get("Ipv6CidrBlock") == "::/0"]
    assert sorted(six) == [(False, 101, "allow"), (False, 32768, "deny"), (True, 101, "allow"), (True, 32768, "deny")]

    subnet = netd.ec2("CreateSubnet", VpcId=vpc_id, CidrBlock="10.20.1.0/24")["Subnet"]["SubnetId"]
    one, two = list(block.subnets(new_prefix=64))[:2]
    refused("InvalidParameterValue", netd.ec2, "ModifySubnetAttribute", SubnetId=subnet, AssignIpv6AddressOnCreation={"Value": True})
    refused("InvalidParameterValue", netd.ec2, "CreateNetworkInterface", SubnetId=subnet, Ipv6AddressCount=1)
    for wrong in (str(block), "2001:db8::/64", f"{one.network_address}/65"):
        refused("InvalidSubnet.Range", netd.ec2, "AssociateSubnetCidrBlock", SubnetId=subnet, Ipv6CidrBlock=wrong)
    got = netd.ec2("AssociateSubnetCidrBlock", SubnetId=subnet, Ipv6CidrBlock=str(one))["Ipv6CidrBlockAssociation"]
    refused("CidrLimitExceeded", netd.ec2, "AssociateSubnetCidrBlock", SubnetId=subnet, Ipv6CidrBlock=str(two))
    clash = {"VpcId": vpc_id, "CidrBlock": "10.20.2.0/24", "Ipv6CidrBlock": str(one)}
    refused("InvalidSubnet.Conflict", netd.ec2, "CreateSubnet", **clash)
    refused("InvalidCidrBlock.InUse", netd.ec2, "DisassociateVpcCidrBlock", AssociationId=added["AssociationId"])

    netd.ec2("ModifySubnetAttribute", SubnetId=subnet, AssignIpv6AddressOnCreation={"Value": True})
    eni = netd.ec2("CreateNetworkInterface", SubnetId=subnet)["NetworkInterface"]
    assert ipaddress.ip_address(eni["Ipv6Addresses"][0]["Ipv6Address"]) in one
    refused("InvalidCidrBlock.InUse", netd.ec2, "DisassociateSubnetCidrBlock", AssociationId=got["AssociationId"])
    netd.ec2("ModifySubnetAttribute", SubnetId=subnet, AssignIpv6AddressOnCreation={"Value": False})
    refused("InvalidCidrBlock.InUse", netd.ec2, "DisassociateSubnetCidrBlock", AssociationId=got["AssociationId"])
    netd.ec2("DeleteNetworkInterface", NetworkInterfaceId=eni["NetworkInterfaceId"])
    netd.ec2("DisassociateSubnetCidrBlock", AssociationId=got["AssociationId"])
    refused("InvalidSubnetCidrBlockAssociationID.NotFound", netd.ec2, "DisassociateSubnetCidrBlock", AssociationId=got["AssociationId"])
    refused("InvalidSubnetCidrBlockAssociationId.Malformed", netd.ec2, "DisassociateSubnetCidrBlock", AssociationId="")
    gone = netd.ec2("DisassociateVpcCidrBlock", AssociationId=added["AssociationId"])["Ipv6CidrBlockAssociation"]
    assert gone["Ipv6CidrBlockState"]["State"] == "disassociating"
    (table,) = netd.ec2("DescribeRouteTables", Filters=of_vpc)["RouteTables"]
    assert len(table["Routes"]) == 1


def test_nat64_is_refused_since_it_is_not_there(six):
    netd, subnet = six.netd, six.subnets[0]
    refused("UnsupportedOperation", netd.ec2, "ModifySubnetAttribute", SubnetId=subnet, EnableDns64={"Value": True})
    netd.ec2("ModifySubnetAttribute", SubnetId=subnet, EnableDns64={"Value": False})
    assert netd.ec2("DescribeSubnets", SubnetIds=[subnet])["Subnets"][0]["EnableDns64"] is False
    nat = netd.ec2("CreateNatGateway", SubnetId=subnet, ConnectivityType="private")["NatGateway"]["NatGatewayId"]
    entries = [{"Cidr": "2001:db8::/32"}]
    made = netd.ec2("CreateManagedPrefixList", PrefixListName="six", AddressFamily="IPv6", MaxEntries=1, Entries=entries)["PrefixList"]
    route = {"RouteTableId": six.table, "NatGatewayId": nat}
    for destination in {"DestinationIpv6CidrBlock": "64:ff9b::/96"}, {"DestinationPrefixListId": made["PrefixListId"]}:
        refused("UnsupportedOperation", netd.ec2, "CreateRoute", **destination, **route)
    netd.ec2("CreateRoute", DestinationCidrBlock="192.0.2.0/24", **route)
    netd.ec2("DeleteRoute", RouteTableId=six.table, DestinationCidrBlock="192.0.2.0/24")
    netd.ec2("DeleteNatGateway", NatGatewayId=nat)
    netd.ec2("DeleteManagedPrefixList", PrefixListId=made["PrefixListId"])
    eventually(lambda: not netd.ec2("DescribeNetworkInterfaces", Filters=[{"Name": "vpc-id", "Values": [six.id]}])["NetworkInterfaces"])


def test_an_interface_has_as_many_addresses_as_its_type_allows(six):
    netd, guest = six.netd, six.guest(ask=False)
    which = {"NetworkInterfaceId": guest.eni}
    refused("PrivateIpAddressLimitExceeded", netd.ec2, "AssignIpv6Addresses", Ipv6AddressCount=50, **which)
    netd.ec2("AttachNetworkInterface", InstanceId=guest.instance, DeviceIndex=0, _AddressLimit=2, **which)
    refused("PrivateIpAddressLimitExceeded", netd.ec2, "AssignIpv6Addresses", Ipv6AddressCount=2, **which)
    born = {"_InstanceId": guest.instance, "_DeviceIndex": 1, "_AddressLimit": 2, "SubnetId": six.subnets[0]}
    refused("PrivateIpAddressLimitExceeded", netd.ec2, "CreateNetworkInterface", Ipv6AddressCount=3, **born)
    assert len(netd.ec2("AssignIpv6Addresses", Ipv6AddressCount=1, **which)["AssignedIpv6Addresses"]) == 1
    (shown,) = netd.ec2("DescribeNetworkInterfaces", NetworkInterfaceIds=[guest.eni])["NetworkInterfaces"]
    assert shown["Ipv6Address"] == guest.six[0] and len(shown["Ipv6Addresses"]) == 2


def test_routes_say_their_family(six):
    table = {"RouteTableId": six.table}
    refused("MissingParameter", six.netd.ec2, "CreateRoute", GatewayId="igw-00000000000000001", **table)
    refused("InvalidParameterValue", six.netd.ec2, "CreateRoute", DestinationIpv6CidrBlock="::/129", GatewayId="igw-00000000000000001", **table)
    gateway = six.netd.ec2("CreateEgressOnlyInternetGateway", VpcId=six.id)["EgressOnlyInternetGateway"]
    gateway = gateway["EgressOnlyInternetGatewayId"]
    refused("EgressOnlyInternetGatewayLimitExceeded", six.netd.ec2, "CreateEgressOnlyInternetGateway", VpcId=six.id)
    to = {"EgressOnlyInternetGatewayId": gateway, **table}
    refused("InvalidParameterCombination", six.netd.ec2, "CreateRoute", DestinationCidrBlock="0.0.0.0/0", **to)
    six.netd.ec2("CreateRoute", DestinationIpv6CidrBlock="2001:DB8::1/32", **to)
    refused("RouteAlreadyExists", six.netd.ec2, "CreateRoute", DestinationIpv6CidrBlock="2001:db8::/32", **to)
    refused("InvalidParameterValue", six.netd.ec2, "CreateRoute", DestinationIpv6CidrBlock=str(six.blocks[1]), **to)
    refused("InvalidParameterValue", six.netd.ec2, "DeleteRoute", DestinationIpv6CidrBlock=str(six.block), **table)
    six.netd.ec2("DeleteRoute", DestinationIpv6CidrBlock="2001:db8::/32", **table)
    assert six.netd.ec2("DescribeEgressOnlyInternetGateways", EgressOnlyInternetGatewayIds=[gateway])["EgressOnlyInternetGateways"]
    six.netd.ec2("DeleteEgressOnlyInternetGateway", EgressOnlyInternetGatewayId=gateway)
    refused("InvalidGatewayID.NotFound", six.netd.ec2, "DeleteEgressOnlyInternetGateway", EgressOnlyInternetGatewayId=gateway)
