"""``boolean``: ``true`` or ``false``, and nothing that merely looks like it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal, Self

from collector.schema.kinds.base import Canonical, Circumstances, FieldBase
from collector.schema.verdict import Shift

__all__ = ["BooleanField"]


class BooleanField(FieldBase):
    """A yes or no."""

    wire: ClassVar[frozenset[type]] = frozenset({bool})
    column = "INTEGER"

    kind: Literal["boolean"]

    def canonical(self, circumstances: Circumstances) -> Canonical:
        return lambda value: value

    def size(self) -> int:
        return 2

    def shifts(self, new: Self) -> Iterator[Shift]:
        yield from ()
