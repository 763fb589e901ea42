"""NAT gateways: the way out of a private subnet, and no way in."""

import socket

import pytest
from lab import DEFAULT, PATIENCE, TCP_80, eventually, ours, refused, router, sh
from test_crashes import die_at_every_step


def goes_out_as(guest, port=8084):
    with socket.create_server(("203.0.113.1", port)) as outside:
        outside.settimeout(PATIENCE)
        return outside.accept()[1][0] if guest.can_connect("203.0.113.1", port) else None


def test_a_private_subnet_gets_out_and_nobody_gets_in(site, guests, netd):
    place = site("10.41.0.0/16")
    inner = guests(SubnetId=place.private)
    inner.dhcp()
    assert goes_out_as(inner) is None
    address = place.elastic()
    nat = place.nat(AllocationId=address["AllocationId"])
    (shown,) = nat["NatGatewayAddresses"]
    assert shown["PublicIp"] == address["PublicIp"] and nat["ConnectivityType"] == "public" and nat["VpcId"] == place.vpc
    assert shown["IsPrimary"] and shown["Status"] == "succeeded"
    assert shown["AssociationId"] == netd.ec2("DescribeAddresses", AllocationIds=[address["AllocationId"]])["Addresses"][0]["AssociationId"]
    netd.ec2("CreateRoute", RouteTableId=place.tables[1], NatGatewayId=nat["NatGatewayId"], **DEFAULT)
    eventually(lambda: goes_out_as(inner) == address["PublicIp"])
    assert inner.reaches("203.0.113.1")
    # What is too big for the internet gateway is told so, through the NAT gateway.
    assert inner.ping("203.0.113.1", 1, 1, "-M do -s 4000") == 0
    eventually(lambda: "mtu 1500" in inner.sh("ip route get 203.0.113.1"))
    # Neither from outside nor from inside the VPC is there anything to talk to.
    sh(f"ping -n -c1 -W1 {address['PublicIp']} && false || true")
    with pytest.raises(OSError), inner.listen():
        socket.create_connection((address["PublicIp"], 80), 0.7)
    assert inner.ping(shown["PrivateIp"]) == 0


def test_its_interface_is_shown_and_not_the_customers(site, netd):
    place = site("10.42.0.0/16")
    address = place.elastic()
    nat = place.nat(AllocationId=address["AllocationId"], PrivateIpAddress="10.42.1.77")
    (eni,) = netd.ec2(
        "DescribeNetworkInterfaces", Filters=[{"Name": "attachment.nat-gateway-id", "Values": [nat["NatGatewayId"]]}]
    )["NetworkInterfaces"]
    assert (eni["InterfaceType"], eni["RequesterManaged"], eni["SourceDestCheck"]) == ("nat_gateway", True, False)
    assert eni["PrivateIpAddress"] == "10.42.1.77" and eni["Status"] == "in-use" and eni["Groups"] == []
    assert eni["Association"]["AllocationId"] == address["AllocationId"]
    which = {"NetworkInterfaceId": eni["NetworkInterfaceId"]}
    refused("OperationNotPermitted", netd.ec2, "DeleteNetworkInterface", **which)
    refused("OperationNotPermitted", netd.ec2, "ModifyNetworkInterfaceAttribute", SourceDestCheck={"Value": True}, **which)
    refused("OperationNotPermitted", netd.ec2, "AssignPrivateIpAddresses", SecondaryPrivateIpAddressCount=1, **which)
    refused("OperationNotPermitted", netd.ec2, "AssignIpv6Addresses", Ipv6AddressCount=1, **which)
    refused("OperationNotPermitted", netd.ec2, "UnassignIpv6Addresses", Ipv6Addresses=["fd00::1"], **which)
    refused("AuthFailure", netd.ec2, "DisassociateAddress", PublicIp=address["PublicIp"])
    refused("InvalidIPAddress.InUse", netd.ec2, "ReleaseAddress", AllocationId=address["AllocationId"])
    refused("DependencyViolation", netd.ec2, "DetachInternetGateway", InternetGatewayId=place.gateway, VpcId=place.vpc)


def test_states_are_awss(site, netd):
    place = site("10.43.0.0/16")
    address = place.elastic()
    nat = place.nat(AllocationId=address["AllocationId"], TagSpecifications=[{"ResourceType": "natgateway", "Tags": [{"Key": "k", "Value": "v"}]}])
    nat_id = nat["NatGatewayId"]
    assert nat["Tags"] == [{"Key": "k", "Value": "v"}]
    netd.ec2("CreateRoute", RouteTableId=place.tables[1], NatGatewayId=nat_id, **DEFAULT)
    assert netd.ec2("DeleteNatGateway", NatGatewayId=nat_id) == {"NatGatewayId": nat_id}
    gone = place.wait(nat_id, "deleted")
    assert gone["DeleteTime"] and gone["NatGatewayAddresses"] == nat["NatGatewayAddresses"]
    (table,) = netd.ec2("DescribeRouteTables", RouteTableIds=[place.tables[1]])["RouteTables"]
    assert table["Routes"][-1]["NatGatewayId"] == nat_id and table["Routes"][-1]["State"] == "blackhole"
    assert "AssociationId" not in netd.ec2("DescribeAddresses", AllocationIds=[address["AllocationId"]])["Addresses"][0]
    by_state = [{"Name": "state", "Values": ["deleted"]}, {"Name": "vpc-id", "Values": [place.vpc]}]
    assert [n["NatGatewayId"] for n in netd.ec2("DescribeNatGateways", Filter=by_state)["NatGateways"]] == [nat_id]
    refused("NatGatewayNotFound", netd.ec2, "CreateRoute", RouteTableId=place.tables[0], NatGatewayId=nat_id, DestinationCidrBlock="192.0.2.0/24")


def test_without_an_internet_gateway_it_fails(site, netd):
    place = site("10.44.0.0/16", has_gateway=False)
    nat = place.nat(wait="failed", AllocationId=place.elastic()["AllocationId"])
    assert nat["FailureCode"] == "Gateway.NotAttached" and place.vpc in nat["FailureMessage"]
    (address,) = nat["NatGatewayAddresses"]
    assert address["Status"] == "failed" and address["FailureMessage"] == nat["FailureMessage"] and "AssociationId" not in address
    assert not netd.ec2("DescribeNetworkInterfaces", Filters=[{"Name": "vpc-id", "Values": [place.vpc]}])["NetworkInterfaces"]
    unknown = "nat-00000000000000000"
    refused("NatGatewayNotFound", netd.ec2, "DeleteNatGateway", NatGatewayId=unknown)
    refused("NatGatewayMalformed", netd.ec2, "DescribeNatGateways", NatGatewayIds=["nat-gateway"])
    create = {"SubnetId": place.public}
    refused("MissingParameter", netd.ec2, "CreateNatGateway", **create)
    refused("InvalidAllocationID.NotFound", netd.ec2, "CreateNatGateway", AllocationId="eipalloc-00000000000000000", **create)
    refused("InvalidSubnetID.NotFound", netd.ec2, "CreateNatGateway", SubnetId="subnet-00000000000000000", ConnectivityType="private")
    refused("InvalidParameterValue", netd.ec2, "CreateNatGateway", ConnectivityType="private", PrivateIpAddress="10.44.9.9", **create)


def test_a_private_one_speaks_for_its_subnet(site, guests, netd, group):
    """Between two subnets: a route for a whole subnet leads through it, and the other side sees its address."""
    place = site("10.45.0.0/16", has_gateway=False)
    open_group = netd.ec2("CreateSecurityGroup", GroupName="open", Description="of a test", VpcId=place.vpc)["GroupId"]
    netd.ec2("AuthorizeSecurityGroupIngress", GroupId=open_group, IpPermissions=[TCP_80])
    inner, outer = guests(SubnetId=place.private, groups=[open_group]), guests(SubnetId=place.public, groups=[open_group])
    inner.dhcp(), outer.dhcp()
    nat = place.nat(ConnectivityType="private")
    (address,) = nat["NatGatewayAddresses"]
    assert not {"PublicIp", "AllocationId", "AssociationId"} & set(address) and address["IsPrimary"] and address["Status"] == "succeeded"
    netd.ec2("CreateRoute", RouteTableId=place.tables[1], NatGatewayId=nat["NatGatewayId"], DestinationCidrBlock="10.45.1.0/24")
    with outer.listen() as listener, inner.connect(outer.address):
        assert listener.accept()[1][0] == address["PrivateIp"]
    for guest in (inner, outer):
        guest.delete()
    netd.ec2("DeleteSecurityGroup", GroupId=open_group)


def test_a_private_one_leads_to_a_peer(site, guests, netd):
    """The peer knows the gateway's subnet only: it sees the gateway's address, and has no way to the guest."""
    place, far = site("10.48.0.0/16", has_gateway=False), site("10.49.0.0/16", has_gateway=False)
    open_group = netd.ec2("CreateSecurityGroup", GroupName="open", Description="of a test", VpcId=far.vpc)["GroupId"]
    netd.ec2("AuthorizeSecurityGroupIngress", GroupId=open_group, IpPermissions=[TCP_80])
    inner, server = guests(SubnetId=place.private), guests(SubnetId=far.public, groups=[open_group])
    inner.dhcp(), server.dhcp()
    peering = netd.ec2("CreateVpcPeeringConnection", VpcId=place.vpc, PeerVpcId=far.vpc)["VpcPeeringConnection"]["VpcPeeringConnectionId"]
    netd.ec2("AcceptVpcPeeringConnection", VpcPeeringConnectionId=peering)
    nat = place.nat(ConnectivityType="private")
    netd.ec2("CreateRoute", RouteTableId=place.tables[0], DestinationCidrBlock="10.49.0.0/16", VpcPeeringConnectionId=peering)
    netd.ec2("CreateRoute", RouteTableId=place.tables[1], DestinationCidrBlock="10.49.0.0/16", NatGatewayId=nat["NatGatewayId"])
    netd.ec2("CreateRoute", RouteTableId=far.tables[0], DestinationCidrBlock="10.48.1.0/24", VpcPeeringConnectionId=peering)
    with server.listen() as listener, inner.connect(server.address):
        assert listener.accept()[1][0] == nat["NatGatewayAddresses"][0]["PrivateIp"]
    with inner.listen():
        assert not server.can_connect(inner.address)
    netd.ec2("DeleteVpcPeeringConnection", VpcPeeringConnectionId=peering)
    server.delete()
    netd.ec2("DeleteSecurityGroup", GroupId=open_group)


def test_it_turns_round_outside_to_a_public_address_of_its_own_vpc(site, guests, netd):
    place = site("10.50.0.0/16")
    open_group = netd.ec2("CreateSecurityGroup", GroupName="open", Description="of a test", VpcId=place.vpc)["GroupId"]
    netd.ec2("AuthorizeSecurityGroupIngress", GroupId=open_group, IpPermissions=[TCP_80])
    inner, web = guests(SubnetId=place.private), guests(SubnetId=place.public, groups=[open_group], public=False)
    inner.dhcp(), web.dhcp()
    mine, its = place.elastic(), place.elastic()
    netd.ec2("AssociateAddress", AllocationId=its["AllocationId"], NetworkInterfaceId=web.eni)
    nat = place.nat(AllocationId=mine["AllocationId"])
    netd.ec2("CreateRoute", RouteTableId=place.tables[1], NatGatewayId=nat["NatGatewayId"], **DEFAULT)
    with web.listen() as listener, inner.connect(its["PublicIp"]):
        assert listener.accept()[1][0] == mine["PublicIp"]
    web.delete()
    netd.ec2("DeleteSecurityGroup", GroupId=open_group)


@pytest.mark.parametrize(
    "damage",
    [
        "ip link del {port}",
        "ip netns exec {node} iptables-nft -F",
        "ip netns exec {node} iptables-nft -t nat -F",
        "ip -n {node} addr flush dev eth0",
        "ip -n {node} route del default",
        "ip -n {node} link set eth0 down",
        "ip netns del {node}",
        "bridge link set dev {port} isolated off",
    ],
)
def test_what_a_person_breaks_of_it_is_mended(site, guests, netd, damage):
    place = site("10.46.0.0/16")
    inner = guests(SubnetId=place.private)
    inner.dhcp()
    nat = place.nat(AllocationId=place.elastic()["AllocationId"])
    netd.ec2("CreateRoute", RouteTableId=place.tables[1], NatGatewayId=nat["NatGatewayId"], **DEFAULT)
    assert inner.reaches("203.0.113.1")
    eni = nat["NatGatewayAddresses"][0]["NetworkInterfaceId"]
    node = f"gureum-{eni}"
    (port,) = [line.split(":")[0].split("@")[0] for line in ours() if eni in line]

    def state():
        return [
            sh(f"ip netns exec {node} iptables-nft-save | grep -v '^#' | sed 's/ \\[.*//'", check=False),
            sh(f"ip -n {node} route; ip -n {node} -o -4 addr show eth0 | cut -d' ' -f2-; ip -n {node} neigh show nud permanent", check=False),
            sh(f"bridge -d link show dev {port} | sed 's/^[0-9]*: //; s/@[^:]*//'", check=False),
        ]

    whole = state()
    sh(damage.format(node=node, port=port))
    eventually(lambda: state() == whole)
    assert inner.reaches("203.0.113.1")


def test_kill_9_interrupts_no_flow_and_finishes_what_was_begun(site, guests, netd):
    place = site("10.47.0.0/16")
    inner = guests(SubnetId=place.private)
    inner.dhcp()
    address = place.elastic()
    nat = netd.ec2("CreateNatGateway", SubnetId=place.public, AllocationId=address["AllocationId"])["NatGateway"]["NatGatewayId"]
    place.nats.append(nat)
    netd.kill()
    netd.start()
    place.wait(nat, "available")
    netd.ec2("CreateRoute", RouteTableId=place.tables[1], NatGatewayId=nat, **DEFAULT)
    with socket.create_server(("203.0.113.1", 8085)) as outside, inner.connect("203.0.113.1", 8085) as client:
        server, peer = outside.accept()
        assert peer[0] == address["PublicIp"]
        before = netd.changes()
        netd.kill()
        netd.start()
        assert netd.changes() == before, "the second pass found something to do"
        client.sendall(b"x")
        server.settimeout(PATIENCE)
        assert server.recv(1) == b"x"
        server.close()
    netd.ec2("DeleteNatGateway", NatGatewayId=nat)
    netd.kill()
    netd.start()
    place.wait(nat, "deleted")
    eni = place.show(nat)["NatGatewayAddresses"][0]["NetworkInterfaceId"]
    assert f"gureum-{eni}" not in sh("ls /run/netns") and not [line for line in ours() if eni in line]
    assert router(place.vpc) in sh("ls /run/netns")


def test_killed_at_every_step_one_comes_and_goes(site, netd):
    place = site("10.51.0.0/16")
    address = place.elastic()

    def come():
        asked = {"SubnetId": place.public, "AllocationId": address["AllocationId"], "ClientToken": "the same in every life"}
        nat = netd.ec2("CreateNatGateway", **asked)["NatGateway"]["NatGatewayId"]
        place.wait(nat, "available")
        place.nats = [nat]

    def go():
        netd.ec2("DeleteNatGateway", NatGatewayId=place.nats[0])
        place.wait(place.nats[0], "deleted")

    assert die_at_every_step(netd, come, 0) > 2
    eni = place.show(place.nats[0])["NatGatewayAddresses"][0]["NetworkInterfaceId"]
    assert f"gureum-{eni}" in sh("ls /run/netns") and [line for line in ours() if eni in line]
    assert die_at_every_step(netd, go, 0) > 2
    assert f"gureum-{eni}" not in sh("ls /run/netns") and not [line for line in ours() if eni in line]
