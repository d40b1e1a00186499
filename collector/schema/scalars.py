"""The scalar types of a schema document: names, paths, durations and dates.

Each is an annotated type for pydantic. A validator raises ``PydanticCustomError`` whose type is one
of our codes; its text is a constant and never quotes a value.
"""

from __future__ import annotations

import json
import re
from collections.abc import Hashable
from datetime import date, timedelta
from functools import lru_cache, partial
from typing import Annotated, TypeVar

from pydantic import (
    AfterValidator,
    Discriminator,
    PlainSerializer,
    PlainValidator,
    Tag,
    WithJsonSchema,
    field_validator,
)
from pydantic import Field as Option

from collector.documents import LISTED, Hint, Part, fault, pattern
from collector.schema.conditions import PLAIN, Condition, When
from collector.units import parse_span, span_text

RESERVED = frozenset({"schema", "received", "count"})
"""Keys that a record, or a row of the store, has in addition to its fields."""

RESERVED_PREFIX = "sqlite_"
"""SQLite reserves table names with this prefix, so no schema may have one."""

PRINTABLE = r"[^\x00-\x1f\x7f]"
_LETTER = r"[^\x00-/:-@\[-\^`{-\x7f]"
"""A word character, or any character beyond ASCII: ECMAScript's ``\\w`` would refuse other
scripts."""
_MAX_SEGMENTS = 8
_LONGEST_SECONDS = 100 * 31_536_000
"""A hundred years."""
_WINDOW_CHARACTERS = 6
"""Five digits and the unit."""
_H = TypeVar("_H", bound=Hashable)


def unique(values: tuple[_H, ...], code: str, what: str) -> tuple[_H, ...]:
    """Return the values if there is at least one and none is repeated; else raise ``code``."""
    if not values or len(set(values)) < len(values):
        raise fault(code, f"list one {what} or more, and none twice")
    return values


def _matches(form: str, code: str, message: str) -> tuple[AfterValidator, Hint]:
    accepts = partial(re.fullmatch, form, flags=re.ASCII)

    def check(text: str) -> str:
        if not accepts(text):
            raise fault(code, message)
        return text

    return AfterValidator(check), pattern(form, message)


def _field_name(text: str) -> str:
    if text in RESERVED:
        raise fault(
            "E107",
            "a record has keys `schema`, `received` and `count` of its own; use another name",
        )
    return text


def _schema_name(text: str) -> str:
    if text.startswith(RESERVED_PREFIX):
        message = f"SQLite reserves names that begin with `{RESERVED_PREFIX}`; use another name"
        raise fault("E107", message)
    return text


_ASCII = r"[\x20\x21\x23-\x2d\x2f-\x5b\x5d-\x7e]"
"""A printable character, except the dot and those that JSON has to escape."""
_NUMBER = "(0|[1-9][0-9]?)"
_INDEX = rf"(\[{_NUMBER}\])"


def _path_pattern(mark: str = "", marked: str = "") -> str:
    """Write the pattern of dotted segments: each an ASCII name or, in quotes, any text, then
    elements of lists, then a ``mark`` of a list. ``marked`` excludes that mark from the brackets
    that may not end a name."""
    end = rf"{mark}(\.|$)"
    other = rf"[^.]*\[(?!{_NUMBER}\]{marked})[^.\]]*\]{_INDEX}*{end}"
    plain = rf"(?!\*+{_INDEX}*{end}|{_INDEX}*{end}|{other}){_ASCII}+"
    segment = rf"(\"{PLAIN}+\"{_INDEX}*{mark}|{plain})"
    return rf"({_INDEX}+{mark}|{segment})(\.{segment}){{0,{_MAX_SEGMENTS - 1}}}"


_PATH_PATTERN = _path_pattern()
"""A path of any length."""
_RECORDS_PATTERN = r"(?!.*\[\]\.\*$)(\.|\*|" + _path_pattern(r"(\[\])?", r"|\](\.|$)") + r"(\.\*)?)"
"""A path to records: ``[]`` after a segment says that the rest is in each element of the list."""

_PATH = pattern(
    _PATH_PATTERN,
    "1 to 8 names joined by single dots, with dots in them only between quotes; elements of lists"
    " are [0] to [99]",
    maxLength=256,
)
_WAY = pattern(
    _RECORDS_PATTERN, "a path, with [] where a list has lists, a path that ends in .*, a dot, or *"
)
_is_path = partial(re.fullmatch, _PATH_PATTERN, flags=re.ASCII)
_is_way = partial(re.fullmatch, _RECORDS_PATTERN, flags=re.ASCII)
_split = re.compile(r'"[^"]+"(?:\[[0-9]*\])*|[^.]+').findall
_parts = re.compile(rf'(?:"([^"]+)"|(.*?))((?:\[{_NUMBER}\])*)', re.ASCII | re.DOTALL).fullmatch
_MAX_PATH = 256


def keys(path: str) -> tuple[str | int, ...]:
    """Split a path into keys; an element of a list is a number: ``[2].a."b.c"[0]`` is
    ``(2, "a", "b.c", 0)``."""
    found: list[str | int] = []
    for segment in _split(path):
        parts = _parts(segment)
        quoted, name, elements = (parts[1], parts[2], parts[3]) if parts else ("", segment, "")
        found += [quoted or name] * bool(quoted or name)
        found += map(int, re.findall("[0-9]+", elements))
    return tuple(found) or ("",)


def levels(way: str) -> tuple[str, ...]:
    """Split a path to records at its lists: ``a.b[].c[]`` leads to ``c`` in each element of
    ``a.b``. Its last path may end in ``.*``."""
    found: list[str] = []
    path: list[str] = []
    for segment in _split(way) or [way]:
        path.append(segment.removesuffix("[]"))
        if segment.endswith("[]"):
            found.append(".".join(path))
            path = []
    return (*found, ".".join(path)) if path else tuple(found)


def is_exact(path: str) -> bool:
    """Return whether a path has a quoted segment, or an element of a list inside an object. Such a
    path is looked up only as it is written, not as one flat key."""
    return '."' in f".{path}" or any(type(key) is int for key in keys(path)[1:])


def spoken(path: str) -> str:
    """Write a path, or a path to records, without quotes and list marks, so that its words are
    judged as if every dot separated two names."""
    found = ""
    for level in levels(path):
        for key in keys(level):
            if type(key) is int:
                found += f"[{key}]"
            else:
                found += "".join(f".{name}" for name in str(key).split(".") if name)
    return found.removeprefix(".")


def lies_in(path: str, other: str) -> bool:
    """Return whether a path equals another or leads through it, nested or as a flat key."""
    names, others = _names(path), _names(other)
    return names[: len(others)] == others


@lru_cache(4096)
def _names(path: str) -> tuple[str | int, ...]:
    """Return the keys of a path, with dotted names split. Results are cached, because every path of
    a schema is compared with all others."""
    names = (key.split(".") if isinstance(key, str) else [key] for key in keys(path))
    return tuple(name for part in names for name in part)


def _path(text: str) -> str:
    if len(text) > _MAX_PATH or not text.isprintable():
        raise fault("E107", f"a path must have at most {_MAX_PATH} printable characters")
    if not _is_path(text):
        raise fault("E107", _message(text))
    return text


def _is_ascii(text: str) -> bool:
    """Return whether a path has letters beyond ASCII only in quotes."""
    return all(segment.isascii() or segment.startswith('"') for segment in _split(text))


def _message(text: str) -> str:
    segments = _split(text)
    if not _is_ascii(text):
        return 'put quotes around a name with letters beyond ASCII: a."größe"'
    if "\\" in text:
        return "a name in a path must not have a backslash"
    if '"' in text:
        return 'put quotes around a whole name and nothing else: a."b.c"'
    if any(segment.endswith("[*]") for segment in segments):
        return "write `[]` after a list under `records`, or one element as [0] to [99]"
    if any(not segment.strip("*") for segment in segments):
        return "`*` may only be the last part of a path under `records`, or stand alone there"
    if any(segment.endswith("[]") for segment in segments):
        return "`[]` is only for paths under `records`; name one element as [0] to [99]"
    if any(segment.endswith("]") for segment in segments):
        return "write an element of a list as [0] to [99], after the name of the list"
    return f"a path must be 1 to {_MAX_SEGMENTS} names with a dot between each two"


def _records_path(text: str) -> str:
    """Check a path, a path that ends in ``.*`` (each object below it), ``.`` (the event), or ``*``
    (each object in a map of events)."""
    if len(text) > _MAX_PATH + 2 or not text.isprintable():
        raise fault("E107", f"a path must have at most {_MAX_PATH} printable characters")
    if not _is_way(text):
        raise fault("E107", _message(text.removesuffix(".*").replace("[].", ".")))
    return text


def beside(path: str, member: str) -> str:
    """Return the path of another member of the object that holds the end of a path."""
    return ".".join([*_split(path)[:-1], f'"{member}"'])


Path = Annotated[str, AfterValidator(_path), _PATH]


class _Conditional(Part):
    path: str
    when: When = Option(
        description="Members beside the value, or of a record, each with the values of which it"
        " must have one."
    )


class ConditionalPath(_Conditional):
    """A path that counts only if members beside its end have listed values."""

    path: Path = Option(description="Where the value may be found.")

    @field_validator("path")
    @classmethod
    def _ends_in_an_object(cls, path: str) -> str:
        if type(keys(path)[-1]) is int:
            raise fault(
                "E107",
                "a condition looks at members beside the value, and a list element has none; name a"
                " member",
            )
        return path


class ConditionalRecords(_Conditional):
    """A path to records; only records whose members have listed values count."""

    path: Annotated[str, AfterValidator(_records_path), _WAY] = Option(
        description="Where the records may be found."
    )


def _form(value: object) -> str:
    return "conditional" if isinstance(value, dict | _Conditional) else "plain"


def path_of(source: Source | RecordsPath) -> str:
    """Return the path of a source or of records."""
    return source if isinstance(source, str) else source.path


def condition_of(source: Source | RecordsPath) -> Condition:
    """Return the condition of a source or of records, which may be empty."""
    return () if isinstance(source, str) else source.when


def written_source(source: Source | RecordsPath) -> str:
    """Write a source or a path to records with its condition on one line, for people."""
    members = [
        f"{name} is {' or '.join(json.dumps(v, ensure_ascii=False) for v in listed.written())}"
        for name, listed in condition_of(source)
    ]
    return " when ".join([path_of(source), *[" and ".join(members)] * bool(members)])


def _unique_paths(paths: tuple[_H, ...]) -> tuple[_H, ...]:
    return unique(paths, "E107", "path")


def _reason(text: str) -> str:
    if len(re.findall(r"\w", text)) < 3:
        raise fault("E107", "say in a few words why this is needed")
    return text


def _text(text: str) -> str:
    if not re.search(r"\w", text):
        raise fault("E107", "write it in words")
    return text


def _duration(units: str) -> PlainValidator:
    message = f"write a whole number and a unit ({', '.join(units)}), for example 30d"

    def check(text: object) -> timedelta:
        if isinstance(text, timedelta):
            return text
        seconds = parse_span(text, units) if isinstance(text, str) else None
        if seconds is None or seconds > _LONGEST_SECONDS:
            raise fault("E107", message)
        return timedelta(seconds=seconds)

    return PlainValidator(check, json_schema_input_type=str)


def _window(text: object) -> timedelta:
    if isinstance(text, timedelta):
        return text
    written = text.removeprefix("±") if isinstance(text, str) else ""
    seconds = parse_span(written, "smhdw") if len(written) <= _WINDOW_CHARACTERS else None
    if seconds is None:
        raise fault("E107", "write ±, a whole number and a unit (s, m, h, d, w), for example ±7d")
    return timedelta(seconds=seconds)


def _day(text: object) -> date:
    if isinstance(text, date):
        return text
    written = isinstance(text, str) and re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text)
    try:
        return date.fromisoformat(written[0] if written else "")
    except ValueError:
        pass
    raise fault("E107", "write a calendar date as YYYY-MM-DD")


def _written(span: timedelta) -> str:
    return span_text(int(span.total_seconds()))


def _span(form: str, message: str) -> tuple[PlainSerializer, WithJsonSchema, Hint]:
    serializer = PlainSerializer(_written, return_type=str)
    return serializer, WithJsonSchema({"type": "string"}), pattern(form, message)


Name = Annotated[
    str,
    *_matches(
        r"(?=.{1,64}$)[a-z][a-z0-9]*([-_][a-z0-9]+)*",
        "E107",
        "write 1 to 64 characters: lower-case words of a-z and 0-9, joined by - or _",
    ),
]
NAMES = Hint(
    items={"type": "string", "pattern": "^[a-z][a-z0-9]*([-_][a-z0-9]+)*$", "maxLength": 64},
    **LISTED.keywords,
)
"""A list of names that the document defines elsewhere."""
DocumentName = Annotated[
    Name, AfterValidator(_schema_name), Hint(**{"not": {"pattern": f"^{RESERVED_PREFIX}"}})
]
FieldName = Annotated[
    str,
    *_matches(
        r"[a-z][a-z0-9_]{0,63}(\.[a-z0-9_]{1,64}){0,7}",
        "E107",
        "write 1 to 8 lower-case words of a-z, 0-9 and _, joined by dots, such as `os.type`",
    ),
    AfterValidator(_field_name),
    Hint(**{"not": {"enum": sorted(RESERVED)}}),
]
Version = Annotated[
    str,
    *_matches(
        r"(0|[1-9][0-9]{0,5})(\.(0|[1-9][0-9]{0,5})){2}",
        "E107",
        "write a version as MAJOR.MINOR.PATCH, for example 1.0.0",
    ),
]
Catalogue = Annotated[
    str,
    *_matches(
        r"[a-z0-9][a-z0-9_-]{0,63}",
        "E107",
        "write the name of a catalogue in lower case: a-z, 0-9, - and _",
    ),
]
RecordsPath = Annotated[
    Annotated[str, AfterValidator(_records_path), _WAY, Tag("plain")]
    | Annotated[ConditionalRecords, Tag("conditional")],
    Discriminator(_form),
]
Paths = Annotated[tuple[Path, ...], AfterValidator(_unique_paths), LISTED]
Source = Annotated[
    Annotated[Path, Tag("plain")] | Annotated[ConditionalPath, Tag("conditional")],
    Discriminator(_form),
]
Sources = Annotated[tuple[Source, ...], AfterValidator(_unique_paths), LISTED]
Reason = Annotated[
    str,
    AfterValidator(_reason),
    Hint(
        pattern=rf"{_LETTER}[\s\S]*{_LETTER}[\s\S]*{_LETTER}",
        patternErrorMessage="say in a few words why this is needed",
    ),
]
Text = Annotated[
    str, AfterValidator(_text), Hint(pattern=_LETTER, patternErrorMessage="write it in words")
]
Duration = Annotated[
    timedelta,
    _duration("hdwy"),
    *_span("([1-9][0-9]{0,5}[hdw]|([1-9][0-9]?|100)y)", "a whole number and h, d, w or y: 30d"),
]
Period = Annotated[
    timedelta,
    _duration("mhdw"),
    *_span("[1-9][0-9]{0,5}[mhdw]", "a whole number and m, h, d or w: 1d"),
]
Window = Annotated[
    timedelta,
    PlainValidator(_window),
    *_span("±?[1-9][0-9]{0,4}[smhdw]", "± and a whole number with s, m, h, d, w"),
]
Day = Annotated[
    date,
    PlainValidator(_day),
    PlainSerializer(date.isoformat, return_type=str),
    WithJsonSchema({"type": "string", "format": "date"}),
    pattern("[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])", "YYYY-MM-DD"),
]
