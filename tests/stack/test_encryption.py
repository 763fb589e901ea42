"""Encryption as a guest has it: its root from a plain image, its image, layers that are merged under it, and keys that are nowhere to be found."""
import base64
import re

import pytest
from botocore.exceptions import ClientError

from conftest import ask_stord, until

# Where a passphrase (told backwards, for these arguments are looked at as well) can be read: files, and what processes were started with.
SCAN = """import base64, glob, os, sys
text = sys.argv[1][::-1].encode()
wanted = [text, base64.b64decode(text), base64.b64decode(text).hex().encode()]
paths = [p for p in glob.glob("/proc/[0-9]*/cmdline") + glob.glob("/proc/[0-9]*/environ")]
for top in sys.argv[2:]:
    for directory, _, names in os.walk(top):
        paths += [os.path.join(directory, n) for n in names]
n = 0
for path in paths:
    try:
        if not os.path.isfile(path):
            continue
        with open(path, "rb") as f:
            n += 1
            tail = b""
            while data := f.read(1 << 24):
                if any(w in tail + data for w in wanted):
                    print("FOUND", path)
                tail = data[-64:]
    except OSError:
        pass
print("looked at", n)"""


def root_of(cloud, instance):
    volume = cloud.describe(instance)["BlockDeviceMappings"][0]["Ebs"]["VolumeId"]
    return cloud.ec2.describe_volumes(VolumeIds=[volume])["Volumes"][0]


def test_an_encrypted_root_its_image_and_its_keys(cloud):
    device = cloud.ec2.describe_images(ImageIds=[cloud.ami])["Images"][0]["RootDeviceName"]
    [instance] = cloud.launch(BlockDeviceMappings=[{"DeviceName": device, "Ebs": {"Encrypted": True}}])
    cloud.wait_state(instance, "running")
    root = root_of(cloud, instance)
    assert root["Encrypted"] is True and root["KmsKeyId"].endswith("alias/aws/ebs")
    cloud.ssh(instance, "echo kept in the image > /root/kept && sync", 120)
    # Merged under the running guest: as many snapshots as a chain may not have, and all go.
    snapshots = []
    for n in range(20):
        cloud.ssh(instance, f"head -c 262144 /dev/urandom > /root/part{n} && md5sum /root/part{n} >> /root/sums && sync")
        snapshots.append(cloud.ec2.create_snapshot(VolumeId=root["VolumeId"])["SnapshotId"])
    for s in snapshots:
        cloud.ec2.delete_snapshot(SnapshotId=s)
    until(lambda: ask_stord(cloud, "gureum.Fsck")["Idle"], told="merging has come to rest")
    chain = cloud.out("virsh", "dumpxml", instance).split("<disk ")[1].split("</disk>")[0]
    assert len(re.findall("<backingStore type='file'", chain)) <= 16, chain
    assert "FAILED" not in cloud.ssh(instance, "echo 3 > /proc/sys/vm/drop_caches; md5sum -c /root/sums")
    # An image of it, and an instance of that.
    image = cloud.ec2.create_image(InstanceId=instance, Name="encrypted", NoReboot=True)["ImageId"]
    until(lambda: cloud.ec2.describe_images(ImageIds=[image])["Images"][0]["State"] == "available", told="the image is available")
    row = cloud.ec2.describe_images(ImageIds=[image])["Images"][0]["BlockDeviceMappings"][0]["Ebs"]
    assert row["Encrypted"] is True
    [second] = cloud.launch(ImageId=image)
    cloud.wait_state(second, "running")
    assert root_of(cloud, second)["Encrypted"] is True
    assert cloud.ssh(second, "cat /root/kept && md5sum -c /root/sums | grep -c OK", 120).split("\n")[:2] == ["kept in the image", "20"]
    # Nothing that can be read has the key, while two guests are open by it.
    key = ask_stord(cloud, "ec2.AttachVolume", VolumeId=root["VolumeId"], InstanceId=instance, Device=device)["_Passphrase"]
    assert len(base64.b64decode(key)) == 32
    places = [cloud.state, "/var/lib/libvirt", "/etc/libvirt", "/var/log/libvirt", "/var/cache/libvirt", "/run/libvirt", "/run/gureum"]
    found = cloud.out("python3", "-c", SCAN, key[::-1], *places)
    assert "FOUND" not in found and int(found.split()[-1]) > 20, found
    cloud.terminate(instance, second)
    cloud.ec2.deregister_image(ImageId=image)
    cloud.ec2.delete_snapshot(SnapshotId=row["SnapshotId"])


def test_an_images_copy_is_encrypted_and_its_kernel_is_not(cloud):
    region = cloud.ec2.meta.region_name
    copy = cloud.ec2.copy_image(Name="encrypted copy", SourceImageId=cloud.ami, SourceRegion=region, Encrypted=True)["ImageId"]
    until(lambda: cloud.ec2.describe_images(ImageIds=[copy])["Images"][0]["State"] == "available", told="the copy is available")
    image = cloud.ec2.describe_images(ImageIds=[copy])["Images"][0]
    root = image["BlockDeviceMappings"][0]["Ebs"]
    assert root["Encrypted"] is True
    [snapshot] = cloud.ec2.describe_snapshots(SnapshotIds=[root["SnapshotId"]])["Snapshots"]
    assert snapshot["Encrypted"] is True and snapshot["KmsKeyId"].endswith("alias/aws/ebs")
    [instance] = cloud.launch(ImageId=copy)
    cloud.wait_state(instance, "running")
    assert root_of(cloud, instance)["Encrypted"] is True
    assert cloud.ssh(instance, "echo it starts", 120).strip() == "it starts"
    cloud.terminate(instance)
    with pytest.raises(ClientError) as caught:
        cloud.ec2.copy_image(Name="never", SourceImageId=copy, SourceRegion=region, Encrypted=False)
    assert caught.value.response["Error"]["Code"] == "InvalidParameterValue"
    cloud.ec2.deregister_image(ImageId=copy)
    cloud.ec2.delete_snapshot(SnapshotId=snapshot["SnapshotId"])
