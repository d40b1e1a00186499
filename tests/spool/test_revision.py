"""Less in a spool: what is to go is gone, to the last byte; what is left is delivered, and the
ledger holds."""

from __future__ import annotations

import random
import re
import sqlite3
import tracemalloc
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event

import pytest

from collector.contracts import Part, Removal
from collector.filter.redaction import Rule
from collector.filter.stored import read
from collector.sinks.ndjson import NdjsonFile
from collector.spool import Spool
from collector.spool.file import SpoolFile
from collector.spool.recover import delete_quarantined, quarantined
from collector.spool.tables import aside_batches
from tests.support.database import query
from tests.support.deadline import WAIT_SECONDS, wait_until
from tests.support.ledgers import check_ledger
from tests.support.make_batches import MINUTE, commit, drained, entry, plant_aside, waiting, without
from tests.support.unpacked import every_byte

_LATER = "2026-11-24T10:21:00Z"
_NAME = re.compile(rb"name-\d{5}-[0-9a-f]{8}")


def _rewritten(spool: Spool, *gone: int) -> Removal:
    """Records with a number go."""
    (done,) = spool.rewrite([without(*gone)]).result(WAIT_SECONDS)
    return done


def _bytes(path: Path) -> bytes:
    return every_byte(*path.parent.glob(f"{path.name}*"))


def _put(spool: Spool, *numbers: int, minute: str = MINUTE, text: str | None = None) -> None:
    commit(spool, entry(*numbers, minute=minute, text=text))


def _verified(path: Path) -> tuple[int, int]:
    found = check_ledger(path)
    return found.receipts, found.received


def test_what_is_left_goes_on_under_a_receipt_of_its_own(path: Path) -> None:
    """It keeps its id and minute; the new receipt counts nothing, and the old one stays."""
    with Spool(path, sinks=["sink"]) as spool:
        _put(spool, 1, 2, 3, text="keep")
        _put(spool, 4, minute=_LATER)
        before = spool.after("sink")[0][1].id
        assert _rewritten(spool, 2) == Removal(deleted=1, batches=1)
        found = spool.after("sink")
        assert [(number, each.id == before) for number, each in found] == [(1, True), (2, False)]
        assert found[0][1].received == MINUTE
        assert spool.depth() == 3
        assert _verified(path) == (3, 4)
        assert drained(spool) == [1, 3, 4]
    assert _verified(path) == (3, 4)


def test_a_batch_of_which_nothing_is_left_is_gone(path: Path) -> None:
    with Spool(path, sinks=["sink"]) as spool:
        _put(spool, 1, 1)
        assert _rewritten(spool, 1) == Removal(deleted=2, batches=1)
        assert spool.state().batches == 0
        assert drained(spool) == []
        _put(spool, 2)
        assert drained(spool) == [2]
    assert _verified(path) == (2, 3)


def test_what_was_asked_before_is_done_before(tmp_path: Path) -> None:
    """What a sink has already is not left to be sent again."""
    with Spool(tmp_path / "spool.db", sinks=["sink"]) as spool:
        _put(spool, 1, 2)
        with spool.paused():
            spool.delivered("sink", 1)
            spool.put(entry(3, 4))
            future = spool.rewrite([without(2, 4)])
        assert future.result(WAIT_SECONDS) == [Removal(deleted=1, batches=1)]
        assert drained(spool) == [3]


def test_what_was_asked_after_a_commit_is_done_in_its_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requests may come between a commit and the turn of revisions."""
    committed, goes_on = Event(), Event()
    with Spool(tmp_path / "spool.db", sinks=["sink"]) as spool:
        do_job = spool._do_job

        def late(file: SpoolFile) -> bool:
            committed.set()
            assert goes_on.wait(WAIT_SECONDS)
            return do_job(file)

        monkeypatch.setattr(spool, "_do_job", late)
        spool.put(entry(1, 2))
        assert committed.wait(WAIT_SECONDS)
        spool.delivered("sink", 1)
        spool.put(entry(3, 4))
        future = spool.rewrite([without(2, 4)])
        goes_on.set()
        assert future.result(WAIT_SECONDS) == [Removal(deleted=1, batches=1)]
        assert drained(spool) == [3]


def test_only_batches_from_before_are_looked_at(path: Path) -> None:
    rule = Rule(others=[Part(end=_LATER)])
    with Spool(path, sinks=["sink"]) as spool:
        _put(spool, 1)
        _put(spool, 2, minute=_LATER)
        assert spool.rewrite([rule]).result(WAIT_SECONDS)[0].records == 1
        assert drained(spool, acknowledge=False) == [2]
    assert query(path, "SELECT DISTINCT hour FROM hours") == [("2026-11-24T10:00:00Z",)]
    with Spool(path) as spool:
        (done,) = spool.rewrite([Rule()], hours="2026-11-24T11:00:00Z").result(WAIT_SECONDS)
    assert done.hours
    assert query(path, "SELECT * FROM hours") == []


def test_a_batch_that_is_not_what_was_written_goes(path: Path) -> None:
    """It is unknown whose records it had."""
    with Spool(path, sinks=["sink"]) as spool:
        _put(spool, 1)
        _put(spool, 2)
    query(path, "UPDATE batches SET payload = x'00' WHERE sequence = 1")
    with Spool(path, sinks=["sink"]) as spool:
        assert _rewritten(spool).damaged == 1
        assert drained(spool) == [2]
    assert query(path, "SELECT * FROM damaged") == []


@pytest.mark.parametrize("seed", [3, 11])
def test_no_byte_of_it_stays(tmp_path: Path, seed: int) -> None:
    """Batches of many sizes are divided among pages, and joined when half of them go. With these
    seeds, copies of some would be left that nothing overwrites."""
    chance, path = random.Random(seed), tmp_path / "spool.db"
    names = [f"name-{n:05}-{chance.getrandbits(32):08x}" for n in range(1500)]
    with Spool(path, sinks=["sink"]) as spool:
        for n, name in enumerate(names):
            text = name + "." * chance.choice((0, 5, 100, 700, 3000))
            day = f"2026-{1 + n // 744 % 12:02}-{1 + n // 24 % 28:02}"
            minute = f"{day}T{n % 24:02}:{n // 24 % 60:02}:00Z"  # a batch each
            future = spool.put(entry(n, text=text, minute=minute))
        future.result(WAIT_SECONDS)
        gone = set(chance.sample(names, 750))

        numbers = (n for n, name in enumerate(names) if name in gone)
        assert _rewritten(spool, *numbers).batches == len(gone)
        found = {match.decode() for match in _NAME.findall(_bytes(path))}
        assert found == set(names) - gone
    assert _verified(path) == (1500, 1500)


def test_a_checkpoint_under_way_is_no_reader(path: Path) -> None:
    """A revision empties the log, however often it is written into the file meanwhile."""
    with Spool(path, sinks=["sink"]) as spool:
        for number in range(15):
            for _ in range(8):
                _put(spool, number, text="x" * 250_000)
            assert _rewritten(spool, *range(15)).is_swept


def test_a_reader_is_said(path: Path) -> None:
    """A reader of an earlier state keeps the log, which is emptied when he is gone."""
    with Spool(path, sinks=["sink"]) as spool:
        _put(spool, 1, text="secret-of-somebody")
        with closing(sqlite3.connect(path, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM batches").fetchone()
            assert not _rewritten(spool, 1).is_swept
            assert b"secret-of-somebody" in _bytes(path)
        assert _rewritten(spool, 1) == Removal()
        assert b"secret-of-somebody" not in _bytes(path)


def test_files_that_were_set_aside_have_their_time(tmp_path: Path) -> None:
    path, now = tmp_path / "spool.db", datetime(2026, 11, 24, tzinfo=UTC)
    for name in ("20261101T000000Z", "20261120T000000Z-2", "20261120T000000Z-wal"):
        (tmp_path / f"spool.db.damaged-{name}").write_bytes(b"x")
    (tmp_path / "spool.db.damaged-odd").write_bytes(b"x")
    moments = [moment for _, moment in quarantined(path)]
    assert moments[:3] == [datetime(2026, 11, day, tzinfo=UTC) for day in (1, 20, 20)]
    assert delete_quarantined(path, until=now - timedelta(days=7)) == 1
    assert delete_quarantined(path, since=datetime(2026, 11, 21, tzinfo=UTC)) == 1
    assert delete_quarantined(path) == 2


def test_a_late_acknowledgement_passes_no_batch(path: Path) -> None:
    """A batch that was revised while a sink took it keeps its number."""
    with Spool(path, sinks=["sink", "other"]) as spool:
        _put(spool, *range(20))
        _put(spool, 20, minute=_LATER)
        (number, _), _ = waiting(spool)
        _rewritten(spool, 0)
        spool.delivered("sink", number)
        assert drained(spool) == [20]
        assert drained(spool, "other") == [*range(1, 21)]
    assert _verified(path) == (3, 21)


def test_a_sink_is_not_given_again_what_was_revised(path: Path, tmp_path: Path) -> None:
    """A file knows 256 ids. Another sink that is behind gets what is left of the batches."""
    target, number = tmp_path / "out.ndjson", 300
    with Spool(path, sinks=["file", "store"]) as spool, NdjsonFile(target) as file:

        def deliver() -> None:
            while batches := waiting(spool, "file"):
                file.deliver(*(read(batch) for _, batch in batches))
                spool.delivered("file", batches[-1][0])

        for each in range(number):
            future = spool.put(entry(each), entry(-each, minute=_LATER))
        future.result(WAIT_SECONDS)
        deliver()
        newest = "SELECT sequence = (SELECT max(sequence) FROM batches) FROM sinks LIMIT 1"
        wait_until(lambda: query(path, newest) == [(1,)])
        spool.rewrite([without(*range(15, number, 10))])
        deliver()
        assert not spool.wait("file", 0)
        assert target.read_bytes().count(b"\n") == 2 * number
    with Spool(path, sinks=["file", "store"]) as spool:
        left = sorted(drained(spool, "store"))
        kept = [each for each in range(number) if each % 10 != 5 or each == 5]
        assert left == sorted([*range(0, -number, -1), *kept])
        wait_until(lambda: spool.depth() == 0)
    check_ledger(path)


def test_memory_does_not_depend_on_what_was_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    with Spool(path, sinks=["sink"]) as spool:
        _put(spool, 1, text="x" * (1 << 18))
        ((_, batch),) = waiting(spool)
    for _ in range(32):
        plant_aside(path, "sink", batch)
    with Spool(path, sinks=["sink"]) as spool:
        tracemalloc.start()
        try:
            _rewritten(spool, 99)
            assert tracemalloc.get_traced_memory()[1] < 4 << 20
        finally:
            tracemalloc.stop()


def test_what_was_set_aside_loses_the_same(path: Path) -> None:
    with Spool(path, sinks=["sink"]) as spool:
        _put(spool, 1, 2, text="keep")
        ((_, batch),) = waiting(spool)
    plant_aside(path, "sink", batch)
    with Spool(path, sinks=["sink"]) as spool:
        assert _rewritten(spool, 2) == Removal(deleted=2, batches=2)
        ((_, left),) = waiting(spool)
        (refused,) = aside_batches(path)
        assert refused.batch.payload == left.payload != batch.payload
