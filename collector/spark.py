"""Minimise archives of raw events where they are, on Apache Spark.

    from collector.spark import minimise

    minimised = minimise(spark.read.text("s3a://archive/2025"), "conferencing")
    minimised.records.write.parquet("s3a://minimised/2025")
    print(minimised.tally().as_dict())

Spark distributes the work; each task filters its rows. It needs pyspark and pyarrow (the extra
``spark``), on the machines of the executors too, and is imported only when it is used.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyspark import TaskContext
from pyspark.accumulators import AccumulatorParam
from pyspark.sql import DataFrame
from pyspark.sql.types import (
    BinaryType,
    BooleanType,
    DataType,
    DoubleType,
    LongType,
    StringType,
    StructField,
    StructType,
    TimestampType,
)

from collector.contracts import RESERVED, Tally, count_lines
from collector.errors import ConfigError
from collector.filter import Filter
from collector.filter.arrow import arrow_schema, column_types, read_table
from collector.schema import Schema, load_schema
from collector.schema.stored_document import packed, unpacked

__all__ = ["Minimised", "minimise"]

_TYPES: dict[str, DataType] = {
    "text": StringType(),
    "time": TimestampType(),
    "boolean": BooleanType(),
    "integer": LongType(),
    "number": DoubleType(),
}
_ROWS = 2_000
"""Rows that are filtered at once, however many Spark passes."""
_Tallies = dict[int, dict[int, tuple[int, Tally]]]
"""The tally of each partition of a stage, with the number of the attempt at it."""


class Minimised:
    """Records of a frame of events, and their tally. Spark reads nothing until it runs an action,
    such as a write."""

    def __init__(self, records: DataFrame, tallies: Any) -> None:
        self.records: DataFrame = records
        """A row for each record: ``schema``, the fields of the schema, ``count``."""
        self._tallies = tallies

    def __repr__(self) -> str:
        return "<Minimised>"

    def tally(self) -> Tally:
        """Return the counts of the last action; each partition counts once, however often Spark
        tried it. They cover all events if the action read all records."""
        total = Tally()
        for partitions in self._tallies.value.values():
            for _, tally in partitions.values():
                total += tally
        return total


def minimise(
    frame: DataFrame,
    schema: Schema | Path | str,
    *,
    column: str = "value",
    purposes: Collection[str] | None = None,
    as_of: date | None = None,
    keys: Callable[[str, int], bytes] | None = None,
) -> Minimised:
    """Filter the events in a column of texts or binaries: one JSON event per row.

    A row is read as ``collector filter`` reads a line of a file, or a ``.json`` file if the row has
    several lines. An empty row is not an event. The records have no order. ``purposes`` are the
    granted ones (``None``: all). ``as_of`` fixes the present, for expiry and time windows; ``None``
    is the time of this call, for all tasks. ``keys`` returns the key of a pseudonym by its
    reference and period, and is called in each task: it has to return the same key in all of them.

    Raises ``SchemaError``, and ``ConfigError`` for an unknown purpose (E132), missing keys (E202),
    a column that is missing or has another type (E107), and a session of Spark Connect (E122).
    """
    loaded = schema if isinstance(schema, Schema) else load_schema(schema)
    if column not in frame.columns or frame.schema[column].dataType not in (
        StringType(),
        BinaryType(),
    ):
        raise ConfigError("E107", "`column` must name a column of texts or binaries of the frame")
    moment = datetime.now(UTC) if as_of is None else as_of
    Filter(loaded, purposes=purposes, as_of=moment, keys=keys)  # finds invalid arguments early
    context = getattr(frame.sparkSession, "sparkContext", None)
    if context is None:
        raise ConfigError("E122", "Spark Connect has no accumulators; use a classic session")
    tallies = context.accumulator({}, _Newest())
    filtering = _Filtering(packed(loaded), purposes, moment, keys, tallies)
    quoted = column.replace("`", "``")
    events = frame.select(frame[f"`{quoted}`"].alias("value"))
    return Minimised(events.mapInArrow(filtering, _columns(loaded)), tallies)


class _Newest(AccumulatorParam[_Tallies]):  # type: ignore[misc]
    """Adds up the tallies of the newest stage, with the newest attempt at each of its partitions:
    Spark repeats some partitions, and all of them for each action."""

    def zero(self, value: _Tallies) -> _Tallies:
        return {}

    def addInPlace(self, value1: _Tallies, value2: _Tallies) -> _Tallies:  # noqa: N802
        newest = max([*value1, *value2], default=None)
        if newest is None:
            return value1
        found = {**value1.get(newest, {})}
        for partition, (attempt, tally) in value2.get(newest, {}).items():
            before = found.get(partition)
            if before is None or attempt > before[0]:
                found[partition] = attempt, tally
            elif attempt == before[0]:  # a task that reads several partitions, one after another
                found[partition] = attempt, before[1] + tally
        return {newest: found}


class _Filtering:
    """The function that runs in a task. It holds a schema, but no events."""

    def __init__(
        self,
        schema: bytes,
        purposes: Collection[str] | None,
        as_of: date,
        keys: Callable[[str, int], bytes] | None,
        tallies: Any,
    ) -> None:
        self._schema = schema
        self._purposes = purposes
        self._as_of = as_of
        self._keys = keys
        self._tallies = tallies

    def __repr__(self) -> str:
        return "<_Filtering>"

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        schema = unpacked(self._schema)
        filter_ = Filter(schema, purposes=self._purposes, as_of=self._as_of, keys=self._keys)
        columns = arrow_schema(column_types(schema), schema.id.encode(), received=False)
        total = Tally()
        for batch in batches:
            for at in range(0, len(batch), _ROWS):
                records = _admitted(filter_, batch.column(0).slice(at, _ROWS), total)
                yield from read_table(records, columns).to_batches()
        task = TaskContext.get()
        if task is not None:
            attempts = {task.partitionId(): (task.taskAttemptId(), total)}
            self._tallies.add({task.stageId(): attempts})


def _admitted(filter_: Filter, column: pa.Array, total: Tally) -> bytes:
    """Return the records of some rows, and add their counts to a tally."""
    rows = column.drop_null().cast(pa.large_binary())
    lines, documents = _joined(rows), list[bytes]()
    if count_lines(lines) >= max(1, len(rows)):
        each = rows.to_pylist()
        lines = b"\n".join(row for row in each if b"\n" not in row)
        documents = [row for row in each if b"\n" in row]
    admissions = [filter_.admit_lines(lines, first=False), *map(filter_.admit, documents)]
    for admission in admissions:
        total += admission.tally
    return b"".join(admission.encode() for admission in admissions)


def _joined(rows: pa.Array) -> bytes:
    """Return the rows as lines, without a Python object for each."""
    ends = pa.array([0, len(rows)], pa.int64())
    lists = pa.LargeListArray.from_arrays(ends, rows)
    return bytes(pc.binary_join(lists, pa.scalar(b"\n", pa.large_binary()))[0].as_buffer())


def _columns(schema: Schema) -> StructType:
    """Return the columns of records as Spark types, in the order of ``arrow_schema``."""
    name, _, count = RESERVED
    fields = [StructField(field, _TYPES[type_]) for field, type_ in column_types(schema).items()]
    return StructType([StructField(name, StringType()), *fields, StructField(count, LongType())])
