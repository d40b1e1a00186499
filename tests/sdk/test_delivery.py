"""The retention of records that wait for an unreachable sink."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from time import time

import pytest

from collector.sdk import Collector
from collector.spool import Spool
from tests.sdk.accounts import both_ways, spool_of
from tests.sdk.wires import hung
from tests.support.deadline import WAIT_SECONDS, wait_until
from tests.support.ledgers import entries_of
from tests.support.make_batches import commit
from tests.support.populated import PopulatedDirectory, address
from tests.support.unpacked import every_byte

_DAY = 86400
_OLD = b"203.0.113.7"


@both_ways
def test_waiting_records_expire(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, with_spool: bool
) -> None:
    """An address is removed after thirty days, and a record without another field with it; newer
    ones stay. The check runs between attempts to deliver, here after each of them."""
    monkeypatch.setattr("collector.sdk.delivery._PRUNE_SECONDS", 0.0)
    spool = spool_of(tmp_path, with_spool)
    with hung() as port:
        to = f"http://127.0.0.1:{port}"
        telemetry = Collector(to=to, spool=spool, interval=0, timeout=0.2)
        for days, address in ((31, "203.0.113.7"), (29, "203.0.113.8"), (0, "203.0.113.9")):
            then = time() - days * _DAY
            monkeypatch.setattr("collector.sdk.queue.time", lambda then=then: then)
            assert telemetry.emit({"ip": address})
        if with_spool:
            wait_until(lambda: not telemetry.tally().queued)

        def has_lost() -> object:
            telemetry.emit({"ip": "203.0.113.9"})
            telemetry.flush(0.1)
            return telemetry.tally().lost

        wait_until(has_lost)  # a drain may be delivering
        account = telemetry.tally()
        assert account.lost == {"expired": 1}
        assert account.queued + account.spooled == account.admitted - 1 >= 3
        if with_spool:
            assert _OLD not in every_byte(*tmp_path.rglob("spool.db*"))
        telemetry.close(0)


def test_records_of_an_earlier_process_expire(tmp_path: Path) -> None:
    """It is removed when the next process opens the spool, and the ledger has an entry."""
    lives, spool = PopulatedDirectory(tmp_path), tmp_path / "spool"
    (spool / "0").mkdir(parents=True, mode=0o700)
    path = spool / "0" / "spool.db"
    with Spool(path, sinks=["target"]) as left:
        commit(left, lives.entry(range(5), days=91), lives.entry(range(5, 8), days=1))
    aside = path.with_name("spool.db.damaged-20200101T000000Z")
    aside.write_bytes(b"who knows")
    with hung() as port:
        telemetry = Collector(to=f"http://127.0.0.1:{port}", spool=spool, timeout=0.2)
        assert (telemetry.tally().recovered, telemetry.tally().spooled) == (3, 3)
        assert not aside.exists()
        telemetry.close(0)
    assert lives.left(range(8)) == {5, 6, 7}
    (entry,) = entries_of(path, "prune")
    assert dict(entry.facts) == {"command": "sdk prune", "batches": "1", "files": "1"}


def test_blocked_deletion_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A warning is logged once while a reader of the store blocks deletion, and a line when it is
    done."""
    lives = PopulatedDirectory(tmp_path)
    lives.deliver_aged((range(3), 91))
    store = lives.data / "store.db"
    with closing(sqlite3.connect(store, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM conferencing").fetchone()
        with Collector(to=f"sqlite:///{store}", interval=0) as telemetry:

            def deliver() -> list[str]:
                assert telemetry.emit({"ip": "203.0.113.7"})
                assert telemetry.flush(WAIT_SECONDS)
                return _of_expired_data(caplog)

            assert wait_until(deliver) == ["cannot delete expired data"]
            reader.execute("ROLLBACK")
            wait_until(lambda: deliver()[1:] == ["expired data is deleted"])
    assert address(1).encode() not in b"".join(p.read_bytes() for p in store.parent.glob("store.*"))


def _of_expired_data(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the log messages about it; collectors of earlier tests may still log failed
    deliveries."""
    messages = [message.partition(":")[0] for message in caplog.messages]
    return [message for message in messages if "expired data" in message]


def test_what_waits_goes_to_another_target(tmp_path: Path) -> None:
    """An application's spool has one sink, wherever its target is by now: what waited for the first
    one goes to the next, and nothing stays behind."""
    spool, lines = tmp_path / "spool", tmp_path / "records.ndjson"
    with hung() as port:
        telemetry = Collector(to=f"http://127.0.0.1:{port}", spool=spool, timeout=0.2)
        assert telemetry.emit({"ip": "203.0.113.7"})
        wait_until(lambda: telemetry.tally().spooled)
        telemetry.close(0)
    with Collector(to=f"ndjson:///{lines}", spool=spool, interval=0) as telemetry:
        assert telemetry.tally().recovered == 1
        assert telemetry.emit({"ip": "203.0.113.8"})
        wait_until(lambda: lines.is_file() and lines.read_bytes().count(b"\n") == 2)
        wait_until(lambda: not telemetry.tally().spooled)
    assert _OLD in lines.read_bytes()
    with Spool(spool / "0" / "spool.db") as left:
        assert (left.depth(), left.absent()) == (0, {})
