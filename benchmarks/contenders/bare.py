"""Bare msgspec, the floor: decode the canonical fields and encode them again, as they are nested.

No aliases, no tripwires, no checks, no flat record: what a filter around msgspec cannot be faster
than. The records become flat only for the comparison.
"""

from __future__ import annotations

from typing import Any

import msgspec

from benchmarks.contenders import QOS_SCHEMA, SCHEMA, Contender, Job, Record, devices, each_line
from benchmarks.contenders import parsed as flat_parsed

_NONE: Any = None


def _struct(**members: Any) -> Any:
    fields = [(key, kind | None, _NONE) for key, kind in members.items()]
    return msgspec.defstruct("Part", fields, gc=False, omit_defaults=True)


_MODEL = _struct(identifier=str, name=str)
_DEVICE = _struct(type=str, manufacturer=str, model=_MODEL)
_SYSTEM = _struct(type=str, name=str, version=str, build_id=str)
_EVENT = _struct(client=_struct(address=str), device=_DEVICE, os=_SYSTEM)
_PARTICIPANT = _struct(ip_address=str, device=str)
_REPORT = msgspec.defstruct("Report", [("participants", list[_PARTICIPANT])], gc=False)  # type: ignore[valid-type]
_TYPES = {"conferencing": _EVENT, "participants-qos": _REPORT}


def _make(lines: list[bytes], schema: str) -> Job:
    decode: Any = msgspec.json.Decoder(_TYPES[schema]).decode
    encode, events = msgspec.json.Encoder().encode_lines, each_line(lines)
    return lambda: encode([decode(line) for line in events()])


def _read(output: bytes, schema: str) -> list[Record]:
    events = flat_parsed(output)
    if schema == "conferencing":
        return [{"schema": SCHEMA} | _flat(event) for event in events]
    types, systems = devices("device.type"), devices("os.type")
    found = []
    for each in (each for event in events for each in event["participants"]):
        device = each.get("device", "")
        record = {
            "schema": QOS_SCHEMA,
            "client.address": each.get("ip_address"),
            "device.type": types.get(device),
            "os.type": systems.get(device),
        }
        found.append({name: value for name, value in record.items() if value is not None})
    return found


def _flat(nested: Record, prefix: str = "") -> Record:
    """Return the leaves of nested objects under their dotted names."""
    leaves: Record = {}
    for name, value in nested.items():
        inner = f"{prefix}{name}"
        leaves |= _flat(value, f"{inner}.") if isinstance(value, dict) else {inner: value}
    return leaves


BARE = Contender(
    "bare",
    "bare msgspec (floor)",
    "check, alias, flatten, count, skip bad lines",
    _make,
    tuple(_TYPES),
    read=_read,
)
