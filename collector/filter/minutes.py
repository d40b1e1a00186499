"""The minutes in which records were received, as their sender says, and what belongs to each.

A minute is the sender's to choose, so it is kept within limits: it could say more than a field.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import msgspec

from collector.contracts import Granted, Rejection, Tally, to_minute
from collector.filter.compile import Column
from collector.schema.kinds import Canonical

__all__ = ["MOST_MINUTES", "Judge", "Minutes", "Part", "Share"]

Judge = tuple[Column, Canonical]
"""A field, and what takes its values as they are stored."""

MOST_MINUTES = 60
"""The most minutes in one body, each of which becomes a batch; an SDK sends one."""

_AHEAD = timedelta(minutes=5)
"""So far may a sender's clock be ahead; what is further ahead is received now."""
_OLDEST = timedelta(days=31)
"""What was received longer ago is not taken: all minutes together are 16 bits."""
_WRITTEN = re.compile(r"[0-9]{4}(?:-[0-9]{2}){2}T(?:[0-9]{2}:){2}00Z").fullmatch
_encode_lines = msgspec.json.Encoder().encode_lines


class Share(NamedTuple):
    """The records of one minute (RFC 3339 UTC) as NDJSON, their counts, and the purposes that they
    may be used for."""

    received: str
    payload: bytes
    tally: Tally
    granted: Granted = None


@dataclass(slots=True, repr=False)
class Part:
    """A share in the making, and what judges its values, column by column."""

    judges: list[Judge]
    records: list[Any] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)


class Minutes:
    """One body: its parts by minute, and why lines were not read, which count as of now."""

    def __init__(self, now: datetime, judges: Callable[[datetime], list[Judge]]) -> None:
        self._unread: Counter[Rejection] = Counter()
        self._now = now.replace(second=0, microsecond=0)
        self._present = to_minute(self._now)
        self._judges = judges
        self._parts: dict[Any, Part] = {}

    def part(self, said: Any) -> Part | Rejection:
        """The part of the minute that a record says, or of the present one if it says none; or why
        it is not taken."""
        known = self._parts.get(self._present if said is None else said)
        if known is not None:
            return known
        minute = self._now if said is None else _within(said, self._now)
        if minute is None:
            return "malformed"
        if len(self._parts) >= MOST_MINUTES and to_minute(minute) not in self._parts:
            return "too_large"
        return self._of(minute)

    def reject(self, reason: Rejection) -> None:
        """Count a line that was not read."""
        self._unread[reason] += 1

    def _of(self, minute: datetime) -> Part:
        text = to_minute(minute)
        part = self._parts.get(text)
        if part is None:
            part = self._parts[text] = Part(self._judges(minute))
        return part

    def shares(self, size: int, granted: Granted) -> Iterator[Share]:
        """All parts, once the body is read; its bytes are counted with the first of them."""
        if self._unread:
            tally = self._of(self._now).tally
            tally.received += self._unread.total()
            tally.rejected.update(self._unread)
        for minute, part in self._parts.items():
            payload = bytes(_encode_lines(part.records))
            part.tally.bytes_in, size = size, 0
            part.tally.bytes_out = len(payload)
            yield Share(minute, payload, part.tally, granted)


def _within(said: Any, now: datetime) -> datetime | None:
    """The minute that a text says, if a record may have been received in it."""
    if type(said) is not str or not _WRITTEN(said):
        return None
    try:
        minute = datetime.fromisoformat(said)
    except ValueError:
        return None
    if minute > now + _AHEAD:
        return now
    return minute if minute >= now - _OLDEST else None
