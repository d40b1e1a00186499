"""The timing of curves: all jobs take turns at every place, round by round."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from time import thread_time_ns

import orjson

from benchmarks.data import SEED
from benchmarks.growth.axes import AXES, Axis
from benchmarks.growth.cases import Case
from benchmarks.growth.curve import Curve, Point
from benchmarks.growth.jobs import JOBS, Job, flat
from benchmarks.results import BenchmarkError

_COMPARED = 1_000


@dataclass(frozen=True, slots=True)
class Pace:
    """How much is measured: rounds, the shortest time of a job in a round (ms), and whether every
    place of an axis is taken, or every second one."""

    rounds: int
    least_ms: float
    step: int = 1


FULL = Pace(rounds=11, least_ms=6)
QUICK = Pace(rounds=3, least_ms=2, step=2)


def measure(pace: Pace, say: Callable[[str], None] = lambda _: None) -> list[Curve]:
    """Return every curve. ``say`` is told what is measured next.

    Raises ``BenchmarkError`` when two jobs differ in a record.
    """
    curves = []
    for axis in AXES:
        say(f"measuring growth: {axis.name}")
        # Counted from the end: the last place shows most.
        places = axis.places[:: -pace.step][::-1]
        curves.append(curve(axis, places, pace))
    return curves


def curve(axis: Axis, places: Sequence[int], pace: Pace) -> Curve:
    """Return one curve, at the places given.

    Raises ``BenchmarkError`` when two jobs differ in a record.
    """
    points = []
    for place in places:
        case = axis.case(place)
        jobs = {name: JOBS[name](case) for name in axis.jobs}
        _agree(jobs, case, f"{axis.name} at {place}")
        points.append(Point(float(place), _timed(jobs, len(case.events), pace)))
    return Curve(axis.name, axis.title, axis.unit, axis.per_call, points)


def _agree(jobs: Mapping[str, Job], case: Case, where: str) -> None:
    """Every job gives a record for each event, and the first thousand are the same."""
    expected: object = None
    for name, job in jobs.items():
        lines = job().splitlines()
        if len(lines) != len(case.events):
            raise BenchmarkError(f"{name} gives another number of records, {where}")
        records = [_record(line, case) for line in islice(lines, _COMPARED)]
        if expected not in (None, records):
            raise BenchmarkError(f"{name} gives other records than the filter, {where}")
        expected = records


def _record(line: bytes, case: Case) -> dict[str, object]:
    return {"schema": case.schema.id} | flat(orjson.loads(line))


def _timed(jobs: Mapping[str, Job], events: int, pace: Pace) -> dict[str, list[float]]:
    """Return µs per event by job, per round. Short jobs are repeated within a round."""
    repeats = {name: 1 + int(pace.least_ms * 1e6 / _spent(job, 1)) for name, job in jobs.items()}
    rng = random.Random(SEED)
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(pace.rounds):
        for name in rng.sample(list(jobs), len(jobs)):
            spent = _spent(jobs[name], repeats[name])
            times[name].append(spent / repeats[name] / events / 1_000)
    return times


def _spent(job: Job, repeats: int) -> int:
    """Return nanoseconds of CPU; at least one."""
    start = thread_time_ns()
    for _ in range(repeats):
        job()
    return max(1, thread_time_ns() - start)
