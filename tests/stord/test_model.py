"""Random operations beside a model of what each volume and snapshot holds; the same with kill -9 of stord, hvd and QEMU."""
import json
import os
import random
import subprocess
import tempfile
import threading

import pytest

from conftest import Fault, Gone, until
from guests import Guests

SPOTS = [n * 11 * 65536 + n % 3 * 4096 for n in range(24)]  # some within a cluster, some at its beginning
BYTES = 3 * 32768
BLOCK = 512 * 1024
ZONES = ["us-east-1a", "us-east-1b"]
INSTANCES = ["i-0123456789abcdef0", "i-00000000000000001"]


def qemu_io(target, *commands, mode=()):
    arguments = [a for c in commands for a in ("-c", c)]
    r = subprocess.run(["qemu-io", *mode, *arguments, target], capture_output=True, text=True)
    said = "\n".join(line for line in (r.stdout + r.stderr).split("\n") if "bytes at" not in line and "ops;" not in line or "failed" in line)
    if r.returncode != 0 or "failed" in said:
        raise AssertionError(f"{target}: {said}")


def is_encrypted(path):
    with open(path, "rb") as f:
        return f.read(36)[35] != 0


def io_encrypted(stord, v, *commands, mode=()):
    """On an encrypted volume that no guest has: with the key and the chain that a guest's QEMU would get."""
    reply = stord("ec2.AttachVolume", VolumeId=v, InstanceId=INSTANCES[0], Device="/dev/sdz")
    try:
        io_attached(reply, *commands, mode=mode)
    finally:
        stord("ec2.DetachVolume", VolumeId=v, InstanceId=INSTANCES[0])


def io_attached(reply, *commands, mode=()):
    """The same with what AttachVolume answered."""
    image = None
    for file in reversed([reply["_Path"]] + [layer["Path"] for layer in reply["_Chain"]]):
        image = {"driver": "qcow2", "encrypt": {"format": "luks", "key-secret": "k"}, "backing": image, "file": {"driver": "file", "filename": file}}
    with tempfile.NamedTemporaryFile("w") as f:
        f.write(reply["_Passphrase"])
        f.flush()
        qemu_io("json:" + json.dumps(image), *commands, mode=(*mode, "--object", f"secret,id=k,file={f.name}"))


def read_blocks(stord, snapshot, spots):
    """A snapshot as EBS direct shows it: {spot: pattern} of so many bytes each."""
    tokens = {b["BlockIndex"]: b["BlockToken"] for b in stord("ebs.ListSnapshotBlocks", SnapshotId=snapshot)["Blocks"]}
    for (spot, n_bytes), pattern in spots.items():
        data = b""
        for index in range(spot // BLOCK, (spot + n_bytes - 1) // BLOCK + 1):
            if index not in tokens:
                data += bytes(BLOCK)
                continue
            _, fds = stord("ebs.GetSnapshotBlock", with_fds=True, SnapshotId=snapshot, BlockIndex=index, BlockToken=tokens[index])
            data += os.pread(fds[0], BLOCK, 0)
            os.close(fds[0])
        assert data[spot % BLOCK:][:n_bytes] == bytes([pattern]) * n_bytes, (snapshot, spot, pattern)


class World:
    """stord, its guests, and the model: for each id what is at each spot."""

    encrypted = 0.5  # so many of the volumes

    def __init__(self, stord, seed):
        self.stord, self.random, self.guests = stord, random.Random(seed), Guests(stord)
        self.volumes, self.snapshots, self.attached, self.sizes = {}, {}, {}, {}
        self.n_done, self.counts = 0, {}
        for i in INSTANCES:
            self.guests.start(i)

    # ---- operations ----

    def step(self):
        names = ["create"] * 2 + ["write"] * 6 + ["snapshot"] * 5 + ["forget"] * 4 + ["restore"] * 3 + ["attach"] * 4 + ["detach"] * 2 + \
            ["delete"] * 2 + ["together"] + ["reboot"]
        self.do(self.random.choice(names))

    def do(self, name):
        if getattr(self, name)() is not False:
            self.n_done += 1
            self.counts[name] = self.counts.get(name, 0) + 1

    def some(self, of):
        return self.random.choice(sorted(of)) if of else None

    def create(self):
        if len(self.volumes) > 8:
            return False
        v = self.stord.create(Size=1, AvailabilityZone=self.random.choice(ZONES), Encrypted=self.random.random() < self.encrypted)
        self.volumes[v], self.sizes[v] = [0] * len(SPOTS), 1

    def restore(self):
        s = self.some(self.snapshots)
        if not s or len(self.volumes) > 8:
            return False
        size = self.random.choice([self.sizes[s], self.sizes[s] + 1])
        v = self.stord.create(SnapshotId=s, AvailabilityZone=self.random.choice(ZONES), Size=size,
                              **({"Encrypted": True} if self.random.random() < self.encrypted * 0.6 else {}))
        self.volumes[v], self.sizes[v] = list(self.snapshots[s]), size

    def write(self):
        v = self.some(self.attached)
        if not v:
            return False
        spots = self.random.sample(range(len(SPOTS)), 4)
        pattern = self.random.randrange(1, 256)
        zero = self.random.random() < 0.2
        command = "write -z" if zero else f"write -P {pattern}"
        qemu_io(self.guests.instances[self.attached[v]].url(v), *[f"{command} {SPOTS[s]} {BYTES}" for s in spots], "flush", mode=("-f", "raw"))
        for s in spots:
            self.volumes[v][s] = 0 if zero else pattern

    def snapshot(self):
        v = self.some(self.volumes)
        if not v or len(self.snapshots) > 30:
            return False
        if v not in self.attached:
            self.stord.available(v)
        s = self.stord("ec2.CreateSnapshot", VolumeId=v)
        assert s["State"] == "completed"
        self.snapshots[s["SnapshotId"]], self.sizes[s["SnapshotId"]] = list(self.volumes[v]), self.sizes[v]

    def together(self):
        i = self.random.choice(INSTANCES)
        if i not in self.attached.values():
            return False
        for s in self.stord("ec2.CreateSnapshots", InstanceSpecification={"InstanceId": i})["Snapshots"]:
            self.snapshots[s["SnapshotId"]] = list(self.volumes[s["VolumeId"]])
            self.sizes[s["SnapshotId"]] = self.sizes[s["VolumeId"]]

    def forget(self):
        s = self.some(self.snapshots)
        if not s:
            return False
        del self.snapshots[s]
        self.stord("ec2.DeleteSnapshot", SnapshotId=s)

    def attach(self):
        v = self.some(set(self.volumes) - set(self.attached))
        if not v:
            return False
        self.stord.available(v)
        i = self.random.choice(INSTANCES)
        self.guests.plug(i, v)
        self.attached[v] = i

    def detach(self):
        v = self.some(self.attached)
        if not v:
            return False
        i = self.attached.pop(v)
        self.guests.unplug(i, v)
        self.stord("ec2.DetachVolume", VolumeId=v, InstanceId=i)

    def delete(self):
        v = self.some(set(self.volumes) - set(self.attached))
        if not v:
            return False
        self.stord.available(v)
        del self.volumes[v]
        self.stord("ec2.DeleteVolume", VolumeId=v)

    def reboot(self, how=None):
        """An instance's QEMU ends, orderly or not, and is started again."""
        i = self.random.choice(INSTANCES)
        self.guests.end(i, how or self.random.choice(["kill", "flush_and_end"]))
        self.guests.start(i)
        for v in sorted(v for v, its in self.attached.items() if its == i):
            self.guests.plug(i, v)

    # ---- comparing ----

    def compare(self):
        shown = {v["VolumeId"]: v for v in self.stord("ec2.DescribeVolumes")["Volumes"]}
        assert set(shown) == set(self.volumes)
        for v, contents in self.volumes.items():
            assert shown[v]["Size"] == self.sizes[v]
            reads = [f"read -P {p} {SPOTS[n]} {BYTES}" for n, p in enumerate(contents)]
            if v in self.attached:
                qemu_io(self.guests.instances[self.attached[v]].url(v), *reads, mode=("-f", "raw", "-r"))
            else:
                self.stord.available(v)
                if shown[v]["Encrypted"]:
                    self.read_encrypted(v, reads)
                else:
                    self.read_layer(lambda v=v: self.stord.volume(v), reads)
        for s in self.stord("ec2.DescribeSnapshots")["Snapshots"]:
            reads = [f"read -P {p} {SPOTS[n]} {BYTES}" for n, p in enumerate(self.snapshots[s["SnapshotId"]])]
            if s["Encrypted"]:
                read_blocks(self.stord, s["SnapshotId"], {(SPOTS[n], BYTES): p for n, p in enumerate(self.snapshots[s["SnapshotId"]])})
                continue
            self.read_layer(lambda s=s: self.stord("ec2.DescribeSnapshots", SnapshotIds=[s["SnapshotId"]])["Snapshots"][0], reads)

    def read_layer(self, show, reads):
        """By path, beside stord: a merge may take a file of the chain away between the question and the opening, or keep one for itself while it
        writes there."""
        for n in range(1200):
            layer = show()["_Layer"]
            try:
                return qemu_io(os.path.join(self.stord.state, layer), *reads, mode=("-r", "-U"))
            except AssertionError as e:
                if show()["_Layer"] == layer and (n == 1199 or "can't open device" not in str(e)):
                    raise
                threading.Event().wait(0.05)

    def read_encrypted(self, v, reads):
        """A merge may come in between."""
        for n in range(100):
            try:
                return io_encrypted(self.stord, v, *reads, mode=("-r", "-U"))
            except AssertionError as e:
                if n == 99 or "erification" in str(e) and self.stord("gureum.Fsck")["Idle"]:
                    raise
                threading.Event().wait(0.05)

    def fsck_finds_nothing(self):
        findings = [f for f in self.stord("gureum.Fsck")["Findings"] if f["What"] not in ("leaked", "header")]
        assert findings == []

    def all_go(self):
        """Nothing is left when all is deleted, in any order."""
        for i in INSTANCES:
            self.guests.end(i)
        things = [("ec2.DeleteVolume", {"VolumeId": v, "_Force": True}) for v in self.volumes] + \
            [("ec2.DeleteSnapshot", {"SnapshotId": s}) for s in self.snapshots]
        self.random.shuffle(things)
        for method, parameters in things:
            self.stord(method, **parameters)
        until(lambda: self.stord.files() <= {"keys/master"})

    def comes_to_rest(self):
        """From here on nobody works on the files, and they can be read beside stord."""
        until(lambda: self.stord("gureum.Fsck")["Idle"])

    def files_are_sound(self, allowed=(0,)):
        for name in self.stord.files():
            path = os.path.join(self.stord.state, name)
            if name.endswith(".qcow2") and not is_encrypted(path):  # those fsck checks with their keys
                r = subprocess.run(["qemu-img", "check", "-U", os.path.join(self.stord.state, name)], capture_output=True, text=True)
                assert r.returncode in allowed, r.stdout + r.stderr


@pytest.fixture
def world(stord):
    made = World(stord, int(os.environ.get("SEED", "7")))
    yield made
    made.guests.close()


def test_200_random_operations_agree_with_the_model(world):
    while world.n_done < 200:
        world.step()
        if world.n_done % 40 == 0:
            world.compare()
    world.compare()
    for i in INSTANCES:
        world.guests.end(i)
    world.comes_to_rest()
    world.files_are_sound((0, 3))  # QEMU that was killed leaves clusters that nobody uses
    world.stord("gureum.Fsck", Repair=True)
    assert world.stord("gureum.Fsck")["Findings"] == []
    world.files_are_sound()
    for i in INSTANCES:
        world.guests.start(i)
    world.all_go()


class Life(threading.Thread):
    """Steps until stord dies."""

    def __init__(self, world):
        super().__init__()
        self.world, self.wrong = world, None

    def run(self):
        try:
            while True:
                self.world.step()
        except Gone:
            pass
        except Fault as e:
            if e.code != "ServiceUnavailable":
                self.wrong = e
        except Exception as e:
            self.wrong = e


def adopt(world):
    """What was asked for and not answered may have happened or not."""
    volumes = {v["VolumeId"]: v for v in world.stord("ec2.DescribeVolumes")["Volumes"]}
    snapshots = {s["SnapshotId"]: s for s in world.stord("ec2.DescribeSnapshots")["Snapshots"]}
    for v in set(volumes) - set(world.volumes):
        origin = volumes[v]["SnapshotId"]
        # One whose deletion was cut off is not as it was made.
        world.volumes[v] = list(world.lost.get(v) or world.snapshots.get(origin) or [0] * len(SPOTS))
        world.sizes[v] = volumes[v]["Size"]
    assert set(world.volumes) == set(volumes), "a volume that was answered is there"
    assert set(world.snapshots) <= set(snapshots), "a snapshot that was answered is there"
    for s in set(snapshots) - set(world.snapshots):
        v = snapshots[s]["VolumeId"]
        world.snapshots[s] = world.lost.get(s) or list(world.volumes[v])
        world.sizes[s] = snapshots[s]["VolumeSize"]
    for v, row in volumes.items():
        if row["Attachments"] and v not in world.attached:
            i = row["Attachments"][0]["InstanceId"]
            world.guests.unplug(i, v)
            world.stord("ec2.DetachVolume", VolumeId=v)
        elif v in world.attached and not row["Attachments"]:
            world.guests.unplug(world.attached.pop(v), v)


def remember(world):
    """Deletions forget in the model first: a deletion that did not happen brings its contents back."""
    forget, delete = world.forget, world.delete

    def keep(of, action):
        before = {k: list(v) for k, v in of.items()}
        result = action()
        return before, result

    def forget_kept():
        world.lost.update({k: list(v) for k, v in world.snapshots.items()})
        return forget()

    def delete_kept():
        world.lost.update({k: list(v) for k, v in world.volumes.items()})
        return delete()
    world.forget, world.delete, world.lost = forget_kept, delete_kept, {}


def test_kill_9_of_stord_hvd_and_qemu_at_any_moment_loses_nothing(world):
    remember(world)
    stord, rng = world.stord, random.Random(5)
    for number in range(int(os.environ.get("ROUNDS", "12"))):
        life = Life(world)
        life.start()
        threading.Event().wait(rng.random() * 1.2)  # the moment is what is tested
        if number % 3 == 1:
            world.guests.hang_up()
            threading.Event().wait(rng.random() * 0.1)
        stord.kill()
        life.join()
        assert life.wrong is None, repr(life.wrong)
        if number % 3 == 1:
            world.guests.listen()
        if number % 3 == 2:
            world.guests.end(INSTANCES[0], "kill")
        stord.start()
        until(lambda: all(s["State"] == "completed" for s in stord("ec2.DescribeSnapshots")["Snapshots"]))
        until(lambda: not [v for v in stord("ec2.DescribeVolumes")["Volumes"] if v["State"] == "creating" or "_NextLayer" in v])
        if number % 3 == 2:
            world.guests.start(INSTANCES[0])
        adopt(world)
        for v, i in sorted(world.attached.items()):
            world.guests.plug(i, v)
        world.compare()
        world.fsck_finds_nothing()
    world.all_go()
