"""The codec behind a pipe: see codec-driver.c."""
import json
import os
import subprocess

import pytest

os.environ.pop("AWS_PROFILE", None)  # a caller's own, which botocore would look for

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")


class Driver:
    def __init__(self, path):
        self.process = subprocess.Popen([path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8")

    def __call__(self, **command):
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self):
        self.process.stdin.close()
        assert self.process.wait() == 0


@pytest.fixture(scope="session")
def driver():
    d = Driver(os.environ.get("CODEC_DRIVER", os.path.join(ROOT, "build", "tests", "codec", "codec-driver")))
    yield d
    d.close()
