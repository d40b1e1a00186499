"""What a filter remembers is remembered, and never more than a fixed number of values."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sized
from itertools import chain, combinations, islice
from typing import Any

import pytest

from collector import Filter
from collector.contracts import Tally
from collector.filter.admission import SingleAdmissions, TallyAccumulator
from collector.filter.columns import _remembering
from collector.filter.derive import Agents
from collector.filter.plan import Memo
from tests.support.make_schemas import REST, sample

PURPOSES = [f"extra_{number}" for number in range(7)]
OPTIONAL = "".join(
    f"  {name}: {{use: functional.service.improve, basis: consent, optional: true, reason: Try}}\n"
    for name in PURPOSES
)


def memo() -> tuple[Sized, Callable[[int], object]]:
    made = Memo(lambda text: text)
    return made.known, lambda number: made(str(number))


def agents() -> tuple[Sized, Callable[[int], object]]:
    made = Agents(["os.type", "os.version"])
    return made, lambda number: made[f"Windows NT 10.0 {number}"]


@pytest.mark.parametrize(("cache", "most"), [(memo, 4096), (agents, 1024)])
def test_values(cache: Callable[[], tuple[Sized, Callable[[int], object]]], most: int) -> None:
    """A full cache is emptied before it takes another value."""
    known, ask = cache()
    for number in range(most):
        ask(number)
        assert len(known) == number + 1
    ask(0)
    assert len(known) == most
    ask(most)
    assert len(known) == 1


def test_checked_values() -> None:
    asked: list[set[Any]] = []

    def holds(values: Collection[Any]) -> bool:
        asked.append({*values})
        return True

    check = _remembering(holds)
    assert all(map(check, [range(4095), [4095], [0, None, 4095]]))
    assert asked == [set(range(4095)), {4095}]
    assert check([4096])
    assert check([0])
    assert asked[2:] == [{4096}, {0}]


def test_narrower_filters() -> None:
    """Filters for refused purposes are shared until there are 64."""
    fields = f"  os.type: {{kind: enum, values: [linux], {REST}}}"
    purposes = ", ".join(["ops", *PURPOSES])
    whole = Filter(sample(fields.replace("[ops]", f"[{purposes}]"), purposes=OPTIONAL))
    subsets = chain.from_iterable(combinations(PURPOSES, size) for size in range(1, 7))
    first, *others, last = islice(subsets, 65)
    found = whole.without(first)
    assert all(whole.without(each) is whole.without(each) for each in others)
    assert whole.without(first) is found
    assert whole.without(last) is whole.without(last)
    assert whole.without(first) is not found
    assert whole.without(["ops"]) is whole


def test_verdicts() -> None:
    plan = Filter(sample(f"  os.type: {{kind: enum, values: [linux], {REST}}}")).plan

    def judge(events: Any, records: list[Any], notes: list[int], _rejected: Any) -> None:
        records.append(0)
        notes.extend([0] * events[0])

    single, total = SingleAdmissions(plan, judge), Tally()
    assert repr(single) == "<SingleAdmissions of sample/1.0.0>"
    counted = TallyAccumulator(total)
    for number in range(1024):
        counted.add(single.of(number, 1))
        assert len(single._admitted) == number + 1
        assert repr(counted) == f"<TallyAccumulator of {number + 1} verdicts>"
    counted.add(single.of(0, 1))
    assert (len(single._admitted), total.received) == (1024, 0)
    counted.add(single.of(1024, 1))
    assert len(single._admitted) == 1
    assert (repr(counted), total.received) == ("<TallyAccumulator of 1 verdicts>", 1025)
