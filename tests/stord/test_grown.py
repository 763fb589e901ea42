"""Layers of different sizes: a volume grew between its snapshots, and its layers are merged. What lies beyond the smaller one's end stays."""
import os

import pytest

from conftest import until
from guests import Guests
from test_model import io_encrypted, qemu_io
from test_modify import completed

INSTANCE = "i-0123456789abcdef0"
SPOTS = {"low": 1, "grown": 1600, "last": 3 * 1024 - 1}  # MiB; of 1, 2 and 3 GiB


class House:
    def __init__(self, stord, is_encrypted, is_live):
        self.stord, self.is_encrypted, self.guests = stord, is_encrypted, Guests(stord) if is_live else None
        if is_live:
            self.guests.start(INSTANCE)

    def volume(self, **parameters):
        volume = self.stord.create(**parameters)
        self.stord.available(volume)
        if self.guests:
            self.guests.plug(INSTANCE, volume)
        return volume

    def io(self, volume, *commands):
        if self.guests:
            qemu_io(self.guests.instances[INSTANCE].url(volume), *commands, mode=("-f", "raw"))
        elif self.is_encrypted:
            io_encrypted(self.stord, volume, *commands)
        else:
            qemu_io(os.path.join(self.stord.state, self.stord.volume(volume)["_Layer"]), *commands)

    def write(self, volume, spot, pattern):
        self.io(volume, f"write -P {pattern} {SPOTS[spot]}M 64k", "flush")

    def holds(self, volume, **patterns):
        self.io(volume, *(f"read -P {pattern} {SPOTS[spot]}M 64k" for spot, pattern in patterns.items()))

    def grow(self, volume, size):
        self.stord("ec2.ModifyVolume", VolumeId=volume, Size=size)
        completed(self.stord, volume)

    def snapshot(self, volume):
        return self.stord("ec2.CreateSnapshot", VolumeId=volume)["SnapshotId"]

    def merged(self):
        fsck = until(lambda: (r := self.stord("gureum.Fsck"))["Idle"] and r)
        assert not fsck["Findings"], fsck


@pytest.fixture(params=[(False, False), (False, True), (True, False), (True, True)], ids=["plain", "plain-guest", "encrypted", "encrypted-guest"])
def house(stord, request):
    stord.stop()
    with open(stord.root + "/gureum.conf", "a") as f:
        f.write("ModificationCooldownSec=0\n")
    stord.start()
    made = House(stord, *request.param)
    yield made
    if made.guests:
        made.guests.close()


@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["oldest-first", "newest-first"])
def test_layers_of_a_volume_that_grew_between_its_snapshots_are_merged(house, order):
    stord = house.stord
    volume = house.volume(Size=1, Encrypted=house.is_encrypted)
    house.write(volume, "low", 1)
    snapshots = [house.snapshot(volume)]
    house.grow(volume, 2)
    house.write(volume, "grown", 2)
    snapshots.append(house.snapshot(volume))
    house.grow(volume, 3)
    house.write(volume, "last", 3)
    kept = house.snapshot(volume)
    house.write(volume, "low", 4)
    for i in order:
        stord("ec2.DeleteSnapshot", SnapshotId=snapshots[i])
        house.merged()
        house.holds(volume, low=4, grown=2, last=3)
    copy = house.volume(SnapshotId=kept)
    assert stord.volume(copy)["Size"] == 3
    house.holds(copy, low=1, grown=2, last=3)
    stord("ec2.DeleteSnapshot", SnapshotId=kept)
    house.merged()
    house.write(volume, "grown", 5)
    house.holds(volume, low=4, grown=5, last=3)
    house.holds(copy, low=1, grown=2, last=3)
    last = house.snapshot(volume)
    house.write(volume, "last", 6)
    again = house.volume(SnapshotId=last)
    house.holds(again, low=4, grown=5, last=3)
    stord.kill()
    stord.start()
    house.merged()
    house.holds(volume, low=4, grown=5, last=6)
    house.holds(again, low=4, grown=5, last=3)


def test_a_volume_larger_than_the_image_under_it_takes_the_image_in(house, images):
    stord = house.stord
    snapshot = stord.snapshot(images["disk"])  # of 1,500 MiB, holds 0x41 from 1 MiB on
    volume = house.volume(SnapshotId=snapshot, Size=3, Encrypted=house.is_encrypted)
    house.write(volume, "grown", 2)
    house.write(volume, "last", 3)
    stord("ec2.DeleteSnapshot", SnapshotId=snapshot)
    house.merged()
    house.holds(volume, low=0x41, grown=2, last=3)
    taken = house.snapshot(volume)
    house.write(volume, "low", 9)
    copy = house.volume(SnapshotId=taken, Size=4)
    house.holds(copy, low=0x41, grown=2, last=3)
    target = stord("ec2.CopySnapshot", SourceRegion="us-east-1", SourceSnapshotId=taken)["SnapshotId"]
    until(lambda: stord("ec2.DescribeSnapshots", SnapshotIds=[target])["Snapshots"][0]["State"] == "completed")
    house.holds(house.volume(SnapshotId=target), low=0x41, grown=2, last=3)
