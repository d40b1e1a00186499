"""Making a SQLite database anew, so that nothing of what was deleted is left in its files.

``secure_delete`` overwrites what is deleted where it lies. It leaves the copies that were made when
pages were divided and joined, and those in the write-ahead log; so the file is written anew, and
the log cut to nothing. Rows without a key of their own get new numbers by that, in the same order.
"""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from pathlib import Path
from time import monotonic, sleep

from collector.directory import need_room

__all__ = ["compact", "empty_log"]

_PAUSE = 0.05
_FRAME_HEAD = 24
"""Bytes of the log for a page besides the page."""
_MARGIN = 1 << 20
"""What others need meanwhile."""


def compact(db: sqlite3.Connection, path: Path) -> None:
    """Write the database at ``path`` anew, in memory (as much as it is large), then into its log.
    Takes about half a second for 100 MB, in which nobody else can write.

    Raises ``sqlite3.Error``, and ``OSError`` when the disk has no room for the log: to fill it
    would be in the way of everybody who writes there.
    """
    db.execute("PRAGMA temp_store = MEMORY")
    need_room(path.parent, _log_bytes(db) + _MARGIN)
    try:
        db.execute("VACUUM")
    except sqlite3.Error:
        with suppress(sqlite3.Error):
            empty_log(db, path)  # it may have grown
        raise


def empty_log(db: sqlite3.Connection, path: Path, seconds: float = 0.0) -> bool:
    """Write the log into the database at ``path`` and cut it to nothing; whether that was done.

    Whoever is reading an earlier state is in the way, and is waited for so long. Others may write
    meanwhile. Raises ``sqlite3.Error``.
    """
    log, deadline = path.with_name(f"{path.name}-wal"), monotonic() + seconds
    timeout = db.execute("PRAGMA busy_timeout").fetchone()[0]
    db.execute("PRAGMA busy_timeout = 0")
    try:
        while not _is_cut(db, log):
            if monotonic() >= deadline:
                return False
            sleep(_PAUSE)
    finally:
        db.execute(f"PRAGMA busy_timeout = {int(timeout)}")
    return True


def _log_bytes(db: sqlite3.Connection) -> int:
    """How large the log becomes at most."""
    names = ("page_count", "freelist_count", "page_size")
    pages, free, size = (int(db.execute(f"PRAGMA {name}").fetchone()[0]) for name in names)
    return (pages - free) * (size + _FRAME_HEAD)


def _is_cut(db: sqlite3.Connection, log: Path) -> bool:
    busy: int = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
    return not busy and not (log.exists() and log.stat().st_size)
