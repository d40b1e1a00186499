"""The slow path of mappings: what is rare in events that are Python dictionaries already.

Foreign keys, records in lists, and what a request says; all else goes through ``alone``. Both keep
one rule. Only exact built-in types count, in values and in keys: a subclass could lie about itself,
and ``True`` is not ``1``. Nothing of a foreign class is ever called.
"""

from __future__ import annotations

from typing import Any

from collector.filter.compile import MARKS, Column, Found, Keys, Plan

__all__ = ["Mapping", "is_list", "members"]

_Event = dict[Any, Any]
_List = list[Any] | tuple[Any, ...]
_Place = tuple[int, str | int]
"""A member of an object, which is named by its number."""

_WRONG_TYPE = MARKS["wrong_type"]
_ONLY_TEXT = frozenset([id(str)])
_NOTHING: _Event = {}


def is_list(value: Any) -> bool:
    """Whether a value is what JSON has lists for."""
    return type(value) is list or type(value) is tuple


class Mapping:
    """Reads mappings of one plan. Every object on the way to a field is visited once."""

    def __init__(self, plan: Plan) -> None:
        self._numbers: dict[Keys, int] = {(): 0}
        self._objects: list[_Place] = []
        self._columns = [
            (column, [self._place(path) for path in column.paths]) for column in plan.columns
        ]
        self._agent = [self._place(path) for path in plan.user_agent]
        self._ways = [(way, [self._place(path) for path in way.paths]) for way in plan.records]
        self._content = plan.content
        self._reads_lists = plan.reads_lists
        self._elements = 1 + max(
            (path[0] for path in plan.paths if isinstance(path[0], int)), default=-1
        )

    def _place(self, path: Keys) -> _Place:
        prefix, key = path[:-1], path[-1]
        if prefix not in self._numbers:
            place = self._place(prefix)
            self._objects.append(place)
            self._numbers[prefix] = len(self._objects)
        return self._numbers[prefix], key

    def reads(self, event: Any) -> bool:
        """Whether this may be an event: an object, or a list if the plan looks into lists."""
        return type(event) is dict or (self._reads_lists and is_list(event))

    def read(self, event: _Event | _List) -> Found:
        """What the plan looks for in an event. Elements of a list are members under numbers."""
        objects = [_plain(event) if isinstance(event, dict) else self._numbered(event)]
        for parent, key in self._objects:
            inner = objects[parent].get(key)
            objects.append(_plain(inner) if type(inner) is dict else _NOTHING)
        values = [_value(column, objects, places) for column, places in self._columns]
        get = objects[0].get
        content = frozenset(category for name, category in self._content if get(name) is not None)
        agent = _first(objects, self._agent)
        found = ((way, _first(objects, places)) for way, places in self._ways)
        ways = [(way, value) for way, value in found if value is not None or not way.paths]
        return Found(values, content, agent, ways)

    def _numbered(self, event: _List) -> _Event:
        return dict(enumerate(event[: self._elements]))


def members(event: _Event) -> list[_Event]:
    """The members that are objects."""
    return [value for value in _plain(event).values() if type(value) is dict]


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
        return MARKS[column.withheld]
    kind = type(value)  # one of a foreign metaclass could be asked for its hash
    return value if type(kind) is type and kind in column.wire else _WRONG_TYPE
