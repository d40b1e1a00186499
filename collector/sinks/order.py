"""An order that tells nothing: where rows and lines go must not say who came with whom."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from operator import itemgetter
from typing import TypeVar

from collector.contracts import Row

__all__ = ["Places", "shuffled"]

_T = TypeVar("_T")

_ROOM = 1 << 36
"""Places that a row may get, by chance, from ``Places.base`` on. So many are free that rows seldom
want the same one: in 1 of 1,000 transactions of 4,000 rows. There are places for 2 · 10¹² rows."""
_MIXED = 1 << 14
"""Rows among which a new one lies. More are more pages to write: each of these has some of it."""
_STEP = _ROOM // _MIXED
_DENSE = 1 << 30
"""A last place below this one is of a table that was made anew, whose rows are at 1, 2, 3 and so
on; or by chance, which does no harm."""
_LAST = (1 << 63) - 1


class Places:
    """Where the next rows of a table go: each to a random place among the newest 16,384.

    That is all there are in a small table, and all of a minute unless more come in one. The table
    grows at its end, a row's share at a time, wherever the row itself lies; so what comes last
    does not lie there alone. In one that was made anew, rows go behind those that are there.
    ``last`` is the table's highest ``rowid``.
    """

    def __init__(self, last: int) -> None:
        self.base: int = 0
        self._move_to(last if last < _DENSE else last - _ROOM)

    def rows(self, parts: Iterable[tuple[str, Sequence[Row]]]) -> list[Row]:
        """Rows with their place and minute in front, in the order of places; ``parts`` are minutes
        with the rows that came in them. Places may be taken already, if seldom."""
        base, mask, placed = self.base, _ROOM - 1, list[Row]()
        for minute, rows in parts:
            keys = _keys(len(rows))
            placed += [
                (base + (key & mask), minute, *row) for key, row in zip(keys, rows, strict=True)
            ]
        placed.sort(key=itemgetter(0))
        return placed

    def taken(self, number: int) -> None:
        """So many rows are there now."""
        self._move_to(self.base + number * _STEP)

    def _move_to(self, base: int) -> None:
        self.base = min(max(self.base, base), _LAST - _ROOM)


def shuffled(items: Sequence[_T]) -> list[_T]:
    """The same in random order."""
    keys = _keys(len(items))
    return [items[index] for index in sorted(range(len(items)), key=keys.__getitem__)]


def _keys(number: int) -> list[int]:
    return memoryview(os.urandom(8 * number)).cast("Q").tolist()
