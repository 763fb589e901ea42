"""IPv6 through the whole stack, by the stock client: a guest of a VPC with IPv6 has the address that the API says."""
from conftest import SSH, code_of, until

ALL_6 = {"IpProtocol": "-1", "Ipv6Ranges": [{"CidrIpv6": "::/0"}]}


def test_a_guest_of_a_vpc_with_ipv6_answers_at_its_address(cloud):
    ec2 = cloud.ec2
    # The private host has no IPv6 of its own: without an address it could only speak to its links.
    cloud.out("ip", "-6", "addr", "replace", "2001:db8:1::1/128", "dev", "lo", "nodad")
    vpc = ec2.create_vpc(CidrBlock="10.66.0.0/16", AmazonProvidedIpv6CidrBlock=True)["Vpc"]
    block = vpc["Ipv6CidrBlockAssociationSet"][0]["Ipv6CidrBlock"]
    subnet = ec2.create_subnet(VpcId=vpc["VpcId"], CidrBlock="10.66.1.0/24", Ipv6CidrBlock=block.replace("/56", "/64"))["Subnet"]["SubnetId"]
    gateway = ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
    ec2.attach_internet_gateway(InternetGatewayId=gateway, VpcId=vpc["VpcId"])
    filters = [{"Name": "vpc-id", "Values": [vpc["VpcId"]]}]
    table = ec2.describe_route_tables(Filters=filters)["RouteTables"][0]["RouteTableId"]
    group = ec2.describe_security_groups(Filters=filters)["SecurityGroups"][0]["GroupId"]
    ec2.create_route(RouteTableId=table, DestinationCidrBlock="0.0.0.0/0", GatewayId=gateway)
    ec2.create_route(RouteTableId=table, DestinationIpv6CidrBlock="::/0", GatewayId=gateway)
    ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[ALL_6, SSH])

    interface = {"DeviceIndex": 0, "SubnetId": subnet, "Ipv6AddressCount": 1, "AssociatePublicIpAddress": True}
    ec2.modify_vpc_attribute(VpcId=vpc["VpcId"], EnableDnsHostnames={"Value": True})
    names = {"HostnameType": "resource-name", "EnableResourceNameDnsARecord": False, "EnableResourceNameDnsAAAARecord": True}
    # A Nitro type: no other has metadata by IPv6.
    (instance,) = cloud.launch(InstanceType="t3.nano", NetworkInterfaces=[interface], PrivateDnsNameOptions=names, MetadataOptions={"HttpProtocolIpv6": "enabled"})
    shown = cloud.wait_state(instance, "running")
    address = shown["NetworkInterfaces"][0]["Ipv6Addresses"][0]["Ipv6Address"]
    assert shown["Ipv6Address"] == address
    until(lambda: cloud.run("ping", "-6", "-n", "-c1", "-W1", address).returncode == 0, 120, 1, "the guest answers")
    assert "default via fe80::1" in cloud.ssh(instance, "ip -6 route")
    name = f"{instance}.ec2.internal"
    assert (shown["PrivateDnsName"], shown["PrivateDnsNameOptions"]) == (name, names)
    assert address in cloud.ssh(instance, f"ping -6 -c1 -W5 {name}")

    def metadata():
        return cloud.http(instance, "GET /latest/meta-data/ipv6 HTTP/1.0\n\n", "fd00:ec2::254")

    assert metadata().endswith(address)
    options = ec2.modify_instance_metadata_options(InstanceId=instance, HttpProtocolIpv6="disabled")["InstanceMetadataOptions"]
    assert options["HttpProtocolIpv6"] == "disabled" and metadata() == ""
    assert code_of(ec2.modify_private_dns_name_options, InstanceId=instance, PrivateDnsHostnameType="ip-name") == "IncorrectInstanceState"
    ec2.modify_private_dns_name_options(InstanceId=instance, EnableResourceNameDnsARecord=True, EnableResourceNameDnsAAAARecord=False)
    names = {"HostnameType": "resource-name", "EnableResourceNameDnsARecord": True, "EnableResourceNameDnsAAAARecord": False}
    assert cloud.describe(instance)["PrivateDnsNameOptions"] == names
    assert shown["PrivateIpAddress"] in cloud.ssh(instance, f"nslookup -type=a {name}")
    assert [i["InstanceId"] for r in ec2.describe_instances(Filters=[{"Name": "ipv6-address", "Values": [address]}])["Reservations"]
            for i in r["Instances"]] == [instance]

    cloud.terminate(instance)
    until(lambda: code_of(ec2.delete_subnet, SubnetId=subnet) == "", 60)
    ec2.detach_internet_gateway(InternetGatewayId=gateway, VpcId=vpc["VpcId"])
    ec2.delete_internet_gateway(InternetGatewayId=gateway)
    ec2.delete_vpc(VpcId=vpc["VpcId"])
    cloud.out("ip", "-6", "addr", "del", "2001:db8:1::1/128", "dev", "lo")
