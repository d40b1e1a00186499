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

__all__ = ["MAX_DEPTH", "elements", "is_deep"]

MAX_DEPTH = 1000
_PIECE = 1 << 15
_STRIDE = 512
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
_WHOLE_STRINGS = re.compile(rb'[^"]*+(?:"(?:[^"\\]++|\\.)*+"[^"]*+)*+', re.DOTALL)
"""All before a string that has no end here. Found first, because a search for strings would try
every escaped quote of an open one as a beginning, and read to the end each time."""
_REST_OF_STRING = re.compile(rb'(?:[^"\\]++|\\.)*+"', re.DOTALL)
_EVERYTHING_ELSE = bytes(set(range(256)) - set(b"[]{},"))
_STEP = [1 if byte in b"[{" else -1 if byte in b"]}" else 0 for byte in range(256)]
_COMMA = ord(",")


def is_deep(payload: bytes | memoryview) -> bool:
    """Whether a well-formed text nests deeper than ``MAX_DEPTH``."""
    if not _may_be_deep(payload):
        return False
    depth = 0
    for piece in _structure(memoryview(payload)):
        for at in range(0, len(piece), _STRIDE):
            part = piece[at : at + _STRIDE]
            opened = part.count(b"[") + part.count(b"{")
            if depth + opened > MAX_DEPTH and max(_levels(part, depth)) > MAX_DEPTH:
                return True
            depth += opened - part.count(b"]") - part.count(b"}")
    return False


def elements(payload: bytes | memoryview) -> int:
    """How many elements a well-formed list has that has at least one."""
    depth = commas = 0
    for piece in _structure(memoryview(payload)):
        levels = list(_levels(piece, depth))
        depth = levels.pop()
        commas += Counter(zip(piece, levels, strict=True))[_COMMA, 1]
    return commas + 1


def _levels(piece: bytes, depth: int) -> Iterator[int]:
    """The depth before each byte of a piece, and at its end."""
    return accumulate(map(_STEP.__getitem__, piece), initial=depth)


def _may_be_deep(payload: bytes | memoryview) -> bool:
    """Whether there are enough brackets for the text to be deeper than allowed."""
    if len(payload) <= MAX_DEPTH:
        return False
    if isinstance(payload, bytes):
        return payload.count(b"[") + payload.count(b"{") > MAX_DEPTH
    pieces = (bytes(payload[at : at + _PIECE]) for at in range(0, len(payload), _PIECE))
    return sum(piece.count(b"[") + piece.count(b"{") for piece in pieces) > MAX_DEPTH


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
        whole = _WHOLE_STRINGS.match(piece)
        closed = piece[: whole.end()] if whole else b""
        in_string = len(closed) < len(piece)
        yield _STRING.sub(b"", closed).translate(None, _EVERYTHING_ELSE)
