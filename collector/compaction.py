"""Making a SQLite database anew, so that nothing of what was deleted is left in its files.

``secure_delete`` overwrites what is deleted where it lies. It leaves the copies that were made when
pages were divided and joined, and those in the write-ahead log; so the file is written anew, and
the log cut to nothing. Rows without a key of their own get new numbers by that, in the same order.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from time import monotonic, sleep

__all__ = ["compact", "empty_log"]

_PAUSE = 0.05


def compact(db: sqlite3.Connection) -> None:
    """Write the database anew, in memory (as much as it is large), then into its log. Takes about
    half a second for 100 MB, in which nobody else can write. Raises ``sqlite3.Error``."""
    db.execute("PRAGMA temp_store = MEMORY")
    db.execute("VACUUM")


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


def _is_cut(db: sqlite3.Connection, log: Path) -> bool:
    busy: int = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
    return not busy and not (log.exists() and log.stat().st_size)
