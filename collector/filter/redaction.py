"""Rules: which records lose which fields, or are deleted.

A rule has parts for each schema. A part selects records by the minutes in which they were received,
and by person if it names a field and a value; it says which fields they lose. A record without
remaining fields is deleted. Retention, a person's rights, purposes that a sink no longer has, and
access to stored records are all rules. They are applied to lines here (``redact``), to rows of
SQLite and PostgreSQL (``sql``), and to Arrow tables (``arrow.tables``), always with the same
outcome.

In a line, only the value of the field that identifies the person is decoded; all other values stay
unchanged bytes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import NamedTuple

import msgspec

from collector.contracts import (
    FIRST,
    LAST,
    RESERVED,
    Part,
    Record,
    Removal,
    Subject,
    count_lines,
    to_minute,
)
from collector.documents import nearest
from collector.errors import UnreadableBatch, UsageError
from collector.filter.members import FAILURES
from collector.filter.stored import records_in
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

_RECEIVED, _RECEIVED_AT, _MINUTE_AT = b'"received":"', slice(-35, -23), slice(-23, -3)
"""The last member of a file's line, and the positions in it."""
_MINUTES = re.compile(rb'"received":"([^"\n]{20})"}\n').findall
_Members = Mapping[str, msgspec.Raw]
_NO_MEMBERS: _Members = {}
_decode_line = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_text = msgspec.json.Decoder(str).decode
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


@dataclass(frozen=True, repr=False)
class Rule:
    """The parts for each schema by name, and for ``others``. If ``others`` is ``None``, nothing is
    known about other schemas: their records stay, and are counted as unruled.

    ``now`` is the moment of a rule by age, for retentions that are stated beside records. If the
    values of people are ``hashed``, that function turns a field and a value into the hash that
    parts have.
    """

    schemas: Mapping[str, Sequence[Part]] = field(default_factory=dict)
    others: Sequence[Part] | None = ()
    now: datetime | None = None
    hashed: Callable[[str, str], str] | None = None

    @classmethod
    def expiry(cls, schemas: Sequence[Schema], now: datetime) -> Rule:
        """Make the rule by age of several schemas: each field expires by the retention in its own
        schema; in other schemas by the shortest retention of a field of that name."""
        known = {each.name: _expired(each.retentions, now) for each in schemas}
        others = _expired(shortest_retentions(schemas), now)
        return cls(known if len(schemas) > 1 else {}, others, now)

    @classmethod
    def expiry_by_name(
        cls, retentions: Mapping[str, Mapping[str, timedelta]], now: datetime
    ) -> Rule:
        """Make the rule by age of schemas by name, for a location that may have records of other
        schemas."""
        known = {name: _expired(spans, now) for name, spans in retentions.items() if spans}
        return cls(known, None, now)

    @classmethod
    def removal(cls, subject: Subject, fields: Iterable[str] | None) -> Rule:
        """Make the rule by which a person's records lose fields, or with ``None`` are deleted."""
        chosen = None if fields is None else frozenset(fields)
        part = Part(
            chosen, start=subject.start, end=subject.end, field=subject.field, value=subject.value
        )
        if subject.schema is not None:
            return cls({subject.schema: [part]})
        return cls(dict.fromkeys(subject.besides, ()), [part])

    @classmethod
    def any_of(cls, rules: Sequence[Rule]) -> Rule:
        """Make one rule of several that are not by age."""
        names = {name for rule in rules for name in rule.schemas}
        found = {
            name: [part for rule in rules for part in rule.parts(name) or ()] for name in names
        }
        return cls(found, [part for rule in rules for part in rule.others or ()])

    def parts(
        self, schema: str, stated: Callable[[], Mapping[str, timedelta]] = dict
    ) -> Sequence[Part] | None:
        """Return the parts for records of a schema, by its name or by ``name/version``; ``None`` if
        nothing is known. ``stated`` returns the retentions stored beside the records, for a rule by
        age without parts for them."""
        found = self.schemas.get(schema.partition("/")[0], self.others)
        if found is None and self.now is not None and (spans := stated()):
            return _expired(spans, self.now)
        return found

    @property
    def _all_parts(self) -> list[Part]:
        return [part for each in (*self.schemas.values(), self.others or ()) for part in each]

    @cached_property
    def until(self) -> str:
        """Records that were received at that minute or later stay whole."""
        return max((part.end for part in self._all_parts), default=FIRST)

    @cached_property
    def since(self) -> str:
        """Records that were received before that minute stay whole."""
        return min((part.start for part in self._all_parts), default=FIRST)

    @property
    def with_unknown(self) -> Rule:
        """The rule that also selects old enough records of unknown schemas."""
        if self.others is not None:
            return self
        return Rule(self.schemas, [Part(end=self.until)], self.now)

    @cached_property
    def has_people(self) -> bool:
        """Whether the rule concerns people: then it depends on values, not only on ages."""
        return any(part.field is not None for part in self._all_parts)

    @cached_property
    def needles(self) -> list[bytes] | None:
        """The values of people as encoded in lines; ``None`` if the rule also concerns other
        records."""
        parts = self._all_parts
        if self.others is None or self.hashed or any(part.field is None for part in parts):
            return None
        return [*{_encode(part.value) for part in parts}]

    def may_concern(self, text: bytes) -> bool:
        """Return whether lines may be concerned: a quick test."""
        return bool(text) if self.needles is None else any(each in text for each in self.needles)

    @cached_property
    def _by_schema(self) -> dict[str, _Sorted | None]:
        return {}

    def fields_to_remove(self, record: Mapping[str, object], minute: str) -> Collection[str] | None:
        """Return the fields that a record loses; ``None`` if nothing is known of its schema. Values
        are decoded, or ``msgspec.Raw``."""
        schema = text_of(record, "schema") or ""
        if schema not in self._by_schema:
            parts = self.parts(schema)
            self._by_schema[schema] = None if parts is None else _sorted(parts)
        if (found := self._by_schema[schema]) is None:
            return None if minute < self.until else ()
        of_all, of_people = found
        concerned = [*of_all]
        for name, by_value in of_people.items():
            if (value := text_of(record, name)) is not None:
                value = self.hashed(name, value) if self.hashed else value
                concerned += by_value.get(value, ())
        removed = set[str]()
        for part in concerned:
            if part.start <= minute < part.end:
                removed.update(part.removed(record))
        return removed


_Sorted = tuple[Sequence[Part], Mapping[str, Mapping[str, Sequence[Part]]]]
"""The parts of a rule that concern all records, and those for people, by field and value."""


def _sorted(parts: Sequence[Part]) -> _Sorted:
    of_people: dict[str, dict[str, list[Part]]] = {}
    for part in parts:
        if part.field is not None:
            of_people.setdefault(part.field, {}).setdefault(part.value, []).append(part)
    return [part for part in parts if part.field is None], of_people


EVERYTHING = Rule(others=[Part()])
"""The rule by which all records are deleted: it selects everything stored."""


def shortest_retentions(schemas: Iterable[Schema]) -> dict[str, timedelta]:
    """Return, by field name, the shortest retention of all fields of that name."""
    shortest: dict[str, timedelta] = {}
    for name, span in (pair for each in schemas for pair in each.retentions.items()):
        shortest[name] = min(span, shortest.get(name, span))
    return shortest


def _expired(spans: Mapping[str, timedelta], now: datetime) -> list[Part]:
    """Return the parts by which fields expire after their retention. Fields without a retention
    expire with the first field that does."""
    by_end: dict[str, set[str]] = {}
    for name, span in spans.items():
        by_end.setdefault(to_minute(now - span), set()).add(name)
    parts = [Part(frozenset(names), end=end) for end, names in by_end.items()]
    return [*parts, Part(but=frozenset(spans), end=max(by_end))] if by_end else []


# -- lines -----------------------------------------------------------------------------------------


def redact(
    payload: bytes, rules: Sequence[Rule], minute: str | None = None
) -> tuple[bytes, list[Removal]]:
    """Apply one rule after the other to records as NDJSON; return the remaining lines, and what
    each rule removed. A record without remaining fields is deleted.

    Lines that lose nothing stay unchanged; an unreadable line that may be concerned is removed. The
    names of unknown schemas are not reported, because they may be anything. ``minute`` is when all
    lines were received; without it, each names its own.
    """
    done = list[Removal]()
    for rule in rules:
        payload, removal = _redacted(payload, rule, minute)
        done.append(removal)
    return payload, done


def _redacted(payload: bytes, rule: Rule, minute: str | None) -> tuple[bytes, Removal]:
    if not _may_concern(payload, rule, minute):
        return payload, Removal()
    lines, deleted, shortened, is_unruled = list[bytes](), 0, 0, False
    for line, members, removed in _judged(payload, rule, minute):
        if not removed:
            is_unruled |= removed is None
            lines.append(line)
        elif len(removed) >= sum(name not in RESERVED for name in members):
            deleted += 1
        else:
            left = {name: raw for name, raw in members.items() if name not in removed}
            lines.append(_encode(left) + b"\n")
            shortened += 1
    if deleted or shortened:
        payload = b"".join(lines)
    return payload, Removal(deleted, shortened, unruled=("",) * is_unruled)


def matching(payload: bytes, rule: Rule, minute: str | None = None) -> Iterator[Record]:
    """Yield the stored records that lose something by a rule. Unreadable lines are skipped.
    ``minute`` is as in ``redact``."""
    if rule is EVERYTHING:
        with suppress(UnreadableBatch):
            yield from records_in(payload)
            return
    if _may_concern(payload, rule, minute):
        for line, members, removed in _judged(payload, rule, minute):
            if removed and members:
                with suppress(UnreadableBatch):
                    yield from records_in(line)


def _may_concern(payload: bytes, rule: Rule, minute: str | None) -> bool:
    """Return whether lines may be concerned: a quick test."""
    if not rule.may_concern(payload):
        return False
    if minute is not None or rule.has_people:
        return True
    since, until, minutes = rule.since.encode(), rule.until.encode(), _MINUTES(payload)
    is_told = len(minutes) == count_lines(payload) and payload.endswith(b"\n")
    return not is_told or any(since <= each < until for each in {*minutes})


def _judged(
    payload: bytes, rule: Rule, minute: str | None
) -> Iterator[tuple[bytes, _Members, Collection[str] | None]]:
    """Yield each line with its undecoded members, and the members that it loses (``None`` if
    nothing is known of its schema). An unreadable line has no members, and loses one.
    """
    since, until = rule.since.encode(), rule.until.encode()
    needles, known = rule.needles, dict[tuple[object, ...], Collection[str] | None]()
    for line in payload.splitlines(keepends=True):
        stated = line[_MINUTE_AT] if line[_RECEIVED_AT] == _RECEIVED else None
        if (stated is not None and not since <= stated < until) or (
            needles is not None and not any(each in line for each in needles)
        ):
            yield line, _NO_MEMBERS, ()
            continue
        members: _Members
        try:
            members = _decode_line(line)
        except FAILURES:
            members = _NO_MEMBERS
        if rule.has_people:
            removed = _removed(members, rule, minute)
        else:
            shape = bytes(members.get("schema", b"")), stated, *members
            if stated is None and minute is None:
                removed = _removed(members, rule, minute)
            elif shape in known:
                removed = known[shape]
            else:
                removed = known[shape] = _removed(members, rule, minute)
        yield line, members, removed


def _removed(members: _Members, rule: Rule, minute: str | None) -> Collection[str] | None:
    """Return the members that a line loses; a line without fields loses a nameless one."""
    fields = {name for name in members if name not in RESERVED}
    if not fields:
        return ("",)
    received = (text_of(members, "received") or FIRST) if minute is None else minute
    found = rule.fields_to_remove(members, received)
    return None if found is None else fields.intersection(found)


def text_of(record: Mapping[str, object], name: str) -> str | None:
    """Return the text of a record's member, decoded or raw; ``None`` for anything but a text."""
    found = record.get(name)
    if isinstance(found, msgspec.Raw):
        with suppress(*FAILURES):
            return _decode_text(found)
        return None
    return found if isinstance(found, str) else None


# -- SQL -------------------------------------------------------------------------------------------


class Dialect(NamedTuple):
    """How a database writes a bound value (by its name and the type of the compared column), and a
    column's name."""

    bound: Callable[[str, str], str]
    quoted: Callable[[str], str]


class SqlRule(NamedTuple):
    """The parts of a rule for the rows of a table, as SQL. ``concerned`` selects the rows that lose
    fields or are deleted, ``emptied`` only the deleted ones. ``cleared`` are assignments for the
    others, if there can be any; ``counts`` counts by column the rows that lose it. ``values`` are
    bound."""

    concerned: str
    emptied: str
    cleared: str
    counts: Mapping[str, str]
    values: Mapping[str, str]

    def __repr__(self) -> str:
        return "<SqlRule>"

    def changes(self, table: str, within: str = "") -> list[str]:
        """Return the statements that delete rows and then clear columns of others, if there can be
        any; ``within`` is a condition for both."""
        delete = f"DELETE FROM {table} WHERE {within}({self.emptied})"  # noqa: S608 - quoted names
        update = f"UPDATE {table} SET {self.cleared} WHERE {within}({self.concerned})"  # noqa: S608
        return [delete, update] if self.cleared else [delete]

    def counting(self, table: str, minute: str) -> str:
        """Return the query for the number of concerned rows, their first and last ``minute``, and
        how many of them lose each column of ``counts``."""
        figures = ", ".join(("count(*)", f"min({minute})", f"max({minute})", *self.counts.values()))
        return f"SELECT {figures} FROM {table} WHERE {self.concerned}"  # noqa: S608 - quoted names


def sql(parts: Sequence[Part], columns: Mapping[str, str], dialect: Dialect) -> SqlRule | None:
    """Compile parts for a table with ``received`` and other columns (name → type); ``None`` if no
    row can be concerned."""
    fields = [name for name in columns if name not in RESERVED]
    conditions, concerned, values = list[str](), list[str](), dict[str, str]()
    covering: dict[str, tuple[int, ...]] = dict.fromkeys(fields, ())
    for part in parts:
        removed = part.removed(fields)
        if removed and (part.field is None or part.field in columns):
            at = len(conditions)
            conditions.append(_where(part, columns, dialect, values, at))
            covering |= {name: (*covering[name], at) for name in removed}
            is_sure = part.field in removed or len(removed) == len(fields)
            some = "" if is_sure else f" AND ({_some(removed, dialect)})"
            concerned.append(f"({conditions[at]}{some})")
    if not conditions:
        return None
    rest = list[str]()
    for group in sorted({*covering.values()}):
        some = _some([name for name in fields if covering[name] == group], dialect)
        if len(group) < len(conditions):
            kept = f" AND NOT ({_any(conditions, group)})" if group else ""
            rest.append(f"(({some}){kept})")
    emptied = f"({_any(conditions)})" + (f" AND NOT ({' OR '.join(rest)})" if rest else "")
    if rest:
        concerned.append(f"({emptied})")
    cleared, counts = list[str](), dict[str, str]()
    for name, group in covering.items():
        column, where = dialect.quoted(name), _any(conditions, group)
        if group and rest:
            cleared.append(f"{column} = CASE WHEN {where} THEN NULL ELSE {column} END")
        if group:
            counts[name] = f"count(CASE WHEN {where} THEN {column} END)"
    return SqlRule(" OR ".join(concerned), emptied, ", ".join(cleared), counts, values)


def _some(names: Iterable[str], dialect: Dialect) -> str:
    return " OR ".join(f"{dialect.quoted(name)} IS NOT NULL" for name in names)


def _any(conditions: Sequence[str], places: Sequence[int] | None = None) -> str:
    chosen = conditions if places is None else [conditions[at] for at in places]
    return " OR ".join(f"({each})" for each in chosen)


def _where(
    part: Part, columns: Mapping[str, str], dialect: Dialect, values: dict[str, str], at: int
) -> str:
    """Return the condition for the rows that a part concerns; it is never NULL."""
    received, found = dialect.quoted("received"), list[str]()
    kind = columns["received"]
    if part.field is not None:
        values[f"value{at}"] = part.value
        name, bound = dialect.quoted(part.field), dialect.bound(f"value{at}", columns[part.field])
        found.append(f"{name} IS NOT NULL AND {name} = {bound}")
    if part.start != FIRST:
        values[f"start{at}"] = part.start
        found.append(f"{received} >= {dialect.bound(f'start{at}', kind)}")
    if part.end != LAST:
        values[f"end{at}"] = part.end
        found.append(f"{received} < {dialect.bound(f'end{at}', kind)}")
    return " AND ".join(found) or "1 = 1"
