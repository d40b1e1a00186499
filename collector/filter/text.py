"""Bytes into lines and pieces, before any of them is parsed. Memory stays within a slice."""

from __future__ import annotations

from codecs import getincrementaldecoder
from collections.abc import Iterator

__all__ = ["BOM", "SLICE", "is_blank", "is_utf8", "slices"]

BOM = b"\xef\xbb\xbf"
SLICE = 1 << 17
"""The most bytes of lines that are worked on at once."""

_PIECE = 1 << 16
_decoder = getincrementaldecoder("utf-8")


def is_utf8(text: bytes | memoryview) -> bool:
    """Whether the bytes are valid UTF-8 (no surrogates, no overlong forms), piece by piece.

    The parser does not check members that it skips; checked first, every path agrees.
    """
    if isinstance(text, bytes) and text.isascii():
        return True
    decode = _decoder("strict").decode
    try:
        for at in range(0, len(text), _PIECE):
            decode(text[at : at + _PIECE])
        decode(b"", True)
    except UnicodeDecodeError:
        return False
    return True


def is_blank(line: bytes | memoryview) -> bool:
    """Whether a line holds nothing but JSON's white space."""
    return len(line) <= SLICE and not bytes(line).strip(b" \t\r")


def slices(payload: bytes) -> Iterator[bytes | memoryview]:
    """The payload in runs of whole lines of at most ``SLICE`` bytes, line ends between them left
    out; a longer line comes alone, as a view."""
    at, size = 0, len(payload)
    while at < size:
        end = size
        if size - at > SLICE:
            end = payload.rfind(b"\n", at, at + SLICE)
            if end < 0:
                end = payload.find(b"\n", at + SLICE)
                end = size if end < 0 else end
        piece = end - at
        yield payload[at:end] if piece <= SLICE else memoryview(payload)[at:end]
        at = end + 1
