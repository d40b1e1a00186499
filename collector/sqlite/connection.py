"""Connections to SQLite files: how they are opened, written, locked, and read.

Threads may share a connection, but only one may use it at a time. Python begins no transaction by
itself; ``transaction`` does. A commit is on disk when it returns. SQLite overwrites deleted data,
sorts in memory only, and lets definitions in a file call only functions without side effects. A
file has a write-ahead log, unless it is written so seldom that a journal is enough.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from collector.errors import ConfigError
from collector.files import check_file

BUSY_SECONDS = 5.0
"""How long a connection waits for another one that writes."""
_LONGEST_PATH = 500
"""SQLite takes paths of at most 512 bytes, including the suffixes of its logs."""
_SETTINGS = (
    "page_size = 8192",
    "fullfsync = ON",
    "secure_delete = ON",
    "temp_store = MEMORY",
    "trusted_schema = OFF",
)
_WITH_LOG = ("journal_mode = WAL", "synchronous = FULL")
_WITHOUT_LOG = ("synchronous = EXTRA",)
"""With these settings, a loss of power never brings a journal back."""
_READING = ("temp_store = MEMORY", "trusted_schema = OFF")


# -- opening --------------------------------------------------------------------------------------


def connect(
    path: Path,
    *settings: str,
    seconds: float | None = None,
    must_exist: bool = False,
    has_log: bool = True,
) -> sqlite3.Connection:
    """Open a connection whose commits are durable, with more ``settings`` (pragmas). It waits
    ``seconds`` for connections that write, by default ``BUSY_SECONDS``. Raises
    ``sqlite3.Error``."""
    db = connect_unset(path, seconds=seconds, must_exist=must_exist)
    try:
        make_durable(db, *settings, has_log=has_log)
    except BaseException:
        db.close()
        raise
    return db


def connect_unset(
    path: Path, *, seconds: float | None = None, must_exist: bool = False
) -> sqlite3.Connection:
    """Open a connection without settings, and read and write nothing; call ``make_durable`` to set
    it up. Raises ``sqlite3.Error``."""
    return _opened(path, "rw" if must_exist else "rwc", seconds)


def make_durable(db: sqlite3.Connection, *settings: str, has_log: bool = True) -> None:
    """Make the commits of a connection durable, make SQLite overwrite deleted data, and set more
    pragmas. Raises ``sqlite3.Error``."""
    for setting in (*_SETTINGS, *(_WITH_LOG if has_log else _WITHOUT_LOG), *settings):
        db.execute(f"PRAGMA {setting}")


def connect_to_read(path: Path, seconds: float | None = None) -> sqlite3.Connection | None:
    """Open a read-only connection in a transaction, which disturbs no process that writes.

    Returns ``None`` if the file cannot be opened and read, if it is not a database, or if another
    process keeps an exclusive lock for ``seconds``. The connection keeps temporary tables and
    sorting in memory.
    """
    with suppress(sqlite3.Error):
        try:
            return _reading(path, "ro", seconds)
        except sqlite3.Error as error:
            if code_of(error) != sqlite3.SQLITE_BUSY and not _has_log(path):
                return _reading(path, "ro&immutable=1", seconds)  # the directory may be read-only
    return None


def connect_in_place(path: Path, *, has_index: bool) -> sqlite3.Connection:
    """Open a read-only connection that creates no file. ``has_index`` says whether the log has an
    index. Raises ``sqlite3.Error``."""
    return _opened(path, "ro" if has_index else "ro&immutable=1")


def connect_to_memory() -> sqlite3.Connection:
    """Open an empty database in memory."""
    return sqlite3.connect(":memory:", isolation_level=None)


def _reading(path: Path, mode: str, seconds: float | None) -> sqlite3.Connection:
    db = _opened(path, mode, seconds)
    try:
        for setting in _READING:
            db.execute(f"PRAGMA {setting}")
        db.execute("BEGIN")
        db.execute("SELECT 1 FROM sqlite_master").fetchone()
    except BaseException:
        db.close()
        raise
    return db


def _opened(path: Path, mode: str, seconds: float | None = None) -> sqlite3.Connection:
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        timeout=BUSY_SECONDS if seconds is None else seconds,
        isolation_level=None,
        check_same_thread=False,
    )


def _has_log(path: Path) -> bool:
    """Return whether a file has a log. An immutable connection would ignore the log, which may
    hold all rows."""
    with suppress(OSError):
        return any(
            log.exists() and log.stat().st_size > 0
            for log in (path.with_name(f"{path.name}{end}") for end in ("-wal", "-journal"))
        )
    return True


def decode_leniently(db: sqlite3.Connection) -> sqlite3.Connection:
    """Let a connection read texts that are not UTF-8. Other checks find the damage."""
    db.text_factory = lambda value: value.decode(errors="replace")
    return db


def check_database(path: Path, *ends: str, within: Path | None = None) -> None:
    """Check that a database's file and its logs can be created, or read and written; the same for
    files whose names have one of the further ``ends``. Raises as ``check_file``, and
    ``ConfigError`` E203 for a path that is too long."""
    check_file(path, "-wal", "-shm", "-journal", *ends, within=within)
    if len(os.fsencode(path.absolute())) > _LONGEST_PATH:
        raise ConfigError("E203", "the path of the database is too long; choose a shorter one")


# -- using ----------------------------------------------------------------------------------------


@contextmanager
def transaction(
    db: sqlite3.Connection, on_failed_commit: Callable[[], None] = lambda: None
) -> Iterator[None]:
    """Run a block as a transaction that writes; roll it back if the block raises."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        try:
            db.execute("COMMIT")
        except sqlite3.Error:
            on_failed_commit()
            raise
    finally:
        if db.in_transaction:
            with suppress(sqlite3.Error):
                db.execute("ROLLBACK")


@contextmanager
def not_waiting(db: sqlite3.Connection) -> Iterator[None]:
    """Keep a connection from waiting for other connections during a block."""
    before = number_of(db, "busy_timeout")
    db.execute("PRAGMA busy_timeout = 0")
    try:
        yield
    finally:
        db.execute(f"PRAGMA busy_timeout = {before}")


def checkpoint(db: sqlite3.Connection) -> bool:
    """Write the log into the file and truncate it. Return ``False`` at once if another connection
    prevents that. Raises ``sqlite3.Error``."""
    with not_waiting(db):
        busy, *_ = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    return not busy


def copy_log(db: sqlite3.Connection) -> int:
    """Write the current contents of the log into the file, while others may write; return how many
    pages the log has. Raises ``sqlite3.Error``."""
    return int(db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()[1])


def number_of(db: sqlite3.Connection, pragma: str) -> int:
    """Return the number that a pragma gives. Raises ``sqlite3.Error``."""
    return int(db.execute(f"PRAGMA {pragma}").fetchone()[0])


def quoted(name: str) -> str:
    """Quote a name for SQL."""
    return '"' + name.replace('"', '""') + '"'


# -- errors ---------------------------------------------------------------------------------------

_TRANSIENT = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_READONLY,
    }
)


def code_of(error: BaseException) -> int:
    """Return SQLite's primary code of an error; 0 if it has none."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def is_corrupt(error: BaseException) -> bool:
    """Return whether an error shows that a file is damaged."""
    is_short = getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_IOERR_SHORT_READ
    return is_short or code_of(error) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def is_transient(error: BaseException) -> bool:
    """Return whether an error is not about the contents of a file: the system, the disk or another
    process does not permit something now."""
    if isinstance(error, OSError):
        return True
    return code_of(error) in _TRANSIENT and not is_corrupt(error)
