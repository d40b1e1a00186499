"""Read a store without changing it: its tables of records, their columns and views, and counts."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from collector.errors import ConfigError, DeliveryError, file_name
from collector.sinks.store_file import (
    FOREIGN,
    OWN,
    RESERVED_COLUMNS,
    Table,
    require_known_format,
    require_store,
    run_or_raise,
    statements,
    tables,
    view_of,
)
from collector.sqlite import foreign
from collector.sqlite.connection import connect_in_place, connect_to_read, quoted
from collector.sqlite.definition import columns_of
from collector.sqlite.wal import MAGIC, head, is_log, need_room

_T = TypeVar("_T")


@contextmanager
def reading(path: Path, seconds: float | None = None) -> Iterator[sqlite3.Connection]:
    """Open a read-only connection to one state of a store's file. Its temporary tables are in
    memory only. Wait up to ``seconds`` if another process has an exclusive lock.

    Raises ``ConfigError`` E203 if there is no such file, and ``DeliveryError`` if it cannot be read
    or has another format (E501). Run queries with ``read_or_raise``.
    """
    if not path.is_file():
        message = f"{file_name(path)} is not there; name the directory or the file of a store"
        raise ConfigError("E203", message)
    db = connect_to_read(path, seconds)
    if db is None:
        raise DeliveryError("E501", FOREIGN)
    with closing(db):
        require_store(db)
        yield db


def check_store(path: Path, table: Table) -> None:
    """Raise ``DeliveryError`` for a file that is not a store of ours or has another format (E501),
    or has other columns (E504), as far as reading shows that. Creates nothing."""
    text, has_log, has_index = b"", False, path.with_name(f"{path.name}-shm").exists()
    log = path.with_name(f"{path.name}-wal")
    with suppress(OSError):
        text = head(path)
        has_log = log.exists() and log.stat().st_size > 0 and is_log(log)
    if text and text[:16] != MAGIC:
        raise DeliveryError("E501", FOREIGN)
    require_known_format(int.from_bytes(text[60:64]) or OWN.format)  # 0 in an empty file
    if not text or (has_log and not has_index):
        return  # empty, or readable only by a connection that may write
    try:
        if has_index:
            need_room(path)
    except OSError:
        return  # without room for the index, reading it would kill the process
    try:
        with closing(read_or_raise(lambda: connect_in_place(path, has_index=has_index))) as db:
            require_store(db)
            read_or_raise(lambda: table.check(db))
    except DeliveryError as error:
        if not error.may_pass:  # a store that is in use opens later
            raise


def read_or_raise(action: Callable[[], _T]) -> _T:
    """Run an action that reads. Raises ``DeliveryError`` E501 or E503."""
    return run_or_raise(action, "E501", FOREIGN)


@dataclass(frozen=True, slots=True)
class Shape:
    """A table of records: its columns with their types, and its view, if it has one."""

    table: str
    columns: Mapping[str, str]
    view: str | None


@dataclass(frozen=True, slots=True)
class Contents(Shape):
    """The counts of a table. A row counts for as many events as its ``count`` says. ``first`` and
    ``last`` are the minutes of the oldest and the newest row."""

    rows: int
    events: int
    first: str | None
    last: str | None


def contents(db: sqlite3.Connection) -> list[Contents]:
    """Count the rows and events of all tables of records."""
    figures = "count(*), coalesce(sum(count), 0), min(received), max(received)"
    query = f"SELECT {figures} FROM {{}}"  # noqa: S608 - constants
    return [
        Contents(each.table, each.columns, each.view, *row)
        for each in shapes(db)
        for row in db.execute(query.format(quoted(each.table)))
    ]


def shapes(db: sqlite3.Connection) -> list[Shape]:
    """Return the tables of records, without those of other programs."""
    found = db.execute("PRAGMA main.table_list").fetchall()
    strict = {name for _, name, kind, *_, is_strict in found if kind == "table" and is_strict}
    views = {name for _, name, kind, *_ in found if kind == "view"}
    return [
        Shape(table, columns, view if (view := view_of(table)) in views else None)
        for table in tables(db)
        if (columns := columns_of(db, table)).keys() >= set(RESERVED_COLUMNS) and table in strict
    ]


def foreign_parts(path: Path) -> int:
    """Count the parts of a store's file that we would not have written."""

    def words(db: sqlite3.Connection) -> set[str]:
        return {name for each in shapes(db) for name in (each.table, *each.columns)}

    return foreign.foreign_parts(path, OWN, statements, words)
