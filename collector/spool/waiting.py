"""What waits in a spool's file, read while somebody may be writing it."""

from __future__ import annotations

import hmac
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from collector.contracts import Layout, Spooled
from collector.errors import DeliveryError
from collector.ledger.receipt import commit
from collector.spool.file import connect
from collector.spool.tables import batch_columns, besides, granted, seal

__all__ = ["waiting"]


def waiting(path: Path) -> Iterator[Spooled | None]:
    """Every batch; ``None`` for one that is not what was written. Their layouts have no columns.

    Nothing, if there is no file. Raises ``DeliveryError`` E507 when it cannot be read.
    """
    if not path.is_file():
        return
    is_read = False
    try:
        with closing(connect(path, must_exist=True)) as db:
            yield from _batches(db)
            is_read = True
    except sqlite3.Error:
        pass
    if not is_read:
        raise DeliveryError("E507", "the spool cannot be read; is it damaged, or no spool's file?")


def _batches(db: sqlite3.Connection) -> Iterator[Spooled | None]:
    db.execute("BEGIN")
    layouts = {
        digest: Layout(schema, digest, name, ())
        for digest, schema, name in db.execute("SELECT digest, schema, name FROM layouts")
    }
    query = f"SELECT {batch_columns(db)} FROM batches ORDER BY sequence"  # noqa: S608 - a constant
    for _, id_, digest, received, records, salt, sealed, payload, text in db.execute(query):
        parts = (id_, digest, received, records, *besides(text))
        expected = seal(salt, commit(salt, payload), *parts)
        is_whole = digest in layouts and hmac.compare_digest(expected, sealed)
        whole = is_whole and Spooled(id_, received, layouts[digest], payload, granted(text))
        yield whole or None
    for _ in range(db.execute("SELECT count(*) FROM damaged").fetchone()[0]):
        yield None
