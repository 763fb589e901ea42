"""The automata that scripts/aws_patterns.py makes, against Python's own matcher, on texts made from the patterns' characters."""
import os
import random
import re
import sys

import botocore.session
import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "scripts"))
from aws_patterns import JUMP, MATCH, RANGES, SPLIT, Patterns  # noqa: E402

SESSION = botocore.session.get_session()
SERVICES = ["ec2", "sts", "iam", "elbv2", "autoscaling", "cloudwatch", "s3"]


def all_patterns():
    found = set()
    for service in SERVICES:
        for shape in SESSION.get_service_model(service)._service_description["shapes"].values():
            found.add(shape.get("pattern"))
    return sorted(p for p in found if p and "\\p" not in p and "\\uD800" not in p)


def fits(patterns, start, text):
    def follow(steps):
        seen, todo = set(), list(steps)
        while todo:
            step = todo.pop()
            if step in seen:
                continue
            seen.add(step)
            kind, a, b = patterns.steps[step]
            if kind in (JUMP, SPLIT):
                todo.append(a)
            if kind == SPLIT:
                todo.append(b)
        return seen

    now = follow([start])
    for c in text:
        nexts = []
        for step in now:
            kind, a, b = patterns.steps[step]
            if kind == RANGES and any(low <= ord(c) <= high for low, high in patterns.ranges[a:a + b]):
                nexts.append(step + 1)
        now = follow(nexts)
    return any(patterns.steps[step][0] == MATCH for step in now)


@pytest.mark.parametrize("pattern", all_patterns())
def test_a_pattern_fits_what_python_fits(pattern):
    patterns = Patterns()
    start = patterns.add(pattern)
    if not start:
        pytest.skip(patterns.unchecked[0])
    matcher = re.compile(pattern.strip("^$") if pattern.count("^") == 1 and pattern[0] == "^" else pattern, re.ASCII)
    rng = random.Random(pattern)
    letters = sorted(set(re.sub(r"\\u....", "", pattern))) + list("aZ09_-./ :é\t")
    for _ in range(300):
        text = "".join(rng.choice(letters) for _ in range(rng.randrange(12)))
        assert fits(patterns, start, text) == bool(matcher.fullmatch(text)), text


def test_what_cannot_be_said_is_named():
    patterns = Patterns()
    assert patterns.add("a(?!b)") == 0
    assert patterns.unchecked == ["look-around: a(?!b)"]
    assert patterns.steps == [(MATCH, 0, 0)]


def test_java_classes_are_unicode():
    patterns = Patterns()
    start = patterns.add(r"[\p{L}\p{N}]+")
    assert fits(patterns, start, "구름é7") and not fits(patterns, start, "구 름")
    start = patterns.add(r"[\uE000-\uFFFD\uD800\uDC00-\uDBFF\uDFFF]")
    assert fits(patterns, start, "\U0001f41f") and not fits(patterns, start, "a")
