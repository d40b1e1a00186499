"""``python -m benchmarks consent``: what it costs to heed a person's choices.

The same events go through the filter of ``conferencing``, and through that of the same schema with
a ``consent`` path: while no event carries choices, while each does, and under a signal that
refuses all that can be refused. Lines come in slices, as the sidecar cuts them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import orjson

from benchmarks import gate, output, variants
from benchmarks.data import lines
from benchmarks.gate import Verdict
from benchmarks.report import Table
from benchmarks.variants import Cost, Figures, Work
from collector.filter import Filter
from collector.schema import load_schema

_SECTION, _JUDGED = "consent", ("medium", "lines", "no choices")
_CORPORA = ("small", "medium", "non_ascii")
_CHOICES = orjson.dumps({"preferences": {"capacity_planning": False}})[1:-1]


def consent(arguments: Sequence[str]) -> int:
    """Measure it; returns the exit code."""
    run = variants.measured(_SECTION, _CORPORA, measure)
    return output.run(
        arguments, _SECTION, "Measure consent.", measure=run, table=_table, judge=_judge
    )


def measure(corpus: str, turns: int, number: int) -> Iterator[Cost]:
    """Yield every form and case of a corpus."""
    without, with_consent = filters()
    silent = lines(corpus, number)
    refusing = with_consent.without(with_consent.schema.optional)
    for case, filter_, given in (
        ("no choices", with_consent, silent),
        ("choices in each", with_consent, [choosing(event) for event in silent]),
        ("a signal", refusing, silent),
    ):
        base, other = Work(without, silent), Work(filter_, given)
        yield from variants.costs(corpus, case, base, other, turns)


def choosing(event: bytes) -> bytes:
    """Return the event with choices at its end, which refuse the one optional purpose."""
    return event[:-1] + b"," + _CHOICES + b"}"


def filters() -> tuple[Filter, Filter]:
    """Without a ``consent`` path, and with one."""
    with_path = variants.changed(lambda text: f"consent: preferences\n{text}")
    return Filter(load_schema("conferencing")), Filter(with_path)


def _table(figures: Figures) -> Table:
    return variants.table(figures, "a `consent` path", "with / without", lambda cost: cost.ratio)


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
            yield Verdict(cost.ratio.low <= most, text)
