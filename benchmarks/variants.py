"""``python -m benchmarks consent`` and ``when``: what a part of a schema costs the filter. The same
events go through a filter without the part and one with it, in turns, as lines and as mappings.

A turn takes less than a few milliseconds, so that disturbances of the machine affect both alike.
The benchmark compares the CPU time below which the quickest tenth of the turns stays: other
processes only make a turn longer, never shorter.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import NamedTuple

import orjson

from benchmarks import conditions
from benchmarks.data import SEED, lines
from benchmarks.figures import Figures, Interval, say
from collector.documents import shipped
from collector.filter import Filter
from collector.filter.text import pieces
from collector.schema import Schema, load_schema

_TURNS, _QUICK_TURNS, _EVENTS, _RESAMPLES = 300, 200, 200, 500
_SLICE = 1 << 18
"""The bytes of lines that a sidecar filters at once."""
_CHOICES = orjson.dumps({"preferences": {"capacity_planning": False}})[1:-1]
_PATHS = "[client.address, ip_address, ip]"
_SELECTING = "records: {path: ., when: {kind: [local, own]}}\n"


class Variant(NamedTuple):
    """The name of a case, and each filter with its events: without the part, and with it."""

    case: str
    without: tuple[Filter, Sequence[bytes]]
    with_it: tuple[Filter, Sequence[bytes]]


def consents(corpus: str) -> Iterator[Variant]:
    """Yield a ``consent`` path while no event has choices, while each event has, and under a signal
    that refuses everything optional."""
    without = Filter(load_schema("conferencing"))
    with_path = Filter(changed(lambda text: f"consent: preferences\n{text}"))
    silent = lines(corpus, _EVENTS)
    choosing = [event[:-1] + b"," + _CHOICES + b"}" for event in silent]
    refusing = with_path.without(with_path.schema.optional)
    yield Variant("no choices", (without, silent), (with_path, silent))
    yield Variant("choices in each", (without, silent), (with_path, choosing))
    yield Variant("a signal", (without, silent), (refusing, silent))


def conditions_(corpus: str) -> Iterator[Variant]:
    """Yield a condition on each path of the address, and one of the event, that holds or fails."""

    def tested(text: str) -> str:
        return text.partition("\ntests:")[0] + "\n"  # the tests do not know the member

    paths = _PATHS.strip("[]").split(", ")
    conditional = ", ".join(f"{{path: {path}, when: {{kind: [local, own]}}}}" for path in paths)
    without = Filter(load_schema("conferencing"))
    source = Filter(changed(lambda text: tested(text).replace(_PATHS, f"[{conditional}]")))
    record = Filter(changed(lambda text: _SELECTING + tested(text)))
    for case, kind in (("holds", b"local"), ("fails", b"remote")):
        member, events = b'"kind":"' + kind + b'",', lines(corpus, _EVENTS)
        nested = [each.replace(b'"client":{', b'"client":{' + member, 1) for each in events]
        itself = [b"{" + member + each[1:] for each in events]
        yield Variant(f"source, {case}", (without, nested), (source, nested))
        yield Variant(f"record, {case}", (without, itself), (record, itself))


def changed(change: Callable[[str], str]) -> Schema:
    """Return the schema of ``conferencing`` with its document changed."""
    text = (shipped() / "conferencing.yaml").read_text(encoding="utf-8")
    with TemporaryDirectory() as folder:
        path = Path(folder) / "conferencing.yaml"
        path.write_text(change(text), encoding="utf-8")
        return load_schema(path)


_Cost = tuple[list[float], list[float]]
"""µs of CPU per event, turn by turn: without the part, and with it."""


def consent(options: Namespace, figures: Figures) -> None:
    """Measure what it costs to apply a person's choices. The limit is for the usual case: no event
    has choices."""
    found = _measured(options, figures, ("small", "medium", "non_ascii"), consents)
    _show(figures, "a `consent` path", "with / without", found, _ratio)
    what = "consent: the filter's time over that without a path"
    limit = figures.limit("consent", "of_the_filter_at_most")
    figures.at_most(what, limit, _ratio(found["medium, lines", "no choices"]))


def when(options: Namespace, figures: Figures) -> None:
    """Measure what a condition costs. The limit is for a condition that holds: the work after it is
    the same."""
    found = _measured(options, figures, ("medium",), conditions_)
    _show(figures, "a condition", "more", found, _more)
    for (events, case), cost in found.items():
        if case.endswith("holds"):
            what = f"when: µs more an event of {events} ({case})"
            figures.at_most(what, figures.limit("when", "us_at_most"), _more(cost).median)


def _measured(
    options: Namespace,
    figures: Figures,
    corpora: Sequence[str],
    variants: Callable[[str], Iterator[Variant]],
) -> dict[tuple[str, str], _Cost]:
    turns = _QUICK_TURNS if options.quick else _TURNS
    found = {}
    with conditions.steady() as pinned:
        for corpus in corpora:
            say(f"measuring {corpus}")
            for case, without, with_it in variants(corpus):
                for form, work in (("lines", _of_lines), ("mappings", _of_mappings)):
                    cost = _compare((work(*without), work(*with_it)), turns)
                    found[f"{corpus}, {form}", case] = cost
    figures.environment = conditions.environment() | pinned
    figures.values["costs"] = {" / ".join(key): cost for key, cost in found.items()}
    return found


def _of_lines(filter_: Filter, events: Sequence[bytes]) -> Callable[[], object]:
    """Filter the events as lines, in slices like a sidecar's."""
    parts = list(pieces(b"\n".join(events), _SLICE))
    return lambda: [filter_.admit_by_grant("ndjson", part) for part in parts]


def _of_mappings(filter_: Filter, events: Sequence[bytes]) -> Callable[[], object]:
    """Filter the events as mappings, one by one."""
    parsed = [orjson.loads(event) for event in events]
    return lambda: [filter_.admit(event) for event in parsed]


def _compare(works: tuple[Callable[[], object], Callable[[], object]], turns: int) -> _Cost:
    """Measure both in turns and in random order, so that neither is always first."""
    found = conditions.in_rounds({"without": works[0], "with": works[1]}, turns, SEED)
    without, with_it = ([us / _EVENTS for us in each] for each in found.values())
    return without, with_it


def _tenth(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 10]


def _ratio(cost: _Cost) -> Interval:
    return _interval(cost, lambda less, more: more / less)


def _more(cost: _Cost) -> Interval:
    return _interval(cost, lambda less, more: more - less)


def _interval(cost: _Cost, of: Callable[[float, float], float]) -> Interval:
    """Return a statistic of both tenths, with its 95 % bootstrap interval."""
    (without, with_it), random = cost, Random(SEED)
    number = len(without)
    found = sorted(
        of(_tenth(random.choices(without, k=number)), _tenth(random.choices(with_it, k=number)))
        for _ in range(_RESAMPLES)
    )
    cut = round(_RESAMPLES * 0.025)
    return Interval(of(_tenth(without), _tenth(with_it)), found[cut], found[-1 - cut])


def _show(
    figures: Figures,
    part: str,
    last: str,
    found: dict[tuple[str, str], _Cost],
    of: Callable[[_Cost], Interval],
) -> None:
    rows = (
        (events, case, *(f"{_tenth(times):.2f}" for times in cost), str(of(cost)))
        for (events, case), cost in found.items()
    )
    title = f"µs of CPU per event without {part}, and with one: the quickest tenth of the turns"
    head = ("events", "case", "without", "with", last)
    figures.table(f"{title} (95 % bootstrap)", head, rows)
