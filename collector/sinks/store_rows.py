"""Apply rules to the rows of a store, and sweep every byte of what they remove.

Each process that opens a store for a schema notes the retentions of its fields in the store. So any
store can be pruned without the schema of its records, and a field that a schema no longer has
expires on time.

While a store delivers, it is pruned in steps of some milliseconds, and takes batches between them.
The transaction that deletes notes that the file must be swept. Once no process reads an earlier
state, the file is compacted and its log emptied. After a kill, the next process does that.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from time import monotonic, sleep
from typing import TypeVar

from collector.contracts import Layout, Record, Removal
from collector.errors import DeliveryError
from collector.filter.redaction import Rule, SqlRule, sql
from collector.filter.stored import Values
from collector.sinks.inventory import read_or_raise, reading, shapes
from collector.sinks.sink import Holding, Opening, measured, random_keys
from collector.sinks.store_file import (
    SQLITE,
    opened,
    row_number_of,
    run_or_raise,
    tables,
)
from collector.sqlite.compaction import compact, empty_log
from collector.sqlite.connection import quoted, transaction
from collector.sqlite.definition import columns_of, tables_of
from collector.sqlite.foreign import LONGEST_BYTES

_NOTED = 'SELECT "table", field, seconds FROM _retention'
_ROWS = 5000
_FIRST = -(1 << 63)
_PAUSE = 0.05
_LONGEST_VALUE = 512
"""In bytes: more than a value of any kind has. The longest values have 64 characters."""
_T = TypeVar("_T")
_IN_THE_WAY = "a trigger of another program may keep what is deleted; remove it from the store"


# -- retention ------------------------------------------------------------------------------------


def note(db: sqlite3.Connection, layout: Layout, opening: Opening) -> None:
    """Note the retentions of a layout's fields, in case we later lack its schema. Keep the notes of
    other fields. If the schema does not run, keep all that is noted of it."""
    spans, is_own = opening.spans_of(layout)
    if is_own or layout.table not in retentions(db):
        rows = [(layout.table, name, int(span.total_seconds())) for name, span in spans.items()]
        db.executemany("INSERT OR REPLACE INTO _retention VALUES (?, ?, ?)", rows)


def retentions(db: sqlite3.Connection) -> dict[str, dict[str, timedelta]]:
    """Return the retentions of fields that are noted, by table."""
    noted: dict[str, dict[str, timedelta]] = {}
    for table, field, seconds in db.execute(_NOTED) if "_retention" in tables_of(db) else ():
        noted.setdefault(table, {})[field] = timedelta(seconds=seconds)
    return noted


# -- rules over tables ----------------------------------------------------------------------------


def _concerned(
    db: sqlite3.Connection, rule: Rule
) -> Iterator[tuple[str, Mapping[str, str], SqlRule | None]]:
    """Yield the tables with a column ``received``, including those of other programs, and what a
    rule does to them; ``None`` if the rule does not know the table."""
    for table in tables(db, own=True):
        columns = columns_of(db, table)
        if "received" in columns:
            parts = rule.parts(table)
            compiled = None if parts is None else sql(parts, columns, SQLITE)
            if parts is None or compiled is not None:
                yield table, columns, compiled


def scan(db: sqlite3.Connection, rule: Rule) -> Iterator[tuple[str, Record]]:
    """Yield the rows that a rule concerns, each with its table, without columns that are NULL."""
    for table, _, compiled in _concerned(db, rule):
        if compiled is not None:
            query = f"SELECT * FROM {quoted(table)} WHERE {compiled.concerned}"  # noqa: S608
            found = db.execute(query, compiled.values)
            names = [column[0] for column in found.description]
            for row in found:
                named = zip(names, row, strict=True)
                yield table, {name: value for name, value in named if value is not None}


def measure(db: sqlite3.Connection, rule: Rule) -> Iterator[Holding]:
    """Count the rows that a rule concerns, and the values that they lose, table by table."""
    tables = ((table, quoted(table), compiled) for table, _, compiled in _concerned(db, rule))
    return measured(tables, "received", lambda *asked: db.execute(*asked).fetchone())


def values(db: sqlite3.Connection) -> Iterator[Values]:
    """Yield the distinct values of each column by table, several thousand rows at a time. Of a text
    longer than any value of ours, yield only the beginning."""
    db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LONGEST_BYTES)
    for shape in shapes(db):
        names = ", ".join(_shortened(name, kind) for name, kind in shape.columns.items())
        rows = db.execute(f"SELECT {names} FROM {quoted(shape.table)}")  # noqa: S608
        yield shape.table, {name: set() for name in shape.columns}  # the table may be empty
        while some := rows.fetchmany(_ROWS):
            columns = map(set, zip(*some, strict=True))
            yield shape.table, dict(zip(shape.columns, columns, strict=True))


def _shortened(name: str, kind: str) -> str:
    """Return SQL that reads at most a bounded part of each value of a column."""
    if kind in ("INTEGER", "REAL"):
        return quoted(name)
    value = f"CAST({quoted(name)} AS BLOB)"
    long = f"substr({value}, 1, {_LONGEST_VALUE})"
    return f"CASE WHEN length({value}) > {_LONGEST_VALUE} THEN {long} ELSE {quoted(name)} END"


def _change(
    db: sqlite3.Connection, table: str, compiled: SqlRule, within: str = "", *places: int
) -> Removal:
    """Delete and shorten rows within a transaction; note that the file must be swept."""
    bound = {**compiled.values, **dict(zip(("after", "upto"), places, strict=False))}
    changes = compiled.changes(quoted(table), within)
    deleted, *rest = (db.execute(each, bound).rowcount for each in changes)
    shortened = sum(rest)
    if deleted or shortened:
        mark(db)
    return Removal(deleted, shortened)


def _change_all(db: sqlite3.Connection, rules: Iterable[Rule]) -> list[Removal]:
    return [
        sum(
            (
                _change(db, table, compiled)
                for table, _, compiled in _concerned(db, rule)
                if compiled is not None
            ),
            Removal(),
        )
        for rule in rules
    ]


def steps(
    db: sqlite3.Connection, path: Path, rule: Rule, compacted: Callable[[], None] = lambda: None
) -> Iterator[Removal]:
    """Carry out a rule by age, with a transaction of several thousand rows for each item. Then
    compact the file if deleted rows are not swept yet, and call ``compacted``. While a reader or a
    full disk prevents that, items are not swept, and the next item tries again. Raises
    ``sqlite3.Error``."""
    yield from _parts(db, rule)
    for is_swept in _sweeps(db, path, compacted):
        yield Removal(is_swept=is_swept)


def _parts(db: sqlite3.Connection, rule: Rule) -> Iterator[Removal]:
    """Carry out a rule by age, with a transaction of several thousand rows for each item."""
    for table, columns, compiled in list(_concerned(db, rule)):
        if compiled is None:
            yield Removal(unruled=(table,))
            continue
        place, at = row_number_of(columns), _FIRST
        within = f"{place} > :after AND {place} <= :upto AND "
        next_ = (
            f"SELECT max({place}) FROM (SELECT {place} FROM {quoted(table)}"  # noqa: S608
            f" WHERE {place} > ? ORDER BY {place} LIMIT {_ROWS})"
        )
        while (end := db.execute(next_, (at,)).fetchone()[0]) is not None:
            with transaction(db):
                done = _change(db, table, compiled, within, at, end)
            yield done
            at = end


# -- sweeping -------------------------------------------------------------------------------------


def mark(db: sqlite3.Connection) -> int:
    """Note, in the transaction that deletes, that the file must be swept; return the mark. A sweep
    that began earlier does not remove it."""
    (made,) = random_keys(1)
    made >>= 1  # SQLite's numbers have a sign
    db.execute("INSERT OR REPLACE INTO _remains VALUES (1, ?)", (made,))
    return made


def _sweeps(
    db: sqlite3.Connection, path: Path, compacted: Callable[[], None] = lambda: None
) -> Iterator[bool]:
    """Compact the file if deleted rows are not swept yet. Yield for each try whether it is
    swept."""
    done_at: int | None = None
    while (remains := _remains(db)) is not None:
        is_swept = False
        with suppress(sqlite3.Error, OSError, MemoryError):  # full, or others write all the time
            if remains == done_at:
                is_swept = empty_log(db, path)
            else:
                is_swept = compact(db, path)
                done_at = remains
                compacted()
        if is_swept:  # a mark that was made meanwhile stays
            db.execute("DELETE FROM _remains WHERE mark = ?", (remains,))
        yield is_swept


def _remains(db: sqlite3.Connection) -> int | None:
    """Return the mark of the last deletion whose bytes may be in the file or its log. Raises
    ``sqlite3.Error``."""
    if "_remains" not in tables_of(db):  # a store may have no such table
        return None
    found = db.execute("SELECT mark FROM _remains").fetchone()
    return None if found is None else int(found[0])


# -- files ----------------------------------------------------------------------------------------


def read(path: Path, look: Callable[[sqlite3.Connection], Iterable[_T]]) -> Iterator[_T]:
    """Yield what ``look`` finds in a store; nothing if there is no store. Raises
    ``DeliveryError``."""
    if not path.is_file() or not path.stat().st_size:
        return
    with reading(path) as db:
        found = iter(look(db))
        while (item := read_or_raise(lambda: next(found, None))) is not None:
            yield item


def rewrite(path: Path, rules: Sequence[Rule], wait: float) -> list[Removal]:
    """Carry out rules, and compact the file; wait up to ``wait`` seconds for readers. Rules by age
    run in steps, others together in one transaction. Raises ``DeliveryError``, also if another
    program has made a trigger, which may keep or copy what a person's rule deletes."""
    if not path.is_file() or not path.stat().st_size:  # no store yet
        return [Removal() for _ in rules]
    with opened(path) as db:
        return run_or_raise(lambda: _rewrite(db, path, rules, wait))


def _rewrite(
    db: sqlite3.Connection, path: Path, rules: Sequence[Rule], wait: float
) -> list[Removal]:
    if all(rule.now is not None for rule in rules):
        found = [sum(_parts(db, rule), Removal()) for rule in rules]
    else:
        with transaction(db):
            if db.execute("SELECT 1 FROM sqlite_master WHERE type = 'trigger'").fetchone():
                raise DeliveryError("E501", _IN_THE_WAY)
            found = _change_all(db, rules)
            mark(db)
    deadline = monotonic() + wait
    for is_swept in _sweeps(db, path):
        if monotonic() >= deadline:
            break
        sleep(0 if is_swept else _PAUSE)
    return [each + Removal(is_swept=_remains(db) is None) for each in found]
