"""Bodies of 16 MiB that would take hundreds of megabytes if they were decoded uncounted.

``python -m tests.filter.otlp_bombs`` filters each that is named on a line of stdin, and prints for
it seconds, megabytes of peak memory above the start, and the tally.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collector import Filter

SIZE = 16 << 20
_SPARE = 200
"""Bytes for what stands around the part that fills the rest."""


def varint(number: int) -> bytes:
    out = b""
    while number > 127:
        out, number = out + bytes([number & 127 | 128]), number >> 7
    return out + bytes([number])


def field(number: int, content: bytes) -> bytes:
    """A field that holds bytes."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def full(unit: bytes) -> bytes:
    """As many of a part as there is room for."""
    return unit * ((SIZE - _SPARE) // len(unit))


def logs(items: bytes) -> bytes:
    return field(1, field(2, items))


def record(content: bytes) -> bytes:
    return logs(field(2, content))


def value(content: bytes) -> bytes:
    """A record with an attribute that is looked for."""
    return record(field(6, field(1, b"os") + field(2, content)))


def deep(levels: int) -> bytes:
    """Arrays in arrays."""
    content = b""
    for _ in range(levels):
        content = field(5, field(1, content))
    return content


def keys(most: int) -> bytes:
    """Attributes whose names are all different."""
    head, tail = field(6, field(1, b"a name") + field(2, b"")).split(b"a name")
    return b"".join(b"%b%06x%b" % (head, n, tail) for n in range(most))


_RECORDS = b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[%b]}]}]}'
_ATTRIBUTES = _RECORDS % b'{"attributes":[%b]}'
_VALUE = _ATTRIBUTES % b'{"key":"os","value":%b}'

_SEVEN = b"".join(field(6, field(1, bytes([65 + n]))) for n in range(7))

PROTOBUF: dict[str, Callable[[], bytes]] = {
    "empty items": lambda: logs(full(b"\x12\x00")),
    "items of one number": lambda: logs(full(b"\x12\x02\x08\x01")),
    "empty items in turn with others": lambda: logs(full(b"\x12\x00\x12\x02\x08\x01")),
    "empty items, long tags": lambda: logs(full(b"\x92\x00\x00")),
    "empty resources": lambda: full(b"\x0a\x00"),
    "resources of one empty scope": lambda: full(b"\x0a\x02\x12\x00"),
    "resources of one attribute": lambda: field(1, field(1, field(1, b""))) * 99_000,
    "scopes of one attribute": lambda: field(1, field(2, field(1, field(3, b""))) * 99_000),
    "empty scopes": lambda: field(1, full(b"\x12\x00")),
    "one resource again and again": lambda: field(1, full(b"\x0a\x00\x18\x01")),
    "empty attributes": lambda: record(full(b"\x32\x00")),
    "empty attributes of a resource": lambda: field(1, field(1, full(b"\x0a\x00"))),
    "attributes of different names": lambda: record(keys(1_000_000)),
    "nearly too many attributes": lambda: record(keys(199_000)),
    "items of many attributes": lambda: logs(field(2, _SEVEN) * 50_000),
    "a long list of keys and values": lambda: value(field(6, full(b"\x0a\x00"))),
    "a long array": lambda: value(field(5, full(b"\x0a\x00"))),
    "a long array with others between": lambda: value(field(5, full(b"\x0a\x00\x10\x01"))),
    "a body of arrays with others between": lambda: record(field(5, full(b"\x2a\x00\x08\x01"))),
    "unknown fields": lambda: record(full(b"\x08\x01")),
    "groups": lambda: logs(full(b"\x0a\x00\x13\x14")),
    "deep arrays": lambda: record(field(5, deep(20_000))),
    "long texts": lambda: logs(full(field(2, field(5, field(1, b'{"a":"2", "b":"2:2:2"}' * 20))))),
}
JSON: dict[str, Callable[[], bytes]] = {
    "items": lambda: _RECORDS % (full(b"{},") + b"{}"),
    "items of nothing but spaces": lambda: _RECORDS % (full(b"{ } , ") + b"{}"),
    "resources": lambda: b'{"resourceLogs":[%b{}]}' % full(b"{},"),
    "resources of one scope": lambda: b'{"resourceLogs":[%b{}]}' % full(b'{"scopeLogs":[{}]},'),
    "attributes": lambda: _ATTRIBUTES % (full(b"{},") + b"{}"),
    "attributes with names": lambda: _ATTRIBUTES % (full(b'{"key":"a"},') + b"{}"),
    "an array": lambda: _VALUE % b'{"arrayValue":{"values":[%b{}]}}' % full(b"{},"),
    "keys and values": lambda: _VALUE % b'{"kvlistValue":{"values":[%b{}]}}' % full(b"{},"),
    "members": lambda: _RECORDS % b"{%b}" % (full(b'"a":0,') + b'"a":0'),
    "brackets": lambda: b'{"resourceLogs":%b' % full(b"["),
    "texts": lambda: _RECORDS % (full(b'{"body":{"stringValue":"%b"}},' % (b"a, " * 200)) + b"{}"),
}


def main() -> None:
    """Filter a body for each name that comes, each in a process forked from one that has loaded
    what it takes; ``null`` stands for one that failed."""
    from collector import Filter, load_schema  # noqa: PLC0415

    filter_ = Filter(load_schema("conferencing"))
    for protobuf in (False, True):
        filter_.admit_otlp("logs", b"" if protobuf else b"{}", protobuf=protobuf)
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            print(json.dumps(_measured(filter_, line.rstrip("\n"))))
            return
        if os.waitpid(child, 0)[1]:
            print("null", flush=True)


def _measured(filter_: Filter, name: str) -> tuple[float, float, dict[str, Any]]:
    protobuf = name in PROTOBUF
    body = (PROTOBUF if protobuf else JSON)[name]()
    with suppress(OSError):  # not everybody may; the peak is that of making the body then
        Path("/proc/self/clear_refs").write_text("5")
    before, start = _status("VmRSS"), time.process_time()
    tally = filter_.admit_otlp("logs", body, protobuf=protobuf).tally
    seconds, megabytes = time.process_time() - start, (_status("VmHWM") - before) / 1024
    return seconds, megabytes, tally.as_dict()


def _status(key: str) -> int:
    found = re.search(rf"{key}:\s+(\d+)", Path("/proc/self/status").read_text())
    return int(found[1]) if found else 0


if __name__ == "__main__":
    main()
