"""Keys of requests: what is sent again adds nothing, whatever happens in between."""

from __future__ import annotations

import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.contracts import Entry, Tally
from collector.errors import DeliveryError
from collector.ledger import opened
from collector.spool import Spool, keys
from collector.spool.tables import FORMAT
from tests.spool.make import LAYOUT, drained, entry, query, without_granted

KEY, OTHER = b"k" * 16, b"o" * 16
EARLIER, LATER = "2026-11-24T10:20:00Z", "2026-11-24T10:21:00Z"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "spool.db"


def _received(path: Path) -> int:
    """What the ledger counts, which must hold."""
    with opened(path) as ledger:
        found = ledger.verify()
    assert not found.flaws
    return found.received


def test_what_is_sent_again_adds_nothing(path: Path) -> None:
    """No batch, no receipt, no sum of an hour; also after a restart, and after others."""
    tally = Tally(2, 1, Counter({"malformed": 1}), content=Counter({"chat": 1}), bytes_in=9)
    sent = Entry(LAYOUT, EARLIER, entry(1).payload, tally)
    with Spool(path, sinks=["sink"]) as spool:
        assert spool.put(sent, key=KEY).result()
        assert not spool.put(sent, key=KEY).result()
        assert spool.put(entry(2), key=OTHER).result()
    with Spool(path, sinks=["sink"]) as spool:
        assert not spool.put(sent, key=KEY).result()
        assert not spool.put(entry(2), key=OTHER).result()
        assert drained(spool) == [1, 2]
        assert not spool.put(sent, key=KEY).result()
        assert drained(spool) == []
    assert _received(path) == 3
    assert query(path, "SELECT times FROM hours WHERE what = 'content'") == [(1,)]


def test_without_a_key_everything_is_new(path: Path) -> None:
    """Nobody can tell whether it was sent before."""
    with Spool(path, sinks=["sink"]) as spool:
        assert spool.put(entry(1)).result()
        assert spool.put(entry(1)).result()
        assert drained(spool) == [1, 1]


def test_nothing_is_kept_under_no_key(path: Path) -> None:
    """A body without events leaves its key to the next one."""
    with Spool(path, sinks=["sink"]) as spool:
        assert spool.put(entry(), key=KEY).result()
        assert spool.put(key=KEY).result()
        assert spool.put(entry(1), key=KEY).result()


def _at_once(spool: Spool, *puts: tuple[Entry, bytes | None]) -> list[Future[bool]]:
    """What is put together waits for the same commit."""
    with spool._writer.changed:
        return [spool.put(put, key=key) for put, key in puts]


def test_copies_that_wait_for_the_same_commit(path: Path) -> None:
    """One of them is kept, and all are answered when it is."""
    with Spool(path, sinks=["sink"]) as spool:
        copy = (entry(1), KEY)
        futures = _at_once(spool, copy, (entry(2), OTHER), copy, (entry(3), None), copy)
        assert [future.result() for future in futures] == [True, True, False, True, False]
        assert drained(spool) == [1, 2, 3]


def test_a_copy_takes_the_place_of_one_that_was_given_up(path: Path) -> None:
    """Whoever is not kept has no key in the file."""
    with Spool(path, sinks=["sink"]) as spool:
        with spool._writer.changed:
            first, second = spool.put(entry(1), key=KEY), spool.put(entry(1), key=KEY)
            assert first.cancel()
        assert second.result()
        assert drained(spool) == [1]


def test_entries_of_a_request_are_kept_together(path: Path) -> None:
    """Each minute is a batch and a receipt, in one commit, whatever their order; or none is."""
    minutes = [entry(1, minute=LATER), entry(2, minute=EARLIER), entry(rejected={"malformed": 1})]
    with Spool(path, sinks=["sink"], limit=len(entry(1).payload) * 3) as spool:
        assert spool.put(*minutes, key=KEY).result()
        with pytest.raises(DeliveryError) as caught:
            spool.put(*minutes, key=OTHER)
        assert caught.value.code == "E505"
        assert [batch.received for _, batch in spool.after("sink")] == [LATER, EARLIER]
        assert drained(spool) == [1, 2]
    assert _received(path) == 3
    with opened(path) as ledger:
        assert [receipt.minute for receipt in ledger.receipts()] == [LATER, EARLIER]


def test_of_very_many_the_newest_are_known(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest are forgotten, so that the file does not grow for ever."""
    monkeypatch.setattr(keys, "MOST", 5)
    with Spool(path, sinks=["sink"]) as spool:
        for number in range(12):
            assert spool.put(entry(number), key=bytes([number]) * 16).result()
        assert query(path, "SELECT min(number), max(number) FROM keys") == [(8, 12)]
        assert not spool.put(entry(7), key=bytes([7]) * 16).result()
        assert spool.put(entry(6), key=bytes([6]) * 16).result()


def test_a_key_is_not_in_the_file(path: Path) -> None:
    """What is noted is a hash, which does not lead back to it."""
    with Spool(path, sinks=["sink"]) as spool:
        spool.put(entry(1), key=b"canary-canary-16").result()
        written = b"".join(each.read_bytes() for each in path.parent.iterdir())
        assert query(path, "SELECT hash FROM keys") == [(keys.hashed(b"canary-canary-16"),)]
    assert b"canary" not in written


def _of_format_1(path: Path) -> None:
    """Make a file what it was before there were keys."""
    db = sqlite3.connect(path, isolation_level=None)
    for name in ("keys", "entries", "last_entry", "documents"):
        db.execute(f"DROP TABLE {name}")
    without_granted(db)
    db.execute("UPDATE about SET format = 1")
    db.execute("PRAGMA user_version = 1")
    db.close()


def test_a_file_of_the_first_format_gets_what_it_lacks(path: Path) -> None:
    """It opens with all that is in it, and nothing is set aside."""
    with Spool(path, sinks=["sink"]) as spool:
        spool.put(entry(1, rejected={"malformed": 1})).result()
    _of_format_1(path)
    with Spool(path, sinks=["sink"]) as spool:
        assert (spool.state().damaged, spool.aside) == (0, [])
        assert spool.put(entry(2), key=KEY).result()
        assert not spool.put(entry(2), key=KEY).result()
        assert drained(spool) == [1, 2]
    format_ = query(path, "SELECT format FROM about")
    assert format_ == query(path, "PRAGMA user_version") == [(FORMAT,)]
    assert _received(path) == 3


def test_a_killed_file_of_the_first_format(path: Path) -> None:
    """Also with what is only in its log."""
    copy = path.parent.with_name("copy")
    with Spool(path, sinks=["sink"]) as spool:
        spool.put(entry(1)).result()
        with spool._writer.changed:
            assert spool._writer.file is not None
            spool._writer.file.fold()
            _of_format_1(path)
            shutil.copytree(path.parent, copy)
    assert (copy / "spool.db-wal").stat().st_size
    with Spool(copy / "spool.db", sinks=["sink"]) as spool:
        assert drained(spool) == [1]
        assert spool.aside == []


def _no_table(path: Path) -> None:
    """As no file of this format is."""
    db = sqlite3.connect(path)
    db.execute("DROP TABLE keys")
    db.close()


def _no_name(path: Path) -> None:
    """By which it is known as a spool's."""
    with path.open("r+b") as handle:
        handle.seek(68)
        handle.write(b"none")


@pytest.mark.parametrize(("damage", "known"), [(_no_name, True), (_no_table, False)])
def test_keys_are_saved_from_a_damaged_file(
    path: Path, damage: Callable[[Path], None], known: bool
) -> None:
    """As far as they can be read; batches and receipts do not depend on them."""
    with Spool(path, sinks=["sink"]) as spool:
        spool.put(entry(1), key=KEY).result()
    damage(path)
    with Spool(path, sinks=["sink"], layouts=[LAYOUT]) as spool:
        assert spool.aside
        assert spool.put(entry(1), key=KEY).result() is not known
        assert drained(spool) == ([1] if known else [1, 1])
    assert _received(path) == (1 if known else 2)


_SENT = st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=1, max_size=15)


@settings(max_examples=max(1, settings().max_examples // 4))
@given(sent=_SENT)
def test_each_key_counts_once(
    tmp_path_factory: pytest.TempPathFactory, sent: list[tuple[int, bool]]
) -> None:
    """However often and in whatever order bodies are sent, together or one by one."""
    path = tmp_path_factory.mktemp("law") / "spool.db"
    with Spool(path, sinks=["sink"]) as spool:
        waiting: list[Future[bool]] = []
        answers: list[bool] = []
        for number, waits in sent:
            waiting.append(spool.put(entry(number), key=bytes([number]) * 16))
            if waits:
                answers += [future.result() for future in waiting]
                waiting.clear()
        answers += [future.result() for future in waiting]
        numbers = [number for number, _ in sent]
        firsts = [number not in numbers[:at] for at, number in enumerate(numbers)]
        assert answers == firsts
        assert drained(spool) == list(dict.fromkeys(numbers))
    assert _received(path) == len(set(numbers))
