"""Files of a lake, read in bounded memory, whatever their bytes say.

Nothing of a file is parsed in this process: another one does that (``reader``), which asks for the
parts that it needs. It ends when nobody asks, or when a file takes more than it may; that file is
refused then, after a second try.
"""

from __future__ import annotations

import atexit
import os
import struct
import subprocess
import sys
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import BinaryIO, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from collector.contracts import Layout
from collector.environment import clean_environment
from collector.errors import UnreadableFile
from collector.sinks.parquet import reader
from collector.sinks.parquet.reader import (
    MOST_COMPRESSED,
    MOST_GROUP,
    NUMBER,
    OPENED,
    PLACE,
)

_GROUP_BYTES = 4 << 20
"""Of a table that becomes a row group: some 50,000 records, so that little memory is needed."""
_MOST_SQUARES = 14 << 30
"""Of records times columns times columns: a row group has a million values or more, and the end of
a file may describe 16,000 columns of row groups."""
_WIDTH = 8
"""The most bytes that a value has in memory, besides those of a text."""
_SECONDS = 60.0
"""How long the process may work before it asks or answers."""


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
        if pending and size + _size(table) > MOST_GROUP // 2:
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
    if middle and _size(table) > MOST_GROUP // 2:
        yield from _parts(table.slice(0, middle))
        yield from _parts(table.slice(middle))
    else:
        yield table


def _size(table: pa.Table) -> int:
    """Return what a table takes in memory, about: pages may repeat a part of it."""
    size: int = table.nbytes + _WIDTH * len(table) * table.num_columns
    return size


_ENCODED = pa.dictionary(pa.int32(), pa.string())


def _decoded_size(column: pa.ChunkedArray) -> int:
    """Return the bytes of a column's texts, if it is a dictionary. Raises ``pa.ArrowException`` for
    a place that is not in it."""
    size = 0
    for chunk in column.chunks if column.type == _ENCODED else ():
        lengths = pc.take(pc.binary_length(chunk.dictionary), chunk.indices)
        size += pc.sum(pc.cast(lengths, pa.int64())).as_py() or 0
    return size


class Column(NamedTuple):
    """What the end of a file says of a column: in how many records it has a value, and the least
    and the greatest number or moment (microseconds); ``None`` where it does not say so."""

    filled: int | None
    least: int | None
    greatest: int | None


_processes = dict[subprocess.Popen[bytes], float]()
"""The processes of this one, and when each was used last, by the monotonic clock."""
_free = list[subprocess.Popen[bytes]]()
"""Those of them that nobody has."""
os.register_at_fork(after_in_child=_processes.clear)
os.register_at_fork(after_in_child=_free.clear)


class ReaderProcess:
    """The process that parses files, for one thread at a time. It is started when it is needed."""

    def __init__(self) -> None:
        self.file: BoundedFile | None = None
        """The file that it has read the end of last."""
        self._process: subprocess.Popen[bytes] | None = None

    def __repr__(self) -> str:
        return "<ReaderProcess>"

    def close(self) -> None:
        """Let others have the process."""
        if self._process in _processes:
            _free.append(self._process)
        self._process = self.file = None

    def ready(self) -> subprocess.Popen[bytes]:
        """Return the process, which is started if it has ended, or is about to, as nobody asked."""
        while self._process not in _processes or not _is_ready(self._process):
            self._process = self.file = None
            with suppress(IndexError):
                self._process = _free.pop()
            self._process = self._process or _started()
        _processes[self._process] = monotonic()
        return self._process

    def ask(self, kind: int, content: bytes, source: BinaryIO) -> memoryview:
        """Return the answer about a file, whose parts it gets from ``source``. Raises
        ``UnreadableFile`` if the file is refused, ``_Ended``, and what the source raises."""
        process = self.ready()
        if kind != reader.OPEN and self.file is None:
            raise _Ended
        assert process.stdin is not None  # noqa: S101 - for the type
        assert process.stdout is not None  # noqa: S101 - for the type
        questions, answers = process.stdin.fileno(), process.stdout.fileno()
        failure: Exception | None = None
        try:
            reader.send(questions, kind, content)
            while True:
                kind, content = reader.receive(answers, _SECONDS)
                if kind == reader.ANSWER:
                    return memoryview(content)
                if kind != reader.RANGE:
                    break
                part = b""
                start, length = PLACE.unpack(content)
                if length <= MOST_COMPRESSED:
                    try:
                        source.seek(start)
                        part = source.read(length)
                    except OSError:
                        pass
                    except Exception as error:  # noqa: BLE001 - told when the process knows it
                        failure = error
                reader.send(questions, reader.DATA, part)
        except (OSError, struct.error):  # it has ended, or takes too long
            _end(process)
            failure = failure or _Ended()
        except BaseException:  # what it still says is for nobody
            _end(process)
            raise
        raise failure or UnreadableFile()


class _Ended(UnreadableFile):
    """The process ended, or took too long: for the file, or as somebody killed it."""


def _started() -> subprocess.Popen[bytes]:
    fixed = {"ARROW_DEFAULT_MEMORY_POOL": "system", "MALLOC_ARENA_MAX": "1"}
    process = subprocess.Popen(  # noqa: S603 - our own script
        [sys.executable, "-B", "-P", "-s", str(Path(reader.__file__))],
        env=clean_environment() | fixed,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        bufsize=0,
    )
    _processes[process] = monotonic()
    return process


def _is_ready(process: subprocess.Popen[bytes]) -> bool:
    """Return whether a process waits for a question; else it is ended."""
    is_waiting = monotonic() < _processes[process] + reader.IDLE_SECONDS / 2
    if not is_waiting or process.poll() is not None:
        _end(process)
    return process in _processes


def _end(process: subprocess.Popen[bytes]) -> None:
    _processes.pop(process, None)
    process.kill()
    with process:  # waits for it, and closes its pipes
        pass


@atexit.register
def _end_all() -> None:
    for process in [*_processes]:
        _end(process)


class BoundedFile:
    """A Parquet file with columns of our types, a number of row ``groups`` and of ``rows``, and
    what its end tells of its ``columns``. ``source`` is closed by ``close``.

    Every method raises ``UnreadableFile`` for what is none or is beyond the bounds, and what the
    source raises.
    """

    def __init__(self, source: BinaryIO, process: ReaderProcess) -> None:
        self._source, self._process = source, process
        self._size = 0
        with suppress(OSError):
            self._size = source.seek(0, os.SEEK_END)
        told = self._ask(reader.OPEN)
        self.groups: int
        self.rows: int
        length, self.groups, self.rows = OPENED.unpack_from(told)
        end = OPENED.size + length
        self.schema: pa.Schema = pa.ipc.read_schema(pa.py_buffer(told[OPENED.size : end]))
        columns = pa.ipc.open_stream(pa.py_buffer(told[end:])).read_all().to_pylist()
        self.columns: list[Column] = [Column(**each) for each in columns]

    def __repr__(self) -> str:
        return f"<BoundedFile: {self.groups} groups>"

    @property
    def group_schema(self) -> pa.Schema:
        """The columns of a whole row group, as ``read_group`` returns it."""
        fields = (
            each.with_type(_ENCODED) if pa.types.is_string(each.type) else each
            for each in self.schema
        )
        return pa.schema(fields, self.schema.metadata)

    @property
    def is_whole(self) -> bool:
        """Whether the file consists of what we write."""
        return bool(self._ask(reader.WHOLE)[0])

    def close(self) -> None:
        """Close the source."""
        self._source.close()

    def read_group(self, number: int, columns: Collection[str] | None = None) -> pa.Table:
        """Read some columns of a row group, or the whole of it: then texts are dictionaries, of
        which a value that is repeated takes its place once."""
        names = [] if columns is None else [n for n in self.schema.names if n in columns]
        told = self._ask(reader.GROUP, NUMBER.pack(number) + "\0".join(names).encode())
        with suppress(pa.ArrowException):
            table = pa.ipc.open_stream(pa.py_buffer(told)).read_all()
            table = table.replace_schema_metadata(self.schema.metadata)
            wanted = pa.schema([self.schema.field(name) for name in names])
            is_expected = table.schema.equals(wanted if names else self.group_schema)
            if is_expected and sum(map(_decoded_size, table.columns)) <= MOST_GROUP:
                return table
        raise UnreadableFile

    def _ask(self, kind: int, content: bytes = b"") -> memoryview:
        """Return an answer; ask a second process if the first one ends."""
        with suppress(_Ended):
            return self._asked(kind, content)
        return self._asked(kind, content)

    def _asked(self, kind: int, content: bytes) -> memoryview:
        self._process.ready()
        if self._process.file is self:
            return self._process.ask(kind, content, self._source)
        self._process.file = None  # it has another, or ended meanwhile
        told = self._process.ask(reader.OPEN, NUMBER.pack(self._size), self._source)
        self._process.file = self
        return told if kind == reader.OPEN else self._process.ask(kind, content, self._source)
