"""What a batch may be used for: kept with it, under its seal, through every way that it takes."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from collector.contracts import Granted
from collector.spool import Spool
from collector.spool.revision import Revision
from collector.spool.tables import FORMAT
from collector.spool.waiting import waiting
from tests.spool.make import drained, entry, eventually, query, without_granted

_SETS: tuple[Granted, ...] = (None, ("a", "b-c_d"), ("a",), ())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the spool is."""
    return tmp_path / "spool.db"


def put(spool: Spool, *sets: Granted) -> None:
    """A record under each set, all in one commit."""
    each = [replace(entry(number), granted=granted) for number, granted in enumerate(sets)]
    spool.put(*each).result()


def found(spool: Spool) -> list[tuple[Granted, int]]:
    """The sets of the batches that wait, each with its number of records."""
    return [(one.granted, one.payload.count(b"\n")) for _, one in spool.after("sink", 100)]


def test_batches_are_of_one_set(path: Path) -> None:
    """Records of the same set are one batch; the sets outlive the process."""
    with Spool(path, sinks=["sink"]) as spool:
        put(spool, *_SETS, None, ("a",))
        expected: list[tuple[Granted, int]] = [
            (None, 2), (("a", "b-c_d"), 1), (("a",), 2), ((), 1),
        ]  # fmt: skip
        assert found(spool) == expected
    with Spool(path, sinks=["sink"]) as spool:
        assert found(spool) == expected
    assert [one.granted for one in waiting(path) if one] == [granted for granted, _ in expected]


def test_a_set_cannot_be_changed(path: Path) -> None:
    """It is part of what the seal covers: a batch that claims more is set aside."""
    with Spool(path, sinks=["sink"]) as spool:
        put(spool, *_SETS[:3])
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("UPDATE batches SET granted = NULL WHERE granted = 'a'")
    assert [one is None for one in waiting(path)] == [False, False, True]
    with Spool(path, sinks=["sink"]) as spool:
        assert [granted for granted, _ in found(spool)] == [None, ("a", "b-c_d")]
        assert drained(spool) == [0, 1]
        assert eventually(lambda: spool.state().damaged == 1)
    assert query(path, "SELECT granted FROM damaged") == [(None,)]


def test_what_is_left_of_a_batch_keeps_its_set(path: Path) -> None:
    """Also when some of its records are taken out."""
    with Spool(path, sinks=["sink"]) as spool:
        put(spool, ("a",), ("a",), None)

        def change(payload: bytes, _minute: str) -> tuple[bytes, int]:
            lines = payload.splitlines(keepends=True)
            return (b"".join(lines[1:]), 1) if len(lines) > 1 else (payload, 0)

        assert spool.revise(Revision(change)).result(5).records == 1
        assert found(spool) == [(None, 1), (("a",), 1)]


def _of_format_3(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        without_granted(db)
        db.execute("UPDATE about SET format = 3")
        db.execute("PRAGMA user_version = 3")


def test_a_file_of_the_third_format_gets_the_column(path: Path) -> None:
    """What lies in it may be used for everything, as nobody could refuse then."""
    with Spool(path, sinks=["sink"]) as spool:
        put(spool, None, None)
    _of_format_3(path)
    assert [one.granted for one in waiting(path) if one] == [None]
    with Spool(path, sinks=["sink"]) as spool:
        assert (spool.state().damaged, spool.aside) == (0, [])
        put(spool, ("a",))
        assert [granted for granted, _ in found(spool)] == [None, ("a",)]
    assert query(path, "SELECT format FROM about") == [(FORMAT,)]


@pytest.mark.parametrize("is_old", [False, True])
def test_a_damaged_file_gives_its_sets_back(path: Path, is_old: bool) -> None:
    """Of this format and of the one before."""
    with Spool(path, sinks=["sink"]) as spool:
        put(spool, *((None,) if is_old else _SETS[:3]))
    if is_old:
        _of_format_3(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("DROP TABLE hours")
    with Spool(path, sinks=["sink"]) as spool:
        assert len(spool.aside) >= 1
        assert [granted for granted, _ in found(spool)] == list(_SETS[: 1 if is_old else 3])
