"""Load a schema document: a file becomes a schema, or the list of all its faults.

The parts of a document (head, purposes, fields, tests) are validated one by one, so that a fault in
one hides none in another. Then the whole is checked against policy, with placeholders for faulty
parts that keep what the checks read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from pydantic import ConfigDict

from collector.contracts import CATEGORIES
from collector.documents import Document, Loc, fields_by_key, nearest, read, validate
from collector.errors import Fault, SchemaError
from collector.schema import resources
from collector.schema.checks import CHECKS, Check
from collector.schema.kinds import KINDS, FieldBase
from collector.schema.model import DocumentHead, Purpose, Schema, Trial

_T = TypeVar("_T")


def load_schema(reference: str | Path) -> Schema:
    """Load a schema by its file path, or a shipped schema by its name.

    Raises ``SchemaError`` with all faults of the document.
    """
    return load_schemas([reference])[0]


def load_schemas(references: Iterable[str | Path]) -> list[Schema]:
    """Load several schemas. Raises ``SchemaError`` with the faults of all."""
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
    if path is None or not _exists(path):
        message = _not_there(str(reference))
        return None, [Document(str(reference), start=(0, 0)).fault((), "E101", message)]
    return parse_source(read(path))


def _exists(path: Path) -> bool:
    """Return whether a file exists. On a system error (which would quote the path), return false:
    the path may be too long, or in a directory without access."""
    try:
        return path.exists()
    except OSError:
        return False


def _not_there(reference: str) -> str:
    """Say why a reference leads to no file, and suggest what may be meant."""
    name = Path(reference).stem if resources.is_path(reference) else reference
    if reference in resources.templates():
        message = "this is a template; copy it with `collector schema new NAME --from"
        return f"{message} {reference}`"
    if reference.startswith("~"):
        return "there is no such file: `~` is not replaced here; write the whole path"
    if name != reference:
        hint = f"the shipped schema is called `{name}`" if name in resources.names() else ""
        return f"there is no such file; {hint or 'check the path'}"
    if _exists(Path(f"{reference}.yaml")):
        return f"no shipped schema has this name; did you mean the file `{reference}.yaml`?"
    if _exists(Path(reference)):
        return "this is no schema: the name of a schema file ends in `.yaml`"
    hint = nearest(reference, resources.names()) or "; `collector schema list` lists them"
    return f"there is no such file, and no shipped schema of this name{hint}"


ReadField = Callable[[Any, Loc, Document], FieldBase | None]


def parse_source(source: Document) -> tuple[Schema | None, list[Fault]]:
    """Parse a document that is already read."""
    return checked(source, validate_field, CHECKS)


def checked(
    source: Document, read_field: ReadField, checks: Iterable[Check]
) -> tuple[Schema | None, list[Fault]]:
    """Parse a document with this reader of fields and these checks."""
    schema = None
    if source.value is not None or not source.faults:
        schema = _document(source, read_field, checks)
    return (None, source.all_faults()) if source.faults else (schema, [])


def _document(source: Document, read_field: ReadField, checks: Iterable[Check]) -> Schema | None:
    if not isinstance(source.value, dict):
        source.report(
            (), "E107", "a schema must be a YAML mapping, with the keys `schema` and `fields`"
        )
        return None
    document: dict[str, Any] = source.value
    if not {"schema", "fields"} & document.keys():
        # It may be an event, whose keys must not be named.
        message = "this is not a schema: it has neither the key `schema` nor `fields`"
        if not document:
            message = "the file is empty; `collector schema new NAME` writes a schema to start from"
        source.report((), "E106", message)
        return None
    head = validate(DocumentHead, document, (), source) or _head_placeholder(document)
    listed = document.get("tests")
    tests = [
        validate(Trial, value, ("tests", index), source)
        for index, value in enumerate(listed if isinstance(listed, list) else [])
    ]
    parts = dict(head)
    parts["purposes"] = {
        name: validate(Purpose, value, ("purposes", name), source) or _purpose_placeholder(value)
        for name, value in _items(document, "purposes")
    }
    parts["fields"] = {
        name: read_field(value, ("fields", name), source) or _field_placeholder(value)
        for name, value in _items(document, "fields")
    }
    parts["tests"] = [test for test in tests if test]
    schema = Schema.model_construct(**parts)
    for check in checks:
        for loc, code, message in check(schema):
            source.report(loc, code, message)
    return schema


def _items(document: dict[str, Any], key: str) -> Iterator[tuple[str, Any]]:
    part = document.get(key)
    yield from part.items() if isinstance(part, dict) else ()


def validate_field(value: Any, loc: Loc, source: Document) -> FieldBase | None:
    """Validate a field by its kind; report its faults and return ``None`` if it has any."""
    if not isinstance(value, dict):
        source.report(loc, "E107", "a field must be a mapping, such as `{kind: boolean, …}`")
        return None
    kind = value.get("kind")
    model = KINDS.get(kind) if isinstance(kind, str) else None
    if model is None:
        if kind is None:
            source.report(loc, "E106", f"`kind` is missing; write one of {', '.join(KINDS)}")
        else:
            hint = nearest(str(kind), list(KINDS)) or f"; the kinds are {', '.join(KINDS)}"
            source.report((*loc, "kind"), "E107", f"there is no such kind{hint}")
        validate(PlaceholderField, {**value, "kind": ""}, loc, source)
        return None
    foreign = value.keys() & _EVERY_OPTION - fields_by_key(model).keys()
    for key in foreign:
        source.report(
            (*loc, key), "E105", f"a field of kind `{kind}` has no such option; delete it"
        )
    field = validate(model, {key: value[key] for key in value if key not in foreign}, loc, source)
    if field is None:
        # pydantic validates options together only if nothing else is wrong, so try them alone.
        validate(model, _own_options(value, model), loc, source)
    return None if foreign else field


_EVERY_OPTION = frozenset(key for kind in KINDS.values() for key in fields_by_key(kind))
_ALLOWED_USE = "essential.service.operations"
_ALLOWED_CATEGORY = "system"
_PLACEHOLDERS = {
    "category": _ALLOWED_CATEGORY,
    "purposes": ["any"],
    "retention": "1d",
    "reason": "any",
}


def _own_options(value: dict[str, Any], model: type[FieldBase]) -> dict[str, Any]:
    """Return only the kind's own options, with valid values for those that every field has."""
    common = fields_by_key(FieldBase).keys() - {"kind"}
    own = {key: value[key] for key in value if key in model.model_fields and key not in common}
    return own | _PLACEHOLDERS


class PlaceholderField(FieldBase):
    """Stands in for a field with faults or of an unknown kind; its options are not read."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="ignore")

    def size(self) -> int:
        return 1

    def is_text(self) -> bool:
        """Judge the name by the kind that is written; skip the check for an unknown kind."""
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
    """Return sources, or paths to records, without their conditions."""
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
    """Return a tuple of texts, with an empty text for any other item."""
    return tuple(_text(item, "") for item in value) if isinstance(value, list) else ()
