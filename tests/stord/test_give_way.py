"""A merge without a guest copies for as long as there is data: whoever needs the volume meanwhile does not wait for it, and nothing is lost.

The tool that copies is stopped in the middle by a signal, so that it would never end: what is answered then was answered without it."""
import os
import signal
import time

import pytest

from conftest import until
from guests import Guests
from test_model import io_attached, io_encrypted
from test_snapshots import layer, qemu_io

INSTANCE = {"InstanceId": "i-0123456789abcdef0"}
MIB = 1 << 20
LAYERS_MAX = 16  # stord/layer.h
TRIES = 20  # a copy may be over before it is caught


class Copier:
    """A qemu-img of stord's that has copied something and stands still."""

    def __init__(self, stord):
        self.stord, self.pid = stord, None

    def children(self):
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/stat") as f:
                    is_child = int(f.read().rsplit(") ", 1)[1].split()[1]) == self.stord.process.pid
                with open(f"/proc/{pid}/cmdline") as f:
                    words = f.read().split("\0")
                if is_child and words[0] == "qemu-img" and {"commit", "rebase"} & set(words):
                    yield int(pid)
            except (FileNotFoundError, ProcessLookupError):
                pass

    def written(self, pid):
        with open(f"/proc/{pid}/io") as f:
            return int(dict(line.split(": ") for line in f)["wchar"])

    def catch(self, is_over):
        """Whether it was caught before the merge was over."""
        while not is_over():
            for pid in self.children():
                try:
                    if self.written(pid) > 2 * MIB:
                        os.kill(pid, signal.SIGSTOP)
                        self.pid = pid
                        return True
                except (FileNotFoundError, ProcessLookupError):
                    pass
            time.sleep(0.001)  # between two looks at something that tells nobody
        return False

    def is_there(self):
        return os.path.exists(f"/proc/{self.pid}")

    def go_on(self):
        if self.pid and self.is_there():
            os.kill(self.pid, signal.SIGCONT)


class House:
    """A volume with a merge in the middle: `pattern` by MiB is what it holds."""

    def __init__(self, stord, is_encrypted):
        self.stord, self.is_encrypted = stord, is_encrypted
        self.volume = stord.create(Size=2, Encrypted=is_encrypted)
        self.pattern, self.copier, self.number = {}, Copier(stord), 0
        stord.available(self.volume)

    def io(self, *commands):
        if self.is_encrypted and self.stord.volume(self.volume)["Attachments"]:
            io_attached(self.attach(), *commands)
        elif self.is_encrypted:
            io_encrypted(self.stord, self.volume, *commands)
        else:
            qemu_io(layer(self.stord, self.volume), *commands)

    def write(self, at, n):
        self.number = self.number % 250 + 1
        self.io(f"write -P {self.number} {at}M {n}M", "flush")
        self.pattern.update({m: self.number for m in range(at, at + n)})

    def snapshot(self):
        return self.stord("ec2.CreateSnapshot", VolumeId=self.volume)["SnapshotId"]

    def is_idle(self):
        return self.stord("gureum.Fsck")["Idle"]

    def begin(self, under, over, is_kept=False):
        """`over` MiB on `under` MiB, of which some are the same: a merge of the two stands still. The snapshot that keeps the upper one, if is_kept."""
        for _ in range(TRIES):
            self.write(0, under)
            spare = self.snapshot()
            self.write(under // 2, over)
            kept = self.snapshot() if is_kept else None
            self.stord("ec2.DeleteSnapshot", SnapshotId=spare)
            if self.copier.catch(self.is_idle):
                return kept
            if kept:
                self.stord("ec2.DeleteSnapshot", SnapshotId=kept)
                until(self.is_idle)
        raise AssertionError("no merge was caught")

    def attach(self, **more):
        return self.stord("ec2.AttachVolume", VolumeId=self.volume, Device="/dev/sdf", **INSTANCE, **more)

    def holds(self):
        spots = sorted({m for m in self.pattern} - {0}) + [0]
        self.io(*[f"read -P {self.pattern[m]} {m}M 1M" for m in spots[::7] + spots[-1:]])

    def settles(self):
        """Merged at last, and as it was."""
        until(lambda: self.is_idle() and len([n for n in self.stord.files() if n.endswith(".qcow2")]) == 1)
        self.holds()
        assert not [f for f in self.stord("gureum.Fsck")["Findings"] if f["What"] != "leaked"]


@pytest.fixture(params=["plain", "encrypted"])
def house(stord, request):
    made = House(stord, request.param == "encrypted")
    yield made
    made.copier.go_on()


@pytest.mark.parametrize("under, over", [(200, 150), (100, 200)])
def test_a_volume_is_attached_in_the_middle_of_a_merge(house, under, over):
    """Reserved, opened and written to at once; what the merge had done is no harm, killed or not, and it is done in the end."""
    house.begin(under, over)
    assert house.attach(_Begin=True)["State"] == "attaching" and not house.copier.is_there()
    assert len([n for n in house.stord.files() if n.endswith(".qcow2")]) == 2
    row = house.attach()
    assert row["State"] == "attached" and row["_Path"] == layer(house.stord, house.volume)
    house.holds()
    house.write(under // 2 + 10, 20)
    house.write(under + over, 5)
    house.stord.kill()
    house.stord.start()
    house.stord("ec2.DetachVolume", VolumeId=house.volume, **INSTANCE)
    house.settles()


def test_a_stopped_instance_starts_in_the_middle_of_a_merge(house):
    """Its volume is attached already, and asked for anew."""
    guests = Guests(house.stord)  # where the instance does not run
    house.attach()
    house.begin(200, 150)
    assert house.attach()["State"] == "attached" and not house.copier.is_there()
    house.stord("ec2.DetachVolume", VolumeId=house.volume, **INSTANCE)
    house.settles()
    guests.close()


def caught_by_hand(house):
    """An encrypted chain that is too long is written anew by stord itself, which stands still: whether less than half is written."""
    for n in range(LAYERS_MAX):
        house.write(n * 24, 24)
        house.snapshot()
    beside = layer(house.stord, house.volume) + ".new"

    def n_written():
        """0: it is not there, or not any more."""
        try:
            return os.stat(beside).st_blocks * 512
        except FileNotFoundError:
            return 0
    until(lambda: n_written() or house.is_idle())
    house.stord.process.send_signal(signal.SIGSTOP)
    return 0 < n_written() < LAYERS_MAX * 12 * MIB


def test_what_is_merged_by_hand_gives_way_too(stord):
    for _ in range(3):
        house = House(stord, True)
        is_early = caught_by_hand(house)
        row = house.attach(sent=lambda: stord.process.send_signal(signal.SIGCONT))
        if is_early:
            break
        stord("ec2.DetachVolume", VolumeId=house.volume, **INSTANCE)
    assert is_early, "no merge was caught"
    assert 1 + len(row["_Chain"]) == LAYERS_MAX + 1, "as it was"
    assert not [n for n in stord.files() if n.endswith(".new")]
    house.holds()
    stord("ec2.DetachVolume", VolumeId=house.volume, **INSTANCE)
    until(lambda: house.is_idle() and depth_of(stord, house.volume) == 2)
    house.holds()


def depth_of(stord, volume):
    """As QEMU would open it."""
    row = stord("ec2.AttachVolume", VolumeId=volume, Device="/dev/sdf", **INSTANCE)
    stord("ec2.DetachVolume", VolumeId=volume, **INSTANCE)
    return 1 + len(row["_Chain"])


def test_a_volume_is_made_on_what_is_being_merged(house):
    kept = house.begin(200, 150, is_kept=True)
    other = house.stord.create(SnapshotId=kept)
    house.stord.available(other)
    assert not house.copier.is_there()
    house.stord("ec2.DeleteVolume", VolumeId=other)
    house.stord("ec2.DeleteSnapshot", SnapshotId=kept)
    house.settles()


def test_a_volume_is_snapshotted_and_deleted_in_the_middle_of_a_merge(house):
    house.begin(200, 150)
    assert house.snapshot() and not house.copier.is_there()
    if house.copier.catch(house.is_idle):  # it is begun again
        house.stord("ec2.DeleteVolume", VolumeId=house.volume)
        assert not house.copier.is_there()
    else:
        house.stord("ec2.DeleteVolume", VolumeId=house.volume)
    for s in house.stord("ec2.DescribeSnapshots")["Snapshots"]:
        house.stord("ec2.DeleteSnapshot", SnapshotId=s["SnapshotId"])
    until(lambda: house.stord.files() <= {"keys/master"})
