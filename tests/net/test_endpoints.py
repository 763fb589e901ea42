"""Gateway endpoints: documents and routes that come and go together."""

import pytest
from lab import REGION, refused

S3 = f"com.amazonaws.{REGION}.s3"


@pytest.fixture
def table(netd, vpc):
    vpc_id = vpc("10.51.0.0/16")
    made = netd.ec2("CreateRouteTable", VpcId=vpc_id)["RouteTable"]
    yield made["RouteTableId"]
    left = netd.ec2("DescribeVpcEndpoints", Filters=[{"Name": "vpc-id", "Values": [vpc_id]}])["VpcEndpoints"]
    if left:
        netd.ec2("DeleteVpcEndpoints", VpcEndpointIds=[e["VpcEndpointId"] for e in left])
    shown = netd.ec2("DescribeRouteTables", Filters=[{"Name": "route-table-id", "Values": [made["RouteTableId"]]}])["RouteTables"]
    if shown:
        netd.ec2("DeleteRouteTable", RouteTableId=made["RouteTableId"])


def shown(netd, table):
    return netd.ec2("DescribeRouteTables", RouteTableIds=[table])["RouteTables"][0]


def endpoint_routes(netd, table):
    return [r for r in shown(netd, table)["Routes"] if "DestinationPrefixListId" in r]


def create(netd, table, **more):
    parameters = {"VpcId": shown(netd, table)["VpcId"], "ServiceName": S3, "RouteTableIds": [table], **more}
    return netd.ec2("CreateVpcEndpoint", **parameters)["VpcEndpoint"]


def test_an_endpoint_is_a_route_in_each_of_its_tables(netd, table):
    endpoint = create(netd, table)
    vpce = endpoint["VpcEndpointId"]
    assert endpoint["State"] == "available" and endpoint["VpcEndpointType"] == "Gateway"
    (s3,) = netd.ec2("DescribePrefixLists", Filters=[{"Name": "prefix-list-name", "Values": [S3]}])["PrefixLists"]
    (route,) = endpoint_routes(netd, table)
    assert route["DestinationPrefixListId"] == s3["PrefixListId"]
    assert (route["GatewayId"], route["State"], route["Origin"]) == (vpce, "active", "CreateRoute")
    refused("InvalidParameterValue", netd.ec2, "DeleteRoute", RouteTableId=table, DestinationPrefixListId=s3["PrefixListId"])
    with pytest.raises(Exception, match="RouteAlreadyExists"):
        create(netd, table)
    vpc_id = shown(netd, table)["VpcId"]
    refused("DependencyViolation", netd.ec2, "DeleteVpc", VpcId=vpc_id)

    filters = [{"Name": "vpc-id", "Values": [vpc_id]}, {"Name": "association.main", "Values": ["true"]}]
    main = netd.ec2("DescribeRouteTables", Filters=filters)["RouteTables"][0]["RouteTableId"]
    netd.ec2("ModifyVpcEndpoint", VpcEndpointId=vpce, AddRouteTableIds=[main], RemoveRouteTableIds=[table])
    assert endpoint_routes(netd, table) == [] and len(endpoint_routes(netd, main)) == 1
    by_service = [{"Name": "service-name", "Values": [S3]}, {"Name": "vpc-endpoint-state", "Values": ["available"]}]
    (found,) = netd.ec2("DescribeVpcEndpoints", Filters=by_service)["VpcEndpoints"]
    assert found["RouteTableIds"] == [main]
    netd.ec2("ModifyVpcEndpoint", VpcEndpointId=vpce, AddRouteTableIds=[table])
    netd.ec2("DeleteRouteTable", RouteTableId=table)
    assert netd.ec2("DescribeVpcEndpoints", VpcEndpointIds=[vpce])["VpcEndpoints"][0]["RouteTableIds"] == [main]
    assert netd.ec2("DeleteVpcEndpoints", VpcEndpointIds=[vpce]) == {"Unsuccessful": []}
    assert endpoint_routes(netd, main) == []
    refused("InvalidVpcEndpointId.NotFound", netd.ec2, "DescribeVpcEndpoints", VpcEndpointIds=[vpce])
    (gone,) = netd.ec2("DeleteVpcEndpoints", VpcEndpointIds=[vpce])["Unsuccessful"]
    assert gone["ResourceId"] == vpce and gone["Error"]["Code"] == "InvalidVpcEndpointId.NotFound"


@pytest.mark.parametrize(
    "more, code",
    [
        ({"VpcEndpointType": "Interface"}, "UnsupportedOperation"),
        ({"ServiceName": f"com.amazonaws.{REGION}.s4"}, "InvalidServiceName"),
        ({"PolicyDocument": "{"}, "InvalidPolicyDocument"),
        ({"SubnetIds": ["subnet-00000000000000000"]}, "InvalidParameter"),
        ({"PrivateDnsEnabled": True}, "InvalidParameter"),
        ({"RouteTableIds": ["rtb-00000000000000000"]}, "InvalidRouteTableID.NotFound"),
        ({"VpcId": "vpc-00000000000000000"}, "InvalidVpcID.NotFound"),
    ],
)
def test_an_endpoint_that_cannot_be_is_refused(netd, table, more, code):
    refused(code, create, netd, table, **more)
    assert endpoint_routes(netd, table) == [] and netd.ec2("DescribeVpcEndpoints")["VpcEndpoints"] == []


def test_services_are_listed(netd):
    listed = netd.ec2("DescribeVpcEndpointServices")
    assert listed["ServiceNames"] == [S3] == [d["ServiceName"] for d in listed["ServiceDetails"]]
    gateways = [{"Name": "service-type", "Values": ["Gateway"]}]
    assert netd.ec2("DescribeVpcEndpointServices", Filters=gateways, ServiceNames=[S3])["ServiceNames"] == [S3]
    assert netd.ec2("DescribeVpcEndpointServices", Filters=[{"Name": "service-type", "Values": ["Interface"]}])["ServiceNames"] == []
    refused("InvalidServiceName", netd.ec2, "DescribeVpcEndpointServices", ServiceNames=["com.amazonaws.nowhere.s3"])
