"""stord, hvd and QEMU are killed before each step of each operation (lib/step.h), one step further each time, until the operation
meets no step more. Whatever was answered holds, what was not is whole or not there, and asking again completes it.

What goes on at once comes in either order, so that one step further may pass a step by: what an operation needs and the walk has not met is
met by its name afterwards. A step that is lost from the code or is not reached fails the test of the operation that needs it (operations.py), and a new one is walked
without being named there.
"""
import os
import re
import subprocess
import threading

import pytest

from conftest import Fault, Gone, until
from guests import Dead
from operations import INSTANCE, OPERATIONS, Attach, Detach, Merge, Pull, Snapshot, SnapshotsOfAllVolumes, World

STEPS_MAX = 120


class Killed:
    """Kills at the n-th step; says at which, or None if there were fewer."""

    def __init__(self, w):
        self.w, self.at, self.left, self.name, self.lock = w, None, 0, "", threading.Lock()

    def arm(self, n, name=""):
        """With a name only steps that are called so count."""
        self.at, self.left, self.name = None, n, name

    def count(self, what):
        """Whether it is to be now."""
        with self.lock:
            if self.name not in ("", what):
                return False
            self.left -= 1
            if self.left == 0:
                self.at = what
            return self.left == 0


class Stord(Killed):
    pid = 0

    def arm(self, n, name=""):
        super().arm(n, name)
        with open(self.w.steps + ".new", "w") as f:
            f.write(f"{n} {self.pid} {name}\n")
        os.rename(f.name, self.w.steps)  # in one piece, and a step that is under way counts in the old one
        self.log_before = len(self.w.stord.log())

    def is_over(self):
        if not os.path.exists(self.w.steps):
            self.at = until(lambda: re.search(r"killed before: (.*)", self.w.stord.log()[self.log_before:]))[1]
        return self.at

    def revive(self):
        try:
            os.unlink(self.w.steps)
            return
        except FileNotFoundError:  # killed, perhaps only after all that was waited for
            self.is_over()
        if not self.pid:
            self.w.stord.process.wait()
            self.w.stord.start()


class QemuAtStordsSteps(Stord):
    def arm(self, n, name=""):
        self.pid = self.w.guests.instances[INSTANCE].process.pid
        super().arm(n, name)

    def revive(self):
        super().revive()
        if self.at:
            restart_guest(self.w)


def restart_guest(w):
    w.guests.end(INSTANCE, "kill")
    w.guests.start(INSTANCE)
    for v in sorted(w.attached):
        until(lambda v=v: plugged(w, v))


def plugged(w, v):
    try:
        w.guests.plug(INSTANCE, v)
        return True
    except Fault as e:
        if e.code not in ("ServiceUnavailable", "IncorrectState"):
            raise
        return False


class QemuAtQmp(Killed):
    def arm(self, n, name=""):
        super().arm(n, name)
        self.w.guests.step = self.step

    def step(self, what):
        if what.startswith("QMP: ") and self.count(what):
            self.w.guests.instances[INSTANCE].kill()

    def is_over(self):
        return self.at

    def revive(self):
        self.w.guests.step = lambda what: None
        if self.at:
            restart_guest(self.w)


class Hvd(Killed):
    def arm(self, n, name=""):
        super().arm(n, name)
        self.is_down = False
        self.w.guests.step = self.step

    def step(self, what):
        if self.count(what):
            self.w.guests.hang_up()
            self.is_down = True
            raise Dead()

    def is_over(self):
        return self.is_down  # and no longer going down

    def revive(self):
        self.w.guests.step = lambda what: None
        if self.at:
            until(lambda: self.is_down)
            self.w.guests.listen()


def try_to_act(w, operation, it):
    try:
        operation.act(w, it)
    except (Gone, Dead, OSError, ValueError, AssertionError, subprocess.SubprocessError):
        pass  # it was cut off: what holds is looked at below
    except Fault as e:
        assert e.code in ("ServiceUnavailable", "IncorrectState"), e
    except Exception as e:
        assert type(e).__name__ == "Refused", e


def is_done(w, operation, it):
    try:
        return operation.is_done(w, it)
    except Gone:
        return False


def cut_off(w, operation, killer, n, name=""):
    """Where; None: there were fewer steps."""
    it = operation.prepare(w)
    w.settle()
    killer.arm(n, name)
    try_to_act(w, operation, it)
    until(lambda: killer.is_over() or is_done(w, operation, it))
    killer.revive()
    w.settle()
    w.adopt()
    w.compare()
    if killer.at:
        operation.act(w, it)
        until(lambda: operation.is_done(w, it))
        w.settle()
        w.compare()
    w.all_goes()
    return killer.at


def walk(w, operation, killer, needs):
    """Until there are no more steps; all that are needed were among them."""
    reached, w.is_encrypted = [], operation.is_encrypted
    for n in range(1, STEPS_MAX, operation.stride):
        if not (at := cut_off(w, operation, killer, n)):
            break
        reached.append(at)
    else:
        raise AssertionError("it comes to nothing")
    print(f"{type(operation).__name__}, {type(killer).__name__}: {' · '.join(reached)}")
    for name in sorted(needs - set(reached)):
        assert cut_off(w, operation, killer, 1, name) == name, f"{name} is not met, but {reached}"


@pytest.fixture
def world(stord, images):
    made = World(stord, images)
    yield made
    made.guests.step = lambda what: None
    if os.path.exists(made.steps):
        os.unlink(made.steps)
    if stord.process.poll() is not None:
        stord.start()
    made.guests.close()


@pytest.mark.parametrize("operation", OPERATIONS)
def test_stord_killed_at_every_step(world, operation):
    walk(world, operation(), Stord(world), operation.needs)


@pytest.mark.parametrize("operation", [Snapshot, Merge, Pull])
def test_qemu_killed_at_every_step_of_stord(world, operation):
    walk(world, operation(), QemuAtStordsSteps(world), operation.needs - {"gureum.FlushVolume", "gureum.CommitLayer", "gureum.PullLayers"})


@pytest.mark.parametrize("operation, needs", [
    (Snapshot, {"QMP: transaction"}),
    (Attach, {"QMP: blockdev-add", "QMP: block-export-add"}),
    (Detach, {"QMP: block-export-del"}),
    (Merge, {"QMP: block-commit"}),
    (Pull, {"QMP: block-stream"}),
])
def test_qemu_killed_at_every_command(world, operation, needs):
    walk(world, operation(), QemuAtQmp(world), needs)


@pytest.mark.parametrize("operation, needs", [
    (Snapshot, {"gureum.SwitchLayers", "the answer to gureum.SwitchLayers", "QMP: transaction"}),
    (SnapshotsOfAllVolumes, {"ec2.DescribeInstances", "gureum.SwitchLayers", "the answer to gureum.SwitchLayers"}),
    (Merge, {"gureum.CommitLayer", "the answer to gureum.CommitLayer", "gureum.FlushVolume", "the answer to gureum.FlushVolume"}),
    (Pull, {"gureum.PullLayers", "the answer to gureum.PullLayers", "gureum.FlushVolume", "the answer to gureum.FlushVolume"}),
])
def test_hvd_killed_at_every_step(world, operation, needs):
    walk(world, operation(), Hvd(world), needs)
