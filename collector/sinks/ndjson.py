"""Records in files: NDJSON, synced before a batch counts as delivered, and rotated by size.

The name of each file consists of the configured path and a number, never of data.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from itertools import chain
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field

from collector.config.sink_settings import SinkSettings
from collector.config.values import Location, Size, Whole
from collector.contracts import Batch, Record, Removal, added
from collector.errors import ConfigError, DeliveryError, InUse
from collector.files import check_file, failing_as, lock_file, make_directory, sync
from collector.filter.redaction import Rule, matching
from collector.filter.stored import Values, foreign_lines, values
from collector.sinks.record_files import (
    FileLock,
    Mark,
    Marks,
    all_pieces,
    files_of,
    lines,
    remove_unfinished,
    rewrite,
    rotate,
    unfinished_files,
)
from collector.sinks.sink import ErasableSink, Guarantee, Opening, Sink, shuffled

BEGIN = b'{"schema":"'
"""The first bytes of each line."""
_FOREIGN = "the file holds something else than records; name another"
_IN_USE = "the file for records is in use by another process"
_ROTATE = 64 << 20
_LONGEST_LINE = 1 << 20
_KEEP = 8


class NdjsonFile(Sink):
    """A file to which batches are appended, one record a line, with ``received`` at its end.

    When ``deliver`` returns, the batches are on disk. A batch is stored once by its id, as long as
    the id is among the newest 256. A state file, ``NAME.state``, has these ids and the length up to
    which the file is whole; after a crash, anything beyond that length is truncated. Before the
    file would exceed ``rotate`` bytes, it is renamed to ``NAME.1``, ``NAME.1`` to ``NAME.2``, and
    so on; ``keep`` of these are kept. Lines that arrive together are in random order. For one
    thread at a time. The file belongs to one process, or to several that open it as ``shared``.

    Raises ``ConfigError`` E203 if the path cannot be used, the file holds anything but records, or
    another process writes there.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        rotate: int = _ROTATE,
        keep: int = _KEEP,
        shared: bool = False,
    ) -> None:
        self.path: Path = Path(path)
        self._rotate = rotate
        self._keep = keep
        self._file = -1
        self._length = 0
        self._ids: deque[bytes] = deque(maxlen=Mark.MOST_IDS)
        self._lock = FileLock(_open_state(self.path), shared=shared)
        self._marks = Marks(self._lock.handle)
        message = _IN_USE
        try:
            with self._lock as is_locked:
                if is_locked:
                    self._open()
                    return
        except OSError:
            message = "the file for records cannot be read; check its permissions"
        self._lock.close()
        raise ConfigError("E203", message)

    def __repr__(self) -> str:
        return f"<NdjsonFile of {self._length} bytes>"

    def deliver(self, *batches: Batch) -> None:
        """Append new batches durably. Raises ``DeliveryError`` E503."""
        found = {_key(batch.id): lines(batch) for batch in batches}
        with self._locked():
            self._reopen()
            known = set(self._ids)
            new = {key: each for key, each in found.items() if key not in known}
            try:
                if new:
                    self._append(new.keys(), b"".join(shuffled(list(chain(*new.values())))))
            except OSError:
                self._truncate()
                raise

    def rewrite(self, rules: Sequence[Rule], path: Path) -> list[Removal]:
        """Rewrite the file, or a finished one, by rules; return what each rule has removed. A
        rewritten file is a new file. Raises ``DeliveryError`` E503; then the file is unchanged."""
        with self._locked():
            if path != self.path:
                done = rewrite(path, rules) if path.exists() else [Removal() for _ in rules]
            else:
                self._close_file()
                self._open()
                done = rewrite(path, rules, self._note)
                self._close_file()
                self._open()
            sync(path.parent)
        return done

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep other processes from writing during the block. Raises ``DeliveryError`` E503, also
        for errors of the disk."""
        refused = DeliveryError(
            "E503", "the file did not take the batch; is the disk full or in use?"
        )
        with self._lock as is_locked, failing_as(refused):
            if not is_locked:
                raise refused
            yield

    def close(self) -> None:
        """Close the file. Delivered batches are on disk already."""
        self._close_file()
        self._lock.close()

    def _note(self, inode: int, length: int) -> None:
        self._marks.set(Mark(inode, length, tuple(self._ids)))

    def _reopen(self) -> None:
        """Open the file again if it was closed, or another process has written."""
        try:
            if self._file < 0 or (self._lock.shared and self._has_changed()):
                self._close_file()
                self._open()
        except OSError:
            self._close_file()
            raise

    def _has_changed(self) -> bool:
        """Return whether another process has written since this one did. Always read its marks, so
        that our mark gets the next number."""
        found = self.path.stat()
        mark = self._marks.get(found.st_ino, found.st_size)
        return (mark.inode, mark.length) != (_inode(self._file), self._length)

    def _append(self, keys: Iterable[bytes], data: bytes) -> None:
        if self._length and self._length + len(data) > self._rotate:
            self._rotate_files()
        _write(self._file, data, self._length)
        os.fsync(self._file)
        ids = deque([*self._ids, *keys], maxlen=Mark.MOST_IDS)
        self._marks.set(Mark(_inode(self._file), self._length + len(data), tuple(ids)))
        self._ids = ids
        self._length += len(data)

    def _open(self) -> None:
        """Open the file; truncate what an interrupted write left."""
        remove_unfinished(self.path)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        file = os.open(self.path, flags, 0o600)
        try:
            with suppress(PermissionError):
                os.fchmod(file, 0o600)
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

    def _rotate_files(self) -> None:
        """Rename the file, and open a new one."""
        self._close_file()
        rotate(self.path, self._keep)
        self._open()

    def _truncate(self) -> None:
        """Truncate a partly written batch, and close the file. The next batch reopens it."""
        if self._file >= 0:
            with suppress(OSError):
                os.ftruncate(self._file, self._length)
        self._close_file()

    def _close_file(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def _key(id_: bytes) -> bytes:
    return hashlib.sha256(id_).digest()[: Mark.ID_BYTES]


def _write(file: int, data: bytes, offset: int) -> None:
    left = memoryview(data)
    while left:
        written = os.pwrite(file, left, offset)
        left, offset = left[written:], offset + written


def _inode(file: int) -> int:
    return os.fstat(file).st_ino


def _is_ours(path: Path) -> bool:
    """Return whether a file contains records or is empty. In any other file, all lines would sooner
    or later be deleted as unreadable."""
    with path.open("rb") as file:
        return file.read(len(BEGIN)) in (b"", BEGIN)


def _open_state(path: Path) -> int:
    """Open the state file; create its directory if it does not exist. If the path is a directory, a
    device or anything else that is not a file, create and change nothing."""
    check_file(path, ".state")
    try:
        if path.is_file() and not _is_ours(path):
            raise ConfigError("E203", _FOREIGN)
        make_directory(path.parent)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        return os.open(path.with_name(f"{path.name}.state"), flags, 0o600)
    except OSError:
        pass
    raise ConfigError("E203", "the file for records cannot be made; check its directory")


_KIB, _MIB, _GIB = 1 << 10, 1 << 20, 1 << 30


class NdjsonSettings(SinkSettings):
    """Records as lines of JSON."""

    path: Location = Field(
        None, description="The file that records are written to. Without it the sink is off."
    )
    rotate: Annotated[Size, Field(ge=_KIB, le=1024 * _GIB)] = Field(
        _ROTATE, description="The size at which the next file begins."
    )
    keep: Annotated[Whole, Field(ge=1, le=1000)] = Field(
        _KEEP, description="How many finished files to keep; older ones are deleted."
    )

    @property
    def is_on(self) -> bool:
        """Whether records go there."""
        return self.path is not None

    @property
    def is_local(self) -> bool:
        """Always true: the file is on this machine."""
        return True

    def place(self, directory: Path) -> str:
        """Name the file."""
        return str(self.path)

    def files(self) -> Mapping[str, Path]:
        """Return the file."""
        return {} if self.path is None else {"path": self.path}

    def moved(self, directory: Path) -> NdjsonSettings:
        """Return the same settings with a file in another directory."""
        return self.model_copy(update={"path": directory / "records.ndjson"})


class NdjsonSink(ErasableSink):
    """Files of records as a type of sinks."""

    Settings: ClassVar[type[SinkSettings]] = NdjsonSettings
    guarantee: ClassVar[Guarantee] = "once"
    is_shared = True
    unit = "lines"
    late: ClassVar[timedelta] = timedelta(hours=26)
    prune_seconds: ClassVar[float] = 24 * 3600.0
    """Once a day, because pruning rewrites a file whole, however little it removes."""

    def __init__(self, settings: NdjsonSettings, opening: Opening) -> None:
        self.settings = settings
        self.opening = opening
        self._path: Path = settings.path or opening.directory / "records.ndjson"
        self._open_file: NdjsonFile | None = None
        if not opening.is_offline:
            make_directory(self._path.parent, within=opening.data)
            self._open_file = NdjsonFile(
                self._path,
                rotate=settings.rotate,
                keep=settings.keep,
                shared=opening.is_shared,
            )

    @classmethod
    def check(cls, settings: NdjsonSettings, opening: Opening) -> None:
        """Check the file and those beside it, and whether another process writes there."""
        path = settings.path or opening.directory / "records.ndjson"
        check_file(path, ".state", ".1000.new", within=opening.data)
        is_ours = has_lock = True
        with suppress(OSError):
            is_ours = not path.exists() or _is_ours(path)
            for found in unfinished_files(path):
                check_file(found)
            with path.with_name(f"{path.name}.state").open("rb") as state:
                has_lock = lock_file(state.fileno())
        if not is_ours:
            raise ConfigError("E203", _FOREIGN)
        if not has_lock:
            raise InUse("E203", _IN_USE)

    def deliver(self, *batches: Batch) -> None:
        """Append the batches durably, each once; prune when pruning is due."""
        if self._open_file is None:
            raise DeliveryError("E503", "the sink is open for a command, not for delivery")
        self._open_file.deliver(*batches)
        self.idle()

    def close(self) -> None:
        """Close the file."""
        if self._open_file is not None:
            self._open_file.close()

    @property
    def exists(self) -> bool:
        """Whether there is a file."""
        return bool(files_of(self._path))

    @property
    def is_ours(self) -> bool:
        """Whether each file begins with a record."""
        return self.exists and all(map(_is_ours, files_of(self._path)))

    @property
    def others(self) -> int:
        """Count the lines that Collector would write differently. Raises ``DeliveryError`` for a
        line that is not a record."""
        return sum(map(foreign_lines, self._pieces()))

    def settle(self) -> None:
        """Cut off a partly written record at the end, unless another process writes."""
        state = self._path.with_name(f"{self._path.name}.state")
        with suppress(OSError), self._path.open("r+b") as file, state.open("rb") as lock:
            start = file.seek(max(0, file.seek(0, os.SEEK_END) - _LONGEST_LINE))
            text = file.read()
            torn = text.rpartition(b"\n")[2]
            if torn.startswith(b'{"schema":"') and lock_file(lock.fileno()):
                file.truncate(start + len(text) - len(torn))

    def scan(self, rule: Rule) -> Iterator[tuple[str, Record]]:
        """Yield records as they are."""
        for piece in self._pieces():
            for record in matching(piece, rule):
                yield self.opening.name, record

    def values(self) -> Iterator[Values]:
        """Yield the values of each piece. Raises ``DeliveryError`` for a line that is no record."""
        return chain.from_iterable(map(values, self._pieces()))

    def _pieces(self) -> Iterator[bytes]:
        """Read all files. Raises ``DeliveryError`` E503."""
        message = "the files of records cannot be read; check their permissions"
        with failing_as(DeliveryError("E503", message)):
            yield from all_pieces(self._path)

    def rewrite(self, rules: Sequence[Rule]) -> list[Removal]:
        """Rewrite all files; delete unreadable lines that rules may concern. Raises
        ``DeliveryError`` E503; some files may be rewritten by then."""
        total = [Removal() for _ in rules]
        if self.exists:
            with self._opened() as file:
                for path in files_of(self._path):
                    done = file.rewrite(rules, path)
                    total = added(total, done)
        return total

    def steps(self, rule: Rule) -> Iterator[Removal]:
        """Rewrite one file after the other by rising numbers, because rotation meanwhile increases
        them. The last removal is not swept if a file could not be rewritten."""
        done = rewritten = 0
        with self._opened() as file:
            while left := files_of(self._path)[done:]:
                removal, done = Removal(), done + 1
                with suppress(DeliveryError):
                    (removal,) = file.rewrite([rule], left[0])
                    rewritten += 1
                yield removal
        yield Removal(is_swept=rewritten == done)

    @contextmanager
    def _opened(self) -> Iterator[NdjsonFile]:
        if self._open_file is not None:
            yield self._open_file
        else:
            with NdjsonFile(self._path, shared=self.opening.is_shared) as file:
                yield file
