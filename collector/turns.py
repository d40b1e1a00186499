"""Long work, done a little at a time, so that others have their turns.

A small request passes through several threads and processes. Where all CPUs compute, Linux lets
each of these steps wait until a time slice ends: some milliseconds. A thread that sleeps for a
moment ends its slice, and gives up the interpreter's lock.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from time import sleep
from typing import TypeVar

_MOMENT = 1e-6
"""Seconds; Linux makes some 60 microseconds of it. Of zero, later versions of Python make none."""
_T = TypeVar("_T")


def in_turns(items: Iterable[_T], number: int = 200) -> Iterator[_T]:
    """Yield items, so many at a time, which should take less than a millisecond; others go on
    before the next ones."""
    left = iter(items)
    some = [*islice(left, number)]
    while some:
        yield from some
        if some := [*islice(left, number)]:
            sleep(_MOMENT)
