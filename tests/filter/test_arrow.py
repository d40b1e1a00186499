"""Records as Arrow tables: the values that were read, of real types, and as they were written."""

from __future__ import annotations

import io

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector import Filter, Schema
from collector.arrow.mark import MARK
from collector.arrow.tables import distinct, read_records
from collector.errors import DeliveryError
from collector.filter.arrow import (
    ParquetRecords,
    arrow_schema,
    column_types,
    moment,
    read_table,
    seen_types,
    shuffled,
)
from collector.filter.stored import records_in
from collector.testing.laws import fixed_key
from tests.strategies import lines, schemas
from tests.support.make_schemas import sample
from tests.support.raising import raises

_MINUTE = "2026-11-24T10:20:00Z"
_TYPED = sample(
    """
  at: {kind: time, precision: minute, from: [at], REST}
  os.type: {kind: enum, values: [linux, ios], from: [os], REST}
  client.address: {kind: ip, from: [ip], REST}
  cpu.count: {kind: integer, minimum: 0, maximum: 512, step: 1, from: [cores], REST}
  audio.jitter: {kind: number, minimum: 0, maximum: 1, step: 0.125, from: [j], REST}
  network.ipv6: {kind: boolean, from: [v6], REST}
"""
)
"""A field of each type of columns."""


def _columns(schema: Schema) -> pa.Schema:
    return arrow_schema(column_types(schema), b"mark")


def test_columns_have_real_types() -> None:
    """Moments are timestamps, and numbers and booleans no texts."""
    columns = _columns(_TYPED)
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
    records = Filter(schema, keys=fixed_key).admit_lines(data.draw(lines(schema))).encode()
    table = read_table(records, _columns(schema), _MINUTE)
    plain = [{**record, "count": 1, "received": _MINUTE} for record in records_in(records)]
    assert list(read_records(table)) == plain
    assert [list(map(type, found.values())) for found in read_records(table)] == [
        [type(record[name]) for name in table.column_names if name in record] for record in plain
    ]
    values = distinct(table)
    assert all(value in values[name] for record in plain for name, value in record.items())


def test_the_last_moment_there_is() -> None:
    """It is in the range of a column."""
    text = b'{"schema":"sample/1.0.0","at":"9999-12-31T23:59:00Z","count":7}\n'
    (record,) = read_records(read_table(text, _columns(_TYPED), _MINUTE))
    assert (record["at"], record["count"]) == ("9999-12-31T23:59:00Z", 7)


@pytest.mark.parametrize(
    "text",
    [
        b'{"schema":"sample/1.0.0","at":"soon"}',
        b'{"schema":"sample/1.0.0","cpu.count":1.5}',
        b'{"schema":"sample/1.0.0","cpu.count":1,"cpu.count":1}',
        b'{"schema":"sample/1.0.0","cpu.count":"canary"}',
        b'{"schema":"sample/1.0.0","network.ipv6":1}',
        b'{"schema":"sample/1.0.0"',
        b"\xff",
        b"[1]",
    ],
)
def test_anything_else_is_refused(text: bytes) -> None:
    with raises("E507", DeliveryError) as caught:
        read_table(text + b"\n", _columns(_TYPED), _MINUTE)
    assert "canary" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_other_fields_are_left_out() -> None:
    """A table has the columns of its schema, and no more."""
    text = b'{"schema":"sample/1.0.0","canary":"canary","cpu.count":1}\n'
    (record,) = read_records(read_table(text, _columns(_TYPED), _MINUTE))
    assert record == {"schema": "sample/1.0.0", "received": _MINUTE, "cpu.count": 1, "count": 1}


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
    text = b"".join(b'{"schema":"sample/1.0.0","cpu.count":%d}\n' % each for each in range(500))
    table = read_table(text, _columns(_TYPED), _MINUTE)
    numbers = shuffled(table)["cpu.count"].to_pylist()
    assert sorted(numbers) == list(range(500))
    assert numbers != list(range(500))
    assert moment(_MINUTE).as_py() == table["received"][0].as_py()


def test_a_file_is_written_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Row by row in order, in groups of rows of a bounded size; an empty one is a file too."""
    monkeypatch.setattr("collector.filter.arrow._GROUP_BYTES", 100)
    file = io.BytesIO()
    records = ParquetRecords(file, _TYPED)
    for number in range(10):
        line = b'{"schema":"sample/1.0.0","cpu.count":%d}\n' % number
        assert records.write(line) == len(line)
    records.close()
    found = parquet.ParquetFile(io.BytesIO(file.getvalue()))
    assert found.metadata.num_row_groups == 4
    assert found.read()["cpu.count"].to_pylist() == list(range(10))
    assert "received" not in found.schema_arrow.names
    empty = io.BytesIO()
    ParquetRecords(empty, _TYPED).close()
    assert parquet.read_table(io.BytesIO(empty.getvalue())).num_rows == 0
