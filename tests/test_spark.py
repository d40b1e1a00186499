"""Archives on a real Spark, of two executors: records as ``collector filter`` makes them, and the
counts of each event once, whatever Spark runs again."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import orjson
import pytest

from benchmarks.data import lines
from benchmarks.spark import local_cluster
from collector.errors import ConfigError
from collector.schema import load_schema
from tests.conftest import required
from tests.support.make_schemas import PSEUDONYM
from tests.test_docs import blocks

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame, SparkSession

pytestmark = [
    pytest.mark.spark,
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore:PySpark does not yet fully support pandas:FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:pyspark"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # of py4j's sockets, at the end
]

EVENTS = int(os.environ.get("COLLECTOR_SPARK_EVENTS", "20000"))


@pytest.fixture(scope="module")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    """A cluster that all tests share."""
    if find_spec("pyspark") is None:
        required("pyspark (make .venv/.spark)")
    with local_cluster(tmp_path_factory.mktemp("spark")) as session:
        yield session


def _frame(spark: SparkSession, rows: list[Any], kind: str = "binary") -> DataFrame:
    return spark.createDataFrame([(row,) for row in rows], f"value {kind}").repartition(4)


def _lines_of(records: DataFrame) -> Counter[bytes]:
    """Return the rows as the lines that a filter would write."""
    from collector.arrow.tables import read_records  # noqa: PLC0415 - it needs pyarrow

    table: pa.Table = records.toArrow()
    found = Counter[bytes]()
    for record in read_records(table):
        if record["count"] == 1:
            del record["count"]
        found[msgspec.json.encode(record)] += 1
    return found


def _filtered(path: Path, schema: str) -> tuple[Counter[bytes], dict[str, Any]]:
    """Return the lines and the tally of ``collector filter``."""
    command = [sys.executable, "-m", "collector", "filter", str(path), "--schema", schema, "--json"]
    done = subprocess.run(command, capture_output=True, check=True)
    return Counter(done.stdout.splitlines()), orjson.loads(done.stderr)


def _events(number: int) -> list[bytes]:
    """Return lines of several kinds, mutated ones and garbage among them."""
    rng = random.Random(20261127)
    found = [*lines("medium", number), *lines("hostile", number // 4)]
    for _ in range(number // 4):
        line = bytearray(rng.choice(found))
        for _ in range(rng.randrange(1, 4)):
            line[rng.randrange(len(line))] = rng.choice(b'\xff\r{}[],"\\:0a ')
        found.append(bytes(line))
    found += [b"", b"  ", b"[]", b"[{}]", b"null", b"\xff", b'{"ip_address": "203.0.113.7"}']
    found = [line.replace(b"\n", b" ") for line in found]
    rng.shuffle(found)
    return found


def test_records_are_those_of_the_command(spark: SparkSession, tmp_path: Path) -> None:
    """Byte for byte, and count for count, also where a file begins with a byte order mark."""
    from collector.spark import minimise  # noqa: PLC0415 - it may not be installed

    path = tmp_path / "events.ndjson"
    path.write_bytes(b"\xef\xbb\xbf" + b"\n".join(_events(EVENTS)) + b"\n")
    frame = spark.read.option("lineSep", "\n").text(str(path)).repartition(5)
    minimised = minimise(frame, "conferencing")
    minimised.records.write.parquet(str(tmp_path / "records"))
    expected, tally = _filtered(path, "conferencing")
    assert _lines_of(spark.read.parquet(str(tmp_path / "records"))) == expected
    said = minimised.tally().as_dict()
    for each in (tally, said):
        del each["bytes_in"]  # line breaks
    assert said == tally


@pytest.mark.parametrize("kind", ["binary", "string"])
def test_columns_are_typed(spark: SparkSession, kind: str) -> None:
    """A row of several lines is a document, and an empty one or none is no event."""
    from collector.spark import minimise  # noqa: PLC0415 - it may not be installed

    document = '{"ip_address": "203.0.113.7",\n "os": {"type": "linux"}, "chat": ["x"]}'
    row: Any = document if kind == "string" else document.encode()
    minimised = minimise(_frame(spark, [row, None, row[:0]], kind), "conferencing")
    (record,) = minimised.records.collect()
    fields = load_schema("conferencing").fields
    assert minimised.records.columns == ["schema", *fields, "count"]
    assert record["client.address"] == "203.0.113.7"
    assert record["os.type"] == "linux"
    assert record["count"] == 1
    said = minimised.tally().as_dict()
    del said["bytes_out"]
    assert said == {
        "received": 1,
        "admitted": 1,
        "rejected": {},
        "content": {"chat": 1},
        "bytes_in": len(document),
    }


def test_counts_are_of_each_event_once(spark: SparkSession) -> None:
    from collector.spark import minimise  # noqa: PLC0415 - it may not be installed

    frame = _frame(spark, [b'{"ip_address": "203.0.113.7"}'] * 30 + [b"{"] * 10)
    minimised = minimise(frame, "conferencing")
    expected = (40, 30)
    for records in (
        minimised.records,
        minimised.records,
        minimised.records.coalesce(1),
        minimised.records.repartition(7),
        minimised.records.orderBy("count"),
    ):
        assert records.count() == 30
        tally = minimised.tally()
        assert (tally.received, tally.admitted) == expected
    failing = minimise(frame.mapInArrow(_fail_once, frame.schema), "conferencing")
    assert failing.records.count() == 30
    assert (failing.tally().received, failing.tally().admitted) == expected


def _fail_once(batches: Iterator[Any]) -> Iterator[Any]:
    """Fail at the end of each first attempt."""
    from pyspark import TaskContext  # noqa: PLC0415 - it may not be installed

    yield from batches
    task = TaskContext.get()
    assert task is not None
    if task.attemptNumber() == 0:
        raise RuntimeError("once")


def test_the_recipe_runs(spark: SparkSession, tmp_path: Path) -> None:
    (recipe,) = blocks("docs/filter.md", "python", "spark")
    (tmp_path / "archive").mkdir()
    (tmp_path / "archive" / "2025").write_bytes(b'{"ip_address": "203.0.113.7"}\n' * 3)
    exec(recipe.replace("s3a://", f"{tmp_path}/"), {"spark": spark})
    assert spark.read.parquet(str(tmp_path / "minimised" / "2025")).count() == 3


def test_all_tasks_see_the_same_present_and_the_same_keys(
    spark: SparkSession, tmp_path: Path
) -> None:
    from collector.spark import minimise  # noqa: PLC0415 - it may not be installed

    path = tmp_path / "devices.yaml"
    path.write_text(PSEUDONYM.format(key="env:NOT_THERE"))
    frame = _frame(spark, [b'{"device.id": "a"}', b'{"device.id": "b"}'] * 20)
    with pytest.raises(ConfigError) as raised:
        minimise(frame, path)
    assert raised.value.code == "E202"
    minimised = minimise(frame, path, keys=lambda _reference, _period: b"k" * 32)
    found = Counter(row["device.id"] for row in minimised.records.collect())
    assert sorted(found.values()) == [20, 20]


def test_what_cannot_be_is_said_before_anything_runs(spark: SparkSession) -> None:
    from collector.spark import minimise  # noqa: PLC0415 - it may not be installed

    frame = spark.createDataFrame([(b"{}", 1)], "`a``.b` binary, number int")
    assert minimise(frame, "conferencing", column="a`.b").records.count() == 0
    for column, purposes, code in (
        ("number", None, "E107"),
        ("a", None, "E107"),
        ("a`.b", ["other"], "E132"),
    ):
        with pytest.raises(ConfigError) as raised:
            minimise(frame, "conferencing", column=column, purposes=purposes)
        assert raised.value.code == code
    early = minimise(frame, "conferencing", column="a`.b", as_of=datetime(2026, 1, 1, tzinfo=UTC))
    assert early.records.count() == 0
