"""``collector schema review``: a person at a terminal approves fields, and nothing else does."""

from __future__ import annotations

import re
from pathlib import Path

import orjson

from collector.schema.review import approve, read_copy
from tests.schema.test_review import SAID, STATED, jitter, schema_of
from tests.support.command import run
from tests.support.rows import for_each
from tests.support.terminal import Terminal

_LINK = "https://git.example/pull/812"


def _answer(terminal: Terminal, field: str, decision: str = "yes") -> str:
    """Answer the four questions about a field, and decide."""
    shown = terminal.wait_for("Why is it needed?")
    assert field in shown
    for answer, next_question in (
        ("Calls break off", "What is the least that would do?"),
        ("Steps of 10 ms", "Can the person refuse?"),
        ("No", "What could go wrong?"),
        ("Nothing that we know", "Type yes"),
    ):
        terminal.type(answer)
        terminal.wait_for(next_question)
    terminal.type(decision)
    return shown


def test_a_review_from_the_first_question_to_the_verdict(tmp_path: Path) -> None:
    schema_of(tmp_path, jitter(), jitter().replace("jitter", "loss"))
    config = tmp_path / "c.yaml"
    config.write_text("data: data\nschema: calls.yaml\nsinks:\n  ndjson: {path: out/records}\n")
    assert run("schema", "review", "--check", "calls.yaml", directory=tmp_path).code == 1
    terminal = Terminal("schema", "review", "calls.yaml", "--config", config, directory=tmp_path)
    shown = _answer(terminal, "network.jitter")
    for part in ("not approved: it is new", "minimum: 0", "6.7 in each record", "goes to", "store"):
        assert part in shown, part
    assert re.search(r"looks like +\d+, \d+", shown)
    terminal.wait_for("Who approves it?")
    terminal.type("")
    terminal.type("A. Example\U000e0100, data protection")
    terminal.wait_for("try again")
    terminal.type("A. Example, data protection")
    terminal.wait_for("A link to the discussion")
    terminal.type("ask me")
    terminal.wait_for("try again")
    terminal.type(_LINK)
    terminal.wait_for("Until which day")
    terminal.type("2020-01-01")
    terminal.wait_for("try again")
    terminal.type("2999-12-31")
    terminal.wait_for("written to")
    _answer(terminal, "network.loss", "y")
    terminal.wait_for("not approved: network.loss")
    assert terminal.end() == 1
    copy = read_copy(tmp_path / "calls.reviewed.yaml")
    approval, _ = copy.entries["network.jitter"]
    assert (approval.by, approval.see) == ("A. Example, data protection", _LINK)
    assert list(copy.entries) == ["network.jitter"]
    assert approval.answers["Why is it needed?"] == "Calls break off"
    terminal = Terminal("schema", "review", "calls.yaml", directory=tmp_path)
    assert "network.jitter" not in _answer(terminal, "network.loss")
    terminal.wait_for("Who approves it?")
    terminal.type("B. Example")
    terminal.wait_for("A link to the discussion")
    terminal.type(_LINK)
    terminal.wait_for("Until which day")
    terminal.type("")
    terminal.wait_for("all fields are approved")
    assert terminal.end() == 0
    done = run("schema", "review", "--check", "calls.yaml", directory=tmp_path)
    assert done.code == 0
    assert b"(network.loss; attributed to B. Example, 20" in done.out


def test_nothing_approves_without_a_terminal(tmp_path: Path) -> None:
    """No option does either."""
    schema_of(tmp_path, jitter())
    answers = b"a\na\na\na\nyes\nA. Example\nhttps://git.example\n\n" * 2
    done = run("schema", "review", "calls.yaml", stdin=answers, directory=tmp_path)
    assert (done.code, done.out) == (2, b"")
    for option in ("--yes", "-y", "--approve", "--force"):
        assert run("schema", "review", "calls.yaml", option, directory=tmp_path).code == 2
    assert run("schema", "review", "calls.yaml", "--json", directory=tmp_path).code == 2
    assert [path.name for path in tmp_path.iterdir()] == ["calls.yaml"]


def test_leaving_in_the_middle(tmp_path: Path) -> None:
    schema_of(tmp_path, jitter())
    terminal = Terminal("schema", "review", "calls.yaml", directory=tmp_path)
    _answer(terminal, "network.jitter")
    terminal.wait_for("Who approves it?")
    terminal.type("\x04")
    assert terminal.end() == 1
    assert not (tmp_path / "calls.reviewed.yaml").exists()


def test_a_field_without_a_sentence_is_not_asked_about(tmp_path: Path) -> None:
    """The public has to be told first."""
    schema_of(tmp_path, jitter().replace("also: quality, ", ""), more="")
    terminal = Terminal("schema", "review", "calls.yaml", directory=tmp_path)
    terminal.wait_for("write one under `also_collected` first")
    terminal.wait_for("not approved: network.jitter")
    assert terminal.end() == 1


@for_each("text", ["fields: {a: 1}\n", "schema: other\nfields: {}\n"])
def test_a_copy_that_cannot_be_used(text: str, tmp_path: Path) -> None:
    """It is not written over."""
    schema_of(tmp_path, jitter())
    (tmp_path / "calls.reviewed.yaml").write_text(text)
    terminal = Terminal("schema", "review", "calls.yaml", directory=tmp_path)
    assert terminal.end() in (2, 78)
    assert (tmp_path / "calls.reviewed.yaml").read_text() == text


def test_check_says_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    config = tmp_path / "etc" / "c.yaml"
    config.write_text("schemas: [conferencing, web]\n")
    done = run("schema", "review", "--check", "--config", config, "--json", directory=tmp_path)
    calls, web = done.json
    assert (done.code, calls["approved"], web["approved"]) == (1, True, False)
    assert web["file"] == str(tmp_path / "etc" / "web.reviewed.yaml")
    assert {each["why"] for each in web["fields"]} == {"not approved: it is new"}
    told = run("schema", "review", "--check", "web", directory=tmp_path)
    assert b"web: os.version: not approved: it is new\n" in told.err
    assert told.code == 1


def test_copies_are_no_schemas(tmp_path: Path) -> None:
    schema = schema_of(tmp_path, jitter())
    path = tmp_path / "calls.reviewed.yaml"
    path.write_text(approve(read_copy(path), schema, "network.jitter", STATED, {}))
    both = ("calls.reviewed.yaml", "calls.yaml")
    for command in ("check", "test", "review"):
        more = ("--check",) if command == "review" else ()
        assert run("schema", command, *more, *both, directory=tmp_path).code == 0, command


def test_claims_say_what_to_do_and_whose_judgement_it_is(tmp_path: Path) -> None:
    """A narrower field keeps its approval, a wider one does not."""
    tried = SAID + "tests: [{name: a call, event: {jitter: 12}, keeps: {network.jitter: 10}}]\n"
    schema = schema_of(tmp_path, jitter(), more=tried)
    config = tmp_path / "c.yaml"
    config.write_bytes(orjson.dumps({"data": str(tmp_path / "data"), "schema": "calls.yaml"}))
    told = ("claims", "--verify", "--config", "c.yaml", "--only", "no-monitoring")
    none = run(*told, directory=tmp_path)
    assert none.code == 1
    assert b"? We do not watch" in none.out or b"\n  Unproven." in none.out
    assert b"`network.jitter`" in none.out
    assert b"`collector schema review calls.yaml --config c.yaml`" in none.out
    path = tmp_path / "calls.reviewed.yaml"
    path.write_text(approve(read_copy(path), schema, "network.jitter", STATED, {}))
    done = run(*told, directory=tmp_path)
    said = (
        "We also measure how well calls run. (network.jitter; attributed to A. Example, 2026-11-29)"
    )
    assert (done.code, b"\n  Holds with additions." in done.out) == (0, True), done.err
    assert said in done.out.decode()
    schema_of(tmp_path, jitter(retention="29d"), more=tried)
    assert run(*told, directory=tmp_path).code == 0
    schema_of(tmp_path, jitter(retention="31d"), more=tried)
    wider = run(*told, "--json", directory=tmp_path)
    assert wider.code == 1
    (message,) = wider.json["checks"]["review"]
    assert "`network.jitter`" in message
    assert "retention: kept longer" in message
    assert wider.json["to_review"] == ["collector schema review calls.yaml --config c.yaml"]
