"""ModifyVolume: what may be asked, and that a volume grows whatever happens in between."""
import json
import os
import subprocess
import time

import pytest

from conftest import until


def virtual_size(stord, volume_id):
    path = next(os.path.join(stord.state, f) for f in stord.files() if volume_id in f)
    return json.loads(subprocess.check_output(["qemu-img", "info", "-U", "--output=json", path]))["virtual-size"]


def modification(stord, volume_id):
    return stord("ec2.DescribeVolumesModifications", VolumeIds=[volume_id])["VolumesModifications"][0]


def completed(stord, volume_id):
    return until(lambda: (m := modification(stord, volume_id))["ModificationState"] == "completed" and m)


def test_a_volume_grows_and_changes_its_type(stord):
    volume = stord.create(Size=2)
    stord.available(volume)
    answer = stord("ec2.ModifyVolume", VolumeId=volume, Size=8, VolumeType="gp3", Iops=4000, Throughput=300)["VolumeModification"]
    assert (answer["ModificationState"], answer["Progress"], answer["TargetSize"], answer["OriginalVolumeType"]) == ("modifying", 0, 8, "gp2")
    m = completed(stord, volume)
    assert (m["Progress"], m["OriginalSize"], m["TargetIops"], m["OriginalIops"], m["TargetThroughput"]) == (100, 2, 4000, 100, 300)
    assert m["EndTime"] >= m["StartTime"]
    shown = stord.volume(volume)
    assert (shown["Size"], shown["VolumeType"], shown["Iops"], shown["Throughput"]) == (8, "gp3", 4000, 300)
    assert virtual_size(stord, volume) == 8 << 30
    stord.refused("VolumeModificationRateExceeded", "ec2.ModifyVolume", VolumeId=volume, Size=9)
    found = stord("ec2.DescribeVolumesModifications", Filters=[{"Name": "modification-state", "Values": ["completed"]}])
    assert [x["VolumeId"] for x in found["VolumesModifications"]] == [volume]
    stord("ec2.DeleteVolume", VolumeId=volume)
    assert stord("ec2.DescribeVolumesModifications")["VolumesModifications"] == []


def test_a_volume_over_a_snapshot_grows(stord, images):
    volume = stord.create(SnapshotId=stord.snapshot(images["disk"]), VolumeType="gp3")
    stord.available(volume)
    stord("ec2.ModifyVolume", VolumeId=volume, Size=20)
    completed(stord, volume)
    assert virtual_size(stord, volume) == 20 << 30
    path = next(os.path.join(stord.state, f) for f in stord.files() if volume in f)
    r = subprocess.run(["qemu-io", "-r", "-f", "qcow2", "-c", "read -P 0x41 1M 2M", "-c", "read -P 0 19G 1M", path], capture_output=True, text=True)
    assert r.returncode == 0 and "failed" not in r.stdout, r.stdout + r.stderr


def test_a_shared_volume_grows(stord):
    volume = stord.create(Size=4, VolumeType="io2", Iops=100, MultiAttachEnabled=True)
    stord.available(volume)
    stord("ec2.ModifyVolume", VolumeId=volume, Size=8, Iops=200)
    completed(stord, volume)
    assert virtual_size(stord, volume) == 8 << 30 and stord.volume(volume)["Iops"] == 200


def test_figures_that_are_not_asked_for_are_kept_or_are_the_types_own(stord):
    volume = stord.create(Size=10, VolumeType="gp3", Iops=3500, Throughput=200)
    stord.available(volume)
    stord("ec2.ModifyVolume", VolumeId=volume, Size=11)
    completed(stord, volume)
    shown = stord.volume(volume)
    assert (shown["Iops"], shown["Throughput"]) == (3500, 200)
    large = stord.create(Size=2000)
    stord.available(large)
    stord("ec2.ModifyVolume", VolumeId=large, VolumeType="gp3")
    completed(stord, large)
    shown = stord.volume(large)
    assert (shown["Iops"], shown["Throughput"]) == (6000, 250)
    other = stord.create(Size=500, VolumeType="io1", Iops=1000)
    stord.available(other)
    stord("ec2.ModifyVolume", VolumeId=other, VolumeType="st1")
    completed(stord, other)
    assert "Iops" not in stord.volume(other)


@pytest.mark.parametrize("parameters, code", [
    ({}, "InvalidParameterCombination"),
    ({"Size": 9}, "InvalidParameterValue"),
    ({"VolumeType": "st1"}, "InvalidParameterValue"),
    ({"VolumeType": "io1"}, "MissingParameter"),
    ({"VolumeType": "io1", "Iops": 501}, "InvalidParameterValue"),
    ({"Iops": 3000}, "InvalidParameterCombination"),
    ({"VolumeType": "gp3", "Throughput": 1000}, "InvalidParameterValue"),
    ({"VolumeType": "gp9"}, "InvalidParameterValue"),
    ({"Size": 12, "VolumeId": "vol-0123456789abcdef0"}, "InvalidVolume.NotFound"),
])
def test_bad_modifications_change_nothing(stord, parameters, code):
    volume = stord.create(Size=10)
    stord.available(volume)
    before = stord.volume(volume)
    stord.refused(code, "ec2.ModifyVolume", **{"VolumeId": volume, **parameters})
    assert stord.volume(volume) == before
    stord.refused("InvalidVolumeModification.NotFound", "ec2.DescribeVolumesModifications", VolumeIds=[volume])


def test_killed_in_the_midst_a_modification_is_finished(stord):
    for delay in (0, 0.002, 0.01, 0.03):
        volume = stord.create(Size=1)
        stord.available(volume)
        stord("ec2.ModifyVolume", VolumeId=volume, Size=3, VolumeType="gp3")
        time.sleep(delay)  # where in the work it is cut off is chance
        stord.kill()
        stord.start()
        completed(stord, volume)
        assert stord.volume(volume)["Size"] == 3 and virtual_size(stord, volume) == 3 << 30


def test_what_hvd_is_told_keeps_the_type(stord):
    def limits(**parameters):
        volume = stord.create(**parameters)
        stord.available(volume)
        return stord("ec2.AttachVolume", VolumeId=volume, InstanceId="i-0123456789abcdef0", Device="/dev/sdf")["_Limits"]
    gp3 = limits(Size=100, VolumeType="gp3", Iops=5000, Throughput=250)
    assert (gp3["total_iops_sec"], gp3["total_bytes_sec"], gp3["size_iops_sec"]) == (5000, 250 << 20, 256 << 10)
    gp2 = limits(Size=100)
    assert (gp2["total_iops_sec"], gp2["total_iops_sec_max"], gp2["total_iops_sec_max_length"]) == (300, 3000, 1800)
    assert limits(Size=2000)["total_iops_sec_max"] == 0
    st1 = limits(Size=1024, VolumeType="st1")
    assert (st1["total_bytes_sec"], st1["total_bytes_sec_max"]) == (40 << 20, 250 << 20)
    assert st1["total_bytes_sec_max"] * st1["total_bytes_sec_max_length"] == pytest.approx(1 << 40, rel=0.001)
    assert limits(Size=100, VolumeType="io1", Iops=1000)["total_bytes_sec"] == 1000 * 256 << 10


def test_two_instances_share_a_volume_and_no_more_than_sixteen(stord):
    volume = stord.create(Size=4, VolumeType="io2", Iops=100, MultiAttachEnabled=True)
    stord.available(volume)
    for n in range(16):
        a = stord("ec2.AttachVolume", VolumeId=volume, InstanceId=f"i-{n:017x}", Device="/dev/sdf", _Begin=True)
        assert a["State"] == "attaching" and a["_IsShared"] and a["_Format"] == "raw"
    stord.refused("AttachmentLimitExceeded", "ec2.AttachVolume", VolumeId=volume, InstanceId=f"i-{16:017x}", Device="/dev/sdf")
    for n in range(16):
        assert stord.volume(volume)["State"] == "in-use"
        stord("ec2.DetachVolume", VolumeId=volume, InstanceId=f"i-{n:017x}")
    assert stord.volume(volume)["State"] == "available"
    stord.refused("InvalidParameterCombination", "ec2.CreateVolume", AvailabilityZone="us-east-1a", Size=4, VolumeType="gp3", MultiAttachEnabled=True)


def test_a_volume_is_reserved_in_its_own_zone_for_one(stord):
    volume = stord.create(Size=1)
    stord.available(volume)
    ask = {"VolumeId": volume, "Device": "/dev/sdf", "_Begin": True}
    stord.refused("InvalidVolume.ZoneMismatch", "ec2.AttachVolume", InstanceId="i-0123456789abcdef0", _AvailabilityZone="us-east-1b", **ask)
    assert stord("ec2.AttachVolume", InstanceId="i-0123456789abcdef0", _AvailabilityZone="us-east-1a", **ask)["State"] == "attaching"
    stord.refused("VolumeInUse", "ec2.AttachVolume", InstanceId="i-0123456789abcdef1", **ask)
    stord("ec2.DetachVolume", VolumeId=volume, _Begin=True)
    assert stord.volume(volume)["Attachments"][0]["State"] == "detaching"
    stord("ec2.DetachVolume", VolumeId=volume)
    stord.refused("IncorrectState", "ec2.DetachVolume", VolumeId=volume)


def test_a_volume_whose_guest_waits_for_room_is_impaired(stord):
    volume = stord.create(Size=1)
    stord.available(volume)
    stord("ec2.AttachVolume", VolumeId=volume, InstanceId="i-0123456789abcdef0", Device="/dev/sdf")

    def status(**parameters):
        return [(s["VolumeStatus"]["Status"], [a["Code"] for a in s["Actions"]])
                for s in stord("ec2.DescribeVolumeStatus", **parameters)["VolumeStatuses"]]
    assert status() == [("ok", [])]
    stord("gureum.ReportVolume", VolumeId=volume, InstanceId="i-0123456789abcdef0", IsStuck=True)
    assert status(Filters=[{"Name": "volume-status.status", "Values": ["impaired"]}]) == [("impaired", ["enable-volume-io"])]
    stord("gureum.ReportVolume", VolumeId=volume, InstanceId="i-0123456789abcdef0", IsStuck=False)
    assert status(Filters=[{"Name": "action.code", "Values": ["enable-volume-io"]}]) == []
    stord("ec2.ModifyVolumeAttribute", VolumeId=volume, AutoEnableIO={"Value": True})
    assert stord("ec2.DescribeVolumeAttribute", VolumeId=volume, Attribute="autoEnableIO")["AutoEnableIO"] == {"Value": True}
    stord("ec2.EnableVolumeIO", VolumeId=volume)


def test_provisioned_iops_have_a_limit_in_all(stord):
    for _ in range(4):
        stord.create(Size=2000, VolumeType="io1", Iops=64000)
    stord.refused("MaxIOPSLimitExceeded", "ec2.CreateVolume", AvailabilityZone="us-east-1a", Size=2000, VolumeType="io1", Iops=64000)
    last = stord.create(Size=2000, VolumeType="io1", Iops=43000)
    other = stord.create(Size=2000, VolumeType="io2", Iops=64000)
    stord.available(last)
    stord.available(other)
    stord.refused("MaxIOPSLimitExceeded", "ec2.ModifyVolume", VolumeId=last, Iops=44001)
    stord.refused("MaxIOPSLimitExceeded", "ec2.ModifyVolume", VolumeId=other, VolumeType="io1", Iops=1001)
    stord("ec2.ModifyVolume", VolumeId=last, Iops=44000)
    stord.refused("MaxIOPSLimitExceeded", "ec2.ModifyVolume", VolumeId=other, VolumeType="io1", Iops=1000)
