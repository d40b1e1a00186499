"""Sinks that are not named at a start: what waits for them stays until they return."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import orjson
import pytest

from collector.contracts import Batch, Depth
from collector.errors import DeliveryError
from collector.ledger import Note
from collector.spool import Spool
from tests.support.database import query
from tests.support.deadline import WAIT_SECONDS, wait_until
from tests.support.ledgers import check_ledger, entries_of
from tests.support.make_batches import MINUTE, commit, drained, entry, law, without
from tests.support.unpacked import every_byte


def note_of(sink: str) -> Callable[[Depth], Note]:
    """The entry of the ledger for what is dropped."""
    return lambda waited: Note.of(
        "drop", command="store drop", sink=sink, rows=waited.records, batches=waited.batches
    )


def waits(spool: Spool, sink: str) -> Depth:
    """How much waits for a sink."""
    found = spool.waiting(sink).result(WAIT_SECONDS)
    assert found is not None
    return found


def numbers(*batches: Batch) -> list[int]:
    """The numbers in batches, as a sink gets them."""
    return [orjson.loads(line)["n"] for each in batches for line in each.payload.splitlines()]


def test_what_waits_for_an_absent_sink_stays(path: Path) -> None:
    """It goes on when it is named again, and gets nothing that came in between."""
    with Spool(path, sinks=["a", "b"]) as spool:
        commit(spool, *(entry(n) for n in range(5)))
        assert drained(spool, "a") == list(range(5))
    for first in (10, 20):
        with Spool(path, sinks=["a"]) as spool:
            commit(spool, *(entry(first + n) for n in range(5)))
            assert drained(spool, "a") == list(range(first, first + 5))
            wait_until(lambda: spool.state().records == 5)
            assert spool.absent() == {"b": Depth(5, 5, spool.state().bytes)}
    with Spool(path, sinks=["a", "b"]) as spool:
        assert spool.absent() == {}
        commit(spool, entry(30))
        assert drained(spool, "b") == [*range(5), 30]
        assert drained(spool, "a") == [30]
        wait_until(lambda: spool.depth() == 0)
    check_ledger(path)


def test_what_waits_for_an_absent_sink_has_an_age(path: Path) -> None:
    with Spool(path, sinks=["a", "b"]) as spool:
        commit(spool, entry(1, minute=MINUTE.replace("2026", "2020")))
        assert drained(spool, "a") == [1]
    with Spool(path, sinks=["a"]) as spool:
        assert min(spool.state().oldest, spool.state().absent["b"].oldest) > 3600 * 24 * 365


def test_the_limit_counts_what_waits_for_an_absent_sink(path: Path) -> None:
    limit = 3 * len(entry(1).payload)
    with Spool(path, sinks=["a", "b"], limit=limit) as spool:
        commit(spool, entry(1), entry(2), entry(3))
    with Spool(path, sinks=["a"], limit=limit) as spool:
        assert drained(spool, "a") == [1, 2, 3]
        with pytest.raises(DeliveryError, match="E505"):
            spool.put(entry(4))
        wait_until(lambda: spool.state().blocking == ["b"])  # once the cursor of a is stored
        assert spool.drop("b", note_of("b")).result(WAIT_SECONDS).records == 3
        spool.delete_delivered()
        commit(spool, entry(4))
        assert drained(spool, "a") == [4]


def test_a_drop_is_an_entry_and_final(path: Path) -> None:
    """No byte of what waited is left; when the sink is named again it gets what comes then."""
    with Spool(path, sinks=["a", "b"]) as spool:
        commit(spool, entry(1, text="canary"), entry(2, 3))
        assert drained(spool, "a") == [1, 2, 3]
    with Spool(path) as spool:  # as a command opens it, before the sidecar ever ran without it
        assert waits(spool, "b").batches == 2
        assert spool.waiting("never").result(WAIT_SECONDS) is None
        spool.drop("b", note_of("b")).result(WAIT_SECONDS)
        spool.delete_delivered()
        assert spool.depth() == 0
    assert b"canary" not in every_byte(path.parent)
    (dropped,) = entries_of(path, "drop")
    facts = {"command": "store drop", "sink": "b", "rows": "3", "batches": "2"}
    assert dropped.facts == tuple(facts.items())
    with Spool(path, sinks=["a", "b"]) as spool:
        assert drained(spool, "b") == []
        commit(spool, entry(4))
        assert drained(spool, "b") == [4]
    check_ledger(path)


def test_only_what_no_other_sink_needs_is_deleted_by_a_drop(path: Path) -> None:
    with Spool(path, sinks=["a", "b", "c"]) as spool:
        commit(spool, entry(1), entry(2))
        spool.delivered("a", 1)
    with Spool(path, sinks=["a"]) as spool:
        assert {sink: each.records for sink, each in spool.absent().items()} == {"b": 2, "c": 2}
        spool.drop("b", note_of("b")).result(WAIT_SECONDS)
        spool.delete_delivered()
        assert {sink: each.records for sink, each in spool.absent().items()} == {"c": 2}
        assert drained(spool, "a") == [2]
    with Spool(path, sinks=["a", "b", "c"]) as spool:
        assert (drained(spool, "a"), drained(spool, "b")) == ([], [])
        assert drained(spool, "c") == [1, 2]


def test_a_revised_batch_still_waits_for_an_absent_sink(path: Path) -> None:
    with Spool(path, sinks=["a", "b"]) as spool:
        commit(spool, entry(1, 2), entry(3))
    with Spool(path, sinks=["a"]) as spool:
        commit(spool, entry(4, 5))
        spool.rewrite([without(1, 4)]).result(WAIT_SECONDS)
        assert spool.absent()["b"].records == 2
        assert sorted(drained(spool, "a")) == [2, 3, 5]
        wait_until(lambda: spool.depth() == 2)
    with Spool(path, sinks=["a", "b"]) as spool:
        assert sorted(drained(spool, "b")) == [2, 3]
        assert drained(spool, "a") == []
        wait_until(lambda: spool.depth() == 0)


@pytest.mark.parametrize("damage", ["the file", "gaps", "sinks"])
def test_damage_loses_nothing_of_an_absent_sink(path: Path, damage: str) -> None:
    """It may get more than before; a recovery does not bring back what was dropped."""
    with Spool(path, sinks=["a", "b", "c"]) as spool:
        commit(spool, *(entry(n) for n in range(5)))
    with Spool(path, sinks=["a"]) as spool:
        spool.drop("c", note_of("c")).result(WAIT_SECONDS)
        commit(spool, entry(5))
    if damage == "the file":
        with path.open("r+b") as file:
            file.seek(20)
            file.write(b"\xff")
    else:
        query(path, f"UPDATE {damage} SET seal = x'00' WHERE sink = 'b'")
    with Spool(path, sinks=["a"]) as spool:
        assert bool(spool.quarantined) is (damage == "the file")
        assert "c" not in spool.absent()
        assert sorted(drained(spool, "a")) == list(range(6))
        wait_until(lambda: spool.absent().keys() == {"b"})
        law(spool)
    with Spool(path, sinks=["a", "b"]) as spool:
        assert {*drained(spool, "b")} >= {*range(5)}
