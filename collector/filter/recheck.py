"""Check what another process says that its filter has made: records, tally, minute and purposes.

Nothing of it is trusted, least of all its size: everything is bounded before it is worked on. What
this schema's filter cannot have made is refused as a whole. What is left is an encoding of our own,
which is the one that the filter writes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from io import BytesIO
from traceback import clear_frames
from typing import NamedTuple, TypeVar, cast

from collector.consent import granted
from collector.contracts import (
    CATEGORIES,
    REJECTIONS,
    Drop,
    Granted,
    PendingBatch,
    Row,
    Tally,
)
from collector.errors import RecheckError
from collector.filter.columns import NOT_AS_WRITTEN, RecordColumns
from collector.filter.compile import compile_plan
from collector.filter.sdk_records import (
    AHEAD,
    EXACT,
    HOUR_SPAN,
    MAX_TIMES,
    MINUTE_SPAN,
    OLDEST,
    parse_minute,
)
from collector.schema.kinds.base import WITHOUT_KEYS, utc_now
from collector.schema.model import Schema

__all__ = ["MOST_BYTES", "Recheck"]

MOST_BYTES = 64 << 20
"""The most bytes of records that a request may become."""
_MOST_ROW_BYTES = 4 << 20
"""The most bytes of a batch whose rows are kept: larger ones are divided when they are stored."""
_MOST_COUNT = 1 << 40
"""The most that anything is counted: more than any request can hold."""
_PIECE = 1 << 17
"""Bytes of records that are decoded at once;"""
_MOST_VALUE = 1 << 12
"""and the most of one value, where a record has so many fields that it is longer."""
_DELAY = timedelta(minutes=5)
"""How long a request may take from the minute in which it was received to the check."""
_MOST_CACHED = 64
_WRONG: frozenset[Drop] = frozenset(["wrong_type", "invalid_value"])
_Name = TypeVar("_Name", bound=str)


class _Grant(NamedTuple):
    """A set of granted purposes: its columns, and why each field may have been dropped."""

    granted: Granted
    columns: RecordColumns
    drops: Mapping[str, Collection[Drop]]


@dataclass(frozen=True, slots=True)
class _Span:
    """The moments at which records of a minute may have been filtered. Other minutes than those
    ``is_present`` are of records that an SDK sent, whose counts are powers of two."""

    received: str
    first: datetime
    last: datetime
    is_present: bool


class Recheck:
    """Checks batches of a schema, of which a filter was granted ``purposes`` (``None``: all).

    With ``keep_rows``, results have their ``rows``, which take several times the memory of the
    payload. Safe to use from several threads.
    """

    def __init__(
        self,
        schema: Schema,
        *,
        purposes: Collection[str] | None = None,
        keep_rows: bool = False,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._schema = schema
        self._purposes = granted(schema, (), None if purposes is None else tuple(purposes))
        self._keep_rows = keep_rows
        self._now = now
        self._piece = max(_PIECE, _MOST_VALUE * (len(schema.fields) + 1))
        self._grants: dict[tuple[object, Granted], _Grant] = {}
        self._spans: dict[tuple[datetime, str], _Span] = {}

    def __repr__(self) -> str:
        return f"<Recheck of {self._schema.id}>"

    def check(self, batch: PendingBatch) -> PendingBatch:
        """Return the batch in an encoding of our own.

        Raises ``RecheckError`` E513 for anything that the filter cannot have made.
        """
        try:
            return self._checked(batch)
        except BaseException as error:
            del batch
            clear_frames(error.__traceback__)
            raise

    def _checked(self, batch: PendingBatch) -> PendingBatch:
        now, payload = self._now(), batch.payload
        _demand(batch.layout == self._schema.layout, "the layout is not the schema's")
        _demand(batch.is_part is False, "a filter makes no parts")
        _demand(type(payload) is bytes and len(payload) <= MOST_BYTES, "the payload is too long")
        span = self._span(batch.received, now)
        grant = self._grant(batch.granted, now)
        tally = _checked_tally(batch.tally, grant.drops)
        _demand(tally.bytes_out == len(payload), "the bytes are not those of the records")
        rows: list[Row] | None = None
        if self._keep_rows and len(payload) <= _MOST_ROW_BYTES:
            rows = []
        payload, events = self._records(payload, grant.columns, span, rows)
        _demand(tally.admitted == events, "the records are not those that were counted")
        layout = self._schema.layout
        return PendingBatch(layout, span.received, payload, tally, grant.granted, rows=rows)

    def _records(
        self, payload: bytes, columns: RecordColumns, span: _Span, rows: list[Row] | None
    ) -> tuple[bytes, int]:
        """Return records in an encoding of our own, and the number of events that they stand for;
        add them to ``rows``."""
        own, events = BytesIO(), 0
        for piece in _pieces(payload, self._piece):
            found = columns.read(piece, span.first, span.last)
            if isinstance(found, str):
                raise RecheckError(found)
            _check_counts(found.counts, span)
            events += sum(found.counts)
            own.write(found.encoded)
            if rows is not None:
                rows += found.rows
        return own.getvalue(), events

    def _grant(self, purposes: Granted, now: datetime) -> _Grant:
        """Return the grant of a batch: what is left of the filter's when optional purposes are
        refused."""
        is_known = purposes is None or (
            type(purposes) is tuple
            and len(purposes) <= len(self._schema.purposes)
            and all(type(name) is str for name in purposes)
        )
        _demand(is_known, "the purposes are none that can be granted")
        days = (now - _DELAY).date(), now.date()
        found = self._grants.get((days, purposes))
        if found is None:
            refused = () if purposes is None else {*self._schema.optional}.difference(purposes)
            within = granted(self._schema, refused, self._purposes)
            _demand(within == purposes, "the purposes are none that can be granted")
            if len(self._grants) >= _MOST_CACHED:
                self._grants.clear()
            found = self._grants[days, within] = _make_grant(self._schema, within, days)
        return found

    def _span(self, received: str, now: datetime) -> _Span:
        """Return the span of a minute, if records may be of it."""
        minute = now.replace(second=0, microsecond=0)
        is_text = type(received) is str and len(received) == len("2026-01-01T00:00:00Z")
        _demand(is_text, "the minute is none")
        found = self._spans.get((minute, received))
        if found is None:
            if len(self._spans) >= _MOST_CACHED:
                self._spans.clear()
            found = self._spans[minute, received] = _make_span(received, minute)
        return found


def _demand(holds: bool, otherwise: str) -> None:
    """Raise ``RecheckError`` unless something holds."""
    if not holds:
        raise RecheckError(otherwise)


def _make_grant(schema: Schema, purposes: Granted, days: tuple[date, date]) -> _Grant:
    """Make a grant. A field that ends between the days of the request and of the check may be
    there, and may be dropped."""
    plans = [compile_plan(schema, purposes, day, WITHOUT_KEYS) for day in days]
    drops = {
        before.name: {
            reason
            for column in (before, after)
            for reason in ([column.withheld] if column.withheld else _WRONG)
        }
        for before, after in zip(plans[0].columns, plans[1].columns, strict=True)
    }
    return _Grant(purposes, RecordColumns(plans[0]), drops)


def _make_span(received: str, present: datetime) -> _Span:
    minute = parse_minute(received)
    _demand(minute is not None, "the minute is none")
    assert minute is not None  # noqa: S101 - for the type
    oldest = (present - OLDEST - _DELAY).replace(minute=0)
    is_hour = minute.minute == 0 and minute <= present - EXACT
    is_exact = minute >= present - EXACT - _DELAY
    is_told = minute <= present + AHEAD and (is_exact or (is_hour and minute >= oldest))
    _demand(is_told, "the minute is too old, or of the future")
    is_present = minute >= present - _DELAY
    last = minute + (HOUR_SPAN if is_hour else MINUTE_SPAN)
    if is_present:
        last = max(last, present + MINUTE_SPAN)
    return _Span(received, minute, last, is_present)


def _pieces(payload: bytes, size: int) -> Iterator[bytes]:
    """Yield pieces of whole lines, none of them longer."""
    at = 0
    while at < len(payload):
        end = payload.rfind(b"\n", at, at + size) + 1
        _demand(end > 0, NOT_AS_WRITTEN)
        yield payload if end - at == len(payload) else payload[at:end]
        at = end


def _check_counts(counts: tuple[int, ...], span: _Span) -> None:
    is_bounded = min(counts) >= 1 and max(counts) <= MAX_TIMES
    _demand(is_bounded, "a record stands for no number of events that it may")
    if not span.is_present:
        is_told = all(count & (count - 1) == 0 for count in counts)
        _demand(is_told, "a record of an SDK stands for no power of two")


def _checked_tally(tally: Tally, drops: Mapping[str, Collection[Drop]]) -> Tally:
    """Return a tally of our own with the same counts, if they conserve and are in their bounds."""
    received, admitted, dropped = tally.received, tally.admitted, tally.dropped
    sizes = (received, admitted, tally.bytes_in, tally.bytes_out)
    _demand(all(_is_count(number, _MOST_COUNT) for number in sizes), "a count is none")
    rejected = _counts(tally.rejected, REJECTIONS, received)
    content = _counts(tally.content, CATEGORIES, received)
    is_listed = type(dropped) is dict and drops.keys() >= dropped.keys()
    _demand(is_listed, "a field that was dropped is not listed")
    own = {name: _counts(reasons, drops[name], received) for name, reasons in dropped.items()}
    is_once = all(sum(reasons.values()) <= received for reasons in own.values())
    _demand(is_once, "a field was dropped more often than events were received")
    _demand(received == admitted + sum(rejected.values()), "the counts do not add up")
    return Tally(received, admitted, rejected, own, content, tally.bytes_in, tally.bytes_out)


def _counts(found: object, names: Collection[_Name], most: int) -> Counter[_Name]:
    """Return counts of some names, each of which is no more than ``most``."""
    are_listed = (
        isinstance(found, dict)
        and len(found) <= len(names)
        and all(name in names and _is_count(times, most) for name, times in found.items())
    )
    _demand(are_listed, "a count is none, or of nothing that is listed")
    return Counter(cast("dict[_Name, int]", found))


def _is_count(number: object, most: int) -> bool:
    return type(number) is int and 0 <= number <= most
