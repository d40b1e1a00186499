"""What became of the batches for each sink: every record is accounted for, through any history."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from collector.contracts import FIRST, Backlog, Share
from collector.errors import DeliveryError, SpoolFull
from collector.filter.stored import read
from collector.ledger import Note, opened
from collector.spool import Spool, recover
from collector.spool import spool as spool_module
from collector.spool.file import SpoolFile
from collector.spool.tables import aside_batches
from tests.spool.test_absent import note_of, numbers
from tests.support.database import query
from tests.support.deadline import WAIT_SECONDS, wait_until
from tests.support.ledgers import check_ledger, entries_of
from tests.support.make_batches import commit, drained, entry, law, waiting, without

_SKIPS = Share(400, skips=True)
_SHARES = {"a": Share(), "b": _SKIPS, "c": Share(600)}
_RESERVE = 10


class _Sink:
    """What a sink is to have, by the numbers of records."""

    def __init__(self, waits: dict[int, dict[int, None]]) -> None:
        self.waits = {at: dict(batch) for at, batch in waits.items()}
        self.aside: dict[int, dict[int, None]] = {}
        self.counts = Counter(taken=sum(map(len, waits.values())))
        self.skipping = False

    def bytes(self) -> int:
        """The bytes that wait."""
        return sum(len(entry(*batch).payload) for batch in self.waits.values())


class Accounts(RuleBasedStateMachine):
    """A spool whose sinks are named, removed, late, killed; and a model of what each has."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = TemporaryDirectory()
        self.runs, self.next = 0, 0
        self.path = Path(self.folder.name) / "0" / "spool.db"
        self.sinks: dict[str, _Sink] = {}
        self.named: dict[str, Share] = {}
        self.spool: Spool | None = None
        self.refused = 0

    def teardown(self) -> None:
        if self.spool is not None:
            self.spool.close()
        if self.path.exists():
            check_ledger(self.path)
            stated = Counter[str]()
            for each in entries_of(self.path, "gap"):
                stated[str(each.fact("sink"))] += int(each.fact("records") or 0)
            for name, sink in self.sinks.items():
                assert stated[name] == sink.counts["skipped"], "each gap is in the ledger"
        self.folder.cleanup()

    @initialize(named=st.sets(st.sampled_from("abc"), min_size=1))
    def begin(self, named: set[str]) -> None:
        """Start for the first time."""
        self._name({name: _SHARES[name] for name in named})
        self.spool = Spool(self.path, sinks=self.named)

    def _name(self, shares: dict[str, Share]) -> None:
        everything = dict[int, dict[int, None]]()
        for sink in self.sinks.values():
            everything |= sink.waits
        for name in shares:
            self.sinks.setdefault(name, _Sink(everything))
        self.named = shares
        for name, sink in self.sinks.items():
            sink.skipping &= name in shares and shares[name].skips

    @rule(named=st.sets(st.sampled_from("abc"), min_size=1), how=st.sampled_from("skr"))
    def start(self, named: set[str], how: str) -> None:
        """Stop or be killed and start, or reload, with other sinks."""
        assert self.spool is not None
        shares = {name: _SHARES[name] for name in named}
        if how == "r":
            self.spool.name(shares).result(WAIT_SECONDS)
            self._decide(0)
            self._name(shares)
            return
        if how == "k":
            self.runs += 1
            copy = Path(self.folder.name) / str(self.runs)
            with self.spool.paused():  # the file and its log at one moment, as kill -9 leaves them
                shutil.copytree(self.path.parent, copy, ignore=shutil.ignore_patterns("*-shm"))
            self.spool.close()
            self.path = copy / "spool.db"
        else:
            self.spool.close()
        self._name(shares)
        self.spool = Spool(self.path, sinks=shares)
        self._commit()

    def _commit(self) -> None:
        """Have a commit that adds nothing."""
        assert self.spool is not None
        self.spool.note(Note.of("read", command="store query", rows=1)).result(WAIT_SECONDS)
        self._decide(0)

    def _decide(self, size: int) -> None:
        """Decide which sinks skip what a commit adds."""
        for name, share in self.named.items():
            sink, limit = self.sinks[name], share.limit or 0
            if share.skips:
                left = limit - sink.bytes() - size
                sink.skipping = left < limit // _RESERVE if sink.skipping else left < 0 < size

    @rule(number=st.sampled_from([1, 3, 12]))
    def put(self, number: int) -> None:
        """Store a request; the sender is told where it is refused."""
        assert self.spool is not None
        batch = dict.fromkeys(range(self.next, self.next + number))
        self.next += number
        size = len(entry(*batch).payload)
        try:
            commit(self.spool, entry(*batch))
        except SpoolFull:
            assert "c" in self.named
            assert self.sinks["c"].bytes() + size > 600, "only a sink that refuses refuses"
            return
        self._decide(size)
        at = self.spool.last
        for name in self.named:
            sink = self.sinks[name]
            sink.counts["taken"] += number
            if sink.skipping:
                sink.counts["skipped"] += number
            else:
                sink.waits[at] = dict(batch)

    @rule(name=st.sampled_from("abc"), number=st.integers(1, 4), aside=st.booleans())
    def deliver(self, name: str, number: int, aside: bool) -> None:
        """Deliver some of what comes next to a sink, or set one aside."""
        assert self.spool is not None
        if name not in self.named:
            return
        sink, found = self.sinks[name], waiting(self.spool, name)[:number]
        due = sorted(sink.waits)[: len(found)]
        assert [numbers(read(each)) for _, each in found] == [[*sink.waits[at]] for at in due]
        for at in due[: 1 if aside else number]:
            batch = sink.waits.pop(at)
            if aside:
                assert self.spool.set_aside(name, at)
                sink.aside[at] = batch
            else:
                self.spool.delivered(name, at)
                sink.counts["delivered"] += len(batch)
        wait_until(lambda: self.spool is not None and not self.spool._moved)
        self._commit()

    @rule(name=st.sampled_from("abc"))
    def redeliver(self, name: str) -> None:
        """Redeliver what was set aside."""
        assert self.spool is not None
        refused = [each for each in aside_batches(self.path) if each.sink == name]
        for each in refused[:2]:
            self.spool.redelivered(name, each.number)
            batch = self.sinks[name].aside.pop(each.number)
            assert numbers(each.batch) == [*batch]
            self.sinks[name].counts["delivered"] += len(batch)

    @rule(what=st.sampled_from(["expired", "erased"]), seed=st.integers(0, 1 << 16))
    def revise(self, what: str, seed: int) -> None:
        """Erase a person, or have something expire."""
        assert self.spool is not None
        gone = {*random.Random(seed).sample(range(self.next), min(self.next, 5))}
        self.spool.rewrite([without(*gone, expired=what == "expired")]).result(WAIT_SECONDS)
        for sink in self.sinks.values():
            for batches in (sink.waits, sink.aside):
                for at, batch in [*batches.items()]:
                    left = dict.fromkeys(n for n in batch if n not in gone)
                    sink.counts[what] += len(batch) - len(left)
                    batches[at] = left
                    if not left:
                        del batches[at]
        self._commit()

    @precondition(lambda self: self.sinks.keys() - self.named)
    @rule(seed=st.integers(0, 2))
    def drop(self, seed: int) -> None:
        """Drop a sink that is not named."""
        assert self.spool is not None
        absent = sorted(self.sinks.keys() - self.named.keys())
        name = absent[seed % len(absent)]
        self.spool.drop(name, note_of(name)).result(WAIT_SECONDS)
        self.spool.delete_delivered()
        sink = self.sinks[name]
        sink.counts["erased"] += sum(map(len, [*sink.waits.values(), *sink.aside.values()]))
        sink.waits, sink.aside = {}, {}

    @invariant()
    def adds_up(self) -> None:
        """Every sum is the model's, by what the spool says."""
        if self.spool is None:
            return
        law(self.spool)
        state = self.spool.state()
        for name, sink in self.sinks.items():
            told = state.backlogs.get(name) or state.absent.get(name)
            if told is None:
                assert not sink.waits, name
                continue
            sums = {what: getattr(told, what).records for what in sink.counts}
            assert sums == dict(sink.counts), name
            assert told.records == sum(map(len, sink.waits.values())), name
            assert told.aside.records == sum(map(len, sink.aside.values())), name
            assert told.is_skipping == sink.skipping, name


Accounts.TestCase.settings = settings(stateful_step_count=30)
test_the_law_holds_through_any_history = Accounts.TestCase


def _told(spool: Spool, sink: str) -> Backlog:
    return spool.state().backlogs[sink]


def test_a_sink_that_skips_hurts_no_other(path: Path) -> None:
    one = len(entry(1000).payload)
    with Spool(path, sinks={"dead": Share(10 * one, skips=True), "sink": Share()}) as spool:
        for number in range(1000, 1100):
            commit(spool, entry(number))
            drained(spool)
        wait_until(lambda: _told(spool, "sink").delivered.records == 100)
        assert (_told(spool, "dead").records, _told(spool, "dead").skipped.records) == (10, 90)
        assert _told(spool, "dead").is_skipping
        wait_until(lambda: spool.state().batches == 10)
        assert drained(spool, "dead") == [*range(1000, 1010)]
        wait_until(lambda: not _told(spool, "dead").is_skipping)
        commit(spool, entry(2000))
        assert drained(spool, "dead") == [2000]
        law(spool)
    (gap,) = entries_of(path, "gap")
    facts = {"sink": "dead", "from": "11", "to": "100", "batches": "90", "records": "90"}
    assert dict(gap.facts) == facts
    check_ledger(path)


def _has_stated(path: Path, more_than: int) -> bool:
    return len(entries_of(path, "gap")) > more_than


def test_a_gap_that_does_not_end_is_in_the_ledger(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each entry goes on where the last one ended."""
    monkeypatch.setattr("collector.spool.spool._SUMS_SECONDS", 0.1)
    with Spool(path, sinks={"dead": Share(1, skips=True)}) as spool:
        for number in range(3):
            commit(spool, entry(number, number))
            wait_until(partial(_has_stated, path, number))
        commit(spool, entry(7))
    found = entries_of(path, "gap")
    assert sum(int(each.fact("records") or 0) for each in found) == 7
    ends = [(int(each.fact("from") or 0), int(each.fact("to") or 0)) for each in found]
    assert [first for first, _ in ends] == [1, *(last + 1 for _, last in ends[:-1])]
    check_ledger(path)


def test_a_share_that_refuses(path: Path) -> None:
    one = len(entry(1000).payload)
    with Spool(path, sinks={"slow": Share(20 * one), "sink": Share()}) as spool:
        taken = []
        for number in range(1000, 1030):
            try:
                commit(spool, entry(number))
                taken.append(number)
            except DeliveryError as error:
                assert error.code == "E505"  # noqa: PT017 - until it is full
        drained(spool)
        state = spool.state()
        assert (state.is_full, state.is_writable, state.blocking) == (False, False, ["slow"])
        assert _told(spool, "slow").share == 1
        assert drained(spool, "slow") == taken
        wait_until(lambda: spool.state().is_writable)
        commit(spool, entry(1))
        law(spool)


def test_what_a_sink_took_before_it_is_removed(path: Path) -> None:
    """What a removed sink says of a batch does not count, and it gets that batch again."""
    with Spool(path, sinks=["sink", "lake"]) as spool:
        commit(spool, entry(1), entry(2))
        (first, _), (second, _) = waiting(spool, "lake")
        with spool.paused():
            spool.delivered("lake", first)
            renamed = spool.name({"sink": Share()})
        renamed.result(WAIT_SECONDS)
        spool.delivered("lake", second)
        assert (waiting(spool, "lake"), spool.wait("lake", 0)) == ([], False)
        commit(spool, entry(3))
        assert (spool.state().absent["lake"].delivered.records, drained(spool)) == (1, [1, 2, 3])
        spool.name({"sink": Share(), "lake": Share()}).result(WAIT_SECONDS)
        commit(spool, entry(4))
        assert drained(spool, "lake") == [2, 4]
        wait_until(lambda: _told(spool, "lake").delivered.records == 3)
        assert _told(spool, "lake").taken.records == 3
        law(spool)


def test_a_batch_that_is_set_aside_is_what_is_left_of_it(path: Path) -> None:
    with Spool(path, sinks=["sink"]) as spool:
        commit(spool, entry(1, 2), entry(3))
        (first, _), (second, _) = waiting(spool)
        spool.rewrite([without(2, 3)]).result(WAIT_SECONDS)
        assert spool.set_aside("sink", first)
        assert not spool.set_aside("sink", second)
        (refused,) = aside_batches(path)
        assert (refused.sink, numbers(refused.batch)) == ("sink", [1])
        law(spool)
        assert (_told(spool, "sink").erased.records, _told(spool, "sink").aside.records) == (2, 1)
        spool.rewrite([without(1, expired=True)]).result(WAIT_SECONDS)
        assert aside_batches(path) == []
        assert _told(spool, "sink").expired.records == 1
        law(spool)


def test_nothing_set_aside_is_read_of_a_damaged_row(path: Path) -> None:
    with Spool(path, sinks=["sink"]) as spool:
        commit(spool, entry(1))
        assert spool.set_aside("sink", waiting(spool)[0][0])
    query(path, "UPDATE aside SET payload = CAST(replace(payload, '1', '7') AS BLOB)")
    with Spool(path, sinks=["sink"]) as spool:
        assert aside_batches(path) == []
        spool.rewrite([without(5)]).result(WAIT_SECONDS)
        assert _told(spool, "sink").damaged.records == 1


@pytest.mark.parametrize(
    ("stated", "flaw"),
    [
        ((("1", "2", 2, 5),), None),
        ((("1", "2", 2, 4),), "does not state what its receipts admitted"),
        ((("2", "3", 2, 3),), "does not state what its receipts admitted"),
        ((("1", "1", 1, 2), ("2", "4", 2, 4)), "states receipts that it cannot cover"),
        ((("1", "2", 2, 5), ("2", "3", 1, 3)), "states receipts that it cannot cover"),
        ((("1", "1", 1, 2), ("2", "3", 1, 3)), None),
    ],
)
def test_an_entry_of_a_gap_is_held_against_receipts(
    path: Path, stated: tuple[tuple[str, str, int, int], ...], flaw: str | None
) -> None:
    """A receipt that admitted nothing has no batch."""
    with Spool(path, sinks=["sink"]) as spool:
        commit(spool, entry(1, 2), entry(3, 4, 5), entry(rejected={"malformed": 1}))
        for first, last, batches, records in stated:
            receipts: dict[str, Any] = {"from": first, "to": last}
            note = Note.of("gap", sink="lake", **receipts, batches=batches, records=records)
            spool.note(note).result(WAIT_SECONDS)
        commit(spool, entry(6))
    with opened(path) as ledger:
        assert [each.message for each in ledger.verify().flaws] == ([flaw] if flaw else [])


def _committed(spool: Spool) -> None:
    """Have all cursors on disk."""
    wait_until(lambda: not spool._moved)
    spool.note(Note.of("read", command="store query", rows=1)).result(WAIT_SECONDS)


def test_a_sink_takes_batches_while_others_are_named(path: Path) -> None:
    with Spool(path, sinks=["sink", "lake"]) as spool:
        commit(spool, *map(entry, range(4)))
        with spool.paused():
            spool.delivered("sink", 1)
            renamed = spool.name(["sink", "lake"])
            spool.delivered("sink", 3)
        renamed.result(WAIT_SECONDS)
        _committed(spool)
        assert (_told(spool, "sink").delivered.records, _told(spool, "sink").records) == (3, 1)
        spool.delivered("sink", 4)
        _committed(spool)
        assert (_told(spool, "sink").delivered.records, _told(spool, "sink").records) == (4, 0)
        law(spool)


def test_a_sink_is_named_while_batches_are_deleted(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No write fails, though the sink has no account before the next job names it."""
    monkeypatch.setattr("collector.spool.file._MOST_DELETED_BYTES", 1)
    write, named = SpoolFile.write, list[Future[None]]()
    with Spool(path, sinks=["sink"]) as spool:
        commit(spool, *map(entry, range(20)))

        def writing(file: SpoolFile, *given: Any) -> Any:
            found = write(file, *given)
            if not named and file.has_delivered:
                named.append(spool.name(["sink", "lake"]))
            return found

        monkeypatch.setattr(SpoolFile, "write", writing)
        spool.delivered("sink", 19)
        wait_until(lambda: bool(named))
        named[0].result(WAIT_SECONDS)
        commit(spool, entry(50))
        assert drained(spool, "lake")[-1] == 50
        assert spool.state().errors == 0
        law(spool)


def test_a_sink_is_named_while_the_file_is_opened_anew(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opening, refused = recover.try_open, list[str]()
    with Spool(path, sinks=["sink", "gone"]) as spool:
        commit(spool, entry(1))

        def trying(*given: Any, **more: Any) -> Any:
            found = opening(*given, **more)
            if not refused:
                with pytest.raises(DeliveryError) as raised:
                    spool.name(["sink", "lake"])
                refused.append(raised.value.code)
            return found

        monkeypatch.setattr(spool_module, "try_open", trying)
        spool._fail(OSError())
        wait_until(lambda: bool(refused) and spool.is_open)
        assert refused == ["E506"]
        commit(spool, entry(2))
        assert (drained(spool, "lake"), drained(spool)) == ([1, 2], [1, 2])
        assert spool.state().absent["gone"].records == 1
        law(spool)


def test_a_batch_that_a_sink_has_is_not_set_aside(path: Path) -> None:
    """A call may hang while the sink is removed, returns and takes the batch."""
    with Spool(path, sinks=["sink", "lake"]) as spool:
        commit(spool, *map(entry, range(3)))
        spool.delivered("sink", 2)
        _committed(spool)
        assert not spool.set_aside("sink", 1)
        assert aside_batches(path) == []
        assert (_told(spool, "sink").delivered.records, _told(spool, "sink").records) == (2, 1)
        assert drained(spool) == [2]
        law(spool)


def test_what_was_set_aside_for_a_sink_that_is_gone_is_told(path: Path) -> None:
    with Spool(path, sinks=["sink", "lake"]) as spool:
        commit(spool, entry(1))
        assert spool.set_aside("lake", 1)
        spool.name(["sink"]).result(WAIT_SECONDS)
        assert spool.state().absent["lake"].aside.records == 1
        spool.drop("lake", note_of("lake")).result(WAIT_SECONDS)
        assert spool.state().absent == {}


def test_a_batch_that_is_damaged_in_both_places(path: Path) -> None:
    damaging = "UPDATE {} SET payload = CAST(replace(payload, ':1}}', ':7}}') AS BLOB)"
    with Spool(path, sinks=["sink", "lake"]) as spool:
        commit(spool, entry(1), entry(2))
        assert spool.set_aside("sink", 1)
    for table in ("aside", "batches"):
        query(path, damaging.format(table))
        with Spool(path, sinks=["sink", "lake"]) as spool:
            if table == "aside":
                spool.rewrite([without(9)], damaged=FIRST).result(WAIT_SECONDS)
            else:
                assert drained(spool, "lake") == [2]
                wait_until(lambda: not spool._unreadable)
                commit(spool, entry(3))
            assert spool.state().errors == 0
            law(spool)
