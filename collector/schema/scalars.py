"""The scalar types of a schema document: names, paths, durations and dates.

Each is an annotated type for pydantic. A validator raises ``PydanticCustomError`` whose type is one
of our codes; its text is a constant and never quotes a value.
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from datetime import date, timedelta
from typing import Annotated, TypeVar

from pydantic import AfterValidator, PlainSerializer, PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from collector.units import parse_span, span_text

__all__ = [
    "Catalogue",
    "Day",
    "Duration",
    "FieldName",
    "Name",
    "Path",
    "Paths",
    "Period",
    "Reason",
    "RecordsPath",
    "Text",
    "Version",
    "Window",
    "fault",
    "keys",
    "unique",
]

RESERVED = frozenset({"schema", "received", "count"})
"""Keys that a record, or a row of the store, has besides its fields."""

_MAX_SEGMENTS = 8
_LONGEST_SECONDS = 100 * 31_536_000
"""A hundred years."""
_WINDOW_CHARACTERS = 6
"""Five digits and the unit."""
_H = TypeVar("_H", bound=Hashable)


def fault(code: str, message: str, key: str | None = None) -> PydanticCustomError:
    """Make an error that carries one of our codes through pydantic, and the key of an option that
    it is about."""
    return PydanticCustomError(code, message, None if key is None else {"key": key})


def unique(values: tuple[_H, ...], code: str, what: str) -> tuple[_H, ...]:
    """Return the values, if there is at least one and none twice; else raise ``code``."""
    if not values or len(set(values)) < len(values):
        raise fault(code, f"list at least one {what}, and each only once")
    return values


def _matches(pattern: str, code: str, message: str) -> AfterValidator:
    accepts = re.compile(pattern, re.ASCII).fullmatch

    def check(text: str) -> str:
        if not accepts(text):
            raise fault(code, message)
        return text

    return AfterValidator(check)


def _field_name(text: str) -> str:
    if text in RESERVED:
        raise fault(
            "E138",
            "`schema`, `received` and `count` are keys of the record itself; use another name",
        )
    return text


_INDEX = re.compile(r"\[(0|[1-9][0-9]?)\]", re.ASCII)
"""The element of an event that is a list: ``[0]`` to ``[99]``, at the start of a path only."""


def keys(path: str) -> tuple[str | int, ...]:
    """Split a path into keys; an element of a list is a number: ``[2].ip`` is ``(2, "ip")``."""
    first, *others = path.split(".")
    index = _INDEX.fullmatch(first)
    return (int(index[1]) if index else first, *others)


def _path(text: str) -> str:
    segments = text.split(".")
    if len(text) > 256 or len(segments) > _MAX_SEGMENTS or not all(segments):
        raise fault("E128", f"a path must be 1 to {_MAX_SEGMENTS} names joined by single dots")
    if not text.isprintable():
        raise fault("E128", "a path must be made of printable characters")
    if "*" in segments:
        raise fault("E128", "`*` may only be the last part of a path under `records`")
    names = segments[1:] if _INDEX.fullmatch(segments[0]) else segments
    if any(re.search(r"\[[^\]]*\]$", name) for name in names):
        raise fault("E128", "write an element of a list as [0] to [99], at the start of the path")
    return text


def _records_path(text: str) -> str:
    """Check a path, a path that ends in ``*`` (each object below it), or ``.`` (the event)."""
    if text != ".":
        _path(text.removesuffix(".*"))
    return text


def _unique_paths(paths: tuple[str, ...]) -> tuple[str, ...]:
    return unique(paths, "E129", "path")


def _reason(text: str) -> str:
    if len(re.findall(r"\w", text)) < 3:
        raise fault("E134", "say in words why this is needed")
    return text


def _text(text: str) -> str:
    if not re.search(r"\w", text):
        raise fault("E108", "write it in words")
    return text


def _duration(units: str) -> PlainValidator:
    message = f"write a whole number and one of {', '.join(units)}, for example 30d"

    def check(text: object) -> timedelta:
        if isinstance(text, timedelta):
            return text
        seconds = parse_span(text, units) if isinstance(text, str) else None
        if seconds is None or seconds > _LONGEST_SECONDS:
            raise fault("E126", message)
        return timedelta(seconds=seconds)

    return PlainValidator(check, json_schema_input_type=str)


def _window(text: object) -> timedelta:
    if isinstance(text, timedelta):
        return text
    written = text.removeprefix("±") if isinstance(text, str) else ""
    seconds = parse_span(written, "smhdw") if len(written) <= _WINDOW_CHARACTERS else None
    if seconds is None:
        raise fault("E124", "write ± and a whole number with s, m, h, d or w, for example ±7d")
    return timedelta(seconds=seconds)


def _day(text: object) -> date:
    if isinstance(text, date):
        return text
    written = isinstance(text, str) and re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text)
    try:
        return date.fromisoformat(written[0] if written else "")
    except ValueError:
        pass
    raise fault("E127", "write a calendar date as YYYY-MM-DD")


def _written(span: timedelta) -> str:
    return span_text(int(span.total_seconds()))


_SPAN = (PlainSerializer(_written, return_type=str), WithJsonSchema({"type": "string"}))

Name = Annotated[
    str,
    _matches(
        r"(?=.{1,64}$)[a-z][a-z0-9]*([-_][a-z0-9]+)*",
        "E108",
        "a name must be lower case, at most 64 characters: words of a-z, 0-9 joined by - or _",
    ),
]
FieldName = Annotated[
    str,
    _matches(
        r"[a-z][a-z0-9_]{0,63}(\.[a-z0-9_]{1,64}){0,7}",
        "E108",
        "a field name must be 1 to 8 lower-case words of a-z, 0-9, _ joined by dots",
    ),
    AfterValidator(_field_name),
]
Version = Annotated[
    str,
    _matches(
        r"(0|[1-9][0-9]{0,5})(\.(0|[1-9][0-9]{0,5})){2}",
        "E109",
        "write a version as MAJOR.MINOR.PATCH, for example 1.0.0",
    ),
]
Catalogue = Annotated[
    str,
    _matches(
        r"[a-z0-9][a-z0-9_-]{0,63}",
        "E108",
        "a catalogue name must be lower case: a-z, 0-9, - and _",
    ),
]
Path = Annotated[str, AfterValidator(_path)]
RecordsPath = Annotated[str, AfterValidator(_records_path)]
Paths = Annotated[tuple[Path, ...], AfterValidator(_unique_paths)]
Reason = Annotated[str, AfterValidator(_reason)]
Text = Annotated[str, AfterValidator(_text)]
Duration = Annotated[timedelta, _duration("hdwy"), *_SPAN]
Period = Annotated[timedelta, _duration("mhdw"), *_SPAN]
Window = Annotated[timedelta, PlainValidator(_window), *_SPAN]
Day = Annotated[
    date,
    PlainValidator(_day),
    PlainSerializer(date.isoformat, return_type=str),
    WithJsonSchema({"type": "string", "format": "date"}),
]
