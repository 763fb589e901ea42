"""Security groups and public addresses as they change, beyond what the matrix (test_matrix.py) says."""

import socket

import pytest
from lab import PATIENCE, PING, TCP_80, from_group, sh


# ---- groups ----


def test_members_of_the_default_group_reach_one_another(guests):
    one, two = guests(), guests()
    one.dhcp(), two.dhcp()
    with two.listen():
        assert one.connects(two.address)
    assert two.reaches(one.address)
    assert one.reaches(two.address, "-M do -s 8900")


def test_a_group_lets_in_what_it_allows_and_nothing_else(guests, group):
    web, other = guests(groups=[group(TCP_80)]), guests(groups=[group()])
    web.dhcp(), other.dhcp()
    with web.listen(80), web.listen(81), other.listen(80):
        assert other.connects(web.address, 80)
        assert not other.can_connect(web.address, 81)
        assert not web.can_connect(other.address, 80)
    assert other.ping(web.address) == 0


def test_a_group_that_names_a_group_follows_its_members(guests, group, netd):
    friends = group()
    one, two = guests(groups=[group(from_group(friends))]), guests(groups=[group()])
    one.dhcp(), two.dhcp()
    with one.listen():
        assert not two.can_connect(one.address)
        netd.ec2("ModifyNetworkInterfaceAttribute", NetworkInterfaceId=two.eni, Groups=[friends])
        assert two.connects(one.address)
        netd.ec2("ModifyNetworkInterfaceAttribute", NetworkInterfaceId=two.eni, Groups=[group()])
        assert not two.can_connect(one.address)


def test_a_flow_outlives_the_rule_that_let_it_in(guests, group, netd):
    web = group(TCP_80)
    one, two = guests(groups=[web]), guests(groups=[group()])
    one.dhcp(), two.dhcp()
    with one.listen() as listener, two.connect(one.address) as client:
        server, _ = listener.accept()
        netd.ec2("RevokeSecurityGroupIngress", GroupId=web, IpPermissions=[TCP_80])
        assert not two.can_connect(one.address)
        client.sendall(b"still here")
        server.settimeout(PATIENCE)
        assert server.recv(99) == b"still here"
        server.close()


def test_egress_rules_are_kept(guests, group, netd):
    locked = group()
    netd.ec2("RevokeSecurityGroupEgress", GroupId=locked, IpPermissions=[{"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}])
    netd.ec2("AuthorizeSecurityGroupEgress", GroupId=locked, IpPermissions=[TCP_80])
    one, two = guests(groups=[locked]), guests(groups=[group(TCP_80, PING)])
    one.dhcp(), two.dhcp()
    with two.listen():
        assert one.connects(two.address)
    assert one.ping(two.address) == 0


# ---- the internet gateway ----


def test_a_public_address_is_reached_from_the_host_and_seen_outside(guests, group):
    guest = guests(groups=[group(TCP_80, PING)])
    guest.dhcp()
    sh(f"ping -n -c1 -W{PATIENCE} {guest.public}")
    with guest.listen() as listener, socket.create_connection((guest.public, 80), PATIENCE) as client:
        server, peer = listener.accept()
        server.close()
        assert client.recv(9) == b""
    with socket.create_server(("203.0.113.1", 8080)) as outside, guest.connect("203.0.113.1", 8080):
        outside.settimeout(PATIENCE)
        assert outside.accept()[1][0] == guest.public


def test_without_a_public_address_there_is_no_way_out(guests):
    guest = guests(public=False)
    guest.dhcp()
    assert guest.public is None
    with socket.create_server(("203.0.113.1", 8080)):
        assert not guest.can_connect("203.0.113.1", 8080)
    assert guest.ping("203.0.113.1") == 0


def test_a_public_address_of_the_same_vpc_turns_round_outside(guests, group):
    open_group = group(TCP_80)
    one, two = guests(groups=[open_group]), guests(groups=[open_group])
    one.dhcp(), two.dhcp()
    with two.listen() as listener, one.connect(two.public):
        assert listener.accept()[1][0] == one.public


def test_an_address_that_is_given_back_takes_its_flows_along(guests, group, netd):
    guest = guests(groups=[group(TCP_80)])
    guest.dhcp()
    with guest.listen() as listener, socket.create_connection((guest.public, 80), PATIENCE) as client:
        server, _ = listener.accept()
        netd.call("gureum.Release", NetworkInterfaceId=guest.eni)
        taken = netd.ec2("AllocateAddress", Address=guest.public)["AllocationId"]  # else it might be given again
        netd.call("gureum.Assign", NetworkInterfaceId=guest.eni)
        netd.ec2("AttachNetworkInterface", NetworkInterfaceId=guest.eni, InstanceId=guest.instance, DeviceIndex=0)
        client.settimeout(1)
        client.sendall(b"x")
        server.settimeout(1)
        with pytest.raises(OSError):
            assert server.recv(1) == b"x"
        server.close()
    netd.ec2("ReleaseAddress", AllocationId=taken)


def test_without_its_route_a_subnet_has_no_way_out(guests, netd):
    guest = guests()
    guest.dhcp()
    table = netd.ec2("DescribeRouteTables", Filters=[{"Name": "vpc-id", "Values": [guest.vpc]}])["RouteTables"][0]
    (gateway,) = [route["GatewayId"] for route in table["Routes"] if route["GatewayId"].startswith("igw-")]
    assert guest.reaches("203.0.113.1")
    netd.ec2("DeleteRoute", RouteTableId=table["RouteTableId"], DestinationCidrBlock="0.0.0.0/0")
    try:
        netd.reconcile()
        assert guest.ping("203.0.113.1") == 0
    finally:
        netd.ec2("CreateRoute", RouteTableId=table["RouteTableId"], DestinationCidrBlock="0.0.0.0/0", GatewayId=gateway)
    netd.reconcile()
    assert guest.reaches("203.0.113.1")
