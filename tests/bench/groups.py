#!/usr/bin/python3
"""What security groups cost at scale, measured on netd alone with interfaces but no guests: run by bench.py inside tests/net/private-host.
Prints its rows as JSON, one a line: [what, value, unit, target, holds].

a. a group of 1,000 members that five rules of another refer to: rules and set entries in the kernel, and what one more member adds;
b. what a new connection pays for the groups of others in its VPC;
c. one more rule with 100, 1,000 and 10,000 rules present: lines and bytes sent to the kernel, CPU time of netd and of the commands it runs.
"""
import concurrent.futures
import json
import os
import re
import signal
import socket
import statistics
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "net"))
from lab import Guest, Netd, router, sh  # noqa: E402

MEMBERS, SIZES, REPEATS = 1000, (100, 1000, 10000), 10
GROUPS, CONNECTIONS = (2, 10, 100, 1000), 1500


def row(what, value, unit, target=None, holds=None):
    print(json.dumps([what, value, unit, target, holds]), flush=True)


class Cloud:
    def __init__(self, directory):
        self.programs = os.path.join(directory, "bin")
        os.mkdir(self.programs)
        os.environ["PATH"] = self.programs + ":" + os.environ["PATH"]
        os.environ["GUREUM_LOG"] = "info"
        self.netd = Netd(directory, "[Network]\nDnsUpstream=203.0.113.1\n")
        self.netd.start()
        self.vpc = self.ec2("CreateVpc", CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
        self.subnets = [self.ec2("CreateSubnet", VpcId=self.vpc, CidrBlock=f"10.0.{16 * n}.0/20")["Subnet"]["SubnetId"] for n in range(4)]
        self.n_interfaces = 0

    def ec2(self, action, **parameters):
        return self.netd.ec2(action, **parameters)

    def group(self, name):
        return self.ec2("CreateSecurityGroup", GroupName=name, Description="of a benchmark", VpcId=self.vpc)["GroupId"]

    def interface(self, groups):
        """In use, as by an instance. A bridge has 1,024 ports: subnets take turns."""
        self.n_interfaces += 1
        n = self.n_interfaces
        instance = f"i-{n:017x}"
        eni = self.ec2("CreateNetworkInterface", SubnetId=self.subnets[n % 4], Groups=groups, _InstanceId=instance, _DeviceIndex=0,
                       _DeleteOnTermination=True)["NetworkInterface"]["NetworkInterfaceId"]
        self.ec2("AttachNetworkInterface", NetworkInterfaceId=eni, InstanceId=instance, DeviceIndex=0)
        return eni

    def cpu_ms(self):
        """(of netd, of the commands that it ran)"""
        own, pid = 0, self.netd.process.pid
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/schedstat") as f:
                own += int(f.read().split()[0]) / 1e6
        with open(f"/proc/{pid}/stat") as f:
            fields = f.read().rsplit(")", 1)[1].split()
        return own, (int(fields[13]) + int(fields[14])) * 1000 / os.sysconf("SC_CLK_TCK")

    def cost(self, n, run):
        """CPU time of each of n runs, on the average: clock ticks are coarse."""
        before = self.cpu_ms()
        for i in range(n):
            run(i)
        return [(b - a) / n for a, b in zip(before, self.cpu_ms())]

    def sent(self, run):
        """Lines and bytes that iptables-restore and ipset got meanwhile."""
        log = os.path.join(self.programs, "sent")
        for program in ("iptables-nft-restore", "ipset"):
            path = os.path.join(self.programs, program)
            with open(path, "w") as f:
                f.write(f'#!/bin/sh\n[ "$*" = save ] && exec /usr/sbin/{program} "$@"\ntee -a {log} | /usr/sbin/{program} "$@"\n')
            os.chmod(path, 0o755)
        open(log, "w").close()
        run()
        with open(log) as f:
            lines = [line for line in f.read().splitlines() if line[0] not in "*:C"]
        for name in os.listdir(self.programs):
            os.unlink(os.path.join(self.programs, name))
        return lines

    def inside(self, command):
        return sh(f"ip netns exec {router(self.vpc)} {command}")


def members(cloud):
    friends, others = cloud.group("friends"), cloud.group("others")
    cloud.interface([others])
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda n: cloud.interface([friends]), range(MEMBERS)))
    cloud.ec2("AuthorizeSecurityGroupIngress", GroupId=others, IpPermissions=[
        {"IpProtocol": "tcp", "FromPort": p, "ToPort": p, "UserIdGroupPairs": [{"GroupId": friends}]} for p in range(80, 85)])
    rules = len(re.findall(r"^-A", cloud.inside(f"iptables-nft -S {others}-in"), re.M))
    entries = int(re.search(r"entries: (\d+)", cloud.inside(f"ipset list -t {friends}")).group(1))
    row(f"five rules that name a group of {entries} members", rules, "rules", "5", rules == 5)
    before = cloud.inside("iptables-nft -S")
    lines = cloud.sent(lambda: cloud.interface([friends]))
    mine = [line for line in lines if friends in line]
    row("  one more member: set entries of the group", len(mine), "entries", "1", len(mine) == 1)
    changed = len(set(before.splitlines()) ^ set(cloud.inside("iptables-nft -S").splitlines()))
    row("  one more member: rules changed", changed, "rules", "0", changed == 0)
    made = []
    own, commands = cloud.cost(REPEATS, lambda i: made.append(cloud.interface([friends])))
    row(f"  one more of {MEMBERS} interfaces: CPU of netd, its commands", f"{own:.1f}, {commands:.1f}", "ms", "<= 20 in all", own + commands <= 20)
    own, commands = cloud.cost(REPEATS, lambda i: cloud.ec2("ModifyNetworkInterfaceAttribute", NetworkInterfaceId=made[i], Groups=[friends, others]))
    row("  one in another group, too: likewise", f"{own:.1f}, {commands:.1f}", "ms")
    own, commands = cloud.cost(REPEATS, lambda i: cloud.ec2("DeleteNetworkInterface", NetworkInterfaceId=made[i], _Force=True))
    row("  one fewer: likewise", f"{own:.1f}, {commands:.1f}", "ms")


def rules(cloud):
    held, groups, costs = 0, [], []
    for size in SIZES:
        new = []
        while held < size:
            n = min(45, size - held)
            new.append(cloud.group(f"rules-{len(groups) + len(new)}"))
            cloud.ec2("AuthorizeSecurityGroupIngress", GroupId=new[-1], IpPermissions=[
                {"IpProtocol": "tcp", "FromPort": p, "ToPort": p, "IpRanges": [{"CidrIp": f"10.{len(groups) % 256}.{p}.0/24"}]} for p in range(n)])
            held += n
        for i in range(0, len(new), 5):
            cloud.interface(new[i : i + 5])
        groups += new
        target = groups[len(groups) // 2]

        def allow(port):
            permission = {"IpProtocol": "udp", "FromPort": 5000 + port, "ToPort": 5000 + port, "IpRanges": [{"CidrIp": "192.0.2.0/24"}]}
            cloud.ec2("AuthorizeSecurityGroupIngress", GroupId=target, IpPermissions=[permission])
            return permission

        lines = cloud.sent(lambda: allow(99))
        n_bytes = sum(len(line) + 1 for line in lines)
        own, commands = cloud.cost(REPEATS, allow)
        costs.append((own, commands))
        there = len(re.findall(r"^-A sg-", cloud.inside("iptables-nft -S"), re.M))
        row(f"one more rule with {size} ({there} in the kernel): sent", f"{len(lines)}, {n_bytes}", "lines, B", "1 line", len(lines) == 1)
        row("  CPU of netd, its commands", f"{own:.1f}, {commands:.1f}", "ms")
    ratio = sum(costs[-1]) / statistics.mean(map(sum, costs[:1]))
    row(f"one more rule: CPU with {SIZES[-1]} beside {SIZES[0]}", f"{ratio:.1f}", "x")


def connect_usec(one, two):
    """The tenth percentile of the time that connect() takes."""
    times = []
    with two.listen() as listener:
        for _ in range(CONNECTIONS):
            began = time.perf_counter_ns()
            client = one.connect(two.address)
            times.append(time.perf_counter_ns() - began)
            server, _ = listener.accept()
            for s in (client, server):
                s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # no TIME_WAIT
                s.close()
    return sorted(times)[len(times) // 10] / 1000


def dispatch(cloud):
    """Groups with a member each; the guests' own come last."""
    groups = [cloud.group(f"group-{n}") for n in range(GROUPS[-1])]
    groups.sort()
    ends = groups[-2:]
    cloud.ec2("AuthorizeSecurityGroupIngress", GroupId=ends[1], IpPermissions=[
        {"IpProtocol": "tcp", "FromPort": 80, "ToPort": 80, "IpRanges": [{"CidrIp": "10.0.0.0/16"}]}])
    guests = [Guest(cloud.netd, public=None, SubnetId=cloud.subnets[n], groups=[ends[n]]) for n in (0, 1)]
    for guest in guests:
        guest.dhcp()
    held, costs = 2, []
    cloud.n_interfaces = held
    for n in GROUPS:
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            list(pool.map(lambda i: cloud.interface(groups[i : i + 1]), range(held - 2, n - 2)))
        held = n
        costs.append(min(connect_usec(*guests) for _ in range(3)))
        row(f"a connection in a VPC with {n} groups in use", f"{costs[-1]:.0f}", "us")
    row(f"  what {GROUPS[-1] - GROUPS[0]} groups of others add", f"{costs[-1] - costs[0]:.0f}", "us", "<= 50", costs[-1] - costs[0] <= 50)
    for guest in guests:
        guest.leave()


def main():
    only = sys.argv[1:]
    for run in (rules, members, dispatch):
        if only and run.__name__ not in only:
            continue
        with tempfile.TemporaryDirectory(prefix="netd-bench-") as directory:
            cloud = Cloud(directory)
            try:
                run(cloud)
            finally:
                cloud.netd.kill(signal.SIGTERM)
                sh(f"ip netns del {router(cloud.vpc)}; ip link del group 26485", check=False)


if __name__ == "__main__":
    main()
