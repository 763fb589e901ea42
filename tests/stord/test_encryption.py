"""Encrypted volumes: nothing of them can be read without stord's keys, and no key without its volume."""
import base64
import hashlib
import json
import os
import subprocess
import tempfile
import threading

import pytest

from conftest import Fault, until
from guests import Guests
from test_modify import completed, modification  # noqa: F401

INSTANCE = "i-0123456789abcdef0"
BLOCK = 512 * 1024


def nbd(guests, volume, *commands):
    """What a guest reads and writes."""
    arguments = [a for c in commands for a in ("-c", c)]
    r = subprocess.run(["qemu-io", "-f", "raw", *arguments, guests.instances[INSTANCE].url(volume)], capture_output=True, text=True)
    assert "failed" not in r.stdout + r.stderr and r.returncode == 0, r.stdout + r.stderr


def taken(stord, volume):
    """A snapshot, as soon as the rate allows it."""
    while True:
        try:
            return stord("ec2.CreateSnapshot", VolumeId=volume)["SnapshotId"]
        except Fault as e:
            assert e.code == "SnapshotCreationPerVolumeRateExceeded"
            threading.Event().wait(0.05)


def qemu_io(path, key, command, *, should_fail=False):
    with open(path + ".passphrase", "w") as f:
        f.write(key)
    r = subprocess.run(["qemu-io", "--object", f"secret,id=k,file={f.name}", "-c", command, "--image-opts",
                        f"driver=qcow2,encrypt.key-secret=k,file.filename={path}"], capture_output=True, text=True)
    os.unlink(f.name)
    assert ("failed" in r.stdout + r.stderr or r.returncode != 0) == should_fail, r.stdout + r.stderr


def attach(stord, volume):
    return stord("ec2.AttachVolume", VolumeId=volume, InstanceId="i-0123456789abcdef0", Device="/dev/sdf")


def test_an_encrypted_volume_is_opened_by_its_key_alone(stord):
    made = stord("ec2.CreateVolume", AvailabilityZone="us-east-1a", Size=1, Encrypted=True)
    volume, other = made["VolumeId"], stord.create(Size=1, Encrypted=True)
    assert made["Encrypted"] is True and made["KmsKeyId"] == "arn:aws:kms:us-east-1:123456789012:alias/aws/ebs"
    stord.available(volume)
    stord.available(other)
    reply = attach(stord, volume)
    stord("ec2.DetachVolume", VolumeId=volume)
    key, wrong = reply["_Passphrase"], attach(stord, other)["_Passphrase"]
    assert key != wrong and len(base64.b64decode(key)) == 32
    qemu_io(reply["_Path"], key, "write -P 0x5a 0 1M")
    qemu_io(reply["_Path"], key, "read -P 0x5a 0 1M")
    qemu_io(reply["_Path"], wrong, "read 0 4k", should_fail=True)
    with open(reply["_Path"], "rb") as f:
        assert b"\x5a" * 512 not in f.read()
    for name in ("master", f"{volume}.key"):
        path = os.path.join(stord.state, "keys", name)
        assert os.stat(path).st_mode & 0o777 == 0o600
        with open(path, "rb") as f:
            assert base64.b64decode(key) not in f.read()
    assert os.stat(os.path.join(stord.state, "keys")).st_mode & 0o777 == 0o700
    stord.kill()
    stord.start()
    assert attach(stord, volume)["_Passphrase"] == key
    stord("ec2.DetachVolume", VolumeId=volume)
    stord("ec2.DeleteVolume", VolumeId=volume)
    assert stord("gureum.Fsck")["Findings"] == []
    assert stord.files() == {"keys/master", f"keys/{other}.key", f"zones/us-east-1a/volumes/{other}.qcow2"}


def test_an_encrypted_volume_grows(stord):
    volume = stord.create(Size=1, Encrypted=True)
    stord.available(volume)
    reply = attach(stord, volume)
    stord("ec2.DetachVolume", VolumeId=volume)
    qemu_io(reply["_Path"], reply["_Passphrase"], "write -P 0x5a 0 1M")
    stord("ec2.ModifyVolume", VolumeId=volume, Size=3, VolumeType="gp3")
    completed(stord, volume)
    qemu_io(reply["_Path"], reply["_Passphrase"], "read -P 0x5a 0 1M")
    qemu_io(reply["_Path"], reply["_Passphrase"], "write -P 0x5b 2G 1M")


def test_a_lost_or_strange_key_opens_nothing_and_is_never_made_anew(stord):
    volume = stord.create(Size=1, Encrypted=True)
    stord.available(volume)
    path = os.path.join(stord.state, "keys", f"{volume}.key")
    with open(path, "r+b") as f:
        f.seek(20)
        byte = f.read(1)
        f.seek(20)
        f.write(bytes([byte[0] ^ 1]))
    stord.refused("IncorrectState", "ec2.AttachVolume", VolumeId=volume, InstanceId="i-0123456789abcdef0", Device="/dev/sdf")
    assert [f["Text"] for f in stord("gureum.Fsck")["Findings"]] == ["its key is lost"]
    os.unlink(path)
    stord.refused("IncorrectState", "ec2.AttachVolume", VolumeId=volume, InstanceId="i-0123456789abcdef0", Device="/dev/sdf")
    assert not os.path.exists(path)


def test_killed_while_it_is_made_it_is_made_all_the_same(stord):
    made = [stord.create(Size=1, Encrypted=True) for _ in range(3)]
    stord.kill()
    stord.start()
    for volume in made:
        stord.available(volume)
        reply = attach(stord, volume)
        qemu_io(reply["_Path"], reply["_Passphrase"], "read -P 0 0 1M")
    assert not [f for f in stord.files() if f.startswith("tmp/") or f.endswith(".new")]


def test_the_default_key_is_the_accounts(stord):
    assert stord("ec2.GetEbsDefaultKmsKeyId")["KmsKeyId"] == "alias/aws/ebs"
    arn = "arn:aws:kms:us-east-1:123456789012:key/mine"
    assert stord("ec2.ModifyEbsDefaultKmsKeyId", KmsKeyId="mine")["KmsKeyId"] == arn
    assert stord.volume(stord.create(Size=1, Encrypted=True))["KmsKeyId"] == arn
    assert stord("ec2.ResetEbsDefaultKmsKeyId")["KmsKeyId"] == "alias/aws/ebs"
    assert stord("ec2.GetEbsEncryptionByDefault")["EbsEncryptionByDefault"] is False


@pytest.mark.parametrize("key", ["arn:aws:kms:eu-west-1:123456789012:key/x", "arn:aws:s3:::x", "a b", "../x\n"])
def test_what_is_no_key_is_refused(stord, key):
    stord.refused("InvalidParameterValue", "ec2.CreateVolume", AvailabilityZone="us-east-1a", Size=1, Encrypted=True, KmsKeyId=key)


def image_of(path, chain, key):
    """qemu-io's and qemu-storage-daemon's name of an encrypted chain."""
    image = None
    for file in reversed([path] + [layer["Path"] for layer in chain]):
        image = {"driver": "qcow2", "encrypt": {"format": "luks", "key-secret": key}, "backing": image,
                 "file": {"driver": "file", "filename": file}}
    return image


def io(reply, command):
    """With a chain: as libvirt opens it."""
    with tempfile.NamedTemporaryFile("w") as f:
        f.write(reply["_Passphrase"])
        f.flush()
        r = subprocess.run(["qemu-io", "--object", f"secret,id=k,file={f.name}", "-c", command,
                            "json:" + json.dumps(image_of(reply["_Path"], reply["_Chain"], "k"))], capture_output=True, text=True)
    assert "failed" not in r.stdout + r.stderr and r.returncode == 0, r.stdout + r.stderr


def opened(stord, volume):
    reply = attach(stord, volume)
    stord("ec2.DetachVolume", VolumeId=volume)
    return reply


def completed_snapshot(stord, volume, **more):
    snapshot = stord("ec2.CreateSnapshot", VolumeId=volume, **more)["SnapshotId"]
    return until(lambda: (s := stord("ec2.DescribeSnapshots", SnapshotIds=[snapshot])["Snapshots"][0])["State"] == "completed" and s)


def test_snapshots_and_volumes_of_an_encrypted_volume_have_its_key(stord):
    stord("ec2.ModifyEbsDefaultKmsKeyId", KmsKeyId="mine")
    volume = stord.create(Size=1, Encrypted=True)
    stord.available(volume)
    io(opened(stord, volume), "write -P 0x5a 0 1M")
    snapshot = completed_snapshot(stord, volume)
    row = stord.volume(volume)
    assert snapshot["Encrypted"] is True and snapshot["KmsKeyId"] == row["KmsKeyId"] and snapshot["DataEncryptionKeyId"].startswith("dek-")
    io(opened(stord, volume), "write -P 0x5b 512k 1M")
    stord("ec2.ResetEbsDefaultKmsKeyId")
    made = stord("ec2.CreateVolume", AvailabilityZone="us-east-1a", SnapshotId=snapshot["SnapshotId"], Size=2)
    assert made["Encrypted"] is True and made["KmsKeyId"] == row["KmsKeyId"]
    stord.available(made["VolumeId"])
    reply = opened(stord, made["VolumeId"])
    assert reply["_Passphrase"] == opened(stord, volume)["_Passphrase"] and len(reply["_Chain"]) == 1
    io(reply, "read -P 0x5a 0 1M")
    io(reply, "write -P 0x5c 1500M 1M")
    io(opened(stord, volume), "read -P 0x5a 0 512k")
    io(opened(stord, volume), "read -P 0x5b 512k 1M")
    second = completed_snapshot(stord, made["VolumeId"])
    assert second["DataEncryptionKeyId"] == snapshot["DataEncryptionKeyId"]
    stord("ec2.ModifyVolume", VolumeId=made["VolumeId"], Size=3)
    completed(stord, made["VolumeId"])
    for path in stord.files():
        with open(os.path.join(stord.state, path), "rb") as f:
            assert not any(bytes([b]) * 512 in f.read() for b in (0x5a, 0x5b, 0x5c)), path
    assert stord("gureum.Fsck")["Findings"] == []
    # The key outlives the volume whose it was, and goes with the last layer.
    stord("ec2.DeleteVolume", VolumeId=volume)
    stord("ec2.DeleteSnapshot", SnapshotId=snapshot["SnapshotId"])
    stord.kill()
    stord.start()
    io(opened(stord, made["VolumeId"]), "read -P 0x5a 0 1M")
    io(opened(stord, made["VolumeId"]), "read -P 0x5c 1500M 1M")
    assert stord("gureum.Fsck")["Findings"] == []
    stord("ec2.DeleteVolume", VolumeId=made["VolumeId"])
    stord("ec2.DeleteSnapshot", SnapshotId=second["SnapshotId"])
    assert stord.files() == {"keys/master"}


def test_who_may_have_an_encrypted_snapshot(stord):
    volume = stord.create(Size=1, Encrypted=True)
    stord.available(volume)
    snapshot = completed_snapshot(stord, volume)["SnapshotId"]
    share = {"Add": [{"UserId": "210987654321"}]}
    stord.refused("OperationNotPermitted", "ec2.ModifySnapshotAttribute", SnapshotId=snapshot, CreateVolumePermission=share)
    volume = stord.create(Size=1, Encrypted=True, KmsKeyId="mine")
    stord.available(volume)
    snapshot = completed_snapshot(stord, volume)["SnapshotId"]
    stord("ec2.ModifySnapshotAttribute", SnapshotId=snapshot, CreateVolumePermission=share)
    stord.refused("OperationNotPermitted", "ec2.ModifySnapshotAttribute", SnapshotId=snapshot, CreateVolumePermission={"Add": [{"Group": "all"}]})


def test_what_cannot_be_encrypted_yet_is_refused(stord, images):
    snapshot = stord.snapshot(images["disk"])
    stord.refused("UnsupportedOperation", "ec2.CreateVolume", AvailabilityZone="us-east-1a", SnapshotId=snapshot, Encrypted=True)
    stord.refused("UnsupportedOperation", "ec2.EnableEbsEncryptionByDefault")
    volume = stord.create(Size=1, Encrypted=True)
    stord.available(volume)
    encrypted = completed_snapshot(stord, volume)["SnapshotId"]
    for code, more in (("InvalidParameterValue", {"Encrypted": False}), ("UnsupportedOperation", {"Encrypted": True, "KmsKeyId": "other"})):
        stord.refused(code, "ec2.CreateVolume", AvailabilityZone="us-east-1a", SnapshotId=encrypted, **more)
    stord.refused("UnsupportedOperation", "ec2.CopySnapshot", SourceRegion="us-east-1", SourceSnapshotId=encrypted)
    assert stord("gureum.Fsck")["Findings"] == []


# ---- merging ----

@pytest.fixture
def guests(stord):
    made = Guests(stord)
    yield made
    made.close()


def layers_of(stord, volume):
    """How many a volume's chain has, once merging has come to rest."""
    until(lambda: stord("gureum.Fsck")["Idle"])
    reply = attach(stord, volume)
    return 1 + len(reply["_Chain"])


@pytest.mark.parametrize("is_running", [True, False])
def test_an_encrypted_chain_stays_short(stord, guests, is_running):
    volume = stord.create(Size=1, Encrypted=True)
    stord.available(volume)
    guests.start(INSTANCE)
    snapshots = []
    for n in range(40):
        if n == 0 or not is_running:
            if not is_running and INSTANCE not in guests.instances:
                guests.start(INSTANCE)
            guests.plug(INSTANCE, volume)
        nbd(guests, volume, f"write -P {n + 1} {n}M 1M", "flush")
        if not is_running:
            guests.end(INSTANCE)
        snapshots.append(taken(stord, volume))
    if not is_running:
        guests.start(INSTANCE)
        guests.plug(INSTANCE, volume)
    assert layers_of(stord, volume) <= 17
    nbd(guests, volume, *[f"read -P {n + 1} {n}M 1M" for n in range(40)])
    for s in snapshots[::2]:
        stord("ec2.DeleteSnapshot", SnapshotId=s)
    until(lambda: stord("gureum.Fsck")["Idle"])
    for n in (1, 9, 21, 39):
        blocks = Blocks(stord, snapshots[n])
        assert blocks.read(n * 2) == bytes([n + 1]) * BLOCK and blocks.read(2) == b"\x02" * BLOCK and (n + 1) * 2 not in blocks.tokens
    nbd(guests, volume, *[f"read -P {n + 1} {n}M 1M" for n in range(40)])
    guests.end(INSTANCE)
    assert stord("gureum.Fsck")["Findings"] == []
    for s in snapshots[1::2]:
        stord("ec2.DeleteSnapshot", SnapshotId=s)
    stord("ec2.DetachVolume", VolumeId=volume, _Force=True)
    until(lambda: stord("gureum.Fsck")["Idle"])
    assert len(opened(stord, volume)["_Chain"]) == 0
    reads = [f"read -P {n + 1} {n}M 1M" for n in range(40)]
    for r in reads:
        io(opened(stord, volume), r)
    stord("ec2.DeleteVolume", VolumeId=volume)
    assert stord.files() == {"keys/master"}


class Blocks:
    """A snapshot as EBS direct shows it."""

    def __init__(self, stord, snapshot):
        self.stord, self.snapshot, self.tokens = stord, snapshot, {}
        page = {}
        while page is not None:
            reply = stord("ebs.ListSnapshotBlocks", SnapshotId=snapshot, **page)
            self.tokens |= {b["BlockIndex"]: b["BlockToken"] for b in reply["Blocks"]}
            page = {"NextToken": reply["NextToken"]} if "NextToken" in reply else None

    def read(self, index):
        if index not in self.tokens:
            return bytes(BLOCK)
        reply, fds = self.stord("ebs.GetSnapshotBlock", with_fds=True, SnapshotId=self.snapshot, BlockIndex=index,
                                BlockToken=self.tokens[index])
        data = os.pread(fds[0], BLOCK, 0)
        os.close(fds[0])
        assert base64.b64encode(hashlib.sha256(data).digest()).decode() == reply["Checksum"]
        return data


def test_killed_while_it_merges_an_encrypted_chain_is_whole(stord, guests):
    volume = stord.create(Size=1, Encrypted=True)
    stord.available(volume)
    for n in range(8):
        snapshots = []
        for k in range(3):
            guests.start(INSTANCE)
            guests.plug(INSTANCE, volume)
            nbd(guests, volume, f"write -P {n * 3 + k + 1} {n * 3 + k}M 1M", "flush")
            guests.end(INSTANCE, "kill")
            snapshots.append(taken(stord, volume))
        for s in snapshots:
            stord("ec2.DeleteSnapshot", SnapshotId=s)
        threading.Event().wait(n * 0.07)  # the moment is what is tested
        stord.kill()
        stord.start()
    until(lambda: stord("gureum.Fsck")["Idle"])
    guests.start(INSTANCE)
    guests.plug(INSTANCE, volume)
    nbd(guests, volume, *[f"read -P {n + 1} {n}M 1M" for n in range(24)])
    guests.end(INSTANCE)
    stord("gureum.Fsck", Repair=True)
    assert stord("gureum.Fsck")["Findings"] == []
