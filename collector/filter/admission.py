"""What a filter call gives: the records, and the tally of everything else.

Most calls are for one event, and most events are counted alike. Such a call says what is to be
counted as a verdict, which costs nothing; a tally is made of it when it is asked for. ``Counts``
adds up verdicts, for those who filter events one by one.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, cast

import msgspec

from collector.contracts import Category, Drop, Granted, Record, Rejection, Tally

__all__ = ["Admission", "Counts", "Verdict"]

Verdict = tuple[Rejection | None, tuple[Category, ...], tuple[tuple[str, Drop], ...]]
"""What is to be counted of one event: why it is rejected, if it is; the categories of content in
it; the fields that are dropped, and why."""

_MOST_VERDICTS = 1024


class Admission(msgspec.Struct, eq=False, gc=False):
    """The outcome of one filter call: minimised records, and the tally of everything else."""

    _structs: list[Any]
    _encoded: bytes
    _tally: Tally | None
    verdict: Verdict | None = None
    """What is to be counted, if that is not added up yet because there was but one event."""
    bytes_in: int = 0
    """The size of the text that the event was, if it was one."""
    granted: Granted = None
    """The purposes that the records may be used for."""

    def __repr__(self) -> str:
        return f"<Admission of {self.tally.admitted} out of {self.tally.received}>"

    @property
    def tally(self) -> Tally:
        """The counts of the call."""
        if self._tally is None:
            self._tally = Tally(bytes_in=self.bytes_in, bytes_out=len(self._encoded))
            if self.verdict is not None:
                _count(self._tally, self.verdict, 1)
        return self._tally

    @property
    def records(self) -> list[Record]:
        """The records as dictionaries, in the order of the events; made anew at each call."""
        return cast("list[Record]", msgspec.to_builtins(self._structs))

    def encode(self) -> bytes:
        """The records as NDJSON, one line each, in the order of the events."""
        return self._encoded


class Counts:
    """Counts many admissions into one tally, ``total``. What was counted last reaches it with
    ``settle``. For one thread at a time."""

    __slots__ = ("_bytes_in", "_bytes_out", "_total", "_verdicts")

    def __init__(self, total: Tally) -> None:
        self._total = total
        self._verdicts: dict[Verdict, int] = {}
        self._bytes_in = self._bytes_out = 0

    def __repr__(self) -> str:
        return f"<Counts of {len(self._verdicts)} verdicts>"

    def add(self, admission: Admission) -> None:
        """Count an admission."""
        verdict = admission.verdict
        if verdict is None:
            self._total += admission.tally
            return
        times = self._verdicts.get(verdict, 0)
        if not times and len(self._verdicts) >= _MOST_VERDICTS:
            self.settle()
        self._verdicts[verdict] = times + 1
        self._bytes_in += admission.bytes_in
        self._bytes_out += len(admission.encode())

    def settle(self) -> None:
        """Bring the total up to date."""
        self.add_to(self._total)
        self._verdicts.clear()
        self._bytes_in = self._bytes_out = 0

    def add_to(self, tally: Tally) -> None:
        """Add what has not reached the total yet to a copy of it. Changes nothing here."""
        for verdict, times in self._verdicts.items():
            _count(tally, verdict, times)
        tally.bytes_in += self._bytes_in
        tally.bytes_out += self._bytes_out


def _count(tally: Tally, verdict: Verdict, times: int) -> None:
    rejected, content, drops = verdict
    tally.received += times
    if rejected is None:
        tally.admitted += times
    else:
        tally.rejected[rejected] += times
    for category in content:
        tally.content[category] += times
    for name, reason in drops:
        tally.dropped.setdefault(name, Counter())[reason] += times
