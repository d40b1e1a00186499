"""Polars: a lazy frame over NDJSON with an explicit schema, a projection, streamed into NDJSON.

``python -m benchmarks.contenders.polars_lazy SOURCE TARGET`` does it once, with all cores.
"""

from __future__ import annotations

import os
import sys
from io import BytesIO
from pathlib import Path

from benchmarks.contenders import FIELDS, SCHEMA, Contender, Job

# Polars takes it from the environment, when it is imported.
if __name__ != "__main__":
    os.environ.setdefault("POLARS_MAX_THREADS", "1")

import polars as pl

_TEXT = pl.String
_MODEL = pl.Struct({"identifier": _TEXT, "name": _TEXT})
_TYPES = {
    "client": pl.Struct({"address": _TEXT}),
    "device": pl.Struct({"type": _TEXT, "manufacturer": _TEXT, "model": _MODEL}),
    "os": pl.Struct({"type": _TEXT, "name": _TEXT, "version": _TEXT, "build_id": _TEXT}),
}


def _column(name: str) -> pl.Expr:
    first, *rest = name.split(".")
    column = pl.col(first)
    for part in rest:
        column = column.struct.field(part)
    return column.alias(name)


_SELECTED = [pl.lit(SCHEMA).alias("schema"), *map(_column, FIELDS)]


# On medium events, in µs: scan and sink 7.7, `read_ndjson` and `write_ndjson` 8.2, `json_decode` of
# a column of texts 9.2, `json_path_match` per field 81.
def copy(source: BytesIO | Path, target: BytesIO | Path) -> None:
    """Filter one file, or buffer, into another."""
    pl.scan_ndjson(source, schema=_TYPES).select(_SELECTED).sink_ndjson(target)


def _make(lines: list[bytes], _schema: str) -> Job:
    """From memory to memory, with a pool of one thread (which is not the caller's)."""
    payload = b"\n".join(lines)

    def job() -> bytes:
        target = BytesIO()
        copy(BytesIO(payload), target)
        return target.getvalue()

    return job


POLARS_LAZY = Contender(
    "polars_lazy",
    "Polars, scan_ndjson → sink_ndjson",
    "check, alias, count, skip bad lines, leave nulls out",
    _make,
)


if __name__ == "__main__":
    copy(Path(sys.argv[1]), Path(sys.argv[2]))
