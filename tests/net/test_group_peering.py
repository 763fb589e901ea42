"""Groups of a peered VPC in rules: followed while the connection is there, stale afterwards."""

from lab import eventually, refused, router, sh


def from_group(group_id):
    return {"IpProtocol": "tcp", "FromPort": 8080, "ToPort": 8080, "UserIdGroupPairs": [{"GroupId": group_id, "Description": "afar"}]}


def test_a_rule_follows_the_members_of_a_group_of_a_peer(netd, side, peer):
    one, two = side("10.71.0.0/16"), side("10.72.0.0/16")
    refused("InvalidGroup.NotFound", netd.ec2, "AuthorizeSecurityGroupIngress", GroupId=one.group, IpPermissions=[from_group(two.group)])
    peering = peer(one, two)
    one.route(two, peering), two.route(one, peering)
    friends = netd.ec2("CreateSecurityGroup", GroupName="friends", Description="afar", VpcId=two.vpc)["GroupId"]
    netd.ec2("AuthorizeSecurityGroupIngress", GroupId=one.group, IpPermissions=[from_group(friends)])
    with one.guest.listen(8080):
        assert not two.guest.can_connect(one.guest.address, 8080)
        netd.ec2("ModifyNetworkInterfaceAttribute", NetworkInterfaceId=two.guest.eni, Groups=[two.group, friends])
        assert two.guest.connects(one.guest.address, 8080)
        assert two.guest.address in sh(f"ip netns exec {router(one.vpc)} ipset list {friends}")
        netd.ec2("ModifyNetworkInterfaceAttribute", NetworkInterfaceId=two.guest.eni, Groups=[two.group])
        assert not two.guest.can_connect(one.guest.address, 8080)
    (reference,) = netd.ec2("DescribeSecurityGroupReferences", GroupId=[friends, two.group])["SecurityGroupReferenceSet"]
    assert reference == {"GroupId": friends, "ReferencingVpcId": one.vpc, "VpcPeeringConnectionId": peering}
    pair = {"GroupId": friends, "VpcId": two.vpc, "VpcPeeringConnectionId": peering, "PeeringStatus": "active"}
    (shown,) = pairs(netd, one)
    assert {k: shown[k] for k in pair} == pair
    assert netd.ec2("DescribeStaleSecurityGroups", VpcId=one.vpc)["StaleSecurityGroupSet"] == []

    # The rule does not hold the group: without it, it is stale, and can still be spoken of.
    netd.ec2("DeleteSecurityGroup", GroupId=friends)
    (stale,) = netd.ec2("DescribeStaleSecurityGroups", VpcId=one.vpc)["StaleSecurityGroupSet"]
    assert stale["GroupId"] == one.group and stale["StaleIpPermissionsEgress"] == []
    assert [p["GroupId"] for p in stale["StaleIpPermissions"][0]["UserIdGroupPairs"]] == [friends]
    netd.ec2("RevokeSecurityGroupIngress", GroupId=one.group, IpPermissions=[from_group(friends)])
    assert netd.ec2("DescribeStaleSecurityGroups", VpcId=one.vpc)["StaleSecurityGroupSet"] == []
    refused("InvalidGroup.NotFound", netd.ec2, "AuthorizeSecurityGroupIngress", GroupId=one.group, IpPermissions=[from_group(friends)])


def pairs(netd, side):
    (group,) = netd.ec2("DescribeSecurityGroups", GroupIds=[side.group])["SecurityGroups"]
    return [p for permission in group["IpPermissions"] if permission.get("FromPort") == 8080 for p in permission["UserIdGroupPairs"]]


def test_flow_logs_know_the_rule_that_names_a_peers_group(netd, side, peer, log):
    one, two = side("10.75.0.0/16"), side("10.76.0.0/16")
    peering = peer(one, two)
    one.route(two, peering), two.route(one, peering)
    (rule,) = netd.ec2("AuthorizeSecurityGroupIngress", GroupId=one.group, IpPermissions=[from_group(two.group)])["SecurityGroupRules"]
    eni_log = log("NetworkInterface", one.guest.eni)
    with one.guest.listen(8080):
        assert two.guest.connects(one.guest.address, 8080)
    rows = eventually(lambda: eni_log.rows(dstport=8080, action="ACCEPT"))
    assert {row["gureum-rule-id"] for row in rows} == {rule["SecurityGroupRuleId"]}


def test_a_rule_is_stale_when_the_connection_ends(netd, side, peer):
    one, two = side("10.73.0.0/16"), side("10.74.0.0/16")
    peering = peer(one, two)
    netd.ec2("AuthorizeSecurityGroupIngress", GroupId=one.group, IpPermissions=[from_group(two.group)])
    assert two.group in sh(f"ip netns exec {router(one.vpc)} iptables-nft -S {one.group}-in")
    netd.ec2("DeleteVpcPeeringConnection", VpcPeeringConnectionId=peering)
    assert two.group not in sh(f"ip netns exec {router(one.vpc)} iptables-nft -S {one.group}-in")
    assert [p["PeeringStatus"] for p in pairs(netd, one)] == ["deleted"]
    (stale,) = netd.ec2("DescribeStaleSecurityGroups", VpcId=one.vpc)["StaleSecurityGroupSet"]
    assert stale["VpcId"] == one.vpc
    rules = netd.ec2("DescribeSecurityGroupRules", Filters=[{"Name": "group-id", "Values": [one.group]}])["SecurityGroupRules"]
    assert [r["ReferencedGroupInfo"]["PeeringStatus"] for r in rules if r.get("ReferencedGroupInfo", {}).get("VpcId")] == ["deleted"]
