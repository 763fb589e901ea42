"""Volumes and snapshots: what customers and hvd are promised."""
import os
import subprocess
import threading

import pytest

from conftest import Fault, until


def qemu_io(path, *commands):
    arguments = [a for c in commands for a in ("-c", c)]
    r = subprocess.run(["qemu-io", *arguments, path], capture_output=True, text=True)
    assert r.returncode == 0 and "failed" not in r.stdout + r.stderr, r.stdout + r.stderr


def test_a_new_volume_becomes_available(stord):
    made = stord("ec2.CreateVolume", AvailabilityZone="us-east-1a", Size=10,
                 TagSpecifications=[{"ResourceType": "volume", "Tags": [{"Key": "Name", "Value": "v"}]}])
    assert made["State"] == "creating" and made["Iops"] == 100 and made["VolumeType"] == "gp2"
    stord.available(made["VolumeId"])
    shown = stord.volume(made["VolumeId"])
    assert shown["Size"] == 10 and shown["SnapshotId"] == "" and shown["Encrypted"] is False
    assert shown["MultiAttachEnabled"] is False and shown["Attachments"] == []
    assert shown["Tags"] == [{"Key": "Name", "Value": "v"}]
    assert stord.files() == {f"zones/us-east-1a/volumes/{made['VolumeId']}.qcow2"}


@pytest.mark.parametrize("parameters, code", [
    ({}, "MissingParameter"),
    ({"Size": 0}, "InvalidParameterValue"),
    ({"Size": -8}, "InvalidParameterValue"),
    ({"Size": 16385}, "InvalidParameterValue"),
    ({"Size": 8, "AvailabilityZone": "us-east-1z"}, "InvalidZone.NotFound"),
    ({"Size": 8, "AvailabilityZone": "ap-northeast-2a"}, "InvalidZone.NotFound"),
    ({"Size": 8, "AvailabilityZone": "../../etc"}, "InvalidZone.NotFound"),
    ({"Size": 8, "VolumeType": "io1"}, "MissingParameter"),
    ({"Size": 8, "Iops": 100}, "InvalidParameterCombination"),
    ({"Size": 8, "KmsKeyId": "alias/mine"}, "InvalidParameterDependency"),
    ({"SnapshotId": "snap-1"}, "InvalidSnapshotID.Malformed"),
    ({"SnapshotId": "snap-0123456789abcdef0"}, "InvalidSnapshot.NotFound"),
    ({"Size": 8, "TagSpecifications": [{"ResourceType": "instance", "Tags": [{"Key": "a"}]}]}, "InvalidParameterValue"),
    ({"Size": 8, "TagSpecifications": [{"ResourceType": "volume", "Tags": [{"Key": "aws:a"}]}]}, "InvalidParameterValue"),
])
def test_what_aws_refuses_is_refused(stord, parameters, code):
    stord.refused(code, "ec2.CreateVolume", **{"AvailabilityZone": "us-east-1a", **parameters})
    assert stord("ec2.DescribeVolumes")["Volumes"] == [] and stord.files() == set()


def test_a_client_token_makes_one_volume(stord):
    first = stord.create(Size=8, ClientToken="t")
    assert stord.create(Size=8, ClientToken="t") == first
    stord.refused("IdempotentParameterMismatch", "ec2.CreateVolume", AvailabilityZone="us-east-1a", Size=9, ClientToken="t")
    made = set()
    threads = [threading.Thread(target=lambda: made.add(stord.create(Size=8, ClientToken="many"))) for _ in range(8)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert len(made) == 1 and len(stord("ec2.DescribeVolumes")["Volumes"]) == 2


def test_a_root_volume_is_born_attached_and_goes_by_force(stord, images):
    snapshot = stord.snapshot(images["disk"])
    volume = stord("ec2.CreateVolume", AvailabilityZone="us-east-1b", SnapshotId=snapshot, VolumeType="gp3",
                   _InstanceId="i-0123456789abcdef0", _Device="/dev/xvda", _DeleteOnTermination=True)
    assert volume["State"] == "in-use" and volume["Size"] == 2 and volume["Attachments"][0]["State"] == "attaching"
    attach = dict(VolumeId=volume["VolumeId"], InstanceId="i-0123456789abcdef0", Device="/dev/xvda")
    answer = stord("ec2.AttachVolume", **attach)
    assert answer["State"] == "attached" and answer["_Format"] == "qcow2"
    assert stord("ec2.AttachVolume", **attach) == answer, "safe to repeat"
    qemu_io(answer["_Path"], "read -P 0x41 1M 2M", "read -P 0 3M 1M", "write -P 0x42 2000M 1M")
    assert subprocess.run(["qemu-img", "check", "-q", answer["_Path"]]).returncode == 0
    stord.refused("VolumeInUse", "ec2.AttachVolume", **{**attach, "InstanceId": "i-00000000000000000"})
    stord.refused("VolumeInUse", "ec2.DeleteVolume", VolumeId=volume["VolumeId"])
    for name, value in (("attachment.instance-id", "i-0123456789abcdef0"), ("attachment.status", "attached"),
                        ("attachment.delete-on-termination", "true"), ("status", "in-use"), ("snapshot-id", snapshot),
                        ("size", "2"), ("availability-zone", "us-east-1b"), ("volume-type", "gp3")):
        found = stord("ec2.DescribeVolumes", Filters=[{"Name": name, "Values": [value]}])["Volumes"]
        assert [v["VolumeId"] for v in found] == [volume["VolumeId"]], name
    stord("ec2.DeleteVolume", VolumeId=volume["VolumeId"], _Force=True)
    assert stord.files() == {f"snapshots/{snapshot}.qcow2"}
    stord.refused("InvalidVolume.NotFound", "ec2.DeleteVolume", VolumeId=volume["VolumeId"], _Force=True)


def test_a_volume_is_attached_detached_and_kept(stord):
    volume = stord.create(Size=8)
    stord.available(volume)
    answer = stord("ec2.AttachVolume", VolumeId=volume, InstanceId="i-0123456789abcdef0", Device="/dev/sdf")
    qemu_io(answer["_Path"], "write -P 0x43 0 1M")
    assert stord.volume(volume)["State"] == "in-use"
    stord.refused("InvalidAttachment.NotFound", "ec2.DetachVolume", VolumeId=volume, InstanceId="i-00000000000000000")
    stord("ec2.DetachVolume", VolumeId=volume)
    assert stord.volume(volume)["State"] == "available" and stord.volume(volume)["Attachments"] == []
    stord.refused("IncorrectState", "ec2.DetachVolume", VolumeId=volume)
    again = stord("ec2.AttachVolume", VolumeId=volume, InstanceId="i-00000000000000000", Device="/dev/sdg")
    qemu_io(again["_Path"], "read -P 0x43 0 1M")


def test_a_volume_outlives_its_snapshot(stord, images):
    snapshot = stord.snapshot(images["disk"])
    one, two = stord.create(SnapshotId=snapshot), stord.create(SnapshotId=snapshot, Size=20)
    stord.available(one), stord.available(two)
    stord("ec2.DeleteSnapshot", SnapshotId=snapshot)
    assert stord("ec2.DescribeSnapshots")["Snapshots"] == []
    stord.refused("InvalidSnapshot.NotFound", "ec2.CreateVolume", AvailabilityZone="us-east-1a", SnapshotId=snapshot)
    stord("ec2.DeleteVolume", VolumeId=one)
    # Attached, it is the guest's: until then its layers may be being merged.
    attachment = {"VolumeId": two, "InstanceId": "i-0123456789abcdef0"}
    qemu_io(stord("ec2.AttachVolume", Device="/dev/sdf", **attachment)["_Path"], "read -P 0x41 1M 2M")
    stord("ec2.DetachVolume", **attachment)
    assert stord.volume(two)["SnapshotId"] == snapshot
    stord("ec2.DeleteVolume", VolumeId=two)
    until(lambda: stord.files() == set())


def test_a_smaller_volume_than_its_snapshot_is_refused(stord, images):
    snapshot = stord.snapshot(images["disk"])
    stord.refused("InvalidParameterValue", "ec2.CreateVolume", AvailabilityZone="us-east-1a", SnapshotId=snapshot, Size=1)


def test_a_snapshot_is_described_and_protected(stord, images):
    snapshot = stord.snapshot(images["disk"])
    row = stord("ec2.DescribeSnapshots", OwnerIds=["self"])["Snapshots"][0]
    assert row["State"] == "completed" and row["Progress"] == "100%" and row["VolumeSize"] == 2
    assert row["OwnerId"] == "123456789012" and row["Encrypted"] is False
    assert stord("ec2.DescribeSnapshots", OwnerIds=["amazon"])["Snapshots"] == []
    assert stord("ec2.DescribeSnapshots", OwnerIds=["*"])["Snapshots"] == []
    assert len(stord("ec2.DescribeSnapshots", RestorableByUserIds=["self"])["Snapshots"]) == 1
    stord.refused("InvalidParameterValue", "ec2.DescribeSnapshots", OwnerIds=["self"], Filters=[{"Name": "x", "Values": ["y"]}])
    other = {"region": "ap-northeast-2"}
    assert stord("ec2.DescribeSnapshots", context=other)["Snapshots"] == []
    for _ in range(2):
        stord("gureum.ProtectSnapshot", SnapshotId=snapshot, ImageId="ami-1", Use=True)
    stord.refused("InvalidSnapshot.InUse", "ec2.DeleteSnapshot", SnapshotId=snapshot)
    stord("gureum.ProtectSnapshot", SnapshotId=snapshot, ImageId="ami-1", Use=False)
    stord("ec2.DeleteSnapshot", SnapshotId=snapshot)
    assert stord.files() == set()


def test_a_kernel_is_kept_raw_and_opened_by_descriptor(stord, images):
    snapshot = stord.snapshot(images["kernel"], "raw")
    answer, fds = stord("gureum.OpenSnapshot", SnapshotId=snapshot, with_fds=True)
    with open(images["kernel"], "rb") as f, os.fdopen(fds[0], "rb") as g:
        assert f.read() == g.read()
    assert answer["_Format"] == "raw" and answer["_Bytes"] == os.path.getsize(images["kernel"])
    assert answer["_Path"].endswith(f"{snapshot}.raw") and os.stat(answer["_Path"]).st_mode & 0o777 == 0o444
    volume = stord.create(SnapshotId=snapshot)
    stord.available(volume)
    path = os.path.join(stord.state, f"zones/us-east-1a/volumes/{volume}.qcow2")
    assert subprocess.run(["qemu-img", "info", "--backing-chain", path], capture_output=True).returncode == 0


def test_a_bad_image_is_refused_at_once_and_nothing_is_made(stord, images):
    bad = os.path.join(images["root"], "bad.qcow2")
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", images["disk"], "-F", "qcow2", bad], check=True)
    with pytest.raises(Fault) as caught:
        stord.import_file(bad)
    assert caught.value.code == "InvalidParameterValue" and "backing file" in caught.value.message
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", bad, "5G"], check=True)
    with pytest.raises(Fault) as caught:
        stord.import_file(bad)
    assert caught.value.code == "InvalidParameterValue" and "virtual size" in caught.value.message
    for image_format, code in (("vmdk", "InvalidParameterValue"), ("raw", "InvalidParameterValue")):
        with pytest.raises(Fault) as caught:
            stord.import_file(images["disk"], image_format)
        assert caught.value.code == code
    assert stord.files() == set() and stord("ec2.DescribeImportSnapshotTasks")["ImportSnapshotTasks"] == []


def test_an_image_that_lies_in_its_tables_fails_its_task(stord, images):
    bad = os.path.join(images["root"], "liar.qcow2")
    with open(images["disk"], "rb") as f:
        whole = f.read()
    with open(bad, "wb") as f:
        f.write(whole[:len(whole) - 1000000])
    detail = stord.ended(stord.import_file(bad))
    assert detail["Status"] == "error" and detail["StatusMessage"].startswith("ClientError: Disk validation failed")
    assert stord.files() == set() and stord("ec2.DescribeSnapshots")["Snapshots"] == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may name files of the machine")
def test_files_of_the_machine_are_for_its_administrator(stord, images):
    container = {"Format": "qcow2", "Url": f"file://{images['disk']}"}
    customer = {"principal": "arn:aws:iam::123456789012:root"}
    with pytest.raises(Fault) as caught:
        stord("ec2.ImportSnapshot", DiskContainer=container, context=customer)
    assert caught.value.code == "UnauthorizedOperation"
    assert stord.ended(stord("ec2.ImportSnapshot", DiskContainer=container)["ImportTaskId"])["Status"] == "completed"
    fifo = os.path.join(images["root"], "fifo")
    os.mkfifo(fifo)
    for url, code in ((f"file://{fifo}", "InvalidParameterValue"), ("file:///nonexistent", "InvalidParameterValue"),
                      ("https://example.com/x", "InvalidParameterValue"), ("file://relative", "InvalidParameterValue")):
        stord.refused(code, "ec2.ImportSnapshot", DiskContainer={"Format": "raw", "Url": url})


def test_tags_are_added_found_and_removed(stord):
    volume = stord.create(Size=1)
    stord("ec2.CreateTags", Resources=[volume], Tags=[{"Key": "env", "Value": "prod"}])
    assert stord("ec2.DescribeVolumes", Filters=[{"Name": "tag:env", "Values": ["p*"]}])["Volumes"][0]["VolumeId"] == volume
    assert stord("ec2.DescribeTags")["Tags"] == [{"Key": "env", "Value": "prod", "ResourceId": volume, "ResourceType": "volume"}]
    stord("ec2.DeleteTags", Resources=[volume], Tags=[{"Key": "env"}])
    stord.available(volume)
    assert stord.volume(volume)["Tags"] == []


def test_pages_and_status(stord):
    volumes = {stord.create(Size=1) for _ in range(12)}
    [stord.available(v) for v in volumes]
    seen, token = [], {}
    while True:
        page = stord("ec2.DescribeVolumes", MaxResults=5, **token)
        seen += [v["VolumeId"] for v in page["Volumes"]]
        if "NextToken" not in page:
            break
        token = {"NextToken": page["NextToken"]}
    assert len(seen) == 12 and set(seen) == volumes
    assert len(stord("ec2.DescribeVolumes", MaxResults=100000)["Volumes"]) == 12, "AWS cuts at 500"
    status = stord("ec2.DescribeVolumeStatus", VolumeIds=[seen[0]])["VolumeStatuses"][0]
    assert status["VolumeStatus"]["Status"] == "ok" and status["VolumeStatus"]["Details"][0]["Name"] == "io-enabled"
    ok = [{"Name": "volume-status.status", "Values": ["ok"]}]
    assert len(stord("ec2.DescribeVolumeStatus", Filters=ok)["VolumeStatuses"]) == 12
    assert stord("ec2.DescribeVolumeStatus", Filters=[{"Name": "event.event-id", "Values": ["*"]}])["VolumeStatuses"] == []
    attribute = stord("ec2.DescribeVolumeAttribute", VolumeId=seen[0], Attribute="autoEnableIO")
    assert attribute["AutoEnableIO"] == {"Value": False}


def test_a_lost_file_is_an_error_not_an_empty_volume(stord):
    volume = stord.create(Size=1)
    stord.available(volume)
    stord.kill()
    os.unlink(os.path.join(stord.state, f"zones/us-east-1a/volumes/{volume}.qcow2"))
    stranger = os.path.join(stord.state, "zones/us-east-1a/volumes/vol-0123456789abcdef0.qcow2")
    open(stranger, "w").close()
    stord.start()
    assert stord.volume(volume)["State"] == "error"
    assert stord("ec2.DescribeVolumeStatus", VolumeIds=[volume])["VolumeStatuses"][0]["VolumeStatus"]["Status"] == "impaired"
    stord.refused("IncorrectState", "ec2.AttachVolume", VolumeId=volume, InstanceId="i-0123456789abcdef0", Device="/dev/sdf")
    stord("ec2.DeleteVolume", VolumeId=volume)
    assert os.path.exists(stranger) and "belongs to no volume" in stord.log(), "what nobody knows is left alone"


def test_one_state_has_one_daemon(stord):
    from conftest import STORD
    with open(os.path.join(stord.root, "gureum.conf")) as f:
        text = f.read().replace("/run\n", "/run2\n")
    other = os.path.join(stord.root, "other.conf")
    with open(other, "w") as f:
        f.write(text)
    r = subprocess.run([STORD, "-c", other], capture_output=True, timeout=120)
    assert r.returncode != 0 and b"cannot open the store" in r.stderr


def test_at_rest_it_does_nothing(stord):
    def ticks():
        with open(f"/proc/{stord.process.pid}/stat") as f:
            return sum(map(int, f.read().rsplit(")", 1)[1].split()[11:13]))

    def switches():
        with open(f"/proc/{stord.process.pid}/status") as f:
            return int([x for x in f if x.startswith("voluntary_ctxt")][0].split()[1])
    stord.available(stord.create(Size=1))

    def rests():
        before, woken = ticks(), switches()
        threading.Event().wait(2)
        return ticks() - before <= 1 and switches() - woken <= 4
    until(rests)  # what is left of the volume's making may come first
