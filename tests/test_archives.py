"""The recipes of docs/filter.md for DuckDB and Polars; that for Spark is in test_spark.py."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

from benchmarks.data import lines
from collector import Filter, load_schema
from tests.conftest import required
from tests.support.programs import script
from tests.support.rows import for_each
from tests.test_docs import blocks

_EVENTS = 2_500


@for_each("engine", ["duckdb", "polars"])
def test_recipes_run(engine: str, tmp_path: Path) -> None:
    """They give the records of the filter and count every event, in several batches."""
    if find_spec(engine) is None:
        required(f"{engine} (the extra bench)")
    (recipe,) = (
        each for each in blocks("docs/filter.md", "python", "archive") if f"import {engine}" in each
    )
    events = [line.decode() for line in lines("medium", _EVENTS)]
    (tmp_path / "archive").mkdir()
    table = pa.table({"event": [*events[: _EVENTS // 2], None, *events[_EVENTS // 2 :]]})
    parquet.write_table(table, tmp_path / "archive" / "events.parquet")
    done = script(recipe, cwd=tmp_path)
    expected = Filter(load_schema("conferencing")).admit_lines("\n".join(events))
    assert sorted((tmp_path / "records.ndjson").read_bytes().splitlines()) == sorted(
        expected.encode().splitlines()
    )
    assert f"'received': {_EVENTS}" in done.stdout
    rows = parquet.read_table(tmp_path / "records.parquet")
    assert rows.num_rows == expected.tally.admitted
