"""IPv6 beyond the VPC: its gateways, and that all of it survives a netd that dies and a hand that breaks it."""

import ipaddress
import socket

from lab import PATIENCE, eventually, ours, refused, router, sh
from lab_ipv6 import ALL_6, TCP_80_6, add_address, listen
from test_crashes import die_at_every_step


def test_the_internet_gateway_leads_both_ways(six, outside):
    gateway = six.netd.ec2("CreateInternetGateway")["InternetGateway"]["InternetGatewayId"]
    six.netd.ec2("AttachInternetGateway", InternetGatewayId=gateway, VpcId=six.id)
    guest, shut = six.guest(groups=[six.group(TCP_80_6)]), six.guest(groups=[six.group()])
    assert guest.ping(outside) == 0, "no route yet"
    six.netd.ec2("CreateRoute", RouteTableId=six.table, DestinationIpv6CidrBlock="::/0", GatewayId=gateway)
    assert guest.reaches(outside)
    with listen(guest), listen(shut):
        with socket.socket(socket.AF_INET6) as s:
            s.settimeout(PATIENCE)
            s.connect((guest.six[0], 80))
        with socket.socket(socket.AF_INET6) as s:
            s.settimeout(0.7)
            assert s.connect_ex((shut.six[0], 80)) != 0
    assert any(str(six.block) in line for line in sh("ip -6 route show proto 103").splitlines())
    six.netd.ec2("DeleteRoute", RouteTableId=six.table, DestinationIpv6CidrBlock="::/0")
    assert guest.ping(outside) == 0
    six.netd.ec2("DetachInternetGateway", InternetGatewayId=gateway, VpcId=six.id)
    six.netd.ec2("DeleteInternetGateway", InternetGatewayId=gateway)


def test_a_vpc_has_five_blocks_and_their_guests_are_neighbours(six, outside):
    netd, of_vpc = six.netd, [{"Name": "vpc-id", "Values": [six.id]}]
    gateway = netd.ec2("CreateInternetGateway")["InternetGateway"]["InternetGatewayId"]
    netd.ec2("AttachInternetGateway", InternetGatewayId=gateway, VpcId=six.id)
    netd.ec2("CreateRoute", RouteTableId=six.table, DestinationIpv6CidrBlock="::/0", GatewayId=gateway)
    group = six.group(ALL_6)
    one = six.guest(groups=[group])

    def associate():
        return netd.ec2("AssociateVpcCidrBlock", VpcId=six.id, AmazonProvidedIpv6CidrBlock=True)["Ipv6CidrBlockAssociation"]

    added = [associate() for _ in range(4)]
    refused("CidrLimitExceeded", associate)
    blocks = [a["Ipv6CidrBlock"] for a in netd.ec2("DescribeVpcs", VpcIds=[six.id])["Vpcs"][0]["Ipv6CidrBlockAssociationSet"]]
    assert blocks == [str(six.block), *(a["Ipv6CidrBlock"] for a in added)] and len(set(blocks)) == 5

    def locals_():
        (table,) = netd.ec2("DescribeRouteTables", Filters=of_vpc)["RouteTables"]
        return [r["DestinationIpv6CidrBlock"] for r in table["Routes"] if r.get("GatewayId") == "local" and "DestinationIpv6CidrBlock" in r]

    assert locals_() == blocks
    (acl,) = netd.ec2("DescribeNetworkAcls", Filters=of_vpc)["NetworkAcls"]
    assert sum(e.get("Ipv6CidrBlock") == "::/0" for e in acl["Entries"]) == 4, "as with one block"

    third = blocks[3].replace("/56", "/64")
    six.subnets.append(netd.ec2("CreateSubnet", VpcId=six.id, CidrBlock="10.30.3.0/24", Ipv6CidrBlock=third)["Subnet"]["SubnetId"])
    two = six.guest(2, groups=[group])
    assert ipaddress.ip_address(two.six[0]) in ipaddress.ip_network(third)
    assert one.reaches(two.six[0]) and two.reaches(one.six[0])
    assert one.reaches(outside) and two.reaches(outside)
    with listen(two), socket.socket(socket.AF_INET6) as s:
        s.settimeout(PATIENCE)
        s.connect((two.six[0], 80))

    refused("InvalidCidrBlock.InUse", netd.ec2, "DisassociateVpcCidrBlock", AssociationId=added[2]["AssociationId"])
    for association in added[0], added[3]:
        netd.ec2("DisassociateVpcCidrBlock", AssociationId=association["AssociationId"])
    assert locals_() == [blocks[0], blocks[2], blocks[3]]
    unowned = {"VpcId": six.id, "CidrBlock": "10.30.4.0/24", "Ipv6CidrBlock": blocks[1].replace("/56", "/64")}
    refused("InvalidSubnet.Range", netd.ec2, "CreateSubnet", **unowned)
    assert one.reaches(two.six[0]) and two.reaches(outside) and netd.reconcile() == 0
    ours_ = [line.split()[0] for line in sh("ip -6 route show proto 103").splitlines()]
    assert {blocks[0], blocks[2], blocks[3]} <= set(ours_) and not {blocks[1], blocks[4]} & set(ours_)
    netd.ec2("DeleteRoute", RouteTableId=six.table, DestinationIpv6CidrBlock="::/0")
    netd.ec2("DetachInternetGateway", InternetGatewayId=gateway, VpcId=six.id)
    netd.ec2("DeleteInternetGateway", InternetGatewayId=gateway)


def test_an_egress_only_gateway_lets_out_and_not_in(six, outside):
    made = six.netd.ec2("CreateEgressOnlyInternetGateway", VpcId=six.id)["EgressOnlyInternetGateway"]
    assert made["Attachments"] == [{"State": "attached", "VpcId": six.id}]
    gateway = made["EgressOnlyInternetGatewayId"]
    six.netd.ec2("CreateRoute", RouteTableId=six.table, DestinationIpv6CidrBlock="::/0", EgressOnlyInternetGatewayId=gateway)
    guest = six.guest(groups=[six.group(ALL_6)])
    assert guest.reaches(outside)
    with listen(guest), socket.socket(socket.AF_INET6) as s:
        s.settimeout(0.7)
        assert s.connect_ex((guest.six[0], 80)) != 0
    refused("DependencyViolation", six.netd.ec2, "DeleteVpc", VpcId=six.id)
    six.netd.ec2("DeleteEgressOnlyInternetGateway", EgressOnlyInternetGatewayId=gateway)
    assert guest.ping(outside) == 0
    table = six.netd.ec2("DescribeRouteTables", RouteTableIds=[six.table])["RouteTables"][0]
    assert [r["State"] for r in table["Routes"] if r.get("EgressOnlyInternetGatewayId")] == ["blackhole"]


def test_traffic_to_the_uplink_is_masqueraded(six):
    sh("ip link add up6 type veth peer name far6 && ip netns add far6 && ip link set far6 netns far6")
    try:
        sh("ip link set up6 up && ip -n far6 link set far6 up")
        add_address(lambda command: sh(f"ip netns exec far6 {command}"), "2001:db8:2::2/64", "far6", "nodad")
        add_address(sh, "2001:db8:2::1/64", "up6", "nodad")
        sh("ip -6 route add default via 2001:db8:2::2 dev up6")
        gateway = six.netd.ec2("CreateEgressOnlyInternetGateway", VpcId=six.id)["EgressOnlyInternetGateway"]
        gateway = gateway["EgressOnlyInternetGatewayId"]
        six.netd.ec2("CreateRoute", RouteTableId=six.table, DestinationIpv6CidrBlock="::/0", EgressOnlyInternetGatewayId=gateway)
        guest = six.guest()
        assert guest.reaches("2001:db8:2::2"), "the far end knows no way to the guest's own address"
        six.netd.ec2("DeleteEgressOnlyInternetGateway", EgressOnlyInternetGatewayId=gateway)
    finally:
        sh("ip link del up6; ip netns del far6", check=False)


def test_killed_at_every_step_it_comes_to_what_was_asked_and_nobody_notices(six):
    netd = six.netd
    group = six.group(ALL_6)
    one, two = six.guest(groups=[group]), six.guest(1, groups=[group])
    more = [str(six.blocks[2][n]) for n in range(0x100, 0x114)]

    def associations():
        return netd.ec2("DescribeVpcs", VpcIds=[six.id])["Vpcs"][0]["Ipv6CidrBlockAssociationSet"]

    def gateways():
        return [g["EgressOnlyInternetGatewayId"] for g in netd.ec2("DescribeEgressOnlyInternetGateways")["EgressOnlyInternetGateways"]
                if g["Attachments"][0]["VpcId"] == six.id]

    def routes():
        (table,) = netd.ec2("DescribeRouteTables", RouteTableIds=[six.table])["RouteTables"]
        return [r for r in table["Routes"] if r.get("DestinationIpv6CidrBlock") == "::/0"]

    def addresses():
        (eni,) = netd.ec2("DescribeNetworkInterfaces", NetworkInterfaceIds=[two.eni])["NetworkInterfaces"]
        return {a["Ipv6Address"] for a in eni["Ipv6Addresses"]}

    def add_block():
        if len(associations()) == 1:
            netd.ec2("AssociateVpcCidrBlock", VpcId=six.id, AmazonProvidedIpv6CidrBlock=True)

    def add_egress():
        if not gateways():
            netd.ec2("CreateEgressOnlyInternetGateway", VpcId=six.id)
        if not routes():
            netd.ec2("CreateRoute", RouteTableId=six.table, DestinationIpv6CidrBlock="::/0", EgressOnlyInternetGatewayId=gateways()[0])

    def add_addresses():
        if missing := sorted(set(more) - addresses()):
            netd.ec2("AssignIpv6Addresses", NetworkInterfaceId=two.eni, Ipv6Addresses=missing)

    def remove_addresses():
        if there := sorted(set(more) & addresses()):
            netd.ec2("UnassignIpv6Addresses", NetworkInterfaceId=two.eni, Ipv6Addresses=there)

    def remove_egress():
        if routes():
            netd.ec2("DeleteRoute", RouteTableId=six.table, DestinationIpv6CidrBlock="::/0")
        for gateway in gateways():
            netd.ec2("DeleteEgressOnlyInternetGateway", EgressOnlyInternetGatewayId=gateway)

    def remove_block():
        for association in associations()[1:]:
            netd.ec2("DisassociateVpcCidrBlock", AssociationId=association["AssociationId"])

    before = ours(), sh(f"ip netns exec {router(six.id)} ip6tables-nft-save -t raw | grep ^-A")
    with one.pinging(two.six[0]) as answers:
        acts = add_block, add_egress, add_addresses, remove_addresses, remove_egress, remove_block
        lives = {act.__name__: die_at_every_step(netd, act, n) for n, act in enumerate(acts)}
    assert answers == list(range(1, len(answers) + 1))
    assert all(n > 1 for n in lives.values()), lives
    assert (ours(), sh(f"ip netns exec {router(six.id)} ip6tables-nft-save -t raw | grep ^-A")) == before


def test_what_is_broken_by_hand_is_mended_and_the_end_leaves_nothing(six, outside):
    gateway = six.netd.ec2("CreateEgressOnlyInternetGateway", VpcId=six.id)["EgressOnlyInternetGateway"]
    gateway = gateway["EgressOnlyInternetGatewayId"]
    six.netd.ec2("CreateRoute", RouteTableId=six.table, DestinationIpv6CidrBlock="::/0", EgressOnlyInternetGatewayId=gateway)
    one, two = six.guest(), six.guest()
    inside_router = f"ip netns exec {router(six.id)}"

    def state():
        rules = sh(f"{inside_router} ip6tables-nft-save | grep -v '^#' | sed 's/ \\[.*//'")
        return rules, sorted(sh(f"{inside_router} ip -6 route show table all proto 103; {inside_router} ip -6 rule").splitlines())

    whole = state()
    sh(f"{inside_router} ip6tables-nft -F; {inside_router} ip -6 route flush table 1000; {inside_router} ip -6 rule del pref 100")
    # All of it: packets pass before the last of it is mended.
    eventually(lambda: state() == whole)
    assert one.reaches(two.six[0]) and two.reaches(outside)
    assert six.netd.reconcile() == 0
    six.netd.kill()
    assert one.reaches(two.six[0])
    six.netd.start()
    assert six.netd.reconcile() == 0
    assert one.reaches(two.six[0])
    six.netd.ec2("DeleteEgressOnlyInternetGateway", EgressOnlyInternetGatewayId=gateway)
    one.delete(), two.delete()
    assert not [line for line in ours() if str(six.block) in line]
    assert "gureum" not in sh("ip6tables-nft-save")
