"""The mapping path: events that are Python dictionaries already, as the SDK gets them.

Only exact built-in types count, in values and in keys: a subclass could lie about itself, and
``True`` is not ``1``. Nothing of a foreign class is ever called.
"""

from __future__ import annotations

from typing import Any

from collector.filter.compile import Column, Found, Mark, Plan

__all__ = ["Mapping"]

_Event = dict[Any, Any]
_Place = tuple[int, str]
"""A member of an object, which is named by its number."""

_ONLY_TEXT = frozenset([id(str)])
_NOTHING: _Event = {}


class Mapping:
    """Reads mappings of one plan. Every object on the way to a field is visited once."""

    def __init__(self, plan: Plan) -> None:
        self._numbers: dict[tuple[str, ...], int] = {(): 0}
        self._objects: list[_Place] = []
        self._columns = [
            (column, [self._place(path) for path in column.paths]) for column in plan.columns
        ]
        self._records = [self._place(path) for path in plan.records]
        self._content = plan.content

    def _place(self, path: tuple[str, ...]) -> _Place:
        prefix, key = path[:-1], path[-1]
        if prefix not in self._numbers:
            place = self._place(prefix)
            self._objects.append(place)
            self._numbers[prefix] = len(self._objects)
        return self._numbers[prefix], key

    def read(self, event: _Event) -> Found:
        """What the plan looks for in an event; ``listed`` is a list or ``None``."""
        objects = [_plain(event)]
        for parent, key in self._objects:
            inner = objects[parent].get(key)
            objects.append(_plain(inner) if type(inner) is dict else _NOTHING)
        values = [_value(column, objects, places) for column, places in self._columns]
        get = objects[0].get
        content = frozenset(category for name, category in self._content if get(name) is not None)
        listed = _first(objects, self._records)
        is_list = type(listed) is list or type(listed) is tuple
        return Found(values, content, list(listed) if is_list else None)


def _plain(event: _Event) -> _Event:
    """The members whose keys are texts. Any other key could be asked whether it equals ours."""
    if _ONLY_TEXT.issuperset(map(id, map(type, event))):
        return event
    return {key: value for key, value in list(event.items()) if type(key) is str}


def _first(objects: list[_Event], places: list[_Place]) -> Any:
    """The first value that is there, or ``None``."""
    for number, key in places:
        value = objects[number].get(key)
        if value is not None:
            return value
    return None


def _value(column: Column, objects: list[_Event], places: list[_Place]) -> Any:
    value = _first(objects, places)
    if value is None:
        return None
    if column.withheld:
        return Mark.WITHHELD
    kind = type(value)  # one of a foreign metaclass could be asked for its hash
    return value if type(kind) is type and kind in column.wire else Mark.WRONG_TYPE
