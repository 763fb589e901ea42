"""Two customers at once, about one volume or snapshot: of what excludes one another one thing happens, the loser hears why, and what is left is
whole: nothing that fsck finds, no file without an owner, no answer but success or AWS's refusal."""
import concurrent.futures
import threading

import pytest

from conftest import Fault, until

ONE, TWO = (f"i-{n:017x}" for n in (1, 2))
ROUNDS = 6


def at_once(stord, *calls):
    """The calls' codes ("" is success), all begun at one moment."""
    start = threading.Barrier(len(calls))

    def one(call):
        method, parameters = call
        start.wait()
        try:
            stord(method, **parameters)
            return ""
        except Fault as fault:
            return fault.code
    with concurrent.futures.ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(one, calls))


def volume(stord):
    made = stord.create(Size=1)
    stord.available(made)
    return made


def snapshot(stord, of=None):
    made = stord("ec2.CreateSnapshot", VolumeId=of or volume(stord))["SnapshotId"]
    until(lambda: stord("ec2.DescribeSnapshots", SnapshotIds=[made])["Snapshots"][0]["State"] == "completed")
    return made


def written(stord):
    """A snapshot that is being written by blocks."""
    return stord("ebs.StartSnapshot", VolumeSize=1)["SnapshotId"]


# Each: the calls, how many of them succeed (least, most), and the losers' codes.


def two_instances_and_a_volume(stord):
    made = volume(stord)
    return [("ec2.AttachVolume", dict(VolumeId=made, InstanceId=i, Device="/dev/sdf", _Begin=True)) for i in (ONE, TWO)], (1, 1), {"VolumeInUse"}


def attached_and_deleted(stord):
    made = volume(stord)
    calls = [("ec2.AttachVolume", dict(VolumeId=made, InstanceId=ONE, Device="/dev/sdf", _Begin=True)), ("ec2.DeleteVolume", dict(VolumeId=made))]
    return calls, (1, 1), {"VolumeInUse", "InvalidVolume.NotFound", "IncorrectState"}


def deleted_while_being_created(stord):
    made = stord.create(Size=1)
    return [("ec2.DeleteVolume", dict(VolumeId=made))] * 2, (1, 1), {"InvalidVolume.NotFound", "IncorrectState"}


def deleted_while_it_is_taken(stord):
    made = volume(stord)
    calls = [("ec2.CreateSnapshot", dict(VolumeId=made)), ("ec2.DeleteVolume", dict(VolumeId=made)), ("ec2.CreateSnapshot", dict(VolumeId=made))]
    return calls, (1, 3), {"InvalidVolume.NotFound", "IncorrectState", "VolumeInUse"}


def snapshot_deleted_and_used(stord):
    made = snapshot(stord)
    calls = [("ec2.DeleteSnapshot", dict(SnapshotId=made)), ("ec2.CreateVolume", dict(SnapshotId=made, AvailabilityZone="us-east-1a"))]
    return calls, (1, 2), {"InvalidSnapshot.NotFound", "InvalidSnapshot.InUse"}


def snapshot_deleted_and_copied(stord):
    made = snapshot(stord)
    calls = [("ec2.DeleteSnapshot", dict(SnapshotId=made)), ("ec2.CopySnapshot", dict(SourceSnapshotId=made, SourceRegion="us-east-1"))]
    return calls, (1, 2), {"InvalidSnapshot.NotFound"}


def snapshot_deleted_and_taken_by_an_image(stord):
    made = snapshot(stord)
    calls = [("ec2.DeleteSnapshot", dict(SnapshotId=made)), ("gureum.ProtectSnapshot", dict(SnapshotId=made, ImageId="ami-00000000000000001", Use=True))]
    return calls, (1, 1), {"InvalidSnapshot.NotFound", "InvalidSnapshot.InUse"}


def grown_twice(stord):
    made = volume(stord)
    return [("ec2.ModifyVolume", dict(VolumeId=made, Size=size)) for size in (2, 3)], (1, 1), {"IncorrectModificationState", "VolumeModificationRateExceeded"}


def grown_and_deleted(stord):
    made = volume(stord)
    calls = [("ec2.ModifyVolume", dict(VolumeId=made, Size=2)), ("ec2.DeleteVolume", dict(VolumeId=made))]
    return calls, (1, 2), {"InvalidVolume.NotFound", "IncorrectState", "VolumeInUse"}


def grown_and_taken(stord):
    made = volume(stord)
    return [("ec2.ModifyVolume", dict(VolumeId=made, Size=2)), ("ec2.CreateSnapshot", dict(VolumeId=made))], (2, 2), set()


def completed_twice(stord):
    made = written(stord)
    return [("ebs.CompleteSnapshot", dict(SnapshotId=made, ChangedBlocksCount=0))] * 3, (3, 3), set()


def completed_and_deleted(stord):
    made = written(stord)
    calls = [("ebs.CompleteSnapshot", dict(SnapshotId=made, ChangedBlocksCount=0)), ("ec2.DeleteSnapshot", dict(SnapshotId=made))]
    return calls, (1, 2), {"ResourceNotFoundException:SNAPSHOT_NOT_FOUND", "InvalidSnapshot.NotFound", "IncorrectState"}


def shared_and_deleted(stord):
    made = snapshot(stord)
    share = dict(SnapshotId=made, Attribute="createVolumePermission", CreateVolumePermission={"Add": [{"Group": "all"}]})
    return [("ec2.ModifySnapshotAttribute", share), ("ec2.DeleteSnapshot", dict(SnapshotId=made))], (1, 2), {"InvalidSnapshot.NotFound"}


RACES = [
    two_instances_and_a_volume, attached_and_deleted, deleted_while_being_created, deleted_while_it_is_taken,
    snapshot_deleted_and_used, snapshot_deleted_and_copied, snapshot_deleted_and_taken_by_an_image, grown_twice,
    grown_and_deleted, grown_and_taken, completed_twice, completed_and_deleted,
    shared_and_deleted,
]


@pytest.mark.parametrize("race", RACES, ids=lambda r: r.__name__)
def test_what_is_left_is_whole(stord, race):
    for i in range(ROUNDS):
        calls, (least, most), losers = race(stord)
        codes = at_once(stord, *(calls if i % 2 else calls[::-1]))
        assert least <= codes.count("") <= most and set(codes) - {""} <= losers, codes
    until(lambda: not any(v["State"] == "creating" for v in stord("ec2.DescribeVolumes")["Volumes"]))
    until(lambda: not any(m["ModificationState"] == "modifying" for m in stord("ec2.DescribeVolumesModifications")["VolumesModifications"]))
    until(lambda: not any(s["State"] == "pending" for s in stord("ec2.DescribeSnapshots")["Snapshots"]))
    assert until(lambda: (r := stord("gureum.Fsck"))["Idle"] and r)["Findings"] == []
    assert not any(v["State"] == "error" for v in stord("ec2.DescribeVolumes")["Volumes"])
    for v in stord("ec2.DescribeVolumes")["Volumes"]:
        for a in v["Attachments"]:
            stord("ec2.DetachVolume", VolumeId=v["VolumeId"], InstanceId=a["InstanceId"])
        stord("ec2.DeleteVolume", VolumeId=v["VolumeId"])
    for s in stord("ec2.DescribeSnapshots")["Snapshots"]:
        stord("gureum.ProtectSnapshot", SnapshotId=s["SnapshotId"], ImageId="ami-00000000000000001", Use=False)
        stord("ec2.DeleteSnapshot", SnapshotId=s["SnapshotId"])
    until(lambda: not [f for f in stord.files() if f.endswith((".qcow2", ".raw"))])
