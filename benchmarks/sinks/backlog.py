"""``python -m benchmarks backlog``: whether a spool grows whose sidecar delivers to a database.

A load at a fixed rate goes to a sidecar with a store and a sink of PostgreSQL. Sidecar, database
and load share the machine's CPUs. What waits in the spool is looked at each second, and what the
database has in the end.
"""

from __future__ import annotations

import json
from argparse import ArgumentParser
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from time import monotonic, sleep

from benchmarks import conditions, gate
from benchmarks.gate import Verdict
from benchmarks.output import say
from benchmarks.results import BenchmarkError
from benchmarks.sidecar import measure
from benchmarks.sidecar.load import Outcome
from benchmarks.sidecar.server import Server, collector, cores, obstacle, two_cores
from benchmarks.sidecar.trend import slope
from benchmarks.sinks import postgres

_RATE, _SECONDS, _WARMUP = 30_000.0, 60.0, 5.0
_LONGEST_WAIT = 60.0
_LEAST = 0.9
_MOST_SECONDS = 2.0
"""Of the load may wait at the end: a delivery takes many batches at once."""


@dataclass(frozen=True, slots=True)
class Backlog:
    """Seconds with the records that waited then; their growth per second with its 95 % interval;
    the events per second that were taken, and that were to be; and the CPUs that the load and the
    sidecar used."""

    samples: Sequence[tuple[float, int]]
    growth: float
    low: float
    high: float
    rate: float
    wanted: float
    load_share: float
    sidecar_share: float
    environment: dict[str, str]


def backlog(arguments: Sequence[str]) -> int:
    """Measure it; returns the exit code."""
    about = "Look whether the spool grows of a sidecar that delivers to PostgreSQL."
    parser = ArgumentParser("python -m benchmarks backlog", description=about)
    add = parser.add_argument
    add("--rate", type=float, default=_RATE, help="events per second (30,000)")
    add("--seconds", type=float, default=_SECONDS, help="how long (60)")
    add("--directory", type=Path, default=Path(gettempdir()), help="where the sidecar keeps data")
    add("--json", type=Path, metavar="PATH", help="write everything as JSON")
    add("--check", action="store_true", help="exit 1 when the spool grows")
    options = parser.parse_args(arguments)
    if reason := obstacle() or postgres.obstacle():
        say(f"skipped: backlog: {reason}")
        return 0
    try:
        found = measured(options.directory, options.rate, options.seconds)
    except BenchmarkError as error:
        say(f"benchmarks: {error}")
        return 1
    print(text(found))
    if options.json:
        options.json.write_text(json.dumps(asdict(found), indent=2) + "\n", encoding="utf-8")
    code = gate.announce([judged(found)])
    return code if options.check else 0


def measured(place: Path, rate: float, seconds: float) -> Backlog:
    """Load a sidecar, and look at what waits. Raises ``BenchmarkError`` if it refuses anything, or
    the database has not got all of it in the end."""
    place.mkdir(parents=True, exist_ok=True)
    with (
        postgres.server() as directory,
        TemporaryDirectory(prefix="collector-benchmarks-", dir=place) as name,
    ):
        url = f"postgres://collector@/telemetry?host={directory}"
        sinks = {"warehouse": {"type": "postgres", "url": url, "party": "first"}}
        config = Path(name, "collector.yaml")
        config.write_text(json.dumps({"data": "data", "sinks": sinks}))
        with collector(Path(name), two_cores(), arguments=("--config", config.name)) as server:
            samples, outcome, used, took = _loaded(
                server, rate, seconds, Path(name, "outcome.json")
            )
            until = monotonic() + _LONGEST_WAIT
            while server.waiting() and monotonic() < until:
                sleep(0.1)
            server.stop()
        stored, taken = postgres.rows(directory), outcome.taken * measure.EVENTS
    if stored != taken:
        raise BenchmarkError(f"the database has {stored:,} of {taken:,} acknowledged events")
    growth = slope([(at, float(waiting)) for at, waiting in samples])
    around = conditions.environment() | {"disk": str(place)}
    return Backlog(samples, *growth, taken / took, rate, outcome.share, used, around)


def _loaded(
    server: Server, rate: float, seconds: float, output: Path
) -> tuple[list[tuple[float, int]], Outcome, float, float]:
    """Return what waited, second by second, the outcome of the load, the CPUs that the sidecar
    used, and how long it took."""
    effort = replace(measure.QUICK, warmup=_WARMUP)
    planned = measure.plan(server, effort, seconds, rate)
    samples, before = list[tuple[float, int]](), server.usage().cpu_seconds
    process, began = measure.started(planned, cores()[1], output), monotonic()
    try:
        while process.poll() is None:
            at = monotonic() - began
            if at >= _WARMUP:
                samples.append((at, server.waiting() or 0))
            sleep(1.0)
    finally:
        process.kill()
        code = process.wait()
    if code != 0:
        raise BenchmarkError(f"the load ended with {code}")
    took = monotonic() - began
    used = (server.usage().cpu_seconds - before) / took
    return samples, measure.checked(server, output), used, took


def text(found: Backlog) -> str:
    """Return the figures in words."""
    waiting = [each for _, each in found.samples]
    return (
        f"{found.rate:,.0f} events/s for {found.samples[-1][0]:.0f} s: {max(waiting):,} records"
        f" waited at most, {waiting[-1]:,} at the end; growth {found.growth:,.0f} records/s"
        f" ({found.low:,.0f} to {found.high:,.0f}); the sidecar used {found.sidecar_share:.2f} of a"
        f" CPU, the load {found.load_share:.2f}"
    )


def judged(found: Backlog) -> Verdict:
    """Judge whether the spool grows, by the trend, or by more than some seconds' load; nothing is
    said where the machine does not send as much as it should."""
    left, most = found.samples[-1][1], _MOST_SECONDS * found.rate
    if found.rate < _LEAST * found.wanted:
        return Verdict(
            None, f"backlog: {found.rate:,.0f} of {found.wanted:,.0f} events/s were sent"
        )
    is_level = found.low <= 0 or left <= most
    return Verdict(is_level, f"backlog: {left:,} records wait at the end, at most {most:,.0f}")
