"""The collector's filter, called once per event, as a program would that gets one at a time."""

from __future__ import annotations

from benchmarks.contenders.base import Contender, Outcome, parsed
from benchmarks.contenders.ours import SCHEMAS, counts
from collector import Filter, load_schema


class OursDocuments:
    """``Filter.admit(document).encode()``, each event as bytes of its own."""

    name = "ours_documents"
    title = "collector, a call per event"
    checks_values = True
    does_not = "–"
    schemas = SCHEMAS

    def prepare(self, lines: list[bytes], schema: str) -> None:
        self._filter = Filter(load_schema(schema))
        self._documents = lines

    def run(self) -> bytes:
        admit = self._filter.admit
        return b"".join([admit(document).encode() for document in self._documents])

    def check(self, output: bytes) -> Outcome:
        tallies = (self._filter.admit(document).tally for document in self._documents)
        return Outcome(parsed(output), counts(tallies))


def contender() -> Contender:
    """Return a contender that is not prepared yet."""
    return OursDocuments()
