"""Large requests are written part by part: others' commits go on meanwhile, and until the last one
nothing of a request counts; then all of it does."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from collector.contracts import Earlier, PendingBatch, RequestKey, Tally, Written, to_minute
from collector.errors import DeliveryError
from collector.ledger import opened
from collector.spool import Spool, file, write_queue
from collector.spool.file import Depth, Revision, RevisionOutcome, SpoolFile
from collector.spool.recover import open_file
from collector.spool.tables import Position, pending_batches
from collector.spool.write_queue import PendingWrite
from tests.database import query
from tests.deadline import WAIT_SECONDS, wait_until
from tests.ledgers import check_ledger
from tests.sidecar.faults import fill, small_disk
from tests.spool.make import LAYOUT, commit, drained, entry, waiting

_ROWS, _LARGE = 100, 1001
_PARTS = 10
"""The parts of a large request but for the last, which is one record."""
KEY = RequestKey(b"k" * 16, b"b" * 16)
_NOW = datetime.now(UTC)
Halfway = Callable[[Callable[[], object]], None]


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A spool whose parts have at most 100 rows."""
    monkeypatch.setattr(write_queue, "MOST_ROWS", _ROWS)
    return tmp_path / "data" / "spool.db"


@pytest.fixture
def halfway(monkeypatch: pytest.MonkeyPatch) -> Halfway:
    """Does something once, when half of the parts of a large request are on disk."""

    def set_up(act: Callable[[], object]) -> None:
        acts = [act]

        def parts(batches: Iterable[PendingBatch]) -> Iterator[list[PendingBatch]]:
            for number, part in enumerate(write_queue.parts_before(batches)):
                if number == _PARTS // 2 and acts:
                    acts.pop()()
                yield part

        monkeypatch.setattr(file, "parts_before", parts)

    return set_up


def _verified(path: Path, received: int) -> None:
    found = check_ledger(path)
    assert (found.breaks, found.received) == ([], received)


def test_others_are_committed_between_its_parts(
    path: Path, halfway: Halfway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are acknowledged first, and their receipts lie between those of the parts; also where it
    has as many bytes as may wait."""
    order: list[str] = []
    monkeypatch.setattr(write_queue, "_MOST_BYTES", len(entry(*range(_LARGE)).payload))
    with Spool(path, sinks=["sink"]) as spool:

        def put_small() -> None:
            spool.put(entry(-1)).add_done_callback(lambda _: order.append("small"))

        halfway(put_small)
        large = spool.put(entry(*range(_LARGE), rejected={"malformed": 7}))
        large.add_done_callback(lambda _: order.append("large"))
        assert large.result(WAIT_SECONDS) is None
        wait_until(lambda: "large" in order)  # a result is there before it is called back
        assert order == ["small", "large"]
        assert sorted(drained(spool)) == list(range(-1, _LARGE))
    _verified(path, _LARGE + 8)
    with opened(path) as ledger:
        counts = [receipt.received for receipt in ledger.receipts()]
    before = _PARTS // 2 + 1
    assert counts == [*[0] * before, 1, *[0] * (_PARTS - before), _LARGE + 7]


def test_nothing_of_it_counts_until_all_is_there(path: Path, halfway: Halfway) -> None:
    """To no sink, for no limit and no metric, to no other process, in no sum of the ledger."""
    with Spool(path, sinks=["sink"]) as spool:
        looked: list[bool] = []

        def look() -> None:
            assert query(path, "SELECT count(*) FROM staging") == [(_PARTS // 2,)]
            assert not waiting(spool)
            assert not spool.wait("sink", 0)
            assert (spool.state().batches, spool.state().bytes, spool.depth()) == (0, 0, 0)
            assert not list(pending_batches(path))
            _verified(path, 0)
            looked.append(True)

        halfway(look)
        large = entry(*range(_LARGE))
        assert spool.put(large).result(WAIT_SECONDS) is None
        assert looked
        state = spool.state()
        assert (state.records, state.bytes) == (_LARGE, len(large.payload))
        assert len(list(pending_batches(path))) == state.batches == _PARTS + 1
        assert query(path, "SELECT count(*) FROM staging") == [(0,)]
    _verified(path, _LARGE)


def _crashed(path: Path, halfway: Halfway, copy: Path) -> Path:
    """A copy of a spool whose process ended between two parts of a request."""
    with Spool(path, sinks=["sink"]) as spool:
        halfway(lambda: shutil.copytree(path.parent, copy))
        commit(spool, entry(-1))
        spool.put(entry(*range(_LARGE), text="canary"), key=KEY).result(WAIT_SECONDS)
    return copy / path.name


def test_what_was_staged_before_a_crash_is_gone(
    path: Path, halfway: Halfway, tmp_path: Path
) -> None:
    """To the last byte; its key is free, so that it can be sent again."""
    copy = _crashed(path, halfway, tmp_path / "copy")
    assert any(b"canary" in each.read_bytes() for each in copy.parent.iterdir())
    with Spool(copy, sinks=["sink"]) as spool:
        assert (spool.state().damaged, spool.state().records) == (0, 1)
        for table in ("staging", "parts"):
            assert query(copy, f"SELECT count(*) FROM {table}") == [(0,)]
        assert drained(spool) == [-1]
    assert not any(b"canary" in each.read_bytes() for each in copy.parent.iterdir())
    _verified(copy, 1)
    with Spool(copy, sinks=["sink"]) as spool:
        assert spool.put(entry(*range(_LARGE)), key=KEY).result(WAIT_SECONDS) is None
        assert sorted(drained(spool)) == list(range(_LARGE))
    _verified(copy, _LARGE + 1)


def test_a_damaged_file_gives_back_nothing_that_was_staged(
    path: Path, halfway: Halfway, tmp_path: Path
) -> None:
    """The new file has what was accepted."""
    copy = _crashed(path, halfway, tmp_path / "copy")
    query(copy, "DROP TABLE hours")
    with Spool(copy, sinks=["sink"], layouts=[LAYOUT]) as spool:
        assert spool.quarantined
        assert drained(spool) == [-1]
    _verified(copy, 1)


def test_another_process_sees_nothing_of_a_crashed_request(
    path: Path, halfway: Halfway, tmp_path: Path
) -> None:
    """Before the file is opened the next time."""
    copy = _crashed(path, halfway, tmp_path / "copy")
    assert [each.payload.count(b"\n") for each in pending_batches(copy) if each] == [1]


def test_jobs_wait_for_the_last_part(path: Path, halfway: Halfway) -> None:
    """A revision finds all of a request or nothing of it."""
    with Spool(path, sinks=["sink"]) as spool:
        revised: list[Future[RevisionOutcome]] = []
        halfway(lambda: revised.append(spool.revise(Revision(_without_fives))))
        assert spool.put(entry(*range(_LARGE))).result(WAIT_SECONDS) is None
        assert revised[0].result(WAIT_SECONDS).gone == 100
        assert sorted(drained(spool)) == [each for each in range(_LARGE) if each % 10 != 5]
    _verified(path, _LARGE)


def _without_fives(payload: bytes, _minute: str) -> tuple[bytes, int]:
    lines = payload.splitlines(keepends=True)
    left = [line for line in lines if int(line.split(b":")[-1][:-2]) % 10 != 5]
    return b"".join(left), len(lines) - len(left)


def test_copies_wait_for_the_request(path: Path, halfway: Halfway) -> None:
    """Whatever their size: it is stored once, under its key."""
    with Spool(path, sinks=["sink"]) as spool:
        copies: list[Written] = []

        def put_copies() -> None:
            copies.append(spool.put(entry(-1), key=KEY._replace(body=b"o" * 16)))
            copies.append(spool.put(entry(*range(_LARGE)), key=KEY))
            assert not any(copy.done() for copy in copies)

        halfway(put_copies)
        large = spool.put(entry(*range(_LARGE)), key=KEY)
        assert large.result(WAIT_SECONDS) is None
        assert [copy.result(WAIT_SECONDS) for copy in copies] == [
            Earlier(Tally(_LARGE, _LARGE), is_same=same) for same in (False, True)
        ]
        assert sorted(drained(spool)) == list(range(_LARGE))
    _verified(path, _LARGE)


def test_batches_of_many_minutes(path: Path) -> None:
    """Each has its counts and its minute."""
    minutes = [f"2026-11-24T10:{minute:02}:00Z" for minute in range(60)]
    batches = [entry(*range(at * 10, at * 10 + 10), minute=m) for at, m in enumerate(minutes)]
    batches.append(entry(rejected={"malformed": 3}, minute="2026-11-24T11:00:00Z"))
    with Spool(path, sinks=["sink"]) as spool:
        assert spool.put(*batches).result(WAIT_SECONDS) is None
        assert sorted(drained(spool)) == list(range(600))
    _verified(path, 603)
    with opened(path) as ledger:
        counted = [(each.minute, each.admitted) for each in ledger.receipts() if each.received]
    assert counted == [*((minute, 10) for minute in minutes), ("2026-11-24T11:00:00Z", 0)]


def test_a_spool_that_is_closed_meanwhile_writes_it_to_its_end(
    path: Path, halfway: Halfway
) -> None:
    """As it does whatever waits."""
    spool = Spool(path, sinks=["sink"])
    with spool.paused():
        large = spool.put(entry(*range(_LARGE)))
    spool.close()
    assert large.result(0) is None
    _verified(path, _LARGE)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", 8) as place:
        yield place


def test_a_request_for_which_a_disk_has_no_room(disk: Path) -> None:
    """It is refused before it fills the disk, and nothing else is."""
    path = disk / "spool.db"
    with Spool(path, sinks=["sink"]) as spool:
        with pytest.raises(DeliveryError, match="E506"):
            commit(spool, entry(*range(6000), text="x" * 1000))
        assert (spool.state().is_ready, spool.state().errors) == (True, 0)
        assert spool.put(entry(1)).result(WAIT_SECONDS) is None
        assert query(path, "SELECT count(*) FROM staging") == [(0,)]
    check_ledger(path)


def test_a_disk_that_fills_up_between_two_parts(
    disk: Path, halfway: Halfway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The request is refused as a whole, and taken when there is room."""
    monkeypatch.setattr(write_queue, "MOST_ROWS", _ROWS)
    path, large = disk / "spool.db", entry(*range(_LARGE), text="x" * 1000)
    with Spool(path, sinks=["sink"]) as spool:
        assert spool.put(entry(-1)).result(WAIT_SECONDS) is None
        halfway(lambda: fill(disk / "ballast"))
        with pytest.raises(DeliveryError, match="E506"):
            spool.put(large, key=KEY).result(WAIT_SECONDS)
        (disk / "ballast").unlink()
        wait_until(lambda: query(path, "SELECT count(*) FROM staging") == [(0,)])
        wait_until(lambda: spool.state().is_ready)
        assert spool.put(large, key=KEY).result(WAIT_SECONDS) is None
        assert sorted(drained(spool)) == list(range(-1, _LARGE))
    _verified(path, _LARGE + 1)


def test_parts_that_all_sinks_have_are_deleted_one_by_one(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each commit deletes about as many bytes as one writes, so others wait no longer for it."""
    monkeypatch.setattr(write_queue, "MOST_PART_BYTES", 2000)
    with Spool(path, sinks=["sink"]) as spool:
        assert spool.put(entry(*range(_LARGE))).result(WAIT_SECONDS) is None
        batches = spool.state().batches
    file = open_file(path, [LAYOUT], ["sink"]).file
    try:
        cursors = {"sink": Position(0, file.last)}
        file.write([], cursors, Counter(), [])
        assert file.has_delivered
        assert file.depth.batches == batches - 1
        while file.has_delivered:
            file.write([], cursors, Counter(), [])
        assert file.depth == Depth()
    finally:
        file.close()


def test_batches_that_all_sinks_have_are_deleted_little_by_little(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same holds of those that are no parts."""
    with Spool(path, sinks=["sink"]) as spool:
        commit(spool, *(entry(number, text="x" * 1000) for number in range(5)))
    monkeypatch.setattr(write_queue, "MOST_PART_BYTES", 3000)
    file, depths = open_file(path, [LAYOUT], ["sink"]).file, list[int]()
    try:
        while file.has_delivered or not depths:
            file.write([], {"sink": Position(file.last)}, Counter(), [])
            depths.append(file.depth.batches)
    finally:
        file.close()
    assert depths[:3] == [3, 1, 0]


def test_no_commit_is_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that is larger than a part becomes parts, and requests share a commit up to the
    size of one."""
    size = len(entry(1, text="x" * 1000).payload)
    monkeypatch.setattr(write_queue, "MOST_PART_BYTES", 3 * size)
    sizes: list[int] = []
    write = SpoolFile.write

    def note(file: SpoolFile, writes: list[PendingWrite], *others: Any) -> list[Earlier | None]:
        sizes.append(sum(len(each.payload) for one in writes for each in one.batches) // size)
        return write(file, writes, *others)

    monkeypatch.setattr(SpoolFile, "write", note)
    path = tmp_path / "spool.db"
    with Spool(path) as spool:
        with spool.paused():
            puts = [spool.put(*_numbers(2)), spool.put(*_numbers(2)), spool.put(*_numbers(4))]
        assert [put.result(WAIT_SECONDS) for put in puts] == [None] * 3
    assert [each for each in sizes if each] == [2, 2]
    assert len(query(path, "SELECT 1 FROM parts")) == 4


def test_small_parts_share_a_transaction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request of very many minutes takes no transaction for each; nor does deleting them."""
    monkeypatch.setattr(write_queue, "MOST_PART_BYTES", 20_000)
    monkeypatch.setattr(write_queue, "MOST_TOGETHER", 20)
    lines = [entry(1, 2, minute=to_minute(_NOW - timedelta(minutes=n))) for n in range(500)]
    steps: list[int] = []
    transaction = SpoolFile.transaction

    def note(file: SpoolFile) -> AbstractContextManager[None]:
        steps.append(len(file.parts))
        return transaction(file)

    monkeypatch.setattr(SpoolFile, "transaction", note)
    with Spool(tmp_path / "spool.db", sinks=["sink"]) as spool:
        assert spool.put(*lines).result(WAIT_SECONDS) is None
        assert [each for each in steps if each] == list(range(20, 501, 20))
        steps.clear()
        assert len(drained(spool)) == 1000
        wait_until(lambda: not spool.state().batches)
    assert max(before - after for before, after in pairwise(steps)) == 20


def _numbers(number: int) -> list[PendingBatch]:
    return [
        entry(each, text="x" * 1000, minute=f"2026-11-24T10:2{each}:00Z") for each in range(number)
    ]
