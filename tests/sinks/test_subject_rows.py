"""A person's rows: found in all tables that can have them, and nowhere else."""

from __future__ import annotations

from pathlib import Path

import pytest

from collector.contracts import Batch, Subject
from collector.errors import ConfigError, DeliveryError
from collector.filter.redaction import Rule
from collector.schema import load_schema
from collector.sinks.store import Store
from collector.sinks.store_file import opened
from collector.sinks.store_rows import rewrite, scan
from tests.support.raising import raises

_DAY = "2026-11-24T{}:00Z"
_SUBJECT = Subject("client.address", "10.0.0.1", _DAY.format("10:00"), _DAY.format("11:00"))
_RULE = Rule.removal(_SUBJECT, None)
_OWN = {"client.address": "10.0.0.1", "os.type": "linux", "device.model.name": "Pixel 8"}
_OTHER = {**_OWN, "client.address": "10.0.0.2"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store of two schemas: a person in each, within the window and at its ends."""
    path = tmp_path / "store.db"
    for name in ("conferencing", "webrtc"):
        with Store(path, load_schema(name)) as store:
            store.prune_at = float("inf")  # these dates are of long ago some day
            for number, time in enumerate(("09:59", "10:00", "10:59", "11:00")):
                id_ = f"{name:12}{number:4}".encode()
                store.deliver(Batch(id_, _DAY.format(time), [dict(_OWN), dict(_OTHER)]))
    return path


def _rewrite(path: Path, *rules: Rule) -> list[int]:
    return [each.records for each in rewrite(path, rules, 0)]


def test_rows_of_all_tables_are_found(path: Path) -> None:
    """The window includes its first minute, and not its last."""
    with opened(path) as db:
        found = sorted((table, str(row["received"])) for table, row in scan(db, _RULE))
    times = [_DAY.format(time) for time in ("10:00", "10:59")]
    assert found == [(table, time) for table in ("conferencing", "webrtc") for time in times]


def test_deleting_and_clearing(path: Path) -> None:
    """A row without any other field goes whole."""
    clear = Rule.removal(_SUBJECT, ["device.model.name"])
    assert _rewrite(path, clear) == [4]
    with opened(path) as db:
        assert all("device.model.name" not in row for _, row in scan(db, _RULE))
    assert _rewrite(path, clear) == [0]
    every = Rule.removal(_SUBJECT, ["client.address", "os.type", "device.model.name"])
    other = Subject("client.address", "10.0.0.2", _SUBJECT.start, _SUBJECT.end)
    assert _rewrite(path, every, Rule.removal(other, None)) == [4, 4]
    with opened(path) as db:
        assert list(scan(db, _RULE)) == []
        assert db.execute("SELECT count(*) FROM conferencing").fetchone() == (4,)
        assert db.execute("SELECT count(*) FROM _remains").fetchone() == (0,)


def test_tables_of_others(path: Path) -> None:
    """A table that says who and when is treated like ours, any other is left alone."""
    with opened(path) as db:
        db.execute('CREATE TABLE mine AS SELECT "client.address", received FROM conferencing')
        db.execute('CREATE TABLE theirs AS SELECT "client.address" FROM conferencing')
    assert _rewrite(path, _RULE) == [6]
    with opened(path) as db:
        assert db.execute("SELECT count(*) FROM theirs").fetchone() == (8,)


def test_what_is_no_store_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError), opened(tmp_path / "store.db"):
        pass
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "store.db").write_bytes(b"no database at all" * 100)
    with raises("E501", DeliveryError), opened(tmp_path / "store.db"):
        pass


def test_a_trigger_of_others(path: Path) -> None:
    """It may keep or copy what is deleted: nothing goes, and that is said."""
    with opened(path) as db:
        db.execute("CREATE TRIGGER guard BEFORE DELETE ON webrtc BEGIN SELECT RAISE(IGNORE); END")
        before = list(scan(db, _RULE))
    with raises("E501", DeliveryError):
        _rewrite(path, _RULE)
    with opened(path) as db:
        assert list(scan(db, _RULE)) == before
        db.execute("DROP TRIGGER guard")
    assert _rewrite(path, _RULE) == [4]


def test_a_copy_that_is_named_like_a_table_of_ours(path: Path) -> None:
    with opened(path) as db:
        db.execute("CREATE TABLE _backup AS SELECT * FROM conferencing")
    assert _rewrite(path, _RULE) == [6]
    with opened(path) as db:
        assert list(scan(db, _RULE)) == []
