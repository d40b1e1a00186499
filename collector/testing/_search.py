"""Search files and directories, and compressed data in them, for canaries.

A clean scan claims that there was no canary, so nothing is skipped silently: whatever cannot be
read raises. It finds canaries that are plain, reversed, in UTF-16, base64 (any alignment), hex,
escaped as in JSON or percent-encoded, and in file names. It finds all of these inside gzip, zlib
and zstd data at any offset, nested up to eight times, and inside raw deflate at the start of a
file. It does not find canaries that were encrypted, compressed by another algorithm, or split by a
file format. SQLite, for example, splits large values among pages, so the compressed records of a
large batch are found only once sinks have them.

Files are read in overlapping windows; memory is constant. Compressed data is decompressed and
searched as a stream. Damaged data is searched up to the damage (zstd data: up to the damaged
block).
"""

from __future__ import annotations

import os
import re
import secrets
import stat
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from collector.errors import ConfigError, UsageError
from collector.ingest.decompression import zstd_library
from collector.testing._encodings import Needles

_PREFIX = "canary"
_RUN = 8
_OWN = 8
"""Random hexadecimal digits of one call, and of one canary: 64 bits in all."""


def canaries(number: int = 8) -> tuple[str, ...]:
    """Make ``number`` different canaries, like ``canary-9f03b6aa-41d7e52c``.

    The first half of the digits is the same for one call, so that the remains of an earlier run do
    not count as a leak of this one. Raises ``ConfigError`` E107 for fewer than one.
    """
    if number < 1:
        raise ConfigError("E107", "ask for at least one canary")
    run = secrets.token_hex(_RUN // 2)
    own: dict[str, None] = {}
    while len(own) < number:
        own[secrets.token_hex(_OWN // 2)] = None
    return tuple(f"{_PREFIX}-{run}-{digits}" for digits in own)


_WINDOW = 1 << 20
_MOST_NESTED = 8
_GZIP = b"\x1f\x8b\x08"
_ZSTD = b"\x28\xb5\x2f\xfd"


def _zlib_magic() -> Iterator[bytes]:
    """RFC 1950: deflate, a checksum of five bits, no dictionary."""
    for method in range(0x08, 0x88, 0x10):
        flags = [f for f in range(256) if (method << 8 | f) % 31 == 0 and not f & 0x20]
        yield re.escape(bytes([method])) + b"[" + re.escape(bytes(flags)) + b"]"


_MAGIC = re.compile(b"|".join([re.escape(_GZIP), re.escape(_ZSTD), *_zlib_magic()]))
_MAGIC_LENGTH = 4


class Hit(NamedTuple):
    """Where a canary first occurs, for each file and encoding.

    ``encoding`` is ``plain``, ``json``, ``base64``, …, after its containers: ``gzip>plain``,
    ``name>hex``. ``offset`` counts bytes of the file, up to the start of compressed data.
    """

    path: Path
    canary: str
    encoding: str
    offset: int


def scan(paths: str | Path | Iterable[str | Path], canaries: Iterable[str]) -> list[Hit]:
    """Find every canary in these files, and in all files below these directories, in the order of
    names.

    Raises ``InputError`` E101 if something cannot be read, and ``ConfigError`` for canaries that
    cannot be searched for (E107) or for zstd data without its library (E201).
    """
    needles = Needles(canaries)
    hits: list[Hit] = []
    for path in [paths] if isinstance(paths, str | Path) else paths:
        try:
            for file, name, is_file in _entries(Path(path)):
                hits += _search(file, name, is_file, needles)
        except OSError as error:
            message = f"`{path}` cannot be read to its end, so it cannot be called clean"
            raise UsageError("E101", message) from error
    return hits


def _entries(top: Path) -> Iterator[tuple[Path, str, bool]]:
    """Each file and directory, the part of its name that lies below ``top``, and whether it is a
    file. Links are followed, loops of links are not. Sockets and pipes hold nothing."""
    seen: set[tuple[int, int]] = set()
    queue = [(top, "")]
    while queue:
        path, name = queue.pop()
        status = path.stat()
        yield path, name, stat.S_ISREG(status.st_mode)
        if stat.S_ISDIR(status.st_mode):
            if (status.st_dev, status.st_ino) not in seen:
                seen.add((status.st_dev, status.st_ino))
                inner = sorted(path.iterdir(), reverse=True)
                queue += [(child, f"{name}/{child.name}") for child in inner]
        elif stat.S_ISBLK(status.st_mode) or stat.S_ISCHR(status.st_mode):
            raise OSError


def _search(path: Path, name: str, is_file: bool, needles: Needles) -> list[Hit]:
    found: dict[tuple[str, str], int] = {}

    def report(canary: str, encoding: str, offset: int) -> None:
        found.setdefault((canary, encoding), offset)

    _Stream(needles, report, "name>").feed(os.fsencode(name))
    if is_file:
        content = _Stream(needles, report)
        with path.open("rb", buffering=0) as handle:
            while piece := handle.read(_WINDOW):
                content.feed(piece)
    return [Hit(path, canary, encoding, at) for (canary, encoding), at in found.items()]


_Report = Callable[[str, str, int], None]
_Algorithm = Literal["gzip", "zlib", "deflate", "zstd"]
_ALGORITHMS: dict[bytes, _Algorithm] = {_GZIP: "gzip", _ZSTD: "zstd"}


class _Stream:
    """A stream of bytes, searched in overlapping windows, including compressed data in it."""

    def __init__(
        self, needles: Needles, report: _Report, within: str = "", origin: int | None = None
    ) -> None:
        self._needles = needles
        self._report = report
        self._within = within
        self._origin = origin
        self._at = 0
        self._tail = b""
        self._inside: list[Inflated | Unzstd] = []
        if within.count(">") > _MOST_NESTED:
            raise UsageError("E422", f"data is compressed more than {_MOST_NESTED} times over")

    def feed(self, piece: bytes) -> None:
        """Search the next bytes."""
        self._inside = [inner for inner in self._inside if inner.feed(piece)]
        window = self._tail + piece
        for canary, encoding, start in self._needles.search(window):
            self._report(canary, self._within + encoding, self._offset(start))
        if not self._at and not self._tail and not self._within:
            self._enter("deflate", memoryview(window), 0)
        for magic in _MAGIC.finditer(window, max(0, len(self._tail) - _MAGIC_LENGTH + 1)):
            if magic.end() > len(self._tail):
                algorithm = _ALGORITHMS.get(magic[0], "zlib")
                self._enter(algorithm, memoryview(window)[magic.start() :], magic.start())
        overlap = min(len(window), self._needles.reach)
        self._at += len(window) - overlap
        self._tail = window[len(window) - overlap :]

    def _offset(self, start: int) -> int:
        return self._at + start if self._origin is None else self._origin

    def _enter(self, algorithm: _Algorithm, data: memoryview, start: int) -> None:
        """Try to decompress from here; most starts are not compressed data."""
        streams: list[_Stream] = []
        within, origin = f"{self._within}{algorithm}>", self._offset(start)

        def take(piece: bytes) -> None:
            if not streams:
                streams.append(_Stream(self._needles, self._report, within, origin))
            streams[0].feed(piece)

        inner = Unzstd(take) if algorithm == "zstd" else Inflated(algorithm, take)
        if inner.feed(data):
            self._inside.append(inner)


# -- decompression: in small steps, so that neither a bomb nor damage costs much. Each class takes
# the next compressed bytes with ``feed``, hands on what they hold, and says whether it wants more:
# not after the end of the data, nor after a fault.

_STEP = 1 << 12
_FLUSH = 1 << 18
_LEAST = 8
_ZSTD_STEP = 64

_MOST_HEADER = 1 << 20
_Take = Callable[[bytes], None]


class _Output:
    """Collects small pieces into larger ones. It holds back output shorter than any canary: most of
    what looks like compressed data is not, and fails at once."""

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
    """Data in the formats of RFC 1950, 1951 and 1952. Damage hides nothing that precedes it:
    checksums are ignored, and a step with a fault is repeated in halves."""

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
        # In small pieces, because zlib copies input that it has not reached.
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
    """Return the length of a gzip header (RFC 1952), or ``None`` if it is incomplete."""
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
