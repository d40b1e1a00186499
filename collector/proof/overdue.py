"""What lies in a data directory although it is older than it may be: nothing, if everything is
pruned as it should be. Only looked at; what is told are names and counts.

What was received in the future, under a clock that was wrong, is told too: it would stay too long.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

from collector import readonly
from collector.backlog import HOURS, aside_for
from collector.contracts import to_minute
from collector.errors import DeliveryError
from collector.filter.revision import Expiry, revise
from collector.proof.rights import Holdings
from collector.schema.model import Schema
from collector.sinks.connection import guarded
from collector.sinks.files import files_of
from collector.sinks.reading import looked, reading
from collector.sinks.retention import Rule, rules, unruled
from collector.sinks.rewriting import pieces
from collector.sinks.table import quoted
from collector.spool.quarantine import aside
from collector.spool.waiting import waiting

__all__ = ["overdue"]

_HOURLY = timedelta(hours=2)
"""Store and spool are pruned once an hour,"""
_DAILY = timedelta(hours=26)
"""files of records once a day."""
_AHEAD = timedelta(days=1)
"""No clock of a sender is taken to be as far ahead."""
_EARLY = "were received in the future: a clock was wrong, and they would stay for too long"
_BESIDE = (
    "SELECT (SELECT count(*) FROM damaged WHERE received < ?),"
    " (SELECT count(*) FROM hours WHERE hour < ?)"
)
_UNREADABLE = "the spool cannot be read; is it damaged, or no spool's file?"
_RECEIVED = re.compile(rb'"received":"([0-9TZ:-]{20})"}$', re.MULTILINE).findall


def overdue(holdings: Holdings, schema: Schema) -> Iterator[str]:
    """What is overdue in store, spool and files of records, and of what was set aside. Raises
    ``DeliveryError`` for what cannot be read."""
    now = datetime.now(UTC)
    if holdings.store.is_file():
        with reading(holdings.store) as db:
            yield from looked(lambda: list(_rows(db, schema, now)))
    if holdings.spool.is_file():
        yield from _waiting(holdings.spool, schema, now)
        yield from _beside(holdings.spool, schema, now)
    if holdings.lines is not None:
        yield from _lines(holdings.lines, schema, now)


def _rows(db: sqlite3.Connection, schema: Schema, now: datetime) -> Iterator[str]:
    for table in unruled(db):
        yield f"{table}: no retention is known; open the store with its schema once"
    for rule in rules(db):
        early, *outlived = db.execute(_outlived(rule, now)).fetchone()
        if early:
            yield f"{rule.table}: {early} rows {_EARLY}"
        for (name, span), times in zip(rule.spans.items(), outlived, strict=True):
            if times:
                yield f"{rule.table}: {name} is older than it may be in {times} rows"
            field = schema.fields.get(name) if rule.table == schema.name else None
            if field is not None and field.retention < span:
                yield f"{rule.table}: {name} still has a longer retention in the store"


def _outlived(rule: Rule, now: datetime) -> str:
    """A query: how many rows are of the future, and in how many each field is too old."""
    bounds = {name: to_minute(now - span - _HOURLY) for name, span in rule.spans.items()}
    counts = [f"count(CASE WHEN received > '{to_minute(now + _AHEAD)}' THEN 1 END)"]
    counts += [
        f"count(CASE WHEN received < '{minute}' THEN {quoted(name)} END)"
        for name, minute in bounds.items()
    ]
    return f"SELECT {', '.join(counts)} FROM {quoted(rule.table)}"  # noqa: S608 - names of columns


def _waiting(path: Path, schema: Schema, now: datetime) -> Iterator[str]:
    """Records in the spool."""
    expiry, ahead = Expiry(schema.retentions, now - _HOURLY), to_minute(now + _AHEAD)
    old = early = 0
    for batch in waiting(path):
        if batch is not None:
            old += revise(batch.payload, expiry, batch.received).records
            early += batch.payload.count(b"\n") if batch.received > ahead else 0
    yield from _told("spool", "records that wait", old, early)


def _beside(path: Path, schema: Schema, now: datetime) -> Iterator[str]:
    """What was set aside, and the ledger's sums of hours."""
    before, db = now - aside_for(schema) - _HOURLY, readonly.connect(path)
    if db is None:
        raise DeliveryError("E507", _UNREADABLE)
    minutes = to_minute(before), to_minute(now - HOURS - _HOURLY)
    with closing(db):
        found = guarded(lambda: db.execute(_BESIDE, minutes).fetchone(), "E507", _UNREADABLE)
    files = sum(not before <= moment <= now + _AHEAD for _, moment in aside(path))
    if found[0]:
        yield f"spool: {found[0]} damaged batches are older than they may be"
    if files:
        yield f"spool: {files} damaged files are there for longer than they may be"
    if found[1]:
        yield f"ledger: {found[1]} sums of hours are older than they may be"


def _lines(path: Path, schema: Schema, now: datetime) -> Iterator[str]:
    """Lines of files of records."""
    expiry, ahead = Expiry(schema.retentions, now - _DAILY), to_minute(now + _AHEAD).encode()
    is_read, old, early = False, 0, 0
    try:
        for piece in (piece for file in files_of(path) for piece in pieces(file)):
            old += revise(piece, expiry).records
            early += sum(minute > ahead for minute in _RECEIVED(piece))
        is_read = True
    except OSError:
        pass
    if not is_read:
        raise DeliveryError("E508", "the files of records cannot be read; check their permissions")
    yield from _told("files", "lines", old, early)


def _told(where: str, what: str, old: int, early: int) -> Iterator[str]:
    if old:
        yield f"{where}: {old} {what} have fields older than they may be"
    if early:
        yield f"{where}: {early} {what} {_EARLY}"
