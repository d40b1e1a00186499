"""Sinks that store records as lines of JSON: a type implements reading and rewriting lines, and
inherits retention, rights and inventory."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from datetime import datetime, timedelta
from itertools import chain
from typing import Any, ClassVar

from collector.contracts import Batch, Record, Subject, to_minute
from collector.errors import DeliveryError
from collector.filter.redaction import Expiry, Redactor, matching, redact, redactor, removal_rule
from collector.filter.stored import Records, Values, foreign_lines, values
from collector.sinks.record_files import Change
from collector.sinks.sink import ErasableSink, Holding, Opening, Removal

EARLY = "dated in the future, so a clock was wrong"
_AHEAD = timedelta(days=1)
"""No sender's clock is assumed to be further ahead."""
_NO_FIELDS = frozenset({"schema", "received", "count"})
_RECEIVED = re.compile(rb'"received":"([0-9TZ:-]{20})"}$', re.MULTILINE).findall


def lines(batch: Batch) -> list[bytes]:
    """Return the records, one a line, with ``received`` at the end: they are flat objects that are
    not empty.

    Raises ``DeliveryError`` E503 for a batch without a payload, which did not come out of a spool.
    """
    if batch.given and not batch.payload:
        raise DeliveryError("E503", "only batches with a payload can be written as lines")
    end = b',"received":"' + batch.received.encode() + b'"}\n'
    return [line[:-1] + end for line in batch.payload.split(b"\n")[:-1]]


def _redacted(text: bytes, redactors: Sequence[Redactor]) -> tuple[bytes, list[int]]:
    """Return what one redactor after the other leaves of lines, and how many each has changed."""
    numbers = list[int]()
    for each in redactors:
        text, number = each(text)
        numbers.append(number)
    return text, numbers


def findings(name: str, unit: str, old: int, early: int, unruled: int) -> Iterator[str]:
    """Report how many records of a sink are overdue, of the future, and without a retention."""
    if old:
        yield f"the sink `{name}` holds {old} {unit} past their retention"
    if early:
        yield f"the sink `{name}` holds {early} {unit} {EARLY}"
    if unruled:
        yield f"the sink `{name}` holds {unruled} {unit} of schemas whose retention is unknown"


class LineSink(ErasableSink):
    """A sink of lines as ``lines`` makes them. A type implements ``deliver``, ``pieces`` and
    ``revise``."""

    unit = "lines"
    late: ClassVar[timedelta] = timedelta(hours=2)
    """How long after its retention a field counts as overdue: more than between prunings."""

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

    def prune(self, now: datetime) -> Removal:
        """Remove what is older than its retention at that moment."""
        expiry = Expiry.by_name(self.opening.retentions, now)
        number = self.revise(redactor(expiry))
        return Removal(number, unruled=(self.opening.name,) if expiry.unruled else ())

    def overdue(self, now: datetime) -> Iterator[str]:
        """Report what should have been pruned before, and what was received in the future."""
        expiry = Expiry.by_name(self.opening.retentions, now - self.late)
        ahead, old, early = to_minute(now + _AHEAD).encode(), 0, 0
        for piece in self.pieces():
            old += redact(piece, expiry).records
            early += sum(minute > ahead for minute in _RECEIVED(piece))
        yield from findings(self.opening.name, self.unit, old, early, expiry.unruled.total())

    def find(self, subject: Subject) -> Iterator[tuple[str, Record]]:
        """Yield a person's records as they are."""
        for piece in self.pieces():
            for record in matching(piece, subject):
                yield self.opening.name, record

    def erase(self, subject: Subject) -> Removal:
        """Delete a person's lines, and lines that cannot be read."""
        return self.revise_all([(subject, None)])[0]

    def redact(self, subject: Subject, fields: Collection[str]) -> Removal:
        """Remove fields from a person's lines."""
        return self.revise_all([(subject, fields)])[0]

    def revise_all(self, steps: Sequence[tuple[Subject, Collection[str] | None]]) -> list[Removal]:
        """Do it for several people at once. Lines are looked through before to count those of each
        person."""
        redactors = [redactor(removal_rule(subject, fields)) for subject, fields in steps]

        def change(text: bytes) -> tuple[bytes, int]:
            left, numbers = _redacted(text, redactors)
            return left, sum(numbers)

        if len(steps) == 1:
            return [Removal(self.revise(change))]
        totals = [0] * len(steps)
        for piece in self.pieces():
            numbers = _redacted(piece, redactors)[1]
            totals = [total + number for total, number in zip(totals, numbers, strict=True)]
        self.revise(change)
        return [Removal(total) for total in totals]

    @property
    def others(self) -> int:
        """Count lines that Collector does not write so. Raises ``DeliveryError`` for what is no
        record."""
        return sum(map(foreign_lines, self.pieces()))

    def values(self) -> Iterator[Values]:
        """Yield the values of each piece. Raises ``DeliveryError`` for what is no record."""
        return chain.from_iterable(map(values, self.pieces()))

    def inventory(self) -> Iterator[Holding]:
        """Count lines and fields. Raises ``DeliveryError`` for what is no record."""
        fields, minutes, number = Counter[str](), set[str](), 0
        for record in (record for piece in self.pieces() for record in Records(piece)):
            number += 1
            fields.update(name for name in record if name not in _NO_FIELDS)
            minutes.add(str(record.get("received", "")))
        if number:
            yield Holding(self.opening.name, number, fields, min(minutes), max(minutes))
