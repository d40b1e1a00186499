"""The sink of Parquet files, beside pyarrow's own way from mappings to a file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path

from benchmarks.sinks import Writers
from collector.contracts import Batch, Record
from collector.schema import Schema
from collector.sinks.sink import Opening


@contextmanager
def on_disk(directory: Path, schema: Schema) -> Iterator[Writers]:
    """Write into directories of this machine, with the same compression."""
    import pyarrow as pa  # noqa: PLC0415 - an extra
    from pyarrow import parquet  # noqa: PLC0415

    from collector.sinks.parquet import ParquetSettings, ParquetSink  # noqa: PLC0415 - an extra

    numbers = count()
    settings = ParquetSettings(type="parquet", path=directory / "lake")
    opening = Opening("parquet", (schema,), directory / "data")
    with closing(ParquetSink(settings, opening)) as sink:

        def deliver(batches: Sequence[Batch]) -> None:
            sink.deliver(*batches)
            sink.finish()

        def write(records: Sequence[Record]) -> None:
            path = directory / f"{next(numbers)}.parquet"
            parquet.write_table(pa.Table.from_pylist(records), path, compression="zstd")

        yield Writers(deliver, write)
