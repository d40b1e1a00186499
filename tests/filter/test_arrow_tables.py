"""Tables of records: how large they are, what files state of them, and the types of columns."""

from __future__ import annotations

import io
from collections.abc import Mapping
from contextlib import closing
from datetime import timedelta
from itertools import accumulate

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from collector import Schema, load_schema
from collector.arrow.mark import MARK, has_own_metadata, metadata, stated_retentions
from collector.arrow.tables import Writer, bounded_groups, distinct, read_records
from collector.contracts import Layout
from collector.filter.arrow import (
    ColumnTypes,
    ParquetRecords,
    arrow_schema,
    column_types,
    read_tables,
)
from tests.support.rows import for_each

_MINUTE = "2026-11-24T10:20:00Z"
_TYPES = {
    "at": "time",
    "os.type": "text",
    "client.address": "text",
    "cpu.count": "integer",
    "audio.jitter": "number",
    "network.ipv6": "boolean",
}
_COLUMNS = arrow_schema(_TYPES, b"mark")


def test_a_group_of_rows_ends_where_it_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    schema, file = load_schema("conferencing"), io.BytesIO()
    line = b'{"schema":"conferencing/1.0.0","os.type":"linux"}\n'
    monkeypatch.setattr("collector.filter.arrow._GROUP_BYTES", 2 * len(line))
    records = ParquetRecords(file, schema)
    for pending in (1, 0, 1):
        records.write(line)
        assert repr(records) == f"<ParquetRecords, {pending * len(line)} bytes pending>"
    records.close()
    found = parquet.ParquetFile(io.BytesIO(file.getvalue())).metadata
    assert [found.row_group(at).num_rows for at in range(found.num_row_groups)] == [2, 1]
    assert found.metadata == {MARK: b"conferencing/1.0.0"}
    assert found.row_group(0).column(0).compression == "ZSTD"


_KEY = "typed/2026"


def _is_ours(found: Mapping[bytes, bytes]) -> bool:
    return has_own_metadata(found, _KEY, _TYPES)


def test_a_file_states_its_schema_and_its_retentions() -> None:
    """In seconds, and nothing else; anything that was not written so is seen."""
    spans = {"os.type": timedelta(days=30), "at": timedelta(seconds=1)}
    ours = metadata(b"typed/1.0.0 " + _KEY.encode(), spans)
    assert ours[b"collector.retentions"] == b"os.type=2592000 at=1"
    assert stated_retentions(ours) == {"os.type": 2592000, "at": 1}
    assert _is_ours(ours)
    assert not has_own_metadata(ours, "typed/2027", _TYPES)
    assert has_own_metadata(ours, _KEY, ["at", "os.type"])
    assert not has_own_metadata(ours, _KEY, ["at"])
    assert stated_retentions({}) == {}
    assert not _is_ours({})
    assert not _is_ours({**ours, b"other": b""})


@for_each(
    ("mark", "is_known"),
    [
        (b"typed/1.20.300", True),
        (b"typed/1.0.0000000", False),
        (b"other/1.0.0", False),
        (b"/1.0.0", False),
        (b"typed/1.0", False),
        (b"ty ped/1.0.0", False),
        (b"typed/1.0.0\n", False),
    ],
)
def test_the_name_of_a_schema_in_a_mark(mark: bytes, is_known: bool) -> None:
    """It is that of the key of the file, with a version."""
    assert _is_ours({MARK: mark + b" " + _KEY.encode()}) is is_known


@for_each(
    "text",
    ["", "at", "at=", "at=0", "at=01", "at=1 ", "at=1  b=1", "at=1 b", "a=b=c", "at=12345678901"],
)
def test_retentions_that_are_not_ours(text: str) -> None:
    found = {
        **metadata(b"typed/1.0.0 " + _KEY.encode(), {}),
        b"collector.retentions": text.encode(),
    }
    assert stated_retentions(found) == {}
    assert not _is_ours(found)


@pytest.mark.parametrize("cells", [1, 9, 26, 27, 1 << 20])
@pytest.mark.parametrize("number", [1, 2, 3, 7])
def test_tables_are_bounded(number: int, cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    columns = _COLUMNS
    assert len(columns) == 9
    monkeypatch.setattr("collector.filter.arrow._MOST_CELLS", cells)
    rows = [b'{"schema":"typed/1.0.0","cpu.count":%d}\n' % at for at in range(number)]
    for bad in (None, *range(number)):
        text = b"".join(b"[]\n" if at == bad else row for at, row in enumerate(rows))
        tables = [*read_tables(text, columns, _MINUTE, "typed/1.0.0")]
        found = [at for table in tables for at in table["cpu.count"].to_pylist()]
        assert found == [at for at in range(number) if at != bad]
        assert all(len(table) <= max(1, cells // 9) for table in tables)
        if bad is None and number <= cells // 9:
            assert len(tables) == 1
    assert [len(each) for each in read_tables(b"", columns, _MINUTE, "typed/1.0.0")] == [0]


@for_each(
    ("tables", "groups"),
    [
        ([], []),
        ([1], [1]),
        ([20], [20]),
        ([21], [10, 11]),
        ([41], [20, 10, 11]),
        ([10, 10], [20]),
        ([10, 20], [10, 20]),
        ([10, 11, 9], [10, 20]),
        ([10, 11, 10], [10, 11, 10]),
        ([10, 8, 1], [18, 1]),
        ([18, 10, 10], [18, 20]),
        ([18, 10, 11], [18, 10, 11]),
    ],
)
@pytest.mark.parametrize("spare", [0, 31])
def test_row_groups(
    tables: list[int], groups: list[int], spare: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """18 rows are enough for one, and 20 the most; a table of more is divided in halves. No row is
    lost."""
    monkeypatch.setattr("collector.arrow.tables._GROUP_BYTES", 18 * 16)
    monkeypatch.setattr("collector.arrow.tables.MOST_GROUP", 2 * (20 * 2 * (8 + 8) + spare))
    numbers = pa.table(dict.fromkeys("nm", range(sum(tables))))
    starts = accumulate(tables, initial=0)
    slices = [numbers.slice(start, size) for start, size in zip(starts, tables, strict=False)]
    found = [*bounded_groups(slices)]
    assert [len(each) for each in found] == groups
    assert [n for each in found for n in each["n"].to_pylist()] == [*range(sum(tables))]


def test_a_row_that_is_larger_than_a_row_group(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is one by itself."""
    monkeypatch.setattr("collector.arrow.tables.MOST_GROUP", 2)
    assert [len(each) for each in bounded_groups([pa.table({"n": [1, 2]})])] == [1, 1]


def test_a_written_dictionary_has_no_value_but_those_of_its_rows() -> None:
    """In the order in which rows have them first."""
    spare = pa.DictionaryArray.from_arrays(pa.array([1, 1, None], pa.int32()), ["canary", "b"])
    exact = pa.DictionaryArray.from_arrays(pa.array([1, 0, None], pa.int32()), ["a", "b"])
    table = pa.table({"n": [1, 2, 3, 4, 5, 6], "a": pa.chunked_array([spare, exact])})
    assert {name: {*found} for name, found in distinct(table).items()} == {
        "n": {1, 2, 3, 4, 5, 6},
        "a": {"canary", "a", "b"},
    }
    columns = pa.schema([("n", pa.int64()), ("a", pa.string())], {MARK: b""})
    file = io.BytesIO()
    with closing(Writer(file, columns)) as writer:
        writer.write(table)
        assert repr(writer) == "<Writer of 2 columns>"
    assert b"canary" not in file.getvalue()
    found = parquet.read_table(file, read_dictionary=["a"])
    assert found["a"].chunk(0).dictionary.to_pylist() == ["b", "a"]
    assert [*read_records(found)] == [*read_records(table)]
    assert [*read_records(found)][1:3] == [{"n": 2, "a": "b"}, {"n": 3}]


def test_the_types_of_a_layout() -> None:
    schema, asked = load_schema("conferencing"), list[str]()

    def schema_of(digest: str) -> Schema | None:
        asked.append(digest)
        return schema if digest == schema.digest else None

    types = ColumnTypes([schema], schema_of)
    columns = (("os.type", "TEXT"), ("os.version", "TEXT"), ("gone", "INTEGER"))
    old = Layout("conferencing/0.9.0", "old", "conferencing", columns)
    rows = [(_MINUTE, None, None, 1)]
    for _ in range(2):
        assert types.known(schema.digest) == column_types(schema)
        assert types.of(schema.layout, list, {}) == column_types(schema)
        assert types.known("old") == {}
        likely = {"os.type": "text", "os.version": "text", "gone": None}
        assert types.of(old, lambda: rows, {}) == likely
    assert asked == [schema.digest, "old"]
    noted = {"os.type": "time", "gone": "boolean"}
    assert types.of(old, lambda: rows, noted) == likely | noted
    assert repr(types) == "<ColumnTypes>"
    other = Layout("other/1.0.0", "old", "other", columns)
    nothing = dict.fromkeys(("os.version", "gone"))
    assert types.of(other, lambda: rows, {}) == {"os.type": "time", **nothing}
