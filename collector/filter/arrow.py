"""Records as Arrow tables: NDJSON that a filter wrote, read into columns of real types.

It needs pyarrow (the extra ``parquet``), and is imported only when it is used.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as arrow_json

from collector.arrow.mark import metadata
from collector.arrow.tables import Writer
from collector.contracts import Layout, Row, count_lines
from collector.errors import DeliveryError, UnreadableBatch
from collector.schema.model import Schema

_INSTANT = pa.timestamp("us", "UTC")
_TYPES: Mapping[str, pa.DataType] = {
    "text": pa.string(),
    "time": _INSTANT,
    "boolean": pa.bool_(),
    "integer": pa.int64(),
    "number": pa.float64(),
}
_STORED_AS = {"TEXT": "text", "INTEGER": "integer", "REAL": "number"}
_BLOCK = 1 << 20
"""Longer than any record, in bytes."""
_GROUP_BYTES = 4 << 20
"""The bytes of record lines for one row group."""
_MOST_CELLS = 1 << 20
"""The most cells of a table that is read at once: a field without a value takes as much memory as
one with a value."""


def column_types(schema: Schema) -> dict[str, str]:
    """Return the type of each field's column: ``text``, ``time``, ``boolean``, ``integer`` or
    ``number``."""
    special = {"time": "time", "boolean": "boolean"}
    return {
        name: special.get(field.kind, _STORED_AS[field.column])
        for name, field in schema.fields.items()
    }


def seen_types(
    columns: Sequence[tuple[str, str]],
    rows: Sequence[Row],
    likely: Sequence[Mapping[str, str]] = (),
) -> dict[str, str]:
    """Return the column types of a layout whose schema is unknown, from the values in rows: the
    first ``likely`` type that fits all values. A column without values and without a likely type is
    left out."""
    types: dict[str, str] = {}
    for place, (name, column) in enumerate(columns):
        values = [row[place] for row in rows if row[place] is not None]
        fitting = [each for each in _CANDIDATES[column] if all(map(_FITS[each], values))]
        chosen = [each[name] for each in likely if each.get(name) in fitting]
        if values or len(_CANDIDATES[column]) == 1:
            chosen += fitting or _CANDIDATES[column][-1:]
        if chosen:
            types[name] = chosen[0]
    return types


class ColumnTypes:
    """The column types of layouts: those of the schema with the layout's digest, or else by the
    values, where the types of the running schema of the same name are likely."""

    def __init__(
        self, schemas: Sequence[Schema], schema_of: Callable[[str], Schema | None]
    ) -> None:
        self._likely = {schema.name: column_types(schema) for schema in schemas}
        self._schema_of = schema_of
        self._known: dict[str, Mapping[str, str]] = {}

    def __repr__(self) -> str:
        return "<ColumnTypes>"

    def known(self, digest: str) -> Mapping[str, str]:
        """Return the types of a schema's columns; none for an unknown schema."""
        if digest not in self._known:
            schema = self._schema_of(digest)
            self._known[digest] = {} if schema is None else column_types(schema)
        return self._known[digest]

    def of(
        self, layout: Layout, rows: Callable[[], Sequence[Row]], noted: Mapping[str, str]
    ) -> Mapping[str, str | None]:
        """Return the column types of some rows. ``noted`` types stay, unless they differ from the
        schema's or a value contradicts them."""
        if known := self.known(layout.digest):
            return known
        likely = noted, self._likely.get(layout.table, {})
        found = seen_types(layout.columns, rows(), likely)
        return {name: found.get(name) for name, _ in layout.columns}


def _is_moment(value: object) -> bool:
    if isinstance(value, str) and _MOMENT(value):
        with suppress(ValueError):
            datetime.fromisoformat(value)
            return True
    return False


_MOMENT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z", re.ASCII).fullmatch
_CANDIDATES = {"TEXT": ("time", "text"), "INTEGER": ("boolean", "integer"), "REAL": ("number",)}
_FITS: Mapping[str, Callable[[object], bool]] = {
    "time": _is_moment,
    "text": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: isinstance(value, float),
}


def arrow_schema(
    types: Mapping[str, str],
    mark: bytes,
    *,
    received: bool = True,
    retentions: Mapping[str, timedelta] | None = None,
) -> pa.Schema:
    """Return the columns of a table: the schema's name, the minute unless ``received`` is false,
    the fields and the count. ``mark`` is kept in the metadata, with the retentions of fields."""
    columns = [("schema", pa.string()), *([("received", _INSTANT)] if received else [])]
    columns += [(name, _TYPES[type_]) for name, type_ in types.items()]
    return pa.schema([*columns, ("count", pa.int64())], metadata(mark, retentions or {}))


def read_table(
    payload: bytes, schema: pa.Schema, minute: str | None = None, name: str | None = None
) -> pa.Table:
    """Read records into a table. If ``minute`` (when all were received) or ``name`` (of their
    schema) is given, that member is not read. Fields without a column are left out.

    Raises ``DeliveryError`` E507 for anything but NDJSON of records.
    """
    if not payload:
        return schema.empty_table()
    given = {"received": None if minute is None else moment(minute), "schema": name}
    columns = [column for column in schema if given.get(column.name) is None]
    table = None
    with suppress(pa.ArrowException):
        table = arrow_json.read_json(
            pa.BufferReader(payload),
            arrow_json.ReadOptions(use_threads=False, block_size=_BLOCK),
            arrow_json.ParseOptions(
                explicit_schema=pa.schema(columns), unexpected_field_behavior="ignore"
            ),
        )
    if table is None:
        raise UnreadableBatch
    arrays = dict(zip(table.column_names, table.columns, strict=True))
    arrays["count"] = pc.fill_null(arrays["count"], 1)
    for column, value in given.items():
        if value is not None:
            arrays[column] = pa.repeat(value, len(table))
    return pa.table([arrays[column.name] for column in schema], schema=schema)


def read_tables(text: bytes, schema: pa.Schema, minute: str, name: str) -> Iterator[pa.Table]:
    """Yield records as tables with a bounded number of cells; unreadable lines are left out."""
    most = max(1, _MOST_CELLS // len(schema))
    if count_lines(text) <= most:
        with suppress(DeliveryError):
            yield read_table(text, schema, minute, name)
            return
    lines = text.splitlines(keepends=True)
    step = min(most, (len(lines) + 1) // 2)
    for at in range(0, len(lines), step) if len(lines) > 1 else ():
        yield from read_tables(b"".join(lines[at : at + step]), schema, minute, name)


def moment(text: str) -> pa.Scalar:
    """Return a moment as a column's value."""
    return pa.scalar(datetime.fromisoformat(text), _INSTANT)


def shuffled(table: pa.Table) -> pa.Table:
    """Return the rows in random order, so that the order reveals nothing."""
    number = len(table)
    keys = pa.Array.from_buffers(pa.uint64(), number, [None, pa.py_buffer(os.urandom(8 * number))])
    return table.take(pc.sort_indices(keys))


class ParquetRecords:
    """Writes NDJSON of one schema's records into an open file as Parquet, in their order.

    ``close`` completes the file.
    """

    def __init__(self, file: Any, schema: Schema) -> None:
        self._schema = arrow_schema(column_types(schema), schema.id.encode(), received=False)
        self._writer = Writer(file, self._schema)
        self._pending: list[bytes] = []
        self._size = 0

    def __repr__(self) -> str:
        return f"<ParquetRecords, {self._size} bytes pending>"

    def write(self, records: bytes) -> int:
        """Add records; return the length of their lines."""
        self._pending.append(records)
        self._size += len(records)
        if self._size >= _GROUP_BYTES:
            self._flush()
        return len(records)

    def close(self) -> None:
        """Write the pending records and the end of the file."""
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        if self._size:
            self._writer.write(read_table(b"".join(self._pending), self._schema))
        self._pending, self._size = [], 0
