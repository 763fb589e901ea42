"""IPv6 prefixes of interfaces: a /80 leads to one guest."""

import contextlib
import ipaddress
import re

from lab import Refused, eventually, from_group, refused, router, sh
from lab_ipv6 import ALL_6, TCP_80_6, add_address, can_connect, connects, default_route, listen
from test_crashes import die_at_every_step


def prefixes(netd, eni):
    shown = netd.ec2("DescribeNetworkInterfaces", NetworkInterfaceIds=[eni])["NetworkInterfaces"][0]
    return [p["Ipv6Prefix"] for p in shown.get("Ipv6Prefixes", [])]


def within(prefix, n=0xABC):
    return str(ipaddress.ip_network(prefix)[n])


def hold(guest, address):
    """A container's address, as its host sees it: not on eth0."""
    add_address(guest.sh, f"{address}/128", "lo", "nodad")


def test_packets_of_a_prefix_are_its_guests(six):
    closed, open_group = six.group(), six.group(TCP_80_6)
    six.netd.ec2("AuthorizeSecurityGroupIngress", GroupId=closed, IpPermissions=[from_group(open_group)])
    # It has nothing else of IPv6, and learns its router all the same.
    one = six.guest(groups=[open_group], Ipv6AddressCount=0, Ipv6PrefixCount=1, ask=False)
    near, far, stranger = six.guest(groups=[closed]), six.guest(1, groups=[closed]), six.guest(groups=[six.group(ALL_6)])
    eventually(lambda: default_route(one))
    (prefix,) = prefixes(six.netd, one.eni)
    assert ipaddress.ip_network(prefix).subnet_of(six.blocks[1]) and ipaddress.ip_network(prefix).prefixlen == 80
    address = within(prefix)
    hold(one, address)
    with listen(one), listen(one, 81), listen(near), listen(far), listen(stranger):
        for guest in (near, far):
            assert connects(guest, address) and not can_connect(guest, address, 81)
            assert one.reaches(guest.six[0], "-I", address)
        # A member by its prefix, too; what is not allowed to members is not to others.
        assert stranger.ping(near.six[0]) == 0
        assert one.reaches(stranger.six[0], "-I", address)
        given = six.netd.ec2("AssignIpv6Addresses", NetworkInterfaceId=one.eni, Ipv6PrefixCount=1)
        (second,) = given["AssignedIpv6Prefixes"]
        hold(one, within(second))
        assert connects(near, within(second)) and connects(far, within(second))
        # It goes to another guest, and packets with it.
        gone = six.netd.ec2("UnassignIpv6Addresses", NetworkInterfaceId=one.eni, Ipv6Prefixes=[second])
        assert gone["UnassignedIpv6Prefixes"] == [second]
        assert not can_connect(near, within(second))
        six.netd.ec2("AssignIpv6Addresses", NetworkInterfaceId=stranger.eni, Ipv6Prefixes=[second])
        hold(stranger, within(second))
        assert connects(near, within(second)) and far.reaches(within(second))
        assert one.ping(near.six[0], 1, 1, "-I", within(second)) == 0
    assert prefixes(six.netd, one.eni) == [prefix]
    assert six.netd.reconcile() == 0


def test_many_prefixes_are_checked_by_their_digits(six):
    group = six.group(ALL_6)
    few, liar, many = (six.guest_at(n, groups=[group]) for n in (0x1001, 0x1002, 0x1003))

    def chains():
        return re.findall(r"^:(from-\S+)", sh(f"ip netns exec {router(six.id)} ip6tables-nft-save -t raw"), re.M)

    # Twenty with the same last digit but one, so that they are told apart by the first ones.
    block = six.blocks[1]
    asked = [str(ipaddress.ip_network((int(block.network_address) + ((i << 4) + 5 << 48), 80))) for i in range(1, 21)]
    six.netd.ec2("AssignIpv6Addresses", NetworkInterfaceId=many.eni, Ipv6Prefixes=asked[:10])
    assert len(chains()) == 1
    six.netd.ec2("AssignIpv6Addresses", NetworkInterfaceId=many.eni, Ipv6Prefixes=asked[10:])
    assert any("-p5" in chain for chain in chains())
    for prefix in asked:
        hold(many, within(prefix)), hold(liar, within(prefix))
        assert many.reaches(few.six[0], "-I", within(prefix)), prefix
        assert liar.ping(few.six[0], 1, 0.2, "-I", within(prefix)) == 0, prefix
    assert many.reaches(few.six[0], "-I", many.six[0]) and liar.reaches(few.six[0], "-I", liar.six[0])
    assert six.netd.reconcile() == 0


def test_what_a_person_breaks_of_a_prefix_is_mended(six):
    guest, other = six.guest(groups=[six.group(ALL_6)], Ipv6PrefixCount=1), six.guest()
    (prefix,) = prefixes(six.netd, guest.eni)
    address, ns = within(prefix), router(six.id)
    hold(guest, address)
    assert other.reaches(address)
    via = re.search(r"via (\S+) dev (\S+)", sh(f"ip -n {ns} -6 route show {prefix}"))
    for damage in (
        f"ip -n {ns} -6 route del {prefix}",
        f"ip -n {ns} neigh del {via[1]} dev {via[2]}",
        f"ip netns exec {ns} ipset del local-net-6 {prefix}",
    ):
        sh(damage)
        eventually(lambda: six.netd.reconcile() == 0 and other.ping(address))


def test_killed_at_every_step_a_prefix_comes_and_goes(six):
    guest, other = six.guest_at(0x1001, groups=[six.group(ALL_6)]), six.guest_at(0x1002)
    prefix = str(ipaddress.ip_network((int(six.blocks[1].network_address) + (7 << 48), 80)))
    hold(guest, within(prefix))

    def give_back():
        with contextlib.suppress(Refused):  # gone in an earlier life
            six.netd.ec2("UnassignIpv6Addresses", NetworkInterfaceId=guest.eni, Ipv6Prefixes=[prefix])

    die_at_every_step(six.netd, lambda: six.netd.ec2("AssignIpv6Addresses", NetworkInterfaceId=guest.eni, Ipv6Prefixes=[prefix]), 0)
    assert prefixes(six.netd, guest.eni) == [prefix] and other.reaches(within(prefix))
    die_at_every_step(six.netd, give_back, 2)
    assert prefixes(six.netd, guest.eni) == [] and other.ping(within(prefix)) == 0


def test_what_cannot_be_an_ipv6_prefix(six):
    netd, guest = six.netd, six.guest_at(0x2345 << 48 | 0x1001, ask=False)
    which, block = {"NetworkInterfaceId": guest.eni}, six.blocks[1]
    first, last = (str(ipaddress.ip_network((int(block[n]), 80), strict=False)) for n in (0, -1))
    own = str(ipaddress.ip_network(f"{guest.six[0]}/80", strict=False))
    for used in (first, last, own):
        refused("InvalidIPAddress.InUse", netd.ec2, "AssignIpv6Addresses", Ipv6Prefixes=[used], **which)
    for wrong in ("me", "2001:db8::/80", str(six.blocks[2].network_address) + "/80", str(block.network_address) + "/79", "10.30.1.16/28"):
        refused("InvalidParameterValue", netd.ec2, "AssignIpv6Addresses", Ipv6Prefixes=[wrong], **which)
    refused("InvalidParameterCombination", netd.ec2, "AssignIpv6Addresses", Ipv6Prefixes=[own], Ipv6PrefixCount=1, **which)
    refused("MissingParameter", netd.ec2, "AssignIpv6Addresses", **which)
    both = ("Ipv6PrefixCount", "Ipv6AddressCount")
    for count, other in (both, both[::-1]):
        for more in ({}, {other: 1}):
            refused("InvalidParameterValue", netd.ec2, "CreateNetworkInterface", SubnetId=guest.subnet, **{count: -1, **more})
            for wrong in (-1, 0):
                refused("InvalidParameterValue", netd.ec2, "AssignIpv6Addresses", **{count: wrong, **more, **which})
    refused("PrivateIpAddressLimitExceeded", netd.ec2, "AssignIpv6Addresses", Ipv6PrefixCount=50, **which)
    (prefix,) = netd.ec2("AssignIpv6Addresses", Ipv6PrefixCount=1, **which)["AssignedIpv6Prefixes"]
    refused("InvalidIPAddress.InUse", netd.ec2, "AssignIpv6Addresses", Ipv6Addresses=[within(prefix)], **which)
    refused("InvalidParameterValue", netd.ec2, "UnassignIpv6Addresses", Ipv6Prefixes=[own], **which)
    # A reservation for prefixes is where the next comes from.
    blocks = (str(ipaddress.ip_network((int(block.network_address) + (n << 48), 79))) for n in (0x1230, 0x1232))
    reserved = next(b for b in blocks if not ipaddress.ip_network(prefix).subnet_of(ipaddress.ip_network(b)))
    netd.ec2("CreateSubnetCidrReservation", SubnetId=guest.subnet, Cidr=reserved, ReservationType="prefix")
    for _ in range(2):
        (next_one,) = netd.ec2("AssignIpv6Addresses", Ipv6PrefixCount=1, **which)["AssignedIpv6Prefixes"]
        assert ipaddress.ip_network(next_one).subnet_of(ipaddress.ip_network(reserved))
    # The subnet's block stays as long as there is a prefix of it.
    netd.ec2("UnassignIpv6Addresses", Ipv6Addresses=guest.six, **which)
    (row,) = netd.ec2("DescribeSubnets", SubnetIds=[guest.subnet])["Subnets"]
    association = row["Ipv6CidrBlockAssociationSet"][0]["AssociationId"]
    refused("InvalidCidrBlock.InUse", netd.ec2, "DisassociateSubnetCidrBlock", AssociationId=association)


def test_a_flow_does_not_outlive_the_guest_that_has_the_prefix(six):
    group = six.group(ALL_6)
    one, other = six.guest(groups=[group]), six.guest(groups=[group])
    (prefix,) = six.netd.ec2("AssignIpv6Addresses", NetworkInterfaceId=one.eni, Ipv6PrefixCount=1)["AssignedIpv6Prefixes"]
    hold(one, within(prefix))
    with listen(one) as listener:
        assert connects(other, within(prefix))
        listener.accept()[0].close()
        flows = f"ip netns exec {router(six.id)} conntrack -L -f ipv6 -p tcp --orig-dst {within(prefix)}"
        assert within(prefix) in sh(flows)
        six.netd.ec2("UnassignIpv6Addresses", NetworkInterfaceId=one.eni, Ipv6Prefixes=[prefix])
        assert within(prefix) not in sh(flows)
