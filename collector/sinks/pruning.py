"""Pruning: fields that are older than their retention leave the store, and rows without any.

A pass goes over all rows in steps that take some milliseconds each, between which batches are
delivered. If anything was deleted, by this pass or by one that did not come to its end, the file is
made anew and its log emptied; who is reading an earlier state is waited for.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic

from collector.compaction import compact, empty_log
from collector.contracts import to_minute
from collector.sinks.connection import transaction
from collector.sinks.retention import Rule, rules
from collector.sinks.table import quoted

__all__ = ["Pruned", "Pruning", "mark", "prune", "sweep", "swept"]

_ROWS = 5000
_HOUR = 3600.0
_SOON = 1.0
"""When somebody was in the way,"""
_LATER = 60.0
"""and when anything else was: the disk is full, or somebody writes all the time."""
_STEP_SECONDS = 0.05
_FIRST = -(1 << 63)
_REMAINS = "CREATE TABLE IF NOT EXISTS _remains (one INTEGER PRIMARY KEY CHECK (one = 1)) STRICT"
"""Has a row while bytes of what was deleted may be in the file or its log."""


@dataclass(frozen=True, slots=True)
class Pruned:
    """What was done: rows that lost fields of one retention, and rows that lost all they had."""

    shortened: int = 0
    deleted: int = 0

    def __add__(self, other: Pruned) -> Pruned:
        return Pruned(self.shortened + other.shortened, self.deleted + other.deleted)

    def __bool__(self) -> bool:
        return bool(self.shortened or self.deleted)


def prune(db: sqlite3.Connection, now: datetime) -> Iterator[tuple[str, Pruned]]:
    """Prune all tables of a store that have a rule, a step for each item: the table, and what was
    done. Ends with what is to be swept still there. Raises ``sqlite3.Error``."""
    for rule in rules(db):
        at = _FIRST
        while (end := _end(db, rule, at)) is not None:
            yield rule.table, _step(db, rule, at, end, now)
            at = end


def mark(db: sqlite3.Connection) -> None:
    """Note, in the transaction that deletes, that the file is to be swept."""
    db.execute(_REMAINS)
    db.execute("INSERT OR IGNORE INTO _remains VALUES (1)")


def sweep(db: sqlite3.Connection, path: Path, seconds: float = 0.0) -> Iterator[bool]:
    """Make the file anew, then empty its log: ``False`` for each try for which somebody was in the
    way, for so many seconds. Raises ``sqlite3.Error``, and ``OSError`` when there is no room."""
    compact(db, path)
    while not empty_log(db, path, seconds):
        yield False
    with suppress(sqlite3.OperationalError):  # there is none in a store without
        db.execute("DELETE FROM _remains")
    yield True


def swept(db: sqlite3.Connection, path: Path, seconds: float) -> bool:
    """Sweep, and say whether that was done: not if somebody was in the way for so many seconds, or
    if the disk has no room. It is to be done again then."""
    with suppress(sqlite3.Error, OSError):
        return next(sweep(db, path, seconds))
    return False


class Pruning:
    """When a store is pruned: at the start and then once an hour, in small steps. It never fails;
    what could not be done is tried again, and ``is_held`` says that something is to be."""

    def __init__(self, path: Path, told: Callable[[Pruned], None] | None = None) -> None:
        self.is_held: bool = False
        self._path = path
        self._told = told
        self._due = monotonic()
        self._steps: Iterator[float] | None = None
        self._has_compacted = False

    def __repr__(self) -> str:
        return "<Pruning>"

    @property
    def is_due(self) -> bool:
        """Whether there is something to do."""
        return monotonic() >= self._due

    def work(self, db: sqlite3.Connection) -> bool:
        """Go on for some milliseconds, unless it is the file's turn to be made anew; whether it
        was."""
        until, self._has_compacted = monotonic() + _STEP_SECONDS, False
        try:
            self._steps = self._steps or self._all(db)
            for pause in self._steps:
                if pause or monotonic() >= until:
                    self._due = monotonic() + pause
                    return self._has_compacted
            self.is_held, pause = False, _HOUR
        except (sqlite3.Error, OSError):
            self.is_held, pause = True, _LATER
        self._steps = None
        self._due = monotonic() + pause
        return self._has_compacted

    def _all(self, db: sqlite3.Connection) -> Iterator[float]:
        """A whole pass; what it gives is for how long to pause."""
        total = Pruned()
        for _, done in prune(db, datetime.now(UTC)):
            total += done
            yield 0.0
        if total and self._told is not None:
            self._told(total)
        if total or _has_remains(db):
            for is_done in sweep(db, self._path):
                self._has_compacted = True
                self.is_held = not is_done
                yield 0.0 if is_done else _SOON


def _end(db: sqlite3.Connection, rule: Rule, at: int) -> int | None:
    """The place up to which the next step goes."""
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

    def act() -> Pruned:
        gone = " AND ".join(f"({quoted(field)} IS NULL OR received < ?)" for field in rule.spans)
        ends = [_before(now, span) for span in rule.spans.values()]
        delete = f"DELETE FROM {table} {here} AND {gone}"  # noqa: S608 - names of columns
        deleted = db.execute(delete, (at, end, max(ends), *ends)).rowcount
        shortened = 0
        for span, fields in spans.items():
            empty = ", ".join(f"{field} = NULL" for field in fields)
            some = " OR ".join(f"{field} IS NOT NULL" for field in fields)
            update = f"UPDATE {table} SET {empty} {here} AND ({some})"  # noqa: S608
            shortened += db.execute(update, (at, end, _before(now, span))).rowcount
        if shortened or deleted:
            mark(db)
        return Pruned(shortened, deleted)

    return transaction(db, act)


def _before(now: datetime, span: timedelta) -> str:
    """What came before that minute is older."""
    return to_minute(now - span)


def _has_remains(db: sqlite3.Connection) -> bool:
    with suppress(sqlite3.OperationalError):
        return db.execute("SELECT 1 FROM _remains").fetchone() is not None
    return False
