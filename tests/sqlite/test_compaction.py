"""Making a database anew: nothing of what was deleted is left; who is in the way is waited for."""

from __future__ import annotations

import os
import random
import re
import sqlite3
import stat
import threading
from collections.abc import Callable
from contextlib import closing
from fcntl import LOCK_EX, flock
from pathlib import Path
from time import monotonic

import pytest

from collector.sqlite import compaction
from collector.sqlite.compaction import compact, compacting, empty_log, remove_copies
from collector.sqlite.connection import transaction
from tests.support.deadline import WAIT_SECONDS
from tests.support.failing_disk import small_disk
from tests.support.latency import at_most
from tests.support.programs import script


def _connected(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    for setting in ("page_size = 8192", "journal_mode = WAL", "secure_delete = ON"):
        db.execute(f"PRAGMA {setting}")
    return db


def _left(path: Path, names: set[str]) -> int:
    """Of how many names there is a byte in any file of a database."""
    found = b"".join(each.read_bytes() for each in path.parent.glob(f"{path.name}*"))
    return len({name.decode() for name in _NAME.findall(found)} & names)


_NAME = re.compile(rb"name-[0-9]{6}-[0-9a-f]{10}|secret-of-somebody")


@pytest.mark.parametrize("seed", [0, 1])
def test_it_takes_what_overwriting_leaves(tmp_path: Path, seed: int) -> None:
    """Rows of many sizes come and go; copies of some of those that are gone are left although all
    that is deleted is overwritten, and none when the file was made anew."""
    chance, path = random.Random(seed), tmp_path / "some.db"
    names = [f"name-{n:06}-{chance.getrandbits(40):010x}" for n in range(4000)]
    order, live = chance.sample(names, len(names)), dict[str, int]()
    with closing(_connected(path)) as db:
        db.execute("CREATE TABLE rows (name TEXT, filling TEXT)")
        db.execute("BEGIN")
        for number, name in enumerate(order):
            place = chance.randrange(1 << 40)
            filling = "x" * chance.choice((0, 5, 100, 700, 3000))
            db.execute(
                "INSERT INTO rows (rowid, name, filling) VALUES (?, ?, ?)", (place, name, filling)
            )
            live[name] = place
            if number % 3 == 0:
                gone = chance.choice(order[: number + 1])
                db.execute("DELETE FROM rows WHERE rowid = ?", (live.pop(gone, -1),))
        for name in chance.sample(sorted(live), len(live) // 2):
            db.execute("DELETE FROM rows WHERE rowid = ?", (live.pop(name),))
        db.execute("COMMIT")
        dead = set(names) - set(live)
        assert empty_log(db, path)
        assert _left(path, dead) > 0
        compact(db, path)
        assert empty_log(db, path)
        assert _left(path, dead) == 0
        assert _left(path, set(live)) == len(live)


@pytest.mark.timed
def test_a_reader_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "some.db"
    with closing(_connected(path)) as db, closing(_connected(path)) as reader:
        db.execute("CREATE TABLE rows (name TEXT)")
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM rows").fetchone()
        db.execute("INSERT INTO rows VALUES ('secret-of-somebody')")
        db.execute("DELETE FROM rows")
        began = monotonic()
        assert not empty_log(db, path)
        assert not empty_log(db, path, 0.2)
        assert 0.2 <= monotonic() - began < at_most(2)
        assert _left(path, {"secret-of-somebody"}) == 1
        later = threading.Timer(0.2, reader.execute, ["COMMIT"])
        later.start()
        assert empty_log(db, path, WAIT_SECONDS)
        later.join(WAIT_SECONDS)
        assert _left(path, {"secret-of-somebody"}) == 0
        assert db.execute("PRAGMA busy_timeout").fetchone() == (5000,)


def _filled(path: Path, rows: int, letter: str = "x") -> sqlite3.Connection:
    db = _connected(path)
    db.execute("CREATE TABLE rows (number INTEGER PRIMARY KEY, filling TEXT NOT NULL)")
    db.execute("BEGIN")
    db.executemany("INSERT INTO rows VALUES (?, ?)", ((n, letter * 1000) for n in range(rows)))
    db.execute("COMMIT")
    return db


def _sum(db: sqlite3.Connection) -> tuple[int, int]:
    number, total = db.execute("SELECT count(*), ifnull(sum(number), 0) FROM rows").fetchone()
    return number, total


_MEASURING = """
import sqlite3, sys
from pathlib import Path
from collector.sqlite.compaction import compact, compacting, empty_log
from collector.sqlite.connection import transaction
path = Path(sys.argv[1])
db = sqlite3.connect(path, isolation_level=None)
for setting in ("temp_store = MEMORY", "secure_delete = ON"):
    db.execute(f"PRAGMA {setting}")
peak = lambda: int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
db.execute("SELECT sum(number) FROM rows").fetchone()
before = peak()
%s
assert empty_log(db, path)
print(peak() - before)
"""
_COMPACT = "compact(db, path)"
_WRITE_ANEW = """
with compacting(db, path) as write_anew, transaction(db):
    write_anew("rows")
"""


@pytest.mark.parametrize("how", [_COMPACT, _WRITE_ANEW])
def test_memory_does_not_grow_with_the_database(tmp_path: Path, how: str) -> None:
    path = tmp_path / "some.db"
    with closing(_filled(path, 60_000)) as db:
        db.execute("DELETE FROM rows WHERE number % 2")
        before = _sum(db)
    assert int(script(_MEASURING % how, path).stdout) < 20_000
    with closing(_connected(path)) as db:
        assert _sum(db) == before
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert how == _WRITE_ANEW or path.stat().st_size < 40_000_000
    assert [each.name for each in tmp_path.iterdir()] == ["some.db"]


@pytest.mark.parametrize(("letter", "rows"), [("x", 4000), ("\u6f22", 700)])
@pytest.mark.parametrize("how", ["compact", "compacting"])
def test_a_disk_without_room_is_not_filled(
    tmp_path: Path, how: str, letter: str, rows: int
) -> None:
    with small_disk(tmp_path / "disk", 16) as disk:
        path, ballast = disk / "some.db", disk / "ballast"
        with closing(_filled(path, rows, letter)) as db, ballast.open("wb", buffering=0) as file:
            db.execute("UPDATE rows SET filling = 'secret-of-somebody' WHERE number = 7")
            assert empty_log(db, path)
            while _free(disk) > path.stat().st_size * 3 // 2:
                file.write(bytes(1 << 16))
            before, seen = _free(disk), [_free(disk)]
            db.set_progress_handler(lambda: seen.append(_free(disk)), 1000)
            with pytest.raises(OSError, match="No space left"):
                _without_secret(db, path, how)
            db.set_progress_handler(None, 0)
            assert min(seen) > before - (1 << 19)
            assert _sum(db) == (rows, sum(range(rows)))
            file.truncate(0)
            _without_secret(db, path, how)
        assert _left(path, {"secret-of-somebody"}) == 0


def test_a_disk_that_others_fill_meanwhile_is_no_obstacle_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same connection writes tables anew when there is room again."""
    monkeypatch.setattr(compaction, "need_room", lambda *_: None)
    with small_disk(tmp_path / "disk", 16) as disk:
        path, ballast = disk / "some.db", disk / "ballast"
        with closing(_filled(path, 4000)) as db, ballast.open("wb", buffering=0) as file:
            assert empty_log(db, path)
            while _free(disk) > path.stat().st_size * 3 // 4:
                file.write(bytes(1 << 16))
            with pytest.raises(sqlite3.OperationalError, match="full"):
                _without_secret(db, path, "compacting")
            file.truncate(0)
            _without_secret(db, path, "compacting")
            assert _sum(db) == (3999, sum(range(4000)) - 7)


def _free(disk: Path) -> int:
    room = os.statvfs(disk)
    return room.f_bavail * room.f_frsize


def _without_secret(db: sqlite3.Connection, path: Path, how: str) -> None:
    """Delete a row, with the bytes of its text."""
    delete = "DELETE FROM rows WHERE number = 7"
    if how == "compact":
        compact(db, path)
        db.execute(delete)
        assert compact(db, path)
    else:
        with compacting(db, path) as write_anew, transaction(db):
            db.execute(delete)
            write_anew("rows")
        assert empty_log(db, path)


@pytest.mark.parametrize("rows", [0, 1, 9, 2000])
def test_a_database_of_any_size_is_the_same(tmp_path: Path, rows: int) -> None:
    path = tmp_path / "some.db"
    with closing(_filled(path, rows)) as db:
        before = _sum(db)
        compact(db, path)
        assert _sum(db) == before
    with closing(_connected(tmp_path / "empty.db")) as db:
        compact(db, tmp_path / "empty.db")


@pytest.mark.long
def test_what_others_write_meanwhile_is_not_lost(tmp_path: Path) -> None:
    """The database stays as it is then; the copy is its owner's only while it is there, and gone
    afterwards."""
    path, modes = tmp_path / "some.db", list[int]()
    with closing(_filled(path, 2000)) as db, closing(_connected(path)) as other:

        def copied(statement: str) -> None:
            if statement.startswith("VACUUM INTO"):
                modes.extend(each.stat().st_mode for each in tmp_path.glob("*compact*"))
                db.set_trace_callback(None)
                timer.start()

        def write() -> None:
            other.execute("INSERT INTO rows VALUES (2000, 'secret-of-somebody')")

        timer = threading.Timer(0, write)
        other.execute("BEGIN IMMEDIATE")
        other.execute("INSERT INTO rows VALUES (2001, '')")
        db.set_trace_callback(copied)
        with pytest.raises(sqlite3.OperationalError):
            compact(db, path)  # another connection holds the lock for writing
        timer.join(WAIT_SECONDS)
        other.execute("COMMIT")
        assert _sum(db)[0] == 2002
        compact(db, path)
        assert _sum(db)[0] == 2002
    assert [stat.S_IMODE(mode) for mode in modes] == [0o600]
    assert list(tmp_path.glob("*compact*")) == []


def test_a_write_between_copy_and_database_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What would overwrite it is not begun."""
    path = tmp_path / "some.db"
    with closing(_filled(path, 2000)) as db, closing(_connected(path)) as other:

        def write(copy: Path, *rest: object) -> None:
            other.execute("INSERT INTO rows VALUES (2000, '')")
            write_back(copy, *rest)

        write_back: Callable[..., None] = compaction._write_back
        monkeypatch.setattr(compaction, "_write_back", write)
        with pytest.raises(sqlite3.OperationalError, match="written to meanwhile"):
            compact(db, path)
        assert _sum(db)[0] == 2001


@pytest.mark.parametrize("name", ["some.db", "some[1].db"])
def test_copies_of_killed_processes_are_removed(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    left, taken = (tmp_path / f"{name}.compact-{end}" for end in ("left", "taken"))
    left.write_bytes(b"secret-of-somebody")
    with taken.open("wb") as handle:
        flock(handle, LOCK_EX)
        remove_copies(path)
        assert not left.exists()
        assert taken.exists()
    remove_copies(path)
    assert not taken.exists()
