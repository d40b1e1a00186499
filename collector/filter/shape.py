"""The shape of an event: the types that decoders fill, with exactly the members that a plan reads.

An event becomes one struct, with a struct inside for each object or list on the way to a value.
Everything else is skipped. A member that is not a scalar becomes a value that no kind reads;
content, withheld values and lists of records stay undecoded, so that only their presence is known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import reduce
from itertools import pairwise
from operator import or_
from typing import Any, TypedDict

import msgspec

from collector.filter.members import Members, members_decoder
from collector.filter.plan import Column, Keys, Plan

NULL = msgspec.Raw(b"null")
_COMPARED = frozenset([str, bool, int, float])


class _Object(TypedDict):
    """An object whose members are not decoded."""


class Opaque(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A list whose elements are not decoded, or any other value that no kind reads."""


_SCALARS: list[Any] = [bool, float, int, str, None]
_TYPES: dict[str, list[Any]] = {
    "value": [*_SCALARS, _Object, Opaque],
    "object": _SCALARS,
    "list": [*_SCALARS, _Object],
}


class Node:
    """One member of an object or of a list, and how it is read.

    It may be a ``value`` (of columns, of the user agent, or to be compared), an ``object`` or a
    ``list`` above other members, or ``raw``: content, a withheld value, records. ``slots`` has its
    attribute in the struct for each of these uses; they share one if JSON can be decoded into it.
    Unless it ``is_read``, as a value, only its presence is known.
    """

    is_read: bool
    slots: dict[str, str]
    wanted: frozenset[type]

    def __init__(self, number: int) -> None:
        self.number = number
        self.columns: list[Column] = []
        self.category: int | None = None
        self.is_agent = self.is_compared = self.holds_records = False
        self.object: Shape | None = None
        self.list: Shape | None = None

    def below(self, kind: type) -> Shape:
        """Return the object (``str``) or the list (``int``) here; make it if there is none."""
        if kind is str:
            self.object = self.object or Shape(is_list=False)
            return self.object
        self.list = self.list or Shape(is_list=True)
        return self.list

    @property
    def shapes(self) -> Iterator[tuple[str, Shape]]:
        """The object and the list here, with the attributes that hold them."""
        for use, shape in (("object", self.object), ("list", self.list)):
            if shape is not None:
                yield self.slots[use], shape

    def finish(self) -> bool:
        """Name the attributes; return whether JSON can be decoded into them."""
        read = [column for column in self.columns if column.withheld is None]
        wanted = [column.wire for column in read]
        wanted += [frozenset([str])] * self.is_agent + [_COMPARED] * self.is_compared
        self.wanted, self.is_read = frozenset().union(*wanted), bool(wanted)
        is_raw = self.category is not None or self.holds_records or (self.columns and not wanted)
        flags = {"value": wanted, "object": self.object, "list": self.list, "raw": is_raw}
        uses = [use for use, flag in flags.items() if flag]
        # the loader refuses values at a path of content or records, so nothing is `raw` and `value`
        is_typed = len({"object", "list", "raw"}.intersection(uses)) <= 1
        name = f"m{self.number}"
        self.slots = {use: name if is_typed else f"{use[0]}{self.number}" for use in uses}
        inner = [shape.finish() for _, shape in self.shapes]
        return is_typed and all(inner)

    def members(self, records: Any) -> Iterator[tuple[str, Any, Any]]:
        """Yield attribute, type and default; ``records`` is the type of a list of records."""
        by_name: dict[str, list[str]] = {}
        for use, name in self.slots.items():
            by_name.setdefault(name, []).append(use)
        for name, uses in by_name.items():
            shape = self.object if "object" in uses else self.list if "list" in uses else None
            default = shape.nothing if shape is not None and "value" not in uses else None
            if uses == ["raw"]:
                is_listed = self.holds_records and records is not None
                yield name, list[records] | None if is_listed else msgspec.Raw, None
            else:
                types = _TYPES[uses[-1]]
                yield name, reduce(or_, types if shape is None else [shape.kind, *types]), default

    def may_be_text(self, raw: Any) -> bool:
        """Return whether a column may read this text, by its bytes."""
        read = [column for column in self.columns if column.withheld is None]
        plain = self.is_agent or self.is_compared
        return plain or any(c.wire == c.field.wire or c.field.may_be_value(raw) for c in read)


class Shape:
    """An object or a list, with the members that are read.

    ``kind`` is its type for decoders of texts; ``loose``, whose members may be anything, is for
    mappings. The judge reads both. ``raws`` decodes the members of a text to ``Raw``.
    """

    kind: type[msgspec.Struct]
    loose: type[msgspec.Struct]
    nothing: msgspec.Struct
    raws: Callable[[Any], Members]
    is_typed: bool

    def __init__(self, *, is_list: bool) -> None:
        self.is_list = is_list
        self.members: dict[str | int, Node] = {}

    def at(self, path: Keys) -> Node:
        """Return the node at the end of a path; make it if it does not exist."""
        shape = self
        for key, below in pairwise(path):
            shape = shape.member(key).below(type(below))
        return shape.member(path[-1])

    def member(self, key: str | int) -> Node:
        return self.members.setdefault(key, Node(len(self.members)))

    def finish(self) -> bool:
        """Name the attributes; return whether JSON can be decoded into them."""
        typed = [node.finish() for node in self.members.values()]
        self.is_typed = all(typed)
        return self.is_typed

    def make_types(self, records: Any) -> None:
        """Make the types; ``records`` is the type of a list of records inside."""
        for node in self.members.values():
            for _, shape in node.shapes:
                shape.make_types(records)
        named = self._keyed()
        fields = [
            field for at, (_, node) in enumerate(named) for field in _fields(at, node, records)
        ]
        names = {name: str(key) for key, node in named if node for name in node.slots.values()}
        self.kind = self._struct(fields, names if self.is_typed else {})
        self.nothing = self.kind()
        loose = [(name, Any, default) for name, _, default in fields]
        self.loose = self._struct(loose, names if self.is_typed else {})
        keys = (str(key) for key, _ in named)
        self.raws = members_decoder(dict.fromkeys(keys, msgspec.Raw), is_list=self.is_list)

    @property
    def length(self) -> int:
        """The number of a list's elements that may be read."""
        return 1 + max(map(int, self.members), default=-1)

    def _keyed(self) -> list[tuple[str | int, Node | None]]:
        """Return the members; of a list, also the elements between them."""
        if not self.is_list:
            return list(self.members.items())
        return [(at, self.members.get(at)) for at in range(self.length)]

    def raw_members(self, text: Any) -> Iterator[tuple[Node, msgspec.Raw]]:
        """Yield the read members of a text, undecoded. Raises what msgspec raises."""
        for (_, node), raw in zip(self._keyed(), self.raws(text), strict=True):
            if node is not None and raw is not None:
                yield node, raw

    def _struct(self, fields: list[Any], names: dict[str, str]) -> type[msgspec.Struct]:
        return msgspec.defstruct(
            "Event",
            fields,
            namespace={"__repr__": _shows_nothing},
            rename=None if self.is_list else names,
            array_like=self.is_list,
            frozen=True,
            gc=False,
        )


def _shows_nothing(_event: Any) -> str:
    return "<Event>"


def _fields(at: int, node: Node | None, records: Any) -> list[tuple[str, Any, Any]]:
    return [(f"u{at}", msgspec.Raw, None)] if node is None else list(node.members(records))


def shape_of(plan: Plan, root: type, records: Any = None) -> Shape:
    """Make the shape of events whose root is an object (``str``) or a list (``int``).

    ``records`` is the type of the records in it, if they are decoded with it.
    """
    shape = Shape(is_list=root is int)

    def nodes(paths: Any) -> Iterator[Node]:
        return (shape.at(path) for path in paths if type(path[0]) is root)

    for column in plan.columns:
        for node in nodes(column.paths):
            node.columns.append(column)
    compared = [each for column in plan.columns for each in column.conditions]
    compared += plan.selected
    for node in nodes(path for conditions in compared for path, _ in conditions):
        node.is_compared = True
    for node in nodes(plan.user_agent):
        node.is_agent = True
    for node in nodes(path for each in plan.records for path in each.paths):
        node.holds_records = True
    # names of content come last, because the decoder compares a name with the members in turn
    for name, category in plan.content if root is str else ():
        shape.at((name,)).category = category
    shape.finish()
    shape.make_types(records)
    return shape
