"""Bodies that expand to many more events or bytes than they have, for any form and any shipped
schema.

They are made from the tests of a schema: from the event with the largest record. A value beside a
list, or of a resource, is a value of each record below it.
"""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, NamedTuple

from collector.contracts import MOST_BYTES, MOST_EVENTS, to_minute
from collector.filter import Filter
from collector.schema import Schema, load_schema
from tests.filter.otlp_bombs import field

SCHEMAS = ("conferencing", "conferencing-strict", "participants-qos", "web", "webrtc")
_SPARE = 2000
_WIRE = _BODY = MOST_BYTES - _SPARE
_JSON, _LINES, _PROTOBUF = "application/json", "application/x-ndjson", "application/x-protobuf"
_EVENTS, _RECORDS, _LOGS = "/v1/events", "/v1/records", "/v1/logs"


class Attack(NamedTuple):
    """A body for a schema; ``make`` returns the uncompressed body."""

    path: str
    kind: str
    make: Callable[[str], bytes]
    is_packed: bool = True

    @cache  # noqa: B019 - as many as there are attacks and schemas
    def content(self, schema: str) -> bytes:
        """The body as it is sent."""
        made = self.make(schema)
        return gzip.compress(made, 1) if self.is_packed else made[: _WIRE + _SPARE]

    @property
    def headers(self) -> dict[str, str]:
        """The headers that a sender sends with the body."""
        more = {"Content-Encoding": "gzip"} if self.is_packed else {}
        return {"Content-Type": self.kind, **more}


@cache
def _parts(name: str) -> tuple[Schema, Any, dict[str, Any]]:
    """A schema, its event with the largest record, and that record."""
    schema = load_schema(name)
    filter_ = Filter(schema, keys=lambda _reference, _period: b"k" * 32)
    events = [json.dumps(test.event).encode() for test in schema.tests]
    events = [event for event in events if filter_.admit(event).tally.admitted]
    event = max(events, key=lambda event: len(filter_.admit(event).encode()))
    return (
        schema,
        json.loads(event),
        max(filter_.admit(event).records, key=lambda one: len(str(one))),
    )


def _cut(line: bytes, size: int = _BODY) -> bytes:
    """As many copies of a line as fit, with random blanks. The body must not compress too well, and
    a block is too long for gzip to find its repetition."""
    number = min(size // (len(line) + 1), MOST_EVENTS)
    block = random.Random(0).choices((line, b" " + line), k=number)
    return b"".join(block)


def _compact(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _event(name: str) -> Any:
    event = _parts(name)[1]
    records = event.get("participants") if isinstance(event, dict) else None
    return records[0] if records else event


def _short(name: str) -> bytes:
    """The shortest member that makes a record."""
    filter_ = Filter(_parts(name)[0], keys=lambda _reference, _period: b"k" * 32)
    event = _event(name)
    choices = [{key: value} for key, value in event.items()] if isinstance(event, dict) else [event]
    lines = [_compact(choice) for choice in choices]
    admitted = [line for line in lines if filter_.admit(line).tally.admitted]
    return min(admitted or [_compact(event)], key=len) + b"\n"


def _short_lines(name: str) -> bytes:
    return _cut(_short(name))


def _long_lines(name: str) -> bytes:
    return _cut(_compact(_event(name)) + b"\n")


def _wrong_lines(name: str) -> bytes:
    """Lines of listed members with wrong types: the slow path."""
    event = _event(name)
    wrong = {key: [1] for key in event} if isinstance(event, dict) else event
    return _cut(_compact(wrong) + b"\n")


@cache
def _nested(name: str, element: bytes = b"{}", number: int = MOST_EVENTS) -> bytes:
    """A document of very many records, each with the document's values."""
    outer = _event(name)
    outer = outer if isinstance(outer, dict) else {"address": "203.0.113.7"}
    elements = random.Random(0).choices((element, element + b" "), k=number)
    text = _compact(outer)[1:-1]
    if name == "webrtc":
        members = b",".join(b'"%x":%b' % pair for pair in enumerate(elements))
        return b'["x",null,{%b},{%b}]' % (members, text)
    return b'{%b,"participants":[%b]}' % (text, b",".join(elements))


def _nested_lines(name: str) -> bytes:
    line = _nested(name) + b"\n"
    return line * (_BODY // len(line))


def _most_nested_lines(name: str) -> bytes:
    """Such documents in lines, with almost as many records, or bytes of records, as one request may
    become."""
    filter_ = Filter(_parts(name)[0], keys=lambda _reference, _period: b"k" * 32)
    size = len(filter_.admit(_nested(name, number=100)).encode()) / 100
    number = int(min(MOST_EVENTS, MOST_BYTES / max(size, 1)) * 0.97) // 4
    return (_nested(name, number=number) + b"\n") * 4


def _nested_short_lines(name: str) -> bytes:
    """Such documents in lines that are short enough for a slice."""
    return (_nested(name, number=199) + b"\n") * 100


def _nested_numbers(name: str) -> bytes:
    """Elements that are not events."""
    return (_nested(name, b"0", 199) + b"\n") * 100


def _array(name: str) -> bytes:
    event = _compact(_event(name))
    size = min(MOST_EVENTS * len(event), _BODY - len(event))
    return b"[%b%b]" % (_cut(event + b",", size), event)


def _wire_array(name: str) -> bytes:
    event = _compact(_event(name))
    return b"[" + b",".join([event] * min(MOST_EVENTS, _WIRE // (len(event) + 1))) + b"]"


def _record_lines(name: str) -> bytes:
    return _cut(_compact(_parts(name)[2]) + b"\n")


def _empty_records(name: str) -> bytes:
    return _cut(_compact({"schema": _parts(name)[0].id}) + b"\n")


def _counted_records(name: str) -> bytes:
    """Records that each have another minute, and counts that need the most records."""
    now = datetime.now(UTC)
    lines = []
    for at in range(MOST_EVENTS):
        received = to_minute(now - timedelta(minutes=at % 40_000))
        lines.append(_compact(_parts(name)[2] | {"count": 524_287, "received": received}))
    return b"\n".join(lines)[:_BODY]


def _attributes(name: str) -> dict[str, Any]:
    record = dict(_parts(name)[2])
    record.pop("schema")
    return {key: value for key, value in record.items() if isinstance(value, str)}


def _resource_json(name: str) -> bytes:
    """Items with their own address; all other values are in their resource."""
    address = random.Random(0)
    outer = [{"key": k, "value": {"stringValue": v}} for k, v in _attributes(name).items()]
    item = b'{"attributes":[{"key":"client.address","value":{"stringValue":"%b"}}]}'
    items = b",".join(
        item % str(".".join(map(str, address.randbytes(4)))).encode() for _ in range(MOST_EVENTS)
    )
    return (
        b'{"resourceLogs":[{"resource":{"attributes":%b},"scopeLogs":[{"logRecords":[%b]}]}]}'
        % (
            _compact(outer),
            items,
        )
    )


def _pair(key: str, value: str) -> bytes:
    return field(1, key.encode()) + field(2, field(1, value.encode()))


def _resource_protobuf(name: str) -> bytes:
    address = random.Random(0)
    outer = b"".join(field(1, _pair(k, v)) for k, v in _attributes(name).items())
    items = b"".join(
        field(2, field(6, _pair("client.address", ".".join(map(str, address.randbytes(4))))))
        for _ in range(MOST_EVENTS)
    )
    return field(1, field(1, outer) + field(2, items))


def _text(line: bytes) -> Callable[[str], bytes]:
    return lambda _: _cut(line)


ATTACKS: dict[str, Attack] = {
    "lines of a letter": Attack(_EVENTS, _LINES, _text(b"x\n")),
    "records of a letter": Attack(_RECORDS, _LINES, _text(b"x\n")),
    "lines of empty objects, as sent": Attack(
        _EVENTS, _LINES, lambda _: _cut(b"{}\n", _WIRE), is_packed=False
    ),
    "short lines": Attack(_EVENTS, _LINES, _short_lines),
    "long lines": Attack(_EVENTS, _LINES, _long_lines),
    "lines of wrong types": Attack(_EVENTS, _LINES, _wrong_lines),
    "nested lists in lines": Attack(_EVENTS, _LINES, _nested_lines),
    "nested lists, almost too many": Attack(_EVENTS, _LINES, _most_nested_lines),
    "nested lists in shorter lines": Attack(_EVENTS, _LINES, _nested_short_lines),
    "nested lists of numbers": Attack(_EVENTS, _LINES, _nested_numbers),
    "a nested list": Attack(_EVENTS, _JSON, _nested),
    "an array": Attack(_EVENTS, _JSON, _array),
    "an array, as sent": Attack(_EVENTS, _JSON, _wire_array, is_packed=False),
    "records": Attack(_RECORDS, _LINES, _record_lines),
    "empty records": Attack(_RECORDS, _LINES, _empty_records),
    "records for many events": Attack(_RECORDS, _LINES, _counted_records),
    "a resource of items as JSON": Attack(_LOGS, _JSON, _resource_json),
    "a resource of items": Attack(_LOGS, _PROTOBUF, _resource_protobuf),
    "call: a resource of items": Attack("grpc", _PROTOBUF, _resource_protobuf, is_packed=False),
}
