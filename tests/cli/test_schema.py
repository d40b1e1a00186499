"""``collector schema …`` on shipped, good and broken schemas."""

from __future__ import annotations

import shutil
from pathlib import Path

import orjson
import pytest

from collector.schema import shelf
from tests.cli.process import run

_SHIPPED = shelf.names()


def test_list_names_every_shipped_schema() -> None:
    """As a table and as JSON."""
    table, listed = run("schema", "list"), orjson.loads(run("schema", "list", "--json").out)
    assert [row["schema"].partition("/")[0] for row in listed] == _SHIPPED
    assert all(name.encode() in table.out for name in _SHIPPED)
    assert {"conferencing", "conferencing-strict", "participants-qos"} <= set(_SHIPPED)


def test_show_gives_every_field_with_its_reason() -> None:
    """What is collected, where it is found, why, and for how long."""
    shown = orjson.loads(run("schema", "show", "conferencing", "--json").out)
    assert shown["fields"]["client.address"]["from"] == ["client.address", "ip_address", "ip"]
    assert all(field["reason"] for field in shown["fields"].values())
    table = run("schema", "show").out.decode()
    for name in shown["fields"]:
        assert name in table


def test_show_tells_what_a_person_may_refuse(tmp_path: Path) -> None:
    """Which purposes, and where an event says so, if the schema names a place."""
    path = tmp_path / "choosing.yaml"
    text = (shelf.shipped() / "conferencing.yaml").read_text()
    path.write_text(f"consent: '[b]told'\n{text}")
    line = b"a person may refuse: capacity_planning"
    assert line + b"\n" in run("schema", "show").out
    assert line + b", by what an event says at [b]told\n" in run("schema", "show", path).out
    assert orjson.loads(run("schema", "show", path, "--json").out)["consent"] == "[b]told"


def test_check_and_test_pass_for_every_shipped_schema() -> None:
    """The shipped schemas are well formed; their tests and samples pass."""
    assert run("schema", "check", *_SHIPPED).code == 0
    tested = run("schema", "test", *_SHIPPED, "--json")
    assert tested.code == 0
    outcome = orjson.loads(tested.out)
    assert outcome["failed"] == outcome["faults"] == []
    assert outcome["passed"] >= 3 * len(_SHIPPED)


def test_check_reports_all_faults_of_all_files(tmp_path: Path) -> None:
    """Exit 78, each fault with file, line and column; nothing about the good file is an error."""
    one, two = tmp_path / "one.yaml", tmp_path / "two.yaml"
    text = (shelf.shipped() / "conferencing.yaml").read_text()
    one.write_text(text.replace("kind: ip", "kind: ipv4").replace("retention: 30d", "retention: x"))
    two.write_text("schema: [\n")
    ended = run("schema", "check", one, two, "conferencing")
    assert ended.code == 78
    assert ended.err.count(b"one.yaml:") >= 1
    assert b"[E110]" in ended.err
    assert b"[E102]" in ended.err
    assert b"conferencing: ok" in ended.out
    faults = orjson.loads(run("schema", "check", one, two, "--json").out)
    assert {"E110", "E102"} <= {fault["code"] for fault in faults}
    assert all(fault["line"] >= 1 for fault in faults)


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A copy of a shipped schema with its samples."""
    path = tmp_path / "conferencing.yaml"
    shutil.copy(shelf.shipped() / "conferencing.yaml", path)
    shutil.copytree(shelf.shipped() / "conferencing.samples", tmp_path / "conferencing.samples")
    return path


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("keeps: {client.address: 203.0.113.7}", "keeps: {os.type: linux}", "lacks `os.type`"),
        ("keeps: {client.address: 203.0.113.7}", "keeps: {}", "it keeps 0 records, but 1"),
        ("never_contains: [canary-chat, Ana]", 'never_contains: ["203.0.113"]', "came out"),
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
