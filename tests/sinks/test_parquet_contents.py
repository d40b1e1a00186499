"""What else may be in a lake, and in the directory in which a sink collects for it, is found."""

from __future__ import annotations

import os
import sqlite3
from base64 import b64encode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from collector.arrow.mark import MARK
from collector.errors import DeliveryError
from collector.filter.redaction import EVERYTHING
from collector.schema import load_schema
from collector.sinks.parquet import ParquetSettings, ParquetSink, segment_reader
from collector.sinks.sink import Opening
from collector.testing.sinks import batch_of, removal_of
from tests.support.parquet import write_parquet, zigzag
from tests.support.raising import raises

_SCHEMA = load_schema("conferencing")
_CANARY = "hello from Ana"


def _opened(directory: Path, *, offline: bool = False) -> ParquetSink:
    opening = Opening("lake", (_SCHEMA,), directory / "data", is_offline=offline)
    return ParquetSink(ParquetSettings(type="parquet", path=directory / "lake"), opening)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A lake with a file, and records that wait for it."""
    monkeypatch.setattr(segment_reader, "_PAUSE", 0)  # nobody writes meanwhile
    with _opened(tmp_path) as sink:
        sink.deliver(batch_of(1, [1, 2], _SCHEMA, age=timedelta(hours=2)))
        sink.finish()
        sink.deliver(batch_of(2, [3], _SCHEMA, age=timedelta(hours=2)))
    return tmp_path


def _file(folder: Path) -> Path:
    return next((folder / "lake").rglob("*.parquet"))


def _own(folder: Path) -> Path:
    return folder / "data" / "sinks" / "lake"


def _of_column(folder: Path) -> None:
    table = parquet.read_table(_file(folder), partitioning=None)
    (at,) = table.schema.get_all_field_indices("os.type")
    named = table.schema.field(at).with_metadata({"chat": _CANARY})
    changed = table.set_column(at, named, table.column(at))
    parquet.write_table(changed.replace_schema_metadata(table.schema.metadata), _file(folder))


def _of_arrow(folder: Path) -> None:
    table = parquet.read_table(_file(folder), partitioning=None)
    text = b64encode(table.schema.serialize().to_pybytes() + _CANARY.encode())
    _in_metadata(folder, b"ARROW:schema", text)


def _rewritten(folder: Path, **settings: Any) -> None:
    """The same records, as another program may write them."""
    write_parquet(_file(folder), parquet.read_table(_file(folder), partitioning=None), **settings)


def _in_columns(folder: Path, change: Callable[[pa.Field], pa.Field]) -> None:
    """The same records, in columns of another form."""
    table = parquet.read_table(_file(folder), partitioning=None)
    columns = pa.schema(map(change, table.schema), table.schema.metadata)
    write_parquet(_file(folder), pa.table(table.columns, schema=columns))


def _of_dictionary(folder: Path) -> None:
    """A value that no record has."""
    table = parquet.read_table(_file(folder), partitioning=None)
    (at,) = table.schema.get_all_field_indices("os.type")
    found = table.column(at).combine_chunks().dictionary_encode()
    values = pa.array([*found.dictionary.to_pylist(), _CANARY])
    more = pa.DictionaryArray.from_arrays(found.indices, values)
    named = table.schema.field(at).with_type(more.type)
    write_parquet(_file(folder), table.set_column(at, named, more))


def _replaced(folder: Path, *, in_end: bool) -> None:
    """Another text of the same length for a least or greatest value: that of the end of the file,
    or of the header of a page before it. No record has it."""
    parts = list(_parts(folder))
    before, old, after = parts[in_end].rpartition(b"linux")
    assert old
    parts[in_end] = before + b"hello" + after
    _file(folder).write_bytes(b"".join(parts))
    table = parquet.read_table(_file(folder), partitioning=None)
    assert table["os.type"].to_pylist() == ["linux"] * 2


def _parts(folder: Path) -> tuple[bytes, bytes]:
    """What is before the end of the file, and its end."""
    data = _file(folder).read_bytes()
    at = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    return data[:at], data[at:]


def _behind_the_last_page(folder: Path) -> None:
    """In the part of the file that a column has by its end: its length there is another one."""
    start, end = _parts(folder)
    length, more = _last_column(_file(folder)).total_compressed_size, _CANARY.encode()
    old, new = zigzag(length), zigzag(length + len(more))
    for at in range(len(end)):
        if end[at:].startswith(old):
            changed = end[:at] + new + end[at + len(old) : -8]
            size = len(changed).to_bytes(4, "little")
            _file(folder).write_bytes(start + more + changed + size + b"PAR1")
            with suppress(pa.ArrowException, OSError):
                if _last_column(_file(folder)).total_compressed_size == length + len(more):
                    break
    assert len(parquet.read_table(_file(folder), partitioning=None)) == 2


def _last_column(path: Path) -> Any:
    metadata = parquet.read_metadata(path)
    return metadata.row_group(0).column(metadata.num_columns - 1)


def _in_metadata(folder: Path, name: bytes, text: bytes) -> None:
    table = parquet.read_table(_file(folder), partitioning=None)
    metadata = {**table.schema.metadata, name: text}
    write_parquet(_file(folder), table.replace_schema_metadata(metadata))


def _copied(folder: Path, name: str) -> None:
    path = folder / "lake" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_file(folder).read_bytes())


def _written(folder: Path, name: str) -> None:
    (_own(folder) / name).write_text(_CANARY)


def _edited(folder: Path, *statements: str) -> None:
    with closing(sqlite3.connect(_own(folder) / "segments.db")) as db, db:
        for statement in statements:
            db.execute(statement)


_PARTS: dict[str, Callable[[Path], object]] = {
    "a hidden copy": lambda of: _copied(of, ".copy.parquet"),
    "a file in a hidden directory": lambda of: _copied(of, ".snapshot/copy.parquet"),
    "a copy in another directory": lambda of: _copied(
        of, f"backup/{_file(of).relative_to(of / 'lake')}"
    ),
    "a copy of another name": lambda of: _copied(of, f"{_file(of).relative_to(of / 'lake')}.bak"),
    "a copy of another hour": lambda of: _copied(
        of, f"conferencing/day=2026-01-01/00-{'0' * 32}.parquet"
    ),
    "metadata of a column": _of_column,
    "numbers of columns": lambda of: _in_columns(
        of, lambda each: each.with_metadata({"PARQUET:field_id": "1093558561"})
    ),
    "a column without nulls": lambda of: _in_columns(
        of, lambda each: each.with_nullable(each.name != "count")
    ),
    "metadata of Arrow's": _of_arrow,
    "retentions of other fields": lambda of: _in_metadata(
        of, b"collector.retentions", b"client.address=2592000 hello=1 Ana=1"
    ),
    "another schema": lambda of: _in_metadata(
        of, MARK, f"hello-from-Ana/1.0.0 {_file(of).relative_to(of / 'lake')}".encode()
    ),
    "a version": lambda of: _in_metadata(
        of, MARK, f"conferencing/1.0.{10**30} {_file(of).relative_to(of / 'lake')}".encode()
    ),
    "a value that no record has": _of_dictionary,
    "behind the last page": _behind_the_last_page,
    "in the header of a page": lambda of: _replaced(of, in_end=False),
    "in the statistics of a column": lambda of: _replaced(of, in_end=True),
    "pages with an index": lambda of: _rewritten(of, write_page_index=True),
    "pages with a checksum": lambda of: _rewritten(of, write_page_checksum=True),
    "pages of another form": lambda of: _rewritten(of, data_page_version="2.0"),
    "pages without compression": lambda of: _rewritten(of, compression="none"),
    "many pages": lambda of: _rewritten(of, write_batch_size=1, data_page_size=1),
    "a column without a dictionary": lambda of: _rewritten(of, use_dictionary=False),
    "a segment that none knows": lambda of: _written(of, "99-0.ndjson"),
    "a file that was not put": lambda of: _written(of, "upload.parquet"),
    "a file of a database": lambda of: _written(of, "segments.db-copy"),
    "a directory": lambda of: (_own(of) / "1.ndjson").mkdir(),
    "a column": lambda of: _edited(of, "ALTER TABLE places ADD COLUMN chat ANY"),
    "a text": lambda of: _edited(of, f"INSERT INTO places VALUES ('{_CANARY}')"),
    "a type": lambda of: _edited(of, f"UPDATE types SET type = '{_CANARY}'"),
    "a key": lambda of: _edited(of, f"UPDATE segments SET key = '{_CANARY}'"),
}


def test_nothing_else(folder: Path) -> None:
    _in_columns(folder, lambda each: each)
    with _opened(folder, offline=True) as sink:
        assert sink.others == 0
        with _opened(folder):
            assert sink.others == 0


@pytest.mark.parametrize("name", _PARTS)
def test_what_is_not_of_its_making(folder: Path, name: str) -> None:
    _PARTS[name](folder)
    with _opened(folder, offline=True) as sink:
        assert sink.others > 0


def test_a_file_that_is_being_written(folder: Path) -> None:
    scratch = folder / "lake" / ".lake.new"
    with (
        ThreadPoolExecutor(1) as pool,
        _opened(folder, offline=True) as sink,
        _opened(folder, offline=True) as writing,
    ):
        with writing._lake.objects.locked():
            scratch.touch()
            counted = pool.submit(lambda: sink.others)
            with pytest.raises(TimeoutError):
                counted.result(0.2)
            scratch.unlink()
        assert counted.result() == 0
        scratch.touch()
        assert sink.others == 1


def test_a_directory_that_may_not_be_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody says that no records wait in a directory of another user."""
    stat = os.stat

    def refused(path: Any, **more: Any) -> os.stat_result:
        if str(path).endswith("sinks/lake/segments.db"):
            raise PermissionError
        return stat(path, **more)

    monkeypatch.setattr(os, "stat", refused)
    with _opened(folder, offline=True) as sink, raises("E503", DeliveryError):
        list(sink.measure(EVERYTHING))


def test_a_directory_on_another_disk(folder: Path) -> None:
    """A link is followed, as readers of the lake do. One that leads back is no obstacle."""
    day = _file(folder).parent
    elsewhere = day.rename(folder / "elsewhere")
    day.symlink_to(elsewhere)
    (folder / "lake" / "back").symlink_to(folder / "lake")
    with _opened(folder, offline=True) as sink:
        assert [each.records for each in sink.measure(EVERYTHING)] == [3]
        assert len([*sink.scan(removal_of(1))]) == 1
        assert sink.rewrite([removal_of(1)])[0].records == 1
        assert [*sink.scan(removal_of(1))] == []
        assert [each.records for each in sink.measure(EVERYTHING)] == [2]
