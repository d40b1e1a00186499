"""What is kept of a person is shown, erased and amended wherever it is; nothing of others is."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from collector.contracts import Removal, Subject
from collector.errors import ConfigError, DeliveryError
from collector.filter.stored import read
from collector.ledger import opened
from collector.sinks.store import Store, StoreSettings
from collector.spool import Spool
from collector.subject.rights import Removing, SchemaSubject, export, remove
from tests.support.deadline import WAIT_SECONDS
from tests.support.ledgers import entries_of
from tests.support.populated import PopulatedDirectory, address, minute
from tests.support.raising import raises

_RUNS = int(os.environ.get("COLLECTOR_ERASURES", "1"))
"""With 20 it is what is promised, and takes some minutes (``make nightly``)."""
_STEP = 97 if _RUNS == 1 else 7


@pytest.fixture
def populated(tmp_path: Path) -> PopulatedDirectory:
    """A hundred people, of whom half wait in the spool."""
    populated = PopulatedDirectory(tmp_path)
    populated.deliver(range(25), range(25, 50))
    populated.spool(range(50, 75), range(75, 100))
    return populated


def _subject(
    number: int, since: float = 1, until: float = -1, fields: Iterable[str] = ()
) -> list[SchemaSubject]:
    subject = Subject("client.address", address(number), minute(since), minute(until))
    return [SchemaSubject(subject, frozenset(fields))]


def _counts(done: Removal) -> tuple[int, int, int]:
    """What was removed from the store, from files and from the spool."""
    return done.sinks["store"], done.sinks["ndjson"], done.records


def _verified(populated: PopulatedDirectory) -> list[str]:
    """The kinds of the ledger's entries, which holds."""
    return [entry.kind for entry in entries_of(populated.data / "spool.db")]


def test_export_shows_it_all_as_it_is_kept(populated: PopulatedDirectory) -> None:
    populated.damage(3)
    aside = populated.set_aside(3)
    stored = export(populated.locations, _subject(3))
    row = {"received": minute(), "client.address": address(3), "device.type": "phone"}
    rest = {"os.type": "android", "count": 1}
    assert stored.sinks["store"] == [("conferencing", row | rest)]
    assert stored.spool == []
    assert [line["received"] for _, line in stored.sinks["ndjson"]] == [minute()]
    assert (stored.unreadable, stored.aside) == (2, [aside.name])
    waiting = export(populated.locations, _subject(60))
    assert waiting.sinks == {"store": [], "ndjson": []}
    assert [record["client.address"] for record in waiting.spool] == [address(60)]
    nothing = export(populated.locations, _subject(3, since=9, until=8))
    assert (nothing.sinks, nothing.spool) == ({"store": [], "ndjson": []}, [])
    with opened(populated.data / "spool.db") as ledger:
        assert [entry.kind for entry in ledger.entries()][-1] == "export"


def test_export_does_not_disturb_a_sidecar(populated: PopulatedDirectory) -> None:
    """It reads what another process has open; only its entry is written."""
    with Spool(populated.data / "spool.db", sinks=["store"]):
        assert export(populated.locations, _subject(3)).sinks["store"]
        assert export(populated.locations, _subject(60)).spool
    assert "export" in _verified(populated)


def test_what_is_delivered_but_still_spooled_is_shown_twice(populated: PopulatedDirectory) -> None:
    with (
        Spool(populated.data / "spool.db", sinks=["store"]) as spool,
        Store(populated.data / "store.db", populated.schema) as store,
    ):
        for _, spooled in spool.after("store"):
            store.deliver(read(spooled))
    found = export(populated.locations, _subject(60))
    assert [len(each) for each in (found.sinks["store"], found.spool)] == [1, 1]


def test_what_cannot_be_read_is_an_error(populated: PopulatedDirectory) -> None:
    """One of ours; nothing is said to be all there is."""
    populated.lines.unlink()
    populated.lines.mkdir()
    with pytest.raises(DeliveryError, match="E503"):
        export(populated.locations, _subject(3))


def test_what_was_done_before_a_failure_is_noted(populated: PopulatedDirectory) -> None:
    """Records of the spool and of files are gone, though the store is none; again, it is done."""
    stored = (populated.data / "store.db").read_bytes()
    (populated.data / "store.db").write_bytes(b"no database at all" * 1000)
    with pytest.raises(DeliveryError, match="E501"):
        remove(populated.locations, Removing(_subject(60)), wait=0)
    assert _verified(populated)[-1] == "erasure"
    with opened(populated.data / "spool.db") as ledger:
        facts = dict(list(ledger.entries())[-1].facts)
    assert (facts["rows"], facts["batches"]) == ("0", "1")
    (populated.data / "store.db").write_bytes(stored)
    assert remove(populated.locations, Removing(_subject(60)), wait=1).is_swept
    assert populated.left([60]) == set()


def test_a_database_of_somebody_else_is_left_alone(populated: PopulatedDirectory) -> None:
    """It was named by mistake, and may be needed."""
    other = populated.directory / "other.db"
    with closing(sqlite3.connect(other)) as db, db:
        db.execute('CREATE TABLE people ("client.address" TEXT, received TEXT)')
        db.execute("INSERT INTO people VALUES (?, ?)", (address(3), minute()))
    before = other.read_bytes()
    sinks = {"store": StoreSettings(type="store", path=str(other))}
    with pytest.raises(DeliveryError, match="E501"):
        remove(replace(populated.locations, sinks=sinks), Removing(_subject(3)), wait=0)
    assert other.read_bytes() == before


@pytest.mark.parametrize("number", [3, 60])
def test_erasing_takes_one_person_and_no_other(populated: PopulatedDirectory, number: int) -> None:
    populated.damage(number)
    populated.set_aside(number)
    done = remove(populated.locations, Removing(_subject(number)), wait=1)
    assert done.is_swept
    assert _counts(done) == ((1, 1, 0) if number < 50 else (0, 0, 1))
    assert (done.damaged, done.files) == (2, 1)
    assert populated.left(range(100)) == set(range(100)) - {number}
    assert _verified(populated)[-1] == "erasure"
    again = remove(populated.locations, Removing(_subject(number)), wait=1)
    assert (*_counts(again), again.damaged, again.files) == (0, 0, 0, 0, 0)


def test_what_came_outside_of_the_window_stays(tmp_path: Path) -> None:
    """It is another person's: an address is assigned anew. So are files quarantined before."""
    populated = PopulatedDirectory(tmp_path)
    populated.deliver_aged(([1], 5), ([1], 2))
    populated.spool([1], days=3)
    before = populated.set_aside(1, days=6)
    populated.set_aside(1, days=2)
    done = remove(populated.locations, Removing(_subject(1, since=4, until=2)), wait=1)
    assert (*_counts(done), done.files) == (0, 0, 1, 1)
    assert before.exists()
    done = remove(populated.locations, Removing(_subject(1, since=5, until=2)), wait=1)
    assert (*_counts(done), done.files) == (1, 1, 0, 0)
    done = remove(populated.locations, Removing(_subject(1, since=9)), wait=1)
    assert (*_counts(done), done.files) == (1, 1, 0, 1)
    assert populated.left([1]) == set()


def test_what_is_left_of_a_batch_is_delivered(populated: PopulatedDirectory) -> None:
    """Each of the others once."""
    remove(populated.locations, Removing(_subject(60)), wait=1)
    with Spool(populated.data / "spool.db", sinks=["store"]) as spool:
        found = b"".join(spooled.payload for _, spooled in spool.after("store"))
        assert spool.depth() == 49
    assert [found.count(address(n).encode()) for n in (59, 60, 61)] == [1, 0, 1]


def test_a_sidecar_that_has_the_directory_is_in_the_way(populated: PopulatedDirectory) -> None:
    """Nothing is done then, and it is said."""
    with Spool(populated.data / "spool.db"), raises("E203", ConfigError, match="stop it"):
        remove(populated.locations, Removing(_subject(3)), wait=0)
    assert populated.left([3]) == {3}


def test_a_reader_is_waited_for_and_then_said(populated: PopulatedDirectory) -> None:
    """Rows are gone at once, but bytes are left for as long as he reads; after him, none."""
    with closing(sqlite3.connect(populated.data / "store.db", isolation_level=None)) as reader:
        reader.execute("BEGIN")
        assert reader.execute("SELECT count(*) FROM conferencing").fetchone() == (50,)
        done = remove(populated.locations, Removing(_subject(3)), wait=0.1)
        assert (done.sinks["store"], done.is_swept) == (1, False)
        assert 3 in populated.left([3])
        reader.execute("COMMIT")
    assert remove(populated.locations, Removing(_subject(3)), wait=5).is_swept
    assert populated.left([3]) == set()


def test_an_objection_takes_what_is_optional(populated: PopulatedDirectory) -> None:
    fields = populated.schema.refusable
    assert "device.model.name" in fields
    assert not {"client.address", "os.type"} & set(fields)
    for number in (4, 61):
        done = remove(
            populated.locations,
            Removing(_subject(number, fields=fields), is_objection=True),
            wait=1,
        )
        assert done.is_swept
        assert _counts(done) == ((1, 1, 0) if number < 50 else (0, 0, 1))
        found = export(populated.locations, _subject(number))
        records = [row for of in found.sinks.values() for _, row in of] + found.spool
        assert records
        assert all("device.model.name" not in record for record in records)
        assert all(record["os.type"] == "android" for record in records)
    assert (
        export(populated.locations, _subject(5)).sinks["store"][0][1]["device.model.name"]
        == "Pixel 8"
    )
    assert _verified(populated).count("amendment") == 2


@pytest.mark.parametrize("run", range(_RUNS))
def test_no_byte_of_anybody_erased_is_left(tmp_path: Path, run: int) -> None:
    """600 people, a third waiting; some are erased, one after the other, with a reader who comes
    and goes: after each, no byte of theirs is anywhere, and all others are there."""
    populated, people = PopulatedDirectory(tmp_path), set(range(600))
    populated.deliver(*(range(first, first + 40) for first in range(0, 400, 40)))
    populated.spool(*(range(first, first + 40) for first in range(400, 600, 40)))
    erased: set[int] = set()
    ended = threading.Event()
    reader = threading.Thread(target=_read, args=(populated.data / "store.db", ended))
    reader.start()
    try:
        for number in range(run % _STEP, 600, _STEP):
            populated.damage(number)
            populated.set_aside(number)
            assert remove(populated.locations, Removing(_subject(number)), wait=20).is_swept
            erased.add(number)
            assert populated.left(people) == people - erased
    finally:
        ended.set()
        reader.join(WAIT_SECONDS)
    assert _verified(populated).count("erasure") == len(erased)


def _read(path: Path, ended: threading.Event) -> None:
    """Read the store again and again, with pauses."""
    with closing(sqlite3.connect(path, timeout=WAIT_SECONDS, isolation_level=None)) as db:
        while not ended.is_set():
            db.execute("BEGIN")
            db.execute("SELECT count(*) FROM conferencing").fetchone()
            ended.wait(0.05)
            db.execute("COMMIT")
            ended.wait(0.01)
