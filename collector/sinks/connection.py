"""A connection to the embedded store's file, on which a commit is durable and nothing is kept of
what is deleted."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from collector.errors import ConfigError, DeliveryError

__all__ = [
    "ALIEN",
    "BUSY_SECONDS",
    "FORMAT",
    "configure",
    "connect",
    "guarded",
    "make_private",
    "need_ours",
    "transaction",
]

FORMAT = 2
"""``user_version`` of the file: the form of everything but the schemas' own tables."""
BUSY_SECONDS = 5.0
ALIEN = "the store cannot be read: it is damaged, or no store of ours"
_ABOUT = (
    "SELECT user_version, count(name), ifnull(sum(name = '_delivered'), 0)"
    " FROM pragma_user_version LEFT JOIN sqlite_master"
)
"""The form of the file, how much is in it, and whether it is a store of ours."""
_PAGE_BYTES = 8192
_PASSING = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
    }
)
"""Errors that say nothing about what the file holds."""
_NOT_NOW = "the store did not take the batch; is the disk full or the store in use?"
_T = TypeVar("_T")


def connect(path: Path) -> sqlite3.Connection:
    """A connection that is not configured yet: nothing is read or written. Raises ``DeliveryError``
    E503 if the system opens no file now."""
    return guarded(
        lambda: sqlite3.connect(
            path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
        ),
        "E501",
        "the store cannot be opened",
    )


def configure(db: sqlite3.Connection) -> None:
    """Make it durable and forgetful. Raises ``DeliveryError`` E502 if the file is newer than we
    are, and ``sqlite3.Error``."""
    execute = db.execute
    execute(f"PRAGMA page_size = {_PAGE_BYTES}")
    execute("PRAGMA journal_mode = WAL")
    execute("PRAGMA synchronous = FULL")
    execute("PRAGMA fullfsync = ON")
    execute("PRAGMA secure_delete = ON")
    execute("PRAGMA temp_store = MEMORY")
    execute("PRAGMA trusted_schema = OFF")
    _need_older(execute("PRAGMA user_version").fetchone()[0])


def need_ours(db: sqlite3.Connection) -> None:
    """See to it that a file holds a store of ours, or nothing. Raises ``DeliveryError`` E501 when
    it does not, E502 when it is newer than we are."""
    version, number, is_ours = guarded(lambda: db.execute(_ABOUT).fetchone(), "E501", ALIEN)
    if number and not is_ours:
        raise DeliveryError("E501", ALIEN)
    _need_older(version)


def _need_older(version: int) -> None:
    if version > FORMAT:
        raise DeliveryError("E502", "the store was written by a newer version of Collector")


def make_private(path: Path) -> None:
    """Make the directory (0700) and the file (0600), if they are not there. Raises ``ConfigError``
    E203."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError:
        pass
    else:
        return
    raise ConfigError("E203", "the store's file cannot be made or written; check its directory")


def transaction(db: sqlite3.Connection, action: Callable[[], _T]) -> _T:
    """The outcome of an action, all of which is kept, or nothing."""
    db.execute("BEGIN IMMEDIATE")
    try:
        outcome = action()
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
    return outcome


def guarded(action: Callable[[], _T], code: str = "E503", message: str = _NOT_NOW) -> _T:
    """The outcome of an action; a database error becomes ours, and is not kept in its context. It
    is E503 if it passes by itself."""
    try:
        return action()
    except (sqlite3.Error, OSError) as error:
        number = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_IOERR)
        is_passing = number & 0xFF in _PASSING
    if is_passing:
        raise DeliveryError("E503", _NOT_NOW)
    raise DeliveryError(code, message)
