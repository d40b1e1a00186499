"""``python -m benchmarks when``: what a condition costs.

The same events go through the filter of ``conferencing``, and through that of the same schema whose
address counts only where a member beside it has a listed value, or which asks for events with such
a member. In one case it has.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmarks import gate, output, variants
from benchmarks.data import lines
from benchmarks.gate import Verdict
from benchmarks.report import Table
from benchmarks.variants import Cost, Figures, Work
from collector.filter import Filter
from collector.schema import load_schema

_MOST = 0.3
"""µs of an event."""
_PATHS = "[client.address, ip_address, ip]"
_SELECTING = "records: {path: ., when: {kind: [local, own]}}\n"


def when(arguments: Sequence[str]) -> int:
    """Measure it; returns the exit code."""
    run = variants.measured("when", ("medium",), measure)
    return output.run(
        arguments, "when", "Measure conditions.", measure=run, table=_table, judge=_judge
    )


def measure(corpus: str, turns: int, number: int) -> Iterator[Cost]:
    """Yield every form and case."""
    without, conditional, selecting = filters()
    for case, kind in (("holds", b"local"), ("fails", b"remote")):
        member = b'"kind":"' + kind + b'",'
        events = lines(corpus, number)
        nested = [each.replace(b'"client":{', b'"client":{' + member, 1) for each in events]
        itself = [b"{" + member + each[1:] for each in events]
        for what, filter_, given in (
            ("source", conditional, nested),
            ("record", selecting, itself),
        ):
            base, other = Work(without, given), Work(filter_, given)
            yield from variants.costs(corpus, f"{what}, {case}", base, other, turns)


def filters() -> tuple[Filter, Filter, Filter]:
    """Without conditions, with one for each path of the address, and with one of the event."""
    paths = _PATHS.strip("[]").split(", ")
    conditional = ", ".join(f"{{path: {path}, when: {{kind: [local, own]}}}}" for path in paths)
    schemas = (
        load_schema("conferencing"),
        variants.changed(lambda text: _tested(text).replace(_PATHS, f"[{conditional}]")),
        variants.changed(lambda text: _SELECTING + _tested(text)),
    )
    without, with_paths, selecting = map(Filter, schemas)
    return without, with_paths, selecting


def _tested(text: str) -> str:
    """Return a document without its tests, which do not know the member."""
    return text.partition("\ntests:")[0] + "\n"


def _table(figures: Figures) -> Table:
    return variants.table(figures, "a condition", "more", lambda cost: cost.difference)


def _judge(figures: Figures, limits: gate.Limits) -> Iterator[Verdict]:
    """Yield a verdict for each way, where the condition holds: the work behind it is the same."""
    most = _MOST * (limits.quick.tolerance if figures.quick else 1)
    for cost in figures.costs:
        if cost.case.endswith("holds"):
            found = f"{cost.difference.median:.3f} µs an event of {cost.form}"
            text = f"when: {found} ({cost.case}), at most {most}"
            yield Verdict(cost.difference.median <= most, text)
