"""What else may be in a lake, and in the directory in which a sink collects for it, is found."""

from __future__ import annotations

import os
import sqlite3
from base64 import b64encode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet

from collector.errors import DeliveryError
from collector.filter.arrow import writer
from collector.filter.redaction import EVERYTHING
from collector.schema import load_schema
from collector.sinks.parquet import ParquetSettings, ParquetSink, segment_reader
from collector.sinks.sink import Opening
from collector.testing.sinks import batch_of, removal_of
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
    with writer(_file(folder), table.schema) as made:
        made.write_table(table)
        made.add_key_value_metadata({"ARROW:schema": text})


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
    "metadata of Arrow's": _of_arrow,
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
    """All that is there is of the sink's making, also while it is open."""
    with _opened(folder, offline=True) as sink:
        assert sink.others == 0
        with _opened(folder):
            assert sink.others == 0


@pytest.mark.parametrize("name", _PARTS)
def test_what_is_not_of_its_making(folder: Path, name: str) -> None:
    """It is counted."""
    _PARTS[name](folder)
    with _opened(folder, offline=True) as sink:
        assert sink.others > 0


def test_a_file_that_is_being_written(folder: Path) -> None:
    """It is waited for, and one that was left is counted."""
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
    """Of another user: nobody says that no records wait there."""
    stat = os.stat

    def refused(path: Any, **more: Any) -> os.stat_result:
        if str(path).endswith("sinks/lake/segments.db"):
            raise PermissionError
        return stat(path, **more)

    monkeypatch.setattr(os, "stat", refused)
    with _opened(folder, offline=True) as sink, raises("E503", DeliveryError):
        list(sink.measure(EVERYTHING))


def test_a_directory_on_another_disk(folder: Path) -> None:
    """A link to it is followed, as readers of the lake do: to look, and to erase. One that leads
    back is no obstacle."""
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
