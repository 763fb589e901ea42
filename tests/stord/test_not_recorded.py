"""What is done and cannot be written down, because the disk has no room for it, is written down later; no start is needed for it.

The tracer answers the flushes of the log of transactions with an error, as the kernel would."""
import os
import subprocess

import pytest

from conftest import until
from test_copy import completed, copy, shown
from test_sizes import size
from test_sync import TOOL, can_trace


class NoRoom:
    """All flushes of the log of transactions fail but the next."""

    def __init__(self, stord):
        self.stord = stord
        log = os.path.join(stord.state, "state.db-wal")
        self.tracer = subprocess.Popen([TOOL, "-f", "-p", str(stord.process.pid), "-P", log, "-e", "trace=fdatasync,fsync", "-e", "signal=none", "-o", "/dev/null",
                                        "-e", "inject=fdatasync,fsync:error=ENOSPC:when=2+"], stderr=subprocess.DEVNULL)
        until(lambda: all(map(self.is_traced, os.listdir(f"/proc/{stord.process.pid}/task"))))

    def is_traced(self, thread):
        with open(f"/proc/{self.stord.process.pid}/task/{thread}/status") as f:
            return "TracerPid:\t0\n" not in f.read()

    def is_felt(self, words):
        until(lambda: words in self.stord.log())

    def end(self):
        self.tracer.terminate()
        self.tracer.wait()


@pytest.fixture
def no_room(stord, images):
    """Begins when it is called: what is asked for next is answered, and then nothing more can be written down."""
    if not can_trace():
        pytest.skip("strace is not here, or may not trace")
    stord.available(stord.create(Size=1))  # the log has begun
    made = []
    yield lambda: made.append(NoRoom(stord)) or made[0]
    for one in made:
        one.end()


def test_a_volumes_creation(stord, no_room):
    room = no_room()
    volume = stord.create(Size=1)
    room.is_felt("a volume's creation is not recorded yet")
    assert stord.volume(volume)["State"] == "creating"
    room.end()
    stord.available(volume)
    stord.kill()
    assert stord.start().volume(volume)["State"] == "available"


def test_a_copys_end(stord, images, no_room):
    source = stord.snapshot(images["disk"])
    size(stord, source)
    room = no_room()
    there = copy(stord, source)
    room.is_felt("a copy's end is not recorded yet")
    assert shown(stord, there)["State"] == "pending"
    room.end()
    assert completed(stord, there)["Progress"] == "100%"


def test_an_imports_end(stord, images, no_room):
    room = no_room()
    task = stord.import_file(images["disk"])
    room.is_felt("an import's end is not recorded yet")
    assert stord.task(task)["Status"] == "active"
    room.end()
    assert stord.ended(task)["Status"] == "completed"
