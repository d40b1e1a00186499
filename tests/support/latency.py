"""How soon others are answered, and how long something takes.

Only ``COLLECTOR_BOMBS=full`` (``make nightly``, on a quiet machine) asserts it, in tests with the
marker ``timed``. Elsewhere these tests look at answers and memory, and fail for what hangs.
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
_FLOOR_SECONDS = 0.2
"""Linux gives each of several busy processes 3 to 24 ms at a time, in turn. A request needs four
changes of process (sender, server, disk, sender), each of which waits for some of them."""


def quantile(seconds: Sequence[float]) -> float:
    """The p99, by nearest rank."""
    return sorted(seconds)[ceil(len(seconds) * 0.99) - 1]


def assert_served(quiet: Sequence[float], attacked: Sequence[float]) -> None:
    """The p99 under attack is bounded, also by the p99 of the same senders without an attack."""
    assert quiet
    assert attacked
    without, under = quantile(quiet), quantile(attacked)
    assert not IS_FULL or under <= _MOST_TIMES * without + _FLOOR_SECONDS
    assert not IS_FULL or under < _MOST_SECONDS


def times_as_long(quiet: Sequence[float], attacked: Sequence[float]) -> float:
    """How many times their p99 without attacks that under one is."""
    return quantile(attacked) / quantile(quiet)


def is_served(quiet: Sequence[float], attacked: Sequence[float]) -> bool:
    """Whether the p99 under one attack is bounded, where limits are absolute."""
    return not IS_FULL or times_as_long(quiet, attacked) <= _MOST_TIMES


def at_most(seconds: float) -> float:
    """The limit of what takes less than so many seconds on a machine that does nothing else."""
    return seconds if IS_FULL else WAIT_SECONDS


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """What is done inside takes less CPU time than that."""
    began = process_time()
    yield
    assert process_time() - began < at_most(seconds)
