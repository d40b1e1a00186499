"""Timing in one process: contenders take turns, round by round, on the same events.

Before anything is timed, all contenders must give the same records.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from time import process_time_ns, thread_time_ns

from benchmarks.contenders import Contender, Outcome, obstacle
from benchmarks.data import CORPORA, SEED, Corpus, lines
from benchmarks.results import BenchmarkError, CorpusResult, ratios

_Clocks = tuple[float, float]
"""CPU time of the process, and of the calling thread."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured. ``payload`` are the bytes of events in a round of one contender;
    ``events`` and ``runs`` are those of whole processes; ``times`` says how often these events are
    written for those that use every CPU. ``starts`` are the runs of one that is only started."""

    rounds: int
    warmups: int
    payload: int
    events: int
    runs: int
    times: int = 1
    starts: int = 1


# Engines that work on batches have a cost per call: DuckDB takes 6.0 µs per medium event of 2 MB,
# 4.3 of 6 MB, so a payload must not be small.
FULL = Effort(rounds=20, warmups=2, payload=10_000_000, events=200_000, runs=5, times=5, starts=15)
QUICK = Effort(rounds=7, warmups=1, payload=3_000_000, events=20_000, runs=3, starts=7)


def takers(
    corpus: str, contenders: Sequence[Contender]
) -> tuple[list[Contender], dict[str, list[str]]]:
    """Return the contenders that take part in a corpus, and the names of the others by reason."""
    ready: list[Contender] = []
    others: dict[str, list[str]] = {}
    for contender in contenders:
        if reason := obstacle(contender, CORPORA[corpus]):
            others.setdefault(reason, []).append(contender.name)
        else:
            ready.append(contender)
    return ready, others


def measure(corpus: str, contenders: Sequence[Contender], effort: Effort) -> CorpusResult:
    """Time the contenders on one corpus, in µs of CPU per event.

    Raises ``BenchmarkError`` when two contenders differ in a record or in a count.
    """
    about = CORPORA[corpus]
    payload = lines(corpus, max(1, effort.payload // about.bytes))
    agree(contenders, payload, about)
    for contender in contenders:
        for _ in range(effort.warmups):
            contender.run()
    events = len(payload) * about.events
    clocks = _rounds(contenders, about, len(payload), effort.rounds)
    times = {name: [all_ / events / 1_000 for all_, _ in each] for name, each in clocks.items()}
    return CorpusResult(
        corpus=corpus,
        what=about.what,
        events=events,
        bytes_per_event=sum(map(len, payload)) / events,
        times=times,
        ratios=ratios(times),
        own_thread={
            name: median(own / all_ for all_, own in each) for name, each in clocks.items()
        },
    )


def agree(contenders: Sequence[Contender], payload: list[bytes], about: Corpus) -> None:
    """Prepare the contenders on a payload, and compare what they make of it.

    Raises ``BenchmarkError`` naming the first contender that gives other records than the first,
    or other counts than the first that counts.
    """
    expected: Outcome | None = None
    for contender in contenders:
        contender.prepare(payload, about.schema)
        found = contender.check(contender.run())
        if len(found.records) != len(payload) * about.records:
            number = f"{len(found.records)} of {len(payload) * about.records}"
            raise BenchmarkError(f"{contender.name} gives {number} records")
        if expected is None:
            expected = found
        if found.records != expected.records:
            raise BenchmarkError(f"{contender.name} and {contenders[0].name} give other records")
        if expected.tally is None:
            expected = found
        if found.tally not in (None, expected.tally):
            raise BenchmarkError(f"{contender.name} counts otherwise than another contender")


def _rounds(
    contenders: Sequence[Contender], about: Corpus, number: int, rounds: int
) -> dict[str, list[_Clocks]]:
    """Every contender once per round, in an order drawn anew, so that none is always the second.

    The clock is that of the process, because engines work on threads of their own. Lines that must
    be fresh are drawn and handed over anew for every round, outside the time.
    """
    rng = random.Random(SEED)
    clocks: dict[str, list[_Clocks]] = {contender.name: [] for contender in contenders}
    for round_ in range(1, rounds + 1):
        if about.fresh:
            payload = lines(about.name, number, SEED + round_)
            for contender in contenders:
                contender.prepare(payload, about.schema)
        for contender in rng.sample(contenders, len(contenders)):
            start, own = process_time_ns(), thread_time_ns()
            output = contender.run()
            spent = thread_time_ns() - own
            clocks[contender.name].append((process_time_ns() - start, spent))
            # Freeing the output is not timed.
            del output
    return clocks
