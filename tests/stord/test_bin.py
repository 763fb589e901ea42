"""The recycle bin: what is deleted comes back as it was, or goes for good; and its rules."""
import json
import os
import sqlite3
from datetime import datetime, timedelta

import pytest

from conftest import Gone, until
from guests import Guests
from operations import TRANSACTION
from test_modify import virtual_size
from test_snapshots import INSTANCE, layer, qemu_io
from test_steps import STEPS_MAX, Stord, world  # noqa: F401 (a fixture)

ARN = "arn:aws:rbin:us-east-1:123456789012:rule/"
DAYS = {"RetentionPeriodUnit": "DAYS"}


@pytest.fixture
def guests(stord):
    made = Guests(stord)
    made.start(INSTANCE)
    yield made
    made.close()


def rule(stord, days=7, kind="EBS_VOLUME", **more):
    return stord("rbin.CreateRule", RetentionPeriod={"RetentionPeriodValue": days, **DAYS}, ResourceType=kind, **more)


OVER = "UPDATE doc SET json = json_set(json, '$._BinExit', 1) WHERE kind LIKE '%-in-bin'"


def change_state(stord, statement):
    """While the daemon is down: how time passes here."""
    with sqlite3.connect(os.path.join(stord.state, "state.db")) as db:
        db.execute(statement)
    db.close()


def state_db(stord, statement):
    stord.stop()
    change_state(stord, statement)
    stord.start()


def in_bin(stord):
    return stord("ec2.ListVolumesInRecycleBin")["Volumes"]


def expire(stord):
    state_db(stord, OVER)


def clean(stord):
    report = until(lambda: (r := stord("gureum.Fsck"))["Idle"] and r)
    assert report["Findings"] == [], report


def test_a_deleted_volume_comes_back_as_it_was(stord):
    rule(stord)
    tags = [{"Key": "Name", "Value": "precious"}]
    volume = stord.create(Size=10, VolumeType="gp3", Iops=4000, Throughput=200, TagSpecifications=[{"ResourceType": "volume", "Tags": tags}])
    stord.available(volume)
    qemu_io(layer(stord, volume), "write -P 7 1G 1M")
    before, files = stord.volume(volume), stord.files()
    stord("ec2.DeleteVolume", VolumeId=volume)
    # It is nowhere else, and nothing can be done with it.
    assert stord("ec2.DescribeVolumes")["Volumes"] == []
    for action in ("AttachVolume", "DeleteVolume", "CreateSnapshot", "ModifyVolume"):
        stord.refused("InvalidVolume.NotFound", f"ec2.{action}", VolumeId=volume, InstanceId=INSTANCE, Device="/dev/sdf", Size=9)
    row, = in_bin(stord)
    enter, leave = (datetime.fromisoformat(row[f"RecycleBin{m}Time"].replace("Z", "+00:00")) for m in ("Enter", "Exit"))
    assert leave - enter == timedelta(days=7)
    assert {m: row[m] for m in ("VolumeId", "Size", "VolumeType", "Iops", "Throughput", "AvailabilityZone", "CreateTime", "State")} == {
        "VolumeId": volume, "Size": 10, "VolumeType": "gp3", "Iops": 4000, "Throughput": 200, "AvailabilityZone": "us-east-1a",
        "CreateTime": before["CreateTime"], "State": "available"}
    assert stord("ec2.ListVolumesInRecycleBin", context={"account": "210987654321"})["Volumes"] == []
    # But for its tags.
    stord("ec2.CreateTags", Resources=[volume], Tags=[{"Key": "while", "Value": "in the bin"}])
    assert [t["Key"] for t in stord("ec2.DescribeTags", Filters=[{"Name": "resource-id", "Values": [volume]}])["Tags"]] == ["Name", "while"]
    stord("ec2.DeleteTags", Resources=[volume], Tags=[{"Key": "while"}])
    stord.kill()
    stord.start()
    assert stord.files() == files
    assert stord("ec2.RestoreVolumeFromRecycleBin", VolumeId=volume) == {"Return": True}
    assert stord.volume(volume) == before and in_bin(stord) == []
    qemu_io(layer(stord, volume), "read -P 7 1G 1M", "read -P 0 0 1M")
    stord.refused("InvalidVolume.NotFound", "ec2.RestoreVolumeFromRecycleBin", VolumeId=volume)
    stord.refused("InvalidVolumeID.Malformed", "ec2.RestoreVolumeFromRecycleBin", VolumeId="vol-1")
    stord.refused("InvalidVolume.NotFound", "ec2.ListVolumesInRecycleBin", VolumeIds=[volume])
    stord("ec2.DeleteVolume", VolumeId=volume)
    expire(stord)
    until(lambda: stord.files() == set())
    assert in_bin(stord) == []
    clean(stord)


def test_a_volume_in_the_bin_keeps_its_layers_through_merges(stord):
    """Its snapshots go one after the other, so its layers are merged, and it is restored in the middle."""
    rule(stord)
    volume = stord.create(Size=1)
    stord.available(volume)
    taken = []
    for n in range(6):
        qemu_io(layer(stord, volume), f"write -P {n + 1} {n}M 1M")
        taken.append(stord("ec2.CreateSnapshot", VolumeId=volume)["SnapshotId"])
    stord("ec2.DeleteVolume", VolumeId=volume)
    for snapshot in taken[:3]:
        stord("ec2.DeleteSnapshot", SnapshotId=snapshot)
    clean(stord)
    assert len(stord.files()) == 4, "three snapshots and what the volume would write"
    stord("ec2.RestoreVolumeFromRecycleBin", VolumeId=volume)
    for snapshot in taken[3:]:
        stord("ec2.DeleteSnapshot", SnapshotId=snapshot)
    stord("ec2.DeleteVolume", VolumeId=volume)
    stord.kill()
    stord.start()
    clean(stord)
    assert len(stord.files()) == 1
    stord("ec2.RestoreVolumeFromRecycleBin", VolumeId=volume)
    qemu_io(layer(stord, volume), *[f"read -P {n + 1} {n}M 1M" for n in range(6)])


def test_what_goes_with_its_instance_goes_through_the_bin(stord, guests):
    rule(stord)
    volume = stord.create(Size=1)
    stord.available(volume)
    guests.plug(INSTANCE, volume)
    qemu_io(guests.instances[INSTANCE].url(volume), "write -P 9 0 1M", mode=("-f", "raw"))
    snapshot = stord("ec2.CreateSnapshot", VolumeId=volume)["SnapshotId"]
    stord.refused("VolumeInUse", "ec2.DeleteVolume", VolumeId=volume)
    guests.end(INSTANCE)
    stord("ec2.DeleteVolume", VolumeId=volume, _Force=True)
    assert [v["VolumeId"] for v in in_bin(stord)] == [volume]
    stord("ec2.DeleteSnapshot", SnapshotId=snapshot)
    stord("ec2.RestoreVolumeFromRecycleBin", VolumeId=volume)
    assert stord.volume(volume)["State"] == "available" and stord.volume(volume)["Attachments"] == []
    clean(stord)
    qemu_io(layer(stord, volume), "read -P 9 0 1M")


def test_a_volume_whose_file_is_lost_in_the_bin_comes_back_as_an_error(stord):
    rule(stord)
    volume = stord.create(Size=1)
    stord.available(volume)
    path = layer(stord, volume)
    stord("ec2.DeleteVolume", VolumeId=volume)
    stord.stop()
    os.unlink(path)
    stord.start()
    assert in_bin(stord)[0]["State"] == "error"
    stord("ec2.RestoreVolumeFromRecycleBin", VolumeId=volume)
    assert stord.volume(volume)["State"] == "error" and stord.files() == set(), "never made anew empty"
    stord.refused("IncorrectState", "ec2.AttachVolume", VolumeId=volume, InstanceId=INSTANCE, Device="/dev/sdf")
    stord("ec2.DeleteVolume", VolumeId=volume)
    assert in_bin(stord) == []


def test_which_rules_are_for_a_volume(stord):
    keep = rule(stord, 2, ResourceTags=[{"ResourceTagKey": "keep"}])["Identifier"]
    rule(stord, 300, "EBS_SNAPSHOT")

    def days(**tags):
        listed = [{"Key": k, "Value": v} for k, v in tags.items()]
        volume = stord.create(Size=1, TagSpecifications=[{"ResourceType": "volume", "Tags": listed}] if listed else [])
        stord.available(volume)
        stord("ec2.DeleteVolume", VolumeId=volume)
        found = [v for v in in_bin(stord) if v["VolumeId"] == volume]
        return [(datetime.fromisoformat(v["RecycleBinExitTime"][:19]) - datetime.fromisoformat(v["RecycleBinEnterTime"][:19])).days
                for v in found]

    assert days() == [] and days(keep="this") == [2]
    region = rule(stord, 5, ExcludeResourceTags=[{"ResourceTagKey": "waste", "ResourceTagValue": "yes"}])
    assert region["ExcludeResourceTags"] == [{"ResourceTagKey": "waste", "ResourceTagValue": "yes"}]
    assert days() == [5] and days(keep="x") == [5] and days(waste="no") == [5]
    assert days(waste="yes") == [] and days(waste="yes", keep="x") == [2]
    stord("rbin.DeleteRule", Identifier=keep)
    asked = {"ResourceType": "EBS_VOLUME", "ExcludeResourceTags": [{"ResourceTagKey": "waste"}]}
    assert [r["RuleArn"] for r in stord("rbin.ListRules", **asked)["Rules"]] == [ARN + region["Identifier"]]
    wrong = "ValidationException:INVALID_PARAMETER_VALUE"
    stord.refused(wrong, "rbin.CreateRule", ResourceType="EBS_VOLUME", RetentionPeriod={"RetentionPeriodValue": 8, **DAYS})
    stord.refused(wrong, "rbin.UpdateRule", Identifier=region["Identifier"], RetentionPeriod={"RetentionPeriodValue": 8, **DAYS})
    stord.refused(wrong, "rbin.UpdateRule", Identifier=region["Identifier"], ResourceType="EBS_SNAPSHOT")
    stord.refused(wrong, "rbin.UpdateRule", Identifier=region["Identifier"], ResourceTags=[{"ResourceTagKey": "a"}])


def test_a_locked_rule_is_not_touched_before_its_delay_is_over(stord):
    lock = {"LockConfiguration": {"UnlockDelay": {"UnlockDelayValue": 7, "UnlockDelayUnit": "DAYS"}}}
    longer = {"LockConfiguration": {"UnlockDelay": {"UnlockDelayValue": 8, "UnlockDelayUnit": "DAYS"}}}
    conflict, wrong = "ConflictException:INVALID_RULE_STATE", "ValidationException:INVALID_PARAMETER_VALUE"
    made = rule(stord)
    name = {"Identifier": made["Identifier"]}
    assert "LockState" not in made and made["RuleArn"] == ARN + made["Identifier"]
    stord.refused(conflict, "rbin.UnlockRule", **name)
    assert stord("rbin.LockRule", **name, **lock)["LockState"] == "locked"
    stord.kill()
    stord.start()
    stord.refused(conflict, "rbin.LockRule", **name, **lock)
    for state in ("locked", "pending_unlock"):
        stord.refused(conflict, "rbin.UpdateRule", **name, Description="other")
        stord.refused(conflict, "rbin.DeleteRule", **name)
        assert stord("rbin.GetRule", **name)["LockState"] == state
        assert [r["Identifier"] for r in stord("rbin.ListRules", ResourceType="EBS_VOLUME", LockState=state)["Rules"]] == [made["Identifier"]]
        if state == "locked":
            row = stord("rbin.UnlockRule", **name)
            end = datetime.fromisoformat(row["LockEndTime"][:19])
            assert abs((end - datetime.utcnow()).total_seconds() - 7 * 86400) < 3600
    stord.refused(conflict, "rbin.UnlockRule", **name)
    stord.refused(wrong, "rbin.LockRule", **name, **longer)
    assert "LockEndTime" not in stord("rbin.LockRule", **name, **lock)
    stord("rbin.UnlockRule", **name)
    state_db(stord, "UPDATE doc SET json = json_set(json, '$.LockEndTime', '2020-01-01T00:00:00.000Z') WHERE kind = 'rbin-rule'")
    row = stord("rbin.GetRule", **name)
    assert row["LockState"] == "unlocked" and "LockEndTime" not in row
    assert stord("rbin.UpdateRule", **name, Description="other")["Description"] == "other"
    stord("rbin.DeleteRule", **name)
    assert rule(stord, **lock)["LockState"] == "locked"
    tagged = rule(stord, ResourceTags=[{"ResourceTagKey": "a"}])["Identifier"]
    stord.refused(wrong, "rbin.LockRule", Identifier=tagged, **lock)
    excluding = rule(stord, ExcludeResourceTags=[{"ResourceTagKey": "a"}])["Identifier"]
    stord.refused(wrong, "rbin.LockRule", Identifier=excluding, **lock)
    stord.refused("ResourceNotFoundException:RULE_NOT_FOUND", "rbin.LockRule", Identifier="00000000000", **lock)


def test_a_rule_has_tags_of_its_own(stord):
    arn = rule(stord, Tags=[{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "2"}])["RuleArn"]
    stord("rbin.TagResource", ResourceArn=arn, Tags=[{"Key": "b", "Value": "3"}, {"Key": "c", "Value": "4"}])
    stord("rbin.UntagResource", ResourceArn=arn, TagKeys=["a", "none"])
    stord.kill()
    stord.start()
    assert stord("rbin.ListTagsForResource", ResourceArn=arn)["Tags"] == [{"Key": "b", "Value": "3"}, {"Key": "c", "Value": "4"}]
    stord.refused("ServiceQuotaExceededException:SERVICE_QUOTA_EXCEEDED", "rbin.TagResource", ResourceArn=arn,
                  Tags=[{"Key": f"k{n}", "Value": ""} for n in range(49)])
    stord.refused("ValidationException:INVALID_PARAMETER_VALUE", "rbin.TagResource", ResourceArn=arn, Tags=[{"Key": "aws:x", "Value": ""}])
    for wrong in (ARN + "00000000000", arn.replace("us-east-1", "eu-central-1"), arn.replace("123456789012", "210987654321")):
        stord.refused("ResourceNotFoundException:RULE_NOT_FOUND", "rbin.ListTagsForResource", ResourceArn=wrong)


def where(stord, volume):
    """In the bin, or there; never both, never neither."""
    there = [v["VolumeId"] for v in stord("ec2.DescribeVolumes")["Volumes"]]
    binned = [v["VolumeId"] for v in in_bin(stord)]
    assert there + binned == [volume]
    return "there" if there else "bin"


def to_the_bin_and_back(world, volume, snapshot):
    """While it is in the bin its layers are merged, because its snapshot goes."""
    world.stord("ec2.DeleteVolume", VolumeId=volume)
    world.forget(snapshot)
    until(lambda: world.stord("gureum.Fsck")["Idle"])
    world.stord("ec2.RestoreVolumeFromRecycleBin", VolumeId=volume)


class AtTransactions(Stord):
    """The steps of merges are walked in test_steps.py; here what they do to a volume in the bin counts."""

    def arm(self, n, name="a transaction"):
        super().arm(n, name)


def test_a_volume_is_in_one_place_after_a_kill_at_any_transaction(world):
    stord, killer, reached = world.stord, AtTransactions(world), 0
    for n in range(1, STEPS_MAX):
        kept = rule(stord)["Identifier"]
        volume = world.volume(1, 2, is_attached=False)
        snapshot = world.snapshot(volume)
        world.write(volume, 0, 3)
        world.settle()
        killer.arm(n)
        try:
            to_the_bin_and_back(world, volume, snapshot)
        except Gone:
            pass
        killer.revive()
        if where(stord, volume) == "bin":
            stord("ec2.RestoreVolumeFromRecycleBin", VolumeId=volume)
        world.settle()
        world.adopt()
        world.compare()
        stord("rbin.DeleteRule", Identifier=kept)
        world.all_goes()
        if not killer.at:
            break
        reached += 1
    assert reached >= 5, "deleted, its snapshot deleted, its layers merged, their file's mark, restored"


def test_a_volume_that_grew_says_so_after_a_kill_at_any_step_and_the_bin(world):
    """It goes to the bin before the growth that was cut off is taken up again, or after."""
    stord, killer, reached = world.stord, Stord(world), []
    for n in range(1, STEPS_MAX):
        kept = rule(stord)["Identifier"]
        volume = world.volume(1, 2, is_attached=False)
        world.settle()
        killer.arm(n)
        try:
            stord("ec2.ModifyVolume", VolumeId=volume, Size=3)
            until(lambda: killer.is_over() or stord("ec2.DescribeVolumesModifications")["VolumesModifications"][0]["ModificationState"] == "completed")
        except Gone:
            pass
        killer.revive()
        stord("ec2.DeleteVolume", VolumeId=volume)
        stord.kill()
        stord.start()
        stord("ec2.RestoreVolumeFromRecycleBin", VolumeId=volume)
        size = stord.volume(volume)["Size"]
        path = os.path.join(stord.state, stord.volume(volume)["_Layer"])
        assert virtual_size(stord, volume) == size << 30, f"{path} after {killer.at}"
        world.sizes[volume] = {size}
        world.compare()
        stord("rbin.DeleteRule", Identifier=kept)
        world.all_goes()
        if not killer.at:
            break
        reached.append(killer.at)
    assert TRANSACTION | {"a confined command"} <= set(reached), reached


def test_what_is_over_its_time_is_freed_after_a_kill_at_any_step(world):
    stord, killer, reached = world.stord, Stord(world), []
    for n in range(1, STEPS_MAX):
        kept = rule(stord)["Identifier"]
        volume = stord.create(Size=1)
        stord.available(volume)
        stord("ec2.DeleteVolume", VolumeId=volume)
        stord("rbin.DeleteRule", Identifier=kept)
        stord.stop()
        change_state(stord, OVER)
        killer.arm(n)
        try:
            stord.start()
            until(lambda: not in_bin(stord) and stord.files() == set())
        except (AssertionError, Gone):
            assert stord.process.wait() == -9
        killer.revive()
        until(lambda: not in_bin(stord) and stord.files() == set())
        clean(stord)
        if not killer.at:
            break
        reached.append(killer.at)
    assert TRANSACTION | {"a file's end"} <= set(reached), reached


def test_however_many_are_over_their_time_they_go(stord):
    stord.stop()
    with sqlite3.connect(os.path.join(stord.state, "state.db")) as db:
        for i in range(100):
            name = f"snapshots/snap-{i:017x}.qcow2"
            snapshot = {"SnapshotId": f"snap-{i:017x}", "State": "completed", "_Layer": name, "_BinEnter": 1, "_BinExit": 2}
            db.execute("INSERT INTO doc (kind, id, account, region, json) VALUES ('snapshot-in-bin', ?, '123456789012', 'us-east-1', ?)",
                       (snapshot["SnapshotId"], json.dumps(snapshot)))
            db.execute("INSERT INTO doc (kind, id, account, region, json) VALUES ('_layer', ?, '', '', ?)",
                       (name, json.dumps({"Format": "qcow2", "Bytes": 1 << 30})))
            open(os.path.join(stord.state, name), "w").close()
    db.close()
    stord.start()
    until(lambda: not stord("ec2.ListSnapshotsInRecycleBin")["Snapshots"])
    until(lambda: not stord.files())
    assert stord("gureum.Fsck")["Findings"] == []
