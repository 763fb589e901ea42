"""What is in use cannot be deleted, with AWS's code for each holder, and nothing is changed; once it has let go, the same request succeeds."""
import json
import os
import sqlite3
import threading

import pytest

from conftest import Fault, until

ONE, TWO = (f"i-{n:017x}" for n in (1, 2))
OTHER_ACCOUNT = {"account": "210987654321"}


def all_there_is(stord):
    return {what: stord("ec2.Describe" + what)[what] for what in ("Volumes", "Snapshots", "Tags", "VolumesModifications")}


def volume(stord, **more):
    made = stord.create(**{"Size": 1, **more})
    stord.available(made)
    return made


def attach(stord, volume, instance, **more):
    stord("ec2.AttachVolume", VolumeId=volume, InstanceId=instance, Device="/dev/sdf", **more)
    return lambda: stord("ec2.DetachVolume", VolumeId=volume, InstanceId=instance)


def volume_by_instance(stord):
    made = volume(stord)
    return "DeleteVolume", dict(VolumeId=made), "VolumeInUse", attach(stord, made, ONE)


def volume_that_is_attaching(stord):
    made = volume(stord)
    return "DeleteVolume", dict(VolumeId=made), "VolumeInUse", attach(stord, made, ONE, _Begin=True)


def volume_that_is_detaching(stord):
    made = volume(stord)
    let_go = attach(stord, made, ONE)
    stord("ec2.DetachVolume", VolumeId=made, InstanceId=ONE, _Begin=True)
    return "DeleteVolume", dict(VolumeId=made), "VolumeInUse", let_go


def volume_by_the_second_of_two(stord):
    made = volume(stord, Size=4, VolumeType="io2", Iops=100, MultiAttachEnabled=True)
    first, second = attach(stord, made, ONE), attach(stord, made, TWO)
    first()
    return "DeleteVolume", dict(VolumeId=made), "VolumeInUse", second


def volume_for_a_second_instance(stord):
    made = volume(stord)
    let_go = attach(stord, made, ONE)
    return "AttachVolume", dict(VolumeId=made, InstanceId=TWO, Device="/dev/sdg", _Begin=True), "VolumeInUse", let_go


def snapshot_by_two_images(stord):
    snapshot = stord("ec2.CreateSnapshot", VolumeId=volume(stord))["SnapshotId"]
    until(lambda: stord("ec2.DescribeSnapshots", SnapshotIds=[snapshot])["Snapshots"][0]["State"] == "completed")
    images = [f"ami-{n:017x}" for n in (1, 2)]
    for image in images:
        stord("gureum.ProtectSnapshot", SnapshotId=snapshot, ImageId=image, Use=True)
    stord("gureum.ProtectSnapshot", SnapshotId=snapshot, ImageId=images[0], Use=False)
    return "DeleteSnapshot", dict(SnapshotId=snapshot), "InvalidSnapshot.InUse", lambda: stord("gureum.ProtectSnapshot", SnapshotId=snapshot, ImageId=images[1], Use=False)


HELD = [volume_by_instance, volume_that_is_attaching, volume_that_is_detaching, volume_by_the_second_of_two, volume_for_a_second_instance, snapshot_by_two_images]


@pytest.mark.parametrize("held", HELD, ids=lambda f: f.__name__)
def test_what_is_in_use_stays(stord, held):
    action, parameters, code, let_go = held(stord)
    before = all_there_is(stord)
    stord.refused(code, "ec2." + action, **parameters)
    assert all_there_is(stord) == before
    let_go()
    stord("ec2." + action, **parameters)


def test_imports_are_counted_by_account(stord, images):
    """Twenty at a time: who is the twenty-first is refused, another account is not."""
    path = os.path.join(images["root"], "slow.raw")
    with open(path, "wb") as f:
        f.write(os.urandom(1 << 26))
    fd, codes = os.open(path, os.O_RDONLY), []

    def ask(**more):
        try:
            codes.append(stord("ec2.ImportSnapshot", fds=[fd], DiskContainer={"Format": "RAW"}, **more).get("ImportTaskId"))
        except Fault as fault:
            codes.append(fault.code)
        return codes[-1]

    crowd = [threading.Thread(target=ask) for _ in range(60)]
    for t in crowd:
        t.start()
    for t in crowd:
        t.join()
    last = ask(context=OTHER_ACCOUNT)
    os.close(fd)
    refused = [c for c in codes if not c.startswith("import-snap-")]
    if not refused:
        pytest.skip("disks are imported faster here than they are asked for")
    assert set(refused) == {"ResourceLimitExceeded"} and len(codes) - len(refused) >= 21 and last not in refused, codes


def put_on_record(stord, kind, n, **members):
    """The store has n more of the kind, written while the daemon is down: things that have failed, so nothing has to be made for them."""
    assert stord.stop() == 0
    with sqlite3.connect(os.path.join(stord.root, "state", "stord", "state.db")) as db:
        sequence = db.execute("SELECT coalesce(max(sequence), 0) FROM doc").fetchone()[0]
        for i in range(1, n + 1):
            db.execute("INSERT INTO doc (sequence, kind, id, account, region, json) VALUES (?, ?, ?, ?, ?, ?)",
                       (sequence + i, kind, f"{kind[:4].removesuffix('u')}-{i:017x}", "123456789012", "us-east-1", json.dumps(members)))
    db.close()
    stord.start()


def test_volumes_and_snapshots_have_a_quota(stord, images):
    """AWS's figures, in each region and account; what is refused leaves nothing."""
    made = volume(stord)
    taken = stord("ec2.CreateSnapshot", VolumeId=made)["SnapshotId"]
    put_on_record(stord, "volume", 4999, State="error", Size=1, Attachments=[], AvailabilityZone="us-east-1a", VolumeType="gp2")
    put_on_record(stord, "snapshot", 9999, State="error", VolumeSize=1, VolumeId="vol-ffffffff")
    before = all_there_is(stord), stord.files()
    stord.refused("VolumeLimitExceeded", "ec2.CreateVolume", AvailabilityZone="us-east-1a", Size=1)
    stord.refused("SnapshotLimitExceeded", "ec2.CreateSnapshot", VolumeId=made)
    stord.refused("SnapshotLimitExceeded", "ec2.CopySnapshot", SourceSnapshotId=taken, SourceRegion="us-east-1")
    stord.refused("ServiceQuotaExceededException:DEPENDENCY_SERVICE_QUOTA_EXCEEDED", "ebs.StartSnapshot", VolumeSize=1)
    with pytest.raises(Fault) as caught:
        stord.import_file(images["disk"])
    assert caught.value.code == "SnapshotLimitExceeded"
    assert (all_there_is(stord), stord.files()) == before
    for there in (OTHER_ACCOUNT, {"region": "ap-northeast-2"}):
        stord("ebs.StartSnapshot", VolumeSize=1, context=there)
    stord("ec2.DeleteSnapshot", SnapshotId=taken)
    stord("ec2.CreateSnapshot", VolumeId=made)
