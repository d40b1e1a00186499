"""Items that are Python objects already, as an OpenTelemetry SDK has them.

They mean what they would mean as a body of OTLP. What is admitted of an item is told apart by where
it came from: the item itself (or its scope), or its resource.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, NamedTuple, TypeVar

from collector.contracts import Record, Rejection, Tally
from collector.filter.compile import Plan
from collector.filter.otlp.account import Counts
from collector.filter.otlp.attributes import BODY, UNREAD, Name, Own, Reading, Signature
from collector.filter.otlp.level import Level, Levels

__all__ = ["Attributes", "Items", "Place"]

Attributes = dict[Any, Any]
"""Attributes: keys that are no texts are passed over, values count if they are of exact types."""

_SCALARS = frozenset(map(id, (bool, int, float)))
_T = TypeVar("_T")


class Place(NamedTuple):
    """What a resource and a scope offer to their items."""

    level: Level
    scope: Own
    is_plain: bool
    """Whether nothing but values of the resource has to be counted or overridden."""


class Items(Generic[_T]):
    """One batch of items. ``make`` makes a resource out of what of its attributes is admitted; it
    is called once for what is the same.

    Used by one thread, and only for a moment: the values of resources are settled once.
    """

    def __init__(self, plan: Plan, reading: Reading, make: Callable[[Record], _T]) -> None:
        self._plan = plan
        self._reading = reading
        self._make = make
        self._counts = Counts(plan)
        self._levels = Levels(plan, reading)
        self._made: dict[tuple[int, int], _T] = {}
        self._names = plan.names
        self._accept = [column.accept for column in plan.columns]
        self._columns = reading.columns
        self._body = 1 << reading.plain[BODY] - len(plan.columns)

    def __repr__(self) -> str:
        return f"<Items of {self._plan.schema_id}>"

    def place(self, resource: Attributes, scope: Attributes) -> Place:
        """What all items of a resource and a scope have in common."""
        level = self._levels.level(self._signature(resource), ())
        own = self._reading.own(self._signature(scope))
        plain = not (level.codes or level.content or any(own) or self._plan.required)
        return Place(level, own, plain)

    def admit(
        self, place: Place, attributes: Attributes, *, body: bool = False
    ) -> tuple[Record, _T] | None:
        """What is admitted of an item, and its resource; ``None`` if it is no record.

        ``body`` says whether it has one, which counts as content.
        """
        if not place.is_plain:
            return self._admit_slowly(place, attributes, body)
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
            return self._admit_slowly(place, attributes, body)
        if not found:
            return self._admit_slowly(place, attributes, body)
        self._counts.count(content)
        return self._told(place.level, found)

    def _admit_slowly(
        self, place: Place, attributes: Attributes, body: bool
    ) -> tuple[Record, _T] | None:
        level, scope, _ = place
        signature = self._signature(attributes)
        own = self._reading.own((*signature, (BODY, True)) if body else signature).over(scope)
        kept, codes = self._levels.outcome(level, own)
        if not self._counts.is_record(kept, codes, level.content | own.content):
            return None
        return self._told(level, {index: kept[index] for index in self._own_columns(level, own)})

    def _own_columns(self, level: Level, own: Own) -> set[int]:
        """The columns about which an item itself says something, if only by its user agent."""
        if own.agent is None:
            return set(own.values)
        said = (column.index for column in self._plan.columns if column.derived is not None)
        return {*own.values, *(index for index in said if level.found[index] is None)}

    def _told(self, level: Level, own: dict[int, Any]) -> tuple[Record, _T]:
        """An item's own values in schema order, whatever theirs was, and its resource."""
        names = self._names
        mask = 0
        item: Record = {}
        for index in sorted(own):
            mask |= 1 << index
            value = own[index]
            if value is not None:
                item[names[index]] = value
        made = self._made.get((id(level), mask))  # levels live as long as this does
        if made is None:
            made = self._made[id(level), mask] = self._make(
                {
                    names[index]: value
                    for index, value in enumerate(level.kept)
                    if value is not None and index not in own
                }
            )
        return item, made

    def reject(self, reason: Rejection) -> None:
        """Count what is no item."""
        self._counts.reject(reason)

    def tally(self) -> Tally:
        """The counts of all of it."""
        return self._counts.tally()

    def _signature(self, attributes: Attributes) -> Signature:
        names = self._reading.names
        return tuple(
            (name, _value(value, names[name]))
            for name, value in attributes.items()
            if type(name) is str and name in names
        )


def _value(value: Any, sought: Name) -> Any:
    """A value in the form of a signature's."""
    kind = type(value)
    if value is None:
        return None
    if kind is dict and sought.below:
        below = sought.below
        return dict, tuple(
            (name, _value(inner, below[name]))
            for name, inner in value.items()
            if type(name) is str and name in below
        )
    if not sought.is_read:
        return UNREAD
    if kind is str:
        return value
    return (kind, value) if id(kind) in _SCALARS else UNREAD
