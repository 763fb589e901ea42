"""Images, key pairs, instance types, regions, and metadata as a guest sees it: by boto3 and the aws CLI against the running cloud."""
import base64
import hashlib
import json
import re
import subprocess

import pytest

from conftest import code_of, until

ACCOUNT = "123456789012"


def one(rows):
    assert len(rows) == 1, rows
    return rows[0]


@pytest.fixture
def image(cloud):
    """An image of ours on the default image's snapshot; gone afterwards."""
    base = one(cloud.ec2.describe_images(ImageIds=[cloud.ami])["Images"])
    snapshot = base["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"]
    made = cloud.ec2.register_image(Name="a test's", Architecture="x86_64", RootDeviceName="/dev/sda1", VirtualizationType="hvm",
                                    BlockDeviceMappings=[{"DeviceName": "/dev/sda1", "Ebs": {"SnapshotId": snapshot}}])["ImageId"]
    yield made, snapshot
    code_of(cloud.ec2.deregister_image, ImageId=made)


# ---- images ----

def test_the_default_image_is_found_as_customers_look_for_it(cloud):
    images = cloud.ec2.describe_images(Owners=["amazon"], Filters=[
        {"Name": "name", "Values": ["gureum-*"]}, {"Name": "architecture", "Values": ["x86_64"]}, {"Name": "state", "Values": ["available"]},
        {"Name": "image-type", "Values": ["machine"]}, {"Name": "root-device-type", "Values": ["ebs"]}])["Images"]
    row = one([i for i in images if i["ImageId"] == cloud.ami])
    root = one([m for m in row["BlockDeviceMappings"] if m["DeviceName"] == row["RootDeviceName"]])
    assert root["Ebs"]["SnapshotId"].startswith("snap-") and root["Ebs"]["VolumeSize"] >= 1
    assert row["Public"] and row["OwnerId"] == ACCOUNT and row["CreationDate"].endswith("Z")


def test_an_image_is_registered_described_and_gone(cloud, image):
    made, snapshot = image
    row = one(cloud.ec2.describe_images(ImageIds=[made])["Images"])
    assert (row["Name"], row["State"], row["RootDeviceType"], row["Public"]) == ("a test's", "available", "ebs", False)
    cloud.ec2.get_waiter("image_available").wait(ImageIds=[made], WaiterConfig={"Delay": 1, "MaxAttempts": 2})
    cloud.ec2.create_tags(Resources=[made], Tags=[{"Key": "of", "Value": "tests"}])
    found = cloud.ec2.describe_images(Filters=[{"Name": "tag:of", "Values": ["test?"]}])["Images"]
    assert one(found)["ImageId"] == made
    assert code_of(cloud.ec2.register_image, Name="a test's", RootDeviceName="/dev/sda1", BlockDeviceMappings=[
        {"DeviceName": "/dev/sda1", "Ebs": {"SnapshotId": snapshot}}]) == "InvalidAMIName.Duplicate"
    cloud.ec2.deregister_image(ImageId=made)
    assert cloud.ec2.describe_images(ImageIds=[made])["Images"] == []  # for an hour; then it is not found
    assert code_of(cloud.ec2.describe_images, ImageIds=["ami-00000000000000001"]) == "InvalidAMIID.NotFound"
    assert code_of(cloud.ec2.deregister_image, ImageId=made) == "InvalidAMIID.NotFound"


def test_a_snapshot_in_use_by_an_image_stays(cloud, image):
    assert code_of(cloud.ec2.delete_snapshot, SnapshotId=image[1]) == "InvalidSnapshot.InUse"


def test_kill_of_either_daemon_keeps_an_image_and_its_snapshot(cloud, image):
    made, snapshot = image
    for daemon in ("hvd", "stord"):
        cloud.kill(daemon)
        assert one(cloud.ec2.describe_images(ImageIds=[made])["Images"])["State"] == "available"
        assert code_of(cloud.ec2.delete_snapshot, SnapshotId=snapshot) == "InvalidSnapshot.InUse"


def test_image_attributes(cloud, image):
    made = image[0]
    cloud.ec2.modify_image_attribute(ImageId=made, Description={"Value": "words"})
    assert cloud.ec2.describe_image_attribute(ImageId=made, Attribute="description")["Description"]["Value"] == "words"
    cloud.ec2.modify_image_attribute(ImageId=made, LaunchPermission={"Add": [{"UserId": "999999999999"}, {"Group": "all"}]})
    permissions = cloud.ec2.describe_image_attribute(ImageId=made, Attribute="launchPermission")["LaunchPermissions"]
    assert {"Group": "all"} in permissions and {"UserId": "999999999999"} in permissions
    cloud.ec2.reset_image_attribute(ImageId=made, Attribute="launchPermission")
    assert cloud.ec2.describe_image_attribute(ImageId=made, Attribute="launchPermission")["LaunchPermissions"] == []
    assert cloud.ec2.describe_image_attribute(ImageId=made, Attribute="blockDeviceMapping")["BlockDeviceMappings"]


@pytest.mark.parametrize("code, parameters", [
    ("InvalidAMIName.Malformed", dict(Name="x")),
    ("InvalidBlockDeviceMapping", dict(Name="no devices")),
    ("InvalidSnapshot.NotFound", dict(Name="no snapshot", BlockDeviceMappings=[
        {"DeviceName": "/dev/sda1", "Ebs": {"SnapshotId": "snap-00000000000000000"}}])),
    ("InvalidSnapshotID.Malformed", dict(Name="no snapshot", BlockDeviceMappings=[
        {"DeviceName": "/dev/sda1", "Ebs": {"SnapshotId": "snap-x"}}])),
])
def test_bad_images_are_refused(cloud, code, parameters):
    before = len(cloud.ec2.describe_images()["Images"])
    assert code_of(cloud.ec2.register_image, **parameters) == code
    assert len(cloud.ec2.describe_images()["Images"]) == before


def test_what_is_ours_is_not_a_customers(cloud):
    """The members that make kernels and public images have no name on the wire."""
    r = cloud.aws("ec2", "register-image", "--name", "abc", "--cli-input-json", json.dumps({"Name": "abc", "_Public": True}))
    assert r.returncode != 0


def test_malformed_and_unknown_image_ids(cloud):
    assert code_of(cloud.ec2.describe_images, ImageIds=["ami-x"]) == "InvalidAMIID.Malformed"
    assert code_of(cloud.ec2.describe_images, ImageIds=["ami-00000000000000000"]) == "InvalidAMIID.NotFound"
    assert code_of(cloud.ec2.describe_images, Filters=[{"Name": "nonsense", "Values": ["x"]}]) == "InvalidParameterValue"


# ---- key pairs ----

@pytest.fixture
def key_name(cloud):
    yield "made here"
    cloud.ec2.delete_key_pair(KeyName="made here")


def run(*words, **more):
    return subprocess.run(words, capture_output=True, check=True, **more).stdout


@pytest.mark.parametrize("kind", ["rsa", "ed25519"])
def test_openssh_reads_a_made_key_and_the_fingerprint_is_its(cloud, key_name, kind, tmp_path):
    made = cloud.ec2.create_key_pair(KeyName=key_name, KeyType=kind)
    path = tmp_path / "key"
    path.write_text(made["KeyMaterial"])
    path.chmod(0o600)
    public = run("ssh-keygen", "-y", "-P", "", "-f", str(path)).decode()
    if kind == "rsa":
        der = run("openssl", "pkcs8", "-in", str(path), "-inform", "PEM", "-outform", "DER", "-topk8", "-nocrypt")
        assert made["KeyFingerprint"] == ":".join(f"{b:02x}" for b in hashlib.sha1(der).digest())
    else:
        blob = base64.b64decode(public.split()[1])
        assert made["KeyFingerprint"] == base64.b64encode(hashlib.sha256(blob).digest()).decode()
    row = one(cloud.ec2.describe_key_pairs(KeyNames=[key_name], IncludePublicKey=True)["KeyPairs"])
    assert row["PublicKey"].split()[:2] == public.split()[:2]
    assert (row["KeyType"], row["KeyFingerprint"], row["KeyPairId"]) == (kind, made["KeyFingerprint"], made["KeyPairId"])
    assert code_of(cloud.ec2.create_key_pair, KeyName=key_name) == "InvalidKeyPair.Duplicate"


def test_an_imported_key_has_the_fingerprint_of_its_public_key(cloud, key_name, tmp_path):
    path = tmp_path / "key"
    run("ssh-keygen", "-q", "-t", "rsa", "-b", "2048", "-N", "", "-m", "PEM", "-f", str(path))
    made = cloud.ec2.import_key_pair(KeyName=key_name, PublicKeyMaterial=(tmp_path / "key.pub").read_bytes())
    der = run("openssl", "rsa", "-in", str(path), "-pubout", "-outform", "DER")
    assert made["KeyFingerprint"] == ":".join(f"{b:02x}" for b in hashlib.md5(der).digest())


def test_bad_keys_are_refused(cloud):
    assert code_of(cloud.ec2.import_key_pair, KeyName="bad", PublicKeyMaterial=b"ssh-rsa nonsense") == "InvalidKey.Format"
    assert code_of(cloud.ec2.create_key_pair, KeyName="a\nb") == "InvalidParameterValue"
    assert code_of(cloud.ec2.describe_key_pairs, KeyNames=["bad"]) == "InvalidKeyPair.NotFound"
    cloud.ec2.delete_key_pair(KeyName="bad")  # as AWS: no error


def test_tags_of_key_pairs(cloud, key_name):
    made = cloud.ec2.create_key_pair(KeyName=key_name, KeyType="ed25519", TagSpecifications=[
        {"ResourceType": "key-pair", "Tags": [{"Key": "team", "Value": "구름"}]}])
    assert made["Tags"] == [{"Key": "team", "Value": "구름"}]
    row = one(cloud.ec2.describe_key_pairs(Filters=[{"Name": "tag:team", "Values": ["구*"]}])["KeyPairs"])
    assert row["KeyPairId"] == made["KeyPairId"]
    tags = cloud.ec2.describe_tags(Filters=[{"Name": "resource-type", "Values": ["key-pair"]}])["Tags"]
    assert one([t for t in tags if t["ResourceId"] == made["KeyPairId"]])["Value"] == "구름"


# ---- instance types, regions, zones ----

def test_instance_types(cloud):
    row = one(cloud.ec2.describe_instance_types(InstanceTypes=["m5.large"])["InstanceTypes"])
    assert (row["VCpuInfo"]["DefaultVCpus"], row["MemoryInfo"]["SizeInMiB"], row["NetworkInfo"]["MaximumNetworkInterfaces"]) == (2, 8192, 3)
    assert not row["BurstablePerformanceSupported"]
    pages = list(cloud.ec2.get_paginator("describe_instance_types").paginate(PaginationConfig={"PageSize": 10}))
    names = [t["InstanceType"] for p in pages for t in p["InstanceTypes"]]
    assert len(pages) > 5 and len(set(names)) == len(names) and {"t3.nano", "t2.micro", "r5.8xlarge"} <= set(names)
    burstable = cloud.ec2.describe_instance_types(Filters=[{"Name": "burstable-performance-supported", "Values": ["true"]},
                                                           {"Name": "processor-info.sustained-clock-speed-in-ghz", "Values": ["2.2"]}])
    assert {t["InstanceType"].split(".")[0] for t in burstable["InstanceTypes"]} == {"t3a"}
    assert code_of(cloud.ec2.describe_instance_types, InstanceTypes=["t9.huge"]) == "InvalidInstanceType"
    offered = cloud.ec2.describe_instance_type_offerings(LocationType="availability-zone",
                                                         Filters=[{"Name": "instance-type", "Values": ["t3.micro"]}])
    assert [o["Location"] for o in offered["InstanceTypeOfferings"]] == ["us-east-1a", "us-east-1b", "us-east-1c"]


def test_regions_and_zones(cloud):
    assert {r["RegionName"] for r in cloud.ec2.describe_regions()["Regions"]} == {"us-east-1", "ap-northeast-2"}
    assert code_of(cloud.ec2.describe_regions, RegionNames=["mars-1"]) == "InvalidParameterValue"
    far = cloud.client("ec2", region_name="ap-northeast-2")
    zones = far.describe_availability_zones(Filters=[{"Name": "zone-type", "Values": ["availability-zone"]}])["AvailabilityZones"]
    assert [(z["ZoneName"], z["ZoneId"]) for z in zones] == [
        ("ap-northeast-2a", "apne2-az1"), ("ap-northeast-2b", "apne2-az2"), ("ap-northeast-2c", "apne2-az3")]
    assert code_of(far.describe_availability_zones, ZoneNames=["us-east-1a"]) == "InvalidParameterValue"


def test_account_attributes_name_the_default_vpc(cloud):
    rows = {a["AttributeName"]: a["AttributeValues"][0]["AttributeValue"] for a in cloud.ec2.describe_account_attributes()["AccountAttributes"]}
    vpc = one(cloud.ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"])
    assert rows["default-vpc"] == vpc["VpcId"] and rows["supported-platforms"] == "VPC"
    assert cloud.ec2.get_ebs_encryption_by_default()["EbsEncryptionByDefault"] is False


# ---- metadata, in a guest ----

def http(cloud, instance, request):
    """Status and body of a request that the guest writes itself."""
    answer = cloud.http(instance, request)
    head, _, body = answer.partition("\n\n" if "\r" not in answer else "\r\n\r\n")
    return int(head.split()[1]), body


def get(cloud, instance, path, *headers):
    return http(cloud, instance, "\n".join([f"GET {path} HTTP/1.1", "Host: 169.254.169.254", "Connection: close", *headers, "", ""]))


def test_metadata_is_what_the_api_says(cloud, guest):
    row = cloud.describe(guest)
    card = one(row["NetworkInterfaces"])
    mac = f"/latest/meta-data/network/interfaces/macs/{card['MacAddress']}"
    subnet = one(cloud.ec2.describe_subnets(SubnetIds=[row["SubnetId"]])["Subnets"])
    vpc = one(cloud.ec2.describe_vpcs(VpcIds=[row["VpcId"]])["Vpcs"])
    for path, want in {
        "/latest/meta-data/instance-id": guest,
        "/latest/meta-data/ami-id": cloud.ami,
        "/latest/meta-data/instance-type": "t3.micro",
        "/latest/meta-data/local-ipv4": row["PrivateIpAddress"],
        "/latest/meta-data/public-ipv4": row["PublicIpAddress"],
        "/latest/meta-data/placement/availability-zone": row["Placement"]["AvailabilityZone"],
        "/latest/meta-data/placement/availability-zone-id": subnet["AvailabilityZoneId"],
        "/latest/meta-data/public-keys/": f"0={cloud.key_name}",
        "/2021-03-23/meta-data/mac": card["MacAddress"],
        f"{mac}/subnet-ipv4-cidr-block": subnet["CidrBlock"],
        f"{mac}/vpc-ipv4-cidr-block": vpc["CidrBlock"],
        f"{mac}/owner-id": ACCOUNT,
    }.items():
        assert get(cloud, guest, path) == (200, want), path
    document = json.loads(get(cloud, guest, "/latest/dynamic/instance-identity/document")[1])
    assert (document["instanceId"], document["accountId"], document["region"]) == (guest, ACCOUNT, "us-east-1")
    assert get(cloud, guest, "/latest/user-data")[1].startswith("#!/bin/sh\necho USER-DATA-RAN")


def test_version_2_tokens(cloud, guest):
    status, token = http(cloud, guest, "PUT /latest/api/token HTTP/1.1\nHost: x\nX-aws-ec2-metadata-token-ttl-seconds: 60\nConnection: close\n\n")
    assert status == 200 and re.fullmatch(r"[A-Za-z0-9+/=]{56}", token)
    assert get(cloud, guest, "/latest/meta-data/instance-id", f"X-aws-ec2-metadata-token: {token}") == (200, guest)
    assert get(cloud, guest, "/latest/meta-data/instance-id", "X-aws-ec2-metadata-token: wrong")[0] == 401
    assert http(cloud, guest, "PUT /latest/api/token HTTP/1.1\nHost: x\nConnection: close\n\n")[0] == 400
    assert http(cloud, guest, "PUT /latest/api/token HTTP/1.1\nHost: x\nX-Forwarded-For: 1.2.3.4\n"
                "X-aws-ec2-metadata-token-ttl-seconds: 60\nConnection: close\n\n")[0] == 403
    cloud.kill("hvd")
    # It is ready before netd has given it the VPC's sockets again.
    router = f"gureum-{cloud.describe(guest)['VpcId']}"
    until(lambda: "169.254.169.254:80 " in cloud.out("ip", "netns", "exec", router, "ss", "-Hltn"), told="metadata is served again")
    assert get(cloud, guest, "/latest/meta-data/instance-id", f"X-aws-ec2-metadata-token: {token}") == (200, guest)


def test_what_is_not_there_is_404_in_the_services_form(cloud, guest):
    status, body = get(cloud, guest, "/latest/meta-data/nothing")
    assert status == 404 and "<title>404 - Not Found</title>" in body
