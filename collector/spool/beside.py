"""Adding to the ledger of a data directory from a command, whether a sidecar has it open or not."""

from __future__ import annotations

import sqlite3
from contextlib import closing, suppress
from pathlib import Path

from collector.errors import DeliveryError
from collector.ledger import Note
from collector.ledger.journal import append
from collector.spool.file import connect
from collector.spool.lock import InUse
from collector.spool.spool import FILE_NAME, Spool
from collector.spool.tables import FORMAT

__all__ = ["note"]


def note(directory: Path, *notes: Note) -> None:
    """Add entries to the ledger of a data directory; they are on disk when it returns.

    Where nobody has the directory, its spool is opened as a sidecar would, or made. Where a sidecar
    has, they are added to the file that it writes, in a transaction of their own.

    Raises ``ConfigError`` E203 when the directory cannot be used, ``DeliveryError`` E506 when its
    file cannot be written now.
    """
    is_done = False
    try:
        with Spool(directory / FILE_NAME) as spool:
            spool.note(*notes).result()
            is_done = True
    except InUse:
        pass
    if not is_done and not _added(directory / FILE_NAME, notes):
        raise DeliveryError("E506", "the ledger cannot be written at present; try again later")


def _added(path: Path, notes: tuple[Note, ...]) -> bool:
    """Whether they could be added to a file that another process has open."""
    with suppress(sqlite3.Error), closing(connect(path, must_exist=True)) as db:
        db.execute("BEGIN IMMEDIATE")
        if db.execute("PRAGMA user_version").fetchone()[0] == FORMAT:
            for each in notes:
                append(db, each)
            db.execute("COMMIT")
            return True
    return False
