"""A reboot of a guest that does not listen to the power button, while hvd or libvirtd is killed before each of its steps (lib/step.h)."""
import os

import pytest

from conftest import until
from test_volume_steps import steps  # noqa: F401 (a fixture)

# The guest no longer sees the button; its agent lives on.
DEAF = "for d in /sys/bus/acpi/drivers/button/*:*; do echo ${d##*/} >/sys/bus/acpi/drivers/button/unbind; done"
# What is about to be done, and who dies before it. The last of each is after the first reset, or that itself.
LIVES = [
    [("libvirt: a reboot", "hvd"), ("libvirt: a reset", "libvirtd")],
    [("libvirt: a reset", "hvd"), ("a reboot that is done", "hvd")],
]


@pytest.fixture
def hasty(cloud):
    """An hvd that waits for its guests for twelve seconds only."""
    folder = os.path.join(cloud.state, "gureum.conf.d")
    path = os.path.join(folder, "hasty.conf")
    os.makedirs(folder, exist_ok=True)
    with open(path, "w") as f:
        f.write("[Compute]\nStopTimeoutSec=12\n")
    cloud.kill("hvd")
    yield
    os.unlink(path)
    cloud.kill("hvd")


def boot_id(cloud, instance):
    return cloud.ssh(instance, "cat /proc/sys/kernel/random/boot_id")


def test_a_reboot_is_owed_until_it_is_done_whoever_dies(cloud, hasty, steps):  # noqa: F811
    instance = cloud.launch()[0]
    cloud.wait_console(instance, "GUREUM-READY")
    for lives in LIVES:
        before = boot_id(cloud, instance)
        cloud.ssh(instance, DEAF)
        libvirtd = int(cloud.out("pgrep", "-x", "libvirtd"))
        for n, (name, who) in enumerate(lives):  # the next is asked for before a new hvd comes to it
            steps.arm(1, libvirtd if who == "libvirtd" else 0, name)
            if n == 0:
                cloud.ec2.reboot_instances(InstanceIds=[instance])
            until(lambda: not os.path.exists(steps.path), told=f"{name} is met")
        until(lambda: boot_id(cloud, instance) != before, told="it boots anew")
        assert cloud.state_of(instance) == "running"
    cloud.terminate(instance)
