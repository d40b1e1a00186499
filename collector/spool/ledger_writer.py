"""Add entries to the ledger of a data directory from a command.

If no process has locked the directory, the command opens or creates its spool as a sidecar does. If
a sidecar has locked it, the command adds entries to the sidecar's file in a separate transaction.
It does the same for a recorder's database, whether a recorder runs or not.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TypeVar

from collector.errors import DeliveryError, InUse
from collector.extras import missing
from collector.files import failing_as
from collector.ledger import Note
from collector.ledger.journal import append, append_all, current_key
from collector.ledger.signing import can_sign, create_next_key, load_key
from collector.ledger.stored import FORMAT, RECORDER_FILE, file_of
from collector.spool.spool import FILE_NAME, Spool
from collector.spool.tables import open_connection
from collector.sqlite.connection import number_of, transaction

_T = TypeVar("_T")


def note(directory: Path, *notes: Note) -> None:
    """Add entries to the ledger of a data directory; they are on disk on return.

    Raises ``ConfigError`` E203 when the directory cannot be used, ``DeliveryError`` E506 when its
    file cannot be written at present.
    """
    path = file_of(directory / FILE_NAME)
    _write(path, lambda db: append_all(db, path, notes))


def rotate(directory: Path) -> str:
    """Create a new key for the ledger, which the old one signs; return its public half in
    hexadecimal digits.

    Raises as ``note`` does, and ``ConfigError`` E201 when the extra for signing is not installed.
    """
    if not can_sign():
        raise missing("signing", "signing")

    def replace_key(db: sqlite3.Connection) -> str:
        old, new = load_key(directory, current_key(db)), create_next_key(directory)
        append(db, Note.of("key", public=new.public), old)
        return new.public

    public = _write(file_of(directory / FILE_NAME), replace_key)
    load_key(directory, public)  # renames it, unless another process has done so
    return public


def _write(path: Path, action: Callable[[sqlite3.Connection], _T]) -> _T:
    """Run an action in a transaction, whether another process has the file open or not."""
    failure = DeliveryError("E506", "the ledger cannot be written at present; try again later")
    with (
        _opened(path),
        failing_as(failure, sqlite3.Error, OSError),
        closing(open_connection(path, must_exist=True)) as db,
        transaction(db),
    ):
        if number_of(db, "user_version") != FORMAT:
            raise failure
        return action(db)


@contextmanager
def _opened(path: Path) -> Iterator[None]:
    """Keep a spool's file open, by a spool of this process or of a running sidecar."""
    spool = None
    if path.name != RECORDER_FILE:
        with suppress(InUse):
            spool = Spool(path)
    with spool or nullcontext():
        yield
