"""JSON Schemas: of schema documents, for editors, and of the records of a schema.

A record's field has exactly the values of its kind. If JSON Schema cannot express them, it is as
narrow as possible: IPv6 addresses by their canonical form, fractions of a finely stepped range by
its ends.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from collector.documents import DIALECT, editor_schema, fields_by_key
from collector.schema import policy
from collector.schema.checks import TO_WRITE
from collector.schema.kinds import KINDS, FieldBase
from collector.schema.kinds.time import DATE_PATTERN, HOUR_PATTERN
from collector.schema.model import Schema

_Node = dict[str, Any]


def document_schema() -> _Node:
    """Build the JSON Schema (2020-12) of a schema document, as plain data."""
    root = editor_schema(Schema, "A schema of Collector")
    root["description"] = "What is collected, why, for which purpose and for how long."
    defs: _Node = root["$defs"]
    for kind, model in KINDS.items():
        defs[kind] = _kind(defs.pop(model.__name__), model)
    defs["Field"] = _field()
    root["properties"]["fields"]["additionalProperties"] = {"$ref": "#/$defs/Field"}
    defs["Purpose"]["properties"]["use"]["enum"] = _uses()
    texts = root["properties"]
    for node in (
        *(texts["title"], texts["owner"], texts["also_collected"]["additionalProperties"]),
        *(defs[name]["properties"]["reason"] for name in ("Purpose", *KINDS)),
    ):
        node["not"] = {"pattern": TO_WRITE}
    defs["Trial"]["anyOf"] = [
        {"required": ["keeps"]},
        {"required": ["never_contains"], "properties": {"never_contains": {"minItems": 1}}},
    ]
    return root


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
    """Complete the node of a kind: exactly its keys."""
    node["description"] = model.description
    node["properties"]["category"]["enum"] = _categories(model)
    node["properties"]["kind"]["description"] = _described()["kind"]["description"]
    return {**node, **model.constraints}


def _described() -> dict[str, _Node]:
    """Return the options that every field has, with their descriptions."""
    infos = fields_by_key(FieldBase)
    return {key: {"description": infos[key].description} for key in ("kind", *infos)}


def _field() -> _Node:
    """Build the node of a field. The options of all kinds come first, so that editors offer them
    before ``kind`` is written; each kind has its own branch, so that an editor reports one mistake
    and not those of eight other kinds."""
    common = _described()
    common["kind"]["enum"] = list(KINDS)
    common["kind"]["enumDescriptions"] = [model.description for model in KINDS.values()]
    infos = fields_by_key(FieldBase)
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

    ``received`` and ``count`` are present if a receiver adds them.
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
