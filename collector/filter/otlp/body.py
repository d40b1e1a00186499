"""A body of OTLP as both encodings present it: the number of its items, and their attributes.

Attributes have these forms: texts, numbers and flags, and lists of keys and values, which are
objects. Arrays and bytes are not read: they are there, as what no kind accepts.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any

from collector.contracts import Rejection
from collector.filter.shape import Node, Opaque, Shape

Members = dict[str, Any]
"""Attributes by name, those that are wanted; the body is among them, as ``BODY``."""

UNREAD = Opaque()
"""A value that is present, but not read."""

BODY = "\x7fbody"
"""Stands for the body of a log record, of which only the presence is known. No attribute that is
read has this name: a path consists of printable characters."""


class BodyRejected(Exception):
    """Nothing of the body is admitted: the reason, and the number of items that it counts as."""

    def __init__(self, reason: Rejection, times: int = 1) -> None:
        super().__init__(reason)
        self.reason: Rejection = reason
        self.times = times


class OtlpBody(ABC):
    """A decoded body of ``item_count`` items. Of attributes it reads those that a shape has."""

    item_count: int

    @abstractmethod
    def scopes(self) -> Iterator[tuple[Any, Any, Iterable[Any]]]:
        """Yield its scopes: a resource, a scope, and its items."""

    @abstractmethod
    def outer_members(self, outer: Any, wanted: Shape) -> Members:
        """Return the attributes of a resource or a scope."""

    @abstractmethod
    def item_members(self, item: Any, wanted: Shape) -> Members | None:
        """Return the attributes of an item; ``None`` if it is none. Raises ``BodyRejected``."""


def is_read(node: Node) -> bool:
    """Return whether a value is decoded: of content and of withheld fields, only the presence is
    known."""
    return "value" in node.slots
