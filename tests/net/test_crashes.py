"""netd dies, anywhere: no packet is lost, and the next life finishes what was asked."""

import os
import signal
import threading

import pytest
from lab import Guest, ours, sh


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
