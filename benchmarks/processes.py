"""Commands that are measured as whole processes, and the file of events that they are given."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from benchmarks import launch
from benchmarks.data import stream
from benchmarks.results import BenchmarkError, ProcessResult

COLLECTOR = (sys.executable, "-m", "collector", "filter")
"""The command line of the filter."""

_ROOT = Path(__file__).resolve().parent.parent


class _Usage(msgspec.Struct):
    """What the launcher prints."""

    status: int
    cpu_seconds: float
    wall_seconds: float
    peak_bytes: int


@dataclass(frozen=True, slots=True)
class Source:
    """A file of events, in a folder that may be written to and does not stay."""

    path: Path
    corpus: str
    events: int
    bytes: int

    def beside(self, name: str) -> Path:
        """Return a file for an output."""
        return self.path.with_name(name)


@contextmanager
def source(corpus: str, events: int, times: int = 1) -> Iterator[Source]:
    """Provide the first events of a corpus as a file of NDJSON; it is gone afterwards.

    They are written as often as ``times`` says, one after the other.
    """
    with TemporaryDirectory(prefix="collector-benchmarks-") as name:
        path = Path(name, "events.ndjson")
        lines = [line + b"\n" for line in stream(corpus, events)]
        with path.open("wb") as file:
            for _ in range(times):
                file.writelines(lines)
        yield Source(path, corpus, events * times, path.stat().st_size)


@dataclass(slots=True)
class Process:
    """A command, where what it prints goes, and what its runs used.

    ``target`` is where it writes its records, if it does not print them. ``beside`` is a second
    command, which is started at the same time.
    """

    name: str
    command: Sequence[str]
    output: Path
    target: Path | None = None
    beside: Sequence[str] = ()
    runs: list[_Usage] = field(default_factory=list)

    @property
    def records(self) -> Path:
        """Where the records are after a run."""
        return self.target or self.output

    def run(self) -> _Usage:
        """Run it once. Raises ``BenchmarkError`` when it fails."""
        errors = self.output.with_suffix(".errors")
        beside = (launch.AND, *self.beside) if self.beside else ()
        small = (sys.executable, "-I", "-S", str(Path(launch.__file__)))
        # How many threads an engine may use is set for this process, and not for its children.
        environment = {k: v for k, v in os.environ.items() if k != "POLARS_MAX_THREADS"}
        done = subprocess.run(
            [*small, str(self.output), str(errors), *self.command, *beside],
            stdout=subprocess.PIPE,
            check=True,
            cwd=_ROOT,
            env=environment,
        )
        usage = msgspec.json.decode(done.stdout, type=_Usage)
        if usage.status != 0:
            raise BenchmarkError(f"{self.name} ended with status {usage.status}")
        return usage

    def result(self) -> ProcessResult:
        """Return what its runs used."""
        return ProcessResult(
            cpu_seconds=[run.cpu_seconds for run in self.runs],
            peak_mb=[run.peak_bytes / 1_000_000 for run in self.runs],
            wall_seconds=[run.wall_seconds for run in self.runs],
        )


def in_turns(processes: Sequence[Process], runs: int) -> None:
    """Run each as often, one after the other, so that what disturbs one disturbs its neighbours."""
    for _ in range(runs):
        for process in processes:
            process.runs.append(process.run())
