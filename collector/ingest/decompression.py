"""Decompress bodies piece by piece, within the limits.

One encoding, one member or frame, nothing after it. A faulty body raises ``RequestRefused``,
made of constants; no error of a library leaves this module, and none stays referenced.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any, Literal

from collector.errors import ConfigError
from collector.ingest.limits import MIB, IngestLimits
from collector.ingest.refusals import (
    DAMAGED,
    INFLATED,
    TOO_LARGE,
    UNSUPPORTED_ENCODING,
    RequestRefused,
)

__all__ = ["ENCODINGS", "PIECE", "Encoding", "allowed", "pieces", "zstd_library"]

Encoding = Literal["gzip", "zstd", "deflate"]

ENCODINGS: dict[bytes, Encoding | None] = {
    b"": None,
    b"identity": None,
    b"gzip": "gzip",
    b"x-gzip": "gzip",
    b"zstd": "zstd",
    b"deflate": "deflate",
}
"""Names of content encodings; ``None`` is an uncompressed body."""

PIECE = 1 << 18
"""Bytes that a body grows by at most before other requests go on."""

_INPUT = 1 << 16
_SMALL = MIB
"""Bytes up to which any ratio is allowed: heartbeats are that repetitive."""
_GZIP, _ZLIB, _RAW = 16 + zlib.MAX_WBITS, zlib.MAX_WBITS, -zlib.MAX_WBITS


def allowed(wire: int, limits: IngestLimits) -> int:
    """Return the bytes that a body of ``wire`` compressed bytes may have."""
    return min(limits.body, max(_SMALL, limits.ratio * wire))


def pieces(encoding: Encoding, wire: bytes, limits: IngestLimits) -> Iterator[bytes]:
    """Yield the decompressed body in pieces of at most ``PIECE`` bytes.

    At most one piece is decompressed beyond the limits. Raises ``RequestRefused``: DAMAGED,
    TOO_LARGE, INFLATED, and UNSUPPORTED_ENCODING if there is no zstd library.
    """
    limit, size = allowed(len(wire), limits), 0
    for piece in _raw_pieces(encoding, wire, limits):
        size += len(piece)
        if size > limit:
            raise RequestRefused(TOO_LARGE if limit == limits.body else INFLATED)
        yield piece


def _raw_pieces(encoding: Encoding, wire: bytes, limits: IngestLimits) -> Iterator[bytes]:
    if encoding == "zstd":
        return _zstd_pieces(wire, _window(limits))
    if encoding == "gzip":
        return _zlib_pieces(wire, _GZIP)
    return _zlib_pieces(wire, _ZLIB if _has_zlib_header(wire) else _RAW)


def _has_zlib_header(wire: bytes) -> bool:
    """Tell zlib's format (RFC 1950: method 8, and a check sum of two bytes) from raw deflate, which
    many clients send. A raw stream never begins so: its first block would have padding that is not
    zero."""
    return len(wire) >= 2 and wire[0] & 0x0F == 8 and (wire[0] << 8 | wire[1]) % 31 == 0


def _zlib_pieces(wire: bytes, window: int) -> Iterator[bytes]:
    inflater = zlib.decompressobj(window)
    for part in _slices(wire):
        if inflater.eof:
            raise RequestRefused(DAMAGED)
        remaining: bytes | memoryview = part
        while remaining and not inflater.eof:
            yield _decompress(inflater.decompress, remaining)
            remaining = inflater.unconsumed_tail
    while not inflater.eof:  # output that did not fit into the last piece
        if not (piece := _decompress(inflater.decompress, b"")):
            raise RequestRefused(DAMAGED)
        yield piece
    if inflater.unused_data:
        raise RequestRefused(DAMAGED)


def _zstd_pieces(wire: bytes, window: int) -> Iterator[bytes]:
    library = _zstd()
    options = {library.DecompressionParameter.window_log_max: window}
    frame = library.ZstdDecompressor(options=options)
    for part in _slices(wire):
        if frame.eof:
            raise RequestRefused(DAMAGED)
        yield _decompress(frame.decompress, part)
        while not frame.eof and not frame.needs_input:
            yield _decompress(frame.decompress, b"")
    if not frame.eof or frame.unused_data:
        raise RequestRefused(DAMAGED)


def _window(limits: IngestLimits) -> int:
    """Return the logarithm of the largest window: content within the limits needs no larger one."""
    return max(23, (limits.body - 1).bit_length())


def zstd_library() -> ModuleType:
    """Import the standard library's zstd (Python 3.14), or its backport, an optional dependency.

    Raises ``ConfigError`` E201 without either.
    """
    for name in ("compression.zstd", "backports.zstd"):
        try:
            return import_module(name)
        except ModuleNotFoundError:
            continue
    extra = "data-minimisation-collector[cli]"
    raise ConfigError("E201", f"zstd data needs a zstd library: pip install '{extra}'")


@cache
def _zstd() -> ModuleType:
    try:
        return zstd_library()
    except ConfigError:
        pass
    raise RequestRefused(UNSUPPORTED_ENCODING)


def _slices(wire: bytes) -> Iterator[memoryview]:
    """Slice the input, so that its remainder is not copied again for every piece."""
    view = memoryview(wire)
    return (view[at : at + _INPUT] for at in range(0, len(wire), _INPUT))


def _decompress(decompress: Callable[..., Any], part: bytes | memoryview) -> bytes:
    try:
        return bytes(decompress(part, PIECE))
    except zlib.error:
        pass
    except Exception as error:
        # The zstd library is optional, so its error has no name here.
        if type(error).__name__ != "ZstdError":
            raise
    raise RequestRefused(DAMAGED)
