"""From names and paths to schemas."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel

from collector.documents import Document, validate
from collector.errors import SchemaError
from collector.schema import Schema, load_schema, load_schemas, resources
from collector.schema.load import parse
from tests.schema.conftest import Faults, Loader
from tests.support.make_schemas import PLAIN, one, trial
from tests.support.rows import for_each


def test_a_plain_document(load: Loader) -> None:
    """Every part of the document is there, under its name and in its order."""
    schema = load(
        PLAIN
        + "  os.name: {kind: boolean, from: [a, b], category: system, purposes: [ops],"
        + " retention: 2w, reason: Why, expires: 2030-01-31, required: true}\n"
        + "content: {chat: [backchannel], file: [scan]}\nrecords: people.list\nmax_bits: 20\n"
        + "tests: [{name: one, event: [1], keeps: [{os.type: linux}, {}], never_contains: [x]}]\n"
    )
    assert type(schema) is Schema
    assert (schema.id, schema.name, schema.version) == ("sample/1.0.0", "sample", "1.0.0")
    assert (schema.title, schema.owner) == ("A sample", "privacy")
    assert list(schema.fields) == ["os.type", "os.name"]
    field = schema.fields["os.name"]
    assert field.paths("os.name") == ("a", "b", "os.name")
    assert (field.required, str(field.expires), field.retention.days) == (True, "2030-01-31", 14)
    assert schema.records == ("people.list",)
    assert schema.content_names["backchannel"] == "chat"
    assert schema.content_names["scan"] == "file"
    assert schema.content_names["audio"] == "audio"
    assert schema.tests[0].event == [1]
    assert schema.tests[0].keeps == [{"os.type": "linux"}, {}]


def test_content_names_may_be_long(load: Loader) -> None:
    """A content name has at most 64 characters, of any script."""
    for name in ("x" * 64, "é", "チャット", "a b"):
        assert load(f"{PLAIN}content: {{chat: [{name}]}}\n").content_names[name] == "chat"


def test_own_name_is_always_read(load: Loader) -> None:
    """A field is looked for under its own name too, last if it is not listed."""
    fields = load(PLAIN).fields
    assert fields["os.type"].paths("os.type") == ("os.type",)
    listed = load(one("kind: boolean, from: [os.name, x]")).fields["os.name"]
    assert listed.paths("os.name") == ("os.name", "x")


def test_what_may_be_left_out(load: Loader) -> None:
    """Content, records, width, tests and the options of fields have defaults."""
    schema = load(PLAIN)
    assert (schema.records, schema.max_bits, schema.tests, dict(schema.content)) == (
        None,
        None,
        [],
        {},
    )
    assert not schema.purposes["ops"].optional


@for_each("event", ["null", "1", "text", "[]", "{a: [{b: null}]}", "true", "1.5"])
def test_any_event_can_be_tested(load: Loader, event: str) -> None:
    """The event of a test is any JSON value, null included."""
    assert len(load(trial(f"{{name: one, event: {event}, keeps: {{}}}}")).tests) == 1


def test_names_and_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reference with a separator or ``.yaml`` is a path, any other is a shipped name."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conferencing").write_text("not a schema")
    (tmp_path / "mine.yaml").write_text(PLAIN)
    (tmp_path / "mine.yml").write_text(PLAIN)
    assert load_schema("conferencing").name == "conferencing"
    assert load_schema("mine.yaml").digest == load_schema(Path("mine.yml")).digest
    assert load_schema("./mine.yaml").name == load_schema(str(tmp_path / "mine.yaml")).name
    for unknown in ("mine", "", ".", "confrencing", "conferencing.YAML", "conferencing\0"):
        with pytest.raises(SchemaError) as caught:
            load_schema(unknown)
        assert [fault.code for fault in caught.value.faults] == ["E101"]


@for_each("end", ["", ".yaml"])
def test_a_name_that_no_file_can_have(end: str) -> None:
    """It is no file, and nothing raises an error of the system, which would quote it."""
    with pytest.raises(SchemaError):
        load_schema("hunter2" * 100 + end)
    with pytest.raises(SchemaError):
        load_schema("x" * 254 + end)


def test_a_near_name_is_suggested() -> None:
    """A misspelled name leads to the shipped one, a strange one to the list."""
    assert "did you mean `conferencing`?" in str(parse("confrencing")[1][0])
    assert "collector schema list" in str(parse("qqq")[1][0])


def test_several_at_once() -> None:
    """Schemas come back in the order in which they were named."""
    names = list(reversed(resources.names()))
    assert [schema.name for schema in load_schemas(names)] == names
    assert load_schemas([]) == []


def test_faults_are_in_order_of_lines_and_the_same_every_time(faults: Faults) -> None:
    """The order of faults does not depend on hashes or on the order of checks."""
    text = "max_bits: 0\nzz: 1\nrecords: chat\nfields: {a: {kind: ip}, b: {kind: ipp}}\n"
    first = faults(text)
    places = [(fault.line, fault.column) for fault in first]
    assert places == sorted(places)
    missing = [fault.message for fault in first if (fault.line, fault.column) == (1, 1)]
    assert [text.split("`")[1] for text in missing if "`" in text] == [
        "schema",
        "version",
        "title",
        "owner",
        "purposes",
    ]


def test_parse_gives_a_schema_or_faults(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    for text in (PLAIN, "~", "", "a: 1", "[", PLAIN + "title: x\n"):
        path.write_text(text)
        schema, found = parse(path)
        assert (schema is None) == bool(found)


def test_a_model_is_built_once() -> None:
    """A part whose model is built when it is first needed leaves it built for the next one."""

    class Part(BaseModel, defer_build=True):
        size: int

    assert validate(Part, {"size": 1}, (), Document("a.yaml")) == Part.model_construct(size=1)
    assert Part.__pydantic_complete__
