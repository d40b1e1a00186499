"""``python -m benchmarks spark``: a file of events on Spark, beside ``collector filter``.

Both read the same file and write its records as Parquet. Spark has two executors of a core each,
and its session is there, and has done the same a few times, before anything is timed. Rates are of
the wall, and of each core that is used; the two take turns.
"""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import TYPE_CHECKING

from benchmarks import conditions, gate, output
from benchmarks.gate import Verdict
from benchmarks.output import say
from benchmarks.processes import COLLECTOR, Process, source
from benchmarks.report import Table
from benchmarks.results import BenchmarkError, Interval, RunFigures, interval, paired

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_LEAST = 0.5
"""Of the rate of ``collector filter``, per core."""
_EXECUTORS = 2
_ROUNDS, _QUICK_ROUNDS = 5, 2
_WARM_UP = 6
"""Rounds of Spark before: Java compiles what it runs often, and is slower until then."""
_EVENTS, _QUICK_EVENTS = 1_000_000, 100_000
_SEEDED = 100_000
"""Events that differ; the file repeats them."""


@dataclass(slots=True)
class Figures(RunFigures):
    """What was measured: events per second and core, round by round."""

    events: int = 0
    spark: list[float] = field(default_factory=list)
    command: list[float] = field(default_factory=list)

    @property
    def ratio(self) -> Interval:
        """Spark's rate over that of the command, of the same round."""
        return paired(self.spark, self.command)


def spark(arguments: Sequence[str]) -> int:
    """Measure it; returns the exit code."""
    return output.run(
        arguments,
        "spark",
        "Measure archives on Spark.",
        measure=_measure,
        table=_table,
        judge=_judge,
    )


@contextmanager
def local_cluster(folder: Path) -> Iterator[SparkSession]:
    """Start a cluster on this machine: a driver, a master, and two executors of a core each, as
    docs/filter.md recommends it."""
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


def _measure(options: Namespace) -> Figures:
    number = _QUICK_EVENTS if options.quick else _EVENTS
    figures = Figures(
        conditions.environment() | conditions.compiled(), options.quick, events=number
    )
    if find_spec("pyspark") is None:
        figures.skipped["spark"] = "pyspark is not installed"
        return figures
    from collector.spark import minimise  # noqa: PLC0415 - as above

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
                tally = minimised.tally()
                if tally.received != number:
                    raise BenchmarkError("Spark has not read each event once")
                if each >= _WARM_UP:
                    figures.spark.append(number / wall / _EXECUTORS)
                    figures.command.append(number / process.run().wall_seconds)
            found = session.read.parquet(f"{folder}/records")
            other = session.read.parquet(str(target))
            if found.exceptAll(other).count() or found.count() != other.count():
                raise BenchmarkError("Spark's records are not those of the command")
    return figures


def _table(figures: Figures) -> Table:
    rows: tuple[tuple[str, ...], ...] = ()
    if figures.spark:
        ratio = figures.ratio
        rates = [f"{interval(each).median:,.0f}" for each in (figures.spark, figures.command)]
        rows = ((*rates, f"{ratio.median:.2f} ({ratio.low:.2f}–{ratio.high:.2f})"),)
    title = (
        f"Events per second and core, of {figures.events:,} medium events in a file, to Parquet;"
        " medians (95 % bootstrap)"
    )
    return Table(title, ("Spark, two executors", "collector filter", "Spark / command"), rows)


def _judge(figures: Figures, limits: gate.Limits) -> Iterator[Verdict]:
    if not figures.spark:
        yield Verdict(None, "spark: not installed")
        return
    least = _LEAST / (limits.quick.tolerance if figures.quick else 1)
    text = f"spark: {figures.ratio.median:.2f} of the command's rate per core, at least {least:.2f}"
    yield Verdict(figures.ratio.high >= least, text)
