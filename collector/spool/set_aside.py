"""Set batches aside that a sink will not take, so that later ones are delivered.

They are stored in a file beside the spool, ``spool-aside.db``, until ``collector store redeliver``
delivers them again; meanwhile they are exported, erased and pruned like pending batches. The file
is created with the first of them.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from collector.contracts import Batch, Layout, Removal, layout_of
from collector.errors import DeliveryError
from collector.files import failing_as, make_private
from collector.filter.redaction import Rule, redact
from collector.spool.tables import decode_granted, encode_granted
from collector.sqlite.compaction import compacting
from collector.sqlite.connection import connect, transaction
from collector.sqlite.definition import Definition, format_of

FILE_NAME = "spool-aside.db"
DEFINITION = Definition(
    (
        """CREATE TABLE batches (
            number INTEGER PRIMARY KEY, sink TEXT NOT NULL, id BLOB NOT NULL,
            received TEXT NOT NULL, schema TEXT NOT NULL, digest TEXT NOT NULL, name TEXT NOT NULL,
            columns TEXT NOT NULL, payload BLOB NOT NULL, granted TEXT, UNIQUE (sink, id)
        ) STRICT""",
    )
)
_COLUMNS = "number, sink, id, received, schema, digest, name, columns, payload, granted"
_ADD = f"INSERT OR REPLACE INTO batches ({_COLUMNS}) VALUES (NULL{', ?' * 9})"  # noqa: S608
_ALL = f"SELECT {_COLUMNS} FROM batches ORDER BY number"  # noqa: S608 - constants
_UNREADABLE = "the batches that were set aside cannot be read or written now"


class RefusedBatch(NamedTuple):
    """A batch that was set aside, and the sink that did not take it."""

    number: int
    sink: str
    batch: Batch


class SetAside:
    """The batches of a data directory that were set aside. Safe to use from several threads and
    processes. Every method raises ``DeliveryError`` E507 where the file cannot be used."""

    def __init__(self, data: Path) -> None:
        self._path = data / FILE_NAME

    def add(self, sink: str, batch: Batch) -> None:
        """Set a batch aside for a sink; it is on disk on return."""
        layout = layout_of(batch)
        columns = "\n".join(f"{name} {kind}" for name, kind in layout.columns)
        head = (sink, batch.id, batch.received, layout.schema, layout.digest, layout.table, columns)
        row = (*head, batch.payload, encode_granted(batch.granted))
        with self._opened(make=True) as db:
            if db is not None:
                db.execute(_ADD, row)

    def all(self) -> list[RefusedBatch]:
        """Return all of them, in the order in which they were set aside."""
        with self._opened() as db:
            return [] if db is None else list(_read(db))

    def remove(self, number: int) -> None:
        """Delete one, which its sink has taken."""
        with self._opened() as db:
            if db is not None:
                db.execute("DELETE FROM batches WHERE number = ?", (number,))

    def discard(self, sink: str, id_: bytes) -> None:
        """Delete the batch of an id that was set aside for a sink."""
        with self._opened() as db:
            if db is not None:
                db.execute("DELETE FROM batches WHERE sink = ? AND id = ?", (sink, id_))

    def drop(self, sink: str) -> None:
        """Delete all that was set aside for a sink."""
        with self._opened() as db:
            if db is not None:
                db.execute("DELETE FROM batches WHERE sink = ?", (sink,))

    def rewrite(self, rules: Sequence[Rule]) -> list[Removal]:
        """Carry out rules; return what each has removed. Unless all are by age and nothing was
        deleted, no byte stays of what ever was."""
        total, is_by_age = [Removal() for _ in rules], all(rule.now is not None for rule in rules)
        if not self._path.is_file():
            return total
        with (
            self._connected() as db,
            compacting(db, self._path) as write_anew,
            transaction(db),
        ):
            for number, _, batch in _read(db) if format_of(db) is not None else ():
                left, done = redact(batch.payload, rules, batch.received)
                if any(done):
                    query = "UPDATE batches SET payload = ? WHERE number = ?"
                    db.execute(query, (left, number))
                with_batch = [each + Removal(batches=bool(each)) for each in done]
                total = [a + b for a, b in zip(total, with_batch, strict=True)]
            # A transaction that writes removes the journal that a killed process has left.
            db.execute(f"PRAGMA user_version = {DEFINITION.format}")
            if any(total) or not is_by_age:
                db.execute("DELETE FROM batches WHERE length(payload) = 0")
                write_anew("batches")
        return total

    @contextmanager
    def _opened(self, *, make: bool = False) -> Iterator[sqlite3.Connection | None]:
        """Open the file for one transaction; yield ``None`` if it does not exist, unless
        ``make``."""
        if not make and not self._path.is_file():
            yield None
            return
        with self._connected() as db, transaction(db):
            if format_of(db) is None:
                DEFINITION.create(db)
            yield db

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        with failing_as(DeliveryError("E507", _UNREADABLE), sqlite3.Error, OSError):
            make_private(self._path)
            with closing(connect(self._path, has_log=False)) as db:
                yield db


def _read(db: sqlite3.Connection) -> Iterator[RefusedBatch]:
    for row in db.execute(_ALL).fetchall():
        number, sink, id_, received, schema, digest, table, text, payload, purposes = row
        pairs = (line.rpartition(" ") for line in text.split("\n") if line)
        layout = Layout(schema, digest, table, tuple((name, kind) for name, _, kind in pairs))
        batch = Batch(id_, received, (), layout, payload, granted=decode_granted(purposes))
        yield RefusedBatch(number, sink, batch)
