"""Records that lie somewhere already, with less in them: what is to go is taken out, line by line.

Why something goes is one of three: its retention is over, or somebody's records are erased, or
somebody objects to some purposes. Of values nothing is decoded but those of the one field by which
somebody is found; all others stay the bytes that they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Protocol

import msgspec

from collector.contracts import Record, Subject, to_minute
from collector.schema.model import Schema

__all__ = [
    "Change",
    "Erasure",
    "Expiry",
    "Objection",
    "Reason",
    "Revised",
    "changing",
    "expired",
    "meant",
    "revise",
]

_BESIDES = frozenset({"schema", "count", "received"})
"""Members of a line that are no fields."""
_HEAD, _TAIL, _WHEN = b'"received":"', slice(-35, -23), slice(-23, -3)
"""How lines of files end, and where it stands."""
_Members = Mapping[str, msgspec.Raw]
_line = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_read = msgspec.json.Decoder(str).decode
_record = msgspec.json.Decoder(dict[str, str | int | float | bool]).decode
_encode = msgspec.json.encode


class Change(Protocol):
    """What a reason leaves of lines that were received at a minute, or that say it themselves, and
    how many of them have less."""

    def __call__(self, payload: bytes, minute: str | None = None) -> tuple[bytes, int]: ...


class Reason(Protocol):
    """Why something goes. Nothing does that was received at the minute ``until``, or later."""

    @property
    def until(self) -> str: ...

    def may_concern(self, text: bytes) -> bool:
        """Whether lines may have something that goes; to see that quickly."""

    def going(self, record: _Members, minute: str) -> Iterable[str]:
        """The fields of a record that go; ``minute`` is when it was received."""


@dataclass(frozen=True)
class Expiry:
    """What is older than its retention goes. ``spans`` are by field; what is not among them goes
    with the first. A minute that cannot be read has come too long ago."""

    spans: Mapping[str, timedelta]
    now: datetime

    @cached_property
    def before(self) -> Mapping[str, str]:
        """By field, the minute before which it goes."""
        return {name: to_minute(self.now - span) for name, span in self.spans.items()}

    @cached_property
    def until(self) -> str:
        """What was received at that minute, or after it, stays whole."""
        return max(self.before.values())

    def may_concern(self, text: bytes) -> bool:
        """Whether there are lines at all: that they are old is not to be seen."""
        return bool(text)

    def going(self, record: _Members, minute: str) -> Iterable[str]:
        """The fields that are too old."""
        if minute >= self.until:
            return ()
        before, first = self.before, self.until
        return [name for name in record if minute < before.get(name, first)]


class _Concerning:
    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._needle = _encode(subject.value)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} by {self._subject.field}>"

    @property
    def until(self) -> str:
        """The end of the window."""
        return self._subject.end

    def may_concern(self, text: bytes) -> bool:
        """Whether the value is in there, at any place."""
        return self._needle in text

    def _is_meant(self, record: _Members, minute: str) -> bool:
        subject = self._subject
        raw = record.get(subject.field)
        if raw is None or not subject.start <= minute < subject.end:
            return False
        return _text(raw) == subject.value


class Erasure(_Concerning):
    """Records of somebody go, with all that is in them."""

    def going(self, record: _Members, minute: str) -> Iterable[str]:
        """All fields of theirs, none of others."""
        return record if self._is_meant(record, minute) else ()


class Objection(_Concerning):
    """Some fields of somebody's records go."""

    def __init__(self, subject: Subject, fields: Iterable[str]) -> None:
        super().__init__(subject)
        self._fields = frozenset(fields)

    def going(self, record: _Members, minute: str) -> Iterable[str]:
        """Those fields of theirs, none of others."""
        return self._fields if self._is_meant(record, minute) else ()


@dataclass(frozen=True, slots=True, repr=False)
class Revised:
    """What is left, and how many records have less in them than they had, or are gone."""

    payload: bytes
    records: int


def revise(payload: bytes, reason: Reason, minute: str | None = None) -> Revised:
    """What a reason leaves of records as NDJSON; a record without any field left is gone. Lines
    that have nothing to go stay as they are; one that cannot be read goes.

    ``minute`` is when all of them were received; without it, each line says so itself.
    """
    if not reason.may_concern(payload):
        return Revised(payload, 0)
    lines, changed = list[bytes](), 0
    for line in payload.splitlines(keepends=True):
        is_concerned = reason.may_concern(line) and not _is_late(line, reason.until)
        left = _left(line, reason, minute) if is_concerned else line
        if left != line:
            changed += 1
        lines.append(left)
    return Revised(b"".join(lines) if changed else payload, changed)


def changing(reason: Reason) -> Change:
    """A reason as the change that it makes."""

    def change(payload: bytes, minute: str | None = None) -> tuple[bytes, int]:
        left = revise(payload, reason, minute)
        return left.payload, left.records

    return change


def expired(schema: Schema) -> Callable[[bytes], tuple[bytes, int]]:
    """A change for lines of files: what retention leaves of them at the moment at which it is
    called, and how many of them have less."""
    spans = schema.retentions

    def change(text: bytes) -> tuple[bytes, int]:
        return changing(Expiry(spans, datetime.now(UTC)))(text)

    return change


def meant(payload: bytes, subject: Subject, minute: str | None = None) -> list[Record]:
    """The records of somebody among lines, as they lie there. A line that cannot be read is none.
    ``minute`` as in ``revise``."""
    erasure, found = Erasure(subject), list[Record]()
    for line in payload.splitlines(keepends=True) if erasure.may_concern(payload) else ():
        with suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            if _left(line, erasure, minute) == b"":
                found.append(_record(line))
    return found


def _is_late(line: bytes, until: str) -> bool:
    """Whether a line says, where ours do, that it was received too late to be concerned."""
    return line[_TAIL] == _HEAD and line[_WHEN] >= until.encode()


def _left(line: bytes, reason: Reason, minute: str | None) -> bytes:
    members: dict[str, msgspec.Raw] = {}
    with suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        members = _line(line)
    fields = {name: raw for name, raw in members.items() if name not in _BESIDES}
    going = set(reason.going(fields, _received(members) if minute is None else minute))
    if fields and going.isdisjoint(fields):
        return line
    if fields.keys() <= going:
        return b""
    return _encode({name: raw for name, raw in members.items() if name not in going}) + b"\n"


def _received(members: _Members) -> str:
    """When a line was received, to the minute; nothing, which is before everything, if it is not
    said."""
    return (_text(members["received"]) or "") if "received" in members else ""


def _text(raw: msgspec.Raw) -> str | None:
    with suppress(msgspec.MsgspecError, UnicodeDecodeError):
        return _read(raw)
    return None
