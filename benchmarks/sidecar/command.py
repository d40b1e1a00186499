"""``python -m benchmarks sidecar`` and ``soak``: load on a real server, at its maximum and at a
fixed rate. Measured: what it used, what it kept, and whether its memory grows."""

from __future__ import annotations

import os
import subprocess
import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from math import sqrt
from pathlib import Path
from statistics import fmean, median
from tempfile import TemporaryDirectory
from time import monotonic, perf_counter, sleep
from typing import Any, NamedTuple

import msgspec

from benchmarks import conditions, filters, fluent_bit, otlp, processes
from benchmarks.figures import BenchmarkError, Figures, paired, percentile, say, slope
from benchmarks.sidecar.load import Outcome, Plan
from benchmarks.sidecar.server import (
    ROOT,
    Server,
    collector,
    cores,
    obstacle,
    stored,
    two_cores,
)

CORPUS, EVENTS, RATE = "medium", 200, 10_000
"""The events of one request, and the events per second at which latency is measured."""
OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "--against": {
        "type": Path,
        "metavar": "CHECKOUT",
        "help": "measure the sidecar of another checkout too, in the same rounds",
    },
}
SOAK_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "--minutes": {"type": float, "default": 10.0, "help": "after half of it to warm up (10)"},
    "--rate": {"type": float, "default": float(RATE), "help": "events per second (10,000)"},
}
_OTLP_ROUNDS, _CORES_OF_TWO = 15, 3
_CONTROL_EVENTS, _CONTROL_RUNS = 50_000, 3
_CORES_GOT = 1.8
"""Two workers are judged in rounds in which they and the keeper got this many cores."""


class Effort(NamedTuple):
    """How much is measured: ``rounds`` of ``seconds`` each, and ``steady`` seconds at a rate."""

    rounds: int = 5
    seconds: float = 6.0
    warmup: float = 2.0
    steady: float = 20.0
    bodies: int = 32
    connections: int = 8


FULL = Effort()
QUICK = Effort(rounds=3, seconds=2.0, warmup=1.0, steady=4.0, bodies=8)


@dataclass
class Served:
    """The results of one server. Each of ``rounds`` has events per second, µs of CPU per event,
    latencies in ms, records in the spool before and after, the client's share of a core, the cores
    that the server got, and each worker's share of all workers' CPU time. ``steady`` has latencies
    in ms since a request was due. ``stored`` counts the events that reached their destination at
    the end, out of the ``acknowledged`` ones. ``peak_mb`` is the largest peak of a process."""

    name: str
    rounds: list[dict[str, Any]] = field(default_factory=list)
    steady: dict[str, float] = field(default_factory=dict)
    resident_mb: float = 0.0
    peak_mb: float = 0.0
    acknowledged: int = 0
    stored: int = 0

    def typical(self, name: str) -> float:
        """Return the median of the rounds."""
        return float(median(each[name] for each in self.rounds))


def sidecar(options: Namespace, figures: Figures) -> None:
    """Measure one worker, two workers, and Fluent Bit; also the filter on OTLP."""
    if reason := obstacle():
        figures.skipped["sidecar"] = reason
        return
    effort = QUICK if options.quick else FULL
    figures.environment = _environment(options.directory)
    with processes.source(CORPUS, _CONTROL_EVENTS // (5 if options.quick else 1)) as source:
        gain = filters.control_gain(source, _CONTROL_RUNS)
    figures.environment["control"] = (
        f"two processes that share nothing do {gain} times as much as one"
    )
    servers = [serve(effort, options.directory)]
    if len(os.sched_getaffinity(0)) < _CORES_OF_TWO:
        figures.skipped["two workers"] = "cores; two of a server and one of the load"
    else:
        servers.append(serve(effort, options.directory, workers=2))
    fluent = fluent_bit.find(options.fluent_bit)
    if fluent is None:
        figures.skipped["fluent-bit"] = fluent_bit.OBSTACLE
    else:
        figures.environment["fluent-bit"] = fluent_bit.version(fluent)
        servers.append(serve(effort, options.directory, fluent))
    _show(servers, figures)
    _judge(servers, figures)
    if options.against is None:
        figures.skipped["another checkout"] = "none is named by --against"
    else:
        _against(options, effort, figures)
    say("OTLP in the filter")
    rounds = _OTLP_ROUNDS // (3 if options.quick else 1)
    corpora = [corpus for corpus in otlp.CORPORA if corpus.signal == "logs" and corpus.protobuf]
    with conditions.steady():
        times = {each.name: otlp.measure(each, rounds)[1][otlp.OURS] for each in corpora}
    title = f"µs of CPU per log record in the filter, OTLP as protobuf, median of {rounds} rounds"
    rows = ((name, f"{median(each):.2f}") for name, each in times.items())
    figures.table(title, ("corpus", "µs"), rows)
    figures.values |= {"servers": [asdict(each) for each in servers], "otlp": times}


def _show(servers: Sequence[Served], figures: Figures) -> None:
    busy, steady = [], []
    for served in servers:
        rounds = served.rounds
        speeds = [each["events_per_second"] for each in rounds]
        first, last = rounds[0]["before"], rounds[-1]["after"]
        shares = zip(*(each["workers"] for each in rounds), strict=True)
        busy.append(
            (
                served.name,
                f"{median(speeds):,.0f}",
                f"{min(speeds):,.0f}–{max(speeds):,.0f}",
                f"{served.typical('cpu_per_event'):.1f}",
                f"{served.typical('p50'):.1f}",
                f"{served.typical('p99'):.1f}",
                "–" if first is None or last is None else f"{first:,} → {last:,}",
                f"{served.typical('share'):.0%}",
                f"{served.typical('cores'):.2f}",
                ", ".join(f"{median(each):.0%}" for each in shares) or "–",
            )
        )
        latencies = (f"{served.steady[name]:.1f}" for name in ("p50", "p99", "longest"))
        memory = f"{served.resident_mb:.0f}", f"{served.peak_mb:.0f}"
        kept = f"{served.stored:,} of {served.acknowledged:,}"
        steady.append((served.name, *latencies, *memory, kept))
    figures.table(
        f"as much as it takes on one core (two workers: on two), requests of {EVENTS} medium"
        f" events, median of {len(servers[0].rounds)} rounds",
        (
            *("server", "events per s", "of rounds", "CPU s per million events", "p50 ms"),
            *("p99 ms", "records in the spool, before → after", "client, of a core"),
            *("cores it got", "share of each worker"),
        ),
        busy,
    )
    seconds = servers[0].steady["seconds"]
    figures.table(
        f"at {RATE:,} events per second for {seconds:g} s, from the moment a request is due",
        (
            *("server", "p50 ms", "p99 ms", "longest ms", "resident MB", "peak MB of a process"),
            "kept in the end",
        ),
        steady,
    )


def _judge(servers: Sequence[Served], figures: Figures) -> None:
    """Judge Collector; two workers only in the rounds in which they got their cores."""
    ours, limit = servers[0], figures.limits.get("sidecar", {})
    what = f"p99 ms at {RATE:,} per second"
    figures.at_most(what, limit.get("p99_ms_at_most"), ours.steady["p99"])
    most = limit.get("resident_mb_at_most")
    figures.at_most("resident MB of a process, peak", most, ours.peak_mb, is_exact=True)
    for two in servers[1:]:
        rounds = [each["events_per_second"] for each in two.rounds if each["cores"] > _CORES_GOT]
        if two.name.endswith("2 workers") and rounds:
            gain = median(rounds) / ours.typical("events_per_second")
            least = limit.get("two_workers_at_least")
            figures.at_least("two workers over one", least, gain, is_exact=True)
    seconds = (ours.rounds[-1]["after"] or 0) / ours.typical("events_per_second")
    most, what = limit.get("waiting_seconds_at_most"), "seconds of load in the spool at the end"
    figures.at_most(what, most, seconds, is_exact=True)


# -- another checkout ------------------------------------------------------------------------------


class _Compared(NamedTuple):
    """What is compared, and the load: events of a request, connections, and events per second. With
    24 connections a server seldom idles while it waits for the disk."""

    what: str
    kind: str
    events: int
    connections: int = 24
    rate: float | None = None


_COMPARED = (
    _Compared(f"CPU µs per event, {EVENTS} a request", "cpu", EVENTS),
    _Compared("CPU µs per event, 1 a request", "cpu", 1),
    _Compared(f"p99 ms at {RATE:,} per second", "p99", EVENTS, 8, RATE),
    _Compared("p50 ms of one sender, 1 a request", "p50", 1, 1),
)
_MEMORY = ("peak MB of the keeper", "peak MB of the worker")


def _against(options: Namespace, effort: Effort, figures: Figures) -> None:
    """Measure the sidecars of another checkout and of ours in turns, on one core, with one
    worker."""
    (core, other), place = cores(), options.directory
    found: dict[str, list[list[float]]] = {each.what: [] for each in _COMPARED}
    with ExitStack() as stack:
        servers, prefix = list[Server](), "collector-benchmarks-"
        for checkout in (ROOT, options.against.resolve()):
            name = stack.enter_context(TemporaryDirectory(prefix=prefix, dir=place))
            opened = collector(Path(name), {core}, checkout=checkout)
            servers.append(stack.enter_context(opened))
        for number in range(effort.rounds):
            say(f"against another checkout: round {number + 1} of {effort.rounds}")
            for each in _COMPARED:
                found[each.what].append([_turn(server, effort, other, each) for server in servers])
        peaks = zip(*(server.usage().peaks_mb for server in servers), strict=True)
        for server in servers:
            server.stop()
    found |= {what: [[*each]] for what, each in zip(_MEMORY, peaks, strict=True)}
    rows = []
    for what, rounds in found.items():
        ours, theirs = (median(side) for side in zip(*rounds, strict=True))
        ratio = paired(*zip(*rounds, strict=True))
        rows.append((what, f"{ours:.2f}", f"{theirs:.2f}", str(ratio)))
        limit = figures.limits.get("sidecar", {}).get("against", {}).get(what)
        figures.at_most(f"{what}, of the other checkout's", limit, ratio)
    title = f"in turns with another checkout, median of {effort.rounds} rounds"
    figures.table(title, ("figure", "ours", "the other's", "ratio (95 % interval)"), rows)
    figures.values["against"] = found


def _turn(server: Server, effort: Effort, core: int, of: _Compared) -> float:
    """The CPU time includes storing, because it is work for the same events."""
    effort, first = effort._replace(connections=of.connections), server.usage()
    outcome = load(server, plan(server, effort, effort.seconds, of.rate, of.events), core)
    server.drained()
    spent = server.usage().cpu_seconds - first.cpu_seconds
    return {"cpu": spent / (outcome.taken * of.events) * 1e6, **_latencies(outcome)}[of.kind]


def _environment(place: Path) -> dict[str, str]:
    core, other = cores()
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    around = {str(folder) for folder in (place.resolve(), *place.resolve().parents)}
    found = [(len(mount[1]), mount[2]) for mount in mounts if mount[1] in around]
    disk = max(found)[1] if found else "unknown"  # in memory, syncing costs nothing
    return conditions.environment() | {
        "pinned": f"server to CPU {core}, load to CPU {other}",
        "disk": disk,
    }


# -- a load ----------------------------------------------------------------------------------------


def plan(
    server: Server, effort: Effort, seconds: float, rate: float | None = None, events: int = EVENTS
) -> Plan:
    """Return the load for a server: ``rate`` events per second, ``events`` of them in a request."""
    return Plan(
        *(server.ports["http"], server.path, server.kind, CORPUS, events),
        *(effort.bodies * EVENTS // events, effort.connections, seconds),
        warmup=effort.warmup,
        rate=None if rate is None else rate / events,
    )


def started(planned: Plan, core: int, output: Path) -> subprocess.Popen[bytes]:
    """Start a load on a core; it writes its outcome to a file."""
    command = [sys.executable, "-m", "benchmarks.sidecar.load"]
    told = msgspec.json.encode(planned).decode()
    with output.open("wb") as file:
        process = subprocess.Popen([*command, told], cwd=ROOT, stdout=file)
    os.sched_setaffinity(process.pid, {core})
    return process


def load(server: Server, planned: Plan, core: int) -> Outcome:
    """Run a load to its end. Raises ``BenchmarkError`` if the server refuses anything."""
    with TemporaryDirectory(prefix="collector-load-") as name:
        output = Path(name, "outcome.json")
        code = started(planned, core, output).wait()
        return checked(server, output, code)


def checked(server: Server, output: Path, code: int) -> Outcome:
    """Return the outcome in a file. Raises ``BenchmarkError`` unless all of it is success."""
    if code != 0 or server.process.poll() is not None:
        raise BenchmarkError(f"the load on {server.name} ended with {code}")
    outcome = msgspec.json.decode(output.read_bytes(), type=Outcome)
    refused = {status: n for status, n in outcome.statuses.items() if not 200 <= status < 300}
    if refused or not outcome.latencies:
        raise BenchmarkError(f"{server.name} answers {refused or 'nothing'}")
    return outcome


def serve(effort: Effort, place: Path, fluent: str | None = None, *, workers: int = 1) -> Served:
    """Measure Collector, or the Fluent Bit at that path, in a new directory in ``place``. Two
    workers get two cores.

    Raises ``BenchmarkError`` if the server refuses, fails, or does not keep what it acknowledged.
    """
    core, other = cores()
    with TemporaryDirectory(prefix="collector-benchmarks-", dir=place) as name:
        directory = Path(name)
        found = {core} if workers == 1 else {*two_cores()}
        if fluent:
            opened = fluent_bit.served(fluent, directory, found)
        else:
            opened = collector(directory, found, workers=workers)
        with opened as server:
            served = Served(server.name)
            for number in range(effort.rounds):
                say(f"{server.name}: round {number + 1} of {effort.rounds}")
                served.rounds.append(_round(server, effort, other, served))
            say(f"{server.name}: {RATE:,} events per second")
            outcome = load(server, plan(server, effort, effort.steady, RATE), other)
            served.acknowledged += outcome.taken * EVENTS
            longest = 1e3 * outcome.latencies[-1]
            served.steady = {**_latencies(outcome), "longest": longest, "seconds": outcome.seconds}
            usage = server.usage()
            served.resident_mb, served.peak_mb = usage.resident_mb, max(usage.peaks_mb)
            server.stop()
        served.stored = _lines(directory / fluent_bit.OUTPUT) if fluent else stored(directory)
    if served.stored != served.acknowledged:
        share = f"{served.stored:,} of {served.acknowledged:,} acknowledged events"
        raise BenchmarkError(f"{served.name} kept {share}")
    return served


def _round(server: Server, effort: Effort, core: int, served: Served) -> dict[str, Any]:
    """CPU time and events are those of the whole round, including its warm-up."""
    before, first, began = server.waiting(), server.usage(), perf_counter()
    outcome = load(server, plan(server, effort, effort.seconds), core)
    seconds, after, last = perf_counter() - began, server.waiting(), server.usage()
    spent = last.cpu_seconds - first.cpu_seconds
    workers = [now - then for then, now in zip(first.workers, last.workers, strict=True)]
    served.acknowledged += outcome.taken * EVENTS
    return {
        "events_per_second": len(outcome.latencies) * EVENTS / outcome.seconds,
        "cpu_per_event": spent / (outcome.taken * EVENTS) * 1e6,
        **_latencies(outcome),
        "before": before,
        "after": after,
        "share": outcome.share,
        "cores": spent / seconds,
        "workers": [each / (sum(workers) or 1.0) for each in workers],
    }


def _latencies(outcome: Outcome) -> dict[str, float]:
    shares = (("p50", 0.5), ("p99", 0.99))
    return {name: 1e3 * percentile(outcome.latencies, share) for name, share in shares}


def _lines(path: Path) -> int:
    with path.open("rb") as file:
        return sum(1 for _ in file)


# -- a soak ----------------------------------------------------------------------------------------

SAMPLES = 60
"""The least number of samples in the measured time."""
_BLOCKS, _STUDENT = 12, 2.228
"""Successive samples are alike. They are grouped into this many blocks, whose means are nearly
independent. The second number is the 97.5 % point of Student's distribution with two degrees of
freedom less."""


def soak(options: Namespace, figures: Figures) -> None:
    """Load a sidecar at a rate (events per second), and sample its memory. The warm-up is as long
    as the measured time: caches fill up, and the allocator finds its size.

    Raises ``BenchmarkError`` if the sidecar refuses anything, or does not keep what it
    acknowledged.
    """
    if reason := obstacle():
        figures.skipped["soak"] = reason
        return
    seconds, (core, other) = 60 * options.minutes, cores()
    pause = min(1.0, seconds / (4 * SAMPLES))  # a busy machine sleeps longer
    samples: list[tuple[float, float]] = []
    with TemporaryDirectory(prefix="collector-benchmarks-", dir=options.directory) as name:
        directory, output = Path(name, "served"), Path(name, "outcome.json")
        directory.mkdir()
        with collector(directory, {core}) as server:
            process = started(plan(server, QUICK, 2 * seconds, options.rate), other, output)
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
            outcome = checked(server, output, code)
            server.stop()
        in_store, taken = stored(directory), outcome.taken * EVENTS
    if in_store != taken:
        raise BenchmarkError(f"the sidecar kept {in_store:,} of {taken:,} acknowledged events")
    counted = [each for each in samples if each[0] >= samples[-1][0] - seconds]
    if len(counted) < SAMPLES:
        raise BenchmarkError(f"there are {len(counted)} samples, and {SAMPLES} are needed")
    rise, low, high = trend([(time / 3600, value) for time, value in counted])
    values = [value for _, value in counted]
    figures.environment = _environment(options.directory)
    cells = (values[0], values[-1], min(values), max(values))
    title = (
        f"resident MB at {taken / (2 * seconds):,.0f} events per second, {len(values)} samples over"
        f" {counted[-1][0] - counted[0][0]:.0f} s"
    )
    head = ("first", "last", "least", "most", "slope, MB per hour (95 % interval)")
    shown = (*(f"{each:.1f}" for each in cells), f"{rise:+.2f} ({low:+.2f} to {high:+.2f})")
    figures.table(title, head, [shown])
    figures.values = {"samples": counted, "slope": rise, "low": low, "high": high}
    figures.check(low <= 0, f"resident memory grows by {low:+.2f} MB per hour at least: at most 0")


def trend(samples: Sequence[tuple[float, float]]) -> tuple[float, float, float]:
    """Return the slope of values (second) over times (first), and its 95 % interval."""
    edges = [len(samples) * at // _BLOCKS for at in range(_BLOCKS + 1)]
    blocks = [samples[a:b] for a, b in pairwise(edges)]
    times, values = ([fmean(each[at] for each in block) for block in blocks] for at in (0, 1))
    found, middle, level = slope(times, values), fmean(times), fmean(values)
    left = [v - level - found * (t - middle) for t, v in zip(times, values, strict=True)]
    spread = sum((time - middle) ** 2 for time in times)
    reach = _STUDENT * sqrt(sum(each**2 for each in left) / (_BLOCKS - 2) / spread)
    return found, found - reach, found + reach
