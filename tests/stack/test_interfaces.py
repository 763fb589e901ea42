"""A second interface comes to a running guest, answers, and goes."""
import pytest

from conftest import ask, code_of, until

QUICK = {"Delay": 1, "MaxAttempts": 120}


@pytest.fixture(scope="module")
def own(cloud):
    """A guest of our own."""
    instance = cloud.launch()[0]
    cloud.wait_console(instance, "GUREUM-READY")
    yield instance
    cloud.terminate(instance)


@pytest.fixture
def eni(cloud, own):
    made = cloud.ec2.create_network_interface(SubnetId=cloud.describe(own)["SubnetId"], Groups=[cloud.make_group("second", PING_ALL)])["NetworkInterface"]
    yield made["NetworkInterfaceId"]
    shown = cloud.ec2.describe_network_interfaces(NetworkInterfaceIds=[made["NetworkInterfaceId"]])["NetworkInterfaces"][0]
    if "Attachment" in shown:
        cloud.ec2.detach_network_interface(AttachmentId=shown["Attachment"]["AttachmentId"], Force=True)
    cloud.ec2.get_waiter("network_interface_available").wait(NetworkInterfaceIds=[made["NetworkInterfaceId"]], WaiterConfig=QUICK)
    cloud.ec2.delete_network_interface(NetworkInterfaceId=made["NetworkInterfaceId"])
    cloud.ec2.delete_security_group(GroupId=made["Groups"][0]["GroupId"])


PING_ALL = {"IpProtocol": "icmp", "FromPort": -1, "ToPort": -1, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}


def status(cloud, eni):
    shown = cloud.ec2.describe_network_interfaces(NetworkInterfaceIds=[eni])["NetworkInterfaces"][0]
    return shown["Status"], shown.get("Attachment", {}).get("Status")


def indices(cloud, instance):
    return [i["Attachment"]["DeviceIndex"] for i in cloud.describe(instance)["NetworkInterfaces"]]


def test_a_second_interface_comes_answers_and_goes(cloud, own, eni):
    attachment = cloud.ec2.attach_network_interface(NetworkInterfaceId=eni, InstanceId=own, DeviceIndex=1)["AttachmentId"]
    assert indices(cloud, own) == [0, 1]
    until(lambda: status(cloud, eni) == ("in-use", "attached"), told="the interface is attached")
    third = cloud.ec2.create_network_interface(SubnetId=cloud.describe(own)["SubnetId"])["NetworkInterface"]["NetworkInterfaceId"]
    assert code_of(cloud.ec2.attach_network_interface, NetworkInterfaceId=third, InstanceId=own, DeviceIndex=2) == "AttachmentLimitExceeded"
    assert code_of(cloud.ec2.attach_network_interface, NetworkInterfaceId=eni, InstanceId=own, DeviceIndex=1) == "InvalidNetworkInterface.InUse"
    cloud.ec2.delete_network_interface(NetworkInterfaceId=third)
    # The guest takes its lease by itself, and what comes by the new card leaves by it.
    address = next(i["PrivateIpAddress"] for i in cloud.describe(own)["NetworkInterfaces"] if i["Attachment"]["DeviceIndex"] == 1)
    until(lambda: address in cloud.ssh(own, "ip -4 address show dev eth1 2>/dev/null || true"), told="eth1 has its address")
    elastic = cloud.ec2.allocate_address()
    try:
        cloud.ec2.associate_address(AllocationId=elastic["AllocationId"], NetworkInterfaceId=eni)
        until(lambda: cloud.run("ping", "-n", "-c1", "-W2", elastic["PublicIp"]).returncode == 0, told="its elastic address answers")
        shown = next(i for i in cloud.describe(own)["NetworkInterfaces"] if i["NetworkInterfaceId"] == eni)
        assert shown["Association"]["PublicIp"] == elastic["PublicIp"]
        assert code_of(cloud.ec2.associate_address, AllocationId=elastic["AllocationId"], InstanceId=own) == "InvalidInstanceID"
    finally:
        for address in cloud.ec2.describe_addresses(AllocationIds=[elastic["AllocationId"]])["Addresses"]:
            if "AssociationId" in address:
                cloud.ec2.disassociate_address(AssociationId=address["AssociationId"])
        cloud.ec2.release_address(AllocationId=elastic["AllocationId"])
    cloud.ec2.detach_network_interface(AttachmentId=attachment)
    cloud.ec2.get_waiter("network_interface_available").wait(NetworkInterfaceIds=[eni], WaiterConfig=QUICK)
    until(lambda: indices(cloud, own) == [0], told="its instance says so, too")
    assert cloud.ssh(own, "ls /sys/class/net").split() == ["eth0", "lo"]


def test_the_first_interface_stays(cloud, own):
    first = cloud.describe(own)["NetworkInterfaces"][0]["Attachment"]["AttachmentId"]
    assert code_of(cloud.ec2.detach_network_interface, AttachmentId=first) == "OperationNotPermitted"
    assert code_of(cloud.ec2.detach_network_interface, AttachmentId="eni-attach-00000000000000000") == "InvalidAttachmentID.NotFound"


def test_a_stopped_guest_gets_one_and_starts_with_it(cloud, own, eni):
    cloud.ec2.stop_instances(InstanceIds=[own], Force=True)
    cloud.wait_state(own, "stopped")
    attachment = cloud.ec2.attach_network_interface(NetworkInterfaceId=eni, InstanceId=own, DeviceIndex=1)["AttachmentId"]
    until(lambda: status(cloud, eni) == ("in-use", "attached"), told="the interface is attached")
    cloud.ec2.detach_network_interface(AttachmentId=attachment)
    cloud.ec2.get_waiter("network_interface_available").wait(NetworkInterfaceIds=[eni], WaiterConfig=QUICK)
    cloud.ec2.attach_network_interface(NetworkInterfaceId=eni, InstanceId=own, DeviceIndex=1)
    cloud.ec2.start_instances(InstanceIds=[own])
    cloud.wait_state(own, "running")
    until(lambda: "eth1" in cloud.ssh(own, "ls /sys/class/net"), told="the guest has both")
    # By force: cut off at once, whatever the guest says.
    attachment = next(i["Attachment"]["AttachmentId"] for i in cloud.describe(own)["NetworkInterfaces"] if i["NetworkInterfaceId"] == eni)
    cloud.ec2.detach_network_interface(AttachmentId=attachment, Force=True)
    assert status(cloud, eni) == ("available", None)
    until(lambda: "eth1" not in cloud.ssh(own, "ls /sys/class/net"), told="the guest has let go")


def test_a_launch_with_two_interfaces_keeps_the_one_that_was_there(cloud):
    subnet = cloud.ec2.describe_subnets(Filters=[{"Name": "availability-zone", "Values": ["us-east-1a"]}])["Subnets"][0]["SubnetId"]
    there = cloud.ec2.create_network_interface(SubnetId=subnet, Description="was there")["NetworkInterface"]["NetworkInterfaceId"]
    too_many = [{"DeviceIndex": 0, "SubnetId": subnet, "SecondaryPrivateIpAddressCount": 2}]
    assert code_of(cloud.launch, NetworkInterfaces=too_many) == "PrivateIpAddressLimitExceeded"
    cloud.ec2.assign_private_ip_addresses(NetworkInterfaceId=there, SecondaryPrivateIpAddressCount=1)
    instance = cloud.launch(NetworkInterfaces=[
        {"DeviceIndex": 0, "SubnetId": subnet, "Ipv4PrefixCount": 1, "DeleteOnTermination": True},
        {"DeviceIndex": 1, "NetworkInterfaceId": there},
    ])[0]
    cloud.wait_state(instance, "running")
    first, second = cloud.describe(instance)["NetworkInterfaces"]
    (prefix,) = first["Ipv4Prefixes"]
    (shown,) = cloud.ec2.describe_network_interfaces(NetworkInterfaceIds=[first["NetworkInterfaceId"]])["NetworkInterfaces"]
    assert prefix["Ipv4Prefix"].endswith("/28") and shown["Ipv4Prefixes"] == [prefix]
    assert len(second["PrivateIpAddresses"]) == 2 and first["Attachment"]["DeleteOnTermination"] is True
    assert second["NetworkInterfaceId"] == there and second["Attachment"]["DeleteOnTermination"] is False
    assert cloud.run("sh", "-c", f"virsh domiflist {instance} | grep -c ethernet").stdout.strip() == "2"
    cloud.terminate(instance)
    assert status(cloud, there) == ("available", None)
    gone = cloud.ec2.describe_network_interfaces(Filters=[{"Name": "network-interface-id", "Values": [first["NetworkInterfaceId"]]}])
    assert gone["NetworkInterfaces"] == []
    cloud.ec2.delete_network_interface(NetworkInterfaceId=there)


def test_a_nat_gateway_by_the_stock_client(cloud):
    ec2 = cloud.ec2
    subnet = ec2.describe_subnets()["Subnets"][0]
    address = ec2.allocate_address(Domain="vpc", TagSpecifications=[{"ResourceType": "elastic-ip", "Tags": [{"Key": "for", "Value": "nat"}]}])
    nat = ec2.create_nat_gateway(SubnetId=subnet["SubnetId"], AllocationId=address["AllocationId"], ClientToken="once")["NatGateway"]
    again = ec2.create_nat_gateway(SubnetId=subnet["SubnetId"], AllocationId=address["AllocationId"], ClientToken="once")["NatGateway"]
    which = {"NatGatewayIds": [nat["NatGatewayId"]]}
    assert (nat["State"], again["NatGatewayId"]) == ("pending", nat["NatGatewayId"])
    ec2.get_waiter("nat_gateway_available").wait(WaiterConfig=QUICK, **which)
    filters = [{"Name": "vpc-id", "Values": [subnet["VpcId"]]}, {"Name": "state", "Values": ["available"]}]
    (shown,) = ec2.describe_nat_gateways(Filters=filters)["NatGateways"]
    assert shown["NatGatewayAddresses"][0]["PublicIp"] == address["PublicIp"] and shown["CreateTime"]
    assert code_of(ec2.release_address, AllocationId=address["AllocationId"]) == "InvalidIPAddress.InUse"
    second = ec2.allocate_address(Domain="vpc")["AllocationId"]
    answer = ask(cloud, "AssociateNatGatewayAddress", NatGatewayId=nat["NatGatewayId"], **{"AllocationId.1": second})
    assert "<natGatewayAddressSet><item>" in answer and "<isPrimary>false</isPrimary>" in answer and "<status>associating</status>" in answer, answer
    assert "_" not in answer.partition("<natGatewayAddressSet>")[2], answer
    until(lambda: "<status>associating</status>" not in ask(cloud, "DescribeNatGateways"), told="the address is there")
    _, shown = ec2.describe_nat_gateways(**which)["NatGateways"][0]["NatGatewayAddresses"]
    assert shown["AllocationId"] == second and shown["PrivateIp"]
    (link,) = [a["AssociationId"] for a in ec2.describe_addresses(AllocationIds=[second])["Addresses"]]
    answer = ask(cloud, "DisassociateNatGatewayAddress", NatGatewayId=nat["NatGatewayId"], MaxDrainDurationSeconds=1, **{"AssociationId.1": link})
    assert "<status>disassociating</status>" in answer, answer
    until(lambda: len(ec2.describe_nat_gateways(**which)["NatGateways"][0]["NatGatewayAddresses"]) == 1, told="the address is gone")
    ec2.release_address(AllocationId=second)
    ec2.create_tags(Resources=[nat["NatGatewayId"]], Tags=[{"Key": "k", "Value": "v"}])
    assert ec2.describe_tags(Filters=[{"Name": "resource-type", "Values": ["natgateway"]}])["Tags"][0]["ResourceId"] == nat["NatGatewayId"]
    assert ec2.delete_nat_gateway(NatGatewayId=nat["NatGatewayId"])["NatGatewayId"] == nat["NatGatewayId"]
    until(lambda: ec2.describe_nat_gateways(**which)["NatGateways"][0]["State"] == "deleted", told="the gateway is deleted")
    ec2.release_address(AllocationId=address["AllocationId"])
