"""Decompress bodies within the limits and within memory that is known beforehand.

A body has one encoding and one member or frame, with nothing after it. Its first and last bytes
tell how much memory it needs at most: a zstd frame states its window (RFC 8878, 3.1.1.1) and often
its size, a gzip member ends with its size (RFC 1952, 2.3.1). A body that grows beyond its stated
size is damaged. A body that states no size is taken for a small one at first. If it is larger,
decompression starts again with all that the limits allow.

A faulty body raises ``RequestRefused``, made of constants. No library's error leaves this module or
stays referenced.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from functools import cache
from importlib import import_module
from io import BytesIO
from types import ModuleType
from typing import Any, Literal

from collector.errors import ConfigError
from collector.extras import missing
from collector.ingest.limits import MIB, SMALL_BODY, IngestLimits
from collector.ingest.refusals import (
    BODY_TOO_LARGE,
    DAMAGED,
    INFLATED,
    UNSUPPORTED_ENCODING,
    Refusal,
    RequestRefused,
)

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
"""Bytes that are decompressed at once: few enough for an event loop."""
MOST_WINDOW = 8 * MIB
"""Bytes of the largest window of a zstd frame: HTTP allows no larger one (RFC 9659)."""

INPUT = 1 << 16
"""Bytes of input that a decompressor gets at once."""
_ANY_RATIO = MIB
"""Bytes up to which any ratio is allowed, because heartbeats are very repetitive."""
_GZIP, _ZLIB, _RAW = 16 + zlib.MAX_WBITS, zlib.MAX_WBITS, -zlib.MAX_WBITS
_COPIED = 2 * MIB
"""Bytes that the growing buffer leaves in the heap: it is copied until it reaches the 1 MiB from
which the system maps it (``collector.server.harden``)."""
_ZLIB_BYTES = 64 << 10
"""Memory of zlib's decompressor: a window of 32 KiB, and its tables."""
_ZSTD_BYTES, _ZSTD_BLOCK = 192 << 10, 128 << 10
"""Memory of zstd's decompressor without its buffers (its window and up to three blocks)."""
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_DICTIONARY_BYTES = (0, 1, 2, 4)


class Compressed:
    """A compressed body, and the limits of its decompression.

    Raises ``RequestRefused``: DAMAGED, also for a window above ``MOST_WINDOW``;
    BODY_TOO_LARGE and INFLATED for a stated size beyond the limits; UNSUPPORTED_ENCODING without a
    zstd library.
    """

    def __init__(self, encoding: Encoding, wire: bytes, limits: IngestLimits) -> None:
        self._encoding, self._wire = encoding, wire
        most = allowed(len(wire), limits)
        self._beyond = BODY_TOO_LARGE if most == limits.body else INFLATED
        self._excess: Refusal | None = self._beyond
        decompressor, stated = _ZLIB_BYTES, None
        if encoding == "zstd":
            window, stated = _zstd_header(wire)
            if stated is not None and stated > most:
                raise RequestRefused(self._beyond)
            if window > MOST_WINDOW:
                raise RequestRefused(DAMAGED)
            decompressor = _zstd_memory(window)
        elif encoding == "gzip":
            # A truncated member has other bytes here, so a larger size says nothing.
            size = int.from_bytes(wire[-4:], "little")
            stated = size if size <= most else None
        self._decompressor = decompressor
        self._allowed = most
        if stated is not None:
            most, self._excess = stated, DAMAGED
        elif most > SMALL_BODY:
            most, self._excess = SMALL_BODY, None
        self.most: int = most
        """The most bytes that the body may have, as far as is known."""

    @property
    def memory(self) -> int:
        """Bytes needed to decompress the body: decompressor, input and output."""
        return self._decompressor + INPUT + _output_memory(self.most)

    @property
    def is_short(self) -> bool:
        """Whether an event loop may decompress it. Many bytes that become few still take long."""
        return self.most <= PIECE and len(self._wire) <= SMALL_BODY

    def body(self) -> bytes | None:
        """Return the body, or ``None`` if it states no size and is not small. Then ``most`` and
        ``memory`` are raised to all that is allowed, and the caller must decompress it again.

        At most one piece is decompressed beyond ``most``. Raises ``RequestRefused``: DAMAGED,
        BODY_TOO_LARGE, INFLATED.
        """
        buffer = BytesIO()  # its value is not copied
        for piece in _pieces(self._encoding, self._wire, min(PIECE, self.most + 1)):
            if buffer.tell() + len(piece) > self.most:
                break
            buffer.write(piece)
        else:
            return buffer.getvalue()
        if self._excess is not None:
            raise RequestRefused(self._excess)
        self.most, self._excess = self._allowed, self._beyond
        return None


def allowed(wire: int, limits: IngestLimits) -> int:
    """Return the most bytes that ``wire`` compressed bytes may become."""
    return min(limits.body, max(_ANY_RATIO, limits.ratio * wire))


def most_memory(most: int) -> int:
    """Return the bytes needed to decompress any body of at most ``most`` bytes."""
    return _zstd_memory(MOST_WINDOW) + INPUT + _output_memory(most)


def _output_memory(most: int) -> int:
    """Return the bytes needed for a body that grows by pieces. A library makes two copies of a
    piece. The buffer for all pieces is up to an eighth larger than they are. While it is small, it
    is copied to grow; the C library moves larger ones."""
    return most + most // 8 + min(most, _COPIED) + 2 * min(most + 1, PIECE)


def _zstd_memory(window: int) -> int:
    return _ZSTD_BYTES + window + 3 * min(window, _ZSTD_BLOCK)


def _zstd_header(wire: bytes) -> tuple[int, int | None]:
    """Return the window of a frame, and the size of its content if stated (RFC 8878, 3.1.1.1).
    Raises ``RequestRefused``: DAMAGED."""
    if len(wire) <= len(_ZSTD_MAGIC) or not wire.startswith(_ZSTD_MAGIC):
        raise RequestRefused(DAMAGED)
    descriptor = wire[4]
    is_single = descriptor >> 5 & 1
    at = (6, 5)[is_single] + _DICTIONARY_BYTES[descriptor & 3]
    length = (is_single, 2, 4, 8)[descriptor >> 6]
    field = wire[at : at + length]
    size = int.from_bytes(field, "little") + (256 if length == 2 else 0) if length else None
    if len(field) < length:
        raise RequestRefused(DAMAGED)
    if is_single:
        return size or 0, size
    exponent, eighths = divmod(int.from_bytes(wire[5:6]), 8)
    return (8 + eighths << exponent + 10) // 8, size


def _pieces(encoding: Encoding, wire: bytes, most: int) -> Iterator[bytes]:
    """Yield a body in pieces of at most ``most`` bytes."""
    if encoding == "zstd":
        return _zstd_pieces(wire, most)
    if encoding == "gzip":
        return _zlib_pieces(wire, _GZIP, most)
    return _zlib_pieces(wire, _ZLIB if _has_zlib_header(wire) else _RAW, most)


def _has_zlib_header(wire: bytes) -> bool:
    """Tell zlib's format (RFC 1950: method 8) from raw deflate, which many clients send. No client
    begins a raw stream like this: the padding of its first block would not be zero."""
    return bool(wire) and wire[0] & 0x0F == 8


def _zlib_pieces(wire: bytes, window: int, most: int) -> Iterator[bytes]:
    inflater = zlib.decompressobj(window)
    for part in _slices(wire):
        if inflater.eof:
            raise RequestRefused(DAMAGED)
        remaining: bytes | memoryview = part
        while remaining and not inflater.eof:
            yield _decompress(inflater.decompress, remaining, most)
            remaining = inflater.unconsumed_tail
    while not inflater.eof:  # output that did not fit into the last piece
        if not (piece := _decompress(inflater.decompress, b"", most)):
            raise RequestRefused(DAMAGED)
        yield piece
    if inflater.unused_data:
        raise RequestRefused(DAMAGED)


def _zstd_pieces(wire: bytes, most: int) -> Iterator[bytes]:
    library = _zstd()
    options = {library.DecompressionParameter.window_log_max: MOST_WINDOW.bit_length() - 1}
    frame = library.ZstdDecompressor(options=options)
    for part in _slices(wire):
        if frame.eof:
            raise RequestRefused(DAMAGED)
        yield _decompress(frame.decompress, part, most)
        while not frame.eof and not frame.needs_input:
            yield _decompress(frame.decompress, b"", most)
    if not frame.eof or frame.unused_data:
        raise RequestRefused(DAMAGED)


def zstd_library() -> ModuleType:
    """Import the standard library's zstd (Python 3.14), or its backport, an optional dependency.

    Raises ``ConfigError`` E201 without either.
    """
    for name in ("compression.zstd", "backports.zstd"):
        try:
            return import_module(name)
        except ModuleNotFoundError:
            continue
    raise missing("zstd data", "cli")


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
    return (view[at : at + INPUT] for at in range(0, len(wire), INPUT))


def _decompress(decompress: Callable[..., Any], part: bytes | memoryview, most: int) -> bytes:
    try:
        return bytes(decompress(part, most))
    except zlib.error:
        pass
    except Exception as error:
        # The zstd library is optional, so its error has no name here.
        if type(error).__name__ != "ZstdError":
            raise
    raise RequestRefused(DAMAGED)
