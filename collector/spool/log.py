"""SQLite's write-ahead log, as far as recovery must know it: its frames, and which were committed.

SQLite reads a log up to the first frame that is not as it was written and takes all that follows
for the remains of a write that never ended. If a commit is among what follows, then it is damage.
The format is SQLite's, https://www.sqlite.org/fileformat2.html#the_write_ahead_log.
"""

from __future__ import annotations

import os
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

from collector.walindex import Index

__all__ = ["cut", "is_log", "last_commit", "overlaid"]

_MAGIC = (0x377F0682, 0x377F0683)
_HEADER = struct.Struct(">IIIIII8x")
_FRAME = struct.Struct(">IIII8x")
_VERSIONS = 18
"""Where a database says that it has a log (2, 2) or none (1, 1)."""


class _Frame(NamedTuple):
    page: int
    is_commit: bool
    offset: int


def is_log(log: Path) -> bool:
    """Whether a file that is there is a write-ahead log, or empty."""
    if log.stat().st_size == 0:
        return True
    with log.open("rb") as handle:
        return _header(handle) is not None


def last_commit(log: Path) -> int:
    """How many frames there are up to the last one that ends a commit."""
    if not log.exists():
        return 0
    with log.open("rb") as handle:
        numbered = enumerate(_frames(handle), 1)
        return max((number for number, frame in numbered if frame.is_commit), default=0)


def overlaid(path: Path, log: Path, copy: Path) -> None:
    """A copy of a database with all commits of its log in it, whatever frame is damaged."""
    copy.unlink(missing_ok=True)
    os.close(os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    if path.exists():
        shutil.copyfile(path, copy)
    count = last_commit(log)
    with copy.open("r+b") as target:
        if count:
            with log.open("rb") as handle:
                _apply(handle, target, count)
        if target.seek(0, os.SEEK_END) > _VERSIONS + 2:
            target.seek(_VERSIONS)
            target.write(b"\1\1")


def cut(path: Path, index: Index) -> None:
    """Cut off the log of a database, which is open, behind the last commit that counts.

    A commit whose sync failed may lie there as if it were whole; it would count when the database
    is opened again. Raises ``OSError``.
    """
    counted = index.counted()
    if counted is None:
        return
    size, frames = counted
    end = _HEADER.size + frames * (_FRAME.size + size)
    with path.with_name(f"{path.name}-wal").open("r+b") as log:
        if log.seek(0, os.SEEK_END) > end:
            log.truncate(end)


def _apply(handle: IO[bytes], target: IO[bytes], count: int) -> None:
    header = _header(handle)
    size = 0 if header is None else header[0]
    most = target.seek(0, os.SEEK_END) // max(size, 1) + count
    for number, frame in enumerate(list(_frames(handle)), 1):
        if number <= count and 0 < frame.page <= most:
            handle.seek(frame.offset)
            page = handle.read(size)
            target.seek((frame.page - 1) * size)
            target.write(page)


def _header(handle: IO[bytes]) -> tuple[int, int, int] | None:
    """Size of pages and the two salts."""
    handle.seek(0)
    text = handle.read(_HEADER.size)
    if len(text) < _HEADER.size:
        return None
    magic, _, size, _, *salts = _HEADER.unpack(text)
    if magic not in _MAGIC or not 512 <= size <= 65536 or size & (size - 1):
        return None
    return size, salts[0], salts[1]


def _frames(handle: IO[bytes]) -> Iterator[_Frame]:
    """The whole frames that are of this log and not left from what was in it before."""
    header = _header(handle)
    if header is None:
        return
    size, *salts = header
    end = handle.seek(0, os.SEEK_END)
    for at in range(_HEADER.size, end - _FRAME.size - size + 1, _FRAME.size + size):
        handle.seek(at)
        page, pages, *found = _FRAME.unpack(handle.read(_FRAME.size))
        if found == salts:
            yield _Frame(page, pages > 0, at + _FRAME.size)
