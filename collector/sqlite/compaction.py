"""Compact a SQLite database, so that no deleted data are left in its files.

``secure_delete`` overwrites deleted data in place. It leaves the copies that SQLite made when it
divided and joined pages, and the copies in the write-ahead log. So we copy the database into a file
beside it, which holds only the current data. We then write the copy over the database and truncate
the log to zero. Memory does not depend on the size of the database. Rows keep their order, but a
version of SQLite may renumber rows that have no key of their own.

A database that keeps most of its data, such as a spool with its ledger, is not copied whole: the
transaction that deletes rows copies only their tables out and back.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from fcntl import LOCK_EX, LOCK_NB, flock
from glob import escape
from pathlib import Path
from time import monotonic, sleep

from collector.files import need_room
from collector.sqlite.connection import checkpoint, connect_unset, number_of, quoted
from collector.sqlite.definition import columns_of

_PAUSE = 0.05
_FRAME_HEAD = 24
"""The bytes that the log adds to each page."""
_MARGIN = 1 << 20
"""The bytes that other processes may need meanwhile."""
_COPY = ".compact-"
"""The text between a database's name and the random end of its copy's name."""
_PAGES = 1000
"""The pages that are written back before the deadline is checked again."""
_WAITING = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def compact(db: sqlite3.Connection, path: Path, seconds: float = 0.0) -> bool:
    """Rewrite the database at ``path`` and empty its log, so that neither keeps a deleted byte.
    Return ``False`` if a process that reads an earlier state keeps the log from being emptied for
    ``seconds``; then call ``empty_log`` later. Takes about a second for 100 MB; during part of
    that, no other connection can write.

    Raises ``MemoryError``, ``OSError`` if the disk has no room for copy and log (filling the disk
    would disturb every process that writes there), and ``sqlite3.Error``, also if other connections
    write all the time. After an error the database is unchanged.
    """
    remove_copies(path)
    _need_room(path, _used_bytes(db))
    try:
        with _private_copy(path) as copy, closing(connect_unset(path)) as watch:
            version = number_of(watch, "data_version")
            db.execute("VACUUM INTO ?", (str(copy),))
            _write_back(copy, db, watch, version)
    except (sqlite3.Error, MemoryError):
        with suppress(sqlite3.Error):
            empty_log(db, path)  # the log may have grown
        raise
    return empty_log(db, path, seconds)


@contextmanager
def compacting(db: sqlite3.Connection, path: Path) -> Iterator[Callable[..., None]]:
    """Yield a function that rewrites tables whose key is a number. Call it within the block, in the
    transaction that deletes some of their rows; call ``empty_log`` after the block. Raises
    ``OSError``, also if the disk has no room for the rows and the log, and ``sqlite3.Error``."""
    remove_copies(path)
    with _private_copy(path) as copy:
        db.execute("ATTACH ? AS copy", (str(copy),))
        try:
            for setting in ("journal_mode = MEMORY", "synchronous = OFF"):
                db.execute(f"PRAGMA copy.{setting}")
            yield lambda *tables: _write_anew(db, path, tables)
        finally:
            db.execute("DETACH copy")


def _write_anew(db: sqlite3.Connection, path: Path, tables: Sequence[str]) -> None:
    _need_room(path, sum(_bytes_of(db, table) for table in tables))
    for table in map(quoted, tables):
        db.execute(f"CREATE TABLE copy.{table} AS SELECT * FROM main.{table}")  # noqa: S608
        db.execute(f"DELETE FROM main.{table}")  # noqa: S608 - quoted names
        (number,) = db.execute(f"SELECT count(*) FROM copy.{table}").fetchone()  # noqa: S608
        row = f"INSERT INTO main.{table} SELECT * FROM copy.{table} WHERE rowid = ?"  # noqa: S608
        # a single statement for all rows would keep its undo data in memory
        db.executemany(row, ((at,) for at in range(1, number + 1)))


def remove_copies(path: Path) -> None:
    """Remove the copies of a database that killed compactions left behind. A copy that a process
    still uses is locked, and stays. Raises ``OSError``."""
    for copy in path.parent.glob(f"{escape(path.name)}{_COPY}*"):
        with suppress(FileNotFoundError, BlockingIOError):
            handle = os.open(copy, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                flock(handle, LOCK_EX | LOCK_NB)
                copy.unlink()
            finally:
                os.close(handle)


@contextmanager
def _private_copy(path: Path) -> Iterator[Path]:
    """Make an empty file beside a database, readable by its owner only; remove it at the end."""
    copy = path.with_name(f"{path.name}{_COPY}{secrets.token_hex(8)}").absolute()
    handle = os.open(copy, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        flock(handle, LOCK_EX)
        yield copy
    finally:
        copy.unlink(missing_ok=True)
        os.close(handle)


def _write_back(copy: Path, db: sqlite3.Connection, watch: sqlite3.Connection, of: int) -> None:
    """Write a copy over its database in one transaction. Raise ``sqlite3.OperationalError`` if
    another connection has written since the copy was made: its data would be lost."""
    deadline, is_checked = monotonic() + number_of(db, "busy_timeout") / 1000, False

    def progress(status: int, _left: int, _all: int) -> None:
        nonlocal is_checked
        if status in _WAITING:
            if monotonic() >= deadline:
                raise sqlite3.OperationalError("the database is in use")
        elif not is_checked:  # after the first page no other connection can write
            if number_of(watch, "data_version") != of:
                raise sqlite3.OperationalError("the database was written to meanwhile")
            is_checked = True

    with closing(connect_unset(copy, must_exist=True)) as source:
        pages = number_of(source, "page_count")
        if pages > 1:  # a single page has no table; the first step must not be the last
            source.backup(db, pages=min(pages - 1, _PAGES), progress=progress, sleep=_PAUSE)


def empty_log(db: sqlite3.Connection, path: Path, seconds: float = 0.0) -> bool:
    """Write the log into the database at ``path`` and truncate it; return whether that succeeded.

    Wait up to ``seconds`` for processes that read an earlier state, because they prevent it. Other
    processes may write meanwhile. Raises ``sqlite3.Error``.
    """
    log, deadline = path.with_name(f"{path.name}-wal"), monotonic() + seconds
    while not (checkpoint(db) and not (log.exists() and log.stat().st_size)):
        if monotonic() >= deadline:
            return False
        sleep(_PAUSE)
    return True


def _need_room(path: Path, size: int) -> None:
    """Raise ``OSError`` unless the disk has room for a copy of ``size`` bytes and a log of the same
    size."""
    need_room(path.parent, 2 * size + _MARGIN)


def _used_bytes(db: sqlite3.Connection) -> int:
    """Return the bytes that all used pages of a database take in a log."""
    names = ("page_count", "freelist_count", "page_size")
    pages, free, size = (number_of(db, name) for name in names)
    return (pages - free) * (size + _FRAME_HEAD)


def _bytes_of(db: sqlite3.Connection, table: str) -> int:
    """Return the most bytes that the rows of a table can take. A large row may leave as many bytes
    of a page unused as it has itself, but at most a page. Small rows share pages."""
    lengths = (
        f"coalesce(length(CAST({quoted(name)} AS BLOB)), 0) + 9" for name in columns_of(db, table)
    )
    size = number_of(db, "page_size")
    most = f"n * 9 / 8 + min(n, {size}) * (n > {size // 8})"
    query = f"SELECT total({most}) FROM (SELECT {' + '.join(lengths)} AS n FROM {quoted(table)})"  # noqa: S608
    return int(db.execute(query).fetchone()[0])
