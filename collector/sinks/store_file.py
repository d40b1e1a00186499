"""The store's file: connections and transactions, its tables, and the places of their rows.

A commit is durable, and deleted data are overwritten. Rows are in random order among thousands of
others, so that neighbours do not tell who met whom.
"""

from __future__ import annotations

import errno
import os
import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from operator import itemgetter
from pathlib import Path
from time import monotonic
from typing import TypeVar

from collector.contracts import Batch, Layout, Row
from collector.errors import ConfigError, DeliveryError, file_name
from collector.files import failing_as, make_directory
from collector.files import make_private as make_file_private
from collector.filter.redaction import Dialect
from collector.sinks.sink import random_keys
from collector.sqlite.connection import (
    checkpoint,
    connect_unset,
    is_transient,
    make_durable,
    not_waiting,
    quoted,
    transaction,
)
from collector.sqlite.definition import Definition, columns_of, format_of, tables_of

FOREIGN = (
    "the store cannot be read: it is damaged, locked by another program, or not a store of"
    " Collector; name another file, or end that program"
)
RESERVED_COLUMNS = ("received", "count")
"""The columns of each table that are not fields."""
OWN = Definition(
    (
        (
            "CREATE TABLE IF NOT EXISTS _delivered"
            " (number INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE) STRICT"
        ),
        (
            'CREATE TABLE IF NOT EXISTS _retention ("table" TEXT NOT NULL, field TEXT NOT NULL,'
            ' seconds INTEGER NOT NULL, PRIMARY KEY ("table", field)) STRICT, WITHOUT ROWID'
        ),
        (
            "CREATE TABLE IF NOT EXISTS _remains"
            " (one INTEGER PRIMARY KEY CHECK (one = 1), mark INTEGER NOT NULL) STRICT"
        ),
    ),
    format=1,
)
"""The tables of a store besides those of schemas. They have the ids of batches and the retention of
each field. While deleted bytes may be in the file or its log, ``_remains`` has the mark of the last
deletion."""
SQLITE = Dialect(lambda name, _: f":{name}", quoted)
"""The dialect in which rules are compiled for SQLite."""
_NOT_NOW = "the store did not take the batch; is the disk full or the store in use?"
_T = TypeVar("_T")


# -- connections ----------------------------------------------------------------------------------


def make_private(path: Path) -> None:
    """Create the directory (0700), as ``make_directory`` does, and the file (0600) if they do not
    exist; restrict an existing file to its owner. Raises ``ConfigError`` E203, also for a symbolic
    link."""
    message = "the store's file cannot be made or written; check its directory"
    make_directory(path.parent)
    try:
        make_file_private(path)
        if os.access(path, os.R_OK | os.W_OK):
            return
    except OSError as error:
        if error.errno == errno.ELOOP:
            message = "the store's file is a symbolic link; name the file that it leads to"
    raise ConfigError("E203", message)


def connect(path: Path) -> sqlite3.Connection:
    """Open a connection without settings, and read and write nothing. Raises ``DeliveryError`` E503
    if the system does not permit it now."""
    return run_or_raise(lambda: connect_unset(path), "E501", "the store cannot be opened")


def require_store(db: sqlite3.Connection) -> None:
    """Check that a file is a store of ours, or empty. Raises ``DeliveryError`` E501 if it is not,
    or if it has another format."""
    found = run_or_raise(lambda: format_of(db), "E501", FOREIGN)
    if found is not None:
        if "_delivered" not in run_or_raise(lambda: tables_of(db), "E501", FOREIGN):
            raise DeliveryError("E501", FOREIGN)
        require_known_format(found)


def require_known_format(version: int) -> None:
    """Raise ``DeliveryError`` E501 for the ``user_version`` of another format."""
    if version != OWN.format:
        message = "the store has a format that this version of Collector does not know"
        raise DeliveryError("E501", message)


@contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    """Open the file of an existing store, which other processes may have open.

    Raises ``ConfigError`` E203 if there is no file, and ``DeliveryError`` if it is not a store of
    ours or has another format (E501), or cannot be opened now (E503).
    """
    if not path.is_file():
        message = f"{file_name(path)} is not there; name the directory or the file of a store"
        raise ConfigError("E203", message)
    with closing(connect(path)) as db:
        require_store(db)
        run_or_raise(lambda: make_durable(db), "E501", FOREIGN)
        yield db


def run_or_raise(action: Callable[[], _T], code: str = "E503", message: str = _NOT_NOW) -> _T:
    """Run an action. Raise ``DeliveryError`` for a database error, without that error as its
    context: E503 if the error is transient, else ``code``."""

    def failure(error: BaseException) -> DeliveryError:
        if is_transient(error):
            return DeliveryError("E503", _NOT_NOW)
        return DeliveryError(code, message)

    with failing_as(failure, sqlite3.Error, OSError):
        return action()


# -- tables ---------------------------------------------------------------------------------------

_ROW_NUMBERS = ("rowid", "_rowid_", "oid")
"""SQLite's names for the number of a row. A field with one of these names hides it."""


class Table:
    """The table of a layout, with its statements. ``insert`` takes rows with their place and minute
    before the values. ``last`` selects the highest place, and ``count`` the number of events,
    including merged ones. From a place on, ``since`` selects rows with their places in front,
    ``places`` selects only the places, and ``remove`` deletes the rows."""

    def __init__(self, layout: Layout) -> None:
        self.name: str = layout.table
        self._types = dict(layout.columns)
        names = ", ".join(map(quoted, ["received", *self._types, "count"]))
        marks = ", ".join("?" * (len(self._types) + 3))
        table, place = quoted(self.name), row_number_of(self._types)
        self._place = place
        self.quoted: str = table
        self.insert: str = f"INSERT INTO {table} ({place}, {names}) VALUES ({marks})"  # noqa: S608
        self.last: str = f"SELECT coalesce(max({place}), 0) FROM {table}"  # noqa: S608
        self.count: str = f"SELECT coalesce(sum(count), 0) FROM {table}"  # noqa: S608
        self.since: str = f"SELECT {place}, * FROM {table} WHERE {place} >= ?"  # noqa: S608
        self.places: str = f"SELECT {place} FROM {table} WHERE {place} >= ?"  # noqa: S608
        self.remove: str = f"DELETE FROM {table} WHERE {place} >= ?"  # noqa: S608

    def rows(self, batch: Batch) -> list[Row]:
        """Return a batch's values in the order of the columns, and counts."""
        if batch.rows is not None:
            return batch.rows()
        return [(*map(record.get, self._types), record.get("count", 1)) for record in batch.records]

    def names(self, db: sqlite3.Connection) -> list[str]:
        """Return the place and all columns, including those of other layouts, as SQL."""
        return [self._place, *map(quoted, columns_of(db, self.name))]

    def check(self, db: sqlite3.Connection) -> None:
        """Raise ``DeliveryError`` E504 if a column has another type."""
        found = columns_of(db, self.name)
        for name, kind in self._types.items():
            if found.get(name, kind) != kind:
                raise DeliveryError(
                    "E504", f"column `{name}` has another type; use a new store, or a new name"
                )

    def fit(self, db: sqlite3.Connection, view: bool = False) -> None:
        """Create the table, or add missing columns. Create its view if there is none; with
        ``view``, recreate it with the columns of this layout. Names in a view have no dots.

        Raises ``DeliveryError`` E504 if a column has another type.
        """
        if not columns_of(db, self.name):
            db.execute(_creation(self.name, self._types))
        self.check(db)
        found = columns_of(db, self.name)
        for name, kind in self._types.items():
            if name not in found:
                db.execute(_addition(self.name, name, kind))
        short = view_of(self.name)
        if view:
            db.execute(f"DROP VIEW IF EXISTS {quoted(short)}")
        if not columns_of(db, short):
            db.execute(_showing(self.name, ["received", *self._types, "count"]))


def _creation(table: str, types: Mapping[str, str]) -> str:
    """Return the statement that creates a table of records."""
    columns = ", ".join(f"{quoted(name)} {kind}" for name, kind in types.items())
    return (
        f"CREATE TABLE {quoted(table)} (received TEXT NOT NULL, {columns},"
        " count INTEGER NOT NULL DEFAULT 1) STRICT"
    )


def _addition(table: str, name: str, kind: str) -> str:
    """Return the statement that adds a column."""
    return f"ALTER TABLE {quoted(table)} ADD COLUMN {quoted(name)} {kind}"


def _showing(table: str, names: list[str]) -> str:
    """Return the statement that creates a table's view of some columns."""
    shown = ", ".join(_without_dots(names))
    return f"CREATE VIEW {quoted(view_of(table))} AS SELECT {shown} FROM {quoted(table)}"  # noqa: S608


def statements(db: sqlite3.Connection) -> Iterator[str]:
    """Yield the statements that made the tables of records and their views. Original columns of a
    table are before ``count``, added ones after it."""
    views = dict(db.execute("SELECT name, sql FROM sqlite_master WHERE type = 'view'"))
    for table in tables(db):
        names = [*(types := columns_of(db, table))]
        at = names.index("count") if "count" in names else 0
        if at > 1 and names[0] == "received" and {*types.values()} <= _TYPES:
            yield _creation(table, {name: types[name] for name in names[1:at]})
            yield from (_addition(table, name, types[name]) for name in names[at + 1 :])
            view = views.get(view_of(table), "")
            shown = [name.replace('""', '"') for name in _SHOWN.findall(view)]
            if types.keys() >= {*shown} and view == _showing(table, shown):
                yield view


_TYPES = {"TEXT", "INTEGER", "REAL"}
_SHOWN = re.compile(r'"((?:[^"]|"")*)" AS "')


def tables(db: sqlite3.Connection, *, own: bool = False) -> list[str]:
    """Return the names of the tables that contain records. With ``own``, include names that begin
    like those of the store's own tables, because other programs may use such names."""
    return [name for name in tables_of(db) if own or not name.startswith("_")]


def row_number_of(names: Iterable[str]) -> str:
    """Return SQLite's name for the number of a row in a table with these columns."""
    lower = {name.lower() for name in names}
    return next((name for name in _ROW_NUMBERS if name not in lower), _ROW_NUMBERS[0])


def view_of(table: str) -> str:
    """Return the name of a table's view."""
    return f"{table.replace('-', '_')}_view"


def _without_dots(names: list[str]) -> Iterator[str]:
    """Rename each column to a name without dots, unless that would be ambiguous."""
    plain = [name.replace(".", "_") for name in names]
    for name, simple in zip(names, plain, strict=True):
        yield f"{quoted(name)} AS {quoted(simple if plain.count(simple) == 1 else name)}"


# -- places of rows -------------------------------------------------------------------------------

_ROOM = 1 << 36
"""A row draws one of this many places from ``RowPlaces.base`` on. They are so many that two rows
seldom draw the same: in 1 of 1,000 transactions of 4,000 rows. There are places for 2 · 10¹²
rows."""
_MIXED = 1 << 14
"""A new row is placed among this many rows. With more, more pages must be written."""
_STEP = _ROOM // _MIXED
_DENSE = 1 << 30
"""If the last place of a table is lower, the table was rebuilt, and its rows are at 1, 2, 3 and so
on. Or the place was drawn, which does no harm."""
_LAST = (1 << 63) - 1
_REORDER_SECONDS = 60.0
_MOST_REORDERED = 1 << 15
"""More new rows than these are not reordered: if so many arrive in a minute, their transactions mix
them, because each one inserts in the order of places."""


class RowPlaces:
    """The places of the next rows of a table: each is random among the newest 16,384.

    Those are all rows of a small table, and all rows of a minute unless more arrive in it. With
    each row, the range of places moves on by one row's share, wherever the row itself is. So the
    end of the table does not have only the newest rows. In a table that was rebuilt, new rows go
    after the existing ones. ``last`` is the table's highest ``rowid``.
    """

    def __init__(self, last: int) -> None:
        self.base: int = 0
        self._move_to(last if last < _DENSE else last - _ROOM)

    def rows(
        self, parts: Iterable[tuple[str, Sequence[Row]]], taken: set[int] | None = None
    ) -> list[Row]:
        """Return rows with their place and minute in front, in the order of places; ``parts`` are
        minutes with their rows.

        Seldom, a place is already taken or drawn twice. If the ``taken`` places are given, draw
        again for each place that is not free.
        """
        placed = list[Row]()
        for minute, rows in parts:
            places = self._draw(len(rows))
            if taken is not None:
                places = [self._free(place, taken) for place in places]
            placed += [(place, minute, *row) for place, row in zip(places, rows, strict=True)]
        placed.sort(key=itemgetter(0))
        return placed

    def _draw(self, number: int) -> list[int]:
        base, mask = self.base, _ROOM - 1
        return [base + (key & mask) for key in random_keys(number)]

    def _free(self, place: int, taken: set[int]) -> int:
        while place in taken:
            (place,) = self._draw(1)
        taken.add(place)
        return place

    def advance(self, number: int) -> None:
        """Move the range on after ``number`` rows were inserted."""
        self._move_to(self.base + number * _STEP)

    def _move_to(self, base: int) -> None:
        self.base = min(max(self.base, base), _LAST - _ROOM)


class RowReorder:
    """Put new rows in the order of their places within the file, once a minute."""

    def __init__(self) -> None:
        self._first: dict[Table, int] = {}
        """By table, the first place of new rows."""
        self._added: dict[Table, int] = {}
        self.due: float = monotonic() + _REORDER_SECONDS
        """When rows are reordered next, by the monotonic clock."""

    def add(self, table: Table, first: int, number: int) -> None:
        """Note that ``number`` rows were inserted at places from ``first`` on."""
        self._first.setdefault(table, first)
        self._added[table] = self._added.get(table, 0) + number

    @property
    def is_due(self) -> bool:
        """Whether there are new rows and the time has come."""
        return bool(self._added) and monotonic() >= self.due

    def forget(self) -> None:
        """Forget new rows: the file was rebuilt in order."""
        self._first.clear()
        self._added.clear()

    def run(self, db: sqlite3.Connection) -> None:
        """Reorder new rows in one transaction, and empty the log. If another process prevents it,
        the next call does it."""
        self.due = monotonic() + _REORDER_SECONDS
        with not_waiting(db), suppress(sqlite3.Error):
            with transaction(db):
                for table, number in self._added.items():
                    if number <= _MOST_REORDERED:
                        _rewrite(db, table, self._first[table])
            self.forget()
            checkpoint(db)


def _rewrite(db: sqlite3.Connection, table: Table, first: int) -> None:
    execute, taken = db.execute, 'temp."new rows"'
    execute(f'CREATE TEMP TABLE "new rows" AS {table.since}', (first,))
    execute(table.remove, (first,))
    names = ", ".join(table.names(db))
    execute(f"INSERT INTO {table.quoted} ({names}) SELECT * FROM {taken} ORDER BY 1")  # noqa: S608
    execute(f"DROP TABLE {taken}")
