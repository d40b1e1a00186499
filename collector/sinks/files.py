"""Records in files: NDJSON, synced before a batch counts as delivered, and rotated by size.

Every name of a file is made of the configured path and a number, never of data.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import chain
from pathlib import Path

from collector.contracts import Batch, Closing
from collector.directory import sync
from collector.errors import ConfigError, DeliveryError
from collector.sinks.lines import BEGIN, lines
from collector.sinks.mark import Mark, Marks
from collector.sinks.order import shuffled
from collector.sinks.rewriting import Change, remove_unfinished, rewrite
from collector.sinks.rotation import files_of, rotate
from collector.sinks.rounds import Rounds
from collector.sinks.turn import Turn

__all__ = ["NdjsonFile", "files_of"]

_ROTATE = 64 << 20
_KEEP = 8


class NdjsonFile(Closing):
    """A file that batches are appended to, one record a line, with ``received`` at its end.

    Batches are on disk, whole, when ``deliver`` returns, and each is taken once by its id, as long
    as it is among the newest 256: beside the file lies a small one, ``NAME.state``, that knows them
    and the length up to which the file is whole; what is beyond after a crash is cut off. Once the
    file would grow beyond ``rotate`` bytes it becomes ``NAME.1``, that ``NAME.2``, and so on; of
    these, ``keep`` stay. Lines that come together are in random order. For one thread at a time.
    The file belongs to one process, or to several that have it open as ``shared``, in turn.

    ``prune`` is a change for what is older than it may be: once a day, one file after the other.
    ``pruned`` is told how many lines that concerned, if there were some.

    Raises ``ConfigError`` E203 when the path cannot be used, holds something else than records, or
    another process writes there.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        rotate: int = _ROTATE,
        keep: int = _KEEP,
        shared: bool = False,
        prune: Change | None = None,
        pruned: Callable[[int], None] | None = None,
    ) -> None:
        self.path: Path = Path(path)
        self._rotate = rotate
        self._keep = keep
        self._file = -1
        self._length = 0
        self._ids: deque[bytes] = deque(maxlen=Mark.MOST_IDS)
        self._rounds = None if prune is None else Rounds(self.path, prune, pruned)
        self._turn = Turn(_prepared(self.path), shared=shared)
        self._marks = Marks(self._turn.handle)
        message = "the file for records is in use by another process"
        try:
            with self._turn as is_ours:
                if is_ours:
                    self._open()
                    return
        except OSError:
            message = "the file for records cannot be read; check its permissions"
        self._turn.close()
        raise ConfigError("E203", message)

    def __repr__(self) -> str:
        return f"<NdjsonFile of {self._length} bytes>"

    @property
    def is_held(self) -> bool:
        """Whether something that is to be gone could not be taken out yet."""
        return self._rounds is not None and self._rounds.is_held

    def deliver(self, *batches: Batch) -> None:
        """Append the batches durably, but those that are there; raises ``DeliveryError`` E508.

        They must be out of a spool: records are written as they lie there.
        """
        found = {_key(batch): lines(batch) for batch in batches}
        with self._turn as is_ours:
            is_done = is_ours and self._take(found)
        if not is_done:
            raise _refused()
        if self._rounds is not None:
            self._rounds.go_on(self._revise)

    def revise(self, change: Change) -> int:
        """Take out of all files, finished ones too, what is to go; from how many records.

        Whoever follows a file sees a new one. Raises ``DeliveryError`` E508, and then some may have
        less in them already.
        """
        return sum(self._revise(path, change) for path in files_of(self.path))

    def close(self) -> None:
        """Close the file. What was delivered is on disk already."""
        self._drop()
        self._turn.close()

    def _revise(self, path: Path, change: Change) -> int:
        number = None
        with self._turn as is_ours, suppress(OSError):
            if is_ours and path != self.path:
                number = rewrite(path, change) if path.exists() else 0
            elif is_ours:
                self._drop()
                self._open()
                number = rewrite(path, change, self._note)
                self._drop()
                self._open()
            sync(path.parent)
        if number is None:
            raise _refused()
        return number

    def _note(self, inode: int, length: int) -> None:
        self._marks.set(Mark(inode, length, tuple(self._ids)))

    def _take(self, found: dict[bytes, list[bytes]]) -> bool:
        """Append what is not there yet; ``False`` if the disk does not let us."""
        try:
            if self._file < 0 or (self._turn.shared and self._has_changed()):
                self._drop()
                self._open()
        except OSError:
            self._drop()
            return False
        new = {key: each for key, each in found.items() if key not in self._ids}
        try:
            if new:
                self._append(new.keys(), b"".join(shuffled(list(chain(*new.values())))))
        except OSError:
            self._take_back()
            return False
        return True

    def _has_changed(self) -> bool:
        """Whether another process has written since we did. Its marks are read in any case, so that
        ours is the next one."""
        found = self.path.stat()
        mark = self._marks.get(found.st_ino, found.st_size)
        return (mark.inode, mark.length) != (_inode(self._file), self._length)

    def _append(self, keys: Iterable[bytes], data: bytes) -> None:
        if self._length and self._length + len(data) > self._rotate:
            self._begin_anew()
        _write(self._file, data, self._length)
        os.fsync(self._file)
        ids = deque([*self._ids, *keys], maxlen=Mark.MOST_IDS)
        self._marks.set(Mark(_inode(self._file), self._length + len(data), tuple(ids)))
        self._ids = ids
        self._length += len(data)

    def _open(self) -> None:
        """Open the file where it is whole; what a crash has left beyond is cut off."""
        remove_unfinished(self.path)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        file = os.open(self.path, flags, 0o600)
        try:
            inode, size = _inode(file), os.fstat(file).st_size
            mark = self._marks.get(inode, size)
            length = mark.length if mark.inode == inode else size
            if length < size:
                os.ftruncate(file, length)
                os.fsync(file)
            self._marks.set(Mark(inode, length, mark.ids))
            sync(self.path.parent)
        except BaseException:
            os.close(file)
            raise
        self._file, self._length = file, length
        self._ids = deque(mark.ids, maxlen=Mark.MOST_IDS)

    def _begin_anew(self) -> None:
        """Finish the file, and open a new one."""
        self._drop()
        rotate(self.path, self._keep)
        self._open()

    def _take_back(self) -> None:
        """Cut off what was written of a batch; the file is opened again for the next one."""
        if self._file >= 0:
            with suppress(OSError):
                os.ftruncate(self._file, self._length)
        self._drop()

    def _drop(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def _refused() -> DeliveryError:
    return DeliveryError("E508", "the file did not take the batch; is the disk full or in use?")


def _key(batch: Batch) -> bytes:
    return hashlib.sha256(batch.id).digest()[: Mark.ID_BYTES]


def _write(file: int, data: bytes, offset: int) -> None:
    left = memoryview(data)
    while left:
        written = os.pwrite(file, left, offset)
        left, offset = left[written:], offset + written


def _inode(file: int) -> int:
    return os.fstat(file).st_ino


def _is_ours(path: Path) -> bool:
    """Whether a file holds records, or nothing. Of another, every line would go: what cannot be
    read as a record is deleted sooner or later."""
    with path.open("rb") as file:
        return file.read(len(BEGIN)) in (b"", BEGIN)


def _prepared(path: Path) -> int:
    """The handle of the small file beside; its directory is made if it is not there."""
    try:
        if path.is_file() and not _is_ours(path):
            raise ConfigError("E203", "the file holds something else than records; name another")
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        return os.open(path.with_name(f"{path.name}.state"), flags, 0o600)
    except OSError:
        pass
    raise ConfigError("E203", "the file for records cannot be made; check its directory")
