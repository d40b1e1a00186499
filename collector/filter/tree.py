"""The members of an event that a plan looks at, as a tree, and the types they are read as."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from collector.filter.compile import Column, Keys, Plan

__all__ = ["Node", "places", "struct", "tree"]


@dataclass(slots=True)
class Node:
    """One member of an event that the plan looks at: a value, an object, or either.

    ``attribute`` is what it is called in the type of its object; ``type`` and ``default`` are what
    it is there, for a start anything.
    """

    attribute: str = ""
    members: dict[str, Node] = field(default_factory=dict)
    readers: list[Column] = field(default_factory=list)
    names_agent: bool = False
    type: Any = Any
    default: Any = None

    def at(self, path: Keys) -> Node:
        """The node at the end of a path, made if it is not there."""
        node = self
        for key in path:
            inner = Node(f"m{len(node.members)}")
            node = node.members.setdefault(str(key), inner)
        return node

    def is_read(self) -> bool:
        """Whether some value here is not withheld."""
        return self.names_agent or any(column.withheld is None for column in self.readers)


def places(root: Node, paths: Iterable[Keys]) -> list[Node]:
    """Where paths lead in an object. What lies in a list is left to slower paths, because an event
    that is a list has none of these types."""
    return [root.at(path) for path in paths if type(path[0]) is str]


def tree(plan: Plan) -> Node:
    """The tree of a plan; its root is the event."""
    root = Node()
    for column in plan.columns:
        for node in places(root, column.paths):
            node.readers.append(column)
    for node in places(root, plan.user_agent):
        node.names_agent = True
    return root


def struct(node: Node, content: Iterable[str] = (), wire: Any = Any) -> type[msgspec.Struct]:
    """The type of an object: its members, and names of content as tripwires ``t<number>``, whose
    type is ``wire``. Everything else in an object is skipped."""
    members = {member.attribute: key for key, member in node.members.items()}
    tripwires = {f"t{number}": name for number, name in enumerate(content)}
    fields = [(member.attribute, member.type, member.default) for member in node.members.values()]
    return msgspec.defstruct(
        "Event",
        [*fields, *((attribute, wire, None) for attribute in tripwires)],
        rename=members | tripwires,
        frozen=True,
        gc=False,
    )
