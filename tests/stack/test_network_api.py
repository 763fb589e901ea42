"""The network API as customers' tools use it: defaults, groups, interfaces, and AWS's refusals."""

import concurrent.futures
import ipaddress
import uuid

import pytest
from botocore.exceptions import ClientError


def refused(code, call, **parameters):
    with pytest.raises(ClientError) as caught:
        call(**parameters)
    assert caught.value.response["Error"]["Code"] == code, caught.value
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400


def name():
    return "t-" + uuid.uuid4().hex[:12]


def by(key, *values):
    return [{"Name": key, "Values": list(values)}]


def elsewhere(cloud):
    """A region other than the tests' own."""
    here = cloud.ec2.meta.region_name
    return next(r["RegionName"] for r in cloud.ec2.describe_regions()["Regions"] if r["RegionName"] != here)


def default_group(ec2):
    found = ec2.describe_security_groups(Filters=by("group-name", "default"))["SecurityGroups"]
    return next(g for g in found if g["Description"] == "default VPC security group")


@pytest.fixture
def ec2(cloud):
    return cloud.ec2


@pytest.fixture
def vpc(ec2):
    return ec2.describe_vpcs(Filters=by("is-default", "true"))["Vpcs"][0]


@pytest.fixture
def subnet(ec2, vpc):
    return ec2.describe_subnets(Filters=by("vpc-id", vpc["VpcId"]))["Subnets"][0]


@pytest.fixture
def group(ec2):
    group_id = ec2.create_security_group(GroupName=name(), Description="of a test")["GroupId"]
    yield group_id
    try:
        ec2.delete_security_group(GroupId=group_id)
    except ClientError as e:
        assert e.response["Error"]["Code"] == "InvalidGroup.NotFound"


@pytest.fixture
def interface(ec2, subnet):
    made = ec2.create_network_interface(SubnetId=subnet["SubnetId"])["NetworkInterface"]
    yield made
    ec2.delete_network_interface(NetworkInterfaceId=made["NetworkInterfaceId"])


# ---- what an account finds ----


def test_the_default_vpc_is_whole(ec2, vpc):
    assert vpc["CidrBlock"] == "172.31.0.0/16" and vpc["State"] == "available" and vpc["InstanceTenancy"] == "default"
    assert [a["CidrBlock"] for a in vpc["CidrBlockAssociationSet"]] == ["172.31.0.0/16"]
    mine = by("vpc-id", vpc["VpcId"])
    subnets = ec2.describe_subnets(Filters=mine)["Subnets"]
    zones = [z["ZoneName"] for z in ec2.describe_availability_zones()["AvailabilityZones"]]
    assert sorted(s["AvailabilityZone"] for s in subnets if s["DefaultForAz"]) == sorted(zones)
    assert all(s["MapPublicIpOnLaunch"] and s["CidrBlock"].endswith("/20") for s in subnets if s["DefaultForAz"])
    gateway = ec2.describe_internet_gateways(Filters=by("attachment.vpc-id", vpc["VpcId"]))["InternetGateways"][0]
    main = ec2.describe_route_tables(Filters=mine + by("association.main", "true"))["RouteTables"]
    assert len(main) == 1 and main[0]["PropagatingVgws"] == []
    assert [(r["DestinationCidrBlock"], r["GatewayId"], r["State"], r["Origin"]) for r in main[0]["Routes"]] == [
        ("172.31.0.0/16", "local", "active", "CreateRouteTable"),
        ("0.0.0.0/0", gateway["InternetGatewayId"], "active", "CreateRoute"),
    ]
    acl = ec2.describe_network_acls(Filters=mine + by("default", "true"))["NetworkAcls"]
    assert len(acl) == 1
    assert {a["SubnetId"] for a in acl[0]["Associations"]} >= {s["SubnetId"] for s in subnets if s["DefaultForAz"]}
    assert sorted((e["Egress"], e["RuleNumber"], e["RuleAction"]) for e in acl[0]["Entries"]) == [
        (False, 100, "allow"),
        (False, 32767, "deny"),
        (True, 100, "allow"),
        (True, 32767, "deny"),
    ]
    options = ec2.describe_dhcp_options(DhcpOptionsIds=[vpc["DhcpOptionsId"]])["DhcpOptions"][0]
    assert {c["Key"]: c["Values"][0]["Value"] for c in options["DhcpConfigurations"]} == {
        "domain-name": "ec2.internal",
        "domain-name-servers": "AmazonProvidedDNS",
    }


def test_the_default_group_hears_itself_and_speaks_to_all(cloud):
    """In a region where no test changes it."""
    there = cloud.client("ec2", region_name=elsewhere(cloud))
    default = default_group(there)
    ingress, egress = default["IpPermissions"], default["IpPermissionsEgress"]
    assert [p["IpProtocol"] for p in ingress] == ["-1"] and "FromPort" not in ingress[0]
    assert [p["GroupId"] for p in ingress[0]["UserIdGroupPairs"]] == [default["GroupId"]]
    assert [r["CidrIp"] for r in egress[0]["IpRanges"]] == ["0.0.0.0/0"]
    rules = there.describe_security_group_rules(Filters=by("group-id", default["GroupId"]))["SecurityGroupRules"]
    assert sorted(r["IsEgress"] for r in rules) == [False, True]
    assert all(r["SecurityGroupRuleId"].startswith("sgr-") and r["FromPort"] == -1 for r in rules)
    refused("CannotDelete", there.delete_security_group, GroupId=default["GroupId"])


def test_vpc_attributes_are_read_one_by_one(ec2, vpc):
    for attribute, value in [
        ("enableDnsSupport", True),
        ("enableDnsHostnames", True),
        ("enableNetworkAddressUsageMetrics", False),
    ]:
        answer = ec2.describe_vpc_attribute(VpcId=vpc["VpcId"], Attribute=attribute)
        assert answer[attribute[0].upper() + attribute[1:]] == {"Value": value}


def test_what_a_box_lacks_is_an_empty_set(ec2):
    assert ec2.describe_carrier_gateways()["CarrierGateways"] == []
    assert ec2.describe_vpn_gateways()["VpnGateways"] == []
    assert ec2.describe_vpc_endpoint_service_configurations()["ServiceConfigurations"] == []


def test_every_describe_refuses_a_filter_that_it_does_not_know(ec2):
    for call in [
        ec2.describe_vpcs,
        ec2.describe_subnets,
        ec2.describe_route_tables,
        ec2.describe_internet_gateways,
        ec2.describe_security_groups,
        ec2.describe_security_group_rules,
        ec2.describe_network_acls,
        ec2.describe_network_interfaces,
        ec2.describe_dhcp_options,
        ec2.describe_addresses,
        ec2.describe_vpc_peering_connections,
        ec2.describe_vpc_endpoints,
        ec2.describe_vpc_endpoint_services,
    ]:
        refused("InvalidParameterValue", call, Filters=by("no-such-filter", "x"))


def test_ids_are_malformed_or_not_found(ec2):
    for call, parameter, prefix, malformed, not_found in [
        (ec2.describe_vpcs, "VpcIds", "vpc", "InvalidVpcID.Malformed", "InvalidVpcID.NotFound"),
        (ec2.describe_subnets, "SubnetIds", "subnet", "InvalidSubnetID.Malformed", "InvalidSubnetID.NotFound"),
        (ec2.describe_security_groups, "GroupIds", "sg", "InvalidGroupId.Malformed", "InvalidGroup.NotFound"),
        (
            ec2.describe_network_interfaces,
            "NetworkInterfaceIds",
            "eni",
            "InvalidNetworkInterfaceId.Malformed",
            "InvalidNetworkInterfaceID.NotFound",
        ),
        (
            ec2.describe_vpc_peering_connections,
            "VpcPeeringConnectionIds",
            "pcx",
            "InvalidVpcPeeringConnectionId.Malformed",
            "InvalidVpcPeeringConnectionID.NotFound",
        ),
    ]:
        refused(malformed, call, **{parameter: [prefix + "-xyz"]})
        refused(not_found, call, **{parameter: [prefix + "-0123456789abcdef0"]})


def test_regions_do_not_see_one_another(cloud, vpc):
    there = cloud.client("ec2", region_name=elsewhere(cloud))
    vpcs = there.describe_vpcs(Filters=by("is-default", "true"))["Vpcs"]
    assert len(vpcs) == 1 and vpcs[0]["VpcId"] != vpc["VpcId"]
    refused("InvalidVpcID.NotFound", there.describe_vpcs, VpcIds=[vpc["VpcId"]])
    options = there.describe_dhcp_options(DhcpOptionsIds=[vpcs[0]["DhcpOptionsId"]])["DhcpOptions"][0]
    names = [c["Values"][0]["Value"] for c in options["DhcpConfigurations"] if c["Key"] == "domain-name"]
    assert names == [elsewhere(cloud) + ".compute.internal"]


# ---- groups ----


def test_a_new_group_may_speak(ec2, vpc, group):
    made = ec2.describe_security_groups(GroupIds=[group])["SecurityGroups"][0]
    assert made["VpcId"] == vpc["VpcId"] and made["IpPermissions"] == []
    assert made["IpPermissionsEgress"][0]["IpRanges"] == [{"CidrIp": "0.0.0.0/0"}]
    refused("InvalidGroup.Duplicate", ec2.create_security_group, GroupName=made["GroupName"], Description="again")


def test_rules_live_by_their_ids(ec2, group):
    answer = ec2.authorize_security_group_ingress(
        GroupId=group,
        IpPermissions=[
            {
                "IpProtocol": "tcp",
                "FromPort": 22,
                "ToPort": 22,
                "IpRanges": [{"CidrIp": "10.0.0.9/24", "Description": "office"}, {"CidrIp": "192.0.2.0/24"}],
            }
        ],
        TagSpecifications=[{"ResourceType": "security-group-rule", "Tags": [{"Key": "team", "Value": "a"}]}],
    )
    rules = answer["SecurityGroupRules"]
    assert answer["Return"] and [r["CidrIpv4"] for r in rules] == ["10.0.0.0/24", "192.0.2.0/24"]
    assert rules[0]["Tags"] == [{"Key": "team", "Value": "a"}]
    ids = [r["SecurityGroupRuleId"] for r in rules]
    refused(
        "InvalidPermission.Duplicate",
        ec2.authorize_security_group_ingress,
        GroupId=group,
        IpProtocol="tcp",
        FromPort=22,
        ToPort=22,
        CidrIp="192.0.2.0/24",
    )
    ec2.modify_security_group_rules(
        GroupId=group,
        SecurityGroupRules=[
            {
                "SecurityGroupRuleId": ids[0],
                "SecurityGroupRule": {"IpProtocol": "tcp", "FromPort": 2222, "ToPort": 2222, "CidrIpv4": "10.0.0.0/8"},
            }
        ],
    )
    ec2.update_security_group_rule_descriptions_ingress(
        GroupId=group, SecurityGroupRuleDescriptions=[{"SecurityGroupRuleId": ids[1], "Description": "docs"}]
    )
    shown = {r["SecurityGroupRuleId"]: r for r in ec2.describe_security_group_rules(SecurityGroupRuleIds=ids)["SecurityGroupRules"]}
    assert (shown[ids[0]]["FromPort"], shown[ids[0]]["CidrIpv4"]) == (2222, "10.0.0.0/8")
    assert shown[ids[0]]["Tags"] == [{"Key": "team", "Value": "a"}] and shown[ids[1]]["Description"] == "docs"
    found = ec2.describe_security_groups(Filters=by("ip-permission.from-port", "2222") + by("ip-permission.cidr", "10.0.0.0/8"))
    assert [g["GroupId"] for g in found["SecurityGroups"]] == [group]
    ec2.revoke_security_group_ingress(GroupId=group, SecurityGroupRuleIds=ids)
    refused("InvalidSecurityGroupRuleId.NotFound", ec2.describe_security_group_rules, SecurityGroupRuleIds=ids[:1])
    assert ec2.describe_security_groups(GroupIds=[group])["SecurityGroups"][0]["IpPermissions"] == []


def test_a_wrong_rule_changes_nothing(ec2, group):
    before = ec2.describe_security_groups(GroupIds=[group])["SecurityGroups"][0]
    good = {"IpProtocol": "tcp", "FromPort": 1, "ToPort": 1, "IpRanges": [{"CidrIp": "192.0.2.0/24"}]}
    for code, wrong in [
        ("InvalidParameterValue", {"IpProtocol": "tcp", "FromPort": 9, "ToPort": 8, "IpRanges": [{"CidrIp": "192.0.2.0/24"}]}),
        ("InvalidParameterValue", {"IpProtocol": "tcp", "FromPort": 9, "ToPort": 9, "IpRanges": [{"CidrIp": "192.0.2.0"}]}),
        ("InvalidParameterValue", {"IpProtocol": "nope", "FromPort": 9, "ToPort": 9, "IpRanges": [{"CidrIp": "192.0.2.0/24"}]}),
        ("InvalidParameterValue", {"IpProtocol": "tcp", "IpRanges": [{"CidrIp": "192.0.2.0/24"}]}),
        ("InvalidGroup.NotFound", {"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": "sg-0123456789abcdef0"}]}),
        ("InvalidPrefixListID.NotFound", {"IpProtocol": "-1", "PrefixListIds": [{"PrefixListId": "pl-01234567"}]}),
    ]:
        refused(code, ec2.authorize_security_group_ingress, GroupId=group, IpPermissions=[good, wrong])
    assert ec2.describe_security_groups(GroupIds=[group])["SecurityGroups"][0] == before


def test_sixty_rules_each_way_and_no_more(ec2, group):
    def permission(first, n):
        return [
            {
                "IpProtocol": "tcp",
                "FromPort": 80,
                "ToPort": 80,
                "IpRanges": [{"CidrIp": f"10.0.{i}.0/24"} for i in range(first, first + n)],
            }
        ]

    refused("RulesPerSecurityGroupLimitExceeded", ec2.authorize_security_group_ingress, GroupId=group, IpPermissions=permission(0, 61))
    ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=permission(0, 60))
    refused("RulesPerSecurityGroupLimitExceeded", ec2.authorize_security_group_ingress, GroupId=group, IpPermissions=permission(60, 1))
    ec2.authorize_security_group_egress(GroupId=group, IpPermissions=permission(0, 1))
    pages = ec2.get_paginator("describe_security_group_rules").paginate(
        Filters=by("group-id", group), PaginationConfig={"PageSize": 25}
    )
    assert [len(p["SecurityGroupRules"]) for p in pages] == [25, 25, 12]


def test_a_group_that_is_needed_stays(ec2, subnet, group):
    user = ec2.create_network_interface(SubnetId=subnet["SubnetId"], Groups=[group])["NetworkInterface"]["NetworkInterfaceId"]
    refused("DependencyViolation", ec2.delete_security_group, GroupId=group)
    ec2.delete_network_interface(NetworkInterfaceId=user)
    other = ec2.create_security_group(GroupName=name(), Description="refers")["GroupId"]
    pair = [{"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": group}]}]
    ec2.authorize_security_group_ingress(GroupId=other, IpPermissions=pair)
    refused("DependencyViolation", ec2.delete_security_group, GroupId=group)
    ec2.revoke_security_group_ingress(GroupId=other, IpPermissions=pair)
    ec2.delete_security_group(GroupId=group)
    ec2.delete_security_group(GroupId=other)
    refused("InvalidGroup.NotFound", ec2.describe_security_groups, GroupIds=[group])


# ---- interfaces ----


def test_an_interface_takes_an_address_of_its_subnet(ec2, subnet, interface):
    assert ipaddress.ip_address(interface["PrivateIpAddress"]) in ipaddress.ip_network(subnet["CidrBlock"])
    assert interface["Status"] == "available" and interface["SourceDestCheck"] and "Attachment" not in interface
    assert interface["PrivateDnsName"] == "ip-%s.ec2.internal" % interface["PrivateIpAddress"].replace(".", "-")
    after = ec2.describe_subnets(SubnetIds=[subnet["SubnetId"]])["Subnets"][0]["AvailableIpAddressCount"]
    assert after < ipaddress.ip_network(subnet["CidrBlock"]).num_addresses - 5
    refused(
        "InvalidIPAddress.InUse",
        ec2.create_network_interface,
        SubnetId=subnet["SubnetId"],
        PrivateIpAddress=interface["PrivateIpAddress"],
    )


def test_reserved_addresses_are_nobodys(ec2, subnet):
    block = ipaddress.ip_network(subnet["CidrBlock"])
    for address in [block[0], block[1], block[2], block[3], block[-1], block[-1] + 1]:
        refused(
            "InvalidParameterValue",
            ec2.create_network_interface,
            SubnetId=subnet["SubnetId"],
            PrivateIpAddress=str(address),
        )


def test_a_full_subnet_says_so(ec2, vpc):
    made = ec2.create_subnet(VpcId=vpc["VpcId"], CidrBlock="172.31.255.240/28")["Subnet"]
    assert made["AvailableIpAddressCount"] == 11
    with concurrent.futures.ThreadPoolExecutor(11) as pool:
        jobs = [pool.submit(ec2.create_network_interface, SubnetId=made["SubnetId"]) for _ in range(11)]
        interfaces = [j.result()["NetworkInterface"] for j in jobs]
    assert len({i["PrivateIpAddress"] for i in interfaces}) == 11 and len({i["MacAddress"] for i in interfaces}) == 11
    refused("InsufficientFreeAddressesInSubnet", ec2.create_network_interface, SubnetId=made["SubnetId"])
    refused("DependencyViolation", ec2.delete_subnet, SubnetId=made["SubnetId"])
    for i in interfaces:
        ec2.delete_network_interface(NetworkInterfaceId=i["NetworkInterfaceId"])
    ec2.delete_subnet(SubnetId=made["SubnetId"])


def test_attributes_change_one_at_a_time(ec2, interface, group):
    eni = interface["NetworkInterfaceId"]
    ec2.modify_network_interface_attribute(NetworkInterfaceId=eni, Groups=[group])
    ec2.modify_network_interface_attribute(NetworkInterfaceId=eni, SourceDestCheck={"Value": False})
    ec2.modify_network_interface_attribute(NetworkInterfaceId=eni, Description={"Value": "a router"})
    refused(
        "InvalidParameterCombination",
        ec2.modify_network_interface_attribute,
        NetworkInterfaceId=eni,
        Description={"Value": "x"},
        SourceDestCheck={"Value": True},
    )
    now = ec2.describe_network_interfaces(NetworkInterfaceIds=[eni])["NetworkInterfaces"][0]
    assert [g["GroupId"] for g in now["Groups"]] == [group]
    assert (now["SourceDestCheck"], now["Description"]) == (False, "a router")
    answer = ec2.describe_network_interface_attribute(NetworkInterfaceId=eni, Attribute="description")
    assert answer["Description"]["Value"] == "a router"
    default = ec2.describe_security_groups(Filters=by("vpc-id", now["VpcId"]) + by("group-name", "default"))
    ec2.modify_network_interface_attribute(NetworkInterfaceId=eni, Groups=[default["SecurityGroups"][0]["GroupId"]])


def test_the_same_token_makes_one_interface(ec2, subnet):
    token = name()
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(ec2.create_network_interface, SubnetId=subnet["SubnetId"], ClientToken=token) for _ in range(4)]
        made = {j.result()["NetworkInterface"]["NetworkInterfaceId"] for j in jobs}
    assert len(made) == 1
    refused(
        "IdempotentParameterMismatch",
        ec2.create_network_interface,
        SubnetId=subnet["SubnetId"],
        ClientToken=token,
        Description="other",
    )
    ec2.delete_network_interface(NetworkInterfaceId=made.pop())


def test_tags_find_what_they_are_on(ec2, subnet):
    value = name()
    tags = [{"Key": "test", "Value": value}]
    made = ec2.create_network_interface(
        SubnetId=subnet["SubnetId"], TagSpecifications=[{"ResourceType": "network-interface", "Tags": tags}]
    )["NetworkInterface"]
    eni = made["NetworkInterfaceId"]
    assert made["TagSet"] == tags
    found = ec2.describe_network_interfaces(Filters=by("tag:test", value))["NetworkInterfaces"]
    assert [i["NetworkInterfaceId"] for i in found] == [eni]
    ec2.create_tags(Resources=[eni, subnet["SubnetId"]], Tags=[{"Key": "also", "Value": value}])
    described = ec2.describe_tags(Filters=by("key", "also") + by("value", value))["Tags"]
    assert {(t["ResourceType"], t["ResourceId"]) for t in described} == {
        ("network-interface", eni),
        ("subnet", subnet["SubnetId"]),
    }
    ec2.delete_tags(Resources=[eni, subnet["SubnetId"]], Tags=[{"Key": "also"}])
    assert ec2.describe_tags(Filters=by("key", "also") + by("value", value))["Tags"] == []
    ec2.delete_network_interface(NetworkInterfaceId=eni)


# ---- a VPC of one's own ----


def test_a_vpc_is_born_with_its_defaults_and_leaves_nothing(ec2):
    made = ec2.create_vpc(CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"]
    mine = by("vpc-id", made)
    main = ec2.describe_route_tables(Filters=mine)["RouteTables"][0]["RouteTableId"]
    assert [g["GroupName"] for g in ec2.describe_security_groups(Filters=mine)["SecurityGroups"]] == ["default"]
    assert [a["IsDefault"] for a in ec2.describe_network_acls(Filters=mine)["NetworkAcls"]] == [True]
    subnet_id = ec2.create_subnet(VpcId=made, CidrBlock="10.9.1.0/24")["Subnet"]["SubnetId"]
    refused("InvalidSubnet.Conflict", ec2.create_subnet, VpcId=made, CidrBlock="10.9.0.0/20")
    refused("InvalidSubnet.Range", ec2.create_subnet, VpcId=made, CidrBlock="10.10.0.0/24")
    gateway = ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
    ec2.attach_internet_gateway(InternetGatewayId=gateway, VpcId=made)
    ec2.create_route(RouteTableId=main, DestinationCidrBlock="0.0.0.0/0", GatewayId=gateway)
    refused("DependencyViolation", ec2.delete_vpc, VpcId=made)
    ec2.delete_subnet(SubnetId=subnet_id)
    ec2.detach_internet_gateway(InternetGatewayId=gateway, VpcId=made)
    routes = ec2.describe_route_tables(RouteTableIds=[main])["RouteTables"][0]["Routes"]
    assert [r["State"] for r in routes] == ["active", "blackhole"]
    ec2.delete_internet_gateway(InternetGatewayId=gateway)
    ec2.delete_vpc(VpcId=made)
    for call, key in [
        (ec2.describe_route_tables, "RouteTables"),
        (ec2.describe_security_groups, "SecurityGroups"),
        (ec2.describe_network_acls, "NetworkAcls"),
        (ec2.describe_subnets, "Subnets"),
    ]:
        assert call(Filters=mine)[key] == []


def test_vpcs_grow_are_peered_and_told_of_options(cloud):
    ec2, far = cloud.ec2, cloud.client("ec2", region_name=elsewhere(cloud))
    tags = lambda kind: [{"ResourceType": kind, "Tags": [{"Key": "Name", "Value": "구름"}]}]
    vpc = ec2.create_vpc(CidrBlock="10.81.0.0/16")["Vpc"]["VpcId"]
    other = far.create_vpc(CidrBlock="10.82.0.0/16")["Vpc"]["VpcId"]

    added = ec2.associate_vpc_cidr_block(VpcId=vpc, CidrBlock="10.83.0.0/16")["CidrBlockAssociation"]
    refused("InvalidVpc.Range", ec2.associate_vpc_cidr_block, VpcId=vpc, CidrBlock="192.168.0.0/24")
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.83.1.0/24")["Subnet"]
    assert subnet["AvailableIpAddressCount"] == 251
    ec2.modify_subnet_attribute(SubnetId=subnet["SubnetId"], PrivateDnsHostnameTypeOnLaunch="resource-name")
    ec2.delete_subnet(SubnetId=subnet["SubnetId"])
    ec2.disassociate_vpc_cidr_block(AssociationId=added["AssociationId"])

    configurations = [{"Key": "domain-name", "Values": ["corp.example"]}, {"Key": "domain-name-servers", "Values": ["192.0.2.1", "192.0.2.2"]}]
    options = ec2.create_dhcp_options(DhcpConfigurations=configurations, TagSpecifications=tags("dhcp-options"))["DhcpOptions"]
    assert options["DhcpConfigurations"][1]["Values"] == [{"Value": "192.0.2.1"}, {"Value": "192.0.2.2"}]
    ec2.associate_dhcp_options(DhcpOptionsId=options["DhcpOptionsId"], VpcId=vpc)
    ec2.associate_dhcp_options(DhcpOptionsId="default", VpcId=vpc)
    ec2.delete_dhcp_options(DhcpOptionsId=options["DhcpOptionsId"])

    peering = ec2.create_vpc_peering_connection(
        VpcId=vpc, PeerVpcId=other, PeerRegion=far.meta.region_name, TagSpecifications=tags("vpc-peering-connection")
    )["VpcPeeringConnection"]
    pcx = peering["VpcPeeringConnectionId"]
    assert peering["ExpirationTime"].year > 2000
    far.get_waiter("vpc_peering_connection_exists").wait(VpcPeeringConnectionIds=[pcx])
    active = far.accept_vpc_peering_connection(VpcPeeringConnectionId=pcx)["VpcPeeringConnection"]
    assert active["Status"]["Code"] == "active" and active["AccepterVpcInfo"]["PeeringOptions"]["AllowDnsResolutionFromRemoteVpc"] is False
    table = ec2.describe_route_tables(Filters=by("vpc-id", vpc))["RouteTables"][0]["RouteTableId"]
    ec2.create_route(RouteTableId=table, DestinationCidrBlock="10.82.0.0/16", VpcPeeringConnectionId=pcx)
    assert ec2.describe_route_tables(Filters=by("route.vpc-peering-connection-id", pcx))["RouteTables"][0]["RouteTableId"] == table
    ec2.delete_vpc_peering_connection(VpcPeeringConnectionId=pcx)
    far.get_waiter("vpc_peering_connection_deleted").wait(VpcPeeringConnectionIds=[pcx])

    (service,) = ec2.describe_vpc_endpoint_services()["ServiceDetails"]
    endpoint = ec2.create_vpc_endpoint(
        VpcId=vpc, ServiceName=service["ServiceName"], RouteTableIds=[table], TagSpecifications=tags("vpc-endpoint"), ClientToken=name()
    )["VpcEndpoint"]
    assert endpoint["CreationTimestamp"].year > 2000 and endpoint["RouteTableIds"] == [table]
    refused("DependencyViolation", ec2.delete_vpc, VpcId=vpc)
    assert ec2.delete_vpc_endpoints(VpcEndpointIds=[endpoint["VpcEndpointId"]])["Unsuccessful"] == []
    assert ec2.describe_vpc_endpoint_connections()["VpcEndpointConnections"] == []
    ec2.delete_vpc(VpcId=vpc)
    far.delete_vpc(VpcId=other)


def test_acls_and_prefix_lists_are_made_and_changed(ec2):
    """Their rules and packets are tests/net's; here they pass the front door both ways."""
    vpc_id = ec2.create_vpc(CidrBlock="10.44.0.0/16")["Vpc"]["VpcId"]
    tags = [{"ResourceType": "network-acl", "Tags": [{"Key": "Name", "Value": "a"}]}]
    acl = ec2.create_network_acl(VpcId=vpc_id, TagSpecifications=tags)["NetworkAcl"]
    assert acl["Tags"] == [{"Key": "Name", "Value": "a"}] and not acl["IsDefault"] and acl["VpcId"] == vpc_id
    which = dict(NetworkAclId=acl["NetworkAclId"], RuleNumber=100, Egress=False)
    entry = dict(Protocol="1", RuleAction="deny", CidrBlock="10.0.0.0/8", IcmpTypeCode={"Type": 8, "Code": -1})
    ec2.create_network_acl_entry(**which, **entry)
    refused("NetworkAclEntryAlreadyExists", ec2.create_network_acl_entry, **which, **entry)
    ports = dict(Protocol="6", RuleAction="allow", CidrBlock="0.0.0.0/0", PortRange={"From": 22, "To": 23})
    ec2.replace_network_acl_entry(**which, **ports)
    shown = ec2.describe_network_acls(Filters=by("entry.port-range.to", "23"))["NetworkAcls"]
    assert [{**e, **which} for e in shown[0]["Entries"] if e["RuleNumber"] == 100] == [{**ports, **which}]
    ec2.delete_network_acl_entry(**which)

    made = ec2.create_managed_prefix_list(
        PrefixListName="friends", MaxEntries=3, AddressFamily="IPv4", Entries=[{"Cidr": "192.0.2.0/24", "Description": "one"}]
    )["PrefixList"]
    list_id = made["PrefixListId"]
    changed = ec2.modify_managed_prefix_list(PrefixListId=list_id, CurrentVersion=made["Version"], AddEntries=[{"Cidr": "198.51.100.0/24"}])
    assert changed["PrefixList"]["Version"] == 2
    pages = ec2.get_paginator("get_managed_prefix_list_entries").paginate(PrefixListId=list_id, PaginationConfig={"PageSize": 1})
    assert [e["Cidr"] for page in pages for e in page["Entries"]] == ["192.0.2.0/24", "198.51.100.0/24"]
    group_id = ec2.create_security_group(GroupName=name(), Description="of a test", VpcId=vpc_id)["GroupId"]
    from_list = [{"IpProtocol": "tcp", "FromPort": 443, "ToPort": 443, "PrefixListIds": [{"PrefixListId": list_id}]}]
    rule = ec2.authorize_security_group_ingress(GroupId=group_id, IpPermissions=from_list)["SecurityGroupRules"][0]
    assert rule["PrefixListId"] == list_id
    users = ec2.get_managed_prefix_list_associations(PrefixListId=list_id)["PrefixListAssociations"]
    assert [u["ResourceId"] for u in users] == [group_id]
    refused("DependencyViolation", ec2.delete_managed_prefix_list, PrefixListId=list_id)
    assert ec2.describe_security_group_references(GroupId=[group_id])["SecurityGroupReferenceSet"] == []
    assert ec2.describe_stale_security_groups(VpcId=vpc_id)["StaleSecurityGroupSet"] == []
    owners = {p["OwnerId"] for p in ec2.describe_managed_prefix_lists(Filters=by("prefix-list-name", "com.amazonaws.*"))["PrefixLists"]}
    assert owners == {"AWS"}

    ec2.delete_security_group(GroupId=group_id)
    ec2.delete_managed_prefix_list(PrefixListId=list_id)
    ec2.delete_network_acl(NetworkAclId=acl["NetworkAclId"])
    ec2.delete_vpc(VpcId=vpc_id)
