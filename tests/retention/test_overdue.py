"""What outlives its time in a data directory is told, whatever it is; what has time left is not."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import pytest

from collector.errors import DeliveryError
from collector.retention.upkeep import overdue
from tests.support.populated import PopulatedDirectory


def _told(populated: PopulatedDirectory) -> list[str]:
    return list(overdue(populated.locations))


def _spooled(populated: PopulatedDirectory, command: str, values: Iterable[object]) -> None:
    with closing(sqlite3.connect(populated.data / "spool.db")) as db, db:
        db.execute(command, tuple(values))


def test_what_was_set_aside_has_a_week(tmp_path: Path) -> None:
    """Batches by their minute, files by their names."""
    populated = PopulatedDirectory(tmp_path)
    populated.spool(range(3))
    populated.damage(1, days=6.9)
    populated.set_aside(1, days=6.9)
    assert _told(populated) == []
    populated.damage(1, days=7.1)
    populated.set_aside(1, days=7.1)
    batches, files = _told(populated)
    assert "damaged batches" in batches
    assert "damaged files" in files


def test_sums_of_hours_have_ninety_days(tmp_path: Path) -> None:
    populated = PopulatedDirectory(tmp_path)
    populated.spool(range(3), days=89)
    _spooled(populated, "DELETE FROM batches", ())
    assert _told(populated) == []
    populated.spool(range(3), days=91)
    _spooled(populated, "DELETE FROM batches", ())
    (told,) = _told(populated)
    assert "hourly sums" in told


def test_what_was_received_in_the_future_is_told(tmp_path: Path) -> None:
    """Under a clock that was wrong: it would stay for as much longer. An hour is nothing."""
    populated = PopulatedDirectory(tmp_path)
    populated.deliver_aged((range(5), -1 / 24), (range(5, 7), -2))
    populated.spool(range(3), days=-2)
    populated.set_aside(1, days=-2)
    *early, damaged = _told(populated)
    wanted = ["`store` holds 2 rows", "`ndjson` holds 2 lines", "spool holds 3 records"]
    assert all(part in each for part, each in zip(wanted, early, strict=True))
    assert "damaged files" in damaged


def test_a_spool_that_is_none_shows_nothing(tmp_path: Path) -> None:
    populated = PopulatedDirectory(tmp_path)
    (populated.data / "spool.db").write_bytes(b"no database at all" * 1000)
    with pytest.raises(DeliveryError, match="E507"):
        _told(populated)
