"""Commands that are measured as whole processes, and the file of events that they are given."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from benchmarks import launch
from benchmarks.data import stream
from benchmarks.figures import BenchmarkError

COLLECTOR = (sys.executable, "-m", "collector", "filter")
"""The command line of the filter."""

_ROOT = Path(__file__).resolve().parent.parent


class Source(NamedTuple):
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
    """Provide the first events of a corpus as a file of NDJSON, written ``times`` times one after
    the other; it is gone afterwards."""
    with TemporaryDirectory(prefix="collector-benchmarks-") as name:
        path = Path(name, "events.ndjson")
        lines = [line + b"\n" for line in stream(corpus, events)]
        with path.open("wb") as file:
            for _ in range(times):
                file.writelines(lines)
        yield Source(path, corpus, events * times, path.stat().st_size)


@dataclass(slots=True, eq=False)
class Process:
    """A command, where what it prints goes, and what its runs used: ``cpu_seconds``,
    ``wall_seconds`` and ``peak_bytes``, the last that of the largest of its processes.

    ``target`` is where it writes its records, if it does not print them. ``beside`` is a second
    command, which is started at the same time.
    """

    name: str
    command: Sequence[str]
    output: Path
    target: Path | None = None
    beside: Sequence[str] = ()
    runs: list[dict[str, float]] = field(default_factory=list)

    @property
    def records(self) -> Path:
        """Where the records are after a run."""
        return self.target or self.output

    @property
    def cpu_seconds(self) -> list[float]:
        """User and system time, by run."""
        return [run["cpu_seconds"] for run in self.runs]

    @property
    def wall_seconds(self) -> list[float]:
        """Seconds on the wall, by run."""
        return [run["wall_seconds"] for run in self.runs]

    @property
    def peak_mb(self) -> list[float]:
        """Peak resident MB (10⁶ bytes), by run."""
        return [run["peak_bytes"] / 1e6 for run in self.runs]

    def used(self) -> dict[str, Any]:
        """Return what its runs used, for JSON."""
        names = ("cpu_seconds", "wall_seconds", "peak_mb")
        return {name: getattr(self, name) for name in names}

    def run(self) -> dict[str, float]:
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
        usage: dict[str, float] = json.loads(done.stdout)
        if usage["status"] != 0:
            raise BenchmarkError(f"{self.name} ended with status {usage['status']}")
        return usage


def in_turns(processes: Sequence[Process], runs: int) -> None:
    """Run each as often, one after the other, so that what disturbs one disturbs its neighbours."""
    for _ in range(runs):
        for process in processes:
            process.runs.append(process.run())
