"""Events that are Python dictionaries already: their members, unchanged, in the structs of a shape.

Only exact built-in types count, in values and in keys: a subclass could misreport itself, and
``True`` is not ``1``. No method of a foreign class is ever called. ``msgspec.convert`` takes the
members out of a dictionary: it compares only keys that are exact texts, in C, and calls no method
of a value. It would also accept types that only resemble a dictionary, so the type of each object
is checked before. A dictionary with other keys is read member by member. Nested objects stay
unchanged until the judge reads them in the same way.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec

from collector.filter.members import FAILURES
from collector.filter.shape import Shape

_TEXT_ONLY = frozenset([id(str)])


def is_list(value: Any) -> bool:
    """Return whether a value corresponds to a JSON list."""
    return type(value) is list or type(value) is tuple


def mapping_decoder(shape: Shape) -> Callable[[Any], Any]:
    """Return the function that puts a dictionary, or for a list's shape a list, into a struct."""
    fill = partial(_fill, shape)
    if not shape.is_typed:
        return fill
    convert, kind = msgspec.convert, shape.loose

    def decode(event: Any) -> Any:
        try:
            return convert(event, kind)
        except FAILURES:  # a key is not exactly ``str``
            return fill(event)

    return decode


def _fill(shape: Shape, event: Any) -> Any:
    members = text_members(event) if type(event) is dict else dict(enumerate(event[: shape.length]))
    values: dict[str, Any] = {}
    for key, node in shape.members.items():
        value, slots = members.get(key), node.slots
        if type(value) is dict and node.object is not None:
            values[slots["object"]] = value
        elif is_list(value) and node.list is not None:
            values[slots["list"]] = value
        for use in ("value", "raw"):
            if use in slots and value is not None:
                values[slots[use]] = value
    return shape.loose(**values)


def object_members(event: dict[Any, Any]) -> list[dict[Any, Any]]:
    """Return the members that are objects."""
    return [value for value in text_members(event).values() if type(value) is dict]


def text_members(event: dict[Any, Any]) -> dict[Any, Any]:
    """Return the members whose keys are exact texts; comparing another key would call its class."""
    if _TEXT_ONLY.issuperset(map(id, map(type, event))):
        return event
    return {key: value for key, value in list(event.items()) if type(key) is str}
