"""Prune a store: remove fields that are older than their retention, and rows without any other.

The retention of each field is noted in the store itself, by each process that opens it for a
schema. So any store can be pruned without the schema that its records came from, and a field that a
schema no longer has is removed when it would have been.

A pass goes over all rows in steps of some milliseconds, between which batches are delivered. If
anything was deleted, by this pass or by one that did not end, the file is rebuilt and its log
emptied, once no process reads an earlier state.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from time import monotonic

from collector.contracts import Layout, to_minute
from collector.schema.model import Schema
from collector.sinks.inventory import read_or_raise, reading
from collector.sinks.line_sink import EARLY
from collector.sinks.sink import Removal
from collector.sinks.store_file import (
    RESERVED_COLUMNS,
    opened,
    row_number_of,
    run_or_raise,
    tables,
)
from collector.sqlite.compaction import compact, empty_log
from collector.sqlite.connection import quoted, transaction
from collector.sqlite.definition import columns_of, tables_of

_NOTED = 'SELECT "table", field, seconds FROM _retention'
_ROWS = 5000
_FIRST = -(1 << 63)
_STEP_SECONDS = 0.05
_HOUR = 3600.0
_SOON = 1.0
"""The pause after a reader prevented that the log was emptied,"""
_LATER = 60.0
"""and after any other error: disk or memory are full, or another process writes all the time."""
_HOURLY = timedelta(hours=2)
"""How long after its retention a field counts as overdue: more than between passes."""
_AHEAD = timedelta(days=1)
"""No sender's clock is assumed to be further ahead."""


# -- retention ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Rule:
    """The retention of each field of a table, by column, in order. ``place`` is the SQL name of the
    number of a row."""

    table: str
    place: str
    spans: Mapping[str, timedelta]


def note(db: sqlite3.Connection, table: str, spans: Mapping[str, timedelta]) -> None:
    """Note the retention of fields of a table; what is noted of other fields stays."""
    rows = [(table, field, int(span.total_seconds())) for field, span in spans.items()]
    db.executemany("INSERT OR REPLACE INTO _retention VALUES (?, ?, ?)", rows)


def note_foreign(db: sqlite3.Connection, layout: Layout, spans: Mapping[str, timedelta]) -> None:
    """Note the retention of fields of another schema than the store was opened for, unless it is
    noted: that of the field of the same name, otherwise the shortest."""
    if all(rule.table != layout.table for rule in rules(db)):
        shortest = min(spans.values())
        note(db, layout.table, {name: spans.get(name, shortest) for name, _ in layout.columns})


def rules(db: sqlite3.Connection) -> Iterator[Rule]:
    """Yield the rules of all tables that have one. A column without a note has the shortest
    retention of its table."""
    existing = set(tables_of(db))
    noted: dict[str, dict[str, timedelta]] = {}
    if "_retention" in existing:
        for table, field, seconds in db.execute(_NOTED):
            noted.setdefault(table, {})[field] = timedelta(seconds=seconds)
    for table, spans in noted.items():
        if table in existing:
            names, shortest = columns_of(db, table), min(spans.values())
            fields = [name for name in names if name not in RESERVED_COLUMNS]
            by_field = {name: spans.get(name, shortest) for name in fields}
            yield Rule(table, row_number_of(names), by_field)


def unruled(db: sqlite3.Connection) -> list[str]:
    """Return the tables of records without a rule: another program made them."""
    known = {rule.table for rule in rules(db)}
    return [name for name in tables(db) if name not in known]


# -- passes ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Pruned:
    """The number of rows that lost fields of one retention, and of deleted rows."""

    shortened: int = 0
    deleted: int = 0

    def __add__(self, other: Pruned) -> Pruned:
        return Pruned(self.shortened + other.shortened, self.deleted + other.deleted)

    def __bool__(self) -> bool:
        return bool(self.shortened or self.deleted)


def prune(db: sqlite3.Connection, now: datetime) -> Iterator[tuple[str, Pruned]]:
    """Prune all tables that have a rule, a step for each item: the table, and what was removed. The
    file must be swept afterwards. Raises ``sqlite3.Error``."""
    for rule in rules(db):
        at = _FIRST
        while (end := _end(db, rule, at)) is not None:
            yield rule.table, _step(db, rule, at, end, now)
            at = end


def mark(db: sqlite3.Connection) -> None:
    """Note, in the transaction that deletes, that the file must be swept."""
    db.execute("INSERT OR IGNORE INTO _remains VALUES (1)")


def sweep(db: sqlite3.Connection, path: Path, seconds: float = 0.0) -> Iterator[bool]:
    """Rebuild the file, then empty its log; yield ``False`` for each try that a reader prevented,
    after waiting so many seconds for it. Raises ``sqlite3.Error``, ``MemoryError``, and ``OSError``
    when there is no room."""
    compact(db, path)
    while not empty_log(db, path, seconds):
        yield False
    with suppress(sqlite3.OperationalError):  # a store may have no such table
        db.execute("DELETE FROM _remains")
    yield True


def try_sweep(db: sqlite3.Connection, path: Path, seconds: float) -> bool:
    """Sweep; return ``False`` if a reader prevented it for so many seconds, or if disk or memory
    have no room. Then it must be called again."""
    with suppress(sqlite3.Error, OSError, MemoryError):
        return next(sweep(db, path, seconds))
    return False


class Pruning:
    """Prune a store at the start and once an hour, in small steps: ``work`` when it is ``due``. It
    never raises; after an error it is due again soon, and ``is_held`` is true meanwhile."""

    def __init__(self, path: Path, report: Callable[[Pruned], None] | None = None) -> None:
        self.is_held: bool = False
        self.due: float = monotonic()
        self._path = path
        self._report = report
        self._steps: Iterator[float] | None = None
        self._has_compacted = False

    def __repr__(self) -> str:
        return "<Pruning>"

    def work(self, db: sqlite3.Connection) -> bool:
        """Prune for some milliseconds, unless the file must be rebuilt; return whether it was."""
        until, self._has_compacted = monotonic() + _STEP_SECONDS, False
        try:
            self._steps = self._steps or self._all(db)
            for pause in self._steps:
                if pause or monotonic() >= until:
                    self.due = monotonic() + pause
                    return self._has_compacted
            self.is_held, pause = False, _HOUR
        except (sqlite3.Error, OSError, MemoryError):
            self.is_held, pause = True, _LATER
        self._steps = None
        self.due = monotonic() + pause
        return self._has_compacted

    def _all(self, db: sqlite3.Connection) -> Iterator[float]:
        """Run a whole pass; yield the pause after each step."""
        total = Pruned()
        for _, done in prune(db, datetime.now(UTC)):
            total += done
            yield 0.0
        if total and self._report is not None:
            self._report(total)
        if total or _has_remains(db):
            for is_done in sweep(db, self._path):
                self._has_compacted = True
                self.is_held = not is_done
                yield 0.0 if is_done else _SOON


def _end(db: sqlite3.Connection, rule: Rule, at: int) -> int | None:
    """Return the place up to which the next step goes."""
    query = (
        f"SELECT max({rule.place}) FROM (SELECT {rule.place} FROM {quoted(rule.table)}"  # noqa: S608
        f" WHERE {rule.place} > ? ORDER BY {rule.place} LIMIT {_ROWS})"
    )
    end: int | None = db.execute(query, (at,)).fetchone()[0]
    return end


def _step(db: sqlite3.Connection, rule: Rule, at: int, end: int, now: datetime) -> Pruned:
    spans: dict[timedelta, list[str]] = {}
    for field, span in rule.spans.items():
        spans.setdefault(span, []).append(quoted(field))
    table, place = quoted(rule.table), rule.place
    here = f"WHERE {place} > ? AND {place} <= ? AND received < ?"

    with transaction(db):
        expired = " AND ".join(f"({quoted(field)} IS NULL OR received < ?)" for field in rule.spans)
        ends = [to_minute(now - span) for span in rule.spans.values()]
        delete = f"DELETE FROM {table} {here} AND {expired}"  # noqa: S608 - names of columns
        deleted = db.execute(delete, (at, end, max(ends), *ends)).rowcount
        shortened = 0
        for span, fields in spans.items():
            empty = ", ".join(f"{field} = NULL" for field in fields)
            some = " OR ".join(f"{field} IS NOT NULL" for field in fields)
            update = f"UPDATE {table} SET {empty} {here} AND ({some})"  # noqa: S608
            shortened += db.execute(update, (at, end, to_minute(now - span))).rowcount
        if shortened or deleted:
            mark(db)
        return Pruned(shortened, deleted)


def _has_remains(db: sqlite3.Connection) -> bool:
    """Return whether deleted bytes may be in the file or its log."""
    with suppress(sqlite3.OperationalError):
        return db.execute("SELECT 1 FROM _remains").fetchone() is not None
    return False


# -- commands -------------------------------------------------------------------------------------


def prune_store(path: Path, schemas: Sequence[Schema], now: datetime, wait: float) -> Removal:
    """Prune a store in one go, and sweep it if anything was deleted; wait so many seconds for
    readers. Raises ``DeliveryError``."""
    if not path.is_file():
        return Removal()
    with opened(path) as db:
        there = run_or_raise(lambda: tables(db))
        for schema in (each for each in schemas if each.name in there):
            run_or_raise(partial(note, db, schema.name, schema.retentions))
        pruned = sum((done for _, done in run_or_raise(lambda: list(prune(db, now)))), Pruned())
        is_swept = not (pruned or _has_remains(db)) or try_sweep(db, path, wait)
        others = tuple(run_or_raise(lambda: unruled(db)))
        return Removal(pruned.deleted, pruned.shortened, is_swept, others)


def overdue(path: Path, schemas: Sequence[Schema], now: datetime) -> list[str]:
    """Report the fields of a store that should have been pruned before. Raises
    ``DeliveryError``."""
    if not path.is_file():
        return []
    with reading(path) as db:
        return read_or_raise(lambda: list(_overdue(db, schemas, now)))


def _overdue(db: sqlite3.Connection, schemas: Sequence[Schema], now: datetime) -> Iterator[str]:
    by_table = {schema.name: schema.fields for schema in schemas}
    for table in unruled(db):
        yield f"the store's table `{table}` has no known retention"
    for rule in rules(db):
        early, *outlived = db.execute(_outlived(rule, now)).fetchone()
        if early:
            yield f"the store's table `{rule.table}` holds {early} rows {EARLY}"
        for (name, span), times in zip(rule.spans.items(), outlived, strict=True):
            if times:
                yield f"the store holds `{name}` of {times} records past its retention"
            field = by_table.get(rule.table, {}).get(name)
            if field is not None and field.retention < span:
                yield f"the store keeps `{name}` longer than its schema says"


def _outlived(rule: Rule, now: datetime) -> str:
    """Return a query that counts the rows of the future, and each field's overdue values."""
    bounds = {name: to_minute(now - span - _HOURLY) for name, span in rule.spans.items()}
    counts = [f"count(CASE WHEN received > '{to_minute(now + _AHEAD)}' THEN 1 END)"]
    counts += [
        f"count(CASE WHEN received < '{minute}' THEN {quoted(name)} END)"
        for name, minute in bounds.items()
    ]
    return f"SELECT {', '.join(counts)} FROM {quoted(rule.table)}"  # noqa: S608 - names of columns
