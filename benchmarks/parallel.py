"""All cores: ``collector filter --jobs N`` on a regular file, against engines with every thread.

What counts is the time on the wall, from the start of the command to its end.
"""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec

import orjson

from benchmarks.contenders.base import Record, known
from benchmarks.processes import COLLECTOR, Process, Source, in_turns
from benchmarks.results import ParallelResult, paired
from benchmarks.whole import compare

__all__ = ["cpus", "jobs", "measure"]

_ENGINES = {
    "duckdb": ("DuckDB, every thread", "duckdb_copy"),
    "polars": ("Polars, every thread", "polars_lazy"),
}


def cpus() -> int:
    """Return the CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def jobs(available: int) -> list[int]:
    """Return how many processes are tried: one, and doubled up to every CPU; at least two."""
    most = max(2, available)
    doubled = [1 << power for power in range(most.bit_length()) if 1 << power <= most]
    return sorted({*doubled, most})


def measure(source: Source, runs: int) -> ParallelResult:
    """Run the commands in turns on a file of events.

    Raises ``BenchmarkError`` when one fails or when their records differ.
    """
    ours = {number: _collector(source, number) for number in jobs(cpus())}
    engines = [
        _engine(source, title, module)
        for library, (title, module) in _ENGINES.items()
        if find_spec(library) is not None
    ]
    processes = [*ours.values(), *engines]
    for process in processes:
        process.run()
        compare(ours[1].records, process.records, source.events, _record)
    in_turns(processes, runs)
    results = {process.name: process.result() for process in processes}
    one = results[ours[1].name].wall_seconds
    speedups = {
        number: paired(one, results[process.name].wall_seconds)
        for number, process in ours.items()
        if number > 1
    }
    return ParallelResult(source.corpus, source.events, source.bytes, cpus(), results, speedups)


def _collector(source: Source, number: int) -> Process:
    target = source.beside(f"jobs-{number}.ndjson")
    settings = ("--schema", "conferencing", "--jobs", str(number), "--output", str(target))
    name = f"collector filter --jobs {number}"
    printed = target.with_suffix(".printed")
    return Process(name, (*COLLECTOR, str(source.path), *settings), printed, target)


def _engine(source: Source, title: str, module: str) -> Process:
    target = source.beside(f"{module}.ndjson")
    program = (sys.executable, "-m", f"benchmarks.contenders.{module}")
    command = (*program, str(source.path), str(target))
    return Process(title, command, target.with_suffix(".printed"), target)


def _record(line: bytes) -> Record:
    return known(orjson.loads(line))
