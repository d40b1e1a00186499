"""What a sidecar prunes by itself, and what the ledger notes of it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from collector.contracts import Removal
from collector.ledger import Entry, Note
from collector.retention.upkeep import Upkeep, prune
from collector.schema import load_schema
from collector.spool import Spool
from tests.support.database import query
from tests.support.deadline import WAIT_SECONDS, wait_until
from tests.support.ledgers import entries_of
from tests.support.make_batches import commit
from tests.support.populated import PopulatedDirectory


def _entries(populated: PopulatedDirectory) -> list[Entry]:
    return entries_of(populated.data / "spool.db", "prune")


def _facts(entry: Entry) -> dict[str, str]:
    return dict(entry.facts)


def test_a_backlog_is_pruned_at_the_start_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits for a sink that does not come loses what is over, to the last byte; the rest is
    delivered, and each pass that found something is an entry."""
    monkeypatch.setattr("collector.retention.upkeep._EVERY_SECONDS", 0.1)
    populated = PopulatedDirectory(tmp_path)
    populated.spool(range(10), days=31)
    populated.spool(range(10, 20), days=91)
    populated.spool(range(20, 30), days=1)
    populated.set_aside(1, days=8)
    path = populated.data / "spool.db"
    with Spool(path, sinks=["store"]) as spool:
        upkeep = Upkeep(spool, [populated.schema])
        upkeep.start()
        wait_until(lambda: populated.left(range(30)) == set(range(20, 30)))
        wait_until(lambda: len(_entries(populated)) == 1)
        commit(spool, populated.entry(range(30, 35), days=40))
        wait_until(lambda: len(_entries(populated)) == 2)
        wait_until(lambda: populated.left(range(30, 35)) == set())
        upkeep.stop()
        upkeep.join(WAIT_SECONDS)
        assert not upkeep.is_alive()
        assert spool.depth() == 25
        left = [spooled.payload for _, spooled in spool.after("store", 100)]
        assert b"".join(left).count(b'"os.type"') == 25
    first = _facts(_entries(populated)[0])
    assert first == {"command": "serve", "rows": "0", "values": "0", "batches": "2", "files": "1"}


def test_a_backlog_of_a_schema_that_ran_before(tmp_path: Path) -> None:
    """Goes by its own retention, which the ledger knows, not by that of the schema which runs."""
    populated = PopulatedDirectory(tmp_path)
    short = {"retention": timedelta(days=1)}
    web = load_schema("web")
    fields = {name: field.model_copy(update=short) for name, field in web.fields.items()}
    web = web.model_copy(update={"fields": fields})
    populated.spool(range(10), days=5)
    with Spool(populated.data / "spool.db", sinks=["store"]) as spool:
        earlier = populated.schema
        facts = {"schema": earlier.id, "change": "first"}
        spool.note(Note.of("schema", document=earlier.document, **facts)).result()
        prune(spool, [web])
        assert populated.left(range(10)) == set(range(10))
        commit(spool, populated.entry(range(10, 15), days=91))
        prune(spool, [web])
    assert populated.left(range(15)) == set(range(10))


def test_what_sinks_pruned_is_noted(tmp_path: Path) -> None:
    """They tell, each in its own thread."""
    populated = PopulatedDirectory(tmp_path)
    path = populated.data / "spool.db"
    with Spool(path) as spool:
        upkeep = Upkeep(spool, [populated.schema])
        upkeep.sink_pruned("store", Removal(deleted=4, shortened=3))
        upkeep.sink_pruned("ndjson", Removal(5))
    noted = [(facts["rows"], facts["values"]) for facts in map(_facts, _entries(populated))]
    assert noted == [("4", "3"), ("5", "0")]


def test_a_store_that_no_sink_has_is_pruned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was switched off, and what it had has its time as ever; a retention that was shortened
    meanwhile counts. Who is reading is not waited for, but the bytes go the next time."""
    monkeypatch.setattr("collector.retention.upkeep._EVERY_SECONDS", 0.1)
    populated = PopulatedDirectory(tmp_path)
    populated.deliver_aged((range(5), 1), (range(5, 10), 91))
    populated.lines.unlink()
    store, path = populated.data / "store.db", populated.data / "spool.db"
    query(store, "UPDATE _retention SET seconds = 2 * seconds")
    with (
        closing(sqlite3.connect(store, isolation_level=None)) as reader,
        Spool(path, sinks=["ndjson"]) as spool,
    ):
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM conferencing").fetchone()
        upkeep = Upkeep(spool, [populated.schema], populated.locations)
        upkeep.start()
        wait_until(lambda: len(_entries(populated)) == 1)
        assert populated.left(range(10)) == set(range(10))
        reader.execute("COMMIT")
        wait_until(lambda: populated.left(range(10)) == set(range(5)))
        upkeep.stop()
        upkeep.join(WAIT_SECONDS)
    assert [_facts(entry)["rows"] for entry in _entries(populated)] == ["5"]


def test_a_spool_that_cannot_be_written_is_no_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is retried until it is stopped."""
    monkeypatch.setattr("collector.retention.upkeep._EVERY_SECONDS", 0.01)
    populated = PopulatedDirectory(tmp_path)
    spool = Spool(populated.data / "spool.db")
    spool.close()
    upkeep = Upkeep(spool, [populated.schema])
    upkeep.start()
    upkeep.join(0.1)
    assert upkeep.is_alive()
    upkeep.stop()
    upkeep.join(WAIT_SECONDS)
    assert not upkeep.is_alive()


def test_sums_of_hours_have_their_time(tmp_path: Path) -> None:
    """Ninety days."""
    populated = PopulatedDirectory(tmp_path)
    path = populated.data / "spool.db"
    for days in (100, 80):
        populated.spool(range(3), days=days)
    with Spool(path, sinks=["store"]) as spool:
        upkeep = Upkeep(spool, [populated.schema])
        upkeep.start()
        wait_until(lambda: spool.depth() == 3)
        upkeep.stop()
        upkeep.join(WAIT_SECONDS)
    hours = [datetime.fromisoformat(str(row[0])) for row in query(path, "SELECT hour FROM hours")]
    assert len(set(hours)) == 1


def test_a_damaged_file_that_cannot_be_deleted(tmp_path: Path) -> None:
    """It is said that something is left."""
    schema = load_schema("web")
    with Spool(tmp_path / "spool.db") as spool:
        assert prune(spool, [schema]).is_swept
        (tmp_path / "spool.db.damaged-20200101T000000Z").mkdir()
        done = prune(spool, [schema])
        assert not done.is_swept
        assert done.files == 0
