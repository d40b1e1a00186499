"""``python -m benchmarks consent``: what it costs to heed a person's choices.

The same events go through the filter of ``conferencing``, and through that of the same schema with
a ``consent`` path: while no event carries choices, while each does, and under a signal that
refuses all that can be refused. Lines come in slices, as the sidecar cuts them.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from time import process_time
from typing import Any

import orjson

from benchmarks import conditions, gate, output
from benchmarks.data import SEED, lines
from benchmarks.gate import Verdict
from benchmarks.output import say
from benchmarks.report import Table
from benchmarks.results import Interval, interval, paired
from collector.filter import Filter
from collector.filter.text import slices
from collector.intake import SLICE
from collector.schema import Schema, load_schema, resources

__all__ = [
    "Cost",
    "Figures",
    "alternating",
    "choosing",
    "consent",
    "events",
    "filters",
    "measure",
    "of_lines",
    "of_mappings",
    "shown",
]

_SECTION, _JUDGED = "consent", ("medium", "lines", "no choices")
_CHOICES = orjson.dumps({"preferences": {"capacity_planning": False}})[1:-1]
_ROUNDS, _QUICK_ROUNDS, _EVENTS = 60, 20, 1_000


@dataclass(frozen=True, slots=True)
class Cost:
    """One way: µs of CPU per event, round by round, without a ``consent`` path and with one."""

    corpus: str
    form: str
    case: str
    without: Sequence[float]
    with_consent: Sequence[float]
    ratio: Interval


@dataclass(slots=True)
class Figures:
    """What was measured."""

    environment: dict[str, str]
    quick: bool
    costs: list[Cost] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)


def consent(arguments: Sequence[str]) -> int:
    """Measure it; returns the exit code."""
    return output.run(
        arguments, _SECTION, "Measure consent.", measure=_measure, table=_table, judge=_judge
    )


def _measure(options: Namespace) -> Figures:
    figures = Figures(conditions.environment(), quick=options.quick)
    rounds = _QUICK_ROUNDS if options.quick else _ROUNDS
    with conditions.steady() as pinned:
        for corpus in ("small", "medium", "non_ascii"):
            say(f"consent: {corpus}")
            figures.costs += measure(corpus, rounds, _EVENTS)
    figures.environment |= pinned
    return figures


def measure(corpus: str, rounds: int, number: int) -> Iterator[Cost]:
    """Yield every form and case of a corpus."""
    without, with_consent = filters()
    silent = events(corpus, number)
    refusing = with_consent.without(with_consent.schema.optional)
    for case, filter_, given in (
        ("no choices", with_consent, silent),
        ("choices in each", with_consent, [choosing(event) for event in silent]),
        ("a signal", refusing, silent),
    ):
        for form, work in (("lines", of_lines), ("mappings", of_mappings)):
            base, other = work(without, silent), work(filter_, given)
            times = alternating(base, other, rounds, number)
            yield Cost(corpus, form, case, *times, paired(times[1], times[0]))


def events(corpus: str, number: int) -> list[bytes]:
    """Return events of a corpus, none of which carries choices."""
    return lines(corpus, number)


def choosing(event: bytes) -> bytes:
    """Return the event with choices at its end, which refuse the one optional purpose."""
    return event[:-1] + b"," + _CHOICES + b"}"


def filters() -> tuple[Filter, Filter]:
    """Without a ``consent`` path, and with one."""
    return Filter(load_schema("conferencing")), Filter(_with_path())


def _with_path() -> Schema:
    text = (resources.shipped() / "conferencing.yaml").read_text(encoding="utf-8")
    with TemporaryDirectory() as folder:
        path = Path(folder) / "conferencing.yaml"
        path.write_text(f"consent: preferences\n{text}", encoding="utf-8")
        return load_schema(path)


def of_lines(filter_: Filter, events: Sequence[bytes]) -> Callable[[], object]:
    parts = list(slices(b"\n".join(events), SLICE, len(events)))
    return lambda: [filter_.admit_by_grant("ndjson", part) for part in parts]


def of_mappings(filter_: Filter, events: Sequence[bytes]) -> Callable[[], object]:
    parsed: list[dict[str, Any]] = [orjson.loads(event) for event in events]
    return lambda: [filter_.admit(event) for event in parsed]


def alternating(
    base: Callable[[], object], other: Callable[[], object], rounds: int, number: int
) -> tuple[list[float], list[float]]:
    """µs per event of both, in turns and in random order, so that neither comes always first."""
    times: tuple[list[float], list[float]] = [], []
    order = Random(SEED)
    base(), other()
    for _ in range(rounds):
        pair = [(base, times[0]), (other, times[1])]
        order.shuffle(pair)
        for work, into in pair:
            began = process_time()
            work()
            into.append((process_time() - began) / number * 1e6)
    return times


def shown(of: Interval) -> str:
    return f"{of.median:.2f} ({of.low:.2f}–{of.high:.2f})"


def _table(figures: Figures) -> Table:
    rows = tuple(
        (
            f"{cost.corpus}, {cost.form}",
            cost.case,
            shown(interval(cost.without)),
            shown(interval(cost.with_consent)),
            shown(cost.ratio),
        )
        for cost in figures.costs
    )
    title = "µs of CPU per event without a `consent` path, and with one; medians (95 % bootstrap)"
    return Table(title, ("events", "case", "without", "with", "with / without"), rows)


def _judge(figures: Figures, limits: gate.Limits) -> Iterator[Verdict]:
    """Yield the one case that most events are: none of them carries choices."""
    if limits.consent is None:
        yield Verdict(None, "consent: no limits")
        return
    most = limits.consent.of_the_filter_at_most
    most *= limits.quick.tolerance if figures.quick else 1
    for cost in figures.costs:
        if (cost.corpus, cost.form, cost.case) == _JUDGED:
            text = f"consent: {cost.ratio.median:.3f} of the filter's time, at most {most:.3f}"
            yield Verdict(cost.ratio.median <= most, text)
