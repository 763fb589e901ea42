"""Flow logs: what guests send is on record, with AWS's fields, and costs nothing where nobody asked."""

import contextlib
import os
import re
import signal
import socket
import threading

import pytest
from lab import Log, PATIENCE, PING, TCP_80, Refused, eventually, from_group, inside, router, sh


def total(rows, field="bytes"):
    return sum(int(row[field]) for row in rows)


def carry(sender, receiver, n):
    sender.sendall(b"x" * n)
    while n:
        n -= len(receiver.recv(n))


# What is sent twice, since its receipt is late, is counted twice: some kilobytes, little beside this.
LONG = 200000


def talk(one, two, n=1000):
    """A connection that carries n bytes there and 2n back, and ends."""
    with two.listen() as listener, one.connect(two.address) as client:
        port = client.getsockname()[1]
        server, _ = listener.accept()
        carry(client, server, n)
        carry(server, client, 2 * n)
        server.close()
    return port


def test_accepted_flows_are_counted_while_they_last_and_once(guests, group, log):
    one, two = guests(groups=[group()]), guests(groups=[group(TCP_80, PING)])
    one.dhcp(), two.dhcp()
    vpc_log = log("VPC", one.vpc)
    port = talk(one, two, LONG)
    eventually(lambda: total(vpc_log.rows(interface_id=two.eni, dstport=port)) > 2 * LONG)
    # All is of that moment: what is still under way (the connection's end, say) may be counted by and by.
    rows = vpc_log.rows(flush=False, interface_id=one.eni, srcport=port)
    out = rows[0]
    assert out["srcaddr"] == one.address and out["dstaddr"] == two.address and out["dstport"] == "80" and out["protocol"] == "6"
    assert out["action"] == "ACCEPT" and out["flow-direction"] == "egress" and out["log-status"] == "OK" and out["type"] == "IPv4"
    assert out["instance-id"] == one.instance and out["vpc-id"] == one.vpc
    assert LONG < total(rows) < 2 * LONG and total(rows, "packets") >= 3 and int(out["start"]) <= int(out["end"])
    back = vpc_log.rows(flush=False, interface_id=one.eni, dstport=port, flow_direction="ingress")
    assert 2 * LONG < total(back) < 4 * LONG
    # The other interface has seen the same, the other way round.
    assert total(vpc_log.rows(flush=False, interface_id=two.eni, srcport=port, flow_direction="ingress")) == total(rows)
    assert total(vpc_log.rows(flush=False, interface_id=two.eni, dstport=port, flow_direction="egress")) == total(back)
    assert all(one.reaches(two.address) for _ in range(3))
    rows = vpc_log.rows(interface_id=two.eni, protocol=1, flow_direction="ingress")
    assert total(rows, "packets") == 3 and total(rows) == 3 * 84
    assert rows[0]["srcport"] == rows[0]["dstport"] == "0"


def test_rejected_packets_are_counted_at_the_one_who_rejects(guests, group, log, netd):
    one, two = guests(groups=[group()]), guests(groups=[group()])
    one.dhcp(), two.dhcp()
    rejects, accepts = log("NetworkInterface", two.eni, "REJECT"), log("NetworkInterface", one.eni, "ACCEPT")
    assert one.ping(two.address, 3) == 0 and not one.can_connect(two.address)
    eventually(lambda: total(rejects.rows(protocol=1), "packets") == 3)
    rows = rejects.rows(protocol=1)
    assert total(rows) == 3 * 84
    assert {row["action"] for row in rows} == {"REJECT"} and rows[0]["srcaddr"] == one.address and rows[0]["flow-direction"] == "ingress"
    assert eventually(lambda: rejects.rows(protocol=6, dstport=80))
    assert accepts.rows(protocol=1, action="ACCEPT", flow_direction="egress") and not accepts.rows(action="REJECT")
    assert not rejects.rows(action="ACCEPT")


def test_a_line_says_which_rule_let_the_flow_pass(guests, group, log, netd):
    one = guests(groups=[group()])
    others = from_group(netd.ec2("DescribeNetworkInterfaces", NetworkInterfaceIds=[one.eni])["NetworkInterfaces"][0]["Groups"][0]["GroupId"])
    narrow = group(PING, {**others, "IpProtocol": "tcp", "FromPort": 80, "ToPort": 90})
    two = guests(groups=[narrow])
    one.dhcp(), two.dhcp()

    def rules(group_id, egress):
        found = netd.ec2("DescribeSecurityGroupRules", Filters=[{"Name": "group-id", "Values": [group_id]}])["SecurityGroupRules"]
        return {rule["IpProtocol"]: rule["SecurityGroupRuleId"] for rule in found if rule["IsEgress"] == egress}

    vpc_log = log("VPC", one.vpc)
    port = talk(one, two)
    assert one.reaches(two.address) and not one.can_connect(two.address, 91)
    within = rules(narrow, egress=False)
    # Answers pass by the rule that let the flow begin.
    for found in ({"dstport": 80, "srcport": port}, {"srcport": 80, "dstport": port}):
        rows = eventually(lambda want=found: vpc_log.rows(interface_id=two.eni, **want))
        assert {row["gureum-rule-id"] for row in rows} == {within["tcp"]}
    assert {row["gureum-rule-id"] for row in vpc_log.rows(interface_id=two.eni, protocol=1)} == {within["icmp"]}
    assert {row["gureum-rule-id"] for row in eventually(lambda: vpc_log.rows(interface_id=two.eni, action="REJECT"))} == {"-"}
    (out,) = rules(others["UserIdGroupPairs"][0]["GroupId"], egress=True).values()
    assert {row["gureum-rule-id"] for row in vpc_log.rows(interface_id=one.eni, action="ACCEPT", protocol=6)} == {out}


def test_what_an_acl_denies_is_a_rejection(netd, guests, group, log):
    vpc = netd.ec2("DescribeVpcs", Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"][0]["VpcId"]
    subnets = netd.ec2("DescribeSubnets", Filters=[{"Name": "vpc-id", "Values": [vpc]}])["Subnets"]
    one = guests(SubnetId=subnets[0]["SubnetId"], groups=[group()])
    two = guests(SubnetId=subnets[1]["SubnetId"], groups=[group(PING)])
    one.dhcp(), two.dhcp()
    subnet_log = log("Subnet", two.subnet)
    acl = netd.ec2("DescribeNetworkAcls", Filters=[{"Name": "association.subnet-id", "Values": [two.subnet]}])["NetworkAcls"][0]["NetworkAclId"]
    entry = {"NetworkAclId": acl, "RuleNumber": 1, "Egress": False}
    netd.ec2("CreateNetworkAclEntry", **entry, Protocol="1", RuleAction="deny", CidrBlock="172.31.0.0/16", IcmpTypeCode={"Type": -1, "Code": -1})
    try:
        netd.reconcile()
        assert one.ping(two.address) == 0
        assert eventually(lambda: subnet_log.rows(interface_id=two.eni, action="REJECT", protocol=1, flow_direction="ingress"))
        rows = subnet_log.rows(interface_id=two.eni, action="REJECT", protocol=1)
        assert {row["gureum-rule-id"] for row in rows} == {f"{acl}/1-ingress"}
        # What the ACL lets pass and no group allows is denied by no rule.
        assert not one.can_connect(two.address, 81)
        assert {row["gureum-rule-id"] for row in eventually(lambda: subnet_log.rows(interface_id=two.eni, action="REJECT", dstport=81))} == {"-"}
    finally:
        netd.ec2("DeleteNetworkAclEntry", **entry)


def test_what_is_translated_has_private_addresses(guests, group, log):
    guest = guests(groups=[group(TCP_80, PING)])
    guest.dhcp()
    eni_log = log("NetworkInterface", guest.eni)
    assert all(guest.reaches("203.0.113.1") for _ in range(2))
    with guest.listen(), socket.create_connection((guest.public, 80), PATIENCE):
        pass
    rows = eventually(lambda: eni_log.rows(dstaddr="203.0.113.1", protocol=1))
    assert {row["srcaddr"] for row in rows} == {guest.address} and total(rows, "packets") == 2
    assert eventually(lambda: eni_log.rows(dstaddr=guest.address, dstport=80, flow_direction="ingress"))
    assert not any(guest.public in row.values() for row in eni_log.rows())


def test_the_vpcs_own_services_are_not_logged_and_silence_is(guests, log):
    guest = guests()
    eni_log = log("NetworkInterface", guest.eni)
    router_address = guest.dhcp()["router"]
    assert guest.reaches(router_address) and guest.reaches("169.254.169.254")
    rows = eni_log.rows()
    assert rows and {row["log-status"] for row in rows} == {"NODATA"}


def test_counts_outlive_netd(guests, group, log, netd):
    one, two = guests(groups=[group()]), guests(groups=[group(TCP_80)])
    one.dhcp(), two.dhcp()
    eni_log = log("NetworkInterface", one.eni)
    with two.listen() as listener, one.connect(two.address) as client:
        server, _ = listener.accept()
        netd.kill()
        carry(client, server, LONG)
        netd.start()
        carry(client, server, LONG)
        port = client.getsockname()[1]
        before = total(eni_log.rows(srcport=port))
        carry(client, server, 500)
        netd.kill(signal.SIGTERM)  # writes what it knows
        after = total(eni_log.rows(flush=False, srcport=port))
        netd.start()
        server.close()
    assert 2 * LONG < before < 4 * LONG and 500 < after - before < LONG


class Stopper:
    """Put into the place of a log's file: who writes to it waits until it is let go on."""

    def __init__(self, log):
        self.path, self.said = log.path, bytearray()
        self.before = self.path.read_bytes()
        self.path.unlink()
        os.mkfifo(self.path)
        self.reader = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK)
        with open(self.path, "wb", buffering=0, opener=lambda path, _: os.open(path, os.O_WRONLY | os.O_NONBLOCK)) as full:
            while full.write(b"\n" * 4096):
                pass

    def is_met(self, process):
        """Somebody has opened it to write."""
        links = (f"/proc/{process.pid}/fd/{fd}" for fd in os.listdir(f"/proc/{process.pid}/fd"))
        return any(os.path.islink(link) and os.path.realpath(link) == os.path.realpath(self.path) for link in links)

    def go_on(self, process):
        """Until the process is over; then the file is a file again, with all that was written."""

        def is_over():
            code = process.poll()
            with contextlib.suppress(BlockingIOError):
                while part := os.read(self.reader, 1 << 16):
                    self.said += part
            return code is not None

        try:
            eventually(is_over)
        finally:
            os.close(self.reader)
            self.path.unlink()
            self.path.write_bytes(self.before + self.said.lstrip(b"\n"))


def test_what_is_counted_while_lines_are_written_outlives_netd_too(guests, group, log, netd):
    one, two = guests(groups=[group()]), guests(groups=[group(TCP_80)])
    one.dhcp(), two.dhcp()
    eni_log = log("NetworkInterface", one.eni)

    def flush():
        with contextlib.suppress(ConnectionError):  # netd ends meanwhile
            netd.call("gureum.FlushFlowLogs", VpcId=one.vpc)

    def is_ending():
        with socket.socket(socket.AF_UNIX) as s:
            return s.connect_ex(str(netd.directory / "run/netd.sock")) != 0

    with two.listen() as listener, one.connect(two.address) as client:
        server, _ = listener.accept()
        carry(client, server, 300)
        port = client.getsockname()[1]
        before = total(eni_log.rows(srcport=port))
        stopper, flushing = Stopper(eni_log), threading.Thread(target=flush)
        flushing.start()
        eventually(lambda: stopper.is_met(netd.process))
        carry(client, server, LONG)
        netd.process.send_signal(signal.SIGTERM)
        eventually(is_ending)
        stopper.go_on(netd.process)
        flushing.join()
        after = total(eni_log.rows(flush=False, srcport=port))
        netd.start()
        server.close()
    assert LONG < after - before < 2 * LONG


def test_a_flood_of_rejected_packets_is_counted_or_said_to_be_lost_and_stops_nobody(guests, group, log, netd):
    one, two = guests(groups=[group()]), guests(groups=[group()])
    one.dhcp(), two.dhcp()
    eni_log = log("NetworkInterface", two.eni)
    with inside(one.name):
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

    def rejected():
        return int(re.search(r"\[(\d+):\d+\] -A reject-in -j DROP", sh(f"ip netns exec {router(two.vpc)} iptables-nft-save -c -t filter")).group(1))

    with s:
        while rejected() < 20000:  # many do not come through the tap's own queue
            for i in range(8000):
                s.sendto(b"x", (two.address, 1024 + i))
    assert netd.ec2("DescribeFlowLogs", FlowLogIds=[eni_log.id])["FlowLogs"]
    assert eventually(lambda: eni_log.rows(log_status="SKIPDATA"))
    rows = eni_log.rows(action="REJECT")
    assert 4000 <= len(rows) and total(rows, "packets") <= rejected()


def test_nothing_is_counted_where_nobody_looks(guests, log, netd):
    guest = guests()
    guest.dhcp()
    one = log("Subnet", guest.subnet)
    counts = f"ip netns exec {router(guest.vpc)} sysctl -n net.netfilter.nf_conntrack_acct"
    assert sh(counts) == "1\n" and "NFLOG" in sh(f"ip netns exec {router(guest.vpc)} iptables-nft-save")
    netd.ec2("DeleteFlowLogs", FlowLogIds=[one.id])
    netd.reconcile()
    assert sh(counts) == "0\n" and "NFLOG" not in sh(f"ip netns exec {router(guest.vpc)} iptables-nft-save")
    assert one.path.exists()  # for who still wants to read it


def refusal(netd, **parameters):
    with pytest.raises(Refused) as e:
        netd.ec2("CreateFlowLogs", **parameters)
    return e.value.code


def test_bad_requests_get_awss_codes_and_change_nothing(netd, guests, log):
    guest = guests()
    role = {"DeliverLogsPermissionArn": "arn:aws:iam::123456789012:role/r"}
    good = {"ResourceType": "VPC", "ResourceIds": [guest.vpc], "TrafficType": "ALL", "LogGroupName": "a", **role}
    assert refusal(netd, **{**good, "ResourceIds": [guest.vpc, "vpc-00000000000000000"]}) == "InvalidVpcID.NotFound"
    assert refusal(netd, **{**good, "LogDestinationType": "s3"}) == "UnsupportedOperation"
    assert refusal(netd, **{**good, "LogFormat": "${nonsense}"}) == "InvalidParameter"
    assert refusal(netd, **{**good, "MaxAggregationInterval": 61}) == "InvalidParameter"
    assert refusal(netd, **{**good, "LogDestination": "arn:aws:logs:us-east-1:123456789012:log-group:a"}) == "InvalidParameter"
    assert refusal(netd, **{k: v for k, v in good.items() if k != "LogGroupName"}) == "InvalidParameter"
    assert refusal(netd, **{k: v for k, v in good.items() if k != "TrafficType"}) == "MissingParameter"
    assert netd.ec2("DescribeFlowLogs")["FlowLogs"] == []
    (made,) = netd.ec2("CreateFlowLogs", **good)["FlowLogIds"]
    assert netd.ec2("CreateFlowLogs", **good)["Unsuccessful"][0]["Error"]["Code"] == "FlowLogAlreadyExists"
    found = netd.ec2("DescribeFlowLogs", Filter=[{"Name": "resource-id", "Values": [guest.vpc]}])["FlowLogs"]
    assert [one["FlowLogId"] for one in found] == [made] and found[0]["FlowLogStatus"] == "ACTIVE" and found[0]["MaxAggregationInterval"] == 600
    with pytest.raises(Refused, match="InvalidFlowLogId.NotFound"):
        netd.ec2("DeleteFlowLogs", FlowLogIds=[made, "fl-00000000000000000"])
    assert netd.ec2("DescribeFlowLogs", FlowLogIds=[made])["FlowLogs"]
    netd.ec2("DeleteFlowLogs", FlowLogIds=[made])
    eni_log = log("NetworkInterface", guest.eni)
    guest.delete()
    assert netd.ec2("DescribeFlowLogs", Filter=[{"Name": "flow-log-id", "Values": [eni_log.id]}])["FlowLogs"] == []


def test_a_role_of_another_account_is_kept_with_the_log(netd, vpc):
    vpc_id, role = vpc("10.44.0.0/16"), "arn:aws:iam::210987654321:role/cross"
    log = Log(netd, "VPC", vpc_id, DeliverCrossAccountRole=role)
    (shown,) = netd.ec2("DescribeFlowLogs", FlowLogIds=[log.id])["FlowLogs"]
    assert shown["DeliverCrossAccountRole"] == role
    netd.ec2("DeleteFlowLogs", FlowLogIds=[log.id])
    with pytest.raises(Refused, match="InvalidParameter.*not the ARN of a role"):
        Log(netd, "VPC", vpc_id, DeliverCrossAccountRole="cross")
