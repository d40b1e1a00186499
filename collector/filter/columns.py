"""Records as typed rows: NDJSON that a filter wrote, decoded once and checked column by column.

A text is accepted only if encoding its records again gives the same bytes. So no member is
repeated, out of order, misnamed, or in another notation. Then each kind checks a whole column at
once.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress
from datetime import datetime
from functools import reduce
from math import copysign
from operator import or_
from typing import Any, Literal

import msgspec
from msgspec.structs import astuple

from collector.contracts import Row
from collector.errors import RecheckError
from collector.filter.members import FAILURES, named_members
from collector.filter.plan import Column, Plan
from collector.schema.kinds import ColumnCheck

NOT_AS_WRITTEN = "the records are not written as a filter writes them"
_TYPES: dict[str, set[type]] = {"TEXT": {str}, "INTEGER": {bool, int}, "REAL": {float}}
"""The types of canonical values, by the type of their column."""
_MOST_KNOWN = 4096
"""The most remembered values of a column, not counting those of the current text."""
_MINUS_ZERO = b":-0.0"
Checks = Sequence[tuple[int, str, ColumnCheck]]
"""Columns by number and name, with their checks."""
_encode_lines = msgspec.json.Encoder().encode_lines


def demand(holds: bool, otherwise: str) -> None:
    """Raise ``RecheckError`` with the message ``otherwise`` unless a condition holds."""
    if not holds:
        raise RecheckError(otherwise)


class RecordColumns:
    """The columns of one plan's records. ``lasting`` are the checks that remember values, by field
    name, for all plans of a schema. Only ``whole`` records need all required fields."""

    def __init__(self, plan: Plan, lasting: dict[str, ColumnCheck], *, whole: bool) -> None:
        self._decode = msgspec.json.Decoder(_record_type(plan)).decode_lines
        self._checked = [
            column for column in plan.columns if not column.withheld and not _closed_list(column)
        ]
        self._has_fractions = any(column.field.column == "REAL" for column in plan.columns)
        self._required = [column.index for column in plan.columns if column.required and whole]
        self._lasting = lasting

    def checks(self, first: datetime, last: datetime) -> Checks:
        """Return the checks of columns, for values that were canonical at some moment between two.
        Closed lists need no check: the decoder knows them."""
        return [
            (column.index, column.name, self._check(column, first, last))
            for column in self._checked
        ]

    def read(self, text: bytes, checks: Checks) -> tuple[list[Any], list[Row], bytes]:
        """Read NDJSON; return the records as objects, as rows, and encoded again. Raises
        ``RecheckError``, whose text consists of constants and names of the schema."""
        records, encoded = list[Any](), b""
        with suppress(*FAILURES):
            records = self._decode(text)
            encoded = _encode_lines(records)
        demand(bool(records) and encoded == text, NOT_AS_WRITTEN)
        rows: list[Row] = [*map(astuple, records)]
        *columns, _ = zip(*rows, strict=True)
        for index, name, check in checks:
            demand(check(columns[index]), f"{name}: a value is not of its kind")
        has_minus_zero = self._has_fractions and _MINUS_ZERO in text and _has_minus_zero(rows)
        demand(not has_minus_zero, NOT_AS_WRITTEN)
        lacks = any(None in columns[index] for index in self._required)
        demand(not lacks, "a record lacks a required field")
        is_empty = all(None in values for values in columns) and _has_empty(rows)
        demand(not is_empty, "a record has no field")
        return records, rows, encoded

    def _check(self, column: Column, first: datetime, last: datetime) -> ColumnCheck:
        if len(_types(column)) > 1:  # equal values may be of different types
            return _each(column, first, last)
        if not column.field.remembers:
            return column.field.column_check(first, last)
        if column.name not in self._lasting:
            self._lasting[column.name] = _remembering(column.field.column_check(first, last))
        return self._lasting[column.name]


def _types(column: Column) -> set[type]:
    """Return the types of a column's canonical values, which its kind also reads."""
    return _TYPES[column.field.column] & column.wire


def _closed_list(column: Column) -> tuple[str, ...]:
    """Return the canonical values of a column, if they are a list of texts."""
    listed = column.field.value_schema().get("enum", ()) if column.field.remembers else ()
    return tuple(listed) if all(type(value) is str for value in listed) else ()


def _value_type(column: Column) -> Any:
    """Return the type of a column's members: only ``null``, which is never written, if it is
    withheld."""
    if column.withheld:
        return None
    closed = _closed_list(column)
    return Literal[closed] | None if closed else reduce(or_, _types(column), None)


def _record_type(plan: Plan) -> type[msgspec.Struct]:
    """Make the type of records: as ``admission.record_type``, with the types of values."""
    return named_members(
        "TypedRecord",
        {column.name: (_value_type(column), None) for column in plan.columns},
        ("count", int, 1),
        tag_field="schema",
        tag=plan.schema_id,
        omit_defaults=True,
        forbid_unknown_fields=True,
    )


def _each(column: Column, first: datetime, last: datetime) -> ColumnCheck:
    """Return a function that checks each value of a column, and its type."""
    stored = column.field.stored_between(first, last)

    def check(values: Collection[Any]) -> bool:
        return all(type(stored(value)) is type(value) for value in values if value is not None)

    return check


def _remembering(check: ColumnCheck) -> ColumnCheck:
    """Return a function that checks only values it has not seen yet."""
    known: set[Any] = {None}

    def check_new(values: Collection[Any]) -> bool:
        if known.issuperset(values):
            return True
        new = set(values) - known
        if not check(new):
            return False
        if len(known) > _MOST_KNOWN:
            known.intersection_update({None})
        known.update(new)
        return True

    return check_new


def _has_minus_zero(rows: list[Row]) -> bool:
    """Return whether a number is a negative zero, which compares equal to the zero that a filter
    writes."""
    numbers = (value for row in rows for value in row if type(value) is float and not value)
    return any(copysign(1.0, number) < 0 for number in numbers)


def _has_empty(rows: list[Row]) -> bool:
    return any(row.count(None) == len(row) - 1 for row in rows)
