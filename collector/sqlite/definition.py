"""The format and the tables that a SQLite file of ours must have."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property

from collector.sqlite.connection import connect_to_memory, quoted


@dataclass(frozen=True)
class Definition:
    """The statements that create the tables of a file, and its ``format``, which is SQLite's
    ``user_version``. ``application`` distinguishes the file from files of other programs."""

    tables: tuple[str, ...]
    format: int = 1
    application: int = 0

    def create(self, db: sqlite3.Connection) -> None:
        """Create the tables in an empty file, within a transaction."""
        for table in self.tables:
            db.execute(table)
        db.execute(f"PRAGMA application_id = {self.application}")
        db.execute(f"PRAGMA user_version = {self.format}")

    @cached_property
    def columns(self) -> Mapping[str, frozenset[str]]:
        """The columns of each table, by its name."""
        with closing(connect_to_memory()) as model:
            for table in self.tables:
                model.execute(table)
            return {name: frozenset(columns_of(model, name)) for name in tables_of(model)}

    def is_met(self, db: sqlite3.Connection) -> bool:
        """Return whether a file has all tables with all their columns."""
        there = set(tables_of(db))
        return there.issuperset(self.columns) and all(
            columns_of(db, name).keys() >= columns for name, columns in self.columns.items()
        )


def format_of(db: sqlite3.Connection) -> int | None:
    """Return the format of a file; ``None`` if it has no table. Raises ``sqlite3.Error``."""
    query = "SELECT user_version, count(name) FROM pragma_user_version LEFT JOIN sqlite_master"
    version, number = db.execute(query).fetchone()
    return int(version) if number else None


def tables_of(db: sqlite3.Connection) -> list[str]:
    """Return the names of the tables, without SQLite's own, in their order."""
    query = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT GLOB 'sqlite_*'"
    return [name for (name,) in db.execute(f"{query} ORDER BY name")]


def columns_of(db: sqlite3.Connection, table: str) -> dict[str, str]:
    """Return the columns of a table or a view, in order, with their types; none if it does not
    exist."""
    return {row[1]: row[2] for row in db.execute(f"PRAGMA table_info({quoted(table)})")}
