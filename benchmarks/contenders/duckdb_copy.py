"""DuckDB: NDJSON with explicit columns in, a projection, NDJSON out, all in one SQL statement.

``python -m benchmarks.contenders.duckdb_copy SOURCE TARGET`` does it once, with all cores.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from tempfile import mkdtemp
from weakref import finalize

import duckdb

from benchmarks.contenders import FIELDS, SCHEMA, Contender, Job

_COLUMNS = """{
    client: 'STRUCT(address VARCHAR)',
    device: 'STRUCT(type VARCHAR, manufacturer VARCHAR,
                    model STRUCT(identifier VARCHAR, name VARCHAR))',
    os: 'STRUCT(type VARCHAR, name VARCHAR, version VARCHAR, build_id VARCHAR)'
}"""
_SELECTED = ", ".join((f"'{SCHEMA}' AS schema", *(f'{name} AS "{name}"' for name in FIELDS)))


# On medium events, in µs: columns of STRUCT 4.1, of JSON with `->>` 4.9, `json_extract_string` of
# whole objects 5.4; rows fetched and written by orjson 4.4. Files in memory are not faster.
def statement(source: Path, target: Path) -> str:
    """Return the SQL that filters one file into another. The paths are our own, without quotes."""
    return (
        f"COPY (SELECT {_SELECTED} FROM read_ndjson('{source}', columns = {_COLUMNS}))"
        f" TO '{target}' (FORMAT json)"
    )


def _make(lines: list[bytes], _schema: str) -> Job:
    """From file to file on one thread; the output is then read, as bytes are asked for."""
    folder = Path(mkdtemp(prefix="collector-benchmarks-"))
    source, target = folder / "in.ndjson", folder / "out.ndjson"
    source.write_bytes(b"\n".join(lines))
    database, text = duckdb.connect(config={"threads": 1}), statement(source, target)

    def job() -> bytes:
        database.execute(text)
        return target.read_bytes()

    finalize(job, shutil.rmtree, folder, ignore_errors=True)
    return job


DUCKDB_COPY = Contender(
    "duckdb_copy",
    "DuckDB, COPY of read_ndjson",
    "check, alias, count, skip bad lines, leave nulls out",
    _make,
)


if __name__ == "__main__":
    duckdb.connect().execute(statement(Path(sys.argv[1]), Path(sys.argv[2])))
