"""Records that a filter has made already: an SDK sends them, or anybody who says that it is one.

Nothing is believed. A line is read by the names that records have, and by no others; each value
passes its kind again, which has to leave it as it is; what is withheld stays withheld. So nothing
comes in here that an event could not bring in.

A record says how many events it stands for, and in which minute they were received. Both are the
sender's to choose, and so both have limits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

import msgspec
from msgspec.structs import astuple

from collector.contracts import CATEGORIES, Category, Drop, Rejection, Scalar
from collector.errors import InputError
from collector.filter.compile import Column, Mark, Memo, Plan
from collector.filter.draft import record_type
from collector.filter.events import readable
from collector.filter.minutes import Judge, Minutes, Part, Share
from collector.filter.text import BOM, is_blank
from collector.filter.tolerant import FAILURES, NULL, judged, leaf
from collector.schema.kinds import Canonical, Circumstances

__all__ = ["MOST_TIMES", "Relay"]

MOST_TIMES = 1_000_000
"""The most events that a record may stand for: ten times what the queue of an SDK usually holds."""
_MOST_OF_IT = timedelta(seconds=59, microseconds=999_999)
_REMEMBERED = 64

_OWN = {"schema": frozenset([str]), "count": frozenset([int]), "received": frozenset([str])}
"""What a record says besides its fields, and as what."""
_SCALAR = bool | float | int | str | None
_Members = tuple[Any, ...]
"""A member is a value, a mark, or not decoded; ``None`` if it is not there."""


class Relay:
    """Reads the records of one plan."""

    def __init__(self, plan: Plan) -> None:
        content = {name: CATEGORIES[at] for name, at in plan.content if name not in _OWN}
        wires = {c.name: None if c.withheld else c.wire for c in plan.columns}
        self._plan = plan
        self._record = record_type(plan)
        self._wires = {**_OWN, **wires, **dict.fromkeys(content)}
        types = {name: _SCALAR if wire else msgspec.Raw for name, wire in self._wires.items()}
        self._decode = _decoder(types)
        self._decode_raw = _decoder(dict.fromkeys(types, msgspec.Raw))
        self._categories = tuple(content.values())
        self._no_content = [None] * len(content)
        self._judges = lru_cache(_REMEMBERED)(self._judges_of)
        self._memos: dict[str, Canonical] = {}

    def __repr__(self) -> str:
        return f"<Relay of {self._plan.schema_id}>"

    def admit(self, text: bytes, now: datetime) -> list[Share]:
        """Read NDJSON; the records by the minute in which they were received.

        A line that does not say when is received now, and so is one that cannot be read. The bytes
        of all are counted with the first. Raises ``InputError`` E429 if a record is of another
        schema, or of another version of it.
        """
        minutes = Minutes(now, self._judges)
        for line in readable(text.removeprefix(BOM), minutes.reject):
            members = self._members(line)
            reason = self._take(members, minutes) if isinstance(members, tuple) else members
            if reason is not None:
                minutes.reject(reason)
        return list(minutes.shares(len(text), self._plan.granted))

    def _members(self, line: bytes | memoryview) -> _Members | Rejection | None:
        """The members of a line, or why it has none; nothing of a blank one. Read all at once, or
        one by one if some are of unusual types."""
        with suppress(*FAILURES):
            return self._decode(line)
        if is_blank(line):
            return None
        raws = judged(self._decode_raw, line)
        if not isinstance(raws, tuple):
            return raws
        return tuple(_said(raw, w) for raw, w in zip(raws, self._wires.values(), strict=True))

    def _take(self, members: _Members, minutes: Minutes) -> Rejection | None:
        """Take a line to those of its minute; or say why it is no record."""
        schema, times, received, *rest = members
        if schema != self._plan.schema_id:
            if type(schema) is str:
                raise InputError("E429", "the records are of another version of the schema")
            return "malformed"
        if times is None:
            times = 1
        elif type(times) is not int or not 1 <= times <= MOST_TIMES:
            return "malformed"
        part = minutes.part(received)
        if isinstance(part, str):
            return part
        self._settle(rest, part, times)
        return None

    def _settle(self, members: list[Any], part: Part, times: int) -> None:
        """Judge a line, and count it as so many events."""
        tally, kept, is_refused = part.tally, list[Scalar | None](), False
        for (column, accept), member in zip(part.judges, members, strict=False):
            value = accept(member) if type(member) in column.wire else None
            kept.append(value)
            if value is None and member is not None and (reason := _why(column, member)):
                tally.dropped.setdefault(column.name, Counter())[reason] += times
                is_refused |= reason == "purpose_refused"
        for category in self._met(members[len(kept) :]):
            tally.content[category] += times
        tally.received += times
        if any(kept[index] is None for index in self._plan.required):
            tally.rejected["missing_required"] += times
        elif kept.count(None) == len(kept):
            tally.rejected["consent_withheld" if is_refused else "nothing_admitted"] += times
        else:
            tally.admitted += times
            part.records.append(self._record(*kept, None if times == 1 else times))

    def _met(self, members: list[Any]) -> set[Category]:
        """The categories of content that are there."""
        if members == self._no_content:
            return set()
        each = zip(members, self._categories, strict=True)
        return {category for raw, category in each if raw is not None and raw != NULL}

    def _judges_of(self, minute: datetime) -> list[Judge]:
        """What judges the values of a minute."""
        return [(column, self._judge(column, minute)) for column in self._plan.columns]

    def _judge(self, column: Column, minute: datetime) -> Canonical:
        """What takes a field's stored values, as of the beginning of a minute or of its end."""
        if column.memo is not None:  # which no time has to do with
            return self._memos.setdefault(column.name, Memo(column.field.stored(_at(minute))))
        first, last = (column.field.stored(_at(now)) for now in (minute, minute + _MOST_OF_IT))

        def accept(value: Any) -> Scalar | None:
            result = first(value)
            return last(value) if result is None else result

        return accept


def _decoder(types: Mapping[str, Any]) -> Callable[[Any], _Members]:
    """Reads an object's members of these names and types, and skips all others as bytes."""
    fields = [(f"m{at}", kind, None) for at, kind in enumerate(types.values())]
    rename = {f"m{at}": name for at, name in enumerate(types)}
    line = msgspec.defstruct("Line", fields, rename=rename, frozen=True, gc=False)
    decode = msgspec.json.Decoder(line).decode
    return lambda text: astuple(decode(text))


def _said(raw: msgspec.Raw | None, wire: frozenset[type] | None) -> Any:
    """A member, decoded if it is to have one of some types."""
    return raw if raw is None or wire is None else None if raw == NULL else leaf(raw, wire)


def _why(column: Column, member: Any) -> Drop | None:
    """Why a member is dropped, if it is there."""
    if column.withheld:
        return None if member == NULL else column.withheld
    if type(member) is Mark:
        return member.drop
    return "invalid_value" if type(member) in column.wire else "wrong_type"


def _at(moment: datetime) -> Circumstances:
    """As of a moment. Nothing that is stored is hashed again."""
    return Circumstances(lambda: moment, lambda _reference, _period: b"")
