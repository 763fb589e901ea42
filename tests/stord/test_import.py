"""Disks of other hypervisors are imported; what is not what it says, or wants other files, is told and leaves nothing."""
import os
import struct
import subprocess

import pytest

from conftest import Fault, until

SECRET = b"root:$y$secret:20000:0:99999:7:::\n"
GOOD = [("VMDK", "vmdk", []), ("vmdk", "vmdk", ["subformat=streamOptimized"]), ("VHD", "vpc", []), ("vhd", "vpc", ["subformat=fixed"]),
        ("VHDX", "vhdx", []), ("vhdx", "vhdx", ["subformat=fixed"])]


def convert(images, driver, options, name):
    path = os.path.join(images["root"], name)
    words = [x for o in options for x in ("-o", o)]
    subprocess.run(["qemu-img", "convert", "-O", driver, *words, images["small"], path], check=True)
    return path


@pytest.fixture(scope="module")
def small(images):
    images["small"] = os.path.join(images["root"], "small.qcow2")
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", images["small"], "40M"], check=True)
    subprocess.run(["qemu-io", "-c", "write -P 0x41 1M 2M", "-c", "write -P 0x42 39M 512k", images["small"]], check=True, stdout=subprocess.DEVNULL)
    return images


@pytest.mark.parametrize("word, driver, options", GOOD)
def test_other_hypervisors_disks_become_snapshots(stord, small, word, driver, options):
    path = convert(small, driver, options, f"disk-{driver}-{'-'.join(options)}")
    task = stord.import_file(path, word)
    detail = stord.ended(task)
    assert detail["Status"] == "completed" and detail["Format"] == word.upper(), detail
    made = os.path.join(stord.state, "snapshots", detail["SnapshotId"] + ".qcow2")
    compared = subprocess.run(["qemu-img", "compare", made, small["small"]], capture_output=True, text=True)
    assert compared.returncode == 0, compared.stdout + compared.stderr  # sizes may differ by a VHD's geometry
    assert subprocess.run(["qemu-img", "check", "-q", made]).returncode == 0
    assert stord.files() == {f"snapshots/{detail['SnapshotId']}.qcow2"}


def vmdk(capacity=81920, grain=128, descriptor=b"# Disk DescriptorFile\nparentCID=ffffffff\n", tables=512, version=1, at=1, length=20):
    head = b"KDMV" + struct.pack("<IIQQQQIQQQ", version, 3, capacity, grain, at, length, tables, 21, 26, 128)
    return head.ljust(512, b"\0") + descriptor.ljust(length * 512, b"\0") + bytes(512 * 200)


def vhd(size=40 << 20, kind=3, table=1536, entries=20, block=2 << 20, at=512, cookie=b"cxsparse"):
    footer = b"conectix" + struct.pack(">IIQIIIIQQIII", 2, 0x10000, at, 0, 0, 0, 0, size, size, 0, kind, 0)
    dynamic = cookie + struct.pack(">QQIII", 0xFFFFFFFFFFFFFFFF, table, 0x10000, entries, block)
    return footer.ljust(512, b"\0") + dynamic.ljust(1024, b"\0") + b"\xff" * 512 + footer.ljust(512, b"\0")


AT_ONCE = {
    "a VMDK descriptor with an absolute extent": ("vmdk", b"# Disk DescriptorFile\nversion=1\ncreateType=\"monolithicFlat\"\nRW 1 FLAT \"/etc/shadow\" 0\n"),
    "a VMDK descriptor with a relative extent": ("vmdk", b"# Disk DescriptorFile\nRW 81920 SPARSE \"../../state.db\"\n"),
    "a VMDK that is its descriptor": ("vmdk", vmdk(capacity=0, descriptor=b"# Disk DescriptorFile\nRW 1 FLAT \"/etc/shadow\" 0\n")),
    "a VMDK with a parent": ("vmdk", vmdk(descriptor=b"# Disk DescriptorFile\nparentCID=12345678\nparentFileNameHint=\"/etc/shadow\"\n")),
    "a VMDK with a hidden parent": ("vmdk", vmdk(descriptor=b"PARENTFILENAMEHINT = \"/etc/shadow\"\n")),
    "a VMDK of 2^60 bytes": ("vmdk", vmdk(capacity=1 << 51)),
    "a VMDK of 2^64 sectors": ("vmdk", vmdk(capacity=(1 << 64) - 1)),
    "a VMDK of giant grains": ("vmdk", vmdk(grain=1 << 40)),
    "a VMDK whose descriptor is elsewhere": ("vmdk", vmdk(at=1 << 50)),
    "a VMDK whose descriptor is endless": ("vmdk", vmdk(at=1 << 63, length=2)),
    "an old VMDK": ("vmdk", b"COWD" + bytes(4096)),
    "a VMDK that is none": ("vmdk", b"hello" * 200),
    "a VHD with a parent": ("vhd", vhd(kind=4)),
    "a VHD of no kind": ("vhd", vhd(kind=77)),
    "a VHD of 2^60 bytes": ("vhd", vhd(size=1 << 60)),
    "a VHD with absurd blocks": ("vhd", vhd(block=3)),
    "a VHD with 2^32 blocks": ("vhd", vhd(entries=0xFFFFFFFF)),
    "a VHD whose table is too short": ("vhd", vhd(entries=1)),
    "a VHD whose table is elsewhere": ("vhd", vhd(table=1 << 62)),
    "a VHD whose header is elsewhere": ("vhd", vhd(at=1 << 63)),
    "a VHD without a header": ("vhd", vhd(cookie=b"nonsense")),
    "a fixed VHD that is cut off": ("vhd", vhd(kind=2)),
    "a VHD that is none": ("vhd", b"hello" * 200),
    "a VHDX that is none": ("vhdx", b"hello" * 200),
    "a raw file that is a VMDK": ("raw", vmdk()),
    "a raw file that is a VHDX": ("raw", b"vhdxfile" + bytes(4096)),
    "a qcow2 that is a VMDK": ("qcow2", vmdk()),
}


@pytest.mark.parametrize("what", AT_ONCE)
def test_what_the_header_tells_is_told_at_once(stord, tmp_path, what):
    word, data = AT_ONCE[what]
    path = tmp_path / "image"
    path.write_bytes(data)
    with pytest.raises(Fault) as caught:
        stord.import_file(str(path), word)
    assert caught.value.code == "InvalidParameterValue" and "Disk validation failed: " in caught.value.message
    assert len(caught.value.message) > 35, caught.value.message
    assert stord.files() == set() and stord("ec2.DescribeImportSnapshotTasks")["ImportSnapshotTasks"] == []


LATER = {
    "a VMDK whose tables point outside": ("vmdk", vmdk()[:10752] + b"\xf0" * 8192),
    "a VHDX of nothing but its name": ("vhdx", b"vhdxfile" + bytes(1 << 20)),
    "a VHDX of garbage": ("vhdx", b"vhdxfile" + os.urandom(1 << 20)),
    "a VHD whose blocks are outside": ("vhd", vhd()[:1536] + struct.pack(">20I", *([0x7FFFFFF0] * 20)).ljust(512, b"\0") + vhd()[:512]),
}


@pytest.mark.parametrize("what", LATER)
def test_what_the_contents_tell_ends_the_task(stord, tmp_path, what):
    word, data = LATER[what]
    path = tmp_path / "image"
    path.write_bytes(data)
    detail = stord.ended(stord.import_file(str(path), word))
    assert detail["Status"] == "error" and detail["StatusMessage"].startswith("ClientError: Disk validation failed ["), detail
    assert stord.files() == set()


def is_canceled(stord, task):
    """False: it was done before we came to it."""
    try:
        answer = stord("ec2.CancelImportTask", ImportTaskId=task, CancelReason="changed my mind")
    except Fault as e:
        assert e.code == "IncorrectState" and stord.task(task)["Status"] == "completed", e
        return False
    assert answer == {"ImportTaskId": task, "PreviousState": "active", "State": "deleted"}
    return True


def test_a_canceled_import_leaves_nothing(stord, small):
    """One that waits for its turn, and one that is under way: they are done one after the other."""
    big = os.path.join(small["root"], "big.raw")
    with open(big, "wb") as f:
        f.truncate(1 << 30)
        f.seek(0)
        f.write(os.urandom(64 << 20))
    tasks = [stord.import_file(big, "raw") for _ in range(8)]
    kept = tasks.pop()
    waiting = tasks.pop()
    canceled = [t for t in [waiting, *tasks] if is_canceled(stord, t)]
    assert canceled, "none was caught"
    done = [stord.ended(t) for t in {kept, waiting, *tasks} - set(canceled)]
    assert done and {d["Status"] for d in done} == {"completed"}
    for t in canceled:
        assert stord.task(t)["Status"] == "deleted" and stord.task(t)["StatusMessage"] == "changed my mind"
    until(lambda: stord.files() == {f"snapshots/{d['SnapshotId']}.raw" for d in done})
    stord.refused("IncorrectState", "ec2.CancelImportTask", ImportTaskId=kept)
    stord.refused("InvalidConversionTaskId", "ec2.CancelImportTask", ImportTaskId="import-snap-0123456789abcdef0")
    stord.refused("InvalidConversionTaskId.Malformed", "ec2.CancelImportTask", ImportTaskId="import-snap")


def test_progress_is_shown_on_the_way(stord, small):
    path, seen = convert(small, "vmdk", [], "progress.vmdk"), set()
    for _ in range(10):  # one may be done before we look
        task = stord.import_file(path, "vmdk")
        until(lambda: seen.add((t := stord.task(task)).get("StatusMessage")) or t["Status"] != "active")
        assert stord.task(task)["Status"] == "completed"
        if seen & {"copying", "validating", "validated", "converting", "updating"}:
            return
    pytest.fail(f"no progress was seen, but {seen}")


@pytest.mark.parametrize("container, code", [
    ({"Format": "OVA", "Url": "file:///x"}, "InvalidParameterValue"),
    ({"Format": "raw", "Url": "s3://bucket/key"}, "UnsupportedOperation"),
    ({"Format": "raw", "UserBucket": {"S3Bucket": "b", "S3Key": "k"}}, "UnsupportedOperation"),
])
def test_what_is_not_there_yet_is_said(stord, container, code):
    stord.refused(code, "ec2.ImportSnapshot", DiskContainer=container)
