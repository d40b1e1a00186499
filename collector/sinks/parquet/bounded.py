"""Read Parquet files in bounded memory, whatever their bytes say.

A file of a bucket may be none of ours, or be made to harm: pages of kilobytes that inflate to
gigabytes, numbers of rows without pages, one long value that is repeated by a number. So the end
of a file and the heads of its pages are checked before pyarrow decodes them, and pyarrow gets the
bytes that were checked. Columns that are not asked for are not read.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, BinaryIO, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import parquet

from collector.contracts import Layout
from collector.errors import UnreadableFile
from collector.sinks.parquet.object_store import Ranges

_MAGIC = b"PAR1"
_TAIL = 64 << 10
_MOST_FOOTER = 4 << 20
"""Of the end of a file: ours have 150 bytes for each column of 50,000 records."""
_MOST_STRUCTURES = 100_000
"""In the end of a file, each of which takes up to 700 bytes; ours have some eight for a column."""
_MOST_GROUP = 64 << 20
"""Of a row group in memory; ours have at most the half."""
_GROUP_BYTES = 4 << 20
"""Of a table that becomes a row group: some 50,000 records, so that little memory is needed."""
_MOST_COMPRESSED = 16 << 20
_MOST_BYTES = 2 << 30
"""Of all pages of a file, before compression: more than any that was written."""
_MOST_ROWS = 1 << 25
_MOST_SQUARES = 14 << 30
"""Of records times columns times columns: a row group has a million values or more, and the end of
a file may describe 16,000 columns of row groups."""
_WIDTH = 8
"""The most bytes that a value has in memory, besides those of a text."""
_MOST_HEAD = 64 << 10
"""Of a page."""
_GAP = 64 << 10
"""Bytes between two columns that are read rather than asked for in two requests."""
_PHYSICAL: Mapping[pa.DataType, str] = {
    pa.string(): "BYTE_ARRAY",
    pa.timestamp("us", "UTC"): "INT64",
    pa.int64(): "INT64",
    pa.float64(): "DOUBLE",
    pa.bool_(): "BOOLEAN",
}
_CODECS = frozenset({0, 1, 6})
"""None, Snappy, Zstandard."""
_ENCODINGS = frozenset({0, 2, 3, 8})
"""Plain, by a dictionary, by run length. Others repeat parts of values without a bound."""
_DATA, _DICTIONARY, _DATA_V2 = 0, 2, 3
_DEEPEST = 16
_STRUCTURE, _COLUMNS = 12, (4, 1)
_LISTS: Mapping[tuple[int, ...], int] = {
    **dict.fromkeys([(2,), (4,), (5,), (7,), _COLUMNS, (4, 4)], _STRUCTURE),
    (*_COLUMNS, 3, 2): 5,
    (*_COLUMNS, 3, 3): 8,
    (*_COLUMNS, 3, 8): _STRUCTURE,
    (*_COLUMNS, 3, 13): _STRUCTURE,
    (*_COLUMNS, 3, 16, 2): 6,
    (*_COLUMNS, 3, 16, 3): 6,
}
"""The lists in the end of a file: by the numbers of the fields that lead there, the type of what
they have. A parser that is made of the definition takes every type for that one."""
_ELSEWHERE = frozenset({1, 8, 9})
"""Fields of a column that is in another file, or encrypted."""
_MALFORMED = (ValueError, LookupError, TypeError)
"""Raised where bytes are not of the form that they should have."""


def most_bytes(layout: Layout) -> int:
    """Return how many bytes of records may become one file: there are fewer row groups the more
    columns a record can have, as the end of the file describes each column of each."""
    shortest = min((len(name) for name, _ in layout.columns), default=0)
    line = len(f'{{"schema":"{layout.schema}","":0}}\n') + shortest
    return line * _MOST_SQUARES // (len(layout.columns) + 3) ** 2


def bounded_groups(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Put tables together, or divide them, into some that ``BoundedFile`` reads as row groups."""
    pending, size = list[pa.Table](), 0
    for table in (part for each in tables for part in _parts(each)):
        if pending and size + _size(table) > _MOST_GROUP // 2:
            yield pa.concat_tables(pending)
            pending, size = [], 0
        pending.append(table)
        size += _size(table)
        if sum(each.nbytes for each in pending) >= _GROUP_BYTES:
            yield pa.concat_tables(pending)
            pending, size = [], 0
    if pending:
        yield pa.concat_tables(pending)


def _parts(table: pa.Table) -> Iterator[pa.Table]:
    """Yield a table, or halves of it until they are small enough."""
    middle = len(table) // 2
    if middle and _size(table) > _MOST_GROUP // 2:
        yield from _parts(table.slice(0, middle))
        yield from _parts(table.slice(middle))
    else:
        yield table


def _size(table: pa.Table) -> int:
    """Return what ``_check_pages`` counts for a table, about: pages may repeat a part of it."""
    size: int = table.nbytes + _WIDTH * len(table) * table.num_columns
    return size


class ColumnChunk(NamedTuple):
    """What the end of a file says of a column in a row group. ``size`` is before compression."""

    start: int
    length: int
    size: int
    values: int
    codec: int
    nulls: int | None
    lowest: bytes | None
    highest: bytes | None


class RowGroup(NamedTuple):
    """What the end of a file says of a row group, its columns in the order of the schema."""

    rows: int
    columns: tuple[ColumnChunk, ...]


class BoundedFile:
    """A Parquet file with columns of our types. ``source`` is closed by ``close``.

    Every method raises ``UnreadableFile`` for what is none or is beyond the bounds, and what the
    source raises.
    """

    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self._size = 0
        with suppress(OSError):
            self._size = source.seek(0, os.SEEK_END)
        footer = self._footer()
        self.row_groups: list[RowGroup] = _row_groups(footer)
        self._metadata = _metadata(footer)
        self.schema: pa.Schema = _checked_schema(self._metadata)
        self._texts = [each.name for each in self.schema if pa.types.is_string(each.type)]

    def __repr__(self) -> str:
        return f"<BoundedFile: {self.groups} groups>"

    @property
    def groups(self) -> int:
        """The number of row groups."""
        return len(self.row_groups)

    def close(self) -> None:
        """Close the source."""
        self._source.close()

    def read_group(self, number: int, columns: Collection[str] | None = None) -> pa.Table:
        """Read a row group, or some columns of it."""
        names = [n for n in self.schema.names if columns is None or n in columns]
        wanted = {n for n in self.schema.names for name in names if f"{n}.".startswith(f"{name}.")}
        window, rows = _Window(), self.row_groups[number].rows
        named = zip(self.schema.names, self.row_groups[number].columns, strict=True)
        chunks = [chunk for name, chunk in named if name in wanted]
        for start, length in _ranges(chunks, self._size):
            window.add(start, self._read(start, length))
        _check_pages(chunks, rows, window)
        table = None
        with suppress(pa.ArrowException, OSError, ValueError):
            file = parquet.ParquetFile(
                pa.PythonFile(Ranges(window.read, self._size), "r"),
                metadata=self._metadata,
                read_dictionary=self._texts,
                pre_buffer=False,
            )
            found = file.read_row_group(number, sorted(wanted), use_threads=False)
            table = _plain(found.select(names), [self.schema.field(name) for name in names])
        if table is None:
            raise UnreadableFile
        return table.replace_schema_metadata(self.schema.metadata)

    def _footer(self) -> bytes:
        """Return the end of the file as a file of its own."""
        tail = self._read(max(0, self._size - _TAIL), min(self._size, _TAIL))
        length = int.from_bytes(tail[-8:-4], "little")
        needed = length + 8
        if tail[-4:] != _MAGIC or length > _MOST_FOOTER or needed + len(_MAGIC) > self._size:
            raise UnreadableFile
        if needed > len(tail):
            tail = self._read(self._size - needed, needed)
        return tail[-needed:]

    def _read(self, start: int, length: int) -> bytes:
        found = b""
        with suppress(OSError):
            self._source.seek(start)
            found = self._source.read(length)
        if not found or len(found) < length:
            raise UnreadableFile
        return found


class _Window:
    """The parts of a file that were read and checked; nothing else of it can be read."""

    def __init__(self) -> None:
        self._parts: list[tuple[int, bytes]] = []

    def add(self, start: int, part: bytes) -> None:
        """Let a part be read."""
        self._parts.append((start, part))

    def part(self, start: int, length: int) -> memoryview:
        """Return bytes of a part. Raises ``OSError`` for any other."""
        for first, part in self._parts:
            if first <= start and start + length <= first + len(part):
                return memoryview(part)[start - first : start - first + length]
        raise OSError("this part of the file was not asked for")

    def read(self, start: int, end: int) -> bytes:
        """Return bytes of a part from ``start`` to ``end``. Raises as ``part``."""
        return bytes(self.part(start, end - start))


def _row_groups(footer: bytes) -> list[RowGroup]:
    """Return what the end of a file says, and check its sums: they bound the time that reading
    takes. Of pyarrow, properties of columns end the process for many that are none of ours."""
    groups = None
    with suppress(*_MALFORMED):
        found = _Thrift(memoryview(footer), _MOST_STRUCTURES).structure()
        if 8 not in found:  # it would be encrypted
            leaves = range(len(found[2]) - 1)
            groups = [
                RowGroup(
                    int(group[3]),
                    tuple(_chunk(each) for each, _ in zip(group[1], leaves, strict=True)),
                )
                for group in found[4]
            ]
    chunks = [chunk for group in groups or () for chunk in group.columns]
    if (
        groups is None
        or min([group.rows for group in groups], default=0) < 0
        or min([chunk.size for chunk in chunks], default=0) < 0
        or sum(group.rows for group in groups) > _MOST_ROWS
        or sum(chunk.size for chunk in chunks) > _MOST_BYTES
    ):
        raise UnreadableFile
    return groups


def _chunk(column: Mapping[int, Any]) -> ColumnChunk:
    """Return what is said of a column. Raises as ``_Thrift`` does."""
    about = column[3]
    first, data = about.get(11), int(about[9])
    statistics = about.get(12) or {}
    nulls, *ends = (statistics.get(field) for field in (3, 6, 5))
    if not _ELSEWHERE.isdisjoint(column):
        raise ValueError("a column is not in the file, or encrypted")
    return ColumnChunk(
        start=int(first) if first is not None and 0 < first < data else data,
        length=int(about[7]),
        size=int(about[6]),
        values=int(about[5]),
        codec=int(about[4]),
        nulls=None if nulls is None else int(nulls),
        lowest=None if ends[0] is None else bytes(ends[0]),
        highest=None if ends[1] is None else bytes(ends[1]),
    )


def _metadata(footer: bytes) -> parquet.FileMetaData:
    """Let pyarrow parse the end of a file, the structures of which were counted: there they take
    more memory than bytes."""
    with suppress(pa.ArrowException, OSError, ValueError):
        return parquet.ParquetFile(
            pa.BufferReader(_MAGIC + footer), thrift_container_size_limit=_MOST_STRUCTURES
        ).metadata
    raise UnreadableFile


def _checked_schema(metadata: parquet.FileMetaData) -> pa.Schema:
    """Return the columns, each of a type that we write, in the form in which we write it."""
    columns = metadata.schema
    with suppress(pa.ArrowException, ValueError):
        schema: pa.Schema = columns.to_arrow_schema()
        if len(columns) == len(schema) == len(set(schema.names)) and all(
            column.path == each.name
            and column.max_repetition_level == 0
            and column.max_definition_level <= 1
            and column.physical_type == _PHYSICAL.get(each.type)
            for column, each in zip(columns, schema, strict=True)
        ):
            return schema
    raise UnreadableFile


def _ranges(chunks: Sequence[ColumnChunk], size: int) -> list[tuple[int, int]]:
    """Return the parts of the file that columns are in, as few as can be."""
    found = list[tuple[int, int]]()
    for start, length in sorted((each.start, each.length) for each in chunks):
        if start < 0 or length < 0 or start + length > size:
            raise UnreadableFile
        if found and start - sum(found[-1]) <= _GAP:
            first = found[-1][0]
            found[-1] = first, max(sum(found[-1]), start + length) - first
        else:
            found.append((start, length))
    if sum(length for _, length in found) > _MOST_COMPRESSED:
        raise UnreadableFile
    return found


def _check_pages(chunks: Sequence[ColumnChunk], rows: int, window: _Window) -> None:
    """Check the heads of all pages of some columns: what they take in memory, before any does."""
    size = 0
    for chunk in chunks:
        length = None
        if chunk.codec in _CODECS and chunk.values == rows:
            with suppress(*_MALFORMED):
                length = _checked_pages(window.part(chunk.start, chunk.length), rows)
        size += (length or 0) + _WIDTH * rows
        if length is None or length > chunk.size or size > _MOST_GROUP:
            raise UnreadableFile


def _checked_pages(part: memoryview, rows: int) -> int:
    """Return the size of a column's pages before compression. Raises ``ValueError`` for those whose
    heads do not fit together, or that may be decoded to more."""
    at = total = values = 0
    while at < len(part):
        reader = _Thrift(part[at : at + _MOST_HEAD], _DEEPEST)
        head = reader.structure()
        kind, size, length = (int(head[field]) for field in (1, 2, 3))
        about = head[{_DATA: 5, _DICTIONARY: 7, _DATA_V2: 8}[kind]]
        number, encoding = int(about[1]), int(about[4 if kind == _DATA_V2 else 2])
        if min(size, length, number) < 0 or encoding not in _ENCODINGS:
            raise ValueError("a page is of a form that is not written here")
        if kind == _DICTIONARY and 4 * number > size:
            raise ValueError("a dictionary says that it has more values than it can")
        values += 0 if kind == _DICTIONARY else number
        total += size
        at += reader.at + length
        if total > _MOST_GROUP or values > rows:
            raise ValueError("pages have more than there is to be")
    if at != len(part) or values != rows:
        raise ValueError("pages do not make up the column")
    return total


def _plain(table: pa.Table, fields: list[pa.Field]) -> pa.Table:
    """Return texts as such. They are read as places in a list of values, so that their length is
    known before; raises ``ValueError`` if that is too much."""
    size = 0
    for column in table.columns:
        for chunk in column.chunks if pa.types.is_dictionary(column.type) else ():
            lengths = pc.take(pc.binary_length(chunk.dictionary), chunk.indices)
            size += pc.sum(pc.cast(lengths, pa.int64())).as_py() or 0
    if size > _MOST_GROUP:
        raise ValueError("texts take more than a row group may")
    return table.cast(pa.schema(fields))


class _Thrift:
    """Reads a structure of Thrift's compact protocol: numbers, structures and lists of structures,
    by the number of their field, and texts. ``most`` is how many structures there may be."""

    def __init__(self, data: memoryview, most: int) -> None:
        self._data, self._left = data, most
        self.at: int = 0

    def structure(self, path: tuple[int, ...] = ()) -> dict[int, Any]:
        """Read the structure to which fields of these numbers lead. Raises ``ValueError``,
        ``LookupError`` or ``TypeError`` if there is none, or a list that is not of its type."""
        self._left -= 1
        if self._left < 0 or len(path) > _DEEPEST:
            raise ValueError("there are too many structures")
        found: dict[int, Any] = {}
        number = 0
        while head := self._byte():
            step, kind = head >> 4, head & 15
            number = number + step if step else self._signed()
            if not 0 < number < 1 << 15:
                raise ValueError("a field has a number that none has")
            found[number] = kind == 1 if kind in (1, 2) else self._value(kind, (*path, number))
        return found

    def _value(self, kind: int, path: tuple[int, ...]) -> Any:
        if kind in (4, 5, 6):
            return self._signed()
        if kind == _STRUCTURE:
            return self.structure(path)
        if kind == 9:
            return self._list(path)
        lengths = {3: 1, 7: 8}
        length = self._varint() if kind == 8 else lengths[kind]
        self.at += length
        return self._data[self.at - length : self.at]

    def _list(self, path: tuple[int, ...]) -> list[Any]:
        head = self._byte()
        number, kind = head >> 4, head & 15
        number = self._varint() if number == 15 else number
        if kind != _LISTS.get(path) or number > len(self._data) - self.at:
            raise ValueError("a list is none of those that are there")
        return [self._value(kind, path) for _ in range(number)]

    def _byte(self) -> int:
        self.at += 1
        return self._data[self.at - 1]

    def _varint(self) -> int:
        found = shift = 0
        while True:
            byte = self._byte()
            found |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return found
            if shift > 63:
                raise ValueError("a number is too long")

    def _signed(self) -> int:
        found = self._varint()
        return (found >> 1) ^ -(found & 1)
