"""``collector schema check`` on schemas that load and still look like a mistake."""

from __future__ import annotations

import re
from pathlib import Path

import orjson
import pytest
from typer.testing import CliRunner

from collector.cli.app import app
from collector.schema import shelf
from tests.cli.process import run

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


@pytest.mark.parametrize(
    ("text", "code", "strict"),
    [(_GOOD, 0, 0), (_NOTE, 0, 0), (_WARNING, 0, 1), (_ERROR, 1, 1), (_FAULT, 78, 78)],
    ids=["good", "note", "warning", "error", "fault"],
)
def test_exit_codes(text: str, code: int, strict: int, tmp_path: Path) -> None:
    """Only an error fails, with --strict a warning too; a fault is a fault either way."""
    command = ["schema", "check", str(_file(tmp_path, "sample", text))]
    for options, expected in (([], code), (["--strict"], strict)):
        for form in ([], ["--json"]):
            assert CliRunner().invoke(app, [*command, *options, *form]).exit_code == expected


def test_faults_and_lints_of_all_files_in_one_pass(tmp_path: Path) -> None:
    """Faults first, each with its place; what is fine is on stdout and nothing else is."""
    files = [
        _file(tmp_path, name, text)
        for name, text in (("a", _WARNING), ("b", _FAULT), ("c", _NOTE), ("d", _GOOD))
    ]
    ended = run("schema", "check", *files)
    lines = ended.err.decode().splitlines()
    assert ended.code == 78
    mended = [re.sub(rf"^{tmp_path}/(\w)\.yaml:\d+:\d+: ", r"\1 ", line) for line in lines]
    assert mended[0] == "b fields.os.type.kind: no such kind; did you mean `enum`? [E110]"
    assert mended[1].startswith("a warning: fields.os.type.retention: kept for more than a year;")
    assert mended[1].endswith(" [long-retention]")
    assert mended[2].startswith("c note: fields.os.type.aliases.linux: the value is taken without")
    assert len(mended) == 3
    assert [line.split(":")[0][-6:] for line in ended.out.decode().splitlines()] == [
        "a.yaml",
        "c.yaml",
        "d.yaml",
    ]


def test_json_lists_both_in_one_shape(tmp_path: Path) -> None:
    """A finding is an object like a fault, and both say how severe they are."""
    files = [_file(tmp_path, name, text) for name, text in (("a", _ERROR), ("b", _FAULT))]
    fault, finding = orjson.loads(run("schema", "check", *files, "--json").out)
    keys = {"file", "line", "column", "field", "message", "code", "severity"}
    assert fault.keys() == finding.keys() == keys
    assert (fault["code"], fault["severity"]) == ("E110", "error")
    assert (finding["code"], finding["severity"]) == ("always-rejects", "error")
    assert orjson.loads(run("schema", "check", _file(tmp_path, "c", _GOOD), "--json").out) == []


def test_a_hostile_alias_cannot_break_a_line(tmp_path: Path) -> None:
    """What an author wrote is shown on one line, without colours of its own."""
    alias = "'[red]Maria[/] [link=x]'"
    path = _file(tmp_path, "a", _GOOD.replace("[linux]", f"[linux], aliases: {{{alias}: linux}}"))
    (line,) = run("schema", "check", path).err.decode().splitlines()
    assert ".aliases.[red]Maria[/] [link=x]: " in line
    assert line.endswith(" [personal-value]")


def test_shipped_schemas_have_no_errors() -> None:
    """Whatever is noted about them, none of them cannot be meant."""
    assert run("schema", "check", *shelf.names()).code == 0
