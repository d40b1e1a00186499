"""The recorder's SQLite files: private, durable at each commit, and overwritten where rows are
deleted."""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock, RLock
from typing import Any

from collector.errors import ConfigError
from collector.files import failing_as, make_private
from collector.recording.refusals import Refused
from collector.sqlite.compaction import compact, empty_log, remove_copies
from collector.sqlite.connection import code_of, connect, transaction
from collector.sqlite.definition import format_of

FORMAT = 1
"""``user_version`` of the recorder's databases."""
_LOG_LIMIT = f"journal_size_limit = {4 << 20}"
_BUSY_SECONDS = 10.0


@dataclass(eq=False)
class _Work:
    """Work that waits for a transaction, and its outcome."""

    run: Callable[[sqlite3.Connection], object]
    is_done: bool = False
    error: Exception | None = None


class Database:
    """A database with two connections, which the threads of a process share. One writes, under
    ``lock``. The other reads committed data, and does not wait while a commit is synced.
    ``statements`` create the tables of a new database.

    Raises ``ConfigError`` E203 if the file cannot be made, is not a database, or has another
    format.
    """

    def __init__(self, path: Path, statements: Iterable[str]) -> None:
        self.path: Path = path
        self.lock: RLock = RLock()
        self._read_lock = Lock()
        self._waiting = deque[_Work]()
        message = "a file of the recorder cannot be made or read; check its directory"
        with failing_as(ConfigError("E203", message), OSError, sqlite3.Error):
            make_private(path)
            with ExitStack() as opened:
                self._db = opened.enter_context(_connected(path, _LOG_LIMIT))
                _create(self._db, statements)
                self._reader = opened.enter_context(_connected(path, "query_only = ON"))
                make_private(path)
                remove_copies(path)
                opened.pop_all()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Run statements as one transaction, which is on disk when the block ends. If SQLite cannot
        do it, nothing is changed: raises ``Refused``, ``full`` or ``unavailable``."""
        with self.lock, failing_as(_refused, sqlite3.Error), transaction(self._db):
            yield self._db

    def commit(self, work: Callable[[sqlite3.Connection], object]) -> None:
        """Run ``work`` as a transaction, which is on disk when this returns. Threads that wait for
        the same sync share it. ``work`` may run twice, and only the second run counts. Raises
        ``Refused`` as ``transaction`` does, and what ``work`` raises."""
        own = _Work(work)
        self._waiting.append(own)
        with self.lock:
            if not own.is_done:
                others = [self._waiting.popleft() for _ in range(len(self._waiting))]
                self._run([own, *(each for each in others if each is not own)])
        if own.error is not None:
            raise own.error

    @property
    def waiting(self) -> int:
        """How many threads wait in ``commit`` for a transaction."""
        return len(self._waiting)

    def _run(self, batch: list[_Work]) -> None:
        try:
            with self.transaction() as db:
                for each in batch:
                    each.run(db)
        except Exception as error:  # noqa: BLE001 - the thread whose work it is raises it
            if len(batch) > 1:  # the others must not fail with it
                for each in batch:
                    self._run([each])
                return
            batch[0].error = error
        for each in batch:
            each.is_done = True

    def rows(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Return the committed rows of a query. Raises ``Refused`` ``unavailable``."""
        with self._read_lock, failing_as(_refused, sqlite3.Error):
            return self._reader.execute(statement, values).fetchall()

    def cut_log(self) -> bool:
        """Truncate the write-ahead log. Return whether that succeeded: a process that reads an
        earlier state prevents it."""
        with self.lock, self._read_lock, suppress(sqlite3.Error):
            return empty_log(self._db, self.path, seconds=1.0)
        return False

    def compact(self) -> bool:
        """Rewrite the file without deleted data; return whether that succeeded."""
        with self.lock, self._read_lock, suppress(sqlite3.Error, OSError, MemoryError):
            return compact(self._db, self.path)
        return False

    def close(self) -> None:
        """Close the connections."""
        with self.lock, self._read_lock:
            self._reader.close()
            self._db.close()


def _create(db: sqlite3.Connection, statements: Iterable[str]) -> None:
    """Create the tables of a new file. Raises ``ConfigError`` E203 for a file of another format,
    and ``sqlite3.Error``."""
    if format_of(db) is None:
        with transaction(db):
            if format_of(db) is None:  # no other process has created them meanwhile
                for statement in (*statements, f"PRAGMA user_version = {FORMAT}"):
                    db.execute(statement)
    if format_of(db) != FORMAT:
        message = "a file of the recorder has a format that this version of Collector does not know"
        raise ConfigError("E203", message)


def _connected(path: Path, setting: str) -> closing[sqlite3.Connection]:
    return closing(connect(path, setting, seconds=_BUSY_SECONDS))


def _refused(error: BaseException) -> Refused:
    return Refused("full" if code_of(error) == sqlite3.SQLITE_FULL else "unavailable")
