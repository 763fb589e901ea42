"""Guests that lie: nothing of it is believed, and nobody else notices."""

import re
import socket

import pytest
from lab import PATIENCE, inside, other_than, router, sh


def test_a_foreign_address_gets_nowhere(guests):
    one, two, liar = guests(), guests(), guests()
    for guest in (one, two, liar):
        guest.dhcp()
    liar.sh(f"ip addr add {one.address}/32 dev eth0")
    assert liar.ping(two.address, 2, 1, f"-I {one.address}") == 0
    assert liar.reaches(two.address)
    assert two.reaches(one.address)


def test_a_foreign_mac_gets_nowhere(guests):
    one, liar = guests(), guests()
    one.dhcp(), liar.dhcp()
    gateway = liar.lease["router"]
    liar.sh(f"ip link set eth0 address {one.mac}")
    liar.sh(f"ip neigh replace {gateway} lladdr 02:67:75:00:00:01 dev eth0")
    assert liar.ping(gateway) == 0
    assert one.reaches(gateway)
    liar.sh(f"ip link set eth0 address {liar.mac}")
    assert liar.reaches(gateway)


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
    assert two.reaches(one.address)
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
    one.sh(f"busybox arping -c1 -w1 -I eth0 {other_than(one, two)}", check=False)
    heard = b""
    with pytest.raises(TimeoutError):
        while True:
            heard = ear.recv(2000)
            assert bytes.fromhex(one.mac.replace(":", "")) not in heard
    s.close(), ear.close()


def test_an_address_that_nobody_has_is_silent(guests):
    guest = guests()
    guest.dhcp()
    nobodys = other_than(guest)
    assert guest.ping(nobodys) == 0
    assert "FAILED" in guest.sh("ip neigh") or nobodys not in guest.sh("ip neigh show nud reachable").split()


def dhcp_offer(mac, address):
    """An offer of an address and of a router, broadcast."""
    body = b"\x02\x01\x06\x00" + b"\x12\x34\x56\x78" + b"\0" * 8 + socket.inet_aton("10.66.66.66") + socket.inet_aton(address) + b"\0" * 4
    body += mac + b"\0" * 202 + b"\x63\x82\x53\x63" + b"\x35\x01\x02" + b"\x36\x04" + socket.inet_aton(address) + b"\x03\x04" + socket.inet_aton(address) + b"\xff"
    udp = b"\0\x43\0\x44" + (8 + len(body)).to_bytes(2, "big") + b"\0\0" + body
    ip = b"\x45\0" + (20 + len(udp)).to_bytes(2, "big") + b"\0\0\0\0\x40\x11\0\0" + socket.inet_aton(address) + b"\xff" * 4
    total = sum(int.from_bytes(ip[i : i + 2], "big") for i in range(0, 20, 2))
    total = (total & 0xFFFF) + (total >> 16)
    return ip[:10] + (0xFFFF - total).to_bytes(2, "big") + ip[12:] + udp


def test_a_dhcp_server_in_a_guest_is_not_asked_and_not_heard(guests):
    guest, liar = guests(), guests()
    liar.dhcp()
    with inside(liar.name):
        ear = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    with inside(guest.name):
        other_ear = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    ear.bind(("eth0", 3)), other_ear.bind(("eth0", 3))
    mac, victim = (bytes.fromhex(g.mac.replace(":", "")) for g in (liar, guest))
    for target in (b"\xff" * 6, victim):
        ear.send(target + mac + b"\x08\0" + dhcp_offer(victim, liar.address))
    assert guest.dhcp()["router"] != liar.address and guest.lease["serverid"] != liar.address
    for socket_, stranger in ((ear, victim), (other_ear, mac)):
        socket_.settimeout(0.2)
        with pytest.raises(TimeoutError):
            while True:
                assert socket_.recv(2000)[6:12] != stranger
        socket_.close()


def test_metadata_of_another_vpc_is_out_of_reach(guests, netd, vpc):
    here = guests()
    subnet = netd.ec2("CreateSubnet", VpcId=vpc("10.44.0.0/16"), CidrBlock="10.44.1.0/24")["Subnet"]["SubnetId"]
    there = guests(public=None, SubnetId=subnet)
    here.dhcp(), there.dhcp()
    passed = [[socket.socket(fileno=fd) for fd in netd.call("gureum.OpenMetadata", fds=True, VpcId=guest.vpc)] for guest in (here, there)]
    listeners = [sockets[0] for sockets in passed]
    for listener in listeners:
        listener.settimeout(0.3)
    listeners[0].settimeout(PATIENCE)
    with here.connect("169.254.169.254"):
        assert listeners[0].accept()[1][0] == here.address
        with pytest.raises(TimeoutError):
            listeners[1].accept()
    # Nor by the other guest's network, which it has no route to.
    here.sh(f"ip route add 10.44.1.0/24 via {here.lease['router']}")
    assert here.ping("10.44.1.1") == 0 and here.ping(there.address) == 0
    for listener in sum(passed, []):
        listener.close()
    there.delete()


def test_the_hosts_side_of_a_gateway_is_out_of_reach_without_a_public_address(guests):
    public, private = guests(), guests(public=False)
    public.dhcp(), private.dhcp()
    host_end = re.search(r"inet (100\.127\.[\d.]+)", sh("ip -4 addr")).group(1)
    with socket.create_server((host_end, 7000)):
        assert not private.can_connect(host_end, 7000)
    assert private.ping(host_end) == 0 and private.ping("203.0.113.1") == 0
