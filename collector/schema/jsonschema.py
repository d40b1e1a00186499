"""JSON Schemas: of schema documents, for editors, and of the records of a schema.

A record's field has exactly the values of its kind. Where JSON Schema cannot express them, it is as
narrow as it can be: IPv6 addresses by their canonical form, fractions of a finely stepped range by
its ends.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from collector.schema import editor_hints, policy
from collector.schema.kinds import KINDS, FieldBase
from collector.schema.kinds.time import DATE_PATTERN, HOUR_PATTERN
from collector.schema.model import Schema

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_Node = dict[str, Any]


def document_schema() -> _Node:
    """Build the JSON Schema (2020-12) of a schema document, as plain data."""
    root: _Node = _plain(Schema.model_json_schema(by_alias=True))
    parts = root.pop("$defs")
    models = {model.__name__ for model in KINDS.values()}
    defs = {name: part for name, part in parts.items() if part and name not in models}
    for group in (editor_hints.PARTS, *(model.nested_hints for model in KINDS.values())):
        for name, hints in group.items():
            _explain(defs[name], hints)
    defs["Purpose"]["properties"]["use"]["enum"] = _uses()
    defs["Trial"]["anyOf"] = [
        {"required": ["keeps"]},
        {"required": ["never_contains"], "properties": {"never_contains": {"minItems": 1}}},
    ]
    for kind, model in KINDS.items():
        defs[kind] = _kind(parts[model.__name__], model)
    defs["Field"] = _field()
    _explain(root, editor_hints.DOCUMENT)
    root["properties"]["fields"]["additionalProperties"] = {"$ref": "#/$defs/Field"}
    title = {"$schema": DIALECT, "title": "A schema of Collector"}
    about = {"description": "What is collected, why, for which purpose and for how long."}
    return title | root | about | {"$defs": defs}


def _plain(node: Any) -> Any:
    """Remove generated titles, and null: a key that is left blank is a fault."""
    if isinstance(node, list):
        return [_plain(part) for part in node]
    if not isinstance(node, dict):
        return node
    if node.get("$ref") == "#/$defs/JsonValue":
        return {}
    plain: _Node = {}
    for key, value in node.items():
        if key in ("properties", "$defs"):
            plain[key] = {name: _plain(part) for name, part in value.items()}
        elif key == "description":
            plain[key] = " ".join(value.replace("``", "`").split())
        elif key != "title" and not (key == "default" and value in (None, [], {})):
            plain[key] = _plain(value)
    choices = [part for part in plain.pop("anyOf", []) if part != {"type": "null"}]
    if len(choices) == 1:
        return choices[0] | plain
    return plain | ({"anyOf": choices} if choices else {})


def _explain(node: _Node, hints: editor_hints.Hints) -> None:
    """Merge hints into keys. A key without a hint keeps the model's own description."""
    for key, more in hints.items():
        _merge(node["properties"][key], more)


def _merge(node: _Node, more: Mapping[str, Any]) -> None:
    for key, value in more.items():
        if isinstance(value, dict) and isinstance(node.get(key), dict):
            _merge(node[key], value)
        else:
            node[key] = _copy(value)


def _copy(value: Any) -> Any:
    """Copy a hint, which many keys share."""
    if isinstance(value, dict):
        return {key: _copy(part) for key, part in value.items()}
    return [_copy(part) for part in value] if isinstance(value, list) else value


def _uses() -> list[str]:
    return [use for use in sorted(policy.taxonomy()["data_uses"]) if policy.use_is_allowed(use)]


def _categories(model: type[FieldBase]) -> list[str]:
    """List the categories of a kind: identifiers are allowed as pseudonyms only."""
    return [
        key
        for key in sorted(policy.taxonomy()["data_categories"])
        if policy.category_is_allowed(key) and (model.pseudonymous or not policy.is_identifier(key))
    ]


def _kind(node: _Node, model: type[FieldBase]) -> _Node:
    """Complete the node of a kind: all its keys and no other."""
    _explain(node, {**editor_hints.FIELD, **model.hints})
    node["description"] = model.description
    node["properties"]["category"]["enum"] = _categories(model)
    constraints: _Node = _copy(model.constraints)
    return node | constraints


def _field() -> _Node:
    """Build the node of a field. The options of all kinds come first, so that editors offer them
    before ``kind`` is written; each kind has a branch of its own, so that an editor names the one
    mistake and not those of eight other kinds."""
    infos = {info.alias or name: info for name, info in FieldBase.model_fields.items()}
    common: dict[str, _Node] = {
        key: {"description": editor_hints.FIELD[key]["description"]}
        if key in editor_hints.FIELD
        else {}
        for key in dict.fromkeys(["kind", *infos])
    }
    common["kind"]["enum"] = list(KINDS)
    common["kind"]["enumDescriptions"] = [model.description for model in KINDS.values()]
    return {
        "type": "object",
        "required": [key for key in common if infos[key].is_required()],
        "properties": common,
        "allOf": [
            {
                "if": {
                    "title": kind,
                    "type": "object",
                    "properties": {"kind": {"const": kind}},
                    "required": ["kind"],
                },
                "then": {"$ref": f"#/$defs/{kind}"},
            }
            for kind in KINDS
        ],
    }


def record_schema(schemas: Iterable[Schema]) -> _Node:
    """Build the JSON Schema (2020-12) of a record of one of these schemas, as plain data.

    ``received`` and ``count`` are there where a receiver adds them.
    """
    records = [_record(schema) for schema in schemas]
    if len(records) == 1:
        return {"$schema": DIALECT, **records[0]}
    return {"$schema": DIALECT, "title": "A record", "anyOf": records}


def _record(schema: Schema) -> _Node:
    fields = {
        name: {"description": field.reason, **field.value_schema()}
        for name, field in schema.fields.items()
    }
    required = [name for name, field in schema.fields.items() if field.required]
    return {
        "title": f"A record of {schema.id}",
        "description": schema.title,
        "type": "object",
        "properties": {
            "schema": {"const": schema.id},
            "received": {
                "description": "When it was received, in UTC, truncated to the minute.",
                "type": "string",
                "format": "date-time",
                "pattern": f"^{DATE_PATTERN}T{HOUR_PATTERN}:[0-5][0-9]:00Z$",
            },
            "count": {
                "description": "How many records like this one it stands for.",
                "type": "integer",
                "minimum": 2,
            },
            **fields,
        },
        "required": ["schema", *required],
        "additionalProperties": False,
        "anyOf": [{"required": [name]} for name in schema.fields],
    }
