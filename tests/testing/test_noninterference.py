"""``assert_noninterference`` passes for the filter, and fails for filters that break the law."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from collector import Filter, load_schema
from collector.errors import ConfigError
from collector.filter import Admission
from collector.schema.kinds import Circumstances
from collector.testing import assert_noninterference, laws
from collector.testing.laws import agree, event_pairs, fixed_key, stand_alone
from tests.filter.test_event_consent import made
from tests.strategies import lines
from tests.strategies.test_strategies import NOW, draw
from tests.support.rows import for_each

pytestmark = pytest.mark.long

SCHEMA = load_schema("conferencing")
PARTICIPANTS = load_schema("participants-qos")


def with_text(admission: Admission, text: bytes) -> Admission:
    return Admission([], admission.encode() + text, admission.tally)


class Curious(Filter):
    """Lets through that a member was there which the schema does not list."""

    def admit(self, event: Any, **fills: Any) -> Admission:
        return with_text(super().admit(event, **fills), b"!" if "unlisted" in str(event) else b"")


class Listening(Filter):
    """Lets through the length of what is said."""

    def admit(self, event: Any, **fills: Any) -> Admission:
        admission = super().admit(event, **fills)
        return with_text(admission, b"%d" % admission.tally.content.total())


class Counting(Filter):
    """Counts as rejected what was only dropped."""

    def admit(self, event: Any, **fills: Any) -> Admission:
        admission = super().admit(event, **fills)
        dropped = {reason for counts in admission.tally.dropped.values() for reason in counts}
        admission.tally.rejected["malformed"] += "wrong_type" in dropped
        return admission


class Remembering(Filter):
    """Gives equal records of a batch once, so that one line hides another."""

    def admit_lines(self, payload: Any, *, first: bool = True, **fills: Any) -> Admission:
        admission = super().admit_lines(payload, first=first, **fills)
        records = dict.fromkeys(admission.encode().splitlines(keepends=True))
        return Admission([], b"".join(records), admission.tally)


class Impatient(Filter):
    """Counts no more than one rejection."""

    def admit_lines(self, payload: Any, *, first: bool = True, **fills: Any) -> Admission:
        admission = super().admit_lines(payload, first=first, **fills)
        admission.tally.rejected = Counter(list(admission.tally.rejected.elements())[:1])
        return admission


class Curt(Filter):
    """Keeps of an event that something was chosen in it."""

    def admit(self, event: Any, **fills: Any) -> Admission:
        admission = super().admit(event, **fills)
        return with_text(admission, b"!" if "another" in str(event) else b"")


class Spiteful(Filter):
    """Keeps more of those who refuse."""

    def without(self, refused: Any) -> Filter:
        return Filter(self.schema, as_of=NOW)


@pytest.fixture
def unshrunk() -> Iterator[None]:
    """Counterexamples are not made smaller, which takes most of the time."""
    settings.register_profile("unshrunk", settings(), phases=[Phase.generate], derandomize=True)
    settings.load_profile("unshrunk")
    yield
    settings.load_profile("default")


@for_each("name", ["conferencing", "conferencing-strict", "participants-qos"])
@for_each("purposes", [None, (), ("service_operations",)])
def test_the_filter_keeps_the_law(name: str, purposes: tuple[str, ...] | None) -> None:
    assert_noninterference(load_schema(name), purposes=purposes, examples=20)


@pytest.mark.parametrize("filter_", [Curious, Listening, Counting, Remembering, Impatient])
def test_a_filter_that_breaks_the_law_is_found(
    filter_: type[Filter], monkeypatch: pytest.MonkeyPatch, unshrunk: None
) -> None:
    """Within a few hundred examples. Which they are differs with what else is loaded."""
    monkeypatch.setattr(laws, "Filter", filter_)
    with pytest.raises(AssertionError):
        assert_noninterference(SCHEMA, examples=500)


@pytest.mark.parametrize("filter_", [Curt, Spiteful, Filter])
def test_what_people_choose_is_under_the_law(
    filter_: type[Filter], monkeypatch: pytest.MonkeyPatch, unshrunk: None, tmp_path: Path
) -> None:
    """A filter is found that keeps something of choices besides what they refuse, and one that
    gives more where more is refused; ours is neither."""
    monkeypatch.setattr(laws, "Filter", filter_)
    schema = made(tmp_path, "told.here")
    if filter_ is Filter:
        assert_noninterference(schema, purposes=["security"], examples=20)
        return
    with pytest.raises(AssertionError):
        assert_noninterference(schema, purposes=["security"], examples=400)


def test_options_are_those_of_the_filter() -> None:
    """A purpose that is not the schema's is refused as the filter does."""
    with pytest.raises(ConfigError):
        assert_noninterference(SCHEMA, purposes=["advertising"])


def test_pairs_differ_where_they_may() -> None:
    """Most pairs are not equal, many spell an admitted value differently, many keep something."""
    tested, found = Filter(SCHEMA, as_of=NOW), Counter[str]()

    def take(pair: tuple[dict[Any, Any], dict[Any, Any]]) -> bool:
        first, second = map(tested.admit, pair)
        is_admitted = pair[0] != pair[1] and bool(first.records)
        found["pairs"] += 1
        found["different"] += pair[0] != pair[1]
        found["admitted"] += is_admitted
        found["respelled"] += is_admitted and any(
            pair[0][key] != pair[1].get(key, pair[0][key]) for key in pair[0]
        )
        found["content"] += first.tally.content != second.tally.content
        return min(found[what] for what in ("admitted", "respelled", "content")) >= 25

    draw(event_pairs(SCHEMA, Circumstances(lambda: NOW, fixed_key)), take)
    assert found["different"] > found["pairs"] // 2
    assert min(found[what] for what in ("admitted", "respelled", "content")) >= 25


@settings(max_examples=50)
@given(st.data())
def test_elements_of_records_are_varied_too(data: st.DataObject) -> None:
    """The law holds for lists of records, element by element."""
    pair = data.draw(event_pairs(PARTICIPANTS, Circumstances(lambda: NOW, fixed_key)))
    agree(Filter(PARTICIPANTS, as_of=NOW), pair, (0, 1))


@settings(max_examples=50)
@given(lines(PARTICIPANTS, now=NOW))
def test_lines_of_records_stand_alone(payload: bytes) -> None:
    stand_alone(Filter(PARTICIPANTS, as_of=NOW), payload)
