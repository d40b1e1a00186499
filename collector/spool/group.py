"""What becomes one commit: entries of the same layout and minute, which may be used for the same
purposes, are one batch and one receipt.

So a receipt is no trace of a single request wherever several come in at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from collector.contracts import Entry, Granted, Layout, Tally

__all__ = ["Group", "Sums", "add", "grouped"]

Sums = Counter[tuple[str, str, str, str]]
"""Counts of an hour: by hour, by what is counted (``dropped``, ``content``, ``bytes``), by field or
category or direction, and by reason."""


@dataclass(frozen=True, slots=True, repr=False)
class Group:
    """The entries of one layout, minute and set of granted purposes, put together: NDJSON, and the
    sum of their tallies."""

    layout: Layout
    minute: str
    payload: bytes
    tally: Tally
    granted: Granted

    @property
    def records(self) -> int:
        """How many records (lines) it holds."""
        return self.payload.count(b"\n")


def grouped(entries: Iterable[Entry]) -> list[Group]:
    """The groups of some entries, in the order in which each began."""
    parts: dict[tuple[str, str, Granted], list[Entry]] = {}
    for entry in entries:
        alike = entry.layout.digest, entry.received, entry.granted
        parts.setdefault(alike, []).append(entry)
    return [_group(same) for same in parts.values()]


def _group(same: list[Entry]) -> Group:
    first = same[0]
    if len(same) == 1:
        return Group(first.layout, first.received, first.payload, first.tally, first.granted)
    total = Tally()
    for entry in same:
        total.received += entry.tally.received
        total.admitted += entry.tally.admitted
        if entry.tally.rejected:
            total.rejected.update(entry.tally.rejected)
    payload = b"".join(entry.payload for entry in same)
    return Group(first.layout, first.received, payload, total, first.granted)


def add(sums: Sums, entry: Entry) -> None:
    """Count what an entry dropped, met and weighed under its hour."""
    hour, tally = f"{entry.received[:13]}:00:00Z", entry.tally
    for name, reasons in tally.dropped.items():
        for reason, times in reasons.items():
            sums[hour, "dropped", name, reason] += times
    for category, times in tally.content.items():
        sums[hour, "content", category, ""] += times
    sums[hour, "bytes", "in", ""] += tally.bytes_in
    sums[hour, "bytes", "out", ""] += tally.bytes_out
