"""The collector's filter on events that are dictionaries already; to parse them is not timed."""

from __future__ import annotations

import orjson

from benchmarks.contenders.base import Contender, Outcome, parsed
from benchmarks.contenders.ours import SCHEMAS, counts
from collector import Filter, load_schema


class OursMappings:
    """``Filter.admit(mapping).encode()`` per event."""

    name = "ours_mappings"
    title = "collector, a call per mapping (parsed before)"
    checks_values = True
    does_not = "parse"
    schemas = SCHEMAS

    def prepare(self, lines: list[bytes], schema: str) -> None:
        self._filter = Filter(load_schema(schema))
        self._mappings = [orjson.loads(line) for line in lines]

    def run(self) -> bytes:
        admit = self._filter.admit
        return b"".join([admit(mapping).encode() for mapping in self._mappings])

    def check(self, output: bytes) -> Outcome:
        tallies = (self._filter.admit(mapping).tally for mapping in self._mappings)
        return Outcome(parsed(output), counts(tallies))


def contender() -> Contender:
    """Return a contender that is not prepared yet."""
    return OursMappings()
