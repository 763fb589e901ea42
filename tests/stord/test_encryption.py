"""Encrypted volumes: nothing of them can be read without stord's keys, and no key without its volume."""
import base64
import contextlib
import hashlib
import json
import os
import subprocess
import tempfile
import threading

import pytest

from conftest import Fault, Gone, until
from guests import Dead, Guests
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


@contextlib.contextmanager
def opened(stord, volume):
    """What AttachVolume answers, and meanwhile nobody else works on its files."""
    yield attach(stord, volume)
    stord("ec2.DetachVolume", VolumeId=volume)


def io_of(stord, volume, command):
    with opened(stord, volume) as reply:
        io(reply, command)


def completed_snapshot(stord, volume, **more):
    snapshot = stord("ec2.CreateSnapshot", VolumeId=volume, **more)["SnapshotId"]
    return until(lambda: (s := stord("ec2.DescribeSnapshots", SnapshotIds=[snapshot])["Snapshots"][0])["State"] == "completed" and s)


def test_snapshots_and_volumes_of_an_encrypted_volume_have_its_key(stord):
    stord("ec2.ModifyEbsDefaultKmsKeyId", KmsKeyId="mine")
    volume = stord.create(Size=1, Encrypted=True)
    stord.available(volume)
    io_of(stord, volume, "write -P 0x5a 0 1M")
    snapshot = completed_snapshot(stord, volume)
    row = stord.volume(volume)
    assert snapshot["Encrypted"] is True and snapshot["KmsKeyId"] == row["KmsKeyId"] and snapshot["DataEncryptionKeyId"].startswith("dek-")
    io_of(stord, volume, "write -P 0x5b 512k 1M")
    stord("ec2.ResetEbsDefaultKmsKeyId")
    made = stord("ec2.CreateVolume", AvailabilityZone="us-east-1a", SnapshotId=snapshot["SnapshotId"], Size=2)
    assert made["Encrypted"] is True and made["KmsKeyId"] == row["KmsKeyId"]
    stord.available(made["VolumeId"])
    with opened(stord, made["VolumeId"]) as reply, opened(stord, volume) as its_origin:
        assert reply["_Passphrase"] == its_origin["_Passphrase"] and len(reply["_Chain"]) == 1
        io(reply, "read -P 0x5a 0 1M")
        io(reply, "write -P 0x5c 1500M 1M")
    io_of(stord, volume, "read -P 0x5a 0 512k")
    io_of(stord, volume, "read -P 0x5b 512k 1M")
    second = completed_snapshot(stord, made["VolumeId"])
    assert second["DataEncryptionKeyId"] == snapshot["DataEncryptionKeyId"]
    stord("ec2.ModifyVolume", VolumeId=made["VolumeId"], Size=3)
    completed(stord, made["VolumeId"])
    for path in stord.files():
        with open(os.path.join(stord.state, path), "rb") as f:
            data = f.read()
        assert not any(bytes([b]) * 512 in data for b in (0x5a, 0x5b, 0x5c)), path
    assert stord("gureum.Fsck")["Findings"] == []
    # The key outlives the volume whose it was, and goes with the last layer.
    stord("ec2.DeleteVolume", VolumeId=volume)
    stord("ec2.DeleteSnapshot", SnapshotId=snapshot["SnapshotId"])
    stord.kill()
    stord.start()
    io_of(stord, made["VolumeId"], "read -P 0x5a 0 1M")
    io_of(stord, made["VolumeId"], "read -P 0x5c 1500M 1M")
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


def content(stord, snapshot, index):
    return Blocks(stord, snapshot).read(index)


def copied(stord, **parameters):
    snapshot = stord("ec2.CopySnapshot", **{"SourceRegion": "us-east-1", **parameters})["SnapshotId"]
    context = parameters.get("context")
    return until(lambda: (s := stord("ec2.DescribeSnapshots", context=context, SnapshotIds=[snapshot])["Snapshots"][0])["State"] != "pending" and s)


def no_clear_text(stord, *names):
    for path in names or stord.files():
        with open(os.path.join(stord.state, path), "rb") as f:
            while data := f.read(1 << 24):
                assert not any(bytes([b]) * 512 in data for b in (0x41, 0x5a)), path


def test_a_volume_from_a_plain_snapshot_is_encrypted_if_it_is_asked_for(stord, images):
    snapshot = stord.snapshot(images["disk"])
    made = stord("ec2.CreateVolume", AvailabilityZone="us-east-1a", SnapshotId=snapshot, Encrypted=True, KmsKeyId="mine", Size=3)
    assert made["Encrypted"] is True and made["KmsKeyId"].endswith(":key/mine")
    volume = made["VolumeId"]
    # Its origin may go at once.
    stord("ec2.DeleteSnapshot", SnapshotId=snapshot)
    stord.available(volume)
    with opened(stord, volume) as reply:
        assert reply["_Chain"] == []
        io(reply, "read -P 0x41 1M 2M")
        io(reply, "read -P 0 3M 1M")
        io(reply, "write -P 0x5a 2900M 1M")
    assert stord.files() == {"keys/master", f"keys/{volume}.key", f"zones/us-east-1a/volumes/{volume}.qcow2"}
    no_clear_text(stord)
    # Another key than the snapshot's: data that is encrypted anew.
    second = completed_snapshot(stord, volume)["SnapshotId"]
    other = stord("ec2.CreateVolume", AvailabilityZone="us-east-1a", SnapshotId=second, Encrypted=True, KmsKeyId="other")
    stord.available(other["VolumeId"])
    with opened(stord, other["VolumeId"]) as its:
        assert its["_Passphrase"] != reply["_Passphrase"] and other["KmsKeyId"].endswith("/other")
        io(its, "read -P 0x5a 2900M 1M")
    for code, more in (("InvalidParameterValue", {"Encrypted": False}), ("InvalidParameterValue", {"Encrypted": True, "KmsKeyId": "a b"})):
        stord.refused(code, "ec2.CreateVolume", AvailabilityZone="us-east-1a", SnapshotId=second, **more)
    stord.refused("InvalidParameterDependency", "ec2.CreateVolume", AvailabilityZone="us-east-1a", Size=1, KmsKeyId="mine")
    stord.refused("UnsupportedOperation", "ec2.CreateVolume", AvailabilityZone="us-east-1a", Size=4, Encrypted=True, VolumeType="io2", Iops=100,
                  MultiAttachEnabled=True)
    assert stord("gureum.Fsck")["Findings"] == []


@pytest.mark.parametrize("number", range(4))
def test_killed_while_it_is_encrypted_a_volume_is_made_all_the_same(stord, images, number):
    snapshot = stord.snapshot(images["disk"])
    volume = stord.create(SnapshotId=snapshot, Encrypted=True)
    threading.Event().wait(number * 0.02)  # the moment is what is tested
    stord.kill()
    stord.start()
    stord.available(volume)
    io_of(stord, volume, "read -P 0x41 1M 2M")
    assert stord("gureum.Fsck")["Findings"] == [] and not [f for f in stord.files() if ".new" in f]
    stord("ec2.DeleteVolume", VolumeId=volume)
    stord("ec2.DeleteSnapshot", SnapshotId=snapshot)
    assert stord.files() == {"keys/master"}


def test_copies_are_encrypted_and_copies_of_encrypted_ones_are(stord, images):
    plain = stord.snapshot(images["disk"])
    far = {"context": {"region": "ap-northeast-2"}}
    copy = copied(stord, SourceSnapshotId=plain, Encrypted=True, KmsKeyId="mine")
    assert copy["State"] == "completed" and copy["Encrypted"] is True and copy["KmsKeyId"].endswith(":key/mine")
    again = copied(stord, SourceSnapshotId=copy["SnapshotId"])
    away = copied(stord, SourceSnapshotId=copy["SnapshotId"], **far)
    assert again["KmsKeyId"] == copy["KmsKeyId"] and away["KmsKeyId"] == "arn:aws:kms:ap-northeast-2:123456789012:alias/aws/ebs"
    assert len({s["DataEncryptionKeyId"] for s in (copy, again, away)}) == 3
    no_clear_text(stord, *[s["_Layer"] for s in (copy, again, away)])
    stord("ec2.DeleteSnapshot", SnapshotId=copy["SnapshotId"])
    stord("ec2.DeleteSnapshot", SnapshotId=plain)
    assert content(stord, again["SnapshotId"], 2) == b"\x41" * BLOCK and content(stord, again["SnapshotId"], 6) == bytes(BLOCK)
    volume = stord("ec2.CreateVolume", AvailabilityZone="ap-northeast-2a", SnapshotId=away["SnapshotId"], **far)
    assert volume["Encrypted"] is True
    until(lambda: stord("ec2.DescribeVolumes", VolumeIds=[volume["VolumeId"]], **far)["Volumes"][0]["State"] == "available")
    io(stord("ec2.AttachVolume", VolumeId=volume["VolumeId"], InstanceId=INSTANCE, Device="/dev/sdf", **far), "read -P 0x41 1M 2M")
    stord.refused("InvalidParameterValue", "ec2.CopySnapshot", SourceRegion="us-east-1", SourceSnapshotId=again["SnapshotId"], Encrypted=False)
    other = stord.snapshot(images["disk"])
    stord.refused("InvalidParameterDependency", "ec2.CopySnapshot", SourceRegion="us-east-1", SourceSnapshotId=other, KmsKeyId="mine")
    assert stord("gureum.Fsck")["Findings"] == []


def put(stord, snapshot, index, data):
    fd = os.memfd_create("block")
    os.write(fd, data)
    stord("ebs.PutSnapshotBlock", fds=[fd], SnapshotId=snapshot, BlockIndex=index, DataLength=len(data), ChecksumAlgorithm="SHA256",
          Checksum=base64.b64encode(hashlib.sha256(data).digest()).decode())
    os.close(fd)


def test_encrypted_snapshots_are_written_and_compared_by_blocks(stord, images):
    started = stord("ebs.StartSnapshot", VolumeSize=1, Encrypted=True, KmsKeyArn="arn:aws:kms:us-east-1:123456789012:key/mine")
    first = started["SnapshotId"]
    assert started["KmsKeyArn"].endswith("/mine")
    put(stord, first, 3, b"\x5a" * BLOCK)
    stord.kill()
    stord.start()
    put(stord, first, 5, b"\x41" * BLOCK)
    no_clear_text(stord)
    stord("ebs.CompleteSnapshot", SnapshotId=first, ChangedBlocksCount=2)
    second = stord("ebs.StartSnapshot", VolumeSize=2, ParentSnapshotId=first)
    assert second["KmsKeyArn"] == started["KmsKeyArn"]
    second = second["SnapshotId"]
    put(stord, second, 3, b"\x01" * BLOCK)
    put(stord, second, 4, bytes(BLOCK))
    put(stord, second, 5, b"\x41" * BLOCK)
    stord("ebs.CompleteSnapshot", SnapshotId=second, ChangedBlocksCount=3)
    no_clear_text(stord)
    changed = stord("ebs.ListChangedBlocks", FirstSnapshotId=first, SecondSnapshotId=second)["ChangedBlocks"]
    assert [b["BlockIndex"] for b in changed if b["BlockIndex"] < 2048] == [3]
    assert content(stord, second, 3) == b"\x01" * BLOCK and content(stord, second, 5) == b"\x41" * BLOCK and content(stord, first, 3) == b"\x5a" * BLOCK
    row = stord("ec2.DescribeSnapshots", SnapshotIds=[second])["Snapshots"][0]
    assert row["Encrypted"] is True and row["KmsKeyId"] == started["KmsKeyArn"]
    volume = stord.create(SnapshotId=second)
    stord.available(volume)
    io_of(stord, volume, "read -P 0x01 1536k 512k")
    io_of(stord, volume, "read -P 0x41 2560k 512k")
    for more in ({"ParentSnapshotId": first, "Encrypted": True}, {"KmsKeyArn": "arn:aws:kms:us-east-1:123456789012:key/x"}):
        stord.refused("ValidationException:INVALID_PARAMETER_VALUE", "ebs.StartSnapshot", VolumeSize=2, **more)
    assert stord("gureum.Fsck")["Findings"] == []


def test_encryption_by_default_is_the_regions_and_the_accounts(stord, images):
    plain = stord.snapshot(images["disk"])
    assert stord("ec2.EnableEbsEncryptionByDefault")["EbsEncryptionByDefault"] is True
    stord("ec2.ModifyEbsDefaultKmsKeyId", KmsKeyId="mine")
    for other in ({"region": "ap-northeast-2"}, {"account": "210987654321"}):
        assert stord("ec2.GetEbsEncryptionByDefault", context=other)["EbsEncryptionByDefault"] is False
    stord.kill()
    stord.start()
    assert stord("ec2.GetEbsEncryptionByDefault")["EbsEncryptionByDefault"] is True
    for parameters in ({"Size": 1}, {"SnapshotId": plain}, {"SnapshotId": plain, "Encrypted": False}):
        made = stord("ec2.CreateVolume", AvailabilityZone="us-east-1a", **parameters)
        assert made["Encrypted"] is True and made["KmsKeyId"].endswith("key/mine"), parameters
        stord.available(made["VolumeId"])
    assert copied(stord, SourceSnapshotId=plain)["Encrypted"] is True
    imported = stord("ec2.DescribeSnapshots", SnapshotIds=[stord.snapshot(images["disk"])])["Snapshots"][0]
    assert imported["Encrypted"] is True and content(stord, imported["SnapshotId"], 2) == b"\x41" * BLOCK
    no_clear_text(stord, imported["_Layer"])
    assert "KmsKeyArn" in stord("ebs.StartSnapshot", VolumeSize=1)
    stord.refused("ValidationException:INVALID_PARAMETER_VALUE", "ebs.StartSnapshot", VolumeSize=2, ParentSnapshotId=plain)
    stord("ec2.DisableEbsEncryptionByDefault")
    assert stord("ec2.GetEbsDefaultKmsKeyId")["KmsKeyId"].endswith("key/mine")
    assert stord("ec2.CreateVolume", AvailabilityZone="us-east-1a", Size=1)["Encrypted"] is False
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
    with opened(stord, volume) as reply:
        assert reply["_Chain"] == []
    reads = [f"read -P {n + 1} {n}M 1M" for n in range(40)]
    for r in reads:
        io_of(stord, volume, r)
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


def test_a_key_that_cannot_be_read_takes_no_switch_back(stord, guests):
    """The guest may write the next layer already: whatever keeps stord from asking, that layer is not let go."""
    volume = stord.create(Size=1, Encrypted=True)
    stord.available(volume)
    guests.start(INSTANCE)
    guests.plug(INSTANCE, volume)
    nbd(guests, volume, "write -P 1 0 1M")

    def die(what):
        if what == "the answer to gureum.SwitchLayers":
            stord.kill()
            raise Dead()

    guests.step = die
    with pytest.raises(Gone):
        stord("ec2.CreateSnapshot", VolumeId=volume)
    guests.step = lambda what: None
    nbd(guests, volume, "write -P 2 0 64k")
    written = guests.instances[INSTANCE].disks[volume][1]
    key = os.path.join(stord.state, "keys", f"{volume}.key")
    os.rename(key, key + ".away")
    stord.start()
    stord.refused("ServiceUnavailable", "ec2.CreateSnapshot", VolumeId=volume)
    assert os.path.exists(written)
    os.rename(key + ".away", key)
    until(lambda: [s["State"] for s in stord("ec2.DescribeSnapshots")["Snapshots"]] == ["completed"])
    nbd(guests, volume, "read -P 2 0 64k", "read -P 1 64k 960k")
    assert stord("ec2.AttachVolume", VolumeId=volume, InstanceId=INSTANCE, Device="/dev/sdf")["_Path"] == written


def test_an_encrypted_import_that_fails_leaves_no_key(stord, images):
    with open(os.path.join(stord.root, "steps"), "w") as f:
        f.write("1 0 a block's bytes\n")
    with open(images["disk"], "rb") as f, pytest.raises((Gone, AssertionError)):
        stord.ended(stord("ec2.ImportSnapshot", fds=[f.fileno()], Encrypted=True, DiskContainer={"Format": "QCOW2"})["ImportTaskId"])
    assert [f for f in stord.files() if f.startswith("keys/snap-")], "it had a key"
    stord.process.wait()
    stord.start()
    assert [t["SnapshotTaskDetail"]["Status"] for t in stord("ec2.DescribeImportSnapshotTasks")["ImportSnapshotTasks"]] == ["error"]
    assert stord.files() == {"keys/master"} and stord("gureum.Fsck")["Findings"] == []


def test_a_canceled_encrypted_import_leaves_no_key(stord, tmp_path):
    disk = tmp_path / "disk"
    disk.write_bytes(os.urandom(64 << 20))
    for _ in range(10):
        with open(disk, "rb") as f:
            task = stord("ec2.ImportSnapshot", fds=[f.fileno()], Encrypted=True, DiskContainer={"Format": "RAW"})["ImportTaskId"]
        until(lambda: [f for f in stord.files() if f.startswith("keys/snap-")])
        try:
            stord("ec2.CancelImportTask", ImportTaskId=task)
            break
        except Fault as e:  # it was done before we came to cancel it
            assert e.code == "IncorrectState", e
            stord("ec2.DeleteSnapshot", SnapshotId=stord.ended(task)["SnapshotId"])
            until(lambda: stord.files() == {"keys/master"})
    assert stord.task(task)["Status"] == "deleted"
    until(lambda: stord.files() == {"keys/master"})
    assert stord("gureum.Fsck")["Findings"] == []
