"""Filter items that are Python objects already, as an OpenTelemetry SDK has them.

They are filtered like the items of an OTLP body. An item's admitted values are divided by origin:
the item itself (or its scope), or its resource.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from collector.contracts import Granted, Record, Rejection, Scalar, Tally
from collector.filter.admission import AdmissionBuilder
from collector.filter.judge import AGENT_OUTSIDE, OUTSIDE, Context, sender_context
from collector.filter.otlp.attributes import (
    BODY,
    UNREAD,
    ItemConsent,
    RefusedPurposes,
)
from collector.filter.plan import ITEMS, Plan
from collector.filter.reader import Reader

Attributes = dict[Any, Any]
"""Attributes: keys other than ``str`` are skipped; only values of exact built-in types count."""

_T = TypeVar("_T")


class ItemContext(NamedTuple):
    """The values that a resource and a scope give to their items.

    ``outside`` has the sources of values that belong to the resource. Values of the scope count as
    the item's own; ``scoped`` are the columns for which it has any. If consent is read,
    ``attributes`` are those of resource and scope, and ``by_grant`` has the contexts under other
    plans.
    """

    around: Context
    scoped: frozenset[int]
    outside: frozenset[int]
    attributes: tuple[Attributes, Attributes] | None = None
    by_grant: dict[Granted, ItemContext] = {}  # noqa: RUF012 - replaced wherever it is written


class ItemBatch(Generic[_T]):
    """One batch of items. For one thread and a short time: each resource is evaluated once.

    ``make`` makes a resource from its admitted attributes, once for equal attributes; ``without``
    returns the plan and the reader for items that refuse purposes.
    """

    def __init__(
        self,
        plan: Plan,
        reader: Reader,
        make: Callable[[Record], _T],
        consent: ItemConsent | None = None,
        without: Callable[[RefusedPurposes], tuple[Plan, Reader]] | None = None,
    ) -> None:
        self._plan = plan
        self._reader = reader
        self._judge = reader.judge("told", ITEMS)
        self._make = make
        self._consent = consent
        self._without = without
        self._by_grant: dict[Granted, ItemBatch[_T]] = {}
        self._counts = AdmissionBuilder(plan)
        self._admitted = [0]
        self._resources: dict[tuple[tuple[str, Scalar], ...], _T] = {}
        self._names = plan.names

    def __repr__(self) -> str:
        return f"<ItemBatch of {self._plan.schema_id}>"

    def context(self, resource: Attributes, scope: Attributes) -> ItemContext:
        """Evaluate the context that all items of a resource and a scope share."""
        if self._consent is None:
            return self._evaluate_context(resource, scope)
        has_choices = self._consent.refused_in(resource, scope) is not None
        # then all items have choices, and this plan must not read resource and scope
        context = self._evaluate_context(*(({}, {}) if has_choices else (resource, scope)))
        return context._replace(attributes=(resource, scope), by_grant={})

    def _evaluate_context(self, resource: Attributes, scope: Attributes) -> ItemContext:
        reader, nothing = self._reader, sender_context(self._plan, None)
        around = reader.surround(reader.of_object(_plain(resource)), nothing, None)
        if not scope:
            return ItemContext(around, frozenset(), frozenset([OUTSIDE, AGENT_OUTSIDE]))
        event = reader.of_object(_plain(scope))
        own = reader.surround(event, nothing, None)
        pairs = enumerate(zip(own.values, own.drops, strict=True))
        scoped = frozenset(index for index, pair in pairs if pair != (None, None))
        outside = frozenset([OUTSIDE] if own.agent is not None else [OUTSIDE, AGENT_OUTSIDE])
        return ItemContext(reader.surround(event, around, None), scoped, outside)

    def admit(
        self, context: ItemContext, attributes: Attributes, *, body: bool = False
    ) -> tuple[Record, _T] | None:
        """Return the admitted values of an item, and its resource; ``None`` if it becomes no
        record.

        ``body`` says whether it has a body, which counts as content.
        """
        if context.attributes is not None:
            batch, context = self._batch_for(context, context.attributes, attributes)
            if batch is not self:
                return batch.admit(context, attributes, body=body)
        members = {**attributes, BODY: UNREAD} if body else _plain(attributes)
        records: list[Any] = []
        told: list[Any] = []
        counts, event = self._counts, self._reader.of_object(members)
        outcome = records, counts.notes, counts.rejected
        self._judge((event,), *outcome, context.around, told.append)
        if not records:
            return None
        self._admitted[0] += 1
        return self._divide(context, *told[0])

    def _batch_for(
        self, context: ItemContext, outer: tuple[Attributes, Attributes], attributes: Attributes
    ) -> tuple[ItemBatch[_T], ItemContext]:
        """Return the batch that an item's choices require, and the item's context there."""
        refused = None if self._consent is None else self._consent.refused_in(attributes, *outer)
        if refused is None or self._without is None:
            return self, context
        plan, reader = self._without(refused)
        granted = plan.granted
        if granted not in self._by_grant:
            batch = self._by_grant[granted] = ItemBatch(plan, reader, self._make)
            batch._counts, batch._admitted = self._counts, self._admitted
        batch = self._by_grant[granted]
        if granted not in context.by_grant:
            context.by_grant[granted] = batch.context(*outer)
        return batch, context.by_grant[granted]

    def _divide(
        self, context: ItemContext, sources: Sequence[int], values: Sequence[Any], _: object
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
        """Count an element that is not an item."""
        self._counts.rejected.append(reason)

    def tally(self) -> Tally:
        """Add up the counts of the batch."""
        admitted = self._admitted[0]
        tally = Tally(admitted + len(self._counts.rejected), admitted)
        self._counts.count(tally)
        return tally


def _plain(attributes: Attributes) -> Attributes:
    return attributes if type(attributes) is dict else dict(attributes)
