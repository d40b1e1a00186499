"""The spool: what is acknowledged is on disk, what is on disk reaches every sink, and then goes."""

from __future__ import annotations

import hmac
import os
import stat
import threading
from collections import Counter
from concurrent.futures import CancelledError
from contextlib import closing
from pathlib import Path
from time import sleep
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.contracts import REJECTIONS, Earlier, Layout, PendingBatch, Tally, layout_of
from collector.errors import ConfigError, DeliveryError
from collector.ledger import opened
from collector.ledger.stored import FORMAT
from collector.spool import Spool, check
from collector.spool.file import SpoolFile
from collector.spool.recover import quarantined
from collector.spool.tables import NEW_HOUR, open_connection, pending_batches
from tests.support.database import query
from tests.support.deadline import WAIT_SECONDS, wait_until
from tests.support.ledgers import check_ledger
from tests.support.make_batches import LAYOUT, MINUTE, commit, commit_to, drained, entry
from tests.support.raising import raises
from tests.support.unpacked import every_byte


def test_what_is_put_is_there_after_a_restart(path: Path) -> None:
    """Each sink gets everything once, in order."""
    with Spool(path, sinks=["sink", "other"]) as spool:
        commit(spool, *(entry(n) for n in range(10)))
        assert spool.depth() == 10
        assert drained(spool) == list(range(10))
        assert spool.depth() == 10, "the other sink has none of it"
    with Spool(path, sinks=["sink", "other"]) as spool:
        assert drained(spool) == []
        assert drained(spool, "other") == list(range(10))
        wait_until(lambda: spool.depth() == 0)
    assert query(path, "SELECT count(*) FROM batches") == [(0,)]


def test_batches_stay_the_next_until_they_are_delivered(path: Path) -> None:
    """A sink that failed gets the same again; ``limit`` is the most at once."""
    with Spool(path, sinks=["sink"]) as spool:
        commit(spool, *(entry(n) for n in range(5)))
        first = spool.after("sink", 2)
        assert [sequence for sequence, _ in first] == [1, 2]
        assert [b.id for _, b in spool.after("sink", 2)] == [b.id for _, b in first]
        spool.delivered("sink", 1)
        assert [sequence for sequence, _ in spool.after("sink", 2)] == [2, 3]
        spool.delivered("sink", 1)
        assert [sequence for sequence, _ in spool.after("sink", 9)] == [2, 3, 4, 5]


def test_a_batch_is_as_it_was_put(path: Path) -> None:
    put = entry(1, 2, 3)
    with Spool(path, sinks=["sink"]) as spool:
        commit(spool, put)
        ((_, batch),) = spool.after("sink")
        assert (batch.layout, batch.received, batch.payload) == (LAYOUT, MINUTE, put.payload)
        assert len(batch.id) == 16
        commit(spool, put)
        assert len({batch.id for _, batch in spool.after("sink")}) == 2


def test_many_at_once_become_few_commits(path: Path) -> None:
    """What waits at the same time shares a commit, a batch and a receipt."""
    with Spool(path, sinks=["sink"]) as spool:
        with spool.paused():
            futures = [spool.put(entry(n, rejected={"malformed": 1})) for n in range(500)]
        for future in futures:
            future.result(WAIT_SECONDS)
        assert drained(spool) == list(range(500))
    with opened(path) as ledger:
        found = ledger.verify()
    assert found.receipts < 100
    assert (found.received, found.admitted, found.rejected) == (1000, 500, {"malformed": 500})


def test_layouts_and_minutes_are_kept_apart(path: Path) -> None:
    """Layouts are there after a restart, whatever the schema is then."""
    other = Layout("numbers/2.0.0", "cd" * 32, "numbers", (("n", "INTEGER"), ("x", "REAL")))
    later = entry(3, minute="2026-11-24T10:21:00Z")
    entries = [entry(1), entry(2, layout=other), later, entry(4), entry(5, layout=other)]
    with Spool(path, sinks=["sink"]) as spool:
        for future in [spool.put(each) for each in entries]:
            future.result(WAIT_SECONDS)
    with Spool(path, sinks=["sink"]) as spool:
        batches = [batch for _, batch in spool.after("sink", 100)]
    assert {batch.layout for batch in batches} == {LAYOUT, other}
    for batch in batches:
        assert batch.payload.count(layout_of(batch).schema.encode()) == batch.payload.count(b"\n")


def test_nothing_admitted_gives_a_receipt_and_no_batch(path: Path) -> None:
    with Spool(path, sinks=["sink"]) as spool:
        commit(spool, entry(), entry(rejected={"malformed": 3}))
        assert spool.after("sink") == []
        commit(spool, entry(1))
        assert drained(spool) == [1]
    with opened(path) as ledger:
        first, second = ledger.receipts()
        assert not ledger.verify().flaws
    assert (first.received, first.rejected, first.commitment) == (3, {"malformed": 3}, None)
    assert (second.admitted, second.commitment is None) == (1, False)


def test_a_clock_that_jumps_back_changes_nothing(path: Path) -> None:
    minutes = ["2026-11-24T10:20:00Z", "2019-01-01T00:00:00Z", "2026-11-24T10:19:00Z"]
    with Spool(path, sinks=["sink"]) as spool:
        commit(spool, *(entry(n, minute=minute) for n, minute in enumerate(minutes)))
        assert drained(spool) == [0, 1, 2]
        assert spool.state().oldest >= 0
    with Spool(path, sinks=["sink"]), opened(path) as ledger:
        assert [receipt.minute for receipt in ledger.receipts()] == minutes
        assert not ledger.verify().flaws


# -- limits ---------------------------------------------------------------------------------------


def test_a_full_spool_refuses_and_forgets_nothing(path: Path) -> None:
    """The limit counts what waits in memory too; delivering makes room."""
    put = entry(1)
    size = len(put.payload)
    with Spool(path, sinks=["sink"], limit=10 * size) as spool:
        futures = [spool.put(put) for _ in range(10)]
        with pytest.raises(DeliveryError, match="E505"):
            spool.put(put)
        for future in futures:
            future.result(WAIT_SECONDS)
        with pytest.raises(DeliveryError):
            spool.put(put)
        assert spool.state().bytes == 10 * size
        assert len(drained(spool)) == 10
        wait_until(lambda: spool.depth() == 0)
        commit(spool, put)
    with Spool(path, sinks=["sink"], limit=size) as spool, pytest.raises(DeliveryError):
        spool.put(put)


def test_what_is_being_written_counts(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two looks at the file, nothing is free that a commit is about to take."""
    put, outcomes, write = entry(1), list[str](), SpoolFile.write

    def written(self: SpoolFile, *args: Any) -> list[Earlier | None]:
        try:
            spool.put(put)
            outcomes.append("taken")
        except DeliveryError as error:
            outcomes.append(error.code)
        return write(self, *args)

    monkeypatch.setattr(SpoolFile, "write", written)
    with Spool(path, sinks=["sink"], limit=len(put.payload)) as spool:
        assert spool.put(put).result(WAIT_SECONDS) is None
        assert spool.state().batches == 1
    assert outcomes[0] == "E505"


@pytest.mark.parametrize(
    "faulty",
    [
        PendingBatch(LAYOUT, MINUTE, b"", Tally(2, 0, Counter({"malformed": 1}))),
        PendingBatch(LAYOUT, MINUTE, b"", Tally(1, 1)),
        PendingBatch(LAYOUT, MINUTE, b"{}\n", Tally(1, 0, Counter({"malformed": 1}))),
        PendingBatch(LAYOUT, MINUTE, b"{}", Tally(1, 1)),
    ],
)
def test_what_does_not_add_up_is_a_bug_of_the_caller(path: Path, faulty: PendingBatch) -> None:
    """Its receipt would not hold."""
    with Spool(path) as spool, pytest.raises(ValueError, match="must"):
        spool.put(faulty)


def test_whoever_gives_up_is_not_kept(path: Path) -> None:
    with Spool(path, sinks=["sink"]) as spool:
        with spool.paused():
            first, second = spool.put(entry(1)), spool.put(entry(2))
            assert first.cancel()
        second.result(WAIT_SECONDS)
        assert drained(spool) == [2]
        with pytest.raises(CancelledError):
            first.result(WAIT_SECONDS)


# -- sinks ----------------------------------------------------------------------------------------


def test_sinks_that_come_and_go(path: Path) -> None:
    """A new sink begins with what waits. A spool without sinks forgets nothing."""
    with Spool(path, sinks=["a", "b"]) as spool:
        commit(spool, entry(1), entry(2))
        spool.delivered("a", 2)
        spool.delivered("b", 1)
    with Spool(path) as spool:
        assert spool.depth() == 1
    with Spool(path, sinks=["a", "c"]) as spool:
        assert drained(spool, "a") == []
        assert drained(spool, "c") == [2]
        assert spool.absent()["b"].records == 1
    with Spool(path, sinks=["b"]) as spool:
        assert drained(spool, "b") == [2]
        commit(spool, entry(3))
        assert drained(spool, "b") == [3]
        wait_until(lambda: spool.depth() == 0)
    with Spool(path, sinks=["a", "c"]) as spool:
        assert drained(spool, "a") == drained(spool, "c") == []


def test_waiting_ends_when_something_comes(path: Path) -> None:
    with Spool(path, sinks=["sink"]) as spool:
        assert not spool.wait("sink", 0.01)
        timer = threading.Timer(0.1, lambda: spool.put(entry(1)))
        timer.start()
        assert spool.wait("sink", WAIT_SECONDS)
        timer.join(WAIT_SECONDS)
        assert drained(spool) == [1]


def test_nobody_waits_for_receipts_without_records(path: Path) -> None:
    """There is time to tidy up then."""
    refused = entry(rejected={"malformed": 1})
    with Spool(path, sinks=["sink"]) as spool:
        commit(spool, entry(1), refused)
        assert drained(spool) == [1]
        assert not spool.wait("sink", 0)
    with Spool(path, sinks=["sink", "new"]) as spool:
        assert spool.after("new") == []
        assert not spool.wait("new", 0)
        spool.put(refused, entry(2)).result(WAIT_SECONDS)
        assert spool.wait("new", 0)
        assert drained(spool, "new") == drained(spool) == [2]
        assert not spool.wait("new", 0)


def test_the_state(path: Path) -> None:
    with Spool(path, sinks=["sink"], limit=1000) as spool:
        assert spool.state().oldest == 0
        commit(spool, entry(1, 2))
        state = spool.state()
        assert (state.is_ready, state.batches, state.records) == (True, 1, 2)
        assert (state.bytes, state.limit) == (len(entry(1, 2).payload), 1000)
        assert 0 < state.oldest < 60
        assert (state.errors, state.damaged, spool.quarantined) == (0, 0, [])
    assert not spool.state().is_ready
    with pytest.raises(DeliveryError, match="E506"):
        spool.put(entry(1))
    with Spool(path, sinks=["sink"]) as spool:
        assert (spool.state().batches, spool.state().records) == (1, 2)
        assert drained(spool) == [1, 2]
        wait_until(lambda: spool.state().oldest == 0)


# -- what is where --------------------------------------------------------------------------------


def test_files_are_private_whatever_the_umask(path: Path) -> None:
    before = os.umask(0)
    try:
        with Spool(path) as spool:
            commit(spool, entry(1))
            modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in path.parent.iterdir()}
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    names = {"spool.db", "spool.db-wal", "spool.db-shm", "collector.lock"}
    assert modes == dict.fromkeys(names, 0o600)


def test_settings_of_the_file(path: Path) -> None:
    with Spool(path), closing(open_connection(path)) as db:
        settings = [
            db.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("journal_mode", "synchronous", "secure_delete", "temp_store")
        ]
    assert settings == ["wal", 2, 1, 2]


def test_one_process_at_a_time(path: Path) -> None:
    with Spool(path), raises("E203", ConfigError, match="in use"):
        Spool(path)
    Spool(path).close()


def test_deliveries_alone_are_stored(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sink that was away is back long after the last commit, and nobody sends anything."""
    monkeypatch.setattr("collector.spool.spool._SUMS_SECONDS", 0.0)
    with Spool(path, sinks=["store"]) as spool:
        commit(spool, entry(1), entry(2))
        wait_until(lambda: not path.with_name(f"{path.name}-wal").stat().st_size)
        wait_until(lambda: not spool._checkpoints.has_log.is_set() and not spool._sums)
        sleep(0.3)  # its thread waits for something to do
        for left, sequence in ((1, 1), (0, 2)):
            spool.delivered("store", sequence)
            wait_until(lambda left=left: spool.state().batches == left)  # type: ignore[misc]
            sleep(0.1)


def test_a_delivered_batch_leaves_no_byte(path: Path) -> None:
    """Neither salt nor record nor batch id is left in any file; the receipt stays."""
    with Spool(path, sinks=["sink"]) as spool:
        commit(
            spool,
            *(entry(*range(n * 100, n * 100 + 1 + n * 40), text=f"canary-{n}") for n in range(20)),
        )
        secrets = query(path, "SELECT salt, id FROM batches")
        assert all(value in every_byte(path.parent) for row in secrets for value in row)
        drained(spool)
        gone = [b"canary", *(value for row in secrets for value in row)]

        def is_gone() -> bool:
            left = every_byte(path.parent)
            return not any(value in left for value in gone)

        wait_until(is_gone)
        assert spool.state().batches == 0
    with opened(path) as ledger:
        assert len(list(ledger.receipts())) == 20


def test_a_receipt_is_no_oracle(path: Path) -> None:
    """The commitment fits under the salt, which goes, and tells nothing without it."""
    put = entry(7)
    with Spool(path, sinks=["sink"]) as spool:
        commit(spool, put)
        ((salt,),) = query(path, "SELECT salt FROM batches")
        ((commitment,),) = query(path, "SELECT commitment FROM receipts")
        assert isinstance(salt, bytes)
        assert hmac.digest(salt, put.payload, "sha256") == commitment
        commit(spool, put)
        assert len(set(query(path, "SELECT commitment FROM receipts"))) == 2


def test_nothing_of_a_record_is_in_what_is_said(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    put = entry(1, text="canary")
    with Spool(path, sinks=["sink"], limit=len(put.payload)) as spool:
        commit(spool, put)
        with pytest.raises(DeliveryError) as caught:
            spool.put(put)
        shown = [repr(spool), repr(spool.after("sink")), repr(put), repr(spool.state())]
        shown += [repr(caught.value), str(caught.value), caplog.text]
    assert not [text for text in shown if "canary" in text]
    assert repr(spool) == "<Spool of 1 batches>"


def test_sums_are_of_hours_and_not_of_commits(path: Path) -> None:
    """They reach the file when it closes, or after a minute."""
    tally = Tally(1, 1, bytes_in=500, bytes_out=20)
    tally.content["chat"] += 1
    tally.dropped["os.version"] = Counter({"invalid_value": 2})
    with Spool(path, sinks=["sink"]) as spool:
        minutes = [f"2026-11-24T{time}:00Z" for time in ("10:20", "10:59", "11:00")]
        payload = entry(1).payload
        commit(spool, *(PendingBatch(LAYOUT, minute, payload, tally) for minute in minutes))
        assert query(path, "SELECT count(*) FROM hours") == [(0,)]
    rows = query(path, "SELECT hour, what, name, reason, times FROM hours ORDER BY 1, 2, 3")
    assert rows == [
        ("2026-11-24T10:00:00Z", "bytes", "in", "", 1000),
        ("2026-11-24T10:00:00Z", "bytes", "out", "", 40),
        ("2026-11-24T10:00:00Z", "content", "chat", "", 2),
        ("2026-11-24T10:00:00Z", "dropped", "os.version", "invalid_value", 4),
        ("2026-11-24T11:00:00Z", "bytes", "in", "", 500),
        ("2026-11-24T11:00:00Z", "bytes", "out", "", 20),
        ("2026-11-24T11:00:00Z", "content", "chat", "", 1),
        ("2026-11-24T11:00:00Z", "dropped", "os.version", "invalid_value", 2),
    ]


def test_content_and_sizes_leave_the_same_receipt(tmp_path: Path) -> None:
    """The requests differ in the number and length of their chat messages only."""
    receipts: list[Any] = []
    for name, messages, size in (("a", 1, 300), ("b", 5000, 90_000)):
        tally = Tally(1, 1, bytes_in=size, bytes_out=len(entry(1).payload))
        tally.content["chat"] += messages
        with Spool(tmp_path / name / "spool.db") as spool:
            commit(spool, PendingBatch(LAYOUT, MINUTE, entry(1).payload, tally))
        with opened(tmp_path / name / "spool.db") as ledger:
            (receipt,) = ledger.receipts()
        receipts.append(receipt.as_dict() | {"commitment": None, "hash": None})
    assert receipts[0] == receipts[1]


_REFUSED = st.dictionaries(st.sampled_from(REJECTIONS), st.integers(1, 50), max_size=3)
_ENTRIES = st.lists(st.tuples(st.integers(0, 4), _REFUSED), min_size=1, max_size=12)


@settings(max_examples=max(1, settings().max_examples // 4))
@given(given_entries=_ENTRIES)
def test_everything_is_accounted_for(
    tmp_path_factory: pytest.TempPathFactory, given_entries: list[tuple[int, dict[Any, int]]]
) -> None:
    path = tmp_path_factory.mktemp("law") / "spool.db"
    total, number = Tally(), 0
    numbers: list[int] = []
    with Spool(path, sinks=["sink"]) as spool:
        futures = []
        for count, rejected in given_entries:
            put = entry(*range(number, number + count), rejected=rejected)
            numbers += range(number, number + count)
            number += count
            total += put.tally
            futures.append(spool.put(put))
        for future in futures:
            future.result(WAIT_SECONDS)
        assert drained(spool) == numbers
    found = check_ledger(path)
    assert (found.received, found.admitted) == (total.received, total.admitted)
    assert found.rejected == total.rejected


@pytest.mark.parametrize("format_", [0, 2, 99])
def test_a_spool_of_an_unknown_format_is_refused(path: Path, format_: int) -> None:
    """Nothing in it is changed or renamed."""
    Spool(path).close()
    query(path, f"UPDATE about SET format = {format_}", f"PRAGMA user_version = {format_}")
    query(path, "PRAGMA wal_checkpoint(TRUNCATE)")
    before = path.read_bytes()
    uses = (Spool, check, lambda at: list(pending_batches(at)), lambda at: opened(at).__enter__())
    for use in uses:
        with pytest.raises(ConfigError, match=r"a format that this version .* \[E203\]"):
            use(path)
    assert path.read_bytes() == before
    assert not list(quarantined(path))


@pytest.mark.parametrize("places", ["about", "user_version"])
def test_a_format_that_only_one_place_says(path: Path, places: str) -> None:
    """It is damage: what waits is there, and the file is usable."""
    commit_to(path, entry(1))
    change = "UPDATE about SET format = 2" if places == "about" else "PRAGMA user_version = 2"
    query(path, change)
    with Spool(path, sinks=["sink"]) as spool:
        assert drained(spool) == [1]
    assert query(path, "SELECT format FROM about") == [(FORMAT,)]


@pytest.mark.parametrize("obstacle", ["directory", "link", "file above"])
def test_a_path_that_is_no_file_is_refused(path: Path, obstacle: str) -> None:
    if obstacle == "file above":
        path.parent.write_bytes(b"")
    elif obstacle == "directory":
        path.mkdir(parents=True)
    else:
        path.parent.mkdir()
        (path.parent / "elsewhere").write_bytes(b"")
        path.symlink_to("elsewhere")
    with raises("E203", ConfigError):
        Spool(path)
    assert path.is_dir() or path.is_symlink() or path.parent.is_file()


def test_hourly_sums_stay_integers(tmp_path: Path) -> None:
    """SQLite must be able to add up all hours."""
    path, times = tmp_path / "spool.db", 1 << 62
    with Spool(path, sinks=[]):
        pass
    with closing(open_connection(path)) as db:
        hour = ("2026-11-24T10:00:00Z", "bytes", "in", "")
        db.executemany(NEW_HOUR, [(*hour, times), (*hour, times), (*hour, 1)])
        assert db.execute("SELECT times FROM hours").fetchall() == [(1 << 50,)]
