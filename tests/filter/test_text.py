"""Texts before they are parsed: cut into parts of whole lines, and their objects counted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector import Filter, load_schema
from collector.filter.otlp.wire import MAX_PARTS
from collector.filter.text import has_more_objects, slices

_TEXTS = st.lists(st.sampled_from([b"a", b"bc", b"\n", b"\r\n"]), max_size=30).map(b"".join)


@given(_TEXTS, st.integers(1, 40), st.integers(1, 20))
def test_parts_are_whole_lines_and_no_more_than_asked_for(
    payload: bytes, size: int, number: int
) -> None:
    """Together they are the payload; only a single line is longer than asked for, only the last
    may lack its end."""
    parts = list(slices(payload, size, number))
    assert b"".join(parts) == payload
    for part in parts:
        assert 0 < part.count(b"\n") <= number or part is parts[-1]
        assert len(part) <= size or b"\n" not in part[:-1]
        assert part.endswith(b"\n") or part is parts[-1]


@given(st.integers(0, 30), st.integers(0, 30), st.integers(0, 40))
def test_objects_are_counted_outside_of_texts(objects: int, texts: int, most: int) -> None:
    """Those in strings are none."""
    text = b"[" + b",".join([b"{}"] * objects + [rb'"{\"{"'] * texts) + b"]"
    assert has_more_objects(text, most) == (objects > most)


@pytest.mark.parametrize("number", [MAX_PARTS - 5, MAX_PARTS + 1])
def test_objects_of_otlp(number: int) -> None:
    """As many as protobuf may have messages; a body of more is not decoded at all."""
    body = b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[{}]}]}],"a":[%b{}]}' % (b"{}," * number)
    tally = Filter(load_schema("conferencing")).admit_otlp("logs", body, protobuf=False).tally
    reason = "too_large" if number > MAX_PARTS else "nothing_admitted"
    assert tally.rejected == {reason: 1}
