"""What a call of ``emit`` costs the thread that makes it, beside ``Filter.admit`` alone."""

from __future__ import annotations

import gc
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter_ns
from typing import Any

import orjson

from benchmarks.data import SEED, lines
from benchmarks.results import BenchmarkError, paired
from benchmarks.sdk.figures import Call
from benchmarks.sidecar.figures import percentile
from collector import Collector, Filter, load_schema

_EVENTS = 2_000
_FLUSH_SECONDS = 60.0
_Job = Callable[[Any], object]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of event: a corpus, as mappings or as the bytes that they are parsed from."""

    corpus: str
    parsed: bool

    @property
    def form(self) -> str:
        """How it is handed over."""
        return "a mapping" if self.parsed else "JSON as bytes"

    def events(self, number: int) -> list[Any]:
        """Events, each an object of its own."""
        drawn = lines(self.corpus, number)
        return [orjson.loads(line) for line in drawn] if self.parsed else drawn


KINDS = (Kind("medium", True), Kind("small", True), Kind("medium", False), Kind("small", False))


@dataclass(slots=True)
class _Clock:
    """A job, and what its calls took, in ns: of all, and the median of each round."""

    job: _Job
    calls: list[int] = field(default_factory=list)
    rounds: list[float] = field(default_factory=list)

    def run(self, events: Sequence[Any]) -> None:
        """One round."""
        job, took = self.job, [0] * len(events)
        for number, event in enumerate(events):
            start = perf_counter_ns()
            job(event)
            took[number] = perf_counter_ns() - start
        self.calls += took
        self.rounds.append(median(took) / 1_000)


def measure(kind: Kind, rounds: int, place: Path, events: int = _EVENTS) -> Call:
    """Times single calls, while the collector's own thread delivers into a real store.

    Raises ``BenchmarkError`` if an event is not admitted, or a record is not delivered.
    """
    given = kind.events(events)
    admit = Filter(load_schema("conferencing")).admit
    with TemporaryDirectory(prefix="collector-benchmarks-", dir=place) as name:
        store = Path(name, "telemetry.db").resolve()
        with Collector("conferencing", f"sqlite:///{store}") as telemetry:
            if not all(map(telemetry.emit, given)):
                raise BenchmarkError(f"{kind.corpus}: an event is not admitted")
            clocks = {
                "nothing": _Clock(_nothing),
                "admit": _Clock(lambda event: admit(event).encode()),
                "emit": _Clock(telemetry.emit),
            }
            _turns(clocks, given, rounds, telemetry)
            delivered = telemetry.tally().delivered
    if delivered != events * (rounds + 2):
        raise BenchmarkError(f"{kind.corpus}: {delivered:,} records are delivered")
    emit = clocks["emit"]
    return Call(
        kind.corpus,
        kind.form,
        nothing=clocks["nothing"].rounds,
        admit=clocks["admit"].rounds,
        emit=emit.rounds,
        ratio=paired(emit.rounds, clocks["admit"].rounds),
        p99=percentile(sorted(emit.calls), 0.99) / 1_000,
    )


def _turns(
    clocks: dict[str, _Clock], given: Sequence[Any], rounds: int, telemetry: Collector
) -> None:
    """Every job once per round, in an order drawn anew; the first round warms up.

    What was emitted is delivered before the next job has its turn: it pays for its own thread only.
    """
    rng = random.Random(SEED)
    for round_ in range(rounds + 1):
        for clock in rng.sample(list(clocks.values()), len(clocks)):
            clock.run(given)
            if not telemetry.flush(_FLUSH_SECONDS):
                raise BenchmarkError("the store does not take what is emitted")
            if not round_:
                clock.calls.clear()
                clock.rounds.clear()
        gc.collect()


def _nothing(_event: object) -> bool:
    return True
