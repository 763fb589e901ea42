"""The host owner's own tables of nftables: they drop what is forwarded, and guests get outside all the same; nothing else of theirs is touched."""

import contextlib
import re
import signal
import subprocess
import threading

import pytest
from lab import Guest, Refused, doctor, eventually, sh

HOOK = "type filter hook forward priority filter"
DROPPING = {
    "a policy, as in Debian's nftables.conf": f"table inet host {{ chain forward {{ {HOOK}; policy drop; }} }}",
    "a rule": f"table inet host {{ chain forward {{ {HOOK}; policy accept; ct state established accept; counter drop; }} }}",
    "a refusal": f"table inet host {{ chain forward {{ {HOOK}; reject with icmpx admin-prohibited; }} }}",
    "a chain that is jumped to": f"table inet host {{ chain sink {{ counter drop; }}\nchain forward {{ {HOOK}; jump sink; }} }}",
    "a map of verdicts": f"table inet host {{ chain forward {{ {HOOK}; meta nfproto vmap {{ ipv4 : drop, ipv6 : drop }}; }} }}",
    "chains of all families, one late": f"table ip mine {{ chain forward {{ {HOOK}; policy drop; }} }}\n"
    "table ip6 mine { chain forward { type filter hook forward priority -5; policy drop; } }\n"
    "table inet host { chain late { type filter hook forward priority 300; policy drop; } }",
    "a table of bridges": "table bridge host { chain forward { type filter hook forward priority 0; policy drop; } }",
    "the table filter, by hand": f"table ip filter {{ chain forward {{ {HOOK}; policy drop; }} }}",
}
MARK = r'(iif|oif)group 26485 accept comment "gureum"'


def load(rules):
    """One transaction; nft wants an end of line before a brace."""
    subprocess.run(["nft", "-f", "-"], input=rules.replace("}", "\n}") + "\n", text=True, check=True)


def tables():
    return [t for t in ("inet host", "ip mine", "ip6 mine", "inet owned", "bridge host") if t in sh("nft list tables")]


def marks():
    return [line.strip() for line in sh("nft list ruleset").splitlines() if re.search(MARK, line)]


@pytest.fixture(autouse=True)
def clean():
    yield
    for table in tables():
        sh(f"nft delete table {table}")
    sh("nft delete chain ip filter forward", check=False)


@pytest.fixture
def guest(guests, internet):
    guest = guests()
    guest.dhcp()
    assert eventually(lambda: guest.ping("192.0.2.80"))
    return guest


@contextlib.contextmanager
def settings(netd, text):
    before = netd.config.read_text()
    netd.kill(signal.SIGTERM)
    netd.config.write_text(before + text)
    netd.start()
    try:
        yield
    finally:
        netd.kill(signal.SIGTERM)
        netd.config.write_text(before)
        netd.start()


@pytest.mark.parametrize("rules", DROPPING.values(), ids=DROPPING.keys())
def test_guests_get_out_and_are_reached_though_the_hosts_tables_drop(netd, guest, rules):
    load(rules)
    n = 2 * rules.count("hook forward")
    eventually(lambda: len(marks()) == n)
    assert guest.reaches("192.0.2.80")
    check = doctor(netd)["firewall"]
    assert check["State"] == "ok" and "netd has put two rules" in check["Text"]
    assert netd.reconcile() == 0
    guest.delete()
    eventually(lambda: marks() == [])


def test_what_drops_nothing_is_left_alone(netd, guest):
    load(f"table inet host {{ chain input {{ type filter hook input priority 0; ct state invalid drop; }}\nchain forward {{ {HOOK}; counter accept; }} }}")
    assert netd.reconcile() == 0 and marks() == [] and guest.reaches("192.0.2.80")
    assert "no table of nftables drops" in doctor(netd)["firewall"]["Text"]


def test_the_owners_others_stay_dropped_and_what_stands_before_our_rules_counts(guest):
    load(DROPPING["a policy, as in Debian's nftables.conf"])
    eventually(lambda: len(marks()) == 2)
    assert len(re.findall("accept", sh("nft list table inet host"))) == 2
    sh("nft insert rule inet host forward ip daddr 192.0.2.80 drop")
    assert guest.ping("192.0.2.80") == 0 and guest.reaches("198.51.100.2")
    assert len(marks()) == 2


def test_a_ruleset_loaded_anew_under_traffic_has_our_rules_again_once(netd, guest):
    rules = DROPPING["a policy, as in Debian's nftables.conf"]
    load(rules)
    eventually(lambda: len(marks()) == 2)
    got, ping = [], None
    ping = threading.Thread(target=lambda: got.append(guest.ping("192.0.2.80", 30, 1)))
    ping.start()
    for _ in range(3):
        load("flush ruleset\n" + rules)
        eventually(lambda: len(marks()) == 2 and guest.ping("192.0.2.80"))
    ping.join()
    assert got[0] > 0
    # Saved and loaded without a flush: they are there twice, until netd has seen it.
    saved = sh("nft list table inet host")
    load(saved)
    eventually(lambda: len(marks()) == 2)
    assert guest.reaches("192.0.2.80")
    sh("nft flush chain inet host forward")
    eventually(lambda: len(marks()) == 2)
    assert netd.reconcile() == 0 and netd.lines("let through the host's firewall") >= 4


def test_what_is_changed_while_a_pass_runs_is_seen(netd, guest):
    load(DROPPING["a policy, as in Debian's nftables.conf"])
    eventually(lambda: len(marks()) == 2)

    def reconcile():
        with contextlib.suppress(Refused):  # too many changes at once: it is tried again
            netd.reconcile()

    for _ in range(10):
        passing = threading.Thread(target=reconcile)
        passing.start()
        while passing.is_alive():
            sh("nft flush chain inet host forward")
        # Sooner than all is read again for no reason, after a minute.
        eventually(lambda: len(marks()) == 2, 30)


def test_netd_killed_and_back_finds_its_rules(netd, guest):
    load(DROPPING["a policy, as in Debian's nftables.conf"])
    eventually(lambda: len(marks()) == 2)
    netd.kill()
    assert guest.reaches("192.0.2.80")
    netd.start()
    assert netd.reconcile() == 0 and len(marks()) == 2
    # The last gateway goes while netd is away from none of it.
    guest.delete()
    eventually(lambda: marks() == [])
    assert "policy drop" in sh("nft list table inet host")


def test_killed_around_its_transaction_it_comes_to_the_same(netd, guest):
    met = set()
    def is_over():
        """It died, or did all there is to do before its step came."""
        with contextlib.suppress(OSError):
            return netd.process.poll() is not None or (len(marks()) == 2 and netd.reconcile() == 0)
        return netd.process.wait() is not None

    for step in range(1, 5):
        netd.die_at(step)
        load(DROPPING["a policy, as in Debian's nftables.conf"])
        eventually(is_over)
        netd.die_at(0)
        if netd.process.poll() is not None:
            met.add(netd.log.read_text().rpartition("killed before: ")[2].split("\n")[0])
            netd.start()
        eventually(lambda: len(marks()) == 2 and netd.reconcile() == 0)
        assert guest.reaches("192.0.2.80")
        sh("nft delete table inet host")
    assert {"a transaction of nftables", "what follows a transaction of nftables"} <= met, met


def test_a_table_that_has_an_owner_cannot_be_changed_and_doctor_says_so(netd, guest):
    owner = subprocess.Popen(["nft", "-i"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True)
    try:
        owner.stdin.write("add table inet owned { flags owner; }\n")
        owner.stdin.write(f"add chain inet owned forward {{ {HOOK}; policy drop; }}\n")
        owner.stdin.flush()
        eventually(lambda: "policy drop" in sh("nft list ruleset"))
        eventually(lambda: guest.ping("192.0.2.80") == 0)
        check = doctor(netd)["firewall"]
        assert check["State"] == "warning" and '"inet owned forward"' in check["Text"] and "owner" in check["Text"]
        assert netd.reconcile() == 0 and marks() == []
        for way in ("iif", "oif"):
            owner.stdin.write(f"insert rule inet owned forward {way}group 26485 accept\n")
        owner.stdin.flush()
        eventually(lambda: guest.ping("192.0.2.80"))
        assert doctor(netd)["firewall"]["State"] == "ok"
    finally:
        owner.stdin.close()
        owner.wait()
    assert "owned" not in sh("nft list tables")


def test_leave_touches_nothing_and_doctor_says_what_to_accept(netd, guests, guest):
    load(DROPPING["a policy, as in Debian's nftables.conf"])
    eventually(lambda: len(marks()) == 2)
    with settings(netd, "HostFirewall=leave\n"):
        assert marks() == []
        other = guests()
        other.dhcp()
        assert guest.reaches(other.address) and guest.ping("192.0.2.80") == 0
        check = doctor(netd)["firewall"]
        assert check["State"] == "warning" and '"inet host forward"' in check["Text"]
        (accept,) = re.findall(r"let it accept (.*)", check["Text"])
        for rule in accept.split(" and "):
            sh(f"nft add rule inet host forward {rule} accept")
        assert eventually(lambda: guest.ping("192.0.2.80"))
        assert doctor(netd)["firewall"]["State"] == "ok"
        sh("nft flush chain inet host forward")
    eventually(lambda: len(marks()) == 2)


def test_frames_within_a_vpc_pass_a_table_of_bridges_without_a_gateway(netd, vpc):
    vpc_id = vpc()
    subnet = netd.ec2("CreateSubnet", VpcId=vpc_id, CidrBlock="10.20.1.0/24")["Subnet"]["SubnetId"]
    load(DROPPING["a table of bridges"] + "\n" + DROPPING["a policy, as in Debian's nftables.conf"])
    guest = Guest(netd, SubnetId=subnet, public=False)
    try:
        eventually(lambda: len(marks()) == 2)
        assert "oifgroup" in sh("nft list table bridge host") and "oifgroup" not in sh("nft list table inet host")
        assert guest.dhcp() and netd.reconcile() == 0
    finally:
        guest.delete()
    eventually(lambda: marks() == [])


def test_a_value_that_means_nothing_is_not_started_with(netd):
    before = netd.config.read_text()
    netd.kill(signal.SIGTERM)
    netd.config.write_text(before + "HostFirewall=drop\n")
    assert not netd.live() and "HostFirewall is neither" in netd.log.read_text()
    netd.config.write_text(before)
    netd.start()
