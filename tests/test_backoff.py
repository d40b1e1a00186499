"""Pauses after failures."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from collector.backoff import Backoff


@given(st.floats(0.01, 1.0), st.floats(1.0, 60.0), st.integers(1, 20))
def test_pauses_grow_to_the_longest_and_begin_anew(
    first: float, longest: float, failures: int
) -> None:
    """Each is drawn around twice the one before it; a success forgets them."""
    backoff = Backoff(first, longest)
    for number in range(failures):
        middle = min(first * 2**number, longest)
        assert 0.5 * middle <= backoff.pause() <= 1.5 * middle
    backoff.reset()
    assert backoff.pause() <= 1.5 * first
