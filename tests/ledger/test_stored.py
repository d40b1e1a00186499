"""The ledger in a file: read while it is in use, after a crash, and in a read-only directory."""

from __future__ import annotations

import os
import resource
import shutil
import sqlite3
import subprocess
from collections import Counter
from contextlib import closing, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from collector.contracts import Category, Drop, Tally
from collector.errors import ConfigError, DeliveryError
from collector.ledger import Note, earlier_schemas, opened
from collector.schema import load_schema
from collector.spool import Spool, note
from tests.conftest import required
from tests.support.database import query
from tests.support.deadline import WAIT_SECONDS
from tests.support.ledgers import check_ledger
from tests.support.make_batches import commit, commit_to, drained, entry, told_checkpoints
from tests.support.raising import raises


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A spool that was closed, with five receipts and two batches that wait."""
    path = tmp_path / "data" / "spool.db"
    with Spool(path, sinks=["sink"]) as spool:
        commit(spool, *(entry(n, rejected={"malformed": n}) for n in range(5)))
        spool.delivered("sink", 3)
    return path


def test_it_is_read_while_it_is_written(path: Path) -> None:
    """Each look is at one moment, and does not hold up the writer."""
    with Spool(path, sinks=["sink"]) as spool, opened(path) as ledger:
        assert len(list(ledger.receipts())) == 5
        commit(spool, *(entry(n) for n in range(200)))
        assert len(list(ledger.receipts())) == 5
        assert not ledger.verify().flaws
        with opened(path) as later:
            assert later.verify().receipts == 205


def test_what_is_not_selected_is_counted(path: Path) -> None:
    """In its receipt and in the sums, which hold on."""
    with Spool(path, sinks=["sink"]) as spool:
        commit(spool, entry(7, rejected={"not_selected": 3, "malformed": 1}))
    with opened(path) as ledger:
        (receipt,) = ledger.receipts(1)
        assert receipt.rejected == {"malformed": 1, "not_selected": 3}
        assert b"rejected not_selected 3\n" in receipt.text
        assert ledger.tally().rejected["not_selected"] == 3
        assert not ledger.verify().flaws


def test_it_is_read_after_a_crash(path: Path, tmp_path: Path) -> None:
    """The log of a process that was killed counts."""
    with told_checkpoints(), Spool(path, sinks=["sink"]) as spool:
        commit(spool, entry(7))
        copy = tmp_path / "copy"
        copy.mkdir()
        for end in ("", "-wal"):
            shutil.copy(path.with_name(f"spool.db{end}"), copy)
    with opened(copy / "spool.db") as ledger:
        assert ledger.verify().receipts == 6
    with Spool(copy / "spool.db", sinks=["sink"]) as spool:
        assert drained(spool) == [3, 4, 7]


def test_it_is_read_where_nobody_may_write(path: Path, tmp_path: Path) -> None:
    place = tmp_path / "mounted"
    place.mkdir()
    mount = ["mount", "-o", "bind", str(path.parent), str(place)]
    if subprocess.run(mount, capture_output=True, check=False, timeout=WAIT_SECONDS).returncode:
        required("the right to mount a file system")
    try:
        subprocess.run(
            ["mount", "-o", "remount,bind,ro", str(place)], check=True, timeout=WAIT_SECONDS
        )
        with opened(place / "spool.db") as ledger:
            assert ledger.verify().receipts == 5
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True, timeout=WAIT_SECONDS)


def test_the_schemas_of_earlier_runs(path: Path) -> None:
    first, second = load_schema("conferencing"), load_schema("web")
    for schema in (first, second, first):
        about = Note.of("schema", document=schema.document, schema=schema.id, change="first")
        note(path.parent, about)
    note(path.parent, Note.of("schema", document=b"{}", schema="old/1.0.0", change="first"))
    found = earlier_schemas(path)
    assert list(found) == [first.digest, second.digest]
    assert [each.retentions for each in found.values()] == [first.retentions, second.retentions]
    with raises("E203", ConfigError):
        earlier_schemas(path.with_name("none.db"))


def test_the_newest(path: Path) -> None:
    """In order."""
    with opened(path) as ledger:
        assert [receipt.sequence for receipt in ledger.receipts(2)] == [4, 5]
        assert [receipt.sequence for receipt in ledger.receipts()] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("DELETE FROM receipts WHERE sequence = 2", "receipt 2 is missing"),
        ("DELETE FROM receipts WHERE sequence = 1", "receipt 1 is missing"),
        ("DELETE FROM receipts WHERE sequence IN (2, 3)", "receipts 2 to 3 are missing"),
        ("DELETE FROM receipts WHERE sequence = 5", "receipts after 4 are missing"),
        ("DELETE FROM receipts", "receipts after 0 are missing"),
        ("UPDATE receipts SET received = 9 WHERE sequence = 3", "not admitted + rejected"),
        (
            "UPDATE receipts SET admitted = 0, malformed = 3 WHERE sequence = 3",
            "hash does not match",
        ),
        (
            "UPDATE receipts SET minute = '2026-11-24T10:20:30Z' WHERE sequence = 3",
            "does not have the form",
        ),
        ("UPDATE receipts SET sequence = 9 WHERE sequence = 5", "hash does not match"),
        (
            "UPDATE batches SET payload = x'7b7d0a' WHERE sequence = 4",
            "pending batch does not match",
        ),
        (
            "UPDATE batches SET salt = zeroblob(32) WHERE sequence = 5",
            "pending batch does not match",
        ),
        ("UPDATE batches SET received = '2030-01-01T00:00:00Z'", "pending batch does not match"),
        (
            "UPDATE batches SET layout = 'another' WHERE sequence = 4",
            "pending batch does not match",
        ),
        ("DROP TABLE entries", "entry 1: the table of entries is missing"),
        ("UPDATE starts SET after = x'01'", "chain's start"),
        ("UPDATE tip SET hash = x'01'", "last receipt"),
    ],
)
def test_tampering_is_found(path: Path, statement: str, message: str) -> None:
    check_ledger(path)
    query(path, statement)
    with opened(path) as ledger:
        flaws = ledger.verify().flaws
    assert any(message in str(flaw) for flaw in flaws), flaws


def test_batches_whose_receipts_were_lost(path: Path) -> None:
    """Batches that were saved from a damaged file are no flaw, also before anything else comes."""
    query(path, "UPDATE receipts SET received = 9 WHERE sequence = 4", "DROP TABLE hours")
    with Spool(path, sinks=["sink"]) as spool:
        assert len(spool.quarantined) == 1
        assert spool.state().batches == 2
    check_ledger(path)


def test_tables_that_somebody_has_made_anew(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        for table in ("receipts", "starts", "tip", "batches", "entries", "last_entry"):
            columns = [f'"{row[1]}"' for row in db.execute(f"PRAGMA table_info({table})")]
            db.execute(f"DROP TABLE {table}")
            db.execute(f"CREATE TABLE {table} ({', '.join(columns)})")
            for value in (None, "text", 1.5, b"bytes", -1, 2**62):
                marks = ", ".join("?" * len(columns))
                db.execute(f"INSERT INTO {table} VALUES ({marks})", [value] * len(columns))
    with opened(path) as ledger:
        assert len(ledger.verify().flaws) > 10


def test_no_file_is_an_error_of_configuration(tmp_path: Path) -> None:
    """E203."""
    with pytest.raises(ConfigError, match="E203"), opened(tmp_path / "spool.db"):
        pass


@pytest.mark.parametrize(
    "content", [b"canary, no database", b"SQLite format 3\0" + b"x" * 200, b""]
)
def test_what_is_no_spool_is_an_error_of_ours(tmp_path: Path, content: bytes) -> None:
    """E507, with nothing of the file in it."""
    path = tmp_path / "spool.db"
    path.write_bytes(content)
    with raises("E507", DeliveryError), opened(path) as ledger:
        ledger.verify()
    assert path.read_bytes() == content


def test_a_file_that_does_not_say_its_format(path: Path) -> None:
    """E507: what is in it may be something else."""
    query(path, "DROP TABLE about")
    with raises("E507", DeliveryError), opened(path):
        pass


def test_what_was_counted_is_told(path: Path) -> None:
    """All receipts together, also of batches that are gone; and the sums of hours, whatever else
    lies among them."""
    dropped: dict[str, Counter[Drop]] = {"n": Counter({"invalid_value": 2, "wrong_type": 1})}
    content: Counter[Category] = Counter({"chat": 4})
    tally = Tally(1, 1, dropped=dropped, content=content, bytes_in=9, bytes_out=5)
    commit_to(path, *(replace(entry(7), tally=tally) for _ in range(2)))
    with closing(sqlite3.connect(path)) as db, db:
        rows = [("other", "n", "", 1), ("dropped", "n", "value", 1), ("content", "value", "", 1)]
        db.executemany("INSERT INTO hours VALUES ('2026-11-24T10:00:00Z', ?, ?, ?, ?)", rows)
    with opened(path) as ledger:
        assert ledger.tally().as_dict() == {
            "received": 17,
            "admitted": 7,
            "rejected": {"malformed": 10},
            "dropped": {"n": {"wrong_type": 2, "invalid_value": 4}},
            "content": {"chat": 8},
            "bytes_in": 18,
            "bytes_out": 10,
        }
        hours = ledger.hourly(datetime(2000, 1, 1, tzinfo=UTC))
        assert sum(each.bytes_in for each in hours.values()) == 18


def test_nothing_was_counted_yet(tmp_path: Path) -> None:
    """A new spool."""
    Spool(tmp_path / "spool.db").close()
    with opened(tmp_path / "spool.db") as ledger:
        assert ledger.tally() == Tally()


def test_a_system_that_opens_nothing_more(tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    with Spool(path):
        pass
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(each.name) for each in Path("/dev/fd").iterdir())
    held = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, hard))
        with suppress(OSError):
            while True:
                held.append(os.dup(0))
        with pytest.raises(DeliveryError, match="E507"), opened(path):
            pass
    finally:
        for handle in held:
            os.close(handle)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_counts_may_be_as_large_as_a_worker_says(tmp_path: Path) -> None:
    """A worker that was taken over makes many receipts of what a receipt may hold at most; the sum
    is no integer of SQLite's, and is said all the same."""
    path, most = tmp_path / "spool.db", 1 << 62
    commit_to(path, *(entry(n, rejected={"malformed": most}) for n in range(3)))
    with opened(path) as ledger:
        total = ledger.tally()
        assert (total.rejected["malformed"], total.received) == (
            3 * most,
            3 * most + total.admitted,
        )
        assert ledger.verify().flaws == []
