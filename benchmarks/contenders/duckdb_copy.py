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

from benchmarks.contenders.base import FIELDS, SCHEMA, Contender, Outcome, joined, known, parsed

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


class DuckdbCopy:
    """From file to file on one thread; the output is then read, as bytes are asked for."""

    name = "duckdb_copy"
    title = "DuckDB, COPY of read_ndjson"
    checks_values = False
    does_not = "check, alias, count, skip bad lines, leave nulls out"
    schemas = ("conferencing",)

    def __init__(self) -> None:
        self._folder = Path(mkdtemp(prefix="collector-benchmarks-"))
        finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        self._database = duckdb.connect(config={"threads": 1})
        self._target = self._folder / "out.ndjson"

    def prepare(self, lines: list[bytes], schema: str) -> None:
        source = self._folder / "in.ndjson"
        source.write_bytes(joined(lines))
        self._statement = statement(source, self._target)

    def run(self) -> bytes:
        self._database.execute(self._statement)
        return self._target.read_bytes()

    def check(self, output: bytes) -> Outcome:
        return Outcome(list(map(known, parsed(output))))


def contender() -> Contender:
    """Return a contender that is not prepared yet."""
    return DuckdbCopy()


if __name__ == "__main__":
    duckdb.connect().execute(statement(Path(sys.argv[1]), Path(sys.argv[2])))
