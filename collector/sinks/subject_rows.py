"""A person's rows in a store: select them, delete them, or clear some of their fields."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from collector.contracts import Record, Subject
from collector.errors import DeliveryError
from collector.sinks.pruning import mark, try_sweep
from collector.sinks.store_file import (
    RESERVED_COLUMNS,
    opened,
    run_or_raise,
    tables,
)
from collector.sqlite.connection import quoted, transaction
from collector.sqlite.definition import columns_of


def rows(db: sqlite3.Connection, subject: Subject) -> Iterator[tuple[str, Record]]:
    """Yield each row of a person with its table, without columns that are NULL."""
    for table in _tables_with_field(db, subject):
        query = f"SELECT * FROM {quoted(table)} WHERE {_is(subject)} ORDER BY received"  # noqa: S608
        found = db.execute(query, _values(subject))
        names = [column[0] for column in found.description]
        for row in found:
            named = zip(names, row, strict=True)
            yield table, {name: value for name, value in named if value is not None}


def delete(db: sqlite3.Connection, subject: Subject) -> int:
    """Delete a person's rows, within a transaction, and return their number; the file must be swept
    after it."""
    mark(db)
    return sum(
        db.execute(f"DELETE FROM {quoted(table)} WHERE {_is(subject)}", _values(subject)).rowcount  # noqa: S608
        for table in _tables_with_field(db, subject)
    )


def clear(db: sqlite3.Connection, subject: Subject, fields: Collection[str]) -> int:
    """Clear fields of a person's rows, within a transaction, and delete rows without any other
    field; return the number of both. The file must be swept after it."""
    mark(db)
    number = 0
    for table in _tables_with_field(db, subject):
        columns = [name for name in columns_of(db, table) if name not in RESERVED_COLUMNS]
        cleared = [quoted(name) for name in columns if name in fields]
        others = [quoted(name) for name in columns if name not in fields]
        if not cleared:
            continue
        here = f"{_is(subject)} AND ({' OR '.join(f'{name} IS NOT NULL' for name in cleared)})"
        none = " AND ".join(f"{name} IS NULL" for name in others) or "1"
        empty = ", ".join(f"{name} = NULL" for name in cleared)
        for change in (f"DELETE FROM {quoted(table)}", f"UPDATE {quoted(table)} SET {empty}"):  # noqa: S608
            only = f" AND {none}" if change.startswith("DELETE") else ""
            number += db.execute(f"{change} WHERE {here}{only}", _values(subject)).rowcount
    return number


def remove(
    path: Path, steps: Sequence[tuple[Subject, Collection[str] | None]], wait: float
) -> tuple[list[int], bool]:
    """Delete the rows of each person out of the store at a path, if there is one, or clear the
    fields that are named, all of it in one transaction, and sweep the file; wait so many seconds
    for readers. Return the number of rows of each, and whether no byte of them is left. Raises
    ``DeliveryError``."""
    if not path.is_file() or not path.stat().st_size:  # no store yet
        return [0] * len(steps), True

    def change(db: sqlite3.Connection) -> list[int]:
        return [
            delete(db, subject) if fields is None else clear(db, subject, fields)
            for subject, fields in steps
        ]

    def change_all(db: sqlite3.Connection) -> tuple[list[int], bool]:
        with transaction(db):
            numbers = change(db)
            if _is_left(db, steps):
                change(db)  # a trigger of another program has copied some
            is_gone = not _is_left(db, steps)
            people = {(each.value, each.start, each.end) for each, _ in steps}
            if not is_gone and len(people) > 1:  # the caller tries each by itself, and counts that
                raise DeliveryError("E501", _IN_THE_WAY)
        return numbers, is_gone

    with opened(path) as db:
        numbers, is_gone = run_or_raise(lambda: change_all(db))
        is_swept = try_sweep(db, path, wait)
    if not is_gone:
        raise DeliveryError("E501", _IN_THE_WAY)
    return numbers, is_swept


def _is_left(
    db: sqlite3.Connection, steps: Sequence[tuple[Subject, Collection[str] | None]]
) -> bool:
    return any(_has_rows(db, subject, fields) for subject, fields in steps)


_IN_THE_WAY = "a trigger of another program keeps rows that are deleted; remove it from the store"


def _has_rows(db: sqlite3.Connection, subject: Subject, fields: Collection[str] | None) -> bool:
    """Return whether rows of a person are there, with one of the fields if they are named."""
    for table in _tables_with_field(db, subject):
        names = [quoted(name) for name in columns_of(db, table) if fields and name in fields]
        some = "1" if fields is None else " OR ".join(f"{name} IS NOT NULL" for name in names)
        query = f"SELECT 1 FROM {quoted(table)} WHERE {_is(subject)} AND ({some or '0'})"  # noqa: S608
        if db.execute(query, _values(subject)).fetchone() is not None:
            return True
    return False


def _tables_with_field(db: sqlite3.Connection, subject: Subject) -> list[str]:
    """Return the tables that have the field and the time of receipt, as ours do."""
    needed = {subject.field, "received"}
    concerned = filter(subject.concerns, tables(db, own=True))
    return [table for table in concerned if needed <= columns_of(db, table).keys()]


def _is(subject: Subject) -> str:
    return f"{quoted(subject.field)} = ? AND received >= ? AND received < ?"


def _values(subject: Subject) -> tuple[str, str, str]:
    return subject.value, subject.start, subject.end
