"""Keys of requests: what is sent again adds nothing, whatever happens in between."""

from __future__ import annotations

import hashlib
import hmac
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.contracts import PendingBatch, Tally
from collector.errors import DeliveryError
from collector.ledger import Note, opened
from collector.spool import Spool, idempotency
from collector.spool.pending import pending_batches
from collector.spool.revision import Revision
from collector.spool.tables import FORMAT
from tests.database import query
from tests.deadline import WAIT_SECONDS
from tests.ledgers import check_ledger
from tests.spool.make import (
    LAYOUT,
    commit,
    commit_to,
    downgrade,
    drained,
    entry,
    told_checkpoints,
    without_secrets,
)

KEY, OTHER = b"k" * 16, b"o" * 16
EARLIER, LATER = "2026-11-24T10:20:00Z", "2026-11-24T10:21:00Z"


def _received(path: Path) -> int:
    """What the ledger counts, which must hold."""
    found = check_ledger(path)
    return found.received


def test_what_is_sent_again_adds_nothing(path: Path) -> None:
    """No batch, no receipt, no sum of an hour; also after a restart, and after others."""
    tally = Tally(2, 1, Counter({"malformed": 1}), content=Counter({"chat": 1}), bytes_in=9)
    sent = PendingBatch(LAYOUT, EARLIER, entry(1).payload, tally)
    with Spool(path, sinks=["sink"]) as spool:
        assert spool.put(sent, key=KEY).result(WAIT_SECONDS)
        assert not spool.put(sent, key=KEY).result(WAIT_SECONDS)
        assert spool.put(entry(2), key=OTHER).result(WAIT_SECONDS)
    with Spool(path, sinks=["sink"]) as spool:
        assert not spool.put(sent, key=KEY).result(WAIT_SECONDS)
        assert not spool.put(entry(2), key=OTHER).result(WAIT_SECONDS)
        assert drained(spool) == [1, 2]
        assert not spool.put(sent, key=KEY).result(WAIT_SECONDS)
        assert drained(spool) == []
    assert _received(path) == 3
    assert query(path, "SELECT times FROM hours WHERE what = 'content'") == [(1,)]


def test_without_a_key_everything_is_new(path: Path) -> None:
    """Two equal requests are two requests."""
    with Spool(path, sinks=["sink"]) as spool:
        assert spool.put(entry(1)).result(WAIT_SECONDS)
        assert spool.put(entry(1)).result(WAIT_SECONDS)
        assert drained(spool) == [1, 1]


def test_nothing_is_kept_under_no_key(path: Path) -> None:
    """A body without events leaves its key to the next one."""
    with Spool(path, sinks=["sink"]) as spool:
        assert spool.put(entry(), key=KEY).result(WAIT_SECONDS)
        assert spool.put(key=KEY).result(WAIT_SECONDS)
        assert spool.put(entry(1), key=KEY).result(WAIT_SECONDS)


def _at_once(spool: Spool, *puts: tuple[PendingBatch, bytes | None]) -> list[Future[bool]]:
    """What is put together waits for the same commit."""
    with spool.paused():
        return [spool.put(put, key=key) for put, key in puts]


def test_copies_that_wait_for_the_same_commit(path: Path) -> None:
    """One of them is kept, and all are answered when it is."""
    with Spool(path, sinks=["sink"]) as spool:
        copy = (entry(1), KEY)
        futures = _at_once(spool, copy, (entry(2), OTHER), copy, (entry(3), None), copy)
        assert [future.result(WAIT_SECONDS) for future in futures] == [
            True,
            True,
            False,
            True,
            False,
        ]
        assert drained(spool) == [1, 2, 3]


def test_a_copy_takes_the_place_of_one_that_was_given_up(path: Path) -> None:
    """A cancelled request leaves no key in the file."""
    with Spool(path, sinks=["sink"]) as spool:
        with spool.paused():
            first, second = spool.put(entry(1), key=KEY), spool.put(entry(1), key=KEY)
            assert first.cancel()
        assert second.result(WAIT_SECONDS)
        assert drained(spool) == [1]


def test_entries_of_a_request_are_kept_together(path: Path) -> None:
    """Each minute is a batch and a receipt, in one commit, whatever their order; or none is."""
    minutes = [entry(1, minute=LATER), entry(2, minute=EARLIER), entry(rejected={"malformed": 1})]
    with Spool(path, sinks=["sink"], limit=len(entry(1).payload) * 3) as spool:
        assert spool.put(*minutes, key=KEY).result(WAIT_SECONDS)
        with pytest.raises(DeliveryError, match="E505"):
            spool.put(*minutes, key=OTHER)
        assert [batch.received for _, batch in spool.after("sink")] == [LATER, EARLIER]
        assert drained(spool) == [1, 2]
    assert _received(path) == 3
    with opened(path) as ledger:
        assert [receipt.minute for receipt in ledger.receipts()] == [LATER, EARLIER]


def test_of_very_many_the_newest_are_known(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest are forgotten, so that the file does not grow for ever."""
    monkeypatch.setattr(idempotency, "MOST", 5)
    with Spool(path, sinks=["sink"]) as spool:
        for number in range(12):
            assert spool.put(entry(number), key=bytes([number]) * 16).result(WAIT_SECONDS)
        assert query(path, "SELECT min(number), max(number) FROM request_keys") == [(8, 12)]
        assert not spool.put(entry(7), key=bytes([7]) * 16).result(WAIT_SECONDS)
        assert spool.put(entry(6), key=bytes([6]) * 16).result(WAIT_SECONDS)


def test_a_key_is_not_in_the_file(path: Path) -> None:
    """What is noted is a hash, which does not lead back to it."""
    with Spool(path, sinks=["sink"]) as spool:
        spool.put(entry(1), key=b"canary-canary-16").result(WAIT_SECONDS)
        written = b"".join(each.read_bytes() for each in path.parent.iterdir())
    assert b"canary" not in written
    assert idempotency.hashed(b"canary-canary-16") not in written


_PHONE = b"+62 812 5550 123"


def _guessed(directory: Path) -> bool:
    """Whether a number can be found in what the files hold, by trying it: its hash, and its HMAC
    under anything that may be a secret."""
    hashed = idempotency.hashed(_PHONE)
    for file in directory.iterdir():
        content = file.read_bytes()
        if hashed in content or hashlib.sha256(_PHONE).digest()[:8] in content:
            return True
        for at in range(len(content) - 32):
            secret = content[at : at + 32]
            if secret.count(0) < 4 and hmac.digest(secret, hashed, "sha256")[:16] in content:
                return True
    return False


@pytest.mark.long
def test_a_key_that_can_be_guessed_is_gone_in_a_month(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until then a request that is repeated is known; then no guess finds it, also while nothing
    is sent; and each day has a secret of its own."""
    today = datetime.now(UTC).date()
    monkeypatch.setattr(idempotency, "_today", lambda: today)
    with Spool(path, sinks=["sink"]) as spool:
        for number in range(idempotency.DAYS + 1):
            today += timedelta(days=1)
            assert spool.put(entry(number), key=_PHONE).result(WAIT_SECONDS) is (number == 0)
            assert spool.put(entry(number), key=bytes([number]) * 16).result(WAIT_SECONDS)
        assert query(path, "SELECT count(*) FROM key_days") == [(idempotency.DAYS + 1,)]
        assert drained(spool)
    assert _guessed(path.parent)
    with Spool(path, sinks=["sink"]) as spool:
        today += timedelta(days=1)
        spool.revise(Revision(lambda payload, _: (payload, 0))).result(WAIT_SECONDS)
        assert query(path, "SELECT count(*) FROM key_days") == [(idempotency.DAYS,)]
        assert query(path, "SELECT count(*) FROM request_keys") == [(idempotency.DAYS,)]
    assert not _guessed(path.parent)
    with Spool(path, sinks=["sink"]) as spool:
        assert spool.put(entry(1), key=_PHONE).result(WAIT_SECONDS)


def test_keys_of_the_fifth_format_get_a_secret(path: Path) -> None:
    """They are known as before, and their hashes are in no file any more."""
    commit_to(path, entry(1))
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        without_secrets(db, idempotency.hashed(_PHONE), idempotency.hashed(KEY))
        db.execute("DROP TABLE staging")
        db.execute("DROP TABLE gaps")
        db.execute("UPDATE about SET format = 5")
        db.execute("PRAGMA user_version = 5")
    assert _guessed(path.parent)
    with Spool(path, sinks=["sink"]) as spool:
        assert (spool.state().damaged, spool.quarantined) == (0, [])
        for key in (_PHONE, KEY):
            assert not spool.put(entry(1), key=key).result(WAIT_SECONDS)
        assert spool.put(entry(2), key=OTHER).result(WAIT_SECONDS)
        assert drained(spool) == [1, 2]
    written = b"".join(each.read_bytes() for each in path.parent.iterdir())
    assert idempotency.hashed(_PHONE) not in written


@pytest.mark.parametrize("format_", [1, 2, 3])
def test_a_file_of_an_earlier_format_gets_what_it_lacks(path: Path, format_: int) -> None:
    """It opens with all that is in it, which may be used for everything, and nothing is set aside;
    keys, entries of the ledger and granted purposes are stored from then on."""
    commit_to(path, entry(1, rejected={"malformed": 1}))
    downgrade(path, format_)
    assert [one.granted for one in pending_batches(path) if one] == [None]
    with Spool(path, sinks=["sink"]) as spool:
        assert (spool.state().damaged, spool.quarantined) == (0, [])
        granted = replace(entry(2), granted=("a",))
        assert spool.put(granted, key=KEY).result(WAIT_SECONDS)
        assert not spool.put(granted, key=KEY).result(WAIT_SECONDS)
        spool.note(Note.of("read", command="store query", rows=1)).result(WAIT_SECONDS)
        assert [one.granted for _, one in spool.after("sink", 100)] == [None, ("a",)]
        assert drained(spool) == [1, 2]
    found = query(path, "SELECT format FROM about")
    assert found == query(path, "PRAGMA user_version") == [(FORMAT,)]
    assert query(path, "SELECT kind FROM entries WHERE kind != 'key'") == [("read",)]
    assert _received(path) == 3


def test_a_killed_file_of_the_first_format(path: Path) -> None:
    """Also with what is only in its log."""
    copy = path.parent.with_name("copy")
    with told_checkpoints(), Spool(path, sinks=["sink"]) as spool:
        commit(spool, entry(1))
        with spool.paused():
            assert query(path, "PRAGMA wal_checkpoint(TRUNCATE)") == [(0, 0, 0)]
            downgrade(path, 1)
            shutil.copytree(path.parent, copy)
    assert (copy / "spool.db-wal").stat().st_size
    with Spool(copy / "spool.db", sinks=["sink"]) as spool:
        assert drained(spool) == [1]
        assert spool.quarantined == []


def _no_table(path: Path) -> None:
    """As no file of this format is."""
    query(path, "DROP TABLE request_keys")


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
        spool.put(entry(1), key=KEY).result(WAIT_SECONDS)
    damage(path)
    with Spool(path, sinks=["sink"], layouts=[LAYOUT]) as spool:
        assert spool.quarantined
        assert spool.put(entry(1), key=KEY).result(WAIT_SECONDS) is not known
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
                answers += [future.result(WAIT_SECONDS) for future in waiting]
                waiting.clear()
        answers += [future.result(WAIT_SECONDS) for future in waiting]
        numbers = [number for number, _ in sent]
        firsts = [number not in numbers[:at] for at, number in enumerate(numbers)]
        assert answers == firsts
        assert drained(spool) == list(dict.fromkeys(numbers))
    assert _received(path) == len(set(numbers))
