"""A curve of growth: times against one number, and how straight it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log
from statistics import fmean, median

_FEWEST = 3


@dataclass(frozen=True, slots=True)
class Point:
    """One place on a curve. ``times`` are µs of CPU per event, by job, per round."""

    x: float
    times: Mapping[str, Sequence[float]]

    def typical(self, job: str) -> float:
        """Return the median in µs per event."""
        return median(self.times[job])


@dataclass(frozen=True, slots=True)
class Curve:
    """Time per event along a number of ``unit``; points are in rising order.

    ``per_call`` says that the number varied is that of events in a call, so that a straight line is
    a flat one: time per event must not grow at all.
    """

    name: str
    title: str
    unit: str
    per_call: bool
    points: Sequence[Point]

    @property
    def jobs(self) -> tuple[str, ...]:
        """Who was timed."""
        return tuple(self.points[0].times)

    def upper(self) -> Sequence[Point]:
        """Return the upper half, where what is constant weighs least; at least three points."""
        return self.points[-max(_FEWEST, (len(self.points) + 1) // 2) :]

    def exponent(self, job: str) -> float:
        """The slope in log-log over the upper half: 0 is flat, 1 a straight line through zero."""
        points = [point for point in self.upper() if point.x > 0]
        return slope([log(p.x) for p in points], [log(p.typical(job)) for p in points])

    def per_unit(self, job: str) -> float:
        """Nanoseconds that one more unit costs, by the straight line through the upper half."""
        points = self.upper()
        return slope([p.x for p in points], [p.typical(job) for p in points]) * 1_000

    def limit(self) -> float:
        """Return the largest exponent that counts as no more than linear."""
        return 0.25 if self.per_call else 1.25


def slope(xs: Sequence[float], ys: Sequence[float]) -> float:
    """Return the slope of the straight line that fits best (least squares)."""
    x0, y0 = fmean(xs), fmean(ys)
    across = sum((x - x0) ** 2 for x in xs)
    return sum((x - x0) * (y - y0) for x, y in zip(xs, ys, strict=True)) / across
