"""What a plan looks for among attributes: which of them, and what they mean to which column.

A *signature* is all that is taken from the attributes of an item, a scope or a resource: pairs of
a name that is looked for and its value. Equal signatures mean the same, so each is judged once.
Values are of these forms, which protobuf and JSON have in common and which can be told apart and
hashed: a ``str``; ``(kind, value)`` for other scalars; ``(dict, pairs)`` for a list of keys and
values; ``(list, None)`` for what is there but not read. ``None`` is no value.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from collector.contracts import CATEGORIES, Drop, Scalar
from collector.filter.compile import Column, Keys, Plan

__all__ = ["BODY", "UNREAD", "Name", "Own", "Reading", "Signature", "below", "judge"]

Signature = tuple[tuple[str, Any], ...]

UNREAD = (list, None)
"""There, but not read."""

BODY = "\x00body"
"""Stands for the body of a log record, of which only its presence is known. No attribute that is
looked for has this name: a path is made of printable characters."""

_CHAT = CATEGORIES.index("chat")
_AGENT = -1


@dataclass(slots=True)
class Name:
    """A name that is looked for: which names are looked for in it, and whether its own value is
    decoded, or only its presence known (content, and fields that are withheld)."""

    below: dict[str, Name] = field(default_factory=dict)
    is_read: bool = False


_Place = tuple[int, int, Keys]
"""A column (or the user agent), the rank of the path among its paths, and the keys below."""


class Own(NamedTuple):
    """What lies in one set of attributes: values by column, a bit for each category of content,
    and the user agent."""

    values: dict[int, Any]
    content: int
    agent: Any

    def over(self, outer: Own) -> Own:
        """With what an outer set has and this one has not."""
        if not self.values and not self.content and self.agent is None:
            return outer
        agent = outer.agent if self.agent is None else self.agent
        return Own(outer.values | self.values, outer.content | self.content, agent)


_NOTHING = Own({}, 0, None)


class Reading:
    """Reads the signatures of one plan.

    ``names`` are those that are looked for, ``wanted`` is their set. ``plain`` are those that mean
    a text for one column, or a category of content (counted on from the last column), and nothing
    else. ``columns`` has all that are wanted, with -1 for those that are not plain.
    """

    def __init__(self, plan: Plan) -> None:
        self.names: dict[str, Name] = {name: Name() for name, _ in plan.content}
        self._places: dict[str, list[_Place]] = {}
        self._content = dict(plan.content)
        for column in plan.columns:
            self._look(column.index, column.paths, is_read=column.withheld is None)
        self._look(_AGENT, plan.user_agent, is_read=True)
        self.wanted: frozenset[str] = frozenset(self.names)
        self._content[BODY] = _CHAT
        first = len(plan.columns)
        self.plain: dict[str, int] = {name: first + n for name, n in self._content.items()}
        for name, places in self._places.items():
            index, _, keys = places[0]
            if len(places) > 1 or keys or index == _AGENT or name in self._content:
                self.plain.pop(name, None)
            elif plan.columns[index].withheld is None and str in plan.columns[index].wire:
                self.plain[name] = index
        self.columns: dict[str, int] = {name: self.plain.get(name, -1) for name in self.wanted}

    def _look(self, index: int, paths: tuple[Keys, ...], *, is_read: bool) -> None:
        for rank, path in enumerate(paths):
            first, *others = path
            if not isinstance(first, str):  # an event is no list
                continue
            self._places.setdefault(first, []).append((index, rank, tuple(others)))
            name = self.names.setdefault(first, Name())
            for key in others:
                name = name.below.setdefault(str(key), Name())
            name.is_read = name.is_read or is_read

    def own(self, signature: Signature) -> Own:
        """What is there. Of the paths of a column, the first that leads to a value decides."""
        if not signature:
            return _NOTHING
        best: dict[int, tuple[int, Any]] = {}
        content = 0
        for name, value in signature:
            if value is None:
                continue
            if name in self._content:
                content |= 1 << self._content[name]
            for index, rank, keys in self._places.get(name, ()):
                found = below(value, keys) if keys else value
                if found is not None and (index not in best or rank < best[index][0]):
                    best[index] = (rank, found)
        _, agent = best.pop(_AGENT, (0, None))
        values = {index: found for index, (_, found) in best.items()}
        return Own(values, content, agent)


def below(value: Any, keys: Keys) -> Any:
    """What lies below in nested lists of keys and values; of equal keys the last."""
    for key in keys:
        if type(value) is str or value is None or value[0] is not dict:
            return None
        value = dict(value[1]).get(key)
    return value


def judge(column: Column, found: Any) -> tuple[Scalar | None, Drop | None]:
    """The canonical form of a value that was found, or why the field is dropped."""
    if column.withheld:
        return None, column.withheld
    kind, value = (str, found) if type(found) is str else found
    if kind not in column.wire:
        return None, "wrong_type"
    result = column.accept(value)
    return result, "invalid_value" if result is None else None
