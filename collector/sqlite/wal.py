"""The parts of SQLite's write-ahead log that recovery needs: frames, and which are committed.

SQLite reads a log up to the first frame with a wrong checksum. It takes all later frames for the
remains of a write that never ended. If one of them ends a commit, the log is damaged.
The format is SQLite's, https://www.sqlite.org/fileformat2.html#the_write_ahead_log.
"""

from __future__ import annotations

import os
import shutil
import struct
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from threading import Lock
from time import sleep
from typing import IO, NamedTuple

from collector import files

_BYTES = 32768
"""The size of an index for a log of up to 4062 pages."""
_ROOM = 4 * _BYTES
_HEAD = struct.Struct("=14xHI28x")
"""The head of an index, in native byte order: page size and number of valid frames. The index has
this head twice."""
_COPIED = struct.Struct("=I")
"""Follows the heads: how many of the frames are already in the database."""
_open: dict[tuple[int, int], tuple[set[int], set[int]]] = {}
"""By device and inode of an index: the descriptors in use in this process, and those to be closed
together with the last one."""
_open_lock = Lock()


class Counted(NamedTuple):
    """The page size, the number of valid frames in a log, and how many of them were copied into the
    database."""

    page: int
    frames: int
    copied: int

    @property
    def length(self) -> int:
        """The bytes of all pages in the log."""
        return self.page * self.frames

    @property
    def left(self) -> int:
        """The bytes of the pages that are not in the database yet."""
        return self.page * (self.frames - self.copied)


class Index:
    """The index of the log of an open database that has a log.

    ``close`` it after the database's connections: when a process closes a file, the system releases
    all locks of that process on it. So the file stays open as long as another ``Index`` of the same
    database is in use. Raises ``OSError`` if the disk is full.
    """

    def __init__(self, path: Path) -> None:
        self._handle = -1
        with suppress(FileNotFoundError):
            self._handle = os.open(f"{path}-shm", os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            with _open_lock:
                _open.setdefault(_place(self._handle), (set(), set()))[0].add(self._handle)
        if self._handle >= 0 and hasattr(os, "posix_fallocate"):
            self._reserve()

    def counted(self) -> Counted | None:
        """Return the counts of the log; ``None`` if the index is missing or being written."""
        size, end = _HEAD.size, 2 * _HEAD.size
        head = os.pread(self._handle, end + _COPIED.size, 0) if self._handle >= 0 else b""
        if len(head) < end + _COPIED.size or head[:size] != head[size:end]:
            return None
        return Counted(*_HEAD.unpack_from(head), *_COPIED.unpack_from(head, end))

    def close(self) -> None:
        """Close the file, or leave that to the last ``Index`` of the same database."""
        if self._handle < 0:
            return
        with _open_lock:
            place = _place(self._handle)
            used, unused = _open[place]
            used.discard(self._handle)
            unused.add(self._handle)
            if not used:
                del _open[place]
                for handle in unused:
                    os.close(handle)
        self._handle = -1

    def _reserve(self) -> None:
        try:
            os.posix_fallocate(self._handle, 0, _BYTES)
        except OSError as error:
            if error.errno in files.NO_ROOM:
                self.close()
                raise


def _place(handle: int) -> tuple[int, int]:
    status = os.fstat(handle)
    return status.st_dev, status.st_ino


def need_room(path: Path) -> None:
    """Raise ``OSError`` if the disk has no room for the index of a database that is being opened.
    SQLite needs that room before ``Index`` can reserve it."""
    files.need_room(path.parent, _ROOM)


_LOG_MAGIC = (0x377F0682, 0x377F0683)
_HEADER = struct.Struct(">IIIIII8x")
_FRAME = struct.Struct(">IIII8x")
_HEAD_BYTES = 100
MAGIC = b"SQLite format 3\0"
"""The first bytes of a database."""
_VERSIONS = 18
"""The offset at which a database says whether it has a log: (2, 2) or (1, 1)."""


_WORD = (1 << 32) - 1
_MOST_PAGES = 1 << 24
"""A page number is lower than this: so many pages have 128 GB."""
_MOST_LOGS = 1 << 24
_PAGES, _HEADS = 4096, 136
"""How many pages a block of an index lists, and the bytes of the head that replaces some of them in
the first block."""
_TRIES, _PAUSE = 5, 0.05


class _Frame(NamedTuple):
    page: int
    is_commit: bool
    offset: int


def is_log(log: Path) -> bool:
    """Return whether an existing file is a write-ahead log, or empty."""
    if log.stat().st_size == 0:
        return True
    with log.open("rb") as handle:
        return _header(handle) is not None


def is_whole(log: Path) -> bool:
    """Return whether a log consists only of its own frames and frames of earlier logs, and SQLite
    can read it up to its last commit. Another process may write meanwhile. Raises ``OSError``.
    """
    for attempt in range(_TRIES):
        sleep(_PAUSE * bool(attempt))
        with suppress(FileNotFoundError):
            if log.stat().st_size and (not is_log(log) or _is_damaged(log) or _has_more(log)):
                continue
        return True
    return False


def _has_more(log: Path) -> bool:
    """Return whether a log has anything but frames of its own and of earlier logs. Each log
    increments the first salt by one, which shows the earlier ones."""
    with log.open("rb") as handle:
        size, salt, _ = _header(handle) or (0, 0, 0)
        end = handle.seek(0, os.SEEK_END)
        for at in range(_HEADER.size, end, _FRAME.size + size) if size else ():
            handle.seek(at)
            text = handle.read(_FRAME.size)
            page, _, found, _ = _FRAME.unpack(text) if len(text) == _FRAME.size else (0, 0, 0, 0)
            if not 0 < page < _MOST_PAGES or (salt - found) & _WORD > _MOST_LOGS:
                return True
    return False


def is_index(index: Path) -> bool:
    """Return whether the index of a log has only what SQLite writes there: the same head twice, and
    numbers of pages and frames. Another process may write meanwhile."""
    for attempt in range(_TRIES):
        sleep(_PAUSE * bool(attempt))
        with ExitStack() as stack, suppress(FileNotFoundError):
            handle = descriptor(index, stack)
            size = os.fstat(handle).st_size
            found = [os.pread(handle, _BYTES, at) for at in range(0, size, _BYTES)]
            if not all(_is_block(text, _HEADS if at == 0 else 0) for at, text in enumerate(found)):
                continue
        return True
    return False


def _is_block(text: bytes, head: int) -> bool:
    """Return whether a block of an index lists pages and frames, after a head of ``head`` bytes, or
    is empty. ``head`` is 0 for a block without one."""
    pages, frames = text[head : _PAGES * 4], text[_PAGES * 4 :]
    numbers = struct.unpack(f"={len(pages) // 4}I", pages[: len(pages) // 4 * 4])
    places = struct.unpack(f"={len(frames) // 2}H", frames[: len(frames) // 2 * 2])
    size = _HEAD.size
    first, second, rest = text[:size], text[size : 2 * size], text[2 * size : head]
    is_same = first == second and not any(rest[24:32] + rest[36:])  # but for locks, which are empty
    return (
        (is_same or not head)
        and max(numbers, default=0) < _MOST_PAGES
        and max(places, default=0) <= _PAGES
    )


def _is_damaged(log: Path) -> bool:
    with log.open("rb") as handle:
        first = handle.read(_HEADER.size)
        if len(first) < _HEADER.size:
            return False  # another process has cut the log meanwhile
        order = "<" if first[:4] == _LOG_MAGIC[0].to_bytes(4) else ">"
        sums = _added((0, 0), first[:24], order)
        is_read = sums == struct.unpack(">II", first[24:])
        for frame in _frames(handle):
            handle.seek(frame.offset - _FRAME.size)
            text = handle.read(length := _FRAME.size + int.from_bytes(first[8:12]))
            if len(text) < length:
                return False
            sums = _added(sums, text[:8] + text[_FRAME.size :], order)
            is_read = is_read and sums == struct.unpack(">II", text[16 : _FRAME.size])
            if frame.is_commit and not is_read:
                return True
    return False


def _added(sums: tuple[int, int], text: bytes, order: str) -> tuple[int, int]:
    """Add a text to the checksums of a log's frames."""
    one, two = sums
    words = struct.unpack(f"{order}{len(text) // 4}I", text)
    for first, second in zip(words[::2], words[1::2], strict=True):
        one = (one + first + two) & _WORD
        two = (two + second + one) & _WORD
    return one, two


def last_commit(log: Path) -> int:
    """Return the number of frames up to the last one that ends a commit."""
    if not log.exists():
        return 0
    with log.open("rb") as handle:
        numbered = enumerate(_frames(handle), 1)
        return max((number for number, frame in numbered if frame.is_commit), default=0)


def pages(log: Path) -> dict[int, int]:
    """Return, by page number, the offset of the last committed state of each page in a log; empty
    without a log. Raises ``OSError``."""
    found, pending = dict[int, int](), dict[int, int]()
    with suppress(FileNotFoundError), log.open("rb") as handle:
        for frame in _frames(handle):
            pending[frame.page] = frame.offset
            if frame.is_commit:
                found |= pending
                pending.clear()
    return found


def head(path: Path) -> bytes:
    """Return the first 100 bytes of a database after its last commit; none if it is empty or
    missing. Raises ``OSError``."""
    log = path.with_name(f"{path.name}-wal")
    if (offset := pages(log).get(1)) is not None:
        with log.open("rb") as handle:
            handle.seek(offset)
            text = handle.read(_HEAD_BYTES)
            if len(text) == _HEAD_BYTES:  # else the log was truncated, and the file has everything
                return text
    with ExitStack() as stack:
        return os.pread(descriptor(path, stack), _HEAD_BYTES, 0) if path.exists() else b""


def descriptor(path: Path, stack: ExitStack) -> int:
    """Return a descriptor for reading a file. If this process already has the file open, return
    that descriptor: closing a second one would release the process's locks on a database, and these
    locks keep other processes from removing its log. Raises ``OSError``."""
    status = path.stat()
    with suppress(OSError):
        for each in Path("/dev/fd").iterdir():
            with suppress(OSError):
                if os.path.samestat(os.fstat(int(each.name)), status):
                    return int(each.name)
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    stack.callback(os.close, handle)
    return handle


def copy_with_log(path: Path, log: Path, copy: Path) -> None:
    """Copy a database with all commits of its log, even if frames are damaged."""
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


def truncate_log(path: Path, index: Index) -> None:
    """Truncate the log of an open database after the last valid commit.

    A commit whose sync failed may follow it and look whole. SQLite would accept that commit when
    the database is opened again. Raises ``OSError``.
    """
    counted = index.counted()
    if counted is None:
        return
    end = _HEADER.size + counted.frames * (_FRAME.size + counted.page)
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
    """Return the page size and the two salts; ``None`` if this is not the header of a log."""
    handle.seek(0)
    text = handle.read(_HEADER.size)
    if len(text) < _HEADER.size:
        return None
    magic, _, size, _, *salts = _HEADER.unpack(text)
    if magic not in _LOG_MAGIC or not 512 <= size <= 65536 or size & (size - 1):
        return None
    return size, salts[0], salts[1]


def _frames(handle: IO[bytes]) -> Iterator[_Frame]:
    """Yield the whole frames of this log, without those that an earlier log left."""
    header = _header(handle)
    if header is None:
        return
    size, *salts = header
    end = handle.seek(0, os.SEEK_END)
    for at in range(_HEADER.size, end - _FRAME.size - size + 1, _FRAME.size + size):
        handle.seek(at)
        text = handle.read(_FRAME.size)
        if len(text) < _FRAME.size:
            return  # another process has cut the log meanwhile
        page, pages, *found = _FRAME.unpack(text)
        if found == salts:
            yield _Frame(page, pages > 0, at + _FRAME.size)
