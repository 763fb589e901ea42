"""Every quota that a customer can reach here: the one more is refused with AWS's code, nothing is half-made, and the next region and account have
room of their own."""

import contextlib
import json
import signal
import sqlite3

import pytest

from lab import refused
from test_holders import ELSEWHERE, Place, all_there_is

OTHER_ACCOUNT = "210987654321"


@pytest.fixture
def place(netd):
    place = Place(netd.elsewhere(ELSEWHERE))
    yield place
    place.leave()


# Each: how many there may be, how one more is made, its code; the place's own count.


def vpcs(p):
    n = len(p.ec2("DescribeVpcs")["Vpcs"])
    return 5 - n, lambda i: p.new_vpc(f"10.{70 + i}.0.0/16"), "VpcLimitExceeded"


def subnets(p):
    one = lambda i: p.made("DeleteSubnet", "SubnetId", "CreateSubnet", "Subnet", VpcId=p.vpc, CidrBlock=f"10.61.{i + 2}.0/24")
    return 199, one, "SubnetLimitExceeded"


def route_tables(p):
    return 199, lambda i: p.table(), "RouteTableLimitExceeded"


def acls(p):
    return 199, lambda i: p.made("DeleteNetworkAcl", "NetworkAclId", "CreateNetworkAcl", "NetworkAcl", VpcId=p.vpc), "NetworkAclLimitExceeded"


def internet_gateways(p):
    n = len(p.ec2("DescribeInternetGateways")["InternetGateways"])
    return 5 - n, lambda i: p.made("DeleteInternetGateway", "InternetGatewayId", "CreateInternetGateway", "InternetGateway"), "InternetGatewayLimitExceeded"


def addresses(p):
    n = len(p.ec2("DescribeAddresses")["Addresses"])
    return 5 - n, lambda i: p.address(), "AddressLimitExceeded"


def prefix_lists(p):
    n = sum(x["OwnerId"] != "AWS" for x in p.ec2("DescribeManagedPrefixLists")["PrefixLists"])
    return 100 - n, lambda i: p.prefix_list(), "ResourceLimitExceeded"


def nat_gateways(p):
    return 5, lambda i: p.nat(ConnectivityType="private"), "NatGatewayLimitExceeded"


def reservations_of_a_subnet(p):
    which = dict(SubnetId=p.subnet, ReservationType="explicit")
    one = lambda i: p.made("DeleteSubnetCidrReservation", "SubnetCidrReservationId", "CreateSubnetCidrReservation", "SubnetCidrReservation", Cidr=f"10.61.1.{i + 10}/32", **which)
    return 100, one, "SubnetLimitExceeded"


def groups_of_an_interface(p):
    groups = [p.group() for _ in range(6)]
    p.ec2("ModifyNetworkInterfaceAttribute", NetworkInterfaceId=(eni := p.interface()), Groups=groups[:5])
    return 0, lambda i: p.ec2("ModifyNetworkInterfaceAttribute", NetworkInterfaceId=eni, Groups=groups), "SecurityGroupsPerInterfaceLimitExceeded"


def groups_of_a_new_interface(p):
    groups = [p.group() for _ in range(6)]
    return 0, lambda i: p.interface(Groups=groups), "SecurityGroupsPerInterfaceLimitExceeded"


def rules_by_changing_one(p):
    """Sixty rules; one that becomes a prefix list's weighs as many as the list may have."""
    group, pl = p.group(), p.prefix_list()
    cidrs = [{"CidrIp": f"10.{i}.0.0/16"} for i in range(60)]
    made = p.ec2("AuthorizeSecurityGroupIngress", GroupId=group, IpPermissions=[{"IpProtocol": "tcp", "FromPort": 1, "ToPort": 1, "IpRanges": cidrs}])
    rule = {"IpProtocol": "tcp", "FromPort": 1, "ToPort": 1, "PrefixListId": pl}
    change = [{"SecurityGroupRuleId": made["SecurityGroupRules"][0]["SecurityGroupRuleId"], "SecurityGroupRule": rule}]
    return 0, lambda i: p.ec2("ModifySecurityGroupRules", GroupId=group, SecurityGroupRules=change), "RulesPerSecurityGroupLimitExceeded"


QUOTAS = [vpcs, subnets, route_tables, acls, internet_gateways, addresses, prefix_lists, nat_gateways, reservations_of_a_subnet, groups_of_an_interface, groups_of_a_new_interface, rules_by_changing_one]


@pytest.mark.parametrize("quota", QUOTAS, ids=lambda f: f.__name__)
def test_one_more_is_refused(place, quota):
    n, one, code = quota(place)
    for i in range(n):
        one(i)
    before = all_there_is(place.far)
    refused(code, one, n)
    assert all_there_is(place.far) == before


def test_flow_logs_of_a_resource_are_counted(place):
    def ask(group):
        log = dict(ResourceIds=[place.vpc], ResourceType="VPC", TrafficType="ALL", LogGroupName=group, DeliverLogsPermissionArn="arn:aws:iam::123456789012:role/r")
        return place.ec2("CreateFlowLogs", **log)

    assert not ask("one")["Unsuccessful"] and not ask("two")["Unsuccessful"]
    before = all_there_is(place.far)
    assert ask("three")["Unsuccessful"][0]["Error"]["Code"] == "FlowLogsLimitExceeded"
    assert ask("two")["Unsuccessful"][0]["Error"]["Code"] == "FlowLogAlreadyExists"
    assert all_there_is(place.far) == before


def test_each_account_has_room_of_its_own(place):
    n = len(place.ec2("DescribeAddresses")["Addresses"])
    for _ in range(5 - n):
        place.address()
    refused("AddressLimitExceeded", place.address)
    stranger = place.far.by(OTHER_ACCOUNT)
    theirs = stranger.ec2("AllocateAddress")["AllocationId"]
    stranger.ec2("ReleaseAddress", AllocationId=theirs)


@contextlib.contextmanager
def on_record(netd, kind, n, prefix, **members):
    """The store has n more of the kind in the block, another account's, written while netd is down: in no VPC that there is, so nothing is made of them."""
    def write(statement, rows):
        netd.kill(signal.SIGTERM)
        with sqlite3.connect(netd.directory / "lib/netd/state.db") as db:
            last = db.execute("SELECT max(sequence) FROM doc").fetchone()[0]
            db.executemany(statement, [{"sequence": last + 1 + i, **row} for i, row in enumerate(rows)])
        db.close()
        netd.start()

    rows = [dict(kind=kind, id=f"{prefix}-{i:017x}", account=OTHER_ACCOUNT, region=ELSEWHERE, json=json.dumps(members)) for i in range(n)]
    write("INSERT INTO doc (sequence, kind, id, account, region, json) VALUES (:sequence, :kind, :id, :account, :region, :json)", rows)
    try:
        yield
    finally:
        write("DELETE FROM doc WHERE kind = :kind AND id = :id", rows)


def peerings(vpc, state):
    sides = {"RequesterVpcInfo": {"VpcId": vpc}, "AccepterVpcInfo": {"VpcId": "vpc-00000000000000000"}}
    whose = {"OwnerId": OTHER_ACCOUNT, "Region": ELSEWHERE}
    times = {"ExpirationTime": "2099-01-01T00:00:00.000Z"} if state == "pending-acceptance" else {}
    return dict({k: v | whose for k, v in sides.items()}, Status={"Code": state, "Message": state}, Tags=[], **times)


@pytest.mark.parametrize("state, n, code", [
    ("pending-acceptance", 25, "OutstandingVpcPeeringConnectionLimitExceeded"),
    ("active", 50, "ActiveVpcPeeringConnectionPerVpcLimitExceeded"),
])  # fmt: skip
def test_peerings_of_a_vpc_are_limited(netd, state, n, code):
    far = netd.elsewhere(ELSEWHERE).by(OTHER_ACCOUNT)
    place = Place(far)
    try:
        peer, ask = place.new_vpc(), lambda: far.ec2("DescribeVpcPeeringConnections")["VpcPeeringConnections"]
        with on_record(netd, "vpc-peering-connection", n - 1, "pcx", **peerings(place.vpc, state)):
            pcx = place.made("DeleteVpcPeeringConnection", "VpcPeeringConnectionId", "CreateVpcPeeringConnection", "VpcPeeringConnection", VpcId=place.vpc, PeerVpcId=peer)
            if state == "active":
                far.ec2("AcceptVpcPeeringConnection", VpcPeeringConnectionId=pcx)
            before, other = ask(), place.new_vpc("10.63.0.0/16")
            refused(code, far.ec2, "CreateVpcPeeringConnection", VpcId=place.vpc, PeerVpcId=other)
            if state == "active":  # nor by another's request
                asked = place.made("DeleteVpcPeeringConnection", "VpcPeeringConnectionId", "CreateVpcPeeringConnection", "VpcPeeringConnection", VpcId=other, PeerVpcId=place.vpc)
                refused(code, far.ec2, "AcceptVpcPeeringConnection", VpcPeeringConnectionId=asked)
                assert [p["Status"]["Code"] for p in ask() if p.get("VpcPeeringConnectionId") == asked] == ["pending-acceptance"]
            assert [p for p in ask() if p in before] == before
    finally:
        place.leave()


@pytest.mark.parametrize("kind, prefix, n, action, more, code", [
    ("security-group", "sg", 2500, "CreateSecurityGroup", dict(GroupName="one-more", Description="x"), "SecurityGroupLimitExceeded"),
    ("network-interface", "eni", 20000, "CreateNetworkInterface", dict(SubnetId=True), "NetworkInterfaceLimitExceeded"),
    ("dhcp-options", "dopt", 500, "CreateDhcpOptions", dict(DhcpConfigurations=[{"Key": "domain-name", "Values": ["a.b"]}]), "ResourceLimitExceeded"),
    ("vpc-endpoint", "vpce", 20, "CreateVpcEndpoint", dict(VpcId=True, ServiceName=f"com.amazonaws.{ELSEWHERE}.s3"), "VpcEndpointLimitExceeded"),
], ids=lambda x: x if isinstance(x, str) and "-" in x else "")  # fmt: skip
def test_large_quotas_are_reached_too(netd, kind, prefix, n, action, more, code):
    far = netd.elsewhere(ELSEWHERE).by(OTHER_ACCOUNT)
    with on_record(netd, kind, n, prefix, VpcId="vpc-00000000000000000", Status="available", PrivateIpAddresses=[], Groups=[]):
        place = Place(far)
        try:
            own = {"VpcId": place.vpc, "SubnetId": place.subnet}
            more = {k: own[k] if v is True else v for k, v in more.items()}
            more |= {"VpcId": place.vpc} if action == "CreateSecurityGroup" else {}
            before = len(far.ec2("DescribeTags")["Tags"]), far.ec2("DescribeVpcs"), far.ec2("DescribeSubnets"), far.ec2("DescribeRouteTables")
            refused(code, far.ec2, action, **more)
            assert (len(far.ec2("DescribeTags")["Tags"]), far.ec2("DescribeVpcs"), far.ec2("DescribeSubnets"), far.ec2("DescribeRouteTables")) == before
        finally:
            place.leave()
