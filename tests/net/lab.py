"""What the packet tests stand on: a netd of their own, guests that are network namespaces behind real taps, and ways to act inside them."""

import contextlib
import copy
import ctypes
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("BUILD", ROOT / "build"))
ACCOUNT, REGION = "123456789012", "us-east-1"
LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNET = 0x40000000
THE_OUTSIDE = "203.0.113.1"

TCP_80 = {"IpProtocol": "tcp", "FromPort": 80, "ToPort": 80, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
ALL = {"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
PING = {"IpProtocol": "icmp", "FromPort": 8, "ToPort": -1, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
LOG_FIELDS = "interface-id srcaddr dstaddr srcport dstport protocol packets bytes start end action log-status flow-direction instance-id vpc-id type gureum-rule-id".split()
LOG_FORMAT = " ".join("${%s}" % field for field in LOG_FIELDS)
DEFAULT = {"DestinationCidrBlock": "0.0.0.0/0"}
HOME = os.open("/proc/self/ns/net", os.O_RDONLY)

# What is to happen may take so long, for a machine may stand still for seconds; it costs nothing when it happens at once. Only what must not
# happen is waited for in vain, and that for a moment.
PATIENCE = 60


def from_group(group_id):
    return {"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": group_id}]}


def sh(command, check=True):
    """Runs a shell command in the private host; its output."""
    done = subprocess.run(command, shell=True, capture_output=True, text=True)
    if check and done.returncode:
        raise AssertionError(f"{command}: {done.stdout}{done.stderr}")
    return done.stdout


def eventually(check, seconds=PATIENCE):
    """Waits until check() is true, and says what it is."""
    until = time.monotonic() + seconds
    while not (value := check()) and time.monotonic() < until:
        time.sleep(0.02)
    assert value, "it did not happen in time"
    return value


@contextlib.contextmanager
def inside(namespace):
    """Sockets made in the block are the namespace's."""
    fd = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
    try:
        if LIBC.setns(fd, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")
        yield
    finally:
        LIBC.setns(HOME, CLONE_NEWNET)
        os.close(fd)


class Refused(Exception):
    def __init__(self, code, message):
        super().__init__(f"{code}: {message}")
        self.code = code


def refused(code, call, *arguments, **parameters):
    with pytest.raises(Refused) as caught:
        call(*arguments, **parameters)
    assert caught.value.code.endswith(code), caught.value


class Netd:
    """The daemon under test, with state of its own."""

    region = REGION

    def __init__(self, directory, settings=""):
        self.directory = pathlib.Path(directory)
        self.config = self.directory / "gureum.conf"
        self.settings = f"[Paths]\nStateDirectory={directory}/lib\nRuntimeDirectory={directory}/run\nGroup=\n{settings}"
        self.config.write_text(self.settings)
        self.log = self.directory / "log"
        self.steps = self.directory / "steps"
        self.process = None
        self.n_told = 0  # characters of its log before this test
        self.account = ACCOUNT

    def start(self):
        assert self.live(), self.log.read_text()

    def live(self):
        """Starts it; whether it came to be ready, or died on the way."""
        environment = {**os.environ, "GUREUM_LOG": "debug", "GUREUM_STEPS": str(self.steps)}
        before = self.lines("ready")
        with self.log.open("a") as log:
            self.process = subprocess.Popen([BUILD / "netd/netd", "-c", self.config], stderr=log, env=environment)
        eventually(lambda: self.lines("ready") > before or self.process.poll() is not None)
        return self.process.poll() is None

    def begin_anew(self):
        """Without state, on a host as it was before the first test: nothing is left of a test that ended midway."""
        if self.process.poll() is None:
            self.kill()
        for namespace in os.listdir("/run/netns"):
            sh(f"ip netns del {namespace}", check=False)
        for link in re.findall(r"^\d+: ([^:@]+)", sh("ip -o link"), re.M):
            if link != "lo":
                sh(f"ip link del {link}", check=False)
        for table in sh("cat /proc/net/ip_tables_names", check=False).split():
            sh(f"iptables-legacy -t {table} -P FORWARD ACCEPT; iptables-legacy -t {table} -F; iptables-legacy -t {table} -X")
        sh("nft flush ruleset; ip addr flush dev lo scope global; for f in -4 -6; do ip $f route flush proto 103; done", check=False)
        sh(f"ip addr add {THE_OUTSIDE}/32 dev lo; rm -rf /run/systemd/netif /run/NetworkManager")
        shutil.rmtree(self.directory / "lib", ignore_errors=True)
        self.config.write_text(self.settings)
        self.die_at(0)
        self.start()

    def die_at(self, step):
        """It will be killed before this step from now on (see lib/step.h); 0: it will not."""
        self.steps.unlink(missing_ok=True)
        if step:
            self.steps.write_text(f"{step}\n")

    def reconcile(self):
        """What was not as it should be."""
        return self.call("gureum.Reconcile")["Changes"]

    def lines(self, word):
        return self.log.read_text().count(word) if self.log.exists() else 0

    def said(self):
        """During this test."""
        return self.log.read_text()[self.n_told :] if self.log.exists() else ""

    def kill(self, how=signal.SIGKILL):
        self.process.send_signal(how)
        self.process.wait()

    def call(self, method, /, fds=False, **parameters):
        context = {"account": self.account, "region": self.region, "principal": "", "request": "00000000-0000-4000-8000-000000000000"}
        message = json.dumps({"method": method, "parameters": parameters, "context": context}).encode() + b"\0"
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(2 * PATIENCE)
            s.connect(str(self.directory / "run/netd.sock"))
            s.sendall(message)
            reply, passed = b"", []
            while not reply.endswith(b"\0"):
                part, ancillary, _, _ = socket.recv_fds(s, 1 << 16, 16)
                if not part:
                    raise ConnectionError("netd hung up")
                reply += part
                passed += ancillary
        reply = json.loads(reply[:-1])
        if "error" in reply:
            raise Refused(reply["error"], reply["parameters"].get("message"))
        return passed if fds else reply["parameters"]

    def ec2(self, action, **parameters):
        return self.call("ec2." + action, **parameters)

    def elsewhere(self, region):
        """The same daemon, asked in another region."""
        other = copy.copy(self)
        other.region = region
        return other

    def by(self, account):
        """The same daemon, asked by another account."""
        other = copy.copy(self)
        other.account = account
        return other

    def changes(self):
        """Changes to the kernel that its passes logged so far."""
        return sum(int(n) for n in re.findall(r"brought in line.*CHANGES=(\d+)", self.log.read_text()))


class Guest:
    """An interface, its tap opened as QEMU would, and a namespace with the other end as eth0."""

    count = 0

    def __init__(self, netd, public=True, groups=None, **more):
        Guest.count += 1
        self.netd = netd
        self.name = f"guest{Guest.count}"
        self.instance = f"i-{Guest.count:017x}"
        if groups:
            more["Groups"] = groups
        eni = netd.ec2(
            "CreateNetworkInterface",
            _InstanceId=self.instance,
            _DeviceIndex=0,
            _DeleteOnTermination=True,
            _AssociatePublicIpAddress=public,
            **more,
        )["NetworkInterface"]
        self.eni = eni["NetworkInterfaceId"]
        self.mac, self.address, self.tap = eni["MacAddress"], eni["PrivateIpAddress"], eni["_Tap"]
        self.subnet, self.vpc = eni["SubnetId"], eni["VpcId"]
        self.public = eni.get("Association", {}).get("PublicIp")
        self.private_name = eni["PrivateDnsName"]
        attached = netd.ec2("AttachNetworkInterface", NetworkInterfaceId=self.eni, InstanceId=self.instance, DeviceIndex=0)
        self.mtu = attached["_Mtu"]
        sh(f"ip netns add {self.name} && ip -n {self.name} link set lo up")
        # Its link-local address and its router at once, not after seconds.
        self.sh("sysctl -qw net.ipv6.conf.default.dad_transmits=0 net.ipv6.conf.default.router_solicitation_delay=0")
        self.pump = subprocess.Popen(
            [BUILD / "tests/net/tap-pump", self.tap, self.name, self.mac, str(self.mtu)], stdout=subprocess.PIPE
        )
        assert self.pump.stdout.readline() == b"ready\n"
        self.lease = {}

    def sh(self, command, check=True):
        return sh(f"ip netns exec {self.name} {command}", check)

    def dhcp(self, *options):
        """Asks for a lease with busybox's client and configures eth0 by it; what the client was told."""
        script = tempfile.NamedTemporaryFile("w", suffix=".sh", delete=False)
        script.write('#!/bin/sh\n[ "$1" = bound ] && env\nexit 0\n')
        script.close()
        os.chmod(script.name, 0o755)
        out = self.sh(f"busybox udhcpc -i eth0 -n -q -t {PATIENCE} -T 1 -O mtu -O ntpsrv -O wins -O 46 {' '.join(options)} -s {script.name}")
        os.unlink(script.name)
        self.lease = dict(line.split("=", 1) for line in out.splitlines() if "=" in line)
        self.configure(self.lease["ip"], self.lease["mask"], self.lease["router"])
        return self.lease

    def configure(self, address, bits, router):
        self.sh(f"ip addr replace {address}/{bits} dev eth0")
        self.sh(f"ip route replace default via {router}")

    def ping(self, to, count=1, wait=1, *options):
        """How many answers came. Those that are late are not waited for once there was one: see reaches()."""
        out = self.sh(f"ping -n -c{count} -i0.2 -W{wait} {' '.join(options)} {to}", check=False)
        return int(re.search(r"(\d+) received", out).group(1))

    def reaches(self, to, *options):
        """Whether the one packet sent is answered, late or not. That none comes is asked of ping() and can_connect(), which do not wait long."""
        return self.ping(to, 1, PATIENCE, *options) == 1

    @contextlib.contextmanager
    def pinging(self, to, *options, n=1):
        """Asks all the while, and begins when n were answered; afterwards what it gave has the number of each request that was answered, but for the
        last ones, perhaps. A ping that is told how many to send waits for the last answer no longer than for those before it, and so loses it."""
        answers = []
        command = ["ip", "netns", "exec", self.name, "ping", "-n", "-i0.02", *options, to]
        # Into a file: in a pipe that nobody reads there is room for twenty seconds, then it would ask no more.
        with tempfile.TemporaryFile() as said, subprocess.Popen(command, stdout=said) as ping:

            def answered():
                return [int(n) for n in re.findall(rb"icmp_seq=(\d+) ttl", os.pread(said.fileno(), 1 << 26, 0))]

            try:
                eventually(lambda: len(answered()) >= n)
                yield answers
                assert self.reaches(to, *options)
            finally:
                ping.send_signal(signal.SIGINT)
                ping.wait()
                answers += answered()

    def listen(self, port=80, kind=socket.SOCK_STREAM):
        with inside(self.name):
            s = socket.socket(socket.AF_INET, kind)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind(("0.0.0.0", port))
        if kind == socket.SOCK_STREAM:
            s.listen()
        s.settimeout(PATIENCE)
        return s

    def connect(self, to, port=80, timeout=PATIENCE):
        with inside(self.name):
            s = socket.socket()
        s.settimeout(timeout)
        s.connect((to, port))
        return s

    def can_connect(self, to, port=80, timeout=0.7):
        try:
            self.connect(to, port, timeout).close()
            return True
        except OSError:
            return False

    def connects(self, to, port=80):
        return self.can_connect(to, port, PATIENCE)

    def delete(self):
        self.netd.ec2("DeleteNetworkInterface", NetworkInterfaceId=self.eni, _Force=True)
        self.leave()

    def leave(self):
        self.pump.kill()
        self.pump.wait()
        sh(f"ip netns del {self.name}", check=False)


def other_than(*guests):
    """An address of the default VPC's first block that none of these has: theirs are drawn by lot."""
    return next(a for n in range(77, 177) if (a := f"172.31.0.{n}") not in [g.address for g in guests])


class Log:
    """A flow log of a resource, and what it says."""

    def __init__(self, netd, resource_type, resource, traffic="ALL", **more):
        self.netd = netd
        reply = netd.ec2(
            "CreateFlowLogs",
            ResourceType=resource_type,
            ResourceIds=[resource],
            TrafficType=traffic,
            LogGroupName=os.urandom(4).hex(),
            DeliverLogsPermissionArn="arn:aws:iam::123456789012:role/flow-logs",
            MaxAggregationInterval=60,
            **{"LogFormat": LOG_FORMAT, **more},
        )
        assert reply["Unsuccessful"] == []
        (self.id,) = reply["FlowLogIds"]
        self.vpc = netd.ec2("DescribeFlowLogs", FlowLogIds=[self.id])["FlowLogs"][0]["_VpcId"]
        netd.call("gureum.FlushFlowLogs", VpcId=self.vpc)  # it counts from here
        self.path = netd.directory / "lib/netd/flow-logs" / f"{self.id}.log"

    def rows(self, flush=True, **want):
        """Rows with these values, all windows so far."""
        if flush:
            self.netd.call("gureum.FlushFlowLogs", VpcId=self.vpc)
        text = self.path.read_text() if self.path.exists() else ""
        rows = [dict(zip(LOG_FIELDS, line.split(" "))) for line in text.splitlines()]
        want = {name.replace("_", "-"): str(value) for name, value in want.items()}
        return [row for row in rows if all(row[name] == value for name, value in want.items())]


class Side:
    """A VPC with one subnet and one guest in it: one of those that a peering connection joins."""

    def __init__(self, netd, vpc, guests, cidr, **more):
        self.netd, self.cidr = netd, cidr
        self.vpc = vpc(cidr)
        prefix = cidr.rsplit(".", 2)[0]
        self.subnet = netd.ec2("CreateSubnet", VpcId=self.vpc, CidrBlock=f"{prefix}.1.0/24")["Subnet"]["SubnetId"]
        filters = [{"Name": "vpc-id", "Values": [self.vpc]}]
        self.table = netd.ec2("DescribeRouteTables", Filters=filters)["RouteTables"][0]["RouteTableId"]
        self.group = netd.ec2("DescribeSecurityGroups", Filters=filters)["SecurityGroups"][0]["GroupId"]
        netd.ec2("AuthorizeSecurityGroupIngress", GroupId=self.group, IpPermissions=[TCP_80, PING])
        self.guest = guests(public=False, SubnetId=self.subnet)
        self.guest.dhcp()

    def route(self, to, peering):
        self.netd.ec2("CreateRoute", RouteTableId=self.table, DestinationCidrBlock=to.cidr, VpcPeeringConnectionId=peering)

    def route_states(self, peering):
        routes = self.netd.ec2("DescribeRouteTables", RouteTableIds=[self.table])["RouteTables"][0]["Routes"]
        return [r["State"] for r in routes if r.get("VpcPeeringConnectionId") == peering]


def ours():
    """Every mark of netd on the host's namespace, as lines."""
    lines = sh("ip -o link show group 26485; ip route show proto 103").splitlines()
    lines += [line for line in sh("iptables-nft-save").splitlines() if "gureum" in line]
    lines += [line for line in sh("nft list ruleset").splitlines() if 'comment "gureum"' in line]
    return [re.sub(r"^\d+: ", "", line) for line in lines]


def doctor(netd):
    """The findings; of those with one name the one that complains."""
    checks = sorted(netd.call("gureum.Doctor")["Checks"], key=lambda check: check["State"] == "warning")
    return {check["Name"]: check for check in checks}


def router(vpc_id):
    return f"gureum-{vpc_id}"


def dns(guest, server, name, kind=1, stream=False, timeout=PATIENCE):
    """(rcode, [data of A records as text, of others as bytes])"""
    question = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00"
    for label in name.strip(".").split("."):
        question += bytes([len(label)]) + label.encode()
    question += b"\0" + kind.to_bytes(2, "big") + b"\0\1"
    with inside(guest.name):
        s = socket.socket(socket.AF_INET6 if ":" in server else socket.AF_INET, socket.SOCK_STREAM if stream else socket.SOCK_DGRAM)
    with s:
        s.settimeout(timeout)
        s.connect((server, 53))
        s.send(len(question).to_bytes(2, "big") + question if stream else question)
        answer = s.recv(4096)
        if stream:
            while len(answer) < 2 or len(answer) < 2 + int.from_bytes(answer[:2], "big"):
                answer += s.recv(4096)
            answer = answer[2:]
    assert answer[:2] == b"\x12\x34" and answer[2] & 0x80
    n_answers, at, records = int.from_bytes(answer[6:8], "big"), len(question), []
    for _ in range(n_answers):
        while answer[at] and answer[at] < 0xC0:
            at += 1 + answer[at]
        at += 2 if answer[at] else 1
        n = int.from_bytes(answer[at + 8 : at + 10], "big")
        data = answer[at + 10 : at + 10 + n]
        records.append(socket.inet_ntoa(data) if n == 4 else data)
        at += 10 + n
    return answer[3] & 15, records


class Site:
    """A VPC with a public and a private subnet, and what is made in it."""

    def __init__(self, netd, cidr, has_gateway=True):
        self.netd, self.nats, self.elastics = netd, [], []
        block = cidr.rsplit(".", 2)[0]
        self.vpc = netd.ec2("CreateVpc", CidrBlock=cidr)["Vpc"]["VpcId"]
        self.public, self.private = (
            netd.ec2("CreateSubnet", VpcId=self.vpc, CidrBlock=f"{block}.{n}.0/24")["Subnet"]["SubnetId"] for n in (1, 2)
        )
        self.tables = [netd.ec2("CreateRouteTable", VpcId=self.vpc)["RouteTable"]["RouteTableId"] for _ in range(2)]
        self.associations = [
            netd.ec2("AssociateRouteTable", SubnetId=s, RouteTableId=t)["AssociationId"]
            for s, t in zip((self.public, self.private), self.tables)
        ]
        self.gateway = None
        if has_gateway:
            self.gateway = netd.ec2("CreateInternetGateway")["InternetGateway"]["InternetGatewayId"]
            netd.ec2("AttachInternetGateway", InternetGatewayId=self.gateway, VpcId=self.vpc)
            netd.ec2("CreateRoute", RouteTableId=self.tables[0], GatewayId=self.gateway, **DEFAULT)

    def elastic(self):
        self.elastics.append(self.netd.ec2("AllocateAddress"))
        return self.elastics[-1]

    def nat(self, wait="available", **parameters):
        nat = self.netd.ec2("CreateNatGateway", **{"SubnetId": self.public, **parameters})["NatGateway"]
        assert nat["State"] == "pending"
        self.nats.append(nat["NatGatewayId"])
        return self.wait(nat["NatGatewayId"], wait)

    def show(self, nat_id):
        return self.netd.ec2("DescribeNatGateways", NatGatewayIds=[nat_id])["NatGateways"][0]

    def wait(self, nat_id, state):
        eventually(lambda: self.show(nat_id)["State"] == state)
        return self.show(nat_id)

    def delete(self):
        for nat in self.nats:
            self.netd.ec2("DeleteNatGateway", NatGatewayId=nat)
        for address in self.elastics:
            self.netd.ec2("ReleaseAddress", AllocationId=address["AllocationId"])
        for association, table in zip(self.associations, self.tables):
            self.netd.ec2("DisassociateRouteTable", AssociationId=association)
            self.netd.ec2("DeleteRouteTable", RouteTableId=table)
        if self.gateway:
            self.netd.ec2("DetachInternetGateway", InternetGatewayId=self.gateway, VpcId=self.vpc)
            self.netd.ec2("DeleteInternetGateway", InternetGatewayId=self.gateway)
        for subnet in (self.public, self.private):
            self.netd.ec2("DeleteSubnet", SubnetId=subnet)
        self.netd.ec2("DeleteVpc", VpcId=self.vpc)
