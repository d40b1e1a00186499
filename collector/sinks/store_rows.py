"""The rows of a store: rules are applied to them, and every byte of what goes is swept.

The retention of each field is noted in the store itself, by each process that opens it for a
schema. So any store can be pruned without the schema that its records came from, and a field that a
schema no longer has is removed when it would have been.

A store that delivers is pruned in steps of some milliseconds, between which batches are delivered.
That something is to be swept is noted in the transaction that deletes: then the file is rebuilt and
its log emptied, once no process reads an earlier state, also by the next process after a kill.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import TypeVar

from collector.contracts import Layout, Record, Removal
from collector.errors import DeliveryError
from collector.filter.redaction import Rule, SqlRule, shortest_retentions, sql
from collector.filter.stored import Values
from collector.schema.model import Schema
from collector.sinks.inventory import read_or_raise, reading, shapes
from collector.sinks.sink import Holding
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
_STEP_SECONDS = 0.05
_HOUR = 3600.0
_SOON = 1.0
"""The pause after a reader prevented that the log was emptied,"""
_LATER = 60.0
"""and after any other error: disk or memory are full, or another process writes all the time."""
_LONGEST_VALUE = 512
"""Bytes: more than any kind has; its longest values are 64 characters."""
_T = TypeVar("_T")
_IN_THE_WAY = "a trigger of another program keeps rows that are deleted; remove it from the store"


# -- retention ------------------------------------------------------------------------------------


def note(db: sqlite3.Connection, table: str, spans: Mapping[str, timedelta]) -> None:
    """Note the retention of fields of a table; what is noted of other fields stays."""
    rows = [(table, field, int(span.total_seconds())) for field, span in spans.items()]
    db.executemany("INSERT OR REPLACE INTO _retention VALUES (?, ?, ?)", rows)


def note_foreign(db: sqlite3.Connection, layout: Layout, schemas: Sequence[Schema]) -> None:
    """Note the retention of fields of another schema than those that the store was opened for,
    unless it is noted: the shortest of fields of the same name, otherwise of all."""
    if layout.table not in retentions(db):
        spans = shortest_retentions(schemas)
        shortest = min(spans.values())
        note(db, layout.table, {name: spans.get(name, shortest) for name, _ in layout.columns})


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
    """Yield the tables, of other programs too, that say when a record was received, and what a rule
    does to them; ``None`` if it knows nothing of them."""
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
    for table, _, compiled in _concerned(db, rule):
        if compiled is None:
            (number,) = db.execute(f"SELECT count(*) FROM {quoted(table)}").fetchone()  # noqa: S608
            yield Holding(table, 0, {}, None, None, number)
            continue
        figures = ", ".join(
            ("count(*)", "min(received)", "max(received)", *compiled.counts.values())
        )
        query = f"SELECT {figures} FROM {quoted(table)} WHERE {compiled.concerned}"  # noqa: S608
        number, first, last, *times = db.execute(query, compiled.values).fetchone()
        yield Holding(table, number, dict(zip(compiled.counts, times, strict=True)), first, last)


def values(db: sqlite3.Connection) -> Iterator[Values]:
    """Yield the different values of each column, some thousand rows at a time, by table. A text
    longer than any value of ours comes as its beginning."""
    db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LONGEST_BYTES)
    for shape in shapes(db):
        names = ", ".join(_shortened(name, kind) for name, kind in shape.columns.items())
        rows = db.execute(f"SELECT {names} FROM {quoted(shape.table)}")  # noqa: S608
        while some := rows.fetchmany(_ROWS):
            columns = map(set, zip(*some, strict=True))
            yield shape.table, dict(zip(shape.columns, columns, strict=True))


def _shortened(name: str, kind: str) -> str:
    """Return SQL for the values of a column, of which a bounded part is read."""
    if kind in ("INTEGER", "REAL"):
        return quoted(name)
    value = f"CAST({quoted(name)} AS BLOB)"
    long = f"substr({value}, 1, {_LONGEST_VALUE})"
    return f"CASE WHEN length({value}) > {_LONGEST_VALUE} THEN {long} ELSE {quoted(name)} END"


def _change(
    db: sqlite3.Connection, table: str, compiled: SqlRule, within: str = "", *places: int
) -> Removal:
    """Delete and shorten rows, within a transaction; note that the file must be swept."""
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


def steps(db: sqlite3.Connection, rule: Rule) -> Iterator[tuple[str, Removal]]:
    """Carry out a rule by age, a transaction of some thousand rows for each item: the table, and
    what was removed. The file must be swept afterwards. Raises ``sqlite3.Error``."""
    for table, columns, compiled in list(_concerned(db, rule)):
        if compiled is None:
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
            yield table, done
            at = end


# -- sweeping -------------------------------------------------------------------------------------


def mark(db: sqlite3.Connection) -> None:
    """Note, in the transaction that deletes, that the file must be swept."""
    db.execute("INSERT OR IGNORE INTO _remains VALUES (1)")


def _has_remains(db: sqlite3.Connection) -> bool:
    """Return whether deleted bytes may be in the file or its log."""
    with suppress(sqlite3.OperationalError):
        return db.execute("SELECT 1 FROM _remains").fetchone() is not None
    return False


def sweep(db: sqlite3.Connection, path: Path, seconds: float = 0.0) -> Iterator[bool]:
    """Rebuild the file, then empty its log; yield ``False`` for each try that a reader prevented,
    after waiting so many seconds for it. Raises ``sqlite3.Error``, ``MemoryError``, and ``OSError``
    when there is no room."""
    compact(db, path)
    while not empty_log(db, path, seconds):
        yield False
    with suppress(sqlite3.OperationalError):  # a store may have no such table
        db.execute("DELETE FROM _remains")
    yield True


def _try_sweep(db: sqlite3.Connection, path: Path, seconds: float) -> bool:
    """Sweep; return ``False`` if a reader prevented it for so many seconds, or if disk or memory
    have no room. Then it must be called again."""
    with suppress(sqlite3.Error, OSError, MemoryError):
        return next(sweep(db, path, seconds))
    return False


# -- files ----------------------------------------------------------------------------------------


def read(path: Path, look: Callable[[sqlite3.Connection], Iterable[_T]]) -> Iterator[_T]:
    """Yield what a look at a store finds; nothing where no store is. Raises ``DeliveryError``."""
    if not path.is_file() or not path.stat().st_size:
        return
    with reading(path) as db:
        found = iter(look(db))
        while (item := read_or_raise(lambda: next(found, None))) is not None:
            yield item


def rewrite(path: Path, rules: Sequence[Rule], wait: float) -> list[Removal]:
    """Carry out rules, and sweep the file; wait so many seconds for readers. Rules by age go in
    steps, others together in one transaction. Raises ``DeliveryError``."""
    if not path.is_file() or not path.stat().st_size:  # no store yet
        return [Removal() for _ in rules]
    is_by_age, is_gone = all(rule.now is not None for rule in rules), True
    with opened(path) as db:
        if is_by_age:
            found = run_or_raise(lambda: [_prune(db, rule) for rule in rules])
        else:
            found, is_gone = run_or_raise(lambda: _remove(db, rules))
        is_due = not is_by_age or any(found) or _has_remains(db)
        is_swept = not is_due or _try_sweep(db, path, wait)
    if not is_gone:
        raise DeliveryError("E501", _IN_THE_WAY)
    return [each + Removal(is_swept=is_swept) for each in found]


def _prune(db: sqlite3.Connection, rule: Rule) -> Removal:
    done = sum((done for _, done in steps(db, rule)), Removal())
    unruled = (table for table, _, compiled in _concerned(db, rule) if compiled is None)
    return done + Removal(unruled=tuple(unruled))


def _remove(db: sqlite3.Connection, rules: Sequence[Rule]) -> tuple[list[Removal], bool]:
    """Carry out rules in one transaction; return whether no row is left that they concern. Of
    several rules none is carried out then: the caller tries each by itself, and counts that."""

    def is_left() -> bool:
        return any(True for rule in rules for _ in scan(db, rule))

    with transaction(db):
        mark(db)
        found = _change_all(db, rules)
        if is_left():
            _change_all(db, rules)  # a trigger of another program has copied some
        is_gone = not is_left()
        if not is_gone and len(rules) > 1:
            raise DeliveryError("E501", _IN_THE_WAY)
    return found, is_gone


class Pruning:
    """Prune a store at the start and once an hour, in small steps: ``work`` when it is ``due``. It
    never raises; after an error it is due again soon, and ``is_held`` is true meanwhile."""

    def __init__(self, path: Path, report: Callable[[Removal], None] | None = None) -> None:
        self.is_held: bool = False
        self.due: float = monotonic()
        self._path = path
        self._report = report
        self._steps: Iterator[float] | None = None
        self._has_compacted = False

    def __repr__(self) -> str:
        return "<Pruning>"

    def work(self, db: sqlite3.Connection) -> bool:
        """Prune for some milliseconds, unless the file must be rebuilt; return whether it was."""
        until, self._has_compacted = monotonic() + _STEP_SECONDS, False
        try:
            self._steps = self._steps or self._all(db)
            for pause in self._steps:
                if pause or monotonic() >= until:
                    self.due = monotonic() + pause
                    return self._has_compacted
            self.is_held, pause = False, _HOUR
        except (sqlite3.Error, OSError, MemoryError):
            self.is_held, pause = True, _LATER
        self._steps = None
        self.due = monotonic() + pause
        return self._has_compacted

    def _all(self, db: sqlite3.Connection) -> Iterator[float]:
        """Run a whole pass; yield the pause after each step."""
        total = Removal()
        for _, done in steps(db, Rule.expiry_by_name(retentions(db), datetime.now(UTC))):
            total += done
            yield 0.0
        if total and self._report is not None:
            self._report(total)
        if total or _has_remains(db):
            for is_done in sweep(db, self._path):
                self._has_compacted = True
                self.is_held = not is_done
                yield 0.0 if is_done else _SOON
