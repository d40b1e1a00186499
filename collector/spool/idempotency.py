"""Idempotency keys of requests: a request repeated with the same key is stored once.

The sender chooses a random key, and repeats it at each attempt. But a sender may derive the key
from something guessable, such as a telephone number. So the spool stores an HMAC of the key's hash
under a secret of the day (UTC), in the commit of the request's records, and destroys the secret
with the day's rows a month later. A key is looked up under the secrets of all days.

With the key, the spool stores the counts of the response, so that a repeated request gets the same
response. For a body of minimised records it also stores an HMAC under the same secret, to tell it
from another body. Nothing is derived from any other body. The counts say how much one person sent,
which is stored nowhere else. So they are encrypted, with bytes derived from the secret and from the
key's hash, which the spool does not store.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import sqlite3
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta

from collector.contracts import REJECTIONS, Earlier, RequestKey, Tally

MOST = 1_000_000
"""At most this many of the newest keys are stored: a day at eleven requests a second, in 140 MB."""
DAYS = 31
"""Days after its own day for which a key and the secret of that day are stored."""

_HASH_BYTES = 16
_SECRET_BYTES = 32
_COUNT_BYTES = 6
_MOST_COUNT = (1 << 8 * _COUNT_BYTES) - 1
_COUNTS_BYTES = _COUNT_BYTES * (1 + len(REJECTIONS))
assert hashlib.sha512().digest_size >= _COUNTS_BYTES  # noqa: S101 - one digest encrypts them all

TABLES = (
    "CREATE TABLE key_days (day TEXT PRIMARY KEY, secret BLOB NOT NULL) STRICT, WITHOUT ROWID",
    f"""CREATE TABLE request_keys (
        number INTEGER PRIMARY KEY, hash BLOB NOT NULL UNIQUE, day TEXT NOT NULL, body BLOB,
        counts BLOB NOT NULL CHECK (length(counts) = {_COUNTS_BYTES})
    ) STRICT""",
)
NEW_DAY = "INSERT INTO key_days VALUES (?, ?)"
NEW_KEY = "INSERT INTO request_keys (hash, day, body, counts) VALUES (?, ?, ?, ?)"
_TRIM = "DELETE FROM request_keys WHERE number <= (SELECT max(number) FROM request_keys) - ?"

Keyed = tuple[RequestKey | None, Tally]
"""The key of a request, if it has one, and its counts."""


def hashed(key: bytes) -> bytes:
    """Return the hash of a key. The spool stores an HMAC of it."""
    return hashlib.sha256(key).digest()[:_HASH_BYTES]


def request_key(key: bytes, path: str, schema: str, records: bytes | None) -> RequestKey:
    """Return the request key for a sender's key and a decompressed body of ``records``. The same
    key on another path or for another schema names another request. ``records`` is ``None`` for a
    body that was not minimised. Without the key nobody can test guesses about the records."""
    body = None if records is None else hmac.digest(key, records, "sha256")[:_HASH_BYTES]
    return RequestKey(hashed(f"{path}/{schema}/".encode() + key), body)


def earlier(db: sqlite3.Connection, requests: Iterable[Keyed]) -> list[Earlier | None]:
    """Return for each request of a commit what was stored under its key before; ``None`` if it is
    new. A request without a key is new. Of several with the same new key, the first is new."""
    days = db.execute("SELECT secret FROM key_days WHERE day >= ?", (_oldest(),))
    living = [secret for (secret,) in days]
    first: dict[bytes, tuple[bytes | None, Tally]] = {}
    found = list[Earlier | None]()
    for key, tally in requests:
        if key is None:
            found.append(None)
        elif key.key in first:
            body, counts = first[key.key]
            found.append(Earlier(_counts(_packed(counts)), _is_same(key.body, body)))
        else:
            found.append(_stored(db, living, key))
            if found[-1] is None:
                first[key.key] = key.body, tally
    return found


def _stored(db: sqlite3.Connection, living: Sequence[bytes], key: RequestKey) -> Earlier | None:
    """Return what the table has under a key."""
    secret_of = {_sealed(secret, key.key): secret for secret in living}
    marks = ", ".join("?" * len(secret_of))
    query = f"SELECT hash, body, counts FROM request_keys WHERE hash IN ({marks}) LIMIT 1"  # noqa: S608
    row = db.execute(query, [*secret_of]).fetchone()
    if row is None:
        return None
    secret = secret_of[row[0]]
    sent = None if key.body is None else _sealed(secret, key.body)
    return Earlier(_counts(_encrypted(secret, key.key, row[2])), _is_same(sent, row[1]))


def _is_same(body: bytes | None, other: bytes | None) -> bool:
    """Return whether two bodies are the same, or one is unknown."""
    return body is None or other is None or hmac.compare_digest(body, other)


def add_keys(db: sqlite3.Connection, requests: Iterable[Keyed]) -> None:
    """Within a transaction, store the keys of new requests, and delete the oldest keys beyond
    ``MOST``."""
    keyed = [(key, tally) for key, tally in requests if key is not None]
    if keyed:
        day, secret = _day(db)
        rows = []
        for key, tally in keyed:
            body = None if key.body is None else _sealed(secret, key.body)
            counts = _encrypted(secret, key.key, _packed(tally))
            rows.append((_sealed(secret, key.key), day, body, counts))
        db.executemany(NEW_KEY, rows)
        db.execute(_TRIM, (MOST,))


def forget_batch(db: sqlite3.Connection, sequence: int) -> None:
    """Within a transaction, delete the key of an unreadable batch whose key was its own id. A
    broker still has such a batch, and it must count as new when the broker delivers it again."""
    secrets_ = db.execute("SELECT secret FROM key_days").fetchall()
    for (id_,) in db.execute("SELECT id FROM batches WHERE sequence = ?", (sequence,)).fetchall():
        known = [(_sealed(secret, hashed(id_)),) for (secret,) in secrets_]
        db.executemany("DELETE FROM request_keys WHERE hash = ?", known)


def forget_keys(db: sqlite3.Connection) -> None:
    """Within a transaction, destroy the secrets of days that are more than ``DAYS`` ago, and their
    keys. SQLite overwrites deleted rows, but not the copies that it made when it split index pages.
    So the index of hashes is rebuilt, which takes 5 s for a million keys."""
    if db.execute("DELETE FROM key_days WHERE day < ?", (_oldest(),)).rowcount:
        db.execute("DELETE FROM request_keys WHERE day < ?", (_oldest(),))
        db.execute("REINDEX request_keys")


def _day(db: sqlite3.Connection) -> tuple[str, bytes]:
    """Return the present day and its secret; create the secret if there is none."""
    day = str(_today())
    found = db.execute("SELECT secret FROM key_days WHERE day = ?", (day,)).fetchone()
    if found is None:
        found = (secrets.token_bytes(_SECRET_BYTES),)
        db.execute(NEW_DAY, (day, *found))
    return day, found[0]


def _oldest() -> str:
    """Return the first day whose keys are known."""
    return str(_today() - timedelta(days=DAYS))


def _today() -> date:
    return datetime.now(UTC).date()


def _sealed(secret: bytes, hash_: bytes) -> bytes:
    return hmac.digest(secret, hash_, "sha256")[:_HASH_BYTES]


def _packed(tally: Tally) -> bytes:
    """Return the counts of a tally in a fixed number of bytes; ``received`` is their sum."""
    numbers = (tally.admitted, *(tally.rejected[reason] for reason in REJECTIONS))
    return b"".join(min(n, _MOST_COUNT).to_bytes(_COUNT_BYTES, "big") for n in numbers)


def _counts(packed: bytes) -> Tally:
    pieces = [packed[at : at + _COUNT_BYTES] for at in range(0, len(packed), _COUNT_BYTES)]
    admitted, *rejected = (int.from_bytes(piece, "big") for piece in pieces)
    reasons = {reason: n for reason, n in zip(REJECTIONS, rejected, strict=True) if n}
    return Tally(admitted + sum(rejected), admitted, Counter(reasons))


def _encrypted(secret: bytes, key_hash: bytes, packed: bytes) -> bytes:
    """Encrypt or decrypt counts. No two rows have the same stream."""
    stream = hmac.digest(secret, b"counts" + key_hash, "sha512")
    return bytes(a ^ b for a, b in zip(packed, stream[: len(packed)], strict=True))
