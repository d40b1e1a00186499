"""Filter items that are Python objects already, as an OpenTelemetry SDK has them.

They mean the same as in a body of OTLP. The admitted values of an item are divided by their origin:
the item itself (or its scope), or its resource.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, Generic, NamedTuple, TypeVar

from collector.contracts import Granted, Record, Rejection, Scalar, Tally
from collector.filter.otlp.attributes import (
    BODY,
    UNREAD,
    AttributeConsent,
    AttributeReader,
    AttributeValues,
    RefusedPurposes,
    Signature,
    WantedName,
)
from collector.filter.otlp.evaluation import Inheritance, InheritedValues, ItemCounts

Attributes = dict[Any, Any]
"""Attributes: keys that are no texts are skipped; values count if they have exact types."""

_SCALARS = frozenset(map(id, (bool, int, float)))
_Order = list[tuple[str, int]]
"""Field names with the numbers of their columns, as a record has them."""
_T = TypeVar("_T")


class ItemContext(NamedTuple):
    """The values that a resource and a scope give to their items.

    It ``is_plain`` if they are only values of the resource, of which nothing has to be counted and
    nothing was refused. ``divisions`` has, by the columns for which an item has own values, their
    order in a record, and the resource with all other values. Where consent is read, ``attributes``
    are those of resource and scope, and ``by_grant`` are the contexts under other plans.
    """

    inherited: InheritedValues
    scope: AttributeValues
    is_plain: bool
    divisions: dict[tuple[int, ...], tuple[_Order, Any]]
    attributes: tuple[Attributes, Attributes] | None = None
    by_grant: dict[Granted, ItemContext] = {}  # noqa: RUF012 - replaced wherever it is written


class ItemBatch(Generic[_T]):
    """One batch of items. Used by one thread, and briefly: resources are evaluated once.

    ``make`` makes a resource from its admitted attributes, once for equal ones; ``reader_without``
    returns the reader for items that refuse purposes.
    """

    def __init__(
        self,
        reader: AttributeReader,
        make: Callable[[Record], _T],
        consent: AttributeConsent | None = None,
        reader_without: Callable[[RefusedPurposes], AttributeReader] | None = None,
    ) -> None:
        self._consent = consent
        self._reader_without = reader_without
        self._by_grant: dict[Granted, ItemBatch[_T]] = {}
        self._plan = plan = reader.plan
        self._reader = reader
        self._make = make
        self._counts = ItemCounts(plan)
        self._plain: dict[int, int] = {}
        """Records of which nothing was dropped, by categories of content; added up at the end."""
        self._inheritance = Inheritance(reader)
        self._resources: dict[tuple[tuple[str, Scalar], ...], _T] = {}
        self._names = plan.names
        self._accept = [column.accept for column in plan.columns]
        self._columns = reader.columns
        self._body = 1 << reader.plain[BODY] - len(plan.columns)

    def __repr__(self) -> str:
        return f"<ItemBatch of {self._plan.schema_id}>"

    def context(self, resource: Attributes, scope: Attributes) -> ItemContext:
        """Evaluate what all items of a resource and a scope have in common."""
        if self._consent is None:
            return self._evaluate_context(resource, scope)
        has_choices = self._refused_in(resource, scope) is not None
        # all items refuse something then, and this plan must not read resource and scope
        context = self._evaluate_context(*(({}, {}) if has_choices else (resource, scope)))
        return context._replace(attributes=(resource, scope), by_grant={})

    def _evaluate_context(self, resource: Attributes, scope: Attributes) -> ItemContext:
        inherited = self._inheritance.of_scope(self._signature(resource), ())
        own = self._reader.values(self._signature(scope))
        has_more = inherited.codes or inherited.content or any(own) or self._plan.required
        return ItemContext(inherited, own, not (has_more or self._reader.selections), {})

    def admit(
        self, context: ItemContext, attributes: Attributes, *, body: bool = False
    ) -> tuple[Record, _T] | None:
        """Return the admitted values of an item, and its resource; ``None`` if it is no record.

        ``body`` says whether it has a body, which counts as content.
        """
        if context.attributes is not None:
            batch, context = self._batch_for(context, context.attributes, attributes)
            if batch is not self:
                return batch.admit(context, attributes, body=body)
        if not context.is_plain:
            return self._admit_slowly(context, attributes, body)
        columns, accept, many = self._columns, self._accept, len(self._accept)
        content = self._body if body else 0
        found: dict[int, Any] = {}
        for name, value in attributes.items():
            index = columns.get(name) if type(name) is str else None
            if index is None:
                continue
            if 0 <= index < many and index not in found and type(value) is str:
                result = found[index] = accept[index](value)
                if result is not None:
                    continue
            elif index >= many and value is not None:
                content |= 1 << index - many
                continue
            return self._admit_slowly(context, attributes, body)
        if not found:
            return self._admit_slowly(context, attributes, body)
        self._plain[content] = self._plain.get(content, 0) + 1
        return self._divide(context, found)

    def _refused_in(self, *attributes: Attributes) -> RefusedPurposes:
        consent = self._consent
        if consent is None:
            return None
        return consent.refused_in(*(_signature(each, consent.names) for each in attributes))

    def _batch_for(
        self, context: ItemContext, outer: tuple[Attributes, Attributes], attributes: Attributes
    ) -> tuple[ItemBatch[_T], ItemContext]:
        """Return the batch that an item's choices require, and the item's context there."""
        refused = self._refused_in(attributes, *outer)
        if refused is None or self._reader_without is None:
            return self, context
        reader = self._reader_without(refused)
        granted = reader.plan.granted
        if granted not in self._by_grant:
            self._by_grant[granted] = self._items_without_consent(reader)
        batch = self._by_grant[granted]
        if granted not in context.by_grant:
            context.by_grant[granted] = batch.context(*outer)
        return batch, context.by_grant[granted]

    def _items_without_consent(self, reader: AttributeReader) -> ItemBatch[_T]:
        """Make a batch for items whose choices are known; its counts are those of this one."""
        batch = ItemBatch(reader, self._make)
        batch._counts, batch._plain = self._counts, self._plain
        return batch

    def _admit_slowly(
        self, context: ItemContext, attributes: Attributes, body: bool
    ) -> tuple[Record, _T] | None:
        inherited, scope, *_ = context
        signature = self._signature(attributes)
        if not self._reader.selects(signature):
            self._counts.reject("not_selected")
            return None
        own = self._reader.values((*signature, (BODY, True)) if body else signature).over(scope)
        values, codes = self._inheritance.evaluate_item(inherited, own)
        if not self._counts.count(values, codes, inherited.content | own.content):
            return None
        return self._divide(
            context, {index: values[index] for index in self._own_columns(inherited, own)}
        )

    def _own_columns(self, inherited: InheritedValues, own: AttributeValues) -> set[int]:
        """Return the columns for which an item has own values, its user agent included."""
        if own.agent is None:
            return set(own.values)
        derived = (column.index for column in self._plan.columns if column.derived is not None)
        return {*own.values, *(index for index in derived if inherited.found[index] is None)}

    def _divide(self, context: ItemContext, own: dict[int, Any]) -> tuple[Record, _T]:
        """Return an item's own values in schema order, and its resource with all others."""
        columns = tuple(own)
        division = context.divisions.get(columns)
        if division is None:
            division = self._order(own), self._resource(context.inherited, own)
            context.divisions[columns] = division
        order, resource = division
        item: Record = {}
        for name, index in order:
            value = own[index]
            if value is not None:
                item[name] = value
        return item, resource

    def _order(self, own: Collection[int]) -> _Order:
        return [(name, index) for index, name in enumerate(self._names) if index in own]

    def _resource(self, inherited: InheritedValues, own: Collection[int]) -> _T:
        """Return the resource with the values that an item does not have itself."""
        pairs = enumerate(zip(self._names, inherited.canonical, strict=True))
        rest = tuple(pair for index, pair in pairs if index not in own and pair[1] is not None)
        if rest not in self._resources:
            self._resources[rest] = self._make(dict(rest))
        return self._resources[rest]

    def reject(self, reason: Rejection) -> None:
        """Count an element that is no item."""
        self._counts.reject(reason)

    def tally(self) -> Tally:
        """Add up the counts of the batch."""
        for content, times in self._plain.items():
            self._counts.count_records(content, times)
        self._plain.clear()
        return self._counts.tally()

    def _signature(self, attributes: Attributes) -> Signature:
        return _signature(attributes, self._reader.names)


def _signature(attributes: Attributes, names: dict[str, WantedName]) -> Signature:
    return tuple(
        (name, _value(value, names[name]))
        for name, value in attributes.items()
        if type(name) is str and name in names
    )


def _value(value: Any, wanted: WantedName) -> Any:
    """Convert a value to the form that it has in a signature."""
    kind = type(value)
    if value is None:
        return None
    if kind is dict and wanted.below:
        below = wanted.below
        return dict, tuple(
            (name, _value(inner, below[name]))
            for name, inner in value.items()
            if type(name) is str and name in below
        )
    if not wanted.is_read:
        return UNREAD
    if kind is str:
        return value
    return (kind, value) if id(kind) in _SCALARS else UNREAD
