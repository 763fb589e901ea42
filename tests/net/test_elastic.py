"""Elastic addresses: what AWS promises of them, and that packets agree."""

import socket

import pytest
from lab import PATIENCE, dns, eventually, inside, refused, sh

TCP_80 = {"IpProtocol": "tcp", "FromPort": 80, "ToPort": 80, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}


@pytest.fixture
def elastic(netd):
    """Allocates addresses that are given back at the end."""
    made = []

    def allocate(**parameters):
        address = netd.ec2("AllocateAddress", **parameters)
        made.append(address["AllocationId"])
        return address

    yield allocate
    for allocation in made:
        for address in netd.ec2("DescribeAddresses", Filters=[{"Name": "allocation-id", "Values": [allocation]}])["Addresses"]:
            if "AssociationId" in address:
                netd.ec2("DisassociateAddress", AssociationId=address["AssociationId"])
            netd.ec2("ReleaseAddress", AllocationId=allocation)


def source_of(guest, port=8081):
    """Whom the outside sees when the guest calls; None when nobody comes."""
    with socket.create_server(("203.0.113.1", port)) as outside:
        outside.settimeout(PATIENCE)
        if not guest.can_connect("203.0.113.1", port):
            return None
        return outside.accept()[1][0]


def show(netd, guest):
    return netd.ec2("DescribeNetworkInterfaces", NetworkInterfaceIds=[guest.eni])["NetworkInterfaces"][0]


def test_an_address_is_allocated_shown_and_released(netd, elastic):
    tags = [{"ResourceType": "elastic-ip", "Tags": [{"Key": "of", "Value": "tests"}]}]
    address = elastic(Domain="vpc", TagSpecifications=tags)
    assert address["PublicIp"].startswith("198.18.") and address["PublicIpv4Pool"] == "amazon"
    assert address["Domain"] == "vpc" and address["NetworkBorderGroup"] == "us-east-1"
    (shown,) = netd.ec2("DescribeAddresses", PublicIps=[address["PublicIp"]])["Addresses"]
    assert shown["AllocationId"] == address["AllocationId"] and shown["Tags"] == tags[0]["Tags"]
    assert netd.ec2("DescribeAddresses", Filters=[{"Name": "tag:of", "Values": ["tests"]}])["Addresses"] == [shown]
    refused("InvalidIPAddress.InUse", netd.ec2, "AllocateAddress", Address=address["PublicIp"])
    netd.ec2("ReleaseAddress", AllocationId=address["AllocationId"])
    again = elastic(Address=address["PublicIp"])
    assert again["PublicIp"] == address["PublicIp"] and again["AllocationId"] != address["AllocationId"]


def test_the_quota_of_addresses(netd, elastic):
    for _ in range(5):
        elastic()
    refused("AddressLimitExceeded", netd.ec2, "AllocateAddress")


def test_what_is_wrong_is_said_in_awss_words(netd, elastic, guests):
    guest = guests()
    allocation = elastic()["AllocationId"]
    unknown = "eipalloc-00000000000000000"
    to = {"NetworkInterfaceId": guest.eni}
    refused("InvalidAllocationID.NotFound", netd.ec2, "AssociateAddress", AllocationId=unknown, **to)
    refused("InvalidAllocationID.NotFound", netd.ec2, "ReleaseAddress", AllocationId=unknown)
    refused("InvalidAddress.NotFound", netd.ec2, "DescribeAddresses", PublicIps=["192.0.2.1"])
    refused("AuthFailure", netd.ec2, "AssociateAddress", PublicIp=guest.public, **to)
    refused("AuthFailure", netd.ec2, "AllocateAddress", Address=guest.public)
    refused("AuthFailure", netd.ec2, "DisassociateAddress", PublicIp=guest.public)
    refused("InvalidAddress.NotFound", netd.ec2, "AllocateAddress", Address="192.0.2.1")
    refused("InvalidAssociationID.NotFound", netd.ec2, "DisassociateAddress", AssociationId="eipassoc-00000000000000000")
    refused("MissingParameter", netd.ec2, "AssociateAddress", AllocationId=allocation)
    refused("InvalidInstanceID.NotFound", netd.ec2, "AssociateAddress", AllocationId=allocation, InstanceId="i-0fffffffffffffff0")
    refused("InvalidInstanceID.Malformed", netd.ec2, "AssociateAddress", AllocationId=allocation, InstanceId="me")
    refused(
        "InvalidParameterValue", netd.ec2, "AssociateAddress", AllocationId=allocation, PrivateIpAddress="10.0.0.9", **to
    )
    vpc = netd.ec2("CreateVpc", CidrBlock="10.31.0.0/16")["Vpc"]["VpcId"]
    subnet = netd.ec2("CreateSubnet", VpcId=vpc, CidrBlock="10.31.1.0/24")["Subnet"]["SubnetId"]
    eni = netd.ec2("CreateNetworkInterface", SubnetId=subnet)["NetworkInterface"]["NetworkInterfaceId"]
    refused("Gateway.NotAttached", netd.ec2, "AssociateAddress", AllocationId=allocation, NetworkInterfaceId=eni)
    netd.ec2("DeleteNetworkInterface", NetworkInterfaceId=eni)
    netd.ec2("DeleteSubnet", SubnetId=subnet)
    netd.ec2("DeleteVpc", VpcId=vpc)


def test_the_outside_reaches_it_and_sees_it(netd, guests, group, elastic):
    guest = guests(groups=[group(TCP_80)], public=False)
    guest.dhcp()
    assert source_of(guest) is None
    address = elastic()
    netd.ec2("AssociateAddress", AllocationId=address["AllocationId"], InstanceId=guest.instance)
    from_outside = {"timeout": PATIENCE, "source_address": ("203.0.113.1", 0)}
    with guest.listen() as listener, socket.create_connection((address["PublicIp"], 80), **from_outside):
        assert listener.accept()[1][0] == "203.0.113.1"
    eventually(lambda: source_of(guest) == address["PublicIp"])
    (shown,) = netd.ec2("DescribeAddresses", Filters=[{"Name": "instance-id", "Values": [guest.instance]}])["Addresses"]
    assert shown["InstanceId"] == guest.instance and shown["PrivateIpAddress"] == guest.address
    assert show(netd, guest)["Association"]["AllocationId"] == address["AllocationId"]
    netd.ec2("DisassociateAddress", PublicIp=address["PublicIp"])
    assert source_of(guest) is None
    assert "Association" not in show(netd, guest)


def test_an_address_given_at_launch_gives_way_and_comes_back_new(netd, guests, elastic):
    guest = guests()
    guest.dhcp()
    address = elastic()
    association = netd.ec2("AssociateAddress", AllocationId=address["AllocationId"], InstanceId=guest.instance)["AssociationId"]
    eventually(lambda: source_of(guest) == address["PublicIp"] == show(netd, guest)["Association"]["PublicIp"])
    assert sh(f"ip route show {guest.public}") == ""  # back in the pool
    netd.ec2("DisassociateAddress", AssociationId=association)
    after = show(netd, guest)["Association"]
    assert after["IpOwnerId"] == "amazon" and after["PublicIp"] != address["PublicIp"]
    eventually(lambda: source_of(guest) == after["PublicIp"])
    # A stopped instance gets none.
    netd.ec2("AssociateAddress", AllocationId=address["AllocationId"], InstanceId=guest.instance)
    netd.call("gureum.Release", NetworkInterfaceId=guest.eni)
    assert show(netd, guest)["Association"]["PublicIp"] == address["PublicIp"]
    netd.ec2("DisassociateAddress", PublicIp=address["PublicIp"])
    assert "Association" not in show(netd, guest)
    netd.call("gureum.Assign", NetworkInterfaceId=guest.eni)
    assert show(netd, guest)["Association"]["IpOwnerId"] == "amazon"


def test_it_moves_and_takes_no_flow_along(netd, guests, group, elastic):
    open_group = group(TCP_80)
    one, two = (guests(groups=[open_group], public=False) for _ in range(2))
    one.dhcp(), two.dhcp()
    address = elastic()
    to = {"AllocationId": address["AllocationId"]}
    first = netd.ec2("AssociateAddress", NetworkInterfaceId=one.eni, **to)["AssociationId"]
    assert netd.ec2("AssociateAddress", NetworkInterfaceId=one.eni, **to)["AssociationId"] == first
    refused("Resource.AlreadyAssociated", netd.ec2, "AssociateAddress", NetworkInterfaceId=two.eni, AllowReassociation=False, **to)
    with one.listen() as old, two.listen() as new, socket.create_connection((address["PublicIp"], 80), PATIENCE) as client:
        server, _ = old.accept()
        assert netd.ec2("AssociateAddress", NetworkInterfaceId=two.eni, **to)["AssociationId"] != first
        client.sendall(b"x")
        server.settimeout(0.5)
        with pytest.raises(OSError):
            assert server.recv(1) == b"x"
        with socket.create_connection((address["PublicIp"], 80), PATIENCE):
            new.accept()
        server.close()
    assert source_of(one) is None and eventually(lambda: source_of(two)) == address["PublicIp"]


def test_secondary_addresses_have_their_own(netd, guests, group, elastic):
    guest = guests(groups=[group(TCP_80)], SecondaryPrivateIpAddressCount=1)
    guest.dhcp()
    (secondary,) = [a["PrivateIpAddress"] for a in show(netd, guest)["PrivateIpAddresses"] if not a["Primary"]]
    guest.sh(f"ip addr add {secondary}/20 dev eth0")
    address = elastic()
    to = {"NetworkInterfaceId": guest.eni, "PrivateIpAddress": secondary}
    netd.ec2("AssociateAddress", AllocationId=address["AllocationId"], **to)
    assert show(netd, guest)["Association"]["PublicIp"] == guest.public  # the primary's stays
    with guest.listen() as listener, socket.create_connection((address["PublicIp"], 80), PATIENCE):
        server, _ = listener.accept()
        assert server.getsockname()[0] == secondary
        server.close()
    with inside(guest.name):
        s = socket.socket()
    s.bind((secondary, 0))
    with s, socket.create_server(("203.0.113.1", 8082)) as outside:
        s.connect(("203.0.113.1", 8082))
        assert outside.accept()[1][0] == address["PublicIp"]
    # Another one takes the place.
    other = elastic()
    netd.ec2("AssociateAddress", AllocationId=other["AllocationId"], **to)
    (first,) = netd.ec2("DescribeAddresses", AllocationIds=[address["AllocationId"]])["Addresses"]
    assert "AssociationId" not in first and sh(f"ip route show {address['PublicIp']}") == ""


def test_it_turns_round_outside(netd, guests, group, elastic):
    open_group = group(TCP_80)
    one, two = (guests(groups=[open_group]) for _ in range(2))
    one.dhcp(), two.dhcp()
    address = elastic()
    netd.ec2("AssociateAddress", AllocationId=address["AllocationId"], NetworkInterfaceId=two.eni)
    with two.listen() as listener, one.connect(address["PublicIp"]):
        assert listener.accept()[1][0] == one.public


def test_it_outlives_its_interface(netd, guests, elastic):
    guest = guests()
    address = elastic()
    netd.ec2("AssociateAddress", AllocationId=address["AllocationId"], NetworkInterfaceId=guest.eni)
    guest.delete()
    (shown,) = netd.ec2("DescribeAddresses", AllocationIds=[address["AllocationId"]])["Addresses"]
    assert not {"AssociationId", "NetworkInterfaceId", "PrivateIpAddress", "InstanceId"} & set(shown)


def test_its_name_in_reverse_is_told_inside(netd, guests, elastic):
    guest = guests()
    guest.dhcp()
    address = elastic()
    netd.ec2("AssociateAddress", AllocationId=address["AllocationId"], NetworkInterfaceId=guest.eni)
    pointer = ".".join(reversed(address["PublicIp"].split("."))) + ".in-addr.arpa"
    changed = netd.ec2("ModifyAddressAttribute", AllocationId=address["AllocationId"], DomainName="mail.example.org")
    assert changed["Address"]["PtrRecord"] == "mail.example.org."
    netd.ec2("AttachNetworkInterface", NetworkInterfaceId=guest.eni, InstanceId=guest.instance, DeviceIndex=0)  # waits
    code, (name,) = dns(guest, "172.31.0.2", pointer, kind=12)
    assert code == 0 and name == b"\4mail\7example\3org\0"
    refused("InvalidAddress.Locked", netd.ec2, "ReleaseAddress", AllocationId=address["AllocationId"])
    refused("InvalidParameterValue", netd.ec2, "ModifyAddressAttribute", AllocationId=address["AllocationId"], DomainName="-.")
    (shown,) = netd.ec2("DescribeAddressesAttribute", AllocationIds=[address["AllocationId"]], Attribute="domain-name")["Addresses"]
    assert shown["PtrRecord"] == "mail.example.org."
    netd.ec2("ResetAddressAttribute", AllocationId=address["AllocationId"], Attribute="domain-name")


def test_kill_9_leaves_both_documents_of_one_mind(netd, guests, elastic):
    guest = guests(public=False)
    guest.dhcp()
    address = elastic()
    netd.ec2("AssociateAddress", AllocationId=address["AllocationId"], NetworkInterfaceId=guest.eni)
    netd.kill()
    netd.start()
    eventually(lambda: source_of(guest) == address["PublicIp"])
    netd.ec2("ReleaseAddress", AllocationId=address["AllocationId"])  # the default VPC: it leaves by itself
    assert "Association" not in show(netd, guest) and source_of(guest) is None
