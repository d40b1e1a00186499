"""A schema, compiled for a set of granted purposes and a day: the plan that every path follows.

The fast path (``generate``), the tolerant path and the mapping path all read the same columns, so
that an event means the same to each of them. Column order is record order.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import date
from enum import Enum
from typing import Any, NamedTuple

from collector.contracts import CATEGORIES, DROPS, Drop, Scalar
from collector.errors import ConfigError
from collector.schema.kinds import Canonical, Circumstances
from collector.schema.model import Schema

__all__ = ["Column", "Found", "Mark", "Memo", "Plan", "compile_plan", "drop_code", "next_expiry"]

_MOST_REMEMBERED = 4096


class Mark(Enum):
    """What stands in for a value that is there but is not to be looked at any further."""

    WRONG_TYPE = "wrong_type"
    """A JSON type that the field's kind does not read."""
    INVALID = "invalid_value"
    """The right JSON type, but no text or number that any kind accepts."""
    WITHHELD = "expired"
    """The value of a withheld field, which was not decoded; the column says why."""


class Memo(dict[Any, Any]):
    """Remembers canonical forms of low-cardinality values. Refused values are never remembered,
    so a client cannot fill it with them, and each one is looked at and counted."""

    __slots__ = ("canonical",)

    def __init__(self, canonical: Canonical) -> None:
        super().__init__()
        self.canonical = canonical

    def __repr__(self) -> str:
        return f"<Memo of {len(self)}>"

    def __missing__(self, value: Any) -> Scalar | None:
        result = self.canonical(value)
        if result is not None:
            if len(self) >= _MOST_REMEMBERED:
                self.clear()
            self[value] = result
        return result


def drop_code(column: int, reason: Drop) -> int:
    """A dropped field as one number, which is what the hot path collects."""
    return column * len(DROPS) + DROPS.index(reason)


@dataclass(frozen=True, slots=True)
class Column:
    """One field, ready to be filtered.

    ``paths`` are tuples of keys: nested ones, and the flat dotted form as a single key. A column
    that is ``withheld`` is never decoded; its presence is counted under that reason.
    """

    index: int
    name: str
    paths: tuple[tuple[str, ...], ...]
    wire: frozenset[type]
    accept: Canonical
    memo: Memo | None
    shortcut: Callable[[str], object] | None
    required: bool
    withheld: Drop | None

    def judge(self, value: Any) -> tuple[Scalar | None, Drop | None]:
        """The canonical form of a value or mark, or why the field is dropped."""
        if value is None:
            return None, None
        if value is Mark.WITHHELD:
            return None, self.withheld
        if isinstance(value, Mark):
            return None, value.value
        result = self.accept(value)
        return result, "invalid_value" if result is None else None


@dataclass(frozen=True, slots=True)
class Plan:
    """What to look for: columns in schema order, content names, and where records lie."""

    schema_id: str
    columns: tuple[Column, ...]
    content: tuple[tuple[str, int], ...]
    records: tuple[tuple[str, ...], ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The field names, in schema order."""
        return tuple(column.name for column in self.columns)


class Found(NamedTuple):
    """What is found in an event: per column a value, a mark, or ``None`` for absence; the content
    categories that are there; and, unless it is ``None``, the list of records."""

    values: list[Any]
    content: frozenset[int]
    listed: Any


def _paths(sources: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """Each path nested first, then as one flat key."""
    found: list[tuple[str, ...]] = []
    for source in sources:
        for path in (tuple(source.split(".")), (source,)):
            if path not in found:
                found.append(path)
    return tuple(found)


def compile_plan(
    schema: Schema, granted: Collection[str] | None, today: date, circumstances: Circumstances
) -> Plan:
    """The plan for the granted purposes (``None``: all) on a day.

    Raises ``ConfigError`` E205 when a granted purpose is not the schema's.
    """
    if granted is not None and not set(granted) <= set(schema.purposes):
        raise ConfigError("E205", "a granted purpose is not defined in the schema")
    columns = []
    for index, (name, field) in enumerate(schema.fields.items()):
        withheld: Drop | None = None
        if field.expires is not None and today >= field.expires:
            withheld = "expired"
        elif granted is not None and not set(granted) & set(field.purposes):
            withheld = "purpose_refused"
        canonical = field.canonical(circumstances)
        memo = Memo(canonical) if field.repeats else None
        columns.append(
            Column(
                index=index,
                name=name,
                paths=_paths(field.paths(name)),
                wire=field.wire,
                accept=canonical if memo is None else memo.__getitem__,
                memo=memo,
                shortcut=field.shortcut(),
                required=field.required,
                withheld=withheld,
            )
        )
    content = {name: CATEGORIES.index(category) for name, category in schema.content_names.items()}
    records = _paths([schema.records]) if schema.records is not None else ()
    return Plan(schema.id, tuple(columns), tuple(content.items()), records)


def next_expiry(schema: Schema, today: date) -> date | None:
    """The day on which the plan has to be compiled anew, if there is one."""
    days = [field.expires for field in schema.fields.values() if field.expires]
    return min((day for day in days if day > today), default=None)
