"""Decompresses data as it comes, in small steps, so that neither a bomb nor damage costs much.

Each class takes the next compressed bytes with ``feed``, hands on what they hold, and says whether
it wants more: not after the end of the data, nor after a fault.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Literal

from collector.ingest.files import zstd_library

__all__ = ["Inflated", "Unzstd"]

_STEP = 1 << 12
_FLUSH = 1 << 18
_LEAST = 8
_ZSTD_STEP = 64

_MOST_HEADER = 1 << 20
_Take = Callable[[bytes], None]


class _Output:
    """Collects small pieces into larger ones. What is shorter than any canary is held back: most
    of what looks like compressed data is not, and fails at once."""

    def __init__(self, take: _Take) -> None:
        self._take = take
        self._pieces: list[bytes] = []
        self._size = 0
        self._least = _LEAST

    def add(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self._size += len(piece)
        if self._size >= _FLUSH:
            self.flush()

    def flush(self) -> None:
        if self._size >= self._least:
            self._take(b"".join(self._pieces))
            self._pieces, self._size, self._least = [], 0, 1


class Inflated:
    """Data in the formats of RFC 1950, 1951 and 1952. Damage hides nothing of what precedes it:
    checksums are not looked at, and the step that met a fault is done again in halves."""

    def __init__(self, algorithm: Literal["gzip", "zlib", "deflate"], take: _Take) -> None:
        self._zlib = zlib.decompressobj(-15)
        self._header: bytes | None = b"" if algorithm == "gzip" else None
        self._skip = 2 if algorithm == "zlib" else 0
        self._output = _Output(take)

    def feed(self, data: bytes | memoryview) -> bool:
        if self._header is not None:
            self._header += data
            length = _gzip_header(self._header)
            if length is None:
                return len(self._header) < _MOST_HEADER
            data, self._header = memoryview(self._header)[length:], None
        data, self._skip = data[self._skip :], 0
        # In small pieces, because zlib copies what it has not come to yet.
        more = all(self._inflate(data[at : at + _STEP]) for at in range(0, len(data), _STEP))
        self._output.flush()
        return more

    def _inflate(self, data: bytes | memoryview) -> bool:
        step = _STEP
        while True:
            before = self._zlib.copy()
            try:
                piece = self._zlib.decompress(data, step)
            except zlib.error:
                if step == 1:
                    return False
                self._zlib, step = before, step // 2
                continue
            self._output.add(piece)
            data = self._zlib.unconsumed_tail
            if self._zlib.eof or (not data and len(piece) < step):
                return not self._zlib.eof


def _gzip_header(data: bytes) -> int | None:
    """The length of the header of a gzip member (RFC 1952), or ``None`` if it goes on."""
    if len(data) < 12:
        return None
    extra, name, comment, checksum = (data[3] & flag for flag in (4, 8, 16, 2))
    at = 10
    if extra:
        at += 2 + int.from_bytes(data[10:12], "little")
    for text in (name, comment):
        if text:
            at = data.find(b"\0", at) + 1
            if not at:
                return None
    at += 2 if checksum else 0
    return at if at <= len(data) else None


class Unzstd:
    """One zstd frame (RFC 8878). Raises ``ConfigError`` E201 if the library is not installed."""

    def __init__(self, take: _Take) -> None:
        library = zstd_library()
        self._zstd = library.ZstdDecompressor()
        self._fault = library.ZstdError
        self._output = _Output(take)

    def feed(self, data: bytes | memoryview) -> bool:
        more = self._decompress(data)
        self._output.flush()
        return more

    def _decompress(self, data: bytes | memoryview) -> bool:
        try:
            # In small pieces, because a fault loses what the same call has already decompressed.
            for at in range(0, len(data), _ZSTD_STEP):
                self._output.add(self._zstd.decompress(data[at : at + _ZSTD_STEP], _FLUSH))
                while not (self._zstd.eof or self._zstd.needs_input):
                    self._output.add(self._zstd.decompress(b"", _FLUSH))
                if self._zstd.eof:
                    return False
        except self._fault:
            return False
        return True
