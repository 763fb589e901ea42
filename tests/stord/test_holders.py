"""What is in use cannot be deleted, with AWS's code for each holder, and nothing is changed; once it has let go, the same request succeeds."""
import os
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
