"""Payloads cut into parts of whole lines."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from collector.filter.text import slices

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
