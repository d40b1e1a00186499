"""What a sidecar prunes by itself, and what the ledger notes of it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import datetime
from pathlib import Path

from collector.ledger import Entry, opened
from collector.proof.upkeep import Upkeep
from collector.sinks.pruning import Pruned
from collector.spool import Spool
from tests.proof.lives import Lives
from tests.spool.make import eventually, query


def _entries(lives: Lives) -> list[Entry]:
    with opened(lives.data / "spool.db") as ledger:
        assert ledger.verify().flaws == []
        return [entry for entry in ledger.entries() if entry.kind == "prune"]


def _facts(entry: Entry) -> dict[str, str]:
    return dict(entry.facts)


def test_a_backlog_is_pruned_at_the_start_and_again(tmp_path: Path) -> None:
    """What waits for a sink that does not come loses what is over, to the last byte; the rest is
    delivered, and each pass that found something is an entry."""
    lives = Lives(tmp_path)
    lives.spool(range(10), days=31)
    lives.spool(range(10, 20), days=91)
    lives.spool(range(20, 30), days=1)
    lives.set_aside(1, days=8)
    path = lives.data / "spool.db"
    with Spool(path, sinks=["store"]) as spool:
        upkeep = Upkeep(spool, lives.schema, every=0.1)
        upkeep.start()
        assert eventually(lambda: lives.left(range(30)) == set(range(20, 30)))
        assert eventually(lambda: len(_entries(lives)) == 1)
        spool.put(lives.entry(range(30, 35), days=40)).result(5)
        assert eventually(lambda: len(_entries(lives)) == 2)
        assert eventually(lambda: lives.left(range(30, 35)) == set())
        upkeep.stop()
        upkeep.join(5)
        assert not upkeep.is_alive()
        assert spool.depth() == 25
        left = [spooled.payload for _, spooled in spool.after("store", 100)]
        assert b"".join(left).count(b'"os.type"') == 25
    first = _facts(_entries(lives)[0])
    assert first == {"command": "serve", "rows": "0", "values": "0", "batches": "2", "files": "1"}


def test_what_sinks_pruned_is_noted(tmp_path: Path) -> None:
    """They tell, each in its own thread."""
    lives = Lives(tmp_path)
    path = lives.data / "spool.db"
    with Spool(path) as spool:
        upkeep = Upkeep(spool, lives.schema)
        upkeep.store_pruned(Pruned(shortened=3, deleted=4))
        upkeep.lines_pruned(5)
    noted = [(facts["rows"], facts["values"]) for facts in map(_facts, _entries(lives))]
    assert noted == [("4", "3"), ("5", "0")]


def test_a_store_that_no_sink_has_is_pruned(tmp_path: Path) -> None:
    """It was switched off, and what it had has its time as ever; a retention that was shortened
    meanwhile counts. Who is reading is not waited for, but the bytes go the next time."""
    lives = Lives(tmp_path)
    lives.deliver_aged((range(5), 1), (range(5, 10), 91))
    lives.lines.unlink()
    store, path = lives.data / "store.db", lives.data / "spool.db"
    with closing(sqlite3.connect(store)) as db, db:
        db.execute("UPDATE _retention SET seconds = 2 * seconds")
    with (
        closing(sqlite3.connect(store, isolation_level=None)) as reader,
        Spool(path, sinks=["ndjson"]) as spool,
    ):
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM conferencing").fetchone()
        upkeep = Upkeep(spool, lives.schema, store, every=0.1)
        upkeep.start()
        assert eventually(lambda: len(_entries(lives)) == 1)
        assert lives.left(range(10)) == set(range(10))
        reader.execute("COMMIT")
        assert eventually(lambda: lives.left(range(10)) == set(range(5)))
        upkeep.stop()
        upkeep.join(5)
    assert [_facts(entry)["rows"] for entry in _entries(lives)] == ["5"]


def test_a_spool_that_cannot_be_written_is_no_end(tmp_path: Path) -> None:
    """It is tried again, as long as there is somebody to tell it to stop."""
    lives = Lives(tmp_path)
    spool = Spool(lives.data / "spool.db")
    spool.close()
    upkeep = Upkeep(spool, lives.schema, every=0.01)
    upkeep.start()
    upkeep.join(0.1)
    assert upkeep.is_alive()
    upkeep.stop()
    upkeep.join(5)
    assert not upkeep.is_alive()


def test_sums_of_hours_have_their_time(tmp_path: Path) -> None:
    """Ninety days."""
    lives = Lives(tmp_path)
    path = lives.data / "spool.db"
    for days in (100, 80):
        lives.spool(range(3), days=days)
    with Spool(path, sinks=["store"]) as spool:
        upkeep = Upkeep(spool, lives.schema)
        upkeep.start()
        assert eventually(lambda: spool.depth() == 3)
        upkeep.stop()
    hours = [datetime.fromisoformat(str(row[0])) for row in query(path, "SELECT hour FROM hours")]
    assert len(set(hours)) == 1
