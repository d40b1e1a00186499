"""Rules: lines, SQL and Arrow tables lose the same by any of them."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from itertools import pairwise, product
from typing import Any

import orjson
import psycopg
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from collector.arrow.tables import concerns, cut, read_records
from collector.contracts import FIRST, LAST, RESERVED, Part, Record, Subject, to_minute
from collector.filter.arrow import arrow_schema, read_table
from collector.filter.redaction import (
    EVERYTHING,
    Rule,
    matching,
    redact,
    sql,
)
from collector.sinks.postgres.columns import DIALECT
from collector.sinks.store_file import SQLITE
from tests.support.postgres import PostgresServer

_NOW = datetime(2026, 11, 24, 10, 20, tzinfo=UTC)
_FIELDS = ("client.address", "user.id", "os.type", "rtt")
_Row = tuple[str, Record]
_Outcome = list[_Row | None]


def _minute(hours: int) -> str:
    return to_minute(_NOW - timedelta(hours=hours))


_minutes = st.integers(0, 6).map(_minute)
_records = st.fixed_dictionaries(
    {},
    optional={
        "client.address": st.sampled_from(["10.0.0.1", "10.0.0.2"]),
        "user.id": st.sampled_from(["a", "b", "10.0.0.1"]),
        "os.type": st.sampled_from(["linux", 'with "quotes"']),
        "rtt": st.integers(0, 3),
    },
).filter(bool)
_rows = st.lists(st.tuples(_minutes, _records), max_size=12)
_fields = st.none() | st.frozensets(st.sampled_from([*_FIELDS, "gone"]))
_schemas = st.sampled_from(
    [(None, frozenset[str]()), ("s", frozenset()), ("other", frozenset()), (None, frozenset({"s"}))]
)


@st.composite
def _removals(draw: st.DrawFn) -> Rule:
    field, value = draw(
        st.sampled_from([("client.address", "10.0.0.1"), ("user.id", "a"), ("user.id", "10.0.0.1")])
    )
    start, end = draw(_minutes), draw(_minutes)
    return Rule.removal(Subject(field, value, start, end, *draw(_schemas)), draw(_fields))


_spans = st.dictionaries(
    st.sampled_from([*_FIELDS, "gone"]), st.integers(1, 5).map(lambda h: timedelta(hours=h))
)
_rules = st.one_of(
    _removals(),
    st.lists(_removals(), min_size=1, max_size=3).map(Rule.any_of),
    _spans.map(lambda spans: Rule.expiry_by_name({"s": spans}, _NOW)),
    st.just(EVERYTHING),
)


def _reference(rule: Rule, rows: Sequence[_Row]) -> _Outcome:
    """What is left of each row: the meaning of a rule."""
    return [_left(rule, minute, record) for minute, record in rows]


def _left(rule: Rule, minute: str, record: Record) -> _Row | None:
    removed, is_selected = set[str](), False
    for part in rule.parts("s/1.0.0") or ():
        is_theirs = part.field is None or record.get(part.field) == part.value
        if is_theirs and part.start <= minute < part.end and part.removed(_FIELDS):
            is_selected = True
            removed.update(part.removed(_FIELDS))
    left = {name: value for name, value in record.items() if name not in removed}
    return (minute, left) if left or not is_selected else None


def _as_lines(rows: Sequence[_Row]) -> bytes:
    whole = ({"schema": "s/1.0.0", **record, "received": minute} for minute, record in rows)
    return b"".join(orjson.dumps(each) + b"\n" for each in whole)


def _fields_of(record: Mapping[str, Any]) -> Record:
    return {
        name: value
        for name, value in record.items()
        if name not in RESERVED and name != "n" and value is not None
    }


def _by_number(rows: Sequence[_Row], found: Iterator[tuple[int, str, Record]]) -> _Outcome:
    left = {number: (minute, record) for number, minute, record in found}
    return [left.get(number) for number in range(len(rows))]


_EXAMPLES = 5 * settings().max_examples


@settings(max_examples=_EXAMPLES)
@given(_rows, _rules)
@example(
    [(_minute(1), {"user.id": "a", "rtt": 1}), (_minute(1), {"user.id": "b", "rtt": 2})],
    Rule.removal(Subject("user.id", "a", _minute(2), _minute(0), None, frozenset()), None),
)
def test_they_leave_the_same(rows: list[_Row], rule: Rule) -> None:
    """A reference says what a rule leaves of records."""
    expected = _reference(rule, rows)
    _check_lines(rows, rule, expected)
    _check_rows_of_sqlite(rows, rule, expected)
    _check_arrow_tables(rows, rule, expected)


_EVERY_RECORD: list[Record] = [
    {"client.address": "10.0.0.1"},
    {"client.address": "10.0.0.1", "user.id": "a"},
    {"client.address": "10.0.0.2", "user.id": "10.0.0.1"},
    {"client.address": "10.0.0.1", "os.type": "linux", "rtt": 0},
    {"user.id": "a", "os.type": "linux", "rtt": 1},
    {"user.id": "b", "rtt": 0},
    {"os.type": 'with "quotes"', "rtt": 2},
    {"rtt": 3},
]
_EVERY_ROW = [(_minute(hours), record) for hours in (3, 2, 1, 0) for record in _EVERY_RECORD]
_EVERY_PERSON = (("client.address", "10.0.0.1"), ("user.id", "a"), ("user.id", "10.0.0.1"))


def _every_rule() -> Iterator[Rule]:
    """Each person with each choice of fields and each window, and what concerns no person."""
    windows = [(_minute(2), _minute(1)), (_minute(3), _minute(0)), (FIRST, LAST)]
    fields = (
        None,
        frozenset({"os.type"}),
        frozenset({"client.address", "gone"}),
        frozenset(_FIELDS),
    )
    for start, end in windows:
        people = [
            Rule.removal(Subject(field, value, start, end, None, frozenset()), chosen)
            for (field, value), chosen in product(_EVERY_PERSON, fields)
        ]
        yield from people
        yield from (Rule.any_of(pair) for pair in pairwise(people))
        for chosen in fields:
            yield Rule(others=[Part(chosen, start=start, end=end)])
            yield Rule(others=[Part(chosen, frozenset({"rtt"}), start, end)])
    for spans in ({"rtt": 2}, {"rtt": 2, "os.type": 1}, dict.fromkeys(_FIELDS, 2)):
        ages = {name: timedelta(hours=hours) for name, hours in spans.items()}
        yield Rule.expiry_by_name({"s": ages}, _NOW)
    yield EVERYTHING


def test_each_rule_on_each_row() -> None:
    for rule in _every_rule():
        expected = _reference(rule, _EVERY_ROW)
        _check_lines(_EVERY_ROW, rule, expected)
        rows = [*_EVERY_ROW, *((minute, {}) for minute in map(_minute, range(4)))]
        expected = _reference(rule, rows)
        _check_rows_of_sqlite(rows, rule, expected)
        _check_arrow_tables(rows, rule, expected)


def _lost(rows: list[_Row], expected: _Outcome) -> dict[str, int]:
    """How many rows lose each field."""
    found = Counter[str]()
    for (_, record), left in zip(rows, expected, strict=True):
        found.update(name for name in record if left is None or name not in left[1])
    return dict(found)


def test_a_row_whose_minute_is_not_known() -> None:
    """It precedes all others: a window that has a beginning does not concern it."""
    types = {"user.id": "text", "rtt": "integer"}
    text = b'{"schema":"s/1.0.0","user.id":"a","rtt":1}\n'
    table = read_table(text, arrow_schema(types, b"s"))
    assert table["received"].null_count == 1
    for part, left in (
        (Part(start=_minute(9)), 1),
        (Part(end=_minute(9)), 0),
        (Part(start=_minute(9), field="user.id", value="a"), 1),
        (Part(), 0),
    ):
        assert len(cut(table, [part]).apply(table)[0]) == left


def _check_lines(rows: list[_Row], rule: Rule, expected: _Outcome) -> None:
    """What is found is what changes."""
    left, (done,) = redact(_as_lines(rows), [rule])
    assert left == _as_lines([each for each in expected if each is not None])
    assert done.deleted == expected.count(None)
    assert done.records == sum(a != b for a, b in zip(rows, expected, strict=True))
    found = [_fields_of(each) for each in matching(_as_lines(rows), rule)]
    assert found == [a[1] for a, b in zip(rows, expected, strict=True) if a != b]


def _check_rows_of_sqlite(rows: list[_Row], rule: Rule, expected: _Outcome) -> None:
    """Two statements change rows, and one selects what they change."""
    columns = {
        "n": "INTEGER",
        "received": "TEXT",
        **dict.fromkeys(_FIELDS, "TEXT"),
        "rtt": "INTEGER",
    }
    with closing(sqlite3.connect(":memory:")) as db:
        named = ", ".join(f'"{name}" {kind}' for name, kind in columns.items())
        db.execute(f"CREATE TABLE t ({named}) STRICT")
        marks = ", ".join("?" * len(columns))
        for number, (minute, record) in enumerate(rows):
            values = (number, minute, *map(record.get, _FIELDS))
            db.execute(f"INSERT INTO t VALUES ({marks})", values)
        del columns["n"]
        compiled = sql(rule.parts("s") or (), columns, SQLITE)
        counts, found = [0], 0
        if compiled is not None:
            query = f"SELECT count(*) FROM t WHERE {compiled.concerned}"
            (found,) = db.execute(query, compiled.values).fetchone()
            query = ", ".join(compiled.counts.values())
            (values,) = db.execute(f"SELECT {query} FROM t", compiled.values).fetchall()
            lost = {name: n for name, n in zip(compiled.counts, values, strict=True) if n}
            assert lost == _lost(rows, expected)
            counts = [db.execute(each, compiled.values).rowcount for each in compiled.changes("t")]
        left = _by_number(
            rows,
            (
                (number, minute, _fields_of(dict(zip(_FIELDS, values, strict=True))))
                for number, minute, *values in db.execute("SELECT * FROM t").fetchall()
            ),
        )
    assert left == expected
    deleted = expected.count(None)
    changed = sum(a != b for a, b in zip(rows, expected, strict=True))
    assert (counts[0], sum(counts[1:]), found) == (deleted, changed - deleted, changed)


def _check_arrow_tables(rows: list[_Row], rule: Rule, expected: _Outcome) -> None:
    """What concerns a table concerns its key columns."""
    types = {**dict.fromkeys(_FIELDS, "text"), "rtt": "integer"}
    table = read_table(_as_lines(rows), arrow_schema(types, b"s"))
    parts = rule.parts("s") or ()
    done = cut(table, parts)
    number, counts = done.counts(table)
    assert number == sum(a != b for a, b in zip(rows, expected, strict=True))
    assert {name: n for name, n in counts.items() if n} == _lost(rows, expected)
    left, shortened, deleted = done.apply(table)
    found = [(str(each["received"]), _fields_of(each)) for each in read_records(left)]
    assert found == [each for each in expected if each is not None]
    assert deleted == expected.count(None)
    assert shortened + deleted == sum(a != b for a, b in zip(rows, expected, strict=True))
    keys = table.select(["received", "client.address", "user.id"])
    assert concerns(keys, parts) or not shortened + deleted
    assert isinstance(left, pa.Table)


@pytest.mark.servers
def test_rows_of_postgres(clean: PostgresServer) -> None:
    columns = {"received": "timestamptz", "client.address": "inet", "user.id": "text"}
    columns |= {"os.type": "text", "rtt": "bigint"}
    with psycopg.connect(clean.admin_url(), autocommit=True) as db:

        @settings(max_examples=_EXAMPLES, deadline=None)
        @given(_rows, _rules)
        def law(rows: list[_Row], rule: Rule) -> None:
            expected = _reference(rule, rows)
            db.execute("DROP TABLE IF EXISTS pg_temp.t")
            named = ", ".join(f'"{name}" {kind}' for name, kind in columns.items())
            db.execute(f"CREATE TEMP TABLE t (n int, {named})".encode())
            for number, (minute, record) in enumerate(rows):
                values = (number, minute, *map(record.get, _FIELDS))
                db.execute(b"INSERT INTO t VALUES (%s, %s, %s::inet, %s, %s, %s)", values)
            compiled = sql(rule.parts("s") or (), columns, DIALECT)
            for statement in () if compiled is None else compiled.changes("t"):
                assert compiled is not None
                db.execute(statement.encode(), compiled.values)
            query = (
                b"SELECT n, to_char(received AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'),"
                b' host("client.address"), "user.id", "os.type", rtt FROM t'
            )
            left = _by_number(
                rows,
                (
                    (number, minute, _fields_of(dict(zip(_FIELDS, values, strict=True))))
                    for number, minute, *values in db.execute(query).fetchall()
                ),
            )
            assert left == expected

        law()
