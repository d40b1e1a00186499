"""Entering notes into the ledger of a spool's file, signed if they can be."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from pathlib import Path

from collector.ledger import Note
from collector.ledger.journal import append, current_key
from collector.ledger.signing import the_key

__all__ = ["enter"]


def enter(db: sqlite3.Connection, path: Path, notes: Iterable[Note]) -> None:
    """Add an entry for each note, within the transaction at hand. The key lies beside the file."""
    key = the_key(path.parent, current_key(db))
    for note in notes:
        append(db, note, key)
