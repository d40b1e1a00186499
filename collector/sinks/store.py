"""The embedded store: SQLite, one table per schema, one typed column per field.

Only minimised records ever reach it. A batch is one transaction, durable before ``deliver`` returns
(WAL, ``synchronous=FULL``), and taken exactly once by its id. Rows of a batch lie in shuffled
order, so that neighbours do not tell who met whom. The file is readable by its owner only.
"""

from __future__ import annotations

import os
import random
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from collector.contracts import Batch, Scalar
from collector.errors import CollectorError, ConfigError, DeliveryError
from collector.schema.model import Schema

__all__ = ["FILE_NAME", "Store"]

FILE_NAME = "store.db"
"""What the store is called inside a data directory."""

_FORMAT = 1
"""``user_version`` of the file: the form of everything but the schemas' own tables."""
_BUSY_SECONDS = 5.0
_T = TypeVar("_T")
_shuffle = random.SystemRandom().shuffle


class Store:
    """The table of one schema in a store file, as a sink. For one thread at a time.

    A table that lacks fields of the schema gets them; columns it has besides are left alone.
    Raises ``ConfigError`` E203 when the path cannot be used, and ``DeliveryError`` when the file is
    no database (E501), is newer than we are (E502), or its table does not fit (E504).
    """

    def __init__(self, path: str | os.PathLike[str], schema: Schema) -> None:
        self.path = Path(path)
        self.table = schema.name
        self._types = {name: field.column for name, field in schema.fields.items()}
        _make_private(self.path)
        self._db = sqlite3.connect(self.path, timeout=_BUSY_SECONDS, isolation_level=None)
        try:
            _guarded(self._open, "E501", "the store cannot be opened: it is no database of ours")
        except CollectorError:
            self._db.close()
            raise
        names = ", ".join(map(_quoted, ["received", *self._types, "count"]))
        marks = ", ".join("?" * (len(self._types) + 2))
        self._insert = f"INSERT INTO {_quoted(self.table)} ({names}) VALUES ({marks})"  # noqa: S608

    def __repr__(self) -> str:
        return f"<Store of {self.table}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def deliver(self, batch: Batch) -> None:
        """Keep the batch durably, exactly once by its id; raises ``DeliveryError`` E503."""
        rows = list(self._rows(batch))
        _shuffle(rows)
        message = "the store did not take the batch; is the disk full or the store in use?"
        _guarded(lambda: self._transaction(batch, rows), "E503", message)

    def count(self) -> int:
        """How many events the table holds; a merged row counts as many as it stands for."""
        query = f"SELECT coalesce(sum(count), 0) FROM {_quoted(self.table)}"  # noqa: S608
        message = "the store cannot be read"
        return int(_guarded(lambda: self._db.execute(query).fetchone()[0], "E501", message))

    def close(self) -> None:
        """Fold the write-ahead log into the file, and close it."""
        try:
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            self._db.close()

    def _rows(self, batch: Batch) -> Iterator[tuple[Scalar | None, ...]]:
        for record in batch.records:
            values = (record.get(name) for name in self._types)
            yield (batch.received, *values, record.get("count", 1))

    def _transaction(self, batch: Batch, rows: list[tuple[Scalar | None, ...]]) -> None:
        execute = self._db.execute
        execute("BEGIN IMMEDIATE")
        try:
            new = execute("INSERT OR IGNORE INTO _delivered VALUES (?)", (batch.id,)).rowcount
            if new:
                self._db.executemany(self._insert, rows)
            execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                execute("ROLLBACK")
            raise

    def _open(self) -> None:
        execute = self._db.execute
        execute("PRAGMA journal_mode = WAL")
        execute("PRAGMA synchronous = FULL")
        execute("PRAGMA temp_store = MEMORY")
        execute("PRAGMA trusted_schema = OFF")
        if execute("PRAGMA user_version").fetchone()[0] > _FORMAT:
            raise DeliveryError("E502", "the store was written by a newer version of Collector")
        execute("BEGIN IMMEDIATE")
        try:
            execute("CREATE TABLE IF NOT EXISTS _delivered (id BLOB PRIMARY KEY) WITHOUT ROWID")
            self._fit_table()
            execute(f"PRAGMA user_version = {_FORMAT}")
            execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                execute("ROLLBACK")
            raise

    def _fit_table(self) -> None:
        """Make the table and its view, or add the columns that it lacks."""
        execute, table = self._db.execute, _quoted(self.table)
        columns = ", ".join(f"{_quoted(name)} {kind}" for name, kind in self._types.items())
        execute(
            f"CREATE TABLE IF NOT EXISTS {table} (received TEXT NOT NULL, {columns},"
            " count INTEGER NOT NULL DEFAULT 1) STRICT"
        )
        found = {row[1]: row[2] for row in execute(f"PRAGMA table_info({table})")}
        for name, kind in self._types.items():
            if name not in found:
                execute(f"ALTER TABLE {table} ADD COLUMN {_quoted(name)} {kind}")
            elif found[name] != kind:
                raise DeliveryError(
                    "E504", f"column `{name}` has another type; use a new store, or a new name"
                )
        view = _quoted(f"{self.table.replace('-', '_')}_view")
        execute(f"DROP VIEW IF EXISTS {view}")
        names = ", ".join(_renamed(["received", *self._types, "count"]))
        execute(f"CREATE VIEW {view} AS SELECT {names} FROM {table}")  # noqa: S608


def _quoted(name: str) -> str:
    """A name in SQL. Names of schemas hold no quotes anyway; this is the second lock."""
    return '"' + name.replace('"', '""') + '"'


def _renamed(names: list[str]) -> Iterator[str]:
    """Each column under a name without dots, as long as that is unambiguous."""
    plain = [name.replace(".", "_") for name in names]
    for name, simple in zip(names, plain, strict=True):
        yield f"{_quoted(name)} AS {_quoted(simple if plain.count(simple) == 1 else name)}"


def _make_private(path: Path) -> None:
    """Make the directory (0700) and the file (0600), if they are not there."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError:
        pass
    else:
        return
    raise ConfigError("E203", "the store's file cannot be made or written; check its directory")


def _guarded(action: Callable[[], _T], code: str, message: str) -> _T:
    """The outcome of an action; a database error becomes ours, and is not kept in its context."""
    try:
        return action()
    except sqlite3.Error:
        pass
    raise DeliveryError(code, message)
