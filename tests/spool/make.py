"""Entries for a spool, and what is in one."""

from __future__ import annotations

import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import orjson

from collector.contracts import Entry, Layout, Rejection, Tally
from collector.filter.stored import read
from collector.spool import Spool

MINUTE = "2026-11-24T10:20:00Z"
LAYOUT = Layout("numbers/1.0.0", "ab" * 32, "numbers", (("n", "INTEGER"), ("text", "TEXT")))


def entry(
    *numbers: int,
    rejected: dict[Rejection, int] | None = None,
    minute: str = MINUTE,
    layout: Layout = LAYOUT,
    text: str | None = None,
) -> Entry:
    """Records that hold a number each."""
    more = {} if text is None else {"text": text}
    records = [{"schema": layout.schema, "n": number} | more for number in numbers]
    payload = b"".join(orjson.dumps(record) + b"\n" for record in records)
    refused = Counter(rejected or {})
    received = len(numbers) + refused.total()
    return Entry(layout, minute, payload, Tally(received, len(numbers), refused))


def without_granted(db: sqlite3.Connection) -> None:
    """Batches as they were up to the third format."""
    for table in ("batches", "damaged"):
        db.execute(f"ALTER TABLE {table} DROP COLUMN granted")


def drained(spool: Spool, sink: str = "sink", *, acknowledge: bool = True) -> list[int]:
    """The numbers that a sink gets, to the end."""
    found: list[int] = []
    at = 0
    while True:
        taken = [pair for pair in spool.after(sink, 1000) if pair[0] > at]
        if not taken:
            return found
        for at, spooled in taken:
            batch = read(spooled)
            assert batch.rows is not None
            found += [int(row[0] or 0) for row in batch.rows()]
            if acknowledge:
                spool.delivered(sink, at)
        if not acknowledge:
            return found


def query(path: Path, text: str) -> list[tuple[object, ...]]:
    """What a query finds in a database that may be in use."""
    db = sqlite3.connect(path)
    try:
        return db.execute(text).fetchall()
    finally:
        db.close()


def eventually(holds: Callable[[], bool], seconds: float = 10) -> bool:
    """Whether something comes to hold in time."""
    deadline = time.monotonic() + seconds
    while not (held := holds()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return held
