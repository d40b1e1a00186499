"""Items that are Python objects already, as an OpenTelemetry SDK has them.

They mean what they would mean as a body of OTLP. What is admitted of an item is told apart by where
it came from: the item itself (or its scope), or its resource.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from collector.contracts import Granted, Record, Rejection, Scalar, Tally
from collector.filter.compile import Plan
from collector.filter.otlp.account import Counts
from collector.filter.otlp.attributes import BODY, UNREAD, Name, Own, Reading, Signature
from collector.filter.otlp.body import Heard
from collector.filter.otlp.hearing import Hearing
from collector.filter.otlp.level import Level, Levels

if TYPE_CHECKING:
    from collector.filter.otlp.run import Otlp

__all__ = ["Attributes", "Items", "Place"]

Attributes = dict[Any, Any]
"""Attributes: keys that are no texts are passed over, values count if they are of exact types."""

_SCALARS = frozenset(map(id, (bool, int, float)))
_Order = list[tuple[str, int]]
"""Field names with the numbers of their columns, as a record has them."""
_T = TypeVar("_T")


class Place(NamedTuple):
    """What a resource and a scope offer to their items. It ``is_plain`` if there is nothing but
    values of the resource, none of which has to be counted or was refused.

    ``told`` has, for the columns that an item speaks of itself, their order in a record, and the
    resource with all others. ``around`` are the attributes of resource and scope, and ``others``
    what they offer where something is refused, if choices are heard.
    """

    level: Level
    scope: Own
    is_plain: bool
    told: dict[tuple[int, ...], tuple[_Order, Any]]
    around: tuple[Attributes, Attributes] | None = None
    others: dict[Granted, Place] = {}  # noqa: RUF012 - one of its own where anything is in it


class Items(Generic[_T]):
    """One batch of items. ``make`` makes a resource out of what of its attributes is admitted; it
    is called once for what is the same.

    Used by one thread, and only for a moment: the values of resources are settled once.
    """

    def __init__(
        self,
        plan: Plan,
        reading: Reading,
        make: Callable[[Record], _T],
        hearing: Hearing | None = None,
        other: Callable[[Heard], Otlp] | None = None,
    ) -> None:
        self._hearing = hearing
        self._other = other
        self._others: dict[Granted, Items[_T]] = {}
        self._plan = plan
        self._reading = reading
        self._make = make
        self._counts = Counts(plan)
        self._plain: dict[int, int] = {}
        """Records of which nothing was dropped, by categories of content; added up at the end."""
        self._levels = Levels(plan, reading)
        self._made: dict[tuple[tuple[str, Scalar], ...], _T] = {}
        self._names = plan.names
        self._accept = [column.accept for column in plan.columns]
        self._columns = reading.columns
        self._body = 1 << reading.plain[BODY] - len(plan.columns)

    def __repr__(self) -> str:
        return f"<Items of {self._plan.schema_id}>"

    def place(self, resource: Attributes, scope: Attributes) -> Place:
        """What all items of a resource and a scope have in common."""
        if self._hearing is not None:
            return self._place_of_choices(resource, scope)
        return self._place(resource, scope)

    def _place(self, resource: Attributes, scope: Attributes) -> Place:
        level = self._levels.level(self._signature(resource), ())
        own = self._reading.own(self._signature(scope))
        plain = not (level.codes or level.content or any(own) or self._plan.required)
        return Place(level, own, plain, {})

    def admit(
        self, place: Place, attributes: Attributes, *, body: bool = False
    ) -> tuple[Record, _T] | None:
        """What is admitted of an item, and its resource; ``None`` if it is no record.

        ``body`` says whether it has one, which counts as content.
        """
        if place.around is not None:
            taker, place = self._taker(place, place.around, attributes)
            if taker is not self:
                return taker.admit(place, attributes, body=body)
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
        self._plain[content] = self._plain.get(content, 0) + 1
        return self._told(place, found)

    def _place_of_choices(self, resource: Attributes, scope: Attributes) -> Place:
        """A place at which choices are to be heard. Where resource or scope carry some, this plan
        takes nothing of either."""
        around = resource, scope
        place = self._place(*around) if self._heard(*around) is None else self._place({}, {})
        return place._replace(around=around, others={})

    def _heard(self, *attributes: Attributes) -> Heard:
        hearing = self._hearing
        if hearing is None:
            return None
        return hearing.of(*(_signature(each, hearing.names) for each in attributes))

    def _taker(
        self, place: Place, around: tuple[Attributes, Attributes], attributes: Attributes
    ) -> tuple[Items[_T], Place]:
        """Who takes an item, by the choices in it and around it, and the place it has there."""
        heard = self._heard(attributes, *around)
        if heard is None or self._other is None:
            return self, place
        left = self._other(heard)
        granted = left.plan.granted
        if granted not in self._others:
            self._others[granted] = left.deaf_items(self._make)
            self._others[granted].counts_with(self)
        taker = self._others[granted]
        if granted not in place.others:
            place.others[granted] = taker.place(*around)
        return taker, place.others[granted]

    def counts_with(self, other: Items[_T]) -> None:
        """Count what is admitted here as admitted there."""
        self._counts, self._plain = other._counts, other._plain

    def _admit_slowly(
        self, place: Place, attributes: Attributes, body: bool
    ) -> tuple[Record, _T] | None:
        level, scope, *_ = place
        signature = self._signature(attributes)
        own = self._reading.own((*signature, (BODY, True)) if body else signature).over(scope)
        kept, codes = self._levels.outcome(level, own)
        if not self._counts.is_record(kept, codes, level.content | own.content):
            return None
        return self._told(place, {index: kept[index] for index in self._own_columns(level, own)})

    def _own_columns(self, level: Level, own: Own) -> set[int]:
        """The columns about which an item itself says something, if only by its user agent."""
        if own.agent is None:
            return set(own.values)
        said = (column.index for column in self._plan.columns if column.derived is not None)
        return {*own.values, *(index for index in said if level.found[index] is None)}

    def _told(self, place: Place, own: dict[int, Any]) -> tuple[Record, _T]:
        """An item's own values in schema order, whatever theirs was, and its resource."""
        columns = tuple(own)
        told = place.told.get(columns)
        if told is None:
            told = place.told[columns] = self._order(own), self._resource(place.level, own)
        order, resource = told
        item: Record = {}
        for name, index in order:
            value = own[index]
            if value is not None:
                item[name] = value
        return item, resource

    def _order(self, own: Collection[int]) -> _Order:
        return [(name, index) for index, name in enumerate(self._names) if index in own]

    def _resource(self, level: Level, own: Collection[int]) -> _T:
        """A resource with what an item does not say itself; one for all to which it is the same."""
        kept = enumerate(zip(self._names, level.kept, strict=True))
        rest = tuple(pair for index, pair in kept if index not in own and pair[1] is not None)
        if rest not in self._made:
            self._made[rest] = self._make(dict(rest))
        return self._made[rest]

    def reject(self, reason: Rejection) -> None:
        """Count what is no item."""
        self._counts.reject(reason)

    def tally(self) -> Tally:
        """The counts of all of it."""
        for content, times in self._plain.items():
            self._counts.count(content, times)
        self._plain.clear()
        return self._counts.tally()

    def _signature(self, attributes: Attributes) -> Signature:
        return _signature(attributes, self._reading.names)


def _signature(attributes: Attributes, names: dict[str, Name]) -> Signature:
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
