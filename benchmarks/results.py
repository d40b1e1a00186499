"""What was measured. Plain data: it is reported, written as JSON, and compared with limits."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from benchmarks.growth.curve import Curve

__all__ = [
    "RATIOS",
    "BenchmarkError",
    "CorpusResult",
    "Interval",
    "ProcessResult",
    "Results",
    "WholeResult",
    "paired",
]

RATIOS: tuple[tuple[str, str], ...] = (
    ("ours", "bare"),
    ("orjson_projection", "ours"),
    ("pydantic_models", "ours"),
)
"""Which contender's time is divided by which other's."""

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
    """The ratio of two contenders, taken round by round, so that what disturbs a round cancels.

    The interval is the percentile bootstrap of the median over rounds, seeded.
    """
    ratios = [over / under for over, under in zip(numerator, denominator, strict=True)]
    rng = random.Random(_SEED)
    medians = sorted(median(rng.choices(ratios, k=len(ratios))) for _ in range(_RESAMPLES))
    cut = round(_RESAMPLES * 0.025)
    return Interval(median(ratios), medians[cut], medians[-1 - cut])


@dataclass(frozen=True, slots=True)
class CorpusResult:
    """One corpus in one process. ``times`` are µs of CPU per event, by contender, per round."""

    corpus: str
    what: str
    events: int
    bytes_per_event: float
    times: Mapping[str, Sequence[float]]
    ratios: Mapping[str, Interval]

    def typical(self, contender: str) -> float | None:
        """The median in µs per event; ``None`` for a contender that was skipped."""
        times = self.times.get(contender)
        return median(times) if times else None


@dataclass(frozen=True, slots=True)
class ProcessResult:
    """One command: CPU seconds (user + system) and peak resident MB (10⁶ bytes), per run."""

    cpu_seconds: Sequence[float]
    peak_mb: Sequence[float]


@dataclass(frozen=True, slots=True)
class WholeResult:
    """Whole processes on a file of events. ``cpu_ratio`` is the collector's CPU over jq's."""

    corpus: str
    events: int
    bytes: int
    collector: ProcessResult
    jq: ProcessResult
    cpu_ratio: Interval


@dataclass(slots=True)
class Results:
    """All of one call of the benchmarks. ``skipped`` says what was not run, and why."""

    environment: Mapping[str, str]
    titles: Mapping[str, str] = field(default_factory=dict)
    checks_values: Mapping[str, bool] = field(default_factory=dict)
    corpora: list[CorpusResult] = field(default_factory=list)
    whole: WholeResult | None = None
    growth: list[Curve] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
