"""IPv6 within VPCs: groups, ACLs, names, metadata, and guests that lie."""

import contextlib
import ipaddress
import os
import re
import socket

import pytest
from lab import PATIENCE, Log, dns, eventually, from_group, inside, refused, router, sh
from lab_ipv6 import ALL_6, TCP_80_6, Six, add_address, association, can_connect, configure, connects, default_route, lease, listen, solicit


def test_a_guest_learns_its_router_and_its_addresses(six):
    guest = six.guest(Ipv6AddressCount=2, ask=False)
    assert eventually(lambda: default_route(guest))[1] == "fe80::1"
    assert str(six.blocks[1]) in guest.sh("ip -6 route show dev eth0")
    addresses, said = lease(guest)
    assert addresses == guest.six and len(addresses) == 2
    assert said[23] == socket.inet_pton(socket.AF_INET6, "fd00:ec2::253")
    assert said[24] == b"\3ec2\10internal\0"
    assert guest.sh("ip -6 addr show dev eth0").count("inet6") == 1, "no address of its own making"
    configure(guest, dad=True)
    kind, options = solicit(guest, 4, association("2001:db8::7"))
    assert kind == 7 and dict(options)[13][:2] == b"\0\4", "not on this link"
    assert six.netd.reconcile() == 0


def test_members_of_a_group_reach_one_another_within_and_across_subnets(six):
    friends = six.group()
    six.netd.ec2("AuthorizeSecurityGroupIngress", GroupId=friends, IpPermissions=[from_group(friends)])
    one, two, three = (six.guest(subnet, groups=[friends]) for subnet in (0, 0, 1))
    stranger = six.guest(groups=[six.group()])
    with listen(two), listen(three), listen(stranger):
        assert connects(one, two.six[0]) and connects(one, three.six[0])
        assert can_connect(three, one.six[0]) is False, "nobody listens there"
        assert not can_connect(one, stranger.six[0]) and not can_connect(stranger, two.six[0])
    assert two.reaches(one.six[0]) and three.reaches(one.six[0])
    assert stranger.ping(one.six[0]) == 0
    assert one.reaches(two.six[0], "-M do -s 8900")


def test_a_group_lets_in_what_it_allows_by_address(six):
    web, other = six.guest(groups=[six.group(TCP_80_6)]), six.guest(1, groups=[six.group()])
    with listen(web, 80), listen(web, 81), listen(other):
        assert connects(other, web.six[0], 80)
        assert not can_connect(other, web.six[0], 81)
        assert not can_connect(web, other.six[0])
    assert other.ping(web.six[0]) == 0


def test_flow_logs_have_both_verdicts_and_the_rule(six):
    web, other = six.guest(groups=[six.group(TCP_80_6)]), six.guest(1, groups=[six.group()])
    log = Log(six.netd, "NetworkInterface", web.eni)
    with listen(web, 80), listen(web, 81):
        assert connects(other, web.six[0], 80) and not can_connect(other, web.six[0], 81)
    mine = {"interface_id": web.eni, "type": "IPv6", "srcaddr": other.six[0], "flow_direction": "ingress"}
    (rule,) = {row["gureum-rule-id"] for row in eventually(lambda: log.rows(dstport=80, action="ACCEPT", **mine))}
    assert rule.startswith("sgr-")
    assert eventually(lambda: log.rows(dstport=81, action="REJECT", **mine))
    six.netd.ec2("DeleteFlowLogs", FlowLogIds=[log.id])


def test_many_addresses_are_checked_by_their_digits(six):
    group = six.group(ALL_6)
    few, liar = six.guest(groups=[group]), six.guest(groups=[group])
    many = six.guest(groups=[group], Ipv6AddressCount=14)

    def chains():
        saved = sh(f"ip netns exec {router(six.id)} ip6tables-nft-save -t raw")
        return re.findall(r"^:(from-\S+)", saved, re.M)

    def says(address):
        return many.reaches(few.six[0], "-I", address)

    def assign(addresses):
        six.netd.ec2("AssignIpv6Addresses", NetworkInterfaceId=many.eni, Ipv6Addresses=addresses)
        for address in addresses:
            add_address(many.sh, f"{address}/128", "eth0", "nodad")

    assert len(chains()) == 1
    # More, and such that end alike: sixteen and more with the same last digits.
    alike = [str(ipaddress.ip_address(int(six.blocks[1].network_address) + (i << 48) + 0x77)) for i in range(1, 21)]
    with many.pinging(few.six[0], "-I", many.six[0]) as answers:
        assign(alike[:10])
        assert 2 < len(chains()) < 20
        assign(alike[10:])
        assert max(map(len, chains())) == len("from-") + 15 + len("-") + 7
        for address in [*many.six, *alike]:
            assert says(address), address
            add_address(liar.sh, f"{address}/128", "eth0", "nodad")
            assert liar.ping(few.six[0], 1, 0.2, f"-I {address}") == 0, address
        assert six.netd.reconcile() == 0
        six.netd.ec2("UnassignIpv6Addresses", NetworkInterfaceId=many.eni, Ipv6Addresses=alike)
        assert len(chains()) == 1 and says(many.six[0])
    assert many.ping(few.six[0], 1, 1, "-I", alike[0]) == 0
    assert answers == list(range(1, len(answers) + 1))


def test_extension_headers_hide_nothing_from_groups_and_flow_logs(six):
    web, other = six.guest(groups=[six.group(TCP_80_6)]), six.guest(1, groups=[six.group()])
    log = Log(six.netd, "NetworkInterface", web.eni)
    mine = {"interface_id": web.eni, "srcaddr": other.six[0], "flow_direction": "ingress"}
    padding = b"\0\0\1\4" + bytes(4)
    long = b"\0\x0c\x1e\x64" + bytes(100)  # RFC 4727: an option to be skipped

    def socket_with(kind, hop_by_hop=padding, destination=padding):
        with inside(other.name):
            s = socket.socket(socket.AF_INET6, kind)
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_HOPOPTS, hop_by_hop)
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_DSTOPTS, destination)
        s.settimeout(0.7)
        return s

    with listen(web, 80), listen(web, 81), socket_with(socket.SOCK_STREAM) as good, socket_with(socket.SOCK_STREAM, long) as bad:
        good.settimeout(PATIENCE)
        assert good.connect_ex((web.six[0], 80)) == 0
        assert bad.connect_ex((web.six[0], 81)) != 0
    with inside(web.name):
        receiver = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    with receiver, socket_with(socket.SOCK_DGRAM) as sender:
        receiver.bind(("::", 80))
        receiver.settimeout(0.3)
        sender.sendto(b"hidden?", (web.six[0], 80))
        with pytest.raises(TimeoutError):
            receiver.recv(10)
    assert eventually(lambda: log.rows(protocol=6, dstport=80, action="ACCEPT", **mine))
    assert eventually(lambda: log.rows(protocol=6, dstport=81, action="REJECT", **mine))
    assert eventually(lambda: log.rows(protocol=17, dstport=80, action="REJECT", **mine))
    assert {row["protocol"] for row in log.rows(**mine)} <= {"6", "17"}
    # What an ACL denies by port is denied in that disguise, too.
    entry = {"NetworkAclId": six.acl, "RuleNumber": 90, "Egress": False, "Protocol": "6", "PortRange": {"From": 80, "To": 80}}
    six.netd.ec2("CreateNetworkAclEntry", RuleAction="deny", Ipv6CidrBlock="::/0", **entry)
    with listen(web, 80), socket_with(socket.SOCK_STREAM) as denied:
        assert denied.connect_ex((web.six[0], 80)) != 0
    six.netd.ec2("DeleteNetworkAclEntry", NetworkAclId=six.acl, RuleNumber=90, Egress=False)
    six.netd.ec2("DeleteFlowLogs", FlowLogIds=[log.id])


def test_fragments_pass_where_the_whole_would(six):
    web, other = six.guest(groups=[six.group({**TCP_80_6, "IpProtocol": "udp"})]), six.guest(1, groups=[six.group()])
    long = os.urandom(30000)
    with inside(web.name):
        receivers = [socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) for _ in range(2)]
    for port, receiver in zip((80, 81), receivers):
        receiver.bind(("::", port))
        receiver.settimeout(0.5)
    with inside(other.name):
        sender = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    for port in 80, 81:
        sender.sendto(long, (web.six[0], port))
    receivers[0].settimeout(PATIENCE)
    assert receivers[0].recv(40000) == long
    with pytest.raises(TimeoutError):
        receivers[1].recv(40000)
    for s in sender, *receivers:
        s.close()


def test_a_middlebox_between_two_subnets(six):
    netd, group = six.netd, six.group(ALL_6)
    table = netd.ec2("CreateRouteTable", VpcId=six.id)["RouteTable"]["RouteTableId"]
    association = netd.ec2("AssociateRouteTable", RouteTableId=table, SubnetId=six.subnets[1])["AssociationId"]
    box, inner, other = six.guest(groups=[group]), six.guest(1, groups=[group]), six.guest(groups=[group])
    box.sh("sysctl -qw net.ipv6.conf.all.forwarding=1")
    # A router hears no advertisements: it is told.
    box.sh("ip -6 route replace default via fe80::1 dev eth0")
    netd.ec2("CreateRoute", RouteTableId=table, DestinationIpv6CidrBlock=str(six.blocks[1]), NetworkInterfaceId=box.eni)
    assert inner.ping(other.six[0]) == 0, "the box may not pass on what is another's"
    netd.ec2("ModifyNetworkInterfaceAttribute", NetworkInterfaceId=box.eni, SourceDestCheck={"Value": False})
    assert inner.reaches(other.six[0])
    box.sh("ip6tables-nft -A FORWARD -j DROP")
    assert inner.ping(other.six[0]) == 0
    netd.ec2("DisassociateRouteTable", AssociationId=association)
    assert inner.reaches(other.six[0])
    netd.ec2("DeleteRouteTable", RouteTableId=table)


def test_an_acl_denies_between_subnets(six):
    one, two = six.guest(), six.guest(1)
    entry = {"NetworkAclId": six.acl, "RuleNumber": 90, "Egress": False, "Ipv6CidrBlock": str(six.blocks[2])}
    assert two.reaches(one.six[0])
    log = Log(six.netd, "NetworkInterface", one.eni)
    six.netd.ec2("CreateNetworkAclEntry", Protocol="58", RuleAction="deny", IcmpTypeCode={"Type": 128, "Code": -1}, **entry)
    assert two.ping(one.six[0]) == 0
    (row,) = eventually(lambda: log.rows(action="REJECT", protocol=58))
    assert row["gureum-rule-id"] == f"{six.acl}/90-ingress"
    six.netd.ec2("DeleteFlowLogs", FlowLogIds=[log.id])
    with listen(one):
        assert connects(two, one.six[0])
    six.netd.ec2("DeleteNetworkAclEntry", NetworkAclId=six.acl, RuleNumber=90, Egress=False)
    assert two.reaches(one.six[0])


def test_addresses_come_and_go_under_a_running_guest(six):
    guest, other = six.guest(Ipv6AddressCount=0, ask=False), six.guest()
    assert guest.six == []
    wanted = str(six.blocks[1][0x1234])
    assigned = six.netd.ec2("AssignIpv6Addresses", NetworkInterfaceId=guest.eni, Ipv6Addresses=[wanted])
    assert assigned["AssignedIpv6Addresses"] == [wanted]
    guest.six = [wanted]
    configure(guest)
    assert other.reaches(wanted)
    refused("InvalidIPAddress.InUse", six.netd.ec2, "AssignIpv6Addresses", NetworkInterfaceId=other.eni, Ipv6Addresses=[wanted])
    six.netd.ec2("UnassignIpv6Addresses", NetworkInterfaceId=guest.eni, Ipv6Addresses=[wanted])
    assert other.ping(wanted) == 0 and guest.ping(other.six[0]) == 0
    refused("InvalidParameterValue", six.netd.ec2, "UnassignIpv6Addresses", NetworkInterfaceId=guest.eni, Ipv6Addresses=[wanted])


def test_the_resolver_answers_over_ipv6(six):
    guest = six.guest()
    assert dns(guest, "fd00:ec2::253", guest.private_name) in ((0, [guest.address]), (3, []))  # names are the VPC's attribute
    assert dns(guest, "fd00:ec2::253", "instance-data.ec2.internal", stream=True) == (0, ["169.254.169.254"])


def test_instances_ids_are_resolved_by_ipv6_where_their_options_say_so(six):
    netd, subnet = six.netd, six.subnets[0]
    netd.ec2("ModifyVpcAttribute", VpcId=six.id, EnableDnsHostnames={"Value": True})
    netd.ec2("ModifySubnetAttribute", SubnetId=subnet, EnableResourceNameDnsAAAARecordOnLaunch={"Value": True})
    (shown,) = netd.ec2("DescribeSubnets", SubnetIds=[subnet])["Subnets"]
    assert shown["PrivateDnsNameOptionsOnLaunch"]["EnableResourceNameDnsAAAARecord"] is True
    guest = six.guest()
    name = f"{guest.instance}.ec2.internal"
    reverse = ipaddress.ip_address(guest.six[0]).reverse_pointer

    def resolved():
        code, six_records = dns(guest, "fd00:ec2::253", name, kind=28)
        assert dns(guest, "fd00:ec2::253", name)[0] == code
        return code, [socket.inet_ntop(socket.AF_INET6, r) for r in six_records], dns(guest, "fd00:ec2::253", name)[1]

    assert resolved() == (0, guest.six, [])
    code, (pointer,) = dns(guest, "fd00:ec2::253", reverse, kind=12)
    assert code == 0 and guest.instance.encode() in pointer

    def modify(**options):
        netd.ec2("ModifyPrivateDnsNameOptions", InstanceId=guest.instance, **options)
        return netd.ec2("DescribeNetworkInterfaces", NetworkInterfaceIds=[guest.eni])["NetworkInterfaces"][0]["PrivateDnsName"]

    by_address = modify(EnableResourceNameDnsARecord=True)
    assert by_address == "ip-" + guest.address.replace(".", "-") + ".ec2.internal"
    assert resolved() == (0, guest.six, [guest.address])
    assert modify(EnableResourceNameDnsAAAARecord=False) == by_address
    assert resolved() == (0, [], [guest.address]) and dns(guest, "fd00:ec2::253", reverse, kind=12) == (3, [])
    assert modify(PrivateDnsHostnameType="resource-name", EnableResourceNameDnsARecord=False) == name
    assert resolved() == (3, [], [])
    assert modify(PrivateDnsHostnameType="ip-name") == by_address
    refused("InvalidInstanceID.NotFound", netd.ec2, "ModifyPrivateDnsNameOptions", InstanceId="i-00000000000000000", EnableResourceNameDnsARecord=True)


def test_metadata_is_answered_over_ipv6_and_of_ones_own_vpc_alone(six, netd, guests):
    here = six.guest()
    assert not can_connect(here, "fd00:ec2::254", 80)  # nobody listens
    other = Six(netd, guests)
    there = other.guest()
    listeners = []
    for guest in here, there:
        passed = [socket.socket(fileno=fd) for fd in netd.call("gureum.OpenMetadata", fds=True, VpcId=guest.vpc)]
        assert [s.family for s in passed] == [socket.AF_INET, socket.AF_INET6]
        passed[0].close()
        listeners.append(passed[1])
    for guest, mine, others in (here, *listeners), (there, *reversed(listeners)):
        assert connects(guest, "fd00:ec2::254", 80)
        mine.settimeout(PATIENCE)
        assert mine.accept()[1][0] == guest.six[0]
        others.settimeout(0.3)
        with pytest.raises(TimeoutError):
            others.accept()
        assert guest.reaches("fd00:ec2::254")
    for listener in listeners:
        listener.close()
    there.delete()
    other.end()


def test_metadata_listens_before_ipv6_comes(netd, vpc, guests):
    vpc_id = vpc("10.41.0.0/16")
    subnet = netd.ec2("CreateSubnet", VpcId=vpc_id, CidrBlock="10.41.1.0/24")["Subnet"]["SubnetId"]
    guest = guests(public=False, SubnetId=subnet)
    passed = [socket.socket(fileno=fd) for fd in netd.call("gureum.OpenMetadata", fds=True, VpcId=vpc_id)]
    added = netd.ec2("AssociateVpcCidrBlock", VpcId=vpc_id, AmazonProvidedIpv6CidrBlock=True)["Ipv6CidrBlockAssociation"]
    netd.ec2("AssociateSubnetCidrBlock", SubnetId=subnet, Ipv6CidrBlock=added["Ipv6CidrBlock"].replace("/56", "/64"))
    guest.six = netd.ec2("AssignIpv6Addresses", NetworkInterfaceId=guest.eni, Ipv6AddressCount=1)["AssignedIpv6Addresses"]
    configure(guest)
    assert connects(guest, "fd00:ec2::254", 80)
    for listener in passed:
        listener.close()


def test_ipv6_comes_to_a_running_vpc_and_goes_again(netd, vpc, guests):
    vpc_id = vpc("10.40.0.0/16")
    subnet = netd.ec2("CreateSubnet", VpcId=vpc_id, CidrBlock="10.40.1.0/24")["Subnet"]["SubnetId"]
    one, two = guests(public=False, SubnetId=subnet), guests(public=False, SubnetId=subnet)
    one.dhcp(), two.dhcp()
    assert sh(f"ip -n {router(vpc_id)} -6 addr") == ""
    added = netd.ec2("AssociateVpcCidrBlock", VpcId=vpc_id, AmazonProvidedIpv6CidrBlock=True)["Ipv6CidrBlockAssociation"]
    block = added["Ipv6CidrBlock"].replace("/56", "/64")
    got = netd.ec2("AssociateSubnetCidrBlock", SubnetId=subnet, Ipv6CidrBlock=block)["Ipv6CidrBlockAssociation"]
    for guest in one, two:
        guest.six = netd.ec2("AssignIpv6Addresses", NetworkInterfaceId=guest.eni, Ipv6AddressCount=1)["AssignedIpv6Addresses"]
        configure(guest)
    assert one.reaches(two.six[0]) and one.reaches(two.address)
    assert netd.reconcile() == 0

    for guest in one, two:
        netd.ec2("UnassignIpv6Addresses", NetworkInterfaceId=guest.eni, Ipv6Addresses=guest.six)
    netd.ec2("DisassociateSubnetCidrBlock", AssociationId=got["AssociationId"])
    netd.ec2("DisassociateVpcCidrBlock", AssociationId=added["AssociationId"])
    eventually(lambda: sh(f"ip -n {router(vpc_id)} -6 addr") == "")
    assert netd.reconcile() == 0
    inside_router = f"ip netns exec {router(vpc_id)}"
    sets = sh(f"{inside_router} ipset list -n").split()
    assert not [name for name in sets if name.endswith("-6")]
    assert "-A" not in sh(f"{inside_router} ip6tables-nft-save")
    assert one.ping(two.six[0]) == 0 and one.reaches(two.address)


# ---- liars ----


def test_a_source_that_is_not_the_guests_is_dropped(six):
    liar, victim, other = (six.guest(groups=[six.group(ALL_6)]) for _ in range(3))
    with inside(victim.name):
        heard = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x86DD))
    free = str(six.blocks[1][0x77])
    for lie in (other.six[0], free, str(six.blocks[2][0x77]), "2001:db8::1"):
        add_address(liar.sh, f"{lie}/128", "eth0", "nodad")
        assert liar.ping(victim.six[0], 1, 1, f"-I {lie}") == 0
    link_local = re.search(r"inet6 (fe80\S+)/64", liar.sh("ip -6 addr show dev eth0"))[1]
    assert liar.ping(victim.six[0], 1, 1, f"-I {link_local}%eth0") == 0
    assert liar.reaches(victim.six[0], f"-I {liar.six[0]}")
    heard.setblocking(False)
    sources = []
    with contextlib.suppress(BlockingIOError), heard:
        while packet := heard.recv(2000):
            if packet[6] == 58 and packet[40] == 128:
                sources.append(socket.inet_ntop(socket.AF_INET6, packet[8:24]))
    assert sources == [liar.six[0]]


def test_claims_of_neighbours_change_nothing(six):
    liar, victim, other = (six.guest(groups=[six.group(ALL_6)]) for _ in range(3))
    assert other.reaches(victim.six[0])
    add_address(liar.sh, f"{victim.six[0]}/128", "eth0", "nodad")
    liar.sh("sysctl -qw net.ipv6.conf.eth0.ndisc_notify=1")
    liar.sh("ip link set eth0 down && ip link set eth0 up", check=False)
    liar.sh("ip -6 neigh replace fe80::1 lladdr 02:67:75:00:00:01 dev eth0 nud permanent")
    assert all(other.reaches(victim.six[0]) for _ in range(3))
    assert victim.mac in sh(f"ip -n {router(six.id)} -6 neigh show {victim.six[0]}")


def test_a_vpc_without_ipv6_hears_nothing(guests):
    guest = guests()
    sent = guest.sh("sysctl -n net.ipv6.conf.eth0.router_solicitations")
    assert int(sent) != 0
    eventually(lambda: re.search(r"inet6 fe80\S+ scope link (?!tentative)", guest.sh("ip -6 addr show dev eth0")))
    assert solicit(guest, options=association(), wait=0.3, n=5) is None
    assert not default_route(guest)
    assert guest.ping("fe80::1%eth0") == 0
    assert sh(f"ip -n {router(guest.vpc)} -6 addr") == ""
    assert "gureum" not in sh("ip6tables-nft-save")
