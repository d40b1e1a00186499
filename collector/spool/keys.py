"""Keys of requests: what was kept under one is not kept again when it is sent again.

A key is the sender's, random, and the same at each try. What is noted of it is a hash, in the very
commit of what came with it, so that either both are on disk or neither is.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable, Sequence

__all__ = ["MOST", "NEW_KEY", "TABLE", "hashed", "keep", "news"]

MOST = 1_000_000
"""So many of the newest are known: those of a day at eleven requests a second, in some 60 MB."""

TABLE = "CREATE TABLE keys (number INTEGER PRIMARY KEY, hash BLOB NOT NULL UNIQUE) STRICT"
NEW_KEY = "INSERT INTO keys (hash) VALUES (?)"
_KNOWN = "SELECT 1 FROM keys WHERE hash = ?"
_TRIM = "DELETE FROM keys WHERE number <= (SELECT max(number) FROM keys) - ?"
_HASH_BYTES = 16


def hashed(key: bytes) -> bytes:
    """What is noted of a key: nobody can tell it from that."""
    return hashlib.sha256(key).digest()[:_HASH_BYTES]


def news(db: sqlite3.Connection, hashes: Iterable[bytes | None]) -> list[bool]:
    """For each of what waits together, by its hash, whether it is new: without one it is, and of
    those with the same one the first is, if that is not known."""
    met: set[bytes] = set()
    found = []
    for each in hashes:
        is_new = each is None or (each not in met and not db.execute(_KNOWN, (each,)).fetchone())
        found.append(is_new)
        if each is not None:
            met.add(each)
    return found


def keep(db: sqlite3.Connection, hashes: Sequence[bytes]) -> None:
    """Note hashes that are new, and forget the oldest of too many."""
    if hashes:
        db.executemany(NEW_KEY, [(each,) for each in hashes])
        db.execute(_TRIM, (MOST,))
