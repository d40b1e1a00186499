"""How much a protobuf body would unfold to, before it is decoded: a walk over its tags.

Two bytes can be a message of fifty in memory, so what is counted first is what the decoder would
make objects of. Nothing is copied, and no value is looked at. The walk is Python, so it is only
taken where a bound that C can count says that there may be too much.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from collector.filter.text import PIECE

__all__ = ["MAX_LEVELS", "MAX_PARTS", "Malformed", "Shape", "Survey", "may_unfold", "survey"]

MAX_PARTS = 1_000_000
"""The most messages that a body may unfold to. None takes more than 100 bytes."""
MAX_LEVELS = 100
"""The most messages that may lie in one another inside a body, which is what the decoder allows."""

_VARINT, _EIGHT, _BYTES, _OPEN, _CLOSE, _FOUR = range(6)
_MOST_VARINT = 10
_SHORT = 32
_AGAIN = 1024


class Malformed(Exception):
    """The bytes are no protobuf."""


@dataclass(eq=False, repr=False)
class Shape:
    """A message as the walk knows it: its members that are messages, by their numbers."""

    members: dict[int, Shape] = field(default_factory=dict)
    is_item: bool = False


@dataclass(slots=True)
class Survey:
    """What a walk has found: items, other messages, and how deep they lie. It ends where there are
    too many of them, or too deep ones."""

    items: int = 0
    parts: int = 0
    levels: int = 0

    @property
    def is_too_large(self) -> bool:
        """Whether there are too many messages."""
        return self.parts > MAX_PARTS

    @property
    def is_too_deep(self) -> bool:
        """Whether messages lie too deep."""
        return self.levels > MAX_LEVELS


def may_unfold(body: bytes, tags: bytes) -> bool:
    """Whether there may be more than ``MAX_PARTS`` messages in a body, each of which needs one of
    the ``tags`` and its length."""
    if len(body) <= 2 * MAX_PARTS:
        return False
    either = tags + bytes(tag | 0x80 for tag in tags)  # a tag may be written longer than needed
    pieces = (body[at : at + PIECE] for at in range(0, len(body), PIECE))
    return sum(len(p) - len(p.translate(None, either)) for p in pieces) > MAX_PARTS


def survey(body: bytes, shape: Shape) -> Survey:
    """Count the messages of a body. A message that has no members in its shape is not looked into.

    Raises ``Malformed``.
    """
    found = Survey()
    stack = [(len(body), shape.members)]
    at = 0
    while stack and not found.is_too_large and not found.is_too_deep:
        end, members = stack[-1]
        if at >= end:
            stack.pop()
            continue
        start = at
        tag, at = _varint(body, at, end)
        if tag & 7 != _BYTES:
            at = _skip(body, at, end, tag)
            continue
        length, at = _varint(body, at, end)
        stop = at + length
        if stop > end:
            raise Malformed
        member = members.get(tag >> 3)
        if member is None:
            at = stop
            continue
        found.levels = max(found.levels, len(stack))
        times = 1
        if length and member.members:
            stack.append((stop, member.members))
        else:
            times += _again(body, start, stop, end)
            at = start + times * (stop - start)
        if member.is_item:
            found.items += times
        else:
            found.parts += times
    return found


def _again(body: bytes, start: int, stop: int, end: int) -> int:
    """How often a short field follows that is the same once more, in thousands: a million empty
    messages are not looked at one by one."""
    size, times = stop - start, 0
    if size > _SHORT or body[stop : stop + size] != body[start:stop]:
        return 0
    block = body[start:stop] * _AGAIN
    while stop + len(block) <= end and body[stop : stop + len(block)] == block:
        stop += len(block)
        times += _AGAIN
    return times


def _varint(body: bytes, at: int, end: int) -> tuple[int, int]:
    value = shift = 0
    for place in range(at, min(at + _MOST_VARINT, end)):
        byte = body[place]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place + 1
        shift += 7
    raise Malformed


def _skip(body: bytes, at: int, end: int, tag: int) -> int:
    """Past a field that holds no bytes; a group is passed over with all that is in it."""
    opened = 0
    while True:
        kind = tag & 7
        if kind == _VARINT:
            _, at = _varint(body, at, end)
        elif kind == _EIGHT:
            at += 8
        elif kind == _FOUR:
            at += 4
        elif kind == _BYTES:
            length, at = _varint(body, at, end)
            at += length
        elif kind == _OPEN:
            opened += 1
        elif kind == _CLOSE:
            opened -= 1
        else:
            raise Malformed
        if at > end or opened < 0:
            raise Malformed
        if not opened:
            return at
        tag, at = _varint(body, at, end)
