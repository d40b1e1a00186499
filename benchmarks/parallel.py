"""All cores: ``collector filter --jobs N`` on a regular file, against engines with every thread.

What counts is the time on the wall, from the start of the command to its end. Two CPUs of one
machine share caches, memory and often a core. So a control runs beside: two processes that share
nothing of ours, each on half of the events, which is the most that two jobs could be.
"""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path

import orjson

from benchmarks.contenders.base import Record, known
from benchmarks.processes import COLLECTOR, Process, Source, in_turns
from benchmarks.results import BenchmarkError, Interval, ParallelResult, paired
from benchmarks.whole import compare

CONTROL = "two processes that share nothing, half of the events each (control)"

_ENGINES = {
    "duckdb": ("DuckDB, every thread", "duckdb_copy"),
    "polars": ("Polars, every thread", "polars_lazy"),
}

_BLOCK = 1 << 24
_PROBE = 1 << 20


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
    control = _control(source, ours[1].records)
    in_turns([*processes, control], runs)
    results = {process.name: process.result() for process in processes}
    one = results[ours[1].name].wall_seconds
    speedups = {
        number: paired(one, results[process.name].wall_seconds)
        for number, process in ours.items()
        if number > 1
    }
    used = control.result()
    return ParallelResult(
        source.corpus,
        source.events,
        source.bytes,
        cpus(),
        results,
        speedups,
        control=used,
        control_speedup=paired(one, used.wall_seconds),
        of_control=paired(used.wall_seconds, results[ours[2].name].wall_seconds),
    )


def control_gain(source: Source, runs: int) -> Interval:
    """Return how much more two processes do that share nothing than one does alone."""
    half, target = _half(source), source.beside("alone.ndjson")
    alone = Process("half of the events", _command(half, target), target.with_suffix(".printed"))
    both = _pair(source, half)
    in_turns([alone, both], runs + 1)
    one, two = (process.result().wall_seconds[1:] for process in (alone, both))
    return paired([2 * seconds for seconds in one], two)


def _control(source: Source, records: Path) -> Process:
    """Two processes, each of which filters the first half; after a run that gave its records."""
    process = _pair(source, _half(source))
    process.run()
    size = records.stat().st_size
    for half in (process.records, process.records.with_suffix(".second")):
        with half.open("rb") as found, records.open("rb") as whole:
            first = found.read(_PROBE)
            if not 0 < half.stat().st_size < size or first != whole.read(len(first)):
                raise BenchmarkError("half of the events gives other records")
    return process


def _half(source: Source) -> Path:
    """Write the first half of the events to a file of its own."""
    half = source.beside("half.ndjson")
    with source.path.open("rb") as events, half.open("wb") as file:
        left = source.bytes // 2 - 1
        while left > 0 and (block := events.read(min(left, _BLOCK))):
            file.write(block)
            left -= len(block)
        file.write(events.readline())
    return half


def _pair(source: Source, half: Path) -> Process:
    first = source.beside("control.ndjson")
    commands = [_command(half, target) for target in (first, first.with_suffix(".second"))]
    return Process(CONTROL, commands[0], first.with_suffix(".printed"), first, commands[1])


def _command(events: Path, target: Path) -> tuple[str, ...]:
    return (*COLLECTOR, str(events), "--schema", "conferencing", "--output", str(target))


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
