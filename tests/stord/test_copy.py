"""CopySnapshot: the same contents elsewhere, whatever happens on the way."""
import os
import subprocess

import pytest

from conftest import until
from test_direct import contents, pattern, put, write

REGION2 = {"region": "ap-northeast-2"}


def copy(stord, snapshot, region="us-east-1", **more):
    return stord("ec2.CopySnapshot", context={"region": region}, SourceRegion="us-east-1", SourceSnapshotId=snapshot, **more)["SnapshotId"]


def shown(stord, snapshot, region="us-east-1"):
    return stord("ec2.DescribeSnapshots", context={"region": region}, SnapshotIds=[snapshot])["Snapshots"][0]


def completed(stord, snapshot, region="us-east-1"):
    row = until(lambda: (s := shown(stord, snapshot, region))["State"] != "pending" and s)
    assert row["State"] == "completed", row
    return row


def file_of(stord, snapshot, extension="qcow2"):
    return os.path.join(stord.state, "snapshots", f"{snapshot}.{extension}")


def same(one, other):
    r = subprocess.run(["qemu-img", "compare", one, other], capture_output=True, text=True)
    assert r.returncode == 0, r.stdout + r.stderr


def test_a_copy_in_the_other_region_is_whole_and_its_own(stord, images):
    source = stord.snapshot(images["disk"])
    there = copy(stord, source, "ap-northeast-2", Description="moved",
                 TagSpecifications=[{"ResourceType": "snapshot", "Tags": [{"Key": "k", "Value": "v"}]}])
    row = completed(stord, there, "ap-northeast-2")
    assert row["Description"] == "moved" and row["Tags"] == [{"Key": "k", "Value": "v"}] and row["Progress"] == "100%"
    assert row["VolumeSize"] == 2
    stord("ec2.DeleteSnapshot", SnapshotId=source)
    assert stord.files() == {f"snapshots/{there}.qcow2"}
    same(file_of(stord, there), images["disk"])
    assert subprocess.run(["qemu-img", "check", "-q", file_of(stord, there)]).returncode == 0
    volume = stord("ec2.CreateVolume", context=REGION2, AvailabilityZone="ap-northeast-2b", SnapshotId=there)["VolumeId"]
    until(lambda: stord("ec2.DescribeVolumes", context=REGION2, VolumeIds=[volume])["Volumes"][0]["State"] == "available")


def test_a_chain_becomes_one_layer(stord):
    first = write(stord, {0: pattern(0), 9: pattern(9)})
    second = write(stord, {9: bytes(512 * 1024), 10: pattern(10)}, parent=first)
    flat = copy(stord, second)
    assert completed(stord, flat)["Description"] == f"[Copied {second} from us-east-1]"
    stord("ec2.DeleteSnapshot", SnapshotId=second)
    stord("ec2.DeleteSnapshot", SnapshotId=first)
    assert contents(stord, flat) == {0: pattern(0), 10: pattern(10)}
    assert stord.files() == {f"snapshots/{flat}.qcow2"}


def test_what_is_raw_stays_raw(stord, images):
    there = copy(stord, stord.snapshot(images["kernel"], "raw"), "ap-northeast-2")
    completed(stord, there, "ap-northeast-2")
    with open(file_of(stord, there, "raw"), "rb") as a, open(images["kernel"], "rb") as b:
        assert a.read() == b.read()


@pytest.mark.parametrize("parameters, code", [
    ({"SourceRegion": "us-east-1"}, "MissingParameter"),
    ({"SourceSnapshotId": "snap-0123456789abcdef0"}, "MissingParameter"),
    ({"SourceRegion": "mars-1", "SourceSnapshotId": "snap-0123456789abcdef0"}, "InvalidParameterValue"),
    ({"SourceRegion": "us-east-1", "SourceSnapshotId": "snap-0123456789abcdef0"}, "InvalidSnapshot.NotFound"),
    ({"SourceRegion": "us-east-1", "SourceSnapshotId": "snap-1"}, "InvalidSnapshotID.Malformed"),
    ({"SourceRegion": "us-east-1", "SourceSnapshotId": "snap-0123456789abcdef0", "Encrypted": True}, "InvalidSnapshot.NotFound"),
    ({"SourceRegion": "us-east-1", "SourceSnapshotId": "snap-0123456789abcdef0", "DestinationRegion": "eu-west-1"}, "InvalidParameterValue"),
])
def test_refusals(stord, parameters, code):
    stord.refused(code, "ec2.CopySnapshot", **parameters)
    assert stord.files() == set()


def test_a_shared_snapshot_is_read_and_copied_by_whom_it_is_shared_with(stord, images):
    other = {"account": "210987654321", "region": "us-east-1"}
    source = stord.snapshot(images["disk"])
    ask = dict(context=other, SourceRegion="us-east-1", SourceSnapshotId=source)
    stord.refused("InvalidSnapshot.NotFound", "ec2.CopySnapshot", **ask)
    stord.refused("ResourceNotFoundException:SNAPSHOT_NOT_FOUND", "ebs.ListSnapshotBlocks", context=other, SnapshotId=source)
    stord("ec2.ModifySnapshotAttribute", SnapshotId=source, Attribute="createVolumePermission", OperationType="add", UserIds=[other["account"]])
    assert len(stord("ebs.ListSnapshotBlocks", context=other, SnapshotId=source)["Blocks"]) == 4
    made = stord("ec2.CopySnapshot", **ask)["SnapshotId"]
    row = until(lambda: (s := stord("ec2.DescribeSnapshots", context=other, SnapshotIds=[made])["Snapshots"][0])["State"] != "pending" and s)
    assert row["State"] == "completed" and row["OwnerId"] == other["account"]
    stord.refused("ResourceNotFoundException:SNAPSHOT_NOT_FOUND", "ebs.StartSnapshot", context=other, VolumeSize=2, ParentSnapshotId=source)


def test_a_pending_snapshot_is_not_copied(stord):
    started = stord("ebs.StartSnapshot", VolumeSize=1)["SnapshotId"]
    stord.refused("IncorrectState", "ec2.CopySnapshot", SourceRegion="us-east-1", SourceSnapshotId=started)


def make_large(stord):
    """Enough to be under way for a while."""
    started = stord("ebs.StartSnapshot", VolumeSize=1)["SnapshotId"]
    for i in range(200):
        put(stord, started, i, pattern(i))
    stord("ebs.CompleteSnapshot", SnapshotId=started, ChangedBlocksCount=200)
    return started


@pytest.fixture
def large(stord):
    return make_large(stord)


def test_a_copy_that_a_kill_cuts_off_begins_again(stord, large):
    there = copy(stord, large)
    until(lambda: shown(stord, there)["Progress"] != "0%" or shown(stord, there)["State"] == "completed")
    stord.kill()
    stord.start()
    completed(stord, there)
    same(file_of(stord, there), file_of(stord, large))


def test_a_deleted_source_does_not_stop_a_copy_under_way(stord, large):
    there = copy(stord, large)
    until(lambda: shown(stord, there)["Progress"] != "0%" or shown(stord, there)["State"] == "completed")
    stord("ec2.DeleteSnapshot", SnapshotId=large)
    completed(stord, there)
    assert contents(stord, there) == {i: pattern(i) for i in range(200)}


def test_a_deleted_copy_leaves_nothing(stord, large):
    there = copy(stord, large)
    stord("ec2.DeleteSnapshot", SnapshotId=there)
    other = copy(stord, large)  # behind the first
    completed(stord, other)
    assert stord.files() == {f"snapshots/{large}.qcow2", f"snapshots/{other}.qcow2"}


def test_a_source_that_is_gone_is_said(stord):
    for _ in range(10):  # both may be copied before we come to delete
        large = make_large(stord)
        copy(stord, large)
        second = copy(stord, large)
        stord("ec2.DeleteSnapshot", SnapshotId=large)
        stord.kill()
        stord.start()
        row = until(lambda: (s := shown(stord, second))["State"] != "pending" and s)
        if row["State"] == "error":
            break
    assert row["State"] == "error" and "source is gone" in row["StateMessage"], row
