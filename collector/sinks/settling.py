"""Rows that came lately, written anew in the order of their places.

The place of a row tells nothing (``order``). But within a page SQLite puts each new row in front of
the one before it, and its log holds each transaction apart: whoever reads bytes instead of rows
would see who came with whom. So once a minute, and at the end, the newest rows are taken out and
put back in order, and the log is emptied. What bytes tell is then of a minute at most.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, field
from time import monotonic

from collector.sinks.table import Table

__all__ = ["Settling"]

_SECONDS = 60.0
_MOST = 1 << 15
"""Rows since the last time, beyond which they stay as they are: so many in a minute are mixed by
their transactions, each of which is in the order of places already."""


@dataclass(slots=True)
class Settling:
    """What is still to be put in order: by table, the place from which on rows are new."""

    _first: dict[Table, int] = field(default_factory=dict)
    _added: dict[Table, int] = field(default_factory=dict)
    _last: float = field(default_factory=monotonic)

    def added(self, table: Table, first: int, number: int) -> None:
        """So many rows were added at places from ``first`` on."""
        self._first.setdefault(table, first)
        self._added[table] = self._added.get(table, 0) + number

    @property
    def is_due(self) -> bool:
        """Whether it is time again."""
        return bool(self._added) and monotonic() - self._last >= _SECONDS

    def forget(self) -> None:
        """All rows are in order: the file was made anew."""
        self._first.clear()
        self._added.clear()

    def settle(self, db: sqlite3.Connection, seconds: float) -> None:
        """Put what is new in order, in one transaction, and empty the log; if somebody is in the
        way, some other time. ``seconds`` is for how long the connection waits for others else."""
        self._last = monotonic()
        execute = db.execute
        execute("PRAGMA busy_timeout = 0")
        try:
            execute("BEGIN IMMEDIATE")
            for table, number in self._added.items():
                if number <= _MOST:
                    _rewrite(db, table, self._first[table])
            execute("COMMIT")
            self.forget()
            execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        except sqlite3.Error:
            if db.in_transaction:
                execute("ROLLBACK")
        finally:
            execute(f"PRAGMA busy_timeout = {int(1000 * seconds)}")


def _rewrite(db: sqlite3.Connection, table: Table, first: int) -> None:
    execute, taken = db.execute, 'temp."new rows"'
    execute(f'CREATE TEMP TABLE "new rows" AS {table.since}', (first,))
    execute(table.remove, (first,))
    names = ", ".join(table.names(db))
    execute(f"INSERT INTO {table.quoted} ({names}) SELECT * FROM {taken} ORDER BY 1")  # noqa: S608
    execute(f"DROP TABLE {taken}")
