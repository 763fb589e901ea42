"""Images as users make and move them: from a running instance, to the other region, by blocks."""
import base64
import hashlib

import pytest

from conftest import code_of, until

FAST = {"Delay": 1, "MaxAttempts": 120}
BLOCK = 512 * 1024


@pytest.fixture(scope="module")
def moved(cloud):
    """An instance with a file of its own, an image of it, and that image in the other region."""
    instance = cloud.launch()[0]
    cloud.wait_state(instance, "running")
    cloud.ssh(instance, "echo written-before > /root/mark")  # not synced: the reboot does that
    boot = cloud.ssh(instance, "cat /proc/sys/kernel/random/boot_id")
    made = cloud.ec2.create_image(InstanceId=instance, Name="of-an-instance", Description="d", TagSpecifications=[
        {"ResourceType": "image", "Tags": [{"Key": "k", "Value": "v"}]}])["ImageId"]
    assert cloud.ec2.describe_images(ImageIds=[made])["Images"][0]["State"] in ("pending", "available")
    cloud.ec2.get_waiter("image_available").wait(ImageIds=[made], WaiterConfig=FAST)
    there = cloud.client("ec2", region_name="ap-northeast-2")
    copied = there.copy_image(Name="moved", SourceImageId=made, SourceRegion="us-east-1", CopyImageTags=True)["ImageId"]
    there.get_waiter("image_available").wait(ImageIds=[copied], WaiterConfig=FAST)
    yield {"instance": instance, "image": made, "there": there, "copied": copied, "boot": boot}
    there.deregister_image(ImageId=copied)
    cloud.ec2.deregister_image(ImageId=made)


def test_an_image_of_an_instance_describes_itself(cloud, moved):
    image = cloud.ec2.describe_images(Filters=[{"Name": "source-instance-id", "Values": [moved["instance"]]}])["Images"][0]
    assert image["ImageId"] == moved["image"] and image["State"] == "available" and image["Tags"] == [{"Key": "k", "Value": "v"}]
    source = cloud.ec2.describe_images(ImageIds=[cloud.ami])["Images"][0]
    assert image["KernelId"] == source["KernelId"] and image["RootDeviceName"] == source["RootDeviceName"]
    snapshot = image["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"]
    row = cloud.ec2.describe_snapshots(SnapshotIds=[snapshot])["Snapshots"][0]
    assert row["Description"] == f"Created by CreateImage({moved['instance']}) for {moved['image']}" and row["State"] == "completed"
    assert code_of(cloud.ec2.delete_snapshot, SnapshotId=snapshot) == "InvalidSnapshot.InUse"


def test_the_instance_was_rebooted_for_it(cloud, moved):
    cloud.wait_state(moved["instance"], "running")
    mark, boot = cloud.ssh(moved["instance"], "cat /root/mark /proc/sys/kernel/random/boot_id", 120).split()
    assert mark == "written-before" and boot != moved["boot"].strip()


def test_the_image_boots_in_the_other_region(cloud, moved):
    there = moved["there"]
    image = there.describe_images(ImageIds=[moved["copied"]])["Images"][0]
    assert image["Tags"] == [{"Key": "k", "Value": "v"}] and image["KernelId"].startswith("aki-") and not image["Public"]
    instance = there.run_instances(ImageId=moved["copied"], InstanceType="t3.nano", MinCount=1, MaxCount=1,
                                   UserData="#!/bin/sh\necho MARK-IS $(cat /root/mark)\n")["Instances"][0]["InstanceId"]
    try:
        until(lambda: "MARK-IS written-before" in there.get_console_output(InstanceId=instance, Latest=True).get("Output", ""), 120, 0.5,
              "the file on the console")
    finally:
        there.terminate_instances(InstanceIds=[instance])
        there.get_waiter("instance_terminated").wait(InstanceIds=[instance], WaiterConfig=FAST)


def test_a_backup_by_blocks_over_http(cloud):
    ebs, data = cloud.client("ebs"), bytes(range(256)) * 2048
    put = dict(BlockData=data, DataLength=BLOCK, Checksum=base64.b64encode(hashlib.sha256(data).digest()).decode(), ChecksumAlgorithm="SHA256")
    snapshot = ebs.start_snapshot(VolumeSize=1, Tags=[{"Key": "a", "Value": "b"}])["SnapshotId"]
    ebs.put_snapshot_block(SnapshotId=snapshot, BlockIndex=7, **put)
    with pytest.raises(ebs.exceptions.ValidationException) as caught:
        ebs.put_snapshot_block(SnapshotId=snapshot, BlockIndex=2048, **put)
    assert caught.value.response["Reason"] == "INVALID_BLOCK"
    assert ebs.complete_snapshot(SnapshotId=snapshot, ChangedBlocksCount=1)["Status"] == "completed"
    cloud.ec2.get_waiter("snapshot_completed").wait(SnapshotIds=[snapshot], WaiterConfig=FAST)
    page = ebs.list_snapshot_blocks(SnapshotId=snapshot)
    assert [b["BlockIndex"] for b in page["Blocks"]] == [7] and page["BlockSize"] == BLOCK and page["VolumeSize"] == 1
    got = ebs.get_snapshot_block(SnapshotId=snapshot, BlockIndex=7, BlockToken=page["Blocks"][0]["BlockToken"])
    assert got["BlockData"].read() == data and got["Checksum"] == put["Checksum"]
    with pytest.raises(ebs.exceptions.ResourceNotFoundException):
        ebs.list_snapshot_blocks(SnapshotId="snap-0123456789abcdef0")
    cloud.ec2.delete_snapshot(SnapshotId=snapshot)
