"""The index of a log: it has room from the start, and says which frames count."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import IO, Any

import pytest

from collector.sqlite import wal
from collector.sqlite.wal import Index, head, is_whole, last_commit, need_room
from tests.support.failing_disk import fill, small_disk

_PAGE = 4096


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk whose blocks are smaller than a page of memory."""
    with small_disk(tmp_path / "disk", 4) as place:
        yield place


def _database(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None)
    db.execute(f"PRAGMA page_size = {_PAGE}")
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("CREATE TABLE t (x)")
    return db


def _opened_again(path: Path) -> sqlite3.Connection:
    """Nothing was written to the log yet."""
    _database(path).close()
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("SELECT * FROM t").fetchall()
    return db


def test_it_counts_what_is_committed(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with closing(_database(path)) as db:
        index = Index(path)
        for number in range(3):
            db.execute("INSERT INTO t VALUES (?)", (number,))
            counted = index.counted()
            assert counted is not None
            log = path.with_name("a.db-wal").stat().st_size
            assert (counted.page, 32 + counted.frames * (24 + _PAGE)) == (_PAGE, log)
            assert (counted.length, counted.left) == (counted.frames * _PAGE,) * 2
        db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        counted = index.counted()
        assert counted is not None
        assert (counted.copied, counted.left) == (counted.frames, 0)
    index.close()
    index.close()


def test_a_database_without_a_log_has_none(tmp_path: Path) -> None:
    """Nothing is counted, and nothing made."""
    index = Index(tmp_path / "a.db")
    assert index.counted() is None
    index.close()
    assert list(tmp_path.iterdir()) == []


def test_the_head_is_that_of_the_last_commit(tmp_path: Path) -> None:
    """Read out of the log or of the file, without SQLite; empty for no file and an empty one."""
    path = tmp_path / "a.db"
    assert head(path) == b""
    path.touch()
    assert head(path) == b""
    with closing(_database(path)) as db:
        db.execute("PRAGMA user_version = 7")
        db.execute("BEGIN")
        db.execute("PRAGMA user_version = 8")
        assert int.from_bytes(head(path)[60:64]) == 7
        db.execute("COMMIT")
        assert int.from_bytes(head(path)[60:64]) == 8
    assert not path.with_name("a.db-wal").exists()
    assert int.from_bytes(head(path)[60:64]) == 8


def test_a_log_that_is_cut_while_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, log, frames = tmp_path / "a.db", tmp_path / "a.db-wal", wal._frames
    with closing(_database(path)) as db:
        for version in range(1, 9):
            db.execute(f"PRAGMA user_version = {version}")
        for read in range(8):

            def cut(handle: IO[bytes], read: int = read) -> Iterator[Any]:
                for number, frame in enumerate(frames(handle)):
                    if number == read:
                        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                    yield frame

            monkeypatch.setattr(wal, "_frames", cut)
            assert int.from_bytes(head(path)[60:64]) in range(1, 9), read
            assert log.stat().st_size == 0
            db.execute("PRAGMA user_version = 8")
            for version in range(1, 9):
                db.execute(f"PRAGMA user_version = {version}")


def test_there_is_room_for_all_of_it(disk: Path) -> None:
    """SQLite itself leaves holes where blocks are small: a full disk could not fill them."""
    path = disk / "a.db"
    with closing(_opened_again(path)):
        index_file = disk / "a.db-shm"
        size = index_file.stat().st_size
        assert 512 * index_file.stat().st_blocks < size
        index = Index(path)
        assert 512 * index_file.stat().st_blocks >= size
    index.close()


def test_a_full_disk_is_found_before_anything_is_opened(disk: Path) -> None:
    path = disk / "a.db"
    need_room(path)
    with closing(_opened_again(path)):
        fill(disk / "ballast")
        with pytest.raises(OSError, match="No space"):
            need_room(path)
        with pytest.raises(OSError, match="No space"):
            Index(path)


def test_locks_outlive_a_look_at_the_head(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    code = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute('SELECT * FROM t').fetchall()"
    with closing(_database(path)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        assert head(path).startswith(wal.MAGIC)
        subprocess.run([sys.executable, "-c", code, path], check=True)
        assert path.with_name("a.db-wal").exists()
        db.execute("INSERT INTO t VALUES (1)")
        with closing(sqlite3.connect(path)) as other:
            assert other.execute("SELECT * FROM t").fetchall() == [(1,)]


def test_locks_outlive_an_index_of_another_store(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    code = (
        "import fcntl, sys\n"
        "with open(sys.argv[1], 'r+b') as file:\n"
        "    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 128)\n"
    )

    def is_locked() -> bool:
        return (
            subprocess.run([sys.executable, "-c", code, f"{path}-shm"], check=False).returncode != 0
        )

    with closing(_opened_again(path)), closing(Index(path)) as index:
        for _ in range(2):
            Index(path).close()
        assert is_locked()
        assert index.counted() is not None
        other = Index(path)
    other.close()
    assert not path.with_name("a.db-shm").exists()


def test_a_log_is_whole_up_to_its_last_commit(tmp_path: Path) -> None:
    path = tmp_path / "some.db"
    log = tmp_path / "some.db-wal"
    assert is_whole(log)
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("CREATE TABLE t (a)")
        for number in range(50):
            db.execute("INSERT INTO t VALUES (?)", (str(number) * 1000,))
            assert is_whole(log)
        db.execute("PRAGMA wal_checkpoint(RESTART)")
        db.execute("INSERT INTO t VALUES (1)")
        text = log.read_bytes()
        assert is_whole(log)
        whole = last_commit(log)
        assert len(text) > 2 * whole * (4096 + 24), "an earlier log is behind this one"
    log.write_bytes(text[:1000] + b"!" + text[1001:])
    assert not is_whole(log)
    log.write_bytes(b"hello from Ana")
    assert not is_whole(log)
    log.write_bytes(b"")
    assert is_whole(log)


@pytest.mark.parametrize("step", ["is_log", "_frames"])
def test_a_log_that_is_cut_while_it_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    log, look = tmp_path / "some.db-wal", getattr(wal, step)
    with closing(_database(tmp_path / "some.db")) as db:
        db.execute("INSERT INTO t VALUES (?)", ("a" * 100_000,))
        text = log.read_bytes()
    log.write_bytes(text)

    def cut(place: Any) -> Any:
        found = look(place)
        found = found if step == "is_log" else iter([*found])
        os.truncate(log, 0)
        return found

    monkeypatch.setattr(wal, step, cut)
    assert is_whole(log)
