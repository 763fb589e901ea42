"""Snapshots of a guest that writes: what it was told is on the disk is in the snapshot, and stays in the volume whatever is merged."""
import hashlib
import json
import os
import re
import subprocess
import threading

import pytest

from conftest import STACK, ask_stord, code_of, until

BLOCK = 4096
# Numbered, checksummed blocks, each told when fsync has returned.
WRITER = """n=%d; while [ ! -e /run/enough ]; do
printf '%%d %%s\\n' $n $(printf %%d $n | md5sum | cut -c1-32) | dd of=/dev/vdb bs=4096 seek=$n conv=notrunc,fsync 2>/dev/null && echo $n
n=$((n + 1)); done; rm /run/enough"""


def line_of(n):
    return f"{n} {hashlib.md5(str(n).encode()).hexdigest()}\n".encode()


class Writer(threading.Thread):
    """Runs WRITER in the guest and hears what it acknowledges."""

    def __init__(self, cloud, instance, first=0):
        super().__init__(daemon=True)
        self.cloud, self.instance, self.first, self.last = cloud, instance, first, first - 1
        address = cloud.describe(instance)["PublicIpAddress"]
        words = ["ssh", "-i", cloud.key_path, "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o",
                 "LogLevel=ERROR", "-o", "BatchMode=yes", f"root@{address}", WRITER % first]
        self.process = subprocess.Popen([STACK, "exec", "--state", cloud.state, "--", *words], stdout=subprocess.PIPE, text=True,
                                        stdin=subprocess.DEVNULL)
        self.start()

    def run(self):
        for line in self.process.stdout:
            self.last = int(line)

    def reaches(self, n):
        until(lambda: self.last >= n, 120, 0.05, f"the guest has written {n} blocks")
        return self.last

    def end(self):
        self.cloud.ssh(self.instance, "touch /run/enough")
        self.process.wait(60)
        self.join(60)
        return self.last


class Files:
    """stord's documents and files as the host sees them."""

    def __init__(self, cloud):
        self.cloud = cloud
        self.root = os.path.join(cloud.state, "state", "stord")

    def path_of(self, kind, name):
        """The file of a volume or snapshot: asked of stord itself, customers are not told."""
        kinds = {"volume": ("ec2.DescribeVolumes", "VolumeIds", "Volumes"), "snapshot": ("ec2.DescribeSnapshots", "SnapshotIds", "Snapshots")}
        method, ids, result = kinds[kind]
        reply = ask_stord(self.cloud, method, **{ids: [name]})
        return os.path.join(self.root, reply[result][0]["_Layer"])

    def chain(self, path):
        """Its files from the top down; [] if one went under the look: they are being merged."""
        done = subprocess.run(["qemu-img", "info", "-U", "--backing-chain", "--output=json", path], capture_output=True)
        return [i["filename"] for i in json.loads(done.stdout)] if done.returncode == 0 else []

    def blocks(self, kind, name, n_blocks, tmp_path):
        """The numbers whose blocks are whole and right; none if a file went under the look."""
        raw, right = str(tmp_path / "raw"), set()
        if subprocess.run(["qemu-img", "convert", "-U", "-O", "raw", self.path_of(kind, name), raw]).returncode != 0:
            return right
        with open(raw, "rb") as f:
            for n in range(n_blocks):
                f.seek(n * BLOCK)
                line = line_of(n)
                if f.read(len(line)) == line:
                    right.add(n)
        os.unlink(raw)
        return right

    def is_sound(self, path):
        """qemu-img check: 0 clean, 3 leaked clusters only, which a killed QEMU may leave."""
        return subprocess.run(["qemu-img", "check", "-U", "-q", path]).returncode in (0, 3)


@pytest.fixture
def writing(cloud):
    """A guest with a data volume: (instance, volume)."""
    instance = cloud.launch(BlockDeviceMappings=[{"DeviceName": "/dev/sdb", "Ebs": {"VolumeSize": 1, "DeleteOnTermination": True}}])[0]
    cloud.wait_state(instance, "running")
    mappings = cloud.describe(instance)["BlockDeviceMappings"]
    volume = [m["Ebs"]["VolumeId"] for m in mappings if m["DeviceName"] == "/dev/sdb"][0]
    cloud.ssh(instance, "test -b /dev/vdb", 120)
    yield instance, volume
    cloud.terminate(instance)


def test_what_was_flushed_is_in_the_snapshot_and_survives_merging_and_the_death_of_qemu(cloud, writing, tmp_path):
    instance, volume = writing
    files, writer, snapshots = Files(cloud), Writer(cloud, instance), []
    for _ in range(3):
        promised = writer.reaches(writer.last + 8)
        row = cloud.ec2.create_snapshot(VolumeId=volume)
        assert (row["State"], row["Progress"], row["VolumeSize"]) == ("completed", "100%", 1)
        snapshots.append((row["SnapshotId"], promised))
    both = cloud.ec2.create_snapshots(InstanceSpecification={"InstanceId": instance}, Description="all at once")["Snapshots"]
    assert len(both) == 2 and {s["State"] for s in both} == {"completed"}
    for snapshot, promised in snapshots:
        there = files.blocks("snapshot", snapshot, writer.last + 2, tmp_path)
        assert set(range(promised + 1)) <= there and there == set(range(len(there))), "all that was acknowledged, in order"
    assert len(files.chain(files.path_of("volume", volume))) == 5

    # The guest writes on while its layers are merged by its own QEMU.
    copy = cloud.ec2.create_volume(AvailabilityZone="us-east-1b", SnapshotId=snapshots[1][0], Size=2)["VolumeId"]
    cloud.ec2.get_waiter("volume_available").wait(VolumeIds=[copy], WaiterConfig={"Delay": 1, "MaxAttempts": 120})
    for snapshot in (snapshots[0][0], snapshots[2][0]):
        cloud.ec2.delete_snapshot(SnapshotId=snapshot)
    writer.reaches(writer.last + 4)
    cloud.ec2.delete_volume(VolumeId=copy)
    until(lambda: len(files.chain(files.path_of("volume", volume))) == 3, 120, told="merged to a chain of 3")
    # What its QEMU still has in memory of the merged layers comes into the file in a moment.
    until(lambda: set(range(snapshots[1][1] + 1)) <= files.blocks("snapshot", snapshots[1][0], writer.last + 2, tmp_path), told="the snapshot is whole")
    cloud.kill("stord")
    cloud.kill("hvd")
    last = writer.reaches(writer.last + 4)

    # kill -9 of its QEMU: what it acknowledged is in the file.
    pid = re.search(r"^(\d+)$", cloud.out("sh", "-c", f"ps ax -o pid,args | awk '/qemu-system.*guest={instance}/{{print $1; exit}}'"), re.M)
    assert cloud.run("kill", "-9", pid[1]).returncode == 0
    cloud.wait_state(instance, "stopped")
    last = max(last, writer.last)
    until(lambda: set(range(last + 1)) <= files.blocks("volume", volume, last + 1, tmp_path), told="all of it is in the file")
    chain = until(lambda: files.chain(files.path_of("volume", volume)), told="its layers")
    assert all(files.is_sound(p) for p in chain)

    # And it starts again from the file that is its own now.
    cloud.ec2.start_instances(InstanceIds=[instance])
    cloud.wait_state(instance, "running")
    assert cloud.ssh(instance, f"dd if=/dev/vdb bs=4096 skip={last} count=1 2>/dev/null | head -1", 120).encode() == line_of(last)
    for snapshot in [snapshots[1][0]] + [s["SnapshotId"] for s in both]:
        cloud.ec2.delete_snapshot(SnapshotId=snapshot)
    assert code_of(cloud.ec2.describe_snapshots, SnapshotIds=[snapshot]) == "InvalidSnapshot.NotFound"
    until(lambda: len(files.chain(files.path_of("volume", volume))) == 1, 120, told="all of it is pulled into the guest's one layer")
    until(lambda: set(range(last + 1)) <= files.blocks("volume", volume, last + 1, tmp_path), told="and nothing is lost")
