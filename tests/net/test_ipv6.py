"""IPv6 in VPCs: what the API promises, and that packets say so."""

import contextlib
import ipaddress
import os
import re
import signal
import socket
import subprocess

import pytest
from lab import PATIENCE, Refused, dns, eventually, from_group, inside, ours, refused, router, sh
from test_crashes import die_at_every_step
from test_flow_logs import Log

ALL_6 = {"IpProtocol": "-1", "Ipv6Ranges": [{"CidrIpv6": "::/0"}]}
TCP_80_6 = {"IpProtocol": "tcp", "FromPort": 80, "ToPort": 80, "Ipv6Ranges": [{"CidrIpv6": "::/0"}]}
OUTSIDE = "2001:db8:1::1"


class Six:
    """A VPC with IPv6, two subnets of it, and guests in them."""

    def __init__(self, netd, guests):
        self.netd, self.guests = netd, guests
        self.vpc = netd.ec2("CreateVpc", CidrBlock="10.30.0.0/16", AmazonProvidedIpv6CidrBlock=True)["Vpc"]
        self.id = self.vpc["VpcId"]
        self.block = ipaddress.ip_network(self.vpc["Ipv6CidrBlockAssociationSet"][0]["Ipv6CidrBlock"])
        self.blocks = list(self.block.subnets(new_prefix=64))
        self.subnets = [
            netd.ec2("CreateSubnet", VpcId=self.id, CidrBlock=f"10.30.{i}.0/24", Ipv6CidrBlock=str(self.blocks[i]))["Subnet"]["SubnetId"]
            for i in (1, 2)
        ]
        filters = [{"Name": "vpc-id", "Values": [self.id]}]
        self.table = netd.ec2("DescribeRouteTables", Filters=filters)["RouteTables"][0]["RouteTableId"]
        self.acl = netd.ec2("DescribeNetworkAcls", Filters=filters)["NetworkAcls"][0]["NetworkAclId"]
        self.made, self.guests_made = [], []

    def guest(self, subnet=0, ask=True, **more):
        more.setdefault("Ipv6AddressCount", 1)
        guest = self.guests(public=False, SubnetId=self.subnets[subnet], **more)
        self.guests_made.append(guest)
        eni = self.netd.ec2("DescribeNetworkInterfaces", NetworkInterfaceIds=[guest.eni])["NetworkInterfaces"][0]
        guest.six = [a["Ipv6Address"] for a in eni["Ipv6Addresses"]]
        if ask:
            configure(guest)
        return guest

    def group(self, *permissions):
        name = f"six-{os.urandom(4).hex()}"
        group_id = self.netd.ec2("CreateSecurityGroup", GroupName=name, Description="of a test", VpcId=self.id)["GroupId"]
        if permissions:
            self.netd.ec2("AuthorizeSecurityGroupIngress", GroupId=group_id, IpPermissions=list(permissions))
        self.made.append(group_id)
        return group_id

    def end(self):
        for subnet in self.subnets:
            self.netd.ec2("DeleteSubnet", SubnetId=subnet)
        for group_id in self.made:
            self.netd.ec2("DeleteSecurityGroup", GroupId=group_id)
        self.netd.ec2("DeleteVpc", VpcId=self.id)


@pytest.fixture
def six(netd, guests):
    made = Six(netd, guests)
    yield made
    for guest in made.guests_made:
        try:
            guest.delete()
        except Refused:
            pass  # the test did
    made.end()


def default_route(guest):
    return re.search(r"default via (\S+) dev eth0 proto ra", guest.sh("ip -6 route show default"))


def solicit(guest, kind=1, options=b"", wait=1, n=PATIENCE):
    """One DHCPv6 exchange: the answer's type and its options as a list of (code, value), or None."""
    identifier = b"\0\1\0\x0a" + b"\0\3\0\1" + bytes.fromhex(guest.mac.replace(":", ""))
    message = bytes([kind]) + b"abc" + identifier + options
    with inside(guest.name):
        s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        index = socket.if_nametoindex("eth0")
    with s:
        s.bind(("::", 546))
        for _ in range(n):
            s.settimeout(wait)
            s.sendto(message, ("ff02::1:2", 547, 0, index))
            try:
                answer = s.recv(2000)
                break
            except TimeoutError:
                continue
        else:
            return None
    assert answer[1:4] == b"abc"
    return answer[0], parse(answer[4:])


def parse(rest):
    found = []
    while rest:
        code, n = int.from_bytes(rest[:2], "big"), int.from_bytes(rest[2:4], "big")
        found.append((code, rest[4 : 4 + n]))
        rest = rest[4 + n :]
    return found


def association(address=None):
    inner = b"\0\5\0\x18" + socket.inet_pton(socket.AF_INET6, address) + bytes(8) if address else b""
    return b"\0\3" + (12 + len(inner)).to_bytes(2, "big") + b"\0\0\0\1" + bytes(8) + inner


def lease(guest):
    """The addresses that DHCPv6 gives, by rapid commit; and what else was said."""
    eventually(lambda: re.search(r"inet6 fe80\S+ scope link (?!tentative)", guest.sh("ip -6 addr show dev eth0")))
    kind, options = solicit(guest, options=association() + b"\0\x0e\0\0")
    assert kind == 7
    said = dict(options)
    return [socket.inet_ntop(socket.AF_INET6, v[:16]) for c, v in parse(said[3][12:]) if c == 5], said


def configure(guest, dad=False):
    """As a guest does: the router and the subnet by its advertisement, the addresses by DHCPv6."""
    eventually(lambda: default_route(guest))
    addresses, _ = lease(guest)
    assert addresses == guest.six
    guest.sh("sysctl -qw net.ipv6.conf.eth0.dad_transmits=" + ("1" if dad else "0"))
    for address in addresses:
        guest.sh(f"ip -6 addr add {address}/128 dev eth0")
    eventually(lambda: "tentative" not in guest.sh("ip -6 addr show dev eth0"))
    assert "dadfailed" not in guest.sh("ip -6 addr show dev eth0")


def listen(guest, port=80):
    with inside(guest.name):
        s = socket.socket(socket.AF_INET6)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(("::", port))
    s.listen()
    s.settimeout(PATIENCE)
    return s


def can_connect(guest, to, port=80, timeout=0.7):
    with inside(guest.name):
        s = socket.socket(socket.AF_INET6)
    with s:
        s.settimeout(timeout)
        return s.connect_ex((to, port)) == 0


def connects(guest, to, port=80):
    return can_connect(guest, to, port, PATIENCE)


@pytest.fixture
def outside():
    """An address beyond the host, as far as this host can tell."""
    sh(f"ip -6 addr add {OUTSIDE}/128 dev lo nodad")
    yield OUTSIDE
    sh(f"ip -6 addr del {OUTSIDE}/128 dev lo")


# ---- inside ----


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
    (passed,) = eventually(lambda: log.rows(dstport=80, action="ACCEPT", **mine))
    assert passed["gureum-rule-id"].startswith("sgr-")
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
        return many.ping(few.six[0], 1, 1, f"-I {address}")

    def assign(addresses):
        six.netd.ec2("AssignIpv6Addresses", NetworkInterfaceId=many.eni, Ipv6Addresses=addresses)
        for address in addresses:
            many.sh(f"ip -6 addr add {address}/128 dev eth0 nodad")

    assert len(chains()) == 1
    # More, and such that end alike: sixteen and more with the same last digits.
    alike = [str(ipaddress.ip_address(int(six.blocks[1].network_address) + (i << 48) + 0x77)) for i in range(1, 21)]
    flow = subprocess.Popen(["ip", "netns", "exec", many.name, "ping", "-6", "-q", "-i0.01", "-c150", "-I", many.six[0], few.six[0]], stdout=subprocess.PIPE, text=True)
    assign(alike[:10])
    assert 2 < len(chains()) < 20
    assign(alike[10:])
    assert max(map(len, chains())) == len("from-") + 15 + len("-") + 7
    for address in [*many.six, *alike]:
        assert says(address) == 1, address
        liar.sh(f"ip -6 addr add {address}/128 dev eth0 nodad")
        assert liar.ping(few.six[0], 1, 0.2, f"-I {address}") == 0, address
    assert six.netd.reconcile() == 0
    six.netd.ec2("UnassignIpv6Addresses", NetworkInterfaceId=many.eni, Ipv6Addresses=alike)
    assert len(chains()) == 1 and says(alike[0]) == 0 and says(many.six[0]) == 1
    assert " 0% packet loss" in flow.communicate()[0]


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
        liar.sh(f"ip -6 addr add {lie}/128 dev eth0 nodad")
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
    liar.sh(f"ip -6 addr add {victim.six[0]}/128 dev eth0 nodad")
    liar.sh("sysctl -qw net.ipv6.conf.eth0.ndisc_notify=1")
    liar.sh("ip link set eth0 down && ip link set eth0 up", check=False)
    liar.sh(f"ip -6 neigh replace fe80::1 lladdr 02:67:75:00:00:01 dev eth0 nud permanent")
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


# ---- outside ----


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
        sh("ip -6 addr add 2001:db8:2::1/64 dev up6 nodad && ip link set up6 up && ip -6 route add default via 2001:db8:2::2 dev up6")
        sh("ip -n far6 -6 addr add 2001:db8:2::2/64 dev far6 nodad && ip -n far6 link set far6 up")
        gateway = six.netd.ec2("CreateEgressOnlyInternetGateway", VpcId=six.id)["EgressOnlyInternetGateway"]
        gateway = gateway["EgressOnlyInternetGatewayId"]
        six.netd.ec2("CreateRoute", RouteTableId=six.table, DestinationIpv6CidrBlock="::/0", EgressOnlyInternetGatewayId=gateway)
        guest = six.guest()
        assert guest.reaches("2001:db8:2::2"), "the far end knows no way to the guest's own address"
        six.netd.ec2("DeleteEgressOnlyInternetGateway", EgressOnlyInternetGatewayId=gateway)
    finally:
        sh("ip link del up6; ip netns del far6", check=False)


# ---- what the API says ----


def test_blocks_are_given_and_taken_back(netd, vpc):
    vpc_id = vpc()
    assert netd.ec2("DescribeVpcs", VpcIds=[vpc_id])["Vpcs"][0]["Ipv6CidrBlockAssociationSet"] == []
    added = netd.ec2("AssociateVpcCidrBlock", VpcId=vpc_id, AmazonProvidedIpv6CidrBlock=True)["Ipv6CidrBlockAssociation"]
    assert added["Ipv6CidrBlockState"]["State"] == "associating" and added["Ipv6Pool"] == "Amazon"
    block = ipaddress.ip_network(added["Ipv6CidrBlock"])
    assert block.prefixlen == 56 and block.subnet_of(ipaddress.ip_network("fc00::/7"))
    other = {"VpcId": vpc_id, "Ipv6CidrBlockNetworkBorderGroup": "eu-west-1"}
    refused("InvalidParameterCombination", netd.ec2, "AssociateVpcCidrBlock", CidrBlock="10.21.0.0/16", **other)
    refused("InvalidParameterValue", netd.ec2, "AssociateVpcCidrBlock", AmazonProvidedIpv6CidrBlock=True, **other)
    here = {**other, "Ipv6CidrBlockNetworkBorderGroup": netd.region}
    second = netd.ec2("AssociateVpcCidrBlock", AmazonProvidedIpv6CidrBlock=True, **here)["Ipv6CidrBlockAssociation"]
    assert second["NetworkBorderGroup"] == netd.region
    netd.ec2("DisassociateVpcCidrBlock", AssociationId=second["AssociationId"])
    filters = [{"Name": "ipv6-cidr-block-association.ipv6-cidr-block", "Values": [str(block)]}]
    assert [v["VpcId"] for v in netd.ec2("DescribeVpcs", Filters=filters)["Vpcs"]] == [vpc_id]
    of_vpc = [{"Name": "vpc-id", "Values": [vpc_id]}]
    (table,) = netd.ec2("DescribeRouteTables", Filters=of_vpc)["RouteTables"]
    assert {"DestinationIpv6CidrBlock": str(block), "GatewayId": "local"}.items() <= table["Routes"][1].items()
    (acl,) = netd.ec2("DescribeNetworkAcls", Filters=of_vpc)["NetworkAcls"]
    six = [(e["Egress"], e["RuleNumber"], e["RuleAction"]) for e in acl["Entries"] if e.get("Ipv6CidrBlock") == "::/0"]
    assert sorted(six) == [(False, 101, "allow"), (False, 32768, "deny"), (True, 101, "allow"), (True, 32768, "deny")]

    subnet = netd.ec2("CreateSubnet", VpcId=vpc_id, CidrBlock="10.20.1.0/24")["Subnet"]["SubnetId"]
    one, two = list(block.subnets(new_prefix=64))[:2]
    refused("InvalidParameterValue", netd.ec2, "ModifySubnetAttribute", SubnetId=subnet, AssignIpv6AddressOnCreation={"Value": True})
    refused("InvalidParameterValue", netd.ec2, "CreateNetworkInterface", SubnetId=subnet, Ipv6AddressCount=1)
    for wrong in (str(block), "2001:db8::/64", f"{one.network_address}/65"):
        refused("InvalidSubnet.Range", netd.ec2, "AssociateSubnetCidrBlock", SubnetId=subnet, Ipv6CidrBlock=wrong)
    got = netd.ec2("AssociateSubnetCidrBlock", SubnetId=subnet, Ipv6CidrBlock=str(one))["Ipv6CidrBlockAssociation"]
    refused("CidrLimitExceeded", netd.ec2, "AssociateSubnetCidrBlock", SubnetId=subnet, Ipv6CidrBlock=str(two))
    clash = {"VpcId": vpc_id, "CidrBlock": "10.20.2.0/24", "Ipv6CidrBlock": str(one)}
    refused("InvalidSubnet.Conflict", netd.ec2, "CreateSubnet", **clash)
    refused("InvalidCidrBlock.InUse", netd.ec2, "DisassociateVpcCidrBlock", AssociationId=added["AssociationId"])

    netd.ec2("ModifySubnetAttribute", SubnetId=subnet, AssignIpv6AddressOnCreation={"Value": True})
    eni = netd.ec2("CreateNetworkInterface", SubnetId=subnet)["NetworkInterface"]
    assert ipaddress.ip_address(eni["Ipv6Addresses"][0]["Ipv6Address"]) in one
    refused("InvalidCidrBlock.InUse", netd.ec2, "DisassociateSubnetCidrBlock", AssociationId=got["AssociationId"])
    netd.ec2("ModifySubnetAttribute", SubnetId=subnet, AssignIpv6AddressOnCreation={"Value": False})
    refused("InvalidCidrBlock.InUse", netd.ec2, "DisassociateSubnetCidrBlock", AssociationId=got["AssociationId"])
    netd.ec2("DeleteNetworkInterface", NetworkInterfaceId=eni["NetworkInterfaceId"])
    netd.ec2("DisassociateSubnetCidrBlock", AssociationId=got["AssociationId"])
    refused("InvalidSubnetCidrBlockAssociationID.NotFound", netd.ec2, "DisassociateSubnetCidrBlock", AssociationId=got["AssociationId"])
    refused("InvalidSubnetCidrBlockAssociationId.Malformed", netd.ec2, "DisassociateSubnetCidrBlock", AssociationId="")
    gone = netd.ec2("DisassociateVpcCidrBlock", AssociationId=added["AssociationId"])["Ipv6CidrBlockAssociation"]
    assert gone["Ipv6CidrBlockState"]["State"] == "disassociating"
    (table,) = netd.ec2("DescribeRouteTables", Filters=of_vpc)["RouteTables"]
    assert len(table["Routes"]) == 1


def test_nat64_is_refused_since_it_is_not_there(six):
    netd, subnet = six.netd, six.subnets[0]
    refused("UnsupportedOperation", netd.ec2, "ModifySubnetAttribute", SubnetId=subnet, EnableDns64={"Value": True})
    netd.ec2("ModifySubnetAttribute", SubnetId=subnet, EnableDns64={"Value": False})
    assert netd.ec2("DescribeSubnets", SubnetIds=[subnet])["Subnets"][0]["EnableDns64"] is False
    nat = netd.ec2("CreateNatGateway", SubnetId=subnet, ConnectivityType="private")["NatGateway"]["NatGatewayId"]
    entries = [{"Cidr": "2001:db8::/32"}]
    made = netd.ec2("CreateManagedPrefixList", PrefixListName="six", AddressFamily="IPv6", MaxEntries=1, Entries=entries)["PrefixList"]
    route = {"RouteTableId": six.table, "NatGatewayId": nat}
    for destination in {"DestinationIpv6CidrBlock": "64:ff9b::/96"}, {"DestinationPrefixListId": made["PrefixListId"]}:
        refused("UnsupportedOperation", netd.ec2, "CreateRoute", **destination, **route)
    netd.ec2("CreateRoute", DestinationCidrBlock="192.0.2.0/24", **route)
    netd.ec2("DeleteRoute", RouteTableId=six.table, DestinationCidrBlock="192.0.2.0/24")
    netd.ec2("DeleteNatGateway", NatGatewayId=nat)
    netd.ec2("DeleteManagedPrefixList", PrefixListId=made["PrefixListId"])
    eventually(lambda: not netd.ec2("DescribeNetworkInterfaces", Filters=[{"Name": "vpc-id", "Values": [six.id]}])["NetworkInterfaces"])


def test_an_interface_has_as_many_addresses_as_its_type_allows(six):
    netd, guest = six.netd, six.guest(ask=False)
    which = {"NetworkInterfaceId": guest.eni}
    refused("PrivateIpAddressLimitExceeded", netd.ec2, "AssignIpv6Addresses", Ipv6AddressCount=50, **which)
    netd.ec2("AttachNetworkInterface", InstanceId=guest.instance, DeviceIndex=0, _AddressLimit=2, **which)
    refused("PrivateIpAddressLimitExceeded", netd.ec2, "AssignIpv6Addresses", Ipv6AddressCount=2, **which)
    born = {"_InstanceId": guest.instance, "_DeviceIndex": 1, "_AddressLimit": 2, "SubnetId": six.subnets[0]}
    refused("PrivateIpAddressLimitExceeded", netd.ec2, "CreateNetworkInterface", Ipv6AddressCount=3, **born)
    assert len(netd.ec2("AssignIpv6Addresses", Ipv6AddressCount=1, **which)["AssignedIpv6Addresses"]) == 1
    (shown,) = netd.ec2("DescribeNetworkInterfaces", NetworkInterfaceIds=[guest.eni])["NetworkInterfaces"]
    assert shown["Ipv6Address"] == guest.six[0] and len(shown["Ipv6Addresses"]) == 2


def test_routes_say_their_family(six):
    table = {"RouteTableId": six.table}
    refused("MissingParameter", six.netd.ec2, "CreateRoute", GatewayId="igw-00000000000000001", **table)
    refused("InvalidParameterValue", six.netd.ec2, "CreateRoute", DestinationIpv6CidrBlock="::/129", GatewayId="igw-00000000000000001", **table)
    gateway = six.netd.ec2("CreateEgressOnlyInternetGateway", VpcId=six.id)["EgressOnlyInternetGateway"]
    gateway = gateway["EgressOnlyInternetGatewayId"]
    refused("EgressOnlyInternetGatewayLimitExceeded", six.netd.ec2, "CreateEgressOnlyInternetGateway", VpcId=six.id)
    to = {"EgressOnlyInternetGatewayId": gateway, **table}
    refused("InvalidParameterCombination", six.netd.ec2, "CreateRoute", DestinationCidrBlock="0.0.0.0/0", **to)
    six.netd.ec2("CreateRoute", DestinationIpv6CidrBlock="2001:DB8::1/32", **to)
    refused("RouteAlreadyExists", six.netd.ec2, "CreateRoute", DestinationIpv6CidrBlock="2001:db8::/32", **to)
    refused("InvalidParameterValue", six.netd.ec2, "CreateRoute", DestinationIpv6CidrBlock=str(six.blocks[1]), **to)
    refused("InvalidParameterValue", six.netd.ec2, "DeleteRoute", DestinationIpv6CidrBlock=str(six.block), **table)
    six.netd.ec2("DeleteRoute", DestinationIpv6CidrBlock="2001:db8::/32", **table)
    assert six.netd.ec2("DescribeEgressOnlyInternetGateways", EgressOnlyInternetGatewayIds=[gateway])["EgressOnlyInternetGateways"]
    six.netd.ec2("DeleteEgressOnlyInternetGateway", EgressOnlyInternetGatewayId=gateway)
    refused("InvalidGatewayID.NotFound", six.netd.ec2, "DeleteEgressOnlyInternetGateway", EgressOnlyInternetGatewayId=gateway)


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
    with subprocess.Popen(["ip", "netns", "exec", one.name, "ping", "-6", "-n", "-i0.02", two.six[0]], stdout=subprocess.PIPE, text=True) as ping:
        acts = add_block, add_egress, add_addresses, remove_addresses, remove_egress, remove_block
        lives = {act.__name__: die_at_every_step(netd, act, n) for n, act in enumerate(acts)}
        ping.send_signal(signal.SIGINT)
        answers = [int(n) for n in re.findall(r"icmp_seq=(\d+) ttl", ping.communicate()[0])]
    assert answers == list(range(1, len(answers) + 1))
    assert all(n > 1 for n in lives.values()), lives
    assert (ours(), sh(f"ip netns exec {router(six.id)} ip6tables-nft-save -t raw | grep ^-A")) == before


def test_what_is_broken_by_hand_is_mended_and_the_end_leaves_nothing(six, outside):
    gateway = six.netd.ec2("CreateEgressOnlyInternetGateway", VpcId=six.id)["EgressOnlyInternetGateway"]
    gateway = gateway["EgressOnlyInternetGatewayId"]
    six.netd.ec2("CreateRoute", RouteTableId=six.table, DestinationIpv6CidrBlock="::/0", EgressOnlyInternetGatewayId=gateway)
    one, two = six.guest(), six.guest()
    inside_router = f"ip netns exec {router(six.id)}"
    sh(f"{inside_router} ip6tables-nft -F; {inside_router} ip -6 route flush table 1000; {inside_router} ip -6 rule del pref 100")
    eventually(lambda: one.ping(two.six[0]) and two.ping(outside))
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
