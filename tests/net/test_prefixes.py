"""Prefixes of interfaces: blocks of a subnet that lead to one guest, which gives their addresses to whom it likes (to containers, say)."""

import contextlib
import ipaddress
import socket

import pytest
from lab import ALL, PING, TCP_80, Refused, eventually, from_group, inside, refused, router, sh


def show(netd, eni):
    return netd.ec2("DescribeNetworkInterfaces", NetworkInterfaceIds=[eni])["NetworkInterfaces"][0]


def prefixes(netd, eni):
    return [p["Ipv4Prefix"] for p in show(netd, eni).get("Ipv4Prefixes", [])]


def free(netd, subnet):
    return netd.ec2("DescribeSubnets", SubnetIds=[subnet])["Subnets"][0]["AvailableIpAddressCount"]


@pytest.fixture
def place(netd, vpc):
    """A VPC with two subnets of 64 addresses; {name: id}."""
    made = {"vpc": vpc("10.46.0.0/16")}
    for name, cidr in (("one", "10.46.1.0/26"), ("two", "10.46.2.0/26")):
        made[name] = netd.ec2("CreateSubnet", VpcId=made["vpc"], CidrBlock=cidr)["Subnet"]["SubnetId"]
    yield made
    for group in made.get("groups", ()):
        with contextlib.suppress(Refused):
            netd.ec2("RevokeSecurityGroupIngress", GroupId=group, IpPermissions=[from_group(group)])
    for group in made.get("groups", ()):
        netd.ec2("DeleteSecurityGroup", GroupId=group)


@pytest.fixture
def interface(netd, place):
    made = []

    def make(subnet="one", **parameters):
        made.append(netd.ec2("CreateNetworkInterface", SubnetId=place[subnet], **parameters)["NetworkInterface"])
        return made[-1]

    yield make
    for eni in made:
        netd.ec2("DeleteNetworkInterface", NetworkInterfaceId=eni["NetworkInterfaceId"])


def hold(guest, address):
    """A container's address, as its host sees it: not on eth0."""
    guest.sh(f"ip addr replace {address}/32 dev lo")


def hosts(prefix):
    return [str(a) for a in ipaddress.ip_network(prefix)]


def test_packets_of_a_prefix_are_its_guests(netd, guests, group):
    open_group, closed = group(TCP_80, PING), group()
    vpc_id = netd.ec2("DescribeVpcs", Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"][0]["VpcId"]
    subnets = netd.ec2("DescribeSubnets", Filters=[{"Name": "vpc-id", "Values": [vpc_id]}])["Subnets"]
    one = guests(groups=[open_group], SubnetId=subnets[0]["SubnetId"], Ipv4PrefixCount=1)
    near = guests(groups=[closed], SubnetId=subnets[0]["SubnetId"])
    far = guests(groups=[closed], SubnetId=subnets[1]["SubnetId"])
    for guest in (one, near, far):
        guest.dhcp()
    (prefix,) = prefixes(netd, one.eni)
    first, last = hosts(prefix)[0], hosts(prefix)[-1]
    for address in (first, last):
        hold(one, address)
    for guest in (near, far):
        assert guest.reaches(first) and guest.reaches(last)
        # Their own group lets nothing in.
        assert not one.ping(guest.address, 1, 1, "-I", last)
    netd.ec2("AuthorizeSecurityGroupIngress", GroupId=closed, IpPermissions=[from_group(open_group)])
    for guest in (near, far):
        assert one.reaches(guest.address, "-I", first) and one.reaches(guest.address, "-I", last)
    # One more comes while they talk, and one goes: its packets with it.
    with near.pinging(first) as answers:
        given = netd.ec2("AssignPrivateIpAddresses", NetworkInterfaceId=one.eni, Ipv4PrefixCount=1)
        (second,) = [p["Ipv4Prefix"] for p in given["AssignedIpv4Prefixes"]]
        hold(one, hosts(second)[7])
        assert near.reaches(hosts(second)[7]) and far.reaches(hosts(second)[7])
        netd.ec2("UnassignPrivateIpAddresses", NetworkInterfaceId=one.eni, Ipv4Prefixes=[second])
        assert not near.ping(hosts(second)[7]) and not far.ping(hosts(second)[7])
        assert not one.ping(near.address, 1, 1, "-I", hosts(second)[7])
    assert answers == list(range(1, len(answers) + 1))
    assert prefixes(netd, one.eni) == [prefix]


def test_nobody_else_sends_from_a_prefix(netd, guests, group):
    open_group = group(ALL)
    one, liar, far = guests(groups=[open_group], Ipv4PrefixCount=1), guests(groups=[open_group]), guests(groups=[open_group])
    for guest in (one, liar, far):
        guest.dhcp()
    address = hosts(prefixes(netd, one.eni)[0])[9]
    with far.listen(5000, socket.SOCK_DGRAM) as listener:
        for guest in (liar, one):
            hold(guest, address)
            with inside(guest.name):
                s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            with s:
                s.bind((address, 0))
                s.sendto(guest.name.encode(), (far.address, 5000))
        assert listener.recvfrom(100)[0] == one.name.encode()
    # Nor does its guest from beside it.
    block = ipaddress.ip_network(prefixes(netd, one.eni)[0])
    beside = next(a for a in map(str, (block[0] - 1, block[-1] + 1, block[-1] + 2)) if a not in (one.address, far.address))
    hold(one, beside)
    assert not one.ping(far.address, 1, 1, "-I", beside)


def test_what_a_person_breaks_of_a_prefix_is_mended(netd, guests, group):
    guest, other = guests(groups=[group(PING)], Ipv4PrefixCount=1), guests()
    guest.dhcp(), other.dhcp()
    (prefix,) = prefixes(netd, guest.eni)
    ns, address = router(guest.vpc), hosts(prefix)[3]
    hold(guest, address)
    assert other.reaches(address)
    for damage in (f"ip -n {ns} route del {prefix}", f"ip netns exec {ns} ipset del {guest.subnet} {address}", f"ip netns exec {ns} ipset del local {address}"):
        sh(damage)
        eventually(lambda: other.ping(address))
    assert sh(f"ip -n {ns} route show {prefix}").split()[:3] == [prefix, "via", guest.address]


def test_a_prefix_is_nobody_elses(netd, place, interface):
    before = free(netd, place["one"])
    one = interface(PrivateIpAddress="10.46.1.60", Ipv4Prefixes=[{"Ipv4Prefix": "10.46.1.16/28"}])
    assert one["Ipv4Prefixes"] == [{"Ipv4Prefix": "10.46.1.16/28"}] and free(netd, place["one"]) == before - 17
    eni = one["NetworkInterfaceId"]
    # No single address of it is given, by name or otherwise, and no prefix with a single address in it.
    refused("InvalidIPAddress.InUse", interface, PrivateIpAddress="10.46.1.20")
    refused("InvalidIPAddress.InUse", netd.ec2, "AssignPrivateIpAddresses", NetworkInterfaceId=eni, PrivateIpAddresses=["10.46.1.20"])
    refused("InvalidIPAddress.InUse", interface, PrivateIpAddress="10.46.1.61", Ipv4Prefixes=[{"Ipv4Prefix": "10.46.1.16/28"}])
    interface(PrivateIpAddress="10.46.1.40")
    refused("InvalidIPAddress.InUse", netd.ec2, "AssignPrivateIpAddresses", NetworkInterfaceId=eni, Ipv4Prefixes=["10.46.1.32/28"])
    refused("InvalidIPAddress.InUse", interface, PrivateIpAddress="10.46.1.33", Ipv4Prefixes=[{"Ipv4Prefix": "10.46.1.32/28"}])
    # Of 64 addresses the first and the last block have AWS's own.
    for block in ("10.46.1.0/28", "10.46.1.48/28"):
        refused("InvalidIPAddress.InUse", netd.ec2, "AssignPrivateIpAddresses", NetworkInterfaceId=eni, Ipv4Prefixes=[block])
    refused("InsufficientCidrBlocks", netd.ec2, "AssignPrivateIpAddresses", NetworkInterfaceId=eni, Ipv4PrefixCount=1)
    assert prefixes(netd, eni) == ["10.46.1.16/28"]
    # Again is no error, and nothing new.
    assert "AssignedIpv4Prefixes" not in netd.ec2("AssignPrivateIpAddresses", NetworkInterfaceId=eni, Ipv4Prefixes=["10.46.1.16/28"])
    for _ in range(before - 18):
        assert interface()["PrivateIpAddress"] not in hosts("10.46.1.16/28")
    assert free(netd, place["one"]) == 0
    netd.kill()
    netd.start()
    assert free(netd, place["one"]) == 0
    netd.ec2("UnassignPrivateIpAddresses", NetworkInterfaceId=eni, Ipv4Prefixes=["10.46.1.16/28"])
    assert free(netd, place["one"]) == 16 and "Ipv4Prefixes" not in show(netd, eni)
    assert interface()["PrivateIpAddress"] in hosts("10.46.1.16/28")


def test_reservations_for_prefixes_come_first(netd, place, interface):
    def reserve(cidr, kind):
        netd.ec2("CreateSubnetCidrReservation", SubnetId=place["two"], Cidr=cidr, ReservationType=kind)

    reserve("10.46.2.32/28", "prefix")
    reserve("10.46.2.16/29", "explicit")
    before = free(netd, place["two"])
    one = interface("two", PrivateIpAddress="10.46.2.5", Ipv4PrefixCount=1)
    assert one["Ipv4Prefixes"] == [{"Ipv4Prefix": "10.46.2.32/28"}]
    assert free(netd, place["two"]) == before - 1  # what is reserved was not counted
    # What is left is half a reservation: that may be named.
    refused("InsufficientCidrBlocks", interface, "two", PrivateIpAddress="10.46.2.6", Ipv4PrefixCount=1)
    assert interface("two", PrivateIpAddress="10.46.2.6", Ipv4Prefixes=[{"Ipv4Prefix": "10.46.2.16/28"}])["Ipv4Prefixes"] == [{"Ipv4Prefix": "10.46.2.16/28"}]
    assert free(netd, place["two"]) == before - 2 - 8


def address(n, **more):
    return {"PrivateIpAddress": f"10.46.1.{n}", **more}


def test_what_cannot_be_a_prefix(netd, interface):
    eni = {"NetworkInterfaceId": interface(PrivateIpAddresses=[address(60, Primary=True), address(61)])["NetworkInterfaceId"]}
    assign = "AssignPrivateIpAddresses"
    refused("InvalidParameterCombination", netd.ec2, assign, Ipv4Prefixes=["10.46.1.16/28"], Ipv4PrefixCount=1, **eni)
    refused("InvalidParameterCombination", interface, Ipv4Prefixes=[{"Ipv4Prefix": "10.46.1.16/28"}], Ipv4PrefixCount=1)
    for wrong in ("10.46.1.16", "10.46.1.16/29", "10.46.1.16/27", "10.46.1.20/28", "10.46.2.16/28", "me", "fd00::/80"):
        refused("InvalidParameterValue", netd.ec2, assign, Ipv4Prefixes=[wrong], **eni)
    refused("InvalidParameterValue", interface, Ipv4PrefixCount=-1)
    refused("MissingParameter", netd.ec2, assign, Ipv4PrefixCount=0, **eni)
    refused("PrivateIpAddressLimitExceeded", netd.ec2, assign, Ipv4PrefixCount=51, **eni)
    refused("InvalidParameterValue", netd.ec2, "UnassignPrivateIpAddresses", Ipv4Prefixes=["10.46.1.16/28"], **eni)
    # A prefix takes the place of an address, of which the type of an instance allows so many.
    born = {"_InstanceId": "i-00000000000000abc", "_DeviceIndex": 0, "_AddressLimit": 2}
    refused("PrivateIpAddressLimitExceeded", interface, PrivateIpAddress="10.46.1.5", Ipv4PrefixCount=1, SecondaryPrivateIpAddressCount=1, **born)
    refused("PrivateIpAddressLimitExceeded", interface, SecondaryPrivateIpAddressCount=2, **born)
    netd.ec2(assign, Ipv4PrefixCount=1, **eni)
    attach = {"InstanceId": "i-00000000000000abd", "DeviceIndex": 0, **eni}
    refused("PrivateIpAddressLimitExceeded", netd.ec2, "AttachNetworkInterface", _AddressLimit=2, **attach)
    assert len(prefixes(netd, eni["NetworkInterfaceId"])) == 1 and "Attachment" not in show(netd, eni["NetworkInterfaceId"])
