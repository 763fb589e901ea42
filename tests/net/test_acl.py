"""Network ACLs: numbered, stateless, both ways; and every refusal that AWS has for them."""

import socket

import pytest
from lab import PATIENCE, refused

ALL = {"Protocol": "-1", "CidrBlock": "0.0.0.0/0"}
OPEN = {"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}


@pytest.fixture
def subnets(netd):
    return netd.ec2("DescribeSubnets", Filters=[{"Name": "default-for-az", "Values": ["true"]}])["Subnets"]


@pytest.fixture
def acl(netd, subnets):
    """A new ACL; subnets put under it return to the default one, and it goes."""
    vpc = subnets[0]["VpcId"]
    acl_id = netd.ec2("CreateNetworkAcl", VpcId=vpc)["NetworkAcl"]["NetworkAclId"]
    default = netd.ec2("DescribeNetworkAcls", Filters=[by("vpc-id", vpc), by("default", "true")])["NetworkAcls"][0]
    yield acl_id
    for a in shown(netd, acl_id)["Associations"]:
        netd.ec2("ReplaceNetworkAclAssociation", AssociationId=a["NetworkAclAssociationId"], NetworkAclId=default["NetworkAclId"])
    netd.ec2("DeleteNetworkAcl", NetworkAclId=acl_id)
    refused("InvalidNetworkAclID.NotFound", netd.ec2, "DescribeNetworkAcls", NetworkAclIds=[acl_id])


def by(name, *values):
    return {"Name": name, "Values": list(values)}


def shown(netd, acl_id):
    return netd.ec2("DescribeNetworkAcls", NetworkAclIds=[acl_id])["NetworkAcls"][0]


def allow(netd, acl_id, number, egress=False, **more):
    entry = {**ALL, "RuleAction": "allow", **more}
    netd.ec2("CreateNetworkAclEntry", NetworkAclId=acl_id, RuleNumber=number, Egress=egress, **entry)


def put_under(netd, acl_id, subnet_id):
    (old,) = netd.ec2("DescribeNetworkAcls", Filters=[by("association.subnet-id", subnet_id)])["NetworkAcls"]
    (association,) = [a for a in old["Associations"] if a["SubnetId"] == subnet_id]
    answer = netd.ec2("ReplaceNetworkAclAssociation", AssociationId=association["NetworkAclAssociationId"], NetworkAclId=acl_id)
    assert {"NetworkAclAssociationId": answer["NewAssociationId"], "NetworkAclId": acl_id, "SubnetId": subnet_id} in shown(netd, acl_id)[
        "Associations"
    ]


@pytest.fixture
def two(guests, group, netd, acl, subnets):
    """A guest in a subnet under the ACL, and one in a subnet under the default one; their groups let everything pass."""
    everything = group(OPEN)
    inner = guests(groups=[everything], SubnetId=subnets[0]["SubnetId"])
    outer = guests(groups=[everything], SubnetId=subnets[1]["SubnetId"])
    inner.dhcp(), outer.dhcp()
    assert inner.reaches(outer.address)
    put_under(netd, acl, inner.subnet)
    return inner, outer


def test_a_new_acl_denies_all_between_subnets_and_nothing_within(guests, group, two):
    inner, outer = two
    assert inner.ping(outer.address) == 0 and outer.ping(inner.address) == 0
    neighbour = guests(groups=[group(OPEN)], SubnetId=inner.subnet)
    neighbour.dhcp()
    assert inner.reaches(neighbour.address)


def test_answers_need_an_entry_of_their_own(netd, acl, two):
    inner, outer = two
    tcp = {"Protocol": "6", "PortRange": {"From": 80, "To": 80}}
    allow(netd, acl, 100, **tcp)
    with inner.listen(80), inner.listen(81):
        assert not outer.can_connect(inner.address, 80)
        allow(netd, acl, 100, egress=True, Protocol="tcp", PortRange={"From": 1024, "To": 65535})
        assert outer.connects(inner.address, 80)
        assert not outer.can_connect(inner.address, 81)
        with outer.listen(80):
            assert not inner.can_connect(outer.address, 80)


def test_a_new_deny_cuts_the_flow_under_way_and_comes_before_a_later_allow(netd, acl, two):
    inner, outer = two
    allow(netd, acl, 100), allow(netd, acl, 100, egress=True)
    with inner.listen(80) as listener, outer.connect(inner.address, 80) as client:
        server, _ = listener.accept()
        client.sendall(b"x")
        assert server.recv(1) == b"x"
        deny = {"Protocol": "6", "PortRange": {"From": 1, "To": 100}, "CidrBlock": outer.address + "/32", "RuleAction": "deny"}
        netd.ec2("CreateNetworkAclEntry", NetworkAclId=acl, RuleNumber=90, Egress=False, **deny)
        client.sendall(b"y")
        server.settimeout(0.7)
        with pytest.raises(TimeoutError):
            server.recv(1)
        assert outer.reaches(inner.address)
        # After the allow it says nothing; what waited arrives.
        netd.ec2("DeleteNetworkAclEntry", NetworkAclId=acl, RuleNumber=90, Egress=False)
        netd.ec2("CreateNetworkAclEntry", NetworkAclId=acl, RuleNumber=110, Egress=False, **deny)
        server.settimeout(PATIENCE)
        assert server.recv(1) == b"y"
        server.close()


def test_icmp_is_told_apart_by_type_and_code(netd, acl, two):
    inner, outer = two
    icmp = {"Protocol": "1"}
    allow(netd, acl, 100, IcmpTypeCode={"Type": 8, "Code": 0}, **icmp)
    assert outer.ping(inner.address) == 0
    allow(netd, acl, 100, egress=True, IcmpTypeCode={"Type": 0, "Code": -1}, **icmp)
    assert outer.reaches(inner.address)
    assert inner.ping(outer.address) == 0
    netd.ec2(
        "ReplaceNetworkAclEntry", NetworkAclId=acl, RuleNumber=100, Egress=False, RuleAction="allow", CidrBlock="0.0.0.0/0",
        IcmpTypeCode={"Type": 8, "Code": 1}, **icmp,
    )
    assert outer.ping(inner.address) == 0


def test_udp_ports_are_ranges_with_both_ends(netd, acl, two):
    inner, outer = two
    allow(netd, acl, 100, Protocol="17", PortRange={"From": 5000, "To": 5001})
    heard = []
    for port in (4999, 5000, 5001, 5002):
        with inner.listen(port, socket.SOCK_DGRAM) as ear, outer.listen(0, socket.SOCK_DGRAM) as mouth:
            ear.settimeout(PATIENCE if port in (5000, 5001) else 0.5)
            mouth.sendto(b"x", (inner.address, port))
            try:
                heard.append(ear.recv(1) and port)
            except TimeoutError:
                pass
    assert heard == [5000, 5001]


# ---- the API ----


def test_entries_are_shown_in_order_and_in_canonical_form(netd, acl):
    allow(netd, acl, 200, CidrBlock="100.68.0.18/18")
    allow(netd, acl, 100, Protocol="udp", PortRange={"From": 53, "To": 53})
    allow(netd, acl, 7, egress=True, Protocol="50", PortRange={"From": 1, "To": 2})
    entries = shown(netd, acl)["Entries"]
    assert [(e["Egress"], e["RuleNumber"]) for e in entries] == [(True, 7), (True, 32767), (False, 100), (False, 200), (False, 32767)]
    assert entries[0]["Protocol"] == "50" and "PortRange" not in entries[0]
    assert entries[2]["Protocol"] == "17" and entries[2]["PortRange"] == {"From": 53, "To": 53}
    assert entries[3]["CidrBlock"] == "100.68.0.0/18"


def test_acls_are_found_by_every_filter(netd, acl, subnets):
    allow(netd, acl, 100, Protocol="6", PortRange={"From": 4711, "To": 4712})
    allow(netd, acl, 101, Protocol="1", IcmpTypeCode={"Type": 3, "Code": 4})
    netd.ec2("CreateTags", Resources=[acl], Tags=[{"Key": "of", "Value": "filters"}])
    for name, value in [
        ("entry.port-range.from", "4711"), ("entry.port-range.to", "4712"), ("entry.protocol", "tcp"), ("entry.icmp.type", "3"),
        ("entry.icmp.code", "4"), ("entry.rule-number", "101"), ("entry.rule-action", "allow"), ("entry.egress", "true"),
        ("entry.cidr", "0.0.0.0/*"), ("network-acl-id", acl), ("vpc-id", subnets[0]["VpcId"]), ("default", "false"), ("tag:of", "filters"),
        ("tag-key", "of"),
    ]:  # fmt: skip
        found = netd.ec2("DescribeNetworkAcls", Filters=[by(name, value)])["NetworkAcls"]
        assert acl in [a["NetworkAclId"] for a in found], name
    assert netd.ec2("DescribeNetworkAcls", Filters=[by("entry.protocol", "udp"), by("network-acl-id", acl)])["NetworkAcls"] == []


def test_wrong_entries_are_refused_and_change_nothing(netd, acl):
    allow(netd, acl, 100)
    before = shown(netd, acl)
    good = {"NetworkAclId": acl, "RuleNumber": 110, "Egress": False, "RuleAction": "allow", **ALL}
    tcp, icmp = {"Protocol": "6"}, {"Protocol": "1"}
    for code, change in [
        ("NetworkAclEntryAlreadyExists", {"RuleNumber": 100}),
        ("InvalidParameterValue", {"RuleNumber": 0}),
        ("InvalidParameterValue", {"RuleNumber": 32767}),
        ("InvalidParameterValue", {"CidrBlock": "10.0.0.0"}),
        ("InvalidParameterValue", {"Protocol": "256"}),
        ("InvalidParameterValue", {"Protocol": "tcpx"}),
        ("InvalidParameterCombination", {"Ipv6CidrBlock": "::/0"}),
        ("MissingParameter", {"CidrBlock": None}),
        ("MissingParameter", tcp),
        ("MissingParameter", icmp),
        ("InvalidParameterValue", {**tcp, "PortRange": {"From": 2, "To": 1}}),
        ("InvalidParameterValue", {**tcp, "PortRange": {"From": 1, "To": 65536}}),
        ("InvalidParameterValue", {**icmp, "IcmpTypeCode": {"Type": -1, "Code": 0}}),
        ("InvalidNetworkAclID.NotFound", {"NetworkAclId": "acl-0123456789abcdef0"}),
        ("InvalidNetworkAclId.Malformed", {"NetworkAclId": "vpc-0123456789abcdef0"}),
    ]:
        parameters = {k: v for k, v in {**good, **change}.items() if v is not None}
        refused(code, netd.ec2, "CreateNetworkAclEntry", **parameters)
    refused("InvalidNetworkAclEntry.NotFound", netd.ec2, "ReplaceNetworkAclEntry", **good)
    refused("InvalidNetworkAclEntry.NotFound", netd.ec2, "DeleteNetworkAclEntry", NetworkAclId=acl, RuleNumber=100, Egress=True)
    refused("InvalidParameterValue", netd.ec2, "DeleteNetworkAclEntry", NetworkAclId=acl, RuleNumber=32767, Egress=True)
    assert shown(netd, acl) == before


def test_an_acl_holds_twenty_entries_each_way_and_family(netd, acl):
    for number in range(1, 21):
        allow(netd, acl, number)
    refused("NetworkAclEntryLimitExceeded", allow, netd, acl, 21)
    allow(netd, acl, 21, egress=True)
    netd.ec2("CreateNetworkAclEntry", NetworkAclId=acl, RuleNumber=21, Egress=False, RuleAction="deny", Protocol="-1", Ipv6CidrBlock="FE80::/10")
    assert [e["Ipv6CidrBlock"] for e in shown(netd, acl)["Entries"] if "Ipv6CidrBlock" in e] == ["fe80::/10"]


def test_what_is_in_use_or_the_vpcs_own_stays(netd, acl, subnets):
    put_under(netd, acl, subnets[2]["SubnetId"])
    refused("DependencyViolation", netd.ec2, "DeleteNetworkAcl", NetworkAclId=acl)
    default = netd.ec2("DescribeNetworkAcls", Filters=[by("vpc-id", subnets[0]["VpcId"]), by("default", "true")])["NetworkAcls"][0]
    refused("InvalidParameterValue", netd.ec2, "DeleteNetworkAcl", NetworkAclId=default["NetworkAclId"])
    refused("InvalidAssociationID.NotFound", netd.ec2, "ReplaceNetworkAclAssociation", AssociationId="aclassoc-0123", NetworkAclId=acl)
    vpc = netd.ec2("CreateVpc", CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"]
    other = netd.ec2("CreateNetworkAcl", VpcId=vpc)["NetworkAcl"]["NetworkAclId"]
    association = shown(netd, acl)["Associations"][0]["NetworkAclAssociationId"]
    refused("InvalidParameterValue", netd.ec2, "ReplaceNetworkAclAssociation", AssociationId=association, NetworkAclId=other)
    refused("DependencyViolation", netd.ec2, "DeleteVpc", VpcId=vpc)
    netd.ec2("DeleteNetworkAcl", NetworkAclId=other)
    netd.ec2("DeleteVpc", VpcId=vpc)
