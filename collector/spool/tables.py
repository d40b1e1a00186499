"""The format of the spool's file: connections, tables, and their rows with seals.

A batch has the number of its first receipt as its place in the queue, and names its present one.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, NamedTuple

from collector.contracts import Batch, Granted, Layout
from collector.errors import ConfigError, DeliveryError
from collector.files import failing_as
from collector.files import make_private as make_file_private
from collector.ledger import journal
from collector.ledger.receipt import COLUMNS, NOTHING, Start, commit
from collector.ledger.stored import FORMAT, UNKNOWN_FORMAT, require_known_format
from collector.ledger.stored import TABLES as LEDGER_TABLES
from collector.spool import idempotency
from collector.sqlite import wal
from collector.sqlite.connection import (
    checkpoint,
    connect,
    connect_to_read,
    copy_log,
    decode_leniently,
    transaction,
)
from collector.sqlite.definition import Definition

_BATCHES = (
    "(sequence INTEGER PRIMARY KEY, id BLOB NOT NULL, layout TEXT NOT NULL, received TEXT NOT NULL,"
    " records INTEGER NOT NULL, salt BLOB NOT NULL, seal BLOB NOT NULL, payload BLOB NOT NULL,"
    " granted TEXT, receipt INTEGER NOT NULL)"
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
_GAPS = (
    "CREATE TABLE gaps (sink TEXT NOT NULL, after INTEGER NOT NULL, upto INTEGER NOT NULL,"
    " seal BLOB NOT NULL, PRIMARY KEY (sink, after)) STRICT, WITHOUT ROWID"
)
OPEN = (1 << 63) - 1
"""The end of a gap that is not closed: the sink is absent."""
DEFINITION = Definition(
    (
        *_OTHERS.split(";"),
        f"CREATE TABLE batches {_BATCHES} STRICT",
        f"CREATE TABLE damaged {_BATCHES} STRICT",
        *idempotency.TABLES,
        *LEDGER_TABLES,
        *journal.TABLES,
        _GAPS,
    ),
    format=FORMAT,
    application=int.from_bytes(b"Cspl"),
)

BATCH = "sequence, id, layout, received, records, salt, seal, payload, granted, receipt"
_MARKS = ", ".join("?" * len(COLUMNS))
NEW_RECEIPT = f"INSERT INTO receipts ({', '.join(COLUMNS)}) VALUES ({_MARKS})"  # noqa: S608
NEW_BATCH = "INSERT INTO batches VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
NEW_DAMAGED = "INSERT INTO damaged VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
REVISED_BATCH = (
    "UPDATE batches SET records = ?, salt = ?, seal = ?, payload = ?, receipt = ?"
    " WHERE sequence = ?"
)
NEW_LAYOUT = "INSERT OR REPLACE INTO layouts VALUES (?, ?, ?, ?)"
NEW_COLUMN = "INSERT OR REPLACE INTO columns VALUES (?, ?, ?, ?)"
NEW_CURSOR = "INSERT OR REPLACE INTO cursors VALUES (?, ?, ?)"
NEW_GAP = "INSERT OR REPLACE INTO gaps VALUES (?, ?, ?, ?)"
NEW_TIP = "INSERT OR REPLACE INTO tip VALUES (1, ?, ?)"
NEW_START = "INSERT INTO starts VALUES (?, ?, ?)"
_MOST_OF_HOUR = 1 << 50
"""The most that is counted of one thing in an hour, so that sums over all hours are integers of
SQLite's, whatever a worker says."""
NEW_HOUR = (
    f"INSERT INTO hours VALUES (?, ?, ?, ?, min(?, {_MOST_OF_HOUR})) ON CONFLICT"  # noqa: S608
    f" DO UPDATE SET times = min(times + excluded.times, {_MOST_OF_HOUR})"
)


_APPLICATION = DEFINITION.application.to_bytes(4)
_HEAD = 100
_WHOLE_BYTES = 256 << 20
"""The largest file that is checked whole; of larger ones, the receipts are not checked."""
_WAL_PAGES = 1024
_WAL_BYTES = 16 << 20
_SETTINGS = (
    "cell_size_check = ON",
    f"wal_autocheckpoint = {_WAL_PAGES}",
    f"journal_size_limit = {_WAL_BYTES}",
)


def batch_seal(salt: bytes, commitment: bytes, granted: str | None, *head: object) -> bytes:
    """Return the seal of a batch: an HMAC over all of its row, which shows damage later, its
    payload by the receipt's ``commitment``. ``head`` are id, digest of the layout, minute and
    number of records."""
    return hmac.digest(salt, commitment + _text(*head, granted), "sha256")


def is_intact(row: tuple[Any, ...]) -> bool:
    """Return whether a row of ``BATCH`` is as it was written, by its seal."""
    _, *head, salt, seal, payload, granted, _ = row
    if not all(isinstance(part, bytes) for part in (head[0], salt, seal, payload)):
        return False
    return hmac.compare_digest(batch_seal(salt, commit(salt, payload), granted, *head), seal)


def encode_granted(granted: Granted) -> str | None:
    """Return granted purposes as a batch's row has them; ``None`` where all are granted."""
    return None if granted is None else " ".join(granted)


def decode_granted(text: str | None) -> Granted:
    """Return the granted purposes of a batch's row."""
    return None if text is None else tuple(text.split())


def checksum(*parts: object) -> bytes:
    """Return 8 bytes that show damage to a row without a secret; they are no protection against
    intent."""
    return hashlib.sha256(_text(*parts)).digest()[:8]


def layout_seal(layout: Layout) -> bytes:
    """Return the checksum of a layout."""
    return checksum(layout.digest, layout.schema, layout.table, *layout.columns)


def _text(*parts: object) -> bytes:
    return "\n".join(p.hex() if isinstance(p, bytes) else str(p) for p in parts).encode()


class Gap(NamedTuple):
    """The batches that are not for a sink because it was absent when they came: those after one
    number up to another, ``OPEN`` while it still is absent."""

    after: int
    upto: int = OPEN


def read_cursors(execute: Callable[[str], Iterable[tuple[Any, ...]]]) -> dict[str, int]:
    """Read the number up to which each sink has the batches; 0 where the row is damaged: then the
    sink gets them again."""
    return {
        sink: sequence if seal == checksum(sink, sequence) else 0
        for sink, sequence, seal in execute("SELECT sink, sequence, seal FROM cursors")
    }


def read_gaps(execute: Callable[[str], Iterable[tuple[Any, ...]]]) -> dict[str, tuple[Gap, ...]]:
    """Read the gaps of each sink, in order. A damaged one is left out: then its sink gets more."""
    found: dict[str, tuple[Gap, ...]] = {}
    query = "SELECT sink, after, upto, seal FROM gaps ORDER BY sink, after"
    for sink, after, upto, seal in execute(query):
        if seal == checksum(sink, after, upto):
            found[sink] = (*found.get(sink, ()), Gap(after, upto))
    return found


def create(path: Path, *starts: Start) -> sqlite3.Connection:
    """Create a file without batches and receipts, where there is none."""
    make_private(path, os.O_EXCL | os.O_CREAT)
    db = open_connection(path)
    try:
        with transaction(db):
            DEFINITION.create(db)
            db.execute("INSERT INTO about VALUES (?)", (FORMAT,))
            db.execute("INSERT INTO tip VALUES (1, 0, ?)", (NOTHING,))
            for start in starts:
                db.execute(NEW_START, (start.first, start.reason, start.after))
        checkpoint(db)
    except BaseException:
        db.close()
        raise
    return db


def make_private(path: Path, flags: int = 0) -> None:
    """Ensure that the file exists and only its owner may use it (0600)."""
    os.close(os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | flags, 0o600))
    make_file_private(path)


def open_connection(path: Path, *, must_exist: bool = False) -> sqlite3.Connection:
    """Open a connection to a spool's file, which goes on where a text is damaged: seals show it."""
    return decode_leniently(connect(path, *_SETTINGS, must_exist=must_exist))


_FORMATS = ("format FROM about", "user_version FROM pragma_user_version")


class _DamagedError(Exception):
    """The file was not written by a spool."""


def check_version(path: Path) -> None:
    """Raise ``ConfigError`` E203 for a file of another format, as far as its head and its log show
    that. Nothing is made or changed."""
    text = b""
    with suppress(OSError):
        text = wal.head(path)
    if text[68:72] == _APPLICATION and int.from_bytes(text[60:64]) != FORMAT:
        raise ConfigError("E203", UNKNOWN_FORMAT)


def is_spool(path: Path) -> bool:
    """Return whether a file has the head of a spool's file."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        head = os.read(handle, _HEAD)
    finally:
        os.close(handle)
    return len(head) == _HEAD and head[:16] == wal.MAGIC and head[68:72] == _APPLICATION


def check_format(db: sqlite3.Connection, path: Path, frames: Callable[[], int]) -> None:
    """Raise an exception unless a file is intact and its log has all frames. Raises ``ConfigError``
    E203 for a file of another format."""
    execute = db.execute
    require_known_format(db)
    found = [execute(f"SELECT {query}").fetchone()[0] for query in _FORMATS]
    pages = copy_log(db)
    if found != [FORMAT, FORMAT] or pages < frames() or not DEFINITION.is_met(db):
        raise _DamagedError
    tables = [""]
    if path.stat().st_size > _WHOLE_BYTES:
        tables = [f"({table})" for table in DEFINITION.columns if table != "receipts"]
    for table in tables:
        if execute(f"PRAGMA quick_check{table}").fetchone()[0] != "ok":
            raise _DamagedError


def pending_batches(path: Path) -> Iterator[Batch | None]:
    """Yield every batch; ``None`` for a damaged one. Their layouts have no
    columns.

    Yields nothing if there is no file. Raises ``ConfigError`` E203 when it has another format,
    ``DeliveryError`` E507 when it cannot be read.
    """
    if not path.is_file():
        return
    failure = DeliveryError("E507", "the spool cannot be read; is it damaged, or no spool's file?")
    if (db := connect_to_read(path)) is None:
        raise failure
    with failing_as(failure, sqlite3.Error), closing(decode_leniently(db)):
        yield from _batches(db)


def _batches(db: sqlite3.Connection) -> Iterator[Batch | None]:
    require_known_format(db)
    layouts = {
        digest: Layout(schema, digest, name, ())
        for digest, schema, name in db.execute("SELECT digest, schema, name FROM layouts")
    }
    query = f"SELECT {BATCH} FROM batches ORDER BY sequence"  # noqa: S608 - a constant
    for row in db.execute(query):
        _, id_, digest, received, _, _, _, payload, granted, _ = row
        if digest not in layouts or not is_intact(row):
            yield None
            continue
        yield Batch(
            id_,
            received,
            layout=layouts[digest],
            payload=payload,
            granted=decode_granted(granted),
        )
    for _ in range(db.execute("SELECT count(*) FROM damaged").fetchone()[0]):
        yield None
