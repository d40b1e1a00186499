"""Databases of the recorder: work of several threads in one transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from threading import Thread

import pytest

from collector.errors import ConfigError
from collector.recording.database import Database
from collector.recording.refusals import Refused
from tests.support.database import query
from tests.support.deadline import WAIT_SECONDS, wait_until
from tests.support.programs import threads
from tests.support.raising import raises
from tests.support.rows import for_each

_TABLE = ["CREATE TABLE numbers (number INTEGER PRIMARY KEY)"]


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """A database with an empty table."""
    made = Database(tmp_path / "numbers.db", _TABLE)
    yield made
    made.close()


def _insert(number: int) -> Callable[[sqlite3.Connection], None]:
    def work(db: sqlite3.Connection) -> None:
        db.execute("INSERT INTO numbers VALUES (?)", (number,))

    return work


def _numbers(database: Database) -> list[int]:
    return [row[0] for row in database.rows("SELECT number FROM numbers ORDER BY number")]


def _commit_at_once(database: Database, numbers: list[int]) -> tuple[list[str], int]:
    """Commit a number in a thread each, while the file is locked; return the codes of those that
    were refused, and the number of transactions."""
    refused, statements = list[str](), list[str]()

    def commit(number: int) -> None:
        try:
            database.commit(_insert(number))
        except Refused as error:
            refused.append(error.code)

    with ExitStack() as started, database.lock:
        with database.transaction() as db:
            db.set_trace_callback(statements.append)
        statements.clear()
        started.enter_context(threads(*(partial(commit, number) for number in numbers)))
        wait_until(lambda: database.waiting == len(numbers))
    return refused, statements.count("COMMIT")


@for_each("version", [0, 2])
def test_a_file_of_an_unknown_format(tmp_path: Path, version: int) -> None:
    """E203, and nothing in it is changed."""
    path = tmp_path / "numbers.db"
    Database(path, _TABLE).close()
    Database(path, _TABLE).close()
    query(path, f"PRAGMA user_version = {version}")
    before = path.read_bytes()
    with raises("E203", ConfigError, match="a format that this version"):
        Database(path, [*_TABLE, "CREATE TABLE others (number INTEGER)"])
    assert path.read_bytes() == before


def test_work_that_waits_is_committed_at_once(database: Database) -> None:
    """One transaction, one sync, for all threads."""
    assert _commit_at_once(database, list(range(8))) == ([], 1)
    assert _numbers(database) == list(range(8))


def test_work_that_fails_fails_alone(database: Database) -> None:
    """The thread whose work it is learns of it, and the work of the others is done."""
    database.commit(_insert(3))
    refused, _ = _commit_at_once(database, list(range(8)))
    assert refused == ["unavailable"]
    assert _numbers(database) == list(range(8))


def test_work_raises_what_it_raises(database: Database) -> None:
    def work(db: sqlite3.Connection) -> None:
        db.execute("INSERT INTO numbers VALUES (1)")
        raise LookupError

    with pytest.raises(LookupError):
        database.commit(work)
    assert _numbers(database) == []


def test_what_is_committed_is_read_while_another_thread_commits(database: Database) -> None:
    """Reading waits for no writer, sees nothing that is not committed, and all that is."""
    with database.transaction() as db:
        db.execute("INSERT INTO numbers VALUES (1)")
        found = list[list[int]]()
        thread = Thread(target=lambda: found.append(_numbers(database)))
        thread.start()
        thread.join(WAIT_SECONDS)
        assert found == [[]]
    assert _numbers(database) == [1]
    assert database.cut_log()
    assert database.compact()
    assert _numbers(database) == [1]
