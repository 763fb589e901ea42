"""Routes that lead to interfaces and instances: a guest as router, firewall or NAT instance."""

import socket

import pytest
from lab import PATIENCE, Refused, eventually, router, sh

ALL = {"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}


@pytest.fixture
def private_subnet(netd):
    """A subnet of the default VPC with a route table of its own: (subnet, table)."""
    vpc = netd.ec2("DescribeVpcs", Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"][0]["VpcId"]
    subnet = netd.ec2("CreateSubnet", VpcId=vpc, CidrBlock="172.31.200.0/24")["Subnet"]["SubnetId"]
    table = netd.ec2("CreateRouteTable", VpcId=vpc)["RouteTable"]["RouteTableId"]
    association = netd.ec2("AssociateRouteTable", SubnetId=subnet, RouteTableId=table)["AssociationId"]
    yield subnet, table
    netd.ec2("DisassociateRouteTable", AssociationId=association)
    netd.ec2("DeleteRouteTable", RouteTableId=table)
    for eni in netd.ec2("DescribeNetworkInterfaces", Filters=[{"Name": "subnet-id", "Values": [subnet]}])["NetworkInterfaces"]:
        netd.ec2("DeleteNetworkInterface", NetworkInterfaceId=eni["NetworkInterfaceId"], _Force=True)
    netd.ec2("DeleteSubnet", SubnetId=subnet)


def route_of(netd, table, destination="0.0.0.0/0"):
    (shown,) = netd.ec2("DescribeRouteTables", RouteTableIds=[table])["RouteTables"]
    return next((r for r in shown["Routes"] if r["DestinationCidrBlock"] == destination), None)


def forwards(guest):
    """The guest is a NAT instance."""
    guest.sh("sysctl -qw net.ipv4.ip_forward=1")
    guest.sh("iptables-nft -t nat -A POSTROUTING -o eth0 -j MASQUERADE")


def goes_out_as(guest, port=8083):
    with socket.create_server(("203.0.113.1", port)) as outside:
        outside.settimeout(PATIENCE)
        return outside.accept()[1][0] if guest.can_connect("203.0.113.1", port) else None


def n_blackholes(guest):
    """Default routes into nothing, in all tables of the guest's router: one is there for who has no route at all."""
    return sh(f"ip -n {router(guest.vpc)} route show table all").count("blackhole default")


def test_a_nat_instance_by_instance_id(netd, guests, group, private_subnet):
    subnet, table = private_subnet
    open_group = group(ALL)
    box, inner = guests(groups=[open_group]), guests(groups=[open_group], SubnetId=subnet, public=False)
    box.dhcp(), inner.dhcp()
    forwards(box)
    assert goes_out_as(inner) is None
    netd.ec2("CreateRoute", RouteTableId=table, DestinationCidrBlock="0.0.0.0/0", InstanceId=box.instance)
    route = route_of(netd, table)
    assert (route["NetworkInterfaceId"], route["InstanceId"], route["State"]) == (box.eni, box.instance, "active")
    assert goes_out_as(inner) is None  # the source/destination check is on
    netd.ec2("ModifyNetworkInterfaceAttribute", NetworkInterfaceId=box.eni, SourceDestCheck={"Value": False})
    eventually(lambda: goes_out_as(inner) == box.public)
    netd.ec2("ModifyNetworkInterfaceAttribute", NetworkInterfaceId=box.eni, SourceDestCheck={"Value": True})
    assert goes_out_as(inner) is None


def test_a_target_that_goes_leaves_a_blackhole(netd, guests, group, private_subnet):
    subnet, table = private_subnet
    open_group = group(ALL)
    boxes = [guests(groups=[open_group]) for _ in range(2)]
    inner = guests(groups=[open_group], SubnetId=subnet, public=False)
    for guest in (*boxes, inner):
        guest.dhcp()
    for box in boxes:
        forwards(box)
        netd.ec2("ModifyNetworkInterfaceAttribute", NetworkInterfaceId=box.eni, SourceDestCheck={"Value": False})
    default = {"RouteTableId": table, "DestinationCidrBlock": "0.0.0.0/0"}
    netd.ec2("CreateRoute", NetworkInterfaceId=boxes[0].eni, **default)
    eventually(lambda: goes_out_as(inner) == boxes[0].public)
    netd.ec2("ReplaceRoute", NetworkInterfaceId=boxes[1].eni, **default)
    eventually(lambda: goes_out_as(inner) == boxes[1].public)
    boxes[1].delete()
    route = route_of(netd, table)
    assert route["State"] == "blackhole" and route["NetworkInterfaceId"] == boxes[1].eni and "InstanceId" not in route
    assert goes_out_as(inner) is None
    eventually(lambda: n_blackholes(inner) == 2)
    netd.ec2("DeleteRoute", **default)
    assert route_of(netd, table) is None


def test_a_stopped_instance_is_a_blackhole_until_it_runs_again(netd, guests, group, private_subnet):
    """What hvd says when an instance has stopped, and before it starts again."""
    subnet, table = private_subnet
    open_group = group(ALL)
    box, inner = guests(groups=[open_group]), guests(groups=[open_group], SubnetId=subnet, public=False)
    box.dhcp(), inner.dhcp()
    forwards(box)
    netd.ec2("ModifyNetworkInterfaceAttribute", NetworkInterfaceId=box.eni, SourceDestCheck={"Value": False})
    default = {"RouteTableId": table, "DestinationCidrBlock": "0.0.0.0/0"}
    netd.ec2("CreateRoute", NetworkInterfaceId=box.eni, **default)
    eventually(lambda: goes_out_as(inner))
    netd.call("gureum.Release", NetworkInterfaceId=box.eni)
    route = route_of(netd, table)
    assert (route["State"], route["NetworkInterfaceId"], route["InstanceId"]) == ("blackhole", box.eni, box.instance)
    eventually(lambda: n_blackholes(inner) == 2)
    assert goes_out_as(inner) is None
    netd.ec2("ReplaceRoute", InstanceId=box.instance, **default)
    assert route_of(netd, table)["State"] == "blackhole"
    again = netd.call("gureum.Assign", NetworkInterfaceId=box.eni)["NetworkInterfaces"][0]
    assert route_of(netd, table)["State"] == "active"
    eventually(lambda: goes_out_as(inner) == again["Association"]["PublicIp"])


def test_an_interface_that_is_attached_later_brings_its_route_to_life(netd, guests, private_subnet):
    subnet, table = private_subnet
    eni = netd.ec2("CreateNetworkInterface", SubnetId=subnet)["NetworkInterface"]["NetworkInterfaceId"]
    netd.ec2("CreateRoute", RouteTableId=table, DestinationCidrBlock="198.51.100.0/24", NetworkInterfaceId=eni)
    assert route_of(netd, table, "198.51.100.0/24")["State"] == "blackhole"
    instance = "i-0aaaaaaaaaaaaaaa1"
    netd.ec2("AttachNetworkInterface", NetworkInterfaceId=eni, InstanceId=instance, DeviceIndex=0)
    route = route_of(netd, table, "198.51.100.0/24")
    assert (route["State"], route["InstanceId"], route["InstanceOwnerId"]) == ("active", instance, "123456789012")
    netd.ec2("DetachNetworkInterface", NetworkInterfaceId=eni)
    assert route_of(netd, table, "198.51.100.0/24")["State"] == "blackhole"


def test_a_middlebox_between_two_subnets(netd, guests, group, private_subnet):
    """A route for a whole subnet is more specific than the local one, and goes first."""
    subnet, table = private_subnet
    open_group = group(ALL)
    box, inner, other = guests(groups=[open_group]), guests(groups=[open_group], SubnetId=subnet), guests(groups=[open_group])
    for guest in (box, inner, other):
        guest.dhcp()
    (far,) = netd.ec2("DescribeSubnets", SubnetIds=[other.subnet])["Subnets"]
    box.sh("sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.send_redirects=0 net.ipv4.conf.eth0.send_redirects=0")
    netd.ec2("ModifyNetworkInterfaceAttribute", NetworkInterfaceId=box.eni, SourceDestCheck={"Value": False})
    netd.ec2("CreateRoute", RouteTableId=table, DestinationCidrBlock=far["CidrBlock"], NetworkInterfaceId=box.eni)
    assert inner.reaches(other.address)
    box.sh("iptables-nft -A FORWARD -j DROP")
    assert inner.ping(other.address) == 0


def test_what_a_route_cannot_lead_to(netd, guests, private_subnet):
    subnet, table = private_subnet

    def refused(code, **parameters):
        with pytest.raises(Refused) as why:
            netd.ec2("CreateRoute", RouteTableId=table, **parameters)
        assert why.value.code == code, why.value

    eni = netd.ec2("CreateNetworkInterface", SubnetId=subnet)["NetworkInterface"]["NetworkInterfaceId"]
    outside = {"DestinationCidrBlock": "198.51.100.0/24"}
    refused("InvalidNetworkInterfaceID.NotFound", NetworkInterfaceId="eni-00000000000000000", **outside)
    refused("InvalidInstanceID.NotFound", InstanceId="i-00000000000000000", **outside)
    refused("MissingParameter", **outside)
    refused("InvalidParameterCombination", NetworkInterfaceId=eni, InstanceId="i-00000000000000000", **outside)
    refused("InvalidParameterValue", NetworkInterfaceId=eni, DestinationCidrBlock="172.31.200.0/25")
    vpc = netd.ec2("CreateVpc", CidrBlock="10.32.0.0/16")["Vpc"]["VpcId"]
    there = netd.ec2("CreateSubnet", VpcId=vpc, CidrBlock="10.32.1.0/24")["Subnet"]["SubnetId"]
    foreign = netd.ec2("CreateNetworkInterface", SubnetId=there)["NetworkInterface"]["NetworkInterfaceId"]
    refused("InvalidParameterValue", NetworkInterfaceId=foreign, **outside)
    netd.ec2("DeleteNetworkInterface", NetworkInterfaceId=foreign)
    netd.ec2("DeleteSubnet", SubnetId=there)
    netd.ec2("DeleteVpc", VpcId=vpc)
