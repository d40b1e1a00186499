"""What a file must look like, and how every file is opened."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from collector.sqlite.connection import (
    checkpoint,
    connect,
    is_corrupt,
    is_transient,
    not_waiting,
    number_of,
    quoted,
    transaction,
)
from collector.sqlite.definition import Definition, columns_of, format_of, tables_of

_DEFINITION = Definition(
    ("CREATE TABLE one (a TEXT, b INTEGER) STRICT", "CREATE TABLE two (c BLOB) STRICT"), 3, 7
)


def test_a_file_is_created_and_known_again(tmp_path: Path) -> None:
    with closing(connect(tmp_path / "a.db")) as db:
        assert format_of(db) is None
        with transaction(db):
            _DEFINITION.create(db)
        assert (format_of(db), number_of(db, "application_id")) == (3, 7)
        assert tables_of(db) == ["one", "two"]
        db.execute("ALTER TABLE one ADD COLUMN more TEXT")
        assert _DEFINITION.is_met(db)
        db.execute("ALTER TABLE one DROP COLUMN b")
        assert not _DEFINITION.is_met(db)
        db.execute("DROP TABLE two")
        assert not _DEFINITION.is_met(db)


@pytest.mark.parametrize(
    ("has_log", "mode", "synchronous"), [(True, "wal", 2), (False, "delete", 3)]
)
def test_every_commit_is_durable_and_what_is_deleted_is_overwritten(
    has_log: bool, mode: str, synchronous: int, tmp_path: Path
) -> None:
    with closing(connect(tmp_path / "a.db", has_log=has_log)) as db:
        assert db.execute("PRAGMA journal_mode").fetchone() == (mode,)
        found = [number_of(db, name) for name in ("synchronous", "secure_delete", "trusted_schema")]
        assert found == [synchronous, 1, 0]


def test_a_transaction_that_fails_changes_nothing(tmp_path: Path) -> None:
    told = list[str]()
    with closing(connect(tmp_path / "a.db")) as db:
        db.execute("CREATE TABLE parents (n INTEGER PRIMARY KEY)")
        late = "REFERENCES parents DEFERRABLE INITIALLY DEFERRED"
        db.execute(f"CREATE TABLE children (n INTEGER {late})")
        db.execute("PRAGMA foreign_keys = ON")
        with (
            pytest.raises(sqlite3.IntegrityError),
            transaction(db, lambda: told.append("too early")),
        ):
            db.execute("INSERT INTO parents VALUES (1), (1)")
        assert told == []
        with (
            pytest.raises(sqlite3.IntegrityError),
            transaction(db, lambda: told.append("failed")),
        ):
            db.execute("INSERT INTO children VALUES (5)")
        assert told == ["failed"]
        for table in ("parents", "children"):
            assert db.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)


def test_a_reader_is_not_waited_for(tmp_path: Path) -> None:
    """The log stays, and the connection waits for others as before."""
    path = tmp_path / "a.db"
    with closing(connect(path, seconds=60)) as db, closing(connect(path)) as reader:
        db.execute("CREATE TABLE t (n)")
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM t").fetchall()
        db.execute("INSERT INTO t VALUES (1)")
        assert not checkpoint(db)
        reader.execute("COMMIT")
        assert checkpoint(db)
        with not_waiting(db):
            assert number_of(db, "busy_timeout") == 0
        assert number_of(db, "busy_timeout") == 60_000


def test_which_errors_pass(tmp_path: Path) -> None:
    """A locked file and a failing disk do; a damaged file, and a bad statement, do not."""
    path = tmp_path / "a.db"
    with closing(connect(path)) as db, closing(connect(path, seconds=0)) as other, transaction(db):
        with pytest.raises(sqlite3.OperationalError) as locked:
            other.execute("BEGIN IMMEDIATE")
        with pytest.raises(sqlite3.OperationalError) as bad:
            other.execute("SELECT * FROM nothing")
    (tmp_path / "b.db").write_bytes(b"no database" * 999)
    with pytest.raises(sqlite3.DatabaseError) as damaged:
        connect(tmp_path / "b.db")
    errors = [locked.value, OSError(28, ""), bad.value, damaged.value]
    assert [is_transient(error) for error in errors] == [True, True, False, False]
    assert [is_corrupt(error) for error in errors] == [False, False, False, True]


def test_any_name_is_quoted() -> None:
    name = 'a "b".c; --'
    with closing(sqlite3.connect(":memory:")) as db:
        db.execute(f"CREATE TABLE {quoted(name)} (n INTEGER)")
        assert columns_of(db, name) == {"n": "INTEGER"}
