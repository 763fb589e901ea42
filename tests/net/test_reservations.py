"""Subnet CIDR reservations: what is in one is given to those alone who name it."""

import ipaddress

import pytest
from lab import refused


@pytest.fixture
def subnet(netd, vpc):
    vpc_id = vpc("10.45.0.0/16", AmazonProvidedIpv6CidrBlock=True)
    (block,) = netd.ec2("DescribeVpcs", VpcIds=[vpc_id])["Vpcs"][0]["Ipv6CidrBlockAssociationSet"]
    made = netd.ec2("CreateSubnet", VpcId=vpc_id, CidrBlock="10.45.1.0/27", Ipv6CidrBlock=block["Ipv6CidrBlock"].replace("/56", "/64"))
    return made["Subnet"]["SubnetId"]


@pytest.fixture
def reserve(netd, subnet):
    def make(cidr, kind="explicit", **more):
        return netd.ec2("CreateSubnetCidrReservation", SubnetId=subnet, Cidr=cidr, ReservationType=kind, **more)["SubnetCidrReservation"]

    return make


@pytest.fixture
def interface(netd, subnet):
    made = []

    def make(**parameters):
        made.append(netd.ec2("CreateNetworkInterface", SubnetId=subnet, **parameters)["NetworkInterface"])
        return made[-1]

    yield make
    for eni in made:
        netd.ec2("DeleteNetworkInterface", NetworkInterfaceId=eni["NetworkInterfaceId"])


def free(netd, subnet):
    return netd.ec2("DescribeSubnets", SubnetIds=[subnet])["Subnets"][0]["AvailableIpAddressCount"]


def block6(netd, subnet):
    (row,) = netd.ec2("DescribeSubnets", SubnetIds=[subnet])["Subnets"]
    return ipaddress.ip_network(row["Ipv6CidrBlockAssociationSet"][0]["Ipv6CidrBlock"])


def test_reserved_addresses_are_for_those_who_name_them(netd, subnet, reserve, interface):
    used = interface(PrivateIpAddress="10.45.1.17")["PrivateIpAddress"]
    assert free(netd, subnet) == 26
    reservation = reserve("10.45.1.16/28")  # what is in use stays
    assert free(netd, subnet) == 26 - 14  # of its 16 one is in use, one is AWS's
    for _ in range(12):
        assert int(interface()["PrivateIpAddress"].split(".")[3]) < 16
    assert free(netd, subnet) == 0
    refused("InsufficientFreeAddressesInSubnet", interface)
    assert interface(PrivateIpAddress="10.45.1.20")["PrivateIpAddress"] == "10.45.1.20"
    refused("InvalidIPAddress.InUse", interface, PrivateIpAddress=used)
    netd.kill()
    netd.start()
    refused("InsufficientFreeAddressesInSubnet", interface)
    gone = netd.ec2("DeleteSubnetCidrReservation", SubnetCidrReservationId=reservation["SubnetCidrReservationId"])
    assert gone["DeletedSubnetCidrReservation"] == reservation
    assert free(netd, subnet) == 26 - 12 - 1
    assert int(interface()["PrivateIpAddress"].split(".")[3]) >= 16


def test_of_ipv6_too(netd, subnet, reserve, interface):
    block = block6(netd, subnet)
    low, high = block.subnets(prefixlen_diff=1)
    refused("InvalidParameterValue", reserve, str(block.supernet()))
    refused("InvalidParameterValue", reserve, "2001:db8::/80")
    assert reserve(str(high), "prefix")["Cidr"] == str(high)
    for _ in range(5):
        (address,) = interface(Ipv6AddressCount=1)["Ipv6Addresses"]
        assert ipaddress.ip_address(address["Ipv6Address"]) in low
    reserve(str(low))
    refused("InsufficientFreeAddressesInSubnet", interface, Ipv6AddressCount=1)
    (address,) = interface(Ipv6Addresses=[{"Ipv6Address": str(high[7])}])["Ipv6Addresses"]
    assert address["Ipv6Address"] == str(high[7])


def test_what_reservations_leave_of_ipv6_is_found(netd, subnet, reserve, interface):
    """Sixteen addresses of 2^64: none is met by lot."""
    block = block6(netd, subnet)
    left = ipaddress.ip_network((block[0x5555555555555550], 124))
    for reserved in block.address_exclude(left):
        reserve(str(reserved))
    taken = {interface(Ipv6AddressCount=1)["Ipv6Addresses"][0]["Ipv6Address"] for _ in range(16)}
    assert taken == set(map(str, left))
    refused("InsufficientFreeAddressesInSubnet", interface, Ipv6AddressCount=1)


def test_what_is_there_is_shown_in_pages_by_filters_and_tags(netd, subnet, reserve):
    tags = [{"Key": "a", "Value": "b"}]
    specification = [{"ResourceType": "subnet-cidr-reservation", "Tags": tags}]
    one = reserve("10.45.1.8/30", Description="for boxes", TagSpecifications=specification)
    assert one["Tags"] == tags and one["Description"] == "for boxes" and one["OwnerId"] == netd.account and one["SubnetId"] == subnet
    two = [reserve(f"10.45.1.{n}/32", "prefix") for n in range(12, 18)]
    six = reserve(str(next(block6(netd, subnet).subnets(new_prefix=80))), "prefix")

    def get(**parameters):
        return netd.ec2("GetSubnetCidrReservations", SubnetId=subnet, **parameters)

    reply = get()
    assert reply["SubnetIpv4CidrReservations"] == [one, *two] and reply["SubnetIpv6CidrReservations"] == [six]
    by = {"reservationType": ("explicit", [one]), "tag:a": ("b", [one]), "tag-key": ("a", [one]), "subnet-id": (subnet, [one, *two])}
    for name, (value, want) in by.items():
        assert get(Filters=[{"Name": name, "Values": [value]}])["SubnetIpv4CidrReservations"] == want
    page = get(MaxResults=5)
    assert page["SubnetIpv4CidrReservations"] == [one, *two[:4]]
    rest = get(MaxResults=5, NextToken=page["NextToken"])
    assert rest["SubnetIpv4CidrReservations"] == two[4:] and rest["SubnetIpv6CidrReservations"] == [six] and "NextToken" not in rest
    netd.ec2("CreateTags", Resources=[six["SubnetCidrReservationId"]], Tags=tags)
    shown = netd.ec2("DescribeTags", Filters=[{"Name": "resource-type", "Values": ["subnet-cidr-reservation"]}])["Tags"]
    assert {t["ResourceId"] for t in shown} == {one["SubnetCidrReservationId"], six["SubnetCidrReservationId"]}


def test_what_cannot_be_is_refused(netd, subnet, reserve):
    refused("InvalidParameterValue", reserve, "10.45.2.0/28")
    refused("InvalidParameterValue", reserve, "10.45.1.0/26")
    refused("InvalidParameterValue", reserve, "nonsense")
    reserve("10.45.1.16/28")
    refused("InvalidParameterValue", reserve, "10.45.1.24/29")
    refused("InvalidSubnetID.NotFound", netd.ec2, "GetSubnetCidrReservations", SubnetId="subnet-00000000000000000")
    refused("InvalidSubnetCidrReservationID.NotFound", netd.ec2, "DeleteSubnetCidrReservation", SubnetCidrReservationId="scr-00000000000000000")
    refused("InvalidSubnetCidrReservationID.Malformed", netd.ec2, "DeleteSubnetCidrReservation", SubnetCidrReservationId="subnet-1")
