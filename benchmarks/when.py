"""``python -m benchmarks when``: what a condition costs.

The same events go through the filter of ``conferencing``, and through that of the same schema whose
address counts only where a member beside it has a listed value. In one case it has.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks import conditions, gate, output
from benchmarks.consent import alternating, events, of_lines, of_mappings, shown
from benchmarks.gate import Verdict
from benchmarks.output import say
from benchmarks.report import Table
from benchmarks.results import Interval, interval
from collector.filter import Filter
from collector.schema import Schema, load_schema, resources

__all__ = ["Cost", "Figures", "filters", "measure", "when"]

_MOST = 0.3
"""µs of an event."""
_PATHS = "[client.address, ip_address, ip]"
_ROUNDS, _QUICK_ROUNDS, _EVENTS = 60, 20, 1_000


@dataclass(frozen=True, slots=True)
class Cost:
    """One way: µs of CPU per event, round by round, without conditions and with them."""

    form: str
    case: str
    without: Sequence[float]
    with_when: Sequence[float]
    difference: Interval


@dataclass(slots=True)
class Figures:
    """What was measured."""

    environment: dict[str, str]
    quick: bool
    costs: list[Cost] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)


def when(arguments: Sequence[str]) -> int:
    """Measure it; returns the exit code."""
    return output.run(
        arguments, "when", "Measure conditions.", measure=_measure, table=_table, judge=_judge
    )


def _measure(options: Namespace) -> Figures:
    figures = Figures(conditions.environment(), quick=options.quick)
    with conditions.steady() as pinned:
        say("when: medium")
        figures.costs += measure(_QUICK_ROUNDS if options.quick else _ROUNDS, _EVENTS)
    figures.environment |= pinned
    return figures


def measure(rounds: int, number: int) -> Iterator[Cost]:
    """Yield every form and case."""
    without, conditional = filters()
    for case, kind in (("it holds", b"local"), ("it fails", b"remote")):
        beside = b'"client":{"kind":"' + kind + b'",'
        given = [each.replace(b'"client":{', beside, 1) for each in events("medium", number)]
        for form, work in (("lines", of_lines), ("mappings", of_mappings)):
            base, other = work(without, given), work(conditional, given)
            times = alternating(base, other, rounds, number)
            pairs = zip(*times, strict=True)
            yield Cost(form, case, *times, interval([more - less for less, more in pairs]))


def filters() -> tuple[Filter, Filter]:
    """Without conditions, and with one for each path of the address."""
    return Filter(load_schema("conferencing")), Filter(_with_conditions())


def _with_conditions() -> Schema:
    text = (resources.shipped() / "conferencing.yaml").read_text(encoding="utf-8")
    paths = _PATHS.strip("[]").split(", ")
    conditional = ", ".join(f"{{path: {path}, when: {{kind: [local, own]}}}}" for path in paths)
    document = text.partition("\ntests:")[0].replace(_PATHS, f"[{conditional}]") + "\n"
    with TemporaryDirectory() as folder:
        path = Path(folder) / "conferencing.yaml"
        path.write_text(document, encoding="utf-8")
        return load_schema(path)


def _table(figures: Figures) -> Table:
    rows = tuple(
        (
            f"medium, {cost.form}",
            cost.case,
            shown(interval(cost.without)),
            shown(interval(cost.with_when)),
            shown(cost.difference),
        )
        for cost in figures.costs
    )
    title = "µs of CPU per event without a condition, and with one; medians (95 % bootstrap)"
    return Table(title, ("events", "case", "without", "with", "more"), rows)


def _judge(figures: Figures, limits: gate.Limits) -> Iterator[Verdict]:
    """Yield a verdict for each way, where the condition holds: the work behind it is the same."""
    most = _MOST * (limits.quick.tolerance if figures.quick else 1)
    for cost in figures.costs:
        if cost.case == "it holds":
            text = f"when: {cost.difference.median:.3f} µs an event of {cost.form}, at most {most}"
            yield Verdict(cost.difference.median <= most, text)
