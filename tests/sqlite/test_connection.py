"""Files of a database: synced directories, room, and read-only connections."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from collector.files import need_room, sync
from collector.sqlite.connection import connect_to_read


def test_it_is_synced_and_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The directory itself; its handle is closed, also if that fails."""
    synced: list[int] = []

    def failing(handle: int) -> None:
        synced.append(os.fstat(handle).st_ino)
        raise OSError("broken")

    sync(tmp_path)
    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(OSError, match="broken"):
        sync(tmp_path)
    assert synced == [tmp_path.stat().st_ino]
    assert tmp_path.resolve() not in [each.resolve() for each in Path("/dev/fd").iterdir()]
    with pytest.raises(FileNotFoundError):
        sync(tmp_path / "missing")


def test_room_is_found_out_before_it_is_used(tmp_path: Path) -> None:
    need_room(tmp_path, 1)
    with pytest.raises(OSError, match="No space"):
        need_room(tmp_path, 1 << 62)


def test_it_sees_one_moment(tmp_path: Path) -> None:
    """What is written meanwhile is not seen, and nothing can be written."""
    path = tmp_path / "a b#c?.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("CREATE TABLE t (x)")
        looking = connect_to_read(path)
        assert looking is not None
        with closing(looking):
            db.execute("INSERT INTO t VALUES (1)")
            assert looking.execute("SELECT count(*) FROM t").fetchone() == (0,)
            with pytest.raises(sqlite3.OperationalError, match="readonly"):
                looking.execute("DELETE FROM t")


def test_a_log_is_not_left_out(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("CREATE TABLE t (x)")
        copy = tmp_path / "copy.db"
        copy.with_name("copy.db-shm").symlink_to("nowhere")
        for end in ("", "-wal"):
            copy.with_name(f"copy.db{end}").write_bytes(Path(f"{path}{end}").read_bytes())
    assert connect_to_read(copy) is None
    copy.write_bytes(path.read_bytes())  # which has all of it since it was closed
    copy.with_name("copy.db-wal").write_bytes(b"")
    looking = connect_to_read(copy)
    assert looking is not None
    with closing(looking):
        assert looking.execute("SELECT count(*) FROM t").fetchone() == (0,)


@pytest.mark.parametrize("mode", ["WAL", "DELETE"])
def test_it_is_not_read_while_another_has_it_for_itself(mode: str, tmp_path: Path) -> None:
    """What was written since may be in a log, or be half of a transaction."""
    path = tmp_path / "a.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute(f"PRAGMA journal_mode = {mode}")
        db.execute("CREATE TABLE t (x)")
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        db.execute("BEGIN EXCLUSIVE")
        assert connect_to_read(path, 0.01) is None


def test_what_is_none(tmp_path: Path) -> None:
    """No file, a directory, and no database: nothing."""
    (tmp_path / "text").write_bytes(b"no database" * 999)
    assert [connect_to_read(tmp_path / name) for name in ("missing", ".", "text")] == [None] * 3
