"""The collector's filter: every value checked, aliases, tripwires, tally. On NDJSON; called once
per event, as a program would that gets one at a time; and on events that are dictionaries already,
which were parsed outside the time."""

from __future__ import annotations

from typing import Any

import orjson

from benchmarks.contenders import Contender, Job
from collector import Filter, load_schema

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


def _count(lines: list[bytes], schema: str) -> dict[str, Any]:
    """Return the tally without bytes, which differ with how the events are handed over."""
    tally = Filter(load_schema(schema)).admit_lines(b"\n".join(lines)).tally.as_dict()
    return {name: value for name, value in tally.items() if not name.startswith("bytes_")}


OURS, OURS_DOCUMENTS, OURS_MAPPINGS = (
    Contender(name, title, does_not, make, _SCHEMAS, checks_values=True, count=_count)
    for name, title, does_not, make in (
        ("ours", "collector", "–", _lines),
        ("ours_documents", "collector, a call per event", "–", _documents),
        ("ours_mappings", "collector, a call per mapping (parsed before)", "parse", _mappings),
    )
)
