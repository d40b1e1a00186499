"""Compact a SQLite database, so that no deleted data are left in its files.

``secure_delete`` overwrites what is deleted where it lies. It leaves the copies that were made when
pages were divided and joined, and those in the write-ahead log. So the database is copied into a
file beside it, which holds what is there now and nothing else; the copy is written over the
database, and the log is cut to nothing. Memory does not depend on the size of the database. Rows
stay in their order; a version of SQLite may number those without a key of their own anew.

Of a database that mostly keeps what it has, such as a spool with its ledger, only the tables from
which something goes are copied out and back, in the transaction that deletes.
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
"""Bytes of the log for a page besides the page."""
_MARGIN = 1 << 20
"""Bytes for other processes meanwhile."""
_COPY = ".compact-"
"""The text between a database's name and the random end of its copy's name."""
_PAGES = 1000
"""Pages that are written back between two looks at the clock."""
_WAITING = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def compact(db: sqlite3.Connection, path: Path, seconds: float = 0.0) -> bool:
    """Let no deleted byte stay in the database at ``path`` and its log: write it anew, and empty
    the log. Return ``False`` if a process that reads an earlier state prevents the latter for so
    many seconds; then ``empty_log`` is left to do. Takes about a second for 100 MB, in a part of
    which no other connection can write.

    Raises ``MemoryError``, ``OSError`` when the disk has no room for copy and log (to fill it would
    be in the way of every process that writes there), and ``sqlite3.Error``, also when other
    connections write all the time. Then the database is as it was.
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
            empty_log(db, path)  # it may have grown
        raise
    return empty_log(db, path, seconds)


@contextmanager
def compacting(db: sqlite3.Connection, path: Path) -> Iterator[Callable[..., None]]:
    """Yield a function that writes tables with a number as their key anew, for the transaction that
    deletes some of their rows within the block; ``empty_log`` is left to do after it. Raises
    ``OSError``, also when the disk has no room for the rows and the log, and ``sqlite3.Error``."""
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
        # one statement for all rows would keep in memory what it needs to undo itself
        db.executemany(row, ((at,) for at in range(1, number + 1)))


def remove_copies(path: Path) -> None:
    """Remove the copies of a database that compactions left behind which were killed. One that a
    process is at work on is locked, and stays. Raises ``OSError``."""
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
    """Make an empty file beside a database, for its owner only, and remove it at the end."""
    copy = path.with_name(f"{path.name}{_COPY}{secrets.token_hex(8)}").absolute()
    handle = os.open(copy, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        flock(handle, LOCK_EX)
        yield copy
    finally:
        copy.unlink(missing_ok=True)
        os.close(handle)


def _write_back(copy: Path, db: sqlite3.Connection, watch: sqlite3.Connection, of: int) -> None:
    """Write a copy over its database in one transaction, unless another connection has written
    since it was made: then what that wrote would be lost."""
    deadline, is_checked = monotonic() + number_of(db, "busy_timeout") / 1000, False

    def progress(status: int, _left: int, _all: int) -> None:
        nonlocal is_checked
        if status in _WAITING:
            if monotonic() >= deadline:
                raise sqlite3.OperationalError("the database is in use")
        elif not is_checked:  # from the first page on no other connection can write
            if number_of(watch, "data_version") != of:
                raise sqlite3.OperationalError("the database was written to meanwhile")
            is_checked = True

    with closing(connect_unset(copy, must_exist=True)) as source:
        pages = number_of(source, "page_count")
        if pages > 1:  # else it has no table; the first step must not be the last
            source.backup(db, pages=min(pages - 1, _PAGES), progress=progress, sleep=_PAUSE)


def empty_log(db: sqlite3.Connection, path: Path, seconds: float = 0.0) -> bool:
    """Write the log into the database at ``path`` and truncate it; return whether that was done.

    A process that reads an earlier state prevents that, and is waited for so long. Others may
    write meanwhile. Raises ``sqlite3.Error``.
    """
    log, deadline = path.with_name(f"{path.name}-wal"), monotonic() + seconds
    while not (checkpoint(db) and not (log.exists() and log.stat().st_size)):
        if monotonic() >= deadline:
            return False
        sleep(_PAUSE)
    return True


def _need_room(path: Path, size: int) -> None:
    """Raise ``OSError`` unless the disk has room for a copy of so many bytes of a database, and for
    a log of as many."""
    need_room(path.parent, 2 * size + _MARGIN)


def _used_bytes(db: sqlite3.Connection) -> int:
    """Return the bytes that a database takes in a log."""
    names = ("page_count", "freelist_count", "page_size")
    pages, free, size = (number_of(db, name) for name in names)
    return (pages - free) * (size + _FRAME_HEAD)


def _bytes_of(db: sqlite3.Connection, table: str) -> int:
    """Return the most bytes that the rows of a table take: one may leave as much of a page unused
    as it has bytes, but no more than a page; of small ones there are many in a page."""
    lengths = (
        f"coalesce(length(CAST({quoted(name)} AS BLOB)), 0) + 9" for name in columns_of(db, table)
    )
    size = number_of(db, "page_size")
    most = f"n * 9 / 8 + min(n, {size}) * (n > {size // 8})"
    query = f"SELECT total({most}) FROM (SELECT {' + '.join(lengths)} AS n FROM {quoted(table)})"  # noqa: S608
    return int(db.execute(query).fetchone()[0])
