"""VPCs, their blocks and their DHCP options: what the API promises, and that packets and leases say so."""

import pytest
from lab import refused


def shown(netd, vpc_id):
    return netd.ec2("DescribeVpcs", VpcIds=[vpc_id])["Vpcs"][0]


def main_table(netd, vpc_id):
    filters = [{"Name": "vpc-id", "Values": [vpc_id]}, {"Name": "association.main", "Values": ["true"]}]
    return netd.ec2("DescribeRouteTables", Filters=filters)["RouteTables"][0]


# ---- blocks ----


def test_a_second_block_has_subnets_and_local_routes(netd, vpc, guests):
    vpc_id = vpc()
    added = netd.ec2("AssociateVpcCidrBlock", VpcId=vpc_id, CidrBlock="10.21.0.0/16")
    assert added["VpcId"] == vpc_id and added["CidrBlockAssociation"]["CidrBlockState"]["State"] == "associating"
    blocks = shown(netd, vpc_id)["CidrBlockAssociationSet"]
    assert [(b["CidrBlock"], b["CidrBlockState"]["State"]) for b in blocks] == [
        ("10.20.0.0/16", "associated"),
        ("10.21.0.0/16", "associated"),
    ]
    local = [r["DestinationCidrBlock"] for r in main_table(netd, vpc_id)["Routes"] if r["GatewayId"] == "local"]
    assert local == ["10.20.0.0/16", "10.21.0.0/16"]
    table = netd.ec2("CreateRouteTable", VpcId=vpc_id)["RouteTable"]
    assert [r["DestinationCidrBlock"] for r in table["Routes"]] == local
    netd.ec2("DeleteRouteTable", RouteTableId=table["RouteTableId"])

    first = netd.ec2("CreateSubnet", VpcId=vpc_id, CidrBlock="10.20.1.0/24")["Subnet"]["SubnetId"]
    second = netd.ec2("CreateSubnet", VpcId=vpc_id, CidrBlock="10.21.1.0/24")["Subnet"]["SubnetId"]
    refused("InvalidSubnet.Range", netd.ec2, "CreateSubnet", VpcId=vpc_id, CidrBlock="10.22.1.0/24")
    one, two = guests(public=False, SubnetId=first), guests(public=False, SubnetId=second)
    assert one.dhcp()["dns"] == "10.20.0.2" and two.dhcp()["dns"] == "10.20.0.2"
    assert one.reaches(two.address) and two.reaches(one.address)

    association = added["CidrBlockAssociation"]["AssociationId"]
    refused("DependencyViolation", netd.ec2, "DisassociateVpcCidrBlock", AssociationId=association)
    two.delete()
    netd.ec2("DeleteSubnet", SubnetId=second)
    gone = netd.ec2("DisassociateVpcCidrBlock", AssociationId=association)
    assert gone["CidrBlockAssociation"]["CidrBlockState"]["State"] == "disassociating"
    assert len(shown(netd, vpc_id)["CidrBlockAssociationSet"]) == len(main_table(netd, vpc_id)["Routes"]) == 1
    refused("InvalidVpcCidrBlockAssociationID.NotFound", netd.ec2, "DisassociateVpcCidrBlock", AssociationId=association)


@pytest.mark.parametrize(
    "first, added, code",
    [
        ("10.20.0.0/16", "10.20.128.0/17", "InvalidVpc.Range"),
        ("10.20.0.0/16", "172.20.0.0/16", "InvalidVpc.Range"),
        ("10.1.0.0/16", "10.0.0.0/24", "InvalidVpc.Range"),
        ("10.20.0.0/16", "198.19.0.0/24", "InvalidVpc.Range"),
        ("100.64.0.0/16", "192.168.0.0/24", "InvalidVpc.Range"),
        ("10.20.0.0/16", "10.21.0.0/15", "InvalidVpc.Range"),
        ("10.20.0.0/16", "169.254.0.0/24", "InvalidVpc.Range"),
        ("10.20.0.0/16", "10.21.0.0", "InvalidParameterValue"),
        ("10.20.0.0/16", "100.64.0.0/16", None),
        ("192.168.0.0/24", "192.168.1.0/24", None),
        ("172.20.0.0/16", "203.0.112.0/24", None),
    ],
)
def test_which_blocks_may_be_added(netd, vpc, first, added, code):
    vpc_id = vpc(first)
    if code:
        refused(code, netd.ec2, "AssociateVpcCidrBlock", VpcId=vpc_id, CidrBlock=added)
        assert len(shown(netd, vpc_id)["CidrBlockAssociationSet"]) == 1
    else:
        netd.ec2("AssociateVpcCidrBlock", VpcId=vpc_id, CidrBlock=added)
        assert len(shown(netd, vpc_id)["CidrBlockAssociationSet"]) == 2


def test_a_vpc_has_five_blocks_and_keeps_its_first(netd, vpc):
    vpc_id = vpc()
    for n in range(21, 25):
        netd.ec2("AssociateVpcCidrBlock", VpcId=vpc_id, CidrBlock=f"10.{n}.0.0/16")
    refused("CidrLimitExceeded", netd.ec2, "AssociateVpcCidrBlock", VpcId=vpc_id, CidrBlock="10.25.0.0/16")
    first = shown(netd, vpc_id)["CidrBlockAssociationSet"][0]["AssociationId"]
    refused("OperationNotPermitted", netd.ec2, "DisassociateVpcCidrBlock", AssociationId=first)


def test_a_block_does_not_take_a_routes_place(netd, vpc):
    vpc_id = vpc()
    gateway = netd.ec2("CreateInternetGateway")["InternetGateway"]["InternetGatewayId"]
    netd.ec2("AttachInternetGateway", InternetGatewayId=gateway, VpcId=vpc_id)
    table = main_table(netd, vpc_id)["RouteTableId"]
    netd.ec2("CreateRoute", RouteTableId=table, DestinationCidrBlock="10.21.4.0/24", GatewayId=gateway)
    refused("InvalidVpc.Range", netd.ec2, "AssociateVpcCidrBlock", VpcId=vpc_id, CidrBlock="10.21.0.0/16")
    netd.ec2("AssociateVpcCidrBlock", VpcId=vpc_id, CidrBlock="10.21.4.0/25")
    refused("DependencyViolation", netd.ec2, "DeleteVpc", VpcId=vpc_id)
    netd.ec2("DetachInternetGateway", InternetGatewayId=gateway, VpcId=vpc_id)
    netd.ec2("DeleteInternetGateway", InternetGatewayId=gateway)


def test_only_dedicated_tenancy_can_be_given_up(netd, vpc):
    vpc_id = vpc(InstanceTenancy="dedicated")
    assert netd.ec2("ModifyVpcTenancy", VpcId=vpc_id, InstanceTenancy="default") == {"ReturnValue": True}
    assert shown(netd, vpc_id)["InstanceTenancy"] == "default"
    refused("InvalidTenancy", netd.ec2, "ModifyVpcTenancy", VpcId=vpc_id, InstanceTenancy="default")
    refused("InvalidParameterValue", netd.ec2, "CreateVpc", CidrBlock="10.20.0.0/16", InstanceTenancy="host")


# ---- DHCP options ----


@pytest.fixture
def options(netd):
    made = []

    def make(**values):
        configurations = [{"Key": k.replace("_", "-"), "Values": v} for k, v in values.items()]
        made.append(netd.ec2("CreateDhcpOptions", DhcpConfigurations=configurations)["DhcpOptions"]["DhcpOptionsId"])
        return made[-1]

    yield make
    for options_id in made:
        netd.ec2("DeleteDhcpOptions", DhcpOptionsId=options_id)


def test_guests_are_told_what_the_options_say(netd, options, vpc, guests):
    options_id = options(
        domain_name=["corp.example"],
        domain_name_servers=["192.0.2.53", "AmazonProvidedDNS"],
        ntp_servers=["192.0.2.123"],
        netbios_name_servers=["192.0.2.44,192.0.2.45"],
        netbios_node_type=["2"],
    )
    vpc_id = vpc()
    subnet = netd.ec2("CreateSubnet", VpcId=vpc_id, CidrBlock="10.20.1.0/24")["Subnet"]["SubnetId"]
    before = shown(netd, vpc_id)["DhcpOptionsId"]
    netd.ec2("AssociateDhcpOptions", DhcpOptionsId=options_id, VpcId=vpc_id)
    assert shown(netd, vpc_id)["DhcpOptionsId"] == options_id
    guest = guests(public=False, SubnetId=subnet)
    lease = guest.dhcp()
    assert lease["domain"] == "corp.example" and lease["dns"] == "192.0.2.53 10.20.0.2"
    assert lease["ntpsrv"] == "192.0.2.123"
    assert lease["wins"] == "192.0.2.44 192.0.2.45" and lease["opt46"] == "02"
    refused("DependencyViolation", netd.ec2, "DeleteDhcpOptions", DhcpOptionsId=options_id)

    netd.ec2("AssociateDhcpOptions", DhcpOptionsId="default", VpcId=vpc_id)
    assert shown(netd, vpc_id)["DhcpOptionsId"] == "default"
    lease = guest.dhcp()
    assert "dns" not in lease and "domain" not in lease and lease["ip"] == guest.address
    netd.ec2("AssociateDhcpOptions", DhcpOptionsId=before, VpcId=vpc_id)
    assert guest.dhcp()["domain"] == "ec2.internal"


@pytest.mark.parametrize(
    "configuration, code",
    [
        ({"Key": "colour", "Values": ["red"]}, "InvalidParameterValue"),
        ({"Key": "ntp-servers", "Values": ["ntp.example"]}, "InvalidParameterValue"),
        ({"Key": "ntp-servers", "Values": []}, "MissingParameter"),
        ({"Key": "netbios-node-type", "Values": ["3"]}, "InvalidParameterValue"),
        ({"Key": "domain-name-servers", "Values": [f"192.0.2.{n}" for n in range(5)]}, "InvalidParameterValue"),
        ({"Key": "domain-name", "Values": ["a.example", "b.example"]}, "InvalidParameterValue"),
    ],
)
def test_options_that_make_no_sense_are_refused(netd, configuration, code):
    n = len(netd.ec2("DescribeDhcpOptions")["DhcpOptions"])
    refused(code, netd.ec2, "CreateDhcpOptions", DhcpConfigurations=[configuration])
    refused("MissingParameter", netd.ec2, "CreateDhcpOptions", DhcpConfigurations=[])
    assert len(netd.ec2("DescribeDhcpOptions")["DhcpOptions"]) == n


def test_options_are_found_by_what_they_say(netd, options):
    options_id = options(domain_name=["found.example"], domain_name_servers=["AmazonProvidedDNS"])
    by_value = [{"Name": "key", "Values": ["domain-name"]}, {"Name": "value", "Values": ["found.*"]}]
    assert [d["DhcpOptionsId"] for d in netd.ec2("DescribeDhcpOptions", Filters=by_value)["DhcpOptions"]] == [options_id]
    refused("InvalidDhcpOptionID.NotFound", netd.ec2, "DeleteDhcpOptions", DhcpOptionsId="dopt-00000000000000000")
    refused("InvalidDhcpOptionsId.Malformed", netd.ec2, "DeleteDhcpOptions", DhcpOptionsId="dopt-x")


# ---- tags ----


def test_every_kind_can_be_tagged(netd, vpc, options):
    vpc_id = vpc("10.71.0.0/16")

    def find(action, member, name):
        return netd.ec2(action, Filters=[{"Name": "vpc-id", "Values": [vpc_id]}])[member][0][name]

    subnet = netd.ec2("CreateSubnet", VpcId=vpc_id, CidrBlock="10.71.1.0/24")["Subnet"]["SubnetId"]
    gateway = netd.ec2("CreateInternetGateway")["InternetGateway"]["InternetGatewayId"]
    eni = netd.ec2("CreateNetworkInterface", SubnetId=subnet)["NetworkInterface"]["NetworkInterfaceId"]
    address = netd.ec2("AllocateAddress")["AllocationId"]
    group = find("DescribeSecurityGroups", "SecurityGroups", "GroupId")
    rules = [{"Name": "group-id", "Values": [group]}]
    endpoint = netd.ec2("CreateVpcEndpoint", VpcId=vpc_id, ServiceName="com.amazonaws.us-east-1.s3")["VpcEndpoint"]["VpcEndpointId"]
    peering = netd.ec2("CreateVpcPeeringConnection", VpcId=vpc_id, PeerVpcId=vpc("10.72.0.0/16"))["VpcPeeringConnection"]
    prefixes = netd.ec2("CreateManagedPrefixList", PrefixListName="list", MaxEntries=1, AddressFamily="IPv4")["PrefixList"]
    kinds = {
        "vpc": vpc_id,
        "subnet": subnet,
        "route-table": find("DescribeRouteTables", "RouteTables", "RouteTableId"),
        "internet-gateway": gateway,
        "network-acl": find("DescribeNetworkAcls", "NetworkAcls", "NetworkAclId"),
        "security-group": group,
        "security-group-rule": netd.ec2("DescribeSecurityGroupRules", Filters=rules)["SecurityGroupRules"][0]["SecurityGroupRuleId"],
        "network-interface": eni,
        "elastic-ip": address,
        "dhcp-options": options(domain_name=["tagged.example"]),
        "vpc-endpoint": endpoint,
        "vpc-peering-connection": peering["VpcPeeringConnectionId"],
        "prefix-list": prefixes["PrefixListId"],
    }
    netd.ec2("CreateTags", Resources=list(kinds.values()), Tags=[{"Key": "colour", "Value": "구름"}])
    by_key = [{"Name": "key", "Values": ["colour"]}]
    tagged = {t["ResourceType"]: t["ResourceId"] for t in netd.ec2("DescribeTags", Filters=by_key)["Tags"]}
    assert tagged == kinds
    refused("InvalidVpcID.NotFound", netd.ec2, "CreateTags", Resources=[subnet, "vpc-00000000000000000"], Tags=[{"Key": "a", "Value": ""}])
    many = [{"Key": f"k{n}", "Value": ""} for n in range(50)]
    refused("TagLimitExceeded", netd.ec2, "CreateTags", Resources=[eni], Tags=many)
    netd.ec2("DeleteTags", Resources=list(kinds.values()), Tags=[{"Key": "colour"}])
    assert netd.ec2("DescribeTags", Filters=by_key)["Tags"] == []

    netd.ec2("DeleteVpcPeeringConnection", VpcPeeringConnectionId=kinds["vpc-peering-connection"])
    netd.ec2("DeleteVpcEndpoints", VpcEndpointIds=[endpoint])
    netd.ec2("DeleteManagedPrefixList", PrefixListId=kinds["prefix-list"])
    netd.ec2("ReleaseAddress", AllocationId=address)
    netd.ec2("DeleteNetworkInterface", NetworkInterfaceId=eni)
    netd.ec2("DeleteInternetGateway", InternetGatewayId=gateway)


# ---- defaults ----


def test_a_default_vpc_can_be_made_again(netd):
    far = netd.elsewhere("ap-northeast-2")
    default = [{"Name": "is-default", "Values": ["true"]}]
    old = far.ec2("DescribeVpcs", Filters=default)["Vpcs"][0]["VpcId"]
    refused("DefaultVpcAlreadyExists", far.ec2, "CreateDefaultVpc")
    its = [{"Name": "vpc-id", "Values": [old]}]
    subnets = far.ec2("DescribeSubnets", Filters=its)["Subnets"]
    refused("DefaultSubnetAlreadyExistsInAvailabilityZone", far.ec2, "CreateDefaultSubnet",
            AvailabilityZone=subnets[0]["AvailabilityZone"])
    gateway = far.ec2("DescribeInternetGateways", Filters=[{"Name": "attachment.vpc-id", "Values": [old]}])["InternetGateways"][0]
    for subnet in subnets:
        refused("DependencyViolation", far.ec2, "DeleteVpc", VpcId=old)
        far.ec2("DeleteSubnet", SubnetId=subnet["SubnetId"])
    refused("DependencyViolation", far.ec2, "DeleteVpc", VpcId=old)
    far.ec2("DetachInternetGateway", InternetGatewayId=gateway["InternetGatewayId"], VpcId=old)
    far.ec2("DeleteInternetGateway", InternetGatewayId=gateway["InternetGatewayId"])
    far.ec2("DeleteVpc", VpcId=old)
    assert far.ec2("DescribeRouteTables", Filters=its)["RouteTables"] == []
    refused("DefaultVpcDoesNotExist", far.ec2, "CreateDefaultSubnet", AvailabilityZone=subnets[0]["AvailabilityZone"])
    netd.kill()
    netd.start()
    assert far.ec2("DescribeVpcs", Filters=default)["Vpcs"] == []  # what was deleted stays deleted
    new = far.ec2("CreateDefaultVpc")["Vpc"]
    assert new["IsDefault"] and new["CidrBlock"] == "172.31.0.0/16"
    its = [{"Name": "vpc-id", "Values": [new["VpcId"]]}]
    made = far.ec2("DescribeSubnets", Filters=its)["Subnets"]
    assert sorted(s["AvailabilityZone"] for s in made) == sorted(s["AvailabilityZone"] for s in subnets)
    assert all(s["DefaultForAz"] and s["MapPublicIpOnLaunch"] for s in made)
    routes = far.ec2("DescribeRouteTables", Filters=its)["RouteTables"][0]["Routes"]
    assert [r["DestinationCidrBlock"] for r in routes] == ["172.31.0.0/16", "0.0.0.0/0"]
    far.ec2("DeleteSubnet", SubnetId=made[0]["SubnetId"])
    again = far.ec2("CreateDefaultSubnet", AvailabilityZone=made[0]["AvailabilityZone"])["Subnet"]
    assert again["CidrBlock"] == made[0]["CidrBlock"] and again["AvailableIpAddressCount"] == 4091


def test_a_vpc_says_which_groups_its_interfaces_may_have(netd, vpc):
    one, other = vpc("10.26.0.0/16"), vpc("10.27.0.0/16")
    make = lambda name, of: netd.ec2("CreateSecurityGroup", GroupName=name, Description=f"for {name}", VpcId=of)["GroupId"]
    made = [make(f"usable-{i}", one) for i in range(6)]
    theirs = make("usable-0", other)
    try:

        def usable(**more):
            return netd.ec2("GetSecurityGroupsForVpc", VpcId=one, **more)

        shown = usable()["SecurityGroupForVpcs"]
        default = {g["GroupName"]: g["GroupId"] for g in shown}["default"]
        assert {g["GroupId"] for g in shown} == {default, *made} and {g["PrimaryVpcId"] for g in shown} == {one} and theirs not in made
        (first,) = [g for g in shown if g["GroupId"] == made[0]]
        assert first == {"GroupId": made[0], "GroupName": "usable-0", "Description": "for usable-0", "OwnerId": netd.account, "PrimaryVpcId": one, "Tags": []}
        for name, values, n in ("group-id", made[:2], 2), ("group-name", ["usable-*"], 6), ("description", ["for usable-3"], 1), ("owner-id", [netd.account], 7), ("primary-vpc-id", [other], 0):
            assert len(usable(Filters=[{"Name": name, "Values": values}])["SecurityGroupForVpcs"]) == n
        page = usable(MaxResults=5)
        rest = usable(MaxResults=5, NextToken=page["NextToken"])
        assert page["SecurityGroupForVpcs"] + rest["SecurityGroupForVpcs"] == shown and "NextToken" not in rest
        refused("InvalidParameterValue", usable, Filters=[{"Name": "vpc-id", "Values": [one]}])
        refused("InvalidVpcID.NotFound", netd.ec2, "GetSecurityGroupsForVpc", VpcId="vpc-00000000000000000")
    finally:
        for group in [*made, theirs]:
            netd.ec2("DeleteSecurityGroup", GroupId=group)


def test_nothing_blocks_public_access(netd):
    options = netd.ec2("DescribeVpcBlockPublicAccessOptions")["VpcBlockPublicAccessOptions"]
    assert options["InternetGatewayBlockMode"] == "off" and options["State"] == "default-state" and options["AwsAccountId"] == netd.account
