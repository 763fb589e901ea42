"""The JSON protocols. None of our services speaks them yet, so the tables are made for two others, and the driver is built with these."""
import glob
import os
import subprocess
import sys

import botocore.parsers
import botocore.serialize
import botocore.session
import pytest

from conftest import ROOT, Driver
from samples import Sampler, to_json

SERVICES = {"dynamodb": "2012-08-10", "logs": "2014-03-28"}
SESSION = botocore.session.get_session()
MODELS = {s: SESSION.get_service_model(s) for s in SERVICES}
ALL = [(s, n) for s in SERVICES for n in MODELS[s].operation_names]
GENERATOR = os.path.join(ROOT, "scripts", "aws-models.py")


def generate(folder, *options):
    return subprocess.run([sys.executable, GENERATOR, *options, str(folder)], capture_output=True, text=True)


@pytest.fixture(scope="module")
def json_driver(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gen")
    options = [x for s, v in SERVICES.items() for x in ("--service", f"{s}:{v}")]
    assert generate(folder, *options).returncode == 0
    sources = glob.glob(os.path.join(ROOT, "lib", "aws", "*.c")) + [os.path.join(ROOT, "tests", "codec", "codec-driver.c")]
    sources += [os.path.join(ROOT, "lib", x) for x in ("fault.c", "jsonx.c", "utf8.c")] + [str(folder / "aws-tables.c")]
    command = ["cc", "-std=gnu17", "-D_GNU_SOURCE", "-g", "-fsanitize=address,undefined", f"-I{folder}", f"-I{ROOT}/lib", f"-I{ROOT}/lib/aws"]
    subprocess.run(command + sources + ["-o", str(folder / "driver"), "-ljansson", "-lexpat"], check=True)
    d = Driver(str(folder / "driver"))
    yield d
    d.close()


@pytest.mark.parametrize("full", [True, False], ids=["all", "required"])
@pytest.mark.parametrize("service,name", ALL)
def test_a_request_of_botocore_is_read(json_driver, service, name, full):
    op = MODELS[service].operation_model(name)
    params = Sampler(full).make(op.input_shape) if op.input_shape else {}
    request = botocore.serialize.create_serializer("json").serialize_to_request(params, op)
    got = json_driver(do="json", service=MODELS[service].endpoint_prefix, action=name, body=request["body"].decode())
    assert got.get("parameters") == to_json(params, is_unix=True), got


@pytest.mark.parametrize("service,name", ALL)
def test_a_reply_is_read_by_botocore(json_driver, service, name):
    op = MODELS[service].operation_model(name)
    reply = Sampler().make(op.output_shape) if op.output_shape else {}
    got = json_driver(do="encode", service=MODELS[service].endpoint_prefix, action=name, reply=to_json(reply))
    response = {"status_code": 200, "headers": {}, "body": got["body"].encode(), "context": {}}
    parsed = botocore.parsers.create_parser("json").parse(response, op.output_shape)
    parsed.pop("ResponseMetadata")
    assert parsed == reply


def test_an_error_is_read_by_botocore(json_driver):
    op = MODELS["logs"].operation_model("CreateLogGroup")
    got = json_driver(do="error", service="logs", code="ResourceAlreadyExistsException", status=400, message='"x"')
    response = {"status_code": 400, "headers": {}, "body": got["body"].encode(), "context": {}}
    parsed = botocore.parsers.create_parser("json").parse(response, op.output_shape)
    assert parsed["Error"] == {"Code": "ResourceAlreadyExistsException", "Message": '"x"'}
