"""A schema's table in the store: made from a layout, or widened by it, and how rows get into it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator

from collector.contracts import Batch, Layout, Row
from collector.errors import DeliveryError

__all__ = ["Table", "columns_of", "place_among", "quoted", "view_of"]

_PLACES = ("rowid", "_rowid_", "oid")
"""SQLite's names for a row's number, of which a field may hide one."""


class Table:
    """The table of a layout. ``insert`` takes rows with their place and minute before the values;
    ``last`` is the highest place, ``count`` how many events there are, merged ones included.
    ``since`` gives all of the rows from a place on, that place first; ``remove`` removes them."""

    def __init__(self, layout: Layout) -> None:
        self.name: str = layout.table
        self._types = dict(layout.columns)
        names = ", ".join(map(quoted, ["received", *self._types, "count"]))
        marks = ", ".join("?" * (len(self._types) + 3))
        table, place = quoted(self.name), place_among(self._types)
        self._place = place
        self.quoted: str = table
        self.insert: str = f"INSERT INTO {table} ({place}, {names}) VALUES ({marks})"  # noqa: S608
        self.last: str = f"SELECT coalesce(max({place}), 0) FROM {table}"  # noqa: S608
        self.count: str = f"SELECT coalesce(sum(count), 0) FROM {table}"  # noqa: S608
        self.since: str = f"SELECT {place}, * FROM {table} WHERE {place} >= ?"  # noqa: S608
        self.remove: str = f"DELETE FROM {table} WHERE {place} >= ?"  # noqa: S608

    def rows(self, batch: Batch) -> list[Row]:
        """The batch's values in the order of the columns, and counts."""
        if batch.rows is not None:
            return batch.rows()
        return [(*map(record.get, self._types), record.get("count", 1)) for record in batch.records]

    def names(self, db: sqlite3.Connection) -> list[str]:
        """The place and all columns, also such as are of another layout, as SQL has them."""
        return [self._place, *map(quoted, columns_of(db, self.name))]

    def fit(self, db: sqlite3.Connection, view: bool = False) -> None:
        """Make the table, or add the columns that it lacks; ``view`` sees just these, without dots.

        Raises ``DeliveryError`` E504 when a column is there with another type.
        """
        execute, table = db.execute, quoted(self.name)
        columns = ", ".join(f"{quoted(name)} {kind}" for name, kind in self._types.items())
        execute(
            f"CREATE TABLE IF NOT EXISTS {table} (received TEXT NOT NULL, {columns},"
            " count INTEGER NOT NULL DEFAULT 1) STRICT"
        )
        found = columns_of(db, self.name)
        for name, kind in self._types.items():
            if name not in found:
                execute(f"ALTER TABLE {table} ADD COLUMN {quoted(name)} {kind}")
            elif found[name] != kind:
                raise DeliveryError(
                    "E504", f"column `{name}` has another type; use a new store, or a new name"
                )
        short = quoted(view_of(self.name))
        names = ", ".join(_renamed(["received", *self._types, "count"]))
        if view:
            execute(f"DROP VIEW IF EXISTS {short}")
        execute(f"CREATE VIEW IF NOT EXISTS {short} AS SELECT {names} FROM {table}")  # noqa: S608


def columns_of(db: sqlite3.Connection, table: str) -> dict[str, str]:
    """The columns of a table or a view, in order, with their types; none if it is not there."""
    return {row[1]: row[2] for row in db.execute(f"PRAGMA table_info({quoted(table)})")}


def place_among(names: Iterable[str]) -> str:
    """What SQL calls the number of a row in a table with these columns."""
    lower = {name.lower() for name in names}
    return next((name for name in _PLACES if name not in lower), _PLACES[0])


def view_of(table: str) -> str:
    """What the view of a table is called."""
    return f"{table.replace('-', '_')}_view"


def quoted(name: str) -> str:
    """A name in SQL. Names of schemas hold no quotes anyway; this is the second lock."""
    return '"' + name.replace('"', '""') + '"'


def _renamed(names: list[str]) -> Iterator[str]:
    """Each column under a name without dots, as long as that is unambiguous."""
    plain = [name.replace(".", "_") for name in names]
    for name, simple in zip(names, plain, strict=True):
        yield f"{quoted(name)} AS {quoted(simple if plain.count(simple) == 1 else name)}"
