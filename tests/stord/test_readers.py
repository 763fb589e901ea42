"""Who reads a chain of layers reads what it was, whatever is deleted and merged meanwhile.

The tracer makes what reads a file take a while, so that there is a meanwhile."""
import os
import subprocess
import time

import pytest

from conftest import until
from test_copy import copy, file_of, shown
from test_give_way import House
from test_snapshots import layer, qemu_io
from test_sync import TOOL, can_trace

MIB_READ = 192  # several steps of a copy
DELAY_USEC = 3000  # of each 64 KiB
FOR_EVER_USEC = 600 * 1000 * 1000


@pytest.fixture
def slow(stord):
    """This call of stord's for the file takes long from now on; what ends that."""
    if not can_trace():
        pytest.skip("strace is not here, or may not trace")
    made = []

    def begin(call, path, usec):
        made.append(subprocess.Popen([TOOL, "-f", "-p", str(stord.process.pid), "-P", path, "-e", f"trace={call}", "-e", "signal=none", "-o", "/dev/null",
                                      "-e", f"inject={call}:delay_enter={usec}"], stderr=subprocess.DEVNULL))
        until(lambda: all(map(is_traced, os.listdir(f"/proc/{stord.process.pid}/task"))))
        return end

    def is_traced(thread):
        with open(f"/proc/{stord.process.pid}/task/{thread}/status") as f:
            return "TracerPid:\t0\n" not in f.read()

    def end():
        for one in made:
            one.terminate()
            one.wait()
    yield begin
    end()


def test_a_copy_is_its_source_though_that_goes_and_what_is_under_it_becomes_another_volumes(stord, slow):
    """With the source its layer goes at once; the one under it is needed by one volume alone then, and would be merged with it."""
    first = stord.create(Size=1)
    stord.available(first)
    lowest = layer(stord, first)
    qemu_io(lowest, f"write -P 1 0 {MIB_READ}M", "flush")
    shared = stord("ec2.CreateSnapshot", VolumeId=first)["SnapshotId"]
    other = stord.create(SnapshotId=shared)
    source = stord("ec2.CreateSnapshot", VolumeId=first)["SnapshotId"]
    stord.available(other)
    qemu_io(layer(stord, other), f"write -P 2 {MIB_READ - 2}M 1M", "flush")
    stord("ec2.DeleteVolume", VolumeId=first)
    until(lambda: stord("gureum.Fsck")["Idle"])
    slow("pread64", lowest, DELAY_USEC)
    made = copy(stord, source)
    until(lambda: shown(stord, made)["Progress"] != "0%")
    stord("ec2.DeleteSnapshot", SnapshotId=shared)
    stord("ec2.DeleteSnapshot", SnapshotId=source)
    until(lambda: shown(stord, made)["State"] != "pending")
    assert shown(stord, made)["State"] == "completed"
    qemu_io(file_of(stord, made), f"read -P 1 0 {MIB_READ}M")
    until(lambda: stord("gureum.Fsck")["Idle"])
    assert len([n for n in stord.files() if n.startswith("zones/")]) == 1, "merged in the end"
    qemu_io(layer(stord, other), f"read -P 1 0 {MIB_READ - 2}M", f"read -P 2 {MIB_READ - 2}M 1M", f"read -P 1 {MIB_READ - 1}M 1M")


def stands_still(stord):
    """A thread of its has been stopped by the tracer, and stays so."""
    def stopped():
        found = set()
        for task in os.listdir(f"/proc/{stord.process.pid}/task"):
            with open(f"/proc/{stord.process.pid}/task/{task}/stat") as f:
                found |= {task} if f.read().rsplit(")", 1)[1].split()[0] == "t" else set()
        return found
    tasks = stopped()
    for _ in range(20):
        time.sleep(0.005)  # between two looks
        tasks &= stopped()
    return bool(tasks)


def test_a_copy_finds_its_source_though_a_merge_takes_its_layer_away(stord, slow):
    """The merge is under way when the copy begins; it ends when the layers' names are known and none is open yet."""
    house = House(stord, False)
    kept = house.begin(200, 150, is_kept=True)
    upper = os.path.join(stord.state, shown(stord, kept)["_Layer"])
    end = slow("openat", upper, FOR_EVER_USEC)
    made = copy(stord, kept)
    until(lambda: stands_still(stord))
    house.copier.go_on()
    until(lambda: not os.path.exists(upper))
    end()
    until(lambda: shown(stord, made)["State"] != "pending")
    assert shown(stord, made)["State"] == "completed"
    assert shown(stord, kept)["_Layer"] != os.path.relpath(upper, stord.state)
    qemu_io(file_of(stord, made), *[f"read -P {house.pattern[m]} {m}M 1M" for m in (0, 99, 100, 249)])
