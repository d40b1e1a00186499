"""Numbers as the order of things that are all alike otherwise, and back.

The things are numbered from 0 in their own order. A number is written in the factorial number
system, each of whose digits picks one of the things that are left.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import factorial

MEMBER = "rate_"
"""The beginning of the names of members whose order spells; their number follows."""
LEAST = 8
"""Fewer things than these spell nothing: their order is one by accident."""


def ordered(number: int) -> list[int]:
    """Return the order that stands for a number, of as few things as it takes."""
    count = LEAST
    while factorial(count) <= number:
        count += 1
    left = list(range(count))
    order = []
    for at in range(count - 1, -1, -1):
        digit, number = divmod(number, factorial(at))
        order.append(left.pop(digit))
    return order


def rank(order: Sequence[int]) -> int | None:
    """Return the number that an order stands for; none if a thing is not there, or there twice."""
    left = list(range(len(order)))
    if len(order) < LEAST or sorted(order) != left:
        return None
    number = 0
    for thing in order:
        digit = left.index(thing)
        number = number * len(left) + digit
        left.pop(digit)
    return number
