"""Notes in the ledger of a directory: with a sidecar, without one, and of files of all ages."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from collector.errors import ConfigError, DeliveryError
from collector.ledger import Note
from collector.ledger.stored import FORMAT
from collector.spool import Spool, note
from collector.sqlite import connection
from tests.support.database import query
from tests.support.deadline import WAIT_SECONDS
from tests.support.ledgers import check_ledger
from tests.support.make_batches import commit, commit_to, drained, entry
from tests.support.raising import raises

READ = Note.of("read", command="store query", rows=3)
ERASED = Note.of("erasure", command="subject erase", field="client.address", rows=2)


def kinds(path: Path) -> list[object]:
    """The kinds of the entries, in order, but for the first, which names the key."""
    found = [row[0] for row in query(path, "SELECT kind FROM entries ORDER BY sequence")]
    assert found[0] == "key"
    return found[1:]


def test_where_nobody_has_the_directory(path: Path) -> None:
    note(path.parent, READ)
    commit_to(path, entry(1))
    note(path.parent, ERASED, READ)
    assert kinds(path) == ["read", "erasure", "read"]
    with Spool(path, sinks=["sink"]) as spool:
        assert drained(spool) == [1]


def test_beside_a_sidecar(path: Path) -> None:
    with Spool(path, sinks=["sink"]) as spool:
        for n in range(5):
            commit(spool, entry(n))
            note(path.parent, READ)
            spool.note(ERASED).result(WAIT_SECONDS)
        assert drained(spool) == [0, 1, 2, 3, 4]
    assert kinds(path) == ["read", "erasure"] * 5
    tips = query(path, "SELECT receipt FROM entries ORDER BY sequence")
    assert [row[0] for row in tips] == [1, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]


def test_notes_are_no_batches(path: Path) -> None:
    with Spool(path, sinks=["sink"], limit=10) as spool:
        spool.note(READ).result(WAIT_SECONDS)
        assert (spool.state().batches, spool.state().oldest) == (0, 0.0)


def test_what_cannot_be_written_is_an_error(path: Path) -> None:
    """E506 is of a file of another format, and E203 of a place that can be no directory."""
    with Spool(path, sinks=["sink"]):
        db = sqlite3.connect(path, isolation_level=None)
        db.execute("PRAGMA user_version = 2")
        with raises("E506", DeliveryError):
            note(path.parent, READ)
        db.execute(f"PRAGMA user_version = {FORMAT}")
        db.close()
    with raises("E203", ConfigError):
        note(path / "below a file", READ)


def test_entries_that_were_cut_off_are_told(path: Path) -> None:
    """The entry that says so has a number that was not given out before."""
    note(path.parent, READ, READ, READ)
    query(path, "DELETE FROM entries WHERE sequence > 2")
    note(path.parent, ERASED)
    assert query(path, "SELECT sequence, kind FROM entries ORDER BY sequence") == [
        (1, "key"),
        (2, "read"),
        (5, "damage"),
        (6, "erasure"),
    ]


def test_entries_of_a_damaged_file_are_saved(path: Path) -> None:
    """Those that follow on each other are saved, with the documents they name."""
    note(path.parent, READ, Note.of("configuration", document=b"text", change="first"), READ)
    query(path, "UPDATE entries SET facts = 'rows 1' WHERE sequence = 4", "DROP TABLE hours")
    with Spool(path) as spool:
        assert len(spool.quarantined) == 1
        spool.note(ERASED).result(WAIT_SECONDS)
    assert kinds(path) == ["read", "configuration", "damage", "erasure"]
    assert query(path, "SELECT count(*) FROM documents") == [(1,)]


def test_many_at_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands have no place in a queue, and the disk of a busy machine is slow."""
    monkeypatch.setattr(connection, "BUSY_SECONDS", WAIT_SECONDS)
    with Spool(path, sinks=["sink"]) as spool, ThreadPoolExecutor(4) as pool:
        added = [pool.submit(note, path.parent, READ, ERASED) for _ in range(20)]
        futures = [spool.put(entry(n)) for n in range(200)] + [spool.note(READ) for _ in range(20)]
        assert not any(future.result(WAIT_SECONDS) for future in futures)
        assert [future.result(WAIT_SECONDS) for future in added] == [None] * 20
    found = check_ledger(path)
    assert found.lost == []
    assert found.entries == found.signed == 61
    assert len(found.keys) == 1


def test_a_write_that_fails_adds_nothing(path: Path) -> None:
    note(path.parent, READ)
    db = sqlite3.connect(path, isolation_level=None)
    db.execute(
        "CREATE TRIGGER refuse BEFORE INSERT ON entries BEGIN SELECT RAISE(ABORT, 'no'); END"
    )
    with raises("E506", DeliveryError):
        note(path.parent, READ)
    db.execute("DROP TRIGGER refuse")
    db.close()
    note(path.parent, ERASED)
    assert kinds(path) == ["read", "erasure"]
