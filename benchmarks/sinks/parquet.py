"""The sink of Parquet files, beside pyarrow's own way from mappings to a file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from collector.contracts import Batch, Record
from collector.schema import Schema
from collector.sinks.sink import Opening


@dataclass
class _Writers:
    """The sink and the bare writer, on the same disk."""

    deliver: Any
    directory: Path
    number: int = 0

    def sink(self, batches: Sequence[Batch]) -> None:
        """Deliver batches, and make files of them."""
        self.deliver.deliver(*batches)
        self.deliver.finish()

    def bare(self, records: Sequence[Record]) -> None:
        """Write a file of the same records, with the same compression."""
        import pyarrow as pa  # noqa: PLC0415 - an extra
        from pyarrow import parquet  # noqa: PLC0415

        self.number += 1
        path = self.directory / f"{self.number}.parquet"
        parquet.write_table(pa.Table.from_pylist(records), path, compression="zstd")


@contextmanager
def on_disk(directory: Path, schema: Schema) -> Iterator[_Writers]:
    """Write into directories of this machine."""
    from collector.sinks.parquet import ParquetSettings, ParquetSink  # noqa: PLC0415 - an extra

    settings = ParquetSettings(type="parquet", path=directory / "lake")
    sink = ParquetSink(settings, Opening("parquet", (schema,), directory / "data"))
    try:
        yield _Writers(sink, directory)
    finally:
        sink.close()
