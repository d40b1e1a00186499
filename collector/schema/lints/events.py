"""Lints of what is read from events: paths that never decide, idle aliases, and test events."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date
from itertools import combinations
from typing import Any

import orjson

from collector.documents import Loc
from collector.schema.kinds.enum import EnumField
from collector.schema.model import Schema
from collector.schema.scalars import Source, condition_of, keys, levels, path_of


def shadowed_source(schema: Schema, _: date) -> Iterator[tuple[Loc, str]]:
    """Find paths below an earlier one: where ``a.b`` is present, ``a`` is, and has decided."""
    message = "a path before it ends above it and decides first; put this one before"
    for name, field in schema.fields.items():
        for index in _shadowed(field.sources or ()):
            yield ("fields", name, "from", index), message
    for index in _shadowed(schema.user_agent):
        yield ("user_agent", index), message


def _shadowed(sources: tuple[Source, ...]) -> Iterator[int]:
    deciding: list[tuple[str | int, ...]] = []
    for index, source in enumerate(sources):
        found = keys(path_of(source))
        if any(found[: len(start)] == start != found for start in deciding):
            yield index
        if not condition_of(source):
            deciding.append(found)


def numeric_segment(schema: Schema, _: date) -> Iterator[tuple[Loc, str]]:
    """Find numbers as names: they are members of an object under that name, no elements."""
    for loc, path in _written_paths(schema):
        number = next((key for key in keys(path) if isinstance(key, str) and key.isdigit()), None)
        if number is not None:
            message = f"`{number}` is only a member of that name; write `[{number}]` for an element"
            yield loc, f'{message} of a list, or `"{number}"` if the name is meant'


def _written_paths(schema: Schema) -> Iterator[tuple[Loc, str]]:
    """Yield the listed paths without quotes, with their places."""
    for name, field in schema.fields.items():
        for index, source in enumerate(field.sources or ()):
            yield ("fields", name, "from", index), _without_quoted(path_of(source))
    for index, path in enumerate(schema.user_agent):
        yield ("user_agent", index), _without_quoted(path)
    for index, way in enumerate(schema.ways):
        yield ("records", index), _without_quoted(".".join(levels(way)))


def _without_quoted(path: str) -> str:
    return re.sub(r'(^|\.)"[^"]+"', r"\1_", path)


def shadowed_records(schema: Schema, _: date) -> Iterator[tuple[Loc, str]]:
    """Find paths after ``.``: the event itself is always there."""
    for index in range(len(schema.ways)):
        if "." in schema.ways[:index]:
            message = "`.` before it is always there and decides; put `.` last"
            yield ("records", index), message


def same_source(schema: Schema, _: date) -> Iterator[tuple[Loc, str]]:
    """Find two fields that store the same values from the same place."""
    for (first, one), (second, other) in combinations(schema.fields.items(), 2):
        common = set(one.places(first)) & set(other.places(second))
        if common and one.overlaps(other):
            message = f"`{first}` takes the same values from the same path; leave one of them out"
            yield ("fields", second), message


def idle_alias(schema: Schema, _: date) -> Iterator[tuple[Loc, str]]:
    """Find aliases of a value for itself, or for a spelling that ``fold_case`` accepts."""
    for name, field in schema.fields.items():
        if not isinstance(field, EnumField):
            continue
        for alias, value in field.aliases.items():
            folded = field.fold_case and alias.isascii() and alias.lower() == value.lower()
            if alias == value or folded:
                message = "the value is taken without this alias; leave it out"
                yield ("fields", name, "aliases", alias), message


def no_tests(schema: Schema, _: date) -> Iterator[tuple[Loc, str]]:
    """Find schemas without tests."""
    if not schema.tests:
        yield (), "there are no `tests`; write one with an event and what it `keeps`"


def no_never_contains(schema: Schema, _: date) -> Iterator[tuple[Loc, str]]:
    """Find tests of which none names a text that must not come out."""
    if schema.tests and not any(test.never_contains for test in schema.tests):
        message = "no test says what must not come out; plant a text and name it"
        yield ("tests",), f"{message} in `never_contains`"


def unguarded_content(schema: Schema, _: date) -> Iterator[tuple[Loc, str]]:
    """Find test events with content that no ``never_contains`` looks for."""
    for index, test in enumerate(schema.tests):
        planted = not schema.content_names.keys().isdisjoint(_keys(test.event))
        if planted and not test.never_contains:
            message = "its event carries content; name a text of it in `never_contains`"
            yield ("tests", index), message


def _keys(value: Any) -> Iterator[str]:
    """Yield every key of a JSON value, at any depth (the loader limits it)."""
    if isinstance(value, dict):
        yield from value
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for part in inner:
        yield from _keys(part)


def idle_never_contains(schema: Schema, _: date) -> Iterator[tuple[Loc, str]]:
    """Find texts that are not in the event, and so cannot come out of it."""
    for index, test in enumerate(schema.tests):
        event = orjson.dumps(test.event).decode()
        for place, text in enumerate(test.never_contains):
            if text not in event and orjson.dumps(text).decode()[1:-1] not in event:
                message = "this text is not in the event, so the test cannot fail; plant it there"
                yield ("tests", index, "never_contains", place), message
