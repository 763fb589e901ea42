#!/usr/bin/python3
"""Bench rows of block storage: a JSON row a line, as bench.py prints them.

Snapshots: the time of CreateSnapshot with a writer on the volume, at 1, 10 and 100 GiB, by the real stord; the guest is QEMU's block layer
(tests/stord/guests.py). Reading and writing: qemu-img bench on what stord made beside a plain qcow2 and a raw file of the same contents: in
turns, the best of each, for on a machine that others use the rest tells more about them. The data of all of them lies in the same blocks of the disk, one
after the other (Slot): two plain files beside one another differ by a third, whichever is filled first being the faster. Random: each request far from the one before. The
processor's part is shown too, for it does not depend on what else the machine does: a layer costs some 1,500 instructions (callgrind) beside a
plain qcow2's 4,400 and the kernel's own for each request, which a guest's way to its disk makes small. A write into a cluster that only a layer below has copies the cluster
first, once: its row is beside an overlay that qemu-img made, and, for who wants to know what a snapshot costs its writer, beside the file without any.
"""
import json
import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

TOP = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))
sys.path.insert(0, os.path.join(TOP, "tests", "stord"))
from conftest import Fault, Stord, until  # noqa: E402
from guests import Guests  # noqa: E402

INSTANCE = "i-0123456789abcdef0"
MIB = 1 << 20
DATA = 1024 * MIB  # of each file: all of it, so that every request finds data
ROUNDS = 4
FAR = 4096 * 10007  # from one random request to the next
WRITE = (4096, FAR, ("-w",))
FIRST = "first random write"  # the same clusters again are "random write"
PATTERNS = {"sequential read": (65536, 65536, ()), "random read": (4096, FAR, ()), FIRST: WRITE, "random write": WRITE}


def row(what, value, unit, target=None, holds=None):
    print(json.dumps([what, value, unit, target, holds]), flush=True)


def qemu_io(target, *commands, mode=()):
    subprocess.run(["qemu-io", *mode, *[a for c in commands for a in ("-c", c)], target], check=True, stdout=subprocess.DEVNULL)


def snapshots(stord, guests, size):
    volume = stord.create(Size=size)
    stord.available(volume)
    guests.plug(INSTANCE, volume)
    url = guests.instances[INSTANCE].url(volume)
    qemu_io(url, *[f"write -P 1 {n * size * 16 * MIB} 1M" for n in range(32)], "flush", mode=("-f", "raw"))
    took = []
    writer = subprocess.Popen(["qemu-img", "bench", "-f", "raw", "-w", "-c", "1000000", "-d", "8", "-s", "65536", url],
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(7):
        began = time.monotonic()
        stord("ec2.CreateSnapshot", VolumeId=volume)
        took.append(1000 * (time.monotonic() - began))
    writer.terminate()
    writer.wait()
    ms = statistics.median(took)
    row(f"snapshot of {size} GiB under write load, median of 7", f"{ms:.0f}", "ms", "<= 200", ms <= 200)


def bench(path, image_format, request, step, more):
    """(requests a second, the processor's seconds)"""
    n = 3000 if request == 65536 else 10000 if more else 30000
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = ["qemu-img", "bench", "-f", image_format, "-t", "none", "-n", "-c", str(n), "-d", "16", "-s", str(request), "-S", str(step), *more, path]
    r = subprocess.run(command, capture_output=True, text=True)
    if r.returncode and "-n" in command:  # no native AIO on this file system
        command.remove("-n")
        r = subprocess.run(command, check=True, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (n / float(re.search(r"completed in ([0-9.]+) seconds", r.stdout)[1]),
            after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)


def fill(path, mode=()):
    qemu_io(path, *[f"write -P {n % 255 + 1} {n * MIB} 1M" for n in range(DATA // MIB)], "flush", mode=mode)


def layer(stord, volume):
    return os.path.join(stord.state, stord.volume(volume)["_Layer"])


def make_files(stord, directory):
    """{name: [its layers, the lowest first]}: the same contents in each, all in the lowest."""
    plain, raw = os.path.join(directory, "plain.qcow2"), os.path.join(directory, "raw")
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", plain, "1G"], check=True)
    subprocess.run(["truncate", "-s", "1G", raw], check=True)
    fill(plain)
    fill(raw, ("-f", "raw"))
    made = {"plain": [plain], "raw": [raw]}
    for name in ("volume", "snapshotted volume", "restored volume"):
        volume = stord.create(Size=1)
        stord.available(volume)
        fill(layer(stord, volume))
        made[name] = [layer(stord, volume)]
        if name != "volume":
            snapshot = stord("ec2.CreateSnapshot", VolumeId=volume)["SnapshotId"]
            if name == "restored volume":
                volume = stord.create(SnapshotId=snapshot)
                stord.available(volume)
            made[name].append(layer(stord, volume))
    return made


class Slot:
    """One file, whose blocks each image's data is put into in its turn."""

    def __init__(self, directory):
        self.path, self.top = os.path.join(directory, "slot"), os.path.join(directory, "slot.top")

    def load(self, lowest, top=None):
        """The path to measure."""
        subprocess.run(["dd", f"if={lowest}", f"of={self.path}", "bs=4M", "iflag=direct", "oflag=direct", "conv=notrunc,fsync", "status=none"], check=True)
        os.truncate(self.path, os.path.getsize(lowest))
        if not top:
            return self.path
        shutil.copyfile(top, self.top)
        subprocess.run(["qemu-img", "rebase", "-q", "-u", "-f", "qcow2", "-b", self.path, "-F", "qcow2", self.top], check=True)
        return self.top


def measure(slot, layers, image_format):
    """{pattern: (requests a second, the processor's seconds)}"""
    path = slot.load(*layers)
    # Steps wrap at the data's end; reads come before writes change what is allocated where.
    return {what: bench(path, image_format, request, step % DATA, more) for what, (request, step, more) in PATTERNS.items()}


def compare(what, name, ours, plain, target=None, peer="plain qcow2"):
    ratio = max(o[0] for o in ours) / max(p[0] for p in plain)
    processor = statistics.median(o[1] / p[1] for o, p in zip(ours, plain))
    row(f"{what}, {name} / {peer}", f"{ratio:.2f}", "", target and f">= {target}", target and ratio >= target)
    row(f"{what}, {name} / {peer}: processor", f"{processor:.2f}", "")


def input_output(stord, directory):
    files, slot, overlay = make_files(stord, directory), Slot(directory), os.path.join(directory, "overlay.qcow2")
    plain = files["plain"][0]
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", plain, "-F", "qcow2", overlay], check=True)
    slot.load(plain)
    for name, layers in files.items():
        rounds, is_ours, is_over = [], name not in ("raw", "plain"), len(layers) > 1
        for _ in range(ROUNDS):
            rounds.append((measure(slot, layers, "raw" if name == "raw" else "qcow2"), measure(slot, [plain], "qcow2"),
                           measure(slot, [plain, overlay], "qcow2") if is_over else None))
        for what in PATTERNS:
            if what == FIRST and not is_over:
                continue  # nothing is below: a write like any other
            ours, alone, over = [[measured and measured[what] for measured in side] for side in zip(*rounds)]
            if what == FIRST:
                compare(what, name, ours, over, 0.9, "overlay of a plain qcow2")
            compare(what, name, ours, alone, 0.9 if is_ours and what != FIRST else None)
    for what in PATTERNS:
        row(f"{what}, plain qcow2", f"{statistics.median(alone[what][0] for _, alone, _ in rounds):.0f}", "/s")


def patiently(stord, volume):
    """A snapshot; None while the chain is being shortened still: a burst like this one has to wait for that."""
    try:
        return stord("ec2.CreateSnapshot", VolumeId=volume)
    except Fault as e:
        if e.code != "SnapshotCreationPerVolumeRateExceeded":
            raise


def depth_after_100(stord, guests):
    volume = stord.create(Size=10)
    stord.available(volume)
    guests.plug(INSTANCE, volume)
    url = guests.instances[INSTANCE].url(volume)
    for n in range(100):
        qemu_io(url, f"write -P 1 {n * MIB} 64k", "flush", mode=("-f", "raw"))
        until(lambda: patiently(stord, volume))
    until(lambda: stord("gureum.Fsck")["Idle"], 120)
    info = subprocess.run(["qemu-img", "info", "-U", "--backing-chain", layer(stord, volume)], check=True, capture_output=True, text=True)
    depth = info.stdout.count("image:")
    row("layers of a volume after 100 snapshots that stay", str(depth), "", "<= 18", depth <= 18)


def main():
    os.environ.setdefault("STORD", os.path.join(TOP, "build", "stord", "stord"))
    # Not /tmp where that is memory: files are opened with O_DIRECT.
    directory = tempfile.mkdtemp(prefix="layers-", dir=os.path.join(TOP, "build"))
    stord = Stord(directory).start()
    guests = Guests(stord)
    try:
        guests.start(INSTANCE)
        for size in (1, 10, 100):
            snapshots(stord, guests, size)
        depth_after_100(stord, guests)
        input_output(stord, directory)
    finally:
        guests.close()
        stord.stop()
        shutil.rmtree(directory, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
