"""Every action, both ways: botocore's serializers write requests that the codec reads, botocore's parsers read replies that it writes."""
import botocore.parsers
import botocore.serialize
import botocore.session
import pytest

from samples import Sampler, to_json

SERVICES = ["ec2", "sts", "iam", "elbv2", "autoscaling", "cloudwatch", "s3"]
SESSION = botocore.session.get_session()
MODELS = {s: SESSION.get_service_model(s) for s in SERVICES}
QUERY = [(s, n) for s in SERVICES if s != "s3" for n in MODELS[s].operation_names]
ALL = [(s, n) for s in SERVICES for n in MODELS[s].operation_names]

AMBIGUOUS = "two members of its model, one of them deprecated, have one wire name"


def text(value):
    return value if isinstance(value, str) else str(value)


def pairs_of(model, op, params):
    serializer = botocore.serialize.create_serializer(model.protocol)
    request = serializer.serialize_to_request(params, op)
    return [[k, text(v)] for k, v in request["body"].items()]


def parse(model, op, body, status=200, headers=None):
    parser = botocore.parsers.create_parser(model.protocol)
    response = {"status_code": status, "headers": headers or {}, "body": body.encode(), "context": {}}
    return parser.parse(response, op.output_shape)


@pytest.mark.parametrize("full", [True, False], ids=["all", "required"])
@pytest.mark.parametrize("service,name", QUERY)
def test_a_request_of_botocore_is_read(driver, service, name, full):
    model = MODELS[service]
    op = model.operation_model(name)
    params = Sampler(full).make(op.input_shape) if op.input_shape else {}
    got = driver(do="query", service=model.endpoint_prefix, action=name, pairs=pairs_of(model, op, params))
    assert got.get("parameters") == to_json(params), got


@pytest.mark.parametrize("full", [True, False], ids=["all", "required"])
@pytest.mark.parametrize("name", MODELS["s3"].operation_names)
def test_a_body_of_botocore_is_read(driver, name, full):
    op = MODELS["s3"].operation_model(name)
    if not op.input_shape or op.has_streaming_input:
        pytest.skip("no body, or a stream")
    if name == "PutBucketNotification":
        pytest.skip(AMBIGUOUS)
    params = Sampler(full).make(op.input_shape)
    request = botocore.serialize.create_serializer("rest-xml").serialize_to_request(params, op)
    body = request["body"].decode() if isinstance(request["body"], bytes) else request["body"]
    got = driver(do="xml", service="s3", action=name, body=body)
    wanted = {k: v for k, v in params.items() if "location" not in op.input_shape.members[k].serialization}
    assert got.get("parameters") == to_json(wanted), (got, body)


@pytest.mark.parametrize("n_items", [2, 1, 0])
@pytest.mark.parametrize("service,name", ALL)
def test_a_reply_is_read_by_botocore(driver, service, name, n_items):
    model = MODELS[service]
    op = model.operation_model(name)
    if op.has_event_stream_output or op.has_streaming_output:
        pytest.skip("the body is a stream")
    if name == "GetBucketNotification":
        pytest.skip(AMBIGUOUS)
    reply = Sampler(True, is_body=True, n_items=n_items).make(op.output_shape) if op.output_shape else {}
    got = driver(do="encode", service=model.endpoint_prefix, action=name, reply=to_json(reply))
    assert "body" in got, got
    if service == "s3" and name == "GetBucketLocation":  # botocore reads it in a handler of its own
        assert f">{reply['LocationConstraint']}</LocationConstraint>" in got["body"]
        return
    parsed = parse(model, op, got["body"])
    if service == "s3" and name == "HeadObject":
        assert parsed.pop("Metadata") == {}  # of the headers, always there
    metadata = parsed.pop("ResponseMetadata")
    if service != "s3":
        assert metadata["RequestId"] == "59dbff89-35bd-4eac-99ed-be587EXAMPLE"
    if not op.output_shape:
        return
    assert parsed == seen(op.output_shape, reply)


def seen(shape, value):
    """What is left of a reply once it was XML: an empty flat list is no element at all."""
    if shape.type_name == "structure":
        kept = {}
        for name, v in value.items():
            member = shape.members[name]
            if not (member.type_name in ("list", "map") and member.serialization.get("flattened") and not v):
                kept[name] = seen(member, v)
        return kept
    if shape.type_name == "list":
        return [seen(shape.member, v) for v in value]
    if shape.type_name == "map":
        return {k: seen(shape.value, v) for k, v in value.items()}
    return value


@pytest.mark.parametrize("service", SERVICES)
def test_an_error_is_read_by_botocore(driver, service):
    model = MODELS[service]
    op = model.operation_model(model.operation_names[0])
    got = driver(do="error", service=model.endpoint_prefix, code="InvalidX.NotFound", status=400, message="no <x> & \u0001y")
    parsed = parse(model, op, got["body"], status=400)
    assert parsed["Error"]["Code"] == "InvalidX.NotFound"
    assert parsed["Error"]["Message"] == "no <x> & \ufffdy"
    if service != "s3":  # whose parser takes it from a header
        assert "RequestId" in parsed["ResponseMetadata"]
