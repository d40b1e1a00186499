"""Parts: no request is too large for a sink, and none holds up those that come after it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.contracts import Batch
from collector.errors import DeliveryError
from collector.filter.stored import read
from collector.sinks.ndjson import NdjsonFile
from collector.spool import Spool, write_queue
from collector.spool.file import ALWAYS, Revision
from collector.spool.write_queue import split
from tests.database import query
from tests.deadline import wait_until
from tests.ledgers import check_ledger
from tests.spool.make import commit, commit_to, drained, entry, waiting

_ROWS = 100
_LARGE = 250


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A spool whose batches have at most 100 rows."""
    monkeypatch.setattr(write_queue, "MOST_ROWS", _ROWS)
    return tmp_path / "data" / "spool.db"


def _numbers(batches: list[Batch]) -> list[int]:
    rows = (row for each in batches for row in (read(each).rows or list)())
    return [int(row[0] or 0) for row in rows]


@given(
    st.lists(st.binary(max_size=30).map(lambda b: b.replace(b"\n", b"") + b"\n"), max_size=60),
    st.integers(1, 9),
    st.integers(1, 80),
)
def test_pieces_are_whole_lines_and_bounded(lines: list[bytes], rows: int, size: int) -> None:
    """Together they are what was split; each is within both bounds, or a single line; and the next
    line would not have fit."""
    whole = b"".join(lines)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(write_queue, "MOST_ROWS", rows)
        patch.setattr(write_queue, "MOST_BYTES", size)
        pieces = list(split(whole))
    assert b"".join(pieces) == whole
    for at, piece in enumerate(pieces):
        number = piece.count(b"\n")
        assert piece.endswith(b"\n")
        assert number == 1 or (number <= rows and len(piece) <= size)
        if at + 1 < len(pieces):
            longer = len(piece) + pieces[at + 1].index(b"\n") + 1
            assert number + 1 > rows or longer > size


def test_a_large_request_becomes_bounded_batches(tmp_path: Path) -> None:
    """Each record once, in batches of 10,000, the last record in one of its own; the ledger adds
    up."""
    path, large = tmp_path / "spool.db", 25_000
    with Spool(path, sinks=["sink"]) as spool:
        commit(spool, entry(*range(large), rejected={"malformed": 7}))
        state = spool.state()
        assert (state.batches, state.records) == (4, large)
        assert sorted(drained(spool)) == list(range(large))
        wait_until(lambda: spool.depth() == 0)
    found = check_ledger(path)
    assert (found.received, found.admitted) == (large + 7, large)
    assert query(path, "SELECT count(*) FROM parts") == [(0,)]


def test_bytes_are_bounded_as_rows_are(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few long records are cut as well."""
    monkeypatch.setattr(write_queue, "MOST_BYTES", 1 << 16)
    with Spool(path, sinks=["sink"]) as spool:
        commit(spool, entry(*range(60), text="x" * 4096))
        batches = [batch for _, batch in waiting(spool, "sink")]
        assert 0 < max(len(batch.payload) for batch in batches) <= 1 << 16
        assert sorted(drained(spool)) == list(range(60))


def test_small_requests_that_wait_together_share_bounded_batches(path: Path) -> None:
    """Bounded, and no parts: nothing of them yields to others."""
    with Spool(path, sinks=["sink"]) as spool:
        with spool.paused():
            futures = [spool.put(entry(*range(n * 40, (n + 1) * 40))) for n in range(9)]
        for future in futures:
            future.result()
        batches = [batch for _, batch in waiting(spool, "sink")]
        assert all(each.payload.count(b"\n") <= _ROWS for each in batches)
        assert not any(each.is_part for each in batches)
        assert drained(spool) == list(range(360))


def test_parts_yield_to_what_comes_later(path: Path) -> None:
    """The next request is in the first hand-over, and is acknowledged by itself; then the parts are
    still all there, also after a restart."""
    with Spool(path, sinks=["sink"]) as spool:
        commit(spool, entry(*range(1000)), entry(-1))
        (number, first), *parts = waiting(spool, "sink")
        assert _numbers([first]) == [-1]
        assert 1 <= sum(part.payload.count(b"\n") for _, part in parts) <= 2 * _ROWS
        spool.delivered("sink", number)
        assert spool.wait("sink", 0)
        wait_until(lambda: spool.state().records == 1000)
    with Spool(path, sinks=["sink"]) as spool:
        assert spool.state().records == 1000
        assert sorted(drained(spool)) == list(range(1000))
        assert not spool.wait("sink", 0)


def test_each_sink_has_a_place_among_the_parts(path: Path) -> None:
    """One is done with all of it before the other begins; it goes when both have it."""
    with Spool(path, sinks=["sink", "other"]) as spool:
        commit(spool, entry(*range(_LARGE)), entry(-1))
        assert sorted(drained(spool)) == list(range(-1, _LARGE))
        assert spool.depth() == _LARGE + 1
    with Spool(path, sinks=["sink", "other"]) as spool:
        assert drained(spool) == []
        assert sorted(drained(spool, "other")) == list(range(-1, _LARGE))
        wait_until(lambda: spool.depth() == 0)


def test_a_late_acknowledgement_of_a_part_passes_no_batch(path: Path) -> None:
    """A part that was revised meanwhile has another number; the old one says nothing of others."""
    with Spool(path, sinks=["sink"]) as spool:
        commit(spool, entry(*range(_LARGE)), entry(-1))
        parts = [(number, each) for number, each in waiting(spool, "sink") if each.is_part]
        spool.revise(Revision(_without_zero, before=ALWAYS)).result()
        for number, each in parts:
            spool.delivered("sink", number, is_part=each.is_part)
        assert sorted(drained(spool)) == [-1, *range(1, _LARGE)], "what was revised comes again"
    check_ledger(path)


def _without_zero(payload: bytes, _minute: str) -> tuple[bytes, int]:
    lines = payload.splitlines(keepends=True)
    left = [line for line in lines if b'"n":0}' not in line]
    return b"".join(left), len(lines) - len(left)


def test_a_damaged_part_loses_nothing(path: Path) -> None:
    """The sinks that have it are unknown: the file is quarantined, and sinks get everything."""
    commit_to(path, entry(*range(_LARGE)), entry(-1))
    query(path, "UPDATE parts SET delivered = 'sink' WHERE sequence = 2")
    with Spool(path, sinks=["sink"]) as spool:
        assert spool.state().damaged == 1
        assert sorted(drained(spool)) == list(range(-1, _LARGE))


def test_an_unreadable_part_is_set_aside(path: Path) -> None:
    """The others pass."""
    commit_to(path, entry(*range(_LARGE)))
    query(path, "UPDATE batches SET received = '2026-11-24T10:21:00Z' WHERE sequence = 2")
    with Spool(path, sinks=["sink"]) as spool:
        assert sorted(drained(spool)) == [*range(_ROWS), *range(2 * _ROWS, _LARGE)]
        wait_until(lambda: spool.state().damaged == 1)
        wait_until(lambda: spool.depth() == 0)
        assert not spool.wait("sink", 0)
    assert query(path, "SELECT sequence FROM damaged") == [(2,)]
    assert query(path, "SELECT count(*) FROM parts") == [(0,)]


def test_a_part_that_is_damaged_while_the_spool_is_open(path: Path) -> None:
    """It becomes a batch like others in the file that is read out of the damaged one. The cursor in
    memory is past its number, and says nothing of it."""
    with Spool(path, sinks=["sink"]) as spool:
        commit(spool, entry(*range(_LARGE)), entry(-1))
        ((number, small),) = spool.after("sink")
        assert _numbers([small]) == [-1]
        spool.delivered("sink", number)
        wait_until(lambda: spool.depth() == _LARGE)
        query(path, "UPDATE parts SET seal = zeroblob(8) WHERE sequence = 2")
        with pytest.raises(DeliveryError):  # reads the table again
            spool.revise(Revision(lambda payload, _: (payload, 0), always=True)).result()
        wait_until(lambda: spool.quarantined)
        wait_until(lambda: spool.state().is_ready)
        assert set(drained(spool)) >= set(range(_LARGE))


@pytest.mark.parametrize("table", ["batches", "receipts"])
@pytest.mark.parametrize("column", ["received", "layout"])
@pytest.mark.parametrize("large", [False, True])
def test_a_text_that_is_no_utf8_stops_nothing(
    path: Path, table: str, column: str, large: bool
) -> None:
    """SQLite's check does not find it. What it is in is set aside, and the rest passes."""
    commit_to(
        path, entry(*range(_LARGE if large else 1)), *(entry(number) for number in range(-9, 0))
    )
    column = "schema" if table == "receipts" else column
    text = f"CAST(x'ff' || {column} AS TEXT)"
    query(path, f"UPDATE {table} SET {column} = {text} WHERE sequence = 2")
    found = set[int]()
    with Spool(path, sinks=["sink"]) as spool:

        def has_rest() -> bool:
            found.update(drained(spool))
            return found >= set(range(-8, 0)) and spool.state().is_ready

        wait_until(has_rest)
        commit(spool, entry(-10))
        assert drained(spool) == [-10]


def test_a_sink_is_not_given_again_what_was_revised(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither batches nor parts that it has, however many: a file knows 256 ids. Another sink that
    is behind gets what is left of them."""
    monkeypatch.setattr(write_queue, "MOST_ROWS", 10)
    target, number = tmp_path / "out.ndjson", 2800
    with Spool(path, sinks=["file", "store"]) as spool, NdjsonFile(target) as file:

        def deliver() -> None:
            while batches := waiting(spool, "file"):
                file.deliver(*(read(batch) for _, batch in batches))
                for sequence, batch in batches:
                    spool.delivered("file", sequence, is_part=batch.is_part)

        commit(spool, entry(*range(number)), *(entry(each) for each in range(-300, 0)))
        deliver()
        assert target.read_bytes().count(b"\n") == number + 300
        wait_until(lambda: spool.depth() == number + 300)
        newest = "SELECT sequence = (SELECT max(sequence) FROM batches) FROM cursors LIMIT 1"
        wait_until(lambda: query(path, newest) == [(1,)])
        spool.revise(Revision(_without_fives)).result()
        deliver()
        assert not spool.wait("file", 0)
        assert target.read_bytes().count(b"\n") == number + 300
        left = sorted(drained(spool, "store"))
        assert left == [each for each in range(-300, number) if each % 10 != 5]
        wait_until(lambda: spool.depth() == 0)
    check_ledger(path)


def _without_fives(payload: bytes, _minute: str) -> tuple[bytes, int]:
    lines = payload.splitlines(keepends=True)
    left = [line for line in lines if int(line.split(b":")[-1][:-2]) % 10 != 5]
    return b"".join(left), len(lines) - len(left)
