"""The power goes at any moment: daemon, hvd and every QEMU end, and what was not on the disk is gone.

Whoever was answered finds it so afterwards, and what a guest flushed is in its volume and in the snapshots taken since.
"""
import hashlib
import mmap
import os
import random
import shutil
import threading
import time

import pytest

import power
from conftest import Gone, Stord, new_directory, until
from test_direct import BLOCK, linear, put
from test_model import BYTES, INSTANCES, SPOTS, World, qemu_io, read_blocks, remember

MIB = 1 << 20
SECONDS = 30  # unless ROUNDS says how many rounds there are to be

pytestmark = pytest.mark.skipif(power.why_not() is not None, reason=str(power.why_not()))


@pytest.fixture
def disk():
    root = new_directory("gureum-power-")
    made = power.Disk(os.path.join(root, "state"))
    made.daemons, made.guests = [], []
    made.on()
    yield made
    for stord in made.daemons:  # of a test that failed
        if stord.process and stord.process.poll() is None:
            stord.kill()
    for guests in made.guests:
        for instance in list(guests.instances):
            guests.end(instance, "kill")
    made.close()
    os.rmdir(made.mountpoint)
    for name in os.listdir(root):
        path = os.path.join(root, name)
        shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)
    os.rmdir(root)


def daemon_on(disk):
    disk.daemons.append(Stord(os.path.dirname(disk.mountpoint)))
    return disk.daemons[-1]


# ---- the disk itself: a test that could not fail would show nothing ----

class Nobody:
    def kill(self):
        pass

    wait = kill


def write_file(path, data, is_synced):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    os.write(fd, data)
    if is_synced:
        os.fsync(fd)
    os.close(fd)


def read_file(path):
    try:
        with open(path, "rb") as f:
            return f.read()
    except FileNotFoundError:
        return None


def sync_directory(path):
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(fd)
    os.close(fd)


def test_a_cut_takes_what_was_not_synced_and_nothing_else(disk):
    a, b, c = (os.path.join(disk.mountpoint, n) for n in "abc")
    write_file(a, b"synced", True)
    sync_directory(disk.mountpoint)
    write_file(b, b"not synced", False)
    write_file(c, b"old", True)
    sync_directory(disk.mountpoint)
    write_file(c + ".new", b"new", False)
    os.rename(c + ".new", c)
    sync_directory(disk.mountpoint)
    write_file(b + "2", b"not synced", False)
    disk.cut(Nobody(), lambda: True)
    disk.on()
    assert read_file(a) == b"synced"
    assert read_file(b) in (None, b""), "its directory was synced with it, its bytes were not"
    assert read_file(c) == b"", "renamed durably over the old one before its bytes were there"
    assert read_file(b + "2") in (None, b"")


@pytest.mark.parametrize("is_kept", [True, False])
def test_a_disk_with_a_cache_loses_what_was_not_flushed(disk, is_kept):
    path = os.path.join(disk.mountpoint, "file")
    write_file(path, b"a" * 4096, True)
    sync_directory(disk.mountpoint)
    qemu_io(path, "write -P 0x62 0 4096", mode=("-f", "raw", "-n"))  # past the page cache; qemu-io flushes at its end
    fd = os.open(path, os.O_WRONLY | os.O_DIRECT)
    page = mmap.mmap(-1, 4096)
    page.write(b"c" * 4096)
    os.write(fd, page)
    os.close(fd)
    disk.cut(Nobody(), lambda: is_kept)
    disk.on()
    assert read_file(path) == (b"c" if is_kept else b"b") * 4096


# ---- the daemon ----

def test_a_volume_that_was_answered_is_lost_when_files_are_not_flushed(disk):
    """What the test below would find: with Storage.Sync = no the file's name comes to the disk with the state, its bytes do not."""
    stord = daemon_on(disk)
    with open(os.path.join(stord.root, "gureum.conf"), "a") as f:
        f.write("Sync=no\n")
    stord.start()
    stord.available(stord.create(Size=1))
    disk.cut(Processes(stord), lambda: True)
    disk.on()
    stord.start()
    assert [f["What"] for f in stord("gureum.Fsck")["Findings"]] == ["corrupt"]
    assert stord.stop() == 0


class Processes:
    """A daemon without guests."""

    def __init__(self, stord):
        self.stord = stord

    def kill(self):
        self.stord.process.kill()

    def wait(self):
        self.stord.process.wait()


def held_by(start, end, pattern):
    """What is at each spot of a disk that holds `pattern` from start to end, zeros elsewhere; None: both."""
    return [pattern if start <= at and at + BYTES <= end else 0 if at >= end or at + BYTES <= start else None for at in SPOTS]


class House(World):
    """The model, with copies, imports, snapshots by blocks, growing volumes, and with what a guest wrote but was not told to be flushed: None,
    which may be anything."""
    MORE = ["copy", "import_one", "by_blocks", "grow"]

    def __init__(self, stord, seed, images):
        super().__init__(stord, seed)
        self.images, self.tasks, self.direct, self.growing = images, [], {}, {}

    def step(self):
        if self.random.random() < 0.2:
            self.do(self.random.choice(self.MORE))
        else:
            super().step()

    def do(self, name):
        try:
            super().do(name)
        except Exception:  # what was cut off counts: on a slow disk an import may never come to its end
            self.counts[name] = self.counts.get(name, 0) + 1
            raise

    def copy(self):
        source = self.some(self.snapshots)
        if not source or len(self.snapshots) > 30:
            return False
        s = self.stord("ec2.CopySnapshot", SourceRegion="us-east-1", SourceSnapshotId=source)["SnapshotId"]
        self.snapshots[s], self.sizes[s] = list(self.snapshots[source]), self.sizes[source]
        self.completed()

    def import_one(self):
        if len(self.snapshots) > 30:
            return False
        self.tasks.append(self.stord.import_file(self.images["disk"]))
        self.end_imports()

    def end_imports(self):
        while self.tasks:
            detail = self.stord.ended(self.tasks[0])
            if detail["Status"] == "completed":  # what was not copied yet went with the connection
                self.snapshots[detail["SnapshotId"]], self.sizes[detail["SnapshotId"]] = held_by(MIB, 3 * MIB, 0x41), 2
            self.tasks.pop(0)
        until(lambda: all(t["SnapshotTaskDetail"]["Status"] != "active" for t in self.stord("ec2.DescribeImportSnapshotTasks")["ImportSnapshotTasks"]))

    def by_blocks(self):
        """Block 2 and block 6; those that were answered are not put again after a cut."""
        if len(self.snapshots) > 30:
            return False
        s = self.stord("ebs.StartSnapshot", VolumeSize=1)["SnapshotId"]
        self.direct[s] = set()
        self.end_by_blocks(s)

    def end_by_blocks(self, s):
        pattern = int(s[-2:], 16) or 1
        data = bytes([pattern]) * BLOCK
        for index in sorted({2, 6} - self.direct[s]):
            put(self.stord, s, index, data)
            self.direct[s].add(index)
        self.stord("ebs.CompleteSnapshot", SnapshotId=s, ChangedBlocksCount=2, ChecksumAlgorithm="SHA256", ChecksumAggregationMethod="LINEAR",
                   Checksum=linear({i: hashlib.sha256(data).digest() for i in (2, 6)}))
        two, six = (held_by(i * BLOCK, (i + 1) * BLOCK, pattern) for i in (2, 6))
        self.snapshots[s] = [x or y if None not in (x, y) else None for x, y in zip(two, six)]
        self.sizes[s] = 1
        del self.direct[s]

    def grow(self):
        v = self.some(self.volumes)
        if not v or self.sizes[v] > 3:
            return False
        if v not in self.attached:
            self.stord.available(v)
        self.growing[v] = self.sizes[v] + 1
        self.stord("ec2.ModifyVolume", VolumeId=v, Size=self.growing[v])
        self.sizes[v] = self.growing.pop(v)
        self.end_growing()

    def end_growing(self):
        until(lambda: all(m["ModificationState"] == "completed" for m in self.stord("ec2.DescribeVolumesModifications")["VolumesModifications"]))

    def delete(self):
        result = super().delete()
        self.growing = {v: size for v, size in self.growing.items() if v in self.volumes}
        return result

    def completed(self):
        until(lambda: all(s["State"] == "completed" or "_Direct" in s for s in self.stord("ec2.DescribeSnapshots")["Snapshots"]))

    def write(self):
        v = self.some(self.attached)
        if not v:
            return False
        spots, pattern = self.random.sample(range(len(SPOTS)), 4), self.random.randrange(1, 256)
        zero = self.random.random() < 0.2
        for s in spots:
            self.volumes[v][s] = None
        command = "write -z" if zero else f"write -P {pattern}"
        qemu_io(self.guests.instances[self.attached[v]].url(v), *[f"{command} {SPOTS[s]} {BYTES}" for s in spots], "flush", mode=("-f", "raw"))
        for s in spots:
            self.volumes[v][s] = 0 if zero else pattern

    def read_commands(self, contents):
        return [f"read -P {p} {SPOTS[n]} {BYTES}" for n, p in enumerate(contents) if p is not None]

    def compare(self):
        for v, contents in self.volumes.items():
            reads = self.read_commands(contents) + [f"read {(self.sizes[v] << 30) - BYTES} {BYTES}"]  # it is as large as that
            if v in self.attached:
                qemu_io(self.guests.instances[self.attached[v]].url(v), *reads, mode=("-f", "raw", "-r"))
            else:
                self.stord.available(v)
                if self.stord.volume(v)["Encrypted"]:
                    self.read_encrypted(v, reads)
                else:
                    self.read_layer(lambda v=v: self.stord.volume(v), reads)
        for s, contents in self.snapshots.items():
            if self.stord("ec2.DescribeSnapshots", SnapshotIds=[s])["Snapshots"][0]["Encrypted"]:
                read_blocks(self.stord, s, {(SPOTS[n], BYTES): p for n, p in enumerate(contents) if p is not None})
                continue
            self.read_layer(lambda s=s: self.stord("ec2.DescribeSnapshots", SnapshotIds=[s])["Snapshots"][0], self.read_commands(contents) + ["read 0 512"])

    def adopt(self):
        """What was asked for and not answered may have happened or not; what was answered has."""
        volumes = {v["VolumeId"]: v for v in self.stord("ec2.DescribeVolumes")["Volumes"]}
        snapshots = {s["SnapshotId"]: s for s in self.stord("ec2.DescribeSnapshots")["Snapshots"]}
        assert set(self.volumes) <= set(volumes), "a volume that was answered is there"
        assert set(self.snapshots) | set(self.direct) <= set(snapshots), "a snapshot that was answered is there"
        assert not set(self.gone) & (set(volumes) | set(snapshots)), "a deletion that was answered holds"
        for s in sorted(set(snapshots) - set(self.snapshots)):
            row = snapshots[s]
            if "_Direct" in row:
                self.direct.setdefault(s, set())
                self.end_by_blocks(s)
                continue
            copied = row["Description"].split()[1] if row["Description"].startswith("[Copied ") else None
            if row["VolumeId"] == "vol-ffffffff" and not copied and s not in self.lost:
                if s in self.direct:  # complete, but not answered
                    self.end_by_blocks(s)
                else:
                    self.snapshots[s], self.sizes[s] = held_by(MIB, 3 * MIB, 0x41), row["VolumeSize"]
                continue
            its = self.lost.get(s) or (self.snapshots[copied] if copied else self.volumes[row["VolumeId"]])
            self.snapshots[s], self.sizes[s] = list(its), row["VolumeSize"]
        for v in sorted(set(volumes) - set(self.volumes)):
            origin = volumes[v]["SnapshotId"]
            self.volumes[v] = list(self.lost.get(v) or (self.snapshots[origin] if origin else [0] * len(SPOTS)))
            self.sizes[v] = volumes[v]["Size"]
        for v, row in volumes.items():
            assert row["State"] in ("available", "in-use"), row
            self.sizes[v] = row["Size"] if row["Size"] == self.growing.pop(v, None) else self.sizes[v]
            assert row["Size"] == self.sizes[v]
            assert row["Attachments"] or v not in self.attached, "an attachment that was answered holds"
            if row["Attachments"] and v not in self.attached:
                self.stord("ec2.DetachVolume", VolumeId=v)

    def findings(self):
        return self.stord("gureum.Fsck")["Findings"]

    def fsck_finds_nothing(self):
        """But for clusters that a QEMU took and did not use yet; a merge that was cut off is done again."""
        super().fsck_finds_nothing()
        until(lambda: not [f for f in self.findings() if f["What"] != "leaked"])

    # ---- the end ----

    def kill(self):
        self.is_cut = True
        self.stord.process.kill()
        self.guests.hang_up()
        for qemu in list(self.guests.instances.values()):
            qemu.process.kill()

    def wait(self):
        self.stord.process.wait()
        self.life.join()
        for qemu in self.guests.instances.values():
            qemu.kill()
        self.guests.instances = {}


class Life(threading.Thread):
    def __init__(self, house):
        super().__init__()
        self.house, self.wrong = house, None

    def run(self):
        try:
            while True:
                self.house.step()
        except Exception as e:
            # Whatever is interrupted by the cut fails in many ways.
            if not self.house.is_cut:
                self.wrong = e


def remember_deletions(house):
    """What is gone for good: a deletion that was answered."""
    remember(house)
    house.gone = set()
    for name, of in (("forget", "snapshots"), ("delete", "volumes")):
        def counted(do=getattr(house, name), of=of):
            before = set(getattr(house, of))
            result = do()
            house.gone |= before - set(getattr(house, of))
            return result
        setattr(house, name, counted)


def test_a_power_cut_at_any_moment_loses_nothing(disk, images):
    stord = daemon_on(disk)
    with open(os.path.join(stord.root, "gureum.conf"), "a") as f:
        f.write("ModificationCooldownSec=0\n")
    stord.start()
    house = House(stord, int(os.environ.get("SEED", "7")), images)
    house.guests.direct = {INSTANCES[0]}
    disk.guests.append(house.guests)
    remember_deletions(house)
    rng = random.Random(int(os.environ.get("SEED", "11")))
    rounds, began = os.environ.get("ROUNDS"), time.monotonic()
    for number in range(int(rounds or 40)):
        has_all = all(house.counts.get(kind) for kind in ["snapshot", "forget"] + House.MORE)
        if not rounds and number >= 3 and has_all and time.monotonic() - began > SECONDS:
            break
        house.is_cut, house.life = False, Life(house)
        house.life.start()
        threading.Event().wait(rng.random() * 1.5)  # the moment is what is tested
        disk.cut(house, (lambda: True) if number % 2 else (lambda: rng.random() < 0.5))
        assert house.life.wrong is None, repr(house.life.wrong)
        disk.on()
        house.guests.listen()
        stord.start()
        house.completed()
        house.end_imports()
        house.end_growing()
        until(lambda: not [v for v in stord("ec2.DescribeVolumes")["Volumes"] if v["State"] == "creating" or "_NextLayer" in v])
        house.fsck_finds_nothing()
        for i in INSTANCES:
            house.guests.start(i)
        house.adopt()
        for v, i in sorted(house.attached.items()):
            house.guests.plug(i, v)
        house.compare()
    assert rounds or has_all, house.counts
    for i in INSTANCES:
        house.guests.end(i)
    house.comes_to_rest()
    stord("gureum.Fsck", Repair=True)
    assert house.findings() == []
    house.files_are_sound()
    for i in INSTANCES:
        house.guests.start(i)
    house.all_go()
    house.guests.close()
    assert stord.stop() == 0


def test_whoever_has_an_encrypted_volume_has_its_key(disk):
    stord = daemon_on(disk)
    for number in range(3):
        disk.on() if number else None
        stord.start()
        volume = stord.create(Size=1, Encrypted=True)
        if number % 2 == 0:
            stord.available(volume)
        disk.cut(Processes(stord), lambda: False)
    disk.on()
    stord.start()
    volumes = stord("ec2.DescribeVolumes")["Volumes"]
    assert len(volumes) == 3
    for v in volumes:
        stord.available(v["VolumeId"])
    assert stord("gureum.Fsck")["Findings"] == []
    assert stord.stop() == 0


# ---- the state (lib/store) ----

class Writer(threading.Thread):
    """Transactions one after the other: each replaces all tags of one volume by tags of the next number."""
    N_TAGS = 40

    def __init__(self, stord, volume, first):
        super().__init__()
        self.stord, self.volume, self.acknowledged, self.n, self.wrong = stord, volume, first, 0, None

    def run(self):
        try:
            while True:
                value = f"{self.acknowledged + 1:0200}"
                self.stord("ec2.CreateTags", Resources=[self.volume], Tags=[{"Key": f"k{i}", "Value": value} for i in range(self.N_TAGS)])
                self.acknowledged += 1
                self.n += 1
        except Gone:
            pass
        except Exception as e:
            self.wrong = e


def test_an_acknowledged_transaction_outlives_a_cut_whole(disk):
    """Checkpoints too: between two of them the log grows by 4 MB, which is some 400 of these transactions."""
    stord = daemon_on(disk).start()
    volumes = {stord.create(Size=1): 0 for _ in range(3)}
    stord("ec2.CreateTags", Resources=sorted(volumes), Tags=[{"Key": f"k{i}", "Value": f"{0:0200}"} for i in range(Writer.N_TAGS)])
    rng, database, n_checkpoints = random.Random(3), os.path.join(stord.state, "state.db"), 0
    for number in range(6):
        before = read_file(database)
        writers = [Writer(stord, v, n) for v, n in volumes.items()]
        for w in writers:
            w.start()
        many = rng.randrange(900)
        until(lambda: sum(w.n for w in writers) >= many or not all(w.is_alive() for w in writers))
        n_checkpoints += read_file(database) != before
        disk.cut(Processes(stord), (lambda: True) if number % 2 else (lambda: rng.random() < 0.5))
        for w in writers:
            w.join()
            assert w.wrong is None, repr(w.wrong)
        disk.on()
        stord.start()
        for w in writers:
            values = {int(t["Value"]) for t in stord.volume(w.volume)["Tags"]}
            assert len(values) == 1, "a transaction is there as a whole"
            volumes[w.volume] = values.pop()
            assert volumes[w.volume] in (w.acknowledged, w.acknowledged + 1)
    assert n_checkpoints > 0
    assert stord.stop() == 0
