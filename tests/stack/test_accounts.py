"""Another account's things are as ones that do not exist.

The front door has the keys of one account so far; the daemons tell accounts apart by the context of each call, so the second account speaks to them
as the front door would. Every member of every action that takes an id is given the first account's id, all else being right and the second account's
own; the answer must be what an id that nobody has would get, letter for letter. What AWS shares across accounts is not in the way of it."""
import json
import re
import subprocess
import types

import botocore.session
import pytest
from botocore.exceptions import ClientError

from conftest import code_of, until
from test_strangers import Endpoint, World, key_of, leaf_of, settled, sweep, what_is_there

OTHER = "210987654321"
MODELS = {s: botocore.session.get_session().get_service_model(s) for s in ("ec2", "ebs", "rbin")}
RELAY = """
import json, socket, sys
for line in sys.stdin:
    daemon, message = json.loads(line)
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(60)
    s.connect("/run/gureum/" + daemon + ".sock")
    s.sendall(json.dumps(message).encode() + b"\\0")
    reply = b""
    while not reply.endswith(b"\\0"):
        part = s.recv(65536)
        if not part:
            reply = b'{"error": "hung up", "parameters": {"message": ""}}\\0'
        reply += part
    print(reply[:-1].decode(), flush=True)
"""
KINDS = ("vpc", "subnet", "rtb", "acl", "sg", "sgr", "eni", "dopt", "eipalloc", "pl", "igw", "pcx", "vpce", "fl", "vol", "snap", "ami", "key", "aclassoc", "rtbassoc", "vpc-cidr-assoc")
# AWS lets a request for a peering go out to whatever VPC; and every account has names of its own.
SHARED = {("CreateVpcPeeringConnection", "PeerVpcId"), ("CreateKeyPair", "KeyName"), ("ImportKeyPair", "KeyName")}

# Where the model alone makes no right question: "?X" is the first account's, "!X" the second's own.
RULE = {"IpProtocol": "-1"}
ROLE = "arn:aws:iam::123456789012:role/r"
BY_HAND = [
    *[(f"ec2.{verb}SecurityGroup{way}", {"GroupId": "!GroupId", "IpPermissions": [{**RULE, **peer}]})
      for verb in ("Authorize", "Revoke") for way in ("Ingress", "Egress")
      for peer in ({"UserIdGroupPairs": [{"GroupId": "?GroupId"}]}, {"UserIdGroupPairs": [{"GroupId": "?GroupId", "UserId": "123456789012"}]},
                   {"PrefixListIds": [{"PrefixListId": "?PrefixListId"}]})],
    ("ec2.RevokeSecurityGroupIngress", {"GroupId": "!GroupId", "SecurityGroupRuleIds": ["?SecurityGroupRuleId"]}),
    ("ec2.UpdateSecurityGroupRuleDescriptionsIngress", {"GroupId": "!GroupId", "SecurityGroupRuleDescriptions": [{"SecurityGroupRuleId": "?SecurityGroupRuleId"}]}),
    *[("ec2.ModifySecurityGroupRules", {"GroupId": "!GroupId", "SecurityGroupRules": [{"SecurityGroupRuleId": "!SecurityGroupRuleId", "SecurityGroupRule": {**RULE, **peer}}]})
      for peer in ({"ReferencedGroupId": "?GroupId"}, {"PrefixListId": "?PrefixListId"})],
    *[(f"ec2.{verb}Route", {"RouteTableId": "!RouteTableId", "DestinationCidrBlock": "10.55.0.0/16", target: "?" + target})
      for verb in ("Create", "Replace") for target in ("GatewayId", "VpcEndpointId", "NetworkInterfaceId", "VpcPeeringConnectionId")],
    ("ec2.CreateRoute", {"RouteTableId": "!RouteTableId", "DestinationPrefixListId": "?PrefixListId", "GatewayId": "!GatewayId"}),
    ("ec2.CreateVpcEndpoint", {"VpcId": "!VpcId", "ServiceName": "com.amazonaws.us-east-1.s3", "RouteTableIds": ["?RouteTableId"]}),
    *[("ec2.CreateFlowLogs", {"ResourceType": kind, "ResourceIds": ["?" + name], "TrafficType": "ALL", "LogGroupName": "g", "DeliverLogsPermissionArn": ROLE})
      for kind, name in (("Subnet", "SubnetId"), ("NetworkInterface", "NetworkInterfaceId"))],
    ("ec2.RegisterImage", {"Name": "theirs", "RootDeviceName": "/dev/xvda", "BlockDeviceMappings": [{"DeviceName": "/dev/xvda", "Ebs": {"SnapshotId": "?SnapshotId"}}]}),
    ("ec2.CopyImage", {"Name": "theirs", "SourceImageId": "?ImageId", "SourceRegion": "us-east-1"}),
    ("ec2.AssociateAddress", {"PublicIp": "?PublicIp", "NetworkInterfaceId": "!NetworkInterfaceId"}),
    *[("ec2.RunInstances", {"ImageId": "!ImageId", "InstanceType": "t3.nano", "MinCount": 1, "MaxCount": 1, "SubnetId": "!SubnetId", **one})
      for one in ({"ImageId": "?ImageId"}, {"SubnetId": "?SubnetId"}, {"SecurityGroupIds": ["?GroupId"]}, {"KeyName": "?KeyName"},
                  {"BlockDeviceMappings": [{"DeviceName": "/dev/sdf", "Ebs": {"SnapshotId": "?SnapshotId"}}]})],
    ("ec2.RunInstances", {"ImageId": "!ImageId", "InstanceType": "t3.nano", "MinCount": 1, "MaxCount": 1,
                          "NetworkInterfaces": [{"DeviceIndex": 0, "NetworkInterfaceId": "?NetworkInterfaceId"}]}),
    ("ebs.ListChangedBlocks", {"FirstSnapshotId": "!SnapshotId", "SecondSnapshotId": "?SnapshotId"}),
    ("ebs.GetSnapshotBlock", {"SnapshotId": "?SnapshotId", "BlockIndex": 0, "BlockToken": "AAAA"}),
    ("ebs.StartSnapshot", {"VolumeSize": 1, "ParentSnapshotId": "?SnapshotId"}),
]


class Refused(ClientError):
    def __init__(self, code, message, action):
        super().__init__({"Error": {"Code": code, "Message": message}}, action)
        self.said = f"{code}: {message}"


class Account:
    """The second account's calls, in boto3's words."""

    def __init__(self, cloud, account=OTHER):
        self.account, self.region = account, cloud.env["AWS_DEFAULT_REGION"]
        self.meta = cloud.ec2.meta
        self.relay = subprocess.Popen(["nsenter", "--target", str(cloud.pid("apid")), "--mount", "--net", "/usr/bin/python3", "-uc", RELAY],
                                      stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.actions, self.prefixes = {}, {}
        for daemon in ("hvd", "netd", "stord"):
            about = self.ask(daemon, "gureum.Describe", {})
            self.actions.update({a: daemon for a in about["Actions"]})
            self.prefixes.update({p: daemon for p in about["Prefixes"]})

    def ask(self, daemon, method, parameters):
        context = {"account": self.account, "region": self.region, "principal": f"arn:aws:iam::{self.account}:root", "request": "accounts"}
        print(json.dumps([daemon, {"method": method, "parameters": parameters, "context": context}]), file=self.relay.stdin, flush=True)
        reply = json.loads(self.relay.stdout.readline())
        if "error" in reply:
            raise Refused(reply["error"], reply["parameters"].get("message", ""), method)
        return reply["parameters"]

    def call(self, method, parameters):
        daemon = self.actions[method]
        if method in ("ec2.CreateTags", "ec2.DeleteTags"):
            daemon = self.prefixes.get(parameters["Resources"][0].rsplit("-", 1)[0], daemon)
        return self.ask(daemon, method, parameters)

    def __getattr__(self, name):
        return lambda **parameters: self.call("ec2." + self.meta.method_to_api_mapping[name], parameters)


def ways(world, name, shape, key, path=(), depth=0):
    """(flat key, way, value, shape, name) of all that is in a member."""
    path = (*path, name) if isinstance(name, str) else path
    if shape.type_name == "structure" and depth < 5:
        for n, m in shape.members.items():
            yield from ways(world, n, m, f"{key}.{key_of(n, m)}", path, depth + 1)
    elif shape.type_name == "list":
        if shape.member.type_name == "structure":
            for n, m in shape.member.members.items():
                yield from ways(world, n, m, f"{key}.1.{key_of(n, m)}", (*path, 0), depth + 1)
        else:
            yield f"{key}.1", (*path, 0), leaf_of(world, path[-1], shape.member), shape.member, path[-1]
    elif shape.type_name not in ("map", "structure"):
        yield key, path, leaf_of(world, name, shape), shape, name


def put(into, path, value, shape):
    typed = {"integer": int, "long": int, "boolean": lambda v: v == "true", "double": float, "float": float}.get(shape.type_name, str)
    for here, following in zip(path, path[1:]):
        empty = [] if following == 0 else {}
        if here == 0:
            into.append(empty) if not into else None
            into = into[0]
        else:
            into = into.setdefault(here, empty)
    if path[-1] == 0:
        into[:] = [typed(value)]
    else:
        into[path[-1]] = typed(value)


def questions(mine, theirs, service, action):
    """(member, right question but for that id, the same with an id that nobody has)."""
    shape = MODELS[service].operation_model(action).input_shape
    base, found = {}, []
    for name, member in (shape.members.items() if shape else []):
        inner = list(ways(mine, name, member, key_of(name, member)))
        found += inner
        if name in shape.required_members:
            for _, path, value, leaf, _ in inner if member.type_name != "structure" else inner[:1]:
                put(base, path, value, leaf)
    flat = {k: (path, leaf) for k, path, _, leaf, _ in found}
    for key, value in mine.bases.get(action, {}).items():
        if key in flat:
            put(base, flat[key][0], value, flat[key][1])
    for _, path, _, leaf, name in found:
        if leaf.type_name != "string" or (action, path[0]) in SHARED:
            continue
        of_kind = theirs.of(name)
        for wanted in of_kind:
            rest = json.loads(json.dumps(base))
            put(rest, path, wanted, leaf)
            none = json.loads(json.dumps(base))
            put(none, path, theirs.nobody(wanted), leaf)
            yield ".".join(map(str, path)), wanted, rest, none


class Things:
    """The first account's ids, by the names of members that take them."""

    def __init__(self, world, more):
        self.names = {k: v for k, v in {**world.names, **more}.items() if re.fullmatch(r"(%s)-[0-9a-f]{17}" % "|".join(KINDS), v) and v != "i-0123456789abcdef0"}
        self.names.update({k: v for k, v in more.items() if k in ("Identifier", "PublicIp", "KeyName")})
        self.all = sorted(set(self.names.values()))

    def of(self, name):
        if name in ("Resources", "ResourceId", "ResourceIds"):
            return self.all
        if name in ("InstanceId", "NatGatewayId", "GatewayId") or name in self.names:
            return [self.names[name]] if name in self.names else []
        bare = re.sub(r"^(Add|Remove|Source|First|Second|Parent|Accepter|Requester|Referenced|Destination)", "", name)
        for known in (bare, bare.removesuffix("s"), {"Groups": "GroupId"}.get(name)):
            if known in self.names:
                return [self.names[known]]
        return []

    @staticmethod
    def nobody(wanted):
        if "-" in wanted:
            return wanted.rsplit("-", 1)[0] + "-0fedcba9876543210"
        return "203.0.113.199" if "." in wanted else "n" * len(wanted)


def associations(ec2, world):
    which = {"Filters": [{"Name": "vpc-id", "Values": [world.names["VpcId"]]}]}
    main = [a for t in ec2.describe_route_tables(**which)["RouteTables"] for a in t["Associations"]][0]
    block = ec2.describe_vpcs(**which)["Vpcs"][0]["CidrBlockAssociationSet"][0]
    return {"RouteTableAssociationId": main["RouteTableAssociationId"], "BlockAssociationId": block["AssociationId"]}


def by_hand(mine, theirs):
    for method, template in BY_HAND:
        text = re.sub(r'"!(\w+)"', lambda m: json.dumps(mine.names[m[1]]), json.dumps(template))
        wanted = theirs.names[re.search(r'"\?(\w+)"', text)[1]]
        one, nobody = (json.loads(re.sub(r'"\?\w+"', json.dumps(x), text)) for x in (wanted, theirs.nobody(wanted)))
        yield method, "by hand", wanted, one, nobody
    for action in ("DisassociateRouteTable", "ReplaceRouteTableAssociation", "DisassociateVpcCidrBlock"):
        for name in ("RouteTableAssociationId", "BlockAssociationId"):
            wanted = theirs.names[name]
            table = {"RouteTableId": mine.names["RouteTableId"]} if action.startswith("Replace") else {}
            yield f"ec2.{action}", "by hand", wanted, {"AssociationId": wanted, **table}, {"AssociationId": theirs.nobody(wanted), **table}


def every_question(other, mine, theirs):
    yield from by_hand(mine, theirs)
    for method in sorted(other.actions):
        service, action = method.split(".")
        if service in MODELS and action in MODELS[service].operation_names:
            for question in questions(mine, theirs, service, action):
                yield method, *question


@pytest.fixture(scope="module")
def two(cloud):
    before = what_is_there(cloud.ec2)
    other = Account(cloud)
    other_before = what_is_there(other)
    rule = cloud.client("rbin").create_rule(ResourceType="EBS_SNAPSHOT", RetentionPeriod={"RetentionPeriodValue": 1, "RetentionPeriodUnit": "DAYS"},
                                            ResourceTags=[{"ResourceTagKey": "nobody"}])["Identifier"]
    try:
        world = World(cloud)
        key = cloud.ec2.create_key_pair(KeyName="accounts", KeyType="ed25519")["KeyPairId"]
        theirs = Things(world, {"KeyPairId": key, "KeyName": "accounts", "Identifier": rule, "PublicIp": world.names["PublicIp"], **associations(cloud.ec2, world)})
        mine = World(types.SimpleNamespace(ec2=other, env=cloud.env, client=lambda *_, **__: None))
        yield other, mine, theirs
    finally:
        cloud.client("rbin").delete_rule(Identifier=rule)
        sweep(other, other_before)
        sweep(cloud.ec2, before)
        other.relay.stdin.close()
        other.relay.wait()


def answer(other, method, parameters, ids):
    """What was answered, with the id in question taken out."""
    try:
        text = "ok " + json.dumps(other.call(method, parameters))
    except Refused as e:
        text = e.said
    for one in ids:
        text = text.replace(one, "ID")
    return re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z|[a-z]+(-[a-z]+)*-[0-9a-f]{17}", "…", text)


def test_what_another_account_has_is_as_if_it_were_not(cloud, two):
    other, mine, theirs = two
    wrong, n, endpoint = [], 0, Endpoint(cloud)
    before = settled(endpoint)
    for method, member, wanted, question, none in every_question(other, mine, theirs):
        n += 1
        there, nowhere = answer(other, method, question, [wanted]), answer(other, method, none, [theirs.nobody(wanted)])
        if there != nowhere:
            wrong.append(f"{method} {member}={wanted}: {there[:200]} — of an id that nobody has: {nowhere[:200]}")
    now = settled(endpoint)
    wrong += [f"{what} of the first account changed" for what in now if now[what] != before[what]]
    assert n > 200 and not wrong, "\n".join(wrong[:60])


def test_no_list_shows_what_another_account_has(two):
    other, mine, theirs = two
    wrong = []
    for method in sorted(other.actions):
        service, action = method.split(".")
        if not re.match("Describe|List|Get", action) or service not in MODELS:
            continue
        is_known = action in MODELS[service].operation_names  # botocore here may be older
        shape = MODELS[service].operation_model(action).input_shape if is_known else None
        if shape and shape.required_members:
            continue
        try:
            text = json.dumps(other.call(method, {}))
        except Refused:
            continue
        if action == "DescribeImportImageTasks":
            continue  # it repeats what was asked for
        # Whole words: an address may be the beginning of another.
        wrong += [f"{method} shows {one}" for one in theirs.all if re.search(rf"\b{re.escape(one)}\b", text)]
    assert not wrong, "\n".join(wrong)


def test_what_aws_shares_is_shared(cloud, two):
    """A snapshot and an image by name and with all, a peering that the other side accepts, and a group over it."""
    other, mine, theirs = two
    e, snapshot, image = cloud.ec2, theirs.names["SnapshotId"], theirs.names["ImageId"]
    mine_vpc, their_vpc = mine.names["VpcId"], theirs.names["VpcId"]

    e.create_tags(Resources=[snapshot, image], Tags=[{"Key": "whose", "Value": "theirs"}])
    assert e.describe_images(Filters=[{"Name": "tag:whose", "Values": ["theirs"]}])["Images"]

    def seen():
        return [x["SnapshotId"] for x in other.describe_snapshots()["Snapshots"]], [x["ImageId"] for x in other.describe_images()["Images"]]

    for permission in ({"UserId": OTHER}, {"Group": "all"}):
        give = dict(SnapshotId=snapshot, Attribute="createVolumePermission", CreateVolumePermission={"Add": [permission]})
        e.modify_snapshot_attribute(**give)
        e.modify_image_attribute(ImageId=image, LaunchPermission={"Add": [permission]})
        assert snapshot in seen()[0] and image in seen()[1]
        # Not the owner's tags: they are shown to nobody else, nor found by, nor copied.
        shown = other.describe_snapshots(SnapshotIds=[snapshot])["Snapshots"] + other.describe_images(ImageIds=[image])["Images"]
        assert not any(x.get("Tags") for x in shown)
        for asked, name in ((other.describe_snapshots, "Snapshots"), (other.describe_images, "Images")):
            assert not asked(Filters=[{"Name": "tag:whose", "Values": ["theirs"]}])[name]
        # Whoever sees it tags it for himself, as long as he does: the first permission's tags are not there with the second.
        for one in (snapshot, image):
            other.create_tags(Resources=[one], Tags=[{"Key": "seen", "Value": "by me"}])
        for who, asked, name in ((who, *one) for who in (other, e) for one in (("describe_snapshots", "Snapshots"), ("describe_images", "Images"))):
            found = getattr(who, asked)(Filters=[{"Name": "tag:seen", "Values": ["by me"]}])[name]
            assert [x["Tags"] for x in found] == ([[{"Key": "seen", "Value": "by me"}]] if who is other else [])
        made = other.create_volume(SnapshotId=snapshot, AvailabilityZone=cloud.env["AWS_DEFAULT_REGION"] + "a")["VolumeId"]
        until(lambda: other.describe_volumes(VolumeIds=[made])["Volumes"][0]["State"] == "available")
        other.delete_volume(VolumeId=made)
        assert code_of(other.delete_snapshot, SnapshotId=snapshot) == "InvalidSnapshot.NotFound"
        assert code_of(other.deregister_image, ImageId=image) in ("InvalidAMIID.NotFound", "AuthFailure")
        assert code_of(other.modify_snapshot_attribute, **give) in ("InvalidSnapshot.NotFound", "AuthFailure")
        e.modify_snapshot_attribute(SnapshotId=snapshot, Attribute="createVolumePermission", CreateVolumePermission={"Remove": [permission]})
        e.modify_image_attribute(ImageId=image, LaunchPermission={"Remove": [permission]})
        assert snapshot not in seen()[0] and image not in seen()[1]
        assert code_of(other.create_volume, SnapshotId=snapshot, AvailabilityZone=cloud.env["AWS_DEFAULT_REGION"] + "a") == "InvalidSnapshot.NotFound"

    e.associate_vpc_cidr_block(VpcId=their_vpc, CidrBlock="10.96.0.0/16")
    far = other.create_vpc(CidrBlock="10.95.0.0/16")["Vpc"]["VpcId"]
    group = other.create_security_group(GroupName="far", Description="far", VpcId=far)["GroupId"]
    rule = [{"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": group, "UserId": OTHER}]}]
    refer = dict(GroupId=theirs.names["GroupId"], IpPermissions=rule)
    assert code_of(e.authorize_security_group_ingress, **refer) == "InvalidGroup.NotFound"
    peering = e.create_vpc_peering_connection(VpcId=their_vpc, PeerVpcId=far, PeerOwnerId=OTHER)["VpcPeeringConnection"]["VpcPeeringConnectionId"]
    assert code_of(e.accept_vpc_peering_connection, VpcPeeringConnectionId=peering) == "OperationNotPermitted"
    assert other.accept_vpc_peering_connection(VpcPeeringConnectionId=peering)["VpcPeeringConnection"]["Status"]["Code"] == "active"
    e.authorize_security_group_ingress(**refer)
    assert far not in json.dumps(e.describe_vpcs()["Vpcs"]) and mine_vpc not in json.dumps(e.describe_vpcs()["Vpcs"])
    e.revoke_security_group_ingress(**refer)
    other.delete_vpc_peering_connection(VpcPeeringConnectionId=peering)
