"""kill -9 at any moment: what was answered holds, nothing is left over, nothing is half made."""
import os
import random
import subprocess
import threading

from conftest import Fault, Gone, Stord, new_directory, until


class Customer(threading.Thread):
    """Asks for things until the daemon dies, and remembers what it was told."""

    def __init__(self, stord, images, seed):
        super().__init__()
        self.stord, self.images, self.random = stord, images, random.Random(seed)
        self.volumes, self.deleted, self.unsure, self.attached, self.wrong = set(), set(), set(), set(), []
        self.snapshots = []

    def run(self):
        try:
            while True:
                self.step()
        except Gone:
            pass
        except Exception as e:  # told by the test
            self.wrong.append(e)

    def step(self):
        what = self.random.random()
        if what < 0.35 or not self.volumes:
            self.volumes.add(self.stord.create(Size=1))
        elif what < 0.55:
            self.volumes.add(self.born_attached())
        elif what < 0.75:
            volume = self.random.choice(sorted(self.volumes))
            if self.stord.volume(volume)["State"] == "available":
                self.stord("ec2.AttachVolume", VolumeId=volume, InstanceId="i-0123456789abcdef0", Device="/dev/sdf")
                self.attached.add(volume)
        elif what < 0.95:
            volume = self.random.choice(sorted(self.volumes))
            self.volumes.remove(volume)
            self.attached.discard(volume)
            self.unsure.add(volume)
            self.stord("ec2.DeleteVolume", VolumeId=volume, _Force=True)
            self.unsure.remove(volume)
            self.deleted.add(volume)
        else:
            try:
                self.stord.import_file(self.images["disk"])
            except Fault as e:
                if e.code != "ResourceLimitExceeded":  # a fast machine asks for more than may be under way at once
                    raise

    def born_attached(self):
        origin = {"SnapshotId": self.snapshots[0]} if self.snapshots else {"Size": 1}
        volume = self.stord.create(_InstanceId="i-0123456789abcdef0", _Device="/dev/xvda", **origin)
        self.stord("ec2.AttachVolume", VolumeId=volume, InstanceId="i-0123456789abcdef0", Device="/dev/xvda")
        return volume


def settled(stord):
    tasks = stord("ec2.DescribeImportSnapshotTasks")["ImportSnapshotTasks"]
    volumes = stord("ec2.DescribeVolumes")["Volumes"]
    return all(t["SnapshotTaskDetail"]["Status"] != "active" for t in tasks) and all(v["State"] != "creating" for v in volumes)


def expected_files(stord):
    names = {v["_Layer"] for v in stord("ec2.DescribeVolumes")["Volumes"]}
    return names | {s["_Layer"] for s in stord("ec2.DescribeSnapshots")["Snapshots"]}


def test_kill_9_at_any_moment(stord, images):
    rng = random.Random(4)
    volumes, deleted, snapshot = set(), set(), stord.snapshot(images["disk"])
    for round_number in range(int(os.environ.get("ROUNDS", "12"))):
        customers = [Customer(stord, images, round_number * 10 + i) for i in range(4)]
        for c in customers:
            c.snapshots = [snapshot]
            c.start()
        threading.Event().wait(rng.random() * 0.6)  # the moment is what is tested
        stord.kill()
        [c.join() for c in customers]
        assert not any(c.wrong for c in customers), [c.wrong for c in customers]
        stord.start()
        until(lambda: settled(stord))
        there = {v["VolumeId"]: v for v in stord("ec2.DescribeVolumes")["Volumes"]}
        for c in customers:
            volumes |= c.volumes
            volumes -= c.unsure
            deleted |= c.deleted
            assert all(there[v]["State"] == "in-use" for v in c.attached), "an attachment that was answered holds"
        assert volumes <= set(there), "a volume that was answered is there"
        assert not deleted & set(there), "a deletion that was answered holds"
        assert not [v for v in there.values() if v["State"] == "error"], stord.log()
        until(lambda: stord.files() == expected_files(stord))
    for volume in list(there)[:40]:
        path = os.path.join(stord.state, f"zones/us-east-1a/volumes/{volume}.qcow2")
        assert os.path.exists(path), "every volume has its file"
    sample = rng.sample(sorted(there), min(10, len(there)))
    for volume in sample:
        path = os.path.join(stord.state, f"zones/us-east-1a/volumes/{volume}.qcow2")
        assert subprocess.run(["qemu-img", "check", "-q", path]).returncode == 0


def test_a_deletion_cut_short_is_finished(stord, images):
    """The document and its mark went; the file did not: as after death between the two."""
    volume = stord.create(Size=1)
    stord.available(volume)
    path = os.path.join(stord.state, f"zones/us-east-1a/volumes/{volume}.qcow2")
    os.link(path, os.path.join(stord.root, "kept"))
    stord("ec2.DeleteVolume", VolumeId=volume)
    stord.kill()
    import sqlite3
    db = sqlite3.connect(os.path.join(stord.state, "state.db"))
    db.execute("INSERT INTO doc VALUES (1000, '_unlink', ?, '', '', '{}')", (os.path.relpath(path, stord.state),))
    db.commit()
    db.close()
    os.link(os.path.join(stord.root, "kept"), path)
    stord.start()
    assert stord.files() == set()


def test_a_full_disk_refuses_and_recovers(images):
    """A volume that has no room is said to be in error; nothing is left; when there is room all goes on."""
    import pytest
    root = new_directory("gureum-full-")
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "none", root], capture_output=True).returncode:
        os.rmdir(root)
        pytest.skip("mounting a small tmpfs needs root")
    try:
        stord = Stord(root).start()
        with open(os.path.join(root, "filler"), "wb", buffering=0) as f:  # a buffer would fail once more when it is closed
            try:
                while True:
                    f.write(b"x" * 65536)
            except OSError:
                pass
        codes = set()
        for _ in range(3):
            try:
                volume = stord.create(Size=1)
                stord("ec2.AttachVolume", VolumeId=volume, InstanceId="i-0123456789abcdef0", Device="/dev/sdf")
            except Fault as e:
                codes.add(e.code)
        assert codes and codes <= {"InternalError", "InsufficientVolumeCapacity", "IncorrectState"}, codes
        os.unlink(os.path.join(root, "filler"))
        volume = stord.create(Size=1)
        stord.available(volume)
        for v in stord("ec2.DescribeVolumes")["Volumes"]:
            stord("ec2.DeleteVolume", VolumeId=v["VolumeId"], _Force=True)
        assert stord.files() == set()
        assert stord.stop() == 0
    finally:
        subprocess.run(["umount", "-l", root], check=True)
        os.rmdir(root)
