"""Files of records on disk: their names, the state file beside them, rotation and rewriting.

The state file has a lock, and room for two marks. A mark states up to which length the file of
records is whole, and which batches are in it. The marks are written alternately, so that one is
always whole, even if writing the other is interrupted.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from time import monotonic, sleep
from typing import BinaryIO, ClassVar

from collector.contracts import Batch, Removal, added
from collector.errors import DeliveryError
from collector.files import lock_file
from collector.filter.redaction import Rule, redact

_HEAD = struct.Struct(">QQQI")
_SUM_BYTES = 32
_ROOM = 8192
_LOCK_SECONDS = 5.0
_LOCK_PAUSE = 0.01
_DIRECTORY_SECONDS = 20.0
_MOST_NUMBER = 1000
"""Files with a higher number are not ours; the number may be a date."""
_PIECE = 1 << 20
_TRIES = 100
_MOST_OPEN = 200


class FileLock:
    """The lock of an open file, which ``close`` closes.

    Entering the context returns whether this process has the lock. With ``shared``, it waits for
    the lock for up to five seconds, and releases it after each block; otherwise it does not wait,
    and never releases it.
    """

    def __init__(self, handle: int, *, shared: bool) -> None:
        self.handle: int = handle
        self.shared = shared

    def __repr__(self) -> str:
        return f"<FileLock, {'shared' if self.shared else 'exclusive'}>"

    def __enter__(self) -> bool:
        deadline = monotonic() + (_LOCK_SECONDS if self.shared else 0)
        while not lock_file(self.handle):
            if monotonic() >= deadline:
                return False
            sleep(_LOCK_PAUSE)
        return True

    def __exit__(self, *_: object) -> None:
        if self.shared:
            fcntl.flock(self.handle, fcntl.LOCK_UN)

    def close(self) -> None:
        """Release the lock, and close the file."""
        if self.handle >= 0:
            os.close(self.handle)
            self.handle = -1


@contextmanager
def locked_directory(path: Path) -> Iterator[None]:
    """Keep other processes and threads out of such a block for the same directory. On a file system
    without such locks, this does not lock.

    Raises ``DeliveryError`` E503 if another process holds the lock for too long, and ``OSError``.
    """
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        deadline = monotonic() + _DIRECTORY_SECONDS
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if monotonic() < deadline:
                    sleep(_LOCK_PAUSE)
                    continue
                message = "another process changes files in the directory all the time"
                raise DeliveryError("E503", message, "busy") from None
            except OSError:
                pass
            break
        yield
    finally:
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_UN)  # a child process may have the file open too
        os.close(handle)


@dataclass(frozen=True, slots=True)
class Mark:
    """States that the file with this inode is whole up to this length, and that it or an earlier
    file has these batches (hashes of their ids)."""

    MOST_IDS: ClassVar[int] = 256
    ID_BYTES: ClassVar[int] = 16

    inode: int = 0
    length: int = 0
    ids: tuple[bytes, ...] = ()


class Marks:
    """The two marks in an open file. Methods raise ``OSError``."""

    def __init__(self, handle: int) -> None:
        self._handle = handle
        self._number = 1

    def get(self, inode: int, size: int) -> Mark:
        """Return the newest mark. If it states a greater length than the file has, its write was
        not completed; then return the mark before it."""
        found = sorted(filter(None, map(self._read, (0, 1))), key=itemgetter(0))
        self._number = found[-1][0] + 1 if found else 1
        while found:
            number, mark = found.pop()
            if mark.inode != inode or mark.length <= size:
                self._number += self._number % 2 == number % 2  # overwrite the other one
                return mark
        return Mark(inode, size)

    def set(self, mark: Mark) -> None:
        """Overwrite the older mark, and sync the new one."""
        head = _HEAD.pack(self._number, mark.inode, mark.length, len(mark.ids))
        text = head + b"".join(mark.ids)
        text += hashlib.sha256(text).digest()
        if os.pwrite(self._handle, text.ljust(_ROOM, b"\0"), _ROOM * (self._number % 2)) < _ROOM:
            raise OSError
        os.fsync(self._handle)
        self._number += 1

    def _read(self, place: int) -> tuple[int, Mark] | None:
        text = os.pread(self._handle, _ROOM, _ROOM * place)
        if (end := _end(text)) is None:
            return None
        order, inode, length, _ = _HEAD.unpack_from(text)
        ids = (text[at : at + Mark.ID_BYTES] for at in range(_HEAD.size, end, Mark.ID_BYTES))
        return order, Mark(inode, length, tuple(ids))


def _end(text: bytes) -> int | None:
    """Return where the ids of a whole mark end; ``None`` if the text has no whole mark."""
    if len(text) < _HEAD.size:
        return None
    number = _HEAD.unpack_from(text)[3]
    end: int = _HEAD.size + number * Mark.ID_BYTES
    if number > Mark.MOST_IDS or hashlib.sha256(text[:end]).digest() != text[end:][:_SUM_BYTES]:
        return None
    return end


def has_only_marks(path: Path) -> bool:
    """Return whether a state file consists of marks. Raises ``OSError``."""
    with path.open("rb") as file:
        text = file.read(2 * _ROOM + 1)
    rooms = [text[at : at + _ROOM] for at in (0, _ROOM)]
    ends = [-_SUM_BYTES if (end := _end(room)) is None else end for room in rooms]
    return len(text) <= 2 * _ROOM and not any(
        any(room[end + _SUM_BYTES :]) for room, end in zip(rooms, ends, strict=True)
    )


def lines(batch: Batch) -> list[bytes]:
    """Return the records, one a line, with ``received`` at the end. Records are flat objects and
    never empty.

    Raises ``DeliveryError`` E503 for a batch without a payload, which is not from a spool.
    """
    if batch.given and not batch.payload:
        raise DeliveryError("E503", "only batches with a payload can be written as lines")
    end = b',"received":"' + batch.received.encode() + b'"}\n'
    return [line[:-1] + end for line in batch.payload.split(b"\n")[:-1]]


def files_of(path: Path) -> list[Path]:
    """Return the existing files of records at a path: the current one, then finished ones from the
    newest, including those beyond the limit."""
    return [*([path] if path.exists() else []), *(each for _, each in _finished(path))]


def rotate(path: Path, keep: int) -> None:
    """Rename a file to number 1, increase the numbers of finished ones, and keep only ``keep`` of
    them. Raises ``OSError`` if the file cannot be renamed."""
    for number, old in _finished(path):
        if keep <= number <= _MOST_NUMBER:
            with suppress(OSError):
                old.unlink()
    for number in range(keep - 1, 0, -1):
        with suppress(FileNotFoundError):
            _numbered(path, number).rename(_numbered(path, number + 1))
    path.rename(_numbered(path, 1))


def _finished(path: Path) -> list[tuple[int, Path]]:
    begin = f"{path.name}."
    names = [found.name for found in path.parent.iterdir()] if path.parent.is_dir() else []
    ends = [name.removeprefix(begin) for name in names if name.startswith(begin)]
    return sorted((int(end), _numbered(path, end)) for end in ends if end.isdecimal())


def _numbered(path: Path, number: int | str) -> Path:
    return path.with_name(f"{path.name}.{number}")


def unfinished(path: Path) -> Path:
    """Return the path of a rewritten file until it is whole."""
    return path.with_name(f"{path.name}.new")


def remove_unfinished(path: Path) -> None:
    """Delete the remains of interrupted rewriting, including those of numbered files."""
    for found in unfinished_files(path):
        found.unlink(missing_ok=True)


def unfinished_files(path: Path) -> list[Path]:
    """Return the remains of interrupted rewriting. Raises ``OSError``."""
    is_ours = re.compile(re.escape(path.name) + r"(\.[0-9]+)?\.new").fullmatch
    return [found for found in path.parent.iterdir() if is_ours(found.name)]


def rewrite(
    path: Path, rules: Sequence[Rule], ready: Callable[[int, int], None] = lambda *_: None
) -> list[Removal]:
    """Rewrite a file by rules, and return what each has removed. If they remove nothing, the file
    stays untouched. ``ready`` gets the new file's inode and length before it replaces the old one.

    Raises ``OSError``; then the file is unchanged.
    """
    unfinished(path).unlink(missing_ok=True)
    total, flags = [Removal() for _ in rules], os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    with ExitStack() as stack:
        new, passed = None, 0
        for piece in pieces(path):
            left, done = redact(piece, rules)
            total = added(total, done)
            if new is None and any(done):
                handle = os.open(unfinished(path), flags | os.O_CLOEXEC, 0o600)
                new = stack.enter_context(os.fdopen(handle, "wb"))
                with path.open("rb") as old:
                    while passed and (same := old.read(min(passed, _PIECE))):
                        new.write(same)
                        passed -= len(same)
            if new is not None:
                new.write(left)
            passed += len(piece)
        if new is not None:
            new.flush()
            os.fsync(new.fileno())
            ready(os.fstat(new.fileno()).st_ino, new.tell())
    if new is not None:
        unfinished(path).rename(path)
    return total


def pieces(path: Path) -> Iterator[bytes]:
    """Yield a file in pieces of whole lines; the last line may have no end."""
    with path.open("rb") as file:
        yield from _pieces(file)


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    while piece := file.read(_PIECE):
        yield piece + file.readline()


def all_pieces(path: Path) -> Iterator[bytes]:
    """Yield all files of records at a path in pieces, as of one moment, because another process may
    rename them meanwhile. Open all of them at once. If there are too many, open only the newest at
    once, and check at the end that the others were not renamed. Raises ``OSError``."""
    for attempt in range(_TRIES):
        sleep(_LOCK_PAUSE * bool(attempt))
        with ExitStack() as stack:
            found = files_of(path)
            try:
                files = [stack.enter_context(each.open("rb")) for each in found[:_MOST_OPEN]]
                more = {each: each.stat().st_ino for each in found[_MOST_OPEN:]}
                is_same = all(map(_is_at, files, found)) and found == files_of(path)
            except FileNotFoundError:
                continue
            if is_same:
                for file in files:
                    yield from _pieces(file)
                for each in more:
                    yield from pieces(each)
                if any(each.stat().st_ino != inode for each, inode in more.items()):
                    break
                return
    raise OSError("another process renames the files all the time")


def _is_at(file: BinaryIO, path: Path) -> bool:
    return os.path.samestat(os.fstat(file.fileno()), path.stat())
