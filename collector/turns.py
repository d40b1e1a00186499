"""Do long work in short steps, so that other threads get their turns.

A small request passes through several threads and processes. When all CPUs are busy, Linux lets
each of these steps wait for the end of a time slice: some milliseconds. A thread that sleeps for a
moment ends its slice, and gives up the interpreter's lock.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from time import sleep
from typing import TypeVar

_MOMENT = 1e-6
"""Seconds; Linux sleeps for some 60 microseconds. With zero, later versions of Python do not
sleep."""
_T = TypeVar("_T")


def in_turns(items: Iterable[_T], number: int = 200) -> Iterator[_T]:
    """Yield items. After every ``number`` of them, which should take less than a millisecond, let
    other threads run."""
    left = iter(items)
    some = [*islice(left, number)]
    while some:
        yield from some
        if some := [*islice(left, number)]:
            sleep(_MOMENT)
