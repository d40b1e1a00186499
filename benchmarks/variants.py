"""What a part of a schema costs the filter: the same events through a filter without it and one
with it, in turns.

A turn takes less than a few milliseconds, so that what disturbs the machine disturbs both alike.
Compared is the CPU time that the quickest tenth of the turns stays below: other processes only make
a turn longer, and never shorter.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from time import process_time
from typing import Any

import orjson

from benchmarks import conditions
from benchmarks.data import SEED
from benchmarks.output import say
from benchmarks.report import Table
from benchmarks.results import Interval, RunFigures
from collector.filter import Filter
from collector.filter.text import pieces
from collector.schema import Schema, load_schema, resources

_TURNS, _QUICK_TURNS, _EVENTS = 600, 200, 200
_RESAMPLES = 500
_SLICE = 1 << 18
"""Bytes of lines that a sidecar filters at once."""


@dataclass(frozen=True, slots=True)
class Cost:
    """One way: µs of CPU per event, turn by turn, without the part and with it; the ratio and the
    difference of what the quickest tenth of the turns stays below."""

    corpus: str
    form: str
    case: str
    without: Sequence[float]
    with_it: Sequence[float]
    ratio: Interval
    difference: Interval


@dataclass(slots=True)
class Figures(RunFigures):
    """What was measured."""

    costs: list[Cost] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Work:
    """A filter, and the events that it gets."""

    filter: Filter
    events: Sequence[bytes]

    def of_lines(self) -> Callable[[], object]:
        """Filter the events as lines in slices, as the sidecar cuts them."""
        parts = list(pieces(b"\n".join(self.events), _SLICE))
        return lambda: [self.filter.admit_by_grant("ndjson", part) for part in parts]

    def of_mappings(self) -> Callable[[], object]:
        """Filter the events as mappings, one by one."""
        parsed: list[dict[str, Any]] = [orjson.loads(event) for event in self.events]
        return lambda: [self.filter.admit(event) for event in parsed]


def measured(
    section: str, corpora: Iterable[str], measure: Callable[[str, int, int], Iterable[Cost]]
) -> Callable[[Namespace], Figures]:
    """Return what measures each corpus: ``measure(corpus, turns, events)``."""

    def run(options: Namespace) -> Figures:
        figures = Figures(conditions.environment(), quick=options.quick)
        with conditions.steady() as pinned:
            for corpus in corpora:
                say(f"{section}: {corpus}")
                turns = _QUICK_TURNS if options.quick else _TURNS
                figures.costs += measure(corpus, turns, _EVENTS)
        figures.environment |= pinned
        return figures

    return run


def changed(change: Callable[[str], str]) -> Schema:
    """Return the schema of ``conferencing`` with its document changed."""
    text = (resources.shipped() / "conferencing.yaml").read_text(encoding="utf-8")
    with TemporaryDirectory() as folder:
        path = Path(folder) / "conferencing.yaml"
        path.write_text(change(text), encoding="utf-8")
        return load_schema(path)


def costs(corpus: str, case: str, base: Work, other: Work, turns: int) -> Iterator[Cost]:
    """Yield the cost of lines, and that of mappings."""
    for form, works in (
        ("lines", (base.of_lines(), other.of_lines())),
        ("mappings", (base.of_mappings(), other.of_mappings())),
    ):
        yield _compare((corpus, form, case), works, turns, len(base.events))


def _compare(
    named: tuple[str, str, str],
    works: tuple[Callable[[], object], Callable[[], object]],
    turns: int,
    number: int,
) -> Cost:
    """Measure both in turns and in random order, so that neither comes always first."""
    times: tuple[list[float], list[float]] = [], []
    random = Random(SEED)
    for work in works:
        work()
    for _ in range(turns):
        for which in random.sample((0, 1), 2):
            began = process_time()
            works[which]()
            times[which].append((process_time() - began) / number * 1e6)
    without, with_it = times
    return Cost(
        *named,
        *(without, with_it),
        _interval(without, with_it, lambda less, more: more / less),
        _interval(without, with_it, lambda less, more: more - less),
    )


def _tenth(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 10]


def _interval(
    without: Sequence[float], with_it: Sequence[float], of: Callable[[float, float], float]
) -> Interval:
    """Return a figure of both tenths, with its 95 % bootstrap interval."""
    random, number = Random(SEED), len(without)
    found = sorted(
        of(_tenth(random.choices(without, k=number)), _tenth(random.choices(with_it, k=number)))
        for _ in range(_RESAMPLES)
    )
    cut = round(_RESAMPLES * 0.025)
    return Interval(of(_tenth(without), _tenth(with_it)), found[cut], found[-1 - cut])


def shown(of: Interval) -> str:
    """Write an interval."""
    return f"{of.median:.2f} ({of.low:.2f}–{of.high:.2f})"


def table(figures: Figures, part: str, last: str, of: Callable[[Cost], Interval]) -> Table:
    """Make the table: of each way the time of both, and one figure of them."""
    rows = tuple(
        (
            f"{cost.corpus}, {cost.form}",
            cost.case,
            f"{_tenth(cost.without):.2f}",
            f"{_tenth(cost.with_it):.2f}",
            shown(of(cost)),
        )
        for cost in figures.costs
    )
    title = f"µs of CPU per event without {part}, and with one: the quickest tenth of the turns"
    return Table(f"{title} (95 % bootstrap)", ("events", "case", "without", "with", last), rows)
