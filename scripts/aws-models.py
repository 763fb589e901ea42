#!/usr/bin/python3
"""AWS's service models -> const C tables (lib/aws/table.h says what each row means).

Reads the models that Debian's python3-botocore carries, lays lib/aws/overlay.json over them and writes aws-tables.c and aws-tables.h.
Everything is a number: an index into another table or an offset into one pool of strings, so nothing needs relocation.

usage: aws-models.py [--overlay FILE] [--service FOLDER:VERSION]... OUTPUT-FOLDER
"""
import argparse
import gzip
import json
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from aws_patterns import Patterns  # noqa: E402

# (folder in botocore/data, version). The endpoint prefix, which callers name, is in the model.
SERVICES = [
    ("ec2", "2016-11-15"),
    ("sts", "2011-06-15"),
    ("iam", "2010-05-08"),
    ("elbv2", "2015-12-01"),
    ("autoscaling", "2011-01-01"),
    ("cloudwatch", "2010-08-01"),
    ("s3", "2006-03-01"),
    ("ebs", "2019-11-02"),
    ("rbin", "2021-06-15"),
]
PROTOCOLS = {"ec2": "AWS_EC2", "query": "AWS_QUERY", "json": "AWS_JSON", "rest-json": "AWS_REST_JSON", "rest-xml": "AWS_REST_XML"}
TYPES = ["structure", "list", "map", "string", "integer", "long", "double", "boolean", "timestamp", "blob"]
TYPE_ALIASES = {"float": "double", "character": "string", "bigdecimal": "double", "short": "integer", "byte": "integer"}
LOCATIONS = {None: 0, "header": 1, "headers": 2, "querystring": 3, "uri": 4, "statusCode": 5}
TIMESTAMPS = {None: 0, "iso8601": 1, "unixtimestamp": 2, "unixTimestamp": 2, "rfc822": 3}
NONE = 0xFFFF

# struct aws_member's flags
REQUIRED, FLATTENED, ATTRIBUTE, PAYLOAD, STREAMING, SENSITIVE = 1, 2, 4, 8, 16, 32


def fail(text):
    sys.exit(f"aws-models: {text}")


def data_folder():
    import botocore

    return os.path.join(os.path.dirname(botocore.__file__), "data")


def load_model(folder, service, version):
    path = os.path.join(folder, service, version, "service-2.json")
    if os.path.exists(path + ".gz"):
        with gzip.open(path + ".gz", "rt", encoding="utf-8") as f:
            return json.load(f)
    try:
        with open(path, encoding="utf-8") as f:
            return json.load(f)
    except FileNotFoundError:
        fail(f"{path} is missing: install python3-botocore")


def overlay(model, patch):
    """JSON merge patch (null deletes), but lists grow: an overlay adds enum values, it does not repeat them."""
    for key, value in patch.items():
        if value is None:
            model.pop(key, None)
        elif isinstance(value, dict):
            overlay(model.setdefault(key, {}), value)
        elif isinstance(value, list):
            model[key] = model.get(key, []) + [x for x in value if x not in model.get(key, [])]
        else:
            model[key] = value


class Strings:
    """The pool. A string that ends another one is stored as the other's tail."""

    def __init__(self):
        self.seen = {""}

    def add(self, text):
        if "\0" in text:
            fail(f"a NUL in {text!r}")
        self.seen.add(text)
        return Text(self, text)

    def lay(self):
        order = sorted(self.seen, key=lambda s: s.encode()[::-1], reverse=True)
        self.offsets, self.pool, before = {}, [], None
        at = 0
        for text in order:
            raw = text.encode()
            if before is not None and before[0].endswith(raw):
                self.offsets[text] = before[1] + len(before[0]) - len(raw)
                continue
            before = (raw, at)
            self.offsets[text] = at
            self.pool.append(raw)
            at += len(raw) + 1
        self.n_bytes = at


class Text:
    """A string whose offset is known once the pool is laid out."""

    def __init__(self, strings, text):
        self.strings, self.text = strings, text

    def __str__(self):
        return str(self.strings.offsets[self.text])


class Tables:
    def __init__(self):
        self.strings = Strings()
        self.patterns = Patterns()
        self.services, self.actions, self.shapes, self.members, self.enums = [], [], [], [], []
        self.limits = [(0, 0, 0, 0, 0)]  # row 0: no limits
        self.limits_seen = {}
        self.enums_seen = {}

    def add_service(self, model):
        meta = model["metadata"]
        if meta["protocol"] not in PROTOCOLS:
            fail(f"{meta['endpointPrefix']}: protocol {meta['protocol']}")
        first = len(self.actions)
        builder = Builder(self, model)
        for name in sorted(model["operations"]):
            self.actions.append(builder.action(model["operations"][name], len(self.services)))
        namespace = meta.get("xmlNamespace", "")
        if meta["protocol"] == "ec2" and not namespace.endswith("/"):
            namespace += "/"  # on the wire it has the slash that the model lacks
        if meta["protocol"] == "rest-xml" and not namespace:
            namespace = f"http://{meta['endpointPrefix']}.amazonaws.com/doc/{meta['apiVersion']}/"
        s = self.strings.add
        self.services.append((s(meta["endpointPrefix"]), s(meta["apiVersion"]), s(namespace), s(meta.get("targetPrefix", "")),
                              s(meta.get("jsonVersion", "")), first, len(self.actions) - first, PROTOCOLS[meta["protocol"]]))

    def add_enum(self, values):
        values = tuple(sorted(set(values), key=str.encode))
        if values not in self.enums_seen:
            self.enums_seen[values] = len(self.enums)
            self.enums.extend(self.strings.add(v) for v in values)
        return self.enums_seen[values], len(values)

    def add_limits(self, shape):
        low, high, pattern = shape.get("min"), shape.get("max"), shape.get("pattern")
        if low is None and high is None and pattern is None:
            return 0
        row = (low, high, pattern)
        if row not in self.limits_seen:
            self.limits_seen[row] = len(self.limits)
            bounds = int(low is not None) | int(high is not None) << 1
            self.limits.append((low or 0, high or 0, self.strings.add(pattern or ""), self.patterns.add(pattern), bounds))
        return self.limits_seen[row]


class Builder:
    """One service's shapes, from the actions down; a shape that nothing uses is left out."""

    def __init__(self, tables, model):
        self.t, self.model = tables, model
        self.protocol = model["metadata"]["protocol"]
        self.indexes = {}

    def action(self, op, service):
        s = self.t.strings.add
        inp, out = op.get("input"), op.get("output")
        index_in = self.shape(inp["shape"]) if inp else NONE
        index_out = self.shape(out["shape"]) if out else NONE
        root = self.root(op, out)
        return (s(op["name"]), s((out or {}).get("resultWrapper", "")), s(root), s((inp or {}).get("locationName", "")), s(op["http"]["method"]),
                s(op["http"]["requestUri"]), index_in, index_out, service, op["http"].get("responseCode", 200),
                int(op.get("authtype") == "v4-unsigned-body"))

    def root(self, op, out):
        """The reply's root element."""
        if self.protocol in ("ec2", "query"):
            return op["name"] + "Response"
        if not out:
            return ""
        shape = self.model["shapes"][out["shape"]]
        if "payload" in shape:
            ref = shape["members"][shape["payload"]]
            return ref.get("locationName", ref["shape"])
        return out.get("locationName", shape.get("locationName", out["shape"]))

    def shape(self, name):
        if name in self.indexes:
            return self.indexes[name]
        # The row is taken before its members are made: shapes may hold themselves.
        index = self.indexes[name] = len(self.t.shapes)
        self.t.shapes.append(None)
        shape = self.model["shapes"][name]
        kind = TYPE_ALIASES.get(shape["type"], shape["type"])
        rows = []
        if kind == "structure":
            required, payload = shape.get("required", []), shape.get("payload")
            for member, ref in shape["members"].items():
                flags = (REQUIRED if member in required else 0) | (PAYLOAD if member == payload else 0)
                rows.append(self.member(member, ref, flags))
        elif kind == "list":
            rows.append(self.member("member", shape["member"], 0, is_element=True))
        elif kind == "map":
            rows += [self.member("key", shape["key"], 0), self.member("value", shape["value"], 0)]
        first, n = len(self.t.members), len(rows)
        self.t.members += rows
        if kind == "string" and shape.get("enum"):
            first, n = self.t.add_enum(shape["enum"])
        self.t.shapes[index] = (TYPES.index(kind), n, first, self.t.add_limits(shape))
        return index

    def member(self, name, ref, flags, is_element=False):
        target = {**self.model["shapes"][ref["shape"]], **ref}  # what the reference says goes before what its shape says
        wire = target.get("locationName")
        request = self.request_name(name, target)
        # A list's element that the model does not name: EC2 writes "item", Query services "member".
        reply = wire or ("item" if self.protocol == "ec2" and is_element else name)
        if target.get("flattened"):
            flags |= FLATTENED
            inner = target.get("member", {}).get("locationName")
            if target["type"] == "list" and inner and self.protocol != "ec2":
                reply = inner
                request = inner if self.protocol == "query" else request
        if target.get("xmlAttribute"):
            flags |= ATTRIBUTE
        if target.get("streaming"):
            flags |= STREAMING
        if target.get("sensitive"):
            flags |= SENSITIVE
        namespace = target.get("xmlNamespace") or {}
        namespace = namespace if isinstance(namespace, dict) else {"uri": namespace}
        s = self.t.strings.add
        index = self.shape(ref["shape"])
        return (s(name), s(request), s(reply), s(namespace.get("uri", "")), index, flags, LOCATIONS[target.get("location")],
                TIMESTAMPS[target.get("timestampFormat")])

    def request_name(self, name, target):
        wire = target.get("locationName")
        if self.protocol != "ec2":
            return wire or name
        if "queryName" in target:
            return target["queryName"]
        return wire[0].upper() + wire[1:] if wire else name


def write_rows(out, kind, name, rows):
    out.write(f"const {kind} {name}[{max(len(rows), 1)}] = {{\n")
    line = ""
    for row in rows:
        text = "{%s}," % ",".join(map(str, row)) if isinstance(row, tuple) else f"{row},"
        if len(line) + len(text) > 120:
            out.write(line + "\n")
            line = ""
        line += text
    out.write(line + "\n};\n\n")


def c_string(raw):
    return "".join(chr(b) if 32 <= b < 127 and chr(b) not in '"\\?' else f"\\{b:03o}" for b in raw)


def write_tables(t, folder):
    t.strings.lay()
    for name, rows in (("shapes", t.shapes), ("members", t.members), ("actions", t.actions), ("enums", t.enums), ("limits", t.limits),
                       ("steps", t.patterns.steps), ("ranges", t.patterns.ranges)):
        if len(rows) >= NONE:
            fail(f"{len(rows)} {name} do not fit 16 bits")
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "aws-tables.c"), "w", encoding="ascii") as out:
        out.write("/* Made by scripts/aws-models.py. */\n#include \"table.h\"\n\n")
        for text in t.patterns.unchecked:
            out.write("/* A pattern that is not checked: %s */\n" % text.replace("*/", "* /").replace("/*", "/ *"))
        write_rows(out, "struct aws_service", "aws_services", t.services)
        write_rows(out, "struct aws_action", "aws_actions", t.actions)
        write_rows(out, "struct aws_shape", "aws_shapes", t.shapes)
        write_rows(out, "struct aws_member", "aws_members", t.members)
        write_rows(out, "struct aws_limits", "aws_limits", t.limits)
        write_rows(out, "uint32_t", "aws_enums", t.enums)
        write_rows(out, "struct aws_step", "aws_steps", t.patterns.steps)
        write_rows(out, "struct aws_range", "aws_ranges", t.patterns.ranges)
        out.write("const char aws_strings[] =\n")
        for raw in t.strings.pool:
            out.write(f'"{c_string(raw)}\\0"\n')
        out.write(";\n")
    with open(os.path.join(folder, "aws-tables.h"), "w", encoding="ascii") as out:
        out.write("/* Made by scripts/aws-models.py: how long the tables of aws-tables.c are. */\n#pragma once\n\n")
        for name, n in (("SERVICES", len(t.services)), ("ACTIONS", len(t.actions)), ("SHAPES", len(t.shapes)), ("MEMBERS", len(t.members)),
                        ("LIMITS", len(t.limits)), ("ENUMS", len(t.enums)), ("STEPS", len(t.patterns.steps)),
                        ("RANGES", len(t.patterns.ranges)), ("STRING_BYTES", t.strings.n_bytes + 1)):
            out.write(f"#define AWS_N_{name} {n}\n")


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    args = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    args.add_argument("--overlay", default=os.path.join(here, "..", "lib", "aws", "overlay.json"))
    args.add_argument("--service", action="append", help="folder in botocore/data, a colon, version; instead of ours (tests)")
    args.add_argument("output", help="folder for aws-tables.c and aws-tables.h")
    args = args.parse_args()
    with open(args.overlay, encoding="utf-8") as f:
        patches = json.load(f)
    tables, folder = Tables(), data_folder()
    known = set()
    for service, version in [x.split(":") for x in args.service] if args.service else SERVICES:
        model = load_model(folder, service, version)
        overlay(model, patches.get(service, {}))
        known.add(service)
        tables.add_service(model)
    for service in patches:
        if service not in known and not service.startswith("_") and not args.service:
            fail(f"the overlay names {service}, which is no service of ours")
    write_tables(tables, args.output)


if __name__ == "__main__":
    main()
