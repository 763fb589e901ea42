"""The Debian image boots and configures itself by cloud-init from our metadata: host name, key, user-data as a script and as #cloud-config.

Not collected by name: it boots a whole Debian, which takes minutes where guests are emulated. `make test-debian` names it.
GUREUM_DEBIAN is the folder that scripts/build-debian-image filled.
"""
import os
import re
import time

import pytest

from conftest import TOP, until

FOLDER = os.environ.get("GUREUM_DEBIAN", os.path.join(TOP, "build", "debian"))
BUILD = os.environ.get("GUREUM_BUILD", os.path.join(TOP, "build"))
USER_DATA = """Content-Type: multipart/mixed; boundary="==part=="
MIME-Version: 1.0

--==part==
Content-Type: text/cloud-config

#cloud-config
write_files:
  - path: /etc/from-cloud-config
    content: "written by cloud-config"
--==part==
Content-Type: text/x-shellscript

#!/bin/sh
echo "script ran on $(hostname) as $(id -un)" > /root/from-script
--==part==--
"""


@pytest.fixture(scope="module")
def debian(cloud):
    started = time.monotonic()
    r = cloud.run(os.path.join(BUILD, "cli", "gureum"), "-c", os.path.join(cloud.state, "gureum.conf"), "image", "import", "--public", "--name",
                  "debian-12-cloud-init", "--region", cloud.ec2.meta.region_name, os.path.join(FOLDER, "disk.qcow2"), timeout=300)
    assert r.returncode == 0, r.stderr
    image = re.search(r"ami-[0-9a-f]{17}", r.stdout)[0]
    print(f"\nimported in {time.monotonic() - started:.0f} s")
    instance = cloud.launch(ImageId=image, InstanceType="t3.small", UserData=USER_DATA)[0]
    cloud.wait_state(instance, "running")
    started = time.monotonic()
    cloud.wait_console(instance, "login:", 480)
    print(f"login after {time.monotonic() - started:.0f} s")
    yield instance
    cloud.terminate(instance)


def admin(cloud, instance, command, seconds=240):
    words = ["ssh", "-i", cloud.key_path, "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR",
             "-o", "ConnectTimeout=20", "-o", "BatchMode=yes", f"admin@{cloud.describe(instance)['PublicIpAddress']}", command]
    return until(lambda: (r := cloud.run(*words, timeout=120)).returncode != 255 and r, seconds, 2, f"ssh answers: {command}")


@pytest.mark.timeout(900)
def test_debian_configures_itself_from_our_metadata(cloud, debian):
    started = time.monotonic()
    r = admin(cloud, debian, "cloud-init status --wait --long")
    print(f"cloud-init done {time.monotonic() - started:.0f} s after login\n{r.stdout}")
    assert r.returncode == 0 and "status: done" in r.stdout, r.stdout
    assert "DataSourceEc2" in r.stdout
    shown = cloud.describe(debian)
    assert admin(cloud, debian, "hostname").stdout.strip() == shown["PrivateDnsName"].split(".")[0]
    assert admin(cloud, debian, "sudo cat /etc/from-cloud-config").stdout == "written by cloud-config"
    assert admin(cloud, debian, "sudo cat /root/from-script").stdout == f"script ran on {shown['PrivateDnsName'].split('.')[0]} as root\n"
    assert admin(cloud, debian, "cloud-init query instance_id").stdout.strip() == debian
    size = int(admin(cloud, debian, "lsblk -bndo SIZE /dev/vda").stdout)
    root = int(admin(cloud, debian, "lsblk -bndo SIZE /dev/vda1").stdout)
    assert size - root < 4 << 20, "the partition grew with the volume"
    assert admin(cloud, debian, "systemctl is-active gureum-agent ssh").stdout.split() == ["active", "active"]
    print(admin(cloud, debian, "systemd-analyze time; systemd-analyze blame | head -15; systemctl --failed").stdout)
    assert "0 loaded units" in admin(cloud, debian, "systemctl --failed").stdout


def test_the_agent_speaks_for_the_instance(cloud, debian):
    until(lambda: cloud.ec2.describe_instance_status(InstanceIds=[debian])["InstanceStatuses"][0]["InstanceStatus"]["Status"] == "ok", 60)
