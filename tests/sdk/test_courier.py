"""What waits for too long for a sink that does not come loses what is older than it may be."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from time import sleep, time

import pytest

from collector.ledger import opened
from collector.sdk import Collector
from collector.spool import Spool
from tests.proof.lives import Lives, address
from tests.sdk.wires import hung

_DAY = 86400
_OLD = b"203.0.113.7"


@pytest.mark.parametrize("with_spool", [False, True], ids=["memory", "spool"])
def test_what_waits_has_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, with_spool: bool
) -> None:
    """An address goes after thirty days, and a record without anything else with it; what is newer
    stays. It is looked at once an hour, between attempts to deliver."""
    spool = tmp_path / "spool" if with_spool else None
    with hung() as port:
        to = f"http://127.0.0.1:{port}"
        telemetry = Collector(to=to, spool=spool, interval=0, timeout=0.2)
        for days, address in ((31, "203.0.113.7"), (29, "203.0.113.8"), (0, "203.0.113.9")):
            then = time() - days * _DAY
            monkeypatch.setattr("collector.sdk.buffer.time", lambda then=then: then)
            assert telemetry.emit({"ip": address})
        while with_spool and telemetry.tally().queued:
            sleep(0.01)
        courier = telemetry._courier
        assert courier is not None
        courier._due = 0
        telemetry.emit({"ip": "203.0.113.9"})
        while not telemetry.tally().lost:
            telemetry.flush(0.1)
            courier._due = 0  # a drain may have been at it
        account = telemetry.tally()
        assert account.lost == {"expired": 1}
        assert account.queued + account.spooled == 3
        if with_spool:
            assert not any(_OLD in path.read_bytes() for path in tmp_path.rglob("spool.db*"))
        telemetry.close(0)


def test_what_was_left_behind_has_its_time(tmp_path: Path) -> None:
    """It is gone when the next process has opened the spool, and its ledger says so."""
    lives, spool = Lives(tmp_path), tmp_path / "spool"
    (spool / "0").mkdir(parents=True, mode=0o700)
    path = spool / "0" / "spool.db"
    with Spool(path, sinks=["http"]) as left:
        left.put(lives.entry(range(5), days=91)).result(10)
        left.put(lives.entry(range(5, 8), days=1)).result(10)
    aside = path.with_name("spool.db.damaged-20200101T000000Z")
    aside.write_bytes(b"who knows")
    with hung() as port:
        telemetry = Collector(to=f"http://127.0.0.1:{port}", spool=spool, timeout=0.2)
        assert (telemetry.tally().recovered, telemetry.tally().spooled) == (3, 3)
        assert not aside.exists()
        telemetry.close(0)
    assert lives.left(range(8)) == {5, 6, 7}
    with opened(path) as ledger:
        assert ledger.verify().flaws == []
        (entry,) = [entry for entry in ledger.entries() if entry.kind == "prune"]
    assert dict(entry.facts) == {"command": "sdk prune", "batches": "1", "files": "1"}


def test_that_something_cannot_be_taken_out_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Once, and once when it is gone: who is reading the store is in the way of its last bytes."""
    lives = Lives(tmp_path)
    lives.deliver_aged((range(3), 91))
    store = lives.data / "store.db"
    with closing(sqlite3.connect(store, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM conferencing").fetchone()
        with Collector(to=f"sqlite:///{store}", interval=0) as telemetry:
            for ends, said in (("ROLLBACK", 1), ("", 2)):
                while len(caplog.messages) < said:
                    assert telemetry.emit({"ip": "203.0.113.7"})
                    assert telemetry.flush(30)
                    sleep(0.1)
                if ends:
                    reader.execute(ends)
    assert [message.partition(":")[0] for message in caplog.messages] == [
        "what is over its retention cannot be taken out at present",
        "what was over its retention is gone",
    ]
    assert address(1).encode() not in b"".join(p.read_bytes() for p in store.parent.glob("store.*"))
