#!/usr/bin/python3
"""The network's part of `make bench`: netd alone with real taps, in a private host (tests/net/private-host). A line on stdout is one row for bench.py.

a. TCP throughput and round trip between two guests of a subnet, through the VPC (bridge, router, groups, connection tracking), beside two guests on a plain Linux
   bridge; guests are namespaces behind taps, with the same pump in both. Rounds alternate; the best ones are
   compared, since what else runs on the machine only ever makes it worse.
b. what a VPC with 3 subnets and 20 interfaces costs netd: processor time of it and of the commands it runs, and time until all may start.
c. 100 VPCs with an interface each: making them, changing one of them, starting netd beside them; what a VPC costs in memory.
"""
import concurrent.futures
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "net"))
from lab import BUILD, Guest, Netd, sh  # noqa: E402

ROUNDS, SECONDS, PINGS = 5, 2, 3000


def row(what, value, unit, target=None, holds=None):
    print(json.dumps([what, value, unit, target, holds]), flush=True)


# ---- a. packets ----


class PlainGuest:
    """A guest on a bridge that nobody guards."""

    def __init__(self, n):
        self.name, self.address = f"plain{n}", f"10.99.0.{n}"
        tap, mac = f"plain-t{n}", f"02:00:00:00:00:0{n}"
        sh(f"ip tuntap add {tap} mode tap vnet_hdr && ip link set {tap} mtu 9001 master plain up")
        sh(f"ip netns add {self.name} && ip -n {self.name} link set lo up")
        self.pump = subprocess.Popen([BUILD / "tests/net/tap-pump", tap, self.name, mac, "9001"], stdout=subprocess.PIPE)
        assert self.pump.stdout.readline() == b"ready\n"
        sh(f"ip -n {self.name} addr add {self.address}/24 dev eth0")


def gbits(source, target):
    server = subprocess.Popen(["ip", "netns", "exec", target.name, "iperf3", "-s", "-1", "--forceflush"], stdout=subprocess.PIPE, text=True)
    while "listening" not in server.stdout.readline():
        pass
    out = sh(f"ip netns exec {source.name} iperf3 -J -t {SECONDS} -O 0.5 -c {target.address}")
    server.wait()
    return json.loads(out)["end"]["sum_received"]["bits_per_second"] / 1e9


def round_trip_usec(source, target):
    out = sh(f"ip netns exec {source.name} ping -n -c {PINGS} -i 0 {target.address}")
    times = sorted(float(t) for t in re.findall(r"time=([\d.]+) ms", out))
    return 1000 * times[len(times) // 10]


def bench_packets(netd):
    sh("ip link add plain type bridge forward_delay 0 mcast_snooping 0 && ip link set plain mtu 9001 up")
    plain = [PlainGuest(n) for n in (1, 2)]
    ours = [Guest(netd) for _ in range(2)]
    for guest in ours:
        guest.dhcp()
    throughput, trips = {"plain": [], "vpc": []}, {"plain": [], "vpc": []}
    for _ in range(ROUNDS):
        for name, (one, two) in (("plain", plain), ("vpc", ours)):
            trips[name].append(round_trip_usec(one, two))
            throughput[name].append(gbits(one, two))
    for guest in ours:
        guest.delete()
    for guest in plain:
        guest.pump.kill()
    plain_gbits, vpc_gbits = (max(throughput[name]) for name in ("plain", "vpc"))
    plain_usec, vpc_usec = (min(trips[name]) for name in ("plain", "vpc"))
    row("TCP between guests, plain bridge, best round", f"{plain_gbits:.2f}", "Gb/s")
    row("TCP between guests, through the VPC, best round", f"{vpc_gbits:.2f}", "Gb/s")
    row("  ratio", f"{vpc_gbits / plain_gbits:.2f}", "x", ">= 0.9", vpc_gbits / plain_gbits >= 0.9)
    row("round trip, plain bridge, best round's tenth percentile", f"{plain_usec:.1f}", "us")
    row("round trip, through the VPC, likewise", f"{vpc_usec:.1f}", "us")
    row("  what the VPC adds", f"{vpc_usec - plain_usec:.1f}", "us", "<= 10", vpc_usec - plain_usec <= 10)


# ---- b. one VPC ----


def cpu_msec(netd):
    """netd's own and its finished commands'."""
    own = sum(int(pathlib.Path(f"/proc/{netd.process.pid}/task/{t}/schedstat").read_text().split()[0]) for t in os.listdir(f"/proc/{netd.process.pid}/task"))
    fields = pathlib.Path(f"/proc/{netd.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    children = int(fields[13]) + int(fields[14])
    return own / 1e6, 1000 * children / os.sysconf("SC_CLK_TCK")


class Vpc:
    count = 0

    def __init__(self, netd, n_subnets, n_interfaces):
        Vpc.count += 1
        netd = self.netd = netd.by(f"{Vpc.count // 4:012}")  # an account may have five VPCs in a region
        self.vpc = netd.ec2("CreateVpc", CidrBlock=f"10.{Vpc.count % 250}.0.0/16")["Vpc"]["VpcId"]
        self.subnets = [
            netd.ec2("CreateSubnet", VpcId=self.vpc, CidrBlock=f"10.{Vpc.count % 250}.{n}.0/24")["Subnet"]["SubnetId"] for n in range(n_subnets)
        ]
        self.interfaces = [
            netd.ec2("CreateNetworkInterface", SubnetId=self.subnets[n % n_subnets])["NetworkInterface"]["NetworkInterfaceId"] for n in range(n_interfaces)
        ]

    def attach(self, pool):
        """All at once, as a host that starts does; until all may start."""

        def one(n, eni):
            self.netd.ec2("AttachNetworkInterface", NetworkInterfaceId=eni, InstanceId=f"i-{self.vpc[-12:]}{n:05x}", DeviceIndex=0)

        list(pool.map(one, range(len(self.interfaces)), self.interfaces))

    def delete(self):
        for eni in self.interfaces:
            self.netd.ec2("DeleteNetworkInterface", NetworkInterfaceId=eni, _Force=True)
        for subnet in self.subnets:
            self.netd.ec2("DeleteSubnet", SubnetId=subnet)
        self.netd.ec2("DeleteVpc", VpcId=self.vpc)


def bench_vpc(netd):
    own, commands, walls = [], [], []
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        for _ in range(10):
            before = cpu_msec(netd)
            vpc = Vpc(netd, 3, 20)
            began = time.monotonic()
            vpc.attach(pool)
            walls.append(1000 * (time.monotonic() - began))
            after = cpu_msec(netd)
            own.append(after[0] - before[0])
            commands.append(after[1] - before[1])
            vpc.delete()
    row("a VPC with 3 subnets and 20 interfaces: netd's processor time, median", f"{statistics.median(own):.1f}", "ms", "<= 50", statistics.median(own) <= 50)
    row("  of iptables and ipset for it, mean", f"{statistics.mean(commands):.1f}", "ms")
    row("  from the first AttachNetworkInterface to the last answer, median", f"{statistics.median(walls):.1f}", "ms")


# ---- c. many ----


def kernel_kib():
    text = pathlib.Path("/proc/meminfo").read_text()
    return sum(int(re.search(rf"{name}:\s+(\d+)", text).group(1)) for name in ("SUnreclaim", "Percpu", "KernelStack"))


def rss_kib(netd):
    return int(re.search(r"VmRSS:\s+(\d+)", pathlib.Path(f"/proc/{netd.process.pid}/status").read_text()).group(1))


def bench_many(netd):
    n, before, kernel = 100, rss_kib(netd), kernel_kib()
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        made = [Vpc(netd, 1, 1) for _ in range(n)]
        began = time.monotonic()
        list(pool.map(lambda vpc: vpc.netd.ec2("AttachNetworkInterface", NetworkInterfaceId=vpc.interfaces[0], InstanceId=f"i-{vpc.vpc[-17:]}", DeviceIndex=0), made))
        row("100 VPCs with an interface each, until all may start", f"{time.monotonic() - began:.2f}", "s")
    row("  netd's memory for each", f"{(rss_kib(netd) - before) / n:.0f}", "KiB")
    row("  the kernel's for each (the machine's, so only about)", f"{(kernel_kib() - kernel) / n:.0f}", "KiB")
    more = made[50].netd.ec2("CreateNetworkInterface", SubnetId=made[50].subnets[0])["NetworkInterface"]["NetworkInterfaceId"]
    began = time.monotonic()
    made[50].netd.ec2("AttachNetworkInterface", NetworkInterfaceId=more, InstanceId="i-00000000000000001", DeviceIndex=0)
    row("  one more interface in one of them", f"{1000 * (time.monotonic() - began):.0f}", "ms")
    netd.kill()
    began = time.monotonic()
    netd.start()
    row("  netd killed and ready again", f"{1000 * (time.monotonic() - began):.0f}", "ms")
    began = time.monotonic()
    changes = netd.reconcile()
    row("  all looked at again, nothing to do", f"{1000 * (time.monotonic() - began):.0f}", "ms", "0 changes", changes == 0)


def main():
    sh("ip addr add 203.0.113.1/32 dev lo")
    parts = {"packets": bench_packets, "vpc": bench_vpc, "many": bench_many}
    with tempfile.TemporaryDirectory(prefix="netd-bench-") as directory:
        netd = Netd(directory, "[Network]\nDnsUpstream=203.0.113.1\n")
        netd.start()
        for name in sys.argv[1:] or parts:
            parts[name](netd)
        netd.kill()


if __name__ == "__main__":
    main()
