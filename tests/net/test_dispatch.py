"""Many groups in one VPC: a connection finds its own by a tree, which grows and shrinks under traffic."""

import re
import socket
import threading

from lab import PATIENCE, TCP_80, eventually, inside, router, sh

MANY = 40  # a few are asked one after another


class Crowd:
    """Interfaces without guests."""

    def __init__(self, netd, subnet):
        self.netd, self.subnet, self.made = netd, subnet, []

    def join(self, *groups):
        n = len(self.made) + 1
        more = {"_InstanceId": f"i-{0xC0000 + n:017x}", "_DeviceIndex": 0, "_DeleteOnTermination": True, "_AssociatePublicIpAddress": False}
        eni = self.netd.ec2("CreateNetworkInterface", SubnetId=self.subnet, Groups=list(groups), **more)["NetworkInterface"]
        self.netd.ec2("AttachNetworkInterface", NetworkInterfaceId=eni["NetworkInterfaceId"], InstanceId=more["_InstanceId"], DeviceIndex=0)
        self.made.append(eni["NetworkInterfaceId"])
        return eni

    def leave(self):
        for eni in self.made:
            self.netd.ec2("DeleteNetworkInterface", NetworkInterfaceId=eni, _Force=True)
        self.made = []


class Callers:
    """New connections, one after another, until it ends."""

    def __init__(self, one, two, port):
        self.one, self.address, self.port = one, two.address, port
        self.n_good, self.failures, self.is_over = 0, [], False
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        with inside(self.one.name):
            while not self.is_over:
                try:
                    with socket.create_connection((self.address, self.port), PATIENCE) as s:
                        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                    self.n_good += 1
                except OSError as e:
                    self.failures.append(e)

    def go_on(self):
        """Until there was one more: what is changed between two of these calls is changed under traffic, however fast or slow."""
        n = self.n_good + 1
        eventually(lambda: self.n_good >= n or self.failures)

    def end(self):
        self.is_over = True
        self.thread.join()


def accept_all(listener):
    def run():
        while True:
            try:
                listener.accept()[0].close()
            except OSError:
                return

    threading.Thread(target=run, daemon=True).start()


def inside_of(vpc, command):
    return sh(f"ip netns exec {router(vpc)} {command}")


def test_a_tree_of_groups_grows_and_shrinks_and_no_connection_fails(guests, group, netd):
    one, two = guests(groups=[group()]), guests(groups=[group(TCP_80)])
    one.dhcp(), two.dhcp()
    crowd = Crowd(netd, two.subnet)
    groups = [group() for _ in range(MANY)]
    listener = two.listen()
    listener.settimeout(None)
    accept_all(listener)
    callers = Callers(one, two, 80)
    try:
        for group_id in groups:
            callers.go_on()
            crowd.join(group_id)
        callers.go_on()
        chains = inside_of(two.vpc, "iptables-nft -S")
        asked = re.findall(r"-A ingress .* -j groups-(.)-in", chains)
        assert asked and len(re.findall("-A ingress", chains)) <= 18 and all(f"-N groups-{digit}-in" in chains for digit in asked)
        assert not one.can_connect(two.address, 81) and not two.can_connect(one.address)
        assert netd.reconcile() == 0
        crowd.leave()
        callers.go_on()
        assert "groups-" not in inside_of(two.vpc, "iptables-nft -S") + inside_of(two.vpc, "ipset list -n")
        assert netd.reconcile() == 0
    finally:
        callers.end()
        crowd.leave()
        listener.shutdown(socket.SHUT_RDWR)
    assert callers.failures == []


def test_who_leaves_a_group_stays_where_others_of_the_branch_lead(guests, group, netd):
    one, two = guests(groups=[group()]), guests(groups=[group()])
    one.dhcp(), two.dhcp()
    crowd = Crowd(netd, two.subnet)
    groups = [group(TCP_80) for _ in range(MANY)]
    try:
        for group_id in groups:
            crowd.join(group_id)
        by_digit = {}
        for group_id in groups:
            by_digit.setdefault(group_id[-1], []).append(group_id)
        first, second = next(ids for ids in by_digit.values() if len(ids) > 1)[:2]

        def members(name):
            return two.address in inside_of(two.vpc, f"ipset list {name}").split()

        with two.listen():
            assert not one.can_connect(two.address)
            for mine in ([first, second], [second], [first], [groups[0]]):
                netd.ec2("ModifyNetworkInterfaceAttribute", NetworkInterfaceId=two.eni, Groups=mine)
                netd.reconcile()
                assert one.connects(two.address) and all(members(g) and members(f"groups-{g[-1]}") for g in mine)
            netd.ec2("ModifyNetworkInterfaceAttribute", NetworkInterfaceId=two.eni, Groups=[group()])
            netd.reconcile()
            assert not one.can_connect(two.address) and not any(members(g) for g in (first, second, groups[0]))
    finally:
        crowd.leave()
