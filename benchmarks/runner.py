"""Timing in one process: contenders take turns, round by round, on the same events.

Before anything is timed, all contenders must give the same records.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from time import thread_time_ns

from benchmarks.contenders import Contender
from benchmarks.data import CORPORA, SEED, lines
from benchmarks.results import RATIOS, BenchmarkError, CorpusResult, paired

__all__ = ["FULL", "QUICK", "Effort", "agree", "measure"]


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured. ``payload`` are the bytes of events in a round of one contender;
    ``events`` and ``runs`` are those of whole processes."""

    rounds: int
    warmups: int
    payload: int
    events: int
    runs: int


FULL = Effort(rounds=60, warmups=3, payload=6_000_000, events=200_000, runs=5)
QUICK = Effort(rounds=9, warmups=1, payload=3_000_000, events=20_000, runs=3)


def measure(corpus: str, contenders: Sequence[Contender], effort: Effort) -> CorpusResult:
    """Time the contenders on one corpus, in µs of CPU per event.

    Raises ``BenchmarkError`` when two contenders differ in a record.
    """
    about = CORPORA[corpus]
    events = lines(corpus, max(1, effort.payload // about.bytes))
    agree(contenders, events)
    for contender in contenders:
        for _ in range(effort.warmups):
            contender.run()
    times = _rounds(contenders, len(events), effort.rounds)
    return CorpusResult(
        corpus=corpus,
        what=about.what,
        events=len(events),
        bytes_per_event=sum(map(len, events)) / len(events),
        times=times,
        ratios={
            f"{over}/{under}": paired(times[over], times[under])
            for over, under in RATIOS
            if over in times and under in times
        },
    )


def agree(contenders: Sequence[Contender], events: list[bytes]) -> None:
    """Prepare the contenders on the events, and compare their records.

    Raises ``BenchmarkError`` naming the first contender that gives other records than the first.
    """
    expected = None
    for contender in contenders:
        contender.prepare(events)
        records = contender.check(contender.run())
        if len(records) != len(events):
            raise BenchmarkError(f"{contender.name} gives {len(records)} of {len(events)} records")
        if expected is None:
            expected = records
        elif records != expected:
            raise BenchmarkError(f"{contender.name} and {contenders[0].name} give other records")


def _rounds(contenders: Sequence[Contender], events: int, rounds: int) -> dict[str, list[float]]:
    """Every contender once per round, in an order drawn anew, so that none is always the second."""
    rng = random.Random(SEED)
    times: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    for _ in range(rounds):
        for contender in rng.sample(contenders, len(contenders)):
            start = thread_time_ns()
            output = contender.run()
            spent = thread_time_ns() - start
            # Freeing the output is nobody's time.
            del output
            times[contender.name].append(spent / events / 1_000)
    return times
