"""The bytes of a store tell no more of order than its rows do, once they are settled."""

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

import pytest

from collector.contracts import Batch, Layout
from collector.schema import load_schema
from collector.sinks.store import Store

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


def _everything(path: Path) -> list[object]:
    with closing(sqlite3.connect(path)) as db:
        return db.execute("SELECT rowid, * FROM conferencing").fetchall()


def test_bytes_tell_until_they_are_settled(store: Store) -> None:
    """Who met whom can be seen in the log; at the end it cannot, and each row is as it was."""
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


def test_once_a_minute(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that goes on is settled when something comes after a minute, and its log is empty."""
    addresses = _addresses()
    _deliver(store, addresses)
    log = store.path.with_name("store.db-wal")
    assert log.stat().st_size
    monkeypatch.setattr("collector.sinks.settling._SECONDS", 0)
    store.deliver()
    assert log.stat().st_size == 0
    assert abs(_met(store.path.read_bytes(), addresses)) < _SIGMAS


def test_nobody_is_waited_for(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """While somebody reads the store, or holds it, it is settled another time."""
    addresses = _addresses()
    _deliver(store, addresses[: -_PEOPLE * 2])
    monkeypatch.setattr("collector.sinks.settling._SECONDS", 0)
    with closing(sqlite3.connect(store.path, isolation_level=None)) as other:
        for begin in ("BEGIN IMMEDIATE", "BEGIN"):
            other.execute(begin)
            other.execute("SELECT count(*) FROM conferencing").fetchone()
            began = monotonic()
            store.deliver()
            assert monotonic() - began < 2
            other.execute("ROLLBACK")
    store.deliver()
    assert len(_everything(store.path)) == len(addresses) - _PEOPLE * 2


def test_columns_of_others_are_kept(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is in a table besides the layout's columns, under whatever name, and what came under an
    earlier layout."""
    earlier = Layout("conferencing/0.9.0", "0" * 64, "conferencing", (("old.field", "REAL"),))
    records = [{"old.field": 0.5, "count": 3}, {"old.field": 1.0}]
    store.deliver(Batch(b"earlier", _MINUTE, records, layout=earlier))
    _deliver(store, _addresses())
    with closing(sqlite3.connect(store.path)) as db:
        db.execute("ALTER TABLE conferencing ADD COLUMN \"a 'place'\" BLOB")
        db.execute("UPDATE conferencing SET \"a 'place'\" = randomblob(5)")
        db.commit()
    before = _everything(store.path)
    monkeypatch.setattr("collector.sinks.settling._SECONDS", 0)
    store.deliver(Batch(b"one more", _MINUTE, [{"os.type": "linux"}]))
    after = [row for row in _everything(store.path) if row[-1] is not None]  # type: ignore[index]
    assert after == before
    assert len(before) == 2 + _MEETINGS * _PEOPLE
