"""What waits for each sink, and when a spool is full of it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.contracts import Backlog, Depth, SpoolState
from collector.errors import DeliveryError
from collector.ledger import Note
from collector.spool import Spool
from collector.spool.write_queue import Arrivals, Room
from tests.support.database import query
from tests.support.deadline import WAIT_SECONDS, eventually, wait_until
from tests.support.make_batches import MINUTE, commit, drained, entry, law, without

_SINKS = ("sink", "other")
_ALL = (*_SINKS, "absent")
_LIMIT = 10_000


def _found(path: Path) -> dict[str, Depth]:
    """What each sink would get, counted row by row in the file."""
    with closing(sqlite3.connect(path, timeout=WAIT_SECONDS, isolation_level=None)) as db:
        db.execute("BEGIN")
        cursors = dict(db.execute("SELECT sink, sequence FROM sinks"))
        gaps = db.execute("SELECT sink, after, upto FROM gaps").fetchall()
        batches = db.execute("SELECT sequence, records, length(payload) FROM batches").fetchall()

    def is_for(sink: str, at: int) -> bool:
        is_missed = any(name == sink and after < at <= upto for name, after, upto in gaps)
        return at > cursors[sink] and not is_missed

    return {
        sink: sum((Depth(1, n, size) for at, n, size in batches if is_for(sink, at)), Depth())
        for sink in cursors
    }


def _agrees(spool: Spool, path: Path) -> bool:
    found = _found(path)
    return all(_told(spool, sink) == found.get(sink, Depth()) for sink in _ALL)


def _told(spool: Spool, sink: str) -> Depth:
    """What the spool says that waits for a sink, named or absent."""
    state = spool.state()
    waits = state.backlogs.get(sink) or state.absent.get(sink, Backlog())
    return Depth(waits.batches, waits.records, waits.bytes)


_STEPS = st.one_of(
    st.tuples(st.just("put"), st.integers(0, 60)),
    st.tuples(st.sampled_from(_ALL), st.integers(1, 5)),
    st.tuples(st.just("revise"), st.integers(1, 9)),
    st.tuples(st.sampled_from(["damage", "open"]), st.integers(1, 2 ** len(_ALL) - 1)),
    st.tuples(st.just("drop"), st.integers(0, len(_ALL) - 1)),
)


@given(st.lists(_STEPS, max_size=16))
def test_backlogs_are_what_sinks_would_get(steps: list[tuple[str, int]]) -> None:
    """The number of a step selects the sinks of a restart."""
    with TemporaryDirectory() as name:
        path = Path(name) / "spool.db"
        named: tuple[str, ...] = _ALL
        spool = Spool(path, sinks=named)
        try:
            for what, number in steps:
                if what == "put":
                    commit(spool, entry(*range(number)))
                elif what in _ALL:
                    if what in named and (found := spool.after(what, number)):
                        spool.delivered(what, found[-1][0])
                elif what == "revise":
                    spool.rewrite([without(number)], damaged="").result(WAIT_SECONDS)
                elif what == "drop":
                    if _ALL[number] not in named:
                        spool.drop(_ALL[number], _dropped).result(WAIT_SECONDS)
                        spool.delete_delivered()
                else:
                    spool.close()
                    if what == "damage":
                        first = "(SELECT sequence FROM batches ORDER BY sequence LIMIT 1)"
                        change = "payload = CAST(payload || x'0a' AS BLOB)"
                        query(path, f"UPDATE batches SET {change} WHERE sequence = {first}")
                    named = tuple(sink for at, sink in enumerate(_ALL) if number >> at & 1)
                    spool = Spool(path, sinks=named)
                assert eventually(partial(_agrees, spool, path), 20), (what, number)
                law(spool)
            state = spool.state()
            everything = [*state.backlogs.values(), *state.absent.values()]
            assert max(each.bytes for each in everything) <= state.bytes
            if not any(each.batches for each in everything):
                spool.delete_delivered()
                assert spool.depth() == 0, "what nobody needs is deleted"
        finally:
            spool.close()


def _dropped(waited: Depth) -> Note:
    return Note.of("drop", command="store drop", rows=waited.records, batches=waited.batches)


def test_ages_are_of_each_sink(path: Path) -> None:
    """The lag is how long a batch had waited when it was taken."""
    with Spool(path, sinks=_SINKS) as spool:
        commit(spool, entry(1))
        wait_until(lambda: spool.state().backlogs["other"].oldest > 1.5)
        drained(spool)
        wait_until(lambda: spool.state().backlogs["sink"].batches == 0)
        backlogs = spool.state().backlogs
        assert backlogs["sink"].oldest == 0
        assert backlogs["sink"].lag > 1.5
        assert (backlogs["other"].batches, backlogs["other"].lag) == (1, 0)
        assert backlogs["other"].oldest > 1.5
        commit(spool, entry(2))
        assert spool.state().backlogs["sink"].oldest < backlogs["other"].oldest
        drained(spool, "other")
        wait_until(lambda: spool.state().batches == 1)


def test_the_age_of_a_sink_that_was_absent_is_of_what_is_for_it(path: Path) -> None:
    with Spool(path, sinks=["sink", "other"]) as spool:
        commit(spool, entry(1))
        assert (drained(spool), drained(spool, "other")) == ([1], [1])
        wait_until(lambda: spool.depth() == 0)
    old = MINUTE.replace("2026", "2020")
    with Spool(path, sinks=["sink"]) as spool:
        commit(spool, entry(2, minute=old))
    with Spool(path, sinks=["sink", "other"]) as spool:
        commit(spool, entry(3))
        backlogs = spool.state().backlogs
        assert [backlogs[sink].batches for sink in ("sink", "other")] == [2, 1]
        assert backlogs["sink"].oldest > 3600 * 24 * 365
        assert backlogs["other"].oldest < 3600


def test_the_age_of_a_batch_is_that_of_its_mark() -> None:
    """Marks are a second apart; a batch before all marks is as old as the first."""
    arrivals = Arrivals()
    for number, ago in ((3, 30.0), (5, 20.0), (9, 10.0)):
        arrivals.mark(number, ago)
    assert [round(arrivals.age_of(number)) for number in (1, 3, 4, 5, 8, 9, 12)] == [
        *(30, 30, 30, 20, 20, 10, 10)
    ]
    assert Arrivals().age_of(1) == 0


def test_a_full_spool_says_so_until_there_is_a_reserve(path: Path) -> None:
    """It stays full where a smaller request would fit, and after a restart with as much."""
    put, small = entry(1, text="x" * 700), entry(1)
    with Spool(path, sinks=_SINKS, limit=_LIMIT) as spool:
        drained(spool)
        while not spool.state().is_full:
            try:
                commit(spool, put)
            except DeliveryError as error:
                assert error.code == "E505"  # noqa: PT017 - until it is full
        state = spool.state()
        assert (state.is_ready, state.is_writable) == (True, False)
        assert state.blocking == [*_SINKS]
        assert len(drained(spool)) > 10
        wait_until(lambda: spool.state().backlogs["sink"].batches == 0)
        assert spool.state().blocking == ["other"]
        if _LIMIT - state.bytes >= len(small.payload):
            commit(spool, small)
            assert spool.state().is_full
        (first, *_) = spool.after("other")
        spool.delivered("other", first[0])
        wait_until(lambda: spool.state().bytes < state.bytes)
        assert spool.state().is_full
        for at, _ in spool.after("other")[:3]:
            spool.delivered("other", at)
        wait_until(lambda: not spool.state().is_full)
        assert (spool.state().is_writable, spool.state().blocking) == (True, [])
        assert spool.state().batches > 5
    with Spool(path, sinks=_SINKS, limit=spool.state().bytes) as spool:
        assert spool.state().is_full


def test_a_request_that_never_fits_does_not_make_a_spool_full(path: Path) -> None:
    with Spool(path, sinks=["sink"], limit=_LIMIT) as spool:
        commit(spool, entry(1))
        with pytest.raises(DeliveryError, match="E505"):
            spool.put(entry(1, text="x" * _LIMIT))
        assert not spool.state().is_full


@given(st.integers(1000, 1 << 40), st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1.2))))
def test_it_does_not_flap(limit: int, history: list[tuple[float, float]]) -> None:
    """A full spool needs a tenth of its limit, and room for what it refused, before it is full no
    more."""
    room, was_full, refused = Room(limit), False, 0
    for share, part in history:
        waiting_bytes, size = int(share * limit), int(part * limit)
        free = limit - waiting_bytes
        if size > free:
            room.refused(size)
            if size <= limit - limit // 10:
                refused = max(refused, size)
        is_full = room.is_full(waiting_bytes)
        if was_full and not is_full:
            assert free >= refused + limit // 10
        if not is_full:
            assert free >= limit // 100
            refused = 0
        if waiting_bytes == 0:
            assert not is_full
        was_full = is_full


def test_the_sinks_that_hold_a_full_spool_up() -> None:
    """They are those for which nearly as much waits as for the last, the one with the most
    first."""
    backlogs = {
        name: Backlog(bytes=size) for name, size in zip("abcd", (0, 95, 100, 89), strict=True)
    }
    state = SpoolState(True, 1, 1, 100, 100, 0.0, 0, 0, is_full=True, backlogs=backlogs)
    assert state.blocking == ["c", "b"]
    failing = replace(state, is_ready=False)
    assert (failing.blocking, failing.is_writable) == ([], False)
    roomy = SpoolState(True, 1, 1, 100, 100, 0.0, 0, 0, backlogs=backlogs)
    assert (roomy.blocking, roomy.is_writable) == ([], True)
