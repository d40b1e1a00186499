"""``collector schema capacity``: the ceiling of what one record could carry."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from collector.schema import load_schema, shelf
from collector.schema.capacity import field_bits, record_bits
from tests.cli.process import run


def test_json_of_one_schema_is_an_object() -> None:
    """Bits of the record and of each field in schema order, and what ``max_bits`` leaves."""
    ended = run("schema", "capacity", "--json")
    schema = load_schema("conferencing")
    width = orjson.loads(ended.out)
    assert ended.code == 0
    assert list(width)[:3] == ["schema", "bits", "fields"]
    assert width["schema"] == schema.id
    assert width["bits"] == pytest.approx(record_bits(schema), abs=0.01)
    assert list(width["fields"]) == list(schema.fields)
    for name, bits in width["fields"].items():
        assert bits == pytest.approx(field_bits(schema.fields[name]), abs=0.01)
    assert width["max_bits"] == schema.max_bits
    assert width["left"] == pytest.approx(schema.max_bits - width["bits"])


def test_json_of_several_is_a_list() -> None:
    """In the order in which they were named."""
    names = list(reversed(shelf.names()))
    widths = orjson.loads(run("schema", "capacity", *names, "--json").out)
    assert [width["schema"].partition("/")[0] for width in widths] == names


def test_the_table_has_a_bar_for_each_field() -> None:
    """The widest field has the longest bar; where bars cannot be shown, plain characters are."""
    schema = load_schema("conferencing")
    for env, mark in (({"PYTHONIOENCODING": "utf-8"}, "█"), ({"PYTHONIOENCODING": "ascii"}, "#")):
        text = run("schema", "capacity", env=env).out.decode()
        rows = {line.split()[0]: line for line in text.splitlines()}
        bars = {name: rows[name].count(mark) for name in schema.fields}
        assert max(bars, key=lambda name: bars[name]) == "client.address"
        assert 0 < bars["os.version"] < bars["client.address"]
        assert rows["a"].split()[-1] == f"{record_bits(schema):.1f}"
        assert rows["max_bits"].split()[1] == f"{schema.max_bits}.0"
        assert rows["left"].split()[1] == f"{(schema.max_bits or 0) - record_bits(schema):.1f}"


def test_without_a_limit_and_without_width(tmp_path: Path) -> None:
    """A schema without ``max_bits`` has nothing left, a field of one value no width."""
    path = tmp_path / "a.yaml"
    path.write_text(
        "schema: a\nversion: 1.0.0\ntitle: A\nowner: me\n"
        "purposes: {ops: {use: essential.service.operations, basis: contract, reason: Because}}\n"
        "fields: {os.type: {kind: enum, values: [x], required: true, category: system,"
        " purposes: [ops], retention: 1d, reason: Because}}\n"
    )
    assert orjson.loads(run("schema", "capacity", path, "--json").out) == {
        "schema": "a/1.0.0",
        "bits": 0.0,
        "fields": {"os.type": 0.0},
    }
    assert b"none" in run("schema", "capacity", path).out


def test_a_faulty_schema_is_a_fault(tmp_path: Path) -> None:
    """Exit 78 with every fault, and nothing on stdout."""
    path = tmp_path / "a.yaml"
    path.write_text("schema: A\n")
    ended = run("schema", "capacity", path, "--json")
    assert (ended.code, ended.out) == (78, b"")
    assert b"[E108]" in ended.err
