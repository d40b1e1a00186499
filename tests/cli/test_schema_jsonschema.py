"""``collector schema jsonschema``: of documents, for editors, and of records."""

from __future__ import annotations

from pathlib import Path

import orjson
from jsonschema import Draft202012Validator

from collector.schema import load_schema, shelf
from collector.schema.jsonschema import document_schema
from collector.schema.recordschema import record_schema
from tests.cli.process import run


def test_of_documents() -> None:
    """One JSON document on stdout, whether or not schemas are named."""
    ended = run("schema", "jsonschema")
    assert (ended.code, ended.err) == (0, b"")
    assert orjson.loads(ended.out) == document_schema()
    assert run("schema", "jsonschema", "conferencing").out == ended.out


def test_of_records() -> None:
    """Of the default schema, or of those that are named."""
    default = orjson.loads(run("schema", "jsonschema", "--records").out)
    assert default == record_schema([load_schema("conferencing")])
    several = orjson.loads(run("schema", "jsonschema", "--records", *shelf.names()).out)
    assert several == record_schema(map(load_schema, shelf.names()))
    record = orjson.loads(run("filter", stdin=b'{"ip": "203.0.113.7"}\n').out)
    for document in (default, several):
        assert Draft202012Validator(document).is_valid(record)
        assert not Draft202012Validator(document).is_valid(record | {"chat": "hi"})


def test_faults_of_named_schemas_are_reported(tmp_path: Path) -> None:
    """Exit 78 with every fault, and no JSON Schema."""
    path = tmp_path / "a.yaml"
    path.write_text("schema: A\nversion: 1\n")
    for options in ((), ("--records",)):
        ended = run("schema", "jsonschema", path, *options)
        assert (ended.code, ended.out) == (78, b"")
        assert b"[E108]" in ended.err
        assert b"[E107]" in ended.err


def test_into_a_file(tmp_path: Path) -> None:
    """The same bytes; a place that cannot be written to is a fault."""
    path = tmp_path / "made.json"
    ended = run("schema", "jsonschema", "--output", path)
    assert (ended.code, ended.out) == (0, b"")
    assert orjson.loads(path.read_bytes()) == document_schema()
    refused = run("schema", "jsonschema", "-o", tmp_path / "none" / "made.json")
    assert refused.code == 78
    assert b"[E203]" in refused.err
