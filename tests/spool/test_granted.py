"""What a batch may be used for: kept with it, under its seal, through every way that it takes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from collector.contracts import Granted
from collector.spool import Spool
from collector.spool.tables import pending_batches
from tests.support.database import query
from tests.support.deadline import WAIT_SECONDS, wait_until
from tests.support.make_batches import drained, entry, without

_SETS: tuple[Granted, ...] = (None, ("a", "b-c_d"), ("a",), ())


def put(spool: Spool, *sets: Granted) -> None:
    """A record under each set, all in one commit."""
    each = [replace(entry(number), granted=granted) for number, granted in enumerate(sets)]
    spool.put(*each).result(WAIT_SECONDS)


def found(spool: Spool) -> list[tuple[Granted, int]]:
    """The sets of the batches that wait, each with its number of records."""
    return [(one.granted, one.payload.count(b"\n")) for _, one in spool.after("sink", 100)]


def test_batches_are_of_one_set(path: Path) -> None:
    with Spool(path, sinks=["sink"]) as spool:
        put(spool, *_SETS, None, ("a",))
        expected: list[tuple[Granted, int]] = [
            (None, 2), (("a", "b-c_d"), 1), (("a",), 2), ((), 1),
        ]  # fmt: skip
        assert found(spool) == expected
    with Spool(path, sinks=["sink"]) as spool:
        assert found(spool) == expected
    assert [one.granted for one in pending_batches(path) if one] == [
        granted for granted, _ in expected
    ]


def test_a_set_cannot_be_changed(path: Path) -> None:
    """The seal covers it: a batch that claims more is damaged."""
    with Spool(path, sinks=["sink"]) as spool:
        put(spool, *_SETS[:3])
    query(path, "UPDATE batches SET granted = NULL WHERE granted = 'a'")
    assert [one is None for one in pending_batches(path)] == [False, False, True]
    with Spool(path, sinks=["sink"]) as spool:
        assert [granted for granted, _ in found(spool)] == [None, ("a", "b-c_d")]
        assert drained(spool) == [0, 1]
        wait_until(lambda: spool.state().damaged == 1)
    assert query(path, "SELECT granted FROM damaged") == [(None,)]


def test_what_is_left_of_a_batch_keeps_its_set(path: Path) -> None:
    with Spool(path, sinks=["sink"]) as spool:
        put(spool, ("a",), ("a",), None)

        (done,) = spool.rewrite([without(0)]).result(WAIT_SECONDS)
        assert done.records == 1
        assert found(spool) == [(("a",), 1), (None, 1)]


def test_a_damaged_file_gives_its_sets_back(path: Path) -> None:
    with Spool(path, sinks=["sink"]) as spool:
        put(spool, *_SETS[:3])
    query(path, "DROP TABLE hours")
    with Spool(path, sinks=["sink"]) as spool:
        assert len(spool.quarantined) >= 1
        assert [granted for granted, _ in found(spool)] == list(_SETS[:3])
