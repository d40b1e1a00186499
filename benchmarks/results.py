"""What was measured. Plain data: it is reported, written as JSON, and compared with limits."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median

from benchmarks.growth.curve import Curve

RATIOS: tuple[tuple[str, str], ...] = (
    ("ours", "bare"),
    ("ours_documents", "ours"),
    ("ours_documents", "bare"),
    ("ours_mappings", "ours"),
    ("orjson_projection", "ours"),
    ("simdjson_projection", "ours"),
    ("pydantic_models", "ours"),
    ("duckdb_copy", "ours"),
    ("polars_lazy", "ours"),
    ("pyarrow_json", "ours"),
    ("vrl", "ours"),
)
"""Which contender's time is divided by which other's."""

_BRIEF = ("small", "medium", "large", "non_ascii")
_OURS_OTHERWISE = ("ours_documents", "ours_mappings")

_RESAMPLES = 2_000
_SEED = 95


class BenchmarkError(Exception):
    """A contender did not do the job, so that no time of it would mean anything."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A median, and the 95 % bootstrap interval around it."""

    median: float
    low: float
    high: float


def paired(numerator: Sequence[float], denominator: Sequence[float]) -> Interval:
    """The ratio of two contenders, taken round by round, so that what disturbs a round cancels."""
    return interval([above / below for above, below in zip(numerator, denominator, strict=True)])


def interval(values: Sequence[float]) -> Interval:
    """Return the median over rounds, with its percentile bootstrap, seeded."""
    rng = random.Random(_SEED)
    medians = sorted(median(rng.choices(values, k=len(values))) for _ in range(_RESAMPLES))
    cut = round(_RESAMPLES * 0.025)
    return Interval(median(values), medians[cut], medians[-1 - cut])


def ratios(times: Mapping[str, Sequence[float]]) -> dict[str, Interval]:
    """Return the ratios of those contenders that took part."""
    return {
        f"{above}/{below}": paired(times[above], times[below])
        for above, below in RATIOS
        if above in times and below in times
    }


@dataclass(frozen=True, slots=True)
class CorpusResult:
    """One corpus in one process. ``times`` are µs of CPU per event, by contender, per round.

    ``own_thread`` is the part of a contender's CPU time that its calling thread used.
    """

    corpus: str
    what: str
    events: int
    bytes_per_event: float
    times: Mapping[str, Sequence[float]]
    ratios: Mapping[str, Interval]
    own_thread: Mapping[str, float] = field(default_factory=dict)

    def with_rounds_of(self, other: CorpusResult) -> CorpusResult:
        """Return the same corpus, measured twice: all rounds count."""
        times = {name: [*each, *other.times[name]] for name, each in self.times.items()}
        pairs = [ratio.split("/") for ratio in self.ratios]
        pooled = {f"{above}/{below}": paired(times[above], times[below]) for above, below in pairs}
        return replace(self, times=times, ratios=pooled)

    def typical(self, contender: str) -> float | None:
        """Return the median in µs per event; ``None`` for a contender that was skipped."""
        times = self.times.get(contender)
        return median(times) if times else None


@dataclass(frozen=True, slots=True)
class ProcessResult:
    """One command: CPU seconds (user + system), peak resident MB (10⁶ bytes) and seconds on the
    wall, per run. The peak is that of the largest of its processes."""

    cpu_seconds: Sequence[float]
    peak_mb: Sequence[float]
    wall_seconds: Sequence[float] = ()


@dataclass(frozen=True, slots=True)
class WholeResult:
    """Whole processes on a file of events. ``cpu_ratio`` is the collector's CPU over jq's,
    ``fluent_bit_ratio`` the same over Fluent Bit's, where that could be measured."""

    corpus: str
    events: int
    bytes: int
    collector: ProcessResult
    jq: ProcessResult
    cpu_ratio: Interval
    fluent_bit: ProcessResult | None = None
    fluent_bit_ratio: Interval | None = None


@dataclass(frozen=True, slots=True)
class ParallelResult:
    """Commands that may use every CPU of ``cpus``, on a file of events, by title.

    ``speedups`` is the time on the wall with one job over that with as many as the key says.
    ``control`` are two processes that share nothing, ``control_speedup`` is theirs, and
    ``of_control`` is the speed of two jobs over theirs.
    """

    corpus: str
    events: int
    bytes: int
    cpus: int
    commands: Mapping[str, ProcessResult]
    speedups: Mapping[int, Interval]
    control: ProcessResult | None = None
    control_speedup: Interval | None = None
    of_control: Interval | None = None


@dataclass(frozen=True, slots=True)
class StartResult:
    """``collector filter`` on one line, and an interpreter that only imports the libraries that it
    cannot do without. ``ratio`` is the CPU time of the first over that of the second."""

    command: ProcessResult
    imports: ProcessResult
    ratio: Interval


@dataclass(slots=True)
class RunFigures:
    """The head of what one command measures: where, whether little was measured (``quick``), and
    what was ``skipped``, and why."""

    environment: dict[str, str]
    quick: bool = False
    skipped: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Results(RunFigures):
    """All of one call of the benchmarks.

    ``memory`` is the peak resident MB (10⁶ bytes) of a process that runs one contender once, by
    contender; under ``""``, of one that only holds the events.
    """

    titles: Mapping[str, str] = field(default_factory=dict)
    checks_values: Mapping[str, bool] = field(default_factory=dict)
    corpora: list[CorpusResult] = field(default_factory=list)
    whole: Sequence[WholeResult] = ()
    start: StartResult | None = None
    growth: list[Curve] = field(default_factory=list)
    does_not: Mapping[str, str] = field(default_factory=dict)
    memory: Mapping[str, float] = field(default_factory=dict)
    parallel: ParallelResult | None = None
    otlp: Sequence[CorpusResult] = ()

    def brief(self) -> Results:
        """What a first page shows: the four plain corpora, each contender once, whole processes."""
        titles = {k: title for k, title in self.titles.items() if k not in _OURS_OTHERWISE}
        return replace(
            self,
            titles=titles,
            corpora=[result for result in self.corpora if result.corpus in _BRIEF],
            growth=[],
            memory={},
            otlp=(),
            skipped={name: why for name, why in self.skipped.items() if " on " not in name},
        )
