"""Files of a lake that are made to harm are read in bounded memory, or refused; what is read."""

from __future__ import annotations

import io
import os
import resource
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from hashlib import sha256
from pathlib import Path
from random import Random
from time import sleep
from typing import Any, BinaryIO
from unittest import mock

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from collector.arrow.mark import MARK
from collector.arrow.process import (
    IDLE_SECONDS,
    ParquetFile,
    ReaderProcess,
    _end_all,
    _started,
    encoded,
)
from collector.arrow.tables import Writer, bounded_groups
from collector.contracts import Part, count_lines
from collector.errors import DeliveryError, UnreadableFile
from collector.filter.arrow import arrow_schema, read_tables
from collector.filter.redaction import EVERYTHING
from collector.filter.stored import records_in
from collector.sinks.parquet.object_store import DirectoryObjects
from collector.testing.sinks import person, removal_of
from tests.sinks.test_parquet import _SCHEMA, _batch, _files, _made, _opened, _people, _put
from tests.support.parquet import write_parquet, zigzag
from tests.support.programs import script
from tests.support.raising import raises

_READER = ReaderProcess()
_COLUMNS = arrow_schema({"client.address": "text", "os.type": "text", "n": "integer"}, b"mark")
_MOST_MB = 256


def _written(columns: dict[str, Any], rows: int, **options: Any) -> bytes:
    """A file of the sink's form, but for some columns."""
    now = pa.scalar(datetime(2026, 11, 27, 13, tzinfo=UTC), _COLUMNS.field("received").type)
    texts = pa.DictionaryArray.from_arrays(pa.nulls(rows, pa.int32()), pa.array(["linux"]))
    arrays = {
        "schema": pa.repeat(pa.scalar("conferencing/1.0.0"), rows),
        "received": pa.repeat(now, rows),
        "client.address": texts,
        "os.type": texts,
        "n": pa.nulls(rows, pa.int64()),
        "count": pa.repeat(pa.scalar(1), rows),
    } | columns
    file, metadata = io.BytesIO(), {MARK: b"conferencing/1.0.0 key"}
    write_parquet(file, pa.table(arrays).replace_schema_metadata(metadata), **options)
    return file.getvalue()


def _inflating() -> bytes:
    """One text of 400 MB, in a page of some kilobytes."""
    return _written({"os.type": pa.array(["x" * (400 << 20)])}, 1, use_dictionary=False)


def _repeating() -> bytes:
    """One text of a megabyte, 2,000 times."""
    numbers = pa.repeat(pa.scalar(0, pa.int32()), 2000)
    texts = pa.DictionaryArray.from_arrays(numbers, pa.array(["x" * (1 << 20)]))
    return _written({"os.type": texts, "client.address": texts}, 2000)


def _many_rows() -> bytes:
    """Ten million rows without a value."""
    rows = 10_000_000
    return _written({f"n{at}": pa.nulls(rows, pa.int64()) for at in range(9)}, rows)


_BOMBS = [
    pytest.param(_inflating, marks=pytest.mark.long),
    pytest.param(_repeating),
    pytest.param(_many_rows, marks=pytest.mark.long),
]
_ASKS = """
import resource, sys
from datetime import UTC, datetime
from pathlib import Path
from collector.errors import DeliveryError
from collector.arrow import process
from collector.filter.redaction import EVERYTHING
from collector.testing.sinks import removal_of
from tests.sinks.test_parquet import _opened

def most():
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) >> 10

with _opened(Path(sys.argv[1]), offline=True) as sink:
    before = most()
    for ask in (
        lambda: sink.rewrite([removal_of(1)]),
        lambda: list(sink.scan(removal_of(2))),
        lambda: list(sink.values()),
        lambda: list(sink.measure(EVERYTHING)),
        lambda: sink.prune(datetime.now(UTC)),
    ):
        try:
            ask()
            print("done")
        except DeliveryError as error:
            print(error.code)
process._end_all()
print(most(), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss >> 10)
"""


def _lake(directory: Path, bomb: Callable[[], bytes]) -> Path:
    """A lake of two honest files, and a bomb between them; return its path."""
    _made(directory, _batch(1, [1, 2], hours=2), _batch(2, [1, 2]))
    first, _ = _files(directory)
    path = first.with_name(f"{first.name[:2]}-{'f' * 32}.parquet")
    path.write_bytes(bomb())
    assert path.stat().st_size < 1 << 20
    return path


@pytest.mark.skipif(sys.platform != "linux", reason="the system does not tell")
@pytest.mark.long
@pytest.mark.parametrize("bomb", _BOMBS)
def test_a_bomb_in_the_lake(tmp_path: Path, bomb: Callable[[], bytes]) -> None:
    """An error names it, and all other files are read and rewritten."""
    path = _lake(tmp_path, bomb)
    content = path.read_bytes()
    *codes, most, most_of_reader = script(_ASKS, tmp_path, timeout=100).stdout.split()
    assert "E507" in codes
    assert set(codes) <= {"E507", "done"}  # done without the columns that are too large
    assert max(int(most), int(most_of_reader)) < _MOST_MB
    assert path.read_bytes() == content
    path.unlink()
    assert _people(tmp_path) == [person(2)] * 2


def test_the_error_counts_files(tmp_path: Path) -> None:
    path = _lake(tmp_path, lambda: b"PAR1canary")
    path.with_name(f"{path.name[:2]}-{'e' * 32}.parquet").write_bytes(b"canary")
    with (
        _opened(tmp_path, offline=True) as sink,
        raises("E507", UnreadableFile, match="2 files") as caught,
    ):
        sink.rewrite([removal_of(1)])
    assert "canary" not in str(caught.value)
    assert caught.value.number == 2


def _honest() -> bytes:
    rows = 200
    texts = pa.array([f"203.0.113.{at % 50}" for at in range(rows)])
    numbers = pa.array(range(rows), pa.int64())
    return _written({"client.address": texts, "n": numbers}, rows)


_HONEST = _honest()


def _changed(at: int, byte: int) -> bytes:
    content = bytearray(_HONEST)
    content[at] = byte
    return bytes(content)


_ALL = [Part()]


def _number(file: ParquetFile) -> int:
    """How many records a file has, by reading them."""
    return sum(map(count_lines, file.records(_ALL)))


def _read(file: ParquetFile) -> None:
    """Ask for all that can be asked of a file."""
    for ask in (
        lambda: _number(file),
        lambda: list(file.values()),
        lambda: file.count(_ALL),
        lambda: file.revise([[Part(frozenset(["os.type"]))]], io.BytesIO()),
        lambda: file.is_whole("key"),
    ):
        with suppress(UnreadableFile):
            ask()


@pytest.mark.long
def test_each_byte_of_the_end() -> None:
    """Pyarrow ends the process for some; it is not asked then."""
    length = int.from_bytes(_HONEST[-8:-4], "little")
    for at in range(len(_HONEST) - 8 - length, len(_HONEST) - 8):
        for byte in (_HONEST[at] ^ 16, 128):
            with suppress(UnreadableFile):
                _number(ParquetFile(io.BytesIO(_changed(at, byte)), _READER))


@given(
    changes=st.lists(
        st.tuples(st.integers(0, len(_HONEST) - 1), st.integers(0, 255)), min_size=1, max_size=4
    ),
    end=st.integers(0, 40),
)
def test_any_bytes(changes: list[tuple[int, int]], end: int) -> None:
    content = bytearray(_HONEST)
    for at, byte in changes:
        content[at] = byte
    with suppress(UnreadableFile):
        source = io.BytesIO(bytes(content[: len(content) - end] if end > 30 else content))
        _read(ParquetFile(source, _READER))


def test_a_text_that_is_repeated() -> None:
    file = ParquetFile(io.BytesIO(_repeating()), _READER)
    assert file.statistics.records == 2000
    with raises("E507", UnreadableFile):
        _number(file)


def test_row_groups_that_share_their_columns() -> None:
    """Written anew, each would take its own part of the disk."""
    random, groups, file = Random(5), 15, io.BytesIO()
    lines = b"".join(b'{"n":%d}\n' % random.getrandbits(50) for _ in range(3000))
    (table,) = read_tables(lines, _COLUMNS, "2026-11-27T13:00:00Z", "conferencing/1.0.0")
    with closing(Writer(file, _COLUMNS)) as made:
        for _ in range(groups):
            made.write(table)
    data = file.getvalue()
    places, at = [_offsets(data, number) for number in range(groups)], 0
    length = int.from_bytes(data[-8:-4], "little")
    end = data[-8 - length :]
    for number in range(2, groups):
        for old, new in zip(places[number], places[1], strict=True):
            at = end.index(zigzag(old), at)
            end = end[:at] + zigzag(new) + end[at + len(zigzag(old)) :]
            at += 1
    shared = data[: min(places[2])] + end
    assert [_offsets(shared, number) for number in range(1, groups)] == [places[1]] * (groups - 1)
    assert len(parquet.read_table(io.BytesIO(shared))) == groups * 3000
    with raises("E507", UnreadableFile):
        ParquetFile(io.BytesIO(shared), _READER)


def _offsets(data: bytes, number: int) -> list[int]:
    """Where the pages of a row group are, in the order in which the end of a file says it."""
    group = parquet.read_metadata(io.BytesIO(data)).row_group(number)
    columns = [group.column(at) for at in range(group.num_columns)]
    both = [(each.data_page_offset, each.dictionary_page_offset) for each in columns]
    return [place for each in both for place in each if place is not None]


def test_a_footer_of_many_structures() -> None:
    """Each takes a hundred times its bytes."""
    structures = b"\x4c" + b"\x00" * 1_000_000  # a list in a structure would do the same
    footer = b"\x19\xfc" + b"\xc0\x84\x3d" + structures
    data = b"PAR1" + footer + len(footer).to_bytes(4, "little") + b"PAR1"
    with pytest.raises(UnreadableFile):
        ParquetFile(io.BytesIO(data), _READER)


def test_a_process_that_was_killed() -> None:
    file = ParquetFile(io.BytesIO(_HONEST), _READER)
    _READER.ready().kill()
    _READER.ready().wait()
    assert _number(file) == 200


def test_a_file_that_becomes_another_one() -> None:
    """The next process refuses it."""
    source = io.BytesIO(_HONEST)
    file = ParquetFile(source, _READER)
    source.seek(0)
    source.write(_HONEST.replace(b"os.type", b"os.kind"))
    assert _number(file) == 200  # its end is known still
    _READER.ready().kill()
    _READER.ready().wait()
    with pytest.raises(UnreadableFile):
        _number(file)


class _Hindered(io.BytesIO):
    """A file that does something when it is read next."""

    hinder: Callable[[], object] | None = None

    def read(self, size: int | None = -1) -> bytes:
        hinder, self.hinder = self.hinder, None
        if hinder is not None:
            hinder()
        return super().read(size)


def test_a_process_that_is_killed_at_work() -> None:
    source = _Hindered(_HONEST)
    source.hinder = _READER.ready().kill
    file = ParquetFile(source, _READER)
    source.hinder = _READER.ready().kill
    assert _number(file) == 200


@pytest.mark.long
def test_a_process_without_memory() -> None:
    """It ends and does not refuse the file, as a new process may have enough."""
    text = pa.array(["x" * (200 << 20)])
    file = ParquetFile(
        io.BytesIO(_written({"os.type": text}, 1, use_dictionary=False)), ReaderProcess()
    )
    asked = file._process.ready()
    with raises("E507", UnreadableFile):
        _number(file)
    assert asked.poll() is not None


def test_an_answer_that_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file may have taken the process over: the process goes."""
    program, reader = tmp_path / "program", ReaderProcess()
    monkeypatch.setattr(sys, "executable", str(program))
    for answer in (
        r"A\000\000\000\004abcd",
        r"A\377\377\377\377",
        r"P\000\000\000\000",
        r"\000",
    ):
        program.write_text(f"#!/bin/sh\nprintf '{answer}'\n")
        program.chmod(0o700)
        with raises("E507", UnreadableFile):
            ParquetFile(io.BytesIO(_HONEST), reader)
    monkeypatch.undo()
    assert _number(ParquetFile(io.BytesIO(_HONEST), reader)) == 200


def test_a_file_that_is_made_without_an_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not fill the disk, and what is removed is told for each rule."""
    file, program = ParquetFile(io.BytesIO(_HONEST), _READER), tmp_path / "program"
    opened = encoded((file.groups, file.mark, file.statistics))
    part = b"P" + (1 << 16).to_bytes(4, "big") + bytes(1 << 16)
    for parts, answer in ((100, [(1, 0)]), (0, []), (0, [(-1, 0)])):
        told = b"".join(
            b"A" + len(each).to_bytes(4, "big") + each for each in (opened, encoded(answer))
        )
        at = 5 + len(opened)
        (tmp_path / "told").write_bytes(told[:at] + part * parts + told[at:])
        program.write_text(f"#!/bin/sh\ncat '{tmp_path}/told'\nsleep 9\n")
        program.chmod(0o700)
        monkeypatch.setattr(sys, "executable", str(program))
        with closing(ReaderProcess()) as reader, raises("E507", UnreadableFile):
            ParquetFile(io.BytesIO(_HONEST), reader).revise([_ALL], io.BytesIO())
        _end_all()


def test_a_process_that_cannot_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lake has no answer then, which differs from that of an empty lake."""
    _made(tmp_path, _batch(1, [1], hours=2))
    _end_all()
    with monkeypatch.context() as changed, _opened(tmp_path, offline=True) as sink:
        changed.setattr(sys, "executable", str(tmp_path / "none"))
        for ask in (
            lambda: sink.rewrite([removal_of(1)]),
            lambda: list(sink.scan(removal_of(1))),
            lambda: list(sink.values()),
            lambda: list(sink.measure(EVERYTHING)),
            lambda: sink.prune(datetime.now(UTC) + timedelta(days=9999)),
        ):
            with raises("E503", DeliveryError):
                ask()
    assert _people(tmp_path) == [person(1)]


def test_many_handles() -> None:
    """An application may have more than a thousand open."""
    least, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(2048, most), most))
    held = [os.open(os.devnull, os.O_RDONLY) for _ in range(1024)]
    try:
        with closing(ReaderProcess()) as reader:
            reader._process = _started()
            assert _number(ParquetFile(io.BytesIO(_HONEST), reader)) == 200
    finally:
        for each in held:
            os.close(each)
        _end_all()
        resource.setrlimit(resource.RLIMIT_NOFILE, (least, most))


def test_an_exchange_that_is_broken_off() -> None:
    """Whoever asks next gets no answer to an earlier question."""
    source = _Hindered(_HONEST)
    source.hinder = partial(signal.raise_signal, signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        ParquetFile(source, _READER)
    assert _number(ParquetFile(io.BytesIO(_HONEST), _READER)) == 200


@pytest.mark.long
def test_a_server_that_is_slow() -> None:
    """The process waits longer for a part of a file than for a question."""
    source = _Hindered(_HONEST)
    file = ParquetFile(source, _READER)
    asked = _READER.ready()
    source.hinder = partial(sleep, IDLE_SECONDS + 1)
    assert _number(file) == 200
    assert asked.poll() is None


# -- what is read ---------------------------------------------------------------------------------


class _Counted(io.BytesIO):
    """A file that counts what is read of it."""

    total: int = 0

    def read(self, size: int | None = -1) -> bytes:
        found = super().read(size)
        _Counted.total += len(found)
        return found


@contextmanager
def _counted() -> Iterator[list[str]]:
    """Yield the keys of the objects that are opened."""
    opened, real = list[str](), DirectoryObjects.open

    def count(self: DirectoryObjects, key: str) -> tuple[BinaryIO, Any]:
        opened.append(key)
        source, version = real(self, key)
        with source:
            return _Counted(source.read()), version

    _Counted.total = 0
    with mock.patch.object(DirectoryObjects, "open", count):
        yield opened


def test_one_pass_for_all_who_are_erased(tmp_path: Path) -> None:
    with _opened(tmp_path) as sink:
        sink.deliver(*(_batch(at, [at % 9, 100 + at % 9], hours=at) for at in range(12)))
        _put(sink)
        number = len(_files(tmp_path))
        rules = [removal_of(at) for at in range(1, 9)]
        with _counted() as opened:
            removals = sink.rewrite(rules)
        assert len(opened) == len(set(opened)) == number == 12
        assert sum(each.deleted for each in removals) == 10
        assert all(each.deleted in (1, 2) for each in removals)
        with _counted() as opened:
            assert not any(sink.rewrite(rules))
        assert len(opened) == 12
    left = [person(0)] * 2 + [person(100 + at % 9) for at in range(12)]
    assert _people(tmp_path) == sorted(left)


def test_a_person_who_is_not_there(tmp_path: Path) -> None:
    """The search costs the end of each object and the columns by which people are found."""
    day = datetime.now(UTC).strftime("day=%Y-%m-%d")
    path = tmp_path / "lake" / "conferencing" / day / f"13-{'a' * 32}.parquet"
    path.parent.mkdir(parents=True)
    rows = 20_000
    more = {f"n{at}": pa.array([at * each for each in range(rows)]) for at in range(1, 20)}
    texts = pa.array([f"198.51.100.{at % 200}" for at in range(rows)])
    path.write_bytes(_written({"client.address": texts, **more}, rows))
    size = path.stat().st_size
    with _opened(tmp_path, offline=True) as sink, _counted() as opened:
        assert not sink.rewrite([removal_of(1)])[0]
    assert len(opened) == 1
    # the end of a file is read in pieces of 64 KiB
    assert _Counted.total < (64 << 10) + size / 10


# -- what is written ------------------------------------------------------------------------------


@settings(max_examples=max(3, settings().max_examples // 20))
@given(
    fields=st.sampled_from([1, 60, 250]),
    lines=st.integers(1, 1_000),
    value=st.sampled_from(["true", "false", "9007199254740991", '"é"', f'"{"x" * 300}"', "0.5"]),
)
@example(fields=600, lines=3_000, value="true")
def test_what_the_sink_writes_can_be_read(fields: int, lines: int, value: str) -> None:
    """It has the same bytes when it is written anew."""
    kinds = {"t": "boolean", "f": "boolean", "9": "integer", '"': "text", "0": "number"}
    names = {f"f{at}": kinds[value[0]] for at in range(fields)}
    columns = arrow_schema({"client.address": "text", **names}, b"s/1.0.0 s/key")
    text = b"".join(b'{"f%d":%b}\n' % (at % fields, value.encode()) for at in range(lines))
    text += b'{"client.address":"203.0.113.1"}\n'
    file, new = io.BytesIO(), io.BytesIO()
    with closing(Writer(file, columns)) as made:
        for table in bounded_groups(read_tables(text, columns, "2026-11-27T13:00:00Z", "s/1.0.0")):
            made.write(table)
    found, number = ParquetFile(file, _READER), -(-lines // fields)
    assert found.statistics.fields["f0"] == number
    counted, lost = found.count(_ALL)
    assert counted == sum(lost.values()) == lines + 1
    people = Part(field="client.address", value="203.0.113.1")
    (record,) = (each for some in found.records([people]) for each in records_in(some))
    assert record["client.address"] == "203.0.113.1"
    (done,) = found.revise([[Part(frozenset({"f0"}))]], new)
    assert done.records == number
    assert ParquetFile(new, _READER).is_whole("s/key")
    assert not found.is_whole("s/another")


def test_any_version_of_pyarrow_writes_the_same() -> None:
    """Otherwise all files of a lake would be foreign after an update."""
    random, rows = Random(5), range(30_000)
    addresses = [f"203.0.{random.randrange(1 << 16)}" for _ in rows]
    table = pa.table(
        {
            "client.address": [each if random.random() < 0.9 else None for each in addresses],
            "long": [f"{random.randrange(10**7):060}" for _ in rows],
            "none": pa.nulls(len(rows), pa.string()),
            "f": [random.random() for _ in rows],
            "i": [random.randrange(9) if random.random() < 0.5 else None for _ in rows],
            "b": [random.random() < 0.5 for _ in rows],
        }
    )
    file = io.BytesIO()
    with closing(Writer(file, table.schema.with_metadata({MARK: b"s/1.0.0 s/key"}))) as made:
        made.write(table)
    found = sha256(file.getvalue().replace(pa.cpp_version.encode(), b"")).hexdigest()
    assert found == "7d5ea81423e6a3bf02e55cb51f50655139dd490a951809acf77355487aa0fc28"


def test_a_large_table_is_divided() -> None:
    table = pa.table({"text": pa.array(["x" * 1000] * 35_000)})
    found = list(bounded_groups([table, table.slice(0, 7)]))
    assert sum(map(len, found)) == 35_007
    assert all(each.nbytes <= 32 << 20 for each in found)


def test_a_file_of_many_columns_has_fewer_records(tmp_path: Path) -> None:
    """The end of a file describes each column of each row group, and is bounded."""
    columns = tuple((f"f{at:03}", "TEXT") for at in range(400))
    layout = replace(_SCHEMA.layout, columns=columns)
    line = b'{"schema":"%b","f001":"x"}\n' % layout.schema.encode()
    with _opened(tmp_path) as sink:
        rows = sink._terms(layout).size // len(line)
        types = arrow_schema(dict.fromkeys(dict(columns), "text"), b"mark")
        group = next(bounded_groups(read_tables(line * 9_000, types, "2026-11-27T13:00:00Z", "s")))
        assert rows / len(group) * len(types) * 6 < 100_000
        narrow = replace(layout, columns=columns[:30])
        assert sink._terms(narrow).size == sink.settings.size
