"""The power goes for the whole cloud while an image is made of a running guest: all daemons, libvirt and QEMU end, what was not on the disk
is gone. Afterwards the image that was answered comes to be, the guest has what it had flushed, and both start.

tests/stord/test_power_cut.py cuts the power of everything else that stord does.
"""
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import pytest

from conftest import SETTINGS, STACK, TOP, Cloud, prepare, until

sys.path.append(os.path.join(TOP, "tests", "stord"))
import power  # noqa: E402

pytestmark = pytest.mark.skipif(power.why_not() is not None, reason=str(power.why_not()))
BUILD = os.environ.get("GUREUM_BUILD", os.path.join(TOP, "build"))
MOMENTS = [0.03, 0.25]  # seconds after the answer: before and after the snapshots, as a rule


class House:
    """A cloud on a disk whose power can be cut."""

    def __init__(self):
        self.root = tempfile.mkdtemp(prefix="gureum-cut.")
        self.disk = power.Disk(os.path.join(self.root, "d"), mib=1024)
        self.state = os.path.join(self.disk.mountpoint, "cloud")
        self.cloud = None

    def up(self):
        self.disk.on()
        os.makedirs(self.state, exist_ok=True)
        settings = [s for s in SETTINGS if "DiskCache" not in s]
        words = [w for s in settings if s != "--set" for w in ("--set", s)]
        r = subprocess.run([STACK, "up", "--state", self.state, *words], stdin=subprocess.DEVNULL)
        assert r.returncode == 0, "the cloud did not come up"
        if self.cloud:
            self.cloud.read_env()
            self.cloud.ec2 = self.cloud.client("ec2")
        else:
            self.cloud = Cloud(self.state)
            self.cloud.key_path = os.path.join(self.root, "tests.pem")  # ours, not the cloud's
            prepare(self.cloud)
        with open(os.path.join(self.state, "pid")) as f:
            self.pid = int(f.read().split()[0])

    # what power.Disk asks of whoever uses it
    def kill(self):
        os.kill(self.pid, signal.SIGKILL)

    def wait(self):
        subprocess.run([STACK, "down", "--cut", "--state", self.state], check=True, capture_output=True)

    def close(self):
        if os.path.ismount(self.disk.mountpoint):
            self.wait()
        self.disk.close()
        shutil.rmtree(self.root, ignore_errors=True)


@pytest.fixture
def house():
    if os.geteuid() != 0:
        pytest.skip("needs root, for namespaces")
    made = House()
    try:
        yield made
    finally:
        made.close()


def test_an_image_that_was_answered_comes_to_be_and_its_guest_loses_nothing(house):
    house.up()
    cloud = house.cloud
    instance = cloud.launch()[0]
    cloud.wait_console(instance, "GUREUM-READY")
    images = []
    for n, moment in enumerate(MOMENTS):
        cloud.ssh(instance, f"echo mark-{n} > /root/mark-{n}; sync")
        images.append(cloud.ec2.create_image(InstanceId=instance, Name=f"cut-{n}", NoReboot=True)["ImageId"])
        time.sleep(moment)  # what is tested
        house.disk.cut(house, lambda n=n: n > 0)
        house.up()
        until(lambda: cloud.ec2.describe_images(ImageIds=images[-1:])["Images"][0]["State"] == "available", told="the image is made")
        cloud.wait_state(instance, "running")  # hvd starts again what ran when the power went
        assert cloud.ssh(instance, f"cat /root/mark-{n}", 120) == f"mark-{n}\n"
    script = "#!/bin/sh\necho MARKS $(cat /root/mark-0 /root/mark-1)\n"
    copy = cloud.launch(ImageId=images[-1], UserData=script)[0]
    cloud.wait_console(copy, "MARKS mark-0 mark-1")
    r = cloud.run(os.path.join(BUILD, "cli", "gureum"), "-c", os.path.join(cloud.state, "gureum.conf"), "fsck")
    assert r.returncode == 0, r.stdout + r.stderr
