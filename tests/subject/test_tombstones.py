"""Tombstones: what a drain reads of them, and when they are destroyed."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from collector.contracts import Subject, to_minute
from collector.errors import DeliveryError
from collector.filter.redaction import redact
from collector.subject.tombstones import FILE_NAME, LONGEST_RETENTION, Tombstones, remember
from collector.testing.sinks import person
from tests.support.raising import raises

LINE = b'{"schema":"conferencing/1.0.0","client.address":"%s"}\n' % person(1).encode()
MINUTE = "2026-06-01T12:30:00Z"
SUBJECT = Subject("client.address", person(1), "2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z")


class _Faulty(sqlite3.Connection):
    """A connection whose disk fails while it is told to."""

    fails = False

    def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
        """Fail to read tombstones."""
        if self.fails and "FROM tombstones" in sql:
            super().execute("ROLLBACK")  # as SQLite does itself for some errors
            raise sqlite3.OperationalError("disk I/O error")
        return super().execute(sql, *values)


def _left(tombstones: Tombstones, minute: str = MINUTE) -> bytes:
    with tombstones.locked() as rule:
        return LINE if rule is None else redact(LINE, [rule], minute)[0]


def test_tombstones_that_could_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is stored meanwhile, and they are read the next time: a person whose tombstone was
    missed would be back."""
    opened: list[_Faulty] = []
    connect = sqlite3.connect

    def connect_faulty(*args: Any, **more: Any) -> sqlite3.Connection:
        opened.append(connect(*args, factory=_Faulty, **more))
        return opened[-1]

    monkeypatch.setattr(sqlite3, "connect", connect_faulty)
    with closing(Tombstones(tmp_path)) as tombstones:
        assert _left(tombstones) == LINE
        remember(tmp_path, [(SUBJECT, None)])
        opened[0].fails = True
        for _ in range(2):
            with raises("E507", DeliveryError):
                _left(tombstones)
        opened[0].fails = False
        assert _left(tombstones) == b""


@pytest.mark.parametrize(
    ("minutes", "is_dropped"), [(-60, True), (0, True), (5, True), (7, False), (60 * 24, False)]
)
def test_what_is_received_later_is_kept(tmp_path: Path, minutes: int, *, is_dropped: bool) -> None:
    with closing(Tombstones(tmp_path)) as tombstones:
        minute = to_minute(datetime.now(UTC) + timedelta(minutes=minutes))  # one may end now
        remember(tmp_path, [(replace(SUBJECT, end="2099-01-01T00:00:00Z"), None)])
        assert _left(tombstones, minute) == (b"" if is_dropped else LINE)


def test_a_tombstone_outlives_every_message(tmp_path: Path) -> None:
    """It is kept for as long as a broker may keep what was published before."""
    with closing(Tombstones(tmp_path)):
        before = to_minute(datetime.now(UTC) + LONGEST_RETENTION)
        remember(tmp_path, [(SUBJECT, None)])
        with closing(sqlite3.connect(tmp_path / FILE_NAME)) as db:
            ((until,),) = db.execute("SELECT until FROM tombstones")
        assert until > before


def test_tombstones_are_destroyed(tmp_path: Path) -> None:
    with closing(Tombstones(tmp_path)) as tombstones:
        remember(tmp_path, [(SUBJECT, None)])
        tombstones.destroy_expired()
        assert _left(tombstones) == b""
        with closing(sqlite3.connect(tmp_path / FILE_NAME)) as db:
            ((hash_,),) = db.execute("SELECT hash FROM tombstones").fetchall()
            ((secret,),) = db.execute("SELECT bytes FROM secret").fetchall()
            db.execute("UPDATE tombstones SET until = '2026-01-01T00:00:00Z'")
            db.commit()
        tombstones.destroy_expired()
        assert _left(tombstones) == LINE
        stored = (tmp_path / FILE_NAME).read_bytes()
        assert hash_ not in stored
        assert secret not in stored
        remember(tmp_path, [(SUBJECT, None)])
        assert _left(tombstones) == b""
