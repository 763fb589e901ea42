#!/usr/bin/python3
"""Bench rows of block storage: a JSON row a line, as bench.py prints them.

Snapshots: the time of CreateSnapshot with a writer on the volume, at 1, 10 and 100 GiB, by the real stord; the guest is QEMU's block layer
(tests/stord/guests.py). Reading and writing: qemu-img bench on stord's own files beside a plain qcow2 and a raw file of the same contents, in
turns, the median of three. Random: each request far from the one before.
"""
import json
import os
import re
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
ROUNDS = 3
FAR = 4096 * 10007  # from one random request to the next
PATTERNS = {"sequential read": (65536, 65536, ()), "random read": (4096, FAR, ()), "random write": (4096, FAR, ("-w",))}


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
    n = 3000 if request == 65536 else 20000 if more else 60000
    command = ["qemu-img", "bench", "-f", image_format, "-t", "none", "-n", "-c", str(n), "-d", "16", "-s", str(request), "-S", str(step), *more, path]
    r = subprocess.run(command, capture_output=True, text=True)
    if r.returncode and "-n" in command:  # no native AIO on this file system
        command.remove("-n")
        r = subprocess.run(command, check=True, capture_output=True, text=True)
    return n / float(re.search(r"completed in ([0-9.]+) seconds", r.stdout)[1])


def fill(path, mode=()):
    qemu_io(path, *[f"write -P {n % 255 + 1} {n * MIB} 1M" for n in range(DATA // MIB)], "flush", mode=mode)


def layer(stord, volume):
    return os.path.join(stord.state, stord.volume(volume)["_Layer"])


def make_files(stord, directory):
    """{name: (path, format)}: the same contents in each."""
    plain, raw = os.path.join(directory, "plain.qcow2"), os.path.join(directory, "raw")
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", plain, "1G"], check=True)
    subprocess.run(["truncate", "-s", "1G", raw], check=True)
    fill(plain)
    fill(raw, ("-f", "raw"))
    made = {"plain": (plain, "qcow2"), "raw": (raw, "raw")}
    for name in ("volume", "snapshotted volume", "restored volume"):
        volume = stord.create(Size=1)
        stord.available(volume)
        fill(layer(stord, volume))
        if name != "volume":
            snapshot = stord("ec2.CreateSnapshot", VolumeId=volume)["SnapshotId"]
        if name == "restored volume":
            volume = stord.create(SnapshotId=snapshot)
            stord.available(volume)
        made[name] = (layer(stord, volume), "qcow2")
    return made


def input_output(stord, directory):
    files = make_files(stord, directory)
    for what, (request, step, more) in PATTERNS.items():
        # Steps wrap at the data's end; reads come before writes change what is allocated where.
        rates = {name: [] for name in files}
        for _ in range(ROUNDS):
            for name, (path, image_format) in files.items():
                rates[name].append(bench(path, image_format, request, step % DATA, more))
        plain = statistics.median(rates["plain"])
        row(f"{what}, plain qcow2", f"{plain:.0f}", "/s")
        row(f"{what}, raw file / plain qcow2", f"{statistics.median(rates['raw']) / plain:.2f}", "")
        for name in ("volume", "snapshotted volume", "restored volume"):
            ratio = statistics.median(a / b for a, b in zip(rates[name], rates["plain"]))
            row(f"{what}, {name} / plain qcow2", f"{ratio:.2f}", "", ">= 0.9", ratio >= 0.9)


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
