"""hvd takes a call and is silent: a customer is answered all the same, nothing that was half done is lost, and when hvd speaks again it is completed.

The stand-in for hvd (guests.py) waits before or after it acts; a call that its caller gave up meanwhile it does not begin, as hvd.
"""
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from conftest import Fault, until
from guests import Guests
from test_model import qemu_io

INSTANCE = "i-0123456789abcdef0"
RAW = ("-f", "raw")


class Silence:
    """Calls of one method are not answered while it lasts. `where`: what hvd is about to do."""

    def __init__(self, guests, method, where="{}"):
        self.over, self.asked, self.what = threading.Event(), threading.Event(), where.format(method)
        guests.step = self.step

    def step(self, what):
        if what == self.what and not self.over.is_set():
            self.asked.set()
            assert self.over.wait(240)

    def end(self):
        self.over.set()


BEFORE, AFTER = "{}", "the answer to {}"


@contextmanager
def with_guests(stord, settings):
    """(stord with these settings, guests of which one runs)"""
    stord.stop()
    with open(stord.root + "/gureum.conf", "a") as f:
        f.write(settings)
    stord.start()
    guests = Guests(stord)
    guests.start(INSTANCE)
    yield stord, guests
    guests.step = lambda what: None
    guests.close()


@pytest.fixture
def world(stord):
    with with_guests(stord, "GuestTimeoutSec=1\nModificationCooldownSec=0\n") as made:
        yield made


def attached(stord, guests, pattern):
    volume = stord.create(Size=1)
    stord.available(volume)
    guests.plug(INSTANCE, volume)
    write(guests, volume, 0, pattern)
    return volume


def write(guests, volume, mib, pattern):
    qemu_io(guests.instances[INSTANCE].url(volume), f"write -P {pattern} {mib}M 64k", "flush", mode=RAW)


def holds(guests, volume, *patterns):
    """What the guest reads, MiB by MiB."""
    for mib, pattern in enumerate(patterns):
        qemu_io(guests.instances[INSTANCE].url(volume), f"read -P {pattern} {mib}M 64k", mode=RAW)


def snapshots(stord):
    return stord("ec2.DescribeSnapshots", OwnerIds=["self"])["Snapshots"]


def taken(stord, volume):
    """None: the host was too slow. In a second it may be that the stand-in only has not had its turn."""
    try:
        return stord("ec2.CreateSnapshot", VolumeId=volume)
    except Fault as e:
        assert e.code == "ServiceUnavailable", e


def snapshot_of(stord, volume):
    return until(lambda: taken(stord, volume))["SnapshotId"]


def all_is_well(stord):
    findings = until(lambda: (r := stord("gureum.Fsck"))["Idle"] and r)["Findings"]
    assert not findings, findings


def settled(stord, volume):
    return until(lambda: "_NextLayer" not in (row := stord.volume(volume)) and row)


@pytest.mark.parametrize("where", [BEFORE, AFTER])
@pytest.mark.parametrize("is_killed", [False, True])
def test_a_snapshot_of_a_silent_host_is_refused_and_its_volume_goes_on(world, where, is_killed):
    stord, guests = world
    volume = attached(stord, guests, 1)
    silence = Silence(guests, "gureum.SwitchLayers", where)
    stord.refused("ServiceUnavailable", "ec2.CreateSnapshot", VolumeId=volume)
    assert silence.asked.wait(60) and not snapshots(stord)  # it may act for longer than its second
    # Not begun or already done, nobody here knows: the guest writes on, and what it writes stays.
    write(guests, volume, 1, 2)
    stord.refused("ServiceUnavailable", "ec2.CreateSnapshot", VolumeId=volume)
    stord.refused("ServiceUnavailable", "ec2.CreateSnapshots", InstanceSpecification={"InstanceId": INSTANCE})
    if is_killed:
        stord.kill()
        stord.start()
        assert not snapshots(stord)
    silence.end()
    row = settled(stord, volume)
    assert guests.instances[INSTANCE].disks[volume][1].endswith(row["_Layer"])
    assert not snapshots(stord)
    snapshot = snapshot_of(stord, volume)
    write(guests, volume, 0, 3)
    holds(guests, volume, 3, 2)
    copy = stord.create(SnapshotId=snapshot)
    stord.available(copy)
    guests.plug(INSTANCE, copy)
    holds(guests, copy, 1, 2)
    all_is_well(stord)


def test_who_does_not_need_the_silent_host_does_not_wait_for_it(world):
    stord, guests = world
    volume = attached(stord, guests, 1)
    silence = Silence(guests, "gureum.SwitchLayers")
    asking = ThreadPoolExecutor().submit(stord.refused, "ServiceUnavailable", "ec2.CreateSnapshot", VolumeId=volume)
    assert silence.asked.wait(60)
    other = stord.create(Size=1)
    stord.available(other)
    stord("ec2.CreateSnapshot", VolumeId=other)
    stord("ec2.DeleteVolume", VolumeId=other)
    asking.result()
    silence.end()
    settled(stord, volume)


@pytest.mark.parametrize("where", [BEFORE, AFTER])
def test_a_volume_grows_when_its_silent_host_speaks_again(world, where):
    stord, guests = world
    volume = attached(stord, guests, 1)
    silence = Silence(guests, "gureum.ApplyVolume", where)
    stord("ec2.ModifyVolume", VolumeId=volume, Size=2)
    assert silence.asked.wait(60)
    stord("ec2.DescribeVolumes", VolumeIds=[volume])
    assert stord.volume(volume)["Size"] == 1
    stord.refused("IncorrectModificationState", "ec2.ModifyVolume", VolumeId=volume, Size=3)
    silence.end()
    until(lambda: stord.volume(volume)["Size"] == 2)
    write(guests, volume, 2040, 5)
    holds(guests, volume, 1)


@pytest.mark.parametrize("is_killed", [False, True])
def test_what_a_guest_wrote_into_its_grown_disk_is_kept_by_a_snapshot(world, is_killed):
    """The guest's QEMU has grown the disk, nobody has said so, and the guest writes at once where there was nothing before."""
    stord, guests = world
    volume = attached(stord, guests, 1)
    silence = Silence(guests, "gureum.ApplyVolume", AFTER)
    stord("ec2.ModifyVolume", VolumeId=volume, Size=2)
    assert silence.asked.wait(60)
    write(guests, volume, 2040, 5)
    if is_killed:
        stord.kill()
        stord.start()
    stord.refused("ServiceUnavailable", "ec2.CreateSnapshot", VolumeId=volume)
    qemu_io(guests.instances[INSTANCE].url(volume), "read -P 5 2040M 64k", mode=RAW)
    silence.end()
    snapshot = until(lambda: taken(stord, volume))
    assert snapshot["VolumeSize"] == stord.volume(volume)["Size"] == 2
    qemu_io(guests.instances[INSTANCE].url(volume), "read -P 5 2040M 64k", "write -P 6 2041M 64k", "flush", mode=RAW)
    copy = stord.create(SnapshotId=snapshot["SnapshotId"])
    stord.available(copy)
    guests.plug(INSTANCE, copy)
    qemu_io(guests.instances[INSTANCE].url(copy), "read -P 5 2040M 64k", "read -P 0 2041M 64k", mode=RAW)


def test_a_merge_of_a_silent_host_is_in_nobodys_way_for_ever(world):
    stord, guests = world
    volume = attached(stord, guests, 1)
    first = snapshot_of(stord, volume)
    write(guests, volume, 1, 2)
    second = snapshot_of(stord, volume)
    silence = Silence(guests, "gureum.CommitLayer")
    stord("ec2.DeleteSnapshot", SnapshotId=first)  # its layer is spare, and merged by the guest
    assert silence.asked.wait(60)
    copy = stord.create(SnapshotId=second)  # stands on what is being merged
    for _ in range(3):  # each comes after a try to make its file, which holds the volume
        stord.refused("IncorrectState", "ec2.AttachVolume", VolumeId=copy, InstanceId=INSTANCE, Device="/dev/sdg")
    assert stord.volume(copy)["State"] == "creating"
    silence.end()
    stord.available(copy)
    guests.plug(INSTANCE, copy)
    holds(guests, copy, 1, 2)
    holds(guests, volume, 1, 2)


def snapshot_with_a_spare_layer_under_it(stord, guests):
    """(volume, snapshot): the snapshot's layer stands on one that nobody needs, and the guest merges the two."""
    volume = attached(stord, guests, 1)
    first = snapshot_of(stord, volume)
    write(guests, volume, 1, 2)
    second = snapshot_of(stord, volume)
    stord("ec2.DeleteSnapshot", SnapshotId=first)
    return volume, second


def test_a_merge_that_the_guest_did_while_stord_was_away_keeps_nobody_waiting(world):
    stord, guests = world
    silence = Silence(guests, "gureum.CommitLayer", AFTER)
    volume, _ = snapshot_with_a_spare_layer_under_it(stord, guests)
    assert silence.asked.wait(60)  # it is done, and nobody has heard of it
    stord.kill()
    silence.end()
    silence = Silence(guests, "gureum.FlushVolume")
    stord.start()
    assert silence.asked.wait(60)  # stord has found it, and is killed before it has written it down
    copy = stord.create(SnapshotId=snapshot_of(stord, volume))
    write(guests, volume, 0, 3)
    assert stord.volume(copy)["State"] == "creating", "it waits for what is not written down"
    stord.kill()
    silence.end()
    stord.start().available(copy)
    guests.plug(INSTANCE, copy)
    holds(guests, copy, 1, 2)
    holds(guests, volume, 3, 2)
    all_is_well(stord)


def test_a_pull_is_not_begun_after_a_snapshot_has_come_between(world):
    stord, guests = world
    volume = attached(stord, guests, 1)
    first = snapshot_of(stord, volume)
    write(guests, volume, 1, 2)
    silence = Silence(guests, "gureum.PullLayers")
    stord("ec2.DeleteSnapshot", SnapshotId=first)
    assert silence.asked.wait(60)  # into the layer that the guest writes, as yet
    second = snapshot_of(stord, volume)
    write(guests, volume, 0, 3)
    silence.end()
    all_is_well(stord)
    copy = stord.create(SnapshotId=second)
    stord.available(copy)
    guests.plug(INSTANCE, copy)
    holds(guests, copy, 1, 2)
    holds(guests, volume, 3, 2)
    all_is_well(stord)
