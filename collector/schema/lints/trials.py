"""Lints of tests: a schema without tests, and tests that could not fail."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from typing import Any

import orjson

from collector.schema.model import Schema
from collector.schema.source import Loc

__all__ = ["idle_never_contains", "no_never_contains", "no_tests", "unguarded_content"]


def no_tests(schema: Schema, _: date) -> Iterator[tuple[Loc, str]]:
    """What a schema does is shown by an event and what is left of it."""
    if not schema.tests:
        yield (), "there are no `tests`; write one with an event and what it `keeps`"


def no_never_contains(schema: Schema, _: date) -> Iterator[tuple[Loc, str]]:
    """The point of a schema is what it does not let through."""
    if schema.tests and not any(test.never_contains for test in schema.tests):
        message = "no test says what must not come out; plant a text and name it"
        yield ("tests",), f"{message} in `never_contains`"


def unguarded_content(schema: Schema, _: date) -> Iterator[tuple[Loc, str]]:
    """Content is planted, and nobody looks whether it comes out."""
    for index, test in enumerate(schema.tests):
        planted = not schema.content_names.keys().isdisjoint(_keys(test.event))
        if planted and not test.never_contains:
            message = "its event carries content; name a text of it in `never_contains`"
            yield ("tests", index), message


def _keys(value: Any) -> Iterator[str]:
    """Every key of a JSON value, at any depth (the loader limits it)."""
    if isinstance(value, dict):
        yield from value
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for part in inner:
        yield from _keys(part)


def idle_never_contains(schema: Schema, _: date) -> Iterator[tuple[Loc, str]]:
    """A text that is not in the event cannot come out of it."""
    for index, test in enumerate(schema.tests):
        event = orjson.dumps(test.event).decode()
        for place, text in enumerate(test.never_contains):
            if text not in event and orjson.dumps(text).decode()[1:-1] not in event:
                message = "this text is not in the event, so the test cannot fail; plant it there"
                yield ("tests", index, "never_contains", place), message
