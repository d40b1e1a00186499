"""Compressed bodies: decompressed piece by piece, and no further than is allowed.

One encoding, one member or frame, nothing after it. What is wrong with a body is a ``Refused`` made
of constants; no library error leaves here, and none stays referenced.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from functools import cache
from types import ModuleType
from typing import Any, Literal

from collector.errors import ConfigError
from collector.ingest.files import zstd_library
from collector.ingest.limits import MIB, Limits
from collector.ingest.refusals import DAMAGED, ENCODING, INFLATED, TOO_LARGE, Refused

__all__ = ["ENCODINGS", "PIECE", "Encoding", "allowed", "pieces"]

Encoding = Literal["gzip", "zstd", "deflate"]

ENCODINGS: dict[bytes, Encoding | None] = {
    b"": None,
    b"identity": None,
    b"gzip": "gzip",
    b"x-gzip": "gzip",
    b"zstd": "zstd",
    b"deflate": "deflate",
}
"""Names of content encodings; ``None`` is none."""

PIECE = 1 << 18
"""Bytes that a body grows by at most before somebody else gets a turn."""

_INPUT = 1 << 16
_HONEST = MIB
"""Bytes up to which any ratio is fine: heartbeats are that repetitive."""
_GZIP, _ZLIB, _RAW = 16 + zlib.MAX_WBITS, zlib.MAX_WBITS, -zlib.MAX_WBITS


def allowed(wire: int, limits: Limits) -> int:
    """How many bytes a body of so many bytes on the wire may have after decompression."""
    return min(limits.body, max(_HONEST, limits.ratio * wire))


def pieces(encoding: Encoding, wire: bytes, limits: Limits) -> Iterator[bytes]:
    """The decompressed body in pieces of at most ``PIECE`` bytes.

    At most one piece is made beyond the limits. Raises ``Refused``: DAMAGED, TOO_LARGE, INFLATED,
    and ENCODING if there is no zstd library.
    """
    most, size = allowed(len(wire), limits), 0
    for piece in _raw_pieces(encoding, wire, limits):
        size += len(piece)
        if size > most:
            raise Refused(TOO_LARGE if most == limits.body else INFLATED)
        yield piece


def _raw_pieces(encoding: Encoding, wire: bytes, limits: Limits) -> Iterator[bytes]:
    if encoding == "zstd":
        return _unframed(wire, _window(limits))
    if encoding == "gzip":
        return _inflated(wire, _GZIP)
    return _inflated(wire, _ZLIB if _has_zlib_header(wire) else _RAW)


def _has_zlib_header(wire: bytes) -> bool:
    """RFC 1950: method 8, and a check sum of the first two bytes. Many send raw deflate instead; a
    raw stream never begins so, as its first block would have padding that is not zero."""
    return len(wire) >= 2 and wire[0] & 0x0F == 8 and (wire[0] << 8 | wire[1]) % 31 == 0


def _inflated(wire: bytes, window: int) -> Iterator[bytes]:
    inflater = zlib.decompressobj(window)
    for part in _parts(wire):
        if inflater.eof:
            raise Refused(DAMAGED)
        rest: bytes | memoryview = part
        while rest and not inflater.eof:
            yield _or_damaged(inflater.decompress, rest)
            rest = inflater.unconsumed_tail
    while not inflater.eof:  # what the last piece had no room for
        if not (piece := _or_damaged(inflater.decompress, b"")):
            raise Refused(DAMAGED)
        yield piece
    if inflater.unused_data:
        raise Refused(DAMAGED)


def _unframed(wire: bytes, window: int) -> Iterator[bytes]:
    library = _zstd()
    options = {library.DecompressionParameter.window_log_max: window}
    frame = library.ZstdDecompressor(options=options)
    for part in _parts(wire):
        if frame.eof:
            raise Refused(DAMAGED)
        yield _or_damaged(frame.decompress, part)
        while not frame.eof and not frame.needs_input:
            yield _or_damaged(frame.decompress, b"")
    if not frame.eof or frame.unused_data:
        raise Refused(DAMAGED)


def _window(limits: Limits) -> int:
    """The logarithm of the largest window: a frame whose content fits needs no larger one."""
    return max(23, (limits.body - 1).bit_length())


@cache
def _zstd() -> ModuleType:
    try:
        return zstd_library()
    except ConfigError:
        pass
    raise Refused(ENCODING)


def _parts(wire: bytes) -> Iterator[memoryview]:
    """Slices, so that what is left of the input is not copied again for every piece."""
    view = memoryview(wire)
    return (view[at : at + _INPUT] for at in range(0, len(wire), _INPUT))


def _or_damaged(decompress: Callable[..., Any], part: bytes | memoryview) -> bytes:
    try:
        return bytes(decompress(part, PIECE))
    except zlib.error:
        pass
    except Exception as error:
        # The zstd library is optional, so its error has no name here.
        if type(error).__name__ != "ZstdError":
            raise
    raise Refused(DAMAGED)
