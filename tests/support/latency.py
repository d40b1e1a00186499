"""How long senders wait for a response during an attack, and how long work takes.

Times are asserted only with ``COLLECTOR_BOMBS=full`` (``make nightly``, on a quiet machine), in
tests with the marker ``timed``. Without it, these tests check responses and memory, and that
nothing hangs.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import ceil
from time import process_time

from tests.support.deadline import WAIT_SECONDS

BOMBS = os.environ.get("COLLECTOR_BOMBS", "few")
IS_FULL = BOMBS == "full"

_MOST_SECONDS = 0.1
"""The absolute limit of a p99."""
_MOST_TIMES = 5


def quantile(seconds: Sequence[float]) -> float:
    """The p99, by nearest rank."""
    return sorted(seconds)[ceil(len(seconds) * 0.99) - 1]


def assert_served(quiet: Sequence[float], attacked: Sequence[float]) -> None:
    """The p99 under attack is below the absolute limit."""
    assert quiet
    assert attacked
    assert not IS_FULL or quantile(attacked) < _MOST_SECONDS


def times_as_long(quiet: Sequence[float], attacked: Sequence[float]) -> float:
    """Return the p99 under an attack over the p99 without it."""
    return quantile(attacked) / quantile(quiet)


def is_served(quiet: Sequence[float], attacked: Sequence[float]) -> bool:
    """Return whether the p99 under an attack is at most five times the p99 without it."""
    return not IS_FULL or times_as_long(quiet, attacked) <= _MOST_TIMES


def at_most(seconds: float) -> float:
    """Return the limit for work that takes less than this on a quiet machine."""
    return seconds if IS_FULL else WAIT_SECONDS


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """The block takes less CPU time than this."""
    began = process_time()
    yield
    assert process_time() - began < at_most(seconds)
