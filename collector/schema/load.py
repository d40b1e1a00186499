"""From a file to a schema, or to the list of everything that is wrong with it.

The parts of a document (head, purposes, fields, tests) are validated one by one, so that a fault in
one hides none in another; then the whole is checked against policy, with the remnants of faulty
parts in their places.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from collector.errors import CODES, Fault, SchemaError
from collector.schema import remnant, shelf
from collector.schema.checks import CHECKS, nearest
from collector.schema.kinds import KINDS, FieldBase
from collector.schema.model import EMPTIED, Head, Purpose, Schema, Trial
from collector.schema.source import Loc, Source, read

__all__ = ["load_schema", "load_schemas", "parse", "parse_source", "validate_part"]

_M = TypeVar("_M", bound=BaseModel)


def load_schema(reference: str | Path) -> Schema:
    """The schema of a file path, or of a shipped schema's name.

    Raises ``SchemaError``, whose ``faults`` are all that is wrong with the document.
    """
    return load_schemas([reference])[0]


def load_schemas(references: Iterable[str | Path]) -> list[Schema]:
    """Several schemas at once; the faults of all of them are raised together."""
    schemas: list[Schema] = []
    faults: list[Fault] = []
    for reference in references:
        schema, found = parse(reference)
        faults += found
        if schema is not None:
            schemas.append(schema)
    if faults:
        raise SchemaError(faults)
    return schemas


def parse(reference: str | Path) -> tuple[Schema | None, list[Fault]]:
    """The schema, or ``None`` and every fault of the document, in the order of its lines."""
    path = reference if isinstance(reference, Path) else shelf.schema(reference)
    if path is None:
        hint = nearest(str(reference), shelf.names()) or "; see `collector schema list`"
        return None, [
            Source(str(reference)).fault((), "E140", f"no shipped schema has this name{hint}")
        ]
    return parse_source(read(path, str(path)))


def parse_source(source: Source) -> tuple[Schema | None, list[Fault]]:
    """The same of a document that was read already."""
    schema = _document(source) if source.value is not None or not source.faults else None
    found = sorted(dict.fromkeys(source.faults), key=lambda fault: (fault.line, fault.column))
    return (None, found) if found else (schema, [])


def _document(source: Source) -> Schema | None:
    if not isinstance(source.value, dict):
        source.report((), "E107", "a schema document must be a mapping of keys to values")
        return None
    document: dict[str, Any] = source.value
    head = validate_part(Head, document, (), source) or remnant.of_head(document)
    listed = document.get("tests")
    tests = [
        validate_part(Trial, value, ("tests", index), source)
        for index, value in enumerate(listed if isinstance(listed, list) else [])
    ]
    parts = dict(head)
    parts["purposes"] = {
        name: validate_part(Purpose, value, ("purposes", name), source) or remnant.of_purpose(value)
        for name, value in _items(document, "purposes")
    }
    parts["fields"] = {
        name: _field(value, ("fields", name), source) or remnant.of_field(value)
        for name, value in _items(document, "fields")
    }
    parts["tests"] = [test for test in tests if test]
    schema = Schema.model_construct(**parts)
    for check in CHECKS:
        for loc, code, message in check(schema):
            source.report(loc, code, message)
    return schema


def _items(document: dict[str, Any], key: str) -> Iterator[tuple[str, Any]]:
    part = document.get(key)
    yield from part.items() if isinstance(part, dict) else ()


def validate_part(model: type[_M], value: Any, loc: Loc, source: Source) -> _M | None:
    """A part of the document, or ``None`` once its faults are reported."""
    part, details = None, []
    try:
        text = orjson.dumps(value)
        part = TypeAdapter(model).validate_json(text, strict=True, context=source.directory)
    except ValidationError as error:
        details = error.errors(include_input=False, include_url=False)
    for detail in details:
        source.report(*_fault(detail, model, loc, value))
    blank = _blank(value) - {detail["loc"][0] for detail in details if detail["loc"]}
    for key in sorted(blank):
        source.report((*loc, key), "E107", "nothing is written here; fill it in, or leave it out")
    return None if details or blank else part


def _blank(part: Any) -> set[str | int]:
    """The keys of a part that lead to nothing: a limit left blank is not the wish for none."""
    pairs = part.items() if isinstance(part, dict) else ()
    return {key for key, value in pairs if value is None and key != "event"}


def _field(value: Any, loc: Loc, source: Source) -> FieldBase | None:
    if not isinstance(value, dict):
        source.report(loc, "E107", "a field must be a mapping that starts with `kind`")
        return None
    kind = value.get("kind")
    model = KINDS.get(kind) if isinstance(kind, str) else None
    if model is None:
        if kind is None:
            source.report(loc, "E106", f"`kind` is missing; it is one of {', '.join(KINDS)}")
        else:
            hint = nearest(str(kind), list(KINDS)) or f"; kinds are {', '.join(KINDS)}"
            source.report((*loc, "kind"), "E110", f"no such kind{hint}")
        validate_part(remnant.Field, {**value, "kind": ""}, loc, source)
        return None
    field = validate_part(model, value, loc, source)
    if field is None:
        # How options fit together is judged only where nothing else is wrong: look at them alone.
        validate_part(model, remnant.options(value, model), loc, source)
    return field


_WRONG_TYPE = {
    "string_type": "a text (put it in quotes if it looks like a number or a date)",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a mapping of keys to values",
    "mapping_type": "a mapping of keys to values",
    "model_type": "a mapping of keys to values",
    "model_attributes_type": "a mapping of keys to values",
}
_LIMITS = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}
_ABOUT = {
    "E114": ("aliases",),
    "E115": ("maximum",),
    "E116": ("pattern",),
    "E117": ("pattern",),
    "E118": ("pattern", "catalogue"),
    "E120": ("catalogue",),
    "E121": ("catalogue",),
    "E122": ("minimum",),
}
"""Which option a fault is about that is found when the options are looked at together."""


def _fault(
    detail: ErrorDetails, model: type[BaseModel], loc: Loc, value: Any
) -> tuple[Loc, str, str]:
    """One pydantic error in our words. Its own text is not used: it may quote the document."""
    kind = detail["type"]
    inner = _inner(detail["loc"], value)
    place = (*loc, *inner)
    if kind in CODES:
        about = () if inner else tuple(key for key in _ABOUT.get(kind, ()) if key in value)[:1]
        return (*place, *about), kind, detail["msg"]
    if kind == "missing":
        return place, "E106", f"`{detail['loc'][-1]}` is missing; write it"
    if kind == "extra_forbidden":
        return _unknown(place, inner, model)
    if kind == "literal_error":
        code = {"basis": "E139", "content": "E135"}.get(str(inner[0]), "E141")
        return place, code, f"write one of {(detail.get('ctx') or {}).get('expected')}"
    if kind in _WRONG_TYPE:
        if inner[:1] == ("content",) and _at(value, inner) is None:
            return place, "E308", EMPTIED
        return place, "E107", f"this must be {_WRONG_TYPE[kind]}"
    if kind.startswith(("greater", "less", "finite", "int_", "float_")):
        limits = (detail.get("ctx") or {}).items()
        allowed = " and ".join(f"{_LIMITS[key]} {limit}" for key, limit in limits if key in _LIMITS)
        return place, "E112", f"this must be {allowed or 'a smaller number'}"
    return place, "E107", "this cannot be read; see docs/schema.md"


def _inner(loc: Loc, value: Any) -> Loc:
    """The keys and indices of a pydantic location; its marks for keys and unions are left out."""
    inner: list[str | int] = []
    for part in loc:
        known = range(len(value)) if isinstance(value, list) else value
        if isinstance(known, dict | range) and part in known:
            inner.append(part)
            value = value[part]
    return tuple(inner)


def _at(value: Any, loc: Loc) -> Any:
    for part in loc:
        value = value[part]
    return value


def _unknown(place: Loc, inner: Loc, model: type[BaseModel]) -> tuple[Loc, str, str]:
    within = model.model_fields[str(inner[0])].annotation if len(inner) > 1 else model
    known = _options(within) if isinstance(within, type) and issubclass(within, BaseModel) else []
    if within is model and issubclass(model, FieldBase):
        every = {option for kind in KINDS.values() for option in _options(kind)}
        if inner[-1] in every:
            return place, "E111", "this option belongs to another kind; leave it out"
    hint = nearest(str(inner[-1]), known) or f"; keys are {', '.join(known)}"
    return place, "E105", f"there is no such key here{hint}"


def _options(model: type[BaseModel]) -> list[str]:
    return [info.alias or name for name, info in model.model_fields.items()]
