"""The mapping path: events that are Python dictionaries already, as the SDK gets them.

Only exact built-in types count: a subclass could lie about its value, and ``True`` is not ``1``.
Nothing of a foreign class is ever called.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from collector.filter.compile import Column, Mark, Plan

__all__ = ["content", "records", "values"]

Event = dict[Any, Any]


def find(event: Event, path: tuple[str, ...]) -> Any:
    """The value at a path, or ``None`` where the path ends early or holds ``None``."""
    value: Any = event
    for key in path:
        if type(value) is not dict:
            return None
        value = value.get(key)
    return value


def values(event: Event, plan: Plan) -> Iterator[Any]:
    """Per column the value, a mark, or ``None`` for absence."""
    for column in plan.columns:
        yield _value(event, column)


def _value(event: Event, column: Column) -> Any:
    for path in column.paths:
        value = find(event, path)
        if value is not None:
            if column.withheld:
                return Mark.WITHHELD
            return value if type(value) in column.wire else Mark.WRONG_TYPE
    return None


def content(event: Event, plan: Plan) -> frozenset[int]:
    """The content categories that are there."""
    return frozenset(category for name, category in plan.content if event.get(name) is not None)


def records(event: Event, plan: Plan) -> list[Any] | None:
    """The list of records of a document, if it is one."""
    found = (find(event, path) for path in plan.records)
    value: Any = next((value for value in found if value is not None), None)
    return list(value) if type(value) in (list, tuple) else None
