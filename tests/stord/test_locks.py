"""Locked snapshots, and what keeps snapshots from becoming public."""
import json
import os
import sqlite3

import pytest

OTHER = {"account": "210987654321"}
DAY = 86400 * 10**6


@pytest.fixture
def snapshot(stord):
    volume = stord.create(Size=1)
    stord.available(volume)
    return stord("ec2.CreateSnapshot", VolumeId=volume)["SnapshotId"]


def back_in_time(stord, snapshot, usec):
    """As if the lock had been made that much earlier."""
    stord.stop()
    with sqlite3.connect(os.path.join(stord.state, "state.db")) as db:
        text, = db.execute("SELECT json FROM doc WHERE kind = 'snapshot' AND id = ?", (snapshot,)).fetchone()
        row = json.loads(text)
        for member in ("CreatedOn", "Expires", "CoolOffExpires"):
            if member in row["_Lock"]:
                row["_Lock"][member] -= usec
        row["CompletionTime"] = "2020-01-01T00:00:00.000Z"
        db.execute("UPDATE doc SET json = ? WHERE kind = 'snapshot' AND id = ?", (json.dumps(row), snapshot))
    db.close()
    stord.start()


def state(stord, snapshot):
    rows = stord("ec2.DescribeLockedSnapshots", SnapshotIds=[snapshot])["Snapshots"]
    return rows[0]["LockState"] if rows else None


def test_a_governed_snapshot_is_deleted_only_when_unlocked_or_over(stord, snapshot):
    row = stord("ec2.LockSnapshot", SnapshotId=snapshot, LockMode="governance", LockDuration=2)
    assert (row["LockState"], row["LockDuration"], row["SnapshotId"]) == ("governance", 2, snapshot)
    assert row["LockExpiresOn"] > row["LockDurationStartTime"] == row["LockCreatedOn"]
    stord.kill()
    stord.start()
    stord.refused("SnapshotLocked", "ec2.DeleteSnapshot", SnapshotId=snapshot)
    assert stord("ec2.LockSnapshot", SnapshotId=snapshot, LockMode="governance", LockDuration=1)["LockDuration"] == 1
    assert stord("ec2.UnlockSnapshot", SnapshotId=snapshot) == {"SnapshotId": snapshot}
    assert state(stord, snapshot) is None
    stord.refused("IncorrectState", "ec2.UnlockSnapshot", SnapshotId=snapshot)
    stord("ec2.LockSnapshot", SnapshotId=snapshot, LockMode="governance", LockDuration=1)
    back_in_time(stord, snapshot, DAY + 1)
    assert state(stord, snapshot) == "expired"
    stord("ec2.DeleteSnapshot", SnapshotId=snapshot)


def test_a_compliant_snapshot_is_only_locked_longer_after_its_cooling_off(stord, snapshot):
    name = {"SnapshotId": snapshot, "LockMode": "compliance"}
    row = stord("ec2.LockSnapshot", **name, LockDuration=30, CoolOffPeriod=2)
    assert row["LockState"] == "compliance-cooloff" and row["CoolOffPeriod"] == 2 and row["CoolOffPeriodExpiresOn"] < row["LockExpiresOn"]
    stord("ec2.UnlockSnapshot", SnapshotId=snapshot)
    stord("ec2.LockSnapshot", **name, LockDuration=30, CoolOffPeriod=2)
    assert stord("ec2.LockSnapshot", **name, LockDuration=20, CoolOffPeriod=1)["LockDuration"] == 20
    back_in_time(stord, snapshot, DAY)
    assert state(stord, snapshot) == "compliance"
    for wrong in ({"LockDuration": 19}, {"LockDuration": 40, "CoolOffPeriod": 1}, {"LockDuration": 40, "LockMode": "governance"}):
        stord.refused("OperationNotPermitted", "ec2.LockSnapshot", **{**name, **wrong})
    stord.refused("OperationNotPermitted", "ec2.UnlockSnapshot", SnapshotId=snapshot)
    stord.refused("SnapshotLocked", "ec2.DeleteSnapshot", SnapshotId=snapshot)
    assert stord("ec2.LockSnapshot", **name, LockDuration=21)["LockState"] == "compliance"
    stord.refused("OperationNotPermitted", "ec2.LockSnapshot", **name, LockDuration=20)
    back_in_time(stord, snapshot, 21 * DAY)
    stord("ec2.DeleteSnapshot", SnapshotId=snapshot)


def test_wrong_locks_and_which_are_shown(stord, snapshot):
    right = {"SnapshotId": snapshot, "LockMode": "governance", "LockDuration": 1}
    for code, wrong in (("InvalidParameterCombination", {"CoolOffPeriod": 1}), ("InvalidParameterCombination", {"ExpirationDate": "2099-01-01T00:00:00Z"}),
                        ("InvalidParameterValue", {"LockDuration": 0}), ("InvalidParameterValue", {"LockDuration": 36501}),
                        ("InvalidParameterValue", {"LockMode": "compliance", "CoolOffPeriod": 73}),
                        ("InvalidSnapshot.NotFound", {"SnapshotId": "snap-0123456789abcdef0"})):
        stord.refused(code, "ec2.LockSnapshot", **{**right, **wrong})
    stord.refused("MissingParameter", "ec2.LockSnapshot", SnapshotId=snapshot, LockMode="governance")
    stord.refused("InvalidParameterValue", "ec2.LockSnapshot", SnapshotId=snapshot, LockMode="governance", ExpirationDate="2020-01-01T00:00:00.000Z")
    assert state(stord, snapshot) is None
    row = stord("ec2.LockSnapshot", SnapshotId=snapshot, LockMode="governance", ExpirationDate="2099-01-01T00:00:00.000Z")
    assert row["LockExpiresOn"] == "2099-01-01T00:00:00.000Z"
    assert [r["SnapshotId"] for r in stord("ec2.DescribeLockedSnapshots")["Snapshots"]] == [snapshot]
    for value, n in (("governance", 1), ("compliance", 0)):
        assert len(stord("ec2.DescribeLockedSnapshots", Filters=[{"Name": "lock-state", "Values": [value]}])["Snapshots"]) == n
    assert stord("ec2.DescribeLockedSnapshots", context=OTHER)["Snapshots"] == []
    stord("ec2.UnlockSnapshot", SnapshotId=snapshot)


def test_public_snapshots_are_blocked(stord, snapshot):
    public = {"SnapshotId": snapshot, "CreateVolumePermission": {"Add": [{"Group": "all"}]}}

    def sees():
        return [s["SnapshotId"] for s in stord("ec2.DescribeSnapshots", context=OTHER)["Snapshots"]]

    assert stord("ec2.GetSnapshotBlockPublicAccessState") == {"State": "unblocked", "ManagedBy": "account"}
    assert stord("ec2.EnableSnapshotBlockPublicAccess", State="block-new-sharing") == {"State": "block-new-sharing"}
    stord.refused("OperationNotPermitted", "ec2.ModifySnapshotAttribute", **public)
    stord("ec2.DisableSnapshotBlockPublicAccess")
    stord("ec2.ModifySnapshotAttribute", **public)
    assert sees() == [snapshot]
    stord("ec2.EnableSnapshotBlockPublicAccess", State="block-new-sharing")
    assert sees() == [snapshot], "what is public stays so"
    stord("ec2.EnableSnapshotBlockPublicAccess", State="block-all-sharing")
    stord.kill()
    stord.start()
    assert sees() == [] and stord("ec2.GetSnapshotBlockPublicAccessState")["State"] == "block-all-sharing"
    with pytest.raises(Exception, match="InvalidSnapshot.NotFound"):
        stord("ec2.CreateVolume", context=OTHER, AvailabilityZone="us-east-1a", SnapshotId=snapshot)
    stord("ec2.ModifySnapshotAttribute", SnapshotId=snapshot, CreateVolumePermission={"Add": [{"UserId": OTHER["account"]}]})
    assert sees() == [snapshot], "who was named has it all the same"
    stord("ec2.ModifySnapshotAttribute", SnapshotId=snapshot, CreateVolumePermission={"Remove": [{"UserId": OTHER["account"]}]})
    assert sees() == []
    assert stord("ec2.DisableSnapshotBlockPublicAccess") == {"State": "unblocked"}
    assert sees() == [snapshot]
    stord.refused("InvalidParameterValue", "ec2.EnableSnapshotBlockPublicAccess", State="unblocked")
    assert stord("ec2.GetSnapshotBlockPublicAccessState", context={"region": "eu-central-1"})["State"] == "unblocked"
