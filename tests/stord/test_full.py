"""A merge that the full disk ended: it is not begun again before there is more room, for each try would copy everything once more; and then it is done."""
import os
import subprocess

import pytest

from conftest import Stord, new_directory, until
from test_give_way import INSTANCE, MIB, House

FAILED, WAITS = "layers are not merged yet", "a merge waits for room"


class SmallDisk:
    """64 MiB, and what takes them from the others."""

    def __init__(self):
        self.root = new_directory("gureum-full-")
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "none", self.root], capture_output=True).returncode:
            os.rmdir(self.root)
            pytest.skip("mounting a small tmpfs needs root")
        self.filler = os.path.join(self.root, "filler")

    def room(self):
        fs = os.statvfs(self.root)
        return fs.f_bavail * fs.f_frsize

    def leave(self, n_bytes):
        """So much room."""
        with open(self.filler, "ab") as f:
            os.posix_fallocate(f.fileno(), f.tell(), self.room() - n_bytes)

    def give_back(self, n_bytes):
        os.truncate(self.filler, os.path.getsize(self.filler) - n_bytes)

    def end(self):
        subprocess.run(["umount", "-l", self.root], check=True)
        os.rmdir(self.root)


def looked_at(stord, other):
    """What there is to merge, once more: for a volume that was detached."""
    looks = stord.log().count(WAITS)
    stord("ec2.AttachVolume", VolumeId=other, Device="/dev/sdf", **INSTANCE)
    stord("ec2.DetachVolume", VolumeId=other)
    until(lambda: stord.log().count(WAITS) > looks)


@pytest.fixture
def disk():
    made = SmallDisk()
    yield made
    made.end()


@pytest.mark.parametrize("under, over, is_encrypted", [(16, 12, False), (12, 16, False), (16, 12, True)], ids=["commit", "pull", "encrypted"])
def test_a_merge_waits_for_room(disk, monkeypatch, under, over, is_encrypted):
    monkeypatch.setenv("GUREUM_LOG", "debug")
    stord = Stord(disk.root).start()
    try:
        other, house = stord.create(Size=1), House(stord, is_encrypted)
        stord.available(other)
        house.write(0, under)
        spare = house.snapshot()
        house.write(under, over)
        kept = house.snapshot()
        house.write(40, 1)
        disk.leave(4 * MIB)
        stord("ec2.DeleteSnapshot", SnapshotId=spare)
        until(lambda: FAILED in stord.log())
        disk.give_back(MIB)  # enough for documents, and not for the merge
        for _ in range(3):
            looked_at(stord, other)
        assert stord.log().count(FAILED) == 1, "it copied again what it had no room for"
        disk.give_back(os.path.getsize(disk.filler))
        stord("ec2.DeleteVolume", VolumeId=other)
        until(lambda: house.is_idle() and len([n for n in stord.files() if n.endswith(".qcow2")]) == 2)
        assert stord.log().count(FAILED) == 1
        house.holds()
        stord("ec2.DeleteSnapshot", SnapshotId=kept)
        house.settles()
    finally:
        stord.stop()
