"""Read Parquet files with pyarrow in a process of its own, which has little memory.

A file of a bucket may be none of ours, or be made to harm: pages of kilobytes that inflate to
gigabytes, numbers of rows without pages, an end that ends the process which parses it. So the
system limits the memory of this process, and what a file says is checked before it is followed.
Where that does not help, the process ends, and ``bounded`` refuses the file.

It is run as a script. A message is its kind, the length of its content, and the content. For each
``OPEN`` and ``GROUP`` it asks for the ranges of the file that it needs, and then answers, or
refuses. Whoever starts it gets tables in Arrow's format, and parses nothing else.
"""

from __future__ import annotations

import io
import os
import re
import select
import signal
import struct
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

if __name__ == "__main__":
    sys.modules["numpy"] = None  # type: ignore[assignment]  # not needed, and slow to import

import pyarrow as pa
from pyarrow import parquet

OPEN, GROUP, WHOLE, RANGE, DATA, ANSWER, REFUSED = b"OGWRDAX"
"""The kinds of messages: a file, a row group of it, whether it has other parts; a range and its
bytes; an answer."""
HEAD = struct.Struct(">BI")
NUMBER = struct.Struct(">Q")
"""The size of a file, or the number of a row group before the names of its columns: none for all of
them."""
PLACE = struct.Struct(">QQ")
"""The start of a range and its length."""
OPENED = struct.Struct(">IIQ")
"""The answer to ``OPEN``: the length of the columns, which follow before a table of what is told of
each, and the numbers of row groups and of records."""
MOST_GROUP = 64 << 20
"""Of a row group in memory; ours have at most the half."""
MOST_MESSAGE = 2 * MOST_GROUP
MOST_COMPRESSED = 16 << 20
"""Of the columns of a row group that are asked for."""
MOST_STRUCTURES = 100_000
"""In the end of a file, each of which takes up to 700 bytes; ours have some eight for a column."""
_MAGIC = b"PAR1"
_TAIL = 64 << 10
_MOST_FOOTER = 4 << 20
"""Of the end of a file: ours have 150 bytes for each column of 50,000 records."""
_MOST_BYTES = 2 << 30
"""Of all pages of a file, before compression: more than any that was written."""
_MOST_ROWS = 1 << 25
_MEMORY = 176 << 20
"""What the process may have besides the libraries."""
IDLE_SECONDS = 20.0
"""How long the process waits for a question."""
_RANGE_SECONDS = 1800.0
"""The same with a range of the file, which a server may have refused at first, or send slowly."""
_GAP = 64 << 10
"""Bytes between two columns that are read rather than asked for in two requests."""
_PHYSICAL: Mapping[pa.DataType, str] = {
    pa.string(): "BYTE_ARRAY",
    pa.timestamp("us", "UTC"): "INT64",
    pa.int64(): "INT64",
    pa.float64(): "DOUBLE",
    pa.bool_(): "BOOLEAN",
}
_HIDDEN = b"ARROW:schema"
"""The key of metadata that pyarrow follows and does not show; ours have none."""
_WRITER = re.compile(r"parquet-cpp-arrow version [0-9]+\.[0-9]+\.[0-9]+(-SNAPSHOT)?").fullmatch


class _File(NamedTuple):
    """A file with its size, its end as bytes and parsed, and its columns."""

    size: int
    footer: bytes
    metadata: parquet.FileMetaData
    schema: pa.Schema


class Ranges(io.RawIOBase):
    """A file that is read range by range: ``read`` returns the bytes from a start to an end."""

    def __init__(self, read: Callable[[int, int], bytes], size: int) -> None:
        self._read, self._size, self._at = read, size, 0

    def readable(self) -> bool:
        """It can be read."""
        return True

    def seekable(self) -> bool:
        """Any part of it can."""
        return True

    def tell(self) -> int:
        """Return the position."""
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Set the position."""
        self._at = offset + {os.SEEK_CUR: self._at, os.SEEK_END: self._size}.get(whence, 0)
        return self._at

    def read(self, size: int = -1) -> bytes:
        """Read from the position on."""
        end = self._size if size < 0 else min(self._at + size, self._size)
        found = self._read(self._at, end) if end > self._at else b""
        self._at += len(found)
        return found


def receive(handle: int, seconds: float) -> tuple[int, bytes]:
    """Read a message out of a pipe. Raises ``OSError`` if the other end is closed, or nothing comes
    for so long."""
    kind, length = HEAD.unpack(_exactly(handle, HEAD.size, seconds))
    return kind, _exactly(handle, min(length, MOST_MESSAGE), seconds)


def _exactly(handle: int, length: int, seconds: float) -> bytes:
    found = bytearray()
    while len(found) < length:
        is_ready, _, _ = select.select([handle], [], [], seconds)
        part = os.read(handle, length - len(found)) if is_ready else b""
        if not part:
            raise OSError("the other process has ended, or takes too long")
        found += part
    return bytes(found)


def send(handle: int, kind: int, *parts: Any) -> None:
    """Write a message into a pipe. Raises ``OSError`` if the other end is closed."""
    views = [memoryview(each).cast("B") for each in parts]
    for each in (memoryview(HEAD.pack(kind, sum(map(len, views)))), *views):
        left = each
        while left:
            left = left[os.write(handle, left) :]


def _receive(seconds: float) -> tuple[int, bytes]:
    """Read a message; end the process where none comes any more."""
    with suppress(OSError):
        return receive(0, seconds)
    sys.exit()


def _range(start: int, length: int) -> bytes:
    """Ask for a range of the file. Raises ``OSError`` if it is not there."""
    send(1, RANGE, PLACE.pack(start, length))
    kind, found = _receive(_RANGE_SECONDS)
    if kind != DATA or len(found) < length:
        raise OSError("a part of the file is not there")
    return found


def _open(size: int) -> tuple[_File, list[Any]]:
    """Parse the end of a file; return it with what is told of it: its columns, and its row
    groups."""
    tail = _range(max(0, size - _TAIL), min(size, _TAIL))
    length = int.from_bytes(tail[-8:-4], "little")
    if tail[-4:] != _MAGIC or length > _MOST_FOOTER or length + 12 > size:
        raise ValueError("this is no Parquet file, or its end is too long")
    needed = length + 8
    footer = (tail if needed <= len(tail) else _range(size - needed, needed))[-needed:]
    metadata = parquet.ParquetFile(
        pa.BufferReader(_MAGIC + footer),
        thrift_container_size_limit=MOST_STRUCTURES,
        thrift_string_size_limit=_MOST_FOOTER,
    ).metadata
    schema = _checked_schema(metadata)
    groups = [metadata.row_group(at) for at in range(metadata.num_row_groups)]
    rows = [0, *(each.num_rows for each in groups)]
    sizes = [0, *(each.total_byte_size for each in groups)]
    if min(*rows, *sizes) < 0 or sum(rows) > _MOST_ROWS or sum(sizes) > _MOST_BYTES:
        raise ValueError("the sums of the file are too large")
    named, told = schema.serialize(), _as_stream(_told(groups, sum(rows), schema))
    head = OPENED.pack(named.size, len(groups), sum(rows))
    return _File(size, footer, metadata, schema), [head, named, told]


def _checked_schema(metadata: parquet.FileMetaData) -> pa.Schema:
    """Return the columns, each of a type that we write, in the form in which we write it."""
    columns = metadata.schema
    schema: pa.Schema = columns.to_arrow_schema()
    is_ours = len(columns) == len(schema) == len(set(schema.names)) and all(
        column.path == each.name
        and "\0" not in each.name
        and column.max_repetition_level == 0
        and column.max_definition_level <= 1
        and column.physical_type == _PHYSICAL.get(each.type)
        for column, each in zip(columns, schema, strict=True)
    )
    if not is_ours or len(schema) * metadata.num_row_groups > MOST_STRUCTURES:
        raise ValueError("the columns are of other types, or there are too many")
    return schema


def _is_whole(file: _File) -> bool:
    """Return whether columns and end make up the file, and the end has what pyarrow writes."""
    at, written, metadata = len(_MAGIC), io.BytesIO(), file.metadata
    groups = (metadata.row_group(at) for at in range(metadata.num_row_groups))
    chunks = (group.column(at) for group in groups for at in range(len(file.schema)))
    for start, length in sorted(map(_place, chunks)):
        if start != at:
            return False
        at += length
    metadata.write_metadata_file(written)
    is_written = _WRITER(metadata.created_by) is not None and _HIDDEN not in metadata.metadata
    is_at_end = at + len(file.footer) == file.size
    return is_at_end and is_written and written.getvalue() == _MAGIC + file.footer


def _place(chunk: Any) -> tuple[int, int]:
    """Return the start and the length of a column of a row group."""
    first, start = chunk.dictionary_page_offset, chunk.data_page_offset
    begin = first if first is not None and 0 < first < start else start
    return begin, chunk.total_compressed_size


def _told(groups: Sequence[Any], rows: int, schema: pa.Schema) -> pa.Table:
    """Return a row for each column: in how many records it has a value, and the least and the
    greatest of its numbers or moments, where all row groups say so."""
    told = list[dict[str, int | None]]()
    for at, column in enumerate(schema):
        stated = [each.column(at).statistics for each in groups if each.column(at).is_stats_set]
        nulls = [each.null_count for each in stated if each.has_null_count]
        is_number = _PHYSICAL[column.type] == "INT64"
        ends = [(each.min_raw, each.max_raw) for each in stated if is_number and each.has_min_max]
        is_whole = 0 < len(ends) == len(groups)
        told.append(
            {
                "filled": rows - sum(nulls) if len(nulls) == len(groups) else None,
                "least": min(least for least, _ in ends) if is_whole else None,
                "greatest": max(greatest for _, greatest in ends) if is_whole else None,
            }
        )
    return pa.Table.from_pylist(told, pa.schema(dict.fromkeys(told[0], pa.int64())))


def _group(file: _File, number: int, names: Sequence[str]) -> pa.Table:
    """Read columns of a row group; without names all of them, and texts as dictionaries."""
    group, every = file.metadata.row_group(number), file.schema.names
    encoded = [] if names else [each.name for each in file.schema if pa.types.is_string(each.type)]
    names = names or every
    wanted = {each for each in every for name in names if f"{each}.".startswith(f"{name}.")}
    places = [_place(group.column(at)) for at, name in enumerate(every) if name in wanted]
    parts = {start: _range(start, length) for start, length in _ranges(places, file.size)}

    def part(start: int, end: int) -> bytes:
        for first, found in parts.items():
            if first <= start and end <= first + len(found):
                return found[start - first : end - first]
        raise OSError("this part of the file was not asked for")

    source = pa.PythonFile(Ranges(part, file.size), "r")
    reading = parquet.ParquetFile(
        source, metadata=file.metadata, read_dictionary=encoded, pre_buffer=False
    )
    found = reading.read_row_group(number, sorted(wanted), use_threads=False).select(list(names))
    if len(found) != group.num_rows or found.nbytes > MOST_GROUP:
        raise ValueError("a row group has more than it says, or than it may")
    return found


def _ranges(places: Sequence[tuple[int, int]], size: int) -> list[tuple[int, int]]:
    """Return the parts of the file that columns are in, as few as can be."""
    found = list[tuple[int, int]]()
    for start, length in sorted(places):
        if start < 0 or length < 0 or start + length > size:
            raise ValueError("a column is not in the file")
        if found and start - sum(found[-1]) <= _GAP:
            first = found[-1][0]
            found[-1] = first, max(sum(found[-1]), start + length) - first
        else:
            found.append((start, length))
    if sum(length for _, length in found) > MOST_COMPRESSED:
        raise ValueError("columns are too large")
    return found


def _as_stream(table: pa.Table) -> pa.Buffer:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return sink.getvalue()


def _limit_memory() -> None:
    """Let the process have little more memory than it has, and leave no image of it."""
    import resource  # noqa: PLC0415 - not everywhere

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    status = Path("/proc/self/statm")
    if status.exists():
        most = int(status.read_text().split()[0]) * resource.getpagesize() + _MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _serve() -> None:
    file: _File | None = None
    while True:
        kind, content = _receive(IDLE_SECONDS)
        try:
            if kind == OPEN:
                file = None
                file, answer = _open(*NUMBER.unpack(content))
                send(1, ANSWER, *answer)
            elif file is None:
                send(1, REFUSED)
            elif kind == WHOLE:
                send(1, ANSWER, bytes([_is_whole(file)]))
            else:
                (number,), names = NUMBER.unpack_from(content), content[NUMBER.size :].decode()
                send(
                    1, ANSWER, _as_stream(_group(file, number, names.split("\0") if names else []))
                )
        except (pa.ArrowException, OSError, ValueError, LookupError, TypeError, OverflowError):
            send(1, REFUSED)


if __name__ == "__main__":
    for each in (signal.SIGINT, signal.SIGTERM):  # it ends with the process that asks
        signal.signal(each, signal.SIG_IGN)
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    _limit_memory()
    _serve()
