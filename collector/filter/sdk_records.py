"""Filter records that a filter has made already: those of an SDK, or of any sender.

Nothing in them is trusted. A line is read by the names that records have, and by no others; each
value passes its kind again, which must leave it unchanged; withheld fields stay withheld. So
records can bring in nothing that an event could not.

A record states how many events it stands for, and the minute in which they were received. The
sender chooses both, so both have few values: a minute of more than an hour ago becomes its hour,
and a number of events becomes records for powers of two.

Records of another version of the schema are filtered by this one: a value stays where it is one of
this version, or becomes the coarser one that it has here; the others are dropped.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache
from io import BytesIO
from typing import Any

import msgspec
from msgspec.structs import astuple

from collector.contracts import (
    CATEGORIES,
    Category,
    Drop,
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
from collector.filter.admission import record_type
from collector.filter.columns import RecordColumns
from collector.filter.decode.json import FAILURES, decode_scalar, read_or_reject
from collector.filter.plan import Column, Memo, Plan
from collector.filter.shape import NULL
from collector.filter.text import BOM, is_blank, pieces, readable_lines
from collector.schema.kinds import Canonical

MAX_TIMES = 1_000_000
"""The most events that a record may stand for: ten times the usual capacity of an SDK queue."""
COUNT_VALUES = MAX_TIMES.bit_length()
"""How many values the count of a stored record may have."""
MOST_MINUTES = 60
"""The most minutes of one body, each of which becomes a batch; an SDK sends one."""

AHEAD = timedelta(minutes=5)
"""How far a sender's clock may be ahead; a later minute counts as the present one."""
OLDEST = timedelta(days=31)
"""An earlier minute is malformed."""
EXACT = timedelta(hours=1)
"""An earlier minute becomes its hour."""
RECEIVED_VALUES = 1 + (AHEAD + EXACT) // timedelta(minutes=1) + OLDEST // timedelta(hours=1)
"""How many values ``received`` may have: minutes around the present one, and the hours before."""
MINUTE_SPAN = timedelta(seconds=59, microseconds=999_999)
HOUR_SPAN = timedelta(minutes=59) + MINUTE_SPAN
_MINUTE = re.compile(r"[0-9]{4}(?:-[0-9]{2}){2}T(?:[0-9]{2}:){2}00Z").fullmatch
_VERSION = re.compile(r"[0-9.]{1,40}").fullmatch
_MAX_MINUTES = 64
_END = re.compile(rb',"received":"([0-9TZ:-]{20})"}\n')
"""The end of a line of an SDK."""
_END_BYTES = len(b',"received":"2026-01-01T00:00:00Z"}\n')
_PIECE = 1 << 14
"""Bytes of lines that are taken together, or one by one if there is something to drop."""

_RESERVED = {"schema": frozenset([str]), "count": frozenset([int]), "received": frozenset([str])}
"""Members of a record besides its fields, with their types."""
_SCALAR = bool | float | int | str | None
_encode_lines = msgspec.json.Encoder().encode_lines
_Judge = tuple[Column, Canonical]
"""A field, and the function that accepts its stored values."""
_Judges = Callable[[datetime, datetime], list[_Judge]]
"""``judges(first, last)``: the columns with functions that accept a value at either moment."""
_Members = tuple[Any, ...]
"""A member is a value, a mark, or not decoded; ``None`` if it is absent."""


@dataclass(slots=True, repr=False)
class MinutePart:
    """The records of one minute, and the judges of their values, column by column. Those of a few
    lines are objects; they become bytes before more are read."""

    judges: list[_Judge]
    records: list[Any] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)
    lines: BytesIO = field(default_factory=BytesIO)


class Minutes:
    """The parts of one body by minute, and counts of unread lines, which belong to the present."""

    def __init__(self, now: datetime, judges: _Judges) -> None:
        self._unread: Counter[Rejection] = Counter()
        self._now = now.replace(second=0, microsecond=0)
        self._present = to_minute(self._now)
        self._judges = judges
        self._parts: dict[Any, MinutePart] = {}

    def part(self, claimed: Any) -> MinutePart | Rejection:
        """Return the part of the minute that a record claims, or of the present one if it claims
        none; or the reason why it is rejected."""
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

    def moments(self, claimed: str) -> tuple[datetime, datetime] | None:
        """Return the first and the last moment at which records of a claimed minute may have been
        filtered, or ``None`` if it is none."""
        minute = _accepted(claimed, self._now)
        return None if minute is None else (minute, minute + self._span(minute))

    def _span(self, minute: datetime) -> timedelta:
        return HOUR_SPAN if minute < self._now - EXACT else MINUTE_SPAN

    def _part_of(self, minute: datetime) -> MinutePart:
        text = to_minute(minute)
        part = self._parts.get(text)
        if part is None:
            last = minute + self._span(minute)
            part = self._parts[text] = MinutePart(self._judges(minute, last))
        return part

    def write(self) -> None:
        """Make bytes of the records that were added since the last time."""
        for part in self._parts.values():
            if part.records:
                part.lines.write(_encode_lines(part.records))
                part.records.clear()

    def batches(self, layout: Layout, size: int, granted: Granted) -> Iterator[PendingBatch]:
        """Yield the batch of each minute, after the body or a part of it was read; the first counts
        its bytes. The next part goes on with the same minutes."""
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
    """Parse a claimed minute; return it or its hour, or ``None`` unless records may be received in
    it."""
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
        content = {name: CATEGORIES[at] for name, at in plan.content if name not in _RESERVED}
        wires = {c.name: None if c.withheld else c.wire for c in plan.columns}
        self._plan = plan
        self._record = record_type(plan)
        self._wires = {**_RESERVED, **wires, **dict.fromkeys(content)}
        types = {name: _SCALAR if wire else msgspec.Raw for name, wire in self._wires.items()}
        self._decode = _decoder(types)
        self._decode_raw = _decoder(dict.fromkeys(types, msgspec.Raw))
        self._categories = tuple(content.values())
        self._no_content = [None] * len(content)
        self._columns = RecordColumns(plan, {})
        self._checks_at = lru_cache(_MAX_MINUTES)(self._columns.checks)
        self._acceptors_at = lru_cache(_MAX_MINUTES)(self._acceptors)
        self._memos: dict[str, Canonical] = {}

    def __repr__(self) -> str:
        return f"<SdkRecordFilter of {self._plan.schema_id}>"

    def minutes(self, now: datetime) -> Minutes:
        """Make the minutes of one body."""
        return Minutes(now, self._acceptors_at)

    def admit(self, text: bytes, minutes: Minutes, layout: Layout) -> list[PendingBatch]:
        """Read NDJSON, a body or a part of one; return the records by the minute in which they
        were received.

        A line that names no minute counts as received now, and so does one that cannot be read. The
        bytes of all are counted with the first share. Raises ``InputError`` E429 if a record is of
        another schema.
        """
        for piece in pieces(text.removeprefix(BOM), _PIECE):
            if not self._take_all(piece, minutes):
                self._take_lines(piece, minutes)
            minutes.write()
        return list(minutes.batches(layout, len(text), self._plan.granted))

    def _take_all(self, piece: bytes, minutes: Minutes) -> bool:
        """Add lines that are written as an SDK sends them, of one minute and with nothing to drop.
        Return false if they are any others."""
        if len(piece) > _PIECE:
            return False
        end = _END.match(piece, max(0, len(piece) - _END_BYTES))
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
        if not are_alike or any(n & (n - 1) or not 1 <= n <= MAX_TIMES for n in counts):
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
        """Add lines one by one."""
        for line in readable_lines(piece, minutes.reject):
            members = self._members(line)
            reason = self._take(members, minutes) if isinstance(members, tuple) else members
            if reason is not None:
                minutes.reject(reason)

    def _members(self, line: bytes | memoryview) -> _Members | Rejection | None:
        """Return the members of a line, or why it has none; ``None`` for a blank line.

        They are decoded all at once, or one by one if some have unexpected types.
        """
        with suppress(*FAILURES):
            return self._decode(line)
        if is_blank(line):
            return None
        raws = read_or_reject(self._decode_raw, line)
        if not isinstance(raws, tuple):
            return raws
        return tuple(
            _decode_member(raw, w) for raw, w in zip(raws, self._wires.values(), strict=True)
        )

    def _take(self, members: _Members, minutes: Minutes) -> Rejection | None:
        """Add a line to the part of its minute, or return why it is rejected."""
        schema, times, received, *rest = members
        is_present = schema == self._plan.schema_id
        if type(schema) is not str:
            return "malformed"
        if not is_present and not self._is_of_version(schema):
            raise OtherSchema
        if times is None:
            times = 1
        elif type(times) is not int or not 1 <= times <= MAX_TIMES:
            return "malformed"
        part = minutes.part(received)
        if isinstance(part, str):
            return part
        if not is_present:
            rest = [*map(_as_now, part.judges, rest), *rest[len(part.judges) :]]
        self._add(rest, part, times)
        return None

    def _is_of_version(self, schema: str) -> bool:
        """Return whether a record is of a version of the schema."""
        name, _, version = schema.partition("/")
        return name == self._plan.schema_id.partition("/")[0] and _VERSION(version) is not None

    def _add(self, members: list[Any], part: MinutePart, times: int) -> None:
        """Evaluate a line, and count it as ``times`` events."""
        tally, values, is_refused = part.tally, list[Scalar | None](), False
        for (column, accept), member in zip(part.judges, members, strict=False):
            value = accept(member) if type(member) in column.wire else None
            values.append(value)
            if value is None and member is not None and (reason := _drop_reason(column, member)):
                tally.dropped.setdefault(column.name, Counter())[reason] += times
                is_refused |= reason == "purpose_refused"
        for category in self._content(members[len(values) :]):
            tally.content[category] += times
        tally.received += times
        rejection = self._plan.rejection(values, is_refused=is_refused)
        if rejection is None:
            tally.admitted += times
            part.records += [
                self._record(*values, None if power == 1 else power)
                for power in _powers_of_two(times)
            ]
        else:
            tally.rejected[rejection] += times

    def _content(self, members: list[Any]) -> set[Category]:
        """Return the categories of content that are present."""
        if members == self._no_content:
            return set()
        each = zip(members, self._categories, strict=True)
        return {category for raw, category in each if raw is not None and raw != NULL}

    def _acceptors(self, first: datetime, last: datetime) -> list[_Judge]:
        """Return the columns with the functions that accept their values in a minute or an hour."""
        return [(column, self._acceptor(column, first, last)) for column in self._plan.columns]

    def _acceptor(self, column: Column, first: datetime, last: datetime) -> Canonical:
        """Make the function that accepts values as of a moment between the two."""
        if column.memo is None:
            return column.field.stored_between(first, last)
        if column.name not in self._memos:  # texts that repeat are timeless
            self._memos[column.name] = Memo(column.field.stored_between(first, last))
        return self._memos[column.name]


class _Named(msgspec.Struct, gc=False):
    schema: str | None = None


_decode_named = msgspec.json.Decoder(_Named).decode


def schema_named(text: bytes, names: Container[str]) -> str | None:
    """Return which of some schemas, by their names, the first line names that names one of them;
    ``None`` where no line does in what the text begins with, besides blank lines."""
    start = text.removeprefix(BOM).lstrip(b" \t\r\n")
    if len(start) > _PIECE:
        start = start[: start.rfind(b"\n", 0, _PIECE) + 1 or start.find(b"\n") + 1 or None]
    for line in readable_lines(start, lambda _: None):
        with suppress(*FAILURES):
            named = (_decode_named(line).schema or "").partition("/")[0]
            if named in names:
                return named
    return None


def _powers_of_two(times: int) -> list[int]:
    """Split a number of events into powers of two, the smallest first."""
    if not times & (times - 1):
        return [times]
    return [1 << bit for bit in range(times.bit_length()) if times >> bit & 1]


def _decoder(types: Mapping[str, Any]) -> Callable[[Any], _Members]:
    """Decode the members of an object of these names and types; skip all others as bytes."""
    fields = [(f"m{at}", kind, None) for at, kind in enumerate(types.values())]
    rename = {f"m{at}": name for at, name in enumerate(types)}
    line = msgspec.defstruct("Line", fields, rename=rename, frozen=True, gc=False)
    decode = msgspec.json.Decoder(line).decode
    return lambda text: astuple(decode(text))


def _decode_member(raw: msgspec.Raw | None, wire: frozenset[type] | None) -> Any:
    """Decode a member if it must have one of some types."""
    return raw if raw is None or wire is None else None if raw == NULL else decode_scalar(raw, wire)


def _as_now(judge: _Judge, member: Any) -> Any:
    """Return the value that a member of another version has in this one, if that is another."""
    column, accept = judge
    if column.withheld or type(member) not in column.wire or accept(member) is not None:
        return member
    coarser = column.field.coarsened(member)
    return member if coarser is None else coarser


def _drop_reason(column: Column, member: Any) -> Drop | None:
    """Return why a member is dropped, if it is present."""
    if column.withheld:
        return None if member == NULL else column.withheld
    return "invalid_value" if type(member) in column.wire else "wrong_type"
