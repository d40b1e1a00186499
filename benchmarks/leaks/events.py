"""Clean events of six shapes with known listed values, and places for a payload in each.

A shape has a body: a mapping with the listed values, nested or under flat keys. The payload is
planted in the body, whatever the shape. Then the body is wrapped into the document that a client, a
vendor's dashboard or an OpenTelemetry exporter sends.
"""

from __future__ import annotations

import json
import random
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any, NamedTuple

from collector import load_schema
from collector.contracts import Signal
from collector.schema.kinds import Field
from collector.schema.kinds.enum import EnumField
from collector.schema.kinds.ip import IpField
from collector.schema.kinds.token import TokenField
from collector.schema.kinds.version import VersionField
from collector.schema.scalars import path_of

Body = dict[str, Any]
_Path = tuple[str, ...]

TWICE = "\0twice"
"""A suffix of keys that is not written, so that an object can have a key twice."""
REPORT = "RTCIceCandidate_"
"""The prefix of a report's id."""
_START_NS = 1_795_000_000_000_000_000


class Listed(NamedTuple):
    """A listed value of a clean event: the field, its place in the body, the written value, and the
    value in the record."""

    field: str
    path: _Path
    written: str
    canonical: str


class Shape(NamedTuple):
    """``draw`` returns a body and its listed values; ``wrap`` returns the document for bodies, each
    of which is a record. ``schema`` is the shipped schema for it, ``signal`` its OTLP signal."""

    name: str
    schema: str
    draw: Callable[[random.Random], tuple[Body, list[Listed]]]
    wrap: Callable[[Sequence[Body]], Any]
    several: bool
    signal: Signal | None = None


_ADDRESSES = (
    *("203.0.113.7", "203.0.113.88", "198.51.100.4", "192.0.2.61", "2001:db8::7"),
    *("2001:db8:5::61", "198.51.100.201"),
)
ORDERED: tuple[str, ...] = tuple(f"192.0.2.{at}" for at in range(256))
"""The addresses of records whose order spells, in ascending order."""
_CLIENTS: tuple[Mapping[str, tuple[str, str]], ...] = (
    {
        "device.type": ("iPhone", "phone"),
        "device.manufacturer": ("Apple", "Apple"),
        "device.model.identifier": ("iPhone16,1", "iPhone16,1"),
        "device.model.name": ("iPhone 15 Pro", "iPhone 15 Pro"),
        "os.type": ("iOS", "ios"),
        "os.name": ("iOS", "iOS"),
        "os.version": ("17.4.1", "17.4.1"),
        "os.build_id": ("21E236", "21E236"),
    },
    {
        "device.type": ("laptop", "laptop"),
        "device.manufacturer": ("Dell Inc.", "Dell Inc."),
        "os.type": ("windows", "windows"),
        "os.name": ("Windows", "Windows"),
        "os.version": ("10.0.22631", "10.0.22631"),
        "os.build_id": ("22631.3447", "22631.3447"),
    },
    {
        "device.type": ("phone", "phone"),
        "device.manufacturer": ("Samsung", "Samsung"),
        "device.model.identifier": ("SM-S928B", "SM-S928B"),
        "os.type": ("android", "android"),
        "os.name": ("Android", "Android"),
        "os.version": ("14", "14"),
        "os.build_id": ("UP1A.231005.007", "UP1A.231005.007"),
    },
    {
        "device.type": ("desktop", "desktop"),
        "os.type": ("linux", "linux"),
        "os.name": ("Ubuntu", "Ubuntu"),
        "os.version": ("22.04", "22.04"),
    },
)
_VENDOR = {
    "Windows": ("desktop", "windows"),
    "Mac": ("desktop", "darwin"),
    "iPad": ("tablet", "ios"),
    "Zoom Rooms": ("room_system", None),
}


def _canonical() -> dict[str, frozenset[str]]:
    values: dict[str, set[str]] = {"client.address": {*_ADDRESSES, *ORDERED}}
    for client in _CLIENTS:
        for field, (_, canonical) in client.items():
            values.setdefault(field, set()).add(canonical)
    for kind, system in _VENDOR.values():
        values["device.type"].add(kind)
        if system is not None:
            values["os.type"].add(system)
    return {field: frozenset(each) for field, each in values.items()}


CANONICAL: dict[str, frozenset[str]] = _canonical()
"""All values that records of clean events may have, by field."""


def _meeting(rng: random.Random) -> tuple[Body, list[Listed]]:
    """A report of a meeting client, nested."""
    address = rng.choice(_ADDRESSES)
    listed = [Listed("client.address", ("client", "address"), address, address)]
    body: Body = {"event": "heartbeat", "client": {"address": address, "port": 50_004}}
    for field, (written, canonical) in rng.choice(_CLIENTS).items():
        path = tuple(field.split("."))
        listed.append(Listed(field, path, written, canonical))
        _put(body, path, written)
    return body | {"network": {"rtt_ms": rng.randrange(8, 240), "kind": "wifi"}}, listed


def _attributes(rng: random.Random) -> tuple[Body, list[Listed]]:
    """Such a report as OpenTelemetry attributes, with flat keys."""
    address = rng.choice(_ADDRESSES)
    listed = [Listed("client.address", ("client.address",), address, address)]
    for field, (written, canonical) in rng.choice(_CLIENTS).items():
        listed.append(Listed(field, (field,), written, canonical))
    body: Body = {each.path[0]: each.written for each in listed}
    return body | {"rtt_ms": rng.randrange(8, 240), "network.type": "wifi"}, listed


def _candidate(rng: random.Random) -> tuple[Body, list[Listed]]:
    """A WebRTC report about an ICE candidate."""
    key, address = rng.choice(("address", "ip", "ipAddress")), rng.choice(_ADDRESSES)
    body = {"type": "local-candidate", "networkType": "wifi", "port": 50_004, key: address}
    return body, [Listed("client.address", (key,), address, address)]


def _participant(rng: random.Random) -> tuple[Body, list[Listed]]:
    """A participant in a vendor's report; its device names both device and system."""
    address, device = rng.choice(_ADDRESSES), rng.choice(list(_VENDOR))
    kind, system = _VENDOR[device]
    listed = [
        Listed("client.address", ("ip_address",), address, address),
        Listed("device.type", ("device",), device, kind),
    ]
    if system is not None:
        listed.append(Listed("os.type", ("device",), device, system))
    return {"device": device, "ip_address": address, "network_type": "Wifi"}, listed


def _put(body: Body, path: _Path, value: Any) -> None:
    for key in path[:-1]:
        body = body.setdefault(key, {})
    body[path[-1]] = value


def _getstats(bodies: Sequence[Body]) -> Any:
    reports = {f"{REPORT}{at}": body for at, body in enumerate(bodies)}
    return ["getstats", "PC_0", reports, _START_NS // 1_000_000]


def _vendor(bodies: Sequence[Body]) -> Any:
    return {"page_count": 1, "page_size": 30, "next_page_token": "", "participants": [*bodies]}


def any_value(value: Any) -> Any:
    """Return a value as OTLP/JSON writes it; a number beyond 63 bits becomes a text."""
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int) and abs(value) < 1 << 63:
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    if isinstance(value, list):
        return {"arrayValue": {"values": [any_value(each) for each in value]}}
    if isinstance(value, dict):
        return {"kvlistValue": {"values": key_values(value)}}
    return {"stringValue": str(value)}


def key_values(body: Mapping[str, Any]) -> list[Any]:
    """Return the members of a body as attributes."""
    return [
        {"key": key.removesuffix(TWICE), "value": any_value(value)} for key, value in body.items()
    ]


def _item(body: Body, named: str | None = None) -> tuple[str, Any, list[Any]]:
    """Return an item's time, its own text, and its attributes. ``time`` and ``note`` of the body
    are the time and the text, if they fit. ``named`` replaces the text."""
    left, time = dict(body), _START_NS
    if isinstance(left.get("time"), int) and 0 <= left["time"] < 1 << 63:
        time = left.pop("time")
    text = named if named is None else left.pop("note", named)
    return str(time), text, key_values(left)


def _logs(bodies: Sequence[Body]) -> Any:
    records = [
        {"timeUnixNano": time, "body": any_value(said), "attributes": attributes}
        for time, said, attributes in (_item(body, "heartbeat") for body in bodies)
    ]
    return {"resourceLogs": [{"scopeLogs": [{"logRecords": records}]}]}


def _traces(bodies: Sequence[Body]) -> Any:
    ids = {"traceId": "5b" * 16, "spanId": "a1" * 8}
    spans = [
        {**ids, "name": str(name), "startTimeUnixNano": time, "attributes": attributes}
        for time, name, attributes in (_item(body, "join") for body in bodies)
    ]
    return {"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}


def _metrics(bodies: Sequence[Body]) -> Any:
    points = [
        {"timeUnixNano": time, "asDouble": 0.5, "attributes": attributes}
        for time, _, attributes in map(_item, bodies)
    ]
    metric = {"name": "call.jitter", "unit": "ms", "gauge": {"dataPoints": points}}
    return {"resourceMetrics": [{"scopeMetrics": [{"metrics": [metric]}]}]}


SHAPES: dict[str, Shape] = {
    shape.name: shape
    for shape in (
        Shape("meeting", "conferencing", _meeting, lambda bodies: bodies[0], several=False),
        Shape("webrtc", "webrtc", _candidate, _getstats, several=True),
        Shape("vendor", "participants-qos", _participant, _vendor, several=True),
        Shape("logs", "conferencing", _attributes, _logs, several=True, signal="logs"),
        Shape("traces", "conferencing", _attributes, _traces, several=True, signal="traces"),
        Shape("metrics", "conferencing", _attributes, _metrics, several=True, signal="metrics"),
    )
}
"""By name: what is sent about meetings, and how."""


# -- as text, and as protobuf ----------------------------------------------------------------------


def write(document: Any, *, ascii_only: bool = False) -> str:
    """Return a document as JSON text, in which keys may occur twice."""
    text = json.dumps(document, ensure_ascii=ascii_only, separators=(",", ":"))
    return text.replace(json.dumps(TWICE)[1:-1], "")


_REQUESTS: dict[str, tuple[str, str]] = {
    "resourceLogs": ("logs.v1.logs", "ExportLogsServiceRequest"),
    "resourceSpans": ("trace.v1.trace", "ExportTraceServiceRequest"),
    "resourceMetrics": ("metrics.v1.metrics", "ExportMetricsServiceRequest"),
}
"""For each member, the module and the name of the official class of a request."""


def message(member: str) -> Any:
    """Return the official class of an OTLP request."""
    module, name = _REQUESTS[member]
    return getattr(import_module(f"opentelemetry.proto.collector.{module}_service_pb2"), name)


def export(document: Any) -> bytes:
    """Return an OTLP/JSON request as protobuf."""
    (member,) = document
    parse: Any = import_module("google.protobuf.json_format").ParseDict
    request = parse(document, message(member)())
    for resource in request.resource_spans if member == "resourceSpans" else ():
        for span in (span for scope in resource.scope_spans for span in scope.spans):
            # OTLP/JSON writes ids in hexadecimal, but the parser read them as base64.
            span.trace_id = bytes.fromhex(b64encode(span.trace_id).decode())
            span.span_id = bytes.fromhex(b64encode(span.span_id).decode())
    return bytes(request.SerializeToString())


# -- what an allowlist needs to know ---------------------------------------------------------------

_FEWER: dict[str, tuple[str, ...]] = {
    "webrtc": ("client.address",),
    "vendor": ("client.address", "device.type", "os.type"),
}
"""The listed fields of shapes that have only some. A user agent is not a value in them."""


def spec() -> dict[str, dict[str, dict[str, Any]]]:
    """Return the paths and values of each listed field of each shape, from the shipped schemas, so
    that every contender knows as much as Collector: catalogues and aliases as values, grammars as
    regular expressions."""
    found = {}
    for shape in SHAPES.values():
        fields = load_schema(shape.schema).fields
        found[shape.name] = {
            name: {"paths": _paths(shape, name, fields[name]), **_values(fields[name])}
            for name in _FEWER.get(shape.name, tuple(fields))
        }
    return found


def _paths(shape: Shape, name: str, field: Field) -> list[list[str]]:
    """Return the paths at which the shape has the field."""
    if shape.name == "meeting":
        return [name.split(".")]
    if shape.signal is not None:
        return [[name]]
    paths = map(path_of, field.sources or ())
    return [[path] for path in paths if "." not in path and "[" not in path]


def _values(field: Field) -> dict[str, Any]:
    if isinstance(field, IpField):
        return {}
    if isinstance(field, EnumField):
        return {"values": [*field.values, *field.aliases]}
    if isinstance(field, TokenField) and field.pattern is None:
        return {"values": sorted(field.entries)}
    if isinstance(field, TokenField | VersionField):
        return {"pattern": field.value_schema()["pattern"].removeprefix("^").removesuffix("$")}
    raise TypeError(field.kind)
