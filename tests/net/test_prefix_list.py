"""Managed prefix lists: versions of blocks that group rules and routes refer to; and every refusal that AWS has for them."""

import pytest
from lab import eventually, refused, router, sh


def by(name, *values):
    return {"Name": name, "Values": list(values)}


@pytest.fixture
def lists(netd):
    """Makes lists; they go with the test."""
    made = []

    def make(*cidrs, size=10, family="IPv4"):
        entries = [{"Cidr": c} for c in cidrs]
        answer = netd.ec2("CreateManagedPrefixList", PrefixListName="of a test", MaxEntries=size, AddressFamily=family, Entries=entries)
        made.append(answer["PrefixList"]["PrefixListId"])
        return made[-1]

    yield make
    for list_id in made:
        netd.ec2("DeleteManagedPrefixList", PrefixListId=list_id)
        refused("InvalidPrefixListID.NotFound", netd.ec2, "DescribeManagedPrefixLists", PrefixListIds=[list_id])


def shown(netd, list_id):
    return netd.ec2("DescribeManagedPrefixLists", PrefixListIds=[list_id])["PrefixLists"][0]


def cidrs(netd, list_id, **more):
    return [e["Cidr"] for e in netd.ec2("GetManagedPrefixListEntries", PrefixListId=list_id, **more)["Entries"]]


def change(netd, list_id, add=(), remove=()):
    return netd.ec2(
        "ModifyManagedPrefixList", PrefixListId=list_id, CurrentVersion=shown(netd, list_id)["Version"],
        AddEntries=[{"Cidr": c} for c in add], RemoveEntries=[{"Cidr": c} for c in remove],
    )["PrefixList"]  # fmt: skip


def from_list(list_id, **more):
    return {"IpProtocol": "-1", **more, "PrefixListIds": [{"PrefixListId": list_id, "Description": "friends"}]}


def forget(netd, group_id, *permissions):
    netd.ec2("RevokeSecurityGroupIngress", GroupId=group_id, IpPermissions=list(permissions))


# ---- packets ----


def test_a_rule_follows_its_list_by_a_set_and_not_by_rules(guests, group, lists, netd):
    list_id = lists("192.0.2.0/24")
    friends = group(from_list(list_id))
    one, two = guests(groups=[friends]), guests(groups=[group()])
    one.dhcp(), two.dhcp()
    with one.listen():
        assert not two.can_connect(one.address)
        rules = sh(f"ip netns exec {router(one.vpc)} iptables-nft -S")
        assert f"--match-set {list_id} src -j ACCEPT" in rules
        change(netd, list_id, add=[two.address + "/32", "198.51.100.0/24"])
        assert two.connects(one.address)
        change(netd, list_id, add=["0.0.0.0/0"], remove=[two.address + "/32"])
        assert two.connects(one.address)
        change(netd, list_id, remove=["0.0.0.0/0"])
        assert not two.can_connect(one.address)
        assert sh(f"ip netns exec {router(one.vpc)} iptables-nft -S") == rules
        netd.ec2("RestoreManagedPrefixListVersion", PrefixListId=list_id, PreviousVersion=2, CurrentVersion=4)
        assert two.connects(one.address)
    users = netd.ec2("GetManagedPrefixListAssociations", PrefixListId=list_id)["PrefixListAssociations"]
    assert [u["ResourceId"] for u in users] == [friends]
    refused("DependencyViolation", netd.ec2, "DeleteManagedPrefixList", PrefixListId=list_id)
    forget(netd, friends, from_list(list_id))
    eventually(lambda: list_id not in sh(f"ip netns exec {router(one.vpc)} ipset list -n"))


def test_an_egress_rule_takes_a_list_too(guests, group, lists, netd):
    list_id = lists()
    locked = group()
    everywhere = {"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
    netd.ec2("RevokeSecurityGroupEgress", GroupId=locked, IpPermissions=[everywhere])
    netd.ec2("AuthorizeSecurityGroupEgress", GroupId=locked, IpPermissions=[from_list(list_id)])
    one, two = guests(groups=[locked]), guests(groups=[group(everywhere)])
    one.dhcp(), two.dhcp()
    assert one.ping(two.address) == 0
    change(netd, list_id, add=[two.address + "/32"])
    assert one.reaches(two.address)
    netd.ec2("RevokeSecurityGroupEgress", GroupId=locked, IpPermissions=[from_list(list_id)])


def test_a_route_follows_its_list(guests, lists, netd):
    list_id = lists("192.0.2.0/24")
    guest, box = guests(), guests()
    guest.dhcp(), box.dhcp()
    (table,) = netd.ec2("DescribeRouteTables", Filters=[by("vpc-id", guest.vpc), by("association.main", "true")])["RouteTables"]
    route = {"RouteTableId": table["RouteTableId"], "DestinationPrefixListId": list_id}
    netd.ec2("CreateRoute", NetworkInterfaceId=box.eni, **route)
    try:
        refused("RouteAlreadyExists", netd.ec2, "CreateRoute", NetworkInterfaceId=box.eni, **route)
        assert guest.reaches("203.0.113.1")
        change(netd, list_id, add=["203.0.113.1/32"])
        assert guest.ping("203.0.113.1") == 0
        assert "203.0.113.1 via " + box.address in sh(f"ip -n {router(guest.vpc)} route show table all")
        gateway = next(r["GatewayId"] for r in table["Routes"] if r["DestinationCidrBlock"] == "0.0.0.0/0")
        netd.ec2("ReplaceRoute", GatewayId=gateway, **route)
        assert guest.reaches("203.0.113.1")
        users = netd.ec2("GetManagedPrefixListAssociations", PrefixListId=list_id)["PrefixListAssociations"]
        assert [u["ResourceId"] for u in users] == [table["RouteTableId"]]
        assert netd.ec2("ModifyManagedPrefixList", PrefixListId=list_id, MaxEntries=50)["PrefixList"]["State"] == "modify-failed"
        big = lists(size=50)
        refused("RouteLimitExceeded", netd.ec2, "CreateRoute", GatewayId=gateway, **{**route, "DestinationPrefixListId": big})
    finally:
        netd.ec2("DeleteRoute", **route)
    refused("InvalidRoute.NotFound", netd.ec2, "DeleteRoute", **route)
    refused("InvalidPrefixListID.NotFound", netd.ec2, "DeleteRoute", **{**route, "DestinationPrefixListId": "pl-0123456789abcdef0"})
    refused("InvalidParameterCombination", netd.ec2, "DeleteRoute", DestinationCidrBlock="0.0.0.0/0", **route)


# ---- the API ----


def test_a_list_has_versions(netd, lists):
    list_id = lists("10.0.0.1/8", "192.0.2.0/24")
    first = shown(netd, list_id)
    assert first["Version"] == 1 and first["MaxEntries"] == 10 and first["State"] == "create-complete"
    assert first["PrefixListArn"] == f"arn:aws:ec2:us-east-1:123456789012:prefix-list/{list_id}"
    assert cidrs(netd, list_id) == ["10.0.0.0/8", "192.0.2.0/24"]
    changed = change(netd, list_id, add=["198.51.100.0/24"], remove=["10.0.0.0/8"])
    assert changed["Version"] == 2 and changed["State"] == "modify-complete"
    assert cidrs(netd, list_id) == ["192.0.2.0/24", "198.51.100.0/24"]
    assert cidrs(netd, list_id, TargetVersion=1) == ["10.0.0.0/8", "192.0.2.0/24"]
    restored = netd.ec2("RestoreManagedPrefixListVersion", PrefixListId=list_id, PreviousVersion=1, CurrentVersion=2)["PrefixList"]
    assert restored["Version"] == 3 and restored["State"] == "restore-complete"
    assert cidrs(netd, list_id) == ["10.0.0.0/8", "192.0.2.0/24"]
    named = netd.ec2("ModifyManagedPrefixList", PrefixListId=list_id, PrefixListName="another", MaxEntries=2)["PrefixList"]
    assert (named["Version"], named["PrefixListName"], named["MaxEntries"]) == (3, "another", 2)


def test_pages_and_descriptions(netd, lists):
    list_id = lists()
    netd.ec2(
        "ModifyManagedPrefixList", PrefixListId=list_id, CurrentVersion=1,
        AddEntries=[{"Cidr": f"10.0.{n}.0/24", "Description": f"number {n}"} for n in range(3)],
    )  # fmt: skip
    page = netd.ec2("GetManagedPrefixListEntries", PrefixListId=list_id, MaxResults=2)
    assert page["Entries"][1] == {"Cidr": "10.0.1.0/24", "Description": "number 1"}
    last = netd.ec2("GetManagedPrefixListEntries", PrefixListId=list_id, MaxResults=2, NextToken=page["NextToken"])
    assert [e["Cidr"] for e in last["Entries"]] == ["10.0.2.0/24"] and "NextToken" not in last
    again = [{"Cidr": "10.0.1.0/24", "Description": "another"}]
    netd.ec2("ModifyManagedPrefixList", PrefixListId=list_id, CurrentVersion=2, AddEntries=again)
    assert netd.ec2("GetManagedPrefixListEntries", PrefixListId=list_id)["Entries"][1] == again[0]
    refused(
        "InvalidPrefixListModification", netd.ec2, "ModifyManagedPrefixList", PrefixListId=list_id, CurrentVersion=3, AddEntries=again
    )


def test_wrong_changes_are_refused_and_change_nothing(netd, lists):
    list_id = lists("10.0.0.0/8", size=2)
    before = shown(netd, list_id)
    one, two, there = [{"Cidr": "192.0.2.0/24"}], [{"Cidr": "192.0.2.0/24"}, {"Cidr": "198.51.100.0/24"}], [{"Cidr": "10.0.0.0/8"}]
    now = {"CurrentVersion": 1}
    for code, parameters in [
        ("PrefixListVersionMismatch", {"CurrentVersion": 2, "AddEntries": one}),
        ("MissingParameter", {"AddEntries": one}),
        ("PrefixListMaxEntriesExceeded", {**now, "AddEntries": two}),
        ("InvalidParameterValue", {**now, "AddEntries": one, "RemoveEntries": one}),
        ("InvalidParameterValue", {**now, "AddEntries": one + one}),
        ("InvalidPrefixListModification", {**now, "RemoveEntries": one}),
        ("InvalidPrefixListModification", {**now, "AddEntries": there}),
        ("InvalidParameterCombination", {**now, "AddEntries": one, "MaxEntries": 3}),
        ("InvalidParameterValue", {**now, "AddEntries": [{"Cidr": "fd00::/8"}]}),
        ("InvalidParameterValue", {"MaxEntries": 0}),
        ("InvalidParameterValue", {"MaxEntries": 1001}),
        ("InvalidParameterValue", {"PrefixListName": "com.amazonaws.mine"}),
        ("InvalidPrefixListID.NotFound", {"PrefixListId": "pl-0123456789abcdef0"}),
        ("InvalidPrefixListId.Malformed", {"PrefixListId": "sg-0123456789abcdef0"}),
    ]:
        refused(code, netd.ec2, "ModifyManagedPrefixList", **{"PrefixListId": list_id, **parameters})
    refused("InvalidParameterValue", netd.ec2, "GetManagedPrefixListEntries", PrefixListId=list_id, TargetVersion=2)
    restore = {"PrefixListId": list_id, "CurrentVersion": 1}
    refused("InvalidParameterValue", netd.ec2, "RestoreManagedPrefixListVersion", PreviousVersion=7, **restore)
    make = {"PrefixListName": "x", "MaxEntries": 1, "AddressFamily": "IPv4"}
    refused("PrefixListMaxEntriesExceeded", netd.ec2, "CreateManagedPrefixList", **{**make, "Entries": two})
    refused("InvalidParameterValue", netd.ec2, "CreateManagedPrefixList", **{**make, "AddressFamily": "ipv4"})
    assert shown(netd, list_id) == before and cidrs(netd, list_id) == ["10.0.0.0/8"]


def test_a_reference_counts_for_as_many_rules_as_the_list_may_have(netd, lists, group):
    big, small = lists(size=61), lists(size=60)
    holder = group()
    refused("RulesPerSecurityGroupLimitExceeded", netd.ec2, "AuthorizeSecurityGroupIngress", GroupId=holder, IpPermissions=[from_list(big)])
    netd.ec2("AuthorizeSecurityGroupIngress", GroupId=holder, IpPermissions=[from_list(small)])
    more = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22}
    v4, v6 = {**more, "IpRanges": [{"CidrIp": "10.0.0.0/8"}]}, {**more, "Ipv6Ranges": [{"CidrIpv6": "fd00::/8"}]}
    refused("RulesPerSecurityGroupLimitExceeded", netd.ec2, "AuthorizeSecurityGroupIngress", GroupId=holder, IpPermissions=[v4])
    netd.ec2("AuthorizeSecurityGroupIngress", GroupId=holder, IpPermissions=[v6])
    resized = netd.ec2("ModifyManagedPrefixList", PrefixListId=small, MaxEntries=61)["PrefixList"]
    assert (resized["State"], resized["StateMessage"], resized["MaxEntries"]) == ("modify-failed", holder, 60)
    resized = netd.ec2("ModifyManagedPrefixList", PrefixListId=small, MaxEntries=59)["PrefixList"]
    assert resized["State"] == "modify-complete" and "StateMessage" not in resized
    netd.ec2("AuthorizeSecurityGroupIngress", GroupId=holder, IpPermissions=[v4])
    refused("InvalidPermission.Duplicate", netd.ec2, "AuthorizeSecurityGroupIngress", GroupId=holder, IpPermissions=[from_list(small)])
    (found,) = netd.ec2("DescribeSecurityGroups", Filters=[by("ip-permission.prefix-list-id", small)])["SecurityGroups"]
    assert found["GroupId"] == holder
    assert found["IpPermissions"][0]["PrefixListIds"] == [{"PrefixListId": small, "Description": "friends"}]
    forget(netd, holder, from_list(small))


def test_every_region_has_the_clouds_own_lists(netd):
    names = {f"com.amazonaws.us-east-1.{service}" for service in ("s3", "dynamodb")}
    found = netd.ec2("DescribeManagedPrefixLists", Filters=[by("owner-id", "AWS")])["PrefixLists"]
    assert {p["PrefixListName"] for p in found} == names
    assert all(p["PrefixListArn"] == f"arn:aws:ec2:us-east-1:aws:prefix-list/{p['PrefixListId']}" for p in found)
    assert all("MaxEntries" not in p and "Version" not in p for p in found)
    older = netd.ec2("DescribePrefixLists", PrefixListIds=[found[0]["PrefixListId"]])["PrefixLists"]
    assert older[0]["Cidrs"] == cidrs(netd, found[0]["PrefixListId"]) != []
    refused("OperationNotPermitted", netd.ec2, "DeleteManagedPrefixList", PrefixListId=found[0]["PrefixListId"])
    refused("OperationNotPermitted", netd.ec2, "ModifyManagedPrefixList", PrefixListId=found[0]["PrefixListId"], PrefixListName="mine")
    refused("InvalidPrefixListId.NotFound", netd.ec2, "DescribePrefixLists", PrefixListIds=["pl-0123456789abcdef0"])


def test_flow_logs_know_the_rule_that_names_a_list(netd, lists, guests, group, log):
    one = guests(groups=[group()])
    one.dhcp()
    allowed, other = lists(f"{one.address}/32"), lists("192.0.2.0/24")
    permissions = [{"IpProtocol": "tcp", "FromPort": 80, "ToPort": 80, "PrefixListIds": [{"PrefixListId": i}]} for i in (other, allowed)]
    holder = group(*permissions)
    two = guests(groups=[holder])
    two.dhcp()
    eni_log = log("NetworkInterface", two.eni)
    with two.listen():
        assert one.connects(two.address)
    rules = netd.ec2("DescribeSecurityGroupRules")["SecurityGroupRules"]
    wanted = {rule["SecurityGroupRuleId"] for rule in rules if rule.get("PrefixListId") == allowed}
    assert {row["gureum-rule-id"] for row in eventually(lambda: eni_log.rows(dstport=80, action="ACCEPT"))} == wanted
    forget(netd, holder, *permissions)
