"""Parquet files as a lake has them, but for what a test changes."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from pyarrow import parquet


def write_parquet(where: Any, table: pa.Table, **settings: Any) -> None:
    """Write a file with the settings of ours, and with the metadata of a table."""
    chosen = {"compression": "zstd", "version": "2.6", "store_schema": False, **settings}
    with parquet.ParquetWriter(where, table.schema, **chosen) as made:
        if len(table):
            made.write_table(table)
        made.add_key_value_metadata(table.schema.metadata)


def zigzag(number: int) -> bytes:
    """A number as Thrift's compact protocol has it."""
    number, found = 2 * number, bytearray()
    while number > 127:
        found.append(number & 127 | 128)
        number >>= 7
    return bytes([*found, number])
