"""The collector's filter on NDJSON: every value checked, aliases, tripwires, tally."""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce
from operator import add
from typing import Any

from benchmarks.contenders.base import Contender, Outcome, joined, parsed
from collector import Filter, Tally, load_schema

SCHEMAS = ("conferencing", "participants-qos")
"""The shipped schemas that the corpora are made for."""


def counts(tallies: Iterable[Tally]) -> dict[str, Any]:
    """Return tallies as one, without bytes, which differ with how the events were handed over."""
    total = reduce(add, tallies, Tally()).as_dict()
    return {name: value for name, value in total.items() if not name.startswith("bytes_")}


class Ours:
    """``Filter.admit_lines(payload).encode()`` under the shipped schema."""

    name = "ours"
    title = "collector"
    checks_values = True
    does_not = "–"
    schemas = SCHEMAS

    def prepare(self, lines: list[bytes], schema: str) -> None:
        self._filter = Filter(load_schema(schema))
        self._payload = joined(lines)

    def run(self) -> bytes:
        return self._filter.admit_lines(self._payload).encode()

    def check(self, output: bytes) -> Outcome:
        return Outcome(parsed(output), counts([self._filter.admit_lines(self._payload).tally]))


def contender() -> Contender:
    """Return a contender that is not prepared yet."""
    return Ours()
