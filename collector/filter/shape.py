"""The shape of a JSON text, without decoding it: how deep it is, how many elements it has.

Both are needed before decoding: a parser of another Python version nests deeper than ours allows,
and a list of a million empty objects is 3 MB as text and 100 MB as objects. The text is walked in
pieces with C-level operations only, so that time is linear and memory constant.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from itertools import accumulate
from typing import NamedTuple

__all__ = ["MAX_DEPTH", "Shape", "may_be_deep", "shape"]

MAX_DEPTH = 1000
_PIECE = 1 << 15
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
_REST_OF_STRING = re.compile(rb'(?:[^"\\]++|\\.)*+"', re.DOTALL)
_EVERYTHING_ELSE = bytes(set(range(256)) - set(b'[]{},"'))
_STEP = [1 if byte in b"[{" else -1 if byte in b"]}" else 0 for byte in range(256)]
_COMMA = ord(",")


class Shape(NamedTuple):
    """``depth``: levels of nesting; ``elements``: of the outermost list, if it is one."""

    depth: int
    elements: int


def may_be_deep(payload: bytes | memoryview) -> bool:
    """Whether there are enough brackets for the text to be deeper than allowed."""
    if len(payload) <= 2 * MAX_DEPTH:
        return False
    if isinstance(payload, bytes):
        return payload.count(b"[") + payload.count(b"{") > MAX_DEPTH
    pieces = (bytes(payload[at : at + _PIECE]) for at in range(0, len(payload), _PIECE))
    return sum(piece.count(b"[") + piece.count(b"{") for piece in pieces) > MAX_DEPTH


def shape(payload: bytes | memoryview) -> Shape:
    """The shape of a well-formed text; of another one, some shape."""
    depth = deepest = commas = 0
    for piece in _structure(memoryview(payload)):
        levels = list(accumulate(map(_STEP.__getitem__, piece), initial=depth))
        deepest = max(deepest, *levels)
        depth = levels.pop()
        commas += Counter(zip(piece, levels, strict=True))[_COMMA, 1]
    return Shape(deepest, commas + 1)


def _structure(text: memoryview) -> Iterator[bytes]:
    """The brackets and commas outside strings, piece by piece."""
    at, in_string = 0, False
    while at < len(text):
        piece = bytes(text[at : at + _PIECE])
        backslashes = len(piece) - len(piece.rstrip(b"\\"))
        if backslashes % 2:  # never end inside an escape
            piece += bytes(text[at + _PIECE : at + _PIECE + 1])
        at += len(piece) or 1
        if in_string:
            rest = _REST_OF_STRING.match(piece)
            if rest is None:
                continue
            piece = piece[rest.end() :]
        piece = _STRING.sub(b"", piece)
        opened = piece.find(b'"')
        in_string = opened >= 0
        yield (piece[:opened] if in_string else piece).translate(None, _EVERYTHING_ELSE)
