"""The embedded store: SQLite, one table per schema, one typed column per field.

Only minimised records ever reach it. Batches are durable before ``deliver`` returns (WAL,
``synchronous=FULL``), and each is taken exactly once by its id. Rows lie in random order among
thousands, so that neighbours do not tell who met whom. The file is readable by its owner only.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from collector.contracts import Batch, Closing, Layout, Row
from collector.errors import CollectorError
from collector.schema.model import Schema
from collector.sinks import retention
from collector.sinks.connection import (
    BUSY_SECONDS,
    FORMAT,
    configure,
    connect,
    guarded,
    make_private,
    transaction,
)
from collector.sinks.order import Places
from collector.sinks.pruning import Pruned, Pruning
from collector.sinks.settling import Settling
from collector.sinks.table import Table
from collector.walindex import Index, need_room

__all__ = ["FILE_NAME", "Store"]

FILE_NAME = "store.db"
"""What the store is called inside a data directory."""

_KEPT_IDS = 100_000
"""So many of the newest ids are kept, out of the millions of a year: whoever delivers a batch again
does so before the next ones, or at worst after a loss of the spool's newest pages."""
_TRIES = 4
_Part = tuple[Batch, Table, list[Row]]


class Store(Closing):
    """The table of one schema in a store file, as a sink. For one thread at a time.

    A table that lacks fields of the schema gets them; columns it has besides are left alone.
    Batches of another layout, of an earlier version of the schema say, find their columns too.
    Raises ``ConfigError`` E203 when the path cannot be used, and ``DeliveryError`` when the file is
    no database (E501), is newer than we are (E502), or its table does not fit (E504). Where the
    disk does not let it open now, or somebody holds the store, it opens when batches come.

    Fields go when their retention is over: at the first ``deliver``, and then once an hour, in
    steps of some milliseconds. ``pruned`` is told of each pass that found something.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        schema: Schema,
        *,
        pruned: Callable[[Pruned], None] | None = None,
    ) -> None:
        self.path: Path = Path(path)
        self.table: str = schema.name
        self._layout = schema.layout
        self._tables: dict[Layout, Table] = {}
        self._places: dict[str, Places] = {}
        self._spans = schema.retentions
        self._settling = Settling()
        self.pruning: Pruning = Pruning(self.path, pruned)
        make_private(self.path)
        self._db = connect(self.path)
        self._index: Index | None = None
        try:
            self._need()
        except CollectorError as error:
            if error.code != "E503":
                self._db.close()
                raise

    def __repr__(self) -> str:
        return f"<Store of {self.table}>"

    def deliver(self, *batches: Batch) -> None:
        """Keep the batches durably, all of them or none, each exactly once by its id.

        Raises ``DeliveryError``: E503 when the store cannot take them now, E504 when columns do not
        fit the table, E509 when a batch cannot be read.
        """
        self._need()
        parts = []
        for batch in batches:
            table = self._table(batch.layout or self._layout)
            parts.append((batch, table, table.rows(batch)))
        if parts:
            guarded(lambda: self._keep(parts))
        if self._settling.is_due:
            self._settling.settle(self._db, BUSY_SECONDS)
        if self.pruning.is_due and self.pruning.work(self._db):
            self._settling.forget()

    @property
    def is_held(self) -> bool:
        """Whether something that is to be gone could not be taken out yet."""
        return self.pruning.is_held

    def count(self) -> int:
        """How many events the table holds; a merged row counts as many as it stands for."""
        self._need()
        query = self._tables[self._layout].count
        message = "the store cannot be read"
        return int(guarded(lambda: self._db.execute(query).fetchone()[0], "E501", message))

    def close(self) -> None:
        """Fold the write-ahead log into the file, if the disk lets us, and close it. The newest
        rows are in the order of their places then, also within the file."""
        with suppress(sqlite3.Error):
            self._settling.settle(self._db, BUSY_SECONDS)
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        with suppress(sqlite3.Error):
            self._db.close()
        if self._index is not None:
            self._index.close()

    def _need(self) -> None:
        """Open the file, unless it is."""
        if self._index is None:
            message = "the store cannot be opened: it is no database of ours"
            self._index = guarded(self._open, "E501", message)

    def _table(self, layout: Layout) -> Table:
        """The table for a layout, made or widened when the layout is met for the first time."""
        table = self._tables.get(layout)
        if table is None:
            table = Table(layout)
            guarded(lambda: transaction(self._db, lambda: self._fit(table, layout)))
            guarded(lambda: self._add(layout, table))
        return table

    def _fit(self, table: Table, layout: Layout) -> None:
        table.fit(self._db)
        retention.note_foreign(self._db, layout, self._spans)

    def _keep(self, parts: Sequence[_Part]) -> None:
        """Batches in one transaction; the places of rows are drawn again if one is taken."""
        for tries_left in reversed(range(_TRIES)):
            try:
                added = transaction(self._db, partial(self._insert, parts))
            except sqlite3.IntegrityError:
                if not tries_left:
                    raise
            else:
                for table, number in added.items():
                    places = self._places[table.name]
                    self._settling.added(table, places.base, number)
                    places.taken(number)
                return

    def _insert(self, parts: Sequence[_Part]) -> dict[Table, int]:
        """Rows of the batches that are not there yet; returns how many, by table."""
        new: dict[Table, list[tuple[str, list[Row]]]] = {}
        for batch, table, rows in parts:
            if self._is_new(batch.id):
                new.setdefault(table, []).append((batch.received, rows))
        added: dict[Table, int] = {}
        for table, groups in new.items():
            rows = self._places[table.name].rows(groups)
            self._db.executemany(table.insert, rows)
            added[table] = len(rows)
        return added

    def _is_new(self, id_: bytes) -> bool:
        """Whether it was not delivered before; notes that it is now."""
        execute = self._db.execute
        new = execute("INSERT OR IGNORE INTO _delivered (id) VALUES (?)", (id_,))
        if not new.rowcount:
            return False
        execute("DELETE FROM _delivered WHERE number <= ?", ((new.lastrowid or 0) - _KEPT_IDS,))
        return True

    def _open(self) -> Index:
        need_room(self.path)
        configure(self._db)
        table = Table(self._layout)
        transaction(self._db, lambda: self._prepare(table))
        self._add(self._layout, table)
        return Index(self.path)

    def _add(self, layout: Layout, table: Table) -> None:
        if table.name not in self._places:
            self._places[table.name] = Places(self._db.execute(table.last).fetchone()[0])
        self._tables[layout] = table

    def _prepare(self, table: Table) -> None:
        execute = self._db.execute
        is_old = execute("PRAGMA user_version").fetchone()[0] == 1
        if is_old:
            execute("ALTER TABLE _delivered RENAME TO _delivered_1")
        execute(
            "CREATE TABLE IF NOT EXISTS _delivered"
            " (number INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE) STRICT"
        )
        if is_old:
            execute("INSERT INTO _delivered (id) SELECT id FROM _delivered_1")
            execute("DROP TABLE _delivered_1")
        table.fit(self._db, view=True)
        retention.note(self._db, self.table, self._spans)
        execute(f"PRAGMA user_version = {FORMAT}")
