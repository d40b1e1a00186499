"""Load a schema document: a file becomes a schema, or the list of all its faults.

The parts of a document (head, purposes, fields, tests) are validated one by one, so that a fault in
one hides none in another; then the whole is checked against policy, with placeholders for faulty
parts that hold as much of them as the checks read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from collector.contracts import CATEGORIES
from collector.errors import CODES, Fault, SchemaError
from collector.schema import resources
from collector.schema.checks import CHECKS, nearest
from collector.schema.kinds import KINDS, FieldBase
from collector.schema.model import EMPTIED, DocumentHead, Purpose, Schema, Trial
from collector.schema.reading import read
from collector.schema.scalars import ConditionalPath
from collector.schema.source import Loc, Source

_T = TypeVar("_T")
_M = TypeVar("_M", bound=BaseModel)


def load_schema(reference: str | Path) -> Schema:
    """Load the schema of a file path, or of a shipped schema's name.

    Raises ``SchemaError``, whose ``faults`` are all faults of the document.
    """
    return load_schemas([reference])[0]


def load_schemas(references: Iterable[str | Path]) -> list[Schema]:
    """Load several schemas; the faults of all of them are raised together."""
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
    """Return the schema, or ``None`` and every fault of the document, by line."""
    path = reference if isinstance(reference, Path) else resources.schema(reference)
    if path is None:
        hint = nearest(str(reference), resources.names()) or "; see `collector schema list`"
        if Path(reference).exists():
            hint = (
                ", and the name of a schema file ends in `.yaml`; `collector schema new` writes one"
            )
        message = f"no shipped schema has this name{hint}"
        return None, [Source(str(reference)).fault((), "E101", message)]
    return parse_source(read(path, str(path)))


def parse_source(source: Source) -> tuple[Schema | None, list[Fault]]:
    """Parse a document that was read already."""
    schema = _document(source) if source.value is not None or not source.faults else None
    found = sorted(dict.fromkeys(source.faults), key=lambda fault: (fault.line, fault.column))
    return (None, found) if found else (schema, [])


def _document(source: Source) -> Schema | None:
    if not isinstance(source.value, dict):
        source.report((), "E107", "a schema document must be a mapping of keys to values")
        return None
    document: dict[str, Any] = source.value
    if document and not {"schema", "fields"} & document.keys():
        # It may be an event, whose keys are not to be named.
        message = "this is no schema document: it needs the keys `schema` and `fields`"
        source.report((), "E106", message)
        return None
    head = validate_part(DocumentHead, document, (), source) or _head_placeholder(document)
    listed = document.get("tests")
    tests = [
        validate_part(Trial, value, ("tests", index), source)
        for index, value in enumerate(listed if isinstance(listed, list) else [])
    ]
    parts = dict(head)
    parts["purposes"] = {
        name: validate_part(Purpose, value, ("purposes", name), source)
        or _purpose_placeholder(value)
        for name, value in _items(document, "purposes")
    }
    parts["fields"] = {
        name: validate_field(value, ("fields", name), source) or _field_placeholder(value)
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
    """Validate a part of the document; report its faults and return ``None`` if it has any."""
    part, details = None, []
    try:
        text = orjson.dumps(value)
        part = model.model_validate_json(text, strict=True, context=source.directory)
    except ValidationError as error:
        details = error.errors(include_input=False, include_url=False)
    for detail in details:
        source.report(*_fault(detail, model, loc, value))
    blank = _blank(value) - {detail["loc"][0] for detail in details if detail["loc"]}
    for key in sorted(blank):
        source.report((*loc, key), "E107", "nothing is written here; fill it in, or leave it out")
    return None if details or blank else part


def _blank(part: Any) -> set[str | int]:
    """Return the keys without a value: a limit left blank does not mean no limit."""
    pairs = part.items() if isinstance(part, dict) else ()
    return {key for key, value in pairs if value is None and key != "event"}


def validate_field(value: Any, loc: Loc, source: Source) -> FieldBase | None:
    """Validate a field by its kind; report its faults and return ``None`` if it has any."""
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
            source.report((*loc, "kind"), "E107", f"no such kind{hint}")
        validate_part(PlaceholderField, {**value, "kind": ""}, loc, source)
        return None
    field = validate_part(model, value, loc, source)
    if field is None:
        # Options are validated together only where nothing else is wrong: try them alone.
        validate_part(model, _own_options(value, model), loc, source)
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


def _fault(
    detail: ErrorDetails, model: type[BaseModel], loc: Loc, value: Any
) -> tuple[Loc, str, str]:
    """Translate a pydantic error, whose own text may quote the document and is not used."""
    kind = detail["type"]
    inner = _inner(detail["loc"], value)
    place = (*loc, *inner)
    if kind in CODES:
        return (*place, *(detail.get("ctx") or {}).get("keys", ())), kind, detail["msg"]
    if kind == "missing":
        return place, "E106", f"`{detail['loc'][-1]}` is missing; write it"
    if kind == "extra_forbidden":
        return _unknown(place, inner, model)
    if kind == "literal_error":
        return place, "E107", f"write one of {(detail.get('ctx') or {}).get('expected')}"
    if kind in _WRONG_TYPE:
        if inner[:1] == ("content",) and _at(value, inner) is None:
            return place, "E308", EMPTIED
        return place, "E107", f"this must be {_WRONG_TYPE[kind]}"
    if kind.startswith(("greater", "less", "finite", "int_", "float_")):
        limits = (detail.get("ctx") or {}).items()
        allowed = " and ".join(f"{_LIMITS[key]} {limit}" for key, limit in limits if key in _LIMITS)
        return place, "E107", f"this must be {allowed or 'a smaller number'}"
    return place, "E107", "this cannot be read; see docs/schema.md"


def _inner(loc: Loc, value: Any) -> Loc:
    """Return the keys and indices of a pydantic location, without its marks for unions."""
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
    within: Any = model if len(inner) == 1 else ConditionalPath
    if len(inner) == 2 and inner[0] != "records":
        # a mapping under a key; those of a list, and of `records`, are conditional paths
        within = model.model_fields[str(inner[0])].annotation
    known = _options(within) if isinstance(within, type) and issubclass(within, BaseModel) else []
    if within is model and issubclass(model, FieldBase):
        every = {option for kind in KINDS.values() for option in _options(kind)}
        if inner[-1] in every:
            return place, "E105", "this option belongs to another kind; leave it out"
    hint = nearest(str(inner[-1]), known) or f"; keys are {', '.join(known)}"
    return place, "E105", f"there is no such key here{hint}"


def _options(model: type[BaseModel]) -> list[str]:
    return [info.alias or name for name, info in model.model_fields.items()]


_ALLOWED_USE = "essential.service.operations"
_ALLOWED_CATEGORY = "system"
_PLACEHOLDERS = {
    "category": _ALLOWED_CATEGORY,
    "purposes": ["any"],
    "retention": "1d",
    "reason": "any",
}


def _own_options(value: dict[str, Any], model: type[BaseModel]) -> dict[str, Any]:
    """Return the options of the kind alone, with valid values for those of every field."""
    common = {info.alias or name for name, info in FieldBase.model_fields.items()} - {"kind"}
    own = {key: value[key] for key in value if key in model.model_fields and key not in common}
    return own | _PLACEHOLDERS


class PlaceholderField(FieldBase):
    """Stands in for a field of an unknown kind or with faults; its options are not read."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="ignore")

    def size(self) -> int:
        return 1

    def is_text(self) -> bool:
        """Judge the name as of a field of the kind that is written, or leave it alone."""
        kind = KINDS.get(self.kind)
        return kind is not None and kind.may_be_text()

    def can_spell(self) -> bool:
        return False


def _field_placeholder(value: Any) -> FieldBase:
    """Keep kind, paths, category and purposes; required, so that the width does not grow."""
    part = value if isinstance(value, dict) else {}
    values: dict[str, Any] = {
        "kind": str(part.get("kind")),
        "sources": _texts(_paths(part.get("from"))),
        "category": _text(part.get("category"), _ALLOWED_CATEGORY),
        "purposes": _texts(part.get("purposes")),
        "required": True,
        "also": _text(part.get("also"), None),
        "derive": "user_agent" if part.get("derive") == "user_agent" else None,
        "source": "peer" if part.get("source") == "peer" else None,
    }
    return PlaceholderField.model_construct(**values)


def _purpose_placeholder(value: Any) -> Purpose:
    """Keep the use."""
    use = value.get("use") if isinstance(value, dict) else None
    values: dict[str, Any] = {"use": _text(use, _ALLOWED_USE)}
    return Purpose.model_construct(**values)


def _head_placeholder(document: dict[str, Any]) -> DocumentHead:
    """Keep the content names, the paths and the greatest width."""
    content, records, bits = (document.get(key) for key in ("content", "records", "max_bits"))
    added = content if isinstance(content, dict) else {}
    values: dict[str, Any] = {
        "content": {key: _texts(added[key]) for key in CATEGORIES if key in added},
        "records": _texts(_paths(_as_list(records))) or None,
        "user_agent": _texts(document.get("user_agent")),
        "consent": _text(document.get("consent"), None),
        "also_collected": _as_mapping(document.get("also_collected")),
        "max_bits": bits if type(bits) is int and bits > 0 else None,
    }
    return DocumentHead.model_construct(**values)


def _paths(value: Any) -> Any:
    """Return sources, or ways to records, without their conditions."""
    if not isinstance(value, list):
        return value
    return [item.get("path") if isinstance(item, dict) else item for item in value]


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str | dict) else value


def _as_mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any, otherwise: _T) -> str | _T:
    return value if isinstance(value, str) else otherwise


def _texts(value: Any) -> tuple[str, ...]:
    """Return a tuple of texts, with an empty one for each other item."""
    return tuple(_text(item, "") for item in value) if isinstance(value, list) else ()
