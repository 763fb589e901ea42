"""Images as users make and move them: from a running instance, to the other region, by blocks."""
import base64
import hashlib
import json
import os
import subprocess

import pytest

from conftest import TOP, code_of, until

FAST = {"Delay": 1, "MaxAttempts": 120}
BLOCK = 512 * 1024
BUILD = os.path.join(TOP, os.environ.get("GUREUM_BUILD", "build"))


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


def test_without_reboot_the_file_systems_are_frozen(cloud, moved):
    """What was written and not flushed is in the snapshot, and the guest goes on."""
    mark = "unsynced-" + os.urandom(8).hex()
    until(lambda: cloud.ec2.describe_instance_status(InstanceIds=[moved["instance"]])["InstanceStatuses"][0]["InstanceStatus"]["Status"] == "ok")
    cloud.ssh(moved["instance"], f"for i in $(seq 2000); do echo {mark}; done > /root/unsynced")
    made = cloud.ec2.create_image(InstanceId=moved["instance"], Name="without-reboot", NoReboot=True)["ImageId"]
    cloud.ec2.get_waiter("image_available").wait(ImageIds=[made], WaiterConfig=FAST)
    snapshot = cloud.ec2.describe_images(ImageIds=[made])["Images"][0]["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"]
    ebs = cloud.client("ebs")
    blocks = ebs.list_snapshot_blocks(SnapshotId=snapshot)["Blocks"]
    assert any(mark.encode() in ebs.get_snapshot_block(SnapshotId=snapshot, **b)["BlockData"].read() for b in blocks)
    assert cloud.ssh(moved["instance"], "echo thawed > /root/thawed; sync; cat /root/thawed") == "thawed\n"
    cloud.ec2.deregister_image(ImageId=made)
    cloud.ec2.delete_snapshot(SnapshotId=snapshot)


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


def boots_from(client, image, zone, snapshot):
    """A volume of the snapshot in that zone is the root of an instance there, which starts from it."""
    subnet = next(s["SubnetId"] for s in client.describe_subnets()["Subnets"] if s["AvailabilityZone"] == zone)
    volume = client.create_volume(AvailabilityZone=zone, SnapshotId=snapshot)["VolumeId"]
    instance = client.run_instances(ImageId=image, InstanceType="t3.nano", MinCount=1, MaxCount=1, SubnetId=subnet,
                                    UserData="#!/bin/sh\necho MOVED $(cat /root/moved)\n")["Instances"][0]["InstanceId"]
    try:
        client.get_waiter("instance_running").wait(InstanceIds=[instance], WaiterConfig=FAST)
        client.stop_instances(InstanceIds=[instance], Force=True)
        client.get_waiter("instance_stopped").wait(InstanceIds=[instance], WaiterConfig=FAST)
        root = client.describe_volumes(Filters=[{"Name": "attachment.instance-id", "Values": [instance]}])["Volumes"][0]["Attachments"][0]
        client.detach_volume(VolumeId=root["VolumeId"])
        client.get_waiter("volume_available").wait(VolumeIds=[root["VolumeId"], volume], WaiterConfig=FAST)
        client.attach_volume(VolumeId=volume, InstanceId=instance, Device=root["Device"])
        client.get_waiter("volume_in_use").wait(VolumeIds=[volume], WaiterConfig=FAST)
        client.start_instances(InstanceIds=[instance])
        until(lambda: "MOVED by its snapshot" in client.get_console_output(InstanceId=instance, Latest=True).get("Output", ""), 120, 0.5,
              "the file on the console")
    finally:
        client.terminate_instances(InstanceIds=[instance])
        client.get_waiter("instance_terminated").wait(InstanceIds=[instance], WaiterConfig=FAST)
    until(lambda: code_of(client.delete_volume, VolumeId=volume) == "")
    client.delete_volume(VolumeId=root["VolumeId"])


def test_a_snapshot_moves_a_system_to_another_zone_and_to_the_other_region(cloud, moved):
    cloud.wait_state(moved["instance"], "running")
    cloud.ssh(moved["instance"], "echo by its snapshot > /root/moved; sync", 120)
    placed = cloud.describe(moved["instance"])
    snapshot = cloud.ec2.create_snapshot(VolumeId=placed["BlockDeviceMappings"][0]["Ebs"]["VolumeId"])["SnapshotId"]
    zone = next(z for z in ("us-east-1b", "us-east-1c") if z != placed["Placement"]["AvailabilityZone"])
    there = moved["there"]
    copy = there.copy_snapshot(SourceRegion="us-east-1", SourceSnapshotId=snapshot)["SnapshotId"]
    boots_from(cloud.ec2, moved["image"], zone, snapshot)
    assert cloud.ec2.describe_image_attribute(ImageId=moved["image"], Attribute="lastLaunchedTime")["LastLaunchedTime"]["Value"].startswith("20")
    there.get_waiter("snapshot_completed").wait(SnapshotIds=[copy], WaiterConfig=FAST)
    cloud.ec2.delete_snapshot(SnapshotId=snapshot)
    boots_from(there, moved["copied"], "ap-northeast-2b", copy)
    there.delete_snapshot(SnapshotId=copy)


def test_a_copy_survives_the_death_of_its_makers(cloud):
    before = {s["SnapshotId"] for s in cloud.ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"]}
    made = cloud.ec2.copy_image(Name="survivor", SourceImageId=cloud.ami, SourceRegion="us-east-1", ClientToken="survivor")["ImageId"]
    cloud.kill("hvd")
    cloud.kill("stord")
    cloud.ec2.get_waiter("image_available").wait(ImageIds=[made], WaiterConfig=FAST)
    image = cloud.ec2.describe_images(ImageIds=[made])["Images"][0]
    after = {s["SnapshotId"] for s in cloud.ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"]}
    assert len(after - before) == 3, "disk, kernel and ramdisk, each copied once"
    assert cloud.ec2.copy_image(Name="survivor", SourceImageId=cloud.ami, SourceRegion="us-east-1", ClientToken="survivor")["ImageId"] == made
    cloud.ec2.deregister_image(ImageId=made)
    until(lambda: code_of(cloud.ec2.delete_snapshot, SnapshotId=image["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"]) == "")
    until(lambda: {s["SnapshotId"] for s in cloud.ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"]} <= before)  # others' parts may go, too


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


CALL = """
import json, socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect("/run/gureum/hvd.sock")
s.sendall(sys.argv[1].encode() + b"\\0")
reply = b""
while not reply.endswith(b"\\0"):
    reply += s.recv(65536) or sys.exit("gone")
print(reply[:-1].decode())
"""


def administrator(cloud, method, **parameters):
    """As the machine's administrator asks a daemon: over its socket, for nobody else."""
    context = {"account": cloud.sts.get_caller_identity()["Account"], "region": "us-east-1", "principal": "", "request": "test"}
    r = cloud.run("/usr/bin/python3", "-c", CALL, json.dumps({"method": method, "parameters": parameters, "context": context}))
    assert r.returncode == 0, r.stderr
    return json.loads(r.stdout)


def test_disks_of_another_hypervisor_become_an_image(cloud, tmp_path):
    disk = str(tmp_path / "disk.vmdk")
    subprocess.run(["qemu-img", "convert", "-O", "vmdk", "-o", "subformat=streamOptimized", os.path.join(BUILD, "image", "disk.qcow2"), disk], check=True)
    (tmp_path / "empty.raw").write_bytes(b"data" + bytes(1 << 20))
    containers = [{"Format": "VMDK", "Url": f"file://{disk}"}, {"Format": "RAW", "Url": f"file://{tmp_path}/empty.raw", "DeviceName": "/dev/sdf"}]
    begun = administrator(cloud, "ec2.ImportImage", DiskContainers=containers, Description="moved in", ClientToken="t")["parameters"]
    assert begun["Status"] == "active" and begun["ImportTaskId"].startswith("import-ami-")
    task = until(lambda: (t := cloud.ec2.describe_import_image_tasks(ImportTaskIds=[begun["ImportTaskId"]])["ImportImageTasks"][0])["Status"] != "active" and t)
    assert task["Status"] == "completed" and [d["Status"] for d in task["SnapshotDetails"]] == ["completed"] * 2, task
    image = cloud.ec2.describe_images(ImageIds=[task["ImageId"]])["Images"][0]
    assert image["Name"] == begun["ImportTaskId"] and image["Description"] == "moved in" and image["RootDeviceName"] == "/dev/sda1"
    assert [m["Ebs"]["SnapshotId"] for m in image["BlockDeviceMappings"]] == [d["SnapshotId"] for d in task["SnapshotDetails"]]
    assert code_of(cloud.ec2.cancel_import_task, ImportTaskId=begun["ImportTaskId"]) == "IncorrectState"
    cloud.ec2.deregister_image(ImageId=task["ImageId"])
    for d in task["SnapshotDetails"]:
        cloud.ec2.delete_snapshot(SnapshotId=d["SnapshotId"])


def test_a_bad_disk_is_no_image(cloud, tmp_path):
    (tmp_path / "bad.vhdx").write_bytes(b"vhdxfile" + bytes(1 << 20))
    begun = administrator(cloud, "ec2.ImportImage", DiskContainers=[{"Format": "VHDX", "Url": f"file://{tmp_path}/bad.vhdx"}])["parameters"]
    task = until(lambda: (t := cloud.ec2.describe_import_image_tasks(ImportTaskIds=[begun["ImportTaskId"]])["ImportImageTasks"][0])["Status"] != "active" and t)
    assert task["Status"] == "deleted" and task["StatusMessage"].startswith("ClientError: Disk validation failed ["), task
    (tmp_path / "bad.vmdk").write_bytes(b"# Disk DescriptorFile\nRW 1 FLAT \"/etc/shadow\" 0\n")
    refused = administrator(cloud, "ec2.ImportImage", DiskContainers=[{"Format": "VMDK", "Url": f"file://{tmp_path}/bad.vmdk"}])
    assert refused["error"] == "InvalidParameterValue" and "descriptor of other files" in refused["parameters"]["message"]


@pytest.mark.parametrize("call, parameters, code", [
    ("import_image", {"DiskContainers": [{"Format": "raw", "Url": "file:///etc/shadow"}]}, "UnauthorizedOperation"),
    ("import_image", {"DiskContainers": [{"Format": "raw", "UserBucket": {"S3Bucket": "b", "S3Key": "k"}}]}, "UnsupportedOperation"),
    ("import_image", {}, "MissingParameter"),
    ("export_image", {"ImageId": "ami-0123456789abcdef0", "DiskImageFormat": "RAW", "S3ExportLocation": {"S3Bucket": "b"}}, "UnsupportedOperation"),
    ("create_store_image_task", {"ImageId": "ami-0123456789abcdef0", "Bucket": "b"}, "UnsupportedOperation"),
    ("cancel_import_task", {"ImportTaskId": "import-ami-0123456789abcdef0"}, "InvalidConversionTaskId"),
    ("cancel_import_task", {"ImportTaskId": "import-snap-0123456789abcdef0"}, "InvalidConversionTaskId"),
    ("describe_import_image_tasks", {"ImportTaskIds": ["import-ami-0123456789abcdef0"]}, "InvalidConversionTaskId"),
    ("copy_image", {"Name": "abc", "SourceImageId": "ami-0123456789abcdef0", "SourceRegion": "us-east-1"}, "InvalidAMIID.NotFound"),
    ("create_image", {"Name": "abc", "InstanceId": "i-0123456789abcdef0"}, "InvalidInstanceID.NotFound"),
    ("create_image", {"Name": "abc", "InstanceId": "i-0123456789abcdef0", "DryRun": True}, "DryRunOperation"),
    ("copy_snapshot", {"SourceRegion": "us-east-1", "SourceSnapshotId": "snap-0123456789abcdef0"}, "InvalidSnapshot.NotFound"),
])
def test_bad_requests_get_the_errors_of_aws(cloud, call, parameters, code):
    assert code_of(getattr(cloud.ec2, call), **parameters) == code
