"""What lies in the spool's file: its tables, how a row gets into them, and how it is sealed."""

from __future__ import annotations

import hashlib
import hmac
import sqlite3
from contextlib import suppress

from collector.contracts import Granted, Layout
from collector.ledger import journal
from collector.ledger.receipt import COLUMNS
from collector.ledger.stored import TABLES as LEDGER_TABLES
from collector.spool import keys

__all__ = [
    "APPLICATION",
    "BATCH",
    "BATCH_BEFORE",
    "FORMAT",
    "NEW_BATCH",
    "NEW_COLUMN",
    "NEW_CURSOR",
    "NEW_DAMAGED",
    "NEW_HOUR",
    "NEW_LAYOUT",
    "NEW_RECEIPT",
    "NEW_START",
    "TABLES",
    "batch_columns",
    "besides",
    "checksum",
    "granted",
    "layout_seal",
    "seal",
    "upgrade",
    "written",
]

FORMAT = 4
"""The first had no keys of requests, the second no entries of the ledger, the third no granted
purposes of a batch."""
APPLICATION = int.from_bytes(b"Cspl")
"""``application_id`` of the file, by which it is known as ours."""

_BATCHES = (
    "(sequence INTEGER PRIMARY KEY, id BLOB NOT NULL, layout TEXT NOT NULL, received TEXT NOT NULL,"
    " records INTEGER NOT NULL, salt BLOB NOT NULL, seal BLOB NOT NULL, payload BLOB NOT NULL,"
    " granted TEXT)"
)
_OTHERS = """
CREATE TABLE about (format INTEGER NOT NULL) STRICT;
CREATE TABLE layouts (
    digest TEXT PRIMARY KEY, schema TEXT NOT NULL, name TEXT NOT NULL, seal BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE columns (
    digest TEXT NOT NULL, position INTEGER NOT NULL, name TEXT NOT NULL, type TEXT NOT NULL,
    PRIMARY KEY (digest, position)
) STRICT, WITHOUT ROWID;
CREATE TABLE cursors (
    sink TEXT PRIMARY KEY, sequence INTEGER NOT NULL, seal BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE hours (
    hour TEXT NOT NULL, what TEXT NOT NULL, name TEXT NOT NULL, reason TEXT NOT NULL,
    times INTEGER NOT NULL, PRIMARY KEY (hour, what, name, reason)
) STRICT, WITHOUT ROWID
"""
TABLES = (
    *_OTHERS.split(";"),
    f"CREATE TABLE batches {_BATCHES} STRICT",
    f"CREATE TABLE damaged {_BATCHES} STRICT",
    keys.TABLE,
    *LEDGER_TABLES,
    *journal.TABLES,
)

BATCH_BEFORE = "sequence, id, layout, received, records, salt, seal, payload"
"""The columns of a batch up to the third format."""
BATCH = f"{BATCH_BEFORE}, granted"
_MARKS = ", ".join("?" * len(COLUMNS))
NEW_RECEIPT = f"INSERT INTO receipts ({', '.join(COLUMNS)}) VALUES ({_MARKS})"  # noqa: S608
NEW_BATCH = "INSERT INTO batches VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
NEW_DAMAGED = "INSERT INTO damaged VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
NEW_LAYOUT = "INSERT OR REPLACE INTO layouts VALUES (?, ?, ?, ?)"
NEW_COLUMN = "INSERT OR REPLACE INTO columns VALUES (?, ?, ?, ?)"
NEW_CURSOR = "INSERT OR REPLACE INTO cursors VALUES (?, ?, ?)"
NEW_START = "INSERT INTO starts VALUES (?, ?, ?)"
NEW_HOUR = (
    "INSERT INTO hours VALUES (?, ?, ?, ?, ?) ON CONFLICT"
    " DO UPDATE SET times = times + excluded.times"
)


def upgrade(db: sqlite3.Connection, format_: int) -> None:
    """Add to a file of an earlier format what it lacks."""
    if format_ < FORMAT:
        added = [f"ALTER TABLE {table} ADD COLUMN granted TEXT" for table in ("batches", "damaged")]
        if format_ < journal.SINCE:
            added += journal.TABLES
        if format_ < 2:
            added.append(keys.TABLE)
        db.execute("BEGIN IMMEDIATE")
        for statement in added:
            db.execute(statement)
        db.execute("UPDATE about SET format = ?", (FORMAT,))
        db.execute(f"PRAGMA user_version = {FORMAT}")
        db.execute("COMMIT")


def batch_columns(db: sqlite3.Connection) -> str:
    """The columns of a batch in a file of any format."""
    with suppress(sqlite3.Error):
        db.execute("SELECT granted FROM batches LIMIT 0")
        return BATCH
    return f"{BATCH_BEFORE}, NULL"


def seal(salt: bytes, commitment: bytes, *parts: object) -> bytes:
    """What shows later whether a batch is as it was written: an HMAC over all of its row."""
    return hmac.digest(salt, commitment + _text(*parts), "sha256")


def written(granted: Granted) -> str | None:
    """Granted purposes as a batch has them; nothing where all are."""
    return None if granted is None else " ".join(granted)


def granted(text: str | None) -> Granted:
    """What was written of them."""
    return None if text is None else tuple(text.split())


def besides(text: str | None) -> tuple[str, ...]:
    """What a seal also covers: nothing where all purposes are granted, as in earlier formats."""
    return () if text is None else (text,)


def checksum(*parts: object) -> bytes:
    """The same for rows without a secret: 8 bytes against damage, not against anybody."""
    return hashlib.sha256(_text(*parts)).digest()[:8]


def layout_seal(layout: Layout) -> bytes:
    """The checksum of a layout."""
    return checksum(layout.digest, layout.schema, layout.table, *layout.columns)


def _text(*parts: object) -> bytes:
    return "\n".join(p.hex() if isinstance(p, bytes) else str(p) for p in parts).encode()
