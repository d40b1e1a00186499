"""A body of OTLP as both encodings present it: the number of its items, and their signatures."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any, NamedTuple, Protocol

from collector.contracts import Rejection
from collector.filter.otlp.attributes import (
    AttributeConsent,
    RefusedPurposes,
    Signature,
    WantedName,
)

__all__ = ["BodyRejected", "OtlpBody", "ScopeItems", "WantedNames"]


class BodyRejected(Exception):
    """Nothing of the body is admitted: the reason, and the number of items that it counts as."""

    def __init__(self, reason: Rejection, times: int = 1) -> None:
        super().__init__(reason)
        self.reason: Rejection = reason
        self.times = times


class ScopeItems(NamedTuple):
    """The items of one scope: each signature with its number, in the order of the first of each.

    ``rejected`` has the numbers of elements that are no items.
    """

    resource: Signature
    scope: Signature
    items: dict[Signature, int]
    rejected: dict[Rejection, int]


class WantedNames(Protocol):
    """The ``names`` of attributes that are read, with those below them; ``wanted`` is their set."""

    names: dict[str, WantedName]
    wanted: frozenset[str]


class OtlpBody(ABC):
    """A decoded body of ``item_count`` items."""

    item_count: int

    @abstractmethod
    def scopes(self) -> Iterator[tuple[Any, Any, list[Iterable[Any]]]]:
        """Yield its scopes: a resource, a scope, and lists of items."""

    @abstractmethod
    def outer_signature(self, outer: Any, wanted: WantedNames) -> Signature:
        """Return the signature of a resource or a scope."""

    @abstractmethod
    def item_signatures(
        self, items: Iterable[Any], wanted: WantedNames
    ) -> tuple[dict[Signature, int], dict[Rejection, int]]:
        """Return the signatures of items with their numbers, and the numbers of other elements."""

    def scope_items(self, wanted: WantedNames) -> Iterator[ScopeItems]:
        """Yield its items, scope by scope. Raises ``BodyRejected``."""
        for resource, scope, lists in self.scopes():
            outer = self.outer_signature(resource, wanted), self.outer_signature(scope, wanted)
            yield ScopeItems(*outer, *self.item_signatures(chain.from_iterable(lists), wanted))

    def scope_items_by_consent(
        self, consent: AttributeConsent, wanted_for: Callable[[RefusedPurposes], WantedNames]
    ) -> Iterator[tuple[RefusedPurposes, ScopeItems]]:
        """Yield its items, scope by scope and by the purposes that they refuse.

        Consent is read before anything else; ``wanted_for`` returns the names to read then.
        """
        for resource, scope, lists in self.scopes():
            outer = self.outer_signature(resource, consent), self.outer_signature(scope, consent)
            groups: dict[RefusedPurposes, list[Any]] = {}
            for item in chain.from_iterable(lists):
                own, _ = self.item_signatures((item,), consent)
                groups.setdefault(consent.refused_in(*own, *outer), []).append(item)
            for refused, items in groups.items():
                wanted = wanted_for(refused)
                around = self.outer_signature(resource, wanted), self.outer_signature(scope, wanted)
                yield refused, ScopeItems(*around, *self.item_signatures(items, wanted))
