"""The entries: what verifies, and that nothing else does."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from collector.ledger import Entry, Note, opened
from collector.ledger.journal import TABLES, append
from collector.ledger.receipt import NOTHING, Tip
from collector.ledger.signing import Key, checker, successor
from collector.ledger.trail import Trail, follow

Change = Callable[[list[Entry]], object]


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Key:
    return successor(tmp_path_factory.mktemp("key"))


def trail_of(number: int, key: Key | None) -> list[Entry]:
    """So many entries, of which the first names the key."""
    with closing(sqlite3.connect(":memory:")) as db:
        db.execute("CREATE TABLE tip (one INTEGER, sequence INTEGER, hash BLOB)")
        for table in TABLES:
            db.execute(table)
        for n in range(number - (key is not None)):
            append(db, Note.of("read", command="store query", rows=n), key)
        rows = db.execute("SELECT * FROM entries ORDER BY sequence").fetchall()
    return [Entry.from_row(row) for row in rows]


def check(entries: list[Entry], last: Tip | None = None, *kept: Entry) -> Trail:
    return follow(entries, last, kept, checker())


def tip_of(entries: list[Entry]) -> Tip:
    return Tip(entries[-1].sequence, entries[-1].hash)


def test_a_trail_holds(key: Key) -> None:
    """Signed up to its end, under the key that it names."""
    entries = trail_of(10, key)
    found = check(entries, tip_of(entries))
    assert found.flaws == []
    assert (found.entries, found.signed, found.signed_up_to, found.key) == (10, 10, 10, key.public)
    assert check([], Tip(0, NOTHING)).flaws == []


def resigned(entry: Entry, key: Key) -> Entry:
    """As somebody who has the key would write it anew."""
    signed = replace(entry, key=key.public)
    return replace(signed, hash=signed.computed(), signature=key.sign(signed.text))


CHANGES: dict[str, Callable[[Entry], Entry]] = {
    "sequence": lambda e: replace(e, sequence=e.sequence + 1000),
    "minute": lambda e: replace(e, minute="2020-01-01T00:00:00Z"),
    "no minute": lambda e: replace(e, minute="yesterday"),
    "kind": lambda e: replace(e, kind="erasure"),
    "unknown kind": lambda e: replace(e, kind="party"),
    "a count": lambda e: replace(e, facts=(("command", "store query"), ("rows", "77"))),
    "a fact less": lambda e: replace(e, facts=()),
    "a text": lambda e: replace(e, facts=(("reason", "canary"),)),
    "receipt": lambda e: replace(e, receipt=Tip(3, bytes(32))),
    "key": lambda e: replace(e, key="ab" * 32),
    "no key": lambda e: replace(e, key=""),
    "previous": lambda e: replace(e, previous=b"\1" * 32),
    "hash": lambda e: replace(e, hash=bytes(32)),
    "signature": lambda e: replace(e, signature=bytes(64)),
}


UNDONE = {
    "as it is": (),
    "hashed again": ("hash",),
    "signed again": ("hash", "signature", "key", "no key"),
}
"""What is what it was once it is hashed, or signed, again."""


@pytest.mark.parametrize(
    ("how", "name"), [(how, name) for how in UNDONE for name in CHANGES if name not in UNDONE[how]]
)
@pytest.mark.parametrize("at", [1, 4, 9])
def test_a_changed_entry_is_found(key: Key, name: str, at: int, how: str) -> None:
    """Whatever is changed, by whomever, unless it is the very last and its writer has the key: then
    what the file notes as the last one is another."""
    whole = trail_of(10, key)
    entries, last = [*whole], tip_of(whole)
    entries[at] = CHANGES[name](entries[at])
    if how == "hashed again":
        entries[at] = replace(entries[at], hash=entries[at].computed())
    elif how == "signed again":
        entries[at] = resigned(entries[at], key)
    assert entries != whole
    found = check(entries, last)
    assert found.flaws
    assert {flaw.sequence for flaw in found.flaws} & {at + 1, at + 2, entries[at].sequence}


def _swap(entries: list[Entry]) -> None:
    entries[3], entries[4] = entries[4], entries[3]


ORDERS: dict[str, tuple[Change, str]] = {
    "first removed": (lambda e: e.pop(0), "entry 1 is missing before it"),
    "two removed": (lambda e: (e.pop(3), e.pop(3)), "entries 4 to 5 are missing before it"),
    "last removed": (lambda e: e.pop(), "the entries after 9 are missing"),
    "swapped": (_swap, "out of order"),
    "twice": (lambda e: e.insert(4, e[4]), "out of order"),
}


@pytest.mark.parametrize("name", ORDERS)
def test_removed_and_moved_entries_are_found(key: Key, name: str) -> None:
    """And where."""
    entries = trail_of(10, key)
    last = tip_of(entries)
    change, message = ORDERS[name]
    change(entries)
    assert any(message in str(flaw) for flaw in check(entries, last).flaws)


def test_a_fork_is_found(key: Key) -> None:
    """Two entries that both come after the same one, each well signed."""
    entries = trail_of(10, key)
    entries[6] = resigned(replace(entries[6], previous=entries[4].hash), key)
    assert [str(flaw) for flaw in check(entries[:7]).flaws] == [
        "entry 7: it forks off: it comes after what 6 does"
    ]


def test_a_key_that_nobody_vouched_for_is_no_flaw(key: Key, tmp_path: Path) -> None:
    """But it is told; and it signs nothing before it was named."""
    entries, other = trail_of(4, key), successor(tmp_path)
    named = replace(entries[3], kind="key", facts=(("public", other.public),))
    found = check([*entries[:3], resigned(named, other)])
    assert found.flaws == []
    assert [each.is_vouched for each in found.keys] == [True, False]
    found = check([*entries[:3], resigned(entries[3], other)])
    assert ["its key is not" in flaw.message for flaw in found.flaws] == [True]


def test_damage_explains_numbers_that_are_missing(key: Key) -> None:
    """To the ledger, but not to whoever has a checkpoint of one of them."""
    entries = trail_of(5, key)
    damage = replace(entries[2], sequence=40, kind="damage", facts=(), previous=entries[2].hash)
    mended = [*entries[:3], resigned(damage, key)]
    found = check(mended)
    assert (found.flaws, found.breaks) == ([], [40])
    assert ["entry 5: it is missing" in str(flaw) for flaw in check(mended, None, entries[4]).flaws]


def test_a_cut_tail_and_a_rewritten_history_are_found(key: Key) -> None:
    """By a checkpoint that was kept elsewhere, even if whoever did it has the key."""
    entries = trail_of(10, key)
    kept = entries[7]
    assert check(entries, tip_of(entries), kept, entries[2]).flaws == []
    cut = check(entries[:6], tip_of(entries[:6]), kept)
    assert [str(flaw) for flaw in cut.flaws] == [
        "entry 8: the entries after 6 are missing: a checkpoint names it"
    ]
    anew = trail_of(10, key)
    for at in range(4, 10):
        minute = "2020-01-01T00:00:00Z"
        anew[at] = resigned(replace(anew[at], minute=minute, previous=anew[at - 1].hash), key)
    assert check(anew, tip_of(anew)).flaws == []
    assert [flaw.sequence for flaw in check(anew, tip_of(anew), kept).flaws] == [8]


def test_without_a_key_a_trail_holds_and_is_not_signed() -> None:
    """That is what was asked for where signing is not installed."""
    entries = trail_of(5, None)
    found = check(entries, tip_of(entries))
    assert (found.flaws, found.entries, found.signed, found.signed_up_to) == ([], 5, 0, 0)


def test_damage_explains_documents_that_are_missing() -> None:
    """Those that entries before it name, and no others."""
    trail = Trail(is_checked=False, breaks=[2], named=[(1, "a digest"), (3, "a digest")])
    trail.look_for({})
    assert [flaw.sequence for flaw in trail.flaws] == [3]


def test_a_document_that_is_missing_or_another(tmp_path: Path) -> None:
    """The ledger says which entry names it."""
    from collector.spool import note  # noqa: PLC0415 - only here

    for text in (b"one", b"two", b"three"):
        note(tmp_path, Note.of("configuration", document=text, change="neutral"))
    path = tmp_path / "spool.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        digests = [row[0] for row in db.execute("SELECT facts FROM entries WHERE sequence > 1")]
        digest = [each.split()[1] for each in digests]
        db.execute("DELETE FROM documents WHERE digest = ?", (digest[0],))
        db.execute("UPDATE documents SET text = x'00' WHERE digest = ?", (digest[2],))
    with opened(path) as ledger:
        assert [str(flaw) for flaw in ledger.verify().flaws] == [
            "entry 2: the document that it names is missing",
            "entry 4: the document that it names was changed",
        ]
