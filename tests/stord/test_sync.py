"""What is acknowledged was on the disk before: each step's fsync is seen, in its order, by strace.

test_power_cut.py cuts the power at random moments; here the order is checked that makes every moment a good one, where no power can be cut
as well.
"""
import os
import re
import shutil
import subprocess

import pytest

import conftest
from conftest import Stord, new_directory, until
from guests import Guests

INSTANCE = "i-0123456789abcdef0"
CALLS = "openat,fsync,fdatasync,rename,renameat,renameat2,unlink,unlinkat,sendmsg,sendto,write,writev,pwrite64"
TOOL = shutil.which("strace")


def can_trace():
    """As a grandchild, which not everybody may who may trace a child (Yama)."""
    return TOOL and b"execve(" in subprocess.run([TOOL, "-D", "-e", "trace=execve", "true"], capture_output=True).stderr


@pytest.fixture
def traced(tmp_path, monkeypatch):
    if not can_trace():
        pytest.skip("strace is not here, or may not trace")
    trace = str(tmp_path / "trace")
    script = tmp_path / "stord"
    # -D: the tracer is nobody's parent, so that the daemon is our child as always. -y: descriptors by their paths.
    script.write_text(f'#!/bin/sh\nexec {TOOL} -D -f -y -s 4096 -e trace={CALLS} -e signal=none -o {trace} {conftest.STORD} "$@"\n')
    script.chmod(0o755)
    monkeypatch.setattr(conftest, "STORD", str(script))
    # A build with ASan cannot look for leaks while it is traced.
    monkeypatch.setenv("ASAN_OPTIONS", os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=0")
    root = new_directory("gureum-sync-")
    stord = Stord(root).start()
    yield stord, trace
    assert stord.stop() == 0
    shutil.rmtree(root)


def ended(stord, trace):
    """The tracer, which is nobody's child, has written down all of it."""
    with open(trace, errors="replace") as f:
        return re.search(rf"^{stord.process.pid} +\+\+\+ exited", f.read(), re.M)


def calls_of(stord, trace, about):
    """The calls of a stord that has ended, in order, from the line that first names `about`; interrupted ones are joined to their ends."""
    waiting, lines = {}, []
    until(lambda: ended(stord, trace))
    with open(trace, errors="replace") as f:
        for line in f:
            thread, call = line.rstrip("\n").split(None, 1)
            if call.endswith("<unfinished ...>"):
                waiting[thread] = call[:-len("<unfinished ...>")]
                continue
            resumed = re.match(r"<\.\.\. \w+ resumed>(.*)", call)
            if resumed:
                call = waiting.pop(thread, "") + resumed[1]
            lines.append(call)
    first = next(i for i, call in enumerate(lines) if about in call)
    return lines[first:]


def place(calls, pattern, after=-1):
    for i, call in enumerate(calls):
        if i > after and re.search(pattern, call):
            return i
    seen = "\n".join(c[:200] for c in calls)
    pytest.fail(f"{pattern} does not come after {calls[after][:200] if after >= 0 else 'the beginning'}; the calls were:\n{seen}")


def test_a_snapshot_is_flushed_step_by_step_before_it_is_answered(traced):
    stord, trace = traced
    guests = Guests(stord)
    guests.start(INSTANCE)
    volume = stord.create(Size=1)
    stord.available(volume)
    guests.plug(INSTANCE, volume)
    snapshot = stord("ec2.CreateSnapshot", VolumeId=volume)["SnapshotId"]
    guests.close()
    until(lambda: "_NextLayer" not in stord.volume(volume))
    name = re.escape(stord.volume(volume)["_Layer"])
    stord.stop()
    calls = calls_of(stord, trace, snapshot)
    intent = place(calls, r"^f(data)?sync\(.*state\.db-wal")
    made = place(calls, rf"^fsync\(.*{name}\.new", intent)
    placed = place(calls, rf"^rename.*{name}\"", made)
    listed = place(calls, r"^fsync\(.*zones/us-east-1a/volumes>", placed)
    asked = place(calls, r"^(sendmsg|sendto|write)\(.*gureum\.SwitchLayers", listed)
    committed = place(calls, r"^f(data)?sync\(.*state\.db-wal", asked)
    place(calls, rf"^(sendmsg|sendto|write|writev)\(.*{snapshot}", committed)
    stord.start()


def test_a_file_is_deleted_only_when_nobody_can_miss_it(traced):
    stord, trace = traced
    volume = stord.create(Size=1)
    stord.available(volume)
    snapshot = stord("ec2.CreateSnapshot", VolumeId=volume)["SnapshotId"]
    base = stord("ec2.DescribeSnapshots", SnapshotIds=[snapshot])["Snapshots"][0]["_Layer"]
    over = stord.volume(volume)["_Layer"]
    stord("ec2.DeleteSnapshot", SnapshotId=snapshot)
    until(lambda: len(stord.files()) == 1)
    kept = stord.volume(volume)["_Layer"]
    gone = re.escape(over if kept == base else base)
    stord.stop()
    calls = calls_of(stord, trace, snapshot)
    flushed = place(calls, rf"^fsync\(.*{re.escape(kept)}")
    recorded = place(calls, r"^f(data)?sync\(.*state\.db-wal", flushed)
    place(calls, rf"^unlink.*{gone}", recorded)
    assert not [c for c in calls[:recorded] if re.search(rf"^unlink.*{gone}", c)]
    stord.start()
