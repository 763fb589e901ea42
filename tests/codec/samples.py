"""Sample values of a model's shapes, as botocore takes and gives them, and as the codec's JSON holds them."""
import base64
import datetime
import re

MOMENT = datetime.datetime(2026, 11, 22, 16, 5, 9, 250000, tzinfo=datetime.timezone.utc)
DEPTH = 5  # shapes that hold themselves end here

# Texts of which at least one fits each pattern of the models; `&<é` are there to be escaped.
CANDIDATES = [
    "a&b<c>\"é'", "abc", "sample-1.x", "/path/", "123456789012", "us-east-1", "443", "200", "HTTPS", "v1", "p90", "/a/b", "AKIAIOSFODNN7EXAMPLE",
    "arn:aws:iam::123456789012:role/sample", "p-abcdefgh", "o-abcdefghij/r-abcd/", "10.0.0.1", "ipv4pool-coip-0a", "Average", "1", ",",
    "01234567-89ab-cdef-0123-456789abcdef", "snap-0a", "abcdefghijk",
    "arn:aws:kms:us-east-1:123456789012:key/sample",
    "arn:aws:rbin:us-east-1:123456789012:rule/abcdefghijk",
    "arn:aws:ec2:us-east-1:123456789012:placement-group/abcde",
    "arn:aws:outposts:us-east-1:123456789012:outpost/op-0123456789abcdef0",
]


def python_pattern(pattern):
    """Java's classes in Python's words; near enough to choose a sample by."""
    pattern = re.sub(r"\\p\{(\w)\}", lambda m: {"L": r"\w", "N": r"\d", "Z": " "}.get(m[1], ""), pattern)
    pattern = pattern.replace(r"\p{Print}", "[ -~]").replace(r"\p{ASCII}", r"\x00-\x7f").replace(r"\p{Alnum}", "0-9A-Za-z")
    pattern = re.sub(r"(\{\d+\})\{[\d,]+\}", r"\1", pattern)  # a repeat of a repeat
    return pattern.replace(r"\uD800\uDC00-\uDBFF\uDFFF", "").replace("\\u10000-\\u10FFFF", "")


def sample_text(shape, at):
    low, high = shape.metadata.get("min", 0), shape.metadata.get("max")
    pattern = shape.metadata.get("pattern")
    for text in CANDIDATES:
        for candidate in (text, (text * (low // len(text) + 1))[: max(low, len(text))], text[: high or None]):
            if len(candidate) < low or (high is not None and len(candidate) > high):
                continue
            if pattern is None or re.fullmatch(python_pattern(pattern), candidate, re.ASCII):
                return candidate
    raise AssertionError(f"no sample for {shape.name} {pattern} {low} {high}")


def sample_number(shape, kind):
    low, high = shape.metadata.get("min"), shape.metadata.get("max")
    value = low if low is not None else 7
    if high is not None:
        value = min(high, value)
    return value + 0.0 if kind is float else int(value)


class Sampler:
    """Values of shapes. `full` fills every member; otherwise only what is required. `is_body` leaves out what HTTP headers carry."""

    def __init__(self, full=True, is_body=False, n_items=2):
        self.full, self.is_body, self.n_items = full, is_body, n_items

    def make(self, shape, depth=0):
        return getattr(self, "make_" + shape.type_name)(shape, depth)

    def make_structure(self, shape, depth):
        made = {}
        for name, member in shape.members.items():
            if self.is_body and "location" in member.serialization:
                continue
            if name in shape.required_members or (self.full and depth < DEPTH):
                made[name] = self.make(member, depth + 1)
        if not made and depth > 0:  # an empty structure has no form in a query
            for name, member in sorted(shape.members.items(), key=lambda item: item[1].type_name in ("structure", "list")):
                return {name: self.make(member, depth + 1)}
        return made

    def make_list(self, shape, depth):
        low, high = shape.metadata.get("min", 0), shape.metadata.get("max")
        n = max(self.n_items if depth < 2 else min(self.n_items, 1), low)
        n = min(n, high) if high is not None else n
        return [self.make(shape.member, depth + 1) for _ in range(n)]

    def make_map(self, shape, depth):
        return {sample_text(shape.key, depth): self.make(shape.value, depth + 1)}

    def make_string(self, shape, depth):
        return shape.enum[len(shape.enum) // 2] if shape.enum else sample_text(shape, depth)

    def make_integer(self, shape, depth):
        return sample_number(shape, int)

    make_long = make_integer

    def make_double(self, shape, depth):
        return sample_number(shape, float)

    make_float = make_double

    def make_boolean(self, shape, depth):
        return depth % 2 == 0

    def make_timestamp(self, shape, depth):
        return MOMENT

    def make_blob(self, shape, depth):
        return b"\x00blob\xff"


def to_json(value, is_unix=False):
    """As the codec holds it: moments as text (or, from the JSON protocols, whole seconds), blobs as base64."""
    if isinstance(value, dict):
        return {k: to_json(v, is_unix) for k, v in value.items()}
    if isinstance(value, list):
        return [to_json(v, is_unix) for v in value]
    if isinstance(value, datetime.datetime) and is_unix:
        return int(value.timestamp())
    if isinstance(value, datetime.datetime):
        return value.astimezone(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.") + f"{value.microsecond // 1000:03d}Z"
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return value
