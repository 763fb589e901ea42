"""What stord is cut off in: the operations, as a table, and the world that they happen to, which knows what was answered.

OPERATIONS is the table: what is done, and the steps (lib/step.h) that each must have been cut off at.
"""
import hashlib
import os
import re

from conftest import Fault, until
from guests import Guests
from test_direct import BLOCK, linear, put
from test_model import io_encrypted, qemu_io, read_blocks

INSTANCE = "i-0123456789abcdef0"
MIB = 1 << 20
N_SPOTS = 6
TRANSACTION = {"a transaction", "what follows a transaction"}
LAYER = {"a layer's file", "a file's flush", "a file's place", "a directory's flush"}
CALL = {"gureum.SwitchLayers", "what follows gureum.SwitchLayers"}
REMOVAL = {"a file's end"}
TOOL = {"a confined command", "a command that has begun"}


class World:
    """What was answered: what each volume and snapshot holds, by spot."""

    def __init__(self, stord, images):
        self.stord, self.images, self.guests = stord, images, Guests(stord)
        self.steps = os.path.join(stord.root, "steps")
        self.guests.start(INSTANCE)
        self.is_encrypted = False  # what volume() makes
        self.empty()

    def empty(self):
        self.volumes, self.snapshots, self.attached, self.doubtful, self.born, self.sizes = {}, {}, set(), set(), {}, {}

    # ---- what operations are made of ----

    def volume(self, *patterns, is_attached):
        v = self.stord.create(Size=1, Encrypted=self.is_encrypted)
        self.stord.available(v)
        self.volumes[v], self.sizes[v] = {}, {1}
        if is_attached:
            self.plug(v)
        for spot, pattern in enumerate(patterns):
            self.write(v, spot, pattern)
        return v

    def write(self, v, spot, pattern):
        command = f"write -P {pattern} {spot * MIB} 128k"
        if v in self.attached:
            qemu_io(self.guests.instances[INSTANCE].url(v), command, "flush", mode=("-f", "raw"))
        elif self.is_encrypted:
            io_encrypted(self.stord, v, command, "flush")
        else:
            qemu_io(self.path(self.stord.volume(v)), command, "flush")
        self.volumes[v][spot] = pattern

    def path(self, row):
        return os.path.join(self.stord.state, row["_Layer"])

    def plug(self, v):
        self.guests.plug(INSTANCE, v)
        self.attached.add(v)

    def unplug(self, v):
        self.attached.discard(v)
        self.guests.unplug(INSTANCE, v)
        self.stord("ec2.DetachVolume", VolumeId=v, InstanceId=INSTANCE)

    def snapshot(self, v):
        s = self.stord("ec2.CreateSnapshot", VolumeId=v)["SnapshotId"]
        self.snapshots[s] = dict(self.volumes[v])
        return s

    def forget(self, s):
        self.gone(self.snapshots, s, "ec2.DeleteSnapshot", SnapshotId=s)

    def delete(self, v):
        self.gone(self.volumes, v, "ec2.DeleteVolume", VolumeId=v)

    def gone(self, of, name, method, **parameters):
        if name not in of:
            return
        self.doubtful.add(name)
        self.stord(method, **parameters)
        self.doubtful.discard(name)
        del of[name]

    # ---- looking ----

    def rows(self):
        return ({v["VolumeId"]: v for v in self.stord("ec2.DescribeVolumes")["Volumes"]},
                {s["SnapshotId"]: s for s in self.stord("ec2.DescribeSnapshots")["Snapshots"]})

    def is_quiet(self):
        volumes, snapshots = self.rows()
        return all(v["State"] != "creating" and "_NextLayer" not in v for v in volumes.values()) and \
            all(s["State"] != "pending" and "FullSnapshotSizeInBytes" in s for s in snapshots.values() if "_Direct" not in s) and \
            all(t["SnapshotTaskDetail"]["Status"] != "active" for t in self.stord("ec2.DescribeImportSnapshotTasks")["ImportSnapshotTasks"]) and \
            all(m["ModificationState"] in ("completed", "failed")
                for m in self.stord("ec2.DescribeVolumesModifications")["VolumesModifications"])

    def adopt(self):
        """What was not answered may have happened."""
        volumes, snapshots = self.rows()
        assert set(self.volumes) - self.doubtful <= set(volumes), "a volume that was answered is there"
        assert set(self.snapshots) - self.doubtful <= set(snapshots), "a snapshot that was answered is there"
        for of, there in ((self.volumes, volumes), (self.snapshots, snapshots)):
            for gone in set(of) - set(there):
                del of[gone]
        for s in set(snapshots) - set(self.snapshots):
            copied = re.match(r"\[Copied (\S+)", snapshots[s]["Description"])
            self.snapshots[s] = dict(self.snapshots.get(copied[1], self.born) if copied else self.volumes.get(snapshots[s]["VolumeId"], self.born))
        for v in set(volumes) - set(self.volumes):
            self.volumes[v], self.sizes[v] = dict(self.snapshots.get(volumes[v]["SnapshotId"], {})), {volumes[v]["Size"]}
        for v, row in volumes.items():
            assert row["State"] == ("in-use" if row["Attachments"] else "available"), row
            assert row["Size"] in self.sizes[v]
            assert row["Attachments"] or v not in self.attached, "an attachment that was answered holds"
            if row["Attachments"] and v not in self.attached:
                self.unplug(v)
        self.doubtful = set()

    def compare(self):
        for rows, of in zip(self.rows(), (self.volumes, self.snapshots)):
            for name, contents in of.items():
                row = rows[name]
                if "_Direct" in row:
                    continue  # no image before it is complete
                reads = [f"read -P {contents.get(n, 0)} {n * MIB} 128k" for n in range(N_SPOTS)]
                if name in self.attached:
                    qemu_io(self.guests.instances[INSTANCE].url(name), *reads, mode=("-f", "raw", "-r"))
                elif row["Encrypted"] and "SnapshotId" in row and row.get("VolumeSize"):
                    read_blocks(self.stord, name, {(n * MIB, 128 << 10): contents.get(n, 0) for n in range(N_SPOTS)})
                elif row["Encrypted"]:
                    io_encrypted(self.stord, name, *reads, mode=("-r", "-U"))
                else:
                    qemu_io(self.path(row), *reads, mode=("-r", "-U"))

    def settle(self):
        until(self.is_quiet)
        until(lambda: (f := self.stord("gureum.Fsck"))["Idle"] and not [x for x in f["Findings"] if x["What"] != "leaked"])

    def all_goes(self):
        for v in sorted(self.attached):
            self.unplug(v)
        for v in list(self.volumes):
            self.delete(v)
        for s in sorted(self.rows()[1]):
            self.stord("ec2.DeleteSnapshot", SnapshotId=s)
        until(lambda: self.stord.files() <= {"keys/master"})
        self.guests.end(INSTANCE, "kill")
        self.guests.start(INSTANCE)
        self.empty()


# ---- the operations: prepare(world) gives what act(world, it) is about; is_done: all is done that goes on in the background ----

class Operation:
    needs = set()  # steps of stord's that must have been reached

    def prepare(self, w):
        return w.volume(1, 2, is_attached=self.is_attached)

    def act(self, w, it):
        raise NotImplementedError

    def is_done(self, w, it):
        return w.is_quiet()

    is_attached, is_encrypted = True, False
    stride = 1  # every step; more: only each such


class Snapshot(Operation):
    needs = TRANSACTION | LAYER | CALL

    def act(self, w, v):
        w.snapshot(v)


class SnapshotAtRest(Snapshot):
    needs = TRANSACTION | LAYER
    is_attached = False


class SnapshotsOfAllVolumes(Operation):
    needs = TRANSACTION | LAYER | CALL | {"ec2.DescribeInstances"}

    def prepare(self, w):
        return [w.volume(n, is_attached=True) for n in (1, 2)]

    def act(self, w, volumes):
        for s in w.stord("ec2.CreateSnapshots", InstanceSpecification={"InstanceId": INSTANCE})["Snapshots"]:
            w.snapshots[s["SnapshotId"]] = dict(w.volumes[s["VolumeId"]])


class Create(Operation):
    needs = TRANSACTION | LAYER

    def prepare(self, w):
        return w.snapshot(w.volume(1, 2, is_attached=False))

    def act(self, w, s):
        v = w.stord.create(SnapshotId=s)
        w.volumes[v], w.sizes[v] = dict(w.snapshots[s]), {1}


class Attach(Operation):
    needs = TRANSACTION
    is_attached = False

    def act(self, w, v):
        w.plug(v)
        w.write(v, 3, 7)


class Detach(Operation):
    needs = TRANSACTION

    def act(self, w, v):
        if v in w.attached:
            w.unplug(v)


class Copy(Operation):
    needs = TRANSACTION | LAYER | REMOVAL | {"blocks to be copied", "blocks to be read back", "the counts of a file written by blocks", "a block's bytes",
                                             "a block's entry", "a block's checksum"}

    def prepare(self, w):
        return w.snapshot(w.volume(1, 2, is_attached=False))

    def act(self, w, s):
        copy = w.stord("ec2.CopySnapshot", SourceRegion="us-east-1", SourceSnapshotId=s)["SnapshotId"]
        w.snapshots[copy] = dict(w.snapshots[s])


class Merge(Operation):
    """Of three snapshots the second is deleted: its layer goes into another."""
    needs = TRANSACTION | REMOVAL | {"a file's flush", "gureum.FlushVolume", "gureum.CommitLayer", "what follows gureum.CommitLayer"}

    def prepare(self, w):
        v = w.volume(1, is_attached=self.is_attached)
        its = []
        for n in range(3):
            its.append(w.snapshot(v))
            w.write(v, n + 1, n + 2)
        return its[1]

    def act(self, w, s):
        w.forget(s)

    def is_done(self, w, s):
        return len([f for f in w.stord.files() if f.endswith(".qcow2")]) == 3


class MergeAtRest(Merge):
    needs = TRANSACTION | REMOVAL | TOOL | {"a file's flush"}
    is_attached = False


class Pull(Merge):
    """The only snapshot is deleted: its layer goes into the one that the guest writes."""
    needs = TRANSACTION | REMOVAL | {"a file's flush", "gureum.PullLayers", "gureum.FlushVolume"}

    def prepare(self, w):
        v = w.volume(1, is_attached=self.is_attached)
        s = w.snapshot(v)
        w.write(v, 1, 9)
        w.write(v, 2, 8)
        return s

    def is_done(self, w, s):
        return len([f for f in w.stord.files() if f.endswith(".qcow2")]) == 1


class Delete(Operation):
    needs = TRANSACTION | REMOVAL

    def prepare(self, w):
        v = w.volume(1, is_attached=False)
        return v, w.snapshot(v)

    def act(self, w, it):
        w.delete(it[0])
        w.forget(it[1])

    def is_done(self, w, it):
        return w.stord.files() == set()


class Grow(Operation):
    needs = TRANSACTION | TOOL
    is_attached = False

    def act(self, w, v):
        w.sizes[v] = {1, 3}
        try:
            w.stord("ec2.ModifyVolume", VolumeId=v, Size=3)
        except Fault as e:  # asked again
            if e.code not in ("VolumeModificationRateExceeded", "IncorrectModificationState"):
                raise

    def is_done(self, w, v):
        return w.is_quiet() and w.stord.volume(v)["Size"] == 3


class Import(Operation):
    needs = TRANSACTION | TOOL | {"our own copy", "a file's flush", "a file's place", "a directory's flush"}

    def prepare(self, w):
        w.born = {1: 0x41, 2: 0x41}

    def act(self, w, it):
        w.stord.import_file(w.images["disk"])


class ByBlocks(Operation):
    """StartSnapshot over a parent, two blocks, CompleteSnapshot."""
    needs = TRANSACTION | LAYER | {"a block's bytes", "a block's entry", "a block's checksum", "a block's flush", "the counts of a file written by blocks"}

    def prepare(self, w):
        return w.snapshot(w.volume(1, 2, is_attached=False))

    def act(self, w, parent):
        w.born = {**w.snapshots[parent], 3: 5, 4: 6}
        s = w.stord("ebs.StartSnapshot", VolumeSize=1, ParentSnapshotId=parent, ClientToken=parent)["SnapshotId"]
        w.snapshots[s] = w.born
        blocks = {3 * MIB // BLOCK: bytes([5]) * BLOCK, 4 * MIB // BLOCK: bytes([6]) * BLOCK}
        if "_Direct" in w.rows()[1][s]:
            for index, data in blocks.items():
                put(w.stord, s, index, data)
        w.stord("ebs.CompleteSnapshot", SnapshotId=s, ChangedBlocksCount=2, Checksum=linear({i: hashlib.sha256(d).digest() for i, d in blocks.items()}),
                ChecksumAlgorithm="SHA256", ChecksumAggregationMethod="LINEAR")

    def is_done(self, w, parent):
        return not any("_Direct" in s for s in w.rows()[1].values()) and w.is_quiet()


class CreateEncrypted(Create):
    """A volume that is encrypted on its way from a plain snapshot."""
    needs = TRANSACTION | LAYER | {"a block's bytes", "a block's entry", "a block's checksum"}

    def act(self, w, s):
        v = w.stord.create(SnapshotId=s, Encrypted=True)
        w.volumes[v], w.sizes[v] = dict(w.snapshots[s]), {1}


class Encrypted:
    is_encrypted = True


class MergeEncrypted(Encrypted, Merge):
    pass


class MergeEncryptedAtRest(Encrypted, MergeAtRest):
    pass


class ShortenEncrypted(Encrypted, Operation):
    """A volume at rest has one layer more than a chain may have: all but the lowest become one, by hand."""
    needs = {"a transaction"}
    stride = 4  # it takes seconds each time
    is_attached = False

    def prepare(self, w):
        v = w.volume(1, is_attached=False)
        for n in range(15):
            w.snapshot(v)
        w.write(v, 1, 2)
        return v

    def act(self, w, v):
        if len(w.snapshots) < 16:
            w.snapshot(v)

    def is_done(self, w, v):
        return w.is_quiet() and w.stord("gureum.Fsck")["Idle"]


OPERATIONS = [Snapshot, SnapshotAtRest, SnapshotsOfAllVolumes, Create, Attach, Detach, Copy, Merge, MergeAtRest, Pull, Delete, Grow, Import, ByBlocks, CreateEncrypted,
              MergeEncrypted, MergeEncryptedAtRest, ShortenEncrypted]
