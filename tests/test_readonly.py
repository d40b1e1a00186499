"""Looking at a database: at one moment, without writing, and without raising."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from collector.readonly import connect


def test_it_sees_one_moment(tmp_path: Path) -> None:
    """What is written meanwhile is not seen, and nothing can be written."""
    path = tmp_path / "a b#c?.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("CREATE TABLE t (x)")
        looking = connect(path)
        assert looking is not None
        with closing(looking):
            db.execute("INSERT INTO t VALUES (1)")
            assert looking.execute("SELECT count(*) FROM t").fetchone() == (0,)
            with pytest.raises(sqlite3.OperationalError, match="readonly"):
                looking.execute("DELETE FROM t")


def test_what_is_none(tmp_path: Path) -> None:
    """No file, a directory, and no database: nothing."""
    (tmp_path / "text").write_bytes(b"no database" * 999)
    assert [connect(tmp_path / name) for name in ("missing", ".", "text")] == [None] * 3
