"""The shape of a JSON text, without decoding it: how deep it is, how many elements it has.

Both are needed before decoding: a parser of another Python version nests deeper than ours allows,
and a list of a million empty objects is 3 MB as text and 100 MB as objects. The text is walked in
pieces with C-level operations only, so that time is linear and memory constant.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import accumulate

__all__ = ["MAX_DEPTH", "elements", "has_more_objects", "is_deep", "may_hold_deep_lines"]

MAX_DEPTH = 1000
_PIECE = 1 << 14
_WINDOW = 1 << 11
_STRIDE = 512
_EVERYTHING_ELSE = bytes(set(range(256)) - set(b"[]{},"))
_STEP = [1 if byte in b"[{" else -1 if byte in b"]}" else 0 for byte in range(256)]
_COMMA = ord(",")


def is_deep(payload: bytes | memoryview) -> bool:
    """Whether a well-formed text nests deeper than ``MAX_DEPTH``."""
    if not _may_be_deep(payload):
        return False
    depth = 0
    for part, opened, closed in _strides(_structure(payload)):
        if depth + opened > MAX_DEPTH and max(_levels(part, depth)) > MAX_DEPTH:
            return True
        depth += opened - closed
    return False


def may_hold_deep_lines(payload: bytes) -> bool:
    """Whether some line may nest deeper than ``MAX_DEPTH``, judged a few lines at a time."""
    at, size = 0, len(payload)
    while at < size:
        end = payload.rfind(b"\n", at, at + _PIECE) if at + _PIECE < size else size
        if end >= 0:
            opened = _opened(payload[at:end])
        else:
            end = payload.find(b"\n", at)
            end = size if end < 0 else end
            opened = _opened_far(payload, at, end)
        if opened > MAX_DEPTH:
            return True
        at = end + 1
    return False


def elements(payload: bytes | memoryview) -> int:
    """How many elements a well-formed list has that has at least one."""
    depth = commas = 0
    pieces = (p.replace(b"{}", b"").replace(b"[]", b"") for p in _structure(payload))
    for part, opened, closed in _strides(pieces):
        if not opened and not closed:
            commas += part.count(b",") * (depth == 1)
        elif depth - closed <= 1:
            levels = _levels(part, depth)
            commas += sum(1 for pair in zip(part, levels, strict=False) if pair == (_COMMA, 1))
        depth += opened - closed
    return commas + 1


def has_more_objects(payload: bytes | memoryview, most: int) -> bool:
    """Whether a text has more objects than that, at any depth."""
    if len(payload) <= 2 * most:
        return False
    view = memoryview(payload)
    pieces = (bytes(view[at : at + _PIECE]) for at in range(0, len(view), _PIECE))
    if sum(piece.count(b"{") for piece in pieces) <= most:
        return False
    return sum(piece.count(b"{") for piece in _structure(payload)) > most


def _strides(pieces: Iterable[bytes]) -> Iterator[tuple[bytes, int, int]]:
    """Short parts of a structure, and how many brackets open and close in each of them."""
    for piece in pieces:
        for at in range(0, len(piece), _STRIDE):
            part = piece[at : at + _STRIDE]
            opened = part.count(b"[") + part.count(b"{")
            closed = part.count(b"]") + part.count(b"}")
            yield part, opened, closed


def _levels(part: bytes, depth: int) -> Iterator[int]:
    """The depth before each byte of a part, and at its end."""
    return accumulate(map(_STEP.__getitem__, part), initial=depth)


def _may_be_deep(payload: bytes | memoryview) -> bool:
    """Whether there are enough brackets for the text to be deeper than allowed."""
    if len(payload) <= MAX_DEPTH:
        return False
    pieces = (bytes(payload[at : at + _PIECE]) for at in range(0, len(payload), _PIECE))
    return sum(map(_opened, pieces)) > MAX_DEPTH


def _opened(text: bytes) -> int:
    """How many brackets open. Taking them out is three times as fast as counting them."""
    return len(text) - len(text.replace(b"{", b"").replace(b"[", b""))


def _opened_far(payload: bytes, at: int, end: int) -> int:
    """How many brackets open in a long part, where most of it is long strings without any.

    No further than to the first ``MAX_DEPTH`` of them.
    """
    opened = 0
    brace, bracket = payload.find(b"{", at, end), payload.find(b"[", at, end)
    while opened <= MAX_DEPTH and (brace >= 0 or bracket >= 0):
        at = min(brace, bracket) if brace >= 0 and bracket >= 0 else max(brace, bracket)
        stop = min(at + _WINDOW, end)
        opened += _opened(payload[at:stop])
        if 0 <= brace < stop:
            brace = payload.find(b"{", stop, end)
        if 0 <= bracket < stop:
            bracket = payload.find(b"[", stop, end)
    return opened


def _structure(payload: bytes | memoryview) -> Iterator[bytes]:
    """The brackets and commas outside strings, piece by piece."""
    text, at, in_string = memoryview(payload), 0, False
    while at < len(text):
        piece = bytes(text[at : at + _PIECE])
        backslashes = len(piece) - len(piece.rstrip(b"\\"))
        if backslashes % 2:  # never end inside an escape
            piece += bytes(text[at + _PIECE : at + _PIECE + 1])
        at += len(piece)
        # Without escapes a quote is a border: what is left alternates, out of a string and in it.
        parts = piece.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')
        yield b"".join(parts[in_string::2]).translate(None, _EVERYTHING_ELSE)
        in_string ^= len(parts) % 2 == 0
