"""Schema documents and fields invented for tests.

A document marks the faults that it must give: ``«E105»`` stands right before the place of the
fault, ``«E105?ipv4»`` also wants "did you mean `ipv4`".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import orjson
from pydantic import ValidationError

from collector.contracts import Scalar
from collector.documents import Document, read_text
from collector.schema import Schema
from collector.schema.kinds import KINDS, Circumstances, FieldBase
from collector.schema.load import parse_source

NOW = datetime(2026, 11, 24, 10, 20, 30, 500_000, tzinfo=UTC)

PSEUDONYM = """\
schema: devices
version: 1.0.0
title: One pseudonym
owner: tests
purposes:
  ops: {{use: essential.service.operations, basis: contract, reason: Run the service}}
fields:
  device.id:
    {{kind: pseudonym, key: "{key}", rotate: 1d, from: [device.id, ip], category: user.device,
     purposes: [ops], retention: 1d, reason: Run the service}}
"""
"""A document with one field, a pseudonym of ``device.id`` or ``ip``. Tests fill in its ``key``."""

HEAD = """\
schema: sample
version: 1.0.0
title: A sample
owner: privacy
purposes:
  ops: {use: essential.service.operations, basis: contract, reason: Keep the call up}
"""
REST = "category: user.device, purposes: [ops], retention: 30d, reason: Which systems to test on"
PLAIN = HEAD + "fields:\n  os.type: {kind: enum, values: [linux], " + REST + "}\n"
"""A complete document without a fault."""


@cache
def sample(fields: str, more: str = "", purposes: str = "") -> Schema:
    """The schema ``sample`` with these fields and, in YAML, further keys and further purposes.
    ``REST`` stands for the keys that every field has."""
    text = f"{HEAD}{purposes}{more}\nfields:\n{fields.replace('REST', REST)}"
    schema, faults = parse_source(read_text(text, Document("sample.yaml")))
    assert schema is not None, faults
    return schema


def with_field(text: str) -> str:
    """Return a document with a further field. ``text`` has the field's keys without the common
    ones."""
    return PLAIN + text + "".join(f"    {each}\n" for each in re.split(r", (?=\w+:)", REST))


_MARK = re.compile(r"«(E[0-9]{3})(?:\?([^»]*))?»")


class Expected(NamedTuple):
    """A fault that a document must give."""

    line: int
    column: int
    code: str
    nearest: str | None


def marked(text: str) -> tuple[str, list[Expected]]:
    """Return the document without its marks, and the faults that the marks ask for, in order of
    place."""
    expected: list[Expected] = []
    while mark := _MARK.search(text):
        before = text[: mark.start()]
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        expected.append(Expected(line, column, mark[1], mark[2]))
        text = before + text[mark.end() :]
    return text, expected


def one(options: str, name: str = "os.name", rest: str = REST) -> str:
    """Return a document with one more field."""
    return f"{PLAIN}  {name}: {{{options}, {rest}}}\n"


def content(listed: str) -> str:
    """Return a document with a content list."""
    return f"{PLAIN}{listed}\n"


def trial(listed: str) -> str:
    """Return a document with tests."""
    return f"{PLAIN}tests:\n  - {listed}\n"


def field(kind: str, beside: Path | None = None, /, **options: Any) -> FieldBase:
    """Return a field of a kind with these options. Raises ``pydantic.ValidationError``."""
    common = {"category": "system", "purposes": ["ops"], "retention": "1d", "reason": "because"}
    text = orjson.dumps({"kind": kind, **common, **options})
    return KINDS[kind].model_validate_json(text, strict=True, context=beside)


def canonical(
    of: FieldBase,
    now: datetime = NOW,
    key: Callable[[str, int], bytes] = lambda _reference, _period: bytes(32),
) -> Callable[[Any], Scalar | None]:
    """Return the canonical function of a field, with a fixed clock."""
    return of.canonical(Circumstances(lambda: now, key))


def refuses(kind: str, beside: Path | None = None, /, **options: Any) -> str | None:
    """Return the code (or pydantic's name) of the options' first fault, if they have one."""
    try:
        field(kind, beside, **options)
    except ValidationError as error:
        return error.errors()[0]["type"]
    return None


_WIDE = """\
language: 1
schema: wide
version: 1.0.0
title: Wide
owner: privacy-engineering
max_bits: 65000
purposes:
  ops:
    use: essential.service.operations
    basis: contract
    reason: "Keep the call up"
fields:
"""
_FIELD = """\
  n{0}.v:
    kind: enum
    values: [{1}]
    category: user.device
    purposes: [ops]
    retention: 30d
    reason: "Number {0}"
"""


def wide(numbers: Iterable[int], values: str) -> str:
    """Return a schema with a field for each number; each field allows ``values``."""
    return _WIDE + "".join(_FIELD.format(number, values) for number in numbers)
