"""A schema out of the document that its digest is of."""

from __future__ import annotations

import hashlib
from pathlib import Path

import orjson

from collector.schema import Schema, load_schema, resources
from collector.schema.diff import compare
from collector.schema.stored_document import load_stored
from tests.support.rows import for_each


@for_each("name", resources.names())
def test_every_shipped_schema_comes_back(name: str) -> None:
    """Tests, and the order in which things stand, are not kept."""
    schema = load_schema(name)
    assert hashlib.sha256(schema.document).hexdigest() == schema.digest
    kept = load_stored(schema.document)
    assert kept is not None
    assert kept.document == schema.document
    assert kept.tests == []
    found = compare(kept, schema.model_copy(update={"tests": []}))
    assert {change.verdict for change in found.changes} <= {"neutral"}


def load(path: Path, text: str) -> Schema:
    (path / "s.yaml").write_text(text)
    return load_schema(path / "s.yaml")


_TEXT = """
schema: s
version: 1.0.0
title: Some numbers
owner: nobody
purposes:
  use: {use: essential.service.operations, basis: contract, reason: It is needed for the service}
fields:
  device.model.name:
    {kind: token, catalogue: things, category: user.device, purposes: [use], retention: 30d,
     reason: It is needed for the service}
  user.pseudonym:
    {kind: pseudonym, key: "env:CANARY", rotate: 1d, category: user.device, purposes: [use],
     retention: 30d, reason: It is needed for the service}
tests:
  - {name: canary, event: {a: 1}, keeps: {}}
"""


def test_what_lies_beside_a_schema_is_in_its_document(tmp_path: Path) -> None:
    """It has the entries of catalogues, but neither tests nor key references."""
    catalogue = tmp_path / "things.txt"
    catalogue.write_text("# source: https://example.com/things\none\ntwo\n")
    old = load(tmp_path, _TEXT)
    assert b"CANARY" not in old.document
    assert b"canary" not in old.document
    catalogue.write_text("# source: https://example.com/things\none\ntwo\nthree\n")
    new = load(tmp_path, _TEXT)
    before, after = load_stored(old.document), load_stored(new.document)
    assert before is not None
    assert after is not None
    assert before.document == old.document
    found = compare(before, after)
    assert [(change.at, change.new) for change in found.changes] == [
        ("fields.device.model.name.catalogue", ["three"])
    ]
    assert found.widening


@for_each(
    "document",
    [
        *(b"", b"[]", b"{}", b'{"fields": []}', b'{"fields": {"a": 1}}'),
        orjson.dumps(orjson.loads(load_schema("web").document) | {"purposes": {}}),
        orjson.dumps(orjson.loads(load_schema("web").document) | {"party": True}),
    ],
)
def test_what_is_no_schema_today_is_none(document: bytes) -> None:
    assert load_stored(document) is None
