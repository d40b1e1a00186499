"""``collector store risk``: figures without values, while a sidecar may be running."""

from __future__ import annotations

from pathlib import Path

import pytest

from collector.ledger import opened
from collector.spool import Spool
from tests.support.command import Ended, run
from tests.support.populated import PopulatedDirectory


@pytest.fixture
def lives(tmp_path: Path) -> PopulatedDirectory:
    """Five people of whom one in three has no model."""
    lives = PopulatedDirectory(tmp_path)
    lives.deliver_aged((range(5), 0))
    return lives


def _risk(lives: PopulatedDirectory, *more: str) -> Ended:
    return run("store", "risk", "--config", lives.config_file, *more)


def test_figures(lives: PopulatedDirectory) -> None:
    done = _risk(lives, "--json")
    (table,) = done.json["tables"]
    assert table["table"] == "conferencing"
    assert table["events"] == {"groups": 5, "total": 5, "smallest": 1, "alone": 5}
    assert table["people"] == {"groups": 2, "total": 5, "smallest": 2, "alone": 0}
    assert b"Pixel" not in done.out
    assert b"10.1" not in done.out


def test_for_people(lives: PopulatedDirectory) -> None:
    shown = _risk(lives).out.decode()
    assert "conferencing: 5 events in 5 groups, 1 in the smallest, 5 alone, by all fields" in shown
    assert "by the fields besides client.address: 5 people in 2 groups, 2 in the" in shown
    rows = [line.split() for line in shown.splitlines()]
    assert ["client.address", "dropped", "0", "2", "-", "-"] in rows
    assert ["device.model.name", "dropped", "5", "1", "0", "5"] in rows
    assert not [row for row in rows if row[:1] == ["os.type"]]


def test_nothing_would_help(tmp_path: Path) -> None:
    lives = PopulatedDirectory(tmp_path)
    lives.deliver_aged((range(0), 0))
    assert b"no single option would help" in _risk(lives).out


def test_reading_is_noted(lives: PopulatedDirectory) -> None:
    assert _risk(lives).code == 0
    with Spool(lives.data / "spool.db"):
        assert _risk(lives).code == 0
    with opened(lives.data / "spool.db") as ledger:
        noted = [entry for entry in ledger.entries() if entry.kind == "read"]
    assert [dict(entry.facts) for entry in noted] == [{"command": "store risk", "rows": "5"}] * 2
    alone = lives.directory / "alone"
    alone.mkdir()
    assert run("store", "risk", "--data", alone, "--store", lives.data / "store.db").code == 0
    assert list(alone.iterdir()) == []


def test_no_store(tmp_path: Path) -> None:
    assert run("store", "risk", "--data", tmp_path).code == 78
