"""The benchmark of sinks: real sinks and receivers, and limits that can fail."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import gate
from benchmarks.__main__ import main
from benchmarks.sinks import command
from benchmarks.sinks.backlog import Backlog, judged
from tests.sinks.postgres import require_postgres


def test_sinks_are_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each sink and its bare writer, as a table and as JSON; and both limits."""
    monkeypatch.setattr(command, "_QUICK_ROUNDS", 2)
    monkeypatch.setattr(command, "_RECORDS", 20)
    without = {name: each for name, each in command.CONTENDERS.items() if name != "postgres"}
    monkeypatch.setattr(command, "CONTENDERS", without)
    told, limits = tmp_path / "figures.json", tmp_path / "limits.toml"
    text = gate.LIMITS.read_text().replace("of_bare_at_least = 0.5\n", "of_bare_at_least = 99.0\n")
    limits.write_text(re.sub(r"= [0-9]+_000\b", "= 1", text))
    files = ["--json", str(told), "--limits", str(limits)]
    assert main(["sinks", "--quick", "--check", *files]) == 1
    rates = json.loads(told.read_text())["rates"]
    assert set(rates) == set(command.CONTENDERS)
    for each in rates.values():
        assert len(each["sink"]) == len(each["bare"]) == len(each["wall"]) == 2
        assert min(each["sink"] + each["bare"] + each["wall"]) > 0
    said = capsys.readouterr().out
    assert said.count("FAILED  sinks, ") == len(rates)
    assert "ok      sinks, otlp over HTTP: " in said


@pytest.mark.servers
def test_a_database_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a server of its own; where there is none, that is told."""
    require_postgres()
    monkeypatch.setattr(command, "_QUICK_ROUNDS", 2)
    monkeypatch.setattr(command, "_RECORDS", 20)
    only = {"postgres": command.CONTENDERS["postgres"]}
    monkeypatch.setattr(command, "CONTENDERS", only)
    told = tmp_path / "figures.json"
    assert main(["sinks", "--quick", "--json", str(told)]) == 0
    assert len(json.loads(told.read_text())["rates"]["postgres"]["sink"]) == 2
    monkeypatch.setattr("benchmarks.sinks.postgres.obstacle", lambda: "it is not there")
    assert main(["sinks", "--quick", "--json", str(told)]) == 0
    assert json.loads(told.read_text())["skipped"] == {"postgres": "it is not there"}


@pytest.mark.servers
def test_a_backlog_is_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A real sidecar and database under a small load; all of it has arrived."""
    require_postgres()
    told = tmp_path / "figures.json"
    words = ["--rate", "400", "--seconds", "4", "--directory", str(tmp_path), "--json", str(told)]
    assert main(["backlog", *words]) == 0
    assert json.loads(told.read_text())["samples"]
    assert "records waited at most" in capsys.readouterr().out


def test_a_spool_that_grows_is_told() -> None:
    """By the trend, if more waits than some seconds' load; not where too little was sent."""
    rates = (30_000.0, 30_000.0)
    level = Backlog([(1.0, 90_000), (2.0, 70_000)], 5.0, -3.0, 13.0, *rates, 0.1, 0.9, {})
    assert judged(level).holds
    assert judged(replace(level, rate=20_000.0)).holds is None
    assert judged(replace(level, low=1.0)).holds is False
    assert judged(replace(level, low=1.0, samples=[(1.0, 1), (2.0, 40_000)])).holds
