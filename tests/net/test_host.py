"""The host's own network: its way out, its firewall, and what iptables makes of ours."""

import os
import re
import socket
import subprocess

import pytest
from lab import PATIENCE, ROOT, TCP_80, doctor, eventually, inside, sh


def test_guests_go_out_by_the_default_route_in_the_hosts_name(guests, internet):
    guest = guests()
    guest.dhcp()
    with inside(internet):
        outside = socket.create_server(("192.0.2.80", 8080))
    with outside:
        outside.settimeout(PATIENCE)
        eventually(lambda: guest.can_connect("192.0.2.80", 8080))
        assert outside.accept()[1][0] == "198.51.100.1"
    # What is too big for the gateway is told so.
    assert guest.ping("192.0.2.80", 1, 1, "-M do -s 4000") == 0
    eventually(lambda: "mtu 1500" in guest.sh("ip route get 192.0.2.80"))
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


def test_who_claims_a_guests_address_outside_passes_no_firewall(guests, internet):
    """What netd lets pass is its guests', not all that says it is: the owner's containers stay behind their policy."""
    sh("iptables-nft -P FORWARD DROP")
    sh("ip netns add container && ip link add c0 type veth peer name eth0 netns container")
    sh("ip addr add 10.99.0.1/24 dev c0 && ip link set c0 up && ip -n container addr add 10.99.0.2/24 dev eth0 && ip -n container link set eth0 up")
    sh("sysctl -qw net.ipv4.conf.up0.rp_filter=0 net.ipv4.conf.all.rp_filter=0")
    guest = guests()
    guest.dhcp()
    assert eventually(lambda: guest.ping("192.0.2.80"))
    sh(f"ip -n {internet} addr add {guest.public}/32 dev lo && ip -n {internet} route add 10.99.0.0/24 via 198.51.100.1")
    with inside("container"):
        ear = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with inside(internet):
        liar = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        with ear, liar:
            ear.bind(("10.99.0.2", 7777))
            ear.settimeout(0.5)
            liar.bind((guest.public, 7777))
            liar.sendto(b"hello", ("10.99.0.2", 7777))
            with pytest.raises(TimeoutError):
                ear.recv(9)
            sh("iptables-nft -P FORWARD ACCEPT")
            ear.settimeout(PATIENCE)
            liar.sendto(b"hello", ("10.99.0.2", 7777))
            assert ear.recv(9) == b"hello"
    finally:
        sh("iptables-nft -P FORWARD ACCEPT; ip link del c0; ip netns del container")


def test_without_bridge_netfilter_of_its_own(netd):
    assert sh("cat /proc/sys/net/bridge/bridge-nf-call-iptables 2>/dev/null || echo 0").strip() == "0"
    names = {check["Name"]: check["State"] for check in netd.call("gureum.Doctor")["Checks"]}
    assert names["bridge-netfilter"] == "ok" and names["tun"] == "ok"


@pytest.mark.parametrize(
    "check, breakage, cure",
    [
        ("rp-filter", "sysctl -qw net.ipv4.conf.all.rp_filter=2", "sysctl -qw net.ipv4.conf.all.rp_filter=0"),
        ("pool-public", "ip route add 198.18.7.0/24 dev lo", "ip route del 198.18.7.0/24 dev lo"),
        ("pool-transit", "ip route add 100.127.9.0/24 dev lo", "ip route del 100.127.9.0/24 dev lo"),
        (
            "networkd",
            "mkdir -p /run/systemd/netif/links; for i in $(ip -o link show group 26485 | cut -d: -f1); do echo ADMIN_STATE=configured > /run/systemd/netif/links/$i; done",
            "sed -i s/configured/unmanaged/ /run/systemd/netif/links/*",
        ),
        (
            "networkmanager",
            "mkdir -p /run/NetworkManager/devices; for i in $(ip -o link show group 26485 | cut -d: -f1); do echo managed=true > /run/NetworkManager/devices/$i; done",
            "rm /run/NetworkManager/devices/*",
        ),
    ],
)
def test_doctor_finds_what_is_in_the_way(netd, guests, check, breakage, cure):
    guests().dhcp()
    assert doctor(netd).get(check, {"State": "ok"})["State"] == "ok"
    sh(breakage)
    try:
        assert doctor(netd)[check]["State"] == "warning"
    finally:
        sh(cure)
    assert doctor(netd)[check]["State"] == "ok"


OTHER_TABLES = {
    "a policy of mangle": ("iptables", "iptables-nft -t mangle -P FORWARD DROP"),
    "a chain of security": ("iptables", "iptables-nft -t security -N SINK; iptables-nft -t security -A SINK -j DROP; iptables-nft -t security -A FORWARD -s 198.18.0.0/15 -g SINK"),
    "Docker's policy, by the legacy command": ("iptables-legacy", "iptables-legacy -P FORWARD DROP"),
    "a rule of legacy mangle": ("iptables-legacy", "iptables-legacy -t mangle -A FORWARD -j DROP"),
    "ebtables": ("ebtables", "ebtables-nft -P FORWARD DROP"),
}


@pytest.fixture
def other_tables():
    yield
    for command, tables in ("iptables-nft", "mangle security"), ("iptables-legacy", "filter mangle"), ("ebtables-nft", "filter"):
        for table in tables.split():
            sh(f"{command} -t {table} -F; {command} -t {table} -X; {command} -t {table} -P FORWARD ACCEPT")


@pytest.mark.parametrize("check, breakage", OTHER_TABLES.values(), ids=OTHER_TABLES.keys())
def test_doctor_names_tables_of_iptables_that_cut_guests_off_and_what_lets_them_pass(netd, guests, internet, other_tables, check, breakage):
    guest = guests()
    guest.dhcp()
    assert eventually(lambda: guest.ping("192.0.2.80"))
    assert doctor(netd)[check]["State"] == "ok"
    sh(breakage)
    assert guest.ping("192.0.2.80") == 0
    found = doctor(netd)[check]
    assert found["State"] == "warning"
    sh(found["Text"].rpartition("pass: ")[2])
    assert guest.reaches("192.0.2.80")
    assert doctor(netd)[check]["State"] == "ok" and netd.reconcile() == 0


def test_doctor_leaves_tables_alone_that_nobody_loaded_and_those_that_drop_nothing(netd, guests, other_tables):
    guests().dhcp()
    loaded = sh("cat /proc/net/ip_tables_names")
    sh("iptables-nft -t mangle -A FORWARD -p tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu; iptables-nft -t mangle -A PREROUTING -s 192.0.2.99 -j DROP")
    checks = doctor(netd)
    assert all(checks[name]["State"] == "ok" for name in ("iptables", "iptables-legacy", "ebtables"))
    assert sh("cat /proc/net/ip_tables_names") == loaded


def test_doctor_says_why_iptables_tables_cannot_be_read(netd, other_tables):
    sh("iptables-nft -t mangle -A FORWARD -j ACCEPT; nft insert rule ip mangle FORWARD iifgroup 7 accept")
    found = doctor(netd)["iptables"]
    assert found["State"] == "warning" and "table mangle" in found["Text"]


def test_doctor_tries_the_kernel(netd):
    before = sorted(os.listdir("/run/netns"))
    checks = doctor(netd)
    for check in ("kernel-ports", "kernel-sets", "kernel-nf_tables", "kernel-nflog", "kernel-statistic"):
        assert checks[check]["State"] == "ok", checks[check]
    assert sorted(os.listdir("/run/netns")) == before


# ---- what iptables makes of the golden files ----


def check_rules(rules, command):
    rules = re.sub(r"^(:\S+ \S+)$", r"\1 [0:0]", rules, flags=re.M).replace("\n*", "\nCOMMIT\n*") + "COMMIT\n"
    subprocess.run(["ip", "netns", "exec", "golden", command + "-restore"], input=rules, text=True, check=True)
    saved = sh(f"ip netns exec golden {command}-save").replace("-p gre", "-p 47").replace("-p ipv6-icmp", "-p 58")
    want, got = ([line for line in t.splitlines() if line.startswith("-A")] for t in (rules, saved))
    assert sorted(got) == sorted(want)
    assert [line for line in got if "FORWARD" in line] == [line for line in want if "FORWARD" in line]


@pytest.mark.parametrize("path", sorted((ROOT / "tests/golden/netd").glob("*.txt")), ids=lambda p: p.stem)
def test_rules_are_written_as_iptables_prints_them(path):
    text = path.read_text()
    sets = re.findall(r"^set (\S+) (\S+)( ipv6)?(?: range (\S+))?$", text, re.M)
    sh("ip netns add golden")
    try:
        for name, kind, six, span in sets:
            more = "family inet6" if six else f"range {span}" if span else ""
            sh(f"ip netns exec golden ipset create {name} {kind} {more}")
        for title, command in ("# rules\n", "iptables-nft"), ("# rules, IPv6\n", "ip6tables-nft"):
            if title in text:
                check_rules(text.split(title)[1].split("# ")[0], command)
    finally:
        sh("ip netns del golden")


def test_guests_do_not_reach_the_host_itself(netd, guests, internet, group):
    """Its own addresses are not there for them, whatever listens on them; what the host begins is answered."""
    settings = netd.config.read_text()
    netd.kill()
    netd.config.write_text(settings.replace("GuestsReachHost=yes\n", ""))
    netd.start()
    try:
        guest = guests(groups=[group(TCP_80)])
        guest.dhcp()
        with inside(internet):
            outside = socket.create_server(("192.0.2.80", 8080))
        with outside, socket.create_server(("0.0.0.0", 8081)):
            eventually(lambda: guest.can_connect("192.0.2.80", 8080))
            for address in ("203.0.113.1", "198.51.100.1"):
                assert not guest.can_connect(address, 8081)
                assert guest.ping(address) == 0
        with guest.listen(), socket.create_connection((guest.public, 80), PATIENCE):
            pass
        sh("iptables-nft -F gureum-input")
        eventually(lambda: guest.ping("203.0.113.1") == 0 and "DROP" in sh("iptables-nft -S gureum-input"))
    finally:
        netd.kill()
        netd.config.write_text(settings)
        netd.start()
