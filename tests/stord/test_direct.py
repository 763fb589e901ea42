"""EBS direct: backup by blocks, incremental, from one snapshot into another."""
import base64
import hashlib
import os
import random
import subprocess

import pytest

from conftest import Fault, Gone

BLOCK = 512 * 1024
REGION2 = {"region": "ap-northeast-2"}


def sum_of(data):
    return base64.b64encode(hashlib.sha256(data).digest()).decode()


def get(stord, snapshot, index, token):
    reply, fds = stord("ebs.GetSnapshotBlock", with_fds=True, SnapshotId=snapshot, BlockIndex=index, BlockToken=token)
    with os.fdopen(fds[0], "rb") as f:
        f.seek(0)
        data = f.read()
    assert len(data) == BLOCK == reply["DataLength"] and reply["Checksum"] == sum_of(data)
    return data


def put(stord, snapshot, index, data, checksum=None, length=None, **more):
    fd = os.memfd_create("block")
    try:
        os.write(fd, data)
        return stord("ebs.PutSnapshotBlock", fds=[fd], SnapshotId=snapshot, BlockIndex=index, DataLength=length or len(data),
                     Checksum=checksum or sum_of(data), ChecksumAlgorithm="SHA256", **more)
    finally:
        os.close(fd)


def blocks(stord, snapshot, **parameters):
    found, more = [], {}
    while True:
        page = stord("ebs.ListSnapshotBlocks", SnapshotId=snapshot, **parameters, **more)
        found += page["Blocks"]
        if "NextToken" not in page:
            return {b["BlockIndex"]: b["BlockToken"] for b in found}
        more = {"NextToken": page["NextToken"]}


def changed(stord, first, second, **parameters):
    found, more = [], {}
    while True:
        page = stord("ebs.ListChangedBlocks", FirstSnapshotId=first, SecondSnapshotId=second, **parameters, **more)
        found += page["ChangedBlocks"]
        if "NextToken" not in page:
            return {b["BlockIndex"]: b for b in found}
        more = {"NextToken": page["NextToken"]}


def linear(sums):
    return base64.b64encode(hashlib.sha256(b"".join(sums[i] for i in sorted(sums))).digest()).decode()


def write(stord, contents, gib=1, parent=None, **more):
    """A snapshot of these blocks: {index: data}."""
    started = stord("ebs.StartSnapshot", VolumeSize=gib, **({"ParentSnapshotId": parent} if parent else {}), **more)
    assert started["Status"] == "pending" and started["BlockSize"] == BLOCK
    for index, data in contents.items():
        put(stord, started["SnapshotId"], index, data)
    done = stord("ebs.CompleteSnapshot", SnapshotId=started["SnapshotId"], ChangedBlocksCount=len(contents),
                 Checksum=linear({i: hashlib.sha256(d).digest() for i, d in contents.items()}),
                 ChecksumAlgorithm="SHA256", ChecksumAggregationMethod="LINEAR")
    assert done["Status"] == "completed"
    return started["SnapshotId"]


def pattern(n):
    return random.Random(n).randbytes(BLOCK)


def contents(stord, snapshot):
    return {i: get(stord, snapshot, i, t) for i, t in blocks(stord, snapshot).items()}


def layer_of(stord, snapshot):
    return os.path.join(stord.state, "snapshots", snapshot + ".qcow2")


def checked(path):
    r = subprocess.run(["qemu-img", "check", path], capture_output=True, text=True)
    assert r.returncode == 0, r.stdout + r.stderr


def test_an_imported_disk_is_read_by_blocks(stord, images):
    snapshot = stord.snapshot(images["disk"])
    assert {i: d == b"\x41" * BLOCK for i, d in contents(stord, snapshot).items()} == {2: True, 3: True, 4: True, 5: True}
    raw = stord.snapshot(images["kernel"], "raw")
    with open(images["kernel"], "rb") as f:
        whole = f.read()
    got = contents(stord, raw)
    assert b"".join(got[i] for i in sorted(got))[:len(whole)] == whole and not any(got[max(got)][len(whole) % BLOCK:])


def test_what_was_put_is_what_is_got(stord):
    wanted = {0: pattern(0), 7: pattern(7), 2047: pattern(1), 1024: bytes(BLOCK)}
    snapshot = write(stord, wanted, Description="by blocks", Tags=[{"Key": "a", "Value": "b"}])
    shown = stord("ec2.DescribeSnapshots", SnapshotIds=[snapshot])["Snapshots"][0]
    assert shown["State"] == "completed" and shown["Progress"] == "100%" and shown["VolumeSize"] == 1
    assert shown["Description"] == "by blocks" and shown["Tags"] == [{"Key": "a", "Value": "b"}]
    got = contents(stord, snapshot)
    assert all(got.get(i, bytes(BLOCK)) == d for i, d in wanted.items()) and set(got) <= set(wanted)
    checked(layer_of(stord, snapshot))
    volume = stord.create(SnapshotId=snapshot)
    stord.available(volume)
    at = stord("ec2.AttachVolume", VolumeId=volume, InstanceId="i-0123456789abcdef0", Device="/dev/sdf")["_Path"]
    raw = os.path.join(stord.root, "raw")
    subprocess.run(["qemu-img", "convert", "-O", "raw", at, raw], check=True)
    with open(raw, "rb") as f:
        for i, data in wanted.items():
            f.seek(i * BLOCK)
            assert f.read(BLOCK) == data, i


def test_an_incremental_backup_carries_only_what_changed(stord):
    full = {i: pattern(i) for i in (0, 1, 100, 2000)}
    first = write(stord, full)
    changes = {1: pattern(77), 500: pattern(500), 2000: bytes(BLOCK)}
    second = write(stord, changes, parent=first)
    assert set(changed(stord, first, second)) == {1, 500, 2000}
    # Another place: the first copied whole, the second by what changed.
    copy = write(stord, contents(stord, first))
    difference = {i: get(stord, second, i, b["SecondBlockToken"]) for i, b in changed(stord, first, second).items()}
    assert difference == changes
    again = write(stord, difference, parent=copy)
    assert contents(stord, again) == contents(stord, second)
    assert set(changed(stord, copy, again)) == set(changes)
    assert {i: get(stord, again, i, t) for i, t in blocks(stord, again).items()} == {
        i: d for i, d in {**full, **changes}.items() if any(d)}
    checked(layer_of(stord, second))
    both = changed(stord, first, second)
    assert get(stord, first, 1, both[1]["FirstBlockToken"]) == full[1]
    # The same bytes put again are no change, and neither is what both have.
    third = write(stord, {1: changes[1], 3: bytes(BLOCK)}, parent=second)
    assert changed(stord, second, third) == {}


def qemu_io(path, *commands):
    r = subprocess.run(["qemu-io", *[a for c in commands for a in ("-c", c)], path], capture_output=True, text=True)
    assert r.returncode == 0 and "failed" not in r.stdout + r.stderr, r.stdout + r.stderr


def test_snapshots_of_a_volume_are_backed_up_by_what_changed(stord):
    """As a backup tool does it: the first whole, then what each next one changed, and the copy has the volume's bytes."""
    volume = stord.create(Size=1)
    stord.available(volume)
    steps = [("write -P 1 0 512k", "write -P 2 100M 64k"), ("write -P 3 100M 4k", "write -P 4 900M 1M"), (),
             ("write -P 1 0 512k", "write -z 900M 512k", "discard 900M 64k"), ("write -P 5 1023M 1M",)]
    wanted = [None, {200, 1800, 1801}, set(), {1800}, {2046, 2047}]
    last = copy = None
    for commands, blocks_changed in zip(steps, wanted):
        path = stord("ec2.AttachVolume", VolumeId=volume, InstanceId="i-0123456789abcdef0", Device="/dev/sdf")["_Path"]
        if commands:
            qemu_io(path, *commands)
        stord("ec2.DetachVolume", VolumeId=volume)
        snapshot = stord("ec2.CreateSnapshot", VolumeId=volume)["SnapshotId"]
        if last is None:
            copy = write(stord, contents(stord, snapshot))
        else:
            found = changed(stord, last, snapshot)
            assert set(found) == blocks_changed, commands
            copy = write(stord, {i: get(stord, snapshot, i, b["SecondBlockToken"]) for i, b in found.items()}, parent=copy)
        last = snapshot
    flat = os.path.join(stord.root, "volume.raw")
    path = stord("ec2.AttachVolume", VolumeId=volume, InstanceId="i-0123456789abcdef0", Device="/dev/sdf")["_Path"]
    subprocess.run(["qemu-img", "convert", "-O", "raw", path, flat], check=True)
    compared = subprocess.run(["qemu-img", "compare", "-f", "raw", "-F", "qcow2", flat, layer_of(stord, copy)], capture_output=True, text=True)
    assert compared.returncode == 0, compared.stdout


def test_pages_hold_all_and_tokens_are_ours(stord):
    snapshot = write(stord, {i: bytes([i % 255 + 1]) * BLOCK for i in range(0, 300, 2)})
    page = stord("ebs.ListSnapshotBlocks", SnapshotId=snapshot, MaxResults=100)
    assert [b["BlockIndex"] for b in page["Blocks"]] == list(range(0, 200, 2)) and page["VolumeSize"] == 1
    assert set(blocks(stord, snapshot, MaxResults=100)) == set(range(0, 300, 2))
    assert set(blocks(stord, snapshot, StartingBlockIndex=290)) == {290, 292, 294, 296, 298}
    token = page["Blocks"][0]["BlockToken"]
    other = write(stord, {0: pattern(1)})
    for parameters in ({"SnapshotId": snapshot, "BlockIndex": 2}, {"SnapshotId": other, "BlockIndex": 0}):
        stord.refused("ValidationException:INVALID_BLOCK_TOKEN", "ebs.GetSnapshotBlock", BlockToken=token, **parameters)
    for bad in ("AAAA", token[:-2] + ("A=" if token[-2] != "A" else "Q="), page["NextToken"], "A" * 43 + "="):
        stord.refused("ValidationException:INVALID_BLOCK_TOKEN", "ebs.GetSnapshotBlock", SnapshotId=snapshot, BlockIndex=0, BlockToken=bad)
    stord.refused("ValidationException:INVALID_PAGE_TOKEN", "ebs.ListSnapshotBlocks", SnapshotId=other, NextToken=page["NextToken"])
    stord.kill()
    stord.start()
    assert get(stord, snapshot, 0, token), "a token outlives the daemon"


def test_refusals_change_nothing(stord, images):
    nothing = "snap-0123456789abcdef0"
    stord.refused("ResourceNotFoundException:SNAPSHOT_NOT_FOUND", "ebs.ListSnapshotBlocks", SnapshotId=nothing)
    stord.refused("ValidationException:INVALID_SNAPSHOT_ID", "ebs.ListSnapshotBlocks", SnapshotId="snap-1")
    stord.refused("ResourceNotFoundException:SNAPSHOT_NOT_FOUND", "ebs.StartSnapshot", VolumeSize=1, ParentSnapshotId=nothing)
    stord.refused("ValidationException:INVALID_VOLUME_SIZE", "ebs.StartSnapshot", VolumeSize=100000)
    stord.refused("ValidationException:INVALID_PARAMETER_VALUE", "ebs.StartSnapshot", VolumeSize=1, KmsKeyArn="arn:aws:kms:us-east-1:123456789012:key/x")
    stord.refused("ValidationException:INVALID_TAG", "ebs.StartSnapshot", VolumeSize=1, Tags=[{"Key": "aws:x", "Value": ""}])
    assert stord.files() == set()
    disk = stord.snapshot(images["disk"])  # 2 GiB, and of another origin
    stord.refused("ValidationException:INVALID_VOLUME_SIZE", "ebs.StartSnapshot", VolumeSize=1, ParentSnapshotId=disk)
    started = stord("ebs.StartSnapshot", VolumeSize=1)["SnapshotId"]
    stord.refused("ValidationException:UNRELATED_SNAPSHOTS", "ebs.ListChangedBlocks", FirstSnapshotId=disk,
                  SecondSnapshotId=write(stord, {0: pattern(0)}))
    for snapshot in (started,):
        stord.refused("ValidationException:INVALID_SNAPSHOT_ID", "ebs.ListSnapshotBlocks", SnapshotId=snapshot)
        stord.refused("IncorrectState", "gureum.OpenSnapshot", SnapshotId=snapshot)
    stord.refused("ValidationException:INVALID_SNAPSHOT_ID", "ebs.CompleteSnapshot", SnapshotId=nothing[:-17] + "1", ChangedBlocksCount=0)
    for data, more in ((b"short", {}), (pattern(0), {"checksum": sum_of(b"")}), (pattern(0), {"checksum": "AAAA"}), (pattern(0), {"length": 5})):
        with pytest.raises(Fault) as caught:
            put(stord, started, 0, data, **more)
        assert caught.value.code == "ValidationException:INVALID_BLOCK"
    with pytest.raises(Fault) as caught:
        put(stord, started, 2048, pattern(0))
    assert caught.value.code == "ValidationException:INVALID_BLOCK"
    with pytest.raises(Fault) as caught:
        put(stord, disk, 0, pattern(0))
    assert caught.value.code == "ValidationException:INVALID_SNAPSHOT_ID", "a completed snapshot never changes"
    put(stord, started, 0, pattern(0))
    put(stord, started, 0, pattern(1))
    stord.refused("ValidationException:INVALID_PARAMETER_VALUE", "ebs.CompleteSnapshot", SnapshotId=started, ChangedBlocksCount=2)
    stord.refused("ValidationException:INVALID_PARAMETER_VALUE", "ebs.CompleteSnapshot", SnapshotId=started, ChangedBlocksCount=1,
                  Checksum=linear({0: hashlib.sha256(pattern(0)).digest()}))
    for _ in range(2):  # an answer that was lost is asked for again
        assert stord("ebs.CompleteSnapshot", SnapshotId=started, ChangedBlocksCount=1)["Status"] == "completed"
    assert contents(stord, started) == {0: pattern(1)}


def test_a_pending_snapshot_can_be_deleted_and_leaves_nothing(stord):
    started = stord("ebs.StartSnapshot", VolumeSize=16)["SnapshotId"]
    put(stord, started, 9, pattern(9), Progress=30)
    assert stord("ec2.DescribeSnapshots", SnapshotIds=[started])["Snapshots"][0]["Progress"] == "30%"
    stord("ec2.DeleteSnapshot", SnapshotId=started)
    assert stord.files() == set()
    stord.refused("ResourceNotFoundException:SNAPSHOT_NOT_FOUND", "ebs.CompleteSnapshot", SnapshotId=started, ChangedBlocksCount=1)


def test_a_client_token_starts_one_snapshot(stord):
    first = stord("ebs.StartSnapshot", VolumeSize=1, ClientToken="t")["SnapshotId"]
    assert stord("ebs.StartSnapshot", VolumeSize=1, ClientToken="t")["SnapshotId"] == first
    stord.refused("ConflictException", "ebs.StartSnapshot", VolumeSize=2, ClientToken="t")


def test_what_was_put_outlives_the_daemon(stord):
    started = stord("ebs.StartSnapshot", VolumeSize=1)["SnapshotId"]
    put(stord, started, 3, pattern(3))
    stord.kill()
    stord.start()
    put(stord, started, 4, pattern(4))
    assert stord("ebs.CompleteSnapshot", SnapshotId=started, ChangedBlocksCount=2)["Status"] == "completed"
    assert contents(stord, started) == {3: pattern(3), 4: pattern(4)}
    checked(layer_of(stord, started))


@pytest.mark.parametrize("moment", range(8))
def test_kill_within_start_and_complete_is_a_normal_event(stord, moment):
    """Killed a little later each time: what is there afterwards can be completed, or was never there."""
    import threading
    base = write(stord, {1: pattern(1)})
    timer = threading.Timer(0.002 * moment, stord.kill)
    timer.start()
    started = None
    try:
        started = stord("ebs.StartSnapshot", VolumeSize=1, ParentSnapshotId=base)["SnapshotId"]
        put(stord, started, 2, pattern(2))
        stord("ebs.CompleteSnapshot", SnapshotId=started, ChangedBlocksCount=1)
    except (Gone, OSError):
        pass
    timer.join()
    stord.start()
    for snapshot in stord("ec2.DescribeSnapshots")["Snapshots"]:
        if snapshot["State"] == "pending":
            put(stord, snapshot["SnapshotId"], 2, pattern(2))
            stord("ebs.CompleteSnapshot", SnapshotId=snapshot["SnapshotId"], ChangedBlocksCount=1)
    for snapshot in stord("ec2.DescribeSnapshots")["Snapshots"]:
        assert snapshot["State"] == "completed", snapshot
        if snapshot["SnapshotId"] != base:
            assert contents(stord, snapshot["SnapshotId"]) == {1: pattern(1), 2: pattern(2)}
        checked(layer_of(stord, snapshot["SnapshotId"]))
    assert stord.files() == {f"snapshots/{s['SnapshotId']}.qcow2" for s in stord("ec2.DescribeSnapshots")["Snapshots"]}
