"""Check what another process says that its filter has made: records, tally, minute and purposes.

Nothing of it is trusted, least of all its size: everything is bounded before it is worked on. What
this schema's filter cannot have made is refused as a whole. What is left is an encoding of our own,
which is the one that the filter writes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from datetime import date, datetime, timedelta
from io import BytesIO
from traceback import clear_frames
from typing import NamedTuple, TypeVar

from collector.consent import granted
from collector.contracts import (
    CATEGORIES,
    MOST_BYTES,
    REJECTIONS,
    Drop,
    Granted,
    PendingBatch,
    Row,
    Tally,
)
from collector.filter.columns import NOT_AS_WRITTEN, Checks, RecordColumns, demand
from collector.filter.plan import compile_plan
from collector.filter.sdk_records import (
    AHEAD,
    EXACT,
    HOUR_SPAN,
    MAX_TIMES,
    MINUTE_SPAN,
    OLDEST,
    parse_minute,
)
from collector.filter.text import PIECE, pieces
from collector.schema.kinds import ColumnCheck
from collector.schema.kinds.base import WITHOUT_KEYS, utc_now
from collector.schema.model import Schema

_MOST_ROW_BYTES = 4 << 20
"""The most bytes of a batch whose rows are kept, which take three times as many."""
_MOST_COUNT = 1 << 40
"""The most that anything is counted: more than any request can hold."""
_MOST_VALUE = 1 << 12
"""The most bytes of one value: a record of very many fields may be longer than a piece of text."""
_DELAY = timedelta(minutes=5)
"""How long a request may take from the minute in which it was received to the check."""
_MOST_CACHED = 64
_NOT_GRANTED = "these purposes cannot be granted"
_WRONG: frozenset[Drop] = frozenset(["wrong_type", "invalid_value"])
_Name = TypeVar("_Name", bound=str)


class _Grant(NamedTuple):
    """A set of granted purposes: its columns, and why each field may have been dropped."""

    granted: Granted
    columns: RecordColumns
    drops: Mapping[str, Collection[Drop]]


class _Span(NamedTuple):
    """The moments at which records of a minute may have been filtered, and the checks of their
    columns by grant. Other minutes than those ``is_present`` are of records that an SDK sent, whose
    counts are powers of two."""

    received: str
    first: datetime
    last: datetime
    is_present: bool
    checks: dict[Granted, Checks]


class _Present(NamedTuple):
    """A minute of our clock with its spans; the grants are of all minutes with the same days, which
    are that of the check and that on which the request began."""

    start: datetime
    end: datetime
    days: tuple[date, date]
    grants: dict[Granted, _Grant]
    spans: dict[str, _Span]


class Recheck:
    """Checks batches of a schema. Safe to use from several threads."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._piece = max(PIECE, _MOST_VALUE * (len(schema.fields) + 1))
        self._latest = _minute(utc_now(), None)
        self._lasting: dict[str, ColumnCheck] = {}
        self._delayed: dict[tuple[date, Granted], RecordColumns] = {}

    def __repr__(self) -> str:
        return f"<Recheck of {self._schema.id}>"

    def check(self, batch: PendingBatch, *, keep_rows: bool = False) -> PendingBatch:
        """Return the batch in an encoding of our own; with ``keep_rows`` it has its ``rows``, which
        take several times the memory of the payload.

        Raises ``RecheckError`` E513 for anything that the filter cannot have made.
        """
        try:
            return self._checked(batch, keep_rows=keep_rows)
        except BaseException as error:
            del batch
            clear_frames(error.__traceback__)
            raise

    def check_delayed(self, batch: PendingBatch) -> PendingBatch:
        """Return a batch that waited somewhere else in an encoding of our own, with its rows: it
        may be of any minute of the last 31 days and have any counts, fields may have been removed
        from it since, and it may be for some purposes only. Its tally is counted here.

        Raises ``RecheckError`` E513 for anything that cannot have become of what a filter made.
        """
        try:
            return self._checked_delayed(batch)
        except BaseException as error:
            del batch
            clear_frames(error.__traceback__)
            raise

    def _checked_delayed(self, batch: PendingBatch) -> PendingBatch:
        payload, layout = batch.payload, self._schema.layout
        demand(batch.layout == layout, "the layout is not the schema's")
        demand(type(payload) is bytes and len(payload) <= MOST_BYTES, "the payload is too long")
        minute, now = parse_minute(batch.received), utc_now()
        demand(minute is not None, "the minute is none")
        assert minute is not None  # noqa: S101 - for the type
        is_told = now - OLDEST - _DELAY <= minute <= now + AHEAD
        demand(is_told, "the minute is too old, or of the future")
        purposes = self._named(batch.granted)
        columns = self._delayed_columns(minute.date(), purposes)
        span = HOUR_SPAN if minute.minute == 0 else MINUTE_SPAN
        checks = columns.checks(minute, minute + span + _DELAY)
        own, rows, events = BytesIO(), list[Row](), 0
        for piece in pieces(payload, self._piece):
            demand(len(piece) <= self._piece, NOT_AS_WRITTEN)
            records, found, encoded = columns.read(piece, checks)
            counts = [record.count for record in records]
            is_bounded = min(counts) >= 1 and max(counts) <= MAX_TIMES
            demand(is_bounded, "a record stands for no number of events that it may")
            events += sum(counts)
            own.write(encoded)
            rows += found
        demand(events > 0, "there are no records")
        tally = Tally(received=events, admitted=events, bytes_out=len(payload))
        return PendingBatch(layout, batch.received, own.getvalue(), tally, purposes, rows=rows)

    def _named(self, purposes: Granted) -> Granted:
        """Return purposes in the schema's order; ``None`` if they are all. A sink may name some
        that only a later version has; no field of this one is for them."""
        demand(purposes is None or len(purposes) <= _MOST_CACHED, _NOT_GRANTED)
        return granted(self._schema, (), purposes)

    def _delayed_columns(self, day: date, purposes: Granted) -> RecordColumns:
        """Return the columns of records of a day that are for some purposes."""
        key = day, purposes
        if key not in self._delayed:
            if len(self._delayed) >= _MOST_CACHED:
                self._delayed.clear()
            plan = compile_plan(self._schema, purposes, day, WITHOUT_KEYS)
            self._delayed[key] = RecordColumns(plan, self._lasting, whole=False)
        return self._delayed[key]

    def _checked(self, batch: PendingBatch, *, keep_rows: bool) -> PendingBatch:
        payload, layout = batch.payload, self._schema.layout
        demand(batch.layout == layout, "the layout is not the schema's")
        demand(type(payload) is bytes and len(payload) <= MOST_BYTES, "the payload is too long")
        present = self._present()
        span = _span(batch.received, present)
        grant = self._grant(batch.granted, present)
        tally = batch.tally
        _check_tally(tally, grant.drops)
        demand(tally.bytes_out == len(payload), "the bytes are not those of the records")
        checks = span.checks.get(grant.granted)
        if checks is None:
            checks = grant.columns.checks(span.first, span.last)
            span.checks[grant.granted] = checks
        rows: list[Row] | None = None
        if keep_rows and len(payload) <= _MOST_ROW_BYTES:
            rows = []
        own, events = BytesIO(), 0
        for piece in pieces(payload, self._piece):
            demand(len(piece) <= self._piece, NOT_AS_WRITTEN)
            records, found, encoded = grant.columns.read(piece, checks)
            events += _events([record.count for record in records], span)
            own.write(encoded)
            if rows is not None:
                rows += found
        demand(tally.admitted == events, "the records are not those that were counted")
        return PendingBatch(layout, span.received, own.getvalue(), tally, grant.granted, rows=rows)

    def _present(self) -> _Present:
        now, latest = utc_now(), self._latest
        if not latest.start <= now < latest.end:
            latest = self._latest = _minute(now, latest)
        return latest

    def _grant(self, purposes: Granted, present: _Present) -> _Grant:
        """Return the grant of a batch: what is left of the filter's when optional purposes are
        refused."""
        is_bounded = purposes is None or (
            type(purposes) is tuple
            and len(purposes) <= len(self._schema.purposes)
            and all(type(name) is str for name in purposes)
        )
        demand(is_bounded, _NOT_GRANTED)
        grants = present.grants
        if purposes in grants:
            return grants[purposes]
        refused = () if purposes is None else {*self._schema.optional}.difference(purposes)
        within = granted(self._schema, refused, None)
        demand(within == purposes, _NOT_GRANTED)
        found = _make_grant(self._schema, within, present.days, self._lasting)
        if len(grants) < _MOST_CACHED:
            grants[within] = found
        return found


def _minute(now: datetime, latest: _Present | None) -> _Present:
    """Return the minute of a moment; it shares the grants of the latest one if it can."""
    start = now.replace(second=0, microsecond=0)
    days = (start - _DELAY).date(), start.date()
    grants = latest.grants if latest is not None and latest.days == days else {}
    return _Present(start, start + timedelta(minutes=1), days, grants, {})


def _make_grant(
    schema: Schema,
    purposes: Granted,
    days: tuple[date, date],
    lasting: dict[str, ColumnCheck],
) -> _Grant:
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
    return _Grant(purposes, RecordColumns(plans[0], lasting), drops)


def _span(received: str, present: _Present) -> _Span:
    """Return the span of a minute, if records may be of it."""
    is_text = type(received) is str and len(received) == len("2026-01-01T00:00:00Z")
    demand(is_text, "the minute is none")
    found = present.spans.get(received)
    if found is None:
        found = _make_span(received, present.start)
        if len(present.spans) < _MOST_CACHED:
            present.spans[received] = found
    return found


def _make_span(received: str, present: datetime) -> _Span:
    minute = parse_minute(received)
    demand(minute is not None, "the minute is none")
    assert minute is not None  # noqa: S101 - for the type
    oldest = (present - OLDEST - _DELAY).replace(minute=0)
    is_hour = minute.minute == 0 and minute <= present - EXACT
    is_exact = minute >= present - EXACT - _DELAY
    is_told = minute <= present + AHEAD and (is_exact or (is_hour and minute >= oldest))
    demand(is_told, "the minute is too old, or of the future")
    is_present = minute >= present - _DELAY
    last = minute + (HOUR_SPAN if is_hour else MINUTE_SPAN)
    if is_present:
        last = max(last, present + MINUTE_SPAN)
    return _Span(received, minute, last, is_present, {})


def _events(counts: list[int], span: _Span) -> int:
    """Return the number of events that records stand for."""
    is_bounded = min(counts) >= 1 and max(counts) <= MAX_TIMES
    demand(is_bounded, "a record stands for no number of events that it may")
    if not span.is_present:
        is_told = all(count & (count - 1) == 0 for count in counts)
        demand(is_told, "a record of an SDK stands for no power of two")
    return sum(counts)


def _check_tally(tally: Tally, drops: Mapping[str, Collection[Drop]]) -> None:
    """Raise ``RecheckError`` unless the counts conserve and are in their bounds."""
    received, admitted, dropped = tally.received, tally.admitted, tally.dropped
    for number in (received, admitted, tally.bytes_in, tally.bytes_out):
        demand(_is_count(number, _MOST_COUNT), "a count is none")
    _check_counts(tally.rejected, REJECTIONS, received)
    _check_counts(tally.content, CATEGORIES, received)
    is_listed = type(dropped) is dict and drops.keys() >= dropped.keys()
    demand(is_listed, "a field that was dropped is not listed")
    for name, reasons in dropped.items():
        _check_counts(reasons, drops[name], received)
        is_once = reasons.total() <= received
        demand(is_once, "a field was dropped more often than events were received")
    demand(received == admitted + tally.rejected.total(), "the counts do not add up")


def _check_counts(found: Counter[_Name], names: Collection[_Name], most: int) -> None:
    """Raise ``RecheckError`` unless these are counts of some names, each no more than ``most``."""
    demand(type(found) is Counter, "a count is none")
    for name, times in found.items():
        demand(name in names, "a count is of nothing that is listed")
        demand(_is_count(times, most), "a count is none")


def _is_count(number: object, most: int) -> bool:
    return type(number) is int and 0 <= number <= most
