"""What a guest is told: leases, names, metadata."""

import contextlib
import itertools
import os
import socket
import threading

import pytest
from lab import PATIENCE, dns, eventually, inside, other_than


def test_a_guest_gets_its_lease(guests):
    guest = guests()
    lease = guest.dhcp()
    assert lease["ip"] == guest.address
    assert lease["mask"] == "20" and lease["router"].startswith("172.31.") and lease["router"].endswith(".1")
    assert lease["dns"] == "172.31.0.2" and lease["domain"] == "ec2.internal"
    assert lease["hostname"] == guest.private_name.split(".")[0]
    assert lease["mtu"] == "9001" and lease["lease"] == "3600"


def test_a_guest_that_asks_for_another_address_gets_its_own(guests):
    guest = guests()
    assert guest.dhcp(f"-r {other_than(guest)}")["ip"] == guest.address


def test_the_gateway_answers(guests):
    guest = guests()
    assert guest.reaches(guest.dhcp()["router"])


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
    with upstream(lambda name: socket.inet_aton("192.0.2.7"), kind=1):
        # One that is slower than netd waits for is SERVFAIL, too.
        eventually(lambda: dns(guest, "172.31.0.2", "example.org") == (0, ["192.0.2.7"]))


@contextlib.contextmanager
def upstream(answers, kind=16):
    """The outside's resolver: answers(name) is the data of a record (TXT, if it is not told otherwise), None: nothing is said."""

    def serve(s):
        while True:
            question, client = s.recvfrom(4096)
            if question == b"end":
                return
            end = question.index(b"\0", 12) + 5
            data = answers(question[13 : 13 + question[12]].decode())
            if data is not None:
                record = b"\xc0\x0c" + kind.to_bytes(2, "big") + b"\0\1\0\0\0\x3c" + len(data).to_bytes(2, "big") + data
                s.sendto(question[:2] + b"\x81\x80\0\1\0\1\0\0\0\0" + question[12:end] + record, client)

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.bind(("203.0.113.1", 53))
        thread = threading.Thread(target=serve, args=(s,))
        thread.start()
        try:
            yield
        finally:
            s.sendto(b"end", ("203.0.113.1", 53))
            thread.join()


def question_of(name, number=0x1234):
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return number.to_bytes(2, "big") + b"\1\0\0\1\0\0\0\0\0\0" + labels + b"\0\0\x10\0\1"


def test_an_answer_too_long_to_be_passed_on_says_so(guests):
    guest = guests()
    guest.dhcp()
    with upstream(lambda name: b"\xc8" + b"x" * 200 + b"y" * 5000 if name == "long" else b"\1x"), inside(guest.name):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.settimeout(PATIENCE)
            s.connect(("172.31.0.2", 53))

            def ask(name):
                s.send(question_of(name))
                answer = s.recv(9000)
                return answer if answer[3] & 15 != 2 else None  # SERVFAIL: the upstream was slower than netd waits for

            for name, is_cut in (("long.example", True), ("short.example", False)):
                answer = eventually(lambda asked=name: ask(asked))
                assert bool(answer[2] & 2) == is_cut and answer[:2] == b"\x12\x34"
                assert not is_cut or answer[12:] == question_of(name)[12:] and answer[6:12] == b"\0" * 6


def test_one_guest_does_not_keep_others_from_being_answered(guests):
    one, two = guests(), guests()
    one.dhcp(), two.dhcp()
    heard, names = set(), (f"found{n}" for n in itertools.count())

    def answer(name):
        heard.add(name)
        return None if name.startswith("lost") else b"\1x"

    with upstream(answer):
        with inside(one.name):
            s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with s:
            s.settimeout(PATIENCE)
            s.connect(("172.31.0.2", 53))

            def is_answered():
                for n in range(200):
                    s.send(question_of(f"lost{n}.example", n))
                name = next(names)
                code = dns(two, "172.31.0.2", f"{name}.example", kind=16)[0]
                eventually(lambda: name in heard)  # it is passed on in any case; an upstream that is slower than netd waits for is SERVFAIL, too
                return code == 0

            eventually(is_answered)
            assert s.recv(4096)[3] & 15 == 2


def test_a_question_that_the_only_upstream_lost_is_asked_again(guests):
    guest, asked = guests(), set()
    guest.dhcp()

    def second_time(name):
        is_known = name in asked
        asked.add(name)
        return b"\1x" if is_known else None

    names = (f"once{n}.example" for n in itertools.count())  # another each time: on a slow machine an answer may be late
    with upstream(second_time):
        eventually(lambda: dns(guest, "172.31.0.2", next(names), kind=16) == (0, [b"\1x"]))


def test_metadata_is_answered_through_a_passed_socket(guests, netd):
    guest = guests()
    guest.dhcp()
    fd, other = netd.call("gureum.OpenMetadata", fds=True, VpcId=guest.vpc)
    os.close(other)  # IPv6's
    with socket.socket(fileno=fd) as listener:
        listener.settimeout(PATIENCE)
        with guest.connect("169.254.169.254") as client:
            server, peer = listener.accept()
            assert peer[0] == guest.address
            server.sendall(b"hello")
            assert client.recv(9) == b"hello"
            server.close()
    assert guest.reaches("169.254.169.254")


def test_instances_can_be_named_by_their_ids(netd, vpc, guests):
    vpc_id = vpc("10.61.0.0/16")
    subnet = netd.ec2("CreateSubnet", VpcId=vpc_id, CidrBlock="10.61.1.0/24")["Subnet"]["SubnetId"]
    netd.ec2("ModifySubnetAttribute", SubnetId=subnet, PrivateDnsHostnameTypeOnLaunch="resource-name")
    plain = guests(public=False, SubnetId=subnet)
    assert plain.dhcp()["hostname"] == plain.instance
    assert plain.private_name == f"{plain.instance}.ec2.internal"
    netd.ec2("ModifyVpcAttribute", VpcId=vpc_id, EnableDnsHostnames={"Value": True})
    assert dns(plain, "10.61.0.2", plain.private_name) == (3, [])  # no record is asked for
    netd.ec2("ModifySubnetAttribute", SubnetId=subnet, EnableResourceNameDnsARecordOnLaunch={"Value": True})
    (shown,) = netd.ec2("DescribeSubnets", SubnetIds=[subnet])["Subnets"]
    assert shown["PrivateDnsNameOptionsOnLaunch"]["EnableResourceNameDnsARecord"] is True

    named = guests(public=False, SubnetId=subnet)
    by_address = "ip-" + named.address.replace(".", "-") + ".ec2.internal"
    assert dns(plain, "10.61.0.2", named.private_name) == dns(plain, "10.61.0.2", by_address) == (0, [named.address])
    reverse = ".".join(reversed(named.address.split("."))) + ".in-addr.arpa"
    code, (pointer,) = dns(plain, "10.61.0.2", reverse, kind=12)
    assert code == 0 and named.instance.encode() in pointer

    # A launch may say otherwise.
    other = guests(public=False, SubnetId=subnet, _PrivateDnsNameOptions={"HostnameType": "ip-name"})
    assert other.private_name.startswith("ip-10-61-1-") and other.dhcp()["hostname"] == other.private_name.split(".")[0]


def test_names_are_resolved_where_the_vpc_has_them(netd, vpc, guests):
    vpc_id = vpc("10.61.0.0/16")
    subnet = netd.ec2("CreateSubnet", VpcId=vpc_id, CidrBlock="10.61.1.0/24")["Subnet"]["SubnetId"]
    guest = guests(public=True, SubnetId=subnet)
    reverse = ".".join(reversed(guest.address.split("."))) + ".in-addr.arpa"
    assert guest.dhcp()["dns"] == "10.61.0.2"
    assert dns(guest, "10.61.0.2", guest.private_name) == dns(guest, "10.61.0.2", reverse, kind=12) == (3, [])

    def public_name():
        return netd.ec2("DescribeNetworkInterfaces", NetworkInterfaceIds=[guest.eni])["NetworkInterfaces"][0]["Association"]["PublicDnsName"]

    assert public_name() == ""
    netd.ec2("ModifyVpcAttribute", VpcId=vpc_id, EnableDnsHostnames={"Value": True})
    netd.reconcile()
    assert dns(guest, "10.61.0.2", guest.private_name) == dns(guest, "10.61.0.2", public_name()) == (0, [guest.address])
    assert dns(guest, "10.61.0.2", reverse, kind=12)[0] == 0

    netd.ec2("ModifyVpcAttribute", VpcId=vpc_id, EnableDnsSupport={"Value": False})
    netd.reconcile()
    assert "dns" not in guest.dhcp() and public_name() == ""
    with pytest.raises(OSError):
        dns(guest, "10.61.0.2", guest.private_name, timeout=0.5)
