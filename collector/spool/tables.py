"""The format of the spool's file: connections, tables, and their rows with seals.

The number of a batch's first receipt is its place in the queue. Its row also names its present
receipt.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import sqlite3
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from collector.contracts import (
    EMPTY,
    MOST_BYTES,
    SUMS,
    Batch,
    Depth,
    Granted,
    Layout,
    SinkSums,
    StoredRecords,
)
from collector.errors import ConfigError, DeliveryError
from collector.files import failing_as
from collector.files import make_private as make_file_private
from collector.filter.text import pieces
from collector.ledger import journal
from collector.ledger.receipt import COLUMNS, NOTHING, SALT_BYTES, Start, commit
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

_BATCH = (
    "id BLOB NOT NULL, layout TEXT NOT NULL, received TEXT NOT NULL, records INTEGER NOT NULL,"
    " salt BLOB NOT NULL, seal BLOB NOT NULL, payload BLOB NOT NULL, granted TEXT,"
    " receipt INTEGER NOT NULL"
)
_BATCHES = f"(sequence INTEGER PRIMARY KEY, {_BATCH})"
_ASIDE = (
    "CREATE TABLE aside (sink TEXT NOT NULL, sequence INTEGER NOT NULL,"
    f" {_BATCH}, PRIMARY KEY (sink, sequence)) STRICT"
)
"""The batches that a sink did not take. They stay until ``collector store redeliver``, and are
exported, erased and pruned like pending ones."""
_OTHERS = """
CREATE TABLE about (format INTEGER NOT NULL) STRICT;
CREATE TABLE layouts (
    digest TEXT PRIMARY KEY, schema TEXT NOT NULL, name TEXT NOT NULL, seal BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE columns (
    digest TEXT NOT NULL, position INTEGER NOT NULL, name TEXT NOT NULL, type TEXT NOT NULL,
    PRIMARY KEY (digest, position)
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
"""The end of an open gap: the sink is absent, or skips."""
_UNITS = ("batches", "records", "bytes")
_SUMS = ("unnoted", *SUMS)
_NUMBERS = ("sequence", "since", *(f"{sum_}_{unit}" for sum_ in _SUMS for unit in _UNITS))
_SINKS = (
    f"CREATE TABLE sinks (sink TEXT PRIMARY KEY, {' INTEGER NOT NULL, '.join(_NUMBERS)}"
    " INTEGER NOT NULL, seal BLOB NOT NULL) STRICT, WITHOUT ROWID"
)
DEFINITION = Definition(
    (
        *_OTHERS.split(";"),
        f"CREATE TABLE batches {_BATCHES} STRICT",
        f"CREATE TABLE damaged {_BATCHES} STRICT",
        *idempotency.TABLES,
        *LEDGER_TABLES,
        *journal.TABLES,
        _SINKS,
        _GAPS,
        _ASIDE,
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
NEW_ASIDE = "INSERT OR REPLACE INTO aside VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
SET_ASIDE = "INSERT OR REPLACE INTO aside SELECT ?, * FROM batches WHERE sequence = ?"
REVISED_ASIDE = "UPDATE aside SET records = ?, salt = ?, seal = ?, payload = ? WHERE rowid = ?"
NEW_LAYOUT = "INSERT OR REPLACE INTO layouts VALUES (?, ?, ?, ?)"
NEW_COLUMN = "INSERT OR REPLACE INTO columns VALUES (?, ?, ?, ?)"
NEW_ACCOUNT = f"INSERT OR REPLACE INTO sinks VALUES (?{', ?' * len(_NUMBERS)}, ?)"  # noqa: S608
NEW_GAP = "INSERT OR REPLACE INTO gaps VALUES (?, ?, ?, ?)"
NEW_TIP = "INSERT OR REPLACE INTO tip VALUES (1, ?, ?)"
NEW_START = "INSERT INTO starts VALUES (?, ?, ?)"
_MOST_OF_HOUR = 1 << 50
"""The largest hourly count, so that sums over all hours fit SQLite's integers whatever a worker
reports."""
NEW_HOUR = (
    f"INSERT INTO hours VALUES (?, ?, ?, ?, min(?, {_MOST_OF_HOUR})) ON CONFLICT"  # noqa: S608
    f" DO UPDATE SET times = min(times + excluded.times, {_MOST_OF_HOUR})"
)


MOST_SHARED_BYTES = 1 << 19
"""The most bytes of requests that share a commit. All of them wait for it: 7 ms on a disk that
writes 100 MiB a second. A larger request has its own commit."""
_PIECE = 1 << 17
"""Bytes that are compressed at once."""
_ZLIB = b"x"
"""The first byte of a compressed payload (RFC 1950: method 8, a window of 32 KiB). Records begin
with ``{``."""
_APPLICATION = DEFINITION.application.to_bytes(4)
_HEAD = 100
_WHOLE_BYTES = 256 << 20
"""The largest file that is checked completely. The receipts of larger files are not checked."""
_WAL_PAGES = 1024
_WAL_BYTES = 16 << 20
_CACHE_KIB = 512
"""The cache of each connection: a commit changes few pages, and none of a large batch is read
again."""
_SETTINGS = (
    "cell_size_check = ON",
    f"cache_size = -{_CACHE_KIB}",
    f"wal_autocheckpoint = {_WAL_PAGES}",
    f"journal_size_limit = {_WAL_BYTES}",
)


def stored(records: bytes) -> StoredRecords:
    """Return how the NDJSON of a batch is stored. A batch too large to share a commit is compressed
    beforehand, while no other sender waits. Writing and deleting a tenth of the bytes saves more
    time than compressing takes."""
    if len(records) > MOST_SHARED_BYTES:
        packer = zlib.compressobj(1)
        parts = [packer.compress(piece) for piece in pieces(records, _PIECE)]
        records = b"".join([*parts, packer.flush()])
    salt = secrets.token_bytes(SALT_BYTES)
    return StoredRecords(salt, commit(salt, records), records)


def records_of(payload: bytes) -> bytes | None:
    """Return the NDJSON of a batch from its row. Return ``None`` if there is none or too much of
    it, or if other bytes follow, because no rule would ever remove these."""
    if not payload.startswith(_ZLIB):
        return payload
    inflater = zlib.decompressobj()
    with suppress(zlib.error):
        records = inflater.decompress(payload, MOST_BYTES)
        if inflater.eof and not inflater.unused_data:
            return records
    return None


def batch_seal(salt: bytes, commitment: bytes, granted: str | None, *head: object) -> bytes:
    """Return the seal of a batch: an HMAC over its row, which shows later damage. It covers the
    payload by the receipt's ``commitment``. ``head`` is id, digest of the layout, minute and number
    of records."""
    return hmac.digest(salt, commitment + _text(*head, granted), "sha256")


def is_intact(row: tuple[Any, ...]) -> bool:
    """Return whether the seal of a row of ``BATCH`` shows it unchanged."""
    _, *head, salt, seal, payload, granted, _ = row
    if not all(isinstance(part, bytes) for part in (head[0], salt, seal, payload)):
        return False
    return hmac.compare_digest(batch_seal(salt, commit(salt, payload), granted, *head), seal)


def encode_granted(granted: Granted) -> str | None:
    """Return granted purposes as stored in a batch's row; ``None`` if all are granted."""
    return None if granted is None else " ".join(granted)


def decode_granted(text: str | None) -> Granted:
    """Return the granted purposes of a batch's row."""
    return None if text is None else tuple(text.split())


def checksum(*parts: object) -> bytes:
    """Return 8 bytes that show damage to a row. Without a secret, they do not protect against
    intent."""
    return hashlib.sha256(_text(*parts)).digest()[:8]


def layout_seal(layout: Layout) -> bytes:
    """Return the checksum of a layout."""
    return checksum(layout.digest, layout.schema, layout.table, *layout.columns)


def _text(*parts: object) -> bytes:
    return "\n".join(p.hex() if isinstance(p, bytes) else str(p) for p in parts).encode()


class Gap(NamedTuple):
    """The batches after one number and up to another, which a sink does not get because it was
    absent or skipped them. ``upto`` is ``OPEN`` while more come."""

    after: int
    upto: int = OPEN


@dataclass(frozen=True, slots=True)
class Account(SinkSums):
    """The row of a sink, which has the batches up to ``cursor``. While the sink skips, ``since`` is
    the first receipt that the ledger's entries do not cover, else 0; ``unnoted`` is what it skipped
    from there on. The other fields are the sums of ``collector.spool.accounts``."""

    cursor: int = 0
    since: int = 0
    unnoted: Depth = EMPTY

    @property
    def numbers(self) -> list[int]:
        """The numbers that the row stores."""
        sums = (getattr(self, name) for name in _SUMS)
        return [self.cursor, self.since, *(n for each in sums for n in each.numbers)]


def account_row(sink: str, account: Account, *, is_recovered: bool = False) -> tuple[Any, ...]:
    """Return the row of an account. An account recovered from a damaged file has no seal: opening
    the file balances it."""
    numbers = account.numbers
    return (sink, *numbers, b"" if is_recovered else checksum(sink, *numbers))


def read_accounts(
    execute: Callable[[str], Iterable[tuple[Any, ...]]],
) -> tuple[dict[str, Account], set[str]]:
    """Read the account of each sink, and the names of accounts that may not add up. A damaged row
    counts as empty, so its sink gets all present batches again."""
    found, unsettled = dict[str, Account](), set[str]()
    for sink, *numbers, seal in execute("SELECT * FROM sinks"):
        is_sound = seal == checksum(sink, *numbers)
        if not is_sound:
            unsettled.add(sink)
        if is_sound or not seal:
            depths = (Depth(*numbers[at : at + 3]) for at in range(2, len(numbers), 3))
            sums: dict[str, Any] = dict(zip(_SUMS, depths, strict=True))
            found[sink] = Account(*numbers[:2], **sums)
        else:
            found[sink] = Account()
    return found, unsettled


def read_gaps(
    execute: Callable[[str], Iterable[tuple[Any, ...]]],
) -> tuple[dict[str, tuple[Gap, ...]], set[str]]:
    """Read the gaps of each sink, in order, and the names of sinks with damaged gaps. These gaps
    are left out, so the sink gets more batches."""
    found, damaged = dict[str, tuple[Gap, ...]](), set[str]()
    query = "SELECT sink, after, upto, seal FROM gaps ORDER BY sink, after"
    for sink, after, upto, seal in execute(query):
        if seal == checksum(sink, after, upto):
            found[sink] = (*found.get(sink, ()), Gap(after, upto))
        else:
            damaged.add(sink)
    return found, damaged


def create(path: Path, *starts: Start) -> sqlite3.Connection:
    """Create a file without batches and receipts, where none exists."""
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
    """Open a connection to a spool's file. It reads damaged text without an error: seals show the
    damage."""
    return decode_leniently(connect(path, *_SETTINGS, must_exist=must_exist))


_FORMATS = ("format FROM about", "user_version FROM pragma_user_version")


class _DamagedError(Exception):
    """The file was not written by a spool."""


def check_version(path: Path) -> None:
    """Raise ``ConfigError`` E203 if the file's head and its log show another format. Creates and
    changes nothing."""
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


class RefusedBatch(NamedTuple):
    """A batch that was set aside, its number, and the sink that did not take it."""

    sink: str
    number: int
    batch: Batch


def read_layouts(execute: Callable[[str], Iterable[tuple[Any, ...]]]) -> dict[str, Layout]:
    """Read the intact layouts by their digests."""
    columns: dict[str, list[tuple[str, str]]] = {}
    query = "SELECT digest, name, type FROM columns ORDER BY digest, position"
    for digest, name, kind in execute(query):
        columns.setdefault(digest, []).append((name, kind))
    found = dict[str, Layout]()
    for digest, schema, name, seal in execute("SELECT digest, schema, name, seal FROM layouts"):
        layout = Layout(schema, digest, name, tuple(columns.get(digest, ())))
        if seal == layout_seal(layout):
            found[digest] = layout
    return found


def batch_of(row: tuple[Any, ...], layouts: Mapping[str, Layout]) -> Batch | None:
    """Build a batch from a row of ``BATCH``; ``None`` if the row is damaged."""
    _, id_, digest, received, _, _, _, found, granted, _ = row
    layout = layouts.get(digest)
    if layout is None or not is_intact(row) or (payload := records_of(found)) is None:
        return None
    purposes = decode_granted(granted)
    return Batch(id_, received, layout=layout, payload=payload, granted=purposes)


def pending_batches(path: Path) -> Iterator[Batch | None]:
    """Yield every batch that waits or was set aside; ``None`` for a damaged one.

    Yields nothing if there is no file. Raises ``ConfigError`` E203 when it has another format,
    ``DeliveryError`` E507 when it cannot be read.
    """
    with _opened(path) as db:
        if db is None:
            return
        layouts = read_layouts(db.execute)
        for table in ("batches", "aside", "damaged"):
            for row in db.execute(f"SELECT {BATCH} FROM {table} ORDER BY sequence"):  # noqa: S608
                yield None if table == "damaged" else batch_of(row, layouts)


def aside_batches(path: Path) -> list[RefusedBatch]:
    """Return the intact batches that were set aside. Another process may be writing the file.
    Without a file there are none. Raises as ``pending_batches``."""
    found = list[RefusedBatch]()
    with _opened(path) as db:
        if db is None:
            return found
        layouts = read_layouts(db.execute)
        query = f"SELECT sink, {BATCH} FROM aside ORDER BY sequence, sink"  # noqa: S608 - constants
        for sink, *row in db.execute(query):
            if (batch := batch_of(tuple(row), layouts)) is not None:
                found.append(RefusedBatch(sink, row[0], batch))
    return found


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection | None]:
    """Open a file to read it; yield ``None`` if there is none."""
    if not path.is_file():
        yield None
        return
    failure = DeliveryError("E507", "the spool cannot be read; is it damaged, or no spool's file?")
    if (db := connect_to_read(path)) is None:
        raise failure
    with failing_as(failure, sqlite3.Error), closing(decode_leniently(db)):
        require_known_format(db)
        yield db
