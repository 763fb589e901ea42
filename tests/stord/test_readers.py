"""Who reads a chain of layers reads what it was, whatever is deleted and merged meanwhile.

The tracer makes each read of the lowest layer take a while, so that there is a meanwhile."""
import os
import subprocess

import pytest

from conftest import until
from test_copy import copy, file_of, shown
from test_snapshots import layer, qemu_io
from test_sync import TOOL, can_trace

MIB_READ = 192  # several steps of a copy
DELAY_USEC = 3000  # of each 64 KiB


@pytest.fixture
def slow(stord):
    """Reads of this file by stord take long from now on."""
    if not can_trace():
        pytest.skip("strace is not here, or may not trace")
    made = []

    def begin(path):
        made.append(subprocess.Popen([TOOL, "-f", "-p", str(stord.process.pid), "-P", path, "-e", "trace=pread64", "-e", "signal=none", "-o", "/dev/null",
                                      "-e", f"inject=pread64:delay_enter={DELAY_USEC}"], stderr=subprocess.DEVNULL))
        until(lambda: all(map(is_traced, os.listdir(f"/proc/{stord.process.pid}/task"))))

    def is_traced(thread):
        with open(f"/proc/{stord.process.pid}/task/{thread}/status") as f:
            return "TracerPid:\t0\n" not in f.read()
    yield begin
    for one in made:
        one.terminate()
        one.wait()


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
    slow(lowest)
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
