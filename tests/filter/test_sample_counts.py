"""Outcomes as numbers, and how counts add up."""

from __future__ import annotations

from collections import Counter

from collector.contracts import Drop, Tally
from collector.filter.sample_counts import CELLS, OUTCOMES, TYPES, Seen, cell, pair


def test_every_outcome_and_type_has_its_number() -> None:
    every = [(outcome, json_type) for outcome in OUTCOMES for json_type in TYPES]
    assert [cell(*each) for each in every] == [*range(CELLS)]
    assert [pair(number) for number in range(CELLS)] == every
    assert cell("kept", None) == cell("kept", "")


def test_sums() -> None:
    one, other = Seen(), Seen()
    one.add("admitted", {"a": ("kept", "string"), "b": ("absent", None)})
    other.add("admitted", {"a": ("kept", "string"), "c": ("near", None)})
    other.add("malformed", {})
    assert one + other == Seen(
        Counter(admitted=2, malformed=1),
        {
            "a": Counter({cell("kept", "string"): 2}),
            "b": Counter({cell("absent", None): 1}),
            "c": Counter({cell("near", None): 1}),
        },
    )
    assert [*(one + other).fields] == ["a", "b", "c"]
    assert (one + other).events == one.events + other.events == 3


def test_counts_of_a_tally() -> None:
    """No field has more outcomes than there are events; what is left is absent."""
    tally = Tally(5, 3)
    tally.rejected["malformed"] = 2
    tally.dropped["a"] = Counter[Drop]({"invalid_value": 1, "wrong_type": 9})
    tally.dropped["b"] = Counter[Drop]({"invalid_value": 1})
    seen = Seen()
    seen.add_tally(tally, {"b": 3, "d": 1}, "abc")
    assert seen.verdicts == {"admitted": 3, "malformed": 2}
    assert seen.fields == {
        "a": {cell("invalid_value", None): 1, cell("wrong_type", None): 4},
        "b": {cell("invalid_value", None): 1, cell("kept", None): 3, cell("absent", None): 1},
        "c": {cell("absent", None): 5},
    }
