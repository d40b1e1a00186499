"""Tables of records: how large they are, what files state of them, and the types of columns."""

from __future__ import annotations

import io
from datetime import timedelta

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from collector import Schema, load_schema
from collector.contracts import Layout
from collector.filter.arrow import (
    MARK,
    ColumnTypes,
    ParquetRecords,
    arrow_schema,
    column_types,
    distinct,
    has_own_metadata,
    read_records,
    read_tables,
    stated_retentions,
    without_unused,
)

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
    """With the record that reaches the size; the file has no metadata but its own."""
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


def _stating(**more: bytes) -> pa.Schema:
    """The columns of a file that has stated metadata, and more."""
    columns = _COLUMNS
    metadata = {MARK: b"typed/1.0.0 key"} | {name.encode(): text for name, text in more.items()}
    return columns.with_metadata(metadata)


def test_a_file_states_its_schema_and_its_retentions() -> None:
    """In seconds, and nothing else; anything that was not written so is seen."""
    spans = {"os.type": timedelta(days=30), "at": timedelta(seconds=1)}
    ours = arrow_schema(_TYPES, b"typed/1.0.0 key", retentions=spans)
    assert ours.metadata[b"collector.retentions"] == b"os.type=2592000 at=1"
    assert stated_retentions(ours) == spans
    assert has_own_metadata(ours, "key")
    assert not has_own_metadata(ours, "other")
    assert has_own_metadata(_stating(), "key")
    assert not has_own_metadata(ours.remove_metadata(), "")
    assert stated_retentions(ours.remove_metadata()) == {}
    longest = f"{'n' * 101}/1.20.300".encode()
    for mark, is_known in (
        (longest, True),
        (b"n" + longest, False),
        (b"/1.0.0", False),
        (b"typed/1.0", False),
        (b"ty ped/1.0.0", False),
        (b"typed/1.0.0\n", False),
    ):
        assert has_own_metadata(_stating(collector=mark + b" key"), "key") is is_known
    assert not has_own_metadata(_stating(other=b""), "key")
    marked = ours.set(1, ours.field(1).with_metadata({b"a": b"b"}))
    assert not has_own_metadata(marked, "key")


@pytest.mark.parametrize(
    "text",
    ["", "at", "at=", "at=0", "at=01", "at=1 ", "at=1  b=1", "at=1 b", "a=b=c", "at=12345678901"],
)
def test_retentions_that_are_not_ours(text: str) -> None:
    """None of them counts, and the file is not one of ours."""
    stating = _stating(**{"collector.retentions": text.encode()})
    assert stated_retentions(stating) == {}
    assert not has_own_metadata(stating, "key")


@pytest.mark.parametrize("cells", [1, 9, 26, 27, 1 << 20])
@pytest.mark.parametrize("number", [1, 2, 3, 7])
def test_tables_are_bounded(number: int, cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """By cells, a row at least; a line that cannot be read is left out, and no other."""
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


def test_a_dictionary_has_no_value_but_those_of_its_rows() -> None:
    """Where it had more, it is made anew; others stay as they are."""
    spare = pa.DictionaryArray.from_arrays(pa.array([1, 1, None], pa.int32()), ["canary", "b"])
    exact = pa.DictionaryArray.from_arrays(pa.array([1, 0, None], pa.int32()), ["a", "b"])
    chunks = pa.chunked_array([spare, exact])
    table = pa.table({"n": [1, 2, 3, 4, 5, 6], "a": chunks})
    assert distinct(table) == {"n": {1, 2, 3, 4, 5, 6}, "a": {"canary", "a", "b"}}
    found = without_unused(table)
    assert found.schema == table.schema
    assert found.to_pydict() == table.to_pydict()
    assert [each.dictionary.to_pylist() for each in found["a"].chunks] == [["b"], ["a", "b"]]
    assert distinct(found)["a"] == {"a", "b"}
    assert [*read_records(found)][1:3] == [{"n": 2, "a": "b"}, {"n": 3}]


def test_the_types_of_a_layout() -> None:
    """Those of its schema, which is looked up once; else of its values, for which the schema of
    that name, and what was noted, are likely."""
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
