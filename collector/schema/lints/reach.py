"""Lints of reach: paths that never decide, values kept twice, aliases that change nothing."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from itertools import combinations

from collector.schema.kinds import FieldBase
from collector.schema.kinds.enum import EnumField
from collector.schema.kinds.token import TokenField
from collector.schema.model import Schema
from collector.schema.source import Loc

__all__ = ["idle_alias", "same_source", "shadowed_records", "shadowed_source"]


def shadowed_source(schema: Schema, _: date) -> Iterator[tuple[Loc, str]]:
    """The first path that is present decides: where ``a.b`` is, ``a`` is, and was asked before."""
    message = "a path before it ends above it and decides first; put this one before"
    for name, field in schema.fields.items():
        for index in _shadowed(field.sources or ()):
            yield ("fields", name, "from", index), message
    for index in _shadowed(schema.user_agent):
        yield ("user_agent", index), message


def _shadowed(paths: tuple[str, ...]) -> Iterator[int]:
    for index, path in enumerate(paths):
        if any(path.startswith(f"{earlier}.") for earlier in paths[:index]):
            yield index


def shadowed_records(schema: Schema, _: date) -> Iterator[tuple[Loc, str]]:
    """The event itself is always there."""
    listed = schema.records or ()
    for index in range(len(listed)):
        if "." in listed[:index]:
            message = "`.` before it is always there and decides; put `.` last"
            yield ("records", index), message


def same_source(schema: Schema, _: date) -> Iterator[tuple[Loc, str]]:
    """Two fields that take the same values from the same place keep them twice."""
    for (first, one), (second, other) in combinations(schema.fields.items(), 2):
        common = set(one.paths(first)) & set(other.paths(second))
        if common and _overlap(one, other):
            message = f"`{first}` takes the same values from the same path; leave one of them out"
            yield ("fields", second), message


def _overlap(one: FieldBase, other: FieldBase) -> bool:
    """Whether two fields could take the same value in. Fields that share a source but take
    different words from it (a system, a device) are meant that way."""
    if isinstance(one, EnumField) and isinstance(other, EnumField):
        return not set(one.values).isdisjoint(other.values)
    if isinstance(one, TokenField) and isinstance(other, TokenField):
        if one.language is None and other.language is None:
            return not one.entries.isdisjoint(other.entries)
        return one.pattern == other.pattern
    return type(one) is type(other)


def idle_alias(schema: Schema, _: date) -> Iterator[tuple[Loc, str]]:
    """An alias of a value for itself, or for a spelling that ``fold_case`` takes anyway."""
    for name, field in schema.fields.items():
        if not isinstance(field, EnumField):
            continue
        for alias, value in field.aliases.items():
            folded = field.fold_case and alias.isascii() and alias.lower() == value.lower()
            if alias == value or folded:
                message = "the value is taken without this alias; leave it out"
                yield ("fields", name, "aliases", alias), message
