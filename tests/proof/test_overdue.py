"""What outlives its time in a data directory is told, whatever it is; what has time left is not."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import pytest

from collector.errors import DeliveryError
from collector.proof.overdue import overdue
from tests.proof.lives import Lives

_EARLY = "were received in the future: a clock was wrong, and they would stay for too long"


def _told(lives: Lives) -> list[str]:
    return list(overdue(lives.holdings, lives.schema))


def _spooled(lives: Lives, command: str, values: Iterable[object]) -> None:
    with closing(sqlite3.connect(lives.data / "spool.db")) as db, db:
        db.execute(command, tuple(values))


def test_what_was_set_aside_has_a_week(tmp_path: Path) -> None:
    """Batches by their minute, files by their names."""
    lives = Lives(tmp_path)
    lives.spool(range(3))
    lives.damage(1, days=6.9)
    lives.set_aside(1, days=6.9)
    assert _told(lives) == []
    lives.damage(1, days=7.1)
    lives.set_aside(1, days=7.1)
    assert _told(lives) == [
        "spool: 1 damaged batches are older than they may be",
        "spool: 1 damaged files are there for longer than they may be",
    ]


def test_sums_of_hours_have_ninety_days(tmp_path: Path) -> None:
    """And what the ledger keeps for good is not told."""
    lives = Lives(tmp_path)
    lives.spool(range(3), days=89)
    _spooled(lives, "DELETE FROM batches", ())
    assert _told(lives) == []
    lives.spool(range(3), days=91)
    _spooled(lives, "DELETE FROM batches", ())
    told = _told(lives)
    assert [each.split(": ")[0] for each in told] == ["ledger"]
    assert told[0].endswith("sums of hours are older than they may be")


def test_what_was_received_in_the_future_is_told(tmp_path: Path) -> None:
    """Under a clock that was wrong: it would stay for as much longer. An hour is nothing."""
    lives = Lives(tmp_path)
    lives.deliver_aged((range(5), -1 / 24), (range(5, 7), -2))
    lives.spool(range(3), days=-2)
    lives.set_aside(1, days=-2)
    assert _told(lives) == [
        f"conferencing: 2 rows {_EARLY}",
        f"spool: 3 records that wait {_EARLY}",
        "spool: 1 damaged files are there for longer than they may be",
        f"files: 2 lines {_EARLY}",
    ]


def test_a_spool_that_is_none_shows_nothing(tmp_path: Path) -> None:
    """Neither what waits, nor what was set aside."""
    lives = Lives(tmp_path)
    (lives.data / "spool.db").write_bytes(b"no database at all" * 1000)
    with pytest.raises(DeliveryError) as caught:
        _told(lives)
    assert caught.value.code == "E507"
