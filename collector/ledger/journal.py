"""Append entries to the ledger in a spool's file, and sign them if the key can be used."""

from __future__ import annotations

import hashlib
import sqlite3
import zlib
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from collector.contracts import to_minute
from collector.ledger.entry import ENTRY_COLUMNS, Entry, Note
from collector.ledger.receipt import NOTHING, Tip, as_bytes, as_number
from collector.ledger.signing import load_key

_ENTRIES = (
    "sequence INTEGER PRIMARY KEY, minute TEXT NOT NULL, kind TEXT NOT NULL, facts TEXT NOT NULL,"
    " receipt INTEGER NOT NULL, receipt_hash BLOB NOT NULL, key TEXT NOT NULL,"
    " previous BLOB NOT NULL, hash BLOB NOT NULL, signature BLOB NOT NULL"
)
_LAST = "one INTEGER PRIMARY KEY CHECK (one = 1), sequence INTEGER NOT NULL, hash BLOB NOT NULL"
TABLES = (
    f"CREATE TABLE entries ({_ENTRIES}) STRICT",
    f"CREATE TABLE last_entry ({_LAST}) STRICT",
    "CREATE TABLE documents (digest TEXT PRIMARY KEY, text BLOB NOT NULL) STRICT, WITHOUT ROWID",
)
"""The tables of entries. A document is compressed (zlib)."""

SELECT_ENTRIES = f"SELECT {', '.join(ENTRY_COLUMNS)} FROM entries"  # noqa: S608 - constants
NEW_ENTRY = f"INSERT INTO entries VALUES ({', '.join('?' * len(ENTRY_COLUMNS))})"  # noqa: S608
NEW_DOCUMENT = "INSERT OR IGNORE INTO documents VALUES (?, ?)"
SET_LAST = "INSERT OR REPLACE INTO last_entry VALUES (1, ?, ?)"
_MOST_BYTES = 64 << 20
_MOST = 1 << 53
"""The number of an entry is lower than this."""
_NEWEST = f"{SELECT_ENTRIES} WHERE sequence < {_MOST} ORDER BY sequence DESC LIMIT 1"
_KEY = "SELECT facts FROM entries WHERE kind = 'key' ORDER BY sequence DESC LIMIT 1"


class Signer(Protocol):
    """A key that signs. ``public`` is its public half in hexadecimal digits."""

    @property
    def public(self) -> str: ...

    def sign(self, text: bytes) -> bytes:
        """Return the signature of a text, 64 bytes."""


def append(db: sqlite3.Connection, note: Note, signer: Signer | None = None) -> Entry:
    """Append an entry, within the caller's transaction.

    If the last entries are missing, an entry of kind ``damage`` comes first. If the signer's key is
    not the last one that an entry named, an entry of kind ``key`` comes first.
    """
    current = current_key(db)
    if _newest(db) != _tip(db, "last_entry"):
        is_known = signer is not None and signer.public == current
        _append(db, Note("damage"), signer if is_known else None)
    if signer is not None and signer.public != current:
        _append(db, Note.of("key", public=signer.public), signer)
    return _append(db, note, signer)


def current_key(db: sqlite3.Connection) -> str | None:
    """Return the public key that the last entry of kind ``key`` names."""
    row = db.execute(_KEY).fetchone()
    return None if row is None else str(row[0]).removeprefix("public ")


def _append(db: sqlite3.Connection, note: Note, signer: Signer | None) -> Entry:
    execute = db.execute
    newest, last = _newest(db), _tip(db, "last_entry")
    entry = Entry(
        max(newest.sequence, last.sequence) + 1,
        to_minute(datetime.now(UTC)),
        note.kind,
        note.facts,
        _tip(db, "tip"),
        "" if signer is None else signer.public,
        newest.hash,
    )
    signature = b"" if signer is None else signer.sign(entry.text)
    entry = replace(entry, hash=entry.compute_hash(), signature=signature)
    execute(NEW_ENTRY, entry.as_row())
    execute(SET_LAST, (entry.sequence, entry.hash))
    if note.document is not None:
        digest = dict(note.facts)["digest"]
        execute(NEW_DOCUMENT, (digest, zlib.compress(note.document)))
    return entry


def decompress(digest: str, data: bytes) -> bytes | None:
    """Decompress a document. Return ``None`` if its digest differs or bytes follow it."""
    decompressor, text = zlib.decompressobj(), b""
    with suppress(zlib.error):
        text = decompressor.decompress(data, _MOST_BYTES)
    is_whole = decompressor.eof and not decompressor.unused_data
    return text if is_whole and hashlib.sha256(text).hexdigest() == digest else None


def _newest(db: sqlite3.Connection) -> Tip:
    row = db.execute(_NEWEST).fetchone()
    if row is None:
        return Tip(0, NOTHING)
    entry = Entry.from_row(row)
    return Tip(entry.sequence, entry.hash)


def _tip(db: sqlite3.Connection, table: str) -> Tip:
    row = db.execute(f"SELECT sequence, hash FROM {table}").fetchone()  # noqa: S608 - constants
    if row is None or as_number(row[0]) >= _MOST:
        return Tip(0, NOTHING)
    return Tip(as_number(row[0]), as_bytes(row[1]))


def append_all(db: sqlite3.Connection, path: Path, notes: Iterable[Note]) -> None:
    """Append an entry for each note within the caller's transaction. The key in the file's
    directory signs them."""
    key = load_key(path.parent, current_key(db))
    for note in notes:
        append(db, note, key)
