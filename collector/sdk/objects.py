"""Read events that are objects: make a mapping of the members that the filter looks for.

It reads only those attributes of a pydantic model or a dataclass that the schema names. It calls no
method of the object and serialises nothing, so content is never copied.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from enum import Enum
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from types import GetSetDescriptorType, MappingProxyType, MemberDescriptorType
from typing import Any, NamedTuple

from pydantic import BaseModel

from collector.filter import Filter
from collector.filter.plan import Keys, Plan, RecordPath

_Tree = dict[str | int, Any]
"""Names to look for, each with the names below it."""

_PLAIN = frozenset([str, int, float, bool])
_CACHED_CLASSES = 256


class ObjectReader:
    """Reads objects for one filter. It finds a member by its attribute's name and, in a pydantic
    model, by its alias."""

    def __init__(self, filter_: Filter) -> None:
        plan = filter_.plan
        self._tree = _tree(plan, filter_.schema.optional)
        self._content = frozenset(name for name, _ in plan.content) - self._tree.keys()
        self._tree |= dict.fromkeys(self._content)

    def __repr__(self) -> str:
        return "<ObjectReader>"

    def plain(self, event: Any) -> Any:
        """Return an event as ``Filter.admit`` accepts it: a mapping of plain values, or the event
        itself if it is not an object that this class reads.

        Raises whatever a mapping that is not a ``dict`` raises.
        """
        kind = _class_reader(event)
        if kind.is_record:
            found = _members(event, self._tree)
            return {key: True if key in self._content else value for key, value in found.items()}
        if kind.is_mapping:
            return dict(event)
        return event


def _tree(plan: Plan, optional: Iterable[str]) -> _Tree:
    """Make the tree of names that lead to fields and to the purposes in a person's choices, in each
    record if an event holds records."""
    tree: _Tree = {}
    record_paths = [path for way in plan.records for path in _lists(way)]
    fields = [path for path in plan.paths if path not in record_paths]
    fields += [(*path, purpose) for path in plan.choices for purpose in optional]
    for path in (*fields, *((*way, *path) for way in record_paths for path in fields)):
        node = tree
        for key in path[:-1]:
            node[key] = node = node.get(key) or {}
        node.setdefault(path[-1], None)
    return tree


def _lists(way: RecordPath) -> Iterator[Keys]:
    """Yield the paths of the lists on a way to records, starting at the event."""
    for path in way.paths:
        yield path
        if way.below is not None:
            yield from ((*path, *rest) for rest in _lists(way.below))


class _ClassReader(NamedTuple):
    """What a class says about its instances, read without running code of the class.

    ``is_record`` is true for pydantic models and dataclasses: ``names`` maps the names of members,
    with aliases, to attributes; ``slots`` reads the attributes that are not in an instance's
    ``__dict__``.
    """

    is_record: bool = False
    is_mapping: bool = False
    is_enum: bool = False
    names: Mapping[str, str] = MappingProxyType({})
    slots: Mapping[str, Callable[[Any], Any]] = MappingProxyType({})


_FOREIGN = _ClassReader()
_bases: Callable[[type], tuple[type, ...]] = type.__dict__["__mro__"].__get__
_members_of: Callable[[type], Mapping[str, Any]] = type.__dict__["__dict__"].__get__
_OVERRIDES = frozenset(["__hash__", "__eq__", "__getattribute__"])


def _class_reader(value: object) -> _ClassReader:
    """Read the class of a value. It takes ``type``, because ``isinstance`` would ask the value
    itself for its ``__class__``. It does not read a class whose metaclass answers in the class's
    place."""
    kind: Any = type(value)
    meta = type(kind)
    if meta is not type and any(
        not _OVERRIDES.isdisjoint(_members_of(base)) for base in _bases(meta)[:-2]
    ):
        return _FOREIGN
    return _read_class(kind)


@lru_cache(maxsize=_CACHED_CLASSES)
def _read_class(kind: Any) -> _ClassReader:
    slots = {
        name: member.__get__
        for base in reversed(_bases(kind))
        for name, member in _members_of(base).items()
        if type(member) in (MemberDescriptorType, GetSetDescriptorType)
    }
    if issubclass(kind, BaseModel):
        names = {name: name for name in kind.model_fields}
        for name, each in kind.model_fields.items():
            names |= {alias: name for alias in (each.alias, each.serialization_alias) if alias}
        return _ClassReader(is_record=True, names=names, slots=slots)
    if dataclasses.is_dataclass(kind):
        names = {each.name: each.name for each in dataclasses.fields(kind)}
        return _ClassReader(is_record=True, names=names, slots=slots)
    is_mapping, is_enum = issubclass(kind, Mapping), issubclass(kind, Enum)
    return _ClassReader(is_mapping=is_mapping, is_enum=is_enum, slots=slots)


def _members(value: Any, tree: _Tree) -> dict[str, Any]:
    """Return those members of an object that the tree names."""
    if type(value) is dict:
        found = {key: value[key] for key in tree if type(key) is str and key in value}
    else:
        kind = _class_reader(value)
        stored = _slot(value, kind, "__dict__") or {}
        names = {str(key): kind.names[str(key)] for key in tree if key in kind.names}
        found = {
            key: stored[name] if name in stored else _slot(value, kind, name)
            for key, name in names.items()
        }
        extra = _slot(value, kind, "__pydantic_extra__") or {}
        found |= {str(key): extra[str(key)] for key in tree if key in extra}
    return {key: _value(member, tree[key]) for key, member in found.items() if member is not None}


def _slot(value: Any, kind: _ClassReader, name: str) -> Any:
    """Return a slot's attribute as it is stored: a property would run code of the application."""
    read = kind.slots.get(name)
    try:
        return None if read is None else read(value)
    except AttributeError:
        return None


def _value(value: Any, tree: _Tree | None) -> Any:
    """Return a member as a plain value. A value of any other type stays as it is: the filter
    rejects it."""
    kind = type(value)
    if tree is None:
        if kind is str:
            return value
        reader = _class_reader(value)
        if reader is _FOREIGN or kind in _PLAIN:
            return value
        if reader.is_enum:
            return _slot(value, reader, "__dict__").get("_value_")
        if kind in (IPv4Address, IPv6Address):
            return str(value)
        return value.isoformat() if kind is datetime else value
    if kind is list or kind is tuple:
        if not any(type(key) is int for key in tree):
            return [_value(element, tree) for element in value]
        length = 1 + max(key for key in tree if type(key) is int)
        first = enumerate(value[:length])
        return [_value(element, tree[at]) if at in tree else None for at, element in first]
    return _members(value, tree) if kind is dict or _class_reader(value).is_record else value
