"""Two customers at once: of what excludes one another only one thing happens, and the loser hears why."""
import concurrent.futures
import threading
import uuid

import pytest

from conftest import code_of
from test_strangers import sweep, what_is_there

ROUNDS = 3


def at_once(*calls):
    """The calls' codes ("" is success), all begun at one moment."""
    start = threading.Barrier(len(calls))

    def one(call):
        start.wait()
        return code_of(call[0], **call[1])
    with concurrent.futures.ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(one, calls))


@pytest.fixture(scope="module")
def net(cloud):
    """A VPC with two subnets, and what is gone with the test."""
    before = what_is_there(cloud.ec2)
    try:
        yield Net(cloud.ec2)
    finally:
        sweep(cloud.ec2, before)


class Net:
    def __init__(self, ec2):
        self.ec2, self.n = ec2, 0
        self.vpc = self.make_vpc("10.90.0.0/16")
        self.subnet = self.make_subnet()
        self.igw = ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
        ec2.attach_internet_gateway(InternetGatewayId=self.igw, VpcId=self.vpc)
        self.enis = [self.make_eni(), self.make_eni()]

    def make_vpc(self, block):
        return self.ec2.create_vpc(CidrBlock=block)["Vpc"]["VpcId"]

    def make_subnet(self):
        self.n += 1
        return self.ec2.create_subnet(VpcId=self.vpc, CidrBlock=f"10.90.{self.n}.0/24")["Subnet"]["SubnetId"]

    def make_eni(self):
        return self.ec2.create_network_interface(SubnetId=self.subnet)["NetworkInterface"]["NetworkInterfaceId"]

    def make_group(self):
        return self.ec2.create_security_group(VpcId=self.vpc, GroupName=f"race-{uuid.uuid4()}", Description="race")["GroupId"]

    def make_table(self):
        return self.ec2.create_route_table(VpcId=self.vpc)["RouteTable"]["RouteTableId"]


# Each makes what it races about and returns the calls; "one" of them succeeds. The losers' codes are one of the set.
def vpc_and_its_first_subnet(e, n):
    vpc = n.make_vpc("10.91.0.0/16")
    return [(e.delete_vpc, dict(VpcId=vpc)), (e.create_subnet, dict(VpcId=vpc, CidrBlock="10.91.0.0/24"))], {"DependencyViolation", "InvalidVpcID.NotFound"}


def subnet_and_its_first_interface(e, n):
    subnet = n.make_subnet()
    return [(e.delete_subnet, dict(SubnetId=subnet)), (e.create_network_interface, dict(SubnetId=subnet))], {"DependencyViolation", "InvalidSubnetID.NotFound"}


def subnet_and_its_nat_gateway(e, n):
    subnet = n.make_subnet()
    return [(e.delete_subnet, dict(SubnetId=subnet)), (e.create_nat_gateway, dict(SubnetId=subnet, ConnectivityType="private"))], \
        {"DependencyViolation", "InvalidSubnetID.NotFound"}


def address_of_two_interfaces(e, n):
    eip = e.allocate_address()["AllocationId"]
    return [(e.associate_address, dict(AllocationId=eip, NetworkInterfaceId=eni, AllowReassociation=False)) for eni in n.enis], \
        {"Resource.AlreadyAssociated"}


def address_released_and_associated(e, n):
    eip = e.allocate_address()["AllocationId"]
    return [(e.release_address, dict(AllocationId=eip)), (e.associate_address, dict(AllocationId=eip, NetworkInterfaceId=n.enis[0]))], \
        {"InvalidIPAddress.InUse", "InvalidAllocationID.NotFound"}


def peering_accepted_and_rejected(e, n):
    peer = n.make_vpc("10.92.0.0/16")
    pcx = e.create_vpc_peering_connection(VpcId=n.vpc, PeerVpcId=peer)["VpcPeeringConnection"]["VpcPeeringConnectionId"]
    return [(e.accept_vpc_peering_connection, dict(VpcPeeringConnectionId=pcx)), (e.reject_vpc_peering_connection, dict(VpcPeeringConnectionId=pcx))], \
        {"InvalidStateTransition"}


def group_deleted_and_named_by_another(e, n):
    group, other = n.make_group(), n.make_group()
    rule = [{"IpProtocol": "tcp", "FromPort": 1, "ToPort": 1, "UserIdGroupPairs": [{"GroupId": group}]}]
    return [(e.delete_security_group, dict(GroupId=group)), (e.authorize_security_group_ingress, dict(GroupId=other, IpPermissions=rule))], \
        {"DependencyViolation", "InvalidGroup.NotFound"}


def group_deleted_and_taken_by_an_interface(e, n):
    group = n.make_group()
    return [(e.delete_security_group, dict(GroupId=group)), (e.create_network_interface, dict(SubnetId=n.subnet, Groups=[group]))], \
        {"DependencyViolation", "InvalidGroup.NotFound"}


def prefix_list_of_one_version_changed_twice(e, n):
    pl = e.create_managed_prefix_list(PrefixListName="race", MaxEntries=10, AddressFamily="IPv4")["PrefixList"]["PrefixListId"]
    return [(e.modify_managed_prefix_list, dict(PrefixListId=pl, CurrentVersion=1, AddEntries=[{"Cidr": f"10.{i}.0.0/16"}])) for i in range(3)], \
        {"PrefixListVersionMismatch", "IncorrectState"}


def gateway_attached_twice(e, n):
    vpc = n.make_vpc("10.93.0.0/16")
    igw = [e.create_internet_gateway()["InternetGateway"]["InternetGatewayId"] for _ in range(2)]
    return [(e.attach_internet_gateway, dict(InternetGatewayId=g, VpcId=vpc)) for g in igw], {"InvalidParameterValue", "Resource.AlreadyAssociated"}


def table_deleted_and_associated(e, n):
    table, subnet = n.make_table(), n.make_subnet()
    return [(e.delete_route_table, dict(RouteTableId=table)), (e.associate_route_table, dict(RouteTableId=table, SubnetId=subnet))], \
        {"DependencyViolation", "InvalidRouteTableID.NotFound"}


def acl_deleted_and_associated(e, n):
    subnet = n.make_subnet()
    acl = e.create_network_acl(VpcId=n.vpc)["NetworkAcl"]["NetworkAclId"]
    now = e.describe_network_acls(Filters=[{"Name": "association.subnet-id", "Values": [subnet]}])["NetworkAcls"][0]["Associations"]
    association = next(a["NetworkAclAssociationId"] for a in now if a["SubnetId"] == subnet)
    return [(e.delete_network_acl, dict(NetworkAclId=acl)), (e.replace_network_acl_association, dict(AssociationId=association, NetworkAclId=acl))], \
        {"DependencyViolation", "InvalidNetworkAclID.NotFound"}


def dhcp_options_deleted_and_associated(e, n):
    dopt = e.create_dhcp_options(DhcpConfigurations=[{"Key": "domain-name", "Values": ["race"]}])["DhcpOptions"]["DhcpOptionsId"]
    vpc = n.make_vpc("10.94.0.0/16")
    return [(e.delete_dhcp_options, dict(DhcpOptionsId=dopt)), (e.associate_dhcp_options, dict(DhcpOptionsId=dopt, VpcId=vpc))], \
        {"DependencyViolation", "InvalidDhcpOptionID.NotFound"}


def one_route_twice(e, n):
    table = n.make_table()
    return [(e.create_route, dict(RouteTableId=table, DestinationCidrBlock="10.1.0.0/16", **t)) for t in
            ({"GatewayId": n.igw}, {"NetworkInterfaceId": n.enis[0]})], {"RouteAlreadyExists"}


def one_address_twice(e, n):
    there = e.describe_network_interfaces(Filters=[{"Name": "subnet-id", "Values": [n.subnet]}])["NetworkInterfaces"]
    taken = {i["PrivateIpAddress"] for i in there}  # chosen at random, any of them
    free = next(a for a in (f"10.90.1.{i}" for i in range(100, 200)) if a not in taken)
    return [(e.create_network_interface, dict(SubnetId=n.subnet, PrivateIpAddress=free))] * 3, {"InvalidIPAddress.InUse"}


def one_block_twice(e, n):
    n.n += 1
    return [(e.create_subnet, dict(VpcId=n.vpc, CidrBlock=f"10.90.{n.n}.{i}/{24 + i // 128}")) for i in (0, 128)], {"InvalidSubnet.Conflict"}


def one_group_name_twice(e, n):
    return [(e.create_security_group, dict(VpcId=n.vpc, GroupName=f"one-{uuid.uuid4()}", Description="race"))] * 3, {"InvalidGroup.Duplicate"}


RACES = [v for k, v in list(globals().items()) if callable(v) and getattr(v, "__code__", None) and v.__code__.co_varnames[:2] == ("e", "n")]


@pytest.mark.parametrize("race", RACES, ids=[r.__name__ for r in RACES])
def test_only_one_wins(cloud, net, race):
    before = what_is_there(cloud.ec2)
    for i in range(ROUNDS):
        calls, losers = race(cloud.ec2, net)
        codes = at_once(*(calls if i % 2 else calls[::-1]))
        assert codes.count("") == 1 and set(codes) - {""} <= losers, codes
        sweep(cloud.ec2, before)


def test_quotas_hold_against_a_crowd(cloud, net):
    before = what_is_there(cloud.ec2)
    room = 5 - len(before["Addresses"])
    codes = at_once(*[(cloud.ec2.allocate_address, {})] * 12)
    assert codes.count("") == room and set(codes) == {"", "AddressLimitExceeded"}
    sweep(cloud.ec2, before)
    group = net.make_group()
    codes = at_once(*[(cloud.ec2.authorize_security_group_ingress, dict(GroupId=group, IpPermissions=[
        {"IpProtocol": "tcp", "FromPort": 10 * i + j, "ToPort": 10 * i + j, "IpRanges": [{"CidrIp": "10.0.0.0/8"}]} for j in range(10)])) for i in range(8)])
    assert codes.count("") == 6 and set(codes) == {"", "RulesPerSecurityGroupLimitExceeded"}


def test_one_token_at_the_same_time_is_one_thing(cloud, net):
    token, found = str(uuid.uuid4()), []

    def make(**parameters):
        found.append(cloud.ec2.create_network_interface(**parameters)["NetworkInterface"]["NetworkInterfaceId"])
    assert at_once(*[(make, dict(SubnetId=net.subnet, ClientToken=token))] * 4) == [""] * 4
    assert len(set(found)) == 1
    assert code_of(make, SubnetId=net.subnet, ClientToken=token, Description="other") == "IdempotentParameterMismatch"
