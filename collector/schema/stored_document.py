"""Reload a schema from the document that its digest covers, to compare it with a later one; load
other documents of the ledger; or pass a schema to another process of the same program.

The document of a schema has no tests and no references to keys, and includes the entries of its
catalogues, so it means the same everywhere.
"""

from __future__ import annotations

import pickle
from functools import lru_cache
from typing import Any

import orjson

from collector.documents import Document, Loc
from collector.schema.catalogue import is_entry
from collector.schema.kinds import FieldBase
from collector.schema.kinds.token import TokenField
from collector.schema.load import checked, validate_field
from collector.schema.model import Schema

NO_KEY = "env:NONE"
"""The reference to a key in a schema whose document leaves it out."""
_ANY_PATTERN = "a"


@lru_cache(maxsize=8)
def load_stored(document: bytes) -> Schema | None:
    """Load the schema of a ``Schema.document``; ``None`` if it no longer loads. Policy was checked
    when it ran. A command asks for the same few documents once for each sink."""
    plain = _without_blanks(load_plain(document))
    schema, faults = checked(Document("stored", value=plain), _stored_field, ())
    return None if faults else schema


def load_plain(document: bytes) -> Any:
    """Return the contents of a document of the ledger, which is JSON; ``None`` for anything
    else."""
    try:
        return orjson.loads(document)
    except ValueError:
        return None


def packed(schema: Schema) -> bytes:
    """Pack a schema, without its tests, for a process that this one has started."""
    return pickle.dumps(schema.model_copy(update={"tests": []}))


def unpacked(packed_schema: bytes) -> Schema:
    """Unpack a schema that this process's parent packed. Never call it with bytes of another
    origin."""
    schema: Schema = pickle.loads(packed_schema)  # noqa: S301 - of our own process
    return schema


def noted_field(value: dict[str, Any], loc: Loc, source: Document) -> FieldBase | None:
    """Validate a field that includes the entries of its catalogue, as a list or as lines of a text;
    report its faults and return ``None`` if it has any."""
    options, catalogue = dict(value), value.get("catalogue")
    if value.get("kind") != "token" or not isinstance(catalogue, str) or "pattern" in value:
        if options.pop("entries", None) is not None:
            message = "only a catalogue has entries; delete them"
            source.report((*loc, "entries"), "E105", message)
        return validate_field(options, loc, source)
    entries = options.pop("entries", None)
    lines = entries.splitlines() if isinstance(entries, str) else entries
    if not (isinstance(lines, list) and lines and all(map(_is_entry, lines))):
        message = "list the entries of the catalogue under `entries`, as a text (`|`), one a line"
        source.report((*loc, "catalogue"), "E107", message)
        return None
    del options["catalogue"]
    found = validate_field(options | {"pattern": _ANY_PATTERN}, loc, source)
    if not isinstance(found, TokenField):
        return None
    return found.with_entries(catalogue, frozenset(lines))


def _is_entry(line: object) -> bool:
    return isinstance(line, str) and bool(line) and is_entry(line)


def _stored_field(value: Any, loc: Loc, source: Document) -> FieldBase | None:
    """Do the same with a field of the ledger; a pseudonym gets a reference to some key."""
    if not isinstance(value, dict):
        return validate_field(value, loc, source)
    keyed = {"key": NO_KEY} if value.get("kind") == "pseudonym" else {}
    return noted_field(value | keyed, loc, source)


def _without_blanks(part: Any) -> Any:
    """Drop empty values, which the loader would refuse."""
    if not isinstance(part, dict):
        return part
    return {
        key: _without_blanks(value) for key, value in part.items() if value not in (None, [], {})
    }
