"""Prefixes of interfaces: blocks of a subnet that lead to one guest, which gives their addresses to whom it likes (to containers, say)."""

import contextlib
import ipaddress
import re
import socket

import pytest
from lab import ALL, Log, PATIENCE, PING, TCP_80, Refused, eventually, from_group, inside, refused, router, sh


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
    return made


@pytest.fixture
def interface(netd, place):
    made = []

    def make(subnet="one", **parameters):
        made.append(netd.ec2("CreateNetworkInterface", SubnetId=place[subnet], **parameters)["NetworkInterface"])
        return made[-1]

    yield make
    for eni in made:
        with contextlib.suppress(Refused):  # the test did
            netd.ec2("DeleteNetworkInterface", NetworkInterfaceId=eni["NetworkInterfaceId"])


def address(n, **more):
    return {"PrivateIpAddress": f"10.46.1.{n}", **more}


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


def test_of_thousands_of_addresses_none_is_mended_that_is_right(netd, vpc):
    """The kernel's listing of so many has some without their MAC; that is no reason to cut their flows, or to warn."""
    subnet = netd.ec2("CreateSubnet", VpcId=vpc("10.50.0.0/16"), CidrBlock="10.50.0.0/16")["Subnet"]
    born = [{"_InstanceId": f"i-{n:017x}", "_DeviceIndex": 0, "SubnetId": subnet["SubnetId"], "Ipv4PrefixCount": 49} for n in range(0xAB0, 0xABA)]
    made = [netd.ec2("CreateNetworkInterface", **b)["NetworkInterface"]["NetworkInterfaceId"] for b in born]
    inside = f"ip netns exec {router(subnet['VpcId'])}"
    try:
        netd.reconcile()
        members = [line.split()[2].split(",") for line in sh(f"{inside} ipset save {subnet['SubnetId']}").splitlines()[1:]]
        assert len(members) == 10 * (49 * 16 + 1)
        source = min(members, key=len)[0]
        sh(f"{inside} conntrack -I -s {source} -d 10.50.0.1 -p udp --sport 7 --dport 7 -t 600")
        netd.kill()
        netd.start()
        assert netd.reconcile() == 0
        assert source in sh(f"{inside} conntrack -L -s {source}")
    finally:
        for eni in made:
            netd.ec2("DeleteNetworkInterface", NetworkInterfaceId=eni, _Force=True)


def test_sets_have_room_for_all_addresses_of_a_vpc(netd, guests):
    """Five blocks of 65,536, which is as many as a set takes alone if it is not told otherwise."""
    headers = sh(f"ip netns exec {router(guests().vpc)} ipset list -t")
    rooms = [int(n) for n in re.findall(r"maxelem (\d+)", headers)]
    assert len(rooms) > 1 and min(rooms) >= 5 * 65536


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


def test_addresses_that_are_chosen_leave_the_free_blocks_to_prefixes(netd, place, interface):
    """Of 64 addresses two blocks can be prefixes: whoever asks for both and addresses gets them, whatever the lot."""
    for _ in range(8):
        one = interface(Ipv4PrefixCount=2, SecondaryPrivateIpAddressCount=3)
        blocks = [p["Ipv4Prefix"] for p in one["Ipv4Prefixes"]]
        assert sorted(blocks) == ["10.46.1.16/28", "10.46.1.32/28"]
        assert not {a["PrivateIpAddress"] for a in one["PrivateIpAddresses"]} & {a for b in blocks for a in hosts(b)}
        eni = {"NetworkInterfaceId": one["NetworkInterfaceId"]}
        netd.ec2("UnassignPrivateIpAddresses", Ipv4Prefixes=blocks, **eni)
        given = netd.ec2("AssignPrivateIpAddresses", Ipv4PrefixCount=2, SecondaryPrivateIpAddressCount=2, **eni)
        assert len(given["AssignedIpv4Prefixes"]) == len(given["AssignedPrivateIpAddresses"]) == 2
        netd.ec2("DeleteNetworkInterface", **eni)


def test_an_address_that_is_chosen_is_none_that_is_named_behind_it(netd, interface):
    free = [{"Primary": True}, {}, {}]
    named = [address(n) for n in range(4, 50)]  # nearly all there are
    for _ in range(8):
        one = interface(PrivateIpAddresses=[*free, *named])
        assert len(one["PrivateIpAddresses"]) == 49 and one["PrivateIpAddresses"][0]["Primary"]
        netd.ec2("DeleteNetworkInterface", NetworkInterfaceId=one["NetworkInterfaceId"])


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


def test_what_cannot_be_a_prefix(netd, interface):
    eni = {"NetworkInterfaceId": interface(PrivateIpAddresses=[address(60, Primary=True), address(61)])["NetworkInterfaceId"]}
    assign = "AssignPrivateIpAddresses"
    refused("InvalidParameterCombination", netd.ec2, assign, Ipv4Prefixes=["10.46.1.16/28"], Ipv4PrefixCount=1, **eni)
    refused("InvalidParameterCombination", interface, Ipv4Prefixes=[{"Ipv4Prefix": "10.46.1.16/28"}], Ipv4PrefixCount=1)
    for wrong in ("10.46.1.16", "10.46.1.16/29", "10.46.1.16/27", "10.46.1.20/28", "10.46.2.16/28", "me", "fd00::/80"):
        refused("InvalidParameterValue", netd.ec2, assign, Ipv4Prefixes=[wrong], **eni)
    # A count that says less than nothing, beside one that would do; and none, of what is there to add some.
    both, before = ("Ipv4PrefixCount", "SecondaryPrivateIpAddressCount"), show(netd, eni["NetworkInterfaceId"])
    for count, other in (both, both[::-1]):
        for more in ({}, {other: 1}):
            refused("InvalidParameterValue", interface, **{count: -1, **more})
            for wrong in (-1, 0):
                refused("InvalidParameterValue", netd.ec2, assign, **{count: wrong, **more, **eni})
    assert show(netd, eni["NetworkInterfaceId"]) == before
    interface(**dict.fromkeys(both, 0))
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


def connects_from(guest, source, to, port, timeout=PATIENCE):
    with inside(guest.name):
        s = socket.socket()
    with s:
        s.settimeout(timeout)
        s.bind((source, 0))
        return s.connect_ex((to, port)) == 0


def test_peers_know_a_prefix_by_its_group_and_acls_see_it(netd, side, peer):
    one, two = side("10.47.0.0/16"), side("10.48.0.0/16")
    peering = peer(one, two)
    one.route(two, peering), two.route(one, peering)
    friends = netd.ec2("CreateSecurityGroup", GroupName="friends", Description="afar", VpcId=two.vpc)["GroupId"]
    rule = [{"IpProtocol": "tcp", "FromPort": 8080, "ToPort": 8080, "UserIdGroupPairs": [{"GroupId": friends}]}]
    netd.ec2("AuthorizeSecurityGroupIngress", GroupId=one.group, IpPermissions=rule)
    netd.ec2("ModifyNetworkInterfaceAttribute", NetworkInterfaceId=two.guest.eni, Groups=[two.group, friends])
    ((prefix,),) = [p.values() for p in netd.ec2("AssignPrivateIpAddresses", NetworkInterfaceId=two.guest.eni, Ipv4PrefixCount=1)["AssignedIpv4Prefixes"]]
    address = hosts(prefix)[5]
    hold(two.guest, address)
    with one.guest.listen(8080):
        assert eventually(lambda: connects_from(two.guest, address, one.guest.address, 8080))
        assert one.guest.reaches(address)
        (acl,) = netd.ec2("DescribeNetworkAcls", Filters=[{"Name": "vpc-id", "Values": [one.vpc]}])["NetworkAcls"]
        entry = {"NetworkAclId": acl["NetworkAclId"], "RuleNumber": 50, "Egress": False}
        netd.ec2("CreateNetworkAclEntry", Protocol="-1", RuleAction="deny", CidrBlock=prefix, **entry)
        assert not connects_from(two.guest, address, one.guest.address, 8080, 0.7)
        assert two.guest.connects(one.guest.address, 8080)
        netd.ec2("DeleteNetworkAclEntry", **entry)
        assert connects_from(two.guest, address, one.guest.address, 8080)
    netd.ec2("RevokeSecurityGroupIngress", GroupId=one.group, IpPermissions=rule)
    netd.ec2("ModifyNetworkInterfaceAttribute", NetworkInterfaceId=two.guest.eni, Groups=[two.group])
    netd.ec2("DeleteSecurityGroup", GroupId=friends)


def test_a_prefix_gets_out_by_a_nat_gateway_and_not_by_the_internet_gateway(netd, guests, site):
    place = site("10.49.0.0/16")
    inner, outer = guests(SubnetId=place.private, Ipv4PrefixCount=1), guests(SubnetId=place.public, Ipv4PrefixCount=1)
    public = place.elastic()
    nat = place.nat(AllocationId=public["AllocationId"])
    netd.ec2("CreateRoute", RouteTableId=place.tables[1], NatGatewayId=nat["NatGatewayId"], DestinationCidrBlock="0.0.0.0/0")
    for guest in (inner, outer):
        guest.dhcp()
        guest.held = hosts(prefixes(netd, guest.eni)[0])[3]
        hold(guest, guest.held)
    with socket.create_server(("203.0.113.1", 8085)) as outside:
        outside.settimeout(PATIENCE)
        assert eventually(lambda: connects_from(inner, inner.held, "203.0.113.1", 8085))
        assert outside.accept()[1][0] == public["PublicIp"]
        # It has no public address, though its guest's primary address has one.
        assert not connects_from(outer, outer.held, "203.0.113.1", 8085, 0.7)
        assert connects_from(outer, outer.address, "203.0.113.1", 8085)


def test_flow_logs_tell_of_the_interface_that_has_the_prefix(netd, guests, group):
    one, other = guests(groups=[group(TCP_80)], Ipv4PrefixCount=1), guests()
    one.dhcp(), other.dhcp()
    address = hosts(prefixes(netd, one.eni)[0])[2]
    hold(one, address)
    log = Log(netd, "NetworkInterface", one.eni)
    with one.listen(), one.listen(81):
        assert other.connects(address) and not other.can_connect(address, 81)
    mine = {"interface_id": one.eni, "srcaddr": other.address, "dstaddr": one.address, "flow_direction": "ingress"}
    assert eventually(lambda: log.rows(dstport=80, action="ACCEPT", **mine))
    assert eventually(lambda: log.rows(dstport=81, action="REJECT", **mine))
    netd.ec2("DeleteFlowLogs", FlowLogIds=[log.id])
