"""Sinks that store records as lines of JSON: a type implements reading and rewriting lines, and
inherits retention, rights and inventory."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

from collector.contracts import Batch, Record, Removal
from collector.errors import DeliveryError
from collector.filter.redaction import Rule, matching, redact
from collector.filter.stored import Values, foreign_lines, values
from collector.sinks.record_files import Change
from collector.sinks.sink import ErasableSink, Opening


def lines(batch: Batch) -> list[bytes]:
    """Return the records, one a line, with ``received`` at the end: they are flat objects that are
    not empty.

    Raises ``DeliveryError`` E503 for a batch without a payload, which did not come out of a spool.
    """
    if batch.given and not batch.payload:
        raise DeliveryError("E503", "only batches with a payload can be written as lines")
    end = b',"received":"' + batch.received.encode() + b'"}\n'
    return [line[:-1] + end for line in batch.payload.split(b"\n")[:-1]]


class LineSink(ErasableSink):
    """A sink of lines as ``lines`` makes them. A type implements ``deliver``, ``pieces`` and
    ``revise``."""

    unit = "lines"

    def __init__(self, settings: Any, opening: Opening) -> None:
        self.settings = settings
        self.opening = opening

    @abstractmethod
    def pieces(self) -> Iterator[bytes]:
        """Yield all records in pieces of whole lines."""

    @abstractmethod
    def revise(self, change: Change) -> int:
        """Replace each piece by what a change leaves of it, durably and without the old bytes;
        return the number of changed or deleted lines."""

    def scan(self, rule: Rule) -> Iterator[tuple[str, Record]]:
        """Yield records as they are."""
        for piece in self.pieces():
            for record in matching(piece, rule):
                yield self.opening.name, record

    def rewrite(self, rules: Sequence[Rule]) -> list[Removal]:
        """Carry out all rules in one pass; delete lines that cannot be read and may be concerned.
        Of several rules, lines are looked through before to count those of each."""
        totals, unruled = [0] * len(rules), set[int]()

        def apply(text: bytes) -> tuple[bytes, list[int]]:
            numbers = list[int]()
            for at, rule in enumerate(rules):
                text, number, unknown = redact(text, rule)
                numbers.append(number)
                unruled.update([at] if unknown else [])
            return text, numbers

        def change(text: bytes) -> tuple[bytes, int]:
            left, numbers = apply(text)
            return left, sum(numbers)

        if len(rules) > 1:
            for piece in self.pieces():
                totals = [a + b for a, b in zip(totals, apply(piece)[1], strict=True)]
        number = self.revise(change)
        names = dict.fromkeys(unruled, (self.opening.name,))
        return [
            Removal(total if len(rules) > 1 else number, unruled=names.get(at, ()))
            for at, total in enumerate(totals)
        ]

    @property
    def others(self) -> int:
        """Count lines that Collector does not write so. Raises ``DeliveryError`` for what is no
        record."""
        return sum(map(foreign_lines, self.pieces()))

    def values(self) -> Iterator[Values]:
        """Yield the values of each piece. Raises ``DeliveryError`` for what is no record."""
        return chain.from_iterable(map(values, self.pieces()))
