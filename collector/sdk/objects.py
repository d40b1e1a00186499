"""Events that are objects: what a filter looks for in them, and nothing else, as a mapping.

Of a pydantic model or a dataclass only the attributes that the schema names are read; no method of
it is called, and nothing is serialised, so content stays where it is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import Enum
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from pydantic import BaseModel

from collector.filter import Filter
from collector.filter.compile import Plan

__all__ = ["Objects"]

_Tree = dict[str, Any]
"""Names that are looked for, each with those below it."""

_PLAIN = frozenset([str, int, float, bool])
_MOST_KNOWN = 256


class Objects:
    """Reads objects for one filter. A member is found by its attribute's name and, in a pydantic
    model, also by its alias."""

    def __init__(self, filter_: Filter) -> None:
        plan = filter_.plan
        self._tree = _tree(plan, filter_.schema.optional)
        self._content = frozenset(name for name, _ in plan.content) - self._tree.keys()
        self._tree |= dict.fromkeys(self._content)

    def __repr__(self) -> str:
        return "<Objects>"

    def plain(self, event: object) -> Any:
        """What ``Filter.admit`` takes for an event: a mapping of plain values, or the event itself.

        Raises whatever a foreign mapping raises.
        """
        if _is_record(event):
            found = _members(event, self._tree)
            return {key: True if key in self._content else value for key, value in found.items()}
        if isinstance(event, Mapping):
            return dict(event)
        return event


def _tree(plan: Plan, optional: Iterable[str]) -> _Tree:
    """The names on the ways to fields, and to the purposes in a person's choices. Where records
    lie, these are looked for in each of them."""
    tree: _Tree = {}
    ways = [path for way in plan.records for path in way.paths]
    fields = [path for path in plan.paths if path not in ways]
    fields += [(*path, purpose) for path in plan.choices for purpose in optional]
    for path in (*fields, *((*way, *path) for way in ways for path in fields)):
        node = tree
        for key in path[:-1]:
            node[str(key)] = node = node.get(str(key)) or {}
        node.setdefault(str(path[-1]), None)
    return tree


def _is_record(value: object) -> bool:
    return isinstance(value, BaseModel) or (
        dataclasses.is_dataclass(value) and not isinstance(value, type)
    )


def _members(value: Any, tree: _Tree) -> dict[str, Any]:
    """The members of an object that the tree names, as far as they are there."""
    if type(value) is dict:
        found = {key: value[key] for key in tree if key in value}
    else:
        kind: Any = type(value)
        names = _names(kind)
        found = {key: _attribute(value, names[key]) for key in tree if key in names}
        extra = getattr(value, "__pydantic_extra__", None) or {}
        found |= {key: extra[key] for key in tree if key in extra}
    return {key: _value(member, tree[key]) for key, member in found.items() if member is not None}


def _attribute(value: Any, name: str) -> Any:
    """An attribute as it is stored: a property would be code of somebody else's."""
    stored = getattr(value, "__dict__", None)
    return getattr(value, name, None) if stored is None else stored.get(name)


@lru_cache(maxsize=_MOST_KNOWN)
def _names(kind: Any) -> dict[str, str]:
    """The attributes of a class, by the names that its members have outside."""
    if not issubclass(kind, BaseModel):
        return {each.name: each.name for each in dataclasses.fields(kind)}
    names = {name: name for name in kind.model_fields}
    for name, each in kind.model_fields.items():
        names |= {alias: name for alias in (each.alias, each.serialization_alias) if alias}
    return names


def _value(value: Any, tree: _Tree | None) -> Any:
    """A member as a plain value. What is none goes on as it is: the filter says that it is of the
    wrong type."""
    kind = type(value)
    if tree is None:
        if kind in _PLAIN:
            return value
        if isinstance(value, Enum):
            return value.value
        if kind in (IPv4Address, IPv6Address):
            return str(value)
        return value.isoformat() if kind is datetime else value
    if kind is list or kind is tuple:
        return [_value(element, tree) for element in value]
    return _members(value, tree) if kind is dict or _is_record(value) else value
