"""What is in use cannot be deleted: every kind against all that may hold it. The refusal has AWS's code and changes nothing; once the holder has
let go, the same request succeeds."""

import re

import pytest

from lab import eventually

ELSEWHERE = "ap-northeast-2"  # no test of the others counts what is there
LISTS = {
    "Vpcs": "Vpcs", "Subnets": "Subnets", "RouteTables": "RouteTables", "InternetGateways": "InternetGateways", "EgressOnlyInternetGateways": "EgressOnlyInternetGateways",
    "NetworkAcls": "NetworkAcls", "SecurityGroups": "SecurityGroups", "SecurityGroupRules": "SecurityGroupRules", "NetworkInterfaces": "NetworkInterfaces",
    "DhcpOptions": "DhcpOptions", "Addresses": "Addresses", "ManagedPrefixLists": "PrefixLists", "VpcPeeringConnections": "VpcPeeringConnections",
    "VpcEndpoints": "VpcEndpoints", "NatGateways": "NatGateways", "FlowLogs": "FlowLogs", "Tags": "Tags",
}  # fmt: skip


def all_there_is(far):
    return {what: far.ec2("Describe" + what)[name] for what, name in LISTS.items()}


class Place:
    """A VPC and short words for what can be made in it."""

    def __init__(self, far):
        self.far, self.undo = far, []
        self.vpc = self.made("DeleteVpc", "VpcId", "CreateVpc", "Vpc", CidrBlock="10.61.0.0/16")
        self.subnet = self.made("DeleteSubnet", "SubnetId", "CreateSubnet", "Subnet", VpcId=self.vpc, CidrBlock="10.61.1.0/24")

    def ec2(self, *action, **parameters):
        return self.far.ec2(*action, **parameters)

    def made(self, end, key, action, inner=None, **parameters):
        """Makes one; it ends with the place, after what is made later. Its id."""
        reply = self.ec2(action, **parameters)
        found = (reply[inner] if inner else reply)[key]
        self.undo.append((end, {key: found}))
        return found

    def new_vpc(self, cidr="10.62.0.0/16"):
        return self.made("DeleteVpc", "VpcId", "CreateVpc", "Vpc", CidrBlock=cidr)

    def gateway(self):
        gateway = self.made("DeleteInternetGateway", "InternetGatewayId", "CreateInternetGateway", "InternetGateway")
        self.attach = dict(InternetGatewayId=gateway, VpcId=self.vpc)
        self.ec2("AttachInternetGateway", **self.attach)
        self.undo.append(("DetachInternetGateway", self.attach))
        return gateway

    def group(self, vpc=None):
        name = f"held-{len(self.undo)}"
        return self.made("DeleteSecurityGroup", "GroupId", "CreateSecurityGroup", GroupName=name, Description=name, VpcId=vpc or self.vpc)

    def interface(self, **more):
        return self.made("DeleteNetworkInterface", "NetworkInterfaceId", "CreateNetworkInterface", "NetworkInterface", SubnetId=self.subnet, **more)

    def table(self):
        return self.made("DeleteRouteTable", "RouteTableId", "CreateRouteTable", "RouteTable", VpcId=self.vpc)

    def address(self):
        return self.made("ReleaseAddress", "AllocationId", "AllocateAddress")

    def prefix_list(self):
        which = dict(PrefixListName="held", MaxEntries=3, AddressFamily="IPv4", Entries=[{"Cidr": "10.1.0.0/16"}])
        return self.made("DeleteManagedPrefixList", "PrefixListId", "CreateManagedPrefixList", "PrefixList", **which)

    def peering(self, accept=True):
        which = dict(VpcId=self.vpc, PeerVpcId=self.new_vpc())
        peering = self.made("DeleteVpcPeeringConnection", "VpcPeeringConnectionId", "CreateVpcPeeringConnection", "VpcPeeringConnection", **which)
        if accept:
            self.ec2("AcceptVpcPeeringConnection", VpcPeeringConnectionId=peering)
        return peering

    def nat(self, **more):
        nat = self.made("DeleteNatGateway", "NatGatewayId", "CreateNatGateway", "NatGateway", SubnetId=self.subnet, **more)
        self.nat_is(nat, "available")  # it changes by itself until then
        return nat

    def without_subnet(self):
        """For what holds a VPC besides subnets."""
        self.ec2("DeleteSubnet", SubnetId=self.subnet)
        self.undo = [u for u in self.undo if u != ("DeleteSubnet", {"SubnetId": self.subnet})]
        return dict(VpcId=self.vpc)

    def leave(self):
        for action, parameters in reversed(self.undo):
            try:
                self.ec2(action, **parameters)
            except Exception as e:
                assert re.search(r"NotFound|NotAttached|already|StateTransition", str(e)), f"{action} {parameters}: {e}"
            if action == "DeleteNatGateway":
                self.nat_gone(parameters["NatGatewayId"])

    def nat_is(self, nat, state):
        eventually(lambda: self.ec2("DescribeNatGateways", NatGatewayIds=[nat])["NatGateways"][0]["State"] == state)

    def nat_gone(self, nat):
        self.nat_is(nat, "deleted")


@pytest.fixture
def place(netd):
    place = Place(netd.elsewhere(ELSEWHERE))
    yield place
    place.leave()


# Each: the request that is refused (action, parameters), its code, and how the holder lets go.


def vpc_by_subnet(p):
    return "DeleteVpc", dict(VpcId=p.vpc), "DependencyViolation", lambda: p.without_subnet()


def vpc_by_gateway(p):
    p.gateway()
    return "DeleteVpc", p.without_subnet(), "DependencyViolation", lambda: p.ec2("DetachInternetGateway", **p.attach)


def vpc_by_egress_only_gateway(p):
    egress = p.ec2("CreateEgressOnlyInternetGateway", VpcId=p.vpc)["EgressOnlyInternetGateway"]["EgressOnlyInternetGatewayId"]
    return "DeleteVpc", p.without_subnet(), "DependencyViolation", lambda: p.ec2("DeleteEgressOnlyInternetGateway", EgressOnlyInternetGatewayId=egress)


def vpc_by_group(p):
    group = p.group()
    return "DeleteVpc", p.without_subnet(), "DependencyViolation", lambda: p.ec2("DeleteSecurityGroup", GroupId=group)


def vpc_by_acl(p):
    acl = p.ec2("CreateNetworkAcl", VpcId=p.vpc)["NetworkAcl"]["NetworkAclId"]
    return "DeleteVpc", p.without_subnet(), "DependencyViolation", lambda: p.ec2("DeleteNetworkAcl", NetworkAclId=acl)


def vpc_by_route_table(p):
    table = p.table()
    return "DeleteVpc", p.without_subnet(), "DependencyViolation", lambda: p.ec2("DeleteRouteTable", RouteTableId=table)


def vpc_by_endpoint(p):
    endpoint = p.ec2("CreateVpcEndpoint", VpcId=p.vpc, ServiceName=f"com.amazonaws.{ELSEWHERE}.s3")["VpcEndpoint"]["VpcEndpointId"]
    return "DeleteVpc", p.without_subnet(), "DependencyViolation", lambda: p.ec2("DeleteVpcEndpoints", VpcEndpointIds=[endpoint])


def vpc_by_peering(p):
    peering = p.peering()
    return "DeleteVpc", p.without_subnet(), "DependencyViolation", lambda: p.ec2("DeleteVpcPeeringConnection", VpcPeeringConnectionId=peering)


def subnet_by_interface(p):
    eni = p.interface()
    return "DeleteSubnet", dict(SubnetId=p.subnet), "DependencyViolation", lambda: p.ec2("DeleteNetworkInterface", NetworkInterfaceId=eni)


def subnet_by_private_nat_gateway(p):
    nat = p.nat(ConnectivityType="private")
    return "DeleteSubnet", dict(SubnetId=p.subnet), "DependencyViolation", lambda: (p.ec2("DeleteNatGateway", NatGatewayId=nat), p.nat_gone(nat))


def gateway_by_vpc(p):
    gateway = p.gateway()
    return "DeleteInternetGateway", dict(InternetGatewayId=gateway), "DependencyViolation", lambda: p.ec2("DetachInternetGateway", **p.attach)


def gateway_attached_to_another(p):
    gateway = p.gateway()
    return "AttachInternetGateway", dict(InternetGatewayId=gateway, VpcId=p.new_vpc()), "Resource.AlreadyAssociated", None


def gateway_second_of_a_vpc(p):
    p.gateway()
    second = p.made("DeleteInternetGateway", "InternetGatewayId", "CreateInternetGateway", "InternetGateway")
    return "AttachInternetGateway", dict(InternetGatewayId=second, VpcId=p.vpc), "InvalidParameterValue|Resource.AlreadyAssociated", None


def detaching_by_elastic_address(p):
    p.gateway()
    address = p.address()
    link = p.ec2("AssociateAddress", AllocationId=address, NetworkInterfaceId=p.interface())["AssociationId"]
    return "DetachInternetGateway", p.attach, "DependencyViolation", lambda: p.ec2("DisassociateAddress", AssociationId=link)


def address_by_interface(p):
    p.gateway()
    address = p.address()
    link = p.ec2("AssociateAddress", AllocationId=address, NetworkInterfaceId=p.interface())["AssociationId"]
    return "ReleaseAddress", dict(AllocationId=address), "InvalidIPAddress.InUse", lambda: p.ec2("DisassociateAddress", AssociationId=link)


def address_by_nat_gateway(p):
    p.gateway()
    address = p.address()
    nat = p.nat(AllocationId=address)
    return "ReleaseAddress", dict(AllocationId=address), "InvalidIPAddress.InUse", lambda: (p.ec2("DeleteNatGateway", NatGatewayId=nat), p.nat_gone(nat))


def address_by_a_second_place_at_a_nat_gateway(p):
    p.gateway()
    address, other = p.address(), p.address()
    nat = p.nat(AllocationId=other, SecondaryAllocationIds=[address])
    return "ReleaseAddress", dict(AllocationId=address), "InvalidIPAddress.InUse", lambda: (p.ec2("DeleteNatGateway", NatGatewayId=nat), p.nat_gone(nat))


def address_associated_again(p):
    p.gateway()
    address, two = p.address(), p.interface()
    link = p.ec2("AssociateAddress", AllocationId=address, NetworkInterfaceId=p.interface())["AssociationId"]
    again = dict(AllocationId=address, NetworkInterfaceId=two, AllowReassociation=False)
    return "AssociateAddress", again, "Resource.AlreadyAssociated", lambda: p.ec2("DisassociateAddress", AssociationId=link)


def address_for_a_second_nat_gateway(p):
    p.gateway()
    address = p.address()
    p.nat(AllocationId=address)
    return "CreateNatGateway", dict(SubnetId=p.subnet, AllocationId=address), "Resource.AlreadyAssociated", None


def interface_of_a_nat_gateway(p):
    nat = p.nat(ConnectivityType="private")
    eni = p.ec2("DescribeNatGateways", NatGatewayIds=[nat])["NatGateways"][0]["NatGatewayAddresses"][0]["NetworkInterfaceId"]
    return "DeleteNetworkInterface", dict(NetworkInterfaceId=eni), "AuthFailure|OperationNotPermitted|InvalidParameterValue", None


def interface_by_instance(p):
    eni = p.interface()
    p.ec2("AttachNetworkInterface", NetworkInterfaceId=eni, InstanceId="i-0000000000000abcd", DeviceIndex=1)
    return "DeleteNetworkInterface", dict(NetworkInterfaceId=eni), "InvalidParameterValue", lambda: p.ec2("DetachNetworkInterface", NetworkInterfaceId=eni)


def route_table_by_subnet(p):
    table = p.table()
    link = p.ec2("AssociateRouteTable", RouteTableId=table, SubnetId=p.subnet)["AssociationId"]
    return "DeleteRouteTable", dict(RouteTableId=table), "DependencyViolation", lambda: p.ec2("DisassociateRouteTable", AssociationId=link)


def route_table_that_is_main(p):
    main = p.ec2("DescribeRouteTables", Filters=[{"Name": "vpc-id", "Values": [p.vpc]}])["RouteTables"][0]["RouteTableId"]
    return "DeleteRouteTable", dict(RouteTableId=main), "DependencyViolation", None


def subnet_in_a_second_table(p):
    p.ec2("AssociateRouteTable", RouteTableId=p.table(), SubnetId=p.subnet)
    p.undo.append(("DeleteSubnet", dict(SubnetId=p.subnet)))
    return "AssociateRouteTable", dict(RouteTableId=p.table(), SubnetId=p.subnet), "Resource.AlreadyAssociated", None


def group_by_interface(p):
    group = p.group()
    eni = p.interface(Groups=[group])
    return "DeleteSecurityGroup", dict(GroupId=group), "DependencyViolation", lambda: p.ec2("DeleteNetworkInterface", NetworkInterfaceId=eni)


def group_by_another_groups_rule(p):
    group, other = p.group(), p.group()
    rule = [{"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": group}]}]
    p.ec2("AuthorizeSecurityGroupEgress", GroupId=other, IpPermissions=rule)
    return "DeleteSecurityGroup", dict(GroupId=group), "DependencyViolation", lambda: p.ec2("RevokeSecurityGroupEgress", GroupId=other, IpPermissions=rule)


def group_that_is_default(p):
    group = p.ec2("DescribeSecurityGroups", Filters=[{"Name": "vpc-id", "Values": [p.vpc]}])["SecurityGroups"][0]["GroupId"]
    return "DeleteSecurityGroup", dict(GroupId=group), "CannotDelete", None


def acl_by_subnet(p):
    default = p.ec2("DescribeNetworkAcls", Filters=[{"Name": "vpc-id", "Values": [p.vpc]}])["NetworkAcls"][0]
    acl = p.made("DeleteNetworkAcl", "NetworkAclId", "CreateNetworkAcl", "NetworkAcl", VpcId=p.vpc)
    link = p.ec2("ReplaceNetworkAclAssociation", NetworkAclId=acl, AssociationId=default["Associations"][0]["NetworkAclAssociationId"])["NewAssociationId"]
    back = dict(NetworkAclId=default["NetworkAclId"], AssociationId=link)
    p.undo.append(("DeleteSubnet", dict(SubnetId=p.subnet)))
    return "DeleteNetworkAcl", dict(NetworkAclId=acl), "DependencyViolation", lambda: p.ec2("ReplaceNetworkAclAssociation", **back)


def acl_that_is_default(p):
    acl = p.ec2("DescribeNetworkAcls", Filters=[{"Name": "vpc-id", "Values": [p.vpc]}])["NetworkAcls"][0]["NetworkAclId"]
    return "DeleteNetworkAcl", dict(NetworkAclId=acl), "InvalidParameterValue", None


def prefix_list_by_rule(p):
    pl, group = p.prefix_list(), p.group()
    rule = [{"IpProtocol": "tcp", "FromPort": 80, "ToPort": 80, "PrefixListIds": [{"PrefixListId": pl}]}]
    p.ec2("AuthorizeSecurityGroupIngress", GroupId=group, IpPermissions=rule)
    return "DeleteManagedPrefixList", dict(PrefixListId=pl), "DependencyViolation", lambda: p.ec2("RevokeSecurityGroupIngress", GroupId=group, IpPermissions=rule)


def prefix_list_by_route(p):
    pl, table, gateway = p.prefix_list(), p.table(), p.gateway()
    route = dict(RouteTableId=table, DestinationPrefixListId=pl)
    p.ec2("CreateRoute", GatewayId=gateway, **route)
    return "DeleteManagedPrefixList", dict(PrefixListId=pl), "DependencyViolation", lambda: p.ec2("DeleteRoute", **route)


def dhcp_options_by_vpc(p):
    options = p.made("DeleteDhcpOptions", "DhcpOptionsId", "CreateDhcpOptions", "DhcpOptions", DhcpConfigurations=[{"Key": "domain-name", "Values": ["a.b"]}])
    p.ec2("AssociateDhcpOptions", DhcpOptionsId=options, VpcId=p.vpc)
    back = dict(DhcpOptionsId="default", VpcId=p.vpc)
    p.undo.append(("AssociateDhcpOptions", back))
    return "DeleteDhcpOptions", dict(DhcpOptionsId=options), "DependencyViolation", lambda: p.ec2("AssociateDhcpOptions", **back)


def block_by_subnet(p):
    block = p.ec2("AssociateVpcCidrBlock", VpcId=p.vpc, CidrBlock="10.63.0.0/16")["CidrBlockAssociation"]["AssociationId"]
    subnet = p.made("DeleteSubnet", "SubnetId", "CreateSubnet", "Subnet", VpcId=p.vpc, CidrBlock="10.63.1.0/24")
    return "DisassociateVpcCidrBlock", dict(AssociationId=block), "DependencyViolation|InvalidCidrBlock.InUse", lambda: p.ec2("DeleteSubnet", SubnetId=subnet)


def block_that_is_primary(p):
    block = p.ec2("DescribeVpcs", VpcIds=[p.vpc])["Vpcs"][0]["CidrBlockAssociationSet"][0]["AssociationId"]
    return "DisassociateVpcCidrBlock", dict(AssociationId=block), "OperationNotPermitted|InvalidParameterValue", None


def local_route(p):
    table = p.table()
    return "DeleteRoute", dict(RouteTableId=table, DestinationCidrBlock="10.61.0.0/16"), "InvalidParameterValue", None


HELD = [v for k, v in list(globals().items()) if re.match("vpc_|subnet_|gateway_|detaching_|address_|interface_|route_table|group_|acl_|prefix_|dhcp_|block_|local_", k)]


@pytest.mark.parametrize("held", HELD, ids=lambda f: f.__name__)
def test_what_is_in_use_stays(place, held):
    action, parameters, codes, let_go = held(place)
    before = all_there_is(place.far)
    with pytest.raises(Exception) as caught:
        place.ec2(action, **parameters)
    assert re.fullmatch(codes, getattr(caught.value, "code", "")), caught.value
    assert all_there_is(place.far) == before
    if let_go:
        let_go()
        place.ec2(action, **parameters)


def test_what_only_points_does_not_hold(place):
    """Routes, rules of the group itself, rules from over a peering, and flow logs hold nothing: AWS lets go, and shows them stale."""
    p = place
    table, peering = p.table(), p.peering()
    other = p.ec2("DescribeVpcPeeringConnections", VpcPeeringConnectionIds=[peering])["VpcPeeringConnections"][0]["AccepterVpcInfo"]["VpcId"]
    eni, own, far_group = p.interface(), p.group(), p.group(other)
    log = dict(ResourceIds=[eni], ResourceType="NetworkInterface", TrafficType="ALL", LogGroupName="g", DeliverLogsPermissionArn="arn:aws:iam::123456789012:role/r")
    p.ec2("CreateFlowLogs", **log)
    p.ec2("CreateRoute", RouteTableId=table, DestinationCidrBlock="10.62.0.0/16", VpcPeeringConnectionId=peering)
    p.ec2("CreateRoute", RouteTableId=table, DestinationCidrBlock="10.90.0.0/16", NetworkInterfaceId=eni)
    p.ec2("AuthorizeSecurityGroupIngress", GroupId=own, IpPermissions=[{"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": own}, {"GroupId": far_group}]}])
    p.ec2("DeleteSecurityGroup", GroupId=far_group)
    p.ec2("DeleteVpcPeeringConnection", VpcPeeringConnectionId=peering)
    p.ec2("DeleteNetworkInterface", NetworkInterfaceId=eni)
    routes = p.ec2("DescribeRouteTables", RouteTableIds=[table])["RouteTables"][0]["Routes"]
    assert sorted(r["State"] for r in routes) == ["active", "blackhole", "blackhole"], routes
    p.ec2("DeleteSecurityGroup", GroupId=own)
    p.ec2("DeleteRouteTable", RouteTableId=table)
