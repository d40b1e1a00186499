"""What a plan looks for among attributes: which of them, and what they mean to which column.

A *signature* is all that is taken from the attributes of an item, a scope or a resource: pairs of
a name that is looked for and its value. Equal signatures mean the same, so each is judged once.
Values are of these forms, which protobuf and JSON have in common and which can be told apart and
hashed: a ``str``; ``(kind, value)`` for other scalars; ``(dict, pairs)`` for a list of keys and
values; ``(list, None)`` for what is not read: arrays, bytes, and hidden values. ``None`` is no
value.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from collector.contracts import CATEGORIES, Drop, Scalar
from collector.filter.compile import Column, Keys, Plan

__all__ = ["BODY", "UNREAD", "Names", "Own", "Reading", "Signature", "judge"]

Signature = tuple[tuple[str, Any], ...]

UNREAD = (list, None)
"""There, but not read."""

BODY = "\x00body"
"""Stands for the body of a log record, of which only its presence is known. No attribute that is
looked for has this name: a path is made of printable characters."""

_CHAT = CATEGORIES.index("chat")
_AGENT = -1
Names = dict[str, "Names"]
"""Names that are looked for, each with those that are looked for in it."""

_Place = tuple[int, int, Keys]
"""A column (or the user agent), the rank of the path among its paths, and the keys below."""


class Own(NamedTuple):
    """What lies in one set of attributes: values by column, a bit for each category of content,
    and the user agent."""

    values: dict[int, Any]
    content: int
    agent: Any


_NOTHING = Own({}, 0, None)


class Reading:
    """Reads the signatures of one plan.

    ``wanted`` are the names that are looked for, ``nested`` those that may hold others, with them.
    The values of ``hidden`` ones are not decoded, only whether they are there: content, and fields
    that are withheld. ``plain`` are the names that mean a text for one column, or a category of
    content (counted on from the last column), and nothing else.
    """

    def __init__(self, plan: Plan) -> None:
        self.nested: Names = {}
        self._places: dict[str, list[_Place]] = {}
        self._content = dict(plan.content)
        read: set[Any] = set()
        for column in plan.columns:
            self._look(column.index, column.paths)
            if column.withheld is None:
                read.update(path[0] for path in column.paths)
        self._look(_AGENT, plan.user_agent)
        read.update(path[0] for path in plan.user_agent)
        self.wanted = frozenset([*self._places, *self._content])
        self.hidden = self.wanted - read
        self._content[BODY] = _CHAT
        self.plain = {name: len(plan.columns) + n for name, n in self._content.items()}
        for name, places in self._places.items():
            index, _, below = places[0]
            if len(places) > 1 or below or index == _AGENT or name in self._content:
                self.plain.pop(name, None)
            elif plan.columns[index].withheld is None and str in plan.columns[index].wire:
                self.plain[name] = index

    def _look(self, index: int, paths: tuple[Keys, ...]) -> None:
        for rank, path in enumerate(paths):
            first, *others = path
            if not isinstance(first, str):  # an event is no list
                continue
            self._places.setdefault(first, []).append((index, rank, tuple(others)))
            below = self.nested.setdefault(first, {})
            for key in others:
                below = below.setdefault(str(key), {})

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
            for index, rank, below in self._places.get(name, ()):
                found = _below(value, below) if below else value
                if found is not None and (index not in best or rank < best[index][0]):
                    best[index] = (rank, found)
        _, agent = best.pop(_AGENT, (0, None))
        values = {index: found for index, (_, found) in best.items()}
        return Own(values, content, agent)


def _below(value: Any, keys: Keys) -> Any:
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
