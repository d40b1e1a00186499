"""Objects in a text are counted before it is parsed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector import Filter, load_schema
from collector.filter.otlp.wire import MAX_PARTS
from collector.filter.shape import has_more_objects


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
