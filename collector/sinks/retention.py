"""How long each field may stay in a store: noted in the store itself, by whoever opens it for a
schema. So whatever lies there can be pruned without the schema that it came from, and a field that
a schema has no longer goes when it would have gone.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta

from collector.contracts import Layout
from collector.sinks.table import columns_of, place_among

__all__ = ["Rule", "note", "note_foreign", "rules", "tables", "unruled"]

_TABLE = (
    'CREATE TABLE IF NOT EXISTS _retention ("table" TEXT NOT NULL, field TEXT NOT NULL,'
    ' seconds INTEGER NOT NULL, PRIMARY KEY ("table", field)) STRICT, WITHOUT ROWID'
)
_BESIDES = ("received", "count")
"""Columns that are no fields."""


@dataclass(frozen=True, slots=True)
class Rule:
    """How long the fields of a table may stay, by column: every one of them, in order. ``place`` is
    the SQL name of a row's number."""

    table: str
    place: str
    spans: Mapping[str, timedelta]


def note(db: sqlite3.Connection, table: str, spans: Mapping[str, timedelta]) -> None:
    """Note how long fields of a table may stay; what is noted of others stays."""
    db.execute(_TABLE)
    rows = [(table, field, int(span.total_seconds())) for field, span in spans.items()]
    db.executemany("INSERT OR REPLACE INTO _retention VALUES (?, ?, ?)", rows)


def note_foreign(db: sqlite3.Connection, layout: Layout, spans: Mapping[str, timedelta]) -> None:
    """Note how long fields may stay that came under another schema than the store was opened for,
    unless that is noted: for as long as those of the same name, any other for the shortest time."""
    if all(rule.table != layout.table for rule in rules(db)):
        shortest = min(spans.values())
        note(db, layout.table, {name: spans.get(name, shortest) for name, _ in layout.columns})


def rules(db: sqlite3.Connection) -> Iterator[Rule]:
    """The rules of all tables that have one. A column of which nothing is noted goes with the first
    of its table."""
    noted: dict[str, dict[str, timedelta]] = {}
    if _is_there(db, "_retention"):
        for table, field, seconds in db.execute("SELECT * FROM _retention"):
            noted.setdefault(table, {})[field] = timedelta(seconds=seconds)
    for table, spans in noted.items():
        if _is_there(db, table):
            names = columns_of(db, table)
            shortest = min(spans.values())
            fields = {name: spans.get(name, shortest) for name in names if name not in _BESIDES}
            yield Rule(table, place_among(names), fields)


def unruled(db: sqlite3.Connection) -> list[str]:
    """The tables of records of which no rule is noted: they are of a schema for which the store
    was opened last by an earlier version of Collector."""
    known = {rule.table for rule in rules(db)}
    return [name for name in tables(db) if name not in known]


def tables(db: sqlite3.Connection) -> list[str]:
    """The tables that hold records."""
    found = db.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
    return [row[0] for row in found if not row[0].startswith(("_", "sqlite_"))]


def _is_there(db: sqlite3.Connection, table: str) -> bool:
    query = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?"
    return db.execute(query, (table,)).fetchone() is not None
