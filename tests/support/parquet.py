"""Parquet files as in a lake, except for what a test changes."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from pyarrow import parquet


def write_parquet(where: Any, table: pa.Table, **settings: Any) -> None:
    """Write a file with our settings and with a table's metadata."""
    chosen = {"compression": "zstd", "version": "2.6", "store_schema": False, **settings}
    with parquet.ParquetWriter(where, table.schema, **chosen) as made:
        if len(table):
            made.write_table(table)
        made.add_key_value_metadata(table.schema.metadata)


def zigzag(number: int) -> bytes:
    """Encode a number as Thrift's compact protocol does."""
    number, found = 2 * number, bytearray()
    while number > 127:
        found.append(number & 127 | 128)
        number >>= 7
    return bytes([*found, number])
