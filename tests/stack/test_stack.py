"""scripts/stack itself: clouds beside one another, and what is left when one ends, however it ends."""
import os
import re
import shutil
import signal
import subprocess

import pytest

from conftest import STACK, TOP, until


def up(state, *options, **more):
    return subprocess.Popen([STACK, "up", "--no-image", "--state", str(state), *options], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                            stdin=subprocess.DEVNULL, **more)


def down(state):
    subprocess.run([STACK, "down", "--cut", "--state", str(state)], check=True, stdin=subprocess.DEVNULL)


def processes(state):
    """Everything alive that was started with this directory in its words, but not the question itself."""
    found = []
    for pid in os.listdir("/proc"):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as f:
                if pid.isdigit() and str(state).encode() in f.read() and int(pid) != os.getpid():
                    found.append(int(pid))
        except OSError:
            continue
    return found


def status(state):
    return subprocess.run([STACK, "status", "--state", str(state)], capture_output=True, text=True, stdin=subprocess.DEVNULL).stdout


@pytest.fixture
def state(cloud, tmp_path):
    """A directory for a second cloud; the first one runs meanwhile."""
    yield tmp_path / "second"
    if (tmp_path / "second" / "pid").exists():
        down(tmp_path / "second")


def test_two_clouds_do_not_see_each_other(cloud, state):
    process = up(state)
    assert process.wait(120) == 0, process.stderr.read()
    links = cloud.trace()["links"]
    inside = subprocess.run([STACK, "exec", "--state", str(state), "--", "sh", "-c", "ip -o link; virsh -q list --all --name; ls /run/netns"],
                            capture_output=True, text=True, stdin=subprocess.DEVNULL).stdout
    assert not re.search("^i-", inside, re.M)
    pid = cloud.pid("hvd")
    down(state)
    assert processes(state) == []
    assert cloud.pid("hvd") == pid and cloud.trace()["links"] <= links
    assert cloud.ec2.describe_regions()["Regions"]


def test_the_endpoint_is_there_inside_as_well(cloud):
    """For what has to reach both the API and the guests: provisioners that go on by ssh."""
    url = cloud.env["AWS_ENDPOINT_URL"] + "/healthz"
    assert "ok" in cloud.out("/usr/bin/python3", "-c", f"import urllib.request; print(urllib.request.urlopen('{url}').read())")


def test_the_machine_itself_is_not_touched(state):
    """The machine is a host of the test's own, for on ours others may do something meanwhile; it has containers' bridge and rules."""
    look = "{ ip -o link; ip route; ip netns; iptables-save | grep -v '^#' | sed 's/ \\[.*//'; cat /proc/self/mounts; }"
    script = f"""
        ip link add containers type bridge && ip addr add 172.17.0.1/16 dev containers && ip link set containers up
        iptables -A FORWARD -i containers -j ACCEPT && ip netns add container && mkdir -p "$1"
        {look} > "$1/before"
        "$0" up --state "$1" >&2 && {look} > "$1/during"
        "$0" down --cut --state "$1" >&2 && {look} > "$1/after"
        """
    machine = os.path.join(TOP, "tests", "net", "private-host")
    subprocess.run([machine, "sh", "-ec", script, STACK, str(state)], check=True, stdin=subprocess.DEVNULL, timeout=240)
    before = (state / "before").read_text()
    assert "containers" in before and (state / "during").read_text() == (state / "after").read_text() == before


def test_up_again_changes_nothing(state):
    assert up(state).wait(120) == 0
    before = subprocess.run([STACK, "pid", "apid", "--state", str(state)], capture_output=True, text=True).stdout
    assert up(state).wait(120) == 0
    assert subprocess.run([STACK, "pid", "apid", "--state", str(state)], capture_output=True, text=True).stdout == before


def test_down_keeps_the_state_and_up_finds_it(state):
    assert up(state).wait(120) == 0
    env = (state / "env").read_text()
    down(state)
    assert "down" in status(state)
    assert up(state).wait(120) == 0
    assert (state / "env").read_text() == env  # endpoint and keys are the same


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_up_leaves_nothing(state, how):
    process = up(state)
    until(lambda: (state / "pid").exists(), 120, 0.01, "the private host is there")
    process.send_signal(how)
    process.wait(60)
    until(lambda: processes(state) == [], 120, 0.1, "nothing is left")


def test_a_killed_supervisor_takes_all_with_it(state):
    assert up(state).wait(120) == 0
    os.kill(int((state / "pid").read_text().split()[0]), signal.SIGKILL)
    until(lambda: processes(state) == [], 120, 0.1, "nothing is left")
    assert up(state).wait(120) == 0


def test_the_way_out_ends_with_the_host(state):
    routes = subprocess.run(["ip", "route", "show", "default"], capture_output=True, text=True).stdout
    if not routes.strip() or not shutil.which("slirp4netns"):
        pytest.skip("this machine has no default route, or no slirp4netns")

    assert up(state, "--outside").wait(120) == 0
    pid = (state / "pid").read_text().split()[0]

    def helpers():
        """Of this host: others' may come and go."""
        return subprocess.run(["pgrep", "-f", f"slirp4netns .* {pid} outside"], capture_output=True, text=True).stdout.split()
    inside = subprocess.run([STACK, "exec", "--state", str(state), "--", "ip", "route"], capture_output=True, text=True).stdout
    assert "default via" in inside
    assert len(helpers()) == 1
    os.kill(int(pid), signal.SIGKILL)
    until(lambda: not helpers(), 120, 0.1, "the helper is gone")
