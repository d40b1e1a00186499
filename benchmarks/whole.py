"""Whole processes: ``collector filter FILE`` against jq, and Fluent Bit, doing the same projection.

CPU is user and system time of the process with its start, and memory its peak resident size.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import orjson

from benchmarks import fluent_bit
from benchmarks.contenders import FIELDS, SCHEMA, Record
from benchmarks.processes import COLLECTOR, Process, Source, in_turns
from benchmarks.results import BenchmarkError, WholeResult, paired

_COMPARED = 5_000
_Read = Callable[[bytes], Record]

# Of five ways to leave absent fields out this was the fastest in jq 1.7.1: 29 µs per event, where
# `with_entries(select(…))` took 53. Keeping them as null, which is not the same record, took 27.
JQ_PROGRAM = f'{{"schema": "{SCHEMA}"}}' + "".join(
    f' + (.{name} | if . == null then {{}} else {{"{name}": .}} end)' for name in FIELDS
)
"""The projection of an event to the flat record."""


def obstacle() -> str | None:
    """Why whole processes cannot be measured here; ``None`` if they can."""
    if not hasattr(os, "wait4"):
        return "this system does not tell what a process used (os.wait4)"
    if shutil.which("jq") is None:
        return "jq is not installed"
    probe = subprocess.run([*COLLECTOR, "--help"], capture_output=True, check=False)
    if probe.returncode != 0:
        return "the command `collector filter` cannot be run"
    return None


def jq_version() -> str:
    """As jq tells it."""
    done = subprocess.run(["jq", "--version"], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def measure(source: Source, runs: int, fluent: str | None = None) -> WholeResult:
    """Run the commands in turns on a file of events; ``fluent`` is Fluent Bit's executable.

    Raises ``BenchmarkError`` when one fails or when their records differ.
    """
    ours = Process(
        "collector filter",
        (*COLLECTOR, str(source.path), "--schema", "conferencing"),
        source.beside("collector.ndjson"),
    )
    jq = Process("jq", ("jq", "-c", JQ_PROGRAM, str(source.path)), source.beside("jq.ndjson"))
    processes = [ours, jq]
    for process in processes:
        process.run()
    compare(ours.output, jq.output, source.events)
    if fluent is not None:
        processes.append(_fluent(fluent, source, ours.output))
    in_turns(processes, runs)
    used = [process.result() for process in processes]
    ratios = [paired(used[0].cpu_seconds, other.cpu_seconds) for other in used[1:]]
    return WholeResult(
        corpus=source.corpus,
        events=source.events,
        bytes=source.bytes,
        collector=used[0],
        jq=used[1],
        cpu_ratio=ratios[0],
        fluent_bit=used[2] if fluent else None,
        fluent_bit_ratio=ratios[1] if fluent else None,
    )


def _fluent(executable: str, source: Source, ours: Path) -> Process:
    """Fluent Bit after a run whose records were the same."""
    process = fluent_bit.process(executable, source)
    process.run()
    if not process.records.is_file():
        raise BenchmarkError("fluent-bit wrote no file")
    compare(ours, process.records, source.events, fluent_bit.record)
    # It appends to a file that is there.
    process.records.unlink()
    return process


def compare(ours: Path, theirs: Path, events: int, read: _Read = orjson.loads) -> None:
    """Line counts of the whole, and the records of the first few thousand lines.

    ``read`` makes a record of a line of theirs. Raises ``BenchmarkError`` where they differ.
    """
    for path in (ours, theirs):
        with path.open("rb") as file:
            count = sum(1 for _ in file)
        if count != events:
            raise BenchmarkError(f"{path.stem} gives {count} records of {events} events")
    with ours.open("rb") as first, theirs.open("rb") as second:
        pairs = zip(first, second, strict=True)
        for number, (left, right) in enumerate(islice(pairs, _COMPARED), 1):
            if orjson.loads(left) != read(right):
                raise BenchmarkError(f"{ours.stem} and {theirs.stem} differ in record {number}")
