"""A schema out of the document that its digest is of, to compare a later one with.

Such a document has no tests, no references to keys, and the entries of its catalogues in it, so it
is the same wherever it is read.
"""

from __future__ import annotations

from typing import Any

import orjson

from collector.schema.kinds import FieldBase
from collector.schema.kinds.token import TokenField
from collector.schema.load import parse_source
from collector.schema.model import Schema
from collector.schema.source import Source

__all__ = ["recall"]

_ANY_PATTERN = "a"


def recall(document: bytes) -> Schema | None:
    """The schema of a document (``Schema.document``); ``None`` if today it is none any more."""
    try:
        plain = orjson.loads(document)
        entries = _taken_out(plain["fields"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    schema, faults = parse_source(Source("kept", value=_filled(plain)))
    if schema is None or faults:
        return None
    fields = {n: _with(entries[n], f) if n in entries else f for n, f in schema.fields.items()}
    return schema.model_copy(update={"fields": fields})


def _taken_out(fields: dict[str, dict[str, Any]]) -> dict[str, tuple[str, list[str]]]:
    """Catalogues by field, name and entries; in their places stands a pattern. A pseudonym gets a
    reference to some key, as it must have one."""
    found = {}
    for name, field in fields.items():
        if field["kind"] == "pseudonym":
            field["key"] = "env:NONE"
        if "entries" in field:
            found[name] = (field.pop("catalogue"), field.pop("entries"))
            field["pattern"] = _ANY_PATTERN
    return found


def _filled(part: Any) -> Any:
    """A part of the document without what is written nowhere, which a loader would refuse."""
    if not isinstance(part, dict):
        return part
    return {key: _filled(value) for key, value in part.items() if value not in (None, [], {})}


def _with(catalogue: tuple[str, list[str]], field: FieldBase) -> FieldBase:
    """The field with its catalogue again."""
    if not isinstance(field, TokenField):
        return field
    name, entries = catalogue
    copy = field.model_copy(update={"catalogue": name, "pattern": None})
    copy.hold(frozenset(entries))
    return copy
