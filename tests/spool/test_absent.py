"""Sinks that are not named at a start: what waits for them stays until they return or are dropped.

The law: whatever happens, of what a sink was to get each record is delivered to it, waits for it,
was set aside, has expired, was erased, or was dropped.
"""

from __future__ import annotations

import os
import random
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest

from collector.contracts import Batch
from collector.errors import DeliveryError
from collector.filter.stored import read
from collector.ledger import Note
from collector.spool import Spool
from collector.spool.file import Depth
from collector.spool.set_aside import SetAside
from tests.database import query
from tests.deadline import WAIT_SECONDS, wait_until
from tests.ledgers import check_ledger, entries_of
from tests.spool.make import commit, drained, entry, waiting, without


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
    """However much comes and is delivered meanwhile; what comes then is not for it. When it is
    named again it goes on, and gets nothing of the time between."""
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


def test_the_limit_counts_what_waits_for_an_absent_sink(path: Path) -> None:
    """The spool is full by it, until it is dropped."""
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
    """Nothing waits any more, the file has no byte of it, the ledger says how much it was; when the
    sink is named again it gets what comes then."""
    with Spool(path, sinks=["a", "b"]) as spool:
        commit(spool, entry(1, text="canary"), entry(2, 3))
        assert drained(spool, "a") == [1, 2, 3]
    with Spool(path) as spool:  # as a command opens it, before the sidecar ever ran without it
        assert waits(spool, "b").batches == 2
        assert spool.waiting("never").result(WAIT_SECONDS) is None
        spool.drop("b", note_of("b")).result(WAIT_SECONDS)
        spool.delete_delivered()
        assert spool.depth() == 0
    assert not any(b"canary" in each.read_bytes() for each in path.parent.iterdir())
    (dropped,) = entries_of(path, "drop")
    assert dropped.facts == (
        ("command", "store drop"),
        ("sink", "b"),
        ("rows", "3"),
        ("batches", "2"),
    )
    with Spool(path, sinks=["a", "b"]) as spool:
        assert drained(spool, "b") == []
        commit(spool, entry(4))
        assert drained(spool, "b") == [4]
    check_ledger(path)


def test_only_what_no_other_sink_needs_is_deleted_by_a_drop(path: Path) -> None:
    """Others get what waits for them."""
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
    """Under its new number, and for no sink that was not to get it."""
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


@pytest.mark.parametrize("damage", ["the file", "gaps", "cursors"])
def test_damage_loses_nothing_of_an_absent_sink(path: Path, damage: str) -> None:
    """It may get more than before; what was dropped does not come back by a recovery."""
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
    with Spool(path, sinks=["a", "b"]) as spool:
        assert {*drained(spool, "b")} >= {*range(5)}


class _History:
    """What happens to a spool by chance, and what each sink is to have then."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.random = random.Random(seed)
        self.folder, self.runs, self.next = folder, 0, 0
        self.path = folder / "0" / "spool.db"
        self.named: list[str] = []
        self.spool = Spool(self.path)
        self.owed: dict[str, set[int]] = {}
        """What waits for each sink that was ever named."""
        self.delivered: dict[str, Counter[int]] = {}
        self.gone: Counter[str] = Counter()
        self.taken: dict[str, int] = {}

    def start(self) -> None:
        """Stop or be killed, and start with other sinks."""
        if self.random.random() < 0.5:
            self.spool.close()
        else:
            self.spool.submit(lambda _: None).result(WAIT_SECONDS)
            self.runs += 1
            copy = self.folder / str(self.runs)
            with self.spool.paused():  # the file and its log at one moment, as kill -9 leaves them
                shutil.copytree(self.path.parent, copy, ignore=shutil.ignore_patterns("*-shm"))
            self.spool.close()
            self.path = copy / "spool.db"
        before = set().union(*self.owed.values())
        known = [*self.owed]
        self.named = self.random.sample(["a", "b", "c"], self.random.randint(1, 3))
        self.spool = Spool(self.path, sinks=self.named)
        for name in self.named:
            if name not in known:  # a new sink begins with what waits
                self.owed[name] = set(before)
                self.taken[name] = len(before)
                self.delivered[name] = Counter()

    def put(self) -> None:
        """Store a request."""
        size = self.random.choice([1, 3, 25])
        found = range(self.next, self.next + size)
        self.next += size
        commit(self.spool, entry(*found))
        for name in self.named:
            self.owed[name] |= {*found}
            self.taken[name] += size

    def deliver(self) -> None:
        """Deliver some of what comes next to a sink; sometimes set one aside."""
        name = self.random.choice(self.named)
        for at, batch in waiting(self.spool, name)[: self.random.randint(1, 4)]:
            found = numbers(read(batch))
            if self.random.random() < 0.2:
                SetAside(self.path.parent).add(name, batch)
                self.gone[f"{name} aside"] += len({*found} & self.owed[name])
            else:
                self.delivered[name].update({*found} & self.owed[name])
            self.owed[name] -= {*found}
            self.spool.delivered(name, at)
        self.spool.submit(lambda _: None).result(WAIT_SECONDS)  # cursors are stored before a kill
        wait_until(lambda: not self.spool._moved)

    def erase(self) -> None:
        """Erase a person, or have something expire."""
        every = sorted(set().union(*self.owed.values()))
        gone = {*self.random.sample(every, min(len(every), 3))}
        self.spool.rewrite([without(*gone)]).result(WAIT_SECONDS)
        SetAside(self.path.parent).rewrite([without(*gone)])
        for name, owed in self.owed.items():
            self.gone[f"{name} erased"] += len(owed & gone)
            self.owed[name] = owed - gone

    def drop(self) -> None:
        """Drop a sink that is not named."""
        absent = sorted(self.owed.keys() - {*self.named})
        if absent:
            name = self.random.choice(absent)
            waited = self.spool.drop(name, note_of(name)).result(WAIT_SECONDS)
            assert waited.records == len(self.owed[name]), name
            self.gone[f"{name} dropped"] += waited.records
            self.owed[name] = set()
            self.spool.delete_delivered()

    def check(self) -> None:
        """Hold the law: what waits is what is owed, and everything adds up."""
        for name, owed in self.owed.items():
            assert waits(self.spool, name).records == len(owed), name
            delivered = self.delivered[name]
            assert set(delivered.values()) <= {1}, "nothing is delivered twice"
            lost = sum(n for what, n in self.gone.items() if what.startswith(f"{name} "))
            assert self.taken[name] == delivered.total() + len(owed) + lost, name
        absent = {n: len(owed) for n, owed in self.owed.items() if owed and n not in self.named}
        assert {name: each.records for name, each in self.spool.absent().items()} == absent

    def end(self) -> None:
        """Name all sinks: each gets what was owed to it, and nothing is left."""
        self.spool.close()
        with Spool(self.path, sinks=[*self.owed]) as spool:
            for name, owed in self.owed.items():
                found = drained(spool, name)
                assert sorted(found) == sorted(owed), name
            wait_until(lambda: spool.depth() == 0)
        check_ledger(self.path)


@pytest.mark.parametrize("seed", range(int(os.environ.get("ABSENT_SEEDS", "12"))))
def test_the_law_holds_through_any_history(tmp_path: Path, seed: int) -> None:
    """Starts with any sinks, kills, requests, deliveries, batches set aside, erasures, drops."""
    history = _History(tmp_path, seed)
    history.start()
    steps = [history.start, history.put, history.put, history.deliver, history.deliver]
    steps += [history.erase, history.drop]
    for _ in range(30):
        history.random.choice(steps)()
        history.check()
    history.end()
