"""VPC peering: packets over the link between two routers, and what AWS says of the connection's states."""

import contextlib
import ipaddress
import json
import signal
import sqlite3
import time

from lab import Guest, PING, Refused, REGION, dns, eventually, refused, router, sh
from lab_ipv6 import add_address


def shown(netd, peering):
    return netd.ec2("DescribeVpcPeeringConnections", VpcPeeringConnectionIds=[peering])["VpcPeeringConnections"][0]


def state(netd, peering):
    return shown(netd, peering)["Status"]["Code"]


def links(one):
    return [line.split("@")[0] for line in sh(f"ip -n {router(one.vpc)} -br link").splitlines() if line.startswith("p")]


def test_peers_reach_one_another_once_both_have_routes(netd, side, peer):
    one, two = side("10.31.0.0/16"), side("10.32.0.0/16")
    assert one.guest.ping(two.guest.address) == 0
    pcx = peer(one, two, accept=False)
    one.route(two, pcx)
    assert one.route_states(pcx) == ["blackhole"] and links(one) == []
    netd.ec2("AcceptVpcPeeringConnection", VpcPeeringConnectionId=pcx)
    assert one.route_states(pcx) == ["active"] and links(one) == links(two) != []
    assert one.guest.ping(two.guest.address) == 0  # no way back
    two.route(one, pcx)
    for here, there in ((one, two), (two, one)):
        assert here.guest.reaches(there.guest.address)
        assert here.guest.reaches(there.guest.address, "-M do -s 8900")
        with there.guest.listen() as listener, here.guest.connect(there.guest.address):
            assert listener.accept()[1][0] == here.guest.address

    assert netd.call("gureum.Reconcile") == {"Changes": 0}

    # The groups of either side decide; the far router and its services stay out of reach.
    netd.ec2("RevokeSecurityGroupIngress", GroupId=two.group, IpPermissions=[PING])
    assert one.guest.ping(two.guest.address) == 0
    assert two.guest.reaches(one.guest.address)
    assert one.guest.ping("10.32.1.1") == 0 and one.guest.ping("10.32.0.2") == 0

    netd.ec2("DeleteVpcPeeringConnection", VpcPeeringConnectionId=pcx)
    assert state(netd, pcx) == "deleted" and one.route_states(pcx) == two.route_states(pcx) == ["blackhole"]
    assert links(one) == links(two) == [] and two.guest.ping(one.guest.address) == 0


def test_peering_is_not_transitive(side, peer):
    one, two, three = side("10.31.0.0/16"), side("10.32.0.0/16"), side("10.33.0.0/16")
    first, second = peer(one, two), peer(two, three)
    one.route(three, first)
    two.route(one, first), two.route(three, second)
    three.route(one, second)
    one.route(two, first), three.route(two, second)
    assert one.guest.reaches(two.guest.address) and three.guest.reaches(two.guest.address)
    assert one.guest.ping(three.guest.address) == three.guest.ping(one.guest.address) == 0


def test_a_broken_link_is_made_again(netd, side, peer):
    one, two = side("10.31.0.0/16"), side("10.32.0.0/16")
    pcx = peer(one, two)
    one.route(two, pcx), two.route(one, pcx)
    assert one.guest.reaches(two.guest.address)
    for far in (one, two):
        sh(f"ip -n {router(far.vpc)} link del {links(far)[0]}")
        eventually(lambda: one.guest.ping(two.guest.address) == 1)
    sh(f"ip -n {router(two.vpc)} link set {links(two)[0]} down")
    eventually(lambda: one.guest.ping(two.guest.address) == 1)

    # One side's namespace is made anew while nobody looks.
    netd.kill(signal.SIGKILL)
    sh(f"umount /run/netns/{router(two.vpc)}; rm /run/netns/{router(two.vpc)}")
    netd.start()
    eventually(lambda: one.guest.ping(two.guest.address) == 1 and two.guest.ping(one.guest.address) == 1)


def test_vpcs_with_the_same_addresses_cannot_be_peered(netd, side, vpc):
    one = side("10.31.0.0/16")
    other = vpc("10.31.128.0/17")
    asked = netd.ec2("CreateVpcPeeringConnection", VpcId=one.vpc, PeerVpcId=other)["VpcPeeringConnection"]
    assert asked["Status"]["Code"] == "failed" and "overlapping CIDR" in asked["Status"]["Message"]
    for action in ("Accept", "Reject", "Delete"):
        refused(
            "InvalidStateTransition",
            netd.ec2,
            f"{action}VpcPeeringConnection",
            VpcPeeringConnectionId=asked["VpcPeeringConnectionId"],
        )
    nobody = netd.ec2("CreateVpcPeeringConnection", VpcId=one.vpc, PeerVpcId="vpc-00000000000000000")["VpcPeeringConnection"]
    assert nobody["Status"]["Code"] == "failed"


def test_a_connection_goes_through_awss_states(netd, side, peer):
    one, two = side("10.31.0.0/16"), side("10.32.0.0/16")
    pcx = peer(one, two, accept=False)
    pending = shown(netd, pcx)
    assert pending["Status"]["Code"] == "pending-acceptance" and pending["ExpirationTime"]
    assert pending["RequesterVpcInfo"]["CidrBlock"] == "10.31.0.0/16" and "CidrBlock" not in pending["AccepterVpcInfo"]
    refused("VpcPeeringConnectionAlreadyExists", netd.ec2, "CreateVpcPeeringConnection", VpcId=two.vpc, PeerVpcId=one.vpc)
    refused("DependencyViolation", netd.ec2, "DeleteVpc", VpcId=two.vpc)
    netd.ec2("RejectVpcPeeringConnection", VpcPeeringConnectionId=pcx)
    assert state(netd, pcx) == "rejected"
    refused("InvalidStateTransition", netd.ec2, "AcceptVpcPeeringConnection", VpcPeeringConnectionId=pcx)

    pcx = peer(one, two)
    active = shown(netd, pcx)
    assert active["AccepterVpcInfo"]["CidrBlockSet"] == [{"CidrBlock": "10.32.0.0/16"}]
    assert active["AccepterVpcInfo"]["Region"] == REGION and "ExpirationTime" not in active
    refused("InvalidVpc.Range", netd.ec2, "AssociateVpcCidrBlock", VpcId=one.vpc, CidrBlock="10.32.8.0/24")
    netd.ec2("AssociateVpcCidrBlock", VpcId=one.vpc, CidrBlock="10.34.0.0/16")
    assert {"CidrBlock": "10.34.0.0/16"} in shown(netd, pcx)["RequesterVpcInfo"]["CidrBlockSet"]
    by_state = [{"Name": "status-code", "Values": ["active"]}, {"Name": "accepter-vpc-info.vpc-id", "Values": [two.vpc]}]
    found = netd.ec2("DescribeVpcPeeringConnections", Filters=by_state)["VpcPeeringConnections"]
    assert [f["VpcPeeringConnectionId"] for f in found] == [pcx]
    refused("InvalidVpcPeeringConnectionState.DnsHostnamesDisabled", netd.ec2, "ModifyVpcPeeringConnectionOptions",
            VpcPeeringConnectionId=pcx, AccepterPeeringConnectionOptions={"AllowDnsResolutionFromRemoteVpc": True})
    netd.ec2("CreateTags", Resources=[pcx], Tags=[{"Key": "a", "Value": "b"}])
    assert shown(netd, pcx)["Tags"] == [{"Key": "a", "Value": "b"}]
    refused("InvalidVpcPeeringConnectionID.NotFound", netd.ec2, "AcceptVpcPeeringConnection",
            VpcPeeringConnectionId="pcx-00000000000000000")
    refused("InvalidVpcPeeringConnectionId.Malformed", netd.ec2, "DeleteVpcPeeringConnection", VpcPeeringConnectionId="pcx-1")
    three = netd.ec2("DescribeRouteTables", Filters=[{"Name": "association.main", "Values": ["true"]}])["RouteTables"][0]
    refused("InvalidParameterValue", netd.ec2, "CreateRoute", RouteTableId=three["RouteTableId"],
            DestinationCidrBlock="10.32.0.0/16", VpcPeeringConnectionId=pcx)


def test_public_names_of_a_peer_lead_inside_once_it_allows(netd, side, peer, guests):
    one, two = side("10.31.0.0/16"), side("10.32.0.0/16")
    for here in (one, two):
        netd.ec2("ModifyVpcAttribute", VpcId=here.vpc, EnableDnsHostnames={"Value": True})
    pcx = peer(one, two)
    named = guests(public=True, SubnetId=two.subnet)
    eni = netd.ec2("DescribeNetworkInterfaces", NetworkInterfaceIds=[named.eni])["NetworkInterfaces"][0]
    name = eni["Association"]["PublicDnsName"]
    assert dns(one.guest, "10.31.0.2", name) == (0, [named.public])
    netd.ec2(
        "ModifyVpcPeeringConnectionOptions",
        VpcPeeringConnectionId=pcx,
        AccepterPeeringConnectionOptions={"AllowDnsResolutionFromRemoteVpc": True},
    )
    assert shown(netd, pcx)["AccepterVpcInfo"]["PeeringOptions"]["AllowDnsResolutionFromRemoteVpc"] is True
    assert dns(one.guest, "10.31.0.2", name.upper()) == (0, [named.address])
    later = guests(public=True, SubnetId=two.subnet)
    eni = netd.ec2("DescribeNetworkInterfaces", NetworkInterfaceIds=[later.eni])["NetworkInterfaces"][0]
    netd.call("gureum.Reconcile")
    assert dns(one.guest, "10.31.0.2", eni["Association"]["PublicDnsName"]) == (0, [later.address])


def test_regions_can_be_peered(netd, side):
    one, far = side("10.31.0.0/16"), netd.elsewhere("ap-northeast-2")
    vpc = far.ec2("CreateVpc", CidrBlock="10.32.0.0/16")["Vpc"]["VpcId"]
    subnet = far.ec2("CreateSubnet", VpcId=vpc, CidrBlock="10.32.1.0/24")["Subnet"]["SubnetId"]
    filters = [{"Name": "vpc-id", "Values": [vpc]}]
    table = far.ec2("DescribeRouteTables", Filters=filters)["RouteTables"][0]["RouteTableId"]
    group = far.ec2("DescribeSecurityGroups", Filters=filters)["SecurityGroups"][0]["GroupId"]
    far.ec2("AuthorizeSecurityGroupIngress", GroupId=group, IpPermissions=[PING])
    guest = Guest(far, public=False, SubnetId=subnet)
    try:
        guest.dhcp()
        asked = netd.ec2("CreateVpcPeeringConnection", VpcId=one.vpc, PeerVpcId=vpc, PeerRegion="ap-northeast-2")
        pcx = asked["VpcPeeringConnection"]["VpcPeeringConnectionId"]
        assert state(far, pcx) == "pending-acceptance"
        refused("OperationNotPermitted", netd.ec2, "AcceptVpcPeeringConnection", VpcPeeringConnectionId=pcx)
        far.ec2("AcceptVpcPeeringConnection", VpcPeeringConnectionId=pcx)
        for where in (netd, far):  # each side has tags of its own
            tags = [{"Key": "in", "Value": where.region}]
            where.ec2("CreateTags", Resources=[pcx], Tags=tags)
            assert shown(where, pcx)["Tags"] == tags
        for where in (netd, far):  # and looks for them by its own
            for region in (netd.region, far.region):
                filters = [{"Name": "tag:in", "Values": [region]}, {"Name": "vpc-peering-connection-id", "Values": [pcx]}]
                found = where.ec2("DescribeVpcPeeringConnections", Filters=filters)["VpcPeeringConnections"]
                assert len(found) == (where.region == region)
        assert [t["Value"] for t in far.ec2("DescribeTags", Filters=[{"Name": "resource-id", "Values": [pcx]}])["Tags"]] == [far.region]
        netd.ec2("CreateRoute", RouteTableId=one.table, DestinationCidrBlock="10.32.0.0/16", VpcPeeringConnectionId=pcx)
        far.ec2("CreateRoute", RouteTableId=table, DestinationCidrBlock="10.31.0.0/16", VpcPeeringConnectionId=pcx)
        assert one.guest.reaches(guest.address) and guest.reaches(one.guest.address)
        refused("OperationNotPermitted", netd.ec2, "ModifyVpcPeeringConnectionOptions", VpcPeeringConnectionId=pcx,
                AccepterPeeringConnectionOptions={"AllowDnsResolutionFromRemoteVpc": False})
        far.ec2("DeleteVpcPeeringConnection", VpcPeeringConnectionId=pcx)
        assert state(netd, pcx) == "deleted"
    finally:
        guest.delete()
        far.ec2("DeleteSubnet", SubnetId=subnet)
        far.ec2("DeleteVpc", VpcId=vpc)


def test_killed_at_any_step_both_ends_come_to_what_was_asked(netd, side, peer):
    one, two = side("10.31.0.0/16"), side("10.32.0.0/16")
    pcx = peer(one, two, accept=False)
    one.route(two, pcx), two.route(one, pcx)

    def die_at_every_step(action):
        lives, is_done = 0, False
        while not is_done:
            lives += 1
            assert lives < 200, "it comes to nothing"
            netd.die_at(2 + lives % 5)
            if netd.process.poll() is not None and not netd.live():
                continue
            try:
                with contextlib.suppress(Refused):  # done in an earlier life
                    netd.ec2(action, VpcPeeringConnectionId=pcx)
                is_done = netd.reconcile() == 0
            except OSError:
                netd.process.wait()
        netd.die_at(0)
        return lives

    assert die_at_every_step("AcceptVpcPeeringConnection") > 5
    assert one.guest.reaches(two.guest.address) and two.guest.reaches(one.guest.address)
    assert die_at_every_step("DeleteVpcPeeringConnection") > 1
    assert links(one) == links(two) == [] and one.guest.ping(two.guest.address) == 0


def test_time_ends_requests_and_forgets_what_ended(netd, side, peer):
    one, two = side("10.31.0.0/16"), side("10.32.0.0/16")
    pcx = peer(one, two, accept=False)

    def rewrite(**members):
        """As if time had passed."""
        netd.kill(signal.SIGTERM)
        with contextlib.closing(sqlite3.connect(netd.directory / "lib/netd/state.db")) as db:
            (text,) = db.execute("SELECT json FROM doc WHERE id = ?", (pcx,)).fetchone()
            db.execute("UPDATE doc SET json = ? WHERE id = ?", (json.dumps({**json.loads(text), **members}), pcx))
            db.commit()
        netd.start()

    rewrite(ExpirationTime="2026-01-01T00:00:00.000Z")
    assert state(netd, pcx) == "expired"
    refused("InvalidStateTransition", netd.ec2, "AcceptVpcPeeringConnection", VpcPeeringConnectionId=pcx)
    rewrite(_Until=int(time.time() * 1e6) + 3600_000_000)
    assert state(netd, pcx) == "expired"
    rewrite(_Until=int(time.time() * 1e6) - 1)
    refused("InvalidVpcPeeringConnectionID.NotFound", shown, netd, pcx)
    netd.ec2("CreateVpcPeeringConnection", VpcId=one.vpc, PeerVpcId=two.vpc)
    for left in netd.ec2("DescribeVpcPeeringConnections", Filters=[{"Name": "status-code", "Values": ["pending-acceptance"]}])[
        "VpcPeeringConnections"
    ]:
        netd.ec2("DeleteVpcPeeringConnection", VpcPeeringConnectionId=left["VpcPeeringConnectionId"])


def test_of_many_that_ended_the_newest_are_shown(netd, vpc):
    one = vpc("10.31.0.0/16")
    ask = {"VpcId": one, "PeerVpcId": "vpc-00000000000000000"}
    made = [netd.ec2("CreateVpcPeeringConnection", **ask)["VpcPeeringConnection"]["VpcPeeringConnectionId"] for _ in range(205)]
    filters = [{"Name": "requester-vpc-info.vpc-id", "Values": [one]}]
    seen = [p["VpcPeeringConnectionId"] for p in netd.ec2("DescribeVpcPeeringConnections", Filters=filters)["VpcPeeringConnections"]]
    assert set(seen) == set(made[-200:]) and state(netd, made[-1]) == "failed"
    refused("InvalidVpcPeeringConnectionID.NotFound", shown, netd, made[0])


def test_ipv6_passes_a_peering(netd, vpc, guests, peer):
    class Six:
        def __init__(self, n):
            self.vpc = vpc(f"10.{n}.0.0/16", AmazonProvidedIpv6CidrBlock=True)
            shown = netd.ec2("DescribeVpcs", VpcIds=[self.vpc])["Vpcs"][0]
            self.block = shown["Ipv6CidrBlockAssociationSet"][0]["Ipv6CidrBlock"]
            first = str(next(ipaddress.ip_network(self.block).subnets(new_prefix=64)))
            subnet = netd.ec2("CreateSubnet", VpcId=self.vpc, CidrBlock=f"10.{n}.1.0/24", Ipv6CidrBlock=first)["Subnet"]
            filters = [{"Name": "vpc-id", "Values": [self.vpc]}]
            self.table = netd.ec2("DescribeRouteTables", Filters=filters)["RouteTables"][0]["RouteTableId"]
            self.group = netd.ec2("DescribeSecurityGroups", Filters=filters)["SecurityGroups"][0]["GroupId"]
            self.guest = guests(public=False, SubnetId=subnet["SubnetId"], Ipv6AddressCount=1)
            eni = netd.ec2("DescribeNetworkInterfaces", NetworkInterfaceIds=[self.guest.eni])["NetworkInterfaces"][0]
            self.address = eni["Ipv6Addresses"][0]["Ipv6Address"]
            add_address(self.guest.sh, f"{self.address}/128", "eth0", "nodad")
            self.guest.sh("ip -6 route replace default via fe80::1 dev eth0 metric 5")

    one, two = Six(31), Six(32)
    pcx = peer(one, two)
    for here, there in ((one, two), (two, one)):
        netd.ec2("CreateRoute", RouteTableId=here.table, DestinationIpv6CidrBlock=there.block, VpcPeeringConnectionId=pcx)
    assert shown(netd, pcx)["AccepterVpcInfo"]["Ipv6CidrBlockSet"] == [{"Ipv6CidrBlock": two.block}]
    assert one.guest.ping(two.address) == 0
    by_group = {"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": one.group}]}
    netd.ec2("AuthorizeSecurityGroupIngress", GroupId=two.group, IpPermissions=[by_group])
    assert one.guest.reaches(two.address) and two.guest.ping(one.address) == 0
    assert netd.reconcile() == 0
