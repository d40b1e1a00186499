"""Keys of requests: what is sent again adds nothing, whatever happens in between."""

from __future__ import annotations

import hmac
import sqlite3
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.contracts import REJECTIONS, Earlier, PendingBatch, RequestKey, Tally, Written
from collector.errors import DeliveryError
from collector.filter.redaction import Rule
from collector.ledger import opened
from collector.spool import Spool, idempotency
from collector.spool.idempotency import request_key
from tests.support.database import query
from tests.support.deadline import WAIT_SECONDS, wait_until
from tests.support.ledgers import check_ledger
from tests.support.make_batches import (
    LAYOUT,
    drained,
    entry,
)
from tests.support.unpacked import every_byte


def _key_of(key: bytes, body: bytes | None) -> RequestKey:
    return request_key(key, "records", "schema", body)


KEY, OTHER = _key_of(b"k" * 16, b"body"), _key_of(b"o" * 16, b"body")
EARLIER, LATER = "2026-11-24T10:20:00Z", "2026-11-24T10:21:00Z"


def _key(number: int, body: bytes = b"body") -> RequestKey:
    return _key_of(bytes([number]) * 16, body)


def _received(path: Path) -> int:
    """What the ledger counts, which must hold."""
    found = check_ledger(path)
    return found.received


def test_what_is_sent_again_adds_nothing(path: Path) -> None:
    """It adds no batch, no receipt and no sum of an hour."""
    tally = Tally(2, 1, Counter({"malformed": 1}), content=Counter({"chat": 1}), bytes_in=9)
    sent = PendingBatch(LAYOUT, EARLIER, entry(1).payload, tally)
    with Spool(path, sinks=["sink"]) as spool:
        assert spool.put(sent, key=KEY).result(WAIT_SECONDS) is None
        assert spool.put(sent, key=KEY).result(WAIT_SECONDS) is not None
        assert spool.put(entry(2), key=OTHER).result(WAIT_SECONDS) is None
    with Spool(path, sinks=["sink"]) as spool:
        assert spool.put(sent, key=KEY).result(WAIT_SECONDS) is not None
        assert spool.put(entry(2), key=OTHER).result(WAIT_SECONDS) is not None
        assert drained(spool) == [1, 2]
        assert spool.put(sent, key=KEY).result(WAIT_SECONDS) is not None
        assert drained(spool) == []
    assert _received(path) == 3
    assert query(path, "SELECT times FROM hours WHERE what = 'content'") == [(1,)]


def test_a_request_and_its_key_are_stored_together(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    with Spool(path, sinks=["sink"]) as spool:
        with monkeypatch.context() as patch:
            patch.setattr(idempotency, "add_keys", failing)
            with pytest.raises(DeliveryError):
                spool.put(entry(1), key=KEY).result(WAIT_SECONDS)
        wait_until(lambda: spool.is_open)
        assert drained(spool) == []
        assert spool.put(entry(1), key=KEY).result(WAIT_SECONDS) is None
        assert drained(spool) == [1]


def test_without_a_key_everything_is_new(path: Path) -> None:
    with Spool(path, sinks=["sink"]) as spool:
        assert spool.put(entry(1)).result(WAIT_SECONDS) is None
        assert spool.put(entry(1)).result(WAIT_SECONDS) is None
        assert drained(spool) == [1, 1]


def test_a_request_without_events_leaves_its_key(path: Path) -> None:
    none = Earlier(Tally(), is_same=True)
    with Spool(path, sinks=["sink"]) as spool:
        assert spool.put(entry(), key=KEY).result(WAIT_SECONDS) is None
        assert spool.put(key=KEY).result(WAIT_SECONDS) == none
        assert spool.put(entry(1), key=KEY).result(WAIT_SECONDS) == none
        assert drained(spool) == []
    assert query(path, "SELECT count(*) FROM receipts") == [(0,)]


def test_another_body_is_told_from_the_first(path: Path) -> None:
    """A body of which nothing is known counts as the same."""
    tally = Tally(7, 4, Counter({"malformed": 1, "not_selected": 2}), bytes_in=9)
    first = PendingBatch(LAYOUT, EARLIER, entry(1, 2).payload, tally)
    other, unknown = KEY._replace(body=OTHER.body), KEY._replace(body=None)
    counts = Tally(7, 4, Counter({"malformed": 1, "not_selected": 2}))
    expected = [Earlier(counts, is_same=same) for same in (False, True, True)]
    with Spool(path, sinks=["sink"]) as spool:
        later = [(entry(3), key) for key in (other, KEY, unknown)]
        new, *found = (each.result(WAIT_SECONDS) for each in _at_once(spool, (first, KEY), *later))
        assert (new, found) == (None, expected)
    with Spool(path, sinks=["sink"]) as spool:
        found = [spool.put(each, key=key).result(WAIT_SECONDS) for each, key in later]
        assert found == expected
        assert drained(spool) == [1, 2]
    assert _received(path) == 7


@given(
    st.lists(st.integers(0, 1 << 60), min_size=1 + len(REJECTIONS), max_size=1 + len(REJECTIONS))
)
def test_counts_come_back_from_their_row(numbers: list[int]) -> None:
    """Counts have a bound that no honest request reaches; what is stored has one length, and is not
    the counts."""
    admitted, *rejected = numbers
    reasons = Counter({reason: n for reason, n in zip(REJECTIONS, rejected, strict=True) if n})
    with closing(sqlite3.connect(":memory:")) as db:
        for table in idempotency.TABLES:
            db.execute(table)
        tally = Tally(sum(numbers), admitted, reasons)
        idempotency.add_keys(db, [(KEY, tally), (OTHER, tally)])
        found = idempotency.earlier(db, [(KEY, Tally()), (OTHER, Tally())])
        rows = [row for (row,) in db.execute("SELECT counts FROM request_keys")]
    bounded = [min(n, (1 << 48) - 1) for n in numbers]
    kept = {reason: n for reason, n in zip(REJECTIONS, bounded[1:], strict=True) if n}
    assert found == [Earlier(Tally(sum(bounded), bounded[0], Counter(kept)), is_same=True)] * 2
    assert len({len(row) for row in rows}) == 1
    assert rows[0] != rows[1]


def test_a_row_that_is_damaged_is_not_used(path: Path) -> None:
    with Spool(path, sinks=["sink"]) as spool:
        assert spool.put(entry(1), key=KEY).result(WAIT_SECONDS) is None
        assert spool.put(entry(2), key=OTHER).result(WAIT_SECONDS) is None
    damage = "UPDATE request_keys SET counts = X'00' WHERE number = 1"
    query(path, "PRAGMA ignore_check_constraints = ON", damage)
    with Spool(path, sinks=["sink"], layouts=[LAYOUT]) as spool:
        assert spool.quarantined
        assert spool.put(entry(2), key=OTHER).result(WAIT_SECONDS) is not None
        assert spool.put(entry(1), key=KEY).result(WAIT_SECONDS) is None
        assert drained(spool) == [1, 2, 1]


def _at_once(spool: Spool, *puts: tuple[PendingBatch, RequestKey | None]) -> list[Written]:
    """What is put together waits for the same commit."""
    with spool.paused():
        return [spool.put(put, key=key) for put, key in puts]


def test_copies_that_wait_for_the_same_commit(path: Path) -> None:
    with Spool(path, sinks=["sink"]) as spool:
        copy = (entry(1), KEY)
        new = (entry(3), None)
        futures = _at_once(spool, copy, (entry(2), OTHER), copy, new, copy, new)
        same = Earlier(Tally(1, 1), is_same=True)
        found = [future.result(WAIT_SECONDS) for future in futures]
        assert found == [None, None, same, None, same, None]
        assert drained(spool) == [1, 2, 3, 3]


def test_a_copy_takes_the_place_of_one_that_was_given_up(path: Path) -> None:
    with Spool(path, sinks=["sink"]) as spool:
        with spool.paused():
            first, second = spool.put(entry(1), key=KEY), spool.put(entry(1), key=KEY)
            assert first.cancel()
        assert second.result(WAIT_SECONDS) is None
        assert drained(spool) == [1]


def test_entries_of_a_request_are_kept_together(path: Path) -> None:
    minutes = [entry(1, minute=LATER), entry(2, minute=EARLIER), entry(rejected={"malformed": 1})]
    with Spool(path, sinks=["sink"], limit=len(entry(1).payload) * 3) as spool:
        assert spool.put(*minutes, key=KEY).result(WAIT_SECONDS) is None
        with pytest.raises(DeliveryError, match="E505"):
            spool.put(*minutes, key=OTHER)
        assert [batch.received for _, batch in spool.after("sink")] == [LATER, EARLIER]
        assert drained(spool) == [1, 2]
    assert _received(path) == 3
    with opened(path) as ledger:
        assert [receipt.minute for receipt in ledger.receipts()] == [LATER, EARLIER]


def test_of_very_many_the_newest_are_known(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idempotency, "MOST", 5)
    with Spool(path, sinks=["sink"]) as spool:
        for number in range(12):
            assert spool.put(entry(number), key=_key(number)).result(WAIT_SECONDS) is None
        assert query(path, "SELECT min(number), max(number) FROM request_keys") == [(8, 12)]
        assert spool.put(entry(7), key=_key(7)).result(WAIT_SECONDS) is not None
        assert spool.put(entry(6), key=_key(6)).result(WAIT_SECONDS) is None


def test_a_key_is_not_in_the_file(path: Path) -> None:
    with Spool(path, sinks=["sink"]) as spool:
        spool.put(entry(1), key=_key_of(b"canary-canary-16", b"canary-body")).result(WAIT_SECONDS)
        written = every_byte(path.parent)
    assert b"canary" not in written
    assert idempotency.hashed(b"canary-canary-16") not in written


_PHONE = b"+62 812 5550 123"
_OF_PHONE = _key_of(_PHONE, b"body")


def _guessed(directory: Path) -> bool:
    """Whether a number can be found in what the files hold, by trying it: its hash, and its HMAC
    under anything that may be a secret."""
    hashed = _OF_PHONE.key
    for file in directory.iterdir():
        content = file.read_bytes()
        if hashed in content or idempotency.hashed(_PHONE)[:8] in content:
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
    """Each day has a secret of its own. Keys go also while nothing is sent."""
    today = datetime.now(UTC).date()
    monkeypatch.setattr(idempotency, "_today", lambda: today)
    same: Earlier | None = None
    with Spool(path, sinks=["sink"]) as spool:
        for number in range(idempotency.DAYS + 1):
            today += timedelta(days=1)
            assert spool.put(entry(number), key=_OF_PHONE).result(WAIT_SECONDS) == same
            same = Earlier(Tally(1, 1), is_same=True)
            assert spool.put(entry(number), key=_key(number)).result(WAIT_SECONDS) is None
        assert query(path, "SELECT count(*) FROM key_days") == [(idempotency.DAYS + 1,)]
        assert drained(spool)
    assert _guessed(path.parent)
    with Spool(path, sinks=["sink"]) as spool:
        today += timedelta(days=1)
        spool.rewrite([Rule()]).result(WAIT_SECONDS)
        assert query(path, "SELECT count(*) FROM key_days") == [(idempotency.DAYS,)]
        assert query(path, "SELECT count(*) FROM request_keys") == [(idempotency.DAYS,)]
    assert not _guessed(path.parent)
    with Spool(path, sinks=["sink"]) as spool:
        assert spool.put(entry(1), key=_OF_PHONE).result(WAIT_SECONDS) is None


def _no_table(path: Path) -> None:
    """As no file of this format is."""
    query(path, "DROP TABLE request_keys")


def _no_name(path: Path) -> None:
    """By which it is known as a spool's."""
    with path.open("r+b") as handle:
        handle.seek(68)
        handle.write(b"none")


@pytest.mark.parametrize(
    ("damage", "known"), [(_no_name, Earlier(Tally(1, 1), is_same=True)), (_no_table, None)]
)
def test_keys_are_saved_from_a_damaged_file(
    path: Path, damage: Callable[[Path], None], known: Earlier | None
) -> None:
    with Spool(path, sinks=["sink"]) as spool:
        spool.put(entry(1), key=KEY).result(WAIT_SECONDS)
    damage(path)
    with Spool(path, sinks=["sink"], layouts=[LAYOUT]) as spool:
        assert spool.quarantined
        assert spool.put(entry(1), key=KEY).result(WAIT_SECONDS) == known
        assert drained(spool) == ([1] if known else [1, 1])
    assert _received(path) == (1 if known else 2)


_SENT = st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=1, max_size=15)


@settings(max_examples=max(1, settings().max_examples // 4))
@given(sent=_SENT)
def test_each_key_counts_once(
    tmp_path_factory: pytest.TempPathFactory, sent: list[tuple[int, bool]]
) -> None:
    path = tmp_path_factory.mktemp("law") / "spool.db"
    with Spool(path, sinks=["sink"]) as spool:
        waiting: list[Written] = []
        answers: list[Earlier | None] = []
        for number, waits in sent:
            waiting.append(spool.put(entry(number), key=_key(number)))
            if waits:
                answers += [future.result(WAIT_SECONDS) for future in waiting]
                waiting.clear()
        answers += [future.result(WAIT_SECONDS) for future in waiting]
        numbers = [number for number, _ in sent]
        same = Earlier(Tally(1, 1), is_same=True)
        firsts = [same if number in numbers[:at] else None for at, number in enumerate(numbers)]
        assert answers == firsts
        assert drained(spool) == list(dict.fromkeys(numbers))
    assert _received(path) == len(set(numbers))
