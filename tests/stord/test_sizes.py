"""FullSnapshotSizeInBytes: what a snapshot holds, whatever layers it shares."""
import json
import os
import sqlite3

import pytest

from conftest import until
from test_direct import BLOCK, blocks, pattern, write
from test_model import io_encrypted
from test_snapshots import layer, qemu_io

MIB = 1 << 20


def size(stord, snapshot):
    """Once it is counted; as many blocks as can be read of it."""
    row = until(lambda: (s := stord("ec2.DescribeSnapshots", SnapshotIds=[snapshot])["Snapshots"][0]).get("FullSnapshotSizeInBytes") is not None and s)
    assert row["State"] == "completed" and row["CompletionTime"] >= row["StartTime"]
    assert row["FullSnapshotSizeInBytes"] == BLOCK * len(blocks(stord, snapshot))
    return row["FullSnapshotSizeInBytes"]


@pytest.mark.parametrize("is_encrypted", [False, True])
def test_a_snapshot_is_counted_whole_and_not_what_is_new_in_it(stord, is_encrypted):
    volume = stord.create(Size=3, Encrypted=is_encrypted)
    stord.available(volume)

    def take(*commands):
        if commands and is_encrypted:
            io_encrypted(stord, volume, *commands)
        elif commands:
            qemu_io(layer(stord, volume), *commands)
        return stord("ec2.CreateSnapshot", VolumeId=volume)["SnapshotId"]
    empty, first = take(), take("write -P 1 0 2M", "write -P 1 2G 4k")
    second = take("write -P 2 1M 2M", "write -P 2 3145724k 4k")  # the last of 3 GiB
    third = take("write -z 0 1M")
    assert [size(stord, s) // BLOCK for s in (empty, first, second, third)] == [0, 5, 8, 6]
    stord("ec2.DeleteSnapshot", SnapshotId=first)
    until(lambda: stord("gureum.Fsck")["Idle"])
    assert size(stord, second) == 8 * BLOCK, "its layer may be another by now"


def test_what_came_by_other_ways_is_counted(stord, images):
    disk, kernel = stord.snapshot(images["disk"]), stord.snapshot(images["kernel"], "raw")
    assert size(stord, disk) == 2 * MIB and size(stord, kernel) == 3 * BLOCK
    by_blocks = write(stord, {0: pattern(0), 9: pattern(9)})
    assert size(stord, by_blocks) == 2 * BLOCK
    copy = stord("ec2.CopySnapshot", SourceRegion="us-east-1", SourceSnapshotId=disk)["SnapshotId"]
    assert size(stord, copy) == 2 * MIB
    shown = {s["SnapshotId"]: s.get("TransferType") for s in stord("ec2.DescribeSnapshots")["Snapshots"]}
    assert shown == {disk: None, kernel: None, by_blocks: None, copy: "standard"}


def forget_sizes(stord):
    """As a stord did that did not know them."""
    stord.kill()
    with sqlite3.connect(os.path.join(stord.state, "state.db")) as db:
        for name, text in db.execute("SELECT id, json FROM doc WHERE kind IN ('snapshot', 'snapshot-in-bin')").fetchall():
            row = json.loads(text)
            del row["FullSnapshotSizeInBytes"]
            db.execute("UPDATE doc SET json = ? WHERE id = ?", (json.dumps(row), name))
    db.close()


def test_sizes_that_are_missing_are_counted_at_the_start_and_after_the_bin(stord, images):
    kept, lost = (stord.snapshot(images["disk"]) for _ in range(2))
    stord("rbin.CreateRule", ResourceType="EBS_SNAPSHOT", RetentionPeriod={"RetentionPeriodValue": 1, "RetentionPeriodUnit": "DAYS"})
    deleted = stord.snapshot(images["disk"])
    for s in (kept, lost, deleted):
        size(stord, s)
    stord("ec2.DeleteSnapshot", SnapshotId=deleted)
    forget_sizes(stord)
    with open(os.path.join(stord.state, "snapshots", f"{lost}.qcow2"), "r+b") as f:
        f.write(b"no qcow2")
    stord.start()
    assert size(stord, kept) == 2 * MIB
    stord("ec2.RestoreSnapshotFromRecycleBin", SnapshotId=deleted)
    assert size(stord, deleted) == 2 * MIB
    assert "FullSnapshotSizeInBytes" not in stord("ec2.DescribeSnapshots", SnapshotIds=[lost])["Snapshots"][0]
