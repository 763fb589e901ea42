"""Security groups whose rules change: no packet is lost, and what is remembered of the kernel is what stands in it."""

import contextlib
import random
import re
import signal
import socket
import threading

from lab import PATIENCE, eventually, inside, router, sh


def tcp(port, cidr="10.0.0.0/8"):
    return {"IpProtocol": "tcp", "FromPort": port, "ToPort": port, "IpRanges": [{"CidrIp": cidr}]}


def rules_of(netd, group_id):
    answer = netd.ec2("DescribeSecurityGroupRules", Filters=[{"Name": "group-id", "Values": [group_id]}])
    return [r for r in answer["SecurityGroupRules"] if not r["IsEgress"]]


def in_kernel(guest, group_id):
    """Ports of the group's chain, in order."""
    out = sh(f"ip netns exec {router(guest.vpc)} iptables-nft -S {group_id}-in")
    return [int(port) for port in re.findall(r"--dport (\d+) -j ACCEPT", out)]


def test_rules_stand_in_the_kernel_as_they_were_changed(guests, group, netd):
    chance = random.Random(7)
    changing = group(*(tcp(port) for port in range(1000, 1040)))
    guest = guests(groups=[changing])
    for n in range(15):
        rules = rules_of(netd, changing)
        some = chance.sample(rules, chance.choice((1, 1, 2, 5)))
        if n % 3 == 0:
            ids = [r["SecurityGroupRuleId"] for r in some]
            gone = netd.ec2("RevokeSecurityGroupIngress", GroupId=changing, SecurityGroupRuleIds=ids)["RevokedSecurityGroupRules"]
            assert [(r["SecurityGroupRuleId"], r["CidrIpv4"]) for r in gone] == [(i, "10.0.0.0/8") for i in ids]
        elif n % 3 == 1:
            netd.ec2("AuthorizeSecurityGroupIngress", GroupId=changing, IpPermissions=[tcp(2000 + 10 * n + i) for i in range(len(some))])
        else:
            changes = [{"IpProtocol": "tcp", "FromPort": p, "ToPort": p, "CidrIpv4": "10.0.0.0/8"} for p in range(3000 + 10 * n, 3009 + 10 * n)]
            netd.ec2(
                "ModifySecurityGroupRules",
                GroupId=changing,
                SecurityGroupRules=[
                    {"SecurityGroupRuleId": r["SecurityGroupRuleId"], "SecurityGroupRule": c} for r, c in zip(some, changes, strict=False)
                ],
            )
        assert sorted(in_kernel(guest, changing)) == sorted(r["FromPort"] for r in rules_of(netd, changing))
    # A daemon that begins anew reads all of it, and finds nothing to do.
    before = netd.changes()
    netd.kill(signal.SIGKILL)
    netd.start()
    assert netd.changes() == before


def test_a_rule_of_protocol_0_is_not_one_of_all_protocols(guests, group, netd):
    """Which is what the number means to iptables."""
    hopopt = group({"IpProtocol": "0", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]})
    one, two = guests(groups=[hopopt]), guests()
    one.dhcp(), two.dhcp()
    assert two.ping(one.address) == 0
    assert netd.reconcile() == 0


def test_a_rule_deleted_by_hand_comes_back(guests, group, netd):
    web = group(tcp(80), tcp(81))
    guest = guests(groups=[web])
    netd.ec2("AuthorizeSecurityGroupIngress", GroupId=web, IpPermissions=[tcp(82)])
    sh(f"ip netns exec {router(guest.vpc)} iptables-nft -D {web}-in 1")
    netd.ec2("AuthorizeSecurityGroupIngress", GroupId=web, IpPermissions=[tcp(83)])
    assert in_kernel(guest, web) == [80, 81, 82, 83]


class Talk(threading.Thread):
    """Sends datagrams, each from a port of its own and so a new flow that only rules let pass, until it is told to end; which were lost? No more
    of them are under way than every queue has room for, however slow the links are: the least has the listener's socket, for 256 where one takes 832
    bytes of the kernel's."""

    WINDOW = 100

    def __init__(self, one, two):
        super().__init__()
        self.one, self.to, self.ear = one, two.address, two.listen(9999, socket.SOCK_DGRAM)
        self.is_over = threading.Event()
        self.n_sent, self.heard = 0, set()

    def hear(self, seconds):
        self.ear.settimeout(seconds)
        with contextlib.suppress(TimeoutError, BlockingIOError):
            while len(self.heard) < self.n_sent:
                self.heard.add(int.from_bytes(self.ear.recv(4), "big"))

    def run(self):
        while not self.is_over.wait(0.001):
            self.hear(0)
            if self.n_sent - len(self.heard) >= self.WINDOW:
                continue
            with inside(self.one.name), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
                s.sendto(self.n_sent.to_bytes(4, "big"), (self.to, 9999))
            self.n_sent += 1

    def go_on(self):
        """Until some more came: what is changed between two of these calls is changed under traffic, however fast."""
        n = len(self.heard) + 10
        eventually(lambda: len(self.heard) >= n)

    def end(self):
        self.is_over.set()
        self.join()
        self.hear(PATIENCE)
        self.ear.close()
        return sorted(set(range(self.n_sent)) - self.heard)


def test_rewriting_five_hundred_rules_under_traffic_loses_no_packet(guests, group, netd):
    """Five groups of a hundred rules each, half of them each way; all but one each way are others afterwards, three times over."""
    talk = {"IpProtocol": "udp", "FromPort": 9999, "ToPort": 9999, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
    many = [group(talk) for _ in range(5)]
    one, two = guests(groups=many), guests(groups=many)
    one.dhcp(), two.dhcp()
    talking = Talk(one, two)
    talking.start()
    try:
        for base in (1000, 2000, 3000):
            new, old = ([tcp(p) for p in range(b, b + 50)] for b in (base, base - 1000))
            for g in many:
                for way in ("Ingress", "Egress"):
                    talking.go_on()
                    netd.ec2(f"AuthorizeSecurityGroup{way}", GroupId=g, IpPermissions=new[:5])
                    if base > 1000:
                        netd.ec2(f"RevokeSecurityGroup{way}", GroupId=g, IpPermissions=old)
                    netd.ec2(f"AuthorizeSecurityGroup{way}", GroupId=g, IpPermissions=new[5:])
        talking.go_on()
    finally:
        lost = talking.end()
    assert lost == []
    assert in_kernel(one, many[0]) == [9999, *range(3000, 3050)]
