"""Bytes into lines and pieces, before any of them is parsed."""

from __future__ import annotations

from codecs import getincrementaldecoder
from collections.abc import Iterable, Iterator
from io import BytesIO

__all__ = ["BOM", "PIECE", "is_blank", "is_utf8", "lines", "slices"]

BOM = b"\xef\xbb\xbf"
PIECE = 1 << 16
"""How many bytes of a text are looked at, and copied, at once."""

_MOST_SHARED = 1 << 20
_decoder = getincrementaldecoder("utf-8")


def is_utf8(text: bytes | memoryview) -> bool:
    """Whether the bytes are valid UTF-8 (no surrogates, no overlong forms), piece by piece.

    The parser does not check members that it skips; checked first, every path agrees.
    """
    if isinstance(text, bytes) and text.isascii():
        return True
    decode = _decoder("strict").decode
    try:
        for at in range(0, len(text), PIECE):
            decode(text[at : at + PIECE])
        decode(b"", True)
    except UnicodeDecodeError:
        return False
    return True


def is_blank(line: bytes | memoryview) -> bool:
    """Whether a line holds nothing but JSON's white space."""
    if len(line) <= PIECE:
        return not bytes(line).strip(b" \t\r\n")
    return all(is_blank(line[at : at + PIECE]) for at in range(0, len(line), PIECE))


def lines(payload: bytes) -> Iterable[bytes | memoryview]:
    """The lines of a payload, one at a time.

    ``BytesIO`` shares the payload and copies each line once, which beats ``split`` and, for lines
    of usual length, views; long payloads may hold long lines, and are never copied.
    """
    return BytesIO(payload) if len(payload) <= _MOST_SHARED else _views(payload)


def _views(payload: bytes) -> Iterator[memoryview]:
    view, at = memoryview(payload), 0
    while at < len(payload):
        end = payload.find(b"\n", at)
        end = len(payload) if end < 0 else end
        yield view[at:end]
        at = end + 1


def slices(payload: bytes, size: int, number: int) -> Iterator[bytes]:
    """A payload in parts of whole lines: of so many lines, and so many bytes at most, unless a line
    is longer than that. Finding the line ends is four times as fast as counting them."""
    find, at = payload.find, 0
    while at < len(payload):
        end, stop = at - 1, at + size
        for _ in range(number):
            if (found := find(b"\n", end + 1, stop)) < 0:
                break
            end = found
        if end < at and (end := find(b"\n", at)) < 0:
            end = len(payload)
        yield payload[at : end + 1]
        at = end + 1
