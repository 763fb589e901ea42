"""What the tests of IPv6 stand on: a VPC that has it, and guests that configure themselves as an operating system does: the router by its advertisement, the addresses by DHCPv6."""

import ipaddress
import os
import re
import socket

from lab import PATIENCE, eventually, inside

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
        if "Ipv6Addresses" not in more:
            more.setdefault("Ipv6AddressCount", 1)
        guest = self.guests(public=False, SubnetId=self.subnets[subnet], **more)
        self.guests_made.append(guest)
        eni = self.netd.ec2("DescribeNetworkInterfaces", NetworkInterfaceIds=[guest.eni])["NetworkInterfaces"][0]
        guest.six = [a["Ipv6Address"] for a in eni["Ipv6Addresses"]]
        if ask:
            configure(guest)
        return guest

    def guest_at(self, n, **more):
        """A guest at the n-th address of the first subnet, which no lot puts where the test wants something else."""
        return self.guest(Ipv6Addresses=[{"Ipv6Address": str(self.blocks[1][n])}], **more)

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


def add_address(run, address, link, *options):
    """Gives a link of run()'s namespace an address. The kernel makes its local route by and by, also without a check for duplicates: what comes
    before that finds nobody."""
    run(f"ip -6 addr replace {address} dev {link} {' '.join(options)}")
    alone = address.split("/")[0]
    eventually(lambda: f"local {alone} " in run(f"ip -6 route show table local {alone}"))


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
        add_address(guest.sh, f"{address}/128", "eth0")
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
