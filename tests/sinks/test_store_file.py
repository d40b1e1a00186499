"""Places of rows: random among the newest, also within the file once rows are reordered."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from itertools import pairwise
from math import sqrt
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from collector.contracts import Batch, Layout, Row
from collector.schema import load_schema
from collector.sinks.store import Store
from collector.sinks.store_file import RowPlaces
from tests.support.database import query
from tests.support.deadline import WAIT_SECONDS

_AT = "2026-11-24T10:20:00Z"
_LAST = (1 << 63) - 1


def _rows(first: int, number: int) -> list[Row]:
    return [(value, 1) for value in range(first, first + number)]


def test_rows_get_a_place_and_their_minute() -> None:
    placed = RowPlaces(0).rows([(_AT, _rows(0, 500)), ("later", _rows(500, 500))])
    assert sorted(row[2:] for row in placed) == _rows(0, 1000)
    assert all(row[1] == (_AT if row[2] < 500 else "later") for row in placed)  # type: ignore[operator]
    numbers = [row[0] for row in placed]
    assert all(0 <= a < b <= _LAST for a, b in pairwise(numbers))  # type: ignore[operator]


def test_what_comes_together_does_not_lie_together() -> None:
    """Neighbours are of the same request as often as chance wants it: 9 times in 1,000, and not
    900."""
    places, table = RowPlaces(0), list[tuple[object, int]]()
    for request in range(100):
        rows = places.rows([(_AT, [(request, 1)] * 10)])
        places.advance(len(rows))
        table += [(row[0], request) for row in rows]
    table.sort()
    together = sum(one[1] == other[1] for one, other in pairwise(table))
    assert together < 40


def test_the_last_rows_do_not_lie_alone() -> None:
    """What is far from the end is not touched any more, so a table grows at its end."""
    places, table = RowPlaces(0), list[tuple[object, int]]()
    for number in range(500):
        rows = places.rows([(_AT, [(number, 1)] * 100)])
        places.advance(len(rows))
        table += [(row[0], number) for row in rows]
    table.sort()
    order = [number for _, number in table]
    assert sum(a == b == 499 for a, b in pairwise(order)) < 20  # three, as a rule
    assert min(order[25_000:]) > 150
    assert max(order[:25_000]) < 350


@pytest.mark.parametrize("last", [0, 1, 1 << 36, 1 << 50, _LAST - 1, _LAST])
def test_a_table_that_is_there_goes_on(last: int) -> None:
    places = RowPlaces(last)
    for _ in range(3):
        numbers = [row[0] for row in places.rows([(_AT, _rows(0, 1000))])]
        assert max(0, last - (1 << 37)) <= min(numbers) < max(numbers) <= _LAST  # type: ignore[type-var, operator]
        places.advance(1000)


def test_rows_that_were_numbered_anew_are_left_behind() -> None:
    """A table that was made anew is dense: the next rows go behind all of it."""
    assert RowPlaces(1_000_000).base == 1_000_000
    assert RowPlaces(1 << 37).base == 1 << 36
    assert RowPlaces(0).base == 0


_MINUTE = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:00Z")
_MEETINGS, _PEOPLE = 40, 8
_SIGMAS = 6


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "store.db", load_schema("conferencing")) as store:
        yield store


def _addresses() -> list[str]:
    """Of one length, and none within another."""
    numbers = random.sample(range(0x1000, 0x10000), _MEETINGS * _PEOPLE)
    return [f"2001:db8::{number:04x}" for number in numbers]


def _deliver(store: Store, addresses: list[str]) -> None:
    """Each meeting in a transaction of its own."""
    for number, at in enumerate(range(0, len(addresses), _PEOPLE)):
        records = [{"client.address": address} for address in addresses[at : at + _PEOPLE]]
        store.deliver(Batch(number.to_bytes(16), _MINUTE, records))


def _met(data: bytes, addresses: list[str]) -> float:
    """By how many standard deviations more neighbours in the bytes have met than chance wants."""
    meeting = {address: at // _PEOPLE for at, address in enumerate(addresses)}
    order = sorted(addresses, key=lambda address: data.find(address.encode()))
    met = sum(meeting[one] == meeting[other] for one, other in pairwise(order))
    return (met - (_PEOPLE - 1)) / sqrt(_PEOPLE - 1)


def _everything(path: Path) -> list[tuple[Any, ...]]:
    return query(path, "SELECT rowid, * FROM conferencing")


def test_bytes_tell_until_they_are_settled(store: Store) -> None:
    """Who met whom can be seen in the log; at the end it cannot."""
    addresses = _addresses()
    _deliver(store, addresses)
    before = _everything(store.path)
    log = store.path.with_name("store.db-wal")
    assert _met(log.read_bytes(), addresses) > 50
    store.close()
    assert not log.exists()
    assert abs(_met(store.path.read_bytes(), addresses)) < _SIGMAS
    assert all(store.path.read_bytes().count(address.encode()) == 1 for address in addresses)
    assert _everything(store.path) == before
    assert len(before) == len(addresses)


def test_once_a_minute(store: Store) -> None:
    addresses = _addresses()
    _deliver(store, addresses)
    log = store.path.with_name("store.db-wal")
    assert log.stat().st_size
    store.reorder.due = 0.0
    store.deliver()
    assert log.stat().st_size == 0
    assert abs(_met(store.path.read_bytes(), addresses)) < _SIGMAS


def test_nobody_is_waited_for(store: Store) -> None:
    """Rows are reordered another time if a process reads or locks the store."""
    addresses = _addresses()
    _deliver(store, addresses[: -_PEOPLE * 2])
    with closing(sqlite3.connect(store.path, isolation_level=None)) as other:
        for begin in ("BEGIN IMMEDIATE", "BEGIN"):
            other.execute(begin)
            other.execute("SELECT count(*) FROM conferencing").fetchone()
            store._db.execute(f"PRAGMA busy_timeout = {int(1000 * WAIT_SECONDS)}")
            store.reorder.due, began = 0.0, monotonic()
            store.deliver()
            assert monotonic() - began < WAIT_SECONDS / 2
            other.execute("ROLLBACK")
    store.reorder.due = 0.0
    store.deliver()
    assert len(_everything(store.path)) == len(addresses) - _PEOPLE * 2


def test_columns_of_others_are_kept(store: Store) -> None:
    earlier = Layout("conferencing/0.9.0", "0" * 64, "conferencing", (("old.field", "REAL"),))
    records = [{"old.field": 0.5, "count": 3}, {"old.field": 1.0}]
    store.deliver(Batch(b"earlier", _MINUTE, records, layout=earlier))
    _deliver(store, _addresses())
    query(
        store.path,
        "ALTER TABLE conferencing ADD COLUMN \"a 'place'\" BLOB",
        "UPDATE conferencing SET \"a 'place'\" = randomblob(5)",
    )
    before = _everything(store.path)
    store.reorder.due = 0.0
    store.deliver(Batch(b"one more", _MINUTE, [{"os.type": "linux"}]))
    after = [row for row in _everything(store.path) if row[-1] is not None]
    assert after == before
    assert len(before) == 2 + _MEETINGS * _PEOPLE
