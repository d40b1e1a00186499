"""A body of OTLP as both encodings present it: the number of its items, and their signatures."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

from collector.contracts import Rejection
from collector.filter.otlp.attributes import (
    AttributeConsent,
    RefusedPurposes,
    Signature,
    WantedName,
)
from collector.filter.otlp.evaluation import ScopeBuilder


class BodyRejected(Exception):
    """Nothing of the body is admitted: the reason, and the number of items that it counts as."""

    def __init__(self, reason: Rejection, times: int = 1) -> None:
        super().__init__(reason)
        self.reason: Rejection = reason
        self.times = times


class WantedNames(Protocol):
    """The ``names`` of attributes that are read, with those below them; ``wanted`` is their set."""

    names: dict[str, WantedName]
    wanted: frozenset[str]


class OtlpBody(ABC):
    """A decoded body of ``item_count`` items."""

    item_count: int

    @abstractmethod
    def scopes(self) -> Iterator[tuple[Any, Any, Iterable[Any]]]:
        """Yield its scopes: a resource, a scope, and its items."""

    @abstractmethod
    def outer_signature(self, outer: Any, wanted: WantedNames) -> Signature:
        """Return the signature of a resource or a scope."""

    @abstractmethod
    def item_signature(self, item: Any, wanted: WantedNames) -> Signature | None:
        """Return the signature of an item; ``None`` if it is none. Raises ``BodyRejected``."""

    @abstractmethod
    def add_items(self, items: Iterable[Any], scope: ScopeBuilder) -> None:
        """Add the items of a scope. Raises ``BodyRejected``."""

    def scopes_by_consent(
        self, consent: AttributeConsent
    ) -> Iterator[tuple[RefusedPurposes, tuple[Any, Any, Iterable[Any]]]]:
        """Yield its scopes, each divided by the purposes that its items refuse.

        Consent is read before anything else.
        """
        for resource, scope, items in self.scopes():
            outer = self.outer_signature(resource, consent), self.outer_signature(scope, consent)
            groups: dict[RefusedPurposes, list[Any]] = {}
            for item in items:
                own = self.item_signature(item, consent) or ()
                groups.setdefault(consent.refused_in(own, *outer), []).append(item)
            for refused, group in groups.items():
                yield refused, (resource, scope, group)
