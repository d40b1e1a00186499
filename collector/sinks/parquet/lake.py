"""Write the Parquet files of a lake, read their columns, and rewrite them without some values.

A file has the records of one schema and hour: ``SCHEMA/day=YYYY-MM-DD/HH-ID.parquet``. Its metadata
has our mark. A file is rewritten row group by row group, and then replaced as a whole under the
same key, so that a reader sees either the old file or the new one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from datetime import timedelta
from itertools import chain
from typing import IO, TYPE_CHECKING, NamedTuple

from collector.arrow.mark import MARK
from collector.arrow.process import ParquetFile, ReaderProcess, Statistics, no_room
from collector.contracts import Layout, Part, Record, Removal, count_lines
from collector.errors import DeliveryError, UnreadableBatch, UnreadableFile
from collector.files import failing_as, make_directories
from collector.filter.stored import Values, records_in
from collector.sinks.parquet.object_store import Objects, written

if TYPE_CHECKING:
    import pyarrow as pa

_KEY = re.compile(
    r"([A-Za-z0-9][A-Za-z0-9_.-]{0,100})/day=([0-9]{4}-[0-9]{2}-[0-9]{2})/([0-9]{2})-[0-9a-f]{32}"
    r"\.parquet",
    re.ASCII,
).fullmatch
_DIRECTORY = re.compile(r"[^/]+(/day=[0-9]{4}-[0-9]{2}-[0-9]{2})?", re.ASCII).fullmatch
_TRIES = 5
_MOST_SQUARES = 14 << 30
"""The most records times columns times columns: a row group has a million values or more, and the
end of a file may describe 16,000 columns of row groups."""
_TAKEN = "another file is in the place of one of the lake: look at it, and remove it"


class FileKey(NamedTuple):
    """The key of a file, and what the key says: the name of the schema, and the first and the last
    minute at which the records can have been received."""

    text: str
    schema: str
    first: str
    last: str

    @classmethod
    def of(cls, text: str) -> FileKey | None:
        """Return the key, or ``None`` for one that is not ours."""
        found = _KEY(text)
        if found is None:
            return None
        hour = f"{found[2]}T{found[3]}"
        return cls(text, found[1], f"{hour}:00:00Z", f"{hour}:59:00Z")


def most_bytes(layout: Layout) -> int:
    """Return how many bytes of records may become one file. The end of the file describes each
    column of each row group, so more columns allow fewer row groups."""
    shortest = min((len(name) for name, _ in layout.columns), default=0)
    line = len(f'{{"schema":"{layout.schema}","":0}}\n') + shortest
    return line * _MOST_SQUARES // (len(layout.columns) + 3) ** 2


class Lake:
    """The files of one lake."""

    def __init__(self, objects: Objects) -> None:
        self.objects = objects
        self._known: dict[str, Statistics] = {}
        self._reader = ReaderProcess()

    def close(self) -> None:
        """Release the process that reads files."""
        self._reader.close()

    def __repr__(self) -> str:
        return "<Lake>"

    def all_keys(self) -> Iterator[FileKey]:
        """Yield the keys that are ours."""
        for text in self.objects.all_keys():
            if (key := FileKey.of(text)) is not None:
                yield key

    @contextmanager
    def past_unreadable(self) -> Iterator[Callable[[], AbstractContextManager[None]]]:
        """Yield a context manager for the work on each file. A file that cannot be read ends its
        block and is counted. After all files, raise ``UnreadableFile`` if any was counted."""
        number = 0

        @contextmanager
        def block() -> Iterator[None]:
            nonlocal number
            try:
                yield
            except (UnreadableFile, UnreadableBatch):
                number += 1

        yield block
        if number:
            raise UnreadableFile(number)

    def _clear(self) -> None:
        with failing_as(no_room()):
            self.objects.scratch.unlink(missing_ok=True)

    def write(
        self,
        key: str,
        pieces: Iterable[tuple[str, bytes]],
        schema: str,
        types: Mapping[str, str],
        retentions: Mapping[str, timedelta],
    ) -> int:
        """Make a file of records in random order, unless it exists already. ``pieces`` are records
        with the minutes at which they were received. Leave out unreadable lines, because one must
        not keep all others from the lake. Return how many were left out.

        Raises ``DeliveryError`` if another file has the key.
        """
        from collector.arrow.tables import Writer, bounded_groups  # noqa: PLC0415 - pyarrow
        from collector.filter.arrow import arrow_schema, read_tables, shuffled  # noqa: PLC0415

        columns = arrow_schema(types, f"{schema} {key}".encode(), retentions=retentions)
        left_out = 0

        def readable() -> Iterator[pa.Table]:
            nonlocal left_out
            for minute, text in pieces:
                left_out += count_lines(text)
                for table in read_tables(text, columns, minute, schema):
                    left_out -= len(table)
                    yield table

        with self.objects.locked():
            with self._writing() as file, closing(Writer(file, columns)) as new:
                for table in bounded_groups(readable()):
                    new.write(shuffled(table))
            is_new = self.objects.create(key, self.objects.scratch)
            self._clear()
        if is_new:
            return left_out
        with suppress(FileNotFoundError), self._opened(key) as found:
            if found.mark == columns.metadata[MARK]:
                return left_out
        raise DeliveryError("E503", _TAKEN)

    def foreign_entries(self, schemas: Collection[str]) -> int:
        """Count the entries that are not files, without the directories of schemas and of our
        files."""
        return self.objects.foreign(
            lambda name: _DIRECTORY(name) is not None and name.partition("/")[0] in schemas,
            lambda name: FileKey.of(name) is not None,
        )

    def statistics(self, key: str) -> Statistics | None:
        """Return what the end of a file says; ``None`` if the file no longer exists."""
        with suppress(FileNotFoundError), self._opened(key) as file:
            return file.statistics
        return None

    def known(self, key: str) -> Statistics | None:
        """Return what the end of a file says, or said earlier. Retentions never change, and a field
        without values never gets any."""
        return self._known.get(key) or self.statistics(key)

    def retentions(self, key: str) -> Mapping[str, timedelta]:
        """Return the retentions of fields that a file states."""
        found = self.known(key)
        return {} if found is None else found.retentions

    def is_ours(self, key: str, *, is_whole: bool = False) -> bool:
        """Return whether a file has a key and a mark of ours; with ``is_whole``, whether we would
        have written every byte of it under that key."""
        if FileKey.of(key) is None:
            return False
        with suppress(FileNotFoundError, UnreadableFile), self._opened(key) as file:
            return not is_whole or file.is_whole(key)
        return False

    def find(self, key: str, parts: Sequence[Part]) -> Iterator[Record]:
        """Yield the records that parts of a rule concern. Of other row groups, only the columns of
        people are read."""
        with suppress(FileNotFoundError), self._opened(key) as file:
            for lines in file.records(parts):
                yield from records_in(lines)

    def count(self, key: str, parts: Sequence[Part]) -> tuple[int, Mapping[str, int]]:
        """Return how many records the parts of a rule concern, and how many of these lose each
        field."""
        with suppress(FileNotFoundError), self._opened(key) as file:
            return file.count(parts)
        return 0, {}

    def values(self, key: str) -> Iterator[Values]:
        """Yield for each row group its schema and the distinct values of each column. For a file
        without row groups, yield the names of the columns without values."""
        with suppress(FileNotFoundError), self._opened(key) as file:
            if not file.groups:
                names = (*file.statistics.fields, "received", "count")
                yield key.partition("/")[0], dict.fromkeys(names, ())
            yield from file.values()

    def revise(self, key: str, steps: Sequence[Sequence[Part]]) -> list[Removal]:
        """Rewrite a file, applying one rule after the other. Return what each rule has removed. A
        file without records stays, so that a late upload cannot create an earlier state under its
        key."""
        for _ in range(_TRIES):
            with self.objects.locked():
                outcome = self._revise(key, steps)
            if outcome is not None:
                return outcome
        raise DeliveryError("E503", "a file of the lake was changed by another process")

    def _revise(self, key: str, steps: Sequence[Sequence[Part]]) -> list[Removal] | None:
        """Rewrite once. Return ``None`` if another process changed the file meanwhile."""
        total = [Removal() for _ in steps]
        try:
            source, version = self.objects.open(key)
        except FileNotFoundError:
            return total
        with self._parquet(key, source) as file:
            if not file.is_concerned(chain(*steps)):
                return total
            with self._writing() as new:
                total = file.revise(steps, new)
        is_done = not any(total) or self.objects.replace(key, self.objects.scratch, version)
        self._known.pop(key, None)
        self._clear()
        return total if is_done else None

    @contextmanager
    def _writing(self) -> Iterator[IO[bytes]]:
        """Write the scratch file, and sync it at the end of the block."""
        scratch = self.objects.scratch
        try:
            with failing_as(no_room()):
                make_directories(scratch.parent, scratch.parent)
                with written(scratch) as file:
                    yield file
                    file.flush()
                    os.fsync(file.fileno())
        except BaseException:
            with suppress(OSError):
                scratch.unlink()
            raise

    @contextmanager
    def _opened(self, key: str) -> Iterator[ParquetFile]:
        with self._parquet(key, self.objects.open(key)[0]) as file:
            yield file

    @contextmanager
    def _parquet(self, key: str, source: IO[bytes]) -> Iterator[ParquetFile]:
        """Open a Parquet file of ours for a block. Raises ``UnreadableFile`` for any other."""
        with closing(source), closing(ParquetFile(source, self._reader)) as file:
            self._known[key] = file.statistics
            yield file
