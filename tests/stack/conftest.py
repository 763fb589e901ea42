"""One cloud for all tests: real daemons, a real libvirt, real guests, in a private host (scripts/stack).

pytest --stack DIR uses a cloud that is up already; otherwise one is brought up in a temporary directory and ended afterwards.
GUREUM_BUILD names the build folder (build, build-san).
"""
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
import urllib.parse
import urllib.request

import boto3
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

# A caller's own, which boto3 would look for; and no proxy of his knows the way to this cloud.
os.environ.pop("AWS_PROFILE", None)
os.environ["no_proxy"] = os.environ["NO_PROXY"] = "127.0.0.1"

TOP = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))
STACK = os.path.join(TOP, "scripts", "stack")
# Disks of tests need not outlive a power cut of the machine; a client that falls silent is given up sooner.
SETTINGS = ["--set", "Compute.DiskCache=unsafe", "--set", "Api.TimeoutSec=5"]
DAEMONS = ["apid", "hvd", "netd", "stord"]


def pytest_addoption(parser):
    parser.addoption("--stack", metavar="DIR", help="a cloud of scripts/stack that is up")
    parser.addoption("--keep", action="store_true", help="leave the cloud up, and say where it is")


def until(what, seconds=120, every=0.2, told=None):
    """Calls `what` until it returns something true; an error of the API counts as not yet."""
    end, last = time.monotonic() + seconds, None
    while True:
        try:
            last = what()
            if last:
                return last
        except ClientError as e:
            last = e
        if time.monotonic() > end:
            pytest.fail(f"not within {seconds} s: {told or what.__name__} (last: {last!r})")
        time.sleep(every)


def code_of(call, *arguments, **parameters):
    """The error code that AWS's client sees, "" if the call succeeds."""
    try:
        call(*arguments, **parameters)
        return ""
    except ClientError as e:
        return e.response["Error"]["Code"]


def ask(cloud, action, **parameters):
    """A signed request for an action that is newer than the client's models; the answer's text."""
    body = urllib.parse.urlencode({"Action": action, "Version": "2016-11-15", **parameters})
    request = AWSRequest("POST", cloud.env["AWS_ENDPOINT_URL"] + "/", data=body, headers={"Content-Type": "application/x-www-form-urlencoded"})
    SigV4Auth(Credentials(cloud.env["AWS_ACCESS_KEY_ID"], cloud.env["AWS_SECRET_ACCESS_KEY"]), "ec2", "us-east-1").add_auth(request)
    sent = urllib.request.Request(request.url, body.encode(), dict(request.headers))
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(sent, timeout=60) as answer:
        return answer.read().decode()


ASK_STORD = """import socket, sys
with socket.socket(socket.AF_UNIX) as s:
    s.connect("/run/gureum/stord.sock")
    s.sendall(sys.argv[1].encode() + b"\\0")
    out = b""
    while not out.endswith(b"\\0"):
        out += s.recv(65536)
sys.stdout.write(out[:-1].decode())"""


def ask_stord(cloud, method, **parameters):
    """What stord answers to another daemon, and tells no customer."""
    message = {"method": method, "parameters": parameters,
               "context": {"account": "123456789012", "region": cloud.ec2.meta.region_name, "principal": "", "request": "test"}}
    return json.loads(cloud.out("/usr/bin/python3", "-c", ASK_STORD, json.dumps(message)))["parameters"]


def with_steps(state):
    """The environment in which the cloud's daemons look for steps to die at (lib/step.h), also after it was down and up."""
    return {**os.environ, "GUREUM_STEPS": os.path.join(state, "steps")}


class Cloud:
    def __init__(self, state):
        self.state = os.path.realpath(state)
        self.read_env()
        self.ec2, self.sts = self.client("ec2"), self.client("sts")
        self.key_path, self.key_name = os.path.join(self.state, "tests.pem"), "tests"
        self.ami = self.env["GUREUM_AMI"]
        self.instances = []

    def read_env(self):
        with open(os.path.join(self.state, "env")) as f:
            self.env = dict(re.findall(r"^export (\w+)='([^']*)'$", f.read(), re.M))

    def client(self, service, **more):
        settings = dict(endpoint_url=self.env["AWS_ENDPOINT_URL"], region_name=self.env["AWS_DEFAULT_REGION"],
                        aws_access_key_id=self.env["AWS_ACCESS_KEY_ID"], aws_secret_access_key=self.env["AWS_SECRET_ACCESS_KEY"],
                        config=Config(retries={"max_attempts": 6, "mode": "standard"}, read_timeout=90, proxies={}))
        return boto3.client(service, **{**settings, **more})

    # ---- the private host ----

    def command(self, verb, *words, check=True, timeout=120):
        return subprocess.run([STACK, verb, "--state", self.state, *words], check=check, capture_output=True, text=True,
                              timeout=timeout, stdin=subprocess.DEVNULL, env=with_steps(self.state))

    def run(self, *words, timeout=60):
        """A command inside the private host."""
        return self.command("exec", "--", *words, check=False, timeout=timeout)

    def out(self, *words):
        r = self.run(*words)
        assert r.returncode == 0, f"{words}: {r.stderr}"
        return r.stdout

    def aws(self, *words, timeout=120):
        """The aws CLI as a user has it after `. env`."""
        return subprocess.run(["sh", "-c", '. "$0"; exec aws "$@"', os.path.join(self.state, "env"), *words],
                              capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL)

    def pid(self, daemon):
        r = self.command("pid", daemon, check=False)
        return int(r.stdout) if r.returncode == 0 else 0

    def kill(self, daemon):
        """kill -9, and back when its successor says that it is ready."""
        before = self.pid(daemon)
        self.command("kill", daemon)
        until(lambda: self.is_ready(daemon) and self.pid(daemon) not in (0, before), 120, 0.1, f"{daemon} is back")

    def is_ready(self, daemon):
        return re.search(rf"^  {daemon} +ready ", self.command("status").stdout, re.M)

    def trace(self):
        """What guests leave in the kernel and in files, as sets: see new_since()."""
        links = re.findall(r"^\d+: ([^:@]+)", self.out("ip", "-o", "link"), re.M)
        rules = self.out("sh", "-c", "for n in $(ip netns list | cut -d' ' -f1); do { ip netns exec $n iptables-save; "
                         "ip netns exec $n ipset save; } | sed \"s/^/$n /\"; done; iptables-save | sed 's/^/host /'")
        files = self.out("find", os.path.join(self.state, "state"), "-type", "f", "-regex", r".*\.\(qcow2\|raw\|log\|iso\|sock\)")
        return {
            "domains": set(self.out("virsh", "-q", "list", "--all", "--name").split()),
            "links": set(links),
            "rules": {r.split(" timeout ")[0] for r in rules.split("\n") if re.match(r"\S+ (-A|add) ", r)},
            "volumes": {f for f in files.split() if re.search(r"vol-[0-9a-f]{17}", f)},
            "qemu": set(self.out("sh", "-c", "ps ax -o pid,comm | awk '/qemu-system/{print $1}'").split()),
        }

    def new_since(self, before):
        """What was not there before, {} if nothing is. What earlier tests left may go meanwhile: layers are merged in the background."""
        return {kind: new for kind, there in self.trace().items() if (new := there - before[kind])}

    # ---- instances ----

    def launch(self, **parameters):
        """RunInstances of the default image with our key; the instances' ids. They are terminated when the tests end."""
        # One processor: where guests are emulated, QEMU before 8.2 may crash when a device goes while another processor is at work
        # (doc/decisions.md).
        settings = dict(ImageId=self.ami, InstanceType="t2.nano", MinCount=1, MaxCount=1, KeyName=self.key_name)
        settings.update(parameters)
        ids = [i["InstanceId"] for i in self.ec2.run_instances(**settings)["Instances"]]
        self.instances += [i for i in ids if i not in self.instances]
        return ids

    def describe(self, instance):
        return self.ec2.describe_instances(InstanceIds=[instance])["Reservations"][0]["Instances"][0]

    def state_of(self, instance):
        return self.describe(instance)["State"]["Name"]

    def wait_state(self, instance, state, seconds=120):
        until(lambda: self.state_of(instance) == state, seconds, told=f"{instance} is {state}")
        return self.describe(instance)

    def console(self, instance):
        return self.ec2.get_console_output(InstanceId=instance, Latest=True).get("Output", "")

    def wait_console(self, instance, text, seconds=120):
        try:
            until(lambda: text in self.console(instance), seconds, 0.5, f"{text!r} on the console of {instance}")
        except pytest.fail.Exception:
            print(self.console(instance)[-3000:])
            print(self.processors(instance))
            raise
        return self.console(instance)

    def processors(self, instance):
        """What the guest's processors are at, and which interrupts they have yet to see: for one that stands still."""
        asked = ("info status", "info lapic 0", "info lapic 1", "info registers -a")
        return "".join(self.run("virsh", "qemu-monitor-command", "--hmp", instance, what).stdout for what in asked)

    def ssh(self, instance, command, seconds=120):
        """Runs a shell command in the guest, over the network; its output. The guest may be booting still, or reset under it."""
        address = self.describe(instance)["PublicIpAddress"]
        words = ["ssh", "-i", self.key_path, "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o",
                 "LogLevel=ERROR", "-o", "ConnectTimeout=5", "-o", "ServerAliveInterval=10", "-o", "ServerAliveCountMax=4", "-o", "BatchMode=yes",
                 f"root@{address}", command]
        end = time.monotonic() + seconds
        while True:
            r = self.run(*words, timeout=seconds + 60)
            if r.returncode != 255 or time.monotonic() > end:  # 255 is ssh's own failure: not listening yet
                break
            time.sleep(0.5)
        assert r.returncode == 0, f"ssh {instance} {command!r}: {r.returncode} {r.stderr} {r.stdout}"
        return r.stdout

    def http(self, instance, request, host="169.254.169.254"):
        """The whole answer to a request that the guest writes itself, "" if there is none. The client keeps its half of the connection
        open: libmicrohttpd may take who closes it for gone while the answer still waits (for netd, for the guest's turn)."""
        text = request.replace("\n", "\\r\\n")
        return self.ssh(instance, f"mkfifo /run/request && exec 3<>/run/request && rm /run/request && printf '{text}' >&3 && nc {host} 80 <&3")

    def terminate(self, *instances):
        ids = [i for i in instances if i in self.instances]
        if ids:
            self.ec2.terminate_instances(InstanceIds=ids)
            self.instances = [i for i in self.instances if i not in ids]
        for i in ids:
            self.wait_state(i, "terminated", 120)

    # ---- groups ----

    def default_group(self):
        return self.ec2.describe_security_groups(Filters=[{"Name": "group-name", "Values": ["default"]}])["SecurityGroups"][0]

    def make_group(self, name, *rules):
        vpc = self.default_group()["VpcId"]
        group = self.ec2.create_security_group(GroupName=name, Description=name, VpcId=vpc)["GroupId"]
        if rules:
            self.ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=list(rules))
        return group


SSH = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
PING = {"IpProtocol": "icmp", "FromPort": -1, "ToPort": -1, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}


def complaints(state):
    """What a build with sanitizers said in the daemons' logs."""
    found = []
    for name in DAEMONS:
        with open(os.path.join(state, "log", name + ".log"), errors="replace") as f:
            found += [f"{name}: {line.strip()}" for line in f if re.search(r"(Address|Leak)Sanitizer|runtime error:", line)]
    return found


def prepare(cloud):
    if cloud.ec2.describe_key_pairs(Filters=[{"Name": "key-name", "Values": [cloud.key_name]}])["KeyPairs"]:
        cloud.ec2.delete_key_pair(KeyName=cloud.key_name)
    material = cloud.ec2.create_key_pair(KeyName=cloud.key_name, KeyType="ed25519")["KeyMaterial"]
    with open(os.open(cloud.key_path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as f:
        f.write(material)
    group = cloud.default_group()["GroupId"]
    for rule in (SSH, PING):
        assert code_of(cloud.ec2.authorize_security_group_ingress, GroupId=group, IpPermissions=[rule]) in ("", "InvalidPermission.Duplicate")


def log_paths(state):
    return {name: os.path.join(state, "log", name + ".log") for name in DAEMONS + ["libvirtd", "stack"]}


def log_sizes(state):
    return {name: os.path.getsize(path) for name, path in log_paths(state).items() if os.path.exists(path)}


def logs_since(state, sizes):
    """(daemon, the last it said) of each that said something since its log had this size."""
    for name, path in log_paths(state).items():
        if os.path.exists(path):
            with open(path, errors="replace") as f:
                before = sizes.get(name, 0)
                f.seek(before if before <= os.path.getsize(path) else 0)  # shorter: the power went
                said = f.readlines()[-60:]
            if said:
                yield name, "".join(said)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """A failure comes with what the daemons said during the test."""
    report = (yield).get_result()
    given = getattr(item, "funcargs", {})
    cloud = given.get("cloud") or given.get("house")
    if cloud and call.when == "setup":
        item.log_sizes = log_sizes(cloud.state)
    if cloud and report.failed:
        report.sections += [(f"{name} said", said) for name, said in logs_since(cloud.state, getattr(item, "log_sizes", {}))]


@pytest.fixture(scope="session")
def cloud(request):
    given = request.config.getoption("--stack")
    if os.geteuid() != 0:
        pytest.skip("needs root, for namespaces")
    if given:
        c = Cloud(given)
        prepare(c)
        yield c
        c.terminate(*c.instances)
        return
    state = tempfile.mkdtemp(prefix="gureum-tests.")
    try:
        os.mkdir(os.path.join(state, "steps"))
        r = subprocess.run([STACK, "up", "--state", state, *SETTINGS], stdin=subprocess.DEVNULL, env=with_steps(state))
        assert r.returncode == 0, "the cloud did not come up:\n" + "\n".join(f"---- {n}\n{said}" for n, said in logs_since(state, {}))
        c = Cloud(state)
        prepare(c)
        yield c
    finally:
        if request.config.getoption("--keep"):
            print(f"the cloud in {state} stays up")
        else:
            subprocess.run([STACK, "down", "--cut", "--state", state], check=True)
    found = complaints(state)
    if not found and not request.config.getoption("--keep"):
        shutil.rmtree(state, ignore_errors=True)
    assert not found, f"see {state}/log"


@pytest.fixture(scope="session")
def guest(cloud):
    """A guest that many tests look at and none may harm: t3.micro, with a script."""
    script = ("#!/bin/sh\necho USER-DATA-RAN $((6 * 7))\nec2-metadata instance-id\n"
              "gateway=$(ip route | awk '/^default/{print $3}')\nfor n in 1 2 3; do ping -c 1 -W 5 $gateway >/dev/null && echo GATEWAY-ANSWERS && break; done\n")
    instance = cloud.launch(InstanceType="t3.micro", UserData=script)[0]
    cloud.wait_state(instance, "running")
    cloud.wait_console(instance, "user-data: exit")
    return instance
