"""What netd promises about packets, seen by guests: real taps, real bridges, real rules."""

import os
import re
import signal
import socket
import subprocess
import threading

import pytest
from lab import ROOT, Guest, dns, eventually, inside, ours, router, sh

TCP_80 = {"IpProtocol": "tcp", "FromPort": 80, "ToPort": 80, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
PING = {"IpProtocol": "icmp", "FromPort": 8, "ToPort": -1, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}


def from_group(group_id):
    return {"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": group_id}]}


# ---- names and addresses ----


def test_a_guest_gets_its_lease(guests):
    guest = guests()
    lease = guest.dhcp()
    assert lease["ip"] == guest.address
    assert lease["mask"] == "20" and lease["router"].startswith("172.31.") and lease["router"].endswith(".1")
    assert lease["dns"] == "172.31.0.2" and lease["domain"] == "ec2.internal"
    assert lease["hostname"] == guest.private_name.split(".")[0]
    assert lease["mtu"] == "9001" and lease["lease"] == "3600"


def test_a_lease_that_is_not_the_guests_is_refused(guests):
    guest = guests()
    with pytest.raises(AssertionError):
        guest.sh("busybox udhcpc -i eth0 -n -q -t 2 -T 1 -r 172.31.0.77 -s /bin/true && false")
    assert guest.dhcp()["ip"] == guest.address


def test_the_gateway_answers(guests):
    guest = guests()
    assert guest.ping(guest.dhcp()["router"]) == 1


def test_names_lead_to_addresses_and_back(guests):
    one, two = guests(), guests()
    one.dhcp()
    for server in ("172.31.0.2", "169.254.169.253"):
        assert dns(one, server, one.private_name) == (0, [one.address])
        assert dns(one, server, two.private_name.upper(), stream=True) == (0, [two.address])
    code, (pointer,) = dns(one, "172.31.0.2", ".".join(reversed(two.address.split("."))) + ".in-addr.arpa", kind=12)
    assert code == 0 and two.private_name.split(".")[0].encode() in pointer
    assert dns(one, "172.31.0.2", "ip-172-31-0-3.ec2.internal") == (3, [])
    assert dns(one, "172.31.0.2", two.private_name, kind=28) == (0, [])


def test_a_public_name_leads_inside(guests, netd):
    one, two = guests(), guests()
    one.dhcp()
    eni = netd.ec2("DescribeNetworkInterfaces", NetworkInterfaceIds=[two.eni])["NetworkInterfaces"][0]
    assert dns(one, "172.31.0.2", eni["Association"]["PublicDnsName"]) == (0, [two.address])


def test_other_names_are_asked_of_the_upstream(guests):
    guest = guests()
    guest.dhcp()
    assert dns(guest, "172.31.0.2", "example.org")[0] == 2  # nobody listens: SERVFAIL

    def answer(upstream):
        question, client = upstream.recvfrom(4096)
        end = question.index(b"\0", 12) + 5
        record = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4" + socket.inet_aton("192.0.2.7")
        upstream.sendto(question[:2] + b"\x81\x80\0\1\0\1\0\0\0\0" + question[12:end] + record, client)

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as upstream:
        upstream.bind(("203.0.113.1", 53))
        upstream.settimeout(5)
        thread = threading.Thread(target=answer, args=(upstream,))
        thread.start()
        assert dns(guest, "172.31.0.2", "example.org") == (0, ["192.0.2.7"])
        thread.join()


def test_metadata_is_answered_through_a_passed_socket(guests, netd):
    guest = guests()
    guest.dhcp()
    (fd,) = netd.call("gureum.OpenMetadata", fds=True, VpcId=guest.vpc)
    with socket.socket(fileno=fd) as listener:
        listener.settimeout(5)
        with guest.connect("169.254.169.254") as client:
            server, peer = listener.accept()
            assert peer[0] == guest.address
            server.sendall(b"hello")
            assert client.recv(9) == b"hello"
            server.close()
    assert guest.ping("169.254.169.254") == 1


# ---- who may reach whom ----


def test_members_of_the_default_group_reach_one_another(guests):
    one, two = guests(), guests()
    one.dhcp(), two.dhcp()
    with two.listen():
        assert one.can_connect(two.address)
    assert two.ping(one.address) == 1
    assert one.ping(two.address, 1, 1, "-M do -s 8900") == 1


def test_a_group_lets_in_what_it_allows_and_nothing_else(guests, group):
    web, other = guests(groups=[group(TCP_80)]), guests(groups=[group()])
    web.dhcp(), other.dhcp()
    with web.listen(80), web.listen(81), other.listen(80):
        assert other.can_connect(web.address, 80)
        assert not other.can_connect(web.address, 81)
        assert not web.can_connect(other.address, 80)
    assert other.ping(web.address) == 0


def test_a_group_that_names_a_group_follows_its_members(guests, group, netd):
    friends = group()
    one, two = guests(groups=[group(from_group(friends))]), guests(groups=[group()])
    one.dhcp(), two.dhcp()
    with one.listen():
        assert not two.can_connect(one.address)
        netd.ec2("ModifyNetworkInterfaceAttribute", NetworkInterfaceId=two.eni, Groups=[friends])
        assert two.can_connect(one.address)
        netd.ec2("ModifyNetworkInterfaceAttribute", NetworkInterfaceId=two.eni, Groups=[group()])
        assert not two.can_connect(one.address)


def test_a_flow_outlives_the_rule_that_let_it_in(guests, group, netd):
    web = group(TCP_80)
    one, two = guests(groups=[web]), guests(groups=[group()])
    one.dhcp(), two.dhcp()
    with one.listen() as listener, two.connect(one.address) as client:
        server, _ = listener.accept()
        netd.ec2("RevokeSecurityGroupIngress", GroupId=web, IpPermissions=[TCP_80])
        assert not two.can_connect(one.address)
        client.sendall(b"still here")
        server.settimeout(5)
        assert server.recv(99) == b"still here"
        server.close()


def test_egress_rules_are_kept(guests, group, netd):
    locked = group()
    netd.ec2("RevokeSecurityGroupEgress", GroupId=locked, IpPermissions=[{"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}])
    netd.ec2("AuthorizeSecurityGroupEgress", GroupId=locked, IpPermissions=[TCP_80])
    one, two = guests(groups=[locked]), guests(groups=[group(TCP_80, PING)])
    one.dhcp(), two.dhcp()
    with two.listen():
        assert one.can_connect(two.address)
    assert one.ping(two.address) == 0


# ---- the internet gateway ----


def test_a_public_address_is_reached_from_the_host_and_seen_outside(guests, group):
    guest = guests(groups=[group(TCP_80, PING)])
    guest.dhcp()
    sh(f"ping -n -c1 -W1 {guest.public}")
    with guest.listen() as listener, socket.create_connection((guest.public, 80), 2) as client:
        server, peer = listener.accept()
        server.close()
        assert client.recv(9) == b""
    with socket.create_server(("203.0.113.1", 8080)) as outside, guest.connect("203.0.113.1", 8080):
        outside.settimeout(5)
        assert outside.accept()[1][0] == guest.public


def test_without_a_public_address_there_is_no_way_out(guests):
    guest = guests(public=False)
    guest.dhcp()
    assert guest.public is None
    with socket.create_server(("203.0.113.1", 8080)):
        assert not guest.can_connect("203.0.113.1", 8080)
    assert guest.ping("203.0.113.1") == 0


def test_a_public_address_of_the_same_vpc_turns_round_outside(guests, group):
    open_group = group(TCP_80)
    one, two = guests(groups=[open_group]), guests(groups=[open_group])
    one.dhcp(), two.dhcp()
    with two.listen() as listener, one.connect(two.public):
        assert listener.accept()[1][0] == one.public


def test_an_address_that_is_given_back_takes_its_flows_along(guests, group, netd):
    guest = guests(groups=[group(TCP_80)])
    guest.dhcp()
    with guest.listen() as listener, socket.create_connection((guest.public, 80), 2) as client:
        server, _ = listener.accept()
        netd.call("gureum.Release", NetworkInterfaceId=guest.eni)
        netd.call("gureum.Assign", NetworkInterfaceId=guest.eni)
        netd.ec2("AttachNetworkInterface", NetworkInterfaceId=guest.eni, InstanceId=guest.instance, DeviceIndex=0)
        client.settimeout(1)
        client.sendall(b"x")
        server.settimeout(1)
        with pytest.raises(OSError):
            assert server.recv(1) == b"x"
        server.close()


# ---- guests that lie ----


def test_a_foreign_address_gets_nowhere(guests):
    one, two, liar = guests(), guests(), guests()
    for guest in (one, two, liar):
        guest.dhcp()
    liar.sh(f"ip addr add {one.address}/32 dev eth0")
    assert liar.ping(two.address, 2, 1, f"-I {one.address}") == 0
    assert liar.ping(two.address) == 1
    assert two.ping(one.address) == 1


def test_a_foreign_mac_gets_nowhere(guests):
    one, liar = guests(), guests()
    one.dhcp(), liar.dhcp()
    gateway = liar.lease["router"]
    liar.sh(f"ip link set eth0 address {one.mac}")
    liar.sh(f"ip neigh replace {gateway} lladdr 02:67:75:00:00:01 dev eth0")
    assert liar.ping(gateway) == 0
    assert one.ping(gateway) == 1
    liar.sh(f"ip link set eth0 address {liar.mac}")
    assert liar.ping(gateway) == 1


def test_arp_lies_are_not_believed(guests):
    one, two, liar = guests(), guests(), guests()
    for guest in (one, two, liar):
        guest.dhcp()
    with inside(liar.name):
        s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    mac = bytes.fromhex(liar.mac.replace(":", ""))
    stolen = socket.inet_aton(one.address)
    for target in (socket.inet_aton(liar.lease["router"]), stolen):
        body = b"\0\1\x08\0\6\4\0\2" + mac + stolen + b"\xff" * 6 + target
        s.bind(("eth0", 0))
        s.send(b"\xff" * 6 + mac + b"\x08\x06" + body)
    s.close()
    assert two.ping(one.address) == 1
    assert f"{one.address} dev" in sh(f"ip -n {router(one.vpc)} neigh show nud permanent")


def test_the_hosts_end_of_the_bridge_is_deaf(guests):
    guest = guests()
    guest.dhcp()
    sh("ip addr add 192.0.2.1/32 dev lo", check=False)
    guest.sh("ip neigh replace 172.31.255.9 lladdr 02:67:75:00:00:02 dev eth0")
    guest.sh("ip route add 192.0.2.1/32 via 172.31.255.9 dev eth0 onlink")
    guest.sh("ip route add 198.51.100.0/24 via 172.31.255.9 dev eth0 onlink")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as host:
        host.bind(("192.0.2.1", 7777))
        host.settimeout(0.5)
        with inside(guest.name):
            s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.sendto(b"hello", ("192.0.2.1", 7777))
        with pytest.raises(TimeoutError):
            host.recv(9)
        s.close()
    sh("ip addr del 192.0.2.1/32 dev lo")


def test_guests_do_not_hear_one_anothers_broadcasts(guests):
    one, two = guests(), guests()
    one.dhcp(), two.dhcp()
    with inside(two.name):
        ear = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    ear.bind(("eth0", 3))
    ear.settimeout(0.5)
    with inside(one.name):
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    s.sendto(b"all of you", ("255.255.255.255", 9))
    one.sh("busybox arping -c1 -w1 -I eth0 172.31.0.77", check=False)
    heard = b""
    with pytest.raises(TimeoutError):
        while True:
            heard = ear.recv(2000)
            assert bytes.fromhex(one.mac.replace(":", "")) not in heard
    s.close(), ear.close()


def test_an_address_that_nobody_has_is_silent(guests):
    guest = guests()
    guest.dhcp()
    assert guest.ping("172.31.0.77") == 0
    assert "FAILED" in guest.sh("ip neigh") or "172.31.0.77" not in guest.sh("ip neigh show nud reachable")


# ---- the host's own network ----


@pytest.fixture
def internet():
    """The outside beyond an uplink: it knows nothing of our addresses."""
    sh("ip netns add internet && ip link add up0 type veth peer name eth0 netns internet")
    sh("ip addr add 198.51.100.1/24 dev up0 && ip link set up0 up && ip -n internet link set eth0 up && ip -n internet link set lo up")
    sh("ip -n internet addr add 198.51.100.2/24 dev eth0 && ip -n internet addr add 192.0.2.80/32 dev lo")
    sh("ip route add default via 198.51.100.2")
    yield "internet"
    sh("ip link del up0; ip netns del internet")


def test_guests_go_out_by_the_default_route_in_the_hosts_name(guests, internet):
    guest = guests()
    guest.dhcp()
    with inside(internet):
        outside = socket.create_server(("192.0.2.80", 8080))
    with outside:
        outside.settimeout(5)
        eventually(lambda: guest.can_connect("192.0.2.80", 8080))
        assert outside.accept()[1][0] == "198.51.100.1"
    # What is too big for the gateway is told so.
    assert guest.ping("192.0.2.80", 1, 1, "-M do -s 4000") == 0
    assert "mtu 1500" in guest.sh("ip route get 192.0.2.80")
    sh("ip route del default")
    eventually(lambda: "MASQUERADE" not in sh("iptables-nft-save -t nat"))


def test_a_firewall_that_drops_forwarding_does_not_stop_guests(guests, internet):
    """As Docker's: policy DROP, and chains of its own which stay as they are."""
    theirs = "*filter\n:FORWARD DROP [0:0]\n:DOCKER-USER - [0:0]\n-A FORWARD -j DOCKER-USER\n-A DOCKER-USER -j RETURN\nCOMMIT\n"
    subprocess.run(["iptables-nft-restore"], input=theirs, text=True, check=True)
    guest = guests()
    guest.dhcp()
    with inside(internet):
        outside = socket.create_server(("192.0.2.80", 8080))
    with outside:
        eventually(lambda: guest.can_connect("192.0.2.80", 8080))
    guest.delete()
    left = sh("iptables-nft-save -t filter")
    assert ":FORWARD DROP" in left and "-A DOCKER-USER -j RETURN" in left and "gureum" not in left
    sh("iptables-nft -P FORWARD ACCEPT; iptables-nft -F; iptables-nft -X")


def test_without_bridge_netfilter_of_its_own(netd):
    assert sh("cat /proc/sys/net/bridge/bridge-nf-call-iptables 2>/dev/null || echo 0").strip() == "0"
    names = {check["Name"]: check["State"] for check in netd.call("gureum.Doctor")["Checks"]}
    assert names["bridge-netfilter"] == "ok" and names["tun"] == "ok"


# ---- what iptables makes of the golden files ----


@pytest.mark.parametrize("path", sorted((ROOT / "tests/golden/netd").glob("*.txt")), ids=lambda p: p.stem)
def test_rules_are_written_as_iptables_prints_them(path):
    text = path.read_text()
    sets = re.findall(r"^set (\S+) (\S+)(?: range (\S+))?$", text, re.M)
    rules = text.split("# rules\n")[1].split("# names")[0]
    rules = re.sub(r"^(:\S+ \S+)$", r"\1 [0:0]", rules, flags=re.M).replace("\n*", "\nCOMMIT\n*") + "COMMIT\n"
    sh("ip netns add golden")
    try:
        for name, kind, span in sets:
            sh(f"ip netns exec golden ipset create {name} {kind} {'range ' + span if span else ''}")
        subprocess.run(["ip", "netns", "exec", "golden", "iptables-nft-restore"], input=rules, text=True, check=True)
        saved = sh("ip netns exec golden iptables-nft-save").replace("-p gre", "-p 47")
    finally:
        sh("ip netns del golden")
    want, got = ([line for line in t.splitlines() if line.startswith("-A")] for t in (rules, saved))
    assert sorted(got) == sorted(want)
    assert [line for line in got if "FORWARD" in line] == [line for line in want if "FORWARD" in line]


# ---- crashes, damage, the end ----


def test_kill_9_loses_no_packet_and_no_flow(guests, netd):
    one, two = guests(), guests()
    one.dhcp(), two.dhcp()
    with two.listen() as listener, one.connect(two.address) as client:
        server, _ = listener.accept()
        before = netd.changes()
        ping = threading.Thread(target=lambda: results.append(one.ping(two.address, 30, 1)))
        results = []
        ping.start()
        netd.kill()
        netd.start()
        netd.kill(signal.SIGTERM)
        netd.start()
        ping.join()
        assert results == [30]
        client.sendall(b"x")
        assert server.recv(1) == b"x"
        server.close()
    assert netd.changes() == before, "the second pass found something to do"
    assert guests().dhcp()


@pytest.mark.parametrize(
    "damage",
    [
        "ip link del {leg}",
        "ip link set {tap} nomaster",
        "bridge link set dev {tap} isolated off",
        "ip link set {leg} down",
        "ip link set {bridge} mtu 1500",
        "ip route del {public}",
        "ip -n {router} route flush table 1000",
        "ip -n {router} route del {address}",
        "ip -n {router} neigh del {address} dev {leg}",
        "ip -n {router} rule del pref 100",
        "ip -n {router} addr flush dev {leg}",
        "ip -n {router} link del igw",
        "ip netns exec {router} iptables-nft -F",
        "ip netns exec {router} iptables-nft -t nat -F",
        "ip netns exec {router} iptables-nft -I FORWARD -j DROP",
        "ip netns exec {router} iptables-nft -P FORWARD ACCEPT",
        "iptables-nft -D FORWARD -j gureum-forward",
        "iptables-nft -F gureum-forward",
        "ip netns del {router}",
    ],
)
def test_what_a_person_breaks_is_mended(guests, group, netd, damage):
    guest = guests(groups=[group(TCP_80, PING)])
    guest.dhcp()
    names = {
        "tap": guest.tap,
        "router": router(guest.vpc),
        "address": guest.address,
        "public": guest.public,
        "bridge": sh(f"cat /sys/class/net/{guest.tap}/master/uevent").split("INTERFACE=")[1].split()[0],
    }
    names["leg"] = "l" + names["bridge"][1:]
    whole = snapshot(guest)
    sh(damage.format(**names))
    eventually(lambda: snapshot(guest) == whole)
    assert guest.ping("203.0.113.1") == 1 and sh(f"ping -n -c1 -W1 {guest.public}")


def snapshot(guest):
    """Everything of the guest's VPC in a form that does not depend on link numbers or on when it was made."""
    ns = router(guest.vpc)
    commands = [
        "ip -o link show group 26485 | sed 's/^[0-9]*: //; s/@[^:]*//; s/ether .*//; s/qlen .*//'",
        "bridge -d link | grep -A1 -E '^[0-9]+: t' | sed 's/^[0-9]*: //'",
        "ip route show proto 103",
        "iptables-nft-save | grep -v '^#' | sed 's/ \\[.*//'",
        f"ip -n {ns} route show table all proto 103; ip -n {ns} rule; ip -n {ns} neigh show nud permanent; ip -n {ns} -o -4 addr | sed 's/^[0-9]*: //'",
        f"ip netns exec {ns} iptables-nft-save | grep -v '^#' | sed 's/ \\[.*//'",
        f"ip netns exec {ns} ipset save | sed 's/initval.*//' | sort",
    ]
    return [sorted(sh(c, check=False).splitlines()) if "save" not in c else sh(c, check=False) for c in commands]


def test_deleting_the_last_interface_leaves_nothing_of_it(netd):
    guest = Guest(netd)
    guest.delete()
    before = ours()
    guest = Guest(netd)
    guest.dhcp()
    assert len(ours()) > len(before)
    guest.delete()
    assert ours() == before
    assert not any(word in line for line in ours() for word in (guest.tap, guest.public, "-A ", "gureum-forward"))
    ns = router(guest.vpc)
    left = sh(f"ip -n {ns} neigh show nud permanent; ip -n {ns} route show table all proto 103; ip netns exec {ns} ipset save")
    assert guest.address not in left and "add " not in left and "sg-" not in left


def test_a_deleted_vpc_leaves_nothing(netd):
    vpc = netd.ec2("CreateVpc", CidrBlock="10.7.0.0/16")["Vpc"]["VpcId"]
    subnet = netd.ec2("CreateSubnet", VpcId=vpc, CidrBlock="10.7.1.0/24")["Subnet"]["SubnetId"]
    before = ours()
    guest = Guest(netd, public=None, SubnetId=subnet)
    assert guest.dhcp()["router"] == "10.7.1.1"
    assert router(vpc) in sh("ls /run/netns")
    guest.delete()
    netd.ec2("DeleteSubnet", SubnetId=subnet)
    netd.ec2("DeleteVpc", VpcId=vpc)
    eventually(lambda: router(vpc) not in sh("ls /run/netns"))
    assert ours() == before


def test_vpcs_may_overlap_and_do_not_meet(netd, guests):
    pair = []
    for _ in range(2):
        vpc = netd.ec2("CreateVpc", CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"]
        subnet = netd.ec2("CreateSubnet", VpcId=vpc, CidrBlock="10.9.1.0/24")["Subnet"]["SubnetId"]
        pair.append([guests(public=None, SubnetId=subnet, PrivateIpAddress=f"10.9.1.{n}") for n in (10, 11)])
    for guest in sum(pair, []):
        guest.dhcp()
    for one, two in pair:
        with two.listen() as listener, one.connect("10.9.1.11"):
            assert listener.accept()[1][0] == "10.9.1.10"


@pytest.mark.parametrize("seed", range(6))
def test_killed_anywhere_it_still_comes_to_what_was_asked(netd, seed):
    made, fraction = [], (seed + 1) / 7
    for round_ in range(3):
        if netd.process.poll() is None:
            netd.kill()
        netd.start()
        timer = threading.Timer(0.15 * fraction + 0.02 * round_, netd.process.kill)
        timer.start()
        try:
            for _ in range(3):
                made.append(Guest(netd))
        except (OSError, ConnectionError):
            pass
        timer.join()
        netd.process.wait()
    netd.start()
    for eni in netd.ec2("DescribeNetworkInterfaces")["NetworkInterfaces"]:
        netd.ec2("AttachNetworkInterface", NetworkInterfaceId=eni["NetworkInterfaceId"], InstanceId=eni["Attachment"]["InstanceId"], DeviceIndex=0)
        assert eni["_Tap"] in " ".join(ours())
    for guest in made:
        assert guest.dhcp()["ip"] == guest.address
        guest.leave()
    for eni in netd.ec2("DescribeNetworkInterfaces")["NetworkInterfaces"]:
        netd.ec2("DeleteNetworkInterface", NetworkInterfaceId=eni["NetworkInterfaceId"], _Force=True)
    assert not [line for line in ours() if line.startswith("t")]
    before = netd.changes()
    netd.kill()
    netd.start()
    assert netd.changes() == before
    for name in os.listdir("/run/netns"):
        if name.startswith("guest"):
            sh(f"ip netns del {name}")
