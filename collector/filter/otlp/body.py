"""A body of OTLP as both encodings hand it on: how many items it has, and what is found in them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

from collector.contracts import Rejection
from collector.filter.otlp.attributes import Signature

__all__ = ["Body", "Group", "Refused"]


class Refused(Exception):
    """A body of which nothing is taken: why, and as how many items it counts."""

    def __init__(self, reason: Rejection, times: int = 1) -> None:
        super().__init__(reason)
        self.reason: Rejection = reason
        self.times = times


class Group(NamedTuple):
    """The items of one scope: each signature with its number, in the order of the first of each,
    and those that are no items."""

    resource: Signature
    scope: Signature
    items: dict[Signature, int]
    rejected: dict[Rejection, int]


class Body(Protocol):
    """A decoded body of ``number`` items."""

    number: int

    def groups(self) -> Iterator[Group]:
        """Its items, scope by scope. Raises ``Refused``."""
