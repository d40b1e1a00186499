"""Load on a server: as much as it takes, then a fixed rate; what it used, and what it kept."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import msgspec

from benchmarks.results import BenchmarkError
from benchmarks.sidecar.figures import Served, Steady, Throughput, percentile
from benchmarks.sidecar.fluent import OUTPUT, fluent_bit
from benchmarks.sidecar.load import Outcome, Plan
from benchmarks.sidecar.server import Server, collector, cores, stored, two_cores

CORPUS = "medium"
EVENTS = 200
"""Events of one request."""
RATE = 10_000
"""Events per second at which latency is measured."""

_ROOT = Path(__file__).resolve().parent.parent.parent
_Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured: ``rounds`` of ``seconds`` each, and ``steady`` seconds at a rate."""

    rounds: int = 5
    seconds: float = 6.0
    warmup: float = 2.0
    steady: float = 20.0
    bodies: int = 32
    connections: int = 8


FULL = Effort()
QUICK = Effort(rounds=3, seconds=2.0, warmup=1.0, steady=4.0, bodies=8)


def plan(server: Server, effort: Effort, seconds: float, rate: float | None = None) -> Plan:
    """Return the load of a server; ``rate`` is in events per second."""
    return Plan(
        server.port,
        server.path,
        server.kind,
        CORPUS,
        EVENTS,
        effort.bodies,
        effort.connections,
        seconds,
        warmup=effort.warmup,
        rate=None if rate is None else rate / EVENTS,
    )


def started(planned: Plan, core: int, output: Path) -> subprocess.Popen[bytes]:
    """Return a load on a core, which writes its outcome to a file."""
    command = [sys.executable, "-m", "benchmarks.sidecar.load"]
    with output.open("wb") as file:
        process = subprocess.Popen(
            [*command, msgspec.json.encode(planned).decode()], cwd=_ROOT, stdout=file
        )
    os.sched_setaffinity(process.pid, {core})
    return process


def load(server: Server, planned: Plan, core: int) -> Outcome:
    """Run a load to its end. Raises ``BenchmarkError`` if the server refuses anything."""
    with TemporaryDirectory(prefix="collector-load-") as name:
        output = Path(name, "outcome.json")
        code = started(planned, core, output).wait()
        if code != 0 or server.process.poll() is not None:
            raise BenchmarkError(f"the load on {server.name} ended with {code}")
        return checked(server, output)


def checked(server: Server, output: Path) -> Outcome:
    """Return the outcome in a file. Raises ``BenchmarkError`` if it is not all success."""
    outcome = msgspec.json.decode(output.read_bytes(), type=Outcome)
    refused = {status: n for status, n in outcome.statuses.items() if not 200 <= status < 300}
    if refused or not outcome.latencies:
        raise BenchmarkError(f"{server.name} answers {refused or 'nothing'}")
    return outcome


def serve(
    effort: Effort, say: _Say, place: Path, fluent: str | None = None, *, workers: int = 1
) -> Served:
    """Measure the collector, or the Fluent Bit of that path, in a new directory of ``place``. Two
    workers get two cores.

    Raises ``BenchmarkError`` if it refuses, fails, or does not keep what it acknowledged.
    """
    core, other = cores()
    with TemporaryDirectory(prefix="collector-benchmarks-", dir=place) as name:
        directory = Path(name)
        found = {core} if workers == 1 else {*two_cores()}
        if fluent:
            opened = fluent_bit(fluent, directory, found)
        else:
            opened = collector(directory, found, workers=workers)
        with opened as server:
            served = Served(server.name)
            for number in range(effort.rounds):
                say(f"{server.name}: round {number + 1} of {effort.rounds}")
                served.rounds.append(round_of(server, effort, other, served))
            say(f"{server.name}: {RATE:,} events per second")
            served.steady = _steady(server, effort, other, served)
            usage = server.usage()
            served.resident_mb, served.peak_mb = usage.resident_mb, usage.peak_mb
            server.stop()
        served.stored = _lines(directory / OUTPUT) if fluent else stored(directory)
    if served.stored != served.acknowledged:
        share = f"{served.stored:,} of {served.acknowledged:,} acknowledged events"
        raise BenchmarkError(f"{served.name} kept {share}")
    return served


def round_of(
    server: Server,
    effort: Effort,
    core: int,
    served: Served,
) -> Throughput:
    """The CPU time is of the whole round, with its warm-up, as are the events it is for."""
    before, first, began = server.waiting(), server.usage(), perf_counter()
    outcome = load(server, plan(server, effort, effort.seconds), core)
    seconds, after, last = perf_counter() - began, server.waiting(), server.usage()
    spent = last.cpu_seconds - first.cpu_seconds
    workers = [now - then for then, now in zip(first.workers, last.workers, strict=True)]
    served.acknowledged += outcome.taken * EVENTS
    return Throughput(
        events_per_second=len(outcome.latencies) * EVENTS / outcome.seconds,
        cpu_seconds=spent,
        events=outcome.taken * EVENTS,
        p50=1e3 * percentile(outcome.latencies, 0.5),
        p99=1e3 * percentile(outcome.latencies, 0.99),
        before=before,
        after=after,
        share=outcome.share,
        cores=spent / seconds,
        workers=tuple(each / (sum(workers) or 1.0) for each in workers),
    )


def _steady(server: Server, effort: Effort, core: int, served: Served) -> Steady:
    outcome = load(server, plan(server, effort, effort.steady, RATE), core)
    served.acknowledged += outcome.taken * EVENTS
    latencies = outcome.latencies
    return Steady(
        events_per_second=len(latencies) * EVENTS / outcome.seconds,
        seconds=outcome.seconds,
        requests=len(latencies),
        p50=1e3 * percentile(latencies, 0.5),
        p99=1e3 * percentile(latencies, 0.99),
        longest=1e3 * latencies[-1],
    )


def _lines(path: Path) -> int:
    with path.open("rb") as file:
        return sum(1 for _ in file)
