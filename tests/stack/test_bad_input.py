"""Bad input: each gets AWS's error, and nothing is half-made."""
import datetime
import socket
import struct
import subprocess
import urllib.error
import urllib.request
import uuid

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from conftest import code_of


def post(cloud, body, secret=None, clock=None, headers=None):
    """A signed request by hand: status and text."""
    credentials = Credentials(cloud.env["AWS_ACCESS_KEY_ID"], secret or cloud.env["AWS_SECRET_ACCESS_KEY"])
    request = AWSRequest("POST", cloud.env["AWS_ENDPOINT_URL"] + "/", data=body,
                         headers={"Content-Type": "application/x-www-form-urlencoded; charset=utf-8", **(headers or {})})
    signer = SigV4Auth(credentials, "ec2", cloud.env["AWS_DEFAULT_REGION"])
    if clock:
        import botocore.auth

        class Clock(datetime.datetime):
            @classmethod
            def utcnow(cls):
                return datetime.datetime.utcnow() + clock

        class Module:
            datetime = Clock
        real, botocore.auth.datetime = botocore.auth.datetime, Module if hasattr(botocore.auth.datetime, "datetime") else Clock
        try:
            signer.add_auth(request)
        finally:
            botocore.auth.datetime = real
    else:
        signer.add_auth(request)
    raw = urllib.request.Request(request.url, data=body.encode(), headers=dict(request.headers), method="POST")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(raw, timeout=30) as r:
            return r.status, r.read().decode()
    except urllib.error.HTTPError as e:
        return e.code, e.read().decode()


DESCRIBE = "Action=DescribeInstances&Version=2016-11-15"


def test_a_right_signature_is_accepted(cloud):
    assert post(cloud, DESCRIBE)[0] == 200


def test_a_wrong_signature_is_refused(cloud):
    status, text = post(cloud, DESCRIBE, secret="x" * 40)
    assert status in (401, 403) and ("SignatureDoesNotMatch" in text or "AuthFailure" in text)


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_skewed_clock_is_refused(cloud, hours):
    status, text = post(cloud, DESCRIBE, clock=datetime.timedelta(hours=hours))
    assert 400 <= status < 500 and ("RequestExpired" in text or "Signature" in text or "RequestTimeTooSkewed" in text)


def test_an_unknown_action_is_invalid_one_that_we_lack_unsupported(cloud):
    status, text = post(cloud, "Action=MakeCoffee&Version=2016-11-15")
    assert status == 400 and "<Code>InvalidAction</Code>" in text
    status, text = post(cloud, "Action=CreateVerifiedAccessTrustProvider&Version=2016-11-15&TrustProviderType=user&PolicyReferenceName=x")
    assert status == 400 and "<Code>UnsupportedOperation</Code>" in text


@pytest.mark.parametrize("call, parameters, code", [
    ("describe_instances", {"InstanceIds": ["i-xyz"]}, "InvalidInstanceID.Malformed"),
    ("describe_instances", {"InstanceIds": ["i-0123456789abcdef0"]}, "InvalidInstanceID.NotFound"),
    ("terminate_instances", {"InstanceIds": ["i-0123456789abcdef0"]}, "InvalidInstanceID.NotFound"),
    ("describe_instances", {"Filters": [{"Name": "no-such-filter", "Values": ["x"]}]}, "InvalidParameterValue"),
    ("describe_key_pairs", {"KeyNames": ["nobody"]}, "InvalidKeyPair.NotFound"),
    ("describe_images", {"ImageIds": ["ami-0123456789abcdef0"]}, "InvalidAMIID.NotFound"),
])
def test_ids_and_filters_are_checked(cloud, call, parameters, code):
    assert code_of(getattr(cloud.ec2, call), **parameters) == code


@pytest.mark.parametrize("change, code", [
    ({"MinCount": 2, "MaxCount": 1}, "InvalidParameterCombination"),
    ({"MinCount": 0, "MaxCount": 0}, "InvalidParameterValue"),
    ({"ImageId": "ami-0123456789abcdef0"}, "InvalidAMIID.NotFound"),
    ({"ImageId": "ami-none"}, "InvalidAMIID.Malformed"),
    ({"InstanceType": "t99.huge"}, "InvalidParameterValue"),
    ({"KeyName": "nobody"}, "InvalidKeyPair.NotFound"),
    ({"SubnetId": "subnet-0123456789abcdef0"}, "InvalidSubnetID.NotFound"),
    ({"SecurityGroupIds": ["sg-0123456789abcdef0"]}, "InvalidGroup.NotFound"),
    ({"UserData": "x" * (16 * 1024 + 1)}, "InvalidParameterValue"),
    ({"DryRun": True}, "DryRunOperation"),
])
def test_run_instances_refuses_and_makes_nothing(cloud, change, code):
    before = cloud.trace(), what_is_there(cloud)
    parameters = dict(ImageId=cloud.ami, InstanceType="t3.nano", MinCount=1, MaxCount=1)
    assert code_of(cloud.ec2.run_instances, **{**parameters, **change}) == code
    assert not cloud.new_since(before[0]) and what_is_there(cloud) <= before[1]


def what_is_there(cloud):
    return ({i["InstanceId"] for r in cloud.ec2.describe_instances()["Reservations"] for i in r["Instances"]}
            | {v["VolumeId"] for v in cloud.ec2.describe_volumes()["Volumes"]}
            | {i["NetworkInterfaceId"] for i in cloud.ec2.describe_network_interfaces()["NetworkInterfaces"]})


def test_the_same_token_launches_once(cloud):
    token = str(uuid.uuid4())
    first = cloud.launch(ClientToken=token)
    assert cloud.launch(ClientToken=token) == first
    assert code_of(cloud.ec2.run_instances, ImageId=cloud.ami, InstanceType="t3.micro", MinCount=1, MaxCount=1,
                   ClientToken=token) == "IdempotentParameterMismatch"
    cloud.terminate(*first)


def raw(cloud, data):
    """Bytes to the endpoint, and what comes back before it closes."""
    host, port = cloud.env["AWS_ENDPOINT_URL"].removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as s:
        try:
            s.sendall(data)
            s.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # cut off while we sent: an early refusal may come so
        out = b""
        while True:
            try:
                part = s.recv(65536)
            except ConnectionResetError:
                return out
            if not part:
                return out
            out += part


@pytest.mark.parametrize("data", [
    b"", b"\x00" * 512, b"GET", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nAction=",
    b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZZ\r\n", b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 20000 + b"\r\n",
], ids=["nothing", "zeroes", "cut verb", "cut body", "bad chunk", "many headers"])
def test_broken_http_is_no_harm(cloud, data):
    answer = raw(cloud, data)
    assert not answer.startswith(b"HTTP/1.1 5")
    assert post(cloud, DESCRIBE)[0] == 200


@pytest.mark.parametrize("data", [b"{", b"[]\0", b'{"method": 1}\0', b'{"method": "ec2.Describe', b"\0", b"\xff\xfe\0",
                                  b'{"method": "ec2.RunInstances", "parameters": []}\0', b"{" * 100000 + b"\0"],
                         ids=["cut", "array", "no method", "cut string", "empty", "not UTF-8", "wrong type", "deep"])
def test_broken_rpc_is_refused(cloud, data):
    for daemon in ("hvd", "netd", "stord"):
        script = ("import socket,sys; s=socket.socket(socket.AF_UNIX); s.settimeout(10); s.connect(sys.argv[1]); "
                  "s.sendall(sys.stdin.buffer.read()); s.shutdown(socket.SHUT_WR); print(s.recv(4096))")
        r = subprocess.run(["nsenter", "--target", str(cloud.pid("apid")), "--mount", "--net", "/usr/bin/python3", "-c", script,
                            f"/run/gureum/{daemon}.sock"], input=data, capture_output=True, timeout=60)
        assert b"Traceback" not in r.stderr, r.stderr
        assert cloud.is_ready(daemon)
    assert post(cloud, DESCRIBE)[0] == 200


def import_image(cloud, path, form="qcow2"):
    build = open(f"{cloud.state}/build").read().strip()
    return cloud.run(f"{build}/cli/gureum", "-c", f"{cloud.state}/gureum.conf", "image", "import", "--name", "bad", "--format", form,
                     "--region", cloud.env["AWS_DEFAULT_REGION"], path, timeout=120)


def test_an_image_with_a_backing_file_is_refused(cloud, tmp_path):
    (tmp_path / "secret").write_bytes(b"\0" * (1 << 20))
    path = str(tmp_path / "bad.qcow2")
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", str(tmp_path / "secret"), path], check=True)
    before = cloud.trace()
    r = import_image(cloud, path)
    assert r.returncode != 0 and "backing" in (r.stdout + r.stderr)
    assert not cloud.new_since(before)


def test_an_image_of_absurd_size_is_refused(cloud, tmp_path):
    path = str(tmp_path / "bad.qcow2")
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", path, "1G"], check=True)
    with open(path, "r+b") as f:
        f.seek(24)
        f.write(struct.pack(">Q", 1 << 60))
    r = import_image(cloud, path)
    assert r.returncode != 0


def test_an_image_that_is_none_is_refused(cloud, tmp_path):
    path = tmp_path / "bad.qcow2"
    path.write_bytes(b"QFI\xfb" + b"\xff" * 4096)
    assert import_image(cloud, str(path)).returncode != 0
