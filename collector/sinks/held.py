"""What a store holds of somebody: shown, deleted, or freed of some fields."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from collector.contracts import Record, Subject
from collector.errors import ConfigError
from collector.sinks.connection import ALIEN, configure, connect, guarded, need_ours, transaction
from collector.sinks.pruning import mark, swept
from collector.sinks.retention import tables
from collector.sinks.table import columns_of, quoted

__all__ = ["clear", "delete", "opened", "remove", "rows"]

_BESIDES = ("received", "count")


@contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    """The file of a store that is there; somebody else may have it open.

    Raises ``ConfigError`` E203 when there is none, ``DeliveryError`` when it is no store of ours
    (E501), newer than we are (E502), or cannot be opened now (E503).
    """
    if not path.is_file():
        raise ConfigError("E203", "there is no store there; name its directory or its file")
    with closing(connect(path)) as db:
        need_ours(db)
        guarded(lambda: configure(db), "E501", ALIEN)
        yield db


def rows(db: sqlite3.Connection, subject: Subject) -> Iterator[tuple[str, Record]]:
    """Each row of somebody with its table: its columns, but those that are NULL."""
    for table in _concerned(db, subject):
        query = f"SELECT * FROM {quoted(table)} WHERE {_is(subject)} ORDER BY received"  # noqa: S608
        found = db.execute(query, _values(subject))
        names = [column[0] for column in found.description]
        for row in found:
            named = zip(names, row, strict=True)
            yield table, {name: value for name, value in named if value is not None}


def delete(db: sqlite3.Connection, subject: Subject) -> int:
    """Delete the rows of somebody; how many there were. For a transaction; the file is to be swept
    after it."""
    mark(db)
    return sum(
        db.execute(f"DELETE FROM {quoted(table)} WHERE {_is(subject)}", _values(subject)).rowcount  # noqa: S608
        for table in _concerned(db, subject)
    )


def clear(db: sqlite3.Connection, subject: Subject, fields: Collection[str]) -> int:
    """Take fields out of the rows of somebody, and rows that have no other; how many had one. For a
    transaction; the file is to be swept after it."""
    mark(db)
    number = 0
    for table in _concerned(db, subject):
        columns = [name for name in columns_of(db, table) if name not in _BESIDES]
        going = [quoted(name) for name in columns if name in fields]
        staying = [quoted(name) for name in columns if name not in fields]
        if not going:
            continue
        here = f"{_is(subject)} AND ({' OR '.join(f'{name} IS NOT NULL' for name in going)})"
        none = " AND ".join(f"{name} IS NULL" for name in staying) or "1"
        empty = ", ".join(f"{name} = NULL" for name in going)
        for change in (f"DELETE FROM {quoted(table)}", f"UPDATE {quoted(table)} SET {empty}"):  # noqa: S608
            only = f" AND {none}" if change.startswith("DELETE") else ""
            number += db.execute(f"{change} WHERE {here}{only}", _values(subject)).rowcount
    return number


def remove(
    path: Path, action: Callable[[sqlite3.Connection], int], wait: float
) -> tuple[int, bool]:
    """What an action deletes from the store at a path, if there is one: how many rows it was, and
    whether no byte of them is left. Who is reading an earlier state is waited for so many seconds.
    Raises ``DeliveryError``."""
    if not path.is_file() or not path.stat().st_size:  # nothing was kept in it yet
        return 0, True
    with opened(path) as db:
        rows = guarded(lambda: transaction(db, lambda: action(db)))
        return rows, swept(db, path, wait)


def _concerned(db: sqlite3.Connection, subject: Subject) -> list[str]:
    """The tables that have the field, and say when: ours do."""
    needed = {subject.field, "received"}
    return [table for table in tables(db) if needed <= columns_of(db, table).keys()]


def _is(subject: Subject) -> str:
    return f"{quoted(subject.field)} = ? AND received >= ? AND received < ?"


def _values(subject: Subject) -> tuple[str, str, str]:
    return subject.value, subject.start, subject.end
