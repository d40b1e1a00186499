"""The tolerant path: an event whose types the fast path refused, read leaf by leaf.

Every member that the plan reads is taken as ``msgspec.Raw``, so that a value of the wrong type
costs its own field and nothing else. Unlisted members stay undecoded bytes here too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import msgspec
from msgspec.structs import astuple

from collector.contracts import Rejection
from collector.filter.compile import (
    MARKS,
    Column,
    Conditions,
    EventValues,
    Keys,
    Plan,
    RecordPath,
)
from collector.filter.text import is_list
from collector.schema.conditions import ClosedList

NULL = msgspec.Raw(b"null")
FAILURES = (msgspec.MsgspecError, RecursionError, ValueError)
"""All exceptions that msgspec raises for a payload (``UnicodeDecodeError`` is a ``ValueError``)."""

_TYPES: dict[int, Any] = {
    ord('"'): str,
    ord("t"): bool,
    ord("f"): bool,
    ord("{"): dict,
    ord("["): list,
}
_FRACTION = re.compile(rb"[.eE]")
_TEXT = frozenset([str])
_COMPARED = frozenset([str, bool, int, float])
_Members = Sequence[msgspec.Raw | None]
_T = TypeVar("_T")
_Slot = tuple[int, int]
"""A member: the number of its object, and its own number within it."""
_Checks = list[tuple[_Slot, ClosedList]]
"""Members, each with the values of which it must have one."""
_Place = tuple[Keys, type]
"""The path of an object (``str``) or of a list (``int``)."""


skip: Callable[[bytes | memoryview], msgspec.Raw] = msgspec.json.Decoder(msgspec.Raw).decode
"""Read a JSON text to its end and discard it."""


class _Object:
    """An object, or a list, of which some members are known; the rest is skipped as bytes."""

    def __init__(self, slot: _Slot, keys: Iterable[str | int], *, is_list: bool = False) -> None:
        self.slot = slot
        self.opening = _BRACKET if is_list else _BRACE
        self.keys = list(keys)
        self.absent: _Members = (None,) * len(self.keys)
        self.decode = msgspec.json.Decoder(self._type(is_list)).decode

    def _type(self, is_list: bool) -> type[msgspec.Struct]:
        fields = [(f"m{number}", msgspec.Raw, None) for number in range(len(self.keys))]
        rename = None if is_list else {f"m{n}": str(key) for n, key in enumerate(self.keys)}
        return msgspec.defstruct(
            "Event", fields, rename=rename, array_like=is_list, frozen=True, gc=False
        )

    def read(self, raw: msgspec.Raw | None) -> _Members:
        """Return the members; all are absent if this is no object, or no list."""
        if raw is None or memoryview(raw)[0] != self.opening:
            return self.absent
        return astuple(self.decode(raw))


_BRACE, _BRACKET, _QUOTE = ord("{"), ord("["), ord('"')
_WRONG_TYPE, _INVALID = MARKS["wrong_type"], MARKS["invalid_value"]


class RootReader:
    """Reads events whose root is an object (``str`` keys) or a list (``int``).

    An event is read into the members of its objects and lists, each of which is decoded once.
    """

    def __init__(self, plan: Plan, root: type) -> None:
        self._root = root
        below: dict[_Place, dict[str | int, None]] = {((), root): {}}
        for path in plan.paths:
            for end, key in enumerate(path) if type(path[0]) is root else ():
                below.setdefault((path[:end], type(key)), {})[key] = None
        if root is str:
            below[(), root].update({name: None for name, _ in plan.content})
        self._numbers: dict[_Place, int] = {}
        self._objects: list[_Object] = []
        for place in sorted(below, key=lambda place: len(place[0])):
            keys: Iterable[str | int] = below[place]
            if place[1] is int:
                keys = range(1 + max(map(int, keys), default=-1))
            slot = self._slot(place[0]) if place[0] else (0, 0)
            self._numbers[place] = len(self._objects)
            self._objects.append(_Object(slot, keys, is_list=place[1] is int))
        self._columns = [
            (column, self._slots(column.paths), self._checks(column)) for column in plan.columns
        ]
        adding = (column for column in plan.columns if column.wire != column.field.wire)
        self._adds_text = {column.index for column in adding}
        self._selections = [self._members(each.conditions) for each in plan.selections]
        self._agent = self._slots(plan.user_agent)
        self._records = [(each, self._slots(each.paths)) for each in plan.records]
        keys, content = self._objects[0].keys, plan.content if root is str else ()
        self._content_at = [(keys.index(name), category) for name, category in content]

    def _slot(self, path: Keys) -> _Slot:
        number = self._numbers[path[:-1], type(path[-1])]
        return number, self._objects[number].keys.index(path[-1])

    def _slots(self, paths: Iterable[Keys]) -> list[_Slot]:
        return [self._slot(path) for path in paths if type(path[0]) is self._root]

    def _checks(self, column: Column) -> list[_Checks | None]:
        """Return the conditions of each path; none at all if no path has any."""
        if not any(column.conditions):
            return []
        pairs = zip(column.paths, column.conditions, strict=True)
        return [
            self._members(conditions) for path, conditions in pairs if type(path[0]) is self._root
        ]

    def _members(self, conditions: Conditions) -> _Checks | None:
        """Return the members that are compared; ``None`` if events of this form have none."""
        if any(type(path[0]) is not self._root for path, _ in conditions):
            return None
        return [(self._slot(member), listed) for member, listed in conditions]

    def decode(self, payload: Any) -> list[_Members]:
        """Return the members of an event's objects, undecoded.

        Raises what msgspec raises; ``RecursionError`` also where the event is nearly too deep,
        because it is decoded from fewer calls down than its members are.
        """
        outer, *inner = self._objects
        found: list[_Members] = [astuple(outer.decode(payload))]
        for each in inner:
            number, member = each.slot
            found.append(each.read(found[number][member]))
        return found

    def first(self, payload: Any) -> msgspec.Raw | None:
        """Return the raw value at the path of the user agent. Raises as ``decode``."""
        return _first(self.decode(payload), self._agent)

    def read(self, event: list[_Members]) -> EventValues:
        """Read the values of an event; where record paths lead is not decoded."""
        values: list[Any] = []
        for column, slots, checks in self._columns:
            raw = _first_that_counts(event, slots, checks) if checks else _first(event, slots)
            if raw is None:
                values.append(None)
            elif column.withheld:
                values.append(MARKS[column.withheld])
            else:
                is_refused = column.index in self._adds_text and not _may_be_value(raw, column)
                values.append(_INVALID if is_refused else decode_scalar(raw, column.wire))
        agent = _first(event, self._agent) if self._agent else None
        text = None if agent is None else decode_scalar(agent, _TEXT)
        records = list(self._record_values(event)) if self._records else []
        selected = tuple(_all_hold(event, checks) for checks in self._selections)
        return EventValues(values, self._content(event[0]), text, records, selected)

    def _content(self, members: _Members) -> frozenset[int]:
        """Return the categories of content that are present."""
        present = ((members[at], category) for at, category in self._content_at)
        return frozenset([c for raw, c in present if raw is not None and raw != NULL])

    def _record_values(self, event: list[_Members]) -> Iterator[tuple[RecordPath, Any]]:
        for each, slots in self._records:
            raw = _first(event, slots)
            if raw is not None or not each.paths:
                yield each, raw

    def source(self, event: list[_Members], column: Column) -> str | None:
        """Return the path that supplies a column, as the schema writes it; ``None`` if none
        does."""
        pairs = zip(column.paths, column.written, strict=True)
        written = [text for path, text in pairs if type(path[0]) is self._root]
        _, slots, checks = self._columns[column.index]
        found = zip(written, slots, checks or [[] for _ in slots], strict=True)
        return next(
            (text for text, slot, each in found if _first_that_counts(event, [slot], [each])), None
        )


def _first(event: list[_Members], slots: Iterable[_Slot]) -> msgspec.Raw | None:
    """Return the first raw value that is present and not ``null``."""
    for number, member in slots:
        raw = event[number][member]
        if raw is not None and raw != NULL:
            return raw
    return None


def _first_that_counts(
    event: list[_Members], slots: Iterable[_Slot], checks: Iterable[_Checks | None]
) -> msgspec.Raw | None:
    """Return the first raw value that is present and whose conditions hold."""
    for slot, conditions in zip(slots, checks, strict=True):
        raw = _first(event, [slot])
        if raw is not None and _all_hold(event, conditions):
            return raw
    return None


def _all_hold(event: list[_Members], checks: _Checks | None) -> bool:
    """Return whether each of these members has one of its values."""
    return checks is not None and all(_is_one_of(event[n][m], v) for (n, m), v in checks)


def _is_one_of(raw: msgspec.Raw | None, listed: ClosedList) -> bool:
    return raw is not None and listed.has(decode_scalar(raw, _COMPARED))


class TolerantReader:
    """Reads events for one plan into one value or mark per column."""

    def __init__(self, plan: Plan) -> None:
        self._object = RootReader(plan, str)
        self._list = RootReader(plan, int) if plan.reads_lists else None

    def reader_for(self, payload: Any) -> RootReader:
        """Return the reader for a payload. A list is an event if the plan reads lists."""
        return self._list if self._list is not None and is_list(payload) else self._object

    def read(self, payload: Any) -> EventValues | Rejection:
        """Read the values of an event, or return the reason of its rejection."""
        reader = self.reader_for(payload)
        return read_or_reject(lambda payload: reader.read(reader.decode(payload)), payload)


def read_or_reject(read: Callable[[Any], _T], payload: Any) -> _T | Rejection:
    """Read an event, or return the reason of its rejection."""
    reason: Rejection
    try:
        return read(payload)
    except msgspec.ValidationError:
        reason = "not_an_object"
    except RecursionError:
        reason = "too_deep"
    except FAILURES:
        reason = "malformed"
    if reason == "not_an_object":  # its first byte says so; the rest may be anything
        reason = _syntax(payload) or reason
    return reason


def _syntax(payload: Any) -> Rejection | None:
    """Return the fault of a text as JSON, if it has one."""
    try:
        skip(payload)
    except RecursionError:
        return "too_deep"
    except FAILURES:
        return "malformed"
    return None


def _may_be_value(raw: msgspec.Raw, column: Column) -> bool:
    """Return whether a value is no text, or one that may be a value of the column by its bytes."""
    return memoryview(raw)[0] != _QUOTE or column.field.may_be_value(raw)


def decode_scalar(raw: msgspec.Raw, wire: frozenset[type]) -> Any:
    """Decode a single value if it has one of the types of ``wire``; else return a mark."""
    found = _TYPES.get(memoryview(raw)[0])
    if found is None:
        found = float if _FRACTION.search(raw) else int
    return _decode_or_mark(_DECODERS[found], raw) if found in wire else _WRONG_TYPE


_DECODERS = {kind: msgspec.json.Decoder(kind).decode for kind in (str, bool, int, float)}


def _decode_or_mark(decode: Any, raw: msgspec.Raw) -> Any:
    """Decode a value, or return a mark; no exception of the library outlives this call."""
    try:
        return decode(raw)
    except FAILURES:
        pass
    return _INVALID
