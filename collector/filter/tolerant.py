"""The tolerant path: an event whose types the fast path refused, read leaf by leaf.

Every member the plan looks at is taken as ``msgspec.Raw``, so that a value of the wrong type costs
its own field and nothing else. Unlisted members stay undecoded bytes here too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import msgspec

from collector.contracts import Rejection
from collector.filter.compile import Column, Found, Keys, Mark, Plan, Way

__all__ = ["FAILURES", "NULL", "Event", "Tolerant", "is_list", "skip"]

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


def is_list(text: bytes | memoryview) -> bool:
    """Whether a JSON text, if it is one, is a list."""
    return _LIST.match(text) is not None


skip = msgspec.json.Decoder(msgspec.Raw).decode
"""Reads a JSON text to its end and keeps nothing of it."""


class _Object:
    """An object of which some members are known; the rest is skipped as bytes.

    With numbers for keys it is a list, of which some elements are known.
    """

    def __init__(self, paths: Iterable[Keys], extra: Iterable[str] = ()) -> None:
        ways = sorted(set(paths), key=repr)
        keys = list(dict.fromkeys([*(path[0] for path in ways), *extra]))
        self.attributes = {key: f"m{number}" for number, key in enumerate(keys)}
        self.decode = msgspec.json.Decoder(self._type()).decode
        inner = {key: [path[1:] for path in ways if path[0] == key and path[1:]] for key in keys}
        self.inner = {key: _Object(below) for key, below in inner.items() if below}

    def _type(self) -> type[msgspec.Struct]:
        places = {key: attribute for key, attribute in self.attributes.items() if type(key) is int}
        if not places:
            fields = [(attribute, msgspec.Raw, None) for attribute in self.attributes.values()]
            rename = {attribute: str(key) for key, attribute in self.attributes.items()}
            return msgspec.defstruct("Event", fields, rename=rename, frozen=True, gc=False)
        names = [places.get(index, f"skipped{index}") for index in range(max(places) + 1)]
        fields = [(name, msgspec.Raw, None) for name in names]
        return msgspec.defstruct("Event", fields, array_like=True, frozen=True, gc=False)

    def find(self, event: Any, path: Keys) -> msgspec.Raw | None:
        """The raw value at a path, if it is there and not ``null``.

        Raises ``RecursionError`` where the event is nearly too deep: it was decoded from fewer
        calls down than its members are.
        """
        attribute = self.attributes.get(path[0])
        raw: msgspec.Raw | None = None if attribute is None else getattr(event, attribute)
        if raw is None or raw == NULL:
            return None
        if len(path) == 1:
            return raw
        inner = self.inner[path[0]]
        try:
            below = inner.decode(raw)
        except msgspec.ValidationError:
            return None
        return inner.find(below, path[1:])


class Event(NamedTuple):
    """An event as a struct of raw members; ``form`` knows how to find them."""

    form: _Object
    members: Any

    def find(self, path: Keys) -> msgspec.Raw | None:
        """The raw value at a path, see ``_Object.find``."""
        return self.form.find(self.members, path)

    def first(self, paths: Iterable[Keys]) -> msgspec.Raw | None:
        """The first raw value that is there."""
        return next((raw for path in paths if (raw := self.find(path)) is not None), None)


class Tolerant:
    """Reads events of one plan into one value or mark per column."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        places = [path for path in plan.paths if type(path[0]) is int]
        names = [path for path in plan.paths if type(path[0]) is str]
        self._object = _Object(names, (name for name, _ in plan.content))
        self._list = _Object(places) if places else None

    def decode(self, payload: Any) -> tuple[Event | None, Rejection | None]:
        """The event, or the reason why it is none. A list is one if the plan looks into lists."""
        form = self._object
        if self._list is not None and is_list(payload):
            form = self._list
        refused: Rejection
        try:
            return Event(form, form.decode(payload)), None
        except msgspec.ValidationError:
            refused = "not_an_object"
        except RecursionError:
            refused = "too_deep"
        except FAILURES:
            refused = "malformed"
        if refused == "not_an_object":  # its first byte says so; the rest may be anything
            refused = _syntax(payload) or refused
        return None, refused

    def read(self, event: Event) -> Found:
        """What the plan looks for in an event; where ways to records lead is not decoded.

        Raises ``RecursionError`` as ``find`` of an object does.
        """
        agent = event.first(self._plan.user_agent)
        return Found(
            [self._value(event, column) for column in self._plan.columns],
            frozenset(c for name, c in self._plan.content if event.find((name,)) is not None),
            None if agent is None else leaf(agent, _TEXT),
            list(self._ways(event)),
        )

    def source(self, event: Event, column: Column) -> Keys | None:
        """The path that decides about a column; ``None`` if none does."""
        return next((path for path in column.paths if event.find(path) is not None), None)

    @staticmethod
    def _value(event: Event, column: Column) -> Any:
        raw = event.first(column.paths)
        if raw is None:
            return None
        return Mark.WITHHELD if column.withheld else leaf(raw, column.wire)

    def _ways(self, event: Event) -> Iterator[tuple[Way, Any]]:
        for way in self._plan.records:
            raw = event.first(way.paths)
            if raw is not None or not way.paths:
                yield way, raw


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
    return _attempt(_DECODERS[found], raw) if found in wire else Mark.WRONG_TYPE


_DECODERS = {kind: msgspec.json.Decoder(kind).decode for kind in (str, bool, int, float)}


def _attempt(decode: Any, raw: msgspec.Raw) -> Any:
    """The decoded value, or a mark; nothing of the library's error outlives this call."""
    try:
        return decode(raw)
    except FAILURES:
        pass
    return Mark.INVALID
