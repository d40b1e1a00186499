"""Bare msgspec, the floor: decode the canonical fields and encode them again, as they are nested.

No aliases, no tripwires, no checks, no flat record: what a filter around msgspec cannot be faster
than. The records become flat only for the comparison.
"""

from __future__ import annotations

from typing import Any

import msgspec

from benchmarks.contenders.aliases import DEVICE_TYPES, OS_TYPES
from benchmarks.contenders.base import (
    QOS_SCHEMA,
    SCHEMA,
    Contender,
    Outcome,
    Record,
    each_line,
    joined,
    known,
    parsed,
)


class _Model(msgspec.Struct, gc=False, omit_defaults=True):
    identifier: str | None = None
    name: str | None = None


class _Device(msgspec.Struct, gc=False, omit_defaults=True):
    type: str | None = None
    manufacturer: str | None = None
    model: _Model | None = None


class _System(msgspec.Struct, gc=False, omit_defaults=True):
    type: str | None = None
    name: str | None = None
    version: str | None = None
    build_id: str | None = None


class _Client(msgspec.Struct, gc=False, omit_defaults=True):
    address: str | None = None


class _Event(msgspec.Struct, gc=False, omit_defaults=True):
    client: _Client | None = None
    device: _Device | None = None
    os: _System | None = None


class _Participant(msgspec.Struct, gc=False, omit_defaults=True):
    ip_address: str | None = None
    device: str | None = None


class _Report(msgspec.Struct, gc=False):
    participants: list[_Participant]


_TYPES = {"conferencing": _Event, "participants-qos": _Report}


class Bare:
    """Decoded line by line, encoded in one go."""

    name = "bare"
    title = "bare msgspec (floor)"
    checks_values = False
    does_not = "check, alias, flatten, count, skip bad lines"
    schemas = tuple(_TYPES)

    def prepare(self, lines: list[bytes], schema: str) -> None:
        self._payload = joined(lines)
        self._type = _TYPES[schema]
        self._decode: Any = msgspec.json.Decoder(self._type).decode
        self._encode = msgspec.json.Encoder().encode_lines

    def run(self) -> bytes:
        decode = self._decode
        return self._encode([decode(line) for line in each_line(self._payload)])

    def check(self, output: bytes) -> Outcome:
        events = parsed(output)
        if self._type is _Report:
            return Outcome([_record(each) for event in events for each in event["participants"]])
        return Outcome([{"schema": SCHEMA} | _flat(event) for event in events])


def _record(participant: dict[str, Any]) -> Record:
    """The record that a participant would be, with the aliases that are not resolved here."""
    device = participant.get("device", "")
    return known(
        {
            "schema": QOS_SCHEMA,
            "client.address": participant.get("ip_address"),
            "device.type": DEVICE_TYPES.get(device),
            "os.type": OS_TYPES.get(device),
        }
    )


def _flat(nested: dict[str, Any], prefix: str = "") -> Record:
    """Return the leaves of nested objects under their dotted names."""
    leaves: Record = {}
    for name, value in nested.items():
        if isinstance(value, dict):
            leaves |= _flat(value, f"{prefix}{name}.")
        else:
            leaves[f"{prefix}{name}"] = value
    return leaves


def contender() -> Contender:
    """Return a contender that is not prepared yet."""
    return Bare()
