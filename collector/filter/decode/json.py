"""JSON texts: decoded at once into the structs of a shape, or member by member.

The types of a shape take nearly every text whose syntax is right. A list where an object is read,
or a number that no type holds, is rare: then each member is taken undecoded, and decoded alone if
it can be a value. A text is malformed if any part of it is, read or skipped.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from math import inf
from typing import Any, TypeVar

import msgspec

from collector.contracts import Rejection
from collector.filter.members import FAILURES
from collector.filter.shape import NULL, Node, Opaque, Shape

_T = TypeVar("_T")
_TYPES: dict[int, Any] = {
    ord('"'): str,
    ord("t"): bool,
    ord("f"): bool,
    ord("{"): dict,
    ord("["): list,
}
_BRACE, _END, _BRACKET, _QUOTE = ord("{"), ord("}"), ord("["), ord('"')
_NEWLINE = b"\n"
_FRACTION = re.compile(rb"[.eE]")
_DECODERS = {kind: msgspec.json.Decoder(kind).decode for kind in (str, bool, int, float)}
_BEYOND: dict[type, Any] = {int: 10**4299, float: inf}
"""Numbers that stand for numbers too long to be decoded; every kind refuses them."""
_ELSE = Opaque()

skip: Callable[[bytes | memoryview], msgspec.Raw] = msgspec.json.Decoder(msgspec.Raw).decode
"""Read a JSON text to its end and discard it."""


class TextDecoder:
    """Decodes texts whose root is an object or a list into the structs of a shape."""

    def __init__(self, shape: Shape) -> None:
        self._shape = shape
        decoder: Any = msgspec.json.Decoder(shape.kind if shape.is_typed else _Never)
        self.decode: Callable[[Any], Any] = decoder.decode
        """Decode a text. Raises what msgspec raises, for a text of unexpected types too."""
        self._decode_lines = decoder.decode_lines

    def line(self, text: bytes) -> list[Any] | None:
        """Decode a single line, if it is an object of the expected types; else ``None``."""
        try:
            return [self.decode(text)]
        except FAILURES:
            return None

    def lines(self, text: bytes, start: int, end: int) -> list[Any] | None:
        """Decode the lines in a part of a text, if each is an object of the expected types; else
        ``None``.

        The library also takes several values on a line, and a value on several lines. ``}``, an end
        of line and ``{`` follow each other only between two values. So if each line begins and ends
        like an object, each line ends after a value; if there are also as many values as lines,
        each line is one value.
        """
        try:
            events: list[Any] = self._decode_lines(memoryview(text)[start:end])
        except FAILURES:
            return None
        find, at, last = text.find, start - 1, end - 1
        for _ in range(len(events) - 1):
            at = find(_NEWLINE, at + 1, last)
            if at < 2:
                return None
            is_between = text[at - 1] == _END and text[at + 1] == _BRACE
            if not is_between and text[at - 2 : at + 2] != b"}\r\n{":
                return None
        return events if events and find(_NEWLINE, at + 1, last) < 0 else None

    def read(self, text: Any) -> Any | Rejection:
        """Decode a text of any types, or return the reason of its rejection."""
        return read_or_reject(self.members, text)

    def decode_or_read(self, text: Any) -> Any | Rejection:
        """Decode a text at once if its types are right; otherwise as ``read`` does."""
        with suppress(*FAILURES):
            return self.decode(text)
        return self.read(text)

    def members(self, text: Any) -> Any:
        """Decode a text member by member. Raises what msgspec raises."""
        return _fill(self._shape, text)


class _Never(msgspec.Struct):
    """A type that no text is decoded into."""

    never: msgspec.UnsetType


def _fill(shape: Shape, text: Any) -> Any:
    """Fill the struct of an object or a list member by member. Raises what msgspec raises."""
    values: dict[str, Any] = {}
    for node, raw in shape.raw_members(text):
        first = memoryview(raw)[0]
        slots = node.slots
        if raw == NULL:
            continue
        if first == _BRACE and node.object is not None:
            values[slots["object"]] = _fill(node.object, raw)
        elif first == _BRACKET and node.list is not None:
            values[slots["list"]] = _fill(node.list, raw)
        if "value" in slots and slots["value"] not in values:
            values[slots["value"]] = _value(raw, node)
        if "raw" in slots:
            values[slots["raw"]] = raw
    return shape.kind(**values)


def _value(raw: msgspec.Raw, node: Node) -> Any:
    """Decode a value that some column reads; for any other, return a value that is refused."""
    is_text = memoryview(raw)[0] == _QUOTE
    return "" if is_text and not node.may_be_text(raw) else decode_scalar(raw, node.wanted)


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
    if reason == "not_an_object":  # decided by the first byte; the rest may be malformed
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


def decode_scalar(raw: msgspec.Raw, wire: frozenset[type]) -> Any:
    """Decode a single value if its type is in ``wire``; else return a value that no kind reads.

    A number that is too long becomes one that every kind refuses.
    """
    kind = _TYPES.get(memoryview(raw)[0]) or (float if _FRACTION.search(raw) else int)
    if kind not in wire:
        return _ELSE
    try:
        return _DECODERS[kind](raw)
    except FAILURES:
        pass
    return _BEYOND.get(kind, "")
