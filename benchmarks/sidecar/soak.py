"""A soak: constant load for minutes, and whether resident memory grows.

Before the time that counts comes as long that does not: caches fill up, and the allocator finds its
size, which at 10,000 events per second it has after eight minutes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, sleep

from benchmarks.results import BenchmarkError
from benchmarks.sidecar import measure
from benchmarks.sidecar.figures import Soaked
from benchmarks.sidecar.server import collector, cores, stored
from benchmarks.sidecar.trend import slope

SAMPLES = 60
"""Samples at least, of the time that counts."""

_WARMUP = 1.0
_LONGEST_PAUSE = 1.0


def soak(
    seconds: float,
    rate: float,
    place: Path,
    environment: Mapping[str, str],
    say: Callable[[str], None],
) -> Soaked:
    """Load a sidecar at a rate (events per second), and sample its memory for so many seconds after
    the warm-up.

    Raises ``BenchmarkError`` if it refuses anything, or does not keep what it acknowledged.
    """
    core, other = cores()
    whole = seconds * (1 + _WARMUP)
    pause = min(_LONGEST_PAUSE, seconds / (4 * SAMPLES))  # a busy machine sleeps longer
    samples: list[tuple[float, float]] = []
    with TemporaryDirectory(prefix="collector-benchmarks-", dir=place) as name:
        directory, output = Path(name, "served"), Path(name, "outcome.json")
        directory.mkdir()
        with collector(directory, {core}) as server:
            planned = measure.plan(server, measure.QUICK, whole, rate)
            process = measure.started(planned, other, output)
            try:
                began = monotonic()
                while process.poll() is None:
                    samples.append((monotonic() - began, server.usage().resident_mb))
                    if len(samples) % 60 == 0:
                        say(f"{samples[-1][0]:.0f} s: {samples[-1][1]:.1f} MB")
                    sleep(pause)
            finally:
                process.kill()
                code = process.wait()
            if code != 0:
                raise BenchmarkError(f"the load ended with {code}")
            outcome = measure.checked(server, output)
            server.stop()
        in_store, taken = stored(directory), outcome.taken * measure.EVENTS
    if in_store != taken:
        raise BenchmarkError(f"the sidecar kept {in_store:,} of {taken:,} acknowledged events")
    counted = [sample for sample in samples if sample[0] >= samples[-1][0] - seconds]
    if len(counted) < SAMPLES:
        raise BenchmarkError(f"there are {len(counted)} samples, and {SAMPLES} are needed")
    found = slope([(time / 3600, value) for time, value in counted])
    return Soaked(taken / whole, counted, *found, environment)
