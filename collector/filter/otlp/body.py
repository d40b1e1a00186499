"""A body of OTLP as both encodings hand it on: how many items it has, and what is found in them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any, NamedTuple, Protocol

from collector.contracts import Rejection
from collector.filter.otlp.attributes import Name, Signature
from collector.filter.otlp.hearing import Hearing

__all__ = ["Body", "Group", "Heard", "Looks", "Refused"]

Heard = frozenset[str] | None
"""The purposes that somebody refuses; ``None``: nobody says anything."""


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


class Looks(Protocol):
    """What is looked for in attributes."""

    @property
    def names(self) -> dict[str, Name]:
        """The names, and what is looked for below them."""

    @property
    def wanted(self) -> frozenset[str]:
        """The names alone."""


class Body(ABC):
    """A decoded body of ``number`` items."""

    number: int

    @abstractmethod
    def scopes(self) -> Iterator[tuple[Any, Any, list[Iterable[Any]]]]:
        """Its scopes: a resource, a scope, and lists of items."""

    @abstractmethod
    def around(self, outer: Any, looks: Looks) -> Signature:
        """The signature of a resource or a scope."""

    @abstractmethod
    def gathered(
        self, items: Iterable[Any], looks: Looks
    ) -> tuple[dict[Signature, int], dict[Rejection, int]]:
        """The signatures of items with their numbers, and those that are no items."""

    def groups(self, looks: Looks) -> Iterator[Group]:
        """Its items, scope by scope. Raises ``Refused``."""
        for resource, scope, lists in self.scopes():
            outer = self.around(resource, looks), self.around(scope, looks)
            yield Group(*outer, *self.gathered(chain.from_iterable(lists), looks))

    def parted(
        self, hearing: Hearing, looks: Callable[[Heard], Looks]
    ) -> Iterator[tuple[Heard, Group]]:
        """The same, for each scope apart by what is refused, which is read before anything else;
        ``looks`` says what is looked for then."""
        for resource, scope, lists in self.scopes():
            outer = self.around(resource, hearing), self.around(scope, hearing)
            parts: dict[Heard, list[Any]] = {}
            for item in chain.from_iterable(lists):
                own, _ = self.gathered((item,), hearing)
                parts.setdefault(hearing.of(*own, *outer), []).append(item)
            for heard, items in parts.items():
                found = looks(heard)
                around = self.around(resource, found), self.around(scope, found)
                yield heard, Group(*around, *self.gathered(items, found))
