"""Commands that are measured as whole processes, and their input file of events."""

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
    """A file of events, in a temporary folder that may be written to."""

    path: Path
    corpus: str
    events: int
    bytes: int

    def beside(self, name: str) -> Path:
        """Return the path of an output file in the same folder."""
        return self.path.with_name(name)


@contextmanager
def source(corpus: str, events: int, times: int = 1) -> Iterator[Source]:
    """Provide the first events of a corpus as an NDJSON file, repeated ``times`` times; it is
    deleted afterwards."""
    with TemporaryDirectory(prefix="collector-benchmarks-") as name:
        path = Path(name, "events.ndjson")
        lines = [line + b"\n" for line in stream(corpus, events)]
        with path.open("wb") as file:
            for _ in range(times):
                file.writelines(lines)
        yield Source(path, corpus, events * times, path.stat().st_size)


@dataclass(slots=True, eq=False)
class Process:
    """A command, where its output goes, and what its runs used: ``cpu_seconds``, ``wall_seconds``
    and ``peak_bytes``, the last for its largest process.

    ``target`` is the file of its records, if it does not print them. ``beside`` is a second command
    that starts at the same time.
    """

    name: str
    command: Sequence[str]
    output: Path
    target: Path | None = None
    beside: Sequence[str] = ()
    runs: list[dict[str, float]] = field(default_factory=list)

    @property
    def records(self) -> Path:
        """The file of the records after a run."""
        return self.target or self.output

    @property
    def cpu_seconds(self) -> list[float]:
        """User and system time of each run."""
        return [run["cpu_seconds"] for run in self.runs]

    @property
    def wall_seconds(self) -> list[float]:
        """Wall time of each run."""
        return [run["wall_seconds"] for run in self.runs]

    @property
    def peak_mb(self) -> list[float]:
        """Peak resident MB (10⁶ bytes) of each run."""
        return [run["peak_bytes"] / 1e6 for run in self.runs]

    def used(self) -> dict[str, Any]:
        """Return the usage of its runs, for JSON."""
        names = ("cpu_seconds", "wall_seconds", "peak_mb")
        return {name: getattr(self, name) for name in names}

    def run(self) -> dict[str, float]:
        """Run it once. Raises ``BenchmarkError`` if it fails."""
        errors = self.output.with_suffix(".errors")
        beside = (launch.AND, *self.beside) if self.beside else ()
        small = (sys.executable, "-I", "-S", str(Path(launch.__file__)))
        # This process sets the number of an engine's threads for itself, not for its children.
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
    """Run each process ``runs`` times, in turns, so that a disturbance affects neighbours alike."""
    for _ in range(runs):
        for process in processes:
            process.runs.append(process.run())
