"""Records in random order: what lay beside each other would tell who met whom."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TypeVar

__all__ = ["random_order", "shuffled"]

_T = TypeVar("_T")


def random_order(number: int) -> list[int]:
    """Return the numbers below one, in an order that nobody can foresee."""
    keys = memoryview(os.urandom(8 * number)).cast("Q").tolist()
    return sorted(range(number), key=keys.__getitem__)


def shuffled(items: Sequence[_T]) -> list[_T]:
    """Return items in random order."""
    return [items[at] for at in random_order(len(items))]
