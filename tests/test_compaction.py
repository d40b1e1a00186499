"""Making a database anew: nothing of what was deleted is left; who is in the way is waited for."""

from __future__ import annotations

import random
import re
import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from time import monotonic

import pytest

from collector.compaction import compact, empty_log


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


def test_a_reader_is_waited_for(tmp_path: Path) -> None:
    """For as long as one is ready to wait; the connection is as patient as before."""
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
        assert 0.2 <= monotonic() - began < 2
        assert _left(path, {"secret-of-somebody"}) == 1
        later = threading.Timer(0.2, reader.execute, ["COMMIT"])
        later.start()
        assert empty_log(db, path, 5)
        later.join()
        assert _left(path, {"secret-of-somebody"}) == 0
        assert db.execute("PRAGMA busy_timeout").fetchone() == (5000,)
