"""Who may reach whom: a table of packets. All guests are made once, all rows are tried at once, then each row is a test."""

import concurrent.futures
import contextlib
import socket
import threading

import pytest
from lab import PATIENCE, Guest, Refused, inside

# VPCs: "one" and "twin" have the same addresses, "other" has its own. Guests: name: (VPC, subnet, address, group).
GUESTS = {
    "a": ("one", 1, "10.40.1.10", "clients"),
    "b": ("one", 1, "10.40.1.11", "servers"),
    "c": ("one", 2, "10.40.2.10", "servers"),
    "twin-a": ("twin", 1, "10.40.1.10", "clients"),
    "twin-b": ("twin", 1, "10.40.1.11", "servers"),
    "y": ("other", 1, "10.41.1.10", "servers"),
}
BLOCKS = {"one": "10.40.0.0/16", "twin": "10.40.0.0/16", "other": "10.41.0.0/16"}


def by_block(protocol, port, to, block):
    return {"IpProtocol": protocol, "FromPort": port, "ToPort": to, "IpRanges": [{"CidrIp": block}]}


def by_group(protocol, port, to, group):
    return {"IpProtocol": protocol, "FromPort": port, "ToPort": to, "UserIdGroupPairs": [{"GroupId": group}]}


def server_rules(groups):
    return [
        by_block("tcp", 80, 80, "10.40.1.0/24"),
        by_group("tcp", 82, 82, groups["clients"]),
        by_block("udp", 53, 53, "10.40.0.0/16"),
        by_group("udp", 55, 56, groups["servers"]),
        by_block("icmp", 8, -1, "10.40.0.0/15"),
    ]


def client_rules(groups):
    return [by_group("tcp", 80, 80, groups["servers"]), by_group("udp", 56, 56, groups["servers"])]


# source, protocol, port: who answers at this address (None: nobody).
ROWS = [
    # within a subnet; answers come back though the client lets nothing in
    ("a", "tcp", 80, "10.40.1.11", "b"),  # by block
    ("a", "tcp", 81, "10.40.1.11", None),
    ("a", "tcp", 82, "10.40.1.11", "b"),  # by group
    ("a", "udp", 53, "10.40.1.11", "b"),
    ("a", "udp", 54, "10.40.1.11", None),
    ("a", "udp", 55, "10.40.1.11", None),  # of another group
    ("a", "icmp", 0, "10.40.1.11", "b"),
    ("b", "tcp", 80, "10.40.1.10", "a"),
    ("b", "tcp", 82, "10.40.1.10", None),
    ("b", "udp", 53, "10.40.1.10", None),
    ("b", "udp", 56, "10.40.1.10", "a"),
    ("b", "icmp", 0, "10.40.1.10", None),
    # between subnets
    ("a", "tcp", 80, "10.40.2.10", "c"),
    ("a", "tcp", 81, "10.40.2.10", None),
    ("a", "tcp", 82, "10.40.2.10", "c"),
    ("a", "udp", 53, "10.40.2.10", "c"),
    ("a", "udp", 54, "10.40.2.10", None),
    ("a", "icmp", 0, "10.40.2.10", "c"),
    ("c", "tcp", 80, "10.40.1.11", None),  # c is not in the block
    ("c", "udp", 55, "10.40.1.11", "b"),  # but in the group
    ("c", "tcp", 80, "10.40.1.10", "a"),
    ("c", "tcp", 81, "10.40.1.10", None),
    ("c", "udp", 54, "10.40.1.10", None),
    ("c", "icmp", 0, "10.40.1.10", None),
    ("c", "icmp", 0, "10.40.1.11", "b"),
    # the same addresses in another VPC: each reaches its own
    ("twin-a", "tcp", 80, "10.40.1.11", "twin-b"),
    ("twin-a", "udp", 53, "10.40.1.11", "twin-b"),
    ("twin-a", "icmp", 0, "10.40.1.11", "twin-b"),
    ("twin-b", "tcp", 80, "10.40.1.10", "twin-a"),
    ("twin-a", "tcp", 80, "10.40.2.10", None),  # only the other has such an address
    ("twin-a", "icmp", 0, "10.40.2.10", None),
    # two VPCs have no path, whatever their groups say
    ("a", "tcp", 80, "10.41.1.10", None),
    ("a", "udp", 53, "10.41.1.10", None),
    ("a", "icmp", 0, "10.41.1.10", None),
    ("y", "tcp", 80, "10.40.1.11", None),
    ("y", "udp", 53, "10.40.1.11", None),
    ("y", "icmp", 0, "10.40.1.11", None),
]


def serve(name, guest, stop):
    """Each guest says its name on all ports."""
    with inside(guest.name):
        listeners = [socket.create_server(("0.0.0.0", port)) for port in (80, 81, 82)]
        datagrams = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(4)]
    for port, s in zip((53, 54, 55, 56), datagrams):
        s.bind(("0.0.0.0", port))

    def accept(listener):
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                client.sendall(name.encode())
                client.close()

    def answer(s):
        with contextlib.suppress(OSError, TypeError):  # nobody asks when the socket is shut
            while True:
                s.sendto(name.encode(), s.recvfrom(99)[1])

    threads = [threading.Thread(target=accept, args=(s,)) for s in listeners] + [threading.Thread(target=answer, args=(s,)) for s in datagrams]
    for thread in threads:
        thread.daemon = True
        thread.start()

    def end():
        for s in listeners + datagrams:
            with contextlib.suppress(OSError):
                s.shutdown(socket.SHUT_RDWR)
            s.close()

    stop.append(end)


def ask(guest, protocol, port, address, expected):
    """Who answers; None after a silence, which is waited for longer where an answer is expected."""
    if protocol == "icmp":
        return guest.reaches(address) if expected else guest.ping(address, 2, 1) > 0
    with inside(guest.name):
        s = socket.socket(socket.AF_INET, socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM)
    with s, contextlib.suppress(OSError):
        s.settimeout(PATIENCE if expected else 2)
        s.connect((address, port))
        if protocol == "udp":
            s.send(b"who is there?")
        return s.recv(99).decode()
    return None


@pytest.fixture(scope="module")
def answers(netd):
    vpcs, groups, guests, stop = {}, {}, {}, []
    for name, block in BLOCKS.items():
        vpcs[name] = netd.ec2("CreateVpc", CidrBlock=block)["Vpc"]["VpcId"]
        groups[name] = {
            group: netd.ec2("CreateSecurityGroup", GroupName=group, Description="of the matrix", VpcId=vpcs[name])["GroupId"]
            for group in ("clients", "servers")
        }
        for group, rules in (("clients", client_rules), ("servers", server_rules)):
            netd.ec2("AuthorizeSecurityGroupIngress", GroupId=groups[name][group], IpPermissions=rules(groups[name]))
    subnets = {}
    try:
        for name, (vpc, n, address, group) in GUESTS.items():
            if (vpc, n) not in subnets:
                block = BLOCKS[vpc].replace(".0.0/16", f".{n}.0/24")
                subnets[vpc, n] = netd.ec2("CreateSubnet", VpcId=vpcs[vpc], CidrBlock=block)["Subnet"]["SubnetId"]
            guests[name] = Guest(netd, public=None, SubnetId=subnets[vpc, n], PrivateIpAddress=address, groups=[groups[vpc][group]])
            guests[name].configure(address, 24, address.rsplit(".", 1)[0] + ".1")
            serve(name, guests[name], stop)
        with concurrent.futures.ThreadPoolExecutor(len(ROWS)) as pool:
            results = list(pool.map(lambda row: ask(guests[row[0]], *row[1:]), ROWS))
        yield dict(zip(ROWS, results))
    finally:
        for end in stop:
            end()
        for guest in guests.values():
            guest.delete()
        for subnet in subnets.values():
            netd.ec2("DeleteSubnet", SubnetId=subnet)
        for name, vpc in vpcs.items():
            for _ in range(2):  # they refer to one another
                for group in groups[name].values():
                    with contextlib.suppress(Refused):
                        netd.ec2("RevokeSecurityGroupIngress", GroupId=group, SecurityGroupRuleIds=rule_ids(netd, group))
                    with contextlib.suppress(Refused):
                        netd.ec2("DeleteSecurityGroup", GroupId=group)
            netd.ec2("DeleteVpc", VpcId=vpc)


def rule_ids(netd, group):
    rules = netd.ec2("DescribeSecurityGroupRules", Filters=[{"Name": "group-id", "Values": [group]}])["SecurityGroupRules"]
    return [rule["SecurityGroupRuleId"] for rule in rules if not rule["IsEgress"]]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: "-".join(map(str, row[:4])))
def test_packets_come_to_whom_they_may(answers, row):
    # An echo does not say who sent it; that it is the right one is what the other protocols' rows say.
    assert answers[row] == (row[4] is not None if row[1] == "icmp" else row[4])
