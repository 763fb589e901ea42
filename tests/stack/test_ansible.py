"""Ansible, as it comes with Debian: its modules for networks and EBS build, change and take down a small shop."""
import json
import os
import subprocess

import pytest

from conftest import until

HERE = os.path.join(os.path.dirname(os.path.realpath(__file__)), "ansible")
# What a shop consists of: none of it may be left when it is taken down.
KINDS = {"vpcs": "Vpcs", "subnets": "Subnets", "route_tables": "RouteTables", "security_groups": "SecurityGroups", "network_acls": "NetworkAcls",
         "internet_gateways": "InternetGateways", "egress_only_internet_gateways": "EgressOnlyInternetGateways", "dhcp_options": "DhcpOptions",
         "network_interfaces": "NetworkInterfaces", "addresses": "Addresses", "volumes": "Volumes", "vpc_endpoints": "VpcEndpoints",
         "key_pairs": "KeyPairs"}


def count(cloud):
    return {kind: len(getattr(cloud.ec2, f"describe_{kind}")()[result]) for kind, result in KINDS.items()}


def play(cloud, name, tmp_path):
    """Runs a playbook, which must not fail; returns the tasks that changed something."""
    region = cloud.env["AWS_DEFAULT_REGION"]
    more = {"region": region, "ami": cloud.ami, "public_key": open(tmp_path / "key.pub").read(), "ansible_connection": "local",
            "ansible_python_interpreter": "/usr/bin/python3"}
    env = {**os.environ, **{k: v for k, v in cloud.env.items() if k.startswith("AWS_")}, "AWS_URL": cloud.env["AWS_ENDPOINT_URL"], "AWS_REGION": region,
           "ANSIBLE_STDOUT_CALLBACK": "json", "ANSIBLE_LOCAL_TEMP": str(tmp_path), "ANSIBLE_REMOTE_TEMP": str(tmp_path), "LC_ALL": "C.UTF-8"}
    done = subprocess.run(["ansible-playbook", "-i", "localhost,", "-e", json.dumps(more), os.path.join(HERE, name)], env=env, capture_output=True, text=True,
                          stdin=subprocess.DEVNULL, timeout=400)
    tasks = [(t["task"]["name"], r) for p in json.loads(done.stdout[done.stdout.index("{"):])["plays"] for t in p["tasks"] for r in t["hosts"].values()]
    failed = [(t, r.get("msg"), r.get("module_stderr", "")[-600:]) for t, r in tasks if r.get("failed")]
    assert done.returncode == 0 and not failed, f"{name}: {failed or done.stderr[-800:]}"
    return [t for t, r in tasks if r.get("changed")]


@pytest.mark.timeout(900)
def test_ansible_builds_changes_and_takes_down_a_shop(cloud, tmp_path):
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key"], check=True)
    before = count(cloud)
    assert len(play(cloud, "up.yml", tmp_path)) > 15
    assert play(cloud, "up.yml", tmp_path) == [], "what is there already was changed"
    assert len(play(cloud, "change.yml", tmp_path)) > 10
    play(cloud, "down.yml", tmp_path)
    until(lambda: all(n <= before[kind] for kind, n in count(cloud).items()), told="nothing of the shop is left")
