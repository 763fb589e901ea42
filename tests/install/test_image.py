"""The default image: the same inputs give the same bytes, and are not built twice."""
import hashlib
import os
import subprocess

import pytest

TOP = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))
PARTS = ["disk.qcow2", "vmlinuz", "initrd", "cmdline"]


def build(directory, *options):
    r = subprocess.run([os.path.join(TOP, "scripts", "build-image"), "--agent", os.path.join(TOP, "build", "agent", "gureum-agent"),
                        "--cache", os.path.join(TOP, "build", "image", "cache"), *options, str(directory)],
                       capture_output=True, text=True)
    assert r.returncode == 0, r.stderr
    return r.stdout


def digest(path):
    with open(path, "rb") as f:
        return hashlib.sha256(f.read()).hexdigest()


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    directory = tmp_path_factory.mktemp("image")
    build(directory)
    return directory


def test_two_builds_are_the_same_bytes(image, tmp_path):
    # Another name, another umask, another clock: what differs between two machines.
    before = os.umask(0o077)
    try:
        build(tmp_path / "elsewhere" / "deep")
    finally:
        os.umask(before)
    for part in PARTS:
        assert digest(image / part) == digest(tmp_path / "elsewhere" / "deep" / part), part


def test_the_same_inputs_are_not_built_again(image):
    times = [os.stat(image / p).st_mtime_ns for p in PARTS]
    assert "up to date" in build(image)
    assert [os.stat(image / p).st_mtime_ns for p in PARTS] == times


def test_a_damaged_directory_is_built_again(image):
    os.unlink(image / "initrd")
    assert "built" in build(image)
    assert os.path.exists(image / "initrd")


def test_its_file_system_is_clean(image, tmp_path):
    raw = str(tmp_path / "disk.raw")
    subprocess.run(["qemu-img", "convert", "-O", "raw", str(image / "disk.qcow2"), raw], check=True)
    r = subprocess.run(["e2fsck", "-fn", raw], capture_output=True, text=True)
    assert r.returncode == 0, r.stdout + r.stderr


def test_nothing_is_left_beside_it(image):
    assert {f for f in os.listdir(image) if f.startswith("work.")} == set()
