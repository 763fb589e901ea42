"""A stord of one's own: the real daemon on a directory of its own, spoken to over its socket as hvd and apid do."""
import array
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time

import pytest

TOP = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))
STORD = os.environ.get("STORD", os.path.join(TOP, "build", "stord", "stord"))
LOG_SHOWN = 20000  # characters, the last, with a failure
CONTEXT = {"account": "123456789012", "region": "us-east-1", "principal": "", "request": "test"}


class Fault(Exception):
    def __init__(self, code, message):
        super().__init__(f"{code}: {message}")
        self.code, self.message = code, message


class Gone(Exception):
    """The daemon went away before it answered: what was asked may or may not have happened."""


def new_directory(prefix):
    """A new directory for a daemon: its sockets' paths fit into their addresses (108 bytes), however long TMPDIR is."""
    temporary = tempfile.gettempdir()
    return tempfile.mkdtemp(prefix=prefix, dir=temporary if len(temporary) < 40 else "/tmp")


def until(what, seconds=120):
    end, pause = time.monotonic() + seconds, 0.005
    while not (got := what()):
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(pause)
        pause = min(pause * 1.3, 0.1)
    return got


class Stord:
    def __init__(self, root):
        self.root, self.process = root, None
        self.state = os.path.join(root, "state", "stord")
        with open(os.path.join(root, "gureum.conf"), "w") as f:
            f.write(f"[Paths]\nStateDirectory={root}/state\nRuntimeDirectory={root}/run\nGroup=\n[Storage]\nMaxImportGiB=4\n")

    def start(self):
        with open(os.path.join(self.root, "log"), "ab") as log:
            self.process = subprocess.Popen([STORD, "-c", os.path.join(self.root, "gureum.conf")], stderr=log,
                                            env={**os.environ, "GUREUM_STEPS": os.path.join(self.root, "steps")})
        until(self.answers)
        return self

    def answers(self):
        assert self.process.poll() is None, self.log()
        try:
            return self("gureum.Describe")
        except Gone:
            return None

    def log(self):
        with open(os.path.join(self.root, "log")) as f:
            return f.read()

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self):
        self.process.terminate()
        return self.process.wait()

    def __call__(self, method, fds=(), context=None, with_fds=False, sent=lambda: None, **parameters):
        """`sent` is called when the request is on its way."""
        message = json.dumps({"method": method, "parameters": parameters, "context": {**CONTEXT, **(context or {})}}).encode() + b"\0"
        out, got = b"", []
        try:
            with socket.socket(socket.AF_UNIX) as s:
                s.connect(os.path.join(self.root, "run", "stord.sock"))
                s.sendmsg([message], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else [])
                sent()
                while not out.endswith(b"\0"):
                    data, ancillary, _, _ = s.recvmsg(65536, 1024)
                    if not data:
                        raise Gone()
                    for _, _, numbers in ancillary:
                        got += array.array("i", numbers)
                    out += data
        except OSError as e:
            raise Gone() from e
        reply = json.loads(out[:-1])
        if "error" in reply:
            raise Fault(reply["error"], reply["parameters"]["message"])
        return (reply["parameters"], got) if with_fds else reply["parameters"]

    def refused(self, code, method, **parameters):
        with pytest.raises(Fault) as caught:
            self(method, **parameters)
        assert caught.value.code == code, caught.value

    # ---- the longer words ----

    def volume(self, volume_id):
        return self("ec2.DescribeVolumes", VolumeIds=[volume_id])["Volumes"][0]

    def create(self, **parameters):
        return self("ec2.CreateVolume", **{"AvailabilityZone": "us-east-1a", **parameters})["VolumeId"]

    def available(self, volume_id):
        return until(lambda: self.volume(volume_id)["State"] == "available")

    def import_file(self, path, image_format="qcow2"):
        fd = os.open(path, os.O_RDONLY)
        try:
            return self("ec2.ImportSnapshot", fds=[fd], DiskContainer={"Format": image_format})["ImportTaskId"]
        finally:
            os.close(fd)

    def task(self, task_id):
        tasks = self("ec2.DescribeImportSnapshotTasks", ImportTaskIds=[task_id])["ImportSnapshotTasks"]
        return tasks[0]["SnapshotTaskDetail"]

    def ended(self, task_id):
        return until(lambda: (t := self.task(task_id))["Status"] != "active" and t)

    def snapshot(self, path, image_format="qcow2"):
        detail = self.ended(self.import_file(path, image_format))
        assert detail["Status"] == "completed", detail
        return detail["SnapshotId"]

    def files(self):
        """All files but the state, by their names under the daemon's directory."""
        found = set()
        for directory, _, names in os.walk(self.state):
            found |= {os.path.relpath(os.path.join(directory, n), self.state) for n in names}
        return {n for n in found if not n.startswith("state.db")}


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """A failure comes with what stord said during the test."""
    report = (yield).get_result()
    stord = getattr(item, "funcargs", {}).get("stord")
    if stord and report.failed:
        report.sections.append(("stord said", stord.log()[-LOG_SHOWN:]))


@pytest.fixture
def stord():
    root = new_directory("gureum-stord-")
    daemon = Stord(root)
    daemon.start()
    yield daemon
    if daemon.process.poll() is None:
        assert daemon.stop() == 0
    shutil.rmtree(root)


@pytest.fixture(scope="session")
def images():
    """Small images of good will: a disk with a pattern, and something like a kernel."""
    root = tempfile.mkdtemp(prefix="gureum-images-")
    disk, kernel = os.path.join(root, "disk.qcow2"), os.path.join(root, "kernel")
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", disk, "1500M"], check=True)
    subprocess.run(["qemu-io", "-c", "write -P 0x41 1M 2M", disk], check=True, stdout=subprocess.DEVNULL)
    with open(kernel, "wb") as f:
        f.write(bytes(range(256)) * 5000 + b"end")
    yield {"disk": disk, "kernel": kernel, "root": root}
    shutil.rmtree(root)
