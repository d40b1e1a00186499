"""Whatever lies there at the start: it starts, sets damage aside, and saves what can be read."""

from __future__ import annotations

import os
import random
import shutil
import stat
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from collector.contracts import PendingBatch
from collector.ledger import opened
from collector.spool import Spool, recover
from collector.sqlite.wal import last_commit
from tests.support.database import query
from tests.support.deadline import wait_until
from tests.support.ledgers import check_ledger
from tests.support.make_batches import LAYOUT, commit, commit_to, drained, entry, told_checkpoints

_CHECKPOINT = "PRAGMA wal_checkpoint(TRUNCATE)"
FILL = 400
PER_BATCH = 10


@pytest.fixture(scope="module")
def crashed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory as a killed process leaves it: a file and its log, both with batches."""
    source, copy = tmp_path_factory.mktemp("live"), tmp_path_factory.mktemp("crashed")
    with told_checkpoints(), Spool(source / "spool.db", sinks=["sink"]) as spool:
        commit(spool, *(_filling(n) for n in range(FILL // 2)))
        with spool.paused():
            assert query(source / "spool.db", _CHECKPOINT) == [(0, 0, 0)]
        commit(spool, *(_filling(n) for n in range(FILL // 2, FILL)))
        with spool.paused():
            for end in ("", "-wal"):
                shutil.copy(source / f"spool.db{end}", copy)
    assert (copy / "spool.db-wal").stat().st_size > 1_000_000
    return copy


def _filling(n: int) -> PendingBatch:
    return entry(*range(n * PER_BATCH, (n + 1) * PER_BATCH), text="x" * 240)


NUMBERS = set(range(FILL * PER_BATCH))
Damage = Callable[[Path], object]


def _start(crashed: Path, folder: Path, damage: Damage) -> tuple[list[int], Spool]:
    for each in crashed.iterdir():
        shutil.copy(each, folder)
    damage(folder / "spool.db")
    spool = Spool(folder / "spool.db", sinks=["sink"], layouts=[LAYOUT])
    try:
        found = drained(spool)
        assert len(found) == len(set(found)), "nothing twice"
        assert set(found) <= NUMBERS, "nothing made up"
        commit(spool, entry(-1))
        assert drained(spool) == [-1]
    except BaseException:
        spool.close()
        raise
    return found, spool


def test_a_log_that_somebody_else_empties_is_no_damage(
    crashed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process may read the file and close it while it is opened."""
    counted: list[int] = []

    def emptied(log: Path) -> int:
        frames = last_commit(log)
        if not counted:
            query(tmp_path / "spool.db", "SELECT count(*) FROM batches")
        counted.append(frames)
        return frames

    monkeypatch.setattr(recover, "last_commit", emptied)
    found, spool = _start(crashed, tmp_path, lambda _: None)
    with spool:
        assert (set(found), spool.quarantined, spool.state().damaged) == (NUMBERS, [], 0)
    assert counted[0] > 0
    assert not check_ledger(tmp_path / "spool.db").breaks


def _truncated(share: float, end: str = "") -> Damage:
    def damage(path: Path) -> None:
        file = path.with_name(path.name + end)
        os.truncate(file, int(file.stat().st_size * share))

    return damage


def _overwritten(end: str, offset: float, data: bytes) -> Damage:
    def damage(path: Path) -> None:
        file = path.with_name(path.name + end)
        with file.open("r+b") as handle:
            handle.seek(int(file.stat().st_size * offset))
            handle.write(data)

    return damage


def _replaced(content: bytes, *, keep_log: bool = False) -> Damage:
    def damage(path: Path) -> None:
        path.write_bytes(content)
        if not keep_log:
            path.with_name("spool.db-wal").unlink()

    return damage


def _miscounted(path: Path) -> None:
    """The header says that there are free pages, of which there is no list."""
    query(path, _CHECKPOINT)
    with path.open("r+b") as handle:
        handle.seek(36)
        handle.write((99).to_bytes(4))


def _foreign(path: Path) -> None:
    path.with_name("spool.db-wal").unlink()
    path.unlink()
    query(
        path,
        "CREATE TABLE batches (sequence INTEGER PRIMARY KEY, payload BLOB)",
        "INSERT INTO batches VALUES (1, 'somebody else''s')",
    )


@pytest.mark.parametrize("share", [0.7, 1.0])
def test_a_torn_end_of_the_log_is_no_damage(crashed: Path, tmp_path: Path, share: float) -> None:
    """A write that never ended was never acknowledged: the commits before it are there."""
    found, spool = _start(crashed, tmp_path, _truncated(share, "-wal"))
    with spool:
        least = NUMBERS if share == 1 else set(range(FILL // 2 * PER_BATCH))
        assert least <= set(found) <= NUMBERS
        assert set(found) == set(range(len(found)))
        assert (spool.state().damaged, spool.quarantined) == (0, [])
    assert not check_ledger(tmp_path / "spool.db").breaks


FATAL: dict[str, tuple[Damage, int]] = {
    "cut in half": (_truncated(0.5), FILL // 2),
    "cut to a piece of a page": (_truncated(0.0001), 0),
    "empty": (_truncated(0), FILL // 4),
    "no database": (_replaced(b"canary, no database"), 0),
    "no database, its log beside": (_replaced(b"canary" * 3000, keep_log=True), 0),
    "zeros": (_overwritten("", 0, bytes(200_000)), 0),
    "the first page": (_overwritten("", 0, os.urandom(8192)), 0),
    "the magic": (_overwritten("", 0, b"X"), FILL),
    "a page of the table": (_overwritten("", 0.31, os.urandom(8192)), FILL - 60),
    "many pages": (_overwritten("", 0.5, os.urandom(300_000)), FILL // 2),
    "the number of free pages": (_miscounted, FILL),
    "foreign": (_foreign, 0),
    "a table that is missing": (lambda path: query(path, "DROP TABLE hours"), FILL),
    "a column that is missing": (
        lambda path: query(path, "ALTER TABLE columns DROP COLUMN type"),
        FILL,
    ),
    "a log that is none": (_overwritten("-wal", 0, b"garbage!" * 4), FILL // 2),
    "a frame in the middle of the log": (_overwritten("-wal", 0.5, os.urandom(3000)), FILL - 30),
    "the beginning of the log": (_overwritten("-wal", 0.001, os.urandom(9000)), FILL - 30),
}


@pytest.mark.parametrize("name", FATAL)
def test_damage_is_set_aside_and_the_rest_is_saved(
    crashed: Path, tmp_path: Path, name: str
) -> None:
    """The damaged file is private, counted and named; the new one takes entries at once."""
    damage, least = FATAL[name]
    found, spool = _start(crashed, tmp_path, damage)
    with spool:
        assert len(found) >= least * PER_BATCH
        aside = [path for path in tmp_path.iterdir() if ".damaged-" in path.name]
        assert sorted(spool.quarantined) == sorted(path.name for path in aside)
        assert aside
        assert spool.state().damaged >= len(aside)
        assert {stat.S_IMODE(path.stat().st_mode) for path in aside} == {0o600}
    left = {p.name for p in tmp_path.iterdir()} - {p.name for p in aside} - {"collector.lock"}
    assert left <= {"spool.db", "spool.db-wal", "spool.db-shm"}
    check_ledger(tmp_path / "spool.db")
    with Spool(tmp_path / "spool.db", sinks=["sink"]) as spool:
        assert (spool.state().damaged, drained(spool)) == (0, [])


def test_the_damaged_file_is_kept_as_it_was(crashed: Path, tmp_path: Path) -> None:
    """Its bytes are evidence."""
    content = b"canary, no database"
    _, spool = _start(crashed, tmp_path, _replaced(content))
    spool.close()
    (name,) = spool.quarantined
    assert (tmp_path / name).read_bytes() == content


def test_a_database_of_another_program_is_kept_as_it_was(tmp_path: Path) -> None:
    """SQLite would change it, so it is not opened at all."""
    path = tmp_path / "spool.db"
    query(path, "CREATE TABLE letters (text TEXT)", "INSERT INTO letters VALUES ('Dear Ana')")
    before = path.read_bytes()
    with Spool(path, sinks=["sink"]) as spool:
        (name,) = spool.quarantined
    assert (tmp_path / name).read_bytes() == before


@pytest.mark.parametrize(
    "seed", [*range(8), *(pytest.param(each, marks=pytest.mark.long) for each in range(8, 30))]
)
def test_flipped_bytes_anywhere(crashed: Path, tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)

    def damage(path: Path) -> None:
        for _ in range(chance.choice([1, 3, 20])):
            file = path.with_name(path.name + chance.choice(["", "-wal"]))
            size = file.stat().st_size
            with file.open("r+b") as handle:
                handle.seek(chance.randrange(size))
                handle.write(chance.randbytes(chance.choice([1, 4, 100])))

    found, spool = _start(crashed, tmp_path, damage)
    with spool:
        lost = len(NUMBERS) - len(found)
        if lost:
            wait_until(lambda: spool.state().damaged > 0)
    assert lost <= 0.1 * len(NUMBERS)


def test_a_batch_that_was_changed_is_not_delivered(path: Path) -> None:
    commit_to(path, *(entry(n) for n in range(3)))
    query(
        path,
        "UPDATE batches SET payload = CAST(replace(payload, '1', '7') AS BLOB) WHERE sequence = 2",
    )
    with Spool(path, sinks=["sink"]) as spool:
        assert drained(spool) == [0, 2]
        wait_until(lambda: spool.state().damaged == 1)
        wait_until(lambda: spool.depth() == 0)
    assert query(path, "SELECT sequence FROM damaged") == [(2,)]


@pytest.mark.parametrize("table", ["sinks", "layouts"])
def test_a_wrong_cursor_or_layout_loses_nothing(path: Path, table: str) -> None:
    """They have a seal: a cursor starts anew, and the layout comes from who knows it."""
    commit_to(path, *(entry(n) for n in range(5)))
    changes = {"sinks": "sequence = 1000", "layouts": "name = 'elsewhere'"}
    query(path, f"UPDATE {table} SET {changes[table]}")
    with Spool(path, sinks=["sink"], layouts=[LAYOUT]) as spool:
        assert drained(spool) == list(range(5))


def test_an_end_of_the_ledger_that_is_gone_is_marked(path: Path) -> None:
    commit_to(path, *(entry(n) for n in range(5)))
    query(path, "DELETE FROM receipts WHERE sequence > 3")
    with opened(path) as ledger:
        assert ledger.verify().flaws
    with Spool(path, sinks=["sink"]) as spool:
        assert spool.state().damaged == 1
        commit(spool, entry(5))
        assert drained(spool) == list(range(6))
    found = check_ledger(path)
    assert [(each.first, each.missing) for each in found.breaks] == [(6, 2)]


def test_a_chain_whose_start_was_long_ago_goes_on(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The oldest receipt that a start looks at may be the first one after damage."""
    monkeypatch.setattr(recover, "_NEWEST", 50)
    commit_to(path, *(entry(n) for n in range(5)))
    query(path, "DELETE FROM receipts WHERE sequence > 3")
    with Spool(path, sinks=["sink"]) as spool:
        commit(spool, *(entry(n) for n in range(50)))
    commit_to(path, entry(5))
    assert [each.first for each in check_ledger(path).breaks] == [6]


def test_a_tampered_receipt_is_not_forgotten_by_a_restart(path: Path) -> None:
    commit_to(path, *(entry(n) for n in range(5)))
    query(path, "UPDATE receipts SET received = 2, admitted = 2 WHERE sequence = 3")
    commit_to(path, entry(5))
    with opened(path) as ledger:
        found = ledger.verify()
    assert [flaw.sequence for flaw in found.flaws] == [3]
    assert [each.first for each in found.breaks] == [6]


@pytest.mark.parametrize("stage", ["part", "new", "aside", "copy"])
def test_a_recovery_that_was_interrupted_is_finished(
    crashed: Path, tmp_path: Path, stage: str
) -> None:
    def damage(path: Path) -> None:
        if stage in ("part", "copy"):
            path.with_name(f"spool.db.{stage}").write_bytes(b"half of it")
            return
        new = tmp_path / "other"
        with Spool(new / "spool.db") as spool:
            commit(spool, entry(1))
        (new / "spool.db").rename(path.with_name("spool.db.new"))
        shutil.rmtree(new)
        if stage == "aside":
            path.rename(path.with_name("spool.db.damaged-20260101T000000Z"))

    found, spool = _start(crashed, tmp_path, damage)
    with spool:
        assert set(found) == (NUMBERS if stage in ("part", "copy") else {1})
    assert not [p for p in tmp_path.iterdir() if p.suffix in (".part", ".new", ".copy")]


def test_frames_of_an_earlier_log_are_not_of_this_one(crashed: Path, tmp_path: Path) -> None:
    """A log that was begun anew has old frames behind its own; their salts differ."""
    log = tmp_path / "log"
    data = bytearray((crashed / "spool.db-wal").read_bytes())
    whole = last_commit(crashed / "spool.db-wal")
    size = int.from_bytes(data[8:12]) + 24
    assert 32 + whole * size <= len(data)
    data[32 + 8 + 10 * size :: size][:1] = b"\0"
    for at in range(32 + 10 * size, len(data), size):
        struct.pack_into(">I", data, at + 8, 7)
    log.write_bytes(data)
    assert 0 < last_commit(log) <= 10
    assert last_commit(tmp_path / "none") == 0


@pytest.mark.parametrize("table", ["batches", "receipts"])
@pytest.mark.parametrize("column", ["received", "layout"])
def test_a_text_that_is_no_utf8_stops_nothing(path: Path, table: str, column: str) -> None:
    """SQLite's check does not find it."""
    commit_to(path, *(entry(number) for number in range(10)))
    column = "schema" if table == "receipts" else column
    text = f"CAST(x'ff' || {column} AS TEXT)"
    query(path, f"UPDATE {table} SET {column} = {text} WHERE sequence = 2")
    found = set[int]()
    with Spool(path, sinks=["sink"]) as spool:

        def has_rest() -> bool:
            found.update(drained(spool))
            return found >= {0, *range(2, 10)} and spool.state().is_ready

        wait_until(has_rest)
        commit(spool, entry(10))
        assert drained(spool) == [10]
