"""Every field of every schema, and every path on which an event can hold its value."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from collector import Admission, Filter, Schema, load_schema
from collector.schema import resources
from collector.schema.scalars import condition_of, path_of
from tests.filter.canonical import KEY, expected_value
from tests.filter.smuggled import Written

NOW = datetime(2026, 11, 24, 10, 20, 30, tzinfo=UTC)

_EVERY_KIND = """\
schema: every-kind
version: 1.0.0
title: Every kind once
owner: tests
purposes:
  ops: {use: essential.service.operations, basis: contract, reason: Run the service}
fields:
  client.address: {kind: ip, from: [ip], REST}
  client.network: {kind: ip, from: [net.address], truncate: {ipv4: 24, ipv6: 48}, REST}
  device.type: {kind: enum, values: [kiosk, phone], aliases: {iPhone: phone}, fold_case: true, REST}
  os.version: {kind: version, parts: 2, maximum: [99, 99, 9999], REST}
  client.version: {kind: version, REST}
  os.build_id: {kind: token, pattern: "[0-9]{2}[A-Z][0-9]{1,3}|r[0-9]{6}", REST}
  os.name: {kind: token, catalogue: os-names, REST}
  cpu.count: {kind: integer, minimum: -2, maximum: 64, step: 2, REST}
  cpu.load: {kind: number, minimum: -1, maximum: 1, step: 0.1, REST}
  cpu.temperature: {kind: integer, minimum: -40, maximum: 120, step: 5, text: true, REST}
  cpu.frequency: {kind: number, minimum: 0, maximum: 10, step: 0.25, unit: MHz, REST}
  cpu.throttled: {kind: boolean, REST}
  joined: {kind: time, precision: minute, within: ±7d, REST}
  device.id: {kind: pseudonym, key: "env:PSEUDONYM_KEY", rotate: 1d, REST}
"""
_REST = 'category: user.device, purposes: [ops], retention: 1d, reason: "Run the service"'

_NAMES = re.findall(r"^  ([a-z_.]+): \{kind", _EVERY_KIND, re.MULTILINE)
EVERY_FIELD = [
    *(("every-kind", name) for name in _NAMES),
    *((name, field) for name in resources.names() for field in load_schema(name).fields),
]
"""Schema and field, for every shipped schema and for one that has every kind."""

HOLE = "<here>"
"""Where a JSON text is inserted."""


def in_json(event: Any, text: bytes) -> bytes:
    """Return the event as JSON, with a text in place of the hole."""
    return json.dumps(event).encode().replace(json.dumps(HOLE).encode(), text)


def _placed(path: str, nested: bool, value: Any) -> dict[str, Any]:
    first, dot, rest = path.partition(".")
    return {first: _placed(rest, True, value)} if nested and dot else {path: value}


def _merged(event: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    for key, value in more.items():
        event[key] = _merged(event[key], value) if isinstance(event.get(key), dict) else value
    return event


class FieldPath(NamedTuple):
    """A path, flat or nested, and another field that has the wrong type, if any.

    A list in the place of an object makes the decoder go member by member.
    """

    path: str
    nested: bool
    sibling: str | None
    beside: tuple[tuple[str, Any], ...] = ()

    def event(self, value: Any) -> dict[str, Any]:
        """Return an event with a value at this path, and what must be beside it."""
        event = _placed(self.path, self.nested, value)
        above = self.path.rpartition(".")[0]
        for name, listed in self.beside:
            path = f"{above}.{name}" if above else name
            event = _merged(event, _placed(path, self.nested, listed))
        return event if self.sibling is None else {**event, self.sibling: []}


class SchemaCase(NamedTuple):
    """A schema, its filter, and the paths on which an event can hold a value."""

    schema: Schema
    filter: Filter

    def documents(self, event: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Yield the event itself, or the documents whose one record it is, or offers values to."""
        for field_path in self.schema.ways or ".":
            if field_path == ".":
                yield event
            elif not field_path.startswith("["):
                yield {field_path: [event]}
                yield {**event, field_path: [{}]}

    def field_paths(self, name: str) -> Iterator[FieldPath]:
        """Yield every path to a field."""
        for path in self._paths(name):
            fields = self.schema.fields
            others = [other for other in fields if other in fields[other].places(other)]
            sibling = next(other for other in others if not self._reads(other, path))
            for nested in (False, True)[: 1 + ("." in path)]:
                yield FieldPath(path, nested, None, self._beside(name, path))
                yield FieldPath(path, nested, sibling, self._beside(name, path))

    def expected(self, field_path: FieldPath, case: Written) -> tuple[bytes, Any]:
        """Return the expected records as bytes, and the tally without its bytes."""
        record: dict[str, Any] = {"schema": self.schema.id}
        dropped: dict[str, Any] = {}
        for name in self.schema.fields:
            value, reason = self._expected_field(name, field_path, case)
            if reason is not None:
                dropped[name] = {reason: 1}
            elif value is not None:
                record[name] = value
        admitted = len(record) > 1
        tally = {
            "received": 1,
            "admitted": int(admitted),
            "rejected": {} if admitted else {"nothing_admitted": 1},
            **({"dropped": dropped} if dropped else {}),
        }
        return orjson.dumps(record) + b"\n" if admitted else b"", tally

    def _expected_field(
        self, name: str, field_path: FieldPath, case: Written
    ) -> tuple[Any, str | None]:
        """Return the outcome of a field: the first of its paths that is present decides."""
        for path in self._paths(name):
            if path == field_path.path and not case.is_absent:
                return expected_value(self.schema.fields[name], case)
            if field_path.nested and field_path.path.startswith(f"{path}."):
                return None, "wrong_type"
        return None, "wrong_type" if name == field_path.sibling else None

    def _paths(self, name: str) -> tuple[str, ...]:
        """Return the paths of a field in an object: its sources, then its own name."""
        paths = self.schema.fields[name].paths(name)
        return tuple(path for path in paths if path[0] != "[")

    def _beside(self, name: str, path: str) -> tuple[tuple[str, Any], ...]:
        """Return members that must be beside a path, each with a value that it must have."""
        sources = self.schema.fields[name].sources or ()
        conditions = (condition_of(source) for source in sources if path_of(source) == path)
        return tuple((name, listed.written()[0]) for name, listed in next(conditions, ()))

    def _reads(self, name: str, path: str) -> bool:
        return any(path == own or path.startswith(f"{own}.") for own in self._paths(name))


def outcome(admission: Admission) -> tuple[bytes, Any]:
    """Return the outcome of an admission in the same form."""
    tally = admission.tally.as_dict()
    tally.pop("bytes_in", None)
    assert tally.pop("bytes_out", 0) == len(admission.encode())
    return admission.encode(), tally


def counts(admission: Admission) -> dict[str, int]:
    """Return the number of events by verdict."""
    tally = admission.tally
    assert tally.received == tally.admitted + tally.rejected.total()
    return {"admitted": tally.admitted} | {**tally.rejected}


@cache
def schema_case(name: str) -> SchemaCase:
    """Load the schema of that name."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "every-kind.yaml")
        path.write_text(_EVERY_KIND.replace("REST", _REST), encoding="utf-8")
        schema = load_schema(path if name == path.stem else name)
    return SchemaCase(schema, Filter(schema, as_of=NOW, keys=lambda _reference, _period: KEY))
