"""Count the messages of a protobuf body before it is decoded: a walk over its tags.

Two bytes can become a message of fifty bytes in memory, so everything that the decoder would turn
into objects is counted first. The walk copies nothing and reads no values. It is slow (Python), so
it runs only if a bound counted in C says that there may be too many messages.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

from collector.filter.text import PIECE

MAX_PARTS = 400_000
"""The most messages in a body; an attribute is two. No regular body has as many in 4 MiB. Each
takes at most 115 bytes, and the decoder, which blocks all other threads, takes at most 60 ms for
all of them."""
MAX_LEVELS = 100
"""The most levels of nested messages inside a body, which is the limit of the decoder."""

_VARINT, _EIGHT, _BYTES, _FOUR = 0, 1, 2, 5
_MAX_VARINT = 10
_NUMBER = re.compile(rb"[\x80-\xff]{0,9}[\x00-\x7f]")
_SHORT = 32
_MAX_AT_ONCE = 1024


class NotProtobuf(Exception):
    """The bytes are not protobuf."""


@dataclass(eq=False, repr=False)
class MessageShape:
    """A message for the walk: its members that are messages, by number."""

    members: dict[int, MessageShape] = field(default_factory=dict)
    is_item: bool = False

    @cached_property
    def short_fields(self) -> ShortFields:
        """The fields of the message that are short and not descended into."""
        return ShortFields(self.members)


class ShortFields:
    """Runs of short fields that are not descended into, which are skipped in C.

    A body can hold millions of them, and a step of the walk in Python takes a microsecond.
    """

    def __init__(self, members: dict[int, MessageShape]) -> None:
        tags = {number << 3 | _BYTES: shape for number, shape in members.items()}
        leaves = [tag for tag, shape in tags.items() if not shape.members]
        others = [tag for tag in range(8, 128) if tag not in tags]
        lengths = b"|".join(_literal([n]) + b".{%d}" % n for n in range(_SHORT))
        kinds = {
            _BYTES: b"(?:%s)" % lengths,
            _VARINT: _NUMBER.pattern,
            _EIGHT: b".{8}",
            _FOUR: b".{4}",
        }
        each = [
            rb"(?:%s|%s[\x80-\xff]{0,3}[\x01-\x7f])%s"
            % (
                _literal(t for t in others if t & 7 == kind),
                _literal(range(128 + kind, 256, 8)),
                rest,
            )
            for kind, rest in kinds.items()
        ]
        tagged, length = (_literal(leaves), kinds[_BYTES]) if leaves else (b"(?!)", b"")
        run = b"|".join([tagged + length, *each])
        self._run = re.compile(b"(?s:%s){1,%d}" % (run, _MAX_AT_ONCE))
        self._each = re.compile(b"(?s)" + b"|".join([b"(%s)%s" % (tagged, length), *each]))
        self._leaves = {bytes([tag]): tags[tag] for tag in leaves}

    def skip(self, body: bytes, at: int, end: int, counts: MessageCounts) -> int:
        """Skip a run of short fields, counting messages."""
        while not counts.is_too_large and (run := self._run.match(body, at, end)):
            if self._leaves:
                tags = self._each.findall(body, at, run.end())
                for tag, shape in self._leaves.items():
                    counts.count(shape, tags.count(tag))
            at = run.end()
        return at


def _literal(values: Iterable[int]) -> bytes:
    """Return a pattern that matches one of these bytes."""
    return b"[%s]" % b"".join(b"\\x%02x" % value for value in values)


@dataclass(slots=True)
class MessageCounts:
    """The counts of a walk: items, other messages, and how deep they are nested.

    The walk stops if there are too many messages, or too deep ones.
    """

    items: int = 0
    parts: int = 0
    levels: int = 0

    def count(self, shape: MessageShape, times: int = 1) -> None:
        """Count messages of a shape."""
        if shape.is_item:
            self.items += times
        else:
            self.parts += times

    @property
    def is_too_large(self) -> bool:
        """Whether there are too many messages."""
        return self.parts > MAX_PARTS

    @property
    def is_too_deep(self) -> bool:
        """Whether messages are nested too deep."""
        return self.levels > MAX_LEVELS


def may_exceed(body: bytes, tags: bytes) -> bool:
    """Return whether a body may hold more than ``MAX_PARTS`` messages.

    Each message needs one of the ``tags`` and a length.
    """
    if len(body) <= 2 * MAX_PARTS:
        return False
    either = tags + bytes(tag | 0x80 for tag in tags)  # a tag may be written longer than needed
    pieces = (body[at : at + PIECE] for at in range(0, len(body), PIECE))
    return sum(len(p) - len(p.translate(None, either)) for p in pieces) > MAX_PARTS


def count_messages(body: bytes, shape: MessageShape) -> MessageCounts:
    """Count the messages of a body. A message whose shape has no members is not descended into.

    Raises ``NotProtobuf``.
    """
    counts = MessageCounts()
    stack = [(len(body), shape)]
    at = 0
    while stack and not counts.is_too_large and not counts.is_too_deep:
        end, around = stack[-1]
        if at >= end:
            stack.pop()
            continue
        start = at
        tag, at = _varint(body, at, end)
        if tag & 7 != _BYTES:
            at = around.short_fields.skip(body, _skip(body, at, end, tag), end, counts)
            continue
        length, at = _varint(body, at, end)
        if at + length > end:
            raise NotProtobuf
        member = around.members.get(tag >> 3)
        if member is not None:
            counts.levels = max(counts.levels, len(stack))
            counts.count(member)
            if length and member.members:
                stack.append((at + length, member))
                continue
        at += length
        if at - start <= _SHORT:
            at = around.short_fields.skip(body, at, end, counts)
    return counts


def _varint(body: bytes, at: int, end: int) -> tuple[int, int]:
    """Read a tag or a length.

    An encoding longer than needed is refused: no encoder writes it, and it would be slow to read.
    """
    if at < end and body[at] < 0x80:
        return body[at], at + 1
    value = shift = 0
    for place in range(at, min(at + _MAX_VARINT, end)):
        byte = body[place]
        value |= (byte & 0x7F) << shift
        if 0 < byte < 0x80:
            return value, place + 1
        if not byte:
            break
        shift += 7
    raise NotProtobuf


def _skip(body: bytes, at: int, end: int, tag: int) -> int:
    """Skip a number or a field of fixed size. Groups are refused: no OTLP message has ever had
    one."""
    kind = tag & 7
    if kind == _VARINT:
        number = _NUMBER.match(body, at, end)
        stop = number.end() if number else end + 1
    else:
        stop = at + {_EIGHT: 8, _FOUR: 4}.get(kind, len(body))
    if stop > end:
        raise NotProtobuf
    return stop
