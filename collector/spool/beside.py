"""Adding to the ledger of a data directory from a command, whether a sidecar has it open or not.

Where nobody has the directory, its spool is opened as a sidecar would open it, or made. Where a
sidecar has, entries are added to the file that it writes, in a transaction of their own.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TypeVar

from collector.errors import ConfigError, DeliveryError
from collector.ledger import Note
from collector.ledger.journal import append, current_key
from collector.ledger.signing import can_sign, successor, the_key
from collector.spool.entering import enter
from collector.spool.file import connect
from collector.spool.lock import InUse
from collector.spool.spool import FILE_NAME, Spool
from collector.spool.tables import FORMAT

__all__ = ["note", "rotate"]

_T = TypeVar("_T")


def note(directory: Path, *notes: Note) -> None:
    """Add entries to the ledger of a data directory; they are on disk when it returns.

    Raises ``ConfigError`` E203 when the directory cannot be used, ``DeliveryError`` E506 when its
    file cannot be written now.
    """
    path = directory / FILE_NAME
    _write(path, lambda db: enter(db, path, notes))


def rotate(directory: Path) -> str:
    """Make a new key for the ledger, which the old one signs; returns the public half of it, in
    hexadecimal digits.

    Raises as ``note`` does, and ``ConfigError`` E201 when what signing needs is not installed.
    """
    if not can_sign():
        extra = "data-minimisation-collector[signing]"
        raise ConfigError("E201", f"signing needs an extra: pip install '{extra}'")

    def pass_on(db: sqlite3.Connection) -> str:
        old, new = the_key(directory, current_key(db)), successor(directory)
        append(db, Note.of("key", public=new.public), old)
        return new.public

    public = _write(directory / FILE_NAME, pass_on)
    the_key(directory, public)  # puts it in place, unless somebody has passed it on already
    return public


def _write(path: Path, action: Callable[[sqlite3.Connection], _T]) -> _T:
    """What an action gives that writes, whoever else has the file open."""
    done: list[_T] = []
    with (
        _whole(path),
        suppress(sqlite3.Error, OSError),
        closing(connect(path, must_exist=True)) as db,
    ):
        db.execute("BEGIN IMMEDIATE")
        if db.execute("PRAGMA user_version").fetchone()[0] == FORMAT:
            outcome = action(db)
            db.execute("COMMIT")
            done.append(outcome)
    if not done:
        raise DeliveryError("E506", "the ledger cannot be written at present; try again later")
    return done[0]


@contextmanager
def _whole(path: Path) -> Iterator[None]:
    """As long as it lasts, the file is one that a spool has opened: ours, or a sidecar's."""
    try:
        spool = Spool(path)
    except InUse:
        spool = None
    with spool or nullcontext():
        yield
