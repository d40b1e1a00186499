"""What was measured of a sidecar. Plain data: it is reported, and compared with limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from benchmarks.results import RunFigures


def percentile(ordered: Sequence[float], share: float) -> float:
    """Return the smallest of ordered values that so large a share of them does not exceed."""
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)]


@dataclass(frozen=True, slots=True)
class Throughput:
    """As much as it takes, over several connections. ``before`` and ``after`` are the records that
    waited in the spool then; ``None`` if it does not tell. Latencies are in ms; ``share`` is how
    much of a core the client used, ``cores`` how many the server got, and ``workers`` how much of
    the CPU time of all workers each had."""

    events_per_second: float
    cpu_seconds: float
    events: int
    p50: float
    p99: float
    before: int | None
    after: int | None
    share: float = 0.0
    cores: float = 0.0
    workers: tuple[float, ...] = ()

    @property
    def cpu_per_event(self) -> float:
        """µs of CPU, user and system, for each event; it is also the seconds of a million."""
        return self.cpu_seconds / self.events * 1e6


@dataclass(frozen=True, slots=True)
class Steady:
    """At a fixed rate. Latencies are in ms, from the moment that a request was due."""

    events_per_second: float
    seconds: float
    requests: int
    p50: float
    p99: float
    longest: float


@dataclass(slots=True)
class Served:
    """All of one server. ``stored`` are the events at the end where they belong, out of those that
    were ``acknowledged``; ``peak_mb`` is the most of one process."""

    name: str
    rounds: list[Throughput] = field(default_factory=list)
    steady: Steady | None = None
    resident_mb: float = 0.0
    peak_mb: float = 0.0
    acknowledged: int = 0
    stored: int = 0

    @property
    def events_per_second(self) -> float:
        """The median of the rounds."""
        return median(each.events_per_second for each in self.rounds)

    @property
    def cpu_per_event(self) -> float:
        """The median of the rounds, in µs."""
        return median(each.cpu_per_event for each in self.rounds)


@dataclass(slots=True)
class Figures(RunFigures):
    """All of ``python -m benchmarks sidecar``. ``otlp`` is µs of CPU per item, by corpus, each
    round; ``skipped`` says what was not run, and why."""

    servers: list[Served] = field(default_factory=list)
    otlp: Mapping[str, Sequence[float]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Soaked:
    """Resident memory under constant load: seconds with MB, and the slope in MB per hour with its
    95 % interval."""

    rate: float
    samples: Sequence[tuple[float, float]]
    slope: float
    low: float
    high: float
    environment: Mapping[str, str]
