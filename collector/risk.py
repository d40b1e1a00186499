"""The risk of identification: events and people that are alone in a store, and which changes would
help.

Computed in memory from a store that is only read; the result holds names and counts, no values.
Events are alike if all their fields are equal. Many equal events may come from one person. So if a
field identifies people (an address or a pseudonym), people are counted by it; two people are alike
if an event of each has the same values in all other fields.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from collector.schema.kinds import Canonical, FieldBase
from collector.schema.kinds.base import WITHOUT_KEYS
from collector.schema.model import Schema
from collector.sinks.inventory import read_or_raise, reading
from collector.sinks.store_file import tables
from collector.sqlite.connection import quoted
from collector.sqlite.definition import columns_of

_RESERVED_COLUMNS = ("received", "count")
_DROPPED = "dropped"


@dataclass(frozen=True)
class GroupStats:
    """Groups of events or people that are alike: the number of groups, the members in total and of
    the smallest group (k), and the members that are alone."""

    groups: int
    total: int
    smallest: int
    alone: int


@dataclass(frozen=True)
class Reduction:
    """A field made coarser: ``how`` is the option in a schema's notation, or says that the field is
    dropped. ``people`` is as in ``Risk``; ``None`` if the identifying field is dropped."""

    field: str
    how: str
    events: GroupStats
    people: GroupStats | None


@dataclass(frozen=True)
class Risk:
    """A table: its events, its people by the field that identifies them, if any, and the effect of
    each coarser field, the most helpful first."""

    table: str
    fields: tuple[str, ...]
    by: str | None
    events: GroupStats
    people: GroupStats | None
    changes: tuple[Reduction, ...]

    def helped_by(self, change: Reduction) -> bool:
        """Return whether fewer would be alone, or the smallest group would be larger."""
        comparisons = ((self.events, change.events), (self.people, change.people))
        return any(
            now is not None
            and reduced is not None
            and (reduced.alone < now.alone or reduced.smallest > now.smallest)
            for now, reduced in comparisons
        )


def risks(path: Path, schemas: Sequence[Schema]) -> list[Risk]:
    """Compute the risk of each table of a store; only tables of ``schemas`` have reductions.

    Raises ``ConfigError`` E203 if there is no store, ``DeliveryError`` if it cannot be read.
    """
    fields = {schema.name: schema.fields for schema in schemas}
    with reading(path) as db:
        return read_or_raise(
            lambda: [_risk(db, table, fields.get(table, {})) for table in tables(db)]
        )


def _risk(db: sqlite3.Connection, table: str, known: Mapping[str, FieldBase]) -> Risk:
    names = [name for name in columns_of(db, table) if name not in _RESERVED_COLUMNS]
    by = next((name for name in names if name in known and known[name].identifies), None)
    expressions = {name: quoted(name) for name in names}
    columns = ", ".join(expressions.values())
    db.execute("DROP TABLE IF EXISTS temp.alike")
    db.execute(
        f"CREATE TEMP TABLE alike AS SELECT {columns}, sum(count) AS _number"  # noqa: S608 - columns
        f" FROM {quoted(table)} GROUP BY {columns}"
    )
    if db.in_transaction:  # the rest needs no lock on the store's file
        db.execute("COMMIT")
    changes = [
        _reduction(db, name, how, expressions, by) for name, how in _reductions(db, names, known)
    ]
    return Risk(
        table,
        tuple(names),
        by,
        _events(db, expressions),
        None if by is None else _people(db, expressions, by),
        tuple(sorted(changes, key=lambda change: (change.events.alone, -change.events.smallest))),
    )


def _reductions(
    db: sqlite3.Connection, names: list[str], known: Mapping[str, FieldBase]
) -> Iterator[tuple[str, str]]:
    """Yield each field with each of its reductions, after defining an SQL function that is named
    after the reduction and makes a value coarser."""
    for name in names:
        yield name, _DROPPED
        for how, coarser in known[name].coarser() if name in known else ():
            db.create_function(
                how, 1, _or_null(coarser.canonical(WITHOUT_KEYS)), deterministic=True
            )
            yield name, how


def _or_null(canonical: Canonical) -> Canonical:
    return lambda value: None if value is None else canonical(value)


def _reduction(
    db: sqlite3.Connection, name: str, how: str, expressions: Mapping[str, str], by: str | None
) -> Reduction:
    others = {other: expression for other, expression in expressions.items() if other != name}
    if how != _DROPPED:
        others[name] = f"{quoted(how)}({expressions[name]})"
    people = None if by in (None, name) else _people(db, others, by)
    return Reduction(name, how, _events(db, others), people)


def _events(db: sqlite3.Connection, expressions: Mapping[str, str]) -> GroupStats:
    groups = f"SELECT sum(_number) AS n FROM alike {_grouped(expressions.values())}"  # noqa: S608 - columns
    return _group_stats(db, f"SELECT count(*), sum(n), min(n), sum(n = 1) FROM ({groups})")  # noqa: S608


def _people(db: sqlite3.Connection, expressions: Mapping[str, str], by: str) -> GroupStats:
    """Count each person once, also in several groups; one who is alone in any of them is alone."""
    column, others = (
        quoted(by),
        (expression for name, expression in expressions.items() if name != by),
    )
    groups = (
        f"SELECT count(DISTINCT {column}) AS n, min({column}) AS one FROM alike"  # noqa: S608
        f" WHERE {column} IS NOT NULL {_grouped(others)}"
    )
    every = f"(SELECT count(DISTINCT {column}) FROM alike)"  # noqa: S608
    unique = "count(DISTINCT CASE WHEN n = 1 THEN one END)"
    return _group_stats(db, f"SELECT count(*), {every}, min(n), {unique} FROM ({groups})")  # noqa: S608


def _grouped(expressions: Iterable[str]) -> str:
    """Return the clause for one group per combination; a single group if nothing is left."""
    return f"GROUP BY {', '.join(expressions) or 'NULL'}"


def _group_stats(db: sqlite3.Connection, query: str) -> GroupStats:
    return GroupStats(*(number or 0 for number in db.execute(query).fetchone()))
