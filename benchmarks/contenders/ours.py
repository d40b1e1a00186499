"""The collector's filter: every value checked, aliases, tripwires, tally. On NDJSON; called once
per event, as a program would that gets one at a time; and on events that are dictionaries already,
which were parsed outside the time."""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce
from operator import add
from typing import Any

import orjson

from benchmarks.contenders import Contender, Job
from collector import Filter, Tally, load_schema

_SCHEMAS = ("conferencing", "participants-qos")


def _lines(lines: list[bytes], schema: str) -> Job:
    admit, payload = Filter(load_schema(schema)).admit_lines, b"\n".join(lines)
    return lambda: admit(payload).encode()


def _documents(lines: list[bytes], schema: str) -> Job:
    admit = Filter(load_schema(schema)).admit
    return lambda: b"".join([admit(document).encode() for document in lines])


def _mappings(lines: list[bytes], schema: str) -> Job:
    admit, mappings = Filter(load_schema(schema)).admit, [orjson.loads(line) for line in lines]
    return lambda: b"".join([admit(mapping).encode() for mapping in mappings])


def _summed(tallies: Iterable[Tally]) -> dict[str, Any]:
    """Return tallies as one, without bytes, which differ with how the events were handed over."""
    total = reduce(add, tallies, Tally()).as_dict()
    return {name: value for name, value in total.items() if not name.startswith("bytes_")}


def _count_lines(lines: list[bytes], schema: str) -> dict[str, Any]:
    return _summed([Filter(load_schema(schema)).admit_lines(b"\n".join(lines)).tally])


def _count_documents(lines: list[bytes], schema: str) -> dict[str, Any]:
    admit = Filter(load_schema(schema)).admit
    return _summed(admit(document).tally for document in lines)


def _count_mappings(lines: list[bytes], schema: str) -> dict[str, Any]:
    admit = Filter(load_schema(schema)).admit
    return _summed(admit(orjson.loads(line)).tally for line in lines)


OURS = Contender("ours", "collector", "–", _lines, _SCHEMAS, checks_values=True, count=_count_lines)
OURS_DOCUMENTS = Contender(
    "ours_documents",
    "collector, a call per event",
    "–",
    _documents,
    _SCHEMAS,
    checks_values=True,
    count=_count_documents,
)
OURS_MAPPINGS = Contender(
    "ours_mappings",
    "collector, a call per mapping (parsed before)",
    "parse",
    _mappings,
    _SCHEMAS,
    checks_values=True,
    count=_count_mappings,
)
