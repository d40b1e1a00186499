"""The spool's file: batches, receipts and cursors in one SQLite database, written by one thread.

After any error the connection is of no more use: it is closed, and the file opened again.
"""

from __future__ import annotations

import hmac
import os
import secrets
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import compress
from pathlib import Path

from collector.contracts import Layout, Spooled
from collector.ledger.receipt import NOTHING, SALT_BYTES, Start, Tip, commit, issue
from collector.spool import keys
from collector.spool.entering import enter
from collector.spool.group import Group, Sums, grouped
from collector.spool.intake import Waiting
from collector.spool.log import cut
from collector.spool.tables import (
    APPLICATION,
    BATCH,
    FORMAT,
    NEW_BATCH,
    NEW_COLUMN,
    NEW_CURSOR,
    NEW_HOUR,
    NEW_LAYOUT,
    NEW_RECEIPT,
    NEW_START,
    TABLES,
    besides,
    checksum,
    layout_seal,
    seal,
    written,
)
from collector.spool.tables import granted as granted_of
from collector.walindex import Index, need_room

__all__ = ["Depth", "File", "connect", "create"]

_DEPTH = (
    "SELECT count(*), coalesce(sum(records), 0), coalesce(sum(length(payload)), 0) FROM batches"
)
_NEXT = f"SELECT {BATCH} FROM batches WHERE sequence > ? ORDER BY sequence LIMIT 1"  # noqa: S608

_PAGE_BYTES = 8192
_LOG_PAGES = 1024
_LOG_BYTES = 16 << 20
_BUSY_SECONDS = 5.0
_ID_BYTES = 16
_SETTINGS = (
    f"page_size = {_PAGE_BYTES}",
    "journal_mode = WAL",
    "synchronous = FULL",
    "fullfsync = ON",
    "secure_delete = ON",
    "temp_store = MEMORY",
    "trusted_schema = OFF",
    "cell_size_check = ON",
    f"wal_autocheckpoint = {_LOG_PAGES}",
    f"journal_size_limit = {_LOG_BYTES}",
)


@dataclass(frozen=True, slots=True)
class Depth:
    """How much waits for delivery; ``bytes`` are of records."""

    batches: int = 0
    records: int = 0
    bytes: int = 0


def create(path: Path, *starts: Start) -> sqlite3.Connection:
    """A new file with no batch and no receipt in it, where there is none."""
    _make_private(path, os.O_EXCL | os.O_CREAT)
    db = connect(path)
    try:
        db.execute("BEGIN IMMEDIATE")
        for table in TABLES:
            db.execute(table)
        db.execute("INSERT INTO about VALUES (?)", (FORMAT,))
        db.execute("INSERT INTO tip VALUES (1, 0, ?)", (NOTHING,))
        for start in starts:
            db.execute(NEW_START, (start.first, start.reason, start.after))
        db.execute(f"PRAGMA application_id = {APPLICATION}")
        db.execute(f"PRAGMA user_version = {FORMAT}")
        db.execute("COMMIT")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except BaseException:
        db.close()
        raise
    return db


class File:
    """An open spool file. ``write`` is for one thread, ``next`` and ``first`` for another.

    Raises ``sqlite3.Error`` or ``OSError``; what becomes of the file then is up to the caller.
    """

    def __init__(self, path: Path) -> None:
        self.layouts: dict[str, Layout] = {}
        self.cursors: dict[str, int] = {}
        self.tip: Tip = Tip(0, NOTHING)
        self.depth: Depth = Depth()
        self._follows = self.tip
        self._path = path
        _make_private(path)
        need_room(path)
        self.db: sqlite3.Connection = connect(path)
        try:
            self._reader = connect(path)
        except BaseException:
            self.db.close()
            raise
        try:
            self._index = Index(path)
        except BaseException:
            self._reader.close()
            self.db.close()
            raise

    @property
    def last(self) -> int:
        """The highest number that a batch may have."""
        return self._follows.sequence

    @property
    def follows(self) -> Tip:
        """What the next receipt follows on."""
        return self._follows

    def load(self) -> None:
        """Read what is kept in memory: layouts, cursors, the tip, and how much waits."""
        execute = self.db.execute
        columns: dict[str, list[tuple[str, str]]] = {}
        query = "SELECT digest, name, type FROM columns ORDER BY digest, position"
        for digest, name, kind in execute(query):
            columns.setdefault(digest, []).append((name, kind))
        for digest, schema, name, sealed in execute(
            "SELECT digest, schema, name, seal FROM layouts"
        ):
            layout = Layout(schema, digest, name, tuple(columns.get(digest, ())))
            if sealed == layout_seal(layout):
                self.layouts[digest] = layout
        for sink, sequence, sealed in execute("SELECT sink, sequence, seal FROM cursors"):
            self.cursors[sink] = sequence if sealed == checksum(sink, sequence) else 0
        self.tip = Tip(*execute("SELECT sequence, hash FROM tip").fetchone())
        self._follows = self.tip
        query = "SELECT first, reason, after FROM starts WHERE first > ? ORDER BY first"
        for row in execute(query, (self.tip.sequence,)):
            self._follows = Tip(row[0] - 1, Start(*row).hash)
        self.depth = Depth(*execute(_DEPTH).fetchone())

    def prepare(self, layouts: Iterable[Layout], sinks: Sequence[str]) -> None:
        """Note layouts, and the sinks that batches wait for; a sink that is new begins with what
        still waits, and one that is gone is forgotten."""
        execute = self.db.execute
        execute("BEGIN IMMEDIATE")
        for layout in layouts:
            self._keep_layout(layout)
        if sinks:
            chosen = {sink: self.cursors.get(sink, 0) for sink in sinks}
            execute("DELETE FROM cursors")
            self.cursors = {}
            self._move(chosen)
        depth = self._trimmed(self.depth)
        execute("COMMIT")
        self.depth = depth

    def write(
        self, waiting: Sequence[Waiting], cursors: Mapping[str, int], sums: Sums, bad: Iterable[int]
    ) -> list[bool]:
        """One transaction: batches with their receipts, and keys of requests; the ledger's notes;
        cursors that moved, sums of hours, and what is set aside because it cannot be read. Durable
        when it returns; what it returns is which of those that waited are new, as only these are
        kept."""
        execute, depth, tip = self.db.execute, self.depth, self._follows
        execute("BEGIN IMMEDIATE")
        is_new = keys.news(self.db, [each.key for each in waiting])
        new = list(compress(waiting, is_new))
        keys.keep(self.db, [each.key for each in new if each.key is not None])
        groups = grouped(entry for each in new for entry in each.entries)
        for group in groups:
            tip = self._keep(group, tip)
            if group.payload:
                records, size = depth.records + group.records, depth.bytes + len(group.payload)
                depth = Depth(depth.batches + 1, records, size)
        if groups:
            execute("INSERT OR REPLACE INTO tip VALUES (1, ?, ?)", (tip.sequence, tip.hash))
        if notes := [note for each in waiting for note in each.notes]:
            enter(self.db, self._path, notes)
        if sums:
            self.db.executemany(NEW_HOUR, [(*key, times) for key, times in sums.items()])
        for sequence in bad:
            depth = self._less(depth, "WHERE sequence = ?", sequence, "damaged")
        if cursors:
            self._move(cursors)
            depth = self._trimmed(depth)
        try:
            execute("COMMIT")
        except sqlite3.Error:
            with suppress(OSError):
                cut(self._path, self._index)
            raise
        self.depth = depth
        if groups:
            self.tip = self._follows = tip
        return is_new

    def next(self, sequence: int) -> tuple[int, Spooled | None] | None:
        """The batch after a number, with its own; ``None`` in its place if it is not what was
        written."""
        row = self._reader.execute(_NEXT, (sequence,)).fetchone()
        if row is None:
            return None
        sequence, id_, digest, received, records, salt, sealed, payload, granted = row
        expected = seal(
            salt, commit(salt, payload), id_, digest, received, records, *besides(granted)
        )
        layout = self.layouts.get(digest)
        if layout is None or not hmac.compare_digest(expected, sealed):
            return sequence, None
        return sequence, Spooled(id_, received, layout, payload, granted_of(granted))

    def first(self) -> tuple[int, str] | None:
        """Number and minute of the oldest batch."""
        query = "SELECT sequence, received FROM batches ORDER BY sequence LIMIT 1"
        found: tuple[int, str] | None = self._reader.execute(query).fetchone()
        return found

    def fold(self) -> bool:
        """Write the log into the file and empty it; whether nobody was in the way. Waits for
        nobody, as others wait meanwhile."""
        execute = self.db.execute
        execute("PRAGMA busy_timeout = 0")
        busy: int = execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        execute(f"PRAGMA busy_timeout = {int(1000 * _BUSY_SECONDS)}")
        return not busy

    def close(self) -> None:
        """Close it, whatever state it is in."""
        for connection in (self._reader, self.db):
            with suppress(sqlite3.Error):
                connection.close()
        self._index.close()

    def _keep(self, group: Group, tip: Tip) -> Tip:
        """A batch, if there is one, and its receipt."""
        commitment = None
        if group.payload:
            self._keep_layout(group.layout)
            salt, id_ = secrets.token_bytes(SALT_BYTES), secrets.token_bytes(_ID_BYTES)
            commitment = commit(salt, group.payload)
            parts = (id_, group.layout.digest, group.minute, group.records)
            granted = written(group.granted)
            sealed = seal(salt, commitment, *parts, *besides(granted))
            row = (tip.sequence + 1, *parts, salt, sealed, group.payload, granted)
            self.db.execute(NEW_BATCH, row)
        receipt = issue(tip, group.minute, group.layout.digest, group.tally, commitment)
        self.db.execute(NEW_RECEIPT, receipt.as_row())
        return Tip(receipt.sequence, receipt.hash)

    def _keep_layout(self, layout: Layout) -> None:
        if layout.digest in self.layouts:
            return
        row = (layout.digest, layout.schema, layout.table, layout_seal(layout))
        self.db.execute(NEW_LAYOUT, row)
        columns = [(layout.digest, at, *column) for at, column in enumerate(layout.columns)]
        self.db.executemany(NEW_COLUMN, columns)
        self.layouts[layout.digest] = layout

    def _move(self, cursors: Mapping[str, int]) -> None:
        rows = [(sink, sequence, checksum(sink, sequence)) for sink, sequence in cursors.items()]
        self.db.executemany(NEW_CURSOR, rows)
        self.cursors |= cursors

    def _trimmed(self, depth: Depth) -> Depth:
        """Without the batches that every sink has; how much waits then."""
        if not self.cursors:
            return depth
        return self._less(depth, "WHERE sequence <= ?", min(self.cursors.values()))

    def _less(self, depth: Depth, where: str, sequence: int, to: str | None = None) -> Depth:
        """Take batches out, and perhaps into another table; how much waits then."""
        execute = self.db.execute
        batches, records, size = execute(f"{_DEPTH} {where}", (sequence,)).fetchone()
        if not batches:
            return depth
        if to is not None:
            execute(f"INSERT INTO {to} SELECT * FROM batches {where}", (sequence,))  # noqa: S608
        execute(f"DELETE FROM batches {where}", (sequence,))  # noqa: S608 - constants
        return Depth(depth.batches - batches, depth.records - records, depth.bytes - size)


def _make_private(path: Path, flags: int = 0) -> None:
    """See to it that the file is there, and its owner's only."""
    handle = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | flags, 0o600)
    try:
        os.fchmod(handle, 0o600)
    finally:
        os.close(handle)


def connect(path: Path, *, must_exist: bool = False) -> sqlite3.Connection:
    """A connection on which a commit is durable, and what is deleted is overwritten."""
    place = f"{path.absolute().as_uri()}?mode={'rw' if must_exist else 'rwc'}"
    db = sqlite3.connect(
        place, uri=True, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )
    try:
        for setting in _SETTINGS:
            db.execute(f"PRAGMA {setting}")
    except BaseException:
        db.close()
        raise
    return db
