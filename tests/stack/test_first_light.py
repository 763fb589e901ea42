"""The main job, end to end: a VM by the AWS API, and what a customer sees of it."""
import ipaddress
import json
import os
import re
import signal
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from conftest import DAEMONS, SETTINGS, SSH, code_of, until


def test_who_am_i(cloud):
    me = cloud.sts.get_caller_identity()
    assert (me["Account"], me["Arn"]) == ("123456789012", "arn:aws:iam::123456789012:root")


def test_the_guest_has_the_address_that_the_api_says(cloud, guest):
    row = cloud.describe(guest)
    assert row["PrivateIpAddress"] in cloud.ssh(guest, "ip -4 -o address show dev eth0")
    subnet = cloud.ec2.describe_subnets(SubnetIds=[row["SubnetId"]])["Subnets"][0]
    assert ipaddress.ip_address(row["PrivateIpAddress"]) in ipaddress.ip_network(subnet["CidrBlock"])


def test_ssh_with_the_key_works(cloud, guest):
    assert cloud.ssh(guest, "id -un").strip() == "root"


def test_another_key_is_refused(cloud, guest):
    cloud.ssh(guest, "true")  # from here on it listens
    address = cloud.describe(guest)["PublicIpAddress"]
    cloud.out("sh", "-c", f"rm -f {cloud.state}/other*; ssh-keygen -q -t ed25519 -N '' -f {cloud.state}/other")
    r = cloud.run("ssh", "-i", f"{cloud.state}/other", "-o", "IdentitiesOnly=yes", "-o", "StrictHostKeyChecking=no", "-o",
                  "UserKnownHostsFile=/dev/null", "-o", "BatchMode=yes", f"root@{address}", "true")
    assert r.returncode == 255 and "Permission denied" in r.stderr


def test_user_data_ran_and_its_output_is_on_the_console(cloud, guest):
    text = cloud.console(guest)
    assert "user-data: USER-DATA-RAN 42" in text
    assert f"user-data: {guest}" in text
    assert "user-data: exit" in text


def test_a_password_on_the_console_is_the_instances_password_data(cloud, guest):
    """As a Windows guest's EC2Launch writes it: encrypted for the key pair, so only its holder can read it."""
    cloud.out("sh", "-c", f"cd {cloud.state} && openssl genrsa -out windows.pem 2048 2>&1 && openssl rsa -in windows.pem -pubout -out windows.pub 2>&1 && "
              "printf 'cloudy, with sun' | openssl pkeyutl -encrypt -pubin -inkey windows.pub | base64 > windows.b64")
    assert cloud.ec2.get_password_data(InstanceId=guest)["PasswordData"] == ""
    with open(os.path.join(cloud.state, "windows.b64")) as f:
        said = f.read()
    cloud.ssh(guest, f"printf '%s: <Password>\\r\\n%s\\r\\n</Password>\\r\\n' \"$(date)\" '{said}' > /dev/ttyS0")
    cloud.ec2.get_waiter("password_data_available").wait(InstanceId=guest, WaiterConfig={"Delay": 1, "MaxAttempts": 120})
    data = cloud.ec2.get_password_data(InstanceId=guest)
    assert data["InstanceId"] == guest and data["Timestamp"] and data["PasswordData"] == said.replace("\n", "")
    opened = cloud.out("sh", "-c", f"echo {data['PasswordData']} | base64 -d | openssl pkeyutl -decrypt -inkey {cloud.state}/windows.pem")
    assert opened == "cloudy, with sun"
    assert code_of(cloud.ec2.get_password_data, InstanceId="i-0123456789abcdef0") == "InvalidInstanceID.NotFound"
    assert code_of(cloud.ec2.get_password_data, InstanceId="i-windows") == "InvalidInstanceID.Malformed"
    assert code_of(cloud.ec2.get_password_data, InstanceId=guest, DryRun=True) == "DryRunOperation"


def test_the_guest_reaches_its_gateway(cloud, guest):
    assert "GATEWAY-ANSWERS" in cloud.console(guest)


def test_metadata_wants_a_token_when_told(cloud):
    instance = cloud.launch(MetadataOptions={"HttpTokens": "required"})[0]
    cloud.wait_console(instance, "GUREUM-READY")
    assert cloud.ssh(instance, "ec2-metadata instance-id").strip() == instance
    refused = cloud.ssh(instance, "wget -S -q -O - http://169.254.169.254/latest/meta-data/instance-id 2>&1; true")
    assert "401" in refused
    cloud.terminate(instance)


def test_waiters_return(cloud, guest):
    for name in ("instance_exists", "instance_running", "instance_status_ok"):
        cloud.ec2.get_waiter(name).wait(InstanceIds=[guest], WaiterConfig={"Delay": 1, "MaxAttempts": 120})


def test_the_stock_cli_shows_the_guest(cloud, guest):
    r = cloud.aws("ec2", "describe-instances", "--instance-ids", guest)
    assert r.returncode == 0, r.stderr
    assert json.loads(r.stdout)["Reservations"][0]["Instances"][0]["State"]["Name"] == "running"


def test_the_stock_cli_runs_waits_and_terminates(cloud):
    r = cloud.aws("ec2", "run-instances", "--image-id", cloud.ami, "--instance-type", "t3.nano", "--key-name", cloud.key_name,
                  "--user-data", "#!/bin/sh\necho by-the-cli\n")
    assert r.returncode == 0, r.stderr
    instance = json.loads(r.stdout)["Instances"][0]["InstanceId"]
    cloud.instances.append(instance)
    assert cloud.aws("ec2", "wait", "instance-running", "--instance-ids", instance).returncode == 0
    cloud.wait_console(instance, "user-data: by-the-cli")
    r = cloud.aws("ec2", "terminate-instances", "--instance-ids", instance)
    assert r.returncode == 0, r.stderr
    assert cloud.aws("ec2", "wait", "instance-terminated", "--instance-ids", instance).returncode == 0
    cloud.instances.remove(instance)


def test_the_root_volume_and_interface_are_there(cloud, guest):
    row = cloud.describe(guest)
    volume = row["BlockDeviceMappings"][0]["Ebs"]["VolumeId"]
    [shown] = cloud.ec2.describe_volumes(VolumeIds=[volume])["Volumes"]
    assert (shown["State"], shown["Attachments"][0]["InstanceId"]) == ("in-use", guest)
    [card] = row["NetworkInterfaces"]
    [shown] = cloud.ec2.describe_network_interfaces(NetworkInterfaceIds=[card["NetworkInterfaceId"]])["NetworkInterfaces"]
    assert (shown["PrivateIpAddress"], shown["Attachment"]["InstanceId"]) == (row["PrivateIpAddress"], guest)
    assert shown["MacAddress"] in cloud.ssh(guest, "cat /sys/class/net/eth0/address").strip()


def test_guests_of_a_group_that_allows_it_reach_each_other_others_do_not(cloud):
    inner = cloud.make_group("inner", SSH)
    cloud.ec2.authorize_security_group_ingress(GroupId=inner, IpPermissions=[
        {"IpProtocol": "icmp", "FromPort": -1, "ToPort": -1, "UserIdGroupPairs": [{"GroupId": inner}]}])
    outer = cloud.make_group("outer", SSH)
    ids = cloud.launch(MinCount=2, MaxCount=2, SecurityGroupIds=[inner]) + cloud.launch(SecurityGroupIds=[outer])
    for i in ids:
        cloud.wait_console(i, "GUREUM-READY")
    first, second, third = ids
    target = cloud.describe(second)["PrivateIpAddress"]
    until(lambda: "1 packets received" in cloud.ssh(first, f"ping -c 1 -W 5 {target} 2>&1; true"), told="who is in the group answers")
    assert "0 packets received" in cloud.ssh(third, f"ping -c 1 -W 2 {target} 2>&1; true")
    cloud.terminate(*ids)
    for group in (inner, outer):
        cloud.ec2.delete_security_group(GroupId=group)


def test_stop_and_start_keep_the_disk_and_the_private_address(cloud):
    instance = cloud.launch()[0]
    cloud.wait_console(instance, "GUREUM-READY")
    before = cloud.describe(instance)
    cloud.ssh(instance, "echo remembered > /root/note; sync")
    cloud.ec2.stop_instances(InstanceIds=[instance])
    row = cloud.wait_state(instance, "stopped")
    assert "PublicIpAddress" not in row
    cloud.ec2.start_instances(InstanceIds=[instance])
    row = cloud.wait_state(instance, "running")
    assert row["PrivateIpAddress"] == before["PrivateIpAddress"]
    assert cloud.ssh(instance, "cat /root/note", 120).strip() == "remembered"
    cloud.terminate(instance)


def test_reboot_boots_again(cloud):
    instance = cloud.launch()[0]
    cloud.wait_console(instance, "GUREUM-READY")
    boot = cloud.ssh(instance, "cat /proc/sys/kernel/random/boot_id")
    cloud.ec2.reboot_instances(InstanceIds=[instance])
    until(lambda: cloud.ssh(instance, "cat /proc/sys/kernel/random/boot_id", 120) != boot, 120, told="another boot id")
    assert cloud.state_of(instance) == "running"
    cloud.terminate(instance)


def test_powering_off_inside_stops_the_instance(cloud):
    instance = cloud.launch()[0]
    cloud.wait_console(instance, "GUREUM-READY")
    # Not before this session is over, which would be begun anew if it were cut off.
    cloud.ssh(instance, "session=$PPID; (while [ -d /proc/$session ]; do sleep 0.1; done; poweroff) >/dev/null 2>&1 &")
    row = cloud.wait_state(instance, "stopped")
    assert row["StateReason"]["Code"].startswith("Client.InstanceInitiatedShutdown")
    cloud.terminate(instance)


def test_terminate_leaves_nothing(cloud, guest):
    before = cloud.trace()
    instance = cloud.launch(UserData="#!/bin/sh\necho x\n")[0]
    cloud.wait_console(instance, "GUREUM-READY")
    row = cloud.describe(instance)
    assert set(cloud.new_since(before)) == set(before)
    cloud.terminate(instance)
    until(lambda: not cloud.new_since(before), told="nothing of it is left in the kernel or in files")
    assert code_of(cloud.ec2.describe_network_interfaces,
                   NetworkInterfaceIds=[row["NetworkInterfaces"][0]["NetworkInterfaceId"]]) == "InvalidNetworkInterfaceID.NotFound"
    assert code_of(cloud.ec2.describe_volumes,
                   VolumeIds=[row["BlockDeviceMappings"][0]["Ebs"]["VolumeId"]]) == "InvalidVolume.NotFound"


@pytest.mark.parametrize("daemon", DAEMONS)
def test_a_killed_daemon_comes_back_and_the_guest_does_not_notice(cloud, guest, daemon):
    boot = cloud.ssh(guest, "cat /proc/sys/kernel/random/boot_id")
    before = cloud.describe(guest)
    cloud.kill(daemon)
    until(lambda: cloud.describe(guest) == before, told="the API answers as before")
    assert cloud.ssh(guest, "cat /proc/sys/kernel/random/boot_id") == boot


@pytest.mark.parametrize("daemon", DAEMONS)
def test_a_daemon_killed_in_the_midst_of_a_launch_leaves_a_whole_or_nothing(cloud, guest, daemon):
    before = cloud.trace()
    ids = []
    with ThreadPoolExecutor() as pool:
        for after in (0, 0.005, 0.015, 0.04, 0.3):
            until(lambda: cloud.is_ready(daemon), every=0.05, told=f"{daemon} is back")
            pid, token = cloud.pid(daemon), str(uuid.uuid4())
            asked = pool.submit(cloud.launch, ClientToken=token)
            time.sleep(after)
            os.kill(pid, signal.SIGKILL)
            try:
                answered = asked.result()
            except (ClientError, BotoCoreError):
                # The answer was lost: the same token asks again, and gets what was made or has it made, never twice.
                answered = until(lambda: cloud.launch(ClientToken=token), told="launched at last")
            ids += answered
            assert cloud.launch(ClientToken=token) == answered
    assert len(set(ids)) == 5
    for instance in ids:
        cloud.wait_state(instance, "running")
    # What was begun and cut off goes in the background; the five stay.
    until(lambda: (made := cloud.new_since(before)) and len(made["domains"]) == len(made["volumes"]) == 5, told="five, and nothing but")
    cloud.terminate(*set(ids))
    until(lambda: not cloud.new_since(before), told="nothing leaks")


def test_libvirtd_killed_is_no_harm(cloud, guest):
    boot = cloud.ssh(guest, "cat /proc/sys/kernel/random/boot_id")
    cloud.kill("libvirtd")
    assert cloud.state_of(guest) == "running"
    assert cloud.ssh(guest, "cat /proc/sys/kernel/random/boot_id") == boot
    until(lambda: cloud.console(guest), told="the console is read again")


def test_a_libvirtd_that_hangs_is_given_up_and_found_again(cloud, guest):
    """With several calls under way: libvirt's client gives up one of them by itself."""
    def n_lost():
        return cloud.command("logs", "hvd").stdout.count("the connection to libvirt is lost")

    libvirtd, before = cloud.pid("libvirtd"), n_lost()
    os.kill(libvirtd, signal.SIGSTOP)
    try:
        ids = cloud.launch(MinCount=3, MaxCount=3)
        until(lambda: n_lost() > before, 240, 1, "hvd gives the connection up")
    finally:
        os.kill(libvirtd, signal.SIGCONT)
    for instance in ids:
        cloud.wait_state(instance, "running")
    assert cloud.state_of(guest) == "running"
    cloud.terminate(*ids)


def test_hvd_ends_and_begins_while_libvirtd_hangs(cloud, guest):
    """It is told to end with a connection that is open, and with one that is being opened; and it does, before it is killed for that."""
    def n_connected():
        return cloud.command("logs", "hvd").stdout.count("connected to libvirt")

    def n_ended():
        with open(os.path.join(cloud.state, "log", "stack.log")) as f:
            return f.read().count("hvd ended (status 0)")

    libvirtd, ended_before = cloud.pid("libvirtd"), n_ended()
    os.kill(libvirtd, signal.SIGSTOP)
    try:
        for _ in range(2):
            before = cloud.pid("hvd")
            os.kill(before, signal.SIGTERM)
            until(lambda: cloud.is_ready("hvd") and cloud.pid("hvd") not in (0, before), told="hvd is back")
            assert cloud.state_of(guest) == "running"
        assert n_ended() == ended_before + 2
        n = n_connected()
    finally:
        os.kill(libvirtd, signal.SIGCONT)
    until(lambda: n_connected() > n, told="libvirt is found again")


def test_an_agent_is_heard_through_its_own_qemu_alone_also_by_a_new_hvd(cloud, guest):
    port = f"/run/gureum/agents/{guest}"

    def is_connected():
        return re.search(rf"^u_str +ESTAB .* {port} ", cloud.out("ss", "-xH"), re.M)

    until(is_connected, told="QEMU is connected")
    cloud.kill("hvd")
    until(is_connected, told="QEMU is connected again")
    script = "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); sys.exit(len(s.recv(1)))"
    assert cloud.run("python3", "-c", script, port).returncode == 0  # cut off without a word
    assert is_connected()


def test_twenty_at_once_are_twenty(cloud):
    with ThreadPoolExecutor(20) as pool:
        ids = [i for found in pool.map(lambda _: cloud.launch(), range(20)) for i in found]
    assert len(set(ids)) == 20
    for i in ids:
        cloud.wait_state(i, "running", 600)
    rows = [cloud.describe(i) for i in ids]
    assert len({r["PrivateIpAddress"] for r in rows}) == 20
    assert len({r["PublicIpAddress"] for r in rows}) == 20
    for i in ids:
        cloud.wait_console(i, "GUREUM-READY", 400)
    cloud.terminate(*ids)


def test_the_state_survives_down_and_up(cloud, guest):
    if cloud.state != cloud.env["GUREUM_STATE"]:
        pytest.skip("not our own cloud")
    cloud.ssh(guest, "echo kept > /root/kept; sync")
    before = cloud.describe(guest)
    cloud.command("down")
    assert "down" in cloud.command("status", check=False).stdout
    cloud.command("up", *SETTINGS)
    row = cloud.wait_state(guest, "running")
    assert row["PrivateIpAddress"] == before["PrivateIpAddress"]
    assert row["PublicIpAddress"] == before["PublicIpAddress"]
    assert cloud.ssh(guest, "cat /root/kept", 120).strip() == "kept"
    assert not re.search(r"user-data: USER-DATA-RAN.*user-data: USER-DATA-RAN", cloud.console(guest), re.S)
