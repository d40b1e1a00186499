"""``python -m benchmarks scale``: how many cores a rate takes, and what waits when some are gone.

A piece has a rate, which is one over its CPU time for an event; what arrives beyond the rate waits,
and is worked off with what is left of the rate of the slowest piece behind it.
"""

from __future__ import annotations

from argparse import Namespace
from math import ceil
from typing import NamedTuple

from benchmarks.figures import Figures

_BUSY = 0.6
"""Share of a core that is planned for; the rest is for bursts, and for machines that are gone."""
_RATES = (10**4, 10**6, 10**8)
_SECONDS = 600.0


class Piece(NamedTuple):
    """A part of the way: its CPU time for an event in µs, bytes that it hands on for one, and the
    command that measures both."""

    name: str
    cost: float
    bytes: int
    source: str

    def cores(self, rate: float) -> int:
        """Return its cores at a rate."""
        return ceil(rate * self.cost / 1e6 / _BUSY)

    def most(self, rate: float) -> float:
        """Return the events per second that these cores can do."""
        return self.cores(rate) * 1e6 / self.cost


PIECES = (
    Piece("worker", 15, 230, "python -m benchmarks sidecar"),
    Piece("keeper", 7, 230, "python -m benchmarks sidecar"),
    Piece("broker, three copies", 3, 690, "python -m benchmarks sinks, nats"),
    Piece("drain", 14, 230, "python -m benchmarks sinks, drain"),
    Piece("warehouse", 10, 130, "python -m benchmarks sinks, postgres"),
)
"""Medians for medium events of 2 KB, of the machine of docs/benchmarks.md."""


def outcomes(rate: float) -> dict[str, tuple[str, float, float]]:
    """Return what waits where for each fault that lasts ten minutes, and the seconds until nothing
    does while events go on arriving."""
    worker, keeper, _, drain, warehouse = PIECES
    way = {"sidecars": worker, "spools": keeper, "drains": drain, "warehouse": warehouse}
    most = {name: piece.most(rate) for name, piece in way.items()}
    half = drain.cores(rate) // 2 * 1e6 / drain.cost
    found = {}
    for name, place, arriving, left in (
        ("twice as many events arrive", "sidecars", 2 * rate, most["sidecars"]),
        ("one of three regions is dead", "sidecars", 1.5 * rate, most["sidecars"]),
        ("the broker is dead", "spools", rate, 0),
        ("half of the drains are dead", "drains", rate, half),
        ("the warehouse is dead", "warehouse", rate, 0),
    ):
        waiting = max(0.0, (arriving - left) * _SECONDS)
        behind = list(most.values())[list(most).index(place) :]
        found[name] = place, waiting, waiting / (min(behind) - rate)
    return found


def scale(_options: Namespace, figures: Figures) -> None:
    """Compute it."""
    rates = [f"{rate:,} a second" for rate in _RATES]
    figures.table(
        f"Cores at {_BUSY:.0%} of each, and MB a second, by events a second",
        ("piece", "µs an event", "bytes an event", *rates, "measured by"),
        (
            (
                *(piece.name, f"{piece.cost:g}", f"{piece.bytes}"),
                *(f"{piece.cores(r):,}; {r * piece.bytes / 1e6:,.0f}" for r in _RATES),
                f"`{piece.source}`",
            )
            for piece in PIECES
        ),
    )
    figures.table(
        "Ten minutes of a fault: millions of events that wait, and seconds until none does",
        ("fault", "events a second", "wait at", "wait", "seconds"),
        (
            (name, f"{rate:,}", place, f"{waiting / 1e6:,.1f}", f"{seconds:,.0f}")
            for rate in _RATES
            for name, (place, waiting, seconds) in outcomes(rate).items()
        ),
    )
