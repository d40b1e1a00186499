"""Remove fields or whole records from stored NDJSON, line by line.

A rule says which fields of a line go: because their retention is over (``Expiry``), because a
person's records are erased (``Erasure``), or because a person objects to purposes (``Objection``).
The only value that is decoded is that of the field that identifies the person; all others stay the
bytes that they are.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import NamedTuple, Protocol

import msgspec

from collector.contracts import Record, Subject, to_minute
from collector.documents import nearest
from collector.errors import UsageError
from collector.schema.kinds import Circumstances
from collector.schema.kinds.base import utc_now
from collector.schema.kinds.ip import IpField
from collector.schema.model import Schema

MIN_IDENTIFYING_VALUES = 1 << 32
"""A field with fewer values than there are IPv4 addresses cannot identify a person."""

_YEARS = range(1000, 9999)
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}").fullmatch
_MOMENT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]+)?)?([Zz]|[+-][0-9]{2}:[0-9]{2})"
).fullmatch

_RESERVED_MEMBERS = frozenset({"schema", "count", "received"})
"""Members of a line that are no fields."""
_RECEIVED, _RECEIVED_AT, _MINUTE_AT = b'"received":"', slice(-35, -23), slice(-23, -3)
"""The last member of a line of a file, and its position there."""
_Members = Mapping[str, msgspec.Raw]
_decode_line = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_text = msgspec.json.Decoder(str).decode
_decode_record = msgspec.json.Decoder(dict[str, str | int | float | bool]).decode
_encode = msgspec.json.encode


# -- the person ------------------------------------------------------------------------------------


def find_subject(schema: Schema, field: str, value: str, since: str, until: str) -> Subject:
    """Return the subject of a request; the value is made canonical like that of an event.

    Raises ``InputError``: E404 for a field that does not identify a person, E107 for a value
    that the field cannot have and for an invalid window.
    """
    start, end = minute_window(since, until)
    _check_identifies(schema, field)
    circumstances = Circumstances(utc_now, lambda *_: b"")
    canonical = schema.fields[field].sought(circumstances)(value)
    if not isinstance(canonical, str):
        message = f"`{field}` cannot have this value; check its spelling"
        raise UsageError("E107", message)
    return Subject(field, canonical, start, end)


class NoPersonError(UsageError):
    """E404: the schema has no such field, or its values do not lead to one person."""

    def __init__(self, message: str) -> None:
        super().__init__("E404", message)

    def __reduce__(self) -> tuple[type[NoPersonError], tuple[str]]:
        return (NoPersonError, (self.message,))


def _check_identifies(schema: Schema, name: str) -> None:
    field = schema.fields.get(name)
    if field is None:
        hint = nearest(name, list(schema.fields)) or f"; there are {', '.join(schema.fields)}"
        raise NoPersonError(f"the schema has no such field{hint}")
    if field.kind == "pseudonym":
        why = "it is a pseudonym: its key is destroyed, so its values can no longer be attributed"
    elif isinstance(field, IpField) and field.truncate != type(field.truncate)():
        why = "it is truncated: many people share each of its values"
    elif field.kind not in ("ip", "token") or field.size() < MIN_IDENTIFYING_VALUES:
        why = "it is coarse: many people share each of its values"
    else:
        return
    raise NoPersonError(f"`{name}` does not lead to one person: {why}")


def minute_window(since: str, until: str) -> tuple[str, str]:
    """Return the first minute of a window and the first after it, in UTC.

    Both ends are dates or moments (RFC 3339), and both belong to it: a day with all its minutes, a
    moment with its minute. Raises ``InputError`` E107.
    """
    start, end = _moment(since), _moment(until)
    if start is None or end is None:
        message = "write both ends of the window as 2026-11-24 or 2026-11-24T10:20:00Z"
        raise UsageError("E107", message)
    end += timedelta(days=1) if _DAY(until) else timedelta(minutes=1)
    if end <= start:
        raise UsageError("E107", "the window ends before it begins; exchange its ends")
    return to_minute(start), to_minute(end)


def _moment(text: str) -> datetime | None:
    with suppress(ValueError, OverflowError):
        if _DAY(text):
            moment = datetime.fromisoformat(text).replace(tzinfo=UTC)
        elif _MOMENT(text):
            moment = datetime.fromisoformat(text.upper()).astimezone(UTC)
        else:
            return None
        if moment.year in _YEARS:
            return moment.replace(second=0, microsecond=0)
    return None


# -- the rules -------------------------------------------------------------------------------------


class RedactionRule(Protocol):
    """Which fields go. Lines received at the minute ``until`` or later stay whole."""

    @property
    def until(self) -> str: ...

    def may_concern(self, text: bytes) -> bool:
        """Return whether lines may have fields that go: a quick test."""

    def fields_to_remove(self, record: _Members, minute: str) -> Iterable[str]:
        """Return the fields of a record that go, all of whose members are given; ``minute`` is when
        it was received."""


@dataclass(frozen=True)
class Expiry:
    """Remove fields that are older than their retention.

    ``spans`` are by field; a field that is not among them goes with the first that does. Records of
    a schema that is among ``schemas``, by name, have the retentions of that one instead. A minute
    that cannot be read counts as too old.

    Without ``spans``, records of other schemas stay whole; ``unruled`` counts those which were old
    enough that they might have been concerned.
    """

    spans: Mapping[str, timedelta]
    now: datetime
    schemas: Mapping[str, Mapping[str, timedelta]] = field(default_factory=dict)
    unruled: Counter[str] = field(default_factory=Counter, compare=False, repr=False)

    @classmethod
    def of(cls, schemas: Sequence[Schema], now: datetime) -> Expiry:
        """Make the rule of several schemas: each field goes by the retention that its own schema
        has, and one of a schema that is not among them by the shortest of its name."""
        if len(schemas) == 1:
            return cls(schemas[0].retentions, now)
        shortest: dict[str, timedelta] = {}
        for name, span in (pair for each in schemas for pair in each.retentions.items()):
            shortest[name] = min(span, shortest.get(name, span))
        return cls(shortest, now, {each.name: each.retentions for each in schemas})

    @classmethod
    def by_name(cls, retentions: Mapping[str, Mapping[str, timedelta]], now: datetime) -> Expiry:
        """Make the rule of schemas by their names, for a place where records of others may lie."""
        return cls({}, now, retentions)

    @cached_property
    def before(self) -> Mapping[str, str]:
        """By field, the minute before which it goes."""
        return self._minutes(self.spans)

    @cached_property
    def _by_schema(self) -> Mapping[str, Mapping[str, str]]:
        return {name: self._minutes(spans) for name, spans in self.schemas.items()}

    def _minutes(self, spans: Mapping[str, timedelta]) -> dict[str, str]:
        return {name: to_minute(self.now - span) for name, span in spans.items()}

    @cached_property
    def until(self) -> str:
        """Lines received at that minute or later stay whole."""
        minutes = (self.before, *self._by_schema.values())
        return max((minute for each in minutes for minute in each.values()), default="")

    def may_concern(self, text: bytes) -> bool:
        """Return whether there are lines at all: their age takes a closer look."""
        return bool(text)

    def fields_to_remove(self, record: _Members, minute: str) -> Iterable[str]:
        """Return the fields that are too old."""
        schema = _text(record["schema"]) if self.schemas and "schema" in record else None
        name = (schema or "").partition("/")[0]
        return self.expired(record.keys() - _RESERVED_MEMBERS, name, minute)

    def expired(self, names: Iterable[str], schema: str, minute: str) -> list[str]:
        """Return those of the fields of a schema, by its name, that are too old where they were
        received at a minute."""
        if minute >= self.until:
            return []
        before = self._by_schema.get(schema, self.before)
        if not before:
            self.unruled.update([schema] if any(True for _ in names) else [])
            return []
        first = max(before.values())
        return [name for name in names if minute < before.get(name, first)]

    def rules(self, schema: str) -> bool:
        """Return whether there are retentions for a schema, by its name."""
        return bool(self._by_schema.get(schema, self.before))

    def for_schema(self, name: str, stated: Callable[[], Mapping[str, timedelta]]) -> Expiry:
        """Return the rule for records of a schema: this one, or that of the retentions which are
        stated beside the records, where this one has none and there are some."""
        spans = {} if self.rules(name) else stated()
        return self.by_name({name: spans}, self.now) if spans else self

    def all_before(self, schema: str) -> str:
        """Return the minute before which all fields of a schema are too old; the empty text, which
        precedes all, for one without retentions."""
        return min(self._by_schema.get(schema, self.before).values(), default="")


class _SubjectRule:
    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._encoded_value = _encode(subject.value)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} by {self._subject.field}>"

    @property
    def until(self) -> str:
        """The end of the window."""
        return self._subject.end

    def may_concern(self, text: bytes) -> bool:
        """Return whether the value occurs in the lines, in any place."""
        return self._encoded_value in text

    def _matches(self, record: _Members, minute: str) -> bool:
        subject = self._subject
        raw = record.get(subject.field)
        if raw is None or not subject.start <= minute < subject.end:
            return False
        if _text(raw) != subject.value:
            return False
        schema = _text(record["schema"]) if "schema" in record else None
        return subject.concerns(schema or "")


class Erasure(_SubjectRule):
    """Remove the whole records of a person."""

    def fields_to_remove(self, record: _Members, minute: str) -> Iterable[str]:
        """Return all fields of the person's records, none of others."""
        return record if self._matches(record, minute) else ()


class Objection(_SubjectRule):
    """Remove some fields of a person's records."""

    def __init__(self, subject: Subject, fields: Iterable[str]) -> None:
        super().__init__(subject)
        self._fields = frozenset(fields)

    def fields_to_remove(self, record: _Members, minute: str) -> Iterable[str]:
        """Return those fields of the person's records, none of others."""
        return self._fields if self._matches(record, minute) else ()


def removal_rule(subject: Subject, fields: Iterable[str] | None) -> RedactionRule:
    """Return the rule that removes fields of a person's records; whole records for ``None``."""
    return Erasure(subject) if fields is None else Objection(subject, fields)


# -- the lines -------------------------------------------------------------------------------------


class Redacted(NamedTuple):
    """The remaining lines, and the number of records that were shortened or removed."""

    payload: bytes
    records: int

    def __repr__(self) -> str:
        return f"<Redacted {self.records} records>"


class Redactor(Protocol):
    """Redacts lines that were received at a minute, or that name it themselves, as ``redact``."""

    def __call__(self, payload: bytes, minute: str | None = None) -> tuple[bytes, int]: ...


def redact(payload: bytes, rule: RedactionRule, minute: str | None = None) -> Redacted:
    """Apply a rule to records as NDJSON; a record without any field left is removed.

    Lines from which nothing goes stay as they are; one that cannot be read is removed. ``minute``
    is when all of them were received; without it, each line names its own.
    """
    if not rule.may_concern(payload):
        return Redacted(payload, 0)
    lines, changed = list[bytes](), 0
    for line in payload.splitlines(keepends=True):
        is_concerned = rule.may_concern(line) and not _is_later(line, rule.until)
        rest = _redact_line(line, rule, minute) if is_concerned else line
        if rest != line:
            changed += 1
        lines.append(rest)
    return Redacted(b"".join(lines) if changed else payload, changed)


def redactor(rule: RedactionRule) -> Redactor:
    """Return a function that applies a rule."""
    return lambda payload, minute=None: redact(payload, rule, minute)


def retention_redactor(
    retentions: Callable[[], Mapping[str, Mapping[str, timedelta]]],
) -> Callable[[bytes], Redacted]:
    """Return a function that applies the retentions of schemas by their names, as of each call, to
    files."""
    return lambda text: redact(text, Expiry.by_name(retentions(), datetime.now(UTC)))


def matching(payload: bytes, subject: Subject, minute: str | None = None) -> list[Record]:
    """Return the records of a person among lines, as they are stored.

    A line that cannot be read is skipped. ``minute`` as in ``redact``.
    """
    erasure, found = Erasure(subject), list[Record]()
    for line in payload.splitlines(keepends=True) if erasure.may_concern(payload) else ():
        with suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            if _redact_line(line, erasure, minute) == b"":
                found.append(_decode_record(line))
    return found


def _is_later(line: bytes, until: str) -> bool:
    """Return whether a line names, where lines of files do, a minute at which it stays whole."""
    return line[_RECEIVED_AT] == _RECEIVED and line[_MINUTE_AT] >= until.encode()


def _redact_line(line: bytes, rule: RedactionRule, minute: str | None) -> bytes:
    members: dict[str, msgspec.Raw] = {}
    with suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        members = _decode_line(line)
    fields = {name: raw for name, raw in members.items() if name not in _RESERVED_MEMBERS}
    received = _received(members) if minute is None else minute
    removed = set(rule.fields_to_remove(members, received))
    if fields and removed.isdisjoint(fields):
        return line
    if fields.keys() <= removed:
        return b""
    return _encode({name: raw for name, raw in members.items() if name not in removed}) + b"\n"


def _received(members: _Members) -> str:
    """Return the minute that a line names; without one, the empty text, which precedes all."""
    return (_text(members["received"]) or "") if "received" in members else ""


def text_of(record: Mapping[str, object], name: str) -> str | None:
    """Return the text that a member of a rule's record has; ``None`` for anything else."""
    raw = record.get(name)
    return _text(raw) if isinstance(raw, msgspec.Raw) else None


def _text(raw: msgspec.Raw) -> str | None:
    with suppress(msgspec.MsgspecError, UnicodeDecodeError):
        return _decode_text(raw)
    return None
