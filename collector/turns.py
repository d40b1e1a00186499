"""Do long work a little at a time, so that other threads have their turns.

A small request passes through several threads and processes. If all CPUs are busy, Linux lets each
step wait until a time slice ends: some milliseconds. A thread that sleeps for a moment ends its
time slice, and releases the interpreter's lock.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from time import sleep
from typing import TypeVar

_MOMENT = 1e-6
"""Seconds; Linux sleeps about 60 microseconds. Later versions of Python do not sleep for zero."""
_T = TypeVar("_T")


def in_turns(items: Iterable[_T], number: int = 200) -> Iterator[_T]:
    """Yield items, and sleep for a moment after each ``number`` of them. So many should take less
    than a millisecond."""
    left = iter(items)
    some = [*islice(left, number)]
    while some:
        yield from some
        if some := [*islice(left, number)]:
            sleep(_MOMENT)
