"""What a merge or a modification began ends late, after something else has happened, or never: nothing is lost, and nobody waits for ever."""
import json
import os
import shutil
import sqlite3
import subprocess
import tempfile
import threading
from contextlib import closing

import pytest

from conftest import until
from guests import Guests
from test_silence import AFTER, INSTANCE, Silence, all_is_well, attached, holds, snapshot_of, snapshot_with_a_spare_layer_under_it, with_guests, world, write  # noqa: F401


def restarted(guests, volume, how):
    guests.end(INSTANCE, how)
    guests.start(INSTANCE)
    guests.plug(INSTANCE, volume)


def layers(stord):
    """{layer: what it stands on}, as the documents say; None: they were being written."""
    with tempfile.TemporaryDirectory() as copy:  # stord has the file for itself
        try:
            for name in ("state.db", "state.db-wal"):
                shutil.copy(os.path.join(stord.state, name), copy)
            with closing(sqlite3.connect(os.path.join(copy, "state.db"))) as db:
                return {i: json.loads(text).get("Backing") for i, text in db.execute("SELECT id, json FROM doc WHERE kind = '_layer'")}
        except (FileNotFoundError, sqlite3.DatabaseError):
            return None


def headers_agree(stord):
    """The files say the same, also those that a guest has open."""
    found, wanted = {}, layers(stord)
    for layer in wanted or ():
        r = subprocess.run(["qemu-img", "info", "-U", "--output=json", os.path.join(stord.state, layer)], capture_output=True, check=False)
        under = json.loads(r.stdout).get("backing-filename") if r.returncode == 0 else None
        found[layer] = under and os.path.relpath(under, stord.state)
    return wanted and found == wanted


def test_a_merge_whose_qemu_was_killed_before_it_was_flushed_is_not_written_down(world):  # noqa: F811
    stord, guests = world
    volume = attached(stord, guests, 1)
    first = snapshot_of(stord, volume)
    write(guests, volume, 1, 2)
    silence = Silence(guests, "gureum.FlushVolume")
    stord("ec2.DeleteSnapshot", SnapshotId=first)
    assert silence.asked.wait(60)  # pulled, and the tables of what was pulled are in QEMU's memory
    restarted(guests, volume, "kill")
    silence.end()
    holds(guests, volume, 1, 2)
    all_is_well(stord)
    restarted(guests, volume, "flush_and_end")
    holds(guests, volume, 1, 2)
    all_is_well(stord)


def test_a_merge_is_finished_though_a_volume_was_made_on_the_merged_layer_meanwhile(world):  # noqa: F811
    stord, guests = world
    silence = Silence(guests, "gureum.CommitLayer", AFTER)
    volume, second = snapshot_with_a_spare_layer_under_it(stord, guests)
    assert silence.asked.wait(60)
    copy = stord.create(SnapshotId=second)
    stord.kill()
    silence.end()
    stord.start()
    stord.available(copy)
    until(lambda: headers_agree(stord))
    guests.plug(INSTANCE, copy)
    holds(guests, copy, 1, 2)
    holds(guests, volume, 1, 2)
    restarted(guests, volume, "kill")
    guests.plug(INSTANCE, copy)
    holds(guests, copy, 1, 2)
    holds(guests, volume, 1, 2)
    all_is_well(stord)


def test_however_many_volumes_are_in_creation_on_what_a_guest_has_merged(world):  # noqa: F811
    stord, guests = world
    silence = Silence(guests, "gureum.CommitLayer", AFTER)
    volume, _ = snapshot_with_a_spare_layer_under_it(stord, guests)
    assert silence.asked.wait(60)
    third = snapshot_of(stord, volume)
    copies = [stord.create(SnapshotId=third) for _ in range(9)]
    stord.kill()
    silence.end()
    stord.start()
    for copy in copies:
        stord.available(copy)


@pytest.fixture
def patient(stord):
    with with_guests(stord, "GuestTimeoutSec=240\n") as made:
        yield made


def test_a_job_that_begins_only_after_it_was_to_end_is_ended(patient):
    stord, guests = patient
    silence = Silence(guests, "gureum.CommitLayer")
    guests.instances[INSTANCE].speed = 1  # byte a second
    _, second = snapshot_with_a_spare_layer_under_it(stord, guests)
    assert silence.asked.wait(60)
    hold, stop = silence.step, Silence(guests, "gureum.StopMerge", AFTER)

    def step(what):
        hold(what)
        if what == stop.what:
            stop.asked.set()
    guests.step = step
    copy = stord.create(SnapshotId=second)
    assert stop.asked.wait(60)  # there was nothing to end
    silence.end()
    stord.available(copy)


def test_a_volume_that_could_not_be_made_does_not_keep_merges_busy(stord):
    volume = stord.create(Size=1)
    stord.available(volume)
    first = stord("ec2.CreateSnapshot", VolumeId=volume)["SnapshotId"]
    second = stord("ec2.CreateSnapshot", VolumeId=volume)["SnapshotId"]
    copy = stord.create(SnapshotId=second)
    stord.available(copy)
    stord.stop()
    with closing(sqlite3.connect(os.path.join(stord.state, "state.db"))) as db, db:
        row = json.loads(db.execute("SELECT json FROM doc WHERE kind = 'volume' AND id = ?", (copy,)).fetchone()[0])
        row["State"] = "error"
        del row["_Ready"]
        db.execute("UPDATE doc SET json = ? WHERE kind = 'volume' AND id = ?", (json.dumps(row), copy))
    os.unlink(os.path.join(stord.state, row["_Layer"]))
    stord.start()
    stord("ec2.DeleteSnapshot", SnapshotId=first)
    until(lambda: stord("gureum.Fsck")["Idle"])
    n_before = len(until(lambda: layers(stord)))
    stord("ec2.DeleteVolume", VolumeId=copy)
    until(lambda: stord("gureum.Fsck")["Idle"] and len(layers(stord) or ()) == n_before - 2)  # its own, and the spare one
    all_is_well(stord)


def test_a_modification_that_cannot_be_has_failed_in_the_end(stord):
    volume = stord.create(Size=1)
    stord.available(volume)
    os.unlink(os.path.join(stord.state, stord.volume(volume)["_Layer"]))
    stord("ec2.ModifyVolume", VolumeId=volume, Size=2)
    until(lambda: stord("ec2.DescribeVolumesModifications", VolumeIds=[volume])["VolumesModifications"][0]["ModificationState"] == "failed", 240)
    assert stord.volume(volume)["Size"] == 1
    stord("ec2.DeleteVolume", VolumeId=volume)


def test_fsck_is_not_in_the_way_of_a_guest_that_starts(stord):
    """qemu-img has a file open while it looks at it, and QEMU could not open it for writing then."""
    guests, end = Guests(stord), threading.Event()
    guests.start(INSTANCE)
    volume = stord.create(Size=1)
    stord.available(volume)
    reports = []

    def look():
        while not end.is_set():
            reports.append(stord("gureum.Fsck"))

    looking = threading.Thread(target=look)
    looking.start()
    try:
        for _ in range(20):
            guests.plug(INSTANCE, volume)
            guests.unplug(INSTANCE, volume)
            stord("ec2.DetachVolume", VolumeId=volume)
    finally:
        end.set()
        looking.join()
        guests.close()
    assert not any(r["Findings"] for r in reports) and any(r["Busy"] == 0 for r in reports)
