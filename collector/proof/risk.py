"""What identifies: how many events, and how many people, stand alone in a store, and which coarser
precision would change that. Only looked at, in memory; what comes out are names and counts.

Events are alike if all their fields are. Many events that are alike may be of one person; so where
a field tells people apart, an address or a pseudonym, people are counted by it, and are alike if
all the other fields of an event of theirs are.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from collector.schema.kinds import Canonical, Circumstances, FieldBase
from collector.schema.kinds.base import utc_now
from collector.schema.kinds.ip import IpField, Truncation
from collector.schema.kinds.numeric import IntegerField, NumberField
from collector.schema.kinds.pseudonym import PseudonymField
from collector.schema.kinds.time import PRECISIONS, TimeField
from collector.schema.kinds.version import VersionField
from collector.schema.model import Schema
from collector.sinks.reading import looked, reading
from collector.sinks.retention import tables
from collector.sinks.table import columns_of, quoted

__all__ = ["Change", "Crowd", "Risk", "risks"]

_BESIDES = ("received", "count")
_DROPPED = "dropped"
_TRUNCATIONS = ((24, 48), (16, 32))
_STEPS = (10, 100)
_AROUND = Circumstances(utc_now, lambda *_: b"")


@dataclass(frozen=True)
class Crowd:
    """Groups of those who are alike: how many groups there are, how many are in all of them and in
    the smallest (k), and how many are alone in one."""

    groups: int
    total: int
    smallest: int
    alone: int


@dataclass(frozen=True)
class Change:
    """A field with less in it: ``how`` is the option as a schema has it, or that it is dropped.
    ``people`` as in ``Risk``, of the fields that tell nobody apart."""

    field: str
    how: str
    events: Crowd
    people: Crowd | None


@dataclass(frozen=True)
class Risk:
    """A table: its events, its people by the field that tells them apart, if there is one, and what
    would change if one field had less in it: what helps most first."""

    table: str
    fields: tuple[str, ...]
    by: str | None
    events: Crowd
    people: Crowd | None
    changes: tuple[Change, ...]

    def helped_by(self, change: Change) -> bool:
        """Whether fewer would be alone, or the smallest group would be larger."""
        pairs = ((self.events, change.events), (self.people, change.people))
        return any(
            now is not None
            and then is not None
            and (then.alone < now.alone or then.smallest > now.smallest)
            for now, then in pairs
        )


def risks(path: Path, schema: Schema) -> list[Risk]:
    """Of each table of a store; for that of the schema, what coarser options would change as well.

    Raises ``ConfigError`` E203 where there is no store, ``DeliveryError`` if it cannot be read.
    """
    with reading(path) as db:
        return looked(
            lambda: [
                _risk(db, table, schema.fields if table == schema.name else {})
                for table in tables(db)
            ]
        )


def _risk(db: sqlite3.Connection, table: str, known: Mapping[str, FieldBase]) -> Risk:
    names = [name for name in columns_of(db, table) if name not in _BESIDES]
    by = next((name for name in names if _tells_apart(known.get(name))), None)
    terms = {name: quoted(name) for name in names}
    listed = ", ".join(terms.values())
    db.execute("DROP TABLE IF EXISTS temp.alike")
    db.execute(
        f"CREATE TEMP TABLE alike AS SELECT {listed}, sum(count) AS _number"  # noqa: S608 - columns
        f" FROM {quoted(table)} GROUP BY {listed}"
    )
    if db.in_transaction:  # from here on the store's file is not needed, nor held
        db.execute("COMMIT")
    changes = [_change(db, name, how, terms, by) for name, how in _options(db, names, known)]
    return Risk(
        table,
        tuple(names),
        by,
        _events(db, terms),
        None if by is None else _people(db, terms, by),
        tuple(sorted(changes, key=lambda change: (change.events.alone, -change.events.smallest))),
    )


def _tells_apart(field: FieldBase | None) -> bool:
    is_whole = isinstance(field, IpField) and field.truncate == Truncation()
    return is_whole or isinstance(field, PseudonymField)


def _options(
    db: sqlite3.Connection, names: list[str], known: Mapping[str, FieldBase]
) -> Iterator[tuple[str, str]]:
    """Each field with each option that would leave less in it; what makes a value coarser is then
    an SQL function of the option's name."""
    for name in names:
        yield name, _DROPPED
        for how, coarser in _coarser(known.get(name)):
            db.create_function(how, 1, _or_null(coarser.canonical(_AROUND)), deterministic=True)
            yield name, how


def _or_null(canonical: Canonical) -> Canonical:
    return lambda value: None if value is None else canonical(value)


def _coarser(field: FieldBase | None) -> Iterator[tuple[str, FieldBase]]:
    """A field of the same kind for each coarser option that a schema can have."""
    match field:
        case IpField(truncate=Truncation(ipv4=ipv4, ipv6=ipv6)):
            for most in _TRUNCATIONS:
                cut = Truncation(ipv4=min(ipv4, most[0]), ipv6=min(ipv6, most[1]))
                if cut != field.truncate:
                    how = f"truncate: {{ipv4: {cut.ipv4}, ipv6: {cut.ipv6}}}"
                    yield how, field.model_copy(update={"truncate": cut})
        case VersionField():
            for parts in range(field.parts - 1, 0, -1):
                yield f"parts: {parts}", field.model_copy(update={"parts": parts})
        case TimeField():
            for precision in PRECISIONS[PRECISIONS.index(field.precision) + 1 :]:
                changed = {"precision": precision, "within": None}  # it was within when it came
                yield f"precision: {precision}", field.model_copy(update=changed)
        case IntegerField() | NumberField():
            yield from _in_longer_steps(field)


def _in_longer_steps(field: IntegerField | NumberField) -> Iterator[tuple[str, FieldBase]]:
    """Where the minimum is a multiple of the step, without which no schema loads."""
    for times in _STEPS:
        step = field.step * times
        if isinstance(step, float):
            step = float(f"{step:.15g}")  # 1e-6 * 100 is not quite 1e-4
        longer = field.model_copy(update={"step": step})
        fits = longer.canonical(_AROUND)(field.minimum) == field.minimum
        if fits and step <= field.maximum - field.minimum:
            yield f"step: {step}", longer


def _change(
    db: sqlite3.Connection, name: str, how: str, terms: Mapping[str, str], by: str | None
) -> Change:
    others = {other: term for other, term in terms.items() if other != name}
    if how != _DROPPED:
        others[name] = f"{quoted(how)}({terms[name]})"
    people = None if by in (None, name) else _people(db, others, by)
    return Change(name, how, _events(db, others), people)


def _events(db: sqlite3.Connection, terms: Mapping[str, str]) -> Crowd:
    groups = f"SELECT sum(_number) AS n FROM alike {_grouped(terms.values())}"  # noqa: S608 - columns
    return _crowd(db, f"SELECT count(*), sum(n), min(n), sum(n = 1) FROM ({groups})")  # noqa: S608


def _people(db: sqlite3.Connection, terms: Mapping[str, str], by: str) -> Crowd:
    """Somebody who is in several groups is counted once, and stands alone if it is so in one."""
    column, others = quoted(by), (term for name, term in terms.items() if name != by)
    groups = (
        f"SELECT count(DISTINCT {column}) AS n, min({column}) AS one FROM alike"  # noqa: S608
        f" WHERE {column} IS NOT NULL {_grouped(others)}"
    )
    every = f"(SELECT count(DISTINCT {column}) FROM alike)"  # noqa: S608
    alone = "count(DISTINCT CASE WHEN n = 1 THEN one END)"
    return _crowd(db, f"SELECT count(*), {every}, min(n), {alone} FROM ({groups})")  # noqa: S608


def _grouped(terms: Iterable[str]) -> str:
    """One group for each combination; a single one where there is nothing to tell apart."""
    return f"GROUP BY {', '.join(terms) or 'NULL'}"


def _crowd(db: sqlite3.Connection, query: str) -> Crowd:
    return Crowd(*(number or 0 for number in db.execute(query).fetchone()))
