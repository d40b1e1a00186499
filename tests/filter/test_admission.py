"""What a filter call gives, and the sum of many."""

from __future__ import annotations

from collections import Counter
from functools import reduce
from operator import add
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector import InputError, Tally, load_schema
from collector.filter import admission as tested
from collector.filter import router
from collector.filter.admission import Admission, Bounds, TallyAccumulator
from tests.filter.schema_cases import schema_case
from tests.filter.test_laws import NOW, fresh, made, some
from tests.strategies import events, payloads

EVENT = {"ip": "203.0.113.7", "os": {"type": 7}, "chat": ["canary"]}


def test_a_tally_is_made_when_it_is_asked_for() -> None:
    """The verdict on a mapping says what its tally comes to, which is then always the same one."""
    admission = made(load_schema("conferencing")).admit(EVENT)
    assert admission.verdict == (None, ("chat",), (("os.type", "wrong_type"),))
    assert admission.tally == Tally(
        received=1,
        admitted=1,
        dropped={"os.type": Counter({"wrong_type": 1})},
        content=Counter({"chat": 1}),
        bytes_out=len(admission.encode()),
    )
    assert admission.tally is admission.tally


def test_a_rejected_mapping() -> None:
    """It has no record, and its verdict says why."""
    admission = made(load_schema("conferencing")).admit({"chat": "canary"})
    assert admission.verdict == ("nothing_admitted", ("chat",), ())
    assert (admission.records, admission.encode()) == ([], b"")
    assert admission.tally.rejected == Counter(nothing_admitted=1)


def test_a_text_of_one_event() -> None:
    """It has a verdict too, and a size; a text of several events or of none has its tally."""
    filter_, text = made(load_schema("conferencing")), b'{"ip":"203.0.113.7","os":{"type":7}}'
    for admission in (filter_.admit(text), filter_.admit_lines(text)):
        assert admission.verdict == (None, (), (("os.type", "wrong_type"),))
        assert admission.bytes_in == admission.tally.bytes_in == len(text)
    assert filter_.admit(b"[{}]").verdict == ("nothing_admitted", (), ())
    assert filter_.admit(b"{").verdict == ("malformed", (), ())
    for several in (b"[]", b"[{},{}]"):
        assert filter_.admit(several).verdict is None
        assert filter_.admit(several).tally.bytes_in == len(several)


@st.deferred
def _of_every_kind() -> st.SearchStrategy[Any]:
    """Events of one schema, as mappings and as texts."""
    schema = schema_case("every-kind").schema
    return st.one_of(events(schema, now=NOW), payloads(schema, now=NOW))


@some
@given(st.lists(_of_every_kind, min_size=5, max_size=5), st.integers(1, 4))
def test_counts_are_the_sum_of_tallies(drawn: list[Any], most: int) -> None:
    filter_ = made(schema_case("every-kind").schema)
    admissions: list[Admission] = [filter_.admit(event) for event in drawn]
    total = Tally()
    counts, before = TallyAccumulator(total), tested._MAX_VERDICTS
    tested._MAX_VERDICTS = most
    try:
        for admission in (*admissions, *admissions):
            counts.add(admission)
            assert len(counts._verdicts) <= most
    finally:
        tested._MAX_VERDICTS = before
    expected = reduce(add, (admission.tally for admission in admissions), Tally())
    for _ in range(2):
        counts.flush()
        assert total == expected + expected


def test_counting_goes_on_after_settling() -> None:
    """What was counted into the total by others stays; each admission is counted once."""
    filter_, total = made(load_schema("conferencing")), Tally(received=5, admitted=5)
    counts = TallyAccumulator(total)
    for number in range(1, 4):
        counts.add(filter_.admit(EVENT))
        counts.flush()
        assert (total.received, total.content) == (5 + number, Counter(chat=number))
    counts.add(filter_.admit(b'[{"ip":"203.0.113.7"},{"ip":"203.0.113.8"}]'))
    assert total.received == 10
    assert total.dropped == {"os.type": Counter(wrong_type=3)}


def test_no_representation_shows_a_value() -> None:
    admission, counts = made(load_schema("conferencing")).admit(EVENT), TallyAccumulator(Tally())
    counts.add(admission)
    assert repr(admission) == str(admission) == f"{admission}" == "<Admission of 1 out of 1>"
    assert repr(counts) == "<TallyAccumulator of 1 verdicts>"


def test_what_a_call_may_become_is_bounded() -> None:
    filter_ = made(load_schema("conferencing"))
    for number in (1, 3, 1500):
        payload = b'{"ip":"203.0.113.7"}\n' * number
        size = len(filter_.admit_lines(payload).encode())
        exact = Bounds(events=number, bytes=size)
        assert filter_.admit_by_grant("ndjson", payload, bounds=exact)[0].tally.admitted == number
        with pytest.raises(InputError):
            filter_.admit_by_grant("ndjson", payload, bounds=Bounds(number, size - 1))
    listed = b'[{"ip":"203.0.113.7"},{"ip":"203.0.113.8"}]'
    assert filter_.admit_by_grant("json", listed, bounds=Bounds(2, 1000))[0].tally.admitted == 2
    with pytest.raises(InputError):
        filter_.admit_by_grant("json", listed, bounds=Bounds(1, 1000))


def test_all_documents_that_are_too_large_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each with all of its records."""
    monkeypatch.setattr(router, "MAX_ITEMS", 2)
    filter_ = fresh(load_schema("participants-qos"))
    document = b'{"participants":[{"device":"Mac"},{"device":"Mac"},{"device":"Mac"}]}\n'
    tally = filter_.admit_lines(document * 2).tally
    assert (tally.received, tally.rejected) == (6, {"too_large": 6})
