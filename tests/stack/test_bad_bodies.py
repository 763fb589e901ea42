"""What comes in a body or a header of the JSON services, wrong in every way that a client can get it: a 4xx that says so, in their form, and nothing changed.
And those who only keep a connection."""
import base64
import hashlib
import http.client
import json
import os
import resource
import socket
import urllib.parse

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

BLOCK = 524288


def ask(cloud, service, method, path, body=b"", **headers):
    """Status and what the body says."""
    url = urllib.parse.urlsplit(cloud.env["AWS_ENDPOINT_URL"])
    headers = {k.replace("_", "-"): v for k, v in headers.items() if v is not None}
    request = AWSRequest(method, cloud.env["AWS_ENDPOINT_URL"] + path, data=body, headers=headers)
    SigV4Auth(Credentials(cloud.env["AWS_ACCESS_KEY_ID"], cloud.env["AWS_SECRET_ACCESS_KEY"]), service, cloud.env["AWS_DEFAULT_REGION"]).add_auth(request)
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=60)
    try:
        connection.request(method, path, body, dict(request.headers))
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


@pytest.fixture(scope="module")
def written(cloud):
    """A snapshot that is being written, with one block."""
    snapshot = json.loads(ask(cloud, "ebs", "POST", "/snapshots", b'{"VolumeSize": 1}')[1])["SnapshotId"]
    assert put(cloud, snapshot, 0)[0] == 201
    yield snapshot
    cloud.ec2.delete_snapshot(SnapshotId=snapshot)


DATA = os.urandom(BLOCK)
SUM = base64.b64encode(hashlib.sha256(DATA).digest()).decode()


def put(cloud, snapshot, index, data=DATA, **headers):
    given = {"x_amz_Data_Length": str(BLOCK), "x_amz_Checksum": SUM, "x_amz_Checksum_Algorithm": "SHA256", **headers}
    return ask(cloud, "ebs", "PUT", f"/snapshots/{snapshot}/blocks/{index}", data, **given)


WRONG_BLOCKS = {
    "another's sum": dict(x_amz_Checksum=base64.b64encode(bytes(32)).decode()), "no sum": dict(x_amz_Checksum=None), "half a sum": dict(x_amz_Checksum="AAAA"),
    "no base64": dict(x_amz_Checksum="!!!!"), "MD5": dict(x_amz_Checksum_Algorithm="MD5"), "a length too short": dict(x_amz_Data_Length="524287"),
    "no length": dict(x_amz_Data_Length=None), "2^63": dict(x_amz_Data_Length="9223372036854775808"), "progress": dict(x_amz_Progress="101"),
    "nothing": dict(data=b""), "a byte too few": dict(data=DATA[:-1]), "a byte too many": dict(data=DATA + b"x"), "four blocks": dict(data=DATA * 4),
    "below zero": dict(index="-1"), "beyond the end": dict(index="2048"), "2^32": dict(index="4294967296"), "hexadecimal": dict(index="0x1"), "NUL": dict(index="%00"),
}


@pytest.mark.parametrize("wrong", WRONG_BLOCKS.values(), ids=WRONG_BLOCKS)
def test_a_wrong_block_is_refused(cloud, written, wrong):
    status, text = put(cloud, written, **{"index": 1, **wrong})
    assert 400 <= status < 500 and json.loads(text)["message"], text
    # Still one block, and the completion says so.
    status, text = ask(cloud, "ebs", "POST", f"/snapshots/completion/{written}", x_amz_ChangedBlocksCount="2")
    assert status == 400 and "1 blocks were put" in text


DEEP = b"[" * 100000
MANY = json.dumps([{"Key": str(i), "Value": ""} for i in range(10000)]).encode()
WRONG_BODIES = {
    "nothing": b"", "cut": b"{", "a list": b"[]", "null": b"null", "text for a number": b'{"VolumeSize": "1"}', "a fraction": b'{"VolumeSize": 1.5}',
    "2^63": b'{"VolumeSize": 9223372036854775808}', "infinity": b'{"VolumeSize": 1e400}', "below zero": b'{"VolumeSize": -1}', "twice": b'{"VolumeSize": 1, "VolumeSize": 1}',
    "deep": b'{"VolumeSize": 1, "x": ' + DEEP, "10,000 tags": b'{"VolumeSize": 1, "Tags": ' + MANY + b"}", "NUL": b'{"VolumeSize": 1, "Description": "\\u0000"}',
    "not UTF-8": b'{"VolumeSize": 1, "Description": "\xff"}', "half a pair": b'{"VolumeSize": 1, "Description": "\\ud800"}', "more after it": b'{"VolumeSize": 1}{}',
    "a path": b'{"VolumeSize": 1, "ParentSnapshotId": "../../state.db"}', "long": b'{"VolumeSize": 1, "Description": "' + b"x" * 70000 + b'"}',
    "huge": b" " * 3000000 + b'{"VolumeSize": 1}', "a short wait": b'{"VolumeSize": 1, "Timeout": 1}',
}


@pytest.mark.parametrize("body", WRONG_BODIES.values(), ids=WRONG_BODIES)
def test_a_wrong_body_is_refused(cloud, body):
    def there():
        return sorted(s["SnapshotId"] for s in cloud.ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"])
    before = there()
    for service, path in (("ebs", "/snapshots"), ("rbin", "/rules")):
        status, text = ask(cloud, service, "POST", path, body)
        assert 400 <= status < 500 and json.loads(text)["message"], text
    assert there() == before and not cloud.client("rbin").list_rules(ResourceType="EBS_SNAPSHOT")["Rules"]


@pytest.mark.parametrize("begun", [b"", b"POST / HTTP/1.1\r\nHost: x\r\n", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nAct"], ids=["silent", "half a head", "half a body"])
def test_who_keeps_connections_keeps_nobody_out(cloud, begun):
    """More than the front door has places for: it gives up who says nothing, and the next one is served."""
    url, kept = urllib.parse.urlsplit(cloud.env["AWS_ENDPOINT_URL"]), []
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    pid = cloud.pid("apid")
    try:
        for _ in range(1200):
            kept.append(socket.create_connection((url.hostname, url.port), timeout=30))
            kept[-1].sendall(begun)
        assert ask(cloud, "rbin", "POST", "/list-rules", b'{"ResourceType": "EBS_SNAPSHOT"}') == (200, '{"Rules":[]}')
    finally:
        for s in kept:
            s.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert cloud.pid("apid") == pid
