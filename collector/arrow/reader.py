"""Read Parquet files with pyarrow in a separate process, whose memory is limited.

An attacker may have written a file: pages of kilobytes that inflate to gigabytes, row counts
without pages, row groups that share pages, an end that crashes its parser. So Linux limits the
memory of this process, and the process checks what a file says before it acts on it. If that does
not help, the process ends, and ``process`` refuses the file.
"""

from __future__ import annotations

import io
import re
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from itertools import chain
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.modules["numpy"] = None  # type: ignore[assignment]  # not needed, and slow to import

import msgspec
import pyarrow as pa
from msgspec.msgpack import Decoder
from pyarrow import parquet

from collector.arrow.mark import MARK, has_own_metadata, stated_retentions
from collector.arrow.process import (
    ANSWER,
    CONCERNS,
    COUNT,
    DATA,
    IDLE_SECONDS,
    MOST_COMPRESSED,
    MOST_GROUP,
    OPEN,
    PART,
    PLACE,
    RANGE,
    REFUSED,
    REVISE,
    ROWS,
    VALUES,
    WHOLE,
    Ranges,
    Statistics,
    encoded,
    receive,
    send,
)
from collector.contracts import RESERVED, Part, to_minute

MOST_STRUCTURES = 100_000
"""The most structures in the end of a file. Each takes up to 700 bytes of memory. Our files have
about eight for each column."""
_MAGIC = b"PAR1"
_TAIL = 64 << 10
_MOST_FOOTER = 4 << 20
"""The most bytes of the end of a file. Ours have 150 for each column of 50,000 records."""
_MOST_BYTES = 2 << 30
"""The most bytes of all pages before compression. All files of ours have fewer."""
_MOST_ROWS = 1 << 25
_MEMORY = 176 << 20
"""The bytes of memory that the process may use besides its libraries."""
_RANGE_SECONDS = 1800.0
"""How long the process waits for a range: a server may refuse it at first, or send it slowly."""
_GAP = 64 << 10
"""Two columns with at most this many bytes between them are read in one request."""
_LINES, _LINES_BYTES = 1000, 4 << 20
"""The records that become lines at once, and the length at which an answer is full."""
_MADE_BYTES = 1 << 20
"""The least bytes of a part of a new file that is sent."""
_PHYSICAL: Mapping[pa.DataType, str] = {
    pa.string(): "BYTE_ARRAY",
    pa.timestamp("us", "UTC"): "INT64",
    pa.int64(): "INT64",
    pa.float64(): "DOUBLE",
    pa.bool_(): "BOOLEAN",
}
_WRITER = re.compile(r"parquet-cpp-arrow version [0-9]{1,2}(\.[0-9]{1,2}){2}(-SNAPSHOT)?").fullmatch
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _receive(seconds: float) -> tuple[int, bytes]:
    """Read a message; end the process if none comes."""
    with suppress(OSError):
        return receive(0, seconds)
    sys.exit()


def _range(start: int, length: int) -> bytes:
    """Ask for a range of the file. Raises ``OSError`` if the file does not have it."""
    send(1, RANGE, PLACE.pack(start, length))
    kind, found = _receive(_RANGE_SECONDS)
    if kind != DATA or len(found) < length:
        raise OSError("a part of the file is not there")
    return found[:length]


class _File:
    """A file of ours with its ``size``, its ``footer`` as bytes and parsed, and its columns.

    Raises ``ValueError`` and others for a file that is not ours or exceeds a bound.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        tail = _range(max(0, size - _TAIL), min(size, _TAIL))
        length = int.from_bytes(tail[-8:-4], "little")
        if tail[-4:] != _MAGIC or length > _MOST_FOOTER or length + 12 > size:
            raise ValueError("this is no Parquet file, or its end is too long")
        needed = length + 8
        self.footer = (tail if needed <= len(tail) else _range(size - needed, needed))[-needed:]
        self.metadata = parquet.ParquetFile(
            pa.BufferReader(_MAGIC + self.footer),
            thrift_container_size_limit=MOST_STRUCTURES,
            thrift_string_size_limit=_MOST_FOOTER,
        ).metadata
        self.schema = _checked_schema(self.metadata)
        self.groups = [self.metadata.row_group(at) for at in range(self.metadata.num_row_groups)]
        rows = [each.num_rows for each in self.groups]
        sizes = [each.total_byte_size for each in self.groups]
        columns = range(len(self.schema))
        places = [_place(group.column(at)) for group in self.groups for at in columns]
        lengths = [length for _, length in places]
        if min([0, *rows, *sizes, *lengths]) < 0 or sum(lengths) > size:  # row groups share columns
            raise ValueError("the numbers of the file are too small, or its columns overlap")
        if sum(rows) > _MOST_ROWS or sum(sizes) > _MOST_BYTES:
            raise ValueError("the sums of the file are too large")
        self.rows = sum(rows)
        self.fields = {
            name: self.rows - sum(each.null_count for each in self._stated(at, "has_null_count"))
            for at, name in enumerate(self.schema.names)
            if name not in RESERVED
        }
        self._ranges = dict[int, bytes]()

    def _stated(self, at: int, which: str) -> list[Any]:
        """Return each row group's statistics of a column. Raises ``ValueError`` if one lacks
        ``which``."""
        found = [group.column(at).statistics for group in self.groups]
        if not all(each is not None and getattr(each, which) for each in found):
            raise ValueError("the end of the file lacks what ours have")
        return found

    def minutes(self) -> tuple[str | None, str | None]:
        """Return the first and the last minute; ``None`` if there is no row group."""
        if not self.groups:
            return None, None
        stated = self._stated(self.schema.names.index("received"), "has_min_max")
        first, last = min(each.min_raw for each in stated), max(each.max_raw for each in stated)
        return _minute(first), _minute(last)

    def useful(self, parts: Sequence[Part]) -> list[Part]:
        """Return the parts of a rule that may concern the file, given the fields with values."""
        filled = {name for name, number in self.fields.items() if number}
        return [
            part
            for part in parts
            if part.removed(filled) and (part.field is None or part.field in filled)
        ]

    def concerned(self, parts: Sequence[Part], groups: Iterable[int]) -> Iterator[int]:
        """Yield the row groups that parts of a rule may concern. Reads only the times, and the
        columns that the parts select people by."""
        from collector.arrow.tables import concerns  # noqa: PLC0415 - slow to import

        useful = self.useful(parts)
        names = ["received", *dict.fromkeys(each.field for each in useful if each.field)]
        is_any = any(part.field is None for part in useful)
        for number in groups if useful else ():
            if is_any or concerns(self.read(number, names), useful):
                yield number

    def read(self, number: int, names: Sequence[str] = ()) -> pa.Table:
        """Read columns of a row group; without names, all of them, and texts as dictionaries."""
        group, every = self.groups[number], self.schema.names
        encoded = [e.name for e in self.schema if not names and pa.types.is_string(e.type)]
        names = names or every
        wanted = {each for each in every for name in names if f"{each}.".startswith(f"{name}.")}
        places = [_place(group.column(at)) for at, name in enumerate(every) if name in wanted]
        self._ranges = {start: _range(start, end - start) for start, end in self._joined(places)}
        source = pa.PythonFile(Ranges(self.part, self.size), "r")
        reading = parquet.ParquetFile(
            source, metadata=self.metadata, read_dictionary=encoded, pre_buffer=False
        )
        found = reading.read_row_group(number, sorted(wanted), use_threads=False).select([*names])
        is_bounded = found.nbytes <= MOST_GROUP
        if len(found) != group.num_rows or not is_bounded or _decoded(found) > MOST_GROUP:
            raise ValueError("a row group has more than it says, or than it may")
        return found

    def part(self, start: int, end: int) -> bytes:
        """Return bytes of the row group that was read last. Raises ``OSError`` for other bytes."""
        for first, found in self._ranges.items():
            if first <= start and end <= first + len(found):
                return found[start - first : end - first]
        raise OSError("this part of the file was not asked for")

    def _joined(self, places: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
        """Return the start and end of each part of the file to read. Adjacent columns share one."""
        found = list[tuple[int, int]]()
        for start, length in sorted(places):
            end = start + length
            if start < 0 or length < 0 or end > self.size:
                raise ValueError("a column is not in the file")
            if found and start - found[-1][1] <= _GAP:
                found[-1] = found[-1][0], max(found[-1][1], end)
            else:
                found.append((start, end))
        if sum(end - start for start, end in found) > MOST_COMPRESSED:
            raise ValueError("columns are too large")
        return found


def _checked_schema(metadata: parquet.FileMetaData) -> pa.Schema:
    """Return the columns. Raises ``ValueError`` unless each has a type and a form that we write."""
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
    is_ours &= {*RESERVED} <= {*schema.names} and MARK in (metadata.metadata or {})
    if not is_ours or len(schema) * metadata.num_row_groups > MOST_STRUCTURES:
        raise ValueError("the columns are of other types, or there are too many")
    return schema


def _minute(microseconds: int) -> str:
    return to_minute(_EPOCH + timedelta(microseconds=microseconds))


def _place(chunk: Any) -> tuple[int, int]:
    """Return the start and the length of a column of a row group."""
    first, start = chunk.dictionary_page_offset, chunk.data_page_offset
    begin = first if first is not None and 0 < first < start else start
    return begin, chunk.total_compressed_size


def _decoded(table: pa.Table) -> int:
    """Return the bytes of the texts that dictionaries stand for. Raises ``pa.ArrowException`` for
    an index that is not in its dictionary."""
    size = 0
    for chunk in chain(*(column.chunks for column in table.columns)):
        if pa.types.is_dictionary(chunk.type):
            import pyarrow.compute as pc  # noqa: PLC0415 - slow to import

            lengths = pc.take(pc.binary_length(chunk.dictionary), chunk.indices)
            size += pc.sum(pc.cast(lengths, pa.int64())).as_py() or 0
    return size


# -- questions -------------------------------------------------------------------------------------


def _opened(file: _File) -> tuple[int, bytes, Statistics]:
    metadata = file.schema.metadata
    stated = {
        name: timedelta(seconds=number) for name, number in stated_retentions(metadata).items()
    }
    statistics = Statistics(file.rows, file.fields, *file.minutes(), stated)
    return len(file.groups), metadata[MARK], statistics


def _is_concerned(file: _File, parts: Sequence[Part]) -> bool:
    return any(True for _ in file.concerned(parts, range(len(file.groups))))


def _records(file: _File, where: tuple[int, int, Sequence[Part]]) -> tuple[int | None, bytes]:
    """Return the number of the next row (``None`` if there is none), and records as NDJSON."""
    from collector.arrow.tables import cut, read_records  # noqa: PLC0415 - slow to import

    group, row, parts = where
    if not [*file.concerned(parts, [group])]:
        return None, b""
    table, lines = file.read(group), bytearray()
    concerned = cut(table, parts).concerned
    found = table.slice(0, 0) if concerned is None else table.filter(concerned)
    while row < len(found) and len(lines) < _LINES_BYTES:
        lines += _encode_lines(list(read_records(found.slice(row, _LINES))))
        row += _LINES
    return (row if row < len(found) else None), bytes(lines)


def _values(file: _File, group: int) -> tuple[str, Mapping[str, Sequence[Any]]]:
    from collector.arrow.tables import distinct  # noqa: PLC0415 - slow to import

    found = distinct(file.read(group))
    named = found.pop("schema")
    return (named[0] if len(named) == 1 else ""), found


def _count(file: _File, parts: Sequence[Part]) -> tuple[int, Mapping[str, int]]:
    from collector.arrow.tables import cut  # noqa: PLC0415 - slow to import

    number, fields = 0, Counter[str]()
    for group in file.concerned(parts, range(len(file.groups))):
        table = file.read(group)
        concerned, lost = cut(table, parts).counts(table)
        number += concerned
        fields.update(lost)
    return number, fields


def _revise(file: _File, steps: Sequence[Sequence[Part]]) -> list[tuple[int, int]]:
    made = _Made()
    done = _written_anew(file, steps, made)
    made.send()
    return done


def _is_whole(file: _File, key: str) -> bool:
    """Return whether writing the file again gives the same bytes."""
    is_ours, same = has_own_metadata(file.schema.metadata, key, file.fields), _Same(file)
    if is_ours and _range(0, len(_MAGIC)) == _MAGIC:
        _written_anew(file, [], same)
    return same.is_whole


def _written_anew(
    file: _File, steps: Sequence[Sequence[Part]], made: io.RawIOBase
) -> list[tuple[int, int]]:
    """Write the file without what steps remove. Return how many records each step has deleted and
    shortened."""
    from collector.arrow.tables import Writer, cut  # noqa: PLC0415 - slow to import

    done = [(0, 0) for _ in steps]
    with closing(Writer(pa.PythonFile(made, "w"), file.schema)) as new:
        for number in range(len(file.groups)):
            left = file.read(number)
            for at, parts in enumerate(steps):
                left, shortened, deleted = cut(left, parts).apply(left)
                done[at] = done[at][0] + deleted, done[at][1] + shortened
            if len(left):
                new.write(left)
    return done


class _Made(io.RawIOBase):
    """A new file. Its parts are sent to the process that asked."""

    def __init__(self) -> None:
        self._pending = bytearray()

    def writable(self) -> bool:
        """Return that it can be written."""
        return True

    def write(self, data: Any) -> int:
        """Buffer bytes, and send them when there are enough."""
        self._pending += data
        if len(self._pending) >= _MADE_BYTES:
            self.send()
        return len(data)

    def send(self) -> None:
        """Send the buffered bytes."""
        send(1, PART, bytes(self._pending))
        self._pending.clear()


class _Same(io.RawIOBase):
    """Compares what is written with a file. The file may name another version of pyarrow."""

    def __init__(self, file: _File) -> None:
        self._file, self._at, self._is_same = file, 0, True
        writer = file.metadata.created_by
        before, _, after = file.footer.rpartition(writer.encode())
        now = f"parquet-cpp-arrow version {pa.cpp_version}".encode()
        length = bytes([len(now)])
        end = before[:-1] + length + now + after[:-8]
        self._is_same = _WRITER(writer) is not None and before[-1:] == bytes([len(writer)])
        self._end = end + len(end).to_bytes(4, "little") + _MAGIC
        self._start = file.size - len(file.footer)

    @property
    def is_whole(self) -> bool:
        """Whether the written bytes are the whole file and nothing else."""
        return self._is_same and self._at == self._start + len(self._end)

    def writable(self) -> bool:
        """Return that it can be written."""
        return True

    def tell(self) -> int:
        """Return the position."""
        return self._at

    def write(self, data: Any) -> int:
        """Compare bytes with the file at the position."""
        if self._is_same:
            self._is_same = self._part(len(data)) == bytes(data)
        self._at += len(data)
        return len(data)

    def _part(self, length: int) -> bytes:
        at, end = self._at, self._at + length
        if at == 0:
            return _MAGIC[:length]
        if at >= self._start:
            return self._end[at - self._start : end - self._start]
        with suppress(OSError):
            return self._file.part(at, end)
        return b""


_encode_lines = msgspec.json.Encoder().encode_lines
_NUMBER = Decoder(int)
_PARTS = Decoder(list[Part])
_QUESTIONS: Mapping[int, tuple[Decoder[Any], Callable[[_File, Any], object]]] = {
    WHOLE: (Decoder(str), _is_whole),
    CONCERNS: (_PARTS, _is_concerned),
    ROWS: (Decoder(tuple[int, int, list[Part]]), _records),
    VALUES: (_NUMBER, _values),
    COUNT: (_PARTS, _count),
    REVISE: (Decoder(list[list[Part]]), _revise),
}


def _serve() -> None:
    file: _File | None = None
    while True:
        kind, content = _receive(IDLE_SECONDS)
        try:
            if kind == OPEN:
                file = None
                file = _File(_NUMBER.decode(content))
                answer: object = _opened(file)
            elif file is None:
                raise ValueError("there is no file")
            else:
                question, answered = _QUESTIONS[kind]
                answer = answered(file, question.decode(content))
            send(1, ANSWER, encoded(answer))
        except MemoryError:  # perhaps earlier files used the memory: a new process tries again
            sys.exit()
        except (pa.ArrowException, OSError, ValueError, LookupError, TypeError, OverflowError):
            send(1, REFUSED, b"")


def _limit_memory() -> None:
    """Limit the process to ``_MEMORY`` more than it uses now, and forbid core dumps."""
    import resource  # noqa: PLC0415 - not everywhere

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    status = Path("/proc/self/statm")
    if status.exists():
        most = int(status.read_text().split()[0]) * resource.getpagesize() + _MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


if __name__ == "__main__":
    for each in (signal.SIGINT, signal.SIGTERM):  # it ends when the asking process does
        signal.signal(each, signal.SIG_IGN)
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    _limit_memory()
    _serve()
