"""Items of OpenTelemetry as events: their attributes are the members.

An item is in a scope, and the scope in a resource: these are its context. In both encodings and in
an SDK's objects, an attribute is a text, a number, a flag, or a list of keys and values, which
counts as an object. Arrays and bytes are not read: they are present as a value that no kind
accepts.
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
"""Stands for the body of a log record, of which only the presence is known. No attribute in a path
has this name, because paths consist of printable characters."""

RefusedPurposes = frozenset[str] | None
"""The purposes that are refused; ``None`` where there are no choices."""

_NEVER: Keys = ("\x7fnever",)
_ESCAPE = b"\\u"
_CHAT = CATEGORIES.index("chat")


def _has_element(path: Keys) -> bool:
    return any(type(key) is int for key in path)


def plan_of_items(plan: Plan) -> Plan:
    """Return a plan without lists, which items do not have."""
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

    Any other value in their place, including an array, is unreadable and refuses every optional
    purpose. ``shape`` has the members on the way to choices.
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
        """Return whether a body may hold choices: a quick test, which any escape passes."""
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
    """Return a member of an object. Keys of other types than ``str`` are skipped, because comparing
    them would call their class."""
    if type(value) is not dict:
        return None
    return next((one for name, one in value.items() if type(name) is str and name == key), None)
