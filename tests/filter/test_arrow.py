"""Records as Arrow tables: the values that were read, of real types, and as they were written."""

from __future__ import annotations

import io
from datetime import timedelta
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector import Filter, Schema
from collector.contracts import Layout
from collector.documents import Document
from collector.errors import DeliveryError
from collector.filter.arrow import (
    MARK,
    ColumnTypes,
    ParquetRecords,
    arrow_schema,
    column_types,
    distinct,
    has_own_metadata,
    moment,
    read_records,
    read_table,
    read_tables,
    seen_types,
    shuffled,
    stated_retentions,
    without_unused,
)
from collector.filter.stored import Records
from collector.schema.load import parse_source
from collector.testing.laws import fixed_key
from tests.strategies import lines, schemas
from tests.support.raising import raises

_MINUTE = "2026-11-24T10:20:00Z"
_FIELDS: dict[str, dict[str, Any]] = {
    "at": {"kind": "time", "precision": "minute", "from": ["at"]},
    "os.type": {"kind": "enum", "values": ["linux", "ios"], "from": ["os"]},
    "client.address": {"kind": "ip", "from": ["ip"]},
    "cpu.count": {"kind": "integer", "minimum": 0, "maximum": 512, "step": 1, "from": ["cores"]},
    "audio.jitter": {"kind": "number", "minimum": 0, "maximum": 1, "step": 0.125, "from": ["j"]},
    "network.ipv6": {"kind": "boolean", "from": ["v6"]},
}


def _schema() -> Schema:
    """A schema with a field of each type."""
    common = {
        "category": "user.device",
        "purposes": ["operations"],
        "retention": "30d",
        "reason": "It is needed for the tests of columns",
    }
    purpose = {
        "use": "essential.service.operations",
        "basis": "contract",
        "reason": "Connect clients to a server near them",
    }
    document: dict[str, Any] = {
        "schema": "typed",
        "version": "1.0.0",
        "title": "Typed",
        "owner": "tests",
        "purposes": {"operations": purpose},
        "fields": {name: {**common, **field} for name, field in _FIELDS.items()},
    }
    schema, faults = parse_source(Document("typed.yaml", value=document))
    assert schema is not None, faults
    return schema


def _columns(schema: Schema) -> pa.Schema:
    return arrow_schema(column_types(schema), b"mark")


def test_columns_have_real_types() -> None:
    """Moments are timestamps, and numbers and booleans no texts."""
    columns = _columns(_schema())
    assert {column.name: str(column.type) for column in columns} == {
        "schema": "string",
        "received": "timestamp[us, tz=UTC]",
        "at": "timestamp[us, tz=UTC]",
        "os.type": "string",
        "client.address": "string",
        "cpu.count": "int64",
        "audio.jitter": "double",
        "network.ipv6": "bool",
        "count": "int64",
    }
    assert columns.metadata == {MARK: b"mark"}


@settings(max_examples=max(1, settings().max_examples // 3))
@given(schemas(), st.data())
def test_records_come_back_as_they_were(schema: Schema, data: st.DataObject) -> None:
    """For any schema that loads, and whatever its filter admits of any payload."""
    records = Filter(schema, keys=fixed_key).admit_lines(data.draw(lines(schema))).encode()
    table = read_table(records, _columns(schema), _MINUTE)
    plain = [{**record, "count": 1, "received": _MINUTE} for record in Records(records)]
    assert list(read_records(table)) == plain
    assert [list(map(type, found.values())) for found in read_records(table)] == [
        [type(record[name]) for name in table.column_names if name in record] for record in plain
    ]
    values = distinct(table)
    assert all(value in values[name] for record in plain for name, value in record.items())


def test_the_last_moment_there_is() -> None:
    """It is in the range of a column."""
    text = b'{"schema":"typed/1.0.0","at":"9999-12-31T23:59:00Z","count":7}\n'
    (record,) = read_records(read_table(text, _columns(_schema()), _MINUTE))
    assert (record["at"], record["count"]) == ("9999-12-31T23:59:00Z", 7)


@pytest.mark.parametrize(
    "text",
    [
        b'{"schema":"typed/1.0.0","at":"soon"}',
        b'{"schema":"typed/1.0.0","cpu.count":1.5}',
        b'{"schema":"typed/1.0.0","cpu.count":1,"cpu.count":1}',
        b'{"schema":"typed/1.0.0","cpu.count":"canary"}',
        b'{"schema":"typed/1.0.0","network.ipv6":1}',
        b'{"schema":"typed/1.0.0"',
        b"\xff",
        b"[1]",
    ],
)
def test_anything_else_is_refused(text: bytes) -> None:
    """Without a value of it in the error."""
    with raises("E507", DeliveryError) as caught:
        read_table(text + b"\n", _columns(_schema()), _MINUTE)
    assert "canary" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_other_fields_are_left_out() -> None:
    """A table has the columns of its schema, and no more."""
    text = b'{"schema":"typed/1.0.0","canary":"canary","cpu.count":1}\n'
    (record,) = read_records(read_table(text, _columns(_schema()), _MINUTE))
    assert record == {"schema": "typed/1.0.0", "received": _MINUTE, "cpu.count": 1, "count": 1}


def test_a_schema_that_is_not_known() -> None:
    """Its columns have the types of their values; likely ones count where no value contradicts."""
    columns = (("a", "TEXT"), ("b", "INTEGER"), ("c", "INTEGER"), ("d", "REAL"), ("e", "TEXT"))
    rows = [("x", True, None, None, _MINUTE, 1), (None, None, 7, None, None, 1)]
    types = {"a": "text", "b": "boolean", "c": "integer", "d": "number", "e": "time"}
    assert seen_types(columns, rows) == types
    assert seen_types(columns, []) == {"d": "number"}
    likely = {"a": "time", "b": "integer", "c": "boolean", "e": "text", "f": "text"}
    assert seen_types(columns, rows, [likely]) == types | {"e": "text"}
    assert seen_types(columns, [], [{"b": "integer"}, likely]) == {
        **{name: likely[name] for name in "abce"},
        "d": "number",
    }
    no_moments = ["2026-13-01T00:00:00Z", "2026-11-24", f"{_MINUTE}\n", ""]
    for each in no_moments:
        assert seen_types([("e", "TEXT")], [(each, 1)], [{"e": "time"}]) == {"e": "text"}
    assert seen_types([("b", "INTEGER")], [(True, 1), (1, 1)]) == {"b": "integer"}
    assert seen_types([("d", "REAL")], [(1, 1)]) == {"d": "number"}


def test_the_order_is_not_kept() -> None:
    """Rows are shuffled: all of them are there, in another order."""
    text = b"".join(b'{"schema":"typed/1.0.0","cpu.count":%d}\n' % each for each in range(500))
    table = read_table(text, _columns(_schema()), _MINUTE)
    numbers = shuffled(table)["cpu.count"].to_pylist()
    assert sorted(numbers) == list(range(500))
    assert numbers != list(range(500))
    assert moment(_MINUTE).as_py() == table["received"][0].as_py()


def test_a_file_is_written_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Row by row in order, in groups of rows of a bounded size; an empty one is a file too."""
    monkeypatch.setattr("collector.filter.arrow._GROUP_BYTES", 100)
    file = io.BytesIO()
    records = ParquetRecords(file, _schema())
    for number in range(10):
        line = b'{"schema":"typed/1.0.0","cpu.count":%d}\n' % number
        assert records.write(line) == len(line)
    records.close()
    found = parquet.ParquetFile(io.BytesIO(file.getvalue()))
    assert found.metadata.num_row_groups == 4
    assert found.read()["cpu.count"].to_pylist() == list(range(10))
    assert "received" not in found.schema_arrow.names
    empty = io.BytesIO()
    ParquetRecords(empty, _schema()).close()
    assert parquet.read_table(io.BytesIO(empty.getvalue())).num_rows == 0
    assert repr(ParquetRecords(io.BytesIO(), _schema())) == "<ParquetRecords, 0 bytes pending>"


def test_a_group_of_rows_ends_where_it_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the record that reaches the size; the file has no metadata but its own."""
    line, file = b'{"schema":"typed/1.0.0","cpu.count":1}\n', io.BytesIO()
    monkeypatch.setattr("collector.filter.arrow._GROUP_BYTES", 2 * len(line))
    records = ParquetRecords(file, _schema())
    for pending in (1, 0, 1):
        records.write(line)
        assert repr(records) == f"<ParquetRecords, {pending * len(line)} bytes pending>"
    records.close()
    found = parquet.ParquetFile(io.BytesIO(file.getvalue())).metadata
    assert [found.row_group(at).num_rows for at in range(found.num_row_groups)] == [2, 1]
    assert found.metadata == {MARK: b"typed/1.0.0"}
    assert found.row_group(0).column(0).compression == "ZSTD"


def _stating(**more: bytes) -> pa.Schema:
    """The columns of a file that has stated metadata, and more."""
    columns = _columns(_schema())
    metadata = {MARK: b"typed/1.0.0 key"} | {name.encode(): text for name, text in more.items()}
    return columns.with_metadata(metadata)


def test_a_file_states_its_schema_and_its_retentions() -> None:
    """In seconds, and nothing else; anything that was not written so is seen."""
    spans = {"os.type": timedelta(days=30), "at": timedelta(seconds=1)}
    ours = arrow_schema(column_types(_schema()), b"typed/1.0.0 key", retentions=spans)
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
    columns = _columns(_schema())
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
    schema, asked = _schema(), list[str]()

    def schema_of(digest: str) -> Schema | None:
        asked.append(digest)
        return schema if digest == schema.digest else None

    types = ColumnTypes([schema], schema_of)
    columns = (("at", "TEXT"), ("cpu.count", "INTEGER"), ("gone", "INTEGER"))
    old = Layout("typed/0.9.0", "old", "typed", columns)
    rows = [(_MINUTE, None, None, 1)]
    for _ in range(2):
        assert types.known(schema.digest) == column_types(schema)
        assert types.of(schema.layout, list, {}) == column_types(schema)
        assert types.known("old") == {}
        likely = {"at": "time", "cpu.count": "integer", "gone": None}
        assert types.of(old, lambda: rows, {}) == likely
    assert asked == [schema.digest, "old"]
    noted = {"at": "text", "gone": "boolean"}
    assert types.of(old, lambda: rows, noted) == likely | noted
    assert repr(types) == "<ColumnTypes>"
    other = Layout("other/1.0.0", "old", "other", columns)
    assert types.of(other, list, {}) == dict.fromkeys(("at", "cpu.count", "gone"))
