"""Guests that lie: nothing of it is believed, and nobody else notices."""

import socket

import pytest
from lab import inside, router, sh


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
