"""A reboot of a guest that does not listen to the power button, while hvd is killed before each of its steps (lib/step.h)."""
import os

import pytest

from conftest import until
from test_volume_steps import steps  # noqa: F401 (a fixture)

# The guest no longer sees the button; its agent lives on.
DEAF = "for d in /sys/bus/acpi/drivers/button/*:*; do echo ${d##*/} >/sys/bus/acpi/drivers/button/unbind; done"
STEPS = ["libvirt: a reboot", "libvirt: a reset", "a reboot that is done"]


@pytest.fixture
def hasty(cloud):
    """An hvd that waits for its guests for eight seconds only."""
    folder = os.path.join(cloud.state, "gureum.conf.d")
    path = os.path.join(folder, "hasty.conf")
    os.makedirs(folder, exist_ok=True)
    with open(path, "w") as f:
        f.write("[Compute]\nStopTimeoutSec=8\n")
    cloud.kill("hvd")
    yield
    os.unlink(path)
    cloud.kill("hvd")


def boot_id(cloud, instance):
    return cloud.ssh(instance, "cat /proc/sys/kernel/random/boot_id")


def test_a_reboot_is_owed_until_it_is_done_whoever_dies(cloud, hasty, steps):  # noqa: F811
    instance = cloud.launch()[0]
    cloud.wait_console(instance, "GUREUM-READY")
    before = boot_id(cloud, instance)
    cloud.ssh(instance, DEAF)
    for n, name in enumerate(STEPS):
        steps.arm(1, name=name)
        if n == 0:
            cloud.ec2.reboot_instances(InstanceIds=[instance])
        until(lambda: not os.path.exists(steps.path), told=f"{name} is met")
        assert steps.disarm() == name
        if name != STEPS[-1]:
            assert boot_id(cloud, instance) == before
    until(lambda: boot_id(cloud, instance) != before, told="it boots anew")
    assert cloud.state_of(instance) == "running"
    cloud.terminate(instance)
