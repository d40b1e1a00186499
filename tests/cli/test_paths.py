"""Paths that the system refuses, or that are no text: each command says so, with a code."""

from __future__ import annotations

import os
from pathlib import Path

import orjson

from tests.support.command import run
from tests.support.rows import for_each

_LONG = "x" * 400


@for_each(
    "arguments",
    [
        ("filter", "-s", _LONG),
        ("filter", "-o", _LONG),
        ("explain", "-s", _LONG),
        *(("schema", each, _LONG) for each in ("check", "capacity", "notice", "ropa")),
        ("schema", "new", "--from", _LONG),
        ("schema", "diff", _LONG, _LONG),
        ("claims", "--verify", "--config", _LONG),
        ("ledger", "verify", "--data", _LONG),
        ("store", "risk", "--data", _LONG),
        ("store", "set-aside", "--data", _LONG),
        ("status", "--data", _LONG),
        ("recording", "list", "--data", _LONG),
    ],
)
def test_a_name_that_is_too_long(arguments: tuple[str, ...]) -> None:
    ended = run(*arguments, stdin=b"{}\n")
    assert ended.code in (1, 2, 65, 78), ended.err
    assert b"unexpectedly" not in ended.err


def test_a_name_that_is_no_text(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/caf\xe9.yaml"
    Path(os.fsdecode(path)).write_text("schema: A\n")
    ended = run("schema", "check", "--json", os.fsdecode(path))
    assert ended.code == 78
    assert orjson.loads(ended.out)
