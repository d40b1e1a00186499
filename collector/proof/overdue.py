"""What lies in a data directory although it is older than it may be: nothing, if everything is
pruned as it should be. Only looked at; what is told are names and counts."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from collector.contracts import to_minute
from collector.errors import DeliveryError
from collector.filter.revision import Expiry, revise
from collector.proof.rights import Holdings
from collector.schema.model import Schema
from collector.sinks.files import files_of
from collector.sinks.reading import looked, reading
from collector.sinks.retention import Rule, rules, unruled
from collector.sinks.rewriting import pieces
from collector.sinks.table import quoted
from collector.spool.waiting import waiting

__all__ = ["overdue"]

_HOURLY = timedelta(hours=2)
"""Store and spool are pruned once an hour,"""
_DAILY = timedelta(hours=26)
"""files of records once a day."""


def overdue(holdings: Holdings, schema: Schema) -> Iterator[str]:
    """What is overdue in store, spool and files of records. Raises ``DeliveryError`` for what
    cannot be read."""
    now = datetime.now(UTC)
    if holdings.store.is_file():
        with reading(holdings.store) as db:
            yield from looked(lambda: list(_rows(db, schema, now)))
    spans = schema.retentions
    expiry = Expiry(spans, now - _HOURLY)
    batches = (batch for batch in waiting(holdings.spool) if batch is not None)
    if number := sum(revise(each.payload, expiry, each.received).records for each in batches):
        yield f"spool: {number} records that wait have fields older than they may be"
    if holdings.lines is not None and (number := _lines(holdings.lines, spans, now)):
        yield f"files: {number} lines have fields older than they may be"


def _rows(db: sqlite3.Connection, schema: Schema, now: datetime) -> Iterator[str]:
    for table in unruled(db):
        yield f"{table}: no retention is known; open the store with its schema once"
    for rule in rules(db):
        row = db.execute(_outlived(rule, now - _HOURLY)).fetchone()
        for (name, span), times in zip(rule.spans.items(), row, strict=True):
            if times:
                yield f"{rule.table}: {name} is older than it may be in {times} rows"
            field = schema.fields.get(name) if rule.table == schema.name else None
            if field is not None and field.retention < span:
                yield f"{rule.table}: {name} still has a longer retention in the store"


def _outlived(rule: Rule, now: datetime) -> str:
    """A query: in how many rows each field is too old."""
    counts = (
        f"count(CASE WHEN received < '{to_minute(now - span)}' THEN {quoted(name)} END)"
        for name, span in rule.spans.items()
    )
    return f"SELECT {', '.join(counts)} FROM {quoted(rule.table)}"  # noqa: S608 - names of columns


def _lines(path: Path, spans: dict[str, timedelta], now: datetime) -> int:
    expiry, is_read, number = Expiry(spans, now - _DAILY), False, 0
    try:
        for file in files_of(path):
            number += sum(revise(piece, expiry).records for piece in pieces(file))
        is_read = True
    except OSError:
        pass
    if not is_read:
        raise DeliveryError("E508", "the files of records cannot be read; check their permissions")
    return number
