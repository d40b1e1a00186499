"""A request is one commit: in it is one batch for each schema, minute and set of granted purposes,
and what a commit takes from several requests is bounded."""

from __future__ import annotations

import zlib
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from collector.contracts import (
    MOST_BYTES,
    MOST_EVENTS,
    Earlier,
    PendingBatch,
    RequestKey,
    Share,
    StoredRecords,
    Tally,
    Written,
)
from collector.errors import DeliveryError
from collector.ledger import opened
from collector.ledger.receipt import commit as commitment
from collector.spool import Spool, file, write_queue
from collector.spool.file import SpoolFile
from collector.spool.recover import open_file
from collector.spool.write_queue import PendingWrite, merge
from tests.support.database import query
from tests.support.deadline import WAIT_SECONDS, wait_until
from tests.support.failing_disk import fill, small_disk
from tests.support.ledgers import check_ledger
from tests.support.make_batches import (
    LAYOUT,
    commit,
    commit_to,
    drained,
    entry,
    waiting,
    without,
)

KEY = RequestKey(b"k" * 16, b"b" * 16)


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of records of each commit that has some."""
    found: list[int] = []
    write = SpoolFile.write

    def note(opened: SpoolFile, writes: list[PendingWrite], *others: Any) -> list[Earlier | None]:
        number = sum(each.record_count for one in writes for each in one.batches)
        found.extend([number] if number else [])
        return write(opened, writes, *others)

    monkeypatch.setattr(SpoolFile, "write", note)
    return found


def test_the_largest_request_is_one_batch_and_one_commit(path: Path, sizes: list[int]) -> None:
    with Spool(path, sinks=["sink"]) as spool:
        commit(spool, entry(*range(MOST_EVENTS), rejected={"malformed": 7}), entry(-1))
        assert sizes == [MOST_EVENTS, 1]
        ((_, large),) = waiting(spool, limit=1)
        assert large.payload.count(b"\n") == MOST_EVENTS
        assert drained(spool) == [*range(MOST_EVENTS), -1]
    found = check_ledger(path)
    assert (found.receipts, found.received) == (2, MOST_EVENTS + 8)


def test_many_records_take_little_room(path: Path) -> None:
    """They are compressed, and so is what a rule leaves of them."""
    large = entry(*range(MOST_EVENTS))
    with Spool(path, sinks=["sink"]) as spool:
        commit(spool, large)
        assert spool.state().bytes < len(large.payload) // 4
        ((_, batch),) = waiting(spool)
        assert batch.payload == large.payload
    check_ledger(path)
    with Spool(path, sinks=["sink"]) as spool:
        spool.rewrite([without(*range(100))]).result(WAIT_SECONDS)
        assert spool.state().bytes < len(large.payload) // 4
        assert drained(spool) == [*range(100, MOST_EVENTS)]
    check_ledger(path)


@pytest.mark.parametrize(
    "payload",
    [
        zlib.compress(b"{}\n" * MOST_BYTES, 1),
        zlib.compress(b"{}\n" * 1000, 1)[:-1],
        zlib.compress(b"{}\n" * 1000, 1) + b"x",
        b"x{}\n",
    ],
    ids=["too much", "cut short", "bytes follow", "nothing compressed"],
)
def test_what_cannot_be_decompressed_is_damaged(path: Path, payload: bytes) -> None:
    """Its seal does not matter; it delays no other batch."""
    salt = bytes(32)
    planted = StoredRecords(salt, commitment(salt, payload), payload)
    with Spool(path, sinks=["sink"]) as spool:
        commit(spool, replace(entry(1), stored=planted), entry(2))
        assert drained(spool) == [2]
        wait_until(lambda: spool.state().damaged == 1)
    assert query(path, "SELECT sequence FROM damaged") == [(1,)]


def test_what_shares_a_commit_is_not_compressed(path: Path) -> None:
    """All of its senders would wait for that."""
    with Spool(path, sinks=["sink"]) as spool:
        with spool.paused():
            puts = [spool.put(entry(*range(100), text="x" * 1000)) for _ in range(4)]
        assert [put.result(WAIT_SECONDS) for put in puts] == [None] * 4
        ((size,),) = query(path, "SELECT length(payload) FROM batches")
        assert size == spool.state().bytes > 400_000


def test_more_than_a_request_may_become_is_refused(path: Path) -> None:
    long = "x" * (MOST_BYTES // 8)
    with Spool(path, sinks=["sink"]) as spool:
        for batches in (
            [entry(*range(MOST_EVENTS + 1))],
            [entry(*range(MOST_EVENTS)), entry(1, minute="2026-11-24T11:00:00Z")],
            [entry(*range(8), text=long)],
        ):
            with pytest.raises(ValueError, match="must not become more"):
                spool.put(*batches)
        commit(spool, entry(*range(7), text=long))
        assert drained(spool) == [*range(7)]


def test_requests_share_a_commit_up_to_a_bound(
    tmp_path: Path, sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bound is of bytes and of records; a larger request has a commit of its own, after the
    others."""
    size = len(entry(1, text="x" * 1000).payload)
    monkeypatch.setattr(write_queue, "MOST_SHARED_BYTES", 3 * size)
    monkeypatch.setattr(write_queue, "MOST_EVENTS", 40)
    with Spool(tmp_path / "spool.db", sinks=["sink"]) as spool:
        with spool.paused():
            puts = [spool.put(*_minutes(number)) for number in (1, 1, 2, 4, 1)]
            puts += [spool.put(entry(*range(number))) for number in (15, 25, 1)]
        assert [put.result(WAIT_SECONDS) for put in puts] == [None] * 8
        assert sizes == [2, 2 + 1, 15 + 25, 1, 4]
        assert len(drained(spool)) == 9 + 41


def test_a_large_request_waits_for_some_commits_only(
    tmp_path: Path, sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write_queue, "MOST_SHARED_BYTES", 1000)
    with Spool(tmp_path / "spool.db", sinks=["sink"]) as spool:
        with spool.paused():
            puts = [spool.put(entry(*range(100)))]
            puts += [spool.put(entry(1, text="x" * 600)) for _ in range(20)]
        assert [put.result(WAIT_SECONDS) for put in puts] == [None] * 21
    at = sizes.index(100)
    assert 0 < at < 20
    assert sizes == [1] * at + [100] + [1] * (20 - at)


def _minutes(number: int) -> list[PendingBatch]:
    return [
        entry(each, text="x" * 1000, minute=f"2026-11-24T10:2{each}:00Z") for each in range(number)
    ]


def test_requests_that_share_a_commit_share_a_batch(path: Path) -> None:
    with Spool(path, sinks=["sink"]) as spool:
        with spool.paused():
            for number in range(9):
                spool.put(entry(*range(number * 40, (number + 1) * 40)))
            last = spool.put(entry(360, minute="2026-11-24T11:00:00Z"))
        last.result(WAIT_SECONDS)
        assert drained(spool) == [*range(361)]
    assert query(path, "SELECT count(*) FROM receipts") == [(2,)]


def test_copies_are_stored_once(path: Path) -> None:
    """The key decides, also in one commit and whatever their size."""
    with Spool(path, sinks=["sink"]) as spool:
        with spool.paused():
            first = spool.put(entry(*range(1000)), key=KEY)
            other = spool.put(entry(-1), key=KEY._replace(body=b"o" * 16))
            again = spool.put(entry(*range(1000)), key=KEY)
        assert first.result(WAIT_SECONDS) is None
        assert [copy.result(WAIT_SECONDS) for copy in (other, again)] == [
            Earlier(Tally(1000, 1000), is_same=same) for same in (False, True)
        ]
        assert drained(spool) == [*range(1000)]


def test_batches_of_many_minutes(path: Path, sizes: list[int]) -> None:
    minutes = [f"2026-11-24T10:{minute:02}:00Z" for minute in range(60)]
    batches = [entry(*range(at * 10, at * 10 + 10), minute=m) for at, m in enumerate(minutes)]
    batches.append(entry(rejected={"malformed": 3}, minute="2026-11-24T11:00:00Z"))
    with Spool(path, sinks=["sink"]) as spool:
        assert spool.put(*batches).result(WAIT_SECONDS) is None
        assert sizes == [600]
        assert sorted(drained(spool)) == list(range(600))
    assert check_ledger(path).received == 603
    with opened(path) as ledger:
        counted = [(each.minute, each.admitted) for each in ledger.receipts() if each.received]
    assert counted == [*((minute, 10) for minute in minutes), ("2026-11-24T11:00:00Z", 0)]


def test_a_spool_that_is_closed_writes_what_waits(path: Path) -> None:
    spool = Spool(path, sinks=["sink"])
    with spool.paused():
        put = spool.put(entry(*range(1000)))
    spool.close()
    assert put.result(0) is None
    assert check_ledger(path).received == 1000


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", 8) as place:
        yield place


@pytest.mark.parametrize("is_full", [False, True])
def test_a_large_request_for_which_a_disk_has_no_room(disk: Path, is_full: bool) -> None:
    """It is refused as a whole. Smaller ones are taken, and the same one is when there is room."""
    path = disk / "spool.db"
    large = entry(*range(2000 if is_full else 6000), text="x" * 1000)
    with Spool(path, sinks=["sink"]) as spool:
        commit(spool, entry(-2))
        if is_full:
            fill(disk / "ballast")
        errors = spool.state().errors
        with pytest.raises(DeliveryError, match="E506"):
            spool.put(large, key=KEY).result(WAIT_SECONDS)
        assert spool.state().errors == errors, "it was not tried"
        (disk / "ballast").unlink(missing_ok=True)
        wait_until(lambda: spool.state().is_ready)
        commit(spool, entry(-1))
        if is_full:
            assert spool.put(large, key=KEY).result(WAIT_SECONDS) is None
        assert drained(spool) == [-2, -1, *range(2000 if is_full else 0)]
    check_ledger(path)


def test_batches_that_all_sinks_have_are_deleted_little_by_little(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each commit deletes about as many bytes as one writes, so others wait no longer for it."""
    with Spool(path, sinks=["sink"]) as spool:
        commit(spool, *(entry(number, text="x" * 1000) for number in range(5)))
    monkeypatch.setattr(file, "_MOST_DELETED_BYTES", 1500)
    found, depths = open_file(path, [LAYOUT], {"sink": Share()}).file, list[int]()
    try:
        while found.has_delivered or not depths:
            found.write([], {"sink": found.last}, Counter(), [])
            depths.append(found.depth.batches)
    finally:
        found.close()
    assert depths[:3] == [3, 1, 0]


def test_large_batches_are_deleted_as_fast_as_they_come(tmp_path: Path) -> None:
    """Each transaction has a request with several batches, which can hardly be compressed."""
    found = open_file(tmp_path / "spool.db", [LAYOUT], {"sink": Share()}).file
    chance, least, most = Random(7), 1_000_000, 0
    try:
        for _ in range(10):
            _written(found, *(_dense(chance, minute) for minute in range(5)))
            most = max(most, found.depth.bytes)
    finally:
        found.close()
    assert least < most < 4 * least


def test_what_all_sinks_have_is_deleted_where_none_is_named(path: Path) -> None:
    """What is left for later transactions goes too, while no request comes."""
    commit_to(path, *(entry(number, text="x" * 200_000) for number in range(9)))
    found = open_file(path, [LAYOUT], {"sink": Share()}).file
    try:
        assert _written(found) > 6
    finally:
        found.close()
    with Spool(path) as spool:
        wait_until(lambda: spool.state().bytes < 200_000)


def _dense(chance: Random, minute: int) -> PendingBatch:
    """Records of a minute, 300 kB in all, which can hardly be compressed."""
    texts = [b64encode(chance.randbytes(720)).decode() for _ in range(300)]
    (batch,) = merge([entry(1, text=text, minute=f"2026-11-24T10:2{minute}:00Z") for text in texts])
    return batch


def _written(found: SpoolFile, *batches: PendingBatch) -> int:
    """Write a request, if there is one, and note that the sink has all of before; return how many
    batches are left."""
    writes = [PendingWrite(batches, None, Written())] if batches else []
    found.write(writes, {"sink": found.last}, Counter(), [])
    return found.depth.batches
