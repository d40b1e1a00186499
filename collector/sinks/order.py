"""An order that tells nothing: where rows and lines go must not say who came with whom."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime
from operator import itemgetter
from typing import TypeVar

from collector.contracts import Row

__all__ = ["placed", "shuffled"]

_T = TypeVar("_T")
_BITS = 39
"""Random bits of a place. The minutes of 32 years take the other 24 of a positive ``rowid``."""


def placed(received: str, rows: Sequence[Row]) -> list[Row]:
    """Rows with their place and minute in front, in the order of places.

    A place is the minute, and at random within it: so batches of one minute are mixed as well, and
    a table still grows at its end. Places may be taken already, if seldom.
    """
    try:
        minute = int(datetime.fromisoformat(received).timestamp()) // 60
    except (ValueError, OverflowError):
        minute = 0
    base, mask = (minute % (1 << 24)) << _BITS, (1 << _BITS) - 1
    front = [(base | key & mask, received) for key in _keys(len(rows))]
    placed = [place + row for place, row in zip(front, rows, strict=True)]
    placed.sort(key=itemgetter(0))
    return placed


def shuffled(items: Sequence[_T]) -> list[_T]:
    """The same in random order."""
    keys = _keys(len(items))
    return [items[index] for index in sorted(range(len(items)), key=keys.__getitem__)]


def _keys(number: int) -> list[int]:
    return memoryview(os.urandom(8 * number)).cast("Q").tolist()
