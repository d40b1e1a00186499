"""Idempotency keys of requests: a request that is repeated under the same key is stored once.

A key is random, chosen by the sender, and the same at each attempt. But a sender may have made it
of something that can be guessed, as a telephone number. So what is stored is an HMAC of its hash
under a secret of the day (UTC), in the same commit as the request's records; a month later the
secret is destroyed with the day's hashes. A key is looked up under the secrets of all days.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import sqlite3
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta

__all__ = [
    "DAYS",
    "MOST",
    "NEW_DAY",
    "NEW_KEY",
    "TABLES",
    "add_keys",
    "forget_batch",
    "forget_keys",
    "hashed",
    "key_within",
    "migrate_keys",
    "unseen",
]

MOST = 1_000_000
"""The number of newest keys that are stored: a day's at eleven requests a second, in 80 MB."""
DAYS = 31
"""How long a key is stored, and the secret of its day."""

TABLES = (
    "CREATE TABLE key_days (day TEXT PRIMARY KEY, secret BLOB NOT NULL) STRICT, WITHOUT ROWID",
    """CREATE TABLE request_keys (
        number INTEGER PRIMARY KEY, hash BLOB NOT NULL UNIQUE, day TEXT NOT NULL
    ) STRICT""",
)
NEW_DAY = "INSERT INTO key_days VALUES (?, ?)"
NEW_KEY = "INSERT INTO request_keys (hash, day) VALUES (?, ?)"
_TRIM = "DELETE FROM request_keys WHERE number <= (SELECT max(number) FROM request_keys) - ?"
_HASH_BYTES = 16
_SECRET_BYTES = 32


def hashed(key: bytes) -> bytes:
    """Return the hash of a key, of which an HMAC is stored."""
    return hashlib.sha256(key).digest()[:_HASH_BYTES]


def key_within(schema: str, key: bytes) -> bytes:
    """Return the key that stands for a sender's key under a schema that is not the default one: the
    same key for records of two schemas names two requests."""
    return hashlib.sha256(schema.encode() + b"/" + key).digest()[:_HASH_BYTES]


def unseen(db: sqlite3.Connection, hashes: Iterable[bytes | None]) -> list[bool]:
    """Return for each request of a commit, by the hash of its key, whether it is new. One without a
    key is; of several with the same key the first is, if the key is not stored."""
    living = [secret for (secret,) in db.execute("SELECT secret FROM key_days")]
    known = f"SELECT 1 FROM request_keys WHERE hash IN ({', '.join('?' * len(living))}) LIMIT 1"  # noqa: S608
    seen: set[bytes] = set()
    found = []
    for each in hashes:
        is_new = each is None or (
            each not in seen
            and not db.execute(known, [_sealed(secret, each) for secret in living]).fetchone()
        )
        found.append(is_new)
        if each is not None:
            seen.add(each)
    return found


def add_keys(db: sqlite3.Connection, hashes: Sequence[bytes]) -> None:
    """Store hashes that are new, within a transaction, and delete the oldest beyond the limit."""
    if hashes:
        day, secret = _day(db)
        db.executemany(NEW_KEY, [(_sealed(secret, each), day) for each in hashes])
        db.execute(_TRIM, (MOST,))


def forget_batch(db: sqlite3.Connection, sequence: int) -> None:
    """Delete, within a transaction, the key of a batch that cannot be read, if that was its own id:
    so it is where a broker still has the batch, and it must be new when it comes again."""
    secrets_ = db.execute("SELECT secret FROM key_days").fetchall()
    for (id_,) in db.execute("SELECT id FROM batches WHERE sequence = ?", (sequence,)).fetchall():
        known = [(_sealed(secret, hashed(id_)),) for (secret,) in secrets_]
        db.executemany("DELETE FROM request_keys WHERE hash = ?", known)


def forget_keys(db: sqlite3.Connection) -> None:
    """Destroy, within a transaction, the secrets of days that are over for long, and their keys."""
    oldest = str(_today() - timedelta(days=DAYS))
    if db.execute("DELETE FROM key_days WHERE day < ?", (oldest,)).rowcount:
        db.execute("DELETE FROM request_keys WHERE day < ?", (oldest,))


def migrate_keys(db: sqlite3.Connection) -> None:
    """Replace the table of earlier formats, within a transaction. It had the hashes themselves."""
    day, secret = _day(db)
    rows = db.execute("SELECT hash FROM keys ORDER BY number")
    db.executemany(NEW_KEY, ((_sealed(secret, each), day) for (each,) in rows))
    db.execute("DROP TABLE keys")


def _day(db: sqlite3.Connection) -> tuple[str, bytes]:
    """Return the present day and its secret, which is made if there is none."""
    day = str(_today())
    found = db.execute("SELECT secret FROM key_days WHERE day = ?", (day,)).fetchone()
    if found is None:
        forget_keys(db)
        found = (secrets.token_bytes(_SECRET_BYTES),)
        db.execute(NEW_DAY, (day, *found))
    return day, found[0]


def _today() -> date:
    return datetime.now(UTC).date()


def _sealed(secret: bytes, hash_: bytes) -> bytes:
    return hmac.digest(secret, hash_, "sha256")[:_HASH_BYTES]
