"""Bare msgspec, the floor: decode the canonical fields and encode them again, as they are nested.

No aliases, no tripwires, no checks, no flat record: what a filter around msgspec cannot be faster
than. The records become flat only for the comparison.
"""

from __future__ import annotations

from typing import Any

import msgspec

from benchmarks.contenders.base import SCHEMA, Contender, Record, each_line, joined, parsed

__all__ = ["Bare", "contender"]


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


class Bare:
    """Decoded line by line, encoded in one go."""

    name = "bare"
    title = "bare msgspec (floor)"
    checks_values = False

    def prepare(self, lines: list[bytes]) -> None:
        self._payload = joined(lines)
        self._decode = msgspec.json.Decoder(_Event).decode
        self._encode = msgspec.json.Encoder().encode_lines

    def run(self) -> bytes:
        decode = self._decode
        return self._encode([decode(line) for line in each_line(self._payload)])

    def check(self, output: bytes) -> list[Record]:
        return [{"schema": SCHEMA} | _flat(nested) for nested in parsed(output)]


def _flat(nested: dict[str, Any], prefix: str = "") -> Record:
    """The leaves of nested objects under their dotted names."""
    leaves: Record = {}
    for name, value in nested.items():
        if isinstance(value, dict):
            leaves |= _flat(value, f"{prefix}{name}.")
        else:
            leaves[f"{prefix}{name}"] = value
    return leaves


def contender() -> Contender:
    """A contender that is not prepared yet."""
    return Bare()
