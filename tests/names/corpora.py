"""The lists of names, and in which forms a schema with each of them loads.

``data/telling.txt`` has names that carry content, people, contact, location and so on;
``data/innocent.txt`` those of devices, systems, networks and quality. Each has its natural kind and
its source. ``data/held_*.txt`` are names that were written down before the tables of words were,
and did not shape them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from collector.documents import Document
from collector.errors import Fault
from collector.schema import Schema
from collector.schema.load import parse_source

_DATA = Path(__file__).with_name("data")

FORMS: Mapping[str, Mapping[str, object]] = {
    "text": {"kind": "token", "pattern": "[a-z]{2}"},
    "digits": {"kind": "token", "pattern": "[0-9]{9}"},
    "number": {"kind": "integer", "minimum": 0, "maximum": 1000, "step": 1},
    "list of values": {"kind": "enum", "values": ["low", "middle", "high"]},
    "version": {"kind": "version"},
    "time": {"kind": "time"},
    "flag": {"kind": "boolean"},
    "pseudonym": {"kind": "pseudonym", "key": "env:KEY", "rotate": "1d"},
}
"""The forms in which a value can be kept: options of a field."""

_REST = {
    "category": "user.telemetry",
    "purposes": ["ops"],
    "retention": "1d",
    "reason": "To find out why calls fail",
}
_USE = {"use": "essential.service.operations", "basis": "contract", "reason": "Run the calls"}


class Entry(NamedTuple):
    """A name with its natural kind, half and source."""

    name: str
    kind: str
    half: str
    source: str


@cache
def corpus(name: str) -> tuple[Entry, ...]:
    """Read a list."""
    return tuple(_entries((_DATA / f"{name}.txt").read_text("utf-8").splitlines()))


def _entries(lines: Iterable[str]) -> Iterator[Entry]:
    for line in lines:
        if not line.startswith("#"):
            name, more = line.split("\t")
            yield Entry(name, *more.removeprefix("# ").split("; ", 2))


def parsed(
    fields: Mapping[str, Mapping[str, object]], **head: object
) -> tuple[Schema | None, Sequence[Fault]]:
    """Load a schema of these fields, each with its kind, options and paths."""
    document = {
        "schema": "sample",
        "version": "1.0.0",
        "title": "A sample",
        "owner": "tests",
        **head,
        "purposes": {"ops": _USE},
        "fields": {name: {**options, **_REST} for name, options in fields.items()},
    }
    return parse_source(Document("sample", value=document))


def faults(name: str, form: str) -> tuple[str, ...]:
    """Return the codes of a schema that reads a name in a form; none if it loads."""
    found = parsed({"os.codec": {**FORMS[form], "from": [name]}})[1]
    return tuple(fault.code for fault in found)


def refused(names: Sequence[str], form: str) -> set[str]:
    """Return the names that are a fault in a form, by one schema that reads each in a field."""
    fields = {f"os.codec.n{at}": {**FORMS[form], "from": [name]} for at, name in enumerate(names)}
    fields_at_fault = {fault.field.split(".from")[0] for fault in parsed(fields)[1]}
    return {name for at, name in enumerate(names) if f"fields.os.codec.n{at}" in fields_at_fault}


def share(part: int, whole: int) -> str:
    """Write a share in percent."""
    return f"{100 * part / whole:.1f} %" if whole else "-"
