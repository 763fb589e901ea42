"""The rest protocols: path, query, headers and body, both ways. EBS and S3 are ours; others show that nothing is made for these two alone."""
import glob
import os
import subprocess
import sys
from urllib.parse import parse_qsl, urlsplit

import botocore.awsrequest
import botocore.parsers
import botocore.serialize
import botocore.session
import pytest

from conftest import ROOT, Driver
from samples import Sampler, to_json

SERVICES = {"ebs": "2019-11-02", "s3": "2006-03-01", "rbin": "2021-06-15", "backup": "2018-11-15"}
SESSION = botocore.session.get_session()
MODELS = {s: SESSION.get_service_model(s) for s in SERVICES}
ALL = [(s, n) for s in SERVICES for n in MODELS[s].operation_names]
AMBIGUOUS = "two actions, or two members of one, cannot be told apart on the wire: the newer one is meant"
SAME_WIRE = {"PutBucketNotification", "GetBucketNotification", "PutBucketLifecycle", "GetBucketLifecycle",
             "SelectObjectContent", "WriteGetObjectResponse"}


@pytest.fixture(scope="module")
def rest_driver(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gen")
    options = [x for s, v in SERVICES.items() for x in ("--service", f"{s}:{v}")]
    generator = os.path.join(ROOT, "scripts", "aws-models.py")
    subprocess.run([sys.executable, generator, *options, str(folder)], check=True)
    sources = glob.glob(os.path.join(ROOT, "lib", "aws", "*.c")) + [os.path.join(ROOT, "tests", "codec", "codec-driver.c")]
    sources += [os.path.join(ROOT, "lib", x) for x in ("fault.c", "jsonx.c", "utf8.c")] + [str(folder / "aws-tables.c")]
    command = ["cc", "-std=gnu17", "-D_GNU_SOURCE", "-g", "-fsanitize=address,undefined", f"-I{folder}", f"-I{ROOT}/lib", f"-I{ROOT}/lib/aws"]
    subprocess.run(command + sources + ["-o", str(folder / "driver"), "-ljansson", "-lexpat"], check=True)
    d = Driver(str(folder / "driver"))
    yield d
    d.close()


def request_of(model, op, params):
    """As it would go over the wire: what botocore's serializer made, put together by its own request preparation."""
    made = botocore.serialize.create_serializer(model.protocol).serialize_to_request(params, op)
    botocore.awsrequest.prepare_request_dict(made, "http://host", context={})
    prepared = botocore.awsrequest.create_request_object(made).prepare()
    url = urlsplit(prepared.url)
    body = prepared.body or b""
    text = [(k, v.decode() if isinstance(v, bytes) else v) for k, v in prepared.headers.items()]
    return {"method": prepared.method, "path": url.path or "/", "query": parse_qsl(url.query, keep_blank_values=True), "headers": text,
            "body": body.decode() if isinstance(body, (bytes, bytearray)) else ""}


def streams(shape):
    payload = shape.serialization.get("payload") if shape else None
    return payload if payload and shape.members[payload].type_name == "blob" else None


def wanted(op, params):
    """What the codec's JSON has of them: no stream, and from headers and query moments as text."""
    shape = op.input_shape
    return {k: to_json(v, is_unix=op.service_model.protocol == "rest-json" and "location" not in shape.members[k].serialization)
            for k, v in params.items() if k != streams(shape)}


@pytest.mark.parametrize("full", [True, False], ids=["all", "required"])
@pytest.mark.parametrize("service,name", ALL)
def test_a_request_of_botocore_is_read(rest_driver, service, name, full):
    model = MODELS[service]
    op = model.operation_model(name)
    if name in SAME_WIRE:
        pytest.skip(AMBIGUOUS)
    sampler = Sampler(full)
    params = sampler.make(op.input_shape) if op.input_shape else {}
    if streams(op.input_shape):
        params[streams(op.input_shape)] = b"sample"
    for k, v in params.items():  # what a header or a query carries has whole seconds, or none
        member = op.input_shape.members[k]
        if member.type_name == "timestamp" and member.serialization.get("location"):
            params[k] = v.replace(microsecond=0)
    got = rest_driver(do="rest", service=model.endpoint_prefix, **request_of(model, op, params))
    assert got.get("action") == name, got
    got["parameters"].pop("ContentLength", None)  # which the client's HTTP adds
    assert got.get("parameters") == {k: v for k, v in wanted(op, params).items() if k != "ContentLength"}, got


@pytest.mark.parametrize("service,name", ALL)
def test_a_reply_is_read_by_botocore(rest_driver, service, name):
    model = MODELS[service]
    op = model.operation_model(name)
    if name in SAME_WIRE or op.has_event_stream_output:
        pytest.skip(AMBIGUOUS)
    reply = Sampler().make(op.output_shape) if op.output_shape else {}
    reply.pop(streams(op.output_shape), None)
    for k, v in reply.items():
        member = op.output_shape.members[k]
        if member.type_name == "timestamp" and member.serialization.get("location"):
            reply[k] = v.replace(microsecond=0)
    got = rest_driver(do="headers", service=model.endpoint_prefix, action=name, reply=to_json(reply))
    assert "headers" in got, got
    assert got["status"] == op.http.get("responseCode", 200)
    body = rest_driver(do="encode", service=model.endpoint_prefix, action=name, reply=to_json(reply))["body"]
    if service == "s3" and name == "GetBucketLocation":
        return  # botocore reads it in a handler of its own
    headers = botocore.awsrequest.HeadersDict(got["headers"])
    response = {"status_code": got["status"], "headers": headers, "body": body.encode(), "context": {}}
    parsed = botocore.parsers.create_parser(model.protocol).parse(response, op.output_shape)
    parsed.pop("ResponseMetadata")
    parsed.pop(streams(op.output_shape), None)
    assert {k: v for k, v in parsed.items() if k in reply} == reply


def test_an_error_and_its_reason_are_read_by_botocore(rest_driver):
    op = MODELS["ebs"].operation_model("GetSnapshotBlock")
    got = rest_driver(do="error", service="ebs", code="ValidationException:INVALID_BLOCK_TOKEN", status=400, message='"x"')
    response = {"status_code": 400, "headers": {"x-amzn-errortype": got["type"]}, "body": got["body"].encode(), "context": {}}
    shape = MODELS["ebs"].shape_for_error_code("ValidationException")
    parsed = botocore.parsers.create_parser("rest-json").parse(response, op.output_shape)
    assert parsed["Error"] == {"Code": "ValidationException", "Message": '"x"'}
    assert '"Reason":"INVALID_BLOCK_TOKEN"' in got["body"] and "Reason" in shape.members


PATHS = [
    ("ebs", "GET", "/snapshots/snap-1/blocks", "ListSnapshotBlocks"),
    ("ebs", "GET", "/snapshots/snap-1/blocks/", "ListSnapshotBlocks"),
    ("ebs", "GET", "/snapshots/snap-1/blocks/7", "GetSnapshotBlock"),
    ("ebs", "PUT", "/snapshots/snap-1/blocks/7", "PutSnapshotBlock"),
    ("ebs", "POST", "/snapshots/snap-1/blocks/7", None),
    ("ebs", "GET", "/snapshots//blocks", None),
    ("ebs", "GET", "/snapshots/a%2Fb/blocks", "ListSnapshotBlocks"),
    ("ebs", "GET", "/", None),
    ("ebs", "GET", "", None),
    ("ebs", "GET", "/snapshots/a/b/blocks", None),
    ("s3", "GET", "/", "ListBuckets"),
    ("s3", "GET", "/b", "ListObjects"),
    ("s3", "GET", "/b/", "ListObjects"),
    ("s3", "GET", "/b/k/l", "GetObject"),
    ("s3", "PUT", "/b/k", "PutObject"),
]


@pytest.mark.parametrize("service,method,path,name", PATHS)
def test_a_path_leads_to_one_action(rest_driver, service, method, path, name):
    got = rest_driver(do="rest", service=service, method=method, path=path, query=[], headers=[], body="")
    assert got["action"] == name


@pytest.mark.parametrize("path,query", [("/snapshots/%zz/blocks/1", []), ("/snapshots/%00/blocks/1", []), ("/snapshots/snap-1/blocks/x", []),
                                        ("/snapshots/snap-1/blocks/-1", [["blockToken", "AA=="]]), ("/snapshots/nosnap/blocks/1", [["blockToken", "AA=="]]),
                                        ("/snapshots/snap-1/blocks/1", []), ("/snapshots/snap-1/blocks/99999999999", [["blockToken", "AA=="]])])
def test_what_does_not_fit_the_model_is_refused(rest_driver, path, query):
    got = rest_driver(do="rest", service="ebs", method="GET", path=path, query=query, headers=[], body="")
    assert "fault" in got, got


def test_a_body_cannot_say_what_the_path_says(rest_driver):
    got = rest_driver(do="rest", service="ebs", method="POST", path="/snapshots/completion/snap-0a", query=[],
                      headers=[["X-Amz-ChangedBlocksCount", "3"]], body='{"snapshotId":"snap-0b","x-amz-Checksum":"AAAA"}')
    assert got["parameters"] == {"SnapshotId": "snap-0a", "ChangedBlocksCount": 3}
