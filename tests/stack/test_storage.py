"""Volumes and snapshots as customers' tools see them, and the root volume of a running guest."""
import pytest

from conftest import ask, code_of


@pytest.fixture
def volume(cloud):
    made = cloud.ec2.create_volume(AvailabilityZone="us-east-1a", Size=1, VolumeType="gp3", TagSpecifications=[
        {"ResourceType": "volume", "Tags": [{"Key": "Name", "Value": "of a test"}]}])["VolumeId"]
    cloud.ec2.get_waiter("volume_available").wait(VolumeIds=[made], WaiterConfig={"Delay": 1, "MaxAttempts": 120})
    yield made
    assert code_of(cloud.ec2.delete_volume, VolumeId=made) in ("", "InvalidVolume.NotFound")


@pytest.fixture
def keep(cloud):
    """Makes a rule of the recycle bin; it goes with the test, for it would keep what others delete."""
    made, rbin = [], cloud.client("rbin")

    def make(kind, days, **more):
        period = {"RetentionPeriodValue": days, "RetentionPeriodUnit": "DAYS"}
        made.append(rbin.create_rule(ResourceType=kind, RetentionPeriod=period, **more)["Identifier"])
        return made[-1]

    yield make
    for rule in made:
        assert code_of(rbin.delete_rule, Identifier=rule) in ("", "ResourceNotFoundException")


@pytest.fixture
def unblocked(cloud):
    """What the test forbids to share is allowed again."""
    yield
    ask(cloud, "DisableSnapshotBlockPublicAccess")
    ask(cloud, "DisableImageBlockPublicAccess")


def test_a_volume_lives_and_goes(cloud, volume):
    row = cloud.ec2.describe_volumes(VolumeIds=[volume])["Volumes"][0]
    assert (row["Size"], row["VolumeType"], row["Iops"], row["Throughput"]) == (1, "gp3", 3000, 125)
    assert row["SnapshotId"] == "" and row["Attachments"] == [] and row["Encrypted"] is False
    assert row["MultiAttachEnabled"] is False and row["CreateTime"].year >= 2024
    assert row["Tags"] == [{"Key": "Name", "Value": "of a test"}]
    cloud.ec2.delete_volume(VolumeId=volume)
    cloud.ec2.get_waiter("volume_deleted").wait(VolumeIds=[volume], WaiterConfig={"Delay": 1, "MaxAttempts": 120})


def test_volumes_are_found_by_tag_and_told_apart(cloud, volume):
    cloud.ec2.create_tags(Resources=[volume], Tags=[{"Key": "storage-test", "Value": volume}])
    found = cloud.ec2.describe_volumes(Filters=[{"Name": "tag:storage-test", "Values": ["vol-*"]}])["Volumes"]
    assert [v["VolumeId"] for v in found] == [volume]
    tags = cloud.ec2.describe_tags(Filters=[{"Name": "resource-id", "Values": [volume]}])["Tags"]
    assert {(t["Key"], t["ResourceType"]) for t in tags} == {("Name", "volume"), ("storage-test", "volume")}
    cloud.ec2.delete_tags(Resources=[volume], Tags=[{"Key": "storage-test"}])
    assert cloud.ec2.describe_volumes(Filters=[{"Name": "tag-key", "Values": ["storage-test"]}])["Volumes"] == []
    status = cloud.ec2.describe_volume_status(VolumeIds=[volume])["VolumeStatuses"][0]
    assert status["VolumeStatus"]["Status"] == "ok"
    attribute = cloud.ec2.describe_volume_attribute(VolumeId=volume, Attribute="autoEnableIO")
    assert attribute["AutoEnableIO"] == {"Value": False}


@pytest.mark.parametrize("call, parameters, code", [
    ("describe_volumes", {"VolumeIds": ["vol-1"]}, "InvalidVolumeID.Malformed"),
    ("describe_volumes", {"VolumeIds": ["vol-0123456789abcdef0"]}, "InvalidVolume.NotFound"),
    ("describe_volumes", {"Filters": [{"Name": "colour", "Values": ["red"]}]}, "InvalidParameterValue"),
    ("describe_volumes", {"NextToken": "made-up"}, "InvalidNextToken"),
    ("create_volume", {"AvailabilityZone": "us-east-1a"}, "MissingParameter"),
    ("create_volume", {"AvailabilityZone": "us-east-1z", "Size": 1}, "InvalidZone.NotFound"),
    ("create_volume", {"AvailabilityZone": "us-east-1a", "Size": 1, "VolumeType": "st1"}, "InvalidParameterValue"),
    ("create_volume", {"AvailabilityZone": "us-east-1a", "Size": 1, "DryRun": True}, "DryRunOperation"),
    ("delete_volume", {"VolumeId": "vol-0123456789abcdef0"}, "InvalidVolume.NotFound"),
    ("describe_snapshots", {"SnapshotIds": ["snap-0123456789abcdef0"]}, "InvalidSnapshot.NotFound"),
    ("delete_snapshot", {"SnapshotId": "snap-x"}, "InvalidSnapshotID.Malformed"),
    ("import_snapshot", {"DiskContainer": {"Format": "raw", "Url": "file:///etc/shadow"}}, "UnauthorizedOperation"),
])
def test_bad_requests_get_the_errors_of_aws(cloud, call, parameters, code):
    assert code_of(getattr(cloud.ec2, call), **parameters) == code


def test_a_snapshot_that_an_image_needs_stays(cloud):
    image = cloud.ec2.describe_images(ImageIds=[cloud.ami])["Images"][0]
    snapshot = image["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"]
    row = cloud.ec2.describe_snapshots(SnapshotIds=[snapshot], OwnerIds=["self"])["Snapshots"][0]
    assert (row["State"], row["Progress"]) == ("completed", "100%")
    assert code_of(cloud.ec2.delete_snapshot, SnapshotId=snapshot) == "InvalidSnapshot.InUse"


def test_the_root_volume_of_a_guest_is_seen_and_kept(cloud, guest):
    mapping = cloud.describe(guest)["BlockDeviceMappings"][0]
    row = cloud.ec2.describe_volumes(Filters=[{"Name": "attachment.instance-id", "Values": [guest]}])["Volumes"][0]
    assert row["VolumeId"] == mapping["Ebs"]["VolumeId"] and row["State"] == "in-use"
    attachment = row["Attachments"][0]
    assert (attachment["InstanceId"], attachment["State"]) == (guest, "attached")
    assert attachment["Device"] == mapping["DeviceName"] and attachment["DeleteOnTermination"] is True
    assert code_of(cloud.ec2.delete_volume, VolumeId=row["VolumeId"]) == "VolumeInUse"


def test_pages_of_volumes_join(cloud):
    made = {cloud.ec2.create_volume(AvailabilityZone="us-east-1b", Size=1)["VolumeId"] for _ in range(11)}
    pages = cloud.ec2.get_paginator("describe_volumes").paginate(PaginationConfig={"PageSize": 5},
                                                                 Filters=[{"Name": "volume-id", "Values": sorted(made)}])
    seen = [v["VolumeId"] for page in pages for v in page["Volumes"]]
    assert len(seen) == 11 and set(seen) == made
    for volume in made:
        cloud.ec2.delete_volume(VolumeId=volume)


def test_stord_comes_back_with_all_it_answered(cloud, volume):
    before = cloud.ec2.describe_volumes(VolumeIds=[volume])["Volumes"]
    cloud.kill("stord")
    assert cloud.ec2.describe_volumes(VolumeIds=[volume])["Volumes"] == before


def test_a_rule_of_the_recycle_bin_keeps_a_deleted_snapshot(cloud, volume, keep):
    rbin = cloud.client("rbin")
    rule = keep("EBS_SNAPSHOT", 2, ResourceTags=[{"ResourceTagKey": "keep", "ResourceTagValue": "1"}], Description="kept")
    assert [r["Identifier"] for r in rbin.list_rules(ResourceType="EBS_SNAPSHOT")["Rules"]] == [rule]
    tags = [{"ResourceType": "snapshot", "Tags": [{"Key": "keep", "Value": "1"}]}]
    snapshot = cloud.ec2.create_snapshot(VolumeId=volume, TagSpecifications=tags)["SnapshotId"]
    cloud.ec2.delete_snapshot(SnapshotId=snapshot)
    assert [s["SnapshotId"] for s in cloud.ec2.list_snapshots_in_recycle_bin()["Snapshots"]] == [snapshot]
    arn = f"arn:aws:rbin:us-east-1:{cloud.sts.get_caller_identity()['Account']}:rule/{rule}"
    rbin.tag_resource(ResourceArn=arn, Tags=[{"Key": "team", "Value": "storage"}, {"Key": "old", "Value": "1"}])
    rbin.untag_resource(ResourceArn=arn, TagKeys=["old"])
    assert rbin.list_tags_for_resource(ResourceArn=arn)["Tags"] == [{"Key": "team", "Value": "storage"}]
    assert rbin.update_rule(Identifier=rule, Description="other")["Description"] == rbin.get_rule(Identifier=rule)["Description"] == "other"
    rbin.delete_rule(Identifier=rule)
    with pytest.raises(rbin.exceptions.ResourceNotFoundException) as caught:
        rbin.get_rule(Identifier=rule)
    assert caught.value.response["Reason"] == "RULE_NOT_FOUND"
    with pytest.raises(rbin.exceptions.ValidationException):
        rbin.create_rule(ResourceType="EBS_LUN", RetentionPeriod={"RetentionPeriodValue": 2, "RetentionPeriodUnit": "DAYS"})
    cloud.ec2.restore_snapshot_from_recycle_bin(SnapshotId=snapshot)
    cloud.ec2.delete_snapshot(SnapshotId=snapshot)


def test_a_deleted_volume_is_restored_and_a_snapshot_locked_by_newer_clients(cloud, volume, keep, unblocked):
    rule = keep("EBS_VOLUME", 1)
    before = cloud.ec2.describe_volumes(VolumeIds=[volume])["Volumes"]
    cloud.ec2.delete_volume(VolumeId=volume)
    assert code_of(cloud.ec2.describe_volumes, VolumeIds=[volume]) == "InvalidVolume.NotFound"
    listed = ask(cloud, "ListVolumesInRecycleBin", **{"VolumeId.1": volume})
    assert f"<volumeSet><item><volumeId>{volume}</volumeId>" in listed and "<recycleBinExitTime>" in listed, listed
    assert "<return>true</return>" in ask(cloud, "RestoreVolumeFromRecycleBin", VolumeId=volume)
    assert cloud.ec2.describe_volumes(VolumeIds=[volume])["Volumes"] == before
    snapshot = cloud.ec2.create_snapshot(VolumeId=volume)["SnapshotId"]
    answer = ask(cloud, "LockSnapshot", SnapshotId=snapshot, LockMode="governance", ExpirationDate="2099-01-01T00:00:00.000Z")
    assert "<lockState>governance</lockState>" in answer and "<lockExpiresOn>2099-01-01T00:00:00.000Z" in answer, answer
    assert code_of(cloud.ec2.delete_snapshot, SnapshotId=snapshot) == "SnapshotLocked"
    assert "<snapshotSet><item>" in ask(cloud, "DescribeLockedSnapshots", **{"SnapshotId.1": snapshot})
    ask(cloud, "UnlockSnapshot", SnapshotId=snapshot)
    cloud.ec2.delete_snapshot(SnapshotId=snapshot)
    assert "<state>block-new-sharing</state>" in ask(cloud, "EnableSnapshotBlockPublicAccess", State="block-new-sharing")
    assert "<state>unblocked</state>" in ask(cloud, "DisableSnapshotBlockPublicAccess")
    cloud.client("rbin").delete_rule(Identifier=rule)
    # A locked rule stays for a week: in the other region, whose disks no other test takes away.
    rbin = cloud.client("rbin", region_name="ap-northeast-2")
    days = {"RetentionPeriodValue": 1, "RetentionPeriodUnit": "DAYS"}
    made = rbin.create_rule(ResourceType="EBS_VOLUME", RetentionPeriod=days, LockConfiguration={"UnlockDelay": {"UnlockDelayValue": 7, "UnlockDelayUnit": "DAYS"}})
    assert made["LockState"] == "locked"
    with pytest.raises(rbin.exceptions.ConflictException):
        rbin.delete_rule(Identifier=made["Identifier"])


def test_a_deregistered_image_is_restored_with_its_name_and_snapshots(cloud, volume, keep):
    keep("EC2_IMAGE", 30, ResourceTags=[{"ResourceTagKey": "keep"}])
    snapshot = cloud.ec2.create_snapshot(VolumeId=volume)["SnapshotId"]
    image = cloud.ec2.register_image(Name="of-a-test-of-the-bin", RootDeviceName="/dev/xvda",
                                     BlockDeviceMappings=[{"DeviceName": "/dev/xvda", "Ebs": {"SnapshotId": snapshot}}])["ImageId"]
    cloud.ec2.create_tags(Resources=[image], Tags=[{"Key": "keep", "Value": "yes"}])
    before = cloud.ec2.describe_images(ImageIds=[image])["Images"]
    cloud.ec2.deregister_image(ImageId=image)
    row, = cloud.ec2.list_images_in_recycle_bin(ImageIds=[image])["Images"]
    assert row["Name"] == "of-a-test-of-the-bin" and (row["RecycleBinExitTime"] - row["RecycleBinEnterTime"]).days == 30
    assert cloud.ec2.describe_images(Owners=["self"], Filters=[{"Name": "name", "Values": ["of-a-test*"]}])["Images"] == []
    assert code_of(cloud.ec2.run_instances, ImageId=image, MinCount=1, MaxCount=1, InstanceType="t3.nano") == "InvalidAMIID.NotFound"
    cloud.ec2.create_tags(Resources=[image], Tags=[{"Key": "while", "Value": "in the bin"}])
    tags = cloud.ec2.describe_tags(Filters=[{"Name": "resource-id", "Values": [image]}])["Tags"]
    assert [(t["Key"], t["ResourceType"]) for t in tags] == [("keep", "image"), ("while", "image")]
    cloud.ec2.delete_tags(Resources=[image], Tags=[{"Key": "while"}])
    cloud.kill("hvd")
    cloud.ec2.restore_image_from_recycle_bin(ImageId=image)
    assert cloud.ec2.describe_images(ImageIds=[image])["Images"] == before
    assert code_of(cloud.ec2.delete_snapshot, SnapshotId=snapshot) == "InvalidSnapshot.InUse"
    assert cloud.ec2.list_images_in_recycle_bin()["Images"] == []
    # Without its snapshot it cannot come back.
    cloud.ec2.deregister_image(ImageId=image)
    cloud.ec2.delete_snapshot(SnapshotId=snapshot)
    assert code_of(cloud.ec2.restore_image_from_recycle_bin, ImageId=image) == "InvalidSnapshot.NotFound"
    assert [i["ImageId"] for i in cloud.ec2.list_images_in_recycle_bin()["Images"]] == [image]


def test_an_image_is_not_made_public_where_that_is_blocked(cloud, volume, unblocked):
    snapshot = cloud.ec2.create_snapshot(VolumeId=volume)["SnapshotId"]
    image = cloud.ec2.register_image(Name="not-public", RootDeviceName="/dev/xvda",
                                     BlockDeviceMappings=[{"DeviceName": "/dev/xvda", "Ebs": {"SnapshotId": snapshot}}])["ImageId"]
    public = {"ImageId": image, "LaunchPermission": {"Add": [{"Group": "all"}]}}
    assert "block-new-sharing" in ask(cloud, "EnableImageBlockPublicAccess", ImageBlockPublicAccessState="block-new-sharing")
    assert code_of(cloud.ec2.modify_image_attribute, **public) == "OperationNotPermitted"
    assert "<imageBlockPublicAccessState>block-new-sharing<" in ask(cloud, "GetImageBlockPublicAccessState")
    assert "<imageBlockPublicAccessState>unblocked<" in ask(cloud, "DisableImageBlockPublicAccess")
    cloud.ec2.modify_image_attribute(**public)
    cloud.ec2.deregister_image(ImageId=image)
    cloud.ec2.delete_snapshot(SnapshotId=snapshot)
