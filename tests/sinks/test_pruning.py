"""Retention in the store: fields go in time, rows with the last of them, and no byte stays."""

from __future__ import annotations

import os
import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from itertools import islice, takewhile
from pathlib import Path
from time import monotonic

import pytest

from collector.contracts import Batch, Record, Removal, Subject
from collector.filter.redaction import Rule
from collector.schema import load_schema
from collector.sinks.store import Store
from collector.sinks.store_rows import measure, retentions, rewrite, steps
from collector.sqlite.compaction import compact
from collector.sqlite.connection import connect
from tests.support.database import query
from tests.support.failing_disk import small_disk

_NOW = datetime.now(UTC)
_SCHEMA = load_schema("conferencing")
"""Addresses stay for 30 days, the rest for 90."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


def _minute(days: float) -> str:
    """The minute so many days ago."""
    return (_NOW - timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:00Z")


def _address(number: int) -> str:
    """Addresses none of which begins with another."""
    return f"10.{100 + number // 100}.{100 + number % 100}.200"


def _records(first: int, number: int) -> list[Record]:
    return [_record(n) for n in range(first, first + number)]


def _record(number: int) -> Record:
    model = {"device.model.name": "Pixel 8"} if number % 3 else {}
    return {"client.address": _address(number), "os.type": "linux", **model}


def _fill(path: Path, *groups: tuple[float, int, int]) -> None:
    """Batches in a store that was not pruned: their age in days, first record and number."""
    with Store(path, _SCHEMA) as store:
        _go_on(store)
        for age, first, number in groups:
            store.deliver(Batch(bytes([first % 251]) * 16, _minute(age), _records(first, number)))


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(connect(path)) as db:
        yield db


def _prune(db: sqlite3.Connection, path: Path, now: datetime = _NOW) -> list[Removal]:
    """Delete what is too old, and do not compact the file, as if the process was killed then."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("collector.sinks.store_rows.compact", _no_memory)
        done = steps(db, path, Rule.expiry_by_name(retentions(db), now))
        return [*takewhile(lambda removal: removal.is_swept, done)]


def _go_on(store: Store) -> None:
    """What a sink is told when nothing comes, as long as there is something to do."""
    while monotonic() >= store.prune_at:
        store.deliver()


def _prune_now(store: Store) -> None:
    """As if an hour had gone by."""
    store.prune_at = 0.0
    _go_on(store)


def _free(disk: Path) -> int:
    found = os.statvfs(disk)
    return found.f_bavail * found.f_frsize


def _bytes(path: Path) -> bytes:
    """All that the files of a database hold."""
    return b"".join(part.read_bytes() for part in path.parent.glob(f"{path.name}*"))


def test_a_field_goes_when_its_time_is_over_and_a_row_with_its_last(path: Path) -> None:
    """After 30 days the address is NULL, after 90 the row is gone."""
    _fill(path, (91, 0, 7), (31, 10, 5), (29.9, 20, 3))
    with _opened(path) as db:
        done = sum(_prune(db, path), Removal())
        query = 'SELECT "client.address" IS NULL, "os.type", count(*) FROM conferencing GROUP BY 1'
        assert db.execute(query).fetchall() == [(0, "linux", 3), (1, "linux", 5)]
    assert done == Removal(shortened=5, deleted=7)


def test_nothing_goes_early(path: Path) -> None:
    _fill(path, (30, 0, 1))
    with _opened(path) as db:
        assert _prune(db, path) == [Removal()]
        later = _NOW + timedelta(minutes=1)
        assert _prune(db, path, later) == [Removal(shortened=1)]


def test_a_pass_goes_in_steps(path: Path) -> None:
    """Batches come in between two transactions of 5,000 rows."""
    _fill(path, (91, 0, 12_000))
    with _opened(path) as db:
        steps = [done.deleted for done in _prune(db, path)]
    assert steps == [5000, 5000, 2000]


def test_no_byte_of_what_is_pruned_stays(path: Path) -> None:
    """Rows come in small batches of any age, so pages are divided and joined all the time."""
    chance = random.Random(0)
    numbers = list(range(1500))
    chance.shuffle(numbers)
    old = {n for n in numbers if chance.random() < 0.5}
    store = Store(path, _SCHEMA)
    _go_on(store)
    while numbers:
        group = [numbers.pop() for _ in range(min(len(numbers), chance.randint(1, 12)))]
        for age, members in ((40, old), (1, set(group) - old)):
            records = [_record(n) for n in group if n in members]
            store.deliver(Batch(chance.randbytes(16), _minute(age), records))
    store._db.close()  # as if it was killed: rows are not put in order
    with _opened(path) as db:
        _prune(db, path)
        assert compact(db, path)
        left = _bytes(path)
    assert [n for n in old if _address(n).encode() in left] == []
    assert [n for n in set(range(1500)) - old if _address(n).encode() not in left] == []


def test_a_store_prunes_itself_between_batches(path: Path) -> None:
    """A delivery, even of nothing, carries a pass on."""
    _fill(path, (91, 0, 600))
    told: list[Removal] = []
    with Store(path, _SCHEMA, pruned=told.append) as store:
        store.deliver(Batch(b"n" * 16, _minute(0), _records(5000, 9)))
        _go_on(store)
        assert store.count() == 9
        assert told == [Removal(deleted=600)]
        left = _bytes(path)
        assert _address(7).encode() not in left
        assert _address(5000).encode() in left
        assert monotonic() < store.prune_at
    with Store(path, _SCHEMA) as store:
        store.deliver(Batch(b"m" * 16, _minute(0), _records(6000, 9)))
        assert store.count() == 18


def test_a_reader_is_waited_for_and_said(path: Path) -> None:
    """The log cannot be cut while a process reads an earlier state; batches are taken meanwhile."""
    _fill(path, (91, 0, 100))
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM conferencing").fetchone()
        with Store(path, _SCHEMA) as store:
            _go_on(store)
            assert store.is_held
            assert _address(7).encode() in _bytes(path)
            store.deliver(Batch(b"n" * 16, _minute(0), _records(5000, 9)))
            assert store.count() == 9
            reader.execute("COMMIT")
            _prune_now(store)
            assert not store.is_held
            assert _address(7).encode() not in _bytes(path)


def test_what_was_deleted_before_a_crash_is_swept_after_it(path: Path) -> None:
    """The next start makes the file anew, though it finds nothing more to delete."""
    _fill(path, (91, 0, 600), (1, 1000, 600))
    with _opened(path) as db:
        _prune(db, path)
    with Store(path, _SCHEMA) as store:
        before = path.stat().st_size
        _go_on(store)
        assert path.stat().st_size < before
        assert query(path, "SELECT count(*) FROM _remains") == [(0,)]


def test_the_store_knows_its_own_rules(path: Path) -> None:
    """A field that left the schema keeps its rule, and an unknown column gets the shortest."""
    for name in ("conferencing", "conferencing-strict"):
        with Store(path, load_schema(name)):
            pass
    with _opened(path) as db:
        assert {*retentions(db)} == {"conferencing", "conferencing-strict"}
        db.execute("ALTER TABLE conferencing ADD COLUMN gone TEXT")
        db.execute("CREATE TABLE foreign_one (received TEXT, a TEXT)")
        db.execute("INSERT INTO foreign_one VALUES ('2020-01-01T00:00:00Z', 'a')")
        row = f"VALUES ('{_minute(31)}', 'linux', 'x')"
        db.execute(f'INSERT INTO conferencing (received, "os.type", gone) {row}')
        found = {each.name: each for each in measure(db, Rule.expiry_by_name(retentions(db), _NOW))}
    assert found["foreign_one"].unruled == 1
    lost = {name: times for name, times in found["conferencing"].fields.items() if times}
    assert (found["conferencing"].records, lost) == (1, {"gone": 1})


def test_what_comes_of_another_schema_has_a_rule(path: Path) -> None:
    """Batches of a schema that was renamed wait in a spool, and the store is new. Fields of the
    same name have the same time, others the shortest."""
    other = load_schema("participants-qos")
    with Store(path, other) as store:
        _go_on(store)
        for days in (31, 29):
            store.deliver(Batch(bytes([days]) * 16, _minute(days), [_record(1)], _SCHEMA.layout))
        with _opened(path) as db:
            spans = retentions(db)["conferencing"]
        assert spans["client.address"] == spans["os.name"] == timedelta(days=30)
        assert spans["os.type"] == timedelta(days=90)
        _prune_now(store)
        text = 'SELECT "client.address" FROM conferencing ORDER BY received'
        assert query(path, text) == [(None,), (_address(1),)]
    with Store(path, _SCHEMA):
        pass
    with Store(path, other) as store:
        store.deliver(Batch(b"y" * 16, _minute(0), [_record(1)], _SCHEMA.layout))
        with _opened(path) as db:
            noted = retentions(db)
    assert noted["conferencing"] == _SCHEMA.retentions


def test_memory_without_room_is_said(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite makes the file anew in memory."""
    _fill(path, (1, 0, 20), (91, 20, 20))
    with Store(path, _SCHEMA) as store:
        with monkeypatch.context() as patched:
            patched.setattr("collector.sinks.store_rows.compact", _no_memory)
            _go_on(store)
            assert store.is_held
            store.deliver(Batch(b"n" * 16, _minute(0), _records(50, 9)))
        _prune_now(store)
        assert not store.is_held
        assert store.count() == 29
    assert _address(27).encode() not in _bytes(path)


def _no_memory(_db: sqlite3.Connection, _path: Path, _seconds: float = 0.0) -> None:
    raise MemoryError


def test_a_disk_without_room_is_said_and_not_filled(tmp_path: Path) -> None:
    """Rows go, and their bytes when there is room. Other programs keep the room that they had."""
    told: list[Removal] = []
    with small_disk(tmp_path / "disk", 16) as disk:
        path, ballast = disk / "store.db", disk / "ballast"
        _fill(path, (1, 0, 20_000), (91, 20_000, 2_000))
        with ballast.open("wb") as file:
            file.truncate(0)
            while _free(disk) > path.stat().st_size // 2:
                file.write(bytes(1 << 16))
                file.flush()
        with Store(path, _SCHEMA, pruned=told.append) as store:
            _go_on(store)
            assert (told, store.is_held) == ([Removal(deleted=2_000)], True)
            assert _free(disk) > path.stat().st_size // 3
            store.deliver(Batch(b"n" * 16, _minute(0), _records(30_000, 9)))
            assert store.count() == 20_009
            ballast.unlink()
            _prune_now(store)
            assert (told, store.is_held) == ([Removal(deleted=2_000)], False)
            assert _address(20_007).encode() not in _bytes(path)


@pytest.mark.parametrize("renumbers", [False, True])
def test_rows_never_meet_those_of_a_store_that_was_made_anew(path: Path, renumbers: bool) -> None:
    """Making it anew may keep the numbers of rows or not."""
    _fill(path, (1, 0, 3000))
    with _opened(path) as db:
        if renumbers:
            db.execute("VACUUM")
        assert compact(db, path)
    _fill(path, (0, 5000, 500))
    with _opened(path) as db:
        assert db.execute("SELECT count(*) FROM conferencing").fetchone() == (3500,)
        dense = db.execute("SELECT count(*) FROM conferencing WHERE rowid <= 3000").fetchone()
        assert dense == ((3000,) if renumbers else (0,))


def test_what_goes_between_two_parts_of_a_pruning_is_swept_too(path: Path) -> None:
    """A reader keeps the log from being cut, and a person is erased while the disk has no room."""
    _fill(path, (91, 0, 100), (1, 1000, 4000))
    everyone = Rule.removal(Subject("os.type", "linux", "", "~"), None)
    with _opened(path) as db, closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM conferencing").fetchone()
        pruning = steps(db, path, Rule.expiry_by_name(retentions(db), _NOW))
        assert not all(each.is_swept for each in islice(pruning, 3))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("collector.sinks.store_rows.compact", _no_memory)
            (erased,) = rewrite(path, [everyone], 0)
        assert (erased.deleted, erased.is_swept) == (4000, False)
        reader.execute("COMMIT")
        assert [each.is_swept for each in pruning] == [True]
    with _opened(path) as db:
        assert db.execute("PRAGMA freelist_count").fetchone() == (0,)
        assert db.execute("SELECT count(*) FROM _remains").fetchone() == (0,)


def test_what_goes_while_a_sweep_ends_is_swept_too(path: Path) -> None:
    """Another process erases a person after the file was compacted, and is killed."""
    erased = list[Removal]()
    _fill(path, (91, 0, 100), (1, 1000, 4000))

    def erase() -> None:
        everyone = Rule.removal(Subject("os.type", "linux", "", "~"), None)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("collector.sinks.store_rows.compact", _no_memory)
            erased.extend(rewrite(path, [everyone], 0) if not erased else ())

    with _opened(path) as db:
        rule = Rule.expiry_by_name(retentions(db), _NOW)
        assert sum(each.deleted for each in steps(db, path, rule, erase)) == 100
        assert [each.deleted for each in erased] == [4000]
        assert db.execute("PRAGMA freelist_count").fetchone() == (0,)


def test_a_store_that_cannot_say_what_remains_is_not_done(path: Path) -> None:
    _fill(path, (91, 0, 100))
    with _opened(path) as db:
        pruning = steps(db, path, Rule.expiry_by_name(retentions(db), _NOW))
        assert next(pruning).deleted == 100

        def interrupting(_action: int, table: str | None, *_: object) -> int:
            if table == "_remains":
                db.set_progress_handler(lambda: 1, 1)
            return sqlite3.SQLITE_OK

        db.set_authorizer(interrupting)
        with pytest.raises(sqlite3.OperationalError):
            next(pruning)
