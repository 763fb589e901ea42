"""A stranger who means no good: systematically wrong requests to every action, made from AWS's own models.

Never a 5xx, never a daemon that dies or hangs; what is refused has changed nothing. Each run asks a part of all questions, chosen by
STRANGERS_SEED (0 unless told); STRANGERS=N asks up to N for each action,
STRANGERS_ONLY=PATTERN only these, STRANGERS_LOG=FILE writes down what was answered.
"""
import base64
import http.client
import json
import os
import random
import re
import subprocess
import time
import urllib.parse

import botocore.session
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from conftest import DAEMONS, code_of, until

MODEL = botocore.session.get_session().get_service_model("ec2")
PER_ACTION = int(os.environ.get("STRANGERS", 10))
ONLY = os.environ.get("STRANGERS_ONLY", "")
LOG = os.environ.get("STRANGERS_LOG")
SEED = int(os.environ.get("STRANGERS_SEED", 0))

ODD_TEXTS = ["", " ", "x" * 256, "x" * 65536, "é\u202e\U0001f600", "a\x01b\nc\x7f", "'\"; $(reboot) `id` <&>]]>", "%s%n%1000000d", "*", "-j", "\\"]
ODD_NUMBERS = ["", "0", "-1", "2147483647", "2147483648", "9223372036854775807", "9223372036854775808", "-9223372036854775809", "1.5", "1e3", "0x10", "many"]
ODD_CIDRS = ["0.0.0.0/0", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.1/24", "224.0.0.0/16", "127.0.0.0/16", "169.254.0.0/16", "10.0.0.0", "10.0.0/24", "10.0.0.0/24/24",
             "::/0", "fd00::/129", "fe80::/64", "::ffff:10.0.0.0/120", "010.0.0.0/24", "10.0.0.0/24 ", "255.255.255.255/32", "0.0.0.0", "10.99.0.0/8"]
ODD = {"integer": ODD_NUMBERS, "long": ODD_NUMBERS, "double": ODD_NUMBERS, "float": ODD_NUMBERS, "boolean": ["", "maybe", "2", "TRUE "],
       "timestamp": ["", "now", "0", "99999-01-01T00:00:00Z", "2026-13-45T99:00:00Z"], "blob": ["", "%%%", "QQ", "x" * 65536, "AAAA" * 10000]}
PREFIXES = ["vpc", "subnet", "sg", "sgr", "acl", "rtb", "igw", "eni", "dopt", "eipalloc", "eipassoc", "pl", "pcx", "vpce", "nat", "fl", "i", "vol", "snap", "ami",
            "rtbassoc", "aclassoc", "vpc-cidr-assoc", "subnet-cidr-assoc", "eni-attach", "import-ami", "import-snap", "key"]
# Asked last: what they are asked to end is needed before.
DESTROYS = re.compile("Delete|Terminate|Detach|Disassociate|Release|Reject|Revoke|Deregister|Replace")


class Endpoint:
    """Signed requests by hand, whatever is in them, on one connection."""

    def __init__(self, cloud):
        self.env, self.url = cloud.env, urllib.parse.urlsplit(cloud.env["AWS_ENDPOINT_URL"])
        self.signer = SigV4Auth(Credentials(self.env["AWS_ACCESS_KEY_ID"], self.env["AWS_SECRET_ACCESS_KEY"]), "ec2", self.env["AWS_DEFAULT_REGION"])
        self.connection = None

    def ask(self, action, flat):
        """Status and text."""
        body = urllib.parse.urlencode({"Action": action, "Version": "2016-11-15", **flat})
        request = AWSRequest("POST", self.env["AWS_ENDPOINT_URL"] + "/", data=body, headers={"Content-Type": "application/x-www-form-urlencoded"})
        self.signer.add_auth(request)
        for last in (False, True):
            if not self.connection:
                self.connection = http.client.HTTPConnection(self.url.hostname, self.url.port, timeout=30)
            try:
                self.connection.request("POST", "/", body.encode(), dict(request.headers))
                answer = self.connection.getresponse()
                return answer.status, answer.read().decode()
            except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
                self.connection.close()
                self.connection = None
                assert not last, f"{action} {str(flat)[:500]}: the front door hung up"


def code_in(text):
    found = re.search(r"<Code>([^<]*)</Code>", text)
    return found[1] if found else ""


def actions_of(cloud):
    """What the daemons themselves announce."""
    script = ("import socket,sys; s=socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); s.sendall(b'{\"method\":\"gureum.Describe\",\"parameters\":{},"
              "\"context\":{\"account\":\"123456789012\",\"region\":\"us-east-1\",\"principal\":\"\",\"request\":\"x\"}}\\0'); d=b''\n"
              "while not d.endswith(b'\\0'): d+=s.recv(65536)\nprint(d[:-1].decode())")
    found = set()
    for daemon in ("hvd", "netd", "stord"):
        out = subprocess.run(["nsenter", "--target", str(cloud.pid("apid")), "--mount", "--net", "/usr/bin/python3", "-c", script, f"/run/gureum/{daemon}.sock"],
                             capture_output=True, text=True, check=True).stdout
        found |= {a.removeprefix("ec2.") for a in json.loads(out)["parameters"]["Actions"] if a.startswith("ec2.")}
    return sorted(found & set(MODEL.operation_names))


class World:
    """One of everything, for questions that are right but for one thing."""

    def __init__(self, cloud):
        e, far = cloud.ec2, cloud.client("ec2", region_name=[r for r in ("us-east-1", "ap-northeast-2") if r != cloud.env["AWS_DEFAULT_REGION"]][0])
        self.cloud, self.far = cloud, far
        vpc = e.create_vpc(CidrBlock="10.99.0.0/16")["Vpc"]["VpcId"]
        peer = e.create_vpc(CidrBlock="10.98.0.0/16")["Vpc"]["VpcId"]
        of_vpc = [{"Name": "vpc-id", "Values": [vpc]}]
        subnet = e.create_subnet(VpcId=vpc, CidrBlock="10.99.1.0/24")["Subnet"]["SubnetId"]
        table = e.create_route_table(VpcId=vpc)["RouteTable"]["RouteTableId"]
        acl = e.describe_network_acls(Filters=of_vpc)["NetworkAcls"][0]
        group = e.create_security_group(GroupName="stranger", Description="stranger", VpcId=vpc)["GroupId"]
        rule = e.authorize_security_group_ingress(GroupId=group, IpPermissions=[{"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": "10.0.0.0/8"}]}])
        eip = e.allocate_address()
        pl = e.create_managed_prefix_list(PrefixListName="stranger", MaxEntries=5, AddressFamily="IPv4", Entries=[{"Cidr": "10.1.0.0/16"}])["PrefixList"]
        igw = e.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
        e.attach_internet_gateway(VpcId=vpc, InternetGatewayId=igw)
        volume = e.create_volume(AvailabilityZone=cloud.env["AWS_DEFAULT_REGION"] + "a", Size=1)["VolumeId"]
        until(lambda: e.describe_volumes(VolumeIds=[volume])["Volumes"][0]["State"] == "available")
        snapshot = e.create_snapshot(VolumeId=volume)["SnapshotId"]
        until(lambda: e.describe_snapshots(SnapshotIds=[snapshot])["Snapshots"][0]["State"] == "completed")
        image = e.register_image(Name="stranger", RootDeviceName="/dev/xvda", BlockDeviceMappings=[{"DeviceName": "/dev/xvda", "Ebs": {"SnapshotId": snapshot}}])["ImageId"]
        self.names = {
            "VpcId": vpc, "PeerVpcId": peer, "SubnetId": subnet, "RouteTableId": table, "NetworkAclId": acl["NetworkAclId"], "GroupId": group, "SecurityGroupId": group,
            "NetworkInterfaceId": e.create_network_interface(SubnetId=subnet)["NetworkInterface"]["NetworkInterfaceId"],
            "DhcpOptionsId": e.create_dhcp_options(DhcpConfigurations=[{"Key": "domain-name", "Values": ["a.b"]}])["DhcpOptions"]["DhcpOptionsId"],
            "AllocationId": eip["AllocationId"], "PublicIp": eip["PublicIp"], "PrefixListId": pl["PrefixListId"], "InternetGatewayId": igw, "GatewayId": igw,
            "VpcPeeringConnectionId": e.create_vpc_peering_connection(VpcId=vpc, PeerVpcId=peer)["VpcPeeringConnection"]["VpcPeeringConnectionId"],
            "VpcEndpointId": e.create_vpc_endpoint(VpcId=vpc, ServiceName=f"com.amazonaws.{cloud.env['AWS_DEFAULT_REGION']}.s3")["VpcEndpoint"]["VpcEndpointId"],
            "FlowLogId": e.create_flow_logs(ResourceIds=[vpc], ResourceType="VPC", TrafficType="ALL", LogGroupName="g", DeliverLogsPermissionArn="arn:aws:iam::123456789012:role/r")["FlowLogIds"][0],
            "SecurityGroupRuleId": rule["SecurityGroupRules"][0]["SecurityGroupRuleId"], "VolumeId": volume, "SnapshotId": snapshot,
            "ImageId": image, "InstanceId": "i-0123456789abcdef0", "ResourceId": vpc, "Resources": vpc, "NatGatewayId": "nat-0123456789abcdef0",
            "KeyName": "nobody", "GroupName": "stranger", "AvailabilityZone": cloud.env["AWS_DEFAULT_REGION"] + "a", "CidrBlock": "10.99.7.0/24", "Cidr": "10.1.0.0/16",
            "DestinationCidrBlock": "10.55.0.0/16", "CidrIp": "10.0.0.0/8", "CidrIpv6": "fd00::/64", "Ipv6CidrBlock": "fd00::/64", "DestinationIpv6CidrBlock": "fd01::/64",
            "PrivateIpAddress": "10.99.1.77", "ServiceName": f"com.amazonaws.{cloud.env['AWS_DEFAULT_REGION']}.dynamodb", "IpProtocol": "tcp", "Protocol": "6", "FromPort": "80", "ToPort": "80",
            "RuleNumber": "100", "RuleAction": "allow", "From": "80", "To": "80", "InstanceType": "t3.nano", "MinCount": "1", "MaxCount": "1", "Region": cloud.env["AWS_DEFAULT_REGION"],
            "SourceRegion": cloud.env["AWS_DEFAULT_REGION"], "SourceSnapshotId": snapshot, "SourceImageId": image, "Size": "1", "MaxEntries": "5",
            "KeyType": "ed25519", "FirstSnapshotId": snapshot, "SecondSnapshotId": snapshot, "ParentSnapshotId": snapshot, "CurrentVersion": "1", "PreviousVersion": "1", "AssociationId": acl["Associations"][0]["NetworkAclAssociationId"], "VpcEndpointType": "Gateway",
            "TrafficType": "ALL", "ResourceType": "VPC", "LogGroupName": "g", "DeliverLogsPermissionArn": "arn:aws:iam::123456789012:role/r", "LogDestinationType": "cloud-watch-logs",
            "Device": "/dev/sdf", "DeviceName": "/dev/sdf", "VolumeType": "gp3", "MaxResults": "10", "DeviceIndex": "1", "AddressFamily": "IPv4", "InstanceTenancy": "default",
        }
        # What the model calls optional, and AWS does not.
        self.bases = {
            "CreateVpc": {"CidrBlock": "10.97.0.0/16"}, "CreateFlowLogs": {"TrafficType": "ALL", "LogGroupName": "g", "DeliverLogsPermissionArn": "arn:aws:iam::123456789012:role/r"},
            "CreateRoute": {"DestinationCidrBlock": "10.55.0.0/16", "GatewayId": igw}, "ReplaceRoute": {"DestinationCidrBlock": "10.55.0.0/16", "GatewayId": igw},
            "CreateSecurityGroup": {"VpcId": vpc}, "AssociateAddress": {"AllocationId": eip["AllocationId"], "NetworkInterfaceId": self.names["NetworkInterfaceId"]},
            "CreateSubnet": {"CidrBlock": "10.99.7.0/24"}, "CreateNetworkAclEntry": {"CidrBlock": "10.0.0.0/8"}, "ReplaceNetworkAclEntry": {"CidrBlock": "10.0.0.0/8"},
            "CreateVolume": {"Size": "1"}, "CreateVpcPeeringConnection": {"PeerVpcId": peer}, "RunInstances": {"ImageId": image, "InstanceType": "t3.nano", "KeyName": "no-such-key"},
            "AssociateVpcCidrBlock": {"CidrBlock": "10.96.0.0/16"}, "CreateVpcEndpoint": {"RouteTableId.1": table}, "CreateKeyPair": {"KeyType": "ed25519"}, "RegisterImage": {"Name": "stranger-2"}, "CreateImage": {"Name": "stranger-3"},
        }
        self.elsewhere = far and {"vpc": far.describe_vpcs()["Vpcs"][0]["VpcId"], "subnet": far.describe_subnets()["Subnets"][0]["SubnetId"],
                          "sg": far.describe_security_groups()["SecurityGroups"][0]["GroupId"]}

    def odd_ids(self, right):
        prefix = right.rsplit("-", 1)[0]
        other = "subnet" if prefix == "vpc" else "vpc"
        return [f"{prefix}-xyz", f"{prefix}-", f"{prefix}-0123456789ABCDEF0", f"{prefix}-0123456789abcdef0", f"{prefix}-12345678", f"{other}-0123456789abcdef0",
                self.elsewhere.get(prefix, self.elsewhere["vpc"]), self.names["GroupId"], self.names["SubnetId"], prefix + "-" + "0" * 70000, right + " ", right.upper()]


def leaf_of(world, name, shape):
    """A value that may well be right."""
    for known in (name, name.removesuffix("s"), name.removesuffix("es"), re.sub(r"^(Add|Remove|Source|Accepter|Requester)", "", name).removesuffix("s")):
        if known in world.names:
            return world.names[known]
    if shape.type_name in ("integer", "long", "double", "float"):
        return str(shape.metadata.get("min", 1))
    if shape.type_name == "boolean":
        return "true"
    if shape.type_name == "timestamp":
        return "2026-11-01T00:00:00Z"
    if shape.type_name == "blob":
        return base64.b64encode(b"x").decode()
    return shape.enum[0] if getattr(shape, "enum", None) else "stranger"


def key_of(name, shape):
    """How EC2's query writes the member."""
    if "queryName" in shape.serialization:
        return shape.serialization["queryName"]
    return shape.serialization["name"][0].upper() + shape.serialization["name"][1:] if "name" in shape.serialization else name


def leaves(world, name, key, shape, depth=0):
    """(flat key, value, shape, member's name) of everything in the member."""
    if shape.type_name == "structure":
        for n, m in shape.members.items():
            if depth < 4:
                yield from leaves(world, n, f"{key}.{key_of(n, m)}", m, depth + 1)
    elif shape.type_name == "list":
        yield from leaves(world, name, f"{key}.1", shape.member, depth + 1)
    elif shape.type_name != "map":
        yield key, leaf_of(world, name, shape), shape, name


def wrong_values(world, name, value, shape):
    if shape.type_name in ODD:
        return ODD[shape.type_name]
    if getattr(shape, "enum", None):
        return ["", "nonsense", value.upper() + " ", shape.enum[-1]]
    texts = list(ODD_TEXTS)
    if re.fullmatch(r"[a-z-]+-[0-9a-f]{17}", value) or name.endswith("Id"):
        texts += world.odd_ids(value)
    if re.search(r"Cidr|Ip|Address", name):
        texts += ODD_CIDRS
    return texts


def questions(world, action):
    """Every wrong question for the action: what was done to it, and its members."""
    operation = MODEL.operation_model(action)
    shape = operation.input_shape
    base, members = dict(world.bases.get(action, {})), []
    for name, member in (shape.members.items() if shape else []):
        if name == "DryRun":
            continue
        found = list(leaves(world, name, key_of(name, member), member))
        members.append((name, member, found))
        if name in shape.required_members:
            # Of a structure only a little: all of it at once is contradictory.
            base.update({k: v for k, v, *_ in (found if member.type_name != "structure" else found[:1])})
    yield "nothing at all", {}
    yield "what is not a member", {**base, "NoSuchMember": "x", "Filter.1.NoSuch": "y"}
    for name, member, found in members:
        own = {k: v for k, v, *_ in found}
        rest = {k: v for k, v in base.items() if k not in own}
        if name in shape.required_members:
            yield f"without {name}", rest
        if len(found) > 1:
            yield f"all of {name}", {**rest, **own}
        for key, value, leaf, leaf_name in found:
            alone = {k: v for k, v in base.items() if k in own} if name in shape.required_members else {}
            for wrong in wrong_values(world, leaf_name, value, leaf):
                yield f"{key} wrong", {**rest, **alone, key: wrong}
            if ".1" in key:
                yield f"{key} twice", {**rest, **alone, key: value, key.replace(".1", ".2", 1): value}
                yield f"{key} far away", {**rest, **alone, key.replace(".1", ".2147483648", 1): value}
                yield f"{key} 10,000 times", {**rest, **alone, **{key.replace(".1", f".{i}", 1): value for i in range(1, 10001)}}
                yield f"{key} also scalar", {**rest, **alone, key: value, key.replace(".1", "", 1): value}
    names = [name for name, *_ in members]
    if "NextToken" in names:
        yield "a token made up", {**base, "NextToken": base64.b64encode(b"x" * 60).decode(), "MaxResults": "10"}
    if "Filters" in names:
        for n in ("vpc-id", "tag:", "tag:a", "state", "no-such-filter", "*"):
            yield "filters", {**base, "Filter.1.Name": n, "Filter.1.Value.1": "[a-z*?\\"}
            yield "filters without values", {**base, "Filter.1.Name": n}
        yield "two hundred wildcards", {**base, **{f"Filter.1.Value.{i}": "*a" * 100 for i in range(1, 201)}, "Filter.1.Name": "vpc-id"}
    if "TagSpecifications" in names:
        for k, v in (("aws:x", "y"), ("k" * 129, ""), ("k", "v" * 257), ("", ""), ("\x01", "\x02"), ("é" * 128, "é" * 256)):
            yield "a tag", {**base, "TagSpecification.1.ResourceType": "vpc", "TagSpecification.1.Tag.1.Key": k, "TagSpecification.1.Tag.1.Value": v}


LISTS = ["Vpcs", "Subnets", "RouteTables", "InternetGateways", "NetworkAcls", "SecurityGroups", "SecurityGroupRules", "NetworkInterfaces", "DhcpOptions", "Addresses",
         "ManagedPrefixLists", "VpcPeeringConnections", "VpcEndpoints", "NatGateways", "FlowLogs", "Instances", "Volumes", "Snapshots", "Images", "KeyPairs", "Tags", "ImportImageTasks", "ImportSnapshotTasks"]


def all_there_is(endpoint):
    """What a customer can see."""
    return {what: re.sub(r"<requestId>.*</requestId>", "", endpoint.ask("Describe" + what, {"Owner.1": "self"} if what in ("Snapshots", "Images") else {})[1])
            for what in LISTS}


UNDER_WAY = re.compile(r">(pending|creating|deleting|attaching|detaching|associating|disassociating|shutting-down|stopping|modify-in-progress)<")


def settled(endpoint):
    """What a customer can see when nothing is under way any more; what seems to be for ever is as good as that."""
    before, now = None, all_there_is(endpoint)
    patient = time.monotonic() + 30
    while before != now or (time.monotonic() < patient and UNDER_WAY.search(str(now))):
        before, now = now, all_there_is(endpoint)
    return now


def written(cloud):
    """Changes with each commit of any daemon."""
    files = [os.path.join(cloud.state, "state", d, "state.db-wal") for d in DAEMONS if d != "apid"]
    return [(s.st_size, s.st_mtime_ns) for s in map(os.stat, files)]


# (List, its id, the action that ends one), in an order that the dependencies allow.
ENDS = [("VpcEndpoints", "VpcEndpointId", "delete_vpc_endpoints"), ("VpcPeeringConnections", "VpcPeeringConnectionId", "delete_vpc_peering_connection"),
        ("NatGateways", "NatGatewayId", "delete_nat_gateway"), ("FlowLogs", "FlowLogId", "delete_flow_logs"), ("Addresses", "AllocationId", "release_address"),
        ("NetworkInterfaces", "NetworkInterfaceId", "delete_network_interface"), ("Subnets", "SubnetId", "delete_subnet"),
        ("SecurityGroups", "GroupId", "delete_security_group"), ("NetworkAcls", "NetworkAclId", "delete_network_acl"), ("RouteTables", "RouteTableId", "delete_route_table"),
        ("InternetGateways", "InternetGatewayId", "delete_internet_gateway"),
        ("EgressOnlyInternetGateways", "EgressOnlyInternetGatewayId", "delete_egress_only_internet_gateway"), ("Vpcs", "VpcId", "delete_vpc"), ("DhcpOptions", "DhcpOptionsId", "delete_dhcp_options"),
        ("ManagedPrefixLists", "PrefixListId", "delete_managed_prefix_list"), ("Images", "ImageId", "deregister_image"), ("Snapshots", "SnapshotId", "delete_snapshot"),
        ("Volumes", "VolumeId", "delete_volume"), ("KeyPairs", "KeyPairId", "delete_key_pair")]


def what_is_there(ec2):
    found = {}
    for what, key, end in ENDS:
        describe = getattr(ec2, "describe_" + botocore.xform_name(what))
        reply = describe(**({"OwnerIds": ["self"]} if what == "Snapshots" else {"Owners": ["self"]} if what == "Images" else {}))
        rows = reply[what.removeprefix("Managed")]
        found[what] = {x[key]: x for x in rows if x.get("State") not in ("deleted", "deleting")}
    found["Instances"] = {i["InstanceId"]: i for r in ec2.describe_instances()["Reservations"] for i in r["Instances"] if i["State"]["Name"] != "terminated"}
    return found


def sweep(ec2, before):
    """Ends all that was not there before; what is refused goes in the next round."""
    def new():
        now = what_is_there(ec2)
        now["VpcPeeringConnections"] = {k: p for k, p in now["VpcPeeringConnections"].items() if p["Status"]["Code"] in ("active", "pending-acceptance")}
        return {what: [x for k, x in found.items() if k not in before[what]] for what, found in now.items()}

    def gone():
        now = new()
        for i in now["Instances"]:
            code_of(ec2.terminate_instances, InstanceIds=[i["InstanceId"]])
        for a in now["Addresses"]:
            if "AssociationId" in a:
                code_of(ec2.disassociate_address, AssociationId=a["AssociationId"])
        for g in now["InternetGateways"]:
            for a in g["Attachments"]:
                code_of(ec2.detach_internet_gateway, InternetGatewayId=g["InternetGatewayId"], VpcId=a["VpcId"])
        for g in now["SecurityGroups"]:
            for way in ("ingress", "egress"):
                rules = g["IpPermissions" + ("Egress" if way == "egress" else "")]
                if rules:
                    code_of(getattr(ec2, "revoke_security_group_" + way), GroupId=g["GroupId"], IpPermissions=rules)
        for what, key, end in ENDS:
            for x in now[what]:
                operation = MODEL.operation_model(ec2.meta.method_to_api_mapping[end]).input_shape.members
                name = key if key in operation else key + "s"
                code_of(getattr(ec2, end), **{name: [x[key]] if name not in (key,) else x[key]})
        left = new()
        vpcs = {v["VpcId"] for v in left["Vpcs"]}
        return not vpcs and not any(left[w] for w in ("Instances", "Subnets", "Volumes", "Addresses", "ManagedPrefixLists", "NetworkInterfaces"))
    until(gone, told="all is as it was before the strangers")


@pytest.fixture(scope="module")
def world(cloud):
    before = what_is_there(cloud.ec2)
    try:
        yield World(cloud)
    finally:
        cloud.ec2.disable_ebs_encryption_by_default()
        sweep(cloud.ec2, before)


def part_of(world, action):
    every = list(questions(world, action))
    random.Random(f"{SEED} {action}").shuffle(every)
    heavy = [q for q in every if len(q[1]) > 1000]
    light = [q for q in every if len(q[1]) <= 1000]
    return light[:PER_ACTION] + heavy[: PER_ACTION // 10]


def test_wrong_questions_are_refused_and_change_nothing(cloud, world):
    endpoint, wrong, seen = Endpoint(cloud), [], None
    pids = {d: cloud.pid(d) for d in DAEMONS}
    for action in sorted(actions_of(cloud), key=lambda a: (bool(DESTROYS.match(a)), a)):
        for what, flat in part_of(world, action) if re.search(ONLY, action) else []:
            asked = f"{action}, {what}: {str(flat)[:300]}"
            seen = seen or settled(endpoint)
            before = written(cloud)
            status, text = endpoint.ask(action, flat)
            if LOG:
                with open(LOG, "a") as f:
                    f.write(f"{status} {code_in(text)} {asked}\n")
            if status >= 500 and code_in(text) not in ("InsufficientInstanceCapacity", "InsufficientVolumeCapacity"):
                wrong.append(f"{status} {text[:300]}: {asked}")
            if status == 200 and not action.startswith("Describe"):
                seen = None
                if "x" * 60000 in str(flat) and "x" * 60000 in str(all_there_is(endpoint)):
                    wrong.append(f"a text without a bound is kept: {asked}")
            elif status != 200 and written(cloud) != before:
                now = settled(endpoint)
                # What was under way before may have come to its end meanwhile: the same question once more tells.
                if seen != now:
                    endpoint.ask(action, flat)
                    seen, now = now, settled(endpoint)
                if seen != now:
                    wrong.append(f"refused ({code_in(text)}), and changed {[k for k in now if now[k] != seen[k]]}: {asked}")
                seen = now
    wrong += [f"{d} died" for d, pid in pids.items() if cloud.pid(d) != pid]
    assert not wrong, "\n".join(wrong[:40])


LONG = "x" * 65536


@pytest.mark.parametrize("action, parameters, code", [
    ("ModifyNetworkInterfaceAttribute", {"NetworkInterfaceId": "NetworkInterfaceId", "Description.Value": LONG}, "InvalidParameterValue"),
    ("CreateNetworkInterface", {"SubnetId": "SubnetId", "Description": LONG}, "InvalidParameterValue"),
    ("CreateFlowLogs", {"ResourceId.1": "NetworkInterfaceId", "ResourceType": "NetworkInterface", "TrafficType": "ALL", "LogGroupName": "g", "DeliverLogsPermissionArn": LONG},
     "InvalidParameterValue"),
    ("CopySnapshot", {"SourceSnapshotId": "SnapshotId", "SourceRegion": "SourceRegion", "Description": LONG}, "InvalidParameterValue"),
    ("ImportImage", {"DiskContainer.1.SnapshotId": "SnapshotId", "Description": LONG}, "InvalidParameterValue"),
    ("ImportImage", {"DiskContainer.1.SnapshotId": "snap-x"}, "InvalidSnapshotID.Malformed"),
    ("CreateVpc", {"CidrBlock": "10.97.0.0/16", "Ipv4NetmaskLength": "16"}, "UnsupportedOperation"),
    ("RunInstances", {"ImageId": "ImageId", "MinCount": "1", "MaxCount": "1", "Placement.GroupName": "x"}, "UnsupportedOperation"),
    ("RunInstances", {"ImageId": "ImageId", "MinCount": "1", "MaxCount": "1", "NetworkInterface.1.DeviceIndex": "0", "NetworkInterface.1.Ipv4Prefix.1.Ipv4Prefix": "10.99.1.0/29"},
     "InvalidParameterValue"),
    ("ImportImage", {"DiskContainer.1.SnapshotId": "SnapshotId", "LicenseSpecifications.1.LicenseConfigurationArn": "arn:x"}, "UnsupportedOperation"),
    ("ModifySubnetAttribute", {"SubnetId": "SubnetId", "MapPublicIpOnLaunch.Value": "true", "EnableLniAtDeviceIndex": "1"}, "UnsupportedOperation"),
    ("CreateFlowLogs", {"ResourceId.1": "NetworkInterfaceId", "ResourceType": "NetworkInterface", "TrafficType": "ALL", "LogGroupName": "g", "DeliverLogsPermissionArn": "arn:x",
                        "DeliverCrossAccountRole": "arn:x"}, "InvalidParameter"),
], ids=lambda x: x if isinstance(x, str) else "")
def test_what_strangers_found(cloud, world, action, parameters, code):
    flat = {k: world.names.get(v, v) for k, v in parameters.items()}
    status, text = Endpoint(cloud).ask(action, flat)
    assert (status, code_in(text)) == (400, code), text[:500]
