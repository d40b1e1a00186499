"""The newest batches whose rows are known: sinks get them as they are, and read all others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from collector.contracts import Batch, PendingBatch, Row
from collector.filter.stored import read
from collector.spool import Spool
from collector.spool.write_queue import RecentBatches
from tests.support.database import query
from tests.support.make_batches import LAYOUT, MINUTE, drained, entry, without


def _with_rows(*numbers: int) -> PendingBatch:
    rows: list[Row] = [(number, None, 1) for number in numbers]
    return replace(entry(*numbers), rows=rows)


def test_rows_that_are_known_are_not_decoded(tmp_path: Path) -> None:
    pending = _with_rows(1, 2)
    with Spool(tmp_path / "spool.db", sinks=["sink"], layouts=[LAYOUT]) as spool:
        spool.put(pending).result()
        spool.put(entry(3)).result()
        (_, known), (_, other) = spool.after("sink")
        assert known.rows is not None
        assert known.rows() is pending.rows
        assert other.rows is None
        again = read(replace(known, rows=None))
        assert again.rows is not None
        assert again.rows() == pending.rows
        assert drained(spool) == [1, 2, 3]


def test_a_sink_with_some_fields_gets_no_more() -> None:
    batch = Batch(bytes(16), MINUTE, layout=LAYOUT, payload=entry(7, text="x").payload)
    known = replace(batch, rows=lambda: [(7, "x", 1)])
    found = read(known, {"n"})
    assert found.rows is not None
    assert found.rows() == [(7, 1)]
    assert b"x" not in found.payload
    whole = read(known, {"n", "text"})
    assert whole.rows is known.rows


def test_what_is_deleted_is_not_delivered(tmp_path: Path) -> None:
    with Spool(tmp_path / "spool.db", sinks=["sink"], layouts=[LAYOUT]) as spool:
        spool.put(_with_rows(1)).result()
        spool.put(_with_rows(2)).result()
        assert spool.rewrite([without(1)]).result()[0].deleted == 1
        assert drained(spool, acknowledge=False) == [2]
        ((_, batch),) = spool.after("sink")
        assert batch.rows is None


def test_a_restart_reads_the_file(tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    with Spool(path, sinks=["sink"], layouts=[LAYOUT]) as spool:
        spool.put(_with_rows(1)).result()
    query(path, "UPDATE batches SET payload = x'7b7d0a'")
    with Spool(path, sinks=["sink"], layouts=[LAYOUT]) as spool:
        assert spool.after("sink") == []


def test_it_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("collector.spool.write_queue._MOST_RECENT_BYTES", 5 * 1500)
    recent = RecentBatches()
    batch = Batch(bytes(16), MINUTE, payload=bytes(400), rows=list)
    for number in range(1, 11):
        recent.add(number, batch)
    recent.add(11, replace(batch, rows=None))
    assert [number for number in range(20) if number in recent.known] == [6, 7, 8, 9, 10]
    recent.forget(8)
    assert [number for number in range(20) if number in recent.known] == [9, 10]
    recent.forget(99)
    assert repr(recent) == "<RecentBatches: 0>"
