"""The tolerant path: an event whose types the fast path refused, read leaf by leaf.

Every member the plan looks at is taken as ``msgspec.Raw``, so that a value of the wrong type costs
its own field and nothing else. Unlisted members stay undecoded bytes here too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import msgspec
from msgspec.structs import astuple

from collector.contracts import Rejection
from collector.filter.compile import MARKS, Column, Found, Keys, Plan, Way

__all__ = ["FAILURES", "NULL", "Form", "Tolerant", "is_list", "judged", "skip"]

NULL = msgspec.Raw(b"null")
FAILURES = (msgspec.MsgspecError, RecursionError, ValueError)
"""All that msgspec raises for a payload (``UnicodeDecodeError`` is a ``ValueError``)."""

_TYPES: dict[int, Any] = {
    ord('"'): str,
    ord("t"): bool,
    ord("f"): bool,
    ord("{"): dict,
    ord("["): list,
}
_FRACTION = re.compile(rb"[.eE]")
_LIST = re.compile(rb"[ \t\r\n]*+\[")
_TEXT = frozenset([str])
_Members = Sequence[msgspec.Raw | None]
_T = TypeVar("_T")
_Place = tuple[int, int]
"""A member: the number of its object, and its own within it."""


def is_list(text: bytes | memoryview) -> bool:
    """Whether a JSON text, if it is one, is a list."""
    return _LIST.match(text) is not None


skip: Callable[[bytes | memoryview], msgspec.Raw] = msgspec.json.Decoder(msgspec.Raw).decode
"""Reads a JSON text to its end and keeps nothing of it."""


class _Object:
    """An object, or a list, of which some members are known; the rest is skipped as bytes."""

    def __init__(self, place: _Place, keys: Iterable[str | int], *, is_list: bool = False) -> None:
        self.place = place
        self.keys = list(keys)
        self.nothing: _Members = (None,) * len(self.keys)
        self.decode = msgspec.json.Decoder(self._type(is_list)).decode

    def _type(self, is_list: bool) -> type[msgspec.Struct]:
        fields = [(f"m{number}", msgspec.Raw, None) for number in range(len(self.keys))]
        rename = None if is_list else {f"m{n}": str(key) for n, key in enumerate(self.keys)}
        return msgspec.defstruct(
            "Event", fields, rename=rename, array_like=is_list, frozen=True, gc=False
        )

    def read(self, raw: msgspec.Raw | None) -> _Members:
        """The members; none of them if this is no object."""
        if raw is None or memoryview(raw)[0] != _BRACE:
            return self.nothing
        return astuple(self.decode(raw))


_BRACE = ord("{")
_WRONG_TYPE, _INVALID = MARKS["wrong_type"], MARKS["invalid_value"]


class Form:
    """What the plan looks at in events that are objects, or in those that are lists.

    An event is read into the members of its objects, each of which is decoded once.
    """

    def __init__(self, plan: Plan, root: type) -> None:
        self._root = root
        self._numbers: dict[Keys, int] = {(): 0}
        ways = [path for path in plan.paths if type(path[0]) is root]
        below: dict[Keys, dict[str | int, None]] = {(): {}}
        for path in ways:
            for end in range(len(path)):
                below.setdefault(path[:end], {})[path[end]] = None
        if root is str:
            below[()].update({name: None for name, _ in plan.content})
        elif ways:
            below[()] = dict.fromkeys(range(max(int(path[0]) for path in ways) + 1))
        self._objects = [_Object((0, 0), below.pop(()), is_list=root is int)]
        for path in sorted(below, key=len):
            place = self._place(path)
            self._numbers[path] = len(self._objects)
            self._objects.append(_Object(place, below[path]))
        self._columns = [(column, self._places(column.paths)) for column in plan.columns]
        self._agent = self._places(plan.user_agent)
        self._ways = [(way, self._places(way.paths)) for way in plan.records]
        self._categories = [category for _, category in plan.content] if root is str else []
        self._before_content = len(self._objects[0].keys) - len(self._categories)

    def _place(self, path: Keys) -> _Place:
        number = self._numbers[path[:-1]]
        return number, self._objects[number].keys.index(path[-1])

    def _places(self, paths: Iterable[Keys]) -> list[_Place]:
        return [self._place(path) for path in paths if type(path[0]) is self._root]

    def decode(self, payload: Any) -> list[_Members]:
        """The members of an event's objects, undecoded.

        Raises what msgspec raises; ``RecursionError`` also where the event is nearly too deep,
        because it is decoded from fewer calls down than its members are.
        """
        outer, *inner = self._objects
        found: list[_Members] = [astuple(outer.decode(payload))]
        for each in inner:
            number, member = each.place
            found.append(each.read(found[number][member]))
        return found

    def first(self, payload: Any) -> msgspec.Raw | None:
        """What lies where the user agent is looked for, undecoded. Raises as ``decode``."""
        return _first(self.decode(payload), self._agent)

    def read(self, event: list[_Members]) -> Found:
        """What the plan looks for in an event; where ways to records lead is not decoded."""
        values: list[Any] = []
        for column, places in self._columns:
            raw = _first(event, places)
            if raw is None:
                values.append(None)
            elif column.withheld:
                values.append(MARKS[column.withheld])
            else:
                values.append(leaf(raw, column.wire))
        agent = _first(event, self._agent) if self._agent else None
        said = None if agent is None else leaf(agent, _TEXT)
        ways = list(self._led(event)) if self._ways else []
        return Found(values, self._met(event[0]), said, ways)

    def _met(self, members: _Members) -> frozenset[int]:
        """The categories of content that are there."""
        there = zip(members[self._before_content :], self._categories, strict=True)
        return frozenset([c for raw, c in there if raw is not None and raw != NULL])

    def _led(self, event: list[_Members]) -> Iterator[tuple[Way, Any]]:
        for way, places in self._ways:
            raw = _first(event, places)
            if raw is not None or not way.paths:
                yield way, raw

    def source(self, event: list[_Members], column: Column) -> Keys | None:
        """The path that decides about a column; ``None`` if none does."""
        paths = [path for path in column.paths if type(path[0]) is self._root]
        places = self._columns[column.index][1]
        there = (path for path, place in zip(paths, places, strict=True) if _first(event, [place]))
        return next(there, None)


def _first(event: list[_Members], places: Iterable[_Place]) -> msgspec.Raw | None:
    """The first raw value that is there and not ``null``."""
    for number, member in places:
        raw = event[number][member]
        if raw is not None and raw != NULL:
            return raw
    return None


class Tolerant:
    """Reads events of one plan into one value or mark per column."""

    def __init__(self, plan: Plan) -> None:
        self._object = Form(plan, str)
        self._list = Form(plan, int) if plan.reads_lists else None

    def form(self, payload: Any) -> Form:
        """How to read a payload. A list is an event if the plan looks into lists."""
        return self._list if self._list is not None and is_list(payload) else self._object

    def read(self, payload: Any) -> Found | Rejection:
        """What the plan looks for in an event, or the reason why it is none."""
        form = self.form(payload)
        return judged(lambda payload: form.read(form.decode(payload)), payload)


def judged(read: Callable[[Any], _T], payload: Any) -> _T | Rejection:
    """What is read of an event, or the reason why it is none."""
    refused: Rejection
    try:
        return read(payload)
    except msgspec.ValidationError:
        refused = "not_an_object"
    except RecursionError:
        refused = "too_deep"
    except FAILURES:
        refused = "malformed"
    if refused == "not_an_object":  # its first byte says so; the rest may be anything
        refused = _syntax(payload) or refused
    return refused


def _syntax(payload: Any) -> Rejection | None:
    """What is wrong with a text as JSON, if anything is."""
    try:
        skip(payload)
    except RecursionError:
        return "too_deep"
    except FAILURES:
        return "malformed"
    return None


def leaf(raw: msgspec.Raw, wire: frozenset[type]) -> Any:
    """A single value, decoded on its own if it has one of the types of ``wire``."""
    found = _TYPES.get(memoryview(raw)[0])
    if found is None:
        found = float if _FRACTION.search(raw) else int
    return _attempt(_DECODERS[found], raw) if found in wire else _WRONG_TYPE


_DECODERS = {kind: msgspec.json.Decoder(kind).decode for kind in (str, bool, int, float)}


def _attempt(decode: Any, raw: msgspec.Raw) -> Any:
    """The decoded value, or a mark; nothing of the library's error outlives this call."""
    try:
        return decode(raw)
    except FAILURES:
        pass
    return _INVALID
