"""``boolean``: exactly ``true`` or ``false``."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any, ClassVar, Literal, Self

from collector.schema.kinds.base import Canonical, Circumstances, FieldBase, Phrases
from collector.schema.verdict import Shift


class BooleanField(FieldBase):
    """A yes or no."""

    description = "`true` or `false`."
    phrases: ClassVar[Phrases] = {"values": {"en": "yes or no", "id": "ya atau tidak"}}
    wire: ClassVar[frozenset[type]] = frozenset({bool})
    column = "INTEGER"

    kind: Literal["boolean"]

    def canonical(self, circumstances: Circumstances) -> Canonical:
        return lambda value: value

    def size(self) -> int:
        return 2

    def shifts(self, new: Self) -> Iterator[Shift]:
        yield from ()

    def example(self, now: datetime) -> bool:
        return True

    def value_schema(self) -> dict[str, Any]:
        return {"type": "boolean"}
