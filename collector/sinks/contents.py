"""What there is in a store: its tables of records, their columns and views, and how much it is."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from collector.sinks.retention import tables
from collector.sinks.table import columns_of, quoted, view_of

__all__ = ["Contents", "Shape", "contents", "shapes"]

_NEEDED = {"received", "count"}


@dataclass(frozen=True, slots=True)
class Shape:
    """A table of records: its columns with their types, and its view's columns, if it has one."""

    table: str
    columns: Mapping[str, str]
    view: str | None
    view_columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Contents:
    """How much is in a table. A row counts as many events as its ``count``; ``first`` and ``last``
    are the minutes of the oldest and the newest."""

    table: str
    view: str | None
    columns: Mapping[str, str]
    rows: int
    events: int
    first: str | None
    last: str | None


def contents(db: sqlite3.Connection) -> list[Contents]:
    """Of all tables of records."""
    return [_counted(db, shape) for shape in shapes(db)]


def shapes(db: sqlite3.Connection) -> list[Shape]:
    """The tables of records. What somebody else has made in the file is none of them."""
    return list(_shapes(db))


def _shapes(db: sqlite3.Connection) -> Iterator[Shape]:
    found = db.execute("PRAGMA main.table_list").fetchall()
    strict = {name for _, name, kind, *_, is_strict in found if kind == "table" and is_strict}
    views = {name for _, name, kind, *_ in found if kind == "view"}
    for table in tables(db):
        columns = columns_of(db, table)
        if table in strict and columns.keys() >= _NEEDED:
            view = view_of(table) if view_of(table) in views else None
            yield Shape(table, columns, view, tuple(columns_of(db, view)) if view else ())


def _counted(db: sqlite3.Connection, shape: Shape) -> Contents:
    figures = "count(*), coalesce(sum(count), 0), min(received), max(received)"
    (row,) = db.execute(f"SELECT {figures} FROM {quoted(shape.table)}")  # noqa: S608 - a table
    return Contents(shape.table, shape.view, shape.columns, *row)
