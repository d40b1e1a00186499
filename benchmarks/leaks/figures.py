"""What is measured, as plain data."""

from __future__ import annotations

from dataclasses import dataclass, field

from benchmarks.leaks.channels import Measured
from benchmarks.leaks.spelling import Delivered
from benchmarks.leaks.sweep import Sweep
from benchmarks.results import RunFigures


@dataclass(frozen=True, slots=True)
class Result:
    """One contender in one variant. Rates are shares of 1: of attacks that came through, weighted
    as in the wild and as by an attacker; by class unweighted; ``personal`` of personal data in free
    text. ``utility`` is the share of listed values, that it promises to leave, which arrive right;
    ``bits`` what an event brings over at most, ``is_free`` whether any text does."""

    title: str
    variant: str
    attacks: int
    leaks: int
    wild: float
    attacker: float
    by_slot: dict[str, float]
    by_encoding: dict[str, float]
    by_payload: dict[str, float]
    personal: float
    utility: float
    bits: float
    is_free: bool
    us: float
    peak_mb: float
    version: str
    configuration: str


@dataclass(slots=True)
class Figures(RunFigures):
    """Everything that a run measured."""

    results: list[Result] = field(default_factory=list)
    delivered: list[Delivered] = field(default_factory=list)
    channels: list[Measured] = field(default_factory=list)
    unnamed: list[str] = field(default_factory=list)
    sweep: Sweep = field(default_factory=Sweep)
