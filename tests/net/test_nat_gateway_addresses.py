"""Secondary addresses of NAT gateways: flows take turns with them, and one that goes is drained."""

import contextlib
import socket

import pytest
from lab import DEFAULT, PATIENCE, TCP_80, THE_OUTSIDE, eventually, refused, sh
from test_crashes import die_at_every_step

LONG = 4000  # seconds that a drain may take: no test waits for its end


@contextlib.contextmanager
def outside(port):
    with socket.create_server((THE_OUTSIDE, port), backlog=64) as server:
        server.settimeout(PATIENCE)
        yield server


def flow(guest, server, to=THE_OUTSIDE):
    """A new one: the client's end, the server's, and whose it is to the server."""
    client = guest.connect(to, server.getsockname()[1])
    end, (peer, _) = server.accept()
    end.settimeout(PATIENCE)
    return client, end, peer


def sources(guest, server, n, to=THE_OUTSIDE):
    """How often each address was the source of n new flows."""
    seen = {}
    for _ in range(n):
        client, end, peer = flow(guest, server, to)
        client.close(), end.close()
        seen[peer] = seen.get(peer, 0) + 1
    return seen


def goes_on(client, end):
    for one, other in ((client, end), (end, client)):
        one.sendall(b"x")
        if other.recv(1) != b"x":
            return False
    return True


def is_cut(client):
    """What it sends finds no flow any more and goes out as another's, of which the server knows nothing."""
    client.settimeout(PATIENCE)
    client.sendall(b"x")
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    return True


def statuses(place, nat):
    """By private address, the primary one first."""
    return {a["PrivateIp"]: a["Status"] for a in place.show(nat)["NatGatewayAddresses"]}


def settled(place, nat, n):
    """The rows, when there are n and each is there."""
    eventually(lambda: list(statuses(place, nat).values()) == ["succeeded"] * n)
    return place.show(nat)["NatGatewayAddresses"]


def interface_of(netd, nat):
    filters = [{"Name": "attachment.nat-gateway-id", "Values": [nat]}]
    return netd.ec2("DescribeNetworkInterfaces", Filters=filters)["NetworkInterfaces"][0]


def rules_of(eni):
    return sh(f"ip netns exec gureum-{eni} iptables-nft-save -t nat")


@pytest.fixture
def public(site, guests, netd):
    """A guest behind a public gateway with two addresses."""
    place = site("10.53.0.0/16")
    place.inner = guests(SubnetId=place.private)
    place.inner.dhcp()
    place.one, place.two = place.elastic(), place.elastic()
    where = {"PrivateIpAddress": "10.53.1.50", "SecondaryPrivateIpAddresses": ["10.53.1.51"]}
    made = place.nat(AllocationId=place.one["AllocationId"], SecondaryAllocationIds=[place.two["AllocationId"]], **where)
    place.id = made["NatGatewayId"]
    netd.ec2("CreateRoute", RouteTableId=place.tables[1], NatGatewayId=place.id, **DEFAULT)
    return place


def test_flows_take_turns_with_the_addresses(public, netd):
    first, second = public.show(public.id)["NatGatewayAddresses"]
    assert (first["IsPrimary"], second["IsPrimary"]) == (True, False) and (first["Status"], second["Status"]) == ("succeeded", "succeeded")
    assert (first["PublicIp"], second["PublicIp"]) == (public.one["PublicIp"], public.two["PublicIp"])
    assert first["NetworkInterfaceId"] == second["NetworkInterfaceId"] and first["AssociationId"] != second["AssociationId"]
    with outside(8086) as server:
        assert sources(public.inner, server, 6) == {public.one["PublicIp"]: 3, public.two["PublicIp"]: 3}
    with public.inner.pinging(THE_OUTSIDE, n=4) as answers:
        pass
    assert answers == list(range(1, len(answers) + 1))  # one flow, with one address
    # The interface shows both, the subnet has one less, the elastic address says where it is.
    eni = interface_of(netd, public.id)
    assert [(a["PrivateIpAddress"], a["Primary"]) for a in eni["PrivateIpAddresses"]] == [(first["PrivateIp"], True), (second["PrivateIp"], False)]
    assert eni["PrivateIpAddresses"][1]["Association"]["AllocationId"] == public.two["AllocationId"]
    assert netd.ec2("DescribeSubnets", SubnetIds=[public.public])["Subnets"][0]["AvailableIpAddressCount"] == 251 - 2
    (shown,) = netd.ec2("DescribeAddresses", AllocationIds=[public.two["AllocationId"]])["Addresses"]
    assert (shown["PrivateIpAddress"], shown["NetworkInterfaceId"]) == (second["PrivateIp"], eni["NetworkInterfaceId"])
    refused("InvalidIPAddress.InUse", netd.ec2, "ReleaseAddress", AllocationId=public.two["AllocationId"])
    refused("AuthFailure", netd.ec2, "AssociateAddress", AllocationId=public.two["AllocationId"], NetworkInterfaceId=public.inner.eni)
    refused("InvalidIPAddress.InUse", netd.ec2, "CreateNetworkInterface", SubnetId=public.public, PrivateIpAddress=second["PrivateIp"])


def test_disassociation_drains(public, netd):
    """What is connected goes on, over a restart, too; what begins takes the other address; while that is so, nothing else may be changed."""
    _, second = public.show(public.id)["NatGatewayAddresses"]
    which = {"NatGatewayId": public.id, "AssociationIds": [second["AssociationId"]]}
    with outside(8087) as server:
        by = {peer: (client, end) for client, end, peer in (flow(public.inner, server) for _ in range(2))}
        assert set(by) == {public.one["PublicIp"], public.two["PublicIp"]}
        answer = netd.ec2("DisassociateNatGatewayAddress", MaxDrainDurationSeconds=LONG, **which)
        (row,) = answer["NatGatewayAddresses"]
        assert answer["NatGatewayId"] == public.id and row["Status"] == "disassociating" and row["AllocationId"] == public.two["AllocationId"]
        for _ in range(2):
            assert list(statuses(public, public.id).values()) == ["succeeded", "disassociating"]
            assert all(goes_on(*ends) for ends in by.values())
            assert sources(public.inner, server, 4) == {public.one["PublicIp"]: 4}
            refused("OperationInProgress", netd.ec2, "DisassociateNatGatewayAddress", **which)
            refused("OperationInProgress", netd.ec2, "AssociateNatGatewayAddress", NatGatewayId=public.id, AllocationIds=[public.elastic()["AllocationId"]])
            refused("InvalidIPAddress.InUse", netd.ec2, "ReleaseAddress", AllocationId=public.two["AllocationId"])
            before = netd.changes()
            netd.kill()
            netd.start()
            assert netd.changes() == before, "the second pass found something to do"
        # The gateway may be deleted all the same, and the address is free with it.
        netd.ec2("DeleteNatGateway", NatGatewayId=public.id)
        public.wait(public.id, "deleted")
        assert "AssociationId" not in netd.ec2("DescribeAddresses", AllocationIds=[public.two["AllocationId"]])["Addresses"][0]
        assert set(statuses(public, public.id).values()) == {"succeeded"}


def test_the_end_of_a_drain_cuts(public, netd):
    first, second = public.show(public.id)["NatGatewayAddresses"]
    with outside(8088) as server:
        by = {peer: (client, end) for client, end, peer in (flow(public.inner, server) for _ in range(2))}
        netd.ec2("DisassociateNatGatewayAddress", NatGatewayId=public.id, AssociationIds=[second["AssociationId"]], MaxDrainDurationSeconds=1)
        netd.kill()
        netd.start()
        (left,) = settled(public, public.id, 1)
        assert left == first
        # It is somebody else's now; what had it is cut, what had the other goes on.
        netd.ec2("AssociateAddress", AllocationId=public.two["AllocationId"], NetworkInterfaceId=public.inner.eni)
        netd.ec2("DisassociateAddress", PublicIp=public.two["PublicIp"])
        assert goes_on(*by[public.one["PublicIp"]])
        assert is_cut(by[public.two["PublicIp"]][0])
        assert sources(public.inner, server, 2) == {public.one["PublicIp"]: 2}
    assert [a["PrivateIpAddress"] for a in interface_of(netd, public.id)["PrivateIpAddresses"]] == [first["PrivateIp"]]
    assert second["PrivateIp"] not in rules_of(first["NetworkInterfaceId"])
    # It may come back, to an address that is asked for by name.
    answer = netd.ec2("AssociateNatGatewayAddress", NatGatewayId=public.id, AllocationIds=[public.two["AllocationId"]], PrivateIpAddresses=["10.53.1.99"])
    (row,) = answer["NatGatewayAddresses"]
    assert (row["Status"], row["PrivateIp"], row["IsPrimary"]) == ("associating", "10.53.1.99", False)
    _, back = settled(public, public.id, 2)
    assert (back["PrivateIp"], back["AllocationId"]) == ("10.53.1.99", public.two["AllocationId"])
    with outside(8089) as server:
        assert sources(public.inner, server, 4) == {public.one["PublicIp"]: 2, public.two["PublicIp"]: 2}


def test_three_of_a_private_gateway(site, guests, netd):
    place = site("10.54.0.0/16", has_gateway=False)
    open_group = netd.ec2("CreateSecurityGroup", GroupName="open", Description="of a test", VpcId=place.vpc)["GroupId"]
    netd.ec2("AuthorizeSecurityGroupIngress", GroupId=open_group, IpPermissions=[TCP_80])
    inner, outer = guests(SubnetId=place.private, groups=[open_group]), guests(SubnetId=place.public, groups=[open_group], PrivateIpAddress="10.54.1.20")
    inner.dhcp(), outer.dhcp()
    made = place.nat(ConnectivityType="private", PrivateIpAddress="10.54.1.50", SecondaryPrivateIpAddresses=["10.54.1.51"])
    nat = {"NatGatewayId": made["NatGatewayId"]}
    netd.ec2("CreateRoute", RouteTableId=place.tables[1], DestinationCidrBlock="10.54.1.0/24", **nat)
    (row,) = netd.ec2("AssignPrivateNatGatewayAddress", PrivateIpAddressCount=1, **nat)["NatGatewayAddresses"]
    assert row["Status"] == "assigning" and not row["IsPrimary"] and not {"PublicIp", "AllocationId", "AssociationId"} & set(row)
    rows = settled(place, made["NatGatewayId"], 3)
    assert [a["PrivateIp"] for a in rows] == ["10.54.1.50", "10.54.1.51", row["PrivateIp"]] and [a["IsPrimary"] for a in rows] == [True, False, False]
    with outer.listen() as server:
        assert sources(inner, server, 9, outer.address) == {a["PrivateIp"]: 3 for a in rows}
        netd.ec2("UnassignPrivateNatGatewayAddress", PrivateIpAddresses=["10.54.1.51"], MaxDrainDurationSeconds=LONG, **nat)
        assert statuses(place, made["NatGatewayId"])["10.54.1.51"] == "unassigning"
        assert sources(inner, server, 4, outer.address) == {"10.54.1.50": 2, row["PrivateIp"]: 2}
        refused("InvalidIPAddress.InUse", netd.ec2, "CreateNetworkInterface", SubnetId=place.public, PrivateIpAddress="10.54.1.51")
    for guest in (inner, outer):
        guest.delete()
    netd.ec2("DeleteSecurityGroup", GroupId=open_group)


def test_the_quota_can_be_raised(site, guests, netd):
    was = netd.config.read_text()
    netd.kill()
    netd.config.write_text(was + "NatGatewayElasticIps=3\n")
    netd.start()
    try:
        place = site("10.58.0.0/16")
        inner = guests(SubnetId=place.private)
        inner.dhcp()
        three = [place.elastic() for _ in range(4)][:3]
        ids = [a["AllocationId"] for a in three]
        nat = place.nat(AllocationId=ids[0])["NatGatewayId"]
        refused("AddressLimitExceeded", netd.ec2, "AssociateNatGatewayAddress", NatGatewayId=nat, AllocationIds=[*ids[1:], place.elastics[3]["AllocationId"]])
        assert len(netd.ec2("AssociateNatGatewayAddress", NatGatewayId=nat, AllocationIds=ids[1:])["NatGatewayAddresses"]) == 2
        settled(place, nat, 3)
        netd.ec2("CreateRoute", RouteTableId=place.tables[1], NatGatewayId=nat, **DEFAULT)
        with outside(8090) as server:
            assert sources(inner, server, 9) == {a["PublicIp"]: 3 for a in three}
    finally:
        netd.kill()
        netd.config.write_text(was)
        netd.start()


def test_eight_addresses_when_both_quotas_are_raised(site, netd):
    """A gateway takes eight, an account begins with five of them."""
    was = netd.config.read_text()
    netd.kill()
    netd.config.write_text(was + "NatGatewayElasticIps=8\nElasticIps=9\n")
    netd.start()
    try:
        place = site("10.59.0.0/16")
        first, *more, ninth = (place.elastic()["AllocationId"] for _ in range(9))
        refused("AddressLimitExceeded", netd.ec2, "AllocateAddress")
        nat = place.nat(AllocationId=first, SecondaryAllocationIds=more)["NatGatewayId"]
        assert {a["AllocationId"] for a in settled(place, nat, 8)} == {first, *more}
        refused("AddressLimitExceeded", netd.ec2, "AssociateNatGatewayAddress", NatGatewayId=nat, AllocationIds=[ninth])
    finally:
        netd.kill()
        netd.config.write_text(was)
        netd.start()
    refused("AddressLimitExceeded", netd.ec2, "AllocateAddress")
    assert len(statuses(place, nat)) == 8  # what there is more than the quota stays


def test_what_is_refused(site, netd):
    place = site("10.55.0.0/16")
    one, two, three = (place.elastic()["AllocationId"] for _ in range(3))
    unknown, create = "eipalloc-00000000000000000", {"SubnetId": place.public}
    for code, more in [
        ("InvalidParameterCombination", dict(ConnectivityType="private", SecondaryAllocationIds=[one])),
        ("InvalidParameterCombination", dict(ConnectivityType="private", SecondaryPrivateIpAddresses=["10.55.1.9"], SecondaryPrivateIpAddressCount=1)),
        ("InvalidParameterCombination", dict(AllocationId=one, SecondaryPrivateIpAddressCount=1)),
        ("InvalidParameterValue", dict(ConnectivityType="private", SecondaryPrivateIpAddressCount=0)),
        ("InvalidParameterValue", dict(ConnectivityType="private", SecondaryPrivateIpAddressCount=-1)),
        ("InvalidParameterCombination", dict(AllocationId=one, SecondaryPrivateIpAddresses=["10.55.1.9"])),
        ("InvalidParameterValue", dict(AllocationId=one, SecondaryAllocationIds=[one])),
        ("InvalidAllocationID.NotFound", dict(AllocationId=one, SecondaryAllocationIds=[unknown])),
        ("InvalidParameterValue", dict(ConnectivityType="private", SecondaryPrivateIpAddresses=["10.55.9.9"])),
        ("InvalidIPAddress.InUse", dict(ConnectivityType="private", SecondaryPrivateIpAddresses=["10.55.1.9", "10.55.1.9"])),
        ("AddressLimitExceeded", dict(AllocationId=one, SecondaryAllocationIds=[two, three])),
        ("PrivateIpAddressLimitExceeded", dict(ConnectivityType="private", SecondaryPrivateIpAddressCount=8)),
    ]:
        refused(code, netd.ec2, "CreateNatGateway", **create, **more)
    public = place.nat(AllocationId=one)
    private = place.nat(ConnectivityType="private", SecondaryPrivateIpAddressCount=7)
    (first, *_), rest = public["NatGatewayAddresses"], private["NatGatewayAddresses"]
    assert len(rest) == 8 and len({a["PrivateIp"] for a in rest}) == 8
    before = [place.show(n) for n in place.nats]
    of, its = {"NatGatewayId": public["NatGatewayId"]}, {"NatGatewayId": private["NatGatewayId"]}
    for code, action, more in [
        ("NatGatewayNotFound", "AssociateNatGatewayAddress", dict(NatGatewayId="nat-00000000000000000", AllocationIds=[two])),
        ("NatGatewayMalformed", "AssignPrivateNatGatewayAddress", dict(NatGatewayId="nat-gateway", PrivateIpAddressCount=1)),
        ("MissingParameter", "AssociateNatGatewayAddress", of),
        ("InvalidAllocationID.NotFound", "AssociateNatGatewayAddress", dict(of, AllocationIds=[unknown])),
        ("Resource.AlreadyAssociated", "AssociateNatGatewayAddress", dict(of, AllocationIds=[one])),
        ("AddressLimitExceeded", "AssociateNatGatewayAddress", dict(of, AllocationIds=[two, three])),
        ("InvalidIPAddress.InUse", "AssociateNatGatewayAddress", dict(of, AllocationIds=[two], PrivateIpAddresses=[rest[3]["PrivateIp"]])),
        ("InvalidParameterCombination", "AssociateNatGatewayAddress", dict(of, AllocationIds=[two], PrivateIpAddresses=["10.55.1.8", "10.55.1.9"])),
        ("UnsupportedOperation", "AssociateNatGatewayAddress", dict(of, AllocationIds=[two], AvailabilityZone="us-east-1a")),
        ("UnsupportedOperation", "AssociateNatGatewayAddress", dict(of, AllocationIds=[two], AvailabilityZoneId="use1-az1")),
        ("InvalidParameterValue", "AssociateNatGatewayAddress", dict(its, AllocationIds=[two])),
        ("InvalidParameterValue", "AssignPrivateNatGatewayAddress", dict(of, PrivateIpAddressCount=1)),
        ("MissingParameter", "AssignPrivateNatGatewayAddress", its),
        ("InvalidParameterValue", "AssignPrivateNatGatewayAddress", dict(its, PrivateIpAddressCount=0)),
        ("InvalidParameterValue", "AssignPrivateNatGatewayAddress", dict(its, PrivateIpAddressCount=-1)),
        ("PrivateIpAddressLimitExceeded", "AssignPrivateNatGatewayAddress", dict(its, PrivateIpAddressCount=1)),
        ("InvalidParameterCombination", "AssignPrivateNatGatewayAddress", dict(its, PrivateIpAddressCount=1, PrivateIpAddresses=["10.55.1.9"])),
        ("MissingParameter", "DisassociateNatGatewayAddress", of),
        ("InvalidParameterValue", "DisassociateNatGatewayAddress", dict(of, AssociationIds=[first["AssociationId"]])),  # the primary one
        ("InvalidAssociationID.NotFound", "DisassociateNatGatewayAddress", dict(of, AssociationIds=["eipassoc-00000000000000000"])),
        ("InvalidParameterValue", "DisassociateNatGatewayAddress", dict(its, AssociationIds=[first["AssociationId"]])),
        ("MissingParameter", "UnassignPrivateNatGatewayAddress", its),
        ("InvalidParameterValue", "UnassignPrivateNatGatewayAddress", dict(its, PrivateIpAddresses=[rest[0]["PrivateIp"]])),  # the primary one
        ("InvalidParameterValue", "UnassignPrivateNatGatewayAddress", dict(its, PrivateIpAddresses=[rest[1]["PrivateIp"], "192.0.2.1"])),
    ]:
        refused(code, netd.ec2, action, **more)
    assert [place.show(n) for n in place.nats] == before
    netd.ec2("DeleteNatGateway", **its)
    place.wait(private["NatGatewayId"], "deleted")
    refused("NatGatewayNotFound", netd.ec2, "UnassignPrivateNatGatewayAddress", PrivateIpAddresses=[rest[1]["PrivateIp"]], **its)


def test_one_that_fails_names_all_its_addresses(site):
    place = site("10.56.0.0/16", has_gateway=False)
    ids = [place.elastic()["AllocationId"] for _ in range(2)]
    nat = place.nat(wait="failed", AllocationId=ids[0], SecondaryAllocationIds=ids[1:])
    assert [(a["AllocationId"], a["IsPrimary"], a["Status"]) for a in nat["NatGatewayAddresses"]] == [(ids[0], True, "failed"), (ids[1], False, "failed")]


def test_killed_at_every_step_addresses_come_and_go(site, netd):
    place = site("10.57.0.0/16")
    one, two = place.elastic(), place.elastic()
    nat = place.nat(AllocationId=one["AllocationId"], PrivateIpAddress="10.57.1.50")["NatGatewayId"]
    (first,) = place.show(nat)["NatGatewayAddresses"]

    def has_two():
        return any(a["AllocationId"] == two["AllocationId"] for a in place.show(nat)["NatGatewayAddresses"])

    def come():
        if not has_two():
            netd.ec2("AssociateNatGatewayAddress", NatGatewayId=nat, AllocationIds=[two["AllocationId"]], PrivateIpAddresses=["10.57.1.60"])
        settled(place, nat, 2)

    def go():
        rows = place.show(nat)["NatGatewayAddresses"]
        if len(rows) == 2 and rows[1]["Status"] == "succeeded":
            netd.ec2("DisassociateNatGatewayAddress", NatGatewayId=nat, AssociationIds=[rows[1]["AssociationId"]], MaxDrainDurationSeconds=1)
        settled(place, nat, 1)

    assert die_at_every_step(netd, come, 0) > 2
    second = place.show(nat)["NatGatewayAddresses"][1]
    eventually(lambda: f"SNAT --to-source {second['PrivateIp']}" in rules_of(first["NetworkInterfaceId"]))
    assert netd.reconcile() == 0
    assert die_at_every_step(netd, go, 0) > 2
    assert second["PrivateIp"] not in rules_of(first["NetworkInterfaceId"])
    assert place.show(nat)["NatGatewayAddresses"] == [first] and netd.reconcile() == 0
    assert "AssociationId" not in netd.ec2("DescribeAddresses", AllocationIds=[two["AllocationId"]])["Addresses"][0]
