"""The collector's filter: every value checked, aliases, tripwires, tally."""

from __future__ import annotations

from benchmarks.contenders.base import Contender, Record, joined, parsed
from collector import Filter, load_schema

__all__ = ["Ours", "contender"]


class Ours:
    """``Filter.admit_lines(payload).encode()`` under the shipped schema ``conferencing``."""

    name = "ours"
    title = "collector"
    checks_values = True

    def prepare(self, lines: list[bytes]) -> None:
        self._filter = Filter(load_schema("conferencing"))
        self._payload = joined(lines)

    def run(self) -> bytes:
        return self._filter.admit_lines(self._payload).encode()

    def check(self, output: bytes) -> list[Record]:
        return parsed(output)


def contender() -> Contender:
    """A contender that is not prepared yet."""
    return Ours()
