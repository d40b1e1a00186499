"""``collector schema …`` on shipped, good and broken schemas."""

from __future__ import annotations

import re
import shutil
from math import log2
from pathlib import Path

import orjson
import pytest
from jsonschema import Draft202012Validator

from collector.schema import load_schema, resources
from collector.schema.jsonschema import document_schema, record_schema
from collector.schema.model import field_bits, letter_bits, record_bits
from tests.support.command import run
from tests.support.rows import for_each

_SHIPPED = resources.names()


def test_list_names_every_shipped_schema() -> None:
    table, listed = run("schema", "list"), run("schema", "list", "--json").json
    names = [row["schema"].partition("/")[0] for row in listed]
    assert names == [*_SHIPPED, *resources.templates()]
    assert [row["template"] for row in listed] == [name not in _SHIPPED for name in names]
    assert all(name.encode() in table.out for name in names)
    assert {"conferencing", "conferencing-strict", "participants-qos"} <= set(_SHIPPED)


def test_show_gives_every_field_with_its_reason() -> None:
    """Each field with its paths, purposes, retention and reason."""
    shown = run("schema", "show", "conferencing", "--json").json
    assert shown["fields"]["client.address"]["from"] == ["client.address", "ip_address", "ip"]
    assert all(field["reason"] for field in shown["fields"].values())
    table = run("schema", "show").out.decode()
    for name in shown["fields"]:
        assert name in table


def test_show_tells_what_a_person_may_refuse(tmp_path: Path) -> None:
    path = tmp_path / "choosing.yaml"
    text = (resources.shipped() / "conferencing.yaml").read_text()
    path.write_text(f"consent: '[b]told'\n{text}")
    line = b"a person may refuse: capacity_planning"
    assert line + b"\n" in run("schema", "show").out
    assert line + b", by what an event says at [b]told\n" in run("schema", "show", path).out
    assert run("schema", "show", path, "--json").json["consent"] == "[b]told"


def test_check_and_test_pass_for_every_shipped_schema() -> None:
    """The shipped schemas are well formed; their tests and samples pass."""
    assert run("schema", "check", *_SHIPPED).code == 0
    tested = run("schema", "test", *_SHIPPED, "--json")
    assert tested.code == 0
    outcome = tested.json
    assert outcome["failed"] == outcome["faults"] == []
    assert outcome["passed"] >= 3 * len(_SHIPPED)


def test_check_reports_all_faults_of_all_files(tmp_path: Path) -> None:
    """Exit 78, each fault with file, line and column; nothing about the good file is an error."""
    one, two = tmp_path / "one.yaml", tmp_path / "two.yaml"
    text = (resources.shipped() / "conferencing.yaml").read_text()
    one.write_text(text.replace("kind: ip", "kind: ipv4").replace("retention: 30d", "retention: x"))
    two.write_text("schema: [\n")
    ended = run("schema", "check", one, two, "conferencing")
    assert ended.code == 78
    assert ended.err.count(b"one.yaml:") >= 1
    assert b"[E107]" in ended.err
    assert b"[E102]" in ended.err
    assert b"conferencing: ok" in ended.out
    faults = run("schema", "check", one, two, "--json").json
    assert {"E107", "E102"} <= {fault["code"] for fault in faults}
    assert all(fault["line"] >= 1 for fault in faults)


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A copy of a shipped schema with its samples."""
    path = tmp_path / "conferencing.yaml"
    shutil.copy(resources.shipped() / "conferencing.yaml", path)
    shutil.copytree(resources.shipped() / "conferencing.samples", tmp_path / "conferencing.samples")
    return path


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("keeps: {client.address: 203.0.113.7}", "keeps: {os.type: linux}", "lacks `os.type`"),
        ("keeps: {client.address: 203.0.113.7}", "keeps: {}", "expected 0 records, but"),
        (
            "never_contains: [canary-chat, Ana]",
            'never_contains: ["203.0.113"]',
            "is in the records",
        ),
        (
            "keeps: {client.address: 192.0.2.1,",
            "keeps: {client.address: 192.0.2.2,",
            "another value",
        ),
    ],
)
def test_a_failing_test_says_what_but_no_value(copied: Path, old: str, new: str, says: str) -> None:
    """Exit 1; the message names fields and tests, never a value of the event."""
    text = copied.read_text()
    assert old in text
    copied.write_text(text.replace(old, new))
    ended = run("schema", "test", copied)
    assert ended.code == 1
    assert says.encode() in ended.err
    assert b"203.0.113.7" not in ended.out + ended.err
    assert b"canary" not in ended.out + ended.err


def test_samples_are_run_both_ways(copied: Path) -> None:
    """A pass sample that drops a field fails; so does a fail sample that is admitted whole."""
    folder = copied.with_name("conferencing.samples")
    good, bad = folder / "join.pass.json", folder / "sentence-in-version.fail.json"
    content = good.read_bytes(), bad.read_bytes()
    good.write_bytes(content[1])
    bad.write_bytes(content[0])
    (folder / "nameless.json").write_bytes(b"{}")
    ended = run("schema", "test", copied)
    assert ended.code == 1
    assert b"`os.version` dropped 1 times: invalid_value" in ended.err
    assert b"nothing was rejected or dropped" in ended.err
    assert b"<case>.pass.json" in ended.err
    assert ended.out.endswith(b"3 failed\n")


# -- capacity


def test_json_of_one_schema_is_an_object() -> None:
    """Bits of the record and of each field in schema order, and what ``max_bits`` leaves."""
    ended = run("schema", "capacity", "--json")
    schema = load_schema("conferencing")
    width = ended.json
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
    names = list(reversed(resources.names()))
    widths = run("schema", "capacity", *names, "--json").json
    assert [width["schema"].partition("/")[0] for width in widths] == names


def test_the_table_has_a_bar_for_each_field() -> None:
    """The widest field has the longest bar; where bars cannot be shown, plain characters are."""
    schema = load_schema("conferencing")
    for encoding, mark in (("utf-8", "█"), ("ascii", "#")):
        text = run("schema", "capacity", encoding=encoding).out.decode()
        rows = {line.split()[0]: line for line in text.splitlines()}
        bars = {name: rows[name].count(mark) for name in schema.fields}
        assert max(bars, key=lambda name: bars[name]) == "client.address"
        assert 0 < bars["os.version"] < bars["client.address"]
        letters = letter_bits(schema)
        assert rows["a"].split()[-2] == f"{record_bits(schema):.1f}"
        assert rows["a"].split()[-1] == f"{sum(letters.values()):.1f}"
        assert rows["os.build_id"].split()[3] == f"{letters['os.build_id']:.1f}"
        assert rows["max_bits"].split()[1] == f"{schema.max_bits}.0"
        assert rows["count,"].split()[2] == "14.0"
        assert rows["left"].split()[1] == f"{(schema.max_bits or 0) - record_bits(schema):.1f}"


def test_bars_of_all_schemas_have_one_scale() -> None:
    """A bar has a length that its bits alone give, whatever is shown beside it."""
    lengths: dict[str, set[int]] = {}
    for names in (resources.names(), *([name] for name in resources.names())):
        for line in run("schema", "capacity", *names).out.decode().splitlines():
            if found := re.match(r"\S+ +\S+ +(\S+).* ([█▏▎▍▌▋▊▉]+) *$", line):
                lengths.setdefault(found[1], set()).add(len(found[2]))
    assert lengths["48.0"] == {9}
    assert lengths["128.0"] == {24}
    assert all(len(each) == 1 for each in lengths.values())


def test_without_a_limit_and_without_width(tmp_path: Path) -> None:
    """A schema without ``max_bits`` has nothing left, a field of one value no width."""
    path = tmp_path / "a.yaml"
    path.write_text(
        "schema: a\nversion: 1.0.0\ntitle: A\nowner: me\n"
        "purposes: {ops: {use: essential.service.operations, basis: contract, reason: Because}}\n"
        "fields: {os.type: {kind: enum, values: [x], required: true, category: system,"
        " purposes: [ops], retention: 1d, reason: Because}}\n"
    )
    assert run("schema", "capacity", path, "--json").json == {
        "schema": "a/1.0.0",
        "bits": 0.0,
        "fields": {"os.type": 0.0},
        "letters": {},
        "beside": {"count": 4.32, "received": 9.66},
    }
    assert b"none" in run("schema", "capacity", path).out


def test_windows_are_wider_for_senders_of_records(tmp_path: Path) -> None:
    """Around an hour that they say: those bits stand with the others that are theirs alone."""
    path = tmp_path / "a.yaml"
    path.write_text(
        "schema: a\nversion: 1.0.0\ntitle: A\nowner: me\n"
        "purposes: {ops: {use: essential.service.operations, basis: contract, reason: Because}}\n"
        "fields: {call.start: {kind: time, within: 1s, category: user.telemetry,"
        " purposes: [ops], retention: 1d, reason: Because}}\n"
    )
    width = run("schema", "capacity", path, "--json").json
    assert width["fields"] == {"call.start": 2.0}
    assert width["beside"]["times"] == round(log2(3599 + 2 + 1 + 1) - 2, 2)
    assert b"count, received, times" in run("schema", "capacity", path).out


def test_capacity_of_a_faulty_schema(tmp_path: Path) -> None:
    """Exit 78 with every fault, and nothing on stdout."""
    path = tmp_path / "a.yaml"
    path.write_text("schema: A\n")
    ended = run("schema", "capacity", path, "--json")
    assert (ended.code, ended.out) == (78, b"")
    assert b"[E107]" in ended.err


# -- jsonschema


def test_jsonschema_of_documents() -> None:
    """One JSON document on stdout, whether or not schemas are named."""
    ended = run("schema", "jsonschema")
    assert (ended.code, ended.err) == (0, b"")
    assert ended.json == document_schema()
    assert run("schema", "jsonschema", "conferencing").out == ended.out


def test_jsonschema_of_records() -> None:
    default = run("schema", "jsonschema", "--records").json
    assert default == record_schema([load_schema("conferencing")])
    several = run("schema", "jsonschema", "--records", *resources.names()).json
    assert several == record_schema(map(load_schema, resources.names()))
    record = run("filter", stdin=b'{"ip": "203.0.113.7"}\n').json
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
        assert b"[E107]" in ended.err
        assert b"[E107]" in ended.err


def test_jsonschema_into_a_file(tmp_path: Path) -> None:
    """The same bytes; a place that cannot be written to is a fault."""
    path = tmp_path / "made.json"
    ended = run("schema", "jsonschema", "--output", path)
    assert (ended.code, ended.out) == (0, b"")
    assert orjson.loads(path.read_bytes()) == document_schema()
    refused = run("schema", "jsonschema", "-o", tmp_path / "none" / "made.json")
    assert refused.code == 78
    assert b"[E203]" in refused.err


# -- lints

_GOOD = """\
schema: sample
version: 1.0.0
title: A sample
owner: privacy
tests: [{name: chat, event: {chat: [canary], os: {type: linux}}, never_contains: [canary]}]
purposes:
  ops: {use: essential.service.operations, basis: contract, reason: Keep the call up}
fields:
  os.type: {kind: enum, values: [linux], category: user.device, purposes: [ops],
    retention: 30d, reason: Choose a codec}
"""
_WARNING = _GOOD.replace("30d", "3y")
_ERROR = _GOOD.replace("30d", "30d, expires: 2020-01-31, required: true")
_NOTE = _GOOD.replace("[linux]", "[linux], aliases: {linux: linux}")
_FAULT = _GOOD.replace("kind: enum", "kind: enums")


def _file(directory: Path, name: str, text: str) -> Path:
    path = directory / f"{name}.yaml"
    path.write_text(text)
    return path


@for_each(
    ("text", "code", "strict"),
    [(_GOOD, 0, 0), (_NOTE, 0, 0), (_WARNING, 0, 1), (_ERROR, 1, 1), (_FAULT, 78, 78)],
)
def test_exit_codes(text: str, code: int, strict: int, tmp_path: Path) -> None:
    path = _file(tmp_path, "sample", text)
    for options, expected in (([], code), (["--strict"], strict)):
        for form in ([], ["--json"]):
            assert run("schema", "check", path, *options, *form).code == expected


def test_faults_and_lints_of_all_files_in_one_pass(tmp_path: Path) -> None:
    """Faults first, each with its place; good files are on stdout and nothing else is."""
    files = [
        _file(tmp_path, name, text)
        for name, text in (("a", _WARNING), ("b", _FAULT), ("c", _NOTE), ("d", _GOOD))
    ]
    ended = run("schema", "check", *files)
    lines = ended.err.decode().splitlines()
    assert ended.code == 78
    mended = [re.sub(rf"^{tmp_path}/(\w)\.yaml:\d+:\d+: ", r"\1 ", line) for line in lines]
    assert re.fullmatch(r"b fields\.os\.type\.kind: .*did you mean `enum`\? \[E107\]", mended[0])
    assert re.fullmatch(r"a warning: fields\.os\.type\.retention: .* \[long-retention\]", mended[1])
    assert re.fullmatch(r"c note: fields\.os\.type\.aliases\.linux: .* \[idle-alias\]", mended[2])
    assert len(mended) == 3
    assert [line.split(":")[0][-6:] for line in ended.out.decode().splitlines()] == [
        "a.yaml",
        "c.yaml",
        "d.yaml",
    ]


def test_json_lists_both_in_one_shape(tmp_path: Path) -> None:
    """A finding is an object like a fault, and both say how severe they are."""
    files = [_file(tmp_path, name, text) for name, text in (("a", _ERROR), ("b", _FAULT))]
    fault, finding = run("schema", "check", *files, "--json").json
    keys = {"file", "line", "column", "field", "message", "code", "severity"}
    assert fault.keys() == finding.keys() == keys
    assert (fault["code"], fault["severity"]) == ("E107", "error")
    assert (finding["code"], finding["severity"]) == ("always-rejects", "error")
    assert run("schema", "check", _file(tmp_path, "c", _GOOD), "--json").json == []


def test_a_hostile_alias_cannot_break_a_line(tmp_path: Path) -> None:
    """The author's text is shown on one line, without colours of its own."""
    alias = "'[red]Maria[/] [link=x]'"
    path = _file(tmp_path, "a", _GOOD.replace("[linux]", f"[linux], aliases: {{{alias}: linux}}"))
    (line,) = run("schema", "check", path).err.decode().splitlines()
    assert ".aliases.[red]Maria[/] [link=x]: " in line
    assert line.endswith(" [personal-value]")
