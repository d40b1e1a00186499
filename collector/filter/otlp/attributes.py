"""Items of OpenTelemetry as events: their attributes are the members.

An item lies in a scope, and this in a resource: these are its context. Both encodings, and the
objects of an SDK, have attributes of these forms: texts, numbers and flags, and lists of keys and
values, which are objects. Arrays and bytes are not read: they are there, as what no kind accepts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from collector.consent import refused
from collector.contracts import CATEGORIES
from collector.filter.event_consent import EventConsent
from collector.filter.plan import Column, Conditions, Keys, Plan
from collector.filter.shape import Opaque, Shape

UNREAD = Opaque()
"""A value that is present, but not read."""

BODY = "\x7fbody"
"""Stands for the body of a log record, of which only the presence is known. No attribute that is
read has this name: a path consists of printable characters."""

RefusedPurposes = frozenset[str] | None
"""The purposes that are refused; ``None`` where there are no choices."""

_NEVER: Keys = ("\x7fnever",)
_ESCAPE = b"\\u"
_CHAT = CATEGORIES.index("chat")


def _has_element(path: Keys) -> bool:
    return any(type(key) is int for key in path)


def plan_of_items(plan: Plan) -> Plan:
    """Return a plan without what is never read of items, which have no lists."""
    columns = tuple(map(_column_of_items, plan.columns))
    return replace(
        plan,
        columns=columns,
        content=(*plan.content, (BODY, _CHAT)),
        records=(),
        selections=(),
        user_agent=tuple(path for path in plan.user_agent if not _has_element(path)),
        item_selections=tuple(map(_without_elements, plan.item_selections)),
    )


def _column_of_items(column: Column) -> Column:
    ways = zip(column.paths, column.written, column.conditions, strict=True)
    kept = [way for way in ways if not _has_element(way[0])]
    return replace(
        column,
        paths=tuple(path for path, _, _ in kept),
        written=tuple(written for _, written, _ in kept),
        conditions=tuple(_without_elements(conditions) for _, _, conditions in kept),
    )


def _without_elements(conditions: Conditions) -> Conditions:
    return tuple((_NEVER if _has_element(path) else path, one) for path, one in conditions)


class ItemConsent:
    """Reads the choices of items: purposes with true or false, by the paths of a plan.

    Any other value in their place, an array included, is unreadable there, and refuses every
    optional purpose. ``shape`` has the members on the way to choices.
    """

    def __init__(self, plan: Plan, consent: EventConsent) -> None:
        self._optional = consent.optional
        self._paths = [path for path in plan.choices if not _has_element(path)]
        self.shape: Shape = Shape(is_list=False)
        for path in self._paths:
            for purpose in self._optional:
                self.shape.at((*path, purpose)).is_compared = True
        self.shape.finish()

    def may_occur_in(self, body: bytes | memoryview) -> bool:
        """Return whether a body may hold choices: a quick test, to which any escape is a yes."""
        text = bytes(body)
        return any(str(name).encode() in text for name in self.shape.members) or _ESCAPE in text

    def refused_in(self, *members: Mapping[Any, Any]) -> RefusedPurposes:
        """Return what an item, its scope and its resource refuse together."""
        found = [refused for each in members for refused in self._refused_in(each)]
        return frozenset().union(*found) if found else None

    def _refused_in(self, members: Mapping[Any, Any]) -> Iterator[frozenset[str]]:
        for path in self._paths:
            value: Any = members
            for key in path:
                value = _member(value, str(key))
            if value is not None:
                choices = value if type(value) is dict else False
                yield refused(self._optional, choices)
                return


def _member(value: Any, key: str) -> Any:
    """Return a member of an object; comparing a key that is no exact text would call its class."""
    if type(value) is not dict:
        return None
    return next((one for name, one in value.items() if type(name) is str and name == key), None)
