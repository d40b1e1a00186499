"""Filter items that are Python objects already, as an OpenTelemetry SDK has them.

They mean the same as in a body of OTLP. The admitted values of an item are divided by their origin:
the item itself (or its scope), or its resource.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from collector.contracts import Granted, Record, Rejection, Scalar, Tally
from collector.filter.admission import AdmissionBuilder
from collector.filter.judge import AGENT_OUTSIDE, OUTSIDE, Context, sender_context
from collector.filter.otlp import Items
from collector.filter.otlp.body import BODY, UNREAD
from collector.filter.plan import ITEMS

Attributes = dict[Any, Any]
"""Attributes: keys that are no texts are skipped; values count if they have exact types."""

_T = TypeVar("_T")


class _Surroundings(NamedTuple):
    """The context of items under one plan. ``outside`` has the sources of values that are the
    resource's: the scope's are the item's own, and ``scoped`` are the columns for which it has any.
    """

    around: Context
    scoped: frozenset[int]
    outside: frozenset[int]


class ItemContext(NamedTuple):
    """The attributes of a resource and a scope, with the context that they make by plan."""

    resource: Attributes
    scope: Attributes
    by_grant: dict[Granted, _Surroundings]


class ItemBatch(Generic[_T]):
    """One batch of items. Used by one thread, and briefly: resources are evaluated once.

    ``make`` makes a resource from its admitted attributes, once for equal ones.
    """

    def __init__(self, items: Items, make: Callable[[Record], _T]) -> None:
        self._items = items
        self._make = make
        self._counts = AdmissionBuilder(items.plan)
        self._admitted = 0
        self._resources: dict[tuple[tuple[str, Scalar], ...], _T] = {}
        self._names = items.plan.names

    def __repr__(self) -> str:
        return f"<ItemBatch of {self._items.plan.schema_id}>"

    def context(self, resource: Attributes, scope: Attributes) -> ItemContext:
        """Take what all items of a resource and a scope have in common."""
        return ItemContext(_plain(resource), _plain(scope), {})

    def admit(
        self, context: ItemContext, attributes: Attributes, *, body: bool = False
    ) -> tuple[Record, _T] | None:
        """Return the admitted values of an item, and its resource; ``None`` if it is no record.

        ``body`` says whether it has a body, which counts as content.
        """
        items = self._items.choosing(attributes, context.scope, context.resource)
        surroundings = context.by_grant.get(items.plan.granted)
        if surroundings is None:
            surroundings = _surround(items, context)
            context.by_grant[items.plan.granted] = surroundings
        members = {**attributes, BODY: UNREAD} if body else _plain(attributes)
        records, told = list[Any](), list[Any]()
        outcome = records, self._counts.notes, self._counts.rejected
        event = items.reader.of_object(members)
        judge = items.reader.judge("told", ITEMS)
        judge((event,), *outcome, surroundings.around, told.append)
        if not records:
            return None
        self._admitted += 1
        return self._divide(surroundings, *told[0])

    def _divide(
        self, context: _Surroundings, sources: Sequence[int], values: Sequence[Any], _: object
    ) -> tuple[Record, _T]:
        """Return an item's own values in schema order, and its resource with all others."""
        item: Record = {}
        rest: list[tuple[str, Scalar]] = []
        outside, scoped = context.outside, context.scoped
        for index, value in enumerate(values):
            if value is None:
                continue
            source = sources[index]
            if source in outside and not (source == OUTSIDE and index in scoped):
                rest.append((self._names[index], value))
            else:
                item[self._names[index]] = value
        key = tuple(rest)
        if key not in self._resources:
            self._resources[key] = self._make(dict(key))
        return item, self._resources[key]

    def reject(self, reason: Rejection) -> None:
        """Count an element that is no item."""
        self._counts.rejected.append(reason)

    def tally(self) -> Tally:
        """Add up the counts of the batch."""
        tally = Tally(self._admitted + len(self._counts.rejected), self._admitted)
        self._counts.count(tally)
        return tally


def _surround(items: Items, context: ItemContext) -> _Surroundings:
    """Evaluate what items of a resource and a scope have in common, under one plan."""
    nothing = sender_context(items.plan, None)
    around = items.within(context.resource, nothing)
    own = items.within(context.scope, nothing)
    pairs = enumerate(zip(own.values, own.drops, strict=True))
    scoped = frozenset(index for index, pair in pairs if pair != (None, None))
    outside = frozenset([OUTSIDE] if own.agent is not None else [OUTSIDE, AGENT_OUTSIDE])
    return _Surroundings(items.within(context.scope, around), scoped, outside)


def _plain(attributes: Attributes) -> Attributes:
    """Return attributes as a plain dictionary."""
    return attributes if type(attributes) is dict else dict(attributes)
