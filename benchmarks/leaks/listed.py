"""What an allowlist needs to know of a shape: for each listed field its paths, and its values.

It is made of the shipped schemas, so that no contender knows less than Collector: catalogues and
aliases as values, grammars as regular expressions.
"""

from __future__ import annotations

from typing import Any

from benchmarks.leaks.events import SHAPES, Shape
from collector import Schema, load_schema
from collector.schema.kinds import Field
from collector.schema.kinds.enum import EnumField
from collector.schema.kinds.ip import IpField
from collector.schema.kinds.token import TokenField
from collector.schema.kinds.version import VersionField
from collector.schema.scalars import path_of

FIELDS: dict[str, tuple[str, ...]] = {
    "webrtc": ("client.address",),
    "vendor": ("client.address", "device.type", "os.type"),
}
"""The listed fields of shapes that do not have all of them. A user agent is no value of theirs."""


def spec() -> dict[str, dict[str, dict[str, Any]]]:
    """Return the listed fields by shape."""
    return {shape.name: _fields(shape, load_schema(shape.schema)) for shape in SHAPES.values()}


def _fields(shape: Shape, schema: Schema) -> dict[str, dict[str, Any]]:
    names = FIELDS.get(shape.name, tuple(schema.fields))
    return {
        name: {"paths": _paths(shape, name, schema.fields[name]), **_values(schema.fields[name])}
        for name in names
    }


def _paths(shape: Shape, name: str, field: Field) -> list[list[str]]:
    """Return the paths where the shape has the field, and no others."""
    if shape.name == "meeting":
        return [name.split(".")]
    if shape.signal is not None:
        return [[name]]
    paths = map(path_of, field.sources or ())
    return [[path] for path in paths if "." not in path and "[" not in path]


def _values(field: Field) -> dict[str, Any]:
    if isinstance(field, IpField):
        return {}
    if isinstance(field, EnumField):
        return {"values": [*field.values, *field.aliases]}
    if isinstance(field, TokenField) and field.pattern is None:
        return {"values": sorted(field.entries)}
    if isinstance(field, TokenField | VersionField):
        return {"pattern": field.value_schema()["pattern"].removeprefix("^").removesuffix("$")}
    raise TypeError(field.kind)
