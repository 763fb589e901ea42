"""Interfaces: secondary addresses, and such as come to a running guest and go."""

import socket
import subprocess

from lab import BUILD, PATIENCE, eventually, inside, ours, refused, sh

TCP_80 = {"IpProtocol": "tcp", "FromPort": 80, "ToPort": 80, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}


def show(netd, eni):
    return netd.ec2("DescribeNetworkInterfaces", NetworkInterfaceIds=[eni])["NetworkInterfaces"][0]


def secondary(netd, eni):
    return [a["PrivateIpAddress"] for a in show(netd, eni)["PrivateIpAddresses"] if not a["Primary"]]


def test_secondary_addresses_come_and_go(netd, guests, group):
    one, two = guests(groups=[group(TCP_80)]), guests()
    one.dhcp(), two.dhcp()
    answer = netd.ec2("AssignPrivateIpAddresses", NetworkInterfaceId=one.eni, SecondaryPrivateIpAddressCount=2)
    addresses = [a["PrivateIpAddress"] for a in answer["AssignedPrivateIpAddresses"]]
    assert secondary(netd, one.eni) == addresses and len(set(addresses)) == 2
    for address in addresses:
        one.sh(f"ip addr add {address}/20 dev eth0")
    with one.listen():
        eventually(lambda: all(two.can_connect(address) for address in addresses))
        netd.ec2("UnassignPrivateIpAddresses", NetworkInterfaceId=one.eni, PrivateIpAddresses=addresses[:1])
        assert not two.can_connect(addresses[0]) and two.connects(addresses[1])
    assert secondary(netd, one.eni) == addresses[1:]
    # Named, and named again.
    for _ in range(2):
        netd.ec2("AssignPrivateIpAddresses", NetworkInterfaceId=one.eni, PrivateIpAddresses=addresses[:1])
    assert secondary(netd, one.eni) == addresses[::-1]


def test_a_secondary_address_moves_with_its_elastic_one(netd, guests, group):
    open_group = group(TCP_80)
    one, two = (guests(groups=[open_group], public=False) for _ in range(2))
    one.dhcp(), two.dhcp()
    (given,) = netd.ec2("AssignPrivateIpAddresses", NetworkInterfaceId=one.eni, SecondaryPrivateIpAddressCount=1)["AssignedPrivateIpAddresses"]
    address = given["PrivateIpAddress"]
    elastic = netd.ec2("AllocateAddress")
    netd.ec2("AssociateAddress", AllocationId=elastic["AllocationId"], NetworkInterfaceId=one.eni, PrivateIpAddress=address)
    for guest in (one, two):
        guest.sh(f"ip addr add {address}/20 dev eth0")
    with one.listen() as old, two.listen() as new:
        with socket.create_connection((elastic["PublicIp"], 80), PATIENCE):
            old.accept()
        refused("InvalidParameterValue", netd.ec2, "AssignPrivateIpAddresses", NetworkInterfaceId=two.eni, PrivateIpAddresses=[address])
        netd.ec2("AssignPrivateIpAddresses", NetworkInterfaceId=two.eni, PrivateIpAddresses=[address], AllowReassignment=True)
        with socket.create_connection((elastic["PublicIp"], 80), PATIENCE):
            new.accept()
    assert secondary(netd, one.eni) == [] and secondary(netd, two.eni) == [address]
    (shown,) = netd.ec2("DescribeAddresses", AllocationIds=[elastic["AllocationId"]])["Addresses"]
    assert (shown["NetworkInterfaceId"], shown["InstanceId"]) == (two.eni, two.instance)
    # A primary address stays where it is; an unassigned one leaves its elastic address behind.
    refused("InvalidParameterValue", netd.ec2, "AssignPrivateIpAddresses", NetworkInterfaceId=two.eni, PrivateIpAddresses=[one.address], AllowReassignment=True)
    refused("InvalidParameterValue", netd.ec2, "UnassignPrivateIpAddresses", NetworkInterfaceId=two.eni, PrivateIpAddresses=[two.address])
    netd.ec2("UnassignPrivateIpAddresses", NetworkInterfaceId=two.eni, PrivateIpAddresses=[address])
    (shown,) = netd.ec2("DescribeAddresses", AllocationIds=[elastic["AllocationId"]])["Addresses"]
    assert "AssociationId" not in shown and sh(f"ip route show {elastic['PublicIp']}") == ""
    netd.ec2("ReleaseAddress", AllocationId=elastic["AllocationId"])


def test_what_cannot_be_assigned(netd, guests):
    guest = guests()
    which = {"NetworkInterfaceId": guest.eni}
    refused("MissingParameter", netd.ec2, "AssignPrivateIpAddresses", **which)
    refused("InvalidParameterCombination", netd.ec2, "AssignPrivateIpAddresses", PrivateIpAddresses=["172.31.0.9"], SecondaryPrivateIpAddressCount=1, **which)
    refused("InvalidParameterValue", netd.ec2, "AssignPrivateIpAddresses", PrivateIpAddresses=["10.1.1.1"], **which)
    refused("InvalidParameterValue", netd.ec2, "AssignPrivateIpAddresses", PrivateIpAddresses=["me"], **which)
    refused("PrivateIpAddressLimitExceeded", netd.ec2, "AssignPrivateIpAddresses", SecondaryPrivateIpAddressCount=50, **which)
    # As many as the instance's type allows.
    netd.ec2("AttachNetworkInterface", InstanceId=guest.instance, DeviceIndex=0, _AddressLimit=2, **which)
    refused("PrivateIpAddressLimitExceeded", netd.ec2, "AssignPrivateIpAddresses", SecondaryPrivateIpAddressCount=2, **which)
    born = {"_InstanceId": guest.instance, "_DeviceIndex": 1, "_AddressLimit": 2, "SubnetId": guest.subnet}
    refused("PrivateIpAddressLimitExceeded", netd.ec2, "CreateNetworkInterface", SecondaryPrivateIpAddressCount=2, **born)
    assert secondary(netd, guest.eni) == []


def test_an_interface_comes_to_a_running_guest_and_goes(netd, guests, group):
    open_group = group(TCP_80)
    guest, other = guests(groups=[open_group]), guests()
    guest.dhcp(), other.dhcp()
    eni = netd.ec2("CreateNetworkInterface", SubnetId=guest.subnet, Groups=[open_group])["NetworkInterface"]
    eni_id, address = eni["NetworkInterfaceId"], eni["PrivateIpAddress"]
    begin = {"NetworkInterfaceId": eni_id, "InstanceId": guest.instance, "_Begin": True}
    refused("AttachmentLimitExceeded", netd.ec2, "AttachNetworkInterface", DeviceIndex=1, _Limit=1, **begin)
    refused("InvalidParameterValue", netd.ec2, "AttachNetworkInterface", DeviceIndex=0, **begin)
    assert show(netd, eni_id)["Status"] == "available"
    netd.ec2("AttachNetworkInterface", DeviceIndex=1, _Limit=2, **begin)
    assert show(netd, eni_id)["Attachment"]["Status"] == "attaching"
    attached = netd.ec2("AttachNetworkInterface", NetworkInterfaceId=eni_id, InstanceId=guest.instance, DeviceIndex=1)
    attachment = show(netd, eni_id)["Attachment"]
    assert attachment["Status"] == "attached" and attachment["AttachmentId"] == attached["AttachmentId"]
    refused("InvalidNetworkInterface.InUse", netd.ec2, "AttachNetworkInterface", NetworkInterfaceId=eni_id, InstanceId=other.instance, DeviceIndex=1)
    sh(f"ip netns add {guest.name}b && ip -n {guest.name}b link set lo up")
    pump = subprocess.Popen(
        [BUILD / "tests/net/tap-pump", attached["_Tap"], f"{guest.name}b", eni["MacAddress"], str(attached["_Mtu"])], stdout=subprocess.PIPE
    )
    try:
        assert pump.stdout.readline() == b"ready\n"
        sh(f"ip netns exec {guest.name}b ip addr add {address}/20 dev eth0")
        with inside(f"{guest.name}b"):
            listener = socket.create_server((address, 80))
        with listener:
            eventually(lambda: other.can_connect(address))
            netd.ec2("DetachNetworkInterface", NetworkInterfaceId=eni_id, _Begin=True)
            assert show(netd, eni_id)["Attachment"]["Status"] == "detaching"
            eventually(lambda: other.can_connect(address))  # until the guest has let go
            netd.ec2("DetachNetworkInterface", NetworkInterfaceId=eni_id)
            assert not other.can_connect(address)
    finally:
        pump.kill()
        pump.wait()
        sh(f"ip netns del {guest.name}b")
    after = show(netd, eni_id)
    assert after["Status"] == "available" and "Attachment" not in after
    assert not [line for line in ours() if eni_id in line]
    netd.ec2("DeleteNetworkInterface", NetworkInterfaceId=eni_id)
