"""``time``: a moment, as RFC 3339 or Unix time, truncated, within a window around now."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from typing import Any, ClassVar, Literal, Self

from pydantic import Field as Option

from collector.contracts import Scalar
from collector.schema.kinds.base import (
    WITHOUT_KEYS,
    Canonical,
    Circumstances,
    ColumnCheck,
    FieldBase,
    Phrases,
)
from collector.schema.scalars import Window
from collector.schema.verdict import Shift

_RFC3339 = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]"
    r"((?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9])(?:\.[0-9]{1,9})?"
    r"(?:[Zz]|([+-](?:[01][0-9]|2[0-3]):[0-5][0-9]))"
).fullmatch
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EXAMPLE = datetime(2026, 1, 15, 9, 30, tzinfo=UTC)
_LAST = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
_SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}
"""Precisions from the finest to the coarsest."""
DATE_PATTERN = "[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
HOUR_PATTERN = "([01][0-9]|2[0-3])"
_TIME_PATTERNS = {
    "second": f"{HOUR_PATTERN}:[0-5][0-9]:[0-5][0-9]",
    "minute": f"{HOUR_PATTERN}:[0-5][0-9]:00",
    "hour": f"{HOUR_PATTERN}:00:00",
    "day": "00:00:00",
}


class TimeField(FieldBase):
    """A moment. Without ``within`` it lies in the years 1970 to 9999."""

    description = "A moment, truncated."
    phrases: ClassVar[Phrases] = {
        "second": {"en": "a time, to the second", "id": "waktu, sampai detik"},
        "minute": {"en": "a time, to the minute", "id": "waktu, sampai menit"},
        "hour": {"en": "a time, to the hour", "id": "waktu, sampai jam"},
        "day": {"en": "a time, to the day", "id": "waktu, sampai hari"},
    }
    wire: ClassVar[frozenset[type]] = frozenset({str, int, float})
    is_closed = True

    kind: Literal["time"]
    precision: Literal["second", "minute", "hour", "day"] = Option(
        "second", description="What it is truncated to."
    )
    within: Window | None = Option(
        None,
        description="How far from now it may lie: ± and a number of s, m, h, d or w.",
        examples=["±7d"],
    )

    def canonical(self, circumstances: Circumstances) -> Canonical:
        step, within, now = _SECONDS[self.precision], self.within, circumstances.now

        def canonical(value: str | float) -> str | None:
            moment = _written(value) if isinstance(value, str) else _counted(value)
            if moment is None or moment < _EPOCH:
                return None
            moment = _cut(moment, step)
            if within is not None:
                present = now()
                low, high = _around(present, present, within)
                if not _cut(low, step) <= moment <= _cut(high, step):
                    return None
            return _text(moment)

        return canonical

    def stored_between(self, first: datetime, last: datetime) -> Canonical:
        """Accept moments in the window around any moment between the two."""
        anytime, (low, high) = self.recognised(), self._window(first, last)

        def stored(value: Any) -> Scalar | None:
            result = anytime(value)
            return result if result is not None and low <= str(result) <= high else None

        return stored

    def column_check(self, first: datetime, last: datetime) -> ColumnCheck:
        """Check the form of each text, the days, and the ends: texts are in the order of time."""
        matches = re.compile(f"{DATE_PATTERN}T{_TIME_PATTERNS[self.precision]}Z").fullmatch
        low, high = self._window(first, last)

        def check(values: Collection[Any]) -> bool:
            texts = set(values) - {None}
            if not texts:
                return True
            is_within = low <= min(texts) and max(texts) <= high
            return is_within and all(map(matches, texts)) and all(map(_is_day, _days(texts)))

        return check

    def _window(self, first: datetime, last: datetime) -> tuple[str, str]:
        """Return the ends of the window around the moments between two, as canonical texts."""
        if self.within is None:
            return _text(_EPOCH), _text(_LAST)
        first, last = _around(first, last, self.within)
        step = _SECONDS[self.precision]
        low, high = (_text(_cut(end, step)) for end in (max(_EPOCH, first), last))
        return low, high

    def recognised(self) -> Canonical:
        """Ignore the window: a stored moment was within it on arrival."""
        return self.model_copy(update={"within": None}).stored(WITHOUT_KEYS)

    def size(self) -> int:
        """Count the steps at any moment; a window that ends between two steps touches both."""
        return self.size_between(timedelta())

    def size_between(self, span: timedelta) -> int:
        """Count the steps that the window covers over all moments of a span."""
        step = _SECONDS[self.precision]
        if self.within is None:
            return int((_LAST - _EPOCH).total_seconds()) // step + 1
        return -(-int((2 * self.within + span).total_seconds()) // step) + 1

    def shifts(self, new: Self) -> Iterator[Shift]:
        """A window ends on whole steps, so a coarser precision extends it, unless the window is
        shortened by the difference of the steps."""
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

    def example(self, now: datetime) -> str:
        return _text(_EXAMPLE if self.within is None else now)

    def value_schema(self) -> dict[str, Any]:
        pattern = f"^{DATE_PATTERN}T{_TIME_PATTERNS[self.precision]}Z$"
        return {"type": "string", "format": "date-time", "pattern": pattern}

    def phrase(self) -> tuple[str, Mapping[str, Any]]:
        return self.precision, {}

    def coarser(self) -> Iterator[tuple[str, Self]]:
        """A stored moment was within the window on arrival, so the window is left out."""
        precisions = list(_SECONDS)
        for precision in precisions[precisions.index(self.precision) + 1 :]:
            changed = {"precision": precision, "within": None}
            yield f"precision: {precision}", self.model_copy(update=changed)

    def coarsened(self, value: Any) -> Scalar | None:
        anytime = self.model_copy(update={"within": None})
        return anytime.canonical(WITHOUT_KEYS)(value) if type(value) in self.wire else None


def _around(first: datetime, last: datetime, within: timedelta) -> tuple[datetime, datetime]:
    """Return the ends of a window around the moments between two, limited to the calendar."""
    try:
        return first - within, last + within
    except OverflowError:
        years = datetime.min.replace(tzinfo=UTC), _LAST
        early, late = first - years[0] < within, years[1] - last < within
        return years[0] if early else first - within, years[1] if late else last + within


def _cut(moment: datetime, step: int) -> datetime:
    whole = moment.replace(microsecond=0)
    return whole - timedelta(seconds=int((whole - _EPOCH).total_seconds()) % step)


def _text(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _days(texts: Iterable[str]) -> set[str]:
    return {text[:10] for text in texts}


def _is_day(text: str) -> bool:
    """Return whether the calendar has a day."""
    with suppress(ValueError):
        return bool(date.fromisoformat(text))
    return False


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
    """Read Unix time in seconds, milliseconds or nanoseconds, by its size (years 1973-5138)."""
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
