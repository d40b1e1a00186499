"""``python -m benchmarks spark``: a file of events on Spark, compared with ``collector filter``.

Both read the same file and write its records as Parquet, in turns. Spark has two executors of one
core each. Its session is started and has done the same work a few times before timing begins. Rates
are per wall time, and per core.
"""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import TYPE_CHECKING

from benchmarks import conditions
from benchmarks.figures import BenchmarkError, Figures, interval, paired, say
from benchmarks.processes import COLLECTOR, Process, source

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_EXECUTORS = 2
_ROUNDS, _QUICK_ROUNDS = 5, 2
_WARM_UP = 6
"""Spark's warm-up rounds: Java compiles hot code, and is slower until then."""
_EVENTS, _QUICK_EVENTS = 1_000_000, 100_000
_SEEDED = 100_000
"""The number of different events; the file repeats them."""


@contextmanager
def local_cluster(folder: Path) -> Iterator[SparkSession]:
    """Start a cluster on this machine as docs/filter.md recommends: a driver, a master, and two
    executors of one core each."""
    from pyspark.sql import SparkSession  # noqa: PLC0415 - it is heavy, and may not be installed

    places = {
        "PYSPARK_PYTHON": sys.executable,
        "SPARK_LOCAL_IP": "127.0.0.1",
        "SPARK_WORKER_DIR": str(folder / "work"),
        "SPARK_LOCAL_DIRS": str(folder / "local"),
    }
    before = {name: os.environ.get(name) for name in places}
    os.environ.update(places)
    settings = {
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.sql.warehouse.dir": str(folder / "warehouse"),
        "spark.sql.shuffle.partitions": "4",
        "spark.python.unix.domain.socket.enabled": "true",
        "spark.sql.execution.arrow.maxRecordsPerBatch": "2000",
    }
    master = f"local-cluster[{_EXECUTORS},1,1024]"
    session = SparkSession.builder.master(master).config(map=settings).getOrCreate()
    try:
        session.sparkContext.setLogLevel("ERROR")
        yield session
    finally:
        session.stop()
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})


def spark(options: Namespace, figures: Figures) -> None:
    """Measure events per second and core, and judge Spark's rate over the command's."""
    number = _QUICK_EVENTS if options.quick else _EVENTS
    figures.environment = conditions.environment() | conditions.compiled()
    if find_spec("pyspark") is None:
        figures.skipped["spark"] = "pyspark is not installed"
        return
    from collector.spark import minimise  # noqa: PLC0415 - as above

    rates: dict[str, list[float]] = {"spark": [], "command": []}
    with source("medium", _SEEDED, number // _SEEDED) as events, TemporaryDirectory() as folder:
        target = events.beside("records.parquet")
        command = (*COLLECTOR, str(events.path), "--output", str(target))
        process = Process("collector filter", command, events.beside("printed"), target)
        with local_cluster(Path(folder)) as session:
            frame = session.read.option("lineSep", "\n").text(str(events.path))
            rounds = _QUICK_ROUNDS if options.quick else _ROUNDS
            for each in range(rounds + _WARM_UP):
                say(f"spark: round {each}")
                minimised = minimise(frame, "conferencing")
                began = perf_counter()
                minimised.records.write.mode("overwrite").parquet(f"{folder}/records")
                wall = perf_counter() - began
                if minimised.tally().received != number:
                    raise BenchmarkError("Spark has not read each event once")
                if each >= _WARM_UP:
                    rates["spark"].append(number / wall / _EXECUTORS)
                    rates["command"].append(number / process.run()["wall_seconds"])
            found = session.read.parquet(f"{folder}/records")
            other = session.read.parquet(str(target))
            if found.exceptAll(other).count() or found.count() != other.count():
                raise BenchmarkError("Spark's records are not those of the command")
    figures.values = {"rates": rates}
    ratio = paired(rates["spark"], rates["command"])
    figures.table(
        f"Events per second and core, of {number:,} medium events in a file, to Parquet; medians"
        " (95 % bootstrap)",
        ("Spark, two executors", "collector filter", "Spark / command"),
        [(*(f"{interval(each).median:,.0f}" for each in rates.values()), str(ratio))],
    )
    least = figures.limit("spark", "of_command_at_least")
    figures.at_least("spark: of the command's rate per core", least, ratio)
