"""From a file to a schema, or to the list of everything that is wrong with it.

The parts of a document (head, purposes, fields, tests) are validated one by one, so that a fault in
one hides none in another; what is well formed is then checked against policy.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from collector.errors import CODES, Fault, SchemaError
from collector.schema import shelf
from collector.schema.checks import CHECKS, nearest
from collector.schema.kinds import KINDS, FieldBase
from collector.schema.model import Head, Purpose, Schema, Trial
from collector.schema.source import Loc, Source, read

__all__ = ["load_schema", "load_schemas", "parse"]

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
    source = read(path, str(path))
    schema = None
    if not source.faults:
        schema = _document(source)
    faults = sorted(set(source.faults), key=lambda fault: (fault.line, fault.column, fault.code))
    return (None, faults) if faults else (schema, [])


def _document(source: Source) -> Schema | None:
    if not isinstance(source.value, dict):
        source.report((), "E107", "a schema document is a mapping of keys to values")
        return None
    document: dict[str, Any] = source.value
    head = _validate(Head, document, (), source)
    purposes = {
        name: _validate(Purpose, value, ("purposes", name), source)
        for name, value in _items(document, "purposes")
    }
    fields: dict[str, Any] = {
        name: _field(value, ("fields", name), source) for name, value in _items(document, "fields")
    }
    listed = document.get("tests")
    tests = [
        _validate(Trial, value, ("tests", index), source)
        for index, value in enumerate(listed if isinstance(listed, list) else [])
    ]
    basis = (
        head.model_dump(exclude={"purposes", "fields", "tests"}) if head else _stand_in(document)
    )
    schema = Schema.model_construct(
        **basis,
        purposes={name: purpose for name, purpose in purposes.items() if purpose},
        fields={name: field for name, field in fields.items() if field is not None},
        tests=[test for test in tests if test],
    )
    undefined = set(purposes) - set(schema.purposes)
    for check in CHECKS:
        for loc, code, message in check(schema):
            if not (code == "E132" and _at(document, loc) in undefined):
                source.report(loc, code, message)
    return schema


def _items(document: dict[str, Any], key: str) -> Iterator[tuple[str, Any]]:
    part = document.get(key)
    yield from part.items() if isinstance(part, dict) else ()


def _at(value: Any, loc: Loc) -> Any:
    for key in loc:
        value = value[key]
    return value


def _stand_in(document: dict[str, Any]) -> dict[str, Any]:
    """A head for a document whose own is faulty, so that policy is checked all the same."""
    records = document.get("records")
    return {
        "name": "unnamed",
        "version": "0.0.0",
        "title": "",
        "owner": "",
        "content": {},
        "records": records if isinstance(records, str) else None,
        "max_bits": None,
    }


def _validate(model: type[_M], value: Any, loc: Loc, source: Source) -> _M | None:
    """A part of the document, or ``None`` once its faults are reported."""
    details: list[ErrorDetails] = []
    try:
        text = orjson.dumps(value)
    except (TypeError, orjson.JSONEncodeError):
        source.report(loc, "E112", "a number is beyond 64 bits")
        return None
    try:
        return TypeAdapter(model).validate_json(text, strict=True, context=source.directory)
    except ValidationError as error:
        details = error.errors(include_input=False, include_url=False)
    for detail in details:
        source.report(*_fault(detail, model, loc, value))
    return None


def _field(value: Any, loc: Loc, source: Source) -> FieldBase | None:
    if not isinstance(value, dict):
        source.report(loc, "E107", "a field is a mapping that starts with `kind`")
        return None
    kind = value.get("kind")
    if kind is None:
        source.report(loc, "E106", f"`kind` is missing; it is one of {', '.join(KINDS)}")
        return None
    if not isinstance(kind, str) or kind not in KINDS:
        hint = nearest(str(kind), list(KINDS)) or f"; kinds are {', '.join(KINDS)}"
        source.report((*loc, "kind"), "E110", f"no such kind{hint}")
        return None
    return _validate(KINDS[kind], value, loc, source)


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


def _fault(
    detail: ErrorDetails, model: type[BaseModel], loc: Loc, value: Any
) -> tuple[Loc, str, str]:
    """One pydantic error in our words. Its own text is not used: it may quote the document."""
    kind = detail["type"]
    inner = tuple(part for part in detail["loc"] if part != "[key]")
    place = (*loc, *inner)
    if kind in CODES:
        return place, kind, detail["msg"]
    if kind == "missing":
        return place[:-1], "E106", f"`{inner[-1]}` is missing"
    if kind == "extra_forbidden":
        return _unknown(place, inner, model)
    if kind == "literal_error":
        code = {"basis": "E139"}.get(
            str(inner[-1]), "E141" if "[key]" not in detail["loc"] else "E135"
        )
        return place, code, f"one of {detail['ctx']['expected']}" if "ctx" in detail else "unknown"
    if kind in _WRONG_TYPE:
        return place, "E107", f"this must be {_WRONG_TYPE[kind]}"
    if kind.startswith(("greater", "less", "finite", "int_", "float_")):
        limits = ", ".join(f"{key} {limit}" for key, limit in (detail.get("ctx") or {}).items())
        return place, "E112", f"this is outside its limits ({limits})" if limits else "too large"
    return place, "E107", "this cannot be read"


def _unknown(place: Loc, inner: Loc, model: type[BaseModel]) -> tuple[Loc, str, str]:
    known = [info.alias or name for name, info in model.model_fields.items()]
    if len(inner) > 1:
        return place, "E105", "there is no such key here"
    if issubclass(model, FieldBase):
        every = {i.alias or n for k in KINDS.values() for n, i in k.model_fields.items()}
        if str(inner[-1]) in every:
            return place, "E111", "this option belongs to another kind"
    return place, "E105", f"there is no such key here{nearest(str(inner[-1]), known)}"
