"""A netd for all tests of the file; guests end with the test that made them."""

import collections
import contextlib
import os
import pathlib
import random
import signal
import sys
import tempfile
import threading

import pytest

sys.path.insert(0, os.path.dirname(__file__))
from lab import THE_OUTSIDE, Guest, Log, Netd, Refused, Side, Site, sh
from lab_ipv6 import OUTSIDE, Six, add_address

LOG_SHOWN = 20000  # characters, the last, with a failure


def pytest_collection_modifyitems(config, items):
    part, n = map(int, os.environ.get("PART", "0/1").split("/"))
    sizes = collections.Counter(item.path for item in items)
    loads, mine = [0] * n, set()
    for path, size in sorted(sizes.items(), key=lambda f: (-f[1], f[0])):
        least = loads.index(min(loads))
        loads[least] += size
        if least == part:
            mine.add(path)
    config.hook.pytest_deselected(items=[item for item in items if item.path not in mine])
    items[:] = [item for item in items if item.path in mine]
    if os.path.exists("/proc/sys/net/core/netdev_max_backlog"):
        for item in items:
            item.add_marker(pytest.mark.skip(reason="needs a network of its own: run by tests/net/private-host"))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """A failure comes with what netd said during the test; and the next test has a new netd, for what this one left would make it fail, too."""
    report = (yield).get_result()
    netd = getattr(item.session, "netd", None)
    item.has_failed = getattr(item, "has_failed", False) or report.failed
    if netd and report.failed:
        report.sections.append(("netd said", netd.said()[-LOG_SHOWN:]))
    if netd and call.when == "teardown":
        netd.n_told += len(netd.said())
        # The matrix cleans up for itself, when all of its tests are over.
        if item.has_failed and netd.log.exists() and "answers" not in item.fixturenames:
            try:
                netd.begin_anew()
            except Exception as e:
                report.outcome, report.longrepr = "failed", f"netd does not begin anew: {e}"


def stand_still(seconds, is_over):
    """Netd and the guests' links stop again and again for so long, as on a machine that has no time for them."""
    while not is_over.wait(random.uniform(0, 2 * seconds)):
        children = [int(n) for n in pathlib.Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]
        for how in (signal.SIGSTOP, signal.SIGCONT):
            for child in children:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, how)
            if how == signal.SIGSTOP:
                is_over.wait(seconds)


@pytest.fixture(scope="session", autouse=True)
def stalls():
    seconds, is_over = float(os.environ.get("STALL", "0")), threading.Event()
    thread = threading.Thread(target=stand_still, args=(seconds, is_over))
    if seconds:
        thread.start()
    yield
    is_over.set()
    if seconds:
        thread.join()


@pytest.fixture(scope="session")
def netd(request):
    sh(f"ip addr add {THE_OUTSIDE}/32 dev lo")
    # Its socket's path fits into an address (108 bytes), however long TMPDIR is.
    with tempfile.TemporaryDirectory(prefix="netd-", dir="/tmp" if len(tempfile.gettempdir()) > 70 else None) as directory:
        daemon = Netd(directory, "[Network]\nDnsUpstream=203.0.113.1\nGuestsReachHost=yes\n")
        request.session.netd = daemon
        daemon.start()
        yield daemon
        daemon.kill(signal.SIGTERM)
        log = daemon.log.read_text()
        if os.environ.get("SHOW_LOG"):
            print(log)
        assert daemon.process.returncode == 0
        assert "Sanitizer" not in log and "runtime error" not in log, log


@pytest.fixture
def guests(netd):
    made = []

    def make(**parameters):
        guest = Guest(netd, **parameters)
        made.append(guest)
        return guest

    yield make
    if netd.process.poll() is not None:
        netd.start()
    for guest in made:
        try:
            guest.delete()
        except Exception:
            guest.leave()


@pytest.fixture
def group(netd):
    """Makes a group with these ingress permissions."""
    made = []

    def make(*permissions):
        vpc = netd.ec2("DescribeVpcs", Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"][0]["VpcId"]
        name = f"group-{os.urandom(4).hex()}"
        group_id = netd.ec2("CreateSecurityGroup", GroupName=name, Description="of a test", VpcId=vpc)["GroupId"]
        made.append(group_id)
        if permissions:
            netd.ec2("AuthorizeSecurityGroupIngress", GroupId=group_id, IpPermissions=list(permissions))
        return group_id

    yield make


@pytest.fixture
def vpc(netd):
    """Makes VPCs; they go with all that is in them."""
    made = []

    def make(cidr="10.20.0.0/16", **more):
        made.append(netd.ec2("CreateVpc", CidrBlock=cidr, **more)["Vpc"]["VpcId"])
        return made[-1]

    yield make
    for vpc_id in made:
        for subnet in netd.ec2("DescribeSubnets", Filters=[{"Name": "vpc-id", "Values": [vpc_id]}])["Subnets"]:
            netd.ec2("DeleteSubnet", SubnetId=subnet["SubnetId"])
        netd.ec2("DeleteVpc", VpcId=vpc_id)


@pytest.fixture
def internet():
    """The outside beyond an uplink: it knows nothing of our addresses."""
    sh("ip netns add internet && ip link add up0 type veth peer name eth0 netns internet")
    sh("ip addr add 198.51.100.1/24 dev up0 && ip link set up0 up && ip -n internet link set eth0 up && ip -n internet link set lo up")
    sh("ip -n internet addr add 198.51.100.2/24 dev eth0 && ip -n internet addr add 192.0.2.80/32 dev lo")
    sh("ip route add default via 198.51.100.2")
    yield "internet"
    sh("ip link del up0; ip netns del internet")


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


@pytest.fixture
def outside():
    """An address beyond the host, as far as this host can tell."""
    add_address(sh, f"{OUTSIDE}/128", "lo", "nodad")
    yield OUTSIDE
    sh(f"ip -6 addr del {OUTSIDE}/128 dev lo")


@pytest.fixture
def log(netd):
    made = []

    def make(*arguments, **more):
        made.append(Log(netd, *arguments, **more))
        return made[-1]

    yield make
    for one in made:
        with contextlib.suppress(Refused):
            netd.ec2("DeleteFlowLogs", FlowLogIds=[one.id])


@pytest.fixture
def side(netd, vpc, guests):
    return lambda cidr: Side(netd, vpc, guests, cidr)


@pytest.fixture
def peer(netd, vpc):
    """Asks for a connection between two VPCs; it is deleted at the end."""
    made = []

    def make(one, two, accept=True, **more):
        asked = netd.ec2("CreateVpcPeeringConnection", VpcId=one.vpc, PeerVpcId=two.vpc, **more)["VpcPeeringConnection"]
        made.append(asked["VpcPeeringConnectionId"])
        if accept:
            netd.ec2("AcceptVpcPeeringConnection", VpcPeeringConnectionId=made[-1])
        return made[-1]

    yield make
    for peering in made:
        with contextlib.suppress(Refused):  # ended already, or even forgotten
            netd.ec2("DeleteVpcPeeringConnection", VpcPeeringConnectionId=peering)


@pytest.fixture
def site(netd, request):
    made = []

    def make(*args, **more):
        made.append(Site(netd, *args, **more))
        return made[-1]

    yield make
    # after the guests of the test, which this fixture's user names first
    for s in made:
        for eni in netd.ec2("DescribeNetworkInterfaces", Filters=[{"Name": "vpc-id", "Values": [s.vpc]}])["NetworkInterfaces"]:
            if not eni["RequesterManaged"]:
                netd.ec2("DeleteNetworkInterface", NetworkInterfaceId=eni["NetworkInterfaceId"], _Force=True)
        s.delete()
