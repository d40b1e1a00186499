"""Check the output that another process claims for its filter: records, tally, minute and purposes.

Nothing in it is trusted, least of all its size: everything is bounded before it is processed. A
batch that this schema's filter cannot have made is refused as a whole. The result is encoded again
here, exactly as the filter writes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from datetime import date, datetime, timedelta
from functools import lru_cache
from io import BytesIO
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
from collector.filter.frames import clearing
from collector.filter.plan import compile_plan
from collector.filter.sdk_records import (
    AHEAD,
    EXACT,
    HOUR_SPAN,
    MAX_TIMES,
    MINUTE_SPAN,
    OLDEST,
    is_power_of_two,
    parse_minute,
)
from collector.filter.text import PIECE, pieces
from collector.schema.kinds import ColumnCheck
from collector.schema.kinds.base import WITHOUT_KEYS, utc_now
from collector.schema.model import Schema

_MOST_ROW_BYTES = 4 << 20
"""The most bytes of a batch whose rows are kept; the rows take three times as much memory."""
_MOST_COUNT = 1 << 40
"""The highest possible count: more than any request can hold."""
_MOST_VALUE = 1 << 12
"""The most bytes of one value: a record of very many fields may be longer than a piece of text."""
_DELAY = timedelta(minutes=5)
"""How long a request may take from the minute in which it was received to the check."""
_MOST_CACHED = 64
_NOT_GRANTED = "these purposes cannot be granted"
_WRONG: frozenset[Drop] = frozenset(["wrong_type", "invalid_value"])
_Name = TypeVar("_Name", bound=str)


class _Grant(NamedTuple):
    """A set of granted purposes, with the days on which a batch may have been filtered. The records
    of a batch that waited elsewhere need not be ``whole``."""

    purposes: Granted
    days: tuple[date, ...]
    whole: bool


class _Span(NamedTuple):
    """The moments at which records of a minute may have been filtered. Unless the minute
    ``is_present``, an SDK sent the records, and their counts are powers of two."""

    first: datetime
    last: datetime
    is_present: bool


class Recheck:
    """Checks batches of a schema. Safe to use from several threads."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._piece = max(PIECE, _MOST_VALUE * (len(schema.fields) + 1))
        self._lasting: dict[str, ColumnCheck] = {}
        self._columns = lru_cache(_MOST_CACHED)(self._make_columns)
        self._checks = lru_cache(_MOST_CACHED)(self._make_checks)

    def __repr__(self) -> str:
        return f"<Recheck of {self._schema.id}>"

    @clearing
    def check(self, batch: PendingBatch, *, keep_rows: bool = False) -> PendingBatch:
        """Return the batch, encoded again; with ``keep_rows`` also with its ``rows``, which take
        several times the memory of the payload.

        Raises ``RecheckError`` E513 for anything that the filter cannot have made.
        """
        self._demand_payload(batch)
        now, tally = utc_now().replace(second=0, microsecond=0), batch.tally
        span = _span(_minute(batch.received), now)
        days = (now - _DELAY).date(), now.date()
        grant = _Grant(self._granted(batch.granted), days, whole=True)
        _check_tally(tally, self._columns(grant)[1])
        demand(tally.bytes_out == len(batch.payload), "the bytes are not those of the records")
        rows: list[Row] | None = None
        if keep_rows and len(batch.payload) <= _MOST_ROW_BYTES:
            rows = []
        payload, events = self._read(batch.payload, grant, span, rows)
        demand(tally.admitted == events, "the records are not those that were counted")
        received, layout = batch.received, batch.layout
        return PendingBatch(layout, received, payload, tally, grant.purposes, rows=rows)

    @clearing
    def check_delayed(self, batch: PendingBatch) -> PendingBatch:
        """Return a batch that waited elsewhere, encoded again and with its rows. It may be of any
        minute of the last 31 days and have any counts; fields may have been removed since; and it
        may be for some purposes only. Its tally is counted here.

        Raises ``RecheckError`` E513 for anything that cannot come from a filter's output.
        """
        self._demand_payload(batch)
        minute, now, rows = _minute(batch.received), utc_now(), list[Row]()
        is_told = now - OLDEST - _DELAY <= minute <= now + AHEAD
        demand(is_told, "the minute is too old, or of the future")
        is_bounded = batch.granted is None or len(batch.granted) <= _MOST_CACHED
        demand(is_bounded, _NOT_GRANTED)
        # a sink may name purposes of a later version; no field of this version has them
        grant = _Grant(granted(self._schema, (), batch.granted), (minute.date(),), whole=False)
        length = HOUR_SPAN if minute.minute == 0 else MINUTE_SPAN
        span = _Span(minute, minute + length + _DELAY, is_present=True)
        payload, events = self._read(batch.payload, grant, span, rows)
        demand(events > 0, "there are no records")
        tally = Tally(received=events, admitted=events, bytes_out=len(batch.payload))
        received, layout = batch.received, batch.layout
        return PendingBatch(layout, received, payload, tally, grant.purposes, rows=rows)

    def _demand_payload(self, batch: PendingBatch) -> None:
        demand(batch.layout == self._schema.layout, "the layout is not the schema's")
        is_bounded = type(batch.payload) is bytes and len(batch.payload) <= MOST_BYTES
        demand(is_bounded, "the payload is too long")

    def _granted(self, purposes: Granted) -> Granted:
        """Return the purposes of a batch, if they are the schema's without some optional ones."""
        is_bounded = purposes is None or (
            type(purposes) is tuple
            and len(purposes) <= len(self._schema.purposes)
            and all(type(name) is str for name in purposes)
        )
        demand(is_bounded, _NOT_GRANTED)
        refused = () if purposes is None else {*self._schema.optional}.difference(purposes)
        demand(granted(self._schema, refused, None) == purposes, _NOT_GRANTED)
        return purposes

    def _read(
        self, text: bytes, grant: _Grant, span: _Span, rows: list[Row] | None
    ) -> tuple[bytes, int]:
        """Read records; return them encoded again, and the number of events that they stand for.
        Adds their rows to ``rows``, if given."""
        columns, checks = self._columns(grant)[0], self._checks(grant, span)
        own, events = BytesIO(), 0
        for piece in pieces(text, self._piece):
            demand(len(piece) <= self._piece, NOT_AS_WRITTEN)
            records, found, encoded = columns.read(piece, checks)
            counts = [record.count for record in records]
            is_bounded = min(counts) >= 1 and max(counts) <= MAX_TIMES
            demand(is_bounded, "a record has a count that it may not have")
            is_told = span.is_present or all(map(is_power_of_two, set(counts)))
            demand(is_told, "a record of an SDK stands for no power of two")
            events += sum(counts)
            own.write(encoded)
            if rows is not None:
                rows += found
        return own.getvalue(), events

    def _make_columns(self, grant: _Grant) -> tuple[RecordColumns, dict[str, set[Drop]]]:
        """Return the columns of a grant, and why each field may have been dropped. A field that
        expires between the days of request and check may be present or dropped."""
        plans = [
            compile_plan(self._schema, grant.purposes, day, WITHOUT_KEYS) for day in grant.days
        ]
        drops = {
            columns[0].name: {
                reason
                for column in columns
                for reason in ([column.withheld] if column.withheld else _WRONG)
            }
            for columns in zip(*(plan.columns for plan in plans), strict=True)
        }
        return RecordColumns(plans[0], self._lasting, whole=grant.whole), drops

    def _make_checks(self, grant: _Grant, span: _Span) -> Checks:
        return self._columns(grant)[0].checks(span.first, span.last)


def _minute(received: str) -> datetime:
    is_text = type(received) is str and len(received) == len("2026-01-01T00:00:00Z")
    minute = parse_minute(received) if is_text else None
    demand(minute is not None, "the minute cannot be read")
    assert minute is not None  # noqa: S101 - for the type
    return minute


def _span(minute: datetime, present: datetime) -> _Span:
    """Return the span of a minute. Raises ``RecheckError`` if records cannot be of that minute."""
    oldest = (present - OLDEST - _DELAY).replace(minute=0)
    is_hour = minute.minute == 0 and minute <= present - EXACT
    is_exact = minute >= present - EXACT - _DELAY
    is_told = minute <= present + AHEAD and (is_exact or (is_hour and minute >= oldest))
    demand(is_told, "the minute is too old, or of the future")
    is_present = minute >= present - _DELAY
    last = minute + (HOUR_SPAN if is_hour else MINUTE_SPAN)
    return _Span(minute, max(last, present + MINUTE_SPAN) if is_present else last, is_present)


def _check_tally(tally: Tally, drops: Mapping[str, Collection[Drop]]) -> None:
    """Raise ``RecheckError`` unless the counts add up and are within their bounds."""
    received, admitted, dropped = tally.received, tally.admitted, tally.dropped
    for number in (received, admitted, tally.bytes_in, tally.bytes_out):
        demand(_is_count(number, _MOST_COUNT), "a count is not valid")
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
    """Raise ``RecheckError`` unless all counts are for listed names and at most ``most``."""
    demand(type(found) is Counter, "a count is not valid")
    for name, times in found.items():
        demand(name in names, "a count has an unlisted name")
        demand(_is_count(times, most), "a count is not valid")


def _is_count(number: object, most: int) -> bool:
    return type(number) is int and 0 <= number <= most
