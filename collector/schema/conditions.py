"""Conditions: members of an object, each with a list of the values that it may have."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import Annotated, Any

from pydantic import PlainSerializer, PlainValidator, WithJsonSchema

from collector.documents import fault


@dataclass(frozen=True, slots=True)
class ClosedList:
    """The values that a member is compared with: texts, numbers, and booleans, which do not count
    as numbers."""

    texts: frozenset[str]
    numbers: frozenset[float]
    flags: frozenset[bool]

    def has(self, value: object) -> bool:
        """Return whether a value is in the list; only exact built-in types are compared."""
        kind = type(value)
        if kind is str:
            return value in self.texts
        if kind is bool:
            return value in self.flags
        return (kind is int or kind is float) and value in self.numbers

    def written(self) -> list[str | float]:
        """Return the values in their order."""
        return [*sorted(self.texts), *sorted(self.numbers), *sorted(self.flags)]


_MAX_MEMBERS = 4
_MAX_VALUES = 64
_MAX_TEXT = 64
PLAIN = r'[^"\\\x00-\x1f\x7f]'
"""A character of a member's name that JSON need not escape."""
_WHEN = f"name 1 to {_MAX_MEMBERS} members of the object, each with its allowed values"


def _is_number(value: float) -> bool:
    return type(value) is not bool and isfinite(value)


def _closed_list(name: str, listed: object) -> ClosedList:
    values = listed if isinstance(listed, list | tuple) else [listed]
    found = ClosedList(
        frozenset(value for value in values if type(value) is str and len(value) <= _MAX_TEXT),
        frozenset(v for v in values if isinstance(v, int | float) and _is_number(v)),
        frozenset(value for value in values if type(value) is bool),
    )
    if not 1 <= len(values) <= _MAX_VALUES or len(found.written()) < len(values):
        message = (
            f"list 1 to {_MAX_VALUES} values, none twice: numbers, booleans, or texts of at most"
            f" {_MAX_TEXT} characters"
        )
        raise fault("E107", message, name)
    return found


def is_member_name(name: str) -> bool:
    """Return whether a schema may use this name for a member: it has 1 to 64 printable characters
    that JSON need not escape."""
    return 1 <= len(name) <= _MAX_TEXT and name.isprintable() and not {'"', "\\"} & {*name}


def _when(value: object) -> Condition:
    if isinstance(value, tuple):
        return value
    if not isinstance(value, dict) or not 1 <= len(value) <= _MAX_MEMBERS:
        raise fault("E107", _WHEN)
    for name in value:
        if not is_member_name(name):
            raise fault("E107", _WHEN, name)
    return tuple((name, _closed_list(name, value[name])) for name in sorted(value))


def _written_when(when: Condition) -> dict[str, list[str | float]]:
    return {name: listed.written() for name, listed in when}


_COMPARED = {"type": ["string", "number", "boolean"], "maxLength": _MAX_TEXT}
_SCHEMA = {
    "type": "object",
    "minProperties": 1,
    "maxProperties": _MAX_MEMBERS,
    "propertyNames": {"pattern": f"^{PLAIN}+$", "maxLength": _MAX_TEXT},
    "additionalProperties": {
        "anyOf": [
            _COMPARED,
            {
                "type": "array",
                "items": _COMPARED,
                "minItems": 1,
                "maxItems": _MAX_VALUES,
                "uniqueItems": True,
            },
        ]
    },
}
Condition = tuple[tuple[str, ClosedList], ...]
"""For each member, the values that satisfy the condition; in the order of names."""
When = Annotated[
    Condition,
    PlainValidator(_when),
    PlainSerializer(_written_when, return_type=dict[str, Any]),
    WithJsonSchema(_SCHEMA),
]
