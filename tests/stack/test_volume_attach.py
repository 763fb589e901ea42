"""Volumes come to guests and go, while they run and while they do not."""
import os
import re
import signal

import pytest
from botocore.config import Config

from conftest import code_of, until

QUICK = {"Delay": 1, "MaxAttempts": 120}
ZONE = "us-east-1a"


@pytest.fixture(scope="module")
def pair(cloud):
    """Two guests of our own in one zone."""
    subnet = next(s["SubnetId"] for s in cloud.ec2.describe_subnets()["Subnets"] if s["AvailabilityZone"] == ZONE)
    ids = [cloud.launch(SubnetId=subnet)[0] for _ in range(2)]
    for i in ids:
        cloud.wait_console(i, "GUREUM-READY")
    yield ids
    cloud.terminate(*ids)


def make(cloud, **more):
    settings = {"AvailabilityZone": ZONE, "Size": 1, "VolumeType": "gp3", **more}
    volume = cloud.ec2.create_volume(**settings)["VolumeId"]
    cloud.ec2.get_waiter("volume_available").wait(VolumeIds=[volume], WaiterConfig=QUICK)
    return volume


def attachments(cloud, volume):
    return {(a["InstanceId"], a["Device"], a["State"]) for a in cloud.ec2.describe_volumes(VolumeIds=[volume])["Volumes"][0]["Attachments"]}


def wait_attached(cloud, volume, instance):
    until(lambda: any(a[0] == instance and a[2] == "attached" for a in attachments(cloud, volume)), told=f"{volume} at {instance}")


def disk_now(cloud, instance, volume):
    """The guest's name for a volume, "" if it has none: by its serial, as /dev/disk/by-id has it."""
    return cloud.ssh(instance, f"grep -l '^{volume.replace('-', '')}' /sys/block/*/serial 2>/dev/null | cut -d/ -f4 || true").strip()


def disk(cloud, instance, volume):
    """The same when the guest's kernel has found it, which is after it was attached."""
    return until(lambda: disk_now(cloud, instance, volume), told=f"{instance} has found {volume}")


def detach(cloud, volume, **more):
    assert cloud.ec2.detach_volume(VolumeId=volume, **more)["State"] == "detaching"
    cloud.ec2.get_waiter("volume_available").wait(VolumeIds=[volume], WaiterConfig=QUICK)


def once(cloud):
    """A client that does not ask again."""
    return cloud.client("ec2", config=Config(retries={"max_attempts": 0}, read_timeout=60, proxies={}))


def test_a_libvirt_that_is_busy_with_a_guest_has_not_refused_its_volume(cloud, pair):
    """Something else waits for the guest's QEMU, which stands still: libvirt gives up what hvd asks after half a minute."""
    def n_given_up():
        with open(os.path.join(cloud.state, "log", "libvirtd.log"), errors="replace") as f:
            return f.read().count("cannot acquire state change lock")

    guest, volume, before = pair[0], make(cloud), n_given_up()
    qemu = cloud.out("sh", "-c", f"ps ax -o pid,args | awk '/qemu-system.*guest={guest}/{{print $1; exit}}'").strip()
    cloud.out("kill", "-STOP", qemu)
    try:
        cloud.out("sh", "-c", f"virsh qemu-monitor-command {guest} --hmp 'info status' >/dev/null 2>&1 </dev/null &")
        until(lambda: not cloud.out("virsh", "domcontrol", guest).startswith("ok"), told="libvirt waits for QEMU")
        cloud.ec2.attach_volume(VolumeId=volume, InstanceId=guest, Device="/dev/sdj")
        until(lambda: n_given_up() > before, told="libvirt has given up a call")
        assert {(a[0], a[2]) for a in attachments(cloud, volume)} == {(guest, "attaching")}
    finally:
        cloud.out("kill", "-CONT", qemu)
    wait_attached(cloud, volume, guest)
    disk(cloud, guest, volume)
    detach(cloud, volume)
    cloud.ec2.delete_volume(VolumeId=volume)


def test_a_volume_goes_from_one_running_guest_to_another(cloud, pair):
    first, second = pair
    volume = make(cloud)
    answer = cloud.ec2.attach_volume(VolumeId=volume, InstanceId=first, Device="/dev/sdf")
    assert (answer["State"], answer["Device"], answer["DeleteOnTermination"]) == ("attaching", "/dev/sdf", False)
    cloud.ec2.get_waiter("volume_in_use").wait(VolumeIds=[volume], WaiterConfig=QUICK)
    wait_attached(cloud, volume, first)
    row = next(m for m in cloud.describe(first)["BlockDeviceMappings"] if m["DeviceName"] == "/dev/sdf")
    assert (row["Ebs"]["VolumeId"], row["Ebs"]["DeleteOnTermination"]) == (volume, False)
    assert code_of(cloud.ec2.attach_volume, VolumeId=volume, InstanceId=second, Device="/dev/sdf") == "VolumeInUse"
    assert code_of(cloud.ec2.delete_volume, VolumeId=volume) == "VolumeInUse"
    name = disk(cloud, first, volume)
    cloud.ssh(first, f"echo all of it is here | dd of=/dev/{name} bs=512 seek=9 conv=sync 2>/dev/null && sync")
    detach(cloud, volume)
    assert disk_now(cloud, first, volume) == ""
    assert all(m["Ebs"]["VolumeId"] != volume for m in cloud.describe(first)["BlockDeviceMappings"])
    cloud.ec2.attach_volume(VolumeId=volume, InstanceId=second, Device="/dev/sdg")
    wait_attached(cloud, volume, second)
    assert cloud.ssh(second, f"dd if=/dev/{disk(cloud, second, volume)} bs=512 skip=9 count=1 2>/dev/null").startswith("all of it is here")
    detach(cloud, volume, InstanceId=second, Device="/dev/sdg")
    cloud.ec2.delete_volume(VolumeId=volume)


def test_two_guests_share_a_volume(cloud, pair):
    volume = make(cloud, VolumeType="io2", Size=4, Iops=100, MultiAttachEnabled=True)
    for i in pair:
        cloud.ec2.attach_volume(VolumeId=volume, InstanceId=i, Device="/dev/sdh")
    for i in pair:
        wait_attached(cloud, volume, i)
    names = [disk(cloud, i, volume) for i in pair]
    cloud.ssh(pair[0], f"echo seen by both | dd of=/dev/{names[0]} bs=4096 conv=sync 2>/dev/null && sync")
    read = f"echo 3 > /proc/sys/vm/drop_caches; dd if=/dev/{names[1]} bs=4096 count=1 2>/dev/null"
    assert cloud.ssh(pair[1], read).startswith("seen by both")
    assert code_of(cloud.ec2.detach_volume, VolumeId=volume) == "MissingParameter"
    cloud.ec2.detach_volume(VolumeId=volume, InstanceId=pair[0])
    until(lambda: {a[0] for a in attachments(cloud, volume)} == {pair[1]}, told="one guest has it still")
    detach(cloud, volume, InstanceId=pair[1])
    cloud.ec2.delete_volume(VolumeId=volume)


def test_hvd_killed_in_the_midst_goes_on(cloud, pair):
    volume = make(cloud)
    cloud.ec2.attach_volume(VolumeId=volume, InstanceId=pair[0], Device="/dev/sdi")
    cloud.kill("hvd")
    wait_attached(cloud, volume, pair[0])
    assert disk(cloud, pair[0], volume)
    cloud.ec2.detach_volume(VolumeId=volume)
    cloud.kill("hvd")
    cloud.ec2.get_waiter("volume_available").wait(VolumeIds=[volume], WaiterConfig=QUICK)
    assert disk_now(cloud, pair[0], volume) == ""
    cloud.ec2.delete_volume(VolumeId=volume)


def test_a_volume_grows_and_gets_faster_under_its_guest(cloud, pair):
    volume = make(cloud, Iops=3000)
    cloud.ec2.attach_volume(VolumeId=volume, InstanceId=pair[0], Device="/dev/sdl")
    wait_attached(cloud, volume, pair[0])
    name = disk(cloud, pair[0], volume)
    cloud.ec2.modify_volume(VolumeId=volume, Size=10, Iops=4000, Throughput=200)

    def done():
        return cloud.ec2.describe_volumes_modifications(VolumeIds=[volume])["VolumesModifications"][0]["ModificationState"] == "completed"
    until(done, told="the modification is completed")
    # Its kernel reads the size when it comes to it, after the interrupt.
    until(lambda: int(cloud.ssh(pair[0], f"cat /sys/block/{name}/size")) * 512 == 10 << 30, told="the guest sees 10 GiB")
    target = re.search(rf"(vd\w+) +\S*{volume}", cloud.out("virsh", "domblklist", pair[0]))[1]
    tune = cloud.out("virsh", "blkdeviotune", pair[0], target)
    assert re.search(r"total_iops_sec *: 4000\n", tune) and re.search(rf"total_bytes_sec *: {200 << 20}\n", tune), tune
    cloud.ssh(pair[0], f"echo in the new part | dd of=/dev/{name} bs=1M seek=9000 conv=sync 2>/dev/null && sync")
    detach(cloud, volume)
    cloud.ec2.delete_volume(VolumeId=volume)


def test_an_encrypted_volume_is_plain_to_its_guest_alone(cloud, pair):
    volume = make(cloud, Encrypted=True)
    cloud.ec2.attach_volume(VolumeId=volume, InstanceId=pair[0], Device="/dev/sdm")
    wait_attached(cloud, volume, pair[0])
    name = disk(cloud, pair[0], volume)
    cloud.ssh(pair[0], f"yes plain to the guest | head -c 1048576 | dd of=/dev/{name} bs=4096 2>/dev/null && sync")
    path = re.search(rf"(\S*{volume}\S*)", cloud.out("virsh", "domblklist", pair[0]))[1]
    with open(path, "rb") as f:
        assert b"plain to the guest" not in f.read()
    assert "<encryption format='luks'" in cloud.out("virsh", "dumpxml", "--security-info", pair[0])
    detach(cloud, volume)
    assert volume not in cloud.out("virsh", "secret-list")
    cloud.ec2.attach_volume(VolumeId=volume, InstanceId=pair[0], Device="/dev/sdm")
    wait_attached(cloud, volume, pair[0])
    assert cloud.ssh(pair[0], f"head -c 18 /dev/{disk(cloud, pair[0], volume)}") == "plain to the guest"
    detach(cloud, volume)
    cloud.ec2.delete_volume(VolumeId=volume)


def test_an_encrypted_volume_is_snapshotted_under_its_guest(cloud, pair):
    volume = make(cloud, Encrypted=True)
    cloud.ec2.attach_volume(VolumeId=volume, InstanceId=pair[0], Device="/dev/sdm")
    wait_attached(cloud, volume, pair[0])
    name = disk(cloud, pair[0], volume)
    write = "yes {} | head -c 1048576 | dd of=/dev/" + name + " bs=4096 2>/dev/null && sync"
    cloud.ssh(pair[0], write.format("before the snapshot"))
    snapshot = cloud.ec2.create_snapshot(VolumeId=volume)["SnapshotId"]
    cloud.ec2.get_waiter("snapshot_completed").wait(SnapshotIds=[snapshot], WaiterConfig=QUICK)
    cloud.ssh(pair[0], write.format("after it"))
    copy = make(cloud, SnapshotId=snapshot)
    assert cloud.ec2.describe_volumes(VolumeIds=[copy])["Volumes"][0]["Encrypted"] is True
    cloud.ec2.attach_volume(VolumeId=copy, InstanceId=pair[0], Device="/dev/sdn")
    wait_attached(cloud, copy, pair[0])
    detach(cloud, volume)
    cloud.ec2.attach_volume(VolumeId=volume, InstanceId=pair[0], Device="/dev/sdm")
    wait_attached(cloud, volume, pair[0])
    for v, text in ((volume, "after it"), (copy, "before the snapshot")):
        assert cloud.ssh(pair[0], f"head -n 1 /dev/{disk(cloud, pair[0], v)}").strip() == text
        detach(cloud, v)
        cloud.ec2.delete_volume(VolumeId=v)
    cloud.ec2.delete_snapshot(SnapshotId=snapshot)


def test_a_snapshot_is_refused_while_hvd_is_silent_and_what_is_written_then_is_kept(cloud, pair):
    """hvd is stopped: it takes the call, and answers nobody."""
    volume = make(cloud)
    cloud.ec2.attach_volume(VolumeId=volume, InstanceId=pair[0], Device="/dev/sdo")
    wait_attached(cloud, volume, pair[0])
    name, hvd = disk(cloud, pair[0], volume), cloud.pid("hvd")
    patient = once(cloud)
    write = "echo '{}' | dd of=/dev/" + name + " bs=4096 seek={} conv=sync 2>/dev/null && sync"
    cloud.ssh(pair[0], write.format("before", 0))
    os.kill(hvd, signal.SIGSTOP)
    try:
        assert code_of(patient.create_snapshot, VolumeId=volume) == "ServiceUnavailable"
        assert not cloud.ec2.describe_snapshots(Filters=[{"Name": "volume-id", "Values": [volume]}])["Snapshots"]
    finally:
        os.kill(hvd, signal.SIGCONT)
    cloud.ssh(pair[0], write.format("meanwhile", 1))
    snapshot = cloud.ec2.create_snapshot(VolumeId=volume)["SnapshotId"]
    cloud.ssh(pair[0], write.format("after", 1))
    copy = make(cloud, SnapshotId=snapshot)
    cloud.ec2.attach_volume(VolumeId=copy, InstanceId=pair[0], Device="/dev/sdp")
    wait_attached(cloud, copy, pair[0])
    detach(cloud, volume)
    cloud.ec2.attach_volume(VolumeId=volume, InstanceId=pair[0], Device="/dev/sdo")
    wait_attached(cloud, volume, pair[0])
    for v, texts in ((volume, ["before", "after"]), (copy, ["before", "meanwhile"])):
        read = f"for n in 0 1; do dd if=/dev/{disk(cloud, pair[0], v)} bs=4096 skip=$n count=1 2>/dev/null | head -n 1; done"
        assert cloud.ssh(pair[0], read).split() == texts
        detach(cloud, v)
        cloud.ec2.delete_volume(VolumeId=v)
    cloud.ec2.delete_snapshot(SnapshotId=snapshot)


def test_a_stopped_instance_has_its_volumes_when_it_starts(cloud, pair):
    """An instance of its own: it ends, and others need the pair."""
    [instance] = cloud.launch(SubnetId=cloud.describe(pair[0])["SubnetId"])
    cloud.wait_state(instance, "running")
    volume, gone = make(cloud, Encrypted=True), make(cloud)
    cloud.ec2.stop_instances(InstanceIds=[instance], Force=True)
    cloud.wait_state(instance, "stopped")
    for v, device in ((volume, "/dev/sdj"), (gone, "/dev/sdk")):
        cloud.ec2.attach_volume(VolumeId=v, InstanceId=instance, Device=device)
        wait_attached(cloud, v, instance)
    detach(cloud, gone)
    cloud.ec2.start_instances(InstanceIds=[instance])
    cloud.wait_state(instance, "running")
    assert disk(cloud, instance, volume) and not disk_now(cloud, instance, gone)
    cloud.ec2.modify_instance_attribute(InstanceId=instance, BlockDeviceMappings=[{"DeviceName": "/dev/sdj", "Ebs": {"DeleteOnTermination": True}}])
    assert cloud.ec2.describe_volumes(VolumeIds=[volume])["Volumes"][0]["Attachments"][0]["DeleteOnTermination"] is True
    cloud.terminate(instance)
    assert code_of(cloud.ec2.describe_volumes, VolumeIds=[volume]) == "InvalidVolume.NotFound"
    cloud.ec2.delete_volume(VolumeId=gone)


@pytest.mark.parametrize("parameters, code", [
    ({"Device": "/dev/sdf", "VolumeId": "vol-0123456789abcdef0"}, "InvalidVolume.NotFound"),
    ({"Device": "/dev/sdf", "VolumeId": "vol-x"}, "InvalidVolumeID.Malformed"),
    ({"Device": "/dev/sdf", "InstanceId": "i-0123456789abcdef0"}, "InvalidInstanceID.NotFound"),
    ({"Device": "/dev/xvda"}, "InvalidParameterValue"),
    ({"Device": "/dev/null"}, "InvalidParameterValue"),
    ({"Device": "/dev/sdf", "VolumeId": "elsewhere"}, "InvalidVolume.ZoneMismatch"),
])
def test_bad_attachments_get_the_errors_of_aws(cloud, pair, parameters, code):
    volume = make(cloud, AvailabilityZone="us-east-1b" if parameters.get("VolumeId") == "elsewhere" else ZONE)
    settings = {"VolumeId": volume, "InstanceId": pair[0], **parameters}
    if settings["VolumeId"] == "elsewhere":
        settings["VolumeId"] = volume
    assert code_of(cloud.ec2.attach_volume, **settings) == code
    assert code_of(cloud.ec2.detach_volume, VolumeId=volume) == "IncorrectState"
    root = cloud.describe(pair[0])["BlockDeviceMappings"][0]["Ebs"]["VolumeId"]
    assert code_of(cloud.ec2.detach_volume, VolumeId=root) == "OperationNotPermitted"
    cloud.ec2.delete_volume(VolumeId=volume)


def test_a_guest_waits_for_room_and_loses_nothing(cloud):
    """The zone's disk is a small one of its own, and becomes full."""
    zone, where = "us-east-1c", os.path.join(cloud.state, "state", "stord", "zones", "us-east-1c")
    cloud.out("mount", "-t", "tmpfs", "-o", "size=24m,mode=0711", "tmpfs", where)
    try:
        cloud.out("mkdir", "-m", "0711", os.path.join(where, "volumes"))
        subnet = next(s["SubnetId"] for s in cloud.ec2.describe_subnets()["Subnets"] if s["AvailabilityZone"] == zone)
        instance = cloud.launch(SubnetId=subnet)[0]
        volume = make(cloud, AvailabilityZone=zone)
        cloud.wait_console(instance, "GUREUM-READY")
        cloud.ec2.attach_volume(VolumeId=volume, InstanceId=instance, Device="/dev/sdf")
        wait_attached(cloud, volume, instance)
        name = disk(cloud, instance, volume)
        write = f"yes numbered and checked | head -c 31457280 | tee /dev/{name} | md5sum > /tmp/sum; sync; echo WRITTEN > /dev/console"
        cloud.ssh(instance, f"({write}) </dev/null >/dev/null 2>&1 &")

        def status():
            return cloud.ec2.describe_volume_status(VolumeIds=[volume])["VolumeStatuses"][0]
        until(lambda: status()["VolumeStatus"]["Status"] == "impaired", told="the volume is impaired")
        assert status()["Actions"][0]["Code"] == "enable-volume-io"
        cloud.out("mount", "-o", "remount,size=200m", where)
        cloud.ec2.enable_volume_io(VolumeId=volume)
        until(lambda: status()["VolumeStatus"]["Status"] == "ok", told="the volume is well")
        cloud.wait_console(instance, "WRITTEN")
        cloud.ssh(instance, "echo 3 > /proc/sys/vm/drop_caches")
        read = cloud.ssh(instance, f"head -c 31457280 /dev/{name} | md5sum; cat /tmp/sum").split()
        assert read[0] == read[2]
        cloud.terminate(instance)
        cloud.ec2.delete_volume(VolumeId=volume)
    finally:
        cloud.run("umount", "-l", where)
