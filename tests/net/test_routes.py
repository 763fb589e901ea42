"""Route tables: AWS's rules for what may stand in them, and packets that follow."""

import pytest
from lab import ALL, refused, router, sh


@pytest.fixture
def table(netd, vpc):
    vpc_id = vpc("10.41.0.0/16")
    made = netd.ec2("CreateRouteTable", VpcId=vpc_id)["RouteTable"]["RouteTableId"]
    yield made
    shown = netd.ec2("DescribeRouteTables", RouteTableIds=[made])["RouteTables"][0]
    for association in shown["Associations"]:
        netd.ec2("DisassociateRouteTable", AssociationId=association["RouteTableAssociationId"])
    netd.ec2("DeleteRouteTable", RouteTableId=made)


def vpc_of(netd, table):
    return netd.ec2("DescribeRouteTables", RouteTableIds=[table])["RouteTables"][0]["VpcId"]


def routes(netd, table):
    shown = netd.ec2("DescribeRouteTables", RouteTableIds=[table])["RouteTables"][0]["Routes"]
    return {r["DestinationCidrBlock"]: r for r in shown}


def test_what_leads_nowhere_is_refused(netd, table):
    def create(code, **parameters):
        refused(code, netd.ec2, "CreateRoute", RouteTableId=table, **{"DestinationCidrBlock": "0.0.0.0/0", **parameters})

    create("InvalidGatewayID.NotFound", GatewayId="igw-00000000000000000")
    create("InvalidGatewayID.NotFound", GatewayId="vgw-00000000000000000")
    create("InvalidNetworkInterfaceID.NotFound", NetworkInterfaceId="eni-00000000000000000")
    create("InvalidVpcPeeringConnectionID.NotFound", VpcPeeringConnectionId="pcx-00000000000000000")
    create("UnsupportedOperation", TransitGatewayId="tgw-00000000000000000")
    create("MissingParameter")
    create("InvalidParameterValue", GatewayId="igw-00000000000000000", DestinationCidrBlock="10.0.0.0/33")
    gateway = netd.ec2("CreateInternetGateway")["InternetGateway"]["InternetGatewayId"]
    create("InvalidParameterValue", GatewayId=gateway)  # attached nowhere
    netd.ec2("DeleteInternetGateway", InternetGatewayId=gateway)
    refused("InvalidRoute.NotFound", netd.ec2, "DeleteRoute", RouteTableId=table, DestinationCidrBlock="0.0.0.0/0")
    refused("InvalidRouteTableID.NotFound", netd.ec2, "DeleteRoute", RouteTableId="rtb-00000000000000000",
            DestinationCidrBlock="0.0.0.0/0")
    assert len(routes(netd, table)) == 1


def test_a_gateway_that_goes_leaves_a_blackhole_that_can_be_replaced(netd, table):
    vpc_id = vpc_of(netd, table)
    gateway = netd.ec2("CreateInternetGateway")["InternetGateway"]["InternetGatewayId"]
    netd.ec2("AttachInternetGateway", InternetGatewayId=gateway, VpcId=vpc_id)
    there = {"RouteTableId": table, "DestinationCidrBlock": "0.0.0.0/0", "GatewayId": gateway}
    netd.ec2("CreateRoute", **there)
    refused("RouteAlreadyExists", netd.ec2, "CreateRoute", **there)
    assert routes(netd, table)["0.0.0.0/0"]["State"] == "active"
    netd.ec2("DetachInternetGateway", InternetGatewayId=gateway, VpcId=vpc_id)
    assert routes(netd, table)["0.0.0.0/0"]["State"] == "blackhole"
    filters = [{"Name": "route.state", "Values": ["blackhole"]}]
    assert [t["RouteTableId"] for t in netd.ec2("DescribeRouteTables", Filters=filters)["RouteTables"]] == [table]
    netd.ec2("DeleteRoute", RouteTableId=table, DestinationCidrBlock="0.0.0.0/0")
    netd.ec2("DeleteInternetGateway", InternetGatewayId=gateway)


def test_a_local_route_can_be_led_through_a_middlebox_and_back(netd, table, guests):
    vpc_id = vpc_of(netd, table)
    inner, outer = (netd.ec2("CreateSubnet", VpcId=vpc_id, CidrBlock=f"10.41.{n}.0/24")["Subnet"]["SubnetId"] for n in (1, 2))
    netd.ec2("AssociateRouteTable", RouteTableId=table, SubnetId=inner)
    group = netd.ec2("DescribeSecurityGroups", Filters=[{"Name": "vpc-id", "Values": [vpc_id]}])["SecurityGroups"][0]["GroupId"]
    netd.ec2("AuthorizeSecurityGroupIngress", GroupId=group, IpPermissions=[ALL])
    one, twin = guests(public=False, SubnetId=inner), guests(public=False, SubnetId=inner)
    box, two = guests(public=False, SubnetId=outer), guests(public=False, SubnetId=outer)
    for guest in (one, twin, box, two):
        guest.dhcp()
    local = {"RouteTableId": table, "DestinationCidrBlock": "10.41.0.0/16"}
    assert one.reaches(two.address)
    refused("InvalidParameterValue", netd.ec2, "DeleteRoute", **local)
    netd.ec2("ReplaceRoute", NetworkInterfaceId=box.eni, **local)
    assert routes(netd, table)["10.41.0.0/16"]["NetworkInterfaceId"] == box.eni
    assert one.ping(two.address) == 0  # the box does not forward yet
    assert one.reaches(twin.address)  # what stays in the subnet is not routed
    refused("InvalidParameterValue", netd.ec2, "DeleteRoute", **local)
    netd.ec2("ModifyNetworkInterfaceAttribute", NetworkInterfaceId=box.eni, SourceDestCheck={"Value": False})
    box.sh("sysctl -qw net.ipv4.ip_forward=1")
    assert one.reaches(two.address)
    assert "10.41.0.0/16" in routes(netd, table)
    netd.ec2("ReplaceRoute", LocalTarget=True, **local)
    assert routes(netd, table)["10.41.0.0/16"]["GatewayId"] == "local"
    box.sh("sysctl -qw net.ipv4.ip_forward=0")
    assert one.reaches(two.address)
    refused("InvalidParameterCombination", netd.ec2, "ReplaceRoute", LocalTarget=True, NetworkInterfaceId=box.eni, **local)
    netd.ec2("CreateRoute", RouteTableId=table, DestinationCidrBlock="192.0.2.0/24", NetworkInterfaceId=box.eni)
    refused("InvalidParameterValue", netd.ec2, "ReplaceRoute", RouteTableId=table, DestinationCidrBlock="192.0.2.0/24",
            LocalTarget=True)

    def is_led():
        return "192.0.2.0/24 via" in sh(f"ip -n {router(vpc_id)} route show table all")

    # Packets feel an association when the answer comes.
    assert is_led()
    (association,) = netd.ec2("DescribeRouteTables", RouteTableIds=[table])["RouteTables"][0]["Associations"]
    netd.ec2("DisassociateRouteTable", AssociationId=association["RouteTableAssociationId"])
    assert not is_led()
    back = netd.ec2("AssociateRouteTable", SubnetId=inner, RouteTableId=table)["AssociationId"]
    assert is_led()
    filters = [{"Name": "vpc-id", "Values": [vpc_id]}, {"Name": "association.main", "Values": ["true"]}]
    main = netd.ec2("DescribeRouteTables", Filters=filters)["RouteTables"][0]["RouteTableId"]
    moved = netd.ec2("ReplaceRouteTableAssociation", AssociationId=back, RouteTableId=main)["NewAssociationId"]
    assert not is_led()
    netd.ec2("DisassociateRouteTable", AssociationId=moved)


def test_a_table_belongs_to_its_vpc_and_is_kept_by_its_users(netd, table, vpc):
    vpc_id = vpc_of(netd, table)
    subnet = netd.ec2("CreateSubnet", VpcId=vpc_id, CidrBlock="10.41.1.0/24")["Subnet"]["SubnetId"]
    elsewhere = netd.ec2("CreateSubnet", VpcId=vpc("10.42.0.0/16"), CidrBlock="10.42.1.0/24")["Subnet"]["SubnetId"]
    refused("InvalidParameterValue", netd.ec2, "AssociateRouteTable", RouteTableId=table, SubnetId=elsewhere)
    refused("UnsupportedOperation", netd.ec2, "AssociateRouteTable", RouteTableId=table, GatewayId="igw-00000000000000000")
    first = netd.ec2("AssociateRouteTable", RouteTableId=table, SubnetId=subnet)["AssociationId"]
    refused("Resource.AlreadyAssociated", netd.ec2, "AssociateRouteTable", RouteTableId=table, SubnetId=subnet)
    refused("DependencyViolation", netd.ec2, "DeleteRouteTable", RouteTableId=table)
    filters = [{"Name": "vpc-id", "Values": [vpc_id]}, {"Name": "association.main", "Values": ["true"]}]
    main = netd.ec2("DescribeRouteTables", Filters=filters)["RouteTables"][0]
    refused("DependencyViolation", netd.ec2, "DeleteRouteTable", RouteTableId=main["RouteTableId"])
    refused("InvalidParameterValue", netd.ec2, "DisassociateRouteTable",
            AssociationId=main["Associations"][0]["RouteTableAssociationId"])

    moved = netd.ec2("ReplaceRouteTableAssociation", AssociationId=first, RouteTableId=main["RouteTableId"])
    assert moved["NewAssociationId"] != first
    refused("InvalidAssociationID.NotFound", netd.ec2, "DisassociateRouteTable", AssociationId=first)
    netd.ec2("DisassociateRouteTable", AssociationId=moved["NewAssociationId"])

    # The main table can be another one, and comes back.
    old = main["Associations"][0]["RouteTableAssociationId"]
    new = netd.ec2("ReplaceRouteTableAssociation", AssociationId=old, RouteTableId=table)["NewAssociationId"]
    assert [t["RouteTableId"] for t in netd.ec2("DescribeRouteTables", Filters=filters)["RouteTables"]] == [table]
    netd.ec2("ReplaceRouteTableAssociation", AssociationId=new, RouteTableId=main["RouteTableId"])


def test_a_table_has_fifty_routes(netd, table, guests):
    subnet = netd.ec2("CreateSubnet", VpcId=vpc_of(netd, table), CidrBlock="10.41.1.0/24")["Subnet"]["SubnetId"]
    eni = guests(public=False, SubnetId=subnet).eni
    for n in range(50):
        netd.ec2("CreateRoute", RouteTableId=table, DestinationCidrBlock=f"192.0.2.{n}/32", NetworkInterfaceId=eni)
    refused("RouteLimitExceeded", netd.ec2, "CreateRoute", RouteTableId=table, DestinationCidrBlock="192.0.2.77/32",
            NetworkInterfaceId=eni)
