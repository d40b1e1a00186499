"""How long the SDK takes to be there: fresh processes, timed from within."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from benchmarks.results import BenchmarkError

IMPORT, READY, FIRST = (
    "import collector",
    'from there to Filter(load_schema("conferencing"))',
    "from there to the first record of a Collector",
)
STEPS = (IMPORT, READY, FIRST)
"""What is timed, one after the other."""

_ROOT = Path(__file__).resolve().parent.parent.parent
_PROGRAM = """\
import sys
from time import perf_counter
began = perf_counter()
import collector
there = perf_counter()
filter_ = collector.Filter(collector.load_schema("conferencing"))
ready = perf_counter()
telemetry = collector.Collector("conferencing", "sqlite:///" + sys.argv[1])
assert telemetry.emit({"ip_address": "203.0.113.7"})
first = perf_counter()
assert telemetry.close(60)
print([there - began, ready - there, first - ready])
"""


def measure(runs: int, place: Path) -> dict[str, list[float]]:
    """Ms of each step, run by run; a first run, which may have to compile, does not count."""
    store = place.resolve() / "collector-benchmarks-start.db"
    found: dict[str, list[float]] = {step: [] for step in STEPS}
    try:
        for run in range(runs + 1):
            done = subprocess.run(
                [sys.executable, "-c", _PROGRAM, str(store)],
                stdout=subprocess.PIPE,
                check=False,
                cwd=_ROOT,
            )
            if done.returncode:
                raise BenchmarkError(f"a fresh process ended with {done.returncode}")
            for step, seconds in zip(STEPS, json.loads(done.stdout), strict=True):
                if run:
                    found[step].append(1e3 * seconds)
    finally:
        for file in store.parent.glob(f"{store.name}*"):
            file.unlink()
    return found
