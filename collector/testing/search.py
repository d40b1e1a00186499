"""Searches everything that was written for canaries: files, directories, what is packed in them.

The claim of a clean scan is that no canary was there, so nothing is passed over quietly: what
cannot be read raises. Found are canaries as they are, reversed, in UTF-16, base64 (any alignment),
hex, escaped as in JSON or percent-encoded, in file names, and all of that within gzip, zlib and
zstd data at any offset, nested up to eight times, and raw deflate at the start of a file. Not found
are canaries that were encrypted, packed by another algorithm, or torn apart by a file format.

Files are read in windows that overlap; memory is constant. Compressed data is decompressed as it is
met and searched as it comes out. What is damaged is searched up to the damage (of
zstd data: up to the damaged block).
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from collector.errors import InputError
from collector.testing.encodings import Needles
from collector.testing.unpacked import Inflated, Unzstd

__all__ = ["Hit", "scan"]

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
    """Where a canary was found first, for each file and encoding.

    ``encoding`` is ``plain``, ``json``, ``base64``, …, after what it was inside of: ``gzip>plain``,
    ``name>hex``. ``offset`` counts bytes of the file, up to the start of compressed data.
    """

    path: Path
    canary: str
    encoding: str
    offset: int


def scan(paths: str | Path | Iterable[str | Path], canaries: Iterable[str]) -> list[Hit]:
    """Every canary in the files, and in all files below the directories, in order of their names.

    Raises ``InputError`` E401 for what cannot be read, and ``ConfigError`` for canaries that cannot
    be searched for (E204) or zstd data without the library for it (E201).
    """
    needles = Needles(canaries)
    hits: list[Hit] = []
    for path in [paths] if isinstance(paths, str | Path) else paths:
        try:
            for file, name, is_file in _entries(Path(path)):
                hits += _search(file, name, is_file, needles)
        except OSError as error:
            message = f"`{path}` cannot be read to its end, so it cannot be called clean"
            raise InputError("E401", message) from error
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
    """Bytes as they come, searched in windows that overlap, with all that is compressed in them."""

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
            raise InputError("E401", f"data is compressed more than {_MOST_NESTED} times over")

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
        kept = min(len(window), self._needles.reach)
        self._at += len(window) - kept
        self._tail = window[len(window) - kept :]

    def _offset(self, start: int) -> int:
        return self._at + start if self._origin is None else self._origin

    def _enter(self, algorithm: _Algorithm, data: memoryview, start: int) -> None:
        """Try to decompress what starts here; by far most of it is no compressed data at all."""
        streams: list[_Stream] = []
        within, origin = f"{self._within}{algorithm}>", self._offset(start)

        def take(piece: bytes) -> None:
            if not streams:
                streams.append(_Stream(self._needles, self._report, within, origin))
            streams[0].feed(piece)

        inner = Unzstd(take) if algorithm == "zstd" else Inflated(algorithm, take)
        if inner.feed(data):
            self._inside.append(inner)
