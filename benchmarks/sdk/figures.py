"""What was measured of the SDK. Plain data: it is reported, and compared with limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

from benchmarks.results import Interval, RunFigures


@dataclass(frozen=True, slots=True)
class Call:
    """One kind of event. Times are in µs on the wall, of the calling thread: the medians of single
    calls, round by round; ``p99`` is of all calls of ``emit``.

    ``nothing`` is a call of a function that does nothing; it is part of the other two as well.
    """

    corpus: str
    form: str
    nothing: Sequence[float]
    admit: Sequence[float]
    emit: Sequence[float]
    ratio: Interval
    p99: float

    @property
    def name(self) -> str:
        """What it is called in tables."""
        return f"{self.corpus}, {self.form}"

    @property
    def typical(self) -> float:
        """The median of ``emit``."""
        return median(self.emit)


@dataclass(frozen=True, slots=True)
class Hung:
    """Calls of ``emit`` at a rate, while the receiver takes connections and never answers. Times
    are in µs; ``kept`` are the events that had room in the queue, ``dropped`` those that had
    none."""

    rate: int
    seconds: float
    p50: float
    p99: float
    longest: float
    kept: int
    dropped: int


@dataclass(frozen=True, slots=True)
class Install:
    """What an installation without extras adds to an empty environment."""

    megabytes: float
    packages: Sequence[str]


@dataclass(frozen=True, slots=True)
class Spans:
    """Exports of spans in batches, in µs of CPU per span, round by round: with the wrapper and
    without it. ``added`` is the difference of each round, and its median."""

    batch: int
    bare: Sequence[float]
    minimised: Sequence[float]

    @property
    def added(self) -> float:
        """What the wrapper adds, in µs per span."""
        pairs = zip(self.minimised, self.bare, strict=True)
        return median(ours - bare for ours, bare in pairs)


@dataclass(slots=True)
class Figures(RunFigures):
    """All of ``python -m benchmarks sdk``. ``start`` are ms by step, each run of a fresh process;
    ``skipped`` says what was not measured, and why."""

    calls: list[Call] = field(default_factory=list)
    hung: Hung | None = None
    start: dict[str, list[float]] = field(default_factory=dict)
    install: Install | None = None
    spans: Spans | None = None
