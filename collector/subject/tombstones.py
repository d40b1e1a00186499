"""Tombstones tell a drain which records of erased people to drop when a broker delivers them later.

A broker cannot be searched for a person, so it may still deliver records after an erasure. A
tombstone is a keyed hash of the value by which a person was erased, with the window of the erasure.
It is deleted once no broker can have such records. A drain makes the file in its data directory; a
directory without that file needs no tombstones.
"""

from __future__ import annotations

import hmac
import secrets
import sqlite3
from collections.abc import Collection, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from collector.contracts import Subject, to_minute
from collector.errors import DeliveryError
from collector.files import failing_as, make_private
from collector.filter.redaction import Rule
from collector.filter.sdk_records import AHEAD
from collector.sqlite.connection import connect, number_of, transaction
from collector.sqlite.definition import Definition, format_of

FILE_NAME = "tombstones.db"
LONGEST_RETENTION = timedelta(days=31)
"""The longest that a broker may keep messages: as long as a spool recognises keys."""
_KEPT = LONGEST_RETENTION + timedelta(days=2)
_LATEST = AHEAD + timedelta(minutes=1)
"""How far ahead of the erasure the time of a waiting record may be. Records received later were not
to be erased, whatever the window: by then the value may be another person's."""
_BUSY_SECONDS = 60.0
_SECRET_BYTES = 32
DEFINITION = Definition(
    (
        "CREATE TABLE secret (bytes BLOB NOT NULL) STRICT",
        """CREATE TABLE tombstones (
            field TEXT NOT NULL, hash BLOB NOT NULL, start TEXT NOT NULL, end TEXT NOT NULL,
            schema TEXT, besides TEXT NOT NULL, fields TEXT, until TEXT NOT NULL
        ) STRICT""",
    )
)
"""The file has the key of the hashes, and a row for each tombstone."""


class Tombstones:
    """The tombstones of a data directory, for a drain. For one thread at a time. Every method
    raises ``DeliveryError`` E507 if the file cannot be used."""

    def __init__(self, data: Path) -> None:
        with _failing():
            self._db = _opened(data / FILE_NAME)
        self._version = -1
        self._rule: Rule | None = None

    def __repr__(self) -> str:
        return "<Tombstones>"

    @contextmanager
    def locked(self) -> Iterator[Rule | None]:
        """Yield the rule of all tombstones, if there are any. No tombstone can be added within the
        block. So an erasure that waits will find what the block stores."""
        with ExitStack() as stack:
            with _failing():
                stack.enter_context(transaction(self._db))
                rule = self._read()
            yield rule

    def destroy_expired(self) -> None:
        """Destroy expired tombstones. Destroy the secret of the hashes with the last tombstone."""
        with _failing(), transaction(self._db):
            now = to_minute(datetime.now(UTC))
            self._db.execute("DELETE FROM tombstones WHERE until < ?", (now,))
            self._db.execute("DELETE FROM secret WHERE NOT EXISTS (SELECT 1 FROM tombstones)")
        self._version = -1  # changes by this connection do not count up `data_version`

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def _read(self) -> Rule | None:
        """Read the tombstones, if another connection has changed them."""
        version = number_of(self._db, "data_version")
        if version == self._version:
            return self._rule
        rows = self._db.execute(
            "SELECT field, hash, start, end, schema, besides, fields FROM tombstones"
        ).fetchall()
        secret = self._db.execute("SELECT bytes FROM secret").fetchone()
        if not rows or secret is None:
            self._version, self._rule = version, None
            return None
        rules = [
            Rule.removal(
                Subject(field, hash_.hex(), start, end, schema, frozenset(besides.split())),
                None if fields is None else fields.split(),
            )
            for field, hash_, start, end, schema, besides, fields in rows
        ]
        self._rule = replace(Rule.any_of(rules), hashed=partial(_hash, secret[0]))
        self._version = version  # only after success, so that a failed read is repeated
        return self._rule


def remember(data: Path, subjects: Iterable[tuple[Subject, Collection[str] | None]]) -> None:
    """Add tombstones to the data directory of a drain; do nothing for any other. Each has the
    fields to remove, ``None`` for all. Wait until no message is being stored. Raises
    ``DeliveryError`` E507."""
    path, now = data / FILE_NAME, datetime.now(UTC)
    if not path.is_file():
        return
    latest, until = to_minute(now + _LATEST), to_minute(now + _KEPT)
    with _failing(), closing(_opened(path)) as db, transaction(db):
        found = db.execute("SELECT bytes FROM secret").fetchone()
        if found is None:
            found = (secrets.token_bytes(_SECRET_BYTES),)
            db.execute("INSERT INTO secret VALUES (?)", found)
        for subject, fields in subjects:
            row = (
                subject.field,
                bytes.fromhex(_hash(found[0], subject.field, subject.value)),
                subject.start,
                min(subject.end, latest),
                subject.schema,
                "\n".join(sorted(subject.besides)),
                None if fields is None else "\n".join(sorted(fields)),
                until,
            )
            db.execute("INSERT INTO tombstones VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)


def _hash(secret: bytes, field: str, value: str) -> str:
    return hmac.digest(secret, f"{field}\0{value}".encode(), "sha256").hex()


def _opened(path: Path) -> sqlite3.Connection:
    """Open the file; create it if it does not exist."""
    make_private(path)
    with ExitStack() as stack:
        db = stack.enter_context(closing(connect(path, seconds=_BUSY_SECONDS, has_log=False)))
        with transaction(db):
            if format_of(db) is None:
                DEFINITION.create(db)
        stack.pop_all()
    return db


def _failing() -> AbstractContextManager[None]:
    """Turn errors of the file into ``DeliveryError`` E507."""
    message = "the tombstones of erased people cannot be read or written now"
    return failing_as(DeliveryError("E507", message), sqlite3.Error, OSError, ValueError)
