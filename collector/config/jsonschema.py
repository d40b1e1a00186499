"""The JSON Schema of configurations, for editors: with a branch for each type of sinks.

Settings of types from other packages are not checked.
"""

from __future__ import annotations

from typing import Any

from collector.config.model import SWITCH, Config
from collector.config.sink_settings import Section
from collector.config.sink_types import BUILT_IN, built_in_settings
from collector.config.values import plain_value
from collector.documents import editor_schema, fields_by_key

_Node = dict[str, Any]


def document_schema() -> _Node:
    """Build the JSON Schema (2020-12) of a configuration, as plain data."""
    root = editor_schema(Config, "A configuration of Collector")
    defs: _Node = root["$defs"]
    for name in BUILT_IN:
        found = editor_schema(built_in_settings(name), "")
        defs |= found.pop("$defs", {})
        defs[name] = _section(found, built_in_settings(name))
        del found["$schema"], found["title"]
    for key, info in fields_by_key(Config).items():
        if isinstance(info.annotation, type) and issubclass(info.annotation, Section):
            _section(defs[info.annotation.__name__], info.annotation)
            root["properties"][key].pop("default", None)
    defs["Sink"] = {
        "allOf": [
            {
                "if": {
                    "type": "object",
                    "properties": {"type": {"const": name}},
                    "required": ["type"],
                },
                "then": {"$ref": f"#/$defs/{name}"},
            }
            for name in BUILT_IN
        ]
    }
    root["properties"]["sinks"] = {
        "description": "Where records go: a name for each sink, and its settings.",
        "type": ["object", "null"],
        "propertyNames": {"pattern": "^[a-z][a-z0-9-]{0,31}$"},
        "properties": {
            name: {
                "if": {"type": "object", "required": ["type"]},
                "then": {"$ref": "#/$defs/Sink"},
                "else": {"$ref": f"#/$defs/{name}"},
            }
            for name in BUILT_IN
        },
        "additionalProperties": {"$ref": "#/$defs/Sink"},
    }
    return _section(root, Config)


def _section(node: _Node, section: type[Section]) -> _Node:
    """Allow a section to be empty or a switch (`true`, `false`), and write its defaults in the
    notation of the file."""
    for key, info in fields_by_key(section).items():
        if "default" in (property_ := node["properties"][key]):
            property_["default"] = plain_value(info, info.default)
    node["type"] = ["object", "null"] + ["boolean", "string"] * (SWITCH in node["properties"])
    return node
