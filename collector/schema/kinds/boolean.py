"""``boolean``: ``true`` or ``false``, and nothing that merely looks like it."""

from __future__ import annotations

from typing import Literal

from collector.schema.kinds.base import Canonical, Circumstances, FieldBase

__all__ = ["BooleanField"]


class BooleanField(FieldBase):
    """A yes or no."""

    wire = frozenset({bool})
    column = "INTEGER"

    kind: Literal["boolean"]

    def canonical(self, circumstances: Circumstances) -> Canonical:
        return lambda value: value

    def size(self) -> int:
        return 2
