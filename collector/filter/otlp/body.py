"""The common form of OTLP bodies in both encodings: the number of items, and their attributes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

from collector.contracts import Rejection
from collector.filter.otlp.attributes import ItemConsent, RefusedPurposes
from collector.filter.shape import Shape

Members = dict[str, Any]
"""The wanted attributes by name, with the body as ``BODY``."""


class BodyRejected(Exception):
    """The whole body is rejected, for a reason; it counts as ``times`` items."""

    def __init__(self, reason: Rejection, times: int = 1) -> None:
        super().__init__(reason)
        self.reason: Rejection = reason
        self.times = times


class Wanted(Protocol):
    """Says by its ``shape`` which attributes are read."""

    shape: Shape


class OtlpBody(ABC):
    """A decoded body of ``item_count`` items."""

    item_count: int

    @abstractmethod
    def scopes(self) -> Iterator[tuple[Any, Any, Iterable[Any]]]:
        """Yield its scopes: a resource, a scope, and its items."""

    @abstractmethod
    def outer_members(self, outer: Any, wanted: Wanted) -> Members:
        """Return the attributes of a resource or a scope."""

    @abstractmethod
    def item_members(self, item: Any, wanted: Wanted) -> Members | None:
        """Return the attributes of an item; ``None`` if it is not an item. Raises
        ``BodyRejected``."""

    def scopes_by_consent(
        self, consent: ItemConsent
    ) -> Iterator[tuple[RefusedPurposes, tuple[Any, Any, Iterable[Any]]]]:
        """Yield its scopes, each divided by the purposes that its items refuse.

        Consent is read before anything else.
        """
        for resource, scope, items in self.scopes():
            outer = self.outer_members(resource, consent), self.outer_members(scope, consent)
            groups: dict[RefusedPurposes, list[Any]] = {}
            for item in items:
                own = self.item_members(item, consent) or {}
                groups.setdefault(consent.refused_in(own, *outer), []).append(item)
            for refused, group in groups.items():
                yield refused, (resource, scope, group)
