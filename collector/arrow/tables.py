"""Tables of records: rules applied to them, their values, and Parquet files of one form.

A written table has its texts as dictionaries, in the order of their first use. So writing the
records of a file again gives the same bytes, which shows that the file holds nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import parquet

from collector.arrow.process import MOST_GROUP
from collector.contracts import FIRST, LAST, RESERVED, Part, Record

ENCODED = pa.dictionary(pa.int32(), pa.string())
"""The type of a column of texts in memory."""
_GROUP_BYTES = 4 << 20
"""The bytes of a table at which it becomes a row group: some 50,000 records, which need little
memory."""
_WIDTH = 8
"""The most bytes that a value takes in memory, without its text."""


# -- rules -----------------------------------------------------------------------------------------


class Cut(NamedTuple):
    """What parts of a rule do to a table: the rows that they concern, those of them that are
    deleted, and for each column the rows that lose it. ``None`` means no rows."""

    concerned: Any
    emptied: Any
    cleared: Mapping[str, Any]

    def counts(self, table: pa.Table) -> tuple[int, dict[str, int]]:
        """Return how many rows are concerned, and how many lose each column."""
        lost = {
            name: _number(pc.and_(mask, pc.is_valid(table.column(name))))
            for name, mask in self.cleared.items()
        }
        return 0 if self.concerned is None else _number(self.concerned), lost

    def apply(self, table: pa.Table) -> tuple[pa.Table, int, int]:
        """Return the rest of a table, and how many rows were shortened and deleted."""
        if self.concerned is None:
            return table, 0, 0
        number, deleted = _number(self.concerned), _number(self.emptied)
        if deleted < number:
            for name, mask in self.cleared.items():
                at, column = table.column_names.index(name), table.column(name)
                left = pc.if_else(mask, pa.scalar(None, column.type), column)
                table = table.set_column(at, table.schema.field(at), left)
        return table.filter(pc.invert(self.emptied)), number - deleted, deleted


_NOTHING = Cut(None, None, {})


def _number(mask: Any) -> int:
    number: int = pc.sum(mask).as_py() or 0
    return number


def concerns(table: pa.Table, parts: Sequence[Part]) -> bool:
    """Return whether parts select a row of a table. The table needs only the times, and the fields
    that the parts select by."""
    return any(_mask(table, part) is not None for part in parts)


def cut(table: pa.Table, parts: Sequence[Part]) -> Cut:
    """Compile parts for a table whose column ``received`` is a timestamp."""
    names = [name for name in table.column_names if name not in RESERVED]
    none: Any = pa.chunked_array([pa.repeat(False, len(table))])
    selected, cleared = none, dict[str, Any]()
    for part in parts:
        removed = part.removed(names)
        mask = _mask(table, part) if removed else None
        if mask is not None:
            selected = pc.or_(selected, mask)
            cleared |= {name: pc.or_(cleared.get(name, none), mask) for name in removed}
    if not cleared:
        return _NOTHING
    concerned = rest = none
    for name in names:
        found = pc.is_valid(table.column(name))
        if name in cleared:
            concerned = pc.or_(concerned, pc.and_(found, cleared[name]))
            found = pc.and_not(found, cleared[name])
        rest = pc.or_(rest, found)
    emptied = pc.and_not(selected, rest)
    return Cut(pc.or_(concerned, emptied), emptied, cleared)


def _mask(table: pa.Table, part: Part) -> Any | None:
    """Return which rows a part concerns; ``None`` if it concerns no row."""

    def moment(minute: str) -> pa.Scalar:
        return pa.scalar(datetime.fromisoformat(minute), received.type)

    received = table.column("received")
    mask: Any = pa.chunked_array([pa.repeat(True, len(table))])
    if part.field is not None:
        if part.field not in table.column_names:
            return None
        column = table.column(part.field)
        if not pa.types.is_string(getattr(column.type, "value_type", column.type)):
            return None
        mask = pc.fill_null(pc.equal(column, part.value), False)
    if part.start != FIRST:
        mask = pc.and_(mask, pc.fill_null(pc.greater_equal(received, moment(part.start)), False))
    if part.end != LAST:
        mask = pc.and_(mask, pc.fill_null(pc.less(received, moment(part.end)), True))
    return mask if pc.any(mask).as_py() else None


# -- values ----------------------------------------------------------------------------------------


def read_records(table: pa.Table) -> Iterator[Record]:
    """Yield rows as records, with the values that a filter wrote, and without absent ones."""
    columns = [_as_written(column).to_pylist() for column in table.columns]
    for values in zip(*columns, strict=True):
        named = zip(table.column_names, values, strict=True)
        yield {name: value for name, value in named if value is not None}


def distinct(table: pa.Table) -> dict[str, list[Any]]:
    """Return the distinct values of each column, as a filter wrote them. Values of a dictionary
    count even if no row has them."""
    return {
        name: [value for value in _different(column).to_pylist() if value is not None]
        for name, column in zip(table.column_names, table.columns, strict=True)
    }


def _different(column: Any) -> Any:
    if pa.types.is_dictionary(column.type):
        every = pa.chunked_array([each.dictionary for each in column.chunks], pa.string())
        return every.unique()
    return _as_written(column.unique())


def _as_written(column: Any) -> Any:
    """Return timestamps as texts, and dictionaries as their values. This needs no time-zone data,
    which a system may lack."""
    if pa.types.is_dictionary(column.type):
        return pc.cast(column, column.type.value_type)
    if not pa.types.is_timestamp(column.type):
        return column
    local = pc.cast(pc.cast(column, pa.timestamp("s", "UTC")), pa.timestamp("s"))
    return pc.strftime(local, format="%Y-%m-%dT%H:%M:%SZ")


# -- files -----------------------------------------------------------------------------------------


class Writer:
    """Writes tables into an open file as row groups; ``close`` completes the file."""

    def __init__(self, file: Any, schema: pa.Schema) -> None:
        columns = (
            (each.name, ENCODED if pa.types.is_string(each.type) else each.type) for each in schema
        )
        self._schema = pa.schema(columns, schema.metadata)
        self._file = parquet.ParquetWriter(
            file, self._schema, compression="zstd", version="2.6", store_schema=False
        )
        self._file.add_key_value_metadata(schema.metadata)

    def __repr__(self) -> str:
        return f"<Writer of {len(self._schema)} columns>"

    def write(self, table: pa.Table) -> None:
        """Write a row group. Leave out values of dictionaries that no row has."""
        columns = map(_encoded, table.combine_chunks().columns)
        self._file.write_table(pa.table(list(columns), schema=self._schema))

    def close(self) -> None:
        """Write the end of the file."""
        self._file.close()


def _encoded(column: Any) -> Any:
    """Return a column with texts as a dictionary, in the order of their first use."""
    if pa.types.is_string(column.type):
        return column.dictionary_encode()
    if not pa.types.is_dictionary(column.type):
        return column
    chunks = []
    for chunk in column.chunks:
        used = pc.drop_null(pc.unique(chunk.indices))
        indices, texts = pc.index_in(chunk.indices, used), chunk.dictionary.take(used)
        chunks.append(pa.DictionaryArray.from_arrays(indices, texts))
    return pa.chunked_array(chunks, ENCODED)


def bounded_groups(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Join or split tables, so that each can be read as a row group."""
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
    """Estimate the bytes that a table takes in memory: pages may repeat a part of it."""
    size: int = table.nbytes + _WIDTH * len(table) * table.num_columns
    return size
