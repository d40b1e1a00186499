"""Whole processes: ``collector filter FILE`` against jq doing the same projection.

CPU is user and system time of the process with its start, and memory its peak resident size.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import orjson

from benchmarks import launch
from benchmarks.contenders import FIELDS, SCHEMA
from benchmarks.data import stream
from benchmarks.results import BenchmarkError, ProcessResult, WholeResult, paired

__all__ = ["JQ_PROGRAM", "jq_version", "measure", "obstacle"]

_CORPUS = "medium"
_COMPARED = 5_000
_COLLECTOR = (sys.executable, "-m", "collector", "filter")

# Of five ways to leave absent fields out this was the fastest in jq 1.7.1: 29 µs per event, where
# `with_entries(select(…))` took 53. Keeping them as null, which is not the same record, took 27.
JQ_PROGRAM = f'{{"schema": "{SCHEMA}"}}' + "".join(
    f' + (.{name} | if . == null then {{}} else {{"{name}": .}} end)' for name in FIELDS
)
"""The projection of an event to the flat record."""


class _Usage(msgspec.Struct):
    """What the launcher prints."""

    status: int
    cpu_seconds: float
    peak_bytes: int


@dataclass(slots=True)
class _Process:
    """A command whose output goes to a file, and what its runs used."""

    name: str
    command: Sequence[str]
    output: Path
    runs: list[_Usage] = field(default_factory=list)

    def run(self) -> _Usage:
        """Run it once. Raises ``BenchmarkError`` when it fails."""
        errors = self.output.with_suffix(".errors")
        small = (sys.executable, "-I", "-S", str(Path(launch.__file__)))
        told = subprocess.run(
            [*small, str(self.output), str(errors), *self.command],
            stdout=subprocess.PIPE,
            check=True,
        )
        usage = msgspec.json.decode(told.stdout, type=_Usage)
        if usage.status != 0:
            raise BenchmarkError(f"{self.name} ended with status {usage.status}")
        return usage

    def result(self) -> ProcessResult:
        return ProcessResult(
            cpu_seconds=[run.cpu_seconds for run in self.runs],
            peak_mb=[run.peak_bytes / 1_000_000 for run in self.runs],
        )


def obstacle() -> str | None:
    """Why whole processes cannot be measured here; ``None`` if they can."""
    if not hasattr(os, "wait4"):
        return "this system does not tell what a process used (os.wait4)"
    if shutil.which("jq") is None:
        return "jq is not installed"
    probe = subprocess.run([*_COLLECTOR, "--help"], capture_output=True, check=False)
    if probe.returncode != 0:
        return "the command `collector filter` cannot be run"
    return None


def jq_version() -> str:
    """As jq tells it."""
    told = subprocess.run(["jq", "--version"], capture_output=True, text=True, check=True)
    return told.stdout.strip()


def measure(events: int, runs: int) -> WholeResult:
    """Run both commands in turns on a file of ``events`` events.

    Raises ``BenchmarkError`` when one fails or when their records differ.
    """
    with TemporaryDirectory(prefix="collector-benchmarks-") as name:
        folder = Path(name)
        source = folder / "events.ndjson"
        size = _write(source, events)
        collector = _Process(
            "collector filter",
            (*_COLLECTOR, str(source), "--schema", "conferencing"),
            folder / "collector.ndjson",
        )
        jq = _Process("jq", ("jq", "-c", JQ_PROGRAM, str(source)), folder / "jq.ndjson")
        collector.run()
        jq.run()
        _compare(collector.output, jq.output, events)
        for _ in range(runs):
            for process in (collector, jq):
                process.runs.append(process.run())
    ours, theirs = collector.result(), jq.result()
    ratio = paired(ours.cpu_seconds, theirs.cpu_seconds)
    return WholeResult(_CORPUS, events, size, ours, theirs, ratio)


def _write(path: Path, events: int) -> int:
    """Write the events as NDJSON, one at a time, and tell the bytes."""
    with path.open("wb") as file:
        for line in stream(_CORPUS, events):
            file.write(line + b"\n")
        return file.tell()


def _compare(ours: Path, theirs: Path, events: int) -> None:
    """Line counts of the whole, and the records of the first few thousand lines."""
    for path in (ours, theirs):
        with path.open("rb") as file:
            count = sum(1 for _ in file)
        if count != events:
            raise BenchmarkError(f"{path.stem} gives {count} records of {events} events")
    with ours.open("rb") as first, theirs.open("rb") as second:
        pairs = zip(first, second, strict=True)
        for number, (left, right) in enumerate(islice(pairs, _COMPARED), 1):
            if orjson.loads(left) != orjson.loads(right):
                raise BenchmarkError(f"collector and jq differ in record {number}")
