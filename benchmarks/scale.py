"""``python -m benchmarks scale``: how many cores a rate takes, and what happens when some are gone.

The arithmetic is that of flows: a piece has a rate, which is one over its CPU time for an event;
what arrives beyond the rate waits, and is worked off with what is left of the rate of the slowest
piece behind it. A simulation of the queues between sidecars, broker, drains and warehouse,
seeded and with noise, says whether that is all that happens; and a real queue in front of a real
store says whether the simulation is right.
"""

from __future__ import annotations

import random
import secrets
from argparse import Namespace
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import ceil, inf, sqrt
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from time import perf_counter, sleep

from benchmarks import conditions, gate, output
from benchmarks.data import SEED, lines
from benchmarks.gate import Verdict
from benchmarks.output import say
from benchmarks.report import Table
from benchmarks.results import RunFigures, interval
from collector.contracts import Batch
from collector.filter import Filter
from collector.filter.stored import read
from collector.schema import Schema, load_schema
from collector.sinks.store import Store

_BUSY = 0.6
"""Share of a core that is planned for; the rest is for bursts, and for machines that are gone."""
_STEP = 0.25
"""Seconds of a step of the simulation."""
_WITHIN = 0.1
_REAL, _QUICK_REAL = 20.0, 5.0
_REAL_WITHIN = 0.25
_RATES = (10**4, 10**6, 10**8)
_DAY = 86_400
_TEN_MINUTES = 60.0, 660.0
_SIMULATED = 3_600
_BATCH = 2_000
"""Records of a batch."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of the way: its CPU time for an event in µs, bytes that it hands on for one, and the
    command that measures both."""

    name: str
    cost: float
    bytes: int
    source: str

    @property
    def rate(self) -> float:
        """Events per second of a core that does nothing else."""
        return 1e6 / self.cost


PIECES = (
    Piece("worker", 15, 230, "python -m benchmarks sidecar"),
    Piece("keeper", 7, 230, "python -m benchmarks sidecar"),
    Piece("broker, three copies", 3, 690, "python -m benchmarks sinks, nats"),
    Piece("drain", 14, 230, "python -m benchmarks sinks, drain"),
    Piece("warehouse", 10, 130, "python -m benchmarks sinks, postgres"),
)
"""Medians for medium events of 2 KB, of the machine of docs/benchmarks.md."""


def sizes(rate: float, pieces: Sequence[Piece] = PIECES) -> list[tuple[str, int, float, float]]:
    """Return for each piece its cores at a rate, the megabytes a second that it hands on, and the
    terabytes of a day."""
    return [
        (
            piece.name,
            ceil(rate * piece.cost / 1e6 / _BUSY),
            rate * piece.bytes / 1e6,
            rate * piece.bytes * _DAY / 1e12,
        )
        for piece in pieces
    ]


def backlog(rate: float, left: float, seconds: float) -> float:
    """Return how many events wait after a time in which there was a lower rate than theirs."""
    return max(0.0, (rate - left) * seconds)


def until_empty(waiting: float, rate: float, capacity: float) -> float:
    """Return the seconds until nothing waits any more, while events go on arriving."""
    return inf if capacity <= rate else waiting / (capacity - rate)


# -- the simulation -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Station:
    """Equal consumers with a queue before them, which has room for so many events."""

    name: str
    consumers: int
    rate: float
    room: float = inf


@dataclass(frozen=True, slots=True)
class Fault:
    """From one second to another, a station has only so many consumers; or, where it is ``""``, so
    many times as many events arrive."""

    station: str
    begin: float
    end: float
    left: float


@dataclass(slots=True)
class Trace:
    """What came of it: the most that waited before each station; when the last queue that a fault
    filled was empty again; how many arrived, came through and are left in the end, those among them
    that are to be sent again as there was no room."""

    peak: dict[str, float]
    empty: float
    arrived: float
    through: float
    left: float


def simulate(
    rate: float,
    stations: Sequence[Station],
    faults: Sequence[Fault],
    seconds: float,
    seed: int = SEED,
) -> Trace:
    """Let events arrive at random, and move them from queue to queue; what has no room before the
    next station waits where it is, and what has none before the first is sent again later."""
    rng = random.Random(seed)
    queues = [0.0] * len(stations)
    found = Trace(dict.fromkeys((each.name for each in stations), 0.0), 0.0, 0.0, 0.0, 0.0)
    again = 0.0
    for step in range(round(seconds / _STEP)):
        now = step * _STEP
        present = [fault for fault in faults if fault.begin <= now < fault.end]
        times = next((fault.left for fault in present if not fault.station), 1.0)
        mean = rate * times * _STEP
        new = max(0.0, rng.gauss(mean, sqrt(mean)))
        found.arrived += new
        for place in reversed(range(len(stations))):
            station = stations[place]
            alive = next(
                (fault.left for fault in present if fault.station == station.name),
                float(station.consumers),
            )
            does = alive * station.rate * _STEP * rng.uniform(0.9, 1.1)
            following = place + 1 < len(stations)
            room = stations[place + 1].room - queues[place + 1] if following else inf
            moved = max(0.0, min(does, queues[place], room))
            queues[place] -= moved
            if following:
                queues[place + 1] += moved
            else:
                found.through += moved
        offered = new + again
        taken = min(offered, stations[0].room - queues[0])
        again = offered - taken
        queues[0] += taken
        for station, waiting in zip(stations, queues, strict=True):
            found.peak[station.name] = max(found.peak[station.name], waiting)
            usual = station.consumers * station.rate * _STEP * 2
            if waiting > usual:
                found.empty = now
    found.left = sum(queues) + again
    return found


@dataclass(frozen=True, slots=True)
class Scenario:
    """A fault, with the station where events wait for it, and the rate that is left there."""

    name: str
    fault: Fault
    waits: str
    arriving: float
    left: float


def _way(rate: float) -> list[Station]:
    """Return the stations that a rate takes, as ``sizes`` has them."""
    worker, keeper, _, drain, warehouse = PIECES
    cores = {name: number for name, number, _, _ in sizes(rate)}
    return [
        Station("sidecars", cores[worker.name], worker.rate),
        Station("spools", cores[keeper.name], keeper.rate),
        Station("drains", cores[drain.name], drain.rate),
        Station("warehouse", cores[warehouse.name], warehouse.rate),
    ]


def _scenarios(rate: float, way: Sequence[Station]) -> Iterator[Scenario]:
    """Yield what may happen, each for ten minutes."""
    sidecars, _, drains, _ = way
    entry = sidecars.consumers * sidecars.rate
    half = drains.consumers // 2
    for name, station, left, arriving, rate_left in (
        ("twice as many events arrive", "", 2, 2 * rate, entry),
        ("one of three regions is dead", "", 1.5, 1.5 * rate, entry),
        ("the broker is dead", "spools", 0, rate, 0),
        ("half of the drains are dead", "drains", half, rate, half * drains.rate),
        ("the warehouse is dead", "warehouse", 0, rate, 0),
    ):
        fault = Fault(station, *_TEN_MINUTES, left)
        yield Scenario(name, fault, station or sidecars.name, arriving, rate_left)


# -- a real queue ---------------------------------------------------------------------------------


@dataclass(slots=True)
class Real:
    """A queue of batches in front of a store that was paused: the most that waited, and the seconds
    until nothing did, of the real one and of the simulation."""

    peak: float
    simulated_peak: float
    empty: float
    simulated_empty: float


def _real(schema: Schema, seconds: float) -> Real:
    """Let batches arrive at half of a store's rate, pause the store, and measure what waits."""
    payload = Filter(schema).admit_lines(b"\n".join(lines("medium", _BATCH, SEED))).encode()
    with TemporaryDirectory() as folder, Store(Path(folder, "store.db"), schema) as store:
        spent = []
        for _ in range(12):
            began = perf_counter()
            store.deliver(_batch(schema, payload))
            spent.append(perf_counter() - began)
        each = interval(spent).median
        spent.clear()
        waiting, times = list[Batch](), list[tuple[float, int]]()
        start = perf_counter()
        pause = seconds * 0.1, seconds * 0.4

        def arrive() -> None:
            for number in range(int(seconds / (2 * each))):
                sleep(max(0.0, start + number * 2 * each - perf_counter()))
                waiting.append(_batch(schema, payload))
                times.append((perf_counter() - start, len(waiting)))

        arriving = Thread(target=arrive)
        arriving.start()
        empty = 0.0
        while arriving.is_alive() or waiting:
            now = perf_counter() - start
            if pause[0] <= now < pause[1] or not waiting:
                sleep(each / 4)
                continue
            began = perf_counter()
            store.deliver(waiting.pop(0))
            spent.append(perf_counter() - began)
            if len(waiting) > 2:
                empty = perf_counter() - start
        arriving.join()
    station = Station("store", 1, len(spent) / sum(spent))
    fault = Fault("store", *pause, 0)
    found = simulate(len(times) / times[-1][0], [station], [fault], seconds)
    return Real(max(number for _, number in times), found.peak["store"], empty, found.empty)


def _batch(schema: Schema, payload: bytes) -> Batch:
    return read(
        Batch(
            secrets.token_bytes(16), "2026-11-27T10:05:00Z", layout=schema.layout, payload=payload
        )
    )


# -- the command ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Outcome:
    """A scenario at a rate: what waits most, and how long until nothing does, by arithmetic and in
    the simulation; whether all came through."""

    rate: int
    name: str
    waits: str
    peak: float
    simulated_peak: float
    empty: float
    simulated_empty: float
    lost: float


@dataclass(slots=True)
class Figures(RunFigures):
    """What was computed, simulated and measured."""

    outcomes: list[Outcome] = field(default_factory=list)
    real: Real | None = None


def _outcome(rate: int, scenario: Scenario, way: Sequence[Station]) -> Outcome:
    begin, end = _TEN_MINUTES
    trace = simulate(rate, way, [scenario.fault], _SIMULATED)
    peak = backlog(scenario.arriving, scenario.left, end - begin)
    place = next(at for at, each in enumerate(way) if each.name == scenario.waits)
    station, behind = way[place], way[place:]
    empty = until_empty(peak, rate, min(each.consumers * each.rate for each in behind))
    after = max(0.0, trace.empty - end)
    lost = trace.arrived - trace.through - trace.left
    return Outcome(
        rate, scenario.name, station.name, peak, trace.peak[station.name], empty, after, lost
    )


def scale(arguments: Sequence[str]) -> int:
    """Compute and check it; returns the exit code."""
    return output.run(
        arguments, "scale", "Size many machines.", measure=_measure, table=_tables, judge=_judge
    )


def _measure(options: Namespace) -> Figures:
    figures = Figures(conditions.environment(), options.quick)
    for rate in _RATES:
        way = _way(rate)
        figures.outcomes += [_outcome(rate, each, way) for each in _scenarios(rate, way)]
    say("scale: a real queue")
    figures.real = _real(load_schema("conferencing"), _QUICK_REAL if options.quick else _REAL)
    return figures


def _tables(figures: Figures) -> list[Table]:
    pieces = tuple(
        (
            piece.name,
            f"{piece.cost:g}",
            f"{piece.bytes}",
            *(_size(rate, place) for rate in _RATES),
            f"`{piece.source}`",
        )
        for place, piece in enumerate(PIECES)
    )
    rates = [f"{rate:,} a second" for rate in _RATES]
    header = ("piece", "µs an event", "bytes an event", *rates, "measured by")
    title = f"Cores at {_BUSY:.0%} of each, and MB a second, by events a second"
    outcomes = tuple(
        (
            each.name,
            f"{each.rate:,}",
            each.waits,
            f"{each.peak / 1e6:,.1f}",
            f"{each.simulated_peak / 1e6:,.1f}",
            f"{each.empty:,.0f}",
            f"{each.simulated_empty:,.0f}",
        )
        for each in figures.outcomes
    )
    real = figures.real
    found = () if real is None else ((*map("{:,.1f}".format, _of_real(real)),),)
    return [
        Table(title, header, pieces),
        Table(
            "Ten minutes of a fault: millions of events that wait, and seconds until none does",
            ("fault", "events a second", "wait at", "wait", "simulated", "seconds", "simulated"),
            outcomes,
        ),
        Table(
            "A real store that is paused, with batches at half of its rate: what waits, until when",
            ("batches", "simulated", "second", "simulated"),
            found,
        ),
    ]


def _size(rate: float, place: int) -> str:
    _, cores, megabytes, _ = sizes(rate)[place]
    return f"{cores:,}; {megabytes:,.0f}"


def _of_real(real: Real) -> tuple[float, float, float, float]:
    return real.peak, real.simulated_peak, real.empty, real.simulated_empty


def _judge(figures: Figures, _limits: gate.Limits) -> Iterator[Verdict]:
    for each in figures.outcomes:
        near = abs(each.simulated_peak - each.peak) <= max(_WITHIN * each.peak, each.rate)
        near &= abs(each.simulated_empty - each.empty) <= _WITHIN * max(each.empty, 60)
        what = f"scale, {each.rate:,} a second, {each.name}"
        yield Verdict(near, f"{what}: the simulation and the arithmetic agree within {_WITHIN:.0%}")
        yield Verdict(abs(each.lost) <= 1e-6 * each.rate, f"{what}: nothing is lost")
    if figures.real is not None:
        peak, simulated, second, expected = _of_real(figures.real)
        near = abs(peak - simulated) <= _REAL_WITHIN * peak
        near &= abs(second - expected) <= _REAL_WITHIN * second
        text = f"scale: a real queue and the simulation agree within {_REAL_WITHIN:.0%}"
        yield Verdict(near, text)
