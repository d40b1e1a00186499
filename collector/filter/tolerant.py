"""The tolerant path: an event whose types the fast path refused, read leaf by leaf.

Every member the plan looks at is taken as ``msgspec.Raw``, so that a value of the wrong type costs
its own field and nothing else. Unlisted members stay undecoded bytes here too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from collector.contracts import Rejection
from collector.filter.compile import Column, Found, Mark, Plan

__all__ = ["FAILURES", "NULL", "Tolerant", "skip"]

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

skip = msgspec.json.Decoder(msgspec.Raw).decode
"""Reads a JSON text to its end and keeps nothing of it."""


class _Object:
    """An object of which some members are known; the rest is skipped as bytes."""

    def __init__(self, paths: set[tuple[str, ...]], extra: tuple[str, ...] = ()) -> None:
        keys = list(dict.fromkeys([path[0] for path in sorted(paths)] + list(extra)))
        self.attributes = {key: f"m{number}" for number, key in enumerate(keys)}
        fields = [(attribute, msgspec.Raw, None) for attribute in self.attributes.values()]
        rename = {attribute: key for key, attribute in self.attributes.items()}
        event = msgspec.defstruct("Event", fields, rename=rename, frozen=True, gc=False)
        self.decode = msgspec.json.Decoder(event).decode
        inner = {key: {path[1:] for path in paths if path[0] == key and path[1:]} for key in keys}
        self.inner = {key: _Object(below) for key, below in inner.items() if below}

    def find(self, event: Any, path: tuple[str, ...]) -> msgspec.Raw | None:
        """The raw value at a path, if it is there and not ``null``.

        Raises ``RecursionError`` where the event is nearly too deep: it was decoded from fewer
        calls down than its members are.
        """
        raw: msgspec.Raw | None = getattr(event, self.attributes[path[0]])
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


class Tolerant:
    """Reads events of one plan into one value or mark per column."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        paths = {path for column in plan.columns for path in column.paths} | set(plan.records)
        self._event = _Object(paths, tuple(name for name, _ in plan.content))

    def decode(self, payload: Any) -> tuple[Any, Rejection | None]:
        """The event as a struct of raw members, or the reason why it is none."""
        refused: Rejection
        try:
            return self._event.decode(payload), None
        except msgspec.ValidationError:
            refused = "not_an_object"
        except RecursionError:
            refused = "too_deep"
        except FAILURES:
            refused = "malformed"
        if refused == "not_an_object":  # its first byte says so; the rest may be anything
            refused = _syntax(payload) or refused
        return None, refused

    def read(self, event: Any) -> Found:
        """What the plan looks for in an event; ``listed`` is undecoded, whatever it is.

        Raises ``RecursionError`` as ``find`` of an object does.
        """
        return Found(list(self.values(event)), self.content(event), self.records(event))

    def values(self, event: Any) -> Iterator[Any]:
        """Per column the decoded value, a mark, or ``None`` for absence."""
        for column in self._plan.columns:
            yield self._value(event, column)

    def source(self, event: Any, column: Column) -> str | None:
        """The path that decides about a column, as a schema writes it; ``None`` if none does."""
        there = (path for path in column.paths if self._event.find(event, path) is not None)
        return next((".".join(path) for path in there), None)

    def _value(self, event: Any, column: Column) -> Any:
        for path in column.paths:
            raw = self._event.find(event, path)
            if raw is not None:
                return Mark.WITHHELD if column.withheld else leaf(raw, column.wire)
        return None

    def content(self, event: Any) -> frozenset[int]:
        """The content categories that are there."""
        find = self._event.find
        return frozenset(c for name, c in self._plan.content if find(event, (name,)) is not None)

    def records(self, event: Any) -> msgspec.Raw | None:
        """The raw list of records of a document, if something is there."""
        found = (self._event.find(event, path) for path in self._plan.records)
        return next((raw for raw in found if raw is not None), None)


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
