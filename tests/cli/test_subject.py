"""``collector subject export|erase|object``: JSON and counts on stdout, and the exit code."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from pathlib import Path

import orjson
import pytest

from collector.spool import Spool
from tests.support.command import Ended, run, started
from tests.support.deadline import wait_until
from tests.support.populated import PopulatedDirectory, address
from tests.support.rows import for_each

_WINDOW = ("--from", "2026-01-01", "--to", "9000-01-01")


@pytest.fixture
def lives(tmp_path: Path) -> PopulatedDirectory:
    """Ten people in the store, ten in the spool."""
    lives = PopulatedDirectory(tmp_path)
    lives.deliver(range(10))
    lives.spool(range(10, 20))
    return lives


def _words(lives: PopulatedDirectory, command: str, number: int) -> tuple[object, ...]:
    who = f"client.address={address(number)}"
    return ("subject", command, "--config", lives.config_file, "--field", who, *_WINDOW)


def _run(lives: PopulatedDirectory, command: str, number: int, *more: object) -> Ended:
    return run(*_words(lives, command, number), *more)


def test_export(lives: PopulatedDirectory) -> None:
    done = _run(lives, "export", 3)
    assert (done.code, done.err) == (0, b"")
    found = done.json
    assert found["schema"] == "conferencing/1.0.0"
    assert (found["field"], found["before"]) == ("client.address", "9000-01-02T00:00:00Z")
    for rows in (found["sinks"]["store"]["conferencing"], found["sinks"]["ndjson"]["ndjson"]):
        assert [row["client.address"] for row in rows] == [address(3)]
    assert found["spool"] == []
    assert found["unreadable"] == {"batches": 0, "files": []}
    assert f"backups and snapshots of {lives.data}" in found["beyond"]
    assert f"copies that others made of {lives.lines}" in found["beyond"]


def test_erase(lives: PopulatedDirectory) -> None:
    shown = _run(lives, "erase", 3)
    assert shown.code == 0
    assert shown.out.decode().splitlines()[0] == "sink store: 1 records"
    assert b"beyond our reach: backups" in shown.out
    told = _run(lives, "erase", 13, "--json").json
    assert (told["sinks"]["store"], told["records"], told["batches"]) == (0, 1, 1)
    assert told["is_swept"] is True
    assert lives.left(range(20)) == set(range(20)) - {3, 13}


@pytest.mark.parametrize("command", ["erase", "object"])
def test_on_a_terminal_it_asks(lives: PopulatedDirectory, command: str) -> None:
    words = _words(lives, command, 4)
    for answer in (b"\n", b"n\n", b""):
        done = run(*words, stdin=answer, typed=True)
        assert (done.code, b"sink store: 1 records" in done.out) == (1, True)
        assert b"for all time?" in done.err
    told = run(*words, "--dry-run", "--json", typed=True).json
    assert (told["sinks"]["store"], told["dry_run"], told["records"]) == (1, True, 0)
    assert b"spool: 0 records" in run(*words, "--dry-run").out
    assert b"Pixel" in _run(lives, "export", 4).out
    assert run(*words, stdin=b"y\n", typed=True).code == 0
    assert b"Pixel" not in _run(lives, "export", 4).out
    assert run(*words, "--yes", typed=True).code == 0


def test_object(lives: PopulatedDirectory) -> None:
    told = _run(lives, "object", 4, "--json").json
    assert told["sinks"] == {"store": 1, "ndjson": 1}
    assert b"Pixel" not in _run(lives, "export", 4).out
    assert b"Pixel" in _run(lives, "export", 5).out


def test_where_nothing_is_optional_that_is_said(lives: PopulatedDirectory) -> None:
    settings = orjson.loads(lives.config_file.read_bytes()) | {"schema": "webrtc"}
    lives.config_file.write_bytes(orjson.dumps(settings))
    done = _run(lives, "object", 4, "--json")
    assert (done.code, done.json["sinks"]["store"]) == (0, 0)
    assert b"all fields stay" in done.err


def test_the_value_may_come_from_stdin(lives: PopulatedDirectory) -> None:
    """There it is in no list of processes and in no history of a shell."""
    words = ("--data", lives.data, "--field", "client.address=-", *_WINDOW, "--json")
    done = run("subject", "erase", *words, stdin=f"{address(3)}\n".encode())
    assert done.json["sinks"]["store"] == 1


@pytest.mark.parametrize(
    ("field", "code"),
    [
        ("client.address=canary", b"E107"),
        ("os.type=canary", b"E404"),
        ("canary=canary", b"E404"),
        ("canary", b"FIELD=VALUE"),
    ],
)
def test_what_is_refused_is_said_without_the_value(
    lives: PopulatedDirectory, field: str, code: bytes
) -> None:
    done = run("subject", "erase", "--data", lives.data, "--field", field, *_WINDOW)
    assert (done.code, done.out) == (2, b"")
    assert code in done.err
    assert b"canary" not in done.err


def test_a_window_is_needed(lives: PopulatedDirectory) -> None:
    """An address is shared and changes hands."""
    who = f"client.address={address(3)}"
    erase = ("subject", "erase", "--data", lives.data, "--field", who)
    assert run(*erase, "--from", "2026-01-01").code == 2
    done = run(*erase, "--from", "2026-01-02", "--to", "2026-01-01")
    assert (done.code, b"E107" in done.err) == (2, True)
    assert lives.left([3]) == {3}


@for_each("command", ["export", "erase", "object"])
def test_a_wrong_path_does_not_look_as_if_nothing_were_kept(tmp_path: Path, command: str) -> None:
    """Nothing is made at such a path."""
    who = ("--field", "client.address=203.0.113.7", *_WINDOW)
    done = run("subject", command, "--data", tmp_path / "no", *who)
    assert (done.code, b"E203" in done.err) == (78, True)
    assert list(tmp_path.iterdir()) == []
    root, place = tmp_path / "usage-spool", tmp_path / "usage-spool" / "0"
    place.mkdir(parents=True)
    with Spool(place / "spool.db"):
        pass
    done = run("subject", command, "--data", root, *who)
    assert (done.code, done.out, b"DIR/0" in done.err) == (78, b"", True)
    done = run("subject", command, "--data", place, "--store", tmp_path / "no.db", *who)
    assert (done.code, done.out, b"no.db is not there" in done.err) == (78, b"", True)
    assert [each.name for each in (*tmp_path.iterdir(), *root.iterdir())] == ["usage-spool", "0"]
    assert run("subject", command, "--data", place, *who).code == 0


def test_a_running_sidecar_and_a_reader_are_said(lives: PopulatedDirectory) -> None:
    """Beside a reader the rows are gone, but not all bytes."""
    with Spool(lives.data / "spool.db"):
        done = _run(lives, "erase", 3)
    assert (done.code, b"stop it" in done.err) == (75, True)
    with closing(sqlite3.connect(lives.data / "store.db", isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM conferencing").fetchone()
        done = _run(lives, "erase", 3, "--wait", 0)
    assert (done.code, b"another process reads" in done.err) == (1, True)
    assert _run(lives, "erase", 3).code == 0
    assert lives.left([3]) == set()


@pytest.mark.parametrize("seconds", [0.0, 0.02, 0.04, 0.08])
def test_killed_it_is_done_by_doing_it_again(lives: PopulatedDirectory, seconds: float) -> None:
    """Killed at any time, it loses nothing of other persons."""
    log = lives.data / "spool.db-wal"
    with started(*_words(lives, "erase", 3)) as running:
        wait_until(lambda: log.exists() or running.process.poll() is not None)
        time.sleep(seconds)
    assert lives.left(range(20)) >= set(range(20)) - {3}
    assert _run(lives, "erase", 3).code == 0
    assert lives.left(range(20)) == set(range(20)) - {3}
    assert run("ledger", "verify", "--data", lives.data).code == 0
