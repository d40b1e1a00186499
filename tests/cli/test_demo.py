"""``collector demo``: content in, minimised rows out, and a scan that would have seen a leak."""

from __future__ import annotations

import sqlite3
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from collector.cli import demo
from collector.cli.app import app
from collector.contracts import Batch
from collector.schema import load_schema, resources
from collector.sinks.store import Store
from collector.testing import scan
from tests.support.command import run
from tests.support.rows import for_each


def test_the_demo_stores_records_and_finds_no_canary(tmp_path: Path) -> None:
    for _ in range(2):
        ended = run("demo", "--data", tmp_path / "demo", "--events", 1200, "--json")
        assert ended.code == 0, ended.err
        shown = ended.json
        assert shown["tally"]["admitted"] == shown["stored"] == 1200
        assert shown["tally"]["content"]["chat"] == 1200
        assert (shown["found"], shown["scan_finds_a_plant"]) == (0, True)
        assert shown["scanned_bytes"] > 50_000
    db = sqlite3.connect(tmp_path / "demo" / "store.db")
    addresses = db.execute('SELECT count(*), count(DISTINCT "client.address") FROM conferencing')
    assert addresses.fetchone()[0] == 1200
    db.close()


def test_the_demo_speaks_to_people(tmp_path: Path) -> None:
    text = run("demo", "--data", tmp_path, "--events", 50).out.decode()
    for part in ("received", "bytes in", '{"schema":"conferencing/', "none found", "store query"):
        assert part in text


@pytest.mark.parametrize(("path", "shown"), [("/usr/bin", "/a/collector"), ("/a", "collector")])
def test_the_next_command_can_be_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, shown: str
) -> None:
    """It is named by its path where ``PATH`` does not have it."""
    folder = tmp_path / "a"
    folder.mkdir()
    program = folder / "collector"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o700)
    monkeypatch.setenv("PATH", path.replace("/a", str(folder)))
    monkeypatch.setattr(sys, "argv", [str(program)])
    collected = CliRunner().invoke(app, ["demo", "--data", str(tmp_path / "b"), "--events", "50"])
    assert f"  {shown.replace('/a', str(folder))} store query --data" in collected.output


@for_each("schema", [name for name in resources.names() if name != "participants-qos"])
def test_the_demo_works_with_other_schemas(tmp_path: Path, schema: str) -> None:
    ended = run("demo", "--data", tmp_path, "--events", 50, "-s", schema, "--json")
    assert ended.code == 0
    assert ended.json["stored"] == 50


def test_a_leak_would_be_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo fails if the store also keeps what came in."""
    leaked: list[bytes] = []
    original = Store.deliver

    def leaking(self: Store, batch: Batch) -> None:
        original(self, batch)
        self._db.execute("CREATE TABLE IF NOT EXISTS leak (text TEXT)")
        self._db.execute("INSERT INTO leak VALUES (?)", (leaked[0].decode(),))

    planted = ("canary-of-demo-1", "canary-of-demo-2")
    leaked.append(planted[0].encode())
    monkeypatch.setattr(Store, "deliver", leaking)
    schema = load_schema("conferencing")
    demo.collect(schema, tmp_path / "store.db", 10, 1, planted)
    assert {hit.canary for hit in scan([tmp_path], planted)} == {planted[0]}


def test_an_unusable_directory_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    ended = run("demo", "--data", tmp_path / "file", "--events", 1)
    assert ended.code == 78
    assert b"[E203]" in ended.err
