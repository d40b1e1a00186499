"""``collector store prune``: expired data is deleted everywhere."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from collector.ledger import opened
from collector.spool import Spool
from tests.support.command import Ended, run
from tests.support.database import query
from tests.support.failing_disk import small_disk
from tests.support.populated import PopulatedDirectory


@pytest.fixture
def lives(tmp_path: Path) -> PopulatedDirectory:
    """People of today, of 31 days ago, and of 91."""
    lives = PopulatedDirectory(tmp_path)
    groups = ((0, 0), (10, 31), (20, 91))
    lives.deliver_aged(*((range(first, first + 5), days) for first, days in groups))
    for first, days in groups:
        lives.spool(range(first + 5, first + 10), days=days)
    return lives


def _run(lives: PopulatedDirectory, *more: object) -> Ended:
    return run("store", "prune", "--config", lives.config_file, *more)


def test_prune(lives: PopulatedDirectory) -> None:
    """Addresses go after 30 days and the rest after 90, to the last byte."""
    told = _run(lives, "--json").json
    assert (told["sinks"], told["batches"]) == ({"store": 10, "ndjson": 10}, 2)
    assert (told["is_swept"], told["unruled"]) == (True, [])
    assert lives.left(range(30)) == set(range(10))
    assert query(lives.data / "store.db", "SELECT count(*) FROM conferencing") == [(10,)]
    assert run("ledger", "verify", "--data", lives.data).code == 0
    shown = _run(lives)
    assert (shown.code, shown.err) == (0, b"")
    assert shown.out.decode().splitlines()[0] == "sink store: 0 records"


def test_on_a_terminal_it_asks(lives: PopulatedDirectory) -> None:
    words = ("store", "prune", "--config", lives.config_file)
    told = run(*words, "--dry-run", "--json").json
    assert (len(told["overdue"]) > 1, told["dry_run"]) == (True, True)
    done = run(*words, stdin=b"n\n", typed=True)
    assert (done.code, b"past their retention" in done.out) == (1, True)
    assert run(*words, "--dry-run", typed=True).out.decode().splitlines() == told["overdue"]
    assert lives.left(range(30)) == set(range(30))
    assert run(*words, stdin=b"y\n", typed=True).code == 0
    assert run(*words, "--dry-run").out == b"nothing is overdue\n"
    assert run(*words, "--yes", typed=True).code == 0


def test_what_was_set_aside_has_a_week(lives: PopulatedDirectory) -> None:
    """Files go by their names, damaged batches by their minute."""
    old, new = lives.set_aside(1, days=8), lives.set_aside(1, days=6)
    lives.damage(1, days=8)
    told = _run(lives, "--json").json
    assert (told["files"], told["damaged"]) == (1, 1)
    assert not old.exists()
    assert new.exists()


def test_sums_of_hours_have_ninety_days(lives: PopulatedDirectory) -> None:
    query = "SELECT count(DISTINCT hour) FROM hours"
    with closing(sqlite3.connect(lives.data / "spool.db")) as db:
        before = db.execute(query).fetchone()[0]
        assert _run(lives, "--json").json["hours"]
        assert db.execute(query).fetchone()[0] == before - 1


def test_a_table_of_which_nothing_is_known_is_said(lives: PopulatedDirectory) -> None:
    """The operator must say how long it may stay."""
    query(lives.data / "store.db", "CREATE TABLE other (received TEXT, a TEXT)")
    done = _run(lives)
    assert (done.code, b"other: no retention is known" in done.err) == (1, True)


def test_a_running_sidecar_and_a_reader_are_said(lives: PopulatedDirectory) -> None:
    with Spool(lives.data / "spool.db"):
        assert _run(lives).code == 75
    with closing(sqlite3.connect(lives.data / "store.db", isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM conferencing").fetchone()
        done = _run(lives, "--wait", 0)
    assert (done.code, b"another process reads" in done.err) == (1, True)
    assert _run(lives).code == 0
    assert lives.left(range(30)) == set(range(10))


def test_a_disk_without_room_is_said(tmp_path: Path) -> None:
    """Rows are gone and the ledger says so; their bytes go when there is room."""
    with small_disk(tmp_path / "disk", 16) as disk:
        lives, ballast = PopulatedDirectory(disk), disk / "ballast"
        lives.deliver_aged((range(5000, 20_000), 1), (range(5), 91))
        lives.lines.unlink()
        size = (lives.data / "store.db").stat().st_size
        with ballast.open("wb", buffering=0) as file:
            while (room := os.statvfs(disk)).f_bavail * room.f_frsize > size:
                file.write(bytes(1 << 16))
        done = _run(lives, "--json", "--wait", 0)
        assert (done.code, b"no room" in done.err) == (1, True)
        assert done.json["sinks"]["store"] == 5
        ballast.unlink()
        assert _run(lives).code == 0
        assert lives.left(range(5)) == set()
        with opened(lives.data / "spool.db") as ledger:
            noted = [entry.fact("rows") for entry in ledger.entries() if entry.kind == "prune"]
    assert noted == ["5", "0"]


def test_a_store_by_itself(lives: PopulatedDirectory) -> None:
    elsewhere = lives.directory / "telemetry.db"
    (lives.data / "store.db").rename(elsewhere)
    told = _run(lives, "--store", elsewhere, "--json").json
    assert told["sinks"]["store"] == 10
