#!/usr/bin/python3
"""`make bench`: Gureum beside its limit or its peer, in one run. Prints a table and writes build/bench.json.

a. RunInstances to the guest's user space, beside plain QEMU with the same kernel, disk, memory and machine.
b. DescribeInstances by id: requests a second and p99 with 1, 1,000 and 10,000 instances on record (stopped ones, written into hvd's store
   while it is down, as copies of a real one), beside /healthz, which is the front door alone.
c. resident memory of each daemon at rest, and CPU time at rest over 10 s.
d. security groups at scale: groups.py, on netd alone.
e. snapshots and their layers: layers.py, on stord alone.
f. packets through a VPC beside a plain bridge, what VPCs cost: network.py, on netd alone.

Rows that miss their target stay in the table. Machines are shared: ratios hold, absolute times do not.
"""
import argparse
import json
import os
import re
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time

import boto3
import botocore.session
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest

TOP = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))
STACK = os.path.join(TOP, "scripts", "stack")
DAEMONS = ["apid", "hvd", "netd", "stord"]
NETD_ALONE = ["groups", "network"]
ALONE = [*NETD_ALONE, "layers"]
rows = []


def row(what, value, unit, target=None, holds=None):
    rows.append({"what": what, "value": value, "unit": unit, "target": target, "holds": holds})
    mark = "" if holds is None else ("" if holds else "  <- missed")
    print(f"  {what:<58} {value:>10} {unit:<8} {target or '':<10}{mark}", flush=True)


class Stack:
    def __init__(self, state):
        self.state = state

    def command(self, *words, check=True):
        return subprocess.run([STACK, *words, "--state", self.state], check=check, capture_output=True, text=True).stdout

    def up(self):
        self.command("up")
        self.env = {}
        with open(os.path.join(self.state, "env")) as f:
            for line in f:
                m = re.match(r"(?:export )?(\w+)=['\"]?([^'\"\n]*)", line)
                if m:
                    self.env[m.group(1)] = m.group(2)
        self.ec2 = boto3.client("ec2", endpoint_url=self.env["AWS_ENDPOINT_URL"],
                                region_name=self.env["AWS_DEFAULT_REGION"],
                                aws_access_key_id=self.env["AWS_ACCESS_KEY_ID"],
                                aws_secret_access_key=self.env["AWS_SECRET_ACCESS_KEY"])

    def pid(self, daemon):
        return int(self.command("pid", daemon).split()[-1])


def wait_for(path, text, timeout):
    """Seconds until `text` stands in the file, by polling every 10 ms."""
    began = time.monotonic()
    while time.monotonic() - began < timeout:
        try:
            with open(path, "rb") as f:
                if text in f.read():
                    return time.monotonic() - began
        except FileNotFoundError:
            pass
        time.sleep(0.01)
    raise RuntimeError(f"{text!r} did not come in {path}")


def boot_plain(images, work):
    """Plain QEMU: what is left when nothing of ours takes part."""
    disk, console = os.path.join(work, "plain.qcow2"), os.path.join(work, "plain.log")
    for path in (disk, console):
        if os.path.exists(path):
            os.unlink(path)
    began = time.monotonic()
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b",
                    os.path.join(images, "disk.qcow2"), disk], check=True)
    with open(os.path.join(images, "cmdline")) as f:
        cmdline = f.read().strip()
    process = subprocess.Popen(
        ["qemu-system-x86_64", "-machine", "q35", "-accel", "tcg", "-cpu", "max", "-smp", "2", "-m", "1024", "-nodefaults",
         "-no-user-config", "-display", "none", "-kernel", os.path.join(images, "vmlinuz"),
         "-initrd", os.path.join(images, "initrd"), "-append", cmdline, "-drive", f"if=virtio,format=qcow2,cache=none,file={disk}",
         "-serial", f"file:{console}", "-device", "virtio-rng-pci"], stdin=subprocess.DEVNULL)
    try:
        wait_for(console, b"GUREUM-USERLAND", 120)
        return time.monotonic() - began
    finally:
        process.kill()
        process.wait()


def boot_ours(stack):
    began = time.monotonic()
    reply = stack.ec2.run_instances(ImageId=stack.env["GUREUM_AMI"], InstanceType="t3.micro", MinCount=1, MaxCount=1)
    answered = time.monotonic() - began
    instance = reply["Instances"][0]["InstanceId"]
    console = os.path.join(stack.state, "state", "hvd", "console", instance + ".log")
    try:
        wait_for(console, b"GUREUM-USERLAND", 120)
        return time.monotonic() - began, answered
    finally:
        stack.ec2.terminate_instances(InstanceIds=[instance])
        stack.ec2.get_waiter("instance_terminated").wait(InstanceIds=[instance], WaiterConfig={"Delay": 1})


def bench_boot(stack, images, work, n):
    ours, plain, answers = [], [], []
    for _ in range(n):
        plain.append(boot_plain(images, work))
        seconds, answered = boot_ours(stack)
        ours.append(seconds)
        answers.append(answered)
    ratio = statistics.median(a / b for a, b in zip(ours, plain))
    row("plain QEMU: start to user space, median", f"{statistics.median(plain):.2f}", "s")
    row("RunInstances to user space, median", f"{statistics.median(ours):.2f}", "s")
    row("ratio, median of pairs", f"{ratio:.2f}", "x", "<= 1.25", ratio <= 1.25)
    ms = 1000 * statistics.median(answers)
    row("RunInstances answered (client's own time included), median", f"{ms:.0f}", "ms", "<= 50", ms <= 50)


def signed(stack, action, **parameters):
    """One signed request, to be sent many times."""
    credentials = botocore.session.Session().create_client(
        "ec2", region_name=stack.env["AWS_DEFAULT_REGION"], aws_access_key_id=stack.env["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=stack.env["AWS_SECRET_ACCESS_KEY"])._request_signer._credentials
    body = "&".join(f"{k}={v}" for k, v in {"Action": action, "Version": "2016-11-15", **parameters}.items())
    request = AWSRequest("POST", stack.env["AWS_ENDPOINT_URL"] + "/", data=body,
                         headers={"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"})
    SigV4Auth(credentials, "ec2", stack.env["AWS_DEFAULT_REGION"]).add_auth(request)
    return body, dict(request.headers)


def wrk(stack, path, body=None, headers=None, connections=4, seconds=5):
    script = os.path.join(stack.state, "wrk.lua")
    with open(script, "w") as f:
        if body:
            f.write(f'wrk.method = "POST"\nwrk.body = {json.dumps(body)}\n')
        for name, value in (headers or {}).items():
            if name.lower() != "host":
                f.write(f"wrk.headers[{json.dumps(name)}] = {json.dumps(value)}\n")
    out = subprocess.run(["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", script,
                          stack.env["AWS_ENDPOINT_URL"] + path], check=True, capture_output=True, text=True).stdout
    if "Non-2xx" in out:
        raise RuntimeError("the requests were refused:\n" + out)
    rate = float(re.search(r"Requests/sec:\s*([\d.]+)", out).group(1))
    value, unit = re.search(r"99%\s+([\d.]+)(us|ms|s)", out).groups()
    return rate, float(value) * {"us": 0.001, "ms": 1, "s": 1000}[unit]


def put_on_record(stack, template, n):
    """Makes hvd's store hold `n` stopped instances, while the stack is down."""
    path = os.path.join(stack.state, "state", "hvd", "state.db")
    with sqlite3.connect(path) as db:
        kind, account, region, text = db.execute(
            "SELECT kind, account, region, json FROM doc WHERE kind = 'instance' AND id = ?", (template,)).fetchone()
        have = db.execute("SELECT count(*) FROM doc WHERE kind = 'instance'").fetchone()[0]
        sequence = db.execute("SELECT max(sequence) FROM doc").fetchone()[0]
        for i in range(have, n):
            new = f"i-{i:017x}"
            db.execute("INSERT INTO doc (sequence, kind, id, account, region, json) VALUES (?, ?, ?, ?, ?, ?)",
                       (sequence + i + 1, kind, new, account, region, text.replace(template, new)))
    db.close()


def bench_describe(stack):
    instance = stack.ec2.run_instances(ImageId=stack.env["GUREUM_AMI"], InstanceType="t3.nano", MinCount=1,
                                       MaxCount=1)["Instances"][0]["InstanceId"]
    stack.ec2.get_waiter("instance_running").wait(InstanceIds=[instance], WaiterConfig={"Delay": 1})
    stack.ec2.stop_instances(InstanceIds=[instance], Force=True)
    stack.ec2.get_waiter("instance_stopped").wait(InstanceIds=[instance], WaiterConfig={"Delay": 1})
    rate, p99 = wrk(stack, "/healthz")
    row("/healthz", f"{rate:.0f}", "req/s")
    for n in (1, 1000, 10000):
        if n > 1:
            stack.command("down")
            put_on_record(stack, instance, n)
            stack.up()
        body, headers = signed(stack, "DescribeInstances", **{"InstanceId.1": instance})
        one, p99_one = wrk(stack, "/", body, headers, connections=1)
        rate, p99 = wrk(stack, "/", body, headers)
        row(f"DescribeInstances by id, {n} on record", f"{rate:.0f}", "req/s")
        row(f"  p99, one request at a time ({one:.0f} req/s)", f"{p99_one:.2f}", "ms", "<= 5", p99_one <= 5)
        row("  p99, four at a time", f"{p99:.2f}", "ms")


def rss_kib(pid):
    with open(f"/proc/{pid}/status") as f:
        return int(re.search(r"VmRSS:\s+(\d+)", f.read()).group(1))


def cpu_ticks(pid):
    with open(f"/proc/{pid}/stat") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])


def bench_rest(stack):
    time.sleep(3)
    pids = {d: stack.pid(d) for d in DAEMONS}
    before = {d: cpu_ticks(p) for d, p in pids.items()}
    time.sleep(10)
    total = 0
    for daemon, pid in pids.items():
        mib = rss_kib(pid) / 1024
        total += mib
        ms = 1000 * (cpu_ticks(pid) - before[daemon]) / os.sysconf("SC_CLK_TCK")
        row(f"{daemon}: resident at rest", f"{mib:.1f}", "MiB")
        row(f"{daemon}: CPU in 10 s at rest", f"{ms:.0f}", "ms")
    row("all daemons: resident at rest", f"{total:.1f}", "MiB", "<= 64", total <= 64)


def bench_alone(part):
    """A daemon alone: a program beside this one, netd's in a private host; it prints the arguments of row() as JSON."""
    command = [sys.executable, os.path.join(TOP, "tests", "bench", part + ".py")]
    if part in NETD_ALONE:
        command.insert(0, os.path.join(TOP, "tests", "net", "private-host"))
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "BUILD": os.path.join(TOP, "build")}) as process:
        for line in process.stdout:
            row(*json.loads(line))
    if process.returncode:
        raise RuntimeError(f"{part}.py has failed")


def bench_stack(a):
    work = tempfile.mkdtemp(prefix="gureum-bench-")
    stack = Stack(os.path.join(work, "cloud"))
    stack.up()
    try:
        for name, run in (("rest", lambda: bench_rest(stack)), ("boot", lambda: bench_boot(stack, a.images, work, a.runs)),
                          ("describe", lambda: bench_describe(stack))):
            if a.only in (None, name):
                print(name, flush=True)
                run()
    finally:
        stack.command("down", check=False)
        shutil.rmtree(work, ignore_errors=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=os.path.abspath, default=os.path.join(TOP, "build", "image"), help="of scripts/build-image")
    parser.add_argument("--runs", type=int, default=5, help="pairs of boots")
    parser.add_argument("--only", choices=["boot", "describe", "rest", *ALONE])
    a = parser.parse_args()
    for part in ALONE:
        if a.only in (None, part):
            print(part, flush=True)
            bench_alone(part)
    if a.only not in ALONE:
        bench_stack(a)
    out = os.path.join(TOP, "build", "bench.json")
    os.makedirs(os.path.dirname(out), exist_ok=True)
    with open(out, "w") as f:
        json.dump({"machine": os.uname().release, "cpus": os.cpu_count(), "rows": rows}, f, indent=1)
    print(f"written: {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
