"""A JSON Schema of schema documents, for editors: completion, explanations, and most mistakes.

It is made of the models, the closed lists of policy and the words of ``glossary``. It sees the form
of a document; what needs more (patterns, catalogues, purposes that are not defined, content and
identifiers in paths, widths) only ``collector schema check`` sees.
"""

from __future__ import annotations

from typing import Any

from collector.schema import glossary, policy
from collector.schema.kinds import KINDS
from collector.schema.kinds.base import FieldBase
from collector.schema.model import Schema

__all__ = ["DIALECT", "document_schema"]

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_Node = dict[str, Any]


def document_schema() -> _Node:
    """The JSON Schema (2020-12) of a schema document, as plain data."""
    root: _Node = _plain(Schema.model_json_schema(by_alias=True))
    parts = root.pop("$defs")
    defs = {name: parts[name] for name in glossary.MODELS}
    for name, words in glossary.MODELS.items():
        _explain(defs[name], words)
    defs["Purpose"]["properties"]["use"]["enum"] = _uses()
    defs["Trial"]["anyOf"] = [
        {"required": ["keeps"]},
        {"required": ["never_contains"], "properties": {"never_contains": {"minItems": 1}}},
    ]
    for kind, model in KINDS.items():
        defs[kind] = _kind(parts[model.__name__], kind)
    defs["Field"] = _field()
    _explain(root, glossary.DOCUMENT)
    root["properties"]["fields"]["additionalProperties"] = {"$ref": "#/$defs/Field"}
    title = {"$schema": DIALECT, "title": "A schema of Collector"}
    about = {"description": "What is collected, why, for which purpose and for how long."}
    return title | root | about | {"$defs": defs}


def _plain(node: Any) -> Any:
    """Without generated titles, and without null: a key that is left blank is a fault."""
    if isinstance(node, list):
        return [_plain(part) for part in node]
    if not isinstance(node, dict):
        return node
    if node.get("$ref") == "#/$defs/JsonValue":
        return {}
    kept: _Node = {}
    for key, value in node.items():
        if key in ("properties", "$defs"):
            kept[key] = {name: _plain(part) for name, part in value.items()}
        elif key == "description":
            kept[key] = " ".join(value.replace("``", "`").split())
        elif key != "title" and not (key == "default" and value in (None, [], {})):
            kept[key] = _plain(value)
    choices = [part for part in kept.pop("anyOf", []) if part != {"type": "null"}]
    if len(choices) == 1:
        return choices[0] | kept
    return kept | ({"anyOf": choices} if choices else {})


def _explain(node: _Node, words: glossary.Words) -> None:
    """Add the words and limits of keys. A key without words keeps what the model says of it."""
    for key, more in words.items():
        _merge(node["properties"][key], more)


def _merge(node: _Node, more: _Node) -> None:
    for key, value in more.items():
        if isinstance(value, dict) and isinstance(node.get(key), dict):
            _merge(node[key], value)
        else:
            node[key] = _copy(value)


def _copy(value: Any) -> Any:
    """A copy of the words, which are shared by many keys."""
    if isinstance(value, dict):
        return {key: _copy(part) for key, part in value.items()}
    return [_copy(part) for part in value] if isinstance(value, list) else value


def _uses() -> list[str]:
    return [use for use in sorted(policy.taxonomy()["data_uses"]) if policy.use_is_allowed(use)]


def _categories(kind: str) -> list[str]:
    """The categories of a kind: identifiers are allowed as pseudonyms only."""
    return [
        key
        for key in sorted(policy.taxonomy()["data_categories"])
        if policy.category_is_allowed(key)
        and (kind == "pseudonym" or not policy.is_identifier(key))
    ]


def _kind(node: _Node, kind: str) -> _Node:
    """A field of one kind, with all its keys and no other."""
    about, words = glossary.KINDS[kind]
    _explain(node, glossary.FIELD | words)
    node["description"] = about
    node["properties"]["category"]["enum"] = _categories(kind)
    if kind == "token":
        node["oneOf"] = [{"required": ["pattern"]}, {"required": ["catalogue"]}]
    return node


def _field() -> _Node:
    """A field of any kind. What all kinds have is said first, so that it is offered before
    ``kind`` is written; the kind decides the rest, one branch each, so that an editor names the one
    mistake and not those of eight other kinds."""
    infos = {info.alias or name: info for name, info in FieldBase.model_fields.items()}
    common: dict[str, _Node] = {
        key: {"description": glossary.FIELD[key]["description"]} if key in glossary.FIELD else {}
        for key in ("kind", *infos)
    }
    common["kind"]["enum"] = list(KINDS)
    common["kind"]["enumDescriptions"] = [glossary.KINDS[kind][0] for kind in KINDS]
    return {
        "type": "object",
        "required": ["kind", *(key for key, info in infos.items() if info.is_required())],
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
