"""The curves as a table: one row each, with the exponents and what one more unit costs."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.growth.curve import Curve
from benchmarks.growth.jobs import TITLES

__all__ = ["HEADER", "TITLE", "rows"]

TITLE = "growth of CPU time per event: exponent (slope in log-log) over the upper half of a curve"
HEADER: tuple[str, ...] = (
    "varied",
    "from – to",
    *(f"{title}" for title in TITLES.values()),
    "collector, first → last µs",
    "collector, ns per unit",
)


def rows(curves: Sequence[Curve]) -> tuple[tuple[str, ...], ...]:
    """As wide as ``HEADER``; a dash where somebody was not timed."""
    return tuple(_row(curve) for curve in curves)


def _row(curve: Curve) -> tuple[str, ...]:
    first, last = curve.points[0], curve.points[-1]
    per_unit = "flat is linear" if curve.per_call else f"{curve.per_unit('ours'):.3g}"
    return (
        curve.title,
        f"{first.x:,.0f} – {last.x:,.0f} {curve.unit}",
        *(f"{curve.exponent(job):.2f}" if job in curve.jobs else "–" for job in TITLES),
        f"{first.typical('ours'):.1f} → {last.typical('ours'):.1f}",
        per_unit,
    )
