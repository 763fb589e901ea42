"""hvd and QEMU are killed before each of hvd's steps (lib/step.h) while a volume comes to a running guest, is snapshotted, and goes.

The walk is the table: NEEDS says which steps it must have met. It counts all steps of hvd, among them those of what hvd does besides
(it looks through stord's and netd's parts after each start): a step of NEEDS that was passed by so is met by its name afterwards. stord's
steps, and QEMU at each of its commands, are walked through without guests by tests/stord/test_steps.py.
"""
import os
import re

import pytest

from conftest import TOP, ask_stord, code_of, until
from test_volume_attach import QUICK, ZONE, attachments, disk, make, once, wait_attached

TRANSACTION = {"a transaction", "what follows a transaction"}
NEEDS = {
    "attach": TRANSACTION | {"ec2.AttachVolume", "what follows ec2.AttachVolume", "libvirt: a device in"},
    "snapshot": {"libvirt: a switch of layers"},
    "detach": TRANSACTION | {"ec2.DescribeVolumes", "ec2.DetachVolume", "what follows ec2.DetachVolume", "libvirt: a device out"},
}
BUILD = os.environ.get("GUREUM_BUILD", os.path.join(TOP, "build"))
MARK = "written before all of it"


class Steps:
    def __init__(self, cloud):
        self.cloud, self.path = cloud, None

    def log(self):
        with open(os.path.join(self.cloud.state, "log", self.daemon + ".log"), errors="replace") as f:
            return f.read()

    def arm(self, n, pid=0, name="", daemon="hvd"):
        self.daemon, self.path = daemon, os.path.join(self.cloud.state, "steps", daemon)
        self.before, self.pid, self.was = len(self.log()), pid, self.cloud.pid(daemon)
        with open(self.path + ".new", "w") as f:
            f.write(f"{n} {pid} {name}\n")
        os.rename(self.path + ".new", self.path)

    def disarm(self):
        """Where somebody was killed; None: there were fewer steps."""
        try:
            os.unlink(self.path)
            return None
        except FileNotFoundError:
            found = until(lambda: re.search(r"killed before: (.*)", self.log()[self.before:]), told="who was killed")
        if not self.pid:
            until(lambda: self.cloud.is_ready(self.daemon) and self.cloud.pid(self.daemon) not in (0, self.was), 120, 0.1, f"{self.daemon} is back")
        return found[1]


@pytest.fixture
def guest(cloud):
    subnet = next(s["SubnetId"] for s in cloud.ec2.describe_subnets()["Subnets"] if s["AvailabilityZone"] == ZONE)
    instance = cloud.launch(SubnetId=subnet)[0]
    cloud.wait_console(instance, "GUREUM-READY")
    yield instance
    cloud.terminate(instance)


@pytest.fixture
def steps(cloud):
    if not os.path.isdir(os.path.join(cloud.state, "steps")):
        pytest.skip("the cloud was brought up without GUREUM_STEPS")
    made = Steps(cloud)
    yield made
    if made.path and os.path.exists(made.path):
        os.unlink(made.path)


def state(cloud, volume):
    return cloud.ec2.describe_volumes(VolumeIds=[volume])["Volumes"][0]["State"]


def attachment(cloud, volume):
    row = cloud.ec2.describe_volumes(VolumeIds=[volume])["Volumes"][0]
    return row["Attachments"][0]["State"] if row["Attachments"] else row["State"]


def until_attached(cloud, volume, instance):
    """Whatever was cut off: it is attached or taken back, and in the end it is attached."""
    until(lambda: attachment(cloud, volume) in ("attached", "available"), told="attached or taken back")
    if attachment(cloud, volume) == "available":
        code_of(cloud.ec2.attach_volume, VolumeId=volume, InstanceId=instance, Device="/dev/sdf")
    wait_attached(cloud, volume, instance)


def until_detached(cloud, volume):
    until(lambda: attachment(cloud, volume) in ("attached", "available"), told="detached, or never asked")
    if attachment(cloud, volume) == "attached":
        code_of(cloud.ec2.detach_volume, VolumeId=volume)
    cloud.ec2.get_waiter("volume_available").wait(VolumeIds=[volume], WaiterConfig=QUICK)


def holds_mark(cloud, instance, volume):
    name = disk(cloud, instance, volume)
    return cloud.ssh(instance, f"echo 3 > /proc/sys/vm/drop_caches; dd if=/dev/{name} bs=512 count=1 2>/dev/null").startswith(MARK)


def write_mark(cloud, instance, volume):
    cloud.ec2.attach_volume(VolumeId=volume, InstanceId=instance, Device="/dev/sdf")
    wait_attached(cloud, volume, instance)
    cloud.ssh(instance, f"echo {MARK} | dd of=/dev/{disk(cloud, instance, volume)} bs=512 conv=sync,fsync 2>/dev/null")


def detach(cloud, volume):
    """Of a daemon that may die before its answer is out: the client asks again, and by then it may be done."""
    assert code_of(cloud.ec2.detach_volume, VolumeId=volume) in ("", "IncorrectState")


def rest(cloud):
    """stord merges nothing: its next transactions are those of what it is asked."""
    until(lambda: ask_stord(cloud, "gureum.Fsck")["Idle"], told="merging has come to rest")


def fsck(cloud):
    """0 and nothing but what a killed QEMU leaves."""
    r = cloud.run(os.path.join(BUILD, "cli", "gureum"), "-c", os.path.join(cloud.state, "gureum.conf"), "fsck")
    assert r.returncode == 0, r.stdout + r.stderr


def test_hvd_killed_at_every_step(cloud, guest, steps):
    volume, reached, ended = make(cloud), {"detach": [], "attach": [], "snapshot": []}, set()
    write_mark(cloud, guest, volume)
    operations = {  # what is asked, and how it is known that it is over
        "detach": (lambda: code_of(cloud.ec2.detach_volume, VolumeId=volume), lambda: until_detached(cloud, volume)),
        "attach": (lambda: code_of(cloud.ec2.attach_volume, VolumeId=volume, InstanceId=guest, Device="/dev/sdf"),
                   lambda: until_attached(cloud, volume, guest)),
        "snapshot": (lambda: code_of(cloud.ec2.create_snapshot, VolumeId=volume), lambda: None)}

    def killed_in(what, n, name=""):
        ask, settle = operations[what]
        steps.arm(n, name=name)
        ask(), settle()
        met = steps.disarm()
        settle()
        return met

    for n in range(1, 40):
        for what, (ask, settle) in operations.items():
            if what in ended:
                ask(), settle()
            elif met := killed_in(what, n):
                reached[what].append(met)
            else:
                ended.add(what)
        if len(ended) == 3:
            break
        assert holds_mark(cloud, guest, volume)
    print(reached)
    for what, name in [(w, name) for w, needed in NEEDS.items() for name in sorted(needed - set(reached[w]))]:
        until_detached(cloud, volume) if what == "attach" else until_attached(cloud, volume, guest)
        assert killed_in(what, 1, name) == name, (what, reached[what])
    until_attached(cloud, volume, guest)
    assert holds_mark(cloud, guest, volume)

    def snapshots():
        return cloud.ec2.describe_snapshots(Filters=[{"Name": "volume-id", "Values": [volume]}])["Snapshots"]
    until(lambda: {s["State"] for s in snapshots()} == {"completed"}, told="all snapshots are completed")
    fsck(cloud)
    until_detached(cloud, volume)
    cloud.ec2.delete_volume(VolumeId=volume)
    for s in snapshots():
        cloud.ec2.delete_snapshot(SnapshotId=s["SnapshotId"])


def pid_of_qemu(cloud, instance):
    return int(cloud.out("sh", "-c", f"ps ax -o pid,args | awk '/qemu-system.*guest={instance}/{{print $1; exit}}'"))


QEMU_DIES = [  # before a call of hvd's to libvirt, and between that and what follows it
    ("attach", "hvd", 1, "libvirt: a device in"),
    ("attach", "hvd", 3, "ec2.AttachVolume"),
    ("snapshot", "hvd", 1, "libvirt: a switch of layers"),
    ("snapshot", "stord", 2, "a transaction"),
    ("detach", "hvd", 1, "libvirt: a device out"),
    ("detach", "hvd", 2, "ec2.DetachVolume"),
]


def test_qemu_killed_at_each_of_hvds_calls(cloud, guest, steps):
    volume = make(cloud)
    write_mark(cloud, guest, volume)
    asks = {"attach": lambda: cloud.ec2.attach_volume(VolumeId=volume, InstanceId=guest, Device="/dev/sdf"),
            "snapshot": lambda: cloud.ec2.create_snapshot(VolumeId=volume), "detach": lambda: cloud.ec2.detach_volume(VolumeId=volume)}
    for what, daemon, n, name in QEMU_DIES:
        if what == "attach":
            until_detached(cloud, volume)
        steps.arm(n, pid_of_qemu(cloud, guest), name, daemon)
        code_of(asks[what])
        until(lambda: not os.path.exists(steps.path), told=f"{name} is met")
        assert steps.disarm() == name
        cloud.wait_state(guest, "stopped")
        until(lambda: attachment(cloud, volume) in ("attached", "available"), told="it is settled")
        assert attachment(cloud, volume) == ("available" if what == "detach" else "attached")
        cloud.ec2.start_instances(InstanceIds=[guest])
        cloud.wait_state(guest, "running")
        until_attached(cloud, volume, guest)
        assert holds_mark(cloud, guest, volume)
    fsck(cloud)
    until_detached(cloud, volume)
    for s in cloud.ec2.describe_snapshots(Filters=[{"Name": "volume-id", "Values": [volume]}])["Snapshots"]:
        cloud.ec2.delete_snapshot(SnapshotId=s["SnapshotId"])
    cloud.ec2.delete_volume(VolumeId=volume)


def test_what_stord_reserved_and_did_not_answer_is_given_back(cloud, guest, steps):
    """It dies when the reservation is durable: who asked is told that it was not done, and nothing keeps the volume."""
    volume = make(cloud)
    rest(cloud)
    steps.arm(1, name="what follows a transaction", daemon="stord")
    assert code_of(once(cloud).attach_volume, VolumeId=volume, InstanceId=guest, Device="/dev/sdf") == "ServiceUnavailable"
    assert steps.disarm() == "what follows a transaction"
    until(lambda: state(cloud, volume) == "available", told="it is free again")
    assert attachments(cloud, volume) == set()
    cloud.ec2.attach_volume(VolumeId=volume, InstanceId=guest, Device="/dev/sdf")
    wait_attached(cloud, volume, guest)
    # The other way: it dies with the last word of a detachment.
    steps.arm(2, name="what follows a transaction", daemon="stord")
    detach(cloud, volume)
    until(lambda: not os.path.exists(steps.path), told="stord was killed")
    until(lambda: state(cloud, volume) == "available", told="it is free again")
    steps.disarm()
    cloud.ec2.delete_volume(VolumeId=volume)


def test_a_volume_that_is_shown_to_be_available_can_be_attached_to_the_same_guest(cloud, guest, steps):
    """hvd dies as soon as stord has said that the volume is free: nothing of the attachment is left that would be in the way."""
    volume = make(cloud)
    write_mark(cloud, guest, volume)
    steps.arm(2, name="what follows ec2.DetachVolume")  # the second is stord's last word
    detach(cloud, volume)
    until(lambda: state(cloud, volume) == "available", every=0.01, told="it is shown to be available")
    assert code_of(cloud.ec2.attach_volume, VolumeId=volume, InstanceId=guest, Device="/dev/sdf") == ""
    assert steps.disarm() == "what follows ec2.DetachVolume"
    wait_attached(cloud, volume, guest)
    assert holds_mark(cloud, guest, volume)
    until_detached(cloud, volume)
    cloud.ec2.delete_volume(VolumeId=volume)


def test_force_takes_a_volume_from_a_guest_that_does_not_answer(cloud, guest):
    """Its processors stand still, so it acknowledges nothing; the volume goes to another guest with all that was flushed."""
    subnet = cloud.describe(guest)["SubnetId"]
    other = cloud.launch(SubnetId=subnet)[0]
    volume = make(cloud)
    write_mark(cloud, guest, volume)
    name = disk(cloud, guest, volume)
    cloud.out("virsh", "suspend", guest)
    cloud.ec2.detach_volume(VolumeId=volume)
    cloud.ec2.detach_volume(VolumeId=volume, Force=True)
    cloud.ec2.get_waiter("volume_available").wait(VolumeIds=[volume], WaiterConfig=QUICK)
    assert code_of(cloud.ec2.attach_volume, VolumeId=volume, InstanceId=guest, Device="/dev/sdf") == "IncorrectState"
    cloud.wait_console(other, "GUREUM-READY")
    cloud.ec2.attach_volume(VolumeId=volume, InstanceId=other, Device="/dev/sdf")
    wait_attached(cloud, volume, other)
    assert holds_mark(cloud, other, volume)
    cloud.out("virsh", "resume", guest)
    read = cloud.ssh(guest, f"echo 3 > /proc/sys/vm/drop_caches; dd if=/dev/{name} bs=4096 count=1 2>&1 >/dev/null || true")
    assert "error" in read or "No such" in read or "can't open" in read, read
    until_detached(cloud, volume)
    fsck(cloud)
    cloud.terminate(other)
    cloud.ec2.delete_volume(VolumeId=volume)
