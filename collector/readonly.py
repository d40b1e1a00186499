"""A SQLite database that is only looked at, as it is at one moment; whoever writes to it is not
disturbed."""

from __future__ import annotations

import sqlite3
from contextlib import ExitStack, suppress
from pathlib import Path

__all__ = ["connect"]

_BUSY_SECONDS = 5.0


def connect(path: Path) -> sqlite3.Connection | None:
    """A connection with a transaction at hand; ``None`` if the file cannot be opened and read, or
    is no database. Tables of its own, and what sorting needs, are in memory only."""
    place = f"{path.absolute().as_uri()}?mode=ro"
    for way in ("", "&immutable=1"):  # the latter where nobody may write, so nobody does
        with ExitStack() as stack, suppress(sqlite3.Error):
            uri = f"{place}{way}"
            db = sqlite3.connect(uri, uri=True, timeout=_BUSY_SECONDS, isolation_level=None)
            stack.callback(db.close)
            db.execute("PRAGMA temp_store = MEMORY")
            db.execute("PRAGMA trusted_schema = OFF")
            db.execute("BEGIN")
            db.execute("SELECT 1 FROM sqlite_master").fetchone()
            stack.pop_all()
            return db
    return None
