"""``time``: a moment, as RFC 3339 or Unix time, truncated, within a window around now."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import ClassVar, Literal, Self

from collector.schema.kinds.base import Canonical, Circumstances, FieldBase
from collector.schema.terms import Window
from collector.schema.verdict import Shift

__all__ = ["PRECISIONS", "TimeField"]

_RFC3339 = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]"
    r"((?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9])(?:\.[0-9]{1,9})?"
    r"(?:[Zz]|([+-](?:[01][0-9]|2[0-3]):[0-5][0-9]))"
).fullmatch
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
_SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}
PRECISIONS: tuple[str, ...] = tuple(_SECONDS)
"""From the finest to the coarsest."""


class TimeField(FieldBase):
    """A moment. Without ``within`` it lies in the years 1970 to 9999."""

    wire: ClassVar[frozenset[type]] = frozenset({str, int, float})

    kind: Literal["time"]
    precision: Literal["second", "minute", "hour", "day"] = "second"
    within: Window | None = None

    def canonical(self, circumstances: Circumstances) -> Canonical:
        step, within, now = _SECONDS[self.precision], self.within, circumstances.now

        def cut(moment: datetime) -> datetime:
            whole = moment.replace(microsecond=0)
            return whole - timedelta(seconds=int((whole - _EPOCH).total_seconds()) % step)

        def canonical(value: str | float) -> str | None:
            moment = _written(value) if isinstance(value, str) else _counted(value)
            if moment is None or moment < _EPOCH:
                return None
            moment = cut(moment)
            if within is not None and not cut(now() - within) <= moment <= cut(now() + within):
                return None
            return moment.strftime("%Y-%m-%dT%H:%M:%SZ")

        return canonical

    def size(self) -> int:
        """At any moment; a window that does not end on a step can still touch one step more."""
        step = _SECONDS[self.precision]
        if self.within is None:
            return int((_LAST - _EPOCH).total_seconds()) // step + 1
        return -(-int(2 * self.within.total_seconds()) // step) + 1

    def shifts(self, new: Self) -> Iterator[Shift]:
        """A window ends on whole steps: a coarser precision lets it reach further, unless it is
        made shorter by the difference of the steps."""
        longer = timedelta(seconds=_SECONDS[new.precision] - _SECONDS[self.precision])
        if longer < timedelta():
            yield Shift("precision", "finer values")
        elif longer:
            within = self.within is None or (
                new.within is not None and self.within - new.within >= longer
            )
            yield Shift("precision", "coarser values" if within else "more values")
        if self.within != new.within:
            shorter = new.within is not None and (self.within is None or new.within < self.within)
            yield Shift("within", "fewer values" if shorter else "more values")


def _written(text: str) -> datetime | None:
    parts = _RFC3339(text)
    if parts is None:
        return None
    try:
        moment = datetime.fromisoformat(f"{parts[1]}T{parts[2]}{parts[3] or '+00:00'}")
        return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _counted(number: float) -> datetime | None:
    """Unix time in seconds, milliseconds or nanoseconds, told apart by size (years 1973-5138)."""
    if not 0 <= number < 10**20:
        return None
    if number < 10**11:
        seconds = int(number)
    elif number < 10**14:
        seconds = int(number) // 1000
    elif number >= 10**17:
        seconds = int(number) // 10**9
    else:
        return None
    return _EPOCH + timedelta(seconds=seconds)
