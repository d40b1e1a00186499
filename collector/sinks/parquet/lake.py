"""The Parquet files of a lake: written, read by columns, rewritten without some values.

A file has the records of one schema and hour: ``SCHEMA/day=YYYY-MM-DD/HH-ID.parquet``. Its metadata
has a mark of ours. It is rewritten row group by row group, and then replaced as a whole under the
same key, so that a reader has the old one or the new one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import BinaryIO, NamedTuple

import pyarrow as pa
from pyarrow import parquet

from collector.contracts import Removal, count_lines, to_minute
from collector.errors import DeliveryError, UnreadableFile
from collector.files import failing_as, make_directories
from collector.filter.arrow import (
    MARK,
    RESERVED,
    arrow_schema,
    distinct,
    has_own_metadata,
    read_tables,
    shuffled,
    stated_retentions,
    without_unused,
    writer,
)
from collector.filter.redaction import Part, concerns, cut
from collector.sinks.parquet.bounded import BoundedFile, ReaderProcess, bounded_groups
from collector.sinks.parquet.object_store import Objects, written

_KEY = re.compile(
    r"([A-Za-z0-9][A-Za-z0-9_.-]{0,100})/day=([0-9]{4}-[0-9]{2}-[0-9]{2})/([0-9]{2})-[0-9a-f]{32}"
    r"\.parquet",
    re.ASCII,
).fullmatch
_DIRECTORY = re.compile(r"[^/]+(/day=[0-9]{4}-[0-9]{2}-[0-9]{2})?", re.ASCII).fullmatch
_TRIES = 5
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TAKEN = "another file is in the place of one of the lake: look at it, and remove it"


class FileKey(NamedTuple):
    """The key of a file, and what it says: the name of the schema, and the first and the last
    minute at which its records can have been received."""

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


class Statistics(NamedTuple):
    """What the end of a file says: the number of records, in how many of them each field has a
    value, the first and the last minute, and the retentions that were written with them."""

    records: int
    fields: Mapping[str, int]
    first: str | None
    last: str | None
    retentions: Mapping[str, timedelta]

    @property
    def filled(self) -> frozenset[str]:
        """The fields that have values."""
        return frozenset(name for name, number in self.fields.items() if number)


class Lake:
    """The files of one lake."""

    def __init__(self, objects: Objects) -> None:
        self.objects = objects
        self._known: dict[str, tuple[Mapping[str, timedelta], frozenset[str]]] = {}
        self._reader = ReaderProcess()

    def close(self) -> None:
        """Let others have the process that reads files."""
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
        """Yield a block for each file. One that cannot be read ends its block, and is counted: for
        all of them there is an error at the end, when the others were done."""
        number = 0

        @contextmanager
        def block() -> Iterator[None]:
            nonlocal number
            try:
                yield
            except UnreadableFile:
                number += 1

        yield block
        if number:
            raise UnreadableFile(number)

    def _clear(self) -> None:
        with failing_as(_no_room()):
            self.objects.scratch.unlink(missing_ok=True)

    def write(
        self,
        key: str,
        pieces: Iterable[tuple[str, bytes]],
        schema: str,
        types: Mapping[str, str],
        retentions: Mapping[str, timedelta],
    ) -> int:
        """Make a file of records, by the minutes at which they were received, in random order,
        unless it is there already. Lines that cannot be read are left out, as wherever records are
        rewritten: one must not keep all others from the lake. Return how many these are.

        Raises ``DeliveryError`` where another file is in its place.
        """
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
            with self._writing(columns) as file:
                for table in bounded_groups(readable()):
                    file.write_table(shuffled(table))
            is_new = self.objects.create(key, self.objects.scratch)
            self._clear()
        if is_new:
            return left_out
        with suppress(FileNotFoundError), self._opened(key) as found:
            if found.schema.metadata.get(MARK) == columns.metadata[MARK]:
                return left_out
        raise DeliveryError("E503", _TAKEN)

    def foreign_entries(self, schemas: Collection[str]) -> int:
        """Count what there is besides files, but for the directories of schemas and of our
        files."""
        return self.objects.foreign(
            lambda name: _DIRECTORY(name) is not None and name.partition("/")[0] in schemas,
            lambda name: FileKey.of(name) is not None,
        )

    def statistics(self, key: str) -> Statistics | None:
        """Return what the end of a file says; ``None`` if it is not there any more."""
        with suppress(FileNotFoundError), self._opened(key) as file:
            return self._noted(key, file)
        return None

    def retentions(self, key: str) -> Mapping[str, timedelta]:
        """Return the retentions of fields that a file states; they never change."""
        return self._stated(key)[0]

    def filled(self, key: str) -> frozenset[str]:
        """Return the fields of a file that have values: they can only become fewer."""
        return self._stated(key)[1]

    def may_lose(self, key: str, parts: Sequence[Part]) -> bool:
        """Return whether parts of a rule may concern values of a file, by what is known of it."""
        _, filled = self._known.get(key, ({}, None))
        return filled is None or any(part.removed(filled) for part in parts)

    def _stated(self, key: str) -> tuple[Mapping[str, timedelta], frozenset[str]]:
        if key not in self._known:
            self.statistics(key)
        return self._known.get(key, ({}, frozenset()))

    def _noted(self, key: str, file: BoundedFile) -> Statistics:
        found = _statistics(file)
        self._known[key] = found.retentions, found.filled
        return found

    def is_ours(self, key: str, *, is_whole: bool = False) -> bool:
        """Return whether a file bears our mark, and no other, and has a key of ours; with
        ``is_whole``, also whether it consists of nothing but what we write."""
        with suppress(FileNotFoundError, DeliveryError), self._opened(key) as file:
            is_known = FileKey.of(key) is not None and has_own_metadata(file.schema, key)
            return is_known and (file.is_whole or not is_whole)
        return False

    def find(self, key: str, parts: Sequence[Part]) -> Iterator[pa.Table]:
        """Yield the records that parts of a rule concern; nothing but the columns of people is read
        of others."""
        with suppress(FileNotFoundError), self._opened(key) as file:
            for number in _groups(file, _statistics(file).filled, parts):
                table = file.read_group(number)
                if (concerned := cut(table, parts).concerned) is not None:
                    yield table.filter(concerned)

    def values(self, key: str) -> Iterator[tuple[str, Mapping[str, Collection[object]]]]:
        """Yield the different values of each column, a row group at a time, by the schema; of a
        file without any, the names of the columns."""
        with suppress(FileNotFoundError), self._opened(key) as file:
            if not file.groups:
                names = {*file.schema.names} - {"schema"}
                yield key.partition("/")[0], dict.fromkeys(names, ())
            for number in range(file.groups):
                found = distinct(file.read_group(number))
                named = found.pop("schema", set())
                yield (str(*named) if len(named) == 1 else "", found)

    def revise(self, key: str, steps: Sequence[Sequence[Part]]) -> list[Removal]:
        """Rewrite a file by the parts of rules, one rule after the other; return what each has
        removed. A file that has no records left stays as one without any: nothing that is on its
        way to this key can then be created there any more."""
        for _ in range(_TRIES):
            with self.objects.locked():
                outcome = self._revise(key, steps)
            if outcome is not None:
                return outcome
        raise DeliveryError("E503", "a file of the lake was changed by another process")

    def _revise(self, key: str, steps: Sequence[Sequence[Part]]) -> list[Removal] | None:
        """Return ``None`` if the file was changed meanwhile."""
        total = [Removal() for _ in steps]
        try:
            source, version = self.objects.open(key)
        except FileNotFoundError:
            return total
        with self._parquet(source) as file:
            concerned = _groups(file, self._noted(key, file).filled, [*chain(*steps)])
            if next(concerned, None) is None:
                return total
            with self._writing(file.group_schema) as new:
                for number in range(file.groups):
                    left = file.read_group(number)
                    for at, parts in enumerate(steps):
                        left, shortened, deleted = cut(left, parts).apply(left)
                        total[at] += Removal(deleted, shortened)
                    if len(left):
                        new.write_table(without_unused(left))
        is_done = not any(total) or self.objects.replace(key, self.objects.scratch, version)
        self._known.pop(key, None)
        self._clear()
        return total if is_done else None

    @contextmanager
    def _writing(self, columns: pa.Schema) -> Iterator[parquet.ParquetWriter]:
        """Write the scratch file, which is on disk at the end of the block."""
        scratch, is_whole = self.objects.scratch, False
        try:
            with failing_as(_no_room()):
                make_directories(scratch.parent, scratch.parent)
                with written(scratch) as file:
                    with writer(file, columns) as new:
                        yield new
                    file.flush()
                    os.fsync(file.fileno())
            is_whole = True
        finally:
            pa.default_memory_pool().release_unused()
            if not is_whole:
                with suppress(OSError):
                    scratch.unlink()

    @contextmanager
    def _opened(self, key: str) -> Iterator[BoundedFile]:
        with self._parquet(self.objects.open(key)[0]) as file:
            yield file

    @contextmanager
    def _parquet(self, source: BinaryIO) -> Iterator[BoundedFile]:
        """Read a Parquet file of ours, and close it. Raises ``UnreadableFile`` for any other."""
        with closing(source), closing(BoundedFile(source, self._reader)) as file:
            if not _is_ours(file.schema):
                raise UnreadableFile
            yield file


def _no_room() -> DeliveryError:
    return DeliveryError("E503", "a file of the lake cannot be written; is the disk full?")


def _groups(file: BoundedFile, filled: Collection[str], parts: Sequence[Part]) -> Iterator[int]:
    """Yield the row groups that parts of a rule may concern, by the fields that have values, and
    the columns of people."""
    useful = [
        part
        for part in parts
        if part.removed(filled) and (part.field is None or part.field in filled)
    ]
    names = {"received", *(part.field for part in useful if part.field is not None)}
    is_any = any(part.field is None for part in useful)
    for number in range(file.groups) if useful else ():
        if is_any or concerns(file.read_group(number, names), useful):
            yield number


def _is_ours(columns: pa.Schema) -> bool:
    return MARK in (columns.metadata or {}) and {*RESERVED} <= {*columns.names}


def _statistics(file: BoundedFile) -> Statistics:
    told, fields = dict(zip(file.schema.names, file.columns, strict=True)), dict[str, int]()
    received = told["received"]
    for name, column in told.items():
        if column.filled is None:
            raise UnreadableFile
        if name not in RESERVED:
            fields[name] = column.filled
    if file.groups and received.least is None:
        raise UnreadableFile
    first, last = _minute(received.least), _minute(received.greatest)
    return Statistics(file.rows, fields, first, last, stated_retentions(file.schema))


def _minute(microseconds: int | None) -> str | None:
    """Return the minute of a moment. Raises ``UnreadableFile`` for one that is in no year."""
    with suppress(OverflowError):
        moment = None if microseconds is None else _EPOCH + timedelta(microseconds=microseconds)
        return None if moment is None else to_minute(moment)
    raise UnreadableFile
