"""Read the attributes that a plan uses, and assign their values to columns.

A *signature* is all that is taken from the attributes of an item, a scope or a resource: pairs of a
wanted name and its value. Equal signatures mean the same, so each is evaluated once. Values have
these forms, which protobuf and JSON have in common, and which are distinct and hashable: a ``str``;
``(kind, value)`` for other scalars; ``(dict, pairs)`` for a list of keys and values; ``(list,
None)`` for a value that is present but not read. ``None`` is no value.

Choices are among the attributes too: a list of keys and values, purpose → true or false. Any other
value in their place, an array included, is unreadable there, and refuses every optional purpose.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from collector.consent import refused
from collector.contracts import CATEGORIES, Drop, Scalar
from collector.filter.plan import Column, Conditions, Keys, Plan

Signature = tuple[tuple[str, Any], ...]

UNREAD = (list, None)
"""A value that is present, but not read."""

BODY = "\x00body"
"""Stands for the body of a log record, of which only the presence is known. No wanted attribute has
this name: a path consists of printable characters."""

RefusedPurposes = frozenset[str] | None
"""The purposes that are refused; ``None`` where there are no choices."""

_ESCAPE = b"\\u"
_CHAT = CATEGORIES.index("chat")
_AGENT = -1


@dataclass(slots=True)
class WantedName:
    """A name that is read: the names below it, and whether its own value is decoded.

    Of content and of fields that are withheld, only the presence is known.
    """

    below: dict[str, WantedName] = field(default_factory=dict)
    is_read: bool = False


_Use = tuple[int, int, Keys, Conditions]
"""A column (or the user agent), the rank of the path among its paths, the keys below, and the
conditions under which the path counts."""


class AttributeValues(NamedTuple):
    """The values of a set of attributes by column, a bit per content category, the user agent."""

    values: dict[int, Any]
    content: int
    agent: Any

    def over(self, outer: AttributeValues) -> AttributeValues:
        """Return these values, completed by those of an outer set."""
        if not self.values and not self.content and self.agent is None:
            return outer
        agent = outer.agent if self.agent is None else self.agent
        return AttributeValues(outer.values | self.values, outer.content | self.content, agent)


_NOTHING = AttributeValues({}, 0, None)


class AttributeReader:
    """Reads the signatures of one plan.

    ``names`` are the wanted ones, ``wanted`` is their set. ``plain`` are those that stand for a
    text in one column, or for a category of content (numbered on from the last column), and nothing
    else. ``columns`` has all that are wanted, with -1 for those that are not plain. Items must meet
    one of the ``selections``, if there is any.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.names: dict[str, WantedName] = {name: WantedName() for name, _ in plan.content}
        self._uses: dict[str, list[_Use]] = {}
        self._content = dict(plan.content)
        for column in plan.columns:
            is_read = column.withheld is None
            self._add_paths(column.index, column.paths, column.conditions, is_read=is_read)
        self._add_paths(_AGENT, plan.user_agent, ((),) * len(plan.user_agent), is_read=True)
        self.selections: tuple[Conditions, ...] = plan.item_selections
        for conditions in self.selections:
            for member, _ in conditions:
                self._want(member, is_read=True)
        self.wanted: frozenset[str] = frozenset(self.names)
        self._content[BODY] = _CHAT
        first = len(plan.columns)
        self.plain: dict[str, int] = {name: first + n for name, n in self._content.items()}
        for name, uses in self._uses.items():
            index, _, keys, conditions = uses[0]
            is_simple = len(uses) == 1 and not keys and not conditions and index != _AGENT
            if not is_simple or name in self._content:
                self.plain.pop(name, None)
            elif plan.columns[index].withheld is None and str in plan.columns[index].wire:
                self.plain[name] = index
        self.columns: dict[str, int] = {name: self.plain.get(name, -1) for name in self.wanted}

    def _add_paths(
        self,
        index: int,
        paths: tuple[Keys, ...],
        conditions: tuple[Conditions, ...],
        *,
        is_read: bool,
    ) -> None:
        for rank, (path, when) in enumerate(zip(paths, conditions, strict=True)):
            first, *others = path
            if any(type(key) is int for key in path):  # an item is no list, nor are lists read
                continue
            self._uses.setdefault(str(first), []).append((index, rank, tuple(others), when))
            self._want(path, is_read=is_read)
            for member, _ in when:
                self._want(member, is_read=True)

    def _want(self, path: Keys, *, is_read: bool) -> None:
        first, *others = path
        name = self.names.setdefault(str(first), WantedName())
        for key in others:
            name = name.below.setdefault(str(key), WantedName())
        name.is_read = name.is_read or is_read

    def values(self, signature: Signature) -> AttributeValues:
        """Return the values of a signature; of several paths, the first with a value decides."""
        if not signature:
            return _NOTHING
        best: dict[int, tuple[int, Any]] = {}
        content = 0
        for name, value in signature:
            if value is None:
                continue
            if name in self._content:
                content |= 1 << self._content[name]
            for index, rank, keys, conditions in self._uses.get(name, ()):
                found = value_below(value, keys) if keys else value
                if found is None or (index in best and rank >= best[index][0]):
                    continue
                if not conditions or _hold(conditions, signature):
                    best[index] = (rank, found)
        _, agent = best.pop(_AGENT, (0, None))
        values = {index: found for index, (_, found) in best.items()}
        return AttributeValues(values, content, agent)

    def selects(self, signature: Signature) -> bool:
        """Return whether the schema asks for an item with this signature."""
        return not self.selections or any(_hold(each, signature) for each in self.selections)


def _hold(conditions: Conditions, signature: Signature) -> bool:
    """Return whether each of these members has one of its values."""
    members = dict(signature)
    for (first, *others), listed in conditions:
        found = value_below(members.get(str(first)), tuple(others))
        if type(found) is tuple:
            found = found[1] if found[0] in (bool, int, float) else None
        if not listed.has(found):
            return False
    return True


def value_below(value: Any, keys: Keys) -> Any:
    """Return the value below keys in nested lists of keys and values; of equal keys the last."""
    for key in keys:
        if type(value) is str or value is None or value[0] is not dict:
            return None
        value = dict(value[1]).get(key)
    return value


def evaluate(column: Column, found: Any) -> tuple[Scalar | None, Drop | None]:
    """Return the canonical form of a value, or why the field is dropped."""
    if column.withheld:
        return None, column.withheld
    kind, value = (str, found) if type(found) is str else found
    if kind not in column.wire:
        return None, "wrong_type"
    result = column.accept(value)
    return result, "invalid_value" if result is None else None


class AttributeConsent:
    """Reads the choices in signatures that were made of its ``names``, and of no others."""

    def __init__(self, plan: Plan, optional: tuple[str, ...]) -> None:
        self.names: dict[str, WantedName] = {}
        self._paths = [
            tuple(map(str, path)) for path in plan.choices if not any(type(k) is int for k in path)
        ]
        self._optional = optional
        for first, *others in self._paths:
            name = self.names.setdefault(first, WantedName())
            for key in others:
                name = name.below.setdefault(key, WantedName())
            name.below.update({purpose: WantedName(is_read=True) for purpose in optional})
        self.wanted: frozenset[str] = frozenset(self.names)

    def may_occur_in(self, body: bytes | memoryview) -> bool:
        """Return whether a body may hold choices: a quick test, to which any escape is a yes."""
        text = bytes(body)
        return any(name.encode() in text for name in self.names) or _ESCAPE in text

    def refused_in(self, *signatures: Signature) -> RefusedPurposes:
        """Return what an item, its scope and its resource refuse together."""
        found = [refused for signature in signatures for refused in self._refused_in(signature)]
        return frozenset().union(*found) if found else None

    def _refused_in(self, signature: Signature) -> list[frozenset[str]]:
        found = dict(signature)
        for first, *keys in self._paths:
            value = value_below(found.get(first), tuple(keys))
            if value is not None:
                return [refused(self._optional, _plain(value))]
        return []


def _plain(value: Any) -> Any:
    """Return the value of a signature as plain data; ``False`` for any but keys and values."""
    if type(value) is str or value[0] is not dict:
        return False
    return {name: _flag(one) for name, one in value[1]}


def _flag(value: Any) -> Any:
    return value[1] if type(value) is tuple and value[0] is bool else None
