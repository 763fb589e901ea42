"""Snapshots: what customers are promised, and what is left on the disk."""
import os
import sqlite3
import subprocess
from datetime import datetime

import pytest

from conftest import Fault, until
from guests import Guests

INSTANCE = "i-0123456789abcdef0"
OTHER = {"account": "210987654321"}


def qemu_io(target, *commands, mode=()):
    arguments = [a for c in commands for a in ("-c", c)]
    r = subprocess.run(["qemu-io", *mode, *arguments, target], capture_output=True, text=True)
    assert r.returncode == 0 and "failed" not in r.stdout + r.stderr, r.stdout + r.stderr


def layer(stord, volume):
    return os.path.join(stord.state, stord.volume(volume)["_Layer"])


def depth(path):
    out = subprocess.run(["qemu-img", "info", "-U", "--backing-chain", path], capture_output=True, text=True, check=True).stdout
    return out.count("image:")


@pytest.fixture
def guests(stord):
    made = Guests(stord)
    made.start(INSTANCE)
    yield made
    made.close()


@pytest.fixture
def volume(stord):
    made = stord.create(Size=2, TagSpecifications=[{"ResourceType": "volume", "Tags": [{"Key": "from", "Value": "volume"}]}])
    stord.available(made)
    return made


def test_a_snapshot_has_what_was_there_and_not_what_came_later(stord, volume):
    qemu_io(layer(stord, volume), "write -P 1 0 1M")
    row = stord("ec2.CreateSnapshot", VolumeId=volume, Description="first",
                TagSpecifications=[{"ResourceType": "snapshot", "Tags": [{"Key": "a", "Value": "b"}]}])
    assert row["State"] == "completed" and row["Progress"] == "100%" and row["VolumeSize"] == 2 and row["VolumeId"] == volume
    assert row["Description"] == "first" and row["Tags"] == [{"Key": "a", "Value": "b"}] and row["Encrypted"] is False
    qemu_io(layer(stord, volume), "read -P 1 0 1M", "write -P 2 0 1M")
    restored = stord.create(SnapshotId=row["SnapshotId"], AvailabilityZone="us-east-1c", Size=5)
    stord.available(restored)
    qemu_io(layer(stord, restored), "read -P 1 0 1M", "write -P 3 4G 1M")
    assert stord.volume(restored)["Size"] == 5 and stord.volume(restored)["SnapshotId"] == row["SnapshotId"]
    shown = stord("ec2.DescribeSnapshots", Filters=[{"Name": "volume-id", "Values": [volume]}])["Snapshots"]
    assert [s["SnapshotId"] for s in shown] == [row["SnapshotId"]]


@pytest.mark.parametrize("parameters, code", [
    ({}, "MissingParameter"),
    ({"VolumeId": "vol-1"}, "InvalidVolumeID.Malformed"),
    ({"VolumeId": "vol-0123456789abcdef0"}, "InvalidVolume.NotFound"),
])
def test_what_aws_refuses_is_refused(stord, parameters, code):
    stord.refused(code, "ec2.CreateSnapshot", **parameters)


def test_a_bad_request_changes_nothing(stord, volume):
    before = stord.files()
    stord.refused("InvalidParameterValue", "ec2.CreateSnapshot", VolumeId=volume, Description="x" * 256)
    stord.refused("InvalidParameterValue", "ec2.CreateSnapshot", VolumeId=volume,
                  TagSpecifications=[{"ResourceType": "volume", "Tags": [{"Key": "a"}]}])
    stord.refused("UnsupportedOperation", "ec2.CreateSnapshot", VolumeId=volume, OutpostArn="arn:aws:outposts:::x")
    stord.refused("InvalidVolume.NotFound", "ec2.CreateSnapshot", VolumeId=volume, context=OTHER)
    assert stord.files() == before and stord("ec2.DescribeSnapshots")["Snapshots"] == []


def test_all_volumes_of_an_instance_are_taken_at_once(stord, guests, volume):
    root = stord.create(Size=1, _InstanceId=INSTANCE, _Device="/dev/xvda")
    guests.plug(INSTANCE, root, "/dev/xvda")
    guests.plug(INSTANCE, volume)
    taken = stord("ec2.CreateSnapshots", InstanceSpecification={"InstanceId": INSTANCE}, CopyTagsFromSource="volume")["Snapshots"]
    assert {s["VolumeId"] for s in taken} == {root, volume} and {s["State"] for s in taken} == {"completed"}
    assert [s["Tags"] for s in taken if s["VolumeId"] == volume] == [[{"Key": "from", "Value": "volume"}]]
    taken = stord("ec2.CreateSnapshots", InstanceSpecification={"InstanceId": INSTANCE, "ExcludeBootVolume": True})["Snapshots"]
    assert {s["VolumeId"] for s in taken} == {volume}
    taken = stord("ec2.CreateSnapshots", InstanceSpecification={"InstanceId": INSTANCE, "ExcludeDataVolumeIds": [volume]})["Snapshots"]
    assert {s["VolumeId"] for s in taken} == {root}
    stord.refused("InvalidParameterValue", "ec2.CreateSnapshots",
                  InstanceSpecification={"InstanceId": INSTANCE, "ExcludeBootVolume": True, "ExcludeDataVolumeIds": [volume]})
    stord.refused("MissingParameter", "ec2.CreateSnapshots", InstanceSpecification={})


def test_a_guest_that_cannot_be_switched_leaves_no_snapshot(stord, guests, volume):
    guests.plug(INSTANCE, volume)
    before, guests.refuse = stord.files(), True
    stord.refused("IncorrectState", "ec2.CreateSnapshot", VolumeId=volume)
    assert stord("ec2.DescribeSnapshots")["Snapshots"] == [] and stord.files() == before
    guests.refuse = False
    assert stord("ec2.CreateSnapshot", VolumeId=volume)["State"] == "completed"


def test_without_hvd_no_snapshot_is_promised_and_the_volume_goes_on(stord, guests, volume):
    guests.plug(INSTANCE, volume)
    guests.hang_up()
    stord.refused("ServiceUnavailable", "ec2.CreateSnapshot", VolumeId=volume)
    assert stord("ec2.DescribeSnapshots")["Snapshots"] == []
    guests.listen()
    until(lambda: "_NextLayer" not in stord.volume(volume))
    qemu_io(guests.instances[INSTANCE].url(volume), "write -P 7 0 1M", "flush", mode=("-f", "raw"))
    until(lambda: len(stord.files()) == 1)
    guests.end(INSTANCE, "kill")
    guests.start(INSTANCE)
    qemu_io(layer(stord, volume), "read -P 7 0 1M")


def test_a_snapshot_is_shared_by_name_and_with_all(stord, volume):
    tags = [{"Key": "who", "Value": "mine"}]
    snapshot = stord("ec2.CreateSnapshot", VolumeId=volume, TagSpecifications=[{"ResourceType": "snapshot", "Tags": tags}])["SnapshotId"]

    def seen(**parameters):
        return [s["SnapshotId"] for s in stord("ec2.DescribeSnapshots", context=OTHER, **parameters)["Snapshots"]]

    def shown():
        return stord("ec2.DescribeSnapshotAttribute", SnapshotId=snapshot, Attribute="createVolumePermission")["CreateVolumePermissions"]
    make = dict(AvailabilityZone="us-east-1a", SnapshotId=snapshot)
    assert shown() == [] and seen() == []
    stord.refused("InvalidSnapshot.NotFound", "ec2.CreateVolume", context=OTHER, **make)
    stord("ec2.ModifySnapshotAttribute", SnapshotId=snapshot, CreateVolumePermission={"Add": [{"UserId": "210987654321"}]})
    assert shown() == [{"UserId": "210987654321"}] and seen() == [snapshot]
    assert seen(RestorableByUserIds=["self"]) == [snapshot] and seen(RestorableByUserIds=["all"]) == []
    assert seen(OwnerIds=["self"]) == [] and seen(OwnerIds=["123456789012"]) == [snapshot]
    rows = [stord("ec2.DescribeSnapshots", context=who, SnapshotIds=[snapshot])["Snapshots"][0].get("Tags", []) for who in (OTHER, {})]
    assert rows == [[], tags], "tags are their owner's"
    assert seen(Filters=[{"Name": "tag:who", "Values": ["mine"]}]) == []
    far = {**OTHER, "region": "ap-northeast-2"}
    assert stord("ec2.DescribeSnapshots", context=far)["Snapshots"] == [], "it is its region's"
    with pytest.raises(Fault, match="InvalidSnapshot.NotFound"):
        stord("ec2.DescribeSnapshots", context=far, SnapshotIds=[snapshot])
    made = stord("ec2.CreateVolume", context=OTHER, **make)
    assert made["Size"] == 2
    stord.refused("InvalidSnapshot.NotFound", "ec2.DeleteSnapshot", context=OTHER, SnapshotId=snapshot)
    stord("ec2.ModifySnapshotAttribute", SnapshotId=snapshot, Attribute="createVolumePermission", OperationType="add", GroupNames=["all"])
    stord("ec2.ModifySnapshotAttribute", SnapshotId=snapshot, OperationType="remove", UserIds=["210987654321"])
    assert shown() == [{"Group": "all"}] and seen(RestorableByUserIds=["all"]) == [snapshot]
    stord.refused("InvalidParameterValue", "ec2.ModifySnapshotAttribute", SnapshotId=snapshot,
                  CreateVolumePermission={"Add": [{"UserId": "nobody"}]})
    stord("ec2.ResetSnapshotAttribute", SnapshotId=snapshot, Attribute="createVolumePermission")
    assert shown() == [] and seen() == []
    stord("ec2.DeleteSnapshot", SnapshotId=snapshot)
    until(lambda: stord("ec2.DescribeVolumes", context=OTHER)["Volumes"][0]["State"] == "available")


def test_who_sees_a_snapshot_tags_it_for_himself(stord, volume):
    """Through death, and until it is no longer shared with him, or is deleted."""
    snapshot = stord("ec2.CreateSnapshot", VolumeId=volume)["SnapshotId"]
    tag = dict(Resources=[snapshot], Tags=[{"Key": "k", "Value": "theirs"}])
    by_tag = dict(Filters=[{"Name": "tag:k", "Values": ["theirs"]}])

    def tags(who):
        seen = [s.get("Tags", []) for s in stord("ec2.DescribeSnapshots", context=who, **by_tag)["Snapshots"]]
        listed = [{"Key": t["Key"], "Value": t["Value"]} for t in stord("ec2.DescribeTags", context=who)["Tags"] if t["ResourceId"] == snapshot]
        assert seen == [listed] if listed else seen == [], (seen, listed)
        return listed

    def share(change, **permission):
        stord("ec2.ModifySnapshotAttribute", SnapshotId=snapshot, CreateVolumePermission={change: [permission]})
    stord.refused("InvalidSnapshot.NotFound", "ec2.CreateTags", context=OTHER, **tag)
    for permission in ({"UserId": OTHER["account"]}, {"Group": "all"}):
        share("Add", **permission)
        stord("ec2.CreateTags", context=OTHER, **tag)
        stord.kill()
        stord.start()
        assert tags(OTHER) == tag["Tags"] and tags({}) == [] and tags({"account": "111111111111"}) == []
        share("Remove", **permission)
        assert tags(OTHER) == []
        stord.refused("InvalidSnapshot.NotFound", "ec2.DeleteTags", context=OTHER, **tag)
        share("Add", **permission)
        assert tags(OTHER) == [], "they ended with what was shared"
        share("Remove", **permission)
    share("Add", Group="all")
    stord("ec2.CreateTags", context=OTHER, **tag)
    stord("ec2.EnableSnapshotBlockPublicAccess", State="block-all-sharing")
    assert tags(OTHER) == []
    stord("ec2.DisableSnapshotBlockPublicAccess")
    assert tags(OTHER) == tag["Tags"], "hidden with the snapshot, which stayed marked"
    stord("ec2.DeleteTags", context=OTHER, Resources=[snapshot])
    assert tags(OTHER) == []
    stord("ec2.CreateTags", context=OTHER, **tag)
    stord("ec2.DeleteSnapshot", SnapshotId=snapshot)
    assert stord("ec2.DescribeTags", context=OTHER)["Tags"] == []
    stord.kill()
    with sqlite3.connect(os.path.join(stord.state, "state.db")) as state:
        assert not [row for row in state.execute("SELECT * FROM doc") if "theirs" in str(row)]


def test_tiers_are_told(stord, volume):
    snapshot = stord("ec2.CreateSnapshot", VolumeId=volume)["SnapshotId"]
    row = stord("ec2.DescribeSnapshotTierStatus", Filters=[{"Name": "snapshot-id", "Values": [snapshot]}])["SnapshotTierStatuses"][0]
    assert (row["StorageTier"], row["Status"], row["VolumeId"]) == ("standard", "completed", volume)


def test_a_deleted_snapshot_is_restored_within_its_retention(stord, volume):
    stord.stop()
    with open(os.path.join(stord.root, "gureum.conf"), "a") as f:
        f.write("SnapshotRetentionDays=7\n")
    stord.start()
    qemu_io(layer(stord, volume), "write -P 5 0 1M")
    snapshot = stord("ec2.CreateSnapshot", VolumeId=volume, Description="kept")["SnapshotId"]
    stord("ec2.DeleteSnapshot", SnapshotId=snapshot)
    stord("ec2.DeleteVolume", VolumeId=volume)
    stord.refused("InvalidSnapshot.NotFound", "ec2.DescribeSnapshots", SnapshotIds=[snapshot])
    row = stord("ec2.ListSnapshotsInRecycleBin")["Snapshots"][0]
    assert row["SnapshotId"] == snapshot and row["Description"] == "kept" and row["RecycleBinExitTime"] > row["RecycleBinEnterTime"]
    stord.kill()
    stord.start()
    assert stord("ec2.RestoreSnapshotFromRecycleBin", SnapshotId=snapshot)["State"] == "completed"
    assert stord("ec2.ListSnapshotsInRecycleBin")["Snapshots"] == []
    stord.refused("InvalidSnapshot.NotFound", "ec2.RestoreSnapshotFromRecycleBin", SnapshotId=snapshot)
    again = stord.create(SnapshotId=snapshot)
    stord.available(again)
    qemu_io(layer(stord, again), "read -P 5 0 1M")
    stord("ec2.DeleteVolume", VolumeId=again)
    stord("ec2.DeleteSnapshot", SnapshotId=snapshot)
    # Its time comes while nobody looks.
    stord.stop()
    db = sqlite3.connect(os.path.join(stord.state, "state.db"))
    db.execute("UPDATE doc SET json = json_set(json, '$._BinExit', 1) WHERE kind = 'snapshot-in-bin'")
    db.commit()
    db.close()
    stord.start()
    until(lambda: stord.files() == set())
    assert stord("ec2.ListSnapshotsInRecycleBin")["Snapshots"] == []


def test_the_longest_rule_that_applies_keeps_a_deleted_snapshot(stord, volume):
    def rule(days, **more):
        period = {"RetentionPeriodValue": days, "RetentionPeriodUnit": "DAYS"}
        return stord("rbin.CreateRule", RetentionPeriod=period, ResourceType="EBS_SNAPSHOT", **more)["Identifier"]

    def days_in_bin(tags=()):
        specification = [{"ResourceType": "snapshot", "Tags": list(tags)}] if tags else []
        snapshot = stord("ec2.CreateSnapshot", VolumeId=volume, TagSpecifications=specification)["SnapshotId"]
        stord("ec2.DeleteSnapshot", SnapshotId=snapshot)
        rows = stord("ec2.ListSnapshotsInRecycleBin", SnapshotIds=[snapshot])["Snapshots"]
        enter, leave = (datetime.fromisoformat(rows[0][f"RecycleBin{m}Time"].replace("Z", "+00:00")) for m in ("Enter", "Exit"))
        return round((leave - enter).total_seconds() / 86400)

    of_tags = rule(30, ResourceTags=[{"ResourceTagKey": "keep", "ResourceTagValue": "yes"}])
    with pytest.raises(Fault) as caught:
        days_in_bin([{"Key": "keep", "Value": "no"}])
    assert caught.value.code == "InvalidSnapshot.NotFound", "no rule applies: it is gone at once"
    assert days_in_bin([{"Key": "keep", "Value": "yes"}]) == 30
    of_region = rule(3, Description="all")
    assert days_in_bin() == 3 and days_in_bin([{"Key": "keep", "Value": "yes"}]) == 30
    stord("rbin.UpdateRule", Identifier=of_region, RetentionPeriod={"RetentionPeriodValue": 40, "RetentionPeriodUnit": "DAYS"})
    stord.kill()
    stord.start()
    assert days_in_bin([{"Key": "keep", "Value": "yes"}]) == 40
    assert [r["Identifier"] for r in stord("rbin.ListRules", ResourceType="EBS_SNAPSHOT")["Rules"]] == [of_tags, of_region]
    page = stord("rbin.ListRules", ResourceType="EBS_SNAPSHOT", MaxResults=1)
    rest = stord("rbin.ListRules", ResourceType="EBS_SNAPSHOT", MaxResults=1, NextToken=page["NextToken"])
    assert [r["Identifier"] for r in page["Rules"] + rest["Rules"]] == [of_tags, of_region] and "NextToken" not in rest
    stord.refused("ValidationException:INVALID_PAGE_TOKEN", "rbin.ListRules", ResourceType="EBS_SNAPSHOT", NextToken="AAAA")
    for wrong in ({"ResourceType": "EBS_LUN"}, {"RetentionPeriod": {"RetentionPeriodValue": 366, "RetentionPeriodUnit": "DAYS"}}):
        right = {"ResourceType": "EBS_SNAPSHOT", "RetentionPeriod": {"RetentionPeriodValue": 1, "RetentionPeriodUnit": "DAYS"}}
        stord.refused("ValidationException:INVALID_PARAMETER_VALUE", "rbin.CreateRule", **{**right, **wrong})
    stord("rbin.DeleteRule", Identifier=of_region)
    for action in ("Get", "Update", "Delete"):
        stord.refused("ResourceNotFoundException:RULE_NOT_FOUND", f"rbin.{action}Rule", Identifier=of_region)
    assert stord("rbin.GetRule", Identifier=of_tags)["ResourceTags"] == [{"ResourceTagKey": "keep", "ResourceTagValue": "yes"}]


def patiently(stord, volume):
    """A snapshot, or None while the volume's chain is still being shortened."""
    try:
        return stord("ec2.CreateSnapshot", VolumeId=volume)["SnapshotId"]
    except Fault as e:
        assert e.code == "SnapshotCreationPerVolumeRateExceeded", e
        return None


def test_100_snapshots_leave_a_short_chain(stord, guests, volume):
    """A running guest's volume is shortened by its QEMU, and every snapshot keeps what it has."""
    guests.plug(INSTANCE, volume)
    url, taken = guests.instances[INSTANCE].url(volume), []
    for n in range(100):
        qemu_io(url, f"write -P {n + 1} {n * 65536} 64k", "flush", mode=("-f", "raw"))
        taken.append(until(lambda: patiently(stord, volume)))
    until(lambda: depth(layer(stord, volume)) <= 18)
    qemu_io(url, *[f"read -P {n + 1} {n * 65536} 64k" for n in range(100)], mode=("-f", "raw", "-r"))
    rows = {s["SnapshotId"]: s for s in stord("ec2.DescribeSnapshots")["Snapshots"]}
    for n in (0, 20, 50, 99):
        path = os.path.join(stord.state, rows[taken[n]]["_Layer"])
        reads = [f"read -P {k + 1 if k <= n else 0} {k * 65536} 64k" for k in range(100)]
        qemu_io(path, *reads, mode=("-r", "-U"))
        assert depth(path) <= 32
    for snapshot in taken[::2] + taken[1::2]:
        stord("ec2.DeleteSnapshot", SnapshotId=snapshot)
    until(lambda: len(stord.files()) <= 2)
    qemu_io(url, *[f"read -P {n + 1} {n * 65536} 64k" for n in range(100)], mode=("-f", "raw", "-r"))


def test_documents_from_before_layers_are_taken_over(stord, images):
    snapshot = stord.snapshot(images["disk"])
    volume = stord.create(SnapshotId=snapshot)
    stord.available(volume)
    stord.stop()
    db = sqlite3.connect(os.path.join(stord.state, "state.db"))
    db.execute("DELETE FROM doc WHERE kind = '_layer'")
    db.execute("UPDATE doc SET json = json_set(json_remove(json, '$._Layer', '$._Layers'), '$._Backing', ?, '$._BackingFormat', 'qcow2') "
               "WHERE kind = 'volume'", (f"snapshots/{snapshot}.qcow2",))
    db.execute("UPDATE doc SET json = json_set(json_remove(json, '$._Layer'), '$._Format', 'qcow2') WHERE kind = 'snapshot'")
    db.execute("PRAGMA user_version = 1")
    db.commit()
    db.close()
    stord.start()
    qemu_io(layer(stord, volume), "read -P 0x41 1M 2M")
    second = stord("ec2.CreateSnapshot", VolumeId=volume)["SnapshotId"]
    stord("ec2.DeleteSnapshot", SnapshotId=snapshot)
    stord("ec2.DeleteVolume", VolumeId=volume)
    stord("ec2.DeleteSnapshot", SnapshotId=second)
    until(lambda: stord.files() == set())


def test_fsck_finds_what_is_wrong_and_mends_what_it_may(stord, volume):
    first = stord("ec2.CreateSnapshot", VolumeId=volume)["SnapshotId"]
    assert stord("gureum.Fsck")["Findings"] == []
    base = stord("ec2.DescribeSnapshots", SnapshotIds=[first])["Snapshots"][0]["_Layer"]
    orphan = os.path.join(stord.state, "snapshots", "snap-0123456789abcdef0.qcow2")
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", orphan, "1M"], check=True)
    subprocess.run(["qemu-img", "rebase", "-q", "-u", "-f", "qcow2", "-b", orphan, "-F", "qcow2", layer(stord, volume)], check=True)
    found = {f["What"]: f["Name"] for f in stord("gureum.Fsck")["Findings"]}
    assert found == {"header": stord.volume(volume)["_Layer"], "orphan": "snapshots/snap-0123456789abcdef0.qcow2"}
    stord("gureum.Fsck", Repair=True)
    assert [f["What"] for f in stord("gureum.Fsck")["Findings"]] == ["orphan"], "a file that nobody names is never deleted"
    os.unlink(orphan)
    os.rename(os.path.join(stord.state, base), os.path.join(stord.root, "kept"))
    assert "missing" in [f["What"] for f in stord("gureum.Fsck")["Findings"]]
    os.rename(os.path.join(stord.root, "kept"), os.path.join(stord.state, base))
    with open(os.path.join(stord.state, base), "r+b") as f:
        f.seek(3 * 65536)
        f.write(b"\x80\0\0\0\0\x7f\0\0")
    assert "corrupt" in [f["What"] for f in stord("gureum.Fsck", Repair=True)["Findings"]]


def test_fsck_tells_of_a_file_whatever_its_name(stord):
    open(os.path.join(stord.state.encode(), b"snapshots", b"odd\xff.qcow2"), "w").close()
    assert [(f["What"], f["Name"]) for f in stord("gureum.Fsck")["Findings"]] == [("orphan", "snapshots/odd?.qcow2")]
