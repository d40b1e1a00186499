"""Reload a schema from the document that its digest covers, to compare a later one with, or other
documents of the ledger; or hand a schema to another process of the same program.

The document of a schema has no tests, no references to keys, and the entries of its catalogues in
it, so it is the same wherever it is read.
"""

from __future__ import annotations

import pickle
from typing import Any

import orjson

from collector.documents import Document
from collector.schema.kinds import FieldBase
from collector.schema.kinds.token import TokenField
from collector.schema.load import parse_source
from collector.schema.model import Schema

NO_KEY = "env:NONE"
"""The reference to a key in a schema whose document leaves it out."""
_ANY_PATTERN = "a"


def load_stored(document: bytes) -> Schema | None:
    """Load the schema of a ``Schema.document``; ``None`` if it no longer loads."""
    try:
        plain = orjson.loads(document)
        entries = _without_catalogues(plain["fields"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    schema, faults = parse_source(Document("stored", value=_without_blanks(plain)))
    if schema is None or faults:
        return None
    fields = {
        n: _with_catalogue(entries[n], f) if n in entries else f for n, f in schema.fields.items()
    }
    return schema.model_copy(update={"fields": fields})


def load_plain(document: bytes) -> Any:
    """Return what a document of the ledger says, which is JSON; ``None`` for anything else."""
    try:
        return orjson.loads(document)
    except ValueError:
        return None


def packed(schema: Schema) -> bytes:
    """Pack a schema, without its tests, for a process that this one has started."""
    return pickle.dumps(schema.model_copy(update={"tests": []}))


def unpacked(packed_schema: bytes) -> Schema:
    """Return a schema that the process which has started this one has packed. Never call it with
    bytes of another origin."""
    schema: Schema = pickle.loads(packed_schema)  # noqa: S301 - of our own process
    return schema


def _without_catalogues(fields: dict[str, dict[str, Any]]) -> dict[str, tuple[str, list[str]]]:
    """Replace catalogues by a pattern, and return their names and entries by field.

    A pseudonym gets a reference to some key, as it must have one.
    """
    found = {}
    for name, field in fields.items():
        if field["kind"] == "pseudonym":
            field["key"] = NO_KEY
        if "entries" in field:
            found[name] = (field.pop("catalogue"), field.pop("entries"))
            field["pattern"] = _ANY_PATTERN
    return found


def _without_blanks(part: Any) -> Any:
    """Drop empty values, which the loader would refuse."""
    if not isinstance(part, dict):
        return part
    return {
        key: _without_blanks(value) for key, value in part.items() if value not in (None, [], {})
    }


def _with_catalogue(catalogue: tuple[str, list[str]], field: FieldBase) -> FieldBase:
    """Return the field with its catalogue again."""
    if not isinstance(field, TokenField):
        return field
    name, entries = catalogue
    return field.with_entries(name, frozenset(entries))
