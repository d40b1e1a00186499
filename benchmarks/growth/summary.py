"""The curves as a table: one row each, with the exponents and what one more unit costs."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.growth.curve import Curve
from benchmarks.growth.jobs import TITLES

TITLE = "growth of CPU time per event: exponent (slope in log-log) over the upper half of a curve"
HEADER: tuple[str, ...] = (
    "varied",
    "from – to",
    *TITLES.values(),
    "collector, first → last µs",
    "collector, ns per unit",
)


def rows(curves: Sequence[Curve]) -> tuple[tuple[str, ...], ...]:
    """Return rows as wide as ``HEADER``; a dash where a job was not timed."""
    return tuple(_row(curve) for curve in curves)


def exponent(curve: Curve, job: str = "ours") -> str:
    """To two places; a dash where the job was not timed."""
    if job not in curve.jobs:
        return "–"
    return f"{round(curve.exponent(job), 2) + 0:.2f}"  # never a zero below zero


def per_unit(curve: Curve) -> str:
    """Return nanoseconds that one more unit costs in the collector, to three digits."""
    return f"{float(format(curve.per_unit('ours'), '.3g')):,.10g}"


def _row(curve: Curve) -> tuple[str, ...]:
    first, last = curve.points[0], curve.points[-1]
    return (
        curve.title,
        f"{first.x:,.0f} – {last.x:,.0f} {curve.unit}",
        *(exponent(curve, job) for job in TITLES),
        f"{first.typical('ours'):,.1f} → {last.typical('ours'):,.1f}",
        "flat is linear" if curve.per_call else per_unit(curve),
    )
