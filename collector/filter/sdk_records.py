"""Filter records that a filter has already made: those of an SDK or of any other sender.

Nothing in them is trusted. A record is an event whose members have the names of fields; the judge
decides what it becomes. Each value must pass its kind again unchanged; withheld fields stay
withheld. So records can contain nothing that an event could not. Lines that are exactly what a
filter writes, with nothing to drop, are checked column by column instead.

A record states how many events it stands for, and the minute in which they were received. The
sender chooses both, so both have few values: a minute of more than an hour ago becomes its hour,
and a number of events becomes records for powers of two.

Records of another version of the schema are filtered by this one: a value that is valid here stays,
a finer one becomes coarser, and others are dropped.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Container, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import lru_cache, partial
from io import BytesIO
from typing import Any, cast

import msgspec
from msgspec.structs import replace as replace_members

from collector.contracts import (
    Granted,
    Layout,
    OtherSchema,
    PendingBatch,
    Rejection,
    Scalar,
    Tally,
    to_minute,
)
from collector.errors import RecheckError
from collector.filter.admission import add_verdict, record_type, verdict
from collector.filter.columns import RecordColumns
from collector.filter.decode.json import decode_scalar, read_or_reject
from collector.filter.judge import Judge
from collector.filter.members import FAILURES, Members, members_decoder
from collector.filter.plan import Column, Memo, Plan
from collector.filter.reader import Reader
from collector.filter.shape import NULL
from collector.filter.text import BOM, is_blank, pieces, readable_lines
from collector.schema.kinds import Canonical

MAX_TIMES = 1_000_000
"""The most events that a record may stand for: ten times the usual capacity of an SDK queue."""
COUNT_VALUES = MAX_TIMES.bit_length()
"""The number of values that the count of a stored record may have."""
MOST_MINUTES = 60
"""The most minutes of one body, each of which becomes a batch; an SDK sends one."""

AHEAD = timedelta(minutes=5)
"""How far a sender's clock may be ahead; a later minute counts as the present one."""
OLDEST = timedelta(days=31)
"""An earlier minute is malformed."""
EXACT = timedelta(hours=1)
"""An earlier minute becomes its hour."""
RECEIVED_VALUES = 1 + (AHEAD + EXACT) // timedelta(minutes=1) + OLDEST // timedelta(hours=1)
"""The number of values that ``received`` may have: minutes around the present one, and the hours
before."""
MINUTE_SPAN = timedelta(seconds=59, microseconds=999_999)
HOUR_SPAN = timedelta(minutes=59) + MINUTE_SPAN
_MINUTE = re.compile(r"[0-9]{4}(?:-[0-9]{2}){2}T(?:[0-9]{2}:){2}00Z").fullmatch
_VERSION = re.compile(r"[0-9.]{1,40}").fullmatch
_MAX_MINUTES = 64
_END = re.compile(rb',"received":"([0-9TZ:-]{20})"}\n')
"""The end of a line from an SDK."""
_END_BYTES = len(b',"received":"2026-01-01T00:00:00Z"}\n')
_PIECE = 1 << 14
"""Bytes of lines that are accepted together, or one by one if something must be dropped."""

_BESIDE = {"schema": frozenset([str]), "count": frozenset([int]), "received": frozenset([str])}
"""The members of a record that are not fields, with their types."""
_SCALAR = bool | float | int | str | None
_encode_lines = msgspec.json.Encoder().encode_lines
_Moments = tuple[datetime, datetime]
"""The first and the last moment at which records of a minute may have been filtered."""


@dataclass(slots=True, repr=False)
class MinutePart:
    """The records of one minute. Records of the last few lines are objects; they become bytes
    before more lines are read."""

    moments: _Moments
    records: list[Any] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)
    lines: BytesIO = field(default_factory=BytesIO)


class Minutes:
    """The parts of one body by minute, and counts of unread lines, which belong to the present
    minute."""

    def __init__(self, now: datetime) -> None:
        self._unread: Counter[Rejection] = Counter()
        self._now = now.replace(second=0, microsecond=0)
        self._present = to_minute(self._now)
        self._parts: dict[Any, MinutePart] = {}

    def part(self, claimed: Any) -> MinutePart | Rejection:
        """Return the part of the minute that a record claims (by default the present one), or the
        reason why the record is rejected."""
        part = self._parts.get(self._present if claimed is None else claimed)
        if part is not None:
            return part
        minute = self._now if claimed is None else _accepted(claimed, self._now)
        if minute is None:
            return "malformed"
        if len(self._parts) >= MOST_MINUTES and to_minute(minute) not in self._parts:
            return "too_large"
        return self._part_of(minute)

    def reject(self, reason: Rejection) -> None:
        """Count an unread line."""
        self._unread[reason] += 1

    def moments(self, claimed: str) -> _Moments | None:
        """Return the moments of a claimed minute, or ``None`` if it is not accepted."""
        minute = _accepted(claimed, self._now)
        return None if minute is None else self._moments_of(minute)

    def _moments_of(self, minute: datetime) -> _Moments:
        return minute, minute + (HOUR_SPAN if minute < self._now - EXACT else MINUTE_SPAN)

    def _part_of(self, minute: datetime) -> MinutePart:
        text = to_minute(minute)
        part = self._parts.get(text)
        if part is None:
            part = self._parts[text] = MinutePart(self._moments_of(minute))
        return part

    def write(self) -> None:
        """Encode the records that were added since the last call."""
        for part in self._parts.values():
            if part.records:
                part.lines.write(_encode_lines(part.records))
                part.records.clear()

    def batches(self, layout: Layout, size: int, granted: Granted) -> Iterator[PendingBatch]:
        """Yield the batch of each minute, after the body or a part of it was read. The first batch
        counts the bytes. The next part continues with the same minutes."""
        if self._unread:
            tally = self._part_of(self._now).tally
            tally.received += self._unread.total()
            tally.rejected.update(self._unread)
            self._unread.clear()
        for minute, part in self._parts.items():
            if not part.tally.received:
                continue
            payload = part.lines.getvalue()
            part.tally.bytes_in, size = size, 0
            part.tally.bytes_out = len(payload)
            yield PendingBatch(layout, minute, payload, part.tally, granted)
            part.lines, part.tally = BytesIO(), Tally()


def parse_minute(text: str) -> datetime | None:
    """Parse a minute as ``received`` is written; ``None`` for any other text."""
    if _MINUTE(text):
        with suppress(ValueError):
            return datetime.fromisoformat(text)
    return None


def _accepted(claimed: Any, now: datetime) -> datetime | None:
    """Parse a claimed minute; return it or its hour, or ``None`` if it is not accepted."""
    minute = parse_minute(claimed) if type(claimed) is str else None
    if minute is None:
        return None
    if minute > now + AHEAD:
        return now
    if minute < now - OLDEST:
        return None
    return minute if minute >= now - EXACT else minute.replace(minute=0)


class SdkRecordFilter:
    """Filters the records of one plan."""

    def __init__(self, plan: Plan) -> None:
        self._plan = _plan_of_records(plan)
        self._reader = Reader(self._plan, record_type(plan), str)
        self._decode = members_decoder(dict.fromkeys(_BESIDE, _SCALAR))
        self._decode_raw = members_decoder(dict.fromkeys(_BESIDE, msgspec.Raw))
        self._columns = RecordColumns(plan, {}, whole=True)
        self._checks_at = lru_cache(_MAX_MINUTES)(self._columns.checks)
        self._judge_at = lru_cache(_MAX_MINUTES)(self._make_judge)
        self._memos: dict[tuple[str, bool], Memo] = {}

    def __repr__(self) -> str:
        return f"<SdkRecordFilter of {self._plan.schema_id}>"

    def minutes(self, now: datetime) -> Minutes:
        """Make the minutes of one body."""
        return Minutes(now)

    def admit(self, text: bytes, minutes: Minutes, layout: Layout) -> list[PendingBatch]:
        """Read NDJSON (a body or a part of it); return the records by the minute in which they were
        received.

        A line without a minute, or an unreadable one, counts as received now. The first batch
        counts all bytes. Raises ``InputError`` E429 if a record is of another schema.
        """
        for piece in pieces(text.removeprefix(BOM), _PIECE):
            if not self._take_all(piece, minutes):
                self._take_lines(piece, minutes)
            minutes.write()
        return list(minutes.batches(layout, len(text), self._plan.granted))

    def _take_all(self, piece: bytes, minutes: Minutes) -> bool:
        """Add lines exactly as an SDK writes them, of one minute and with nothing to drop. Return
        false for any other lines."""
        if len(piece) > _PIECE:
            return False
        end = _END.match(piece, len(piece) - _END_BYTES)
        claimed = "" if end is None else end[1].decode()
        moments = minutes.moments(claimed)
        if end is None or moments is None:
            return False
        bare = piece.replace(end[0], b"}\n")
        try:
            records, _, _ = self._columns.read(bare, self._checks_at(*moments))
        except RecheckError:
            return False
        counts = [record.count for record in records]
        are_alike = len(piece) == len(bare) + len(records) * (_END_BYTES - len(b"}\n"))
        are_told = all(1 <= times <= MAX_TIMES and is_power_of_two(times) for times in set(counts))
        if not are_alike or not are_told:
            return False
        part = minutes.part(claimed)
        if isinstance(part, str):
            return False
        times = sum(counts)
        part.tally.received += times
        part.tally.admitted += times
        part.records += records
        return True

    def _take_lines(self, piece: bytes, minutes: Minutes) -> None:
        for line in readable_lines(piece, minutes.reject):
            reason = self._take(line, minutes)
            if reason is not None:
                minutes.reject(reason)

    def _take(self, line: bytes | memoryview, minutes: Minutes) -> Rejection | None:
        """Add a line to the part of its minute, or return why it cannot be read."""
        members = self._beside(line)
        if not isinstance(members, tuple):
            return members
        schema, times, received = members
        if type(schema) is not str:
            return "malformed"
        is_present = schema == self._plan.schema_id
        if not is_present and not self._is_of_version(schema):
            raise OtherSchema
        if times is None:
            times = 1
        elif type(times) is not int or not 1 <= times <= MAX_TIMES:
            return "malformed"
        part = minutes.part(received)
        if isinstance(part, str):
            return part
        event = self._reader.texts.decode_or_read(line)
        if isinstance(event, str):
            return cast("Rejection", event)
        self._add(event, self._judge_at(part.moments, is_present), part, times)
        return None

    def _beside(self, line: bytes | memoryview) -> Members | Rejection | None:
        """Return the values of ``schema``, ``count`` and ``received`` in a line (``None`` if
        absent), the reason why the line is rejected, or ``None`` for a blank line."""
        with suppress(*FAILURES):
            return self._decode(line)
        if is_blank(line):
            return None
        raws = read_or_reject(self._decode_raw, line)
        if not isinstance(raws, tuple):
            return raws
        return tuple(map(_decode_member, raws, _BESIDE.values()))

    def _is_of_version(self, schema: str) -> bool:
        name, _, version = schema.partition("/")
        return name == self._plan.schema_id.partition("/")[0] and _VERSION(version) is not None

    def _add(self, event: Any, judge: Judge, part: MinutePart, times: int) -> None:
        """Judge a line, and count it as ``times`` events."""
        records, notes, rejected = list[Any](), list[int](), list[Rejection]()
        judge((event,), records, notes, rejected)
        reason = rejected[0] if rejected else None
        add_verdict(part.tally, verdict(self._plan, reason, notes), times)
        for record in records:
            part.records += [
                record if power == 1 else replace_members(record, count=power)
                for power in _powers_of_two(times)
            ]

    def _make_judge(self, moments: _Moments, is_present: bool) -> Judge:
        """Make the judge of records of a minute or an hour, of this version or of another."""
        columns = [self._as_of(column, moments, is_present) for column in self._plan.columns]
        return self._reader.with_columns(columns)

    def _as_of(self, column: Column, moments: _Moments, is_present: bool) -> Column:
        """Return a column that accepts values that are valid at a moment between the two."""
        key = column.name, is_present
        memo = self._memos.get(key)
        if memo is None:
            stored = column.field.stored_between(*moments)
            accept = stored if is_present else partial(_as_now, column, stored)
            if column.memo is None:
                return replace(column, accept=accept)
            memo = self._memos[key] = Memo(accept)  # repeating texts do not depend on time
        return replace(column, accept=memo, memo=memo)


def _plan_of_records(plan: Plan) -> Plan:
    """Return the plan of records, whose members are fields and names of content."""
    columns = tuple(
        replace(
            column,
            paths=((column.name,),),
            written=(column.name,),
            conditions=((),),
            derived=None,
            peer=False,
        )
        for column in plan.columns
    )
    content = tuple((name, at) for name, at in plan.content if name not in _BESIDE)
    return replace(
        plan,
        columns=columns,
        content=content,
        records=(),
        user_agent=(),
        choices=(),
        selections=(),
        item_selections=(),
    )


class _Named(msgspec.Struct, gc=False):
    schema: str | None = None


_decode_named = msgspec.json.Decoder(_Named).decode


def schema_named(text: bytes, names: Container[str]) -> str | None:
    """Return the first of these schema names that a line gives; ``None`` if no line gives one. Only
    the first 16 KiB of lines after the blank ones are read, but at least one line."""
    start = text.removeprefix(BOM).lstrip(b" \t\r\n")
    if len(start) > _PIECE:
        start = start[: start.rfind(b"\n", 0, _PIECE) + 1 or start.find(b"\n") + 1 or None]
    for line in readable_lines(start, lambda _: None):
        with suppress(*FAILURES):
            named = (_decode_named(line).schema or "").partition("/")[0]
            if named in names:
                return named
    return None


def is_power_of_two(number: int) -> bool:
    """Return whether a positive number is a power of two."""
    return number & (number - 1) == 0


def _powers_of_two(times: int) -> list[int]:
    """Split a number of events into powers of two, the smallest first."""
    return [1 << bit for bit in range(times.bit_length()) if times >> bit & 1]


def _decode_member(raw: msgspec.Raw | None, wire: frozenset[type]) -> Any:
    return None if raw is None or raw == NULL else decode_scalar(raw, wire)


def _as_now(column: Column, accept: Canonical, value: Any) -> Scalar | None:
    """Accept a value of another version, or its coarser form in this version."""
    found = accept(value)
    if found is not None:
        return found
    coarser = column.field.coarsened(value)
    return accept(coarser) if type(coarser) in column.wire else None
