"""Verification: every change of receipts and entries is found, and nothing else is."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.contracts import REJECTIONS, Tally
from collector.ledger import Audit, Entry, Flaw, Note, Receipt, Start, Tip, opened
from collector.ledger.auditor import NONE, Checkpoint
from collector.ledger.journal import TABLES, append
from collector.ledger.receipt import COLUMNS, NOTHING, commit, issue
from collector.ledger.signing import Key, create_next_key, signature_check

MINUTE = "2026-11-24T10:20:00Z"
SCHEMA = "ab" * 32
NEW = {1: Start(1, "new")}


def chain(number: int, start: Start = NEW[1]) -> list[Receipt]:
    """So many receipts of a chain, each of another commit."""
    receipts: list[Receipt] = []
    tip = Tip(start.first - 1, start.hash)
    for n in range(number):
        tally = Tally(n + 3, n % 3)
        tally.rejected["malformed"] = n + 3 - n % 3
        commitment = commit(bytes(32), b"%d" % n) if n % 3 else None
        receipts.append(issue(tip, MINUTE, SCHEMA, tally, commitment))
        tip = Tip(receipts[-1].sequence, receipts[-1].hash)
    return receipts


def tip_of(items: list[Receipt] | list[Entry]) -> Tip:
    return Tip(items[-1].sequence, items[-1].hash)


def audited(
    receipts: Iterable[Receipt] = (),
    starts: dict[int, Start] | None = None,
    tip: Tip | None = None,
    entries: Iterable[Entry] = (),
    last: Tip | None = None,
    checkpoints: Iterable[Entry] = (),
) -> Audit:
    """An audit of these; the last receipt and entry are what they are, unless something is said."""
    kept = (
        Checkpoint(each.sequence, each.hash.hex(), (each.receipt.sequence, each.receipt.hash.hex()))
        for each in checkpoints
    )
    audit = Audit(signature_check(), *kept)
    for start in (starts or {}).values():
        audit.add("start", start.text.decode(), start.hash.hex())
    for entry in entries:
        audit.add("entry", entry.text.decode(), entry.hash.hex(), entry.signature.hex())
    for receipt in receipts:
        audit.add("receipt", receipt.text.decode(), receipt.hash.hex())
    ends = {"receipt": tip, "entry": last}
    tips = {what: pair(said, audit.tips[what]) for what, said in ends.items()}
    text = "".join(f"{what} {number} {digest}\n" for what, (number, digest) in tips.items())
    audit.add("tips", text, hashlib.sha256(text.encode()).hexdigest())
    audit.close()
    return audit


def pair(tip: Tip | None, otherwise: tuple[int, str] = NONE) -> tuple[int, str]:
    return otherwise if tip is None else (tip.sequence, tip.hash.hex())


def check(receipts: list[Receipt], tip: Tip | None = None) -> Audit:
    return audited(receipts, NEW, tip)


def test_a_chain_holds() -> None:
    receipts = chain(20)
    found = check(receipts, tip_of(receipts))
    assert found.flaws == []
    assert found.breaks == []
    assert found.tips == {"receipt": pair(tip_of(receipts)), "entry": NONE}
    assert found.received == sum(receipt.received for receipt in receipts)
    assert found.received == found.admitted + found.rejected.total()


def test_an_empty_ledger_holds() -> None:
    """Nothing was received yet."""
    assert audited([], NEW, Tip(0, NOTHING)).flaws == []
    assert audited().flaws == []


def test_receipts_that_are_removed_moved_or_put_in_between_are_found() -> None:
    """Any one of them; in another order, or under each other's numbers; and one without a number
    of its own."""
    receipts = chain(10)
    third, fifth = replace(receipts[2], sequence=5), replace(receipts[4], sequence=3)
    more = issue(Tip(4, receipts[3].hash), MINUTE, SCHEMA, Tally(1, 1), bytes(32))
    for others in (
        *([*receipts[:at], *receipts[at + 1 :]] for at in range(10)),
        [*receipts[:3], receipts[4], receipts[3], *receipts[5:]],
        [*receipts[:2], fifth, receipts[3], third, *receipts[5:]],
        [*receipts[:4], more, *receipts[4:]],
    ):
        assert check(others, tip_of(receipts)).flaws


def test_a_ledger_made_anew_is_found_by_whoever_kept_a_checkpoint() -> None:
    """It holds in itself; the receipt that was named is not in it."""
    genuine = chain(10)
    forged = chain(10, Start(1, "new", after=bytes([1]) * 32))[:0]
    tip = Tip(0, NEW[1].hash)
    for _ in range(12):
        forged.append(issue(tip, MINUTE, SCHEMA, Tally(1, 1), bytes(32)))
        tip = tip_of(forged)
    assert check(forged, tip_of(forged)).flaws == []
    named = Entry(8, MINUTE, "checkpoint", (("at", "stop"),), tip_of(genuine[:7]))
    named = replace(named, hash=named.compute_hash())
    assert audited(forged, NEW, tip_of(forged), checkpoints=[named]).flaws == [
        Flaw("entry", 8, "the entries after 0 are missing, but a checkpoint names it"),
        Flaw("receipt", 7, "does not match the receipt that the checkpoint at entry 8 names"),
    ]


def test_a_marked_break_is_no_flaw_and_is_told() -> None:
    """A chain that begins after damage: with what is missing; without its start it is a flaw."""
    first = chain(5)
    start = Start(9, "damaged", first[-1].hash)
    second = chain(3, start)
    found = audited([*first, *second], NEW | {9: start}, tip_of(second))
    assert found.flaws == []
    assert [(each.first, each.missing) for each in found.breaks] == [(9, 3)]
    assert audited([*first, *second], NEW, tip_of(second)).flaws
    assert audited(second, NEW | {9: start}, tip_of(second)).flaws
    assert audited([*first[:4], *second], NEW | {9: start}, tip_of(second)).flaws
    assert audited([*first, *second[1:]], NEW | {9: start}, tip_of(second)).flaws


def test_a_chain_that_has_no_receipt_yet() -> None:
    """It begins with the next one."""
    first = chain(5)
    starts = NEW | {6: Start(6, "damaged", first[-1].hash)}
    assert audited(first, starts, tip_of(first)).flaws == []


def test_a_second_new_chain_is_a_flaw() -> None:
    first = chain(5)
    start = Start(6, "new", first[-1].hash)
    assert audited([*first, *chain(2, start)], NEW | {6: start}).flaws
    other = replace(start, reason="because")  # type: ignore[arg-type]
    assert audited([*first, *chain(2, other)], NEW | {6: other}).flaws


def test_very_many_flaws() -> None:
    """A thousand are enough."""
    receipts = [replace(receipt, received=7000) for receipt in chain(1500)]
    assert len(check(receipts).flaws) == 1000


def test_the_hash_can_be_made_by_anybody() -> None:
    """The canonical text of the documentation, to the letter."""
    tally = Tally(4, 3)
    tally.rejected["malformed"] = 1
    receipt = issue(Tip(6, bytes(range(32))), MINUTE, SCHEMA, tally, bytes(32))
    text = (
        f"collector receipt 1\nsequence 7\nminute {MINUTE}\nschema {SCHEMA}\nreceived 4\n"
        f"admitted 3\nrejected malformed 1\ncommitment {bytes(32).hex()}\n"
        f"previous {bytes(range(32)).hex()}\n"
    )
    assert receipt.hash == hashlib.sha256(text.encode()).digest()
    start = f"collector chain 1\nfirst 1\nreason new\nafter {bytes(32).hex()}\n"
    assert NEW[1].hash == hashlib.sha256(start.encode()).digest()


def test_a_receipt_has_no_counts_of_content_or_bytes() -> None:
    """Nothing of a tally but received, admitted and rejected reaches it."""
    plain, rich = Tally(1, 1), Tally(1, 1, bytes_in=77, bytes_out=88)
    rich.content["chat"] = 99
    rich.dropped["os.version"] = plain.dropped.get("x") or type(rich.rejected)()  # type: ignore[assignment]
    tip = Tip(0, NEW[1].hash)
    receipts = [issue(tip, MINUTE, SCHEMA, tally, bytes(32)) for tally in (plain, rich)]
    assert receipts[0] == receipts[1]
    names = {"sequence", "minute", "schema", "received", "admitted", "commitment", "previous"}
    assert set(COLUMNS) == names | {"hash"} | set(REJECTIONS)
    assert str(Flaw("receipt", 3, "out of order")) == "receipt 3: out of order"


_COUNTS = st.dictionaries(st.sampled_from(REJECTIONS), st.integers(1, 9), max_size=7)


@given(
    commits=st.lists(st.tuples(st.integers(0, 9), _COUNTS), min_size=1, max_size=20),
    data=st.data(),
)
def test_any_chain_holds_and_any_edit_of_a_row_does_not(
    commits: list[tuple[int, dict[Any, int]]], data: st.DataObject
) -> None:
    """A receipt survives its row; one value of one row that is another is found there, or where the
    next one follows, also if the hash fits the new text."""
    receipts: list[Receipt] = []
    tip = Tip(0, NEW[1].hash)
    for admitted, rejected in commits:
        tally = Tally(admitted + sum(rejected.values()), admitted)
        tally.rejected.update(rejected)
        receipts.append(issue(tip, MINUTE, SCHEMA, tally, bytes(32) if admitted else None))
        tip = tip_of(receipts)
    rows = [receipt.as_row() for receipt in receipts]
    assert [Receipt.from_row(row) for row in rows] == receipts
    assert not check(receipts, tip).flaws
    at = data.draw(st.integers(0, len(rows) - 1))
    column = data.draw(st.integers(0, len(COLUMNS) - 1))
    others = st.sampled_from([None, 1, 7, "x", b"x", bytes(32), -1, 1.5, MINUTE])
    value = data.draw(others.filter(lambda value: value != rows[at][column]))
    row = list(rows[at])
    row[column] = value
    edited = Receipt.from_row(tuple(row))
    for changed in (edited, replace(edited, hash=edited.compute_hash())):
        if changed != receipts[at]:  # NULL for none of a reason says the same
            flaws = check([*receipts[:at], changed, *receipts[at + 1 :]], tip).flaws
            assert {flaw.sequence for flaw in flaws} & {at + 1, at + 2, changed.sequence}


Change = Callable[[list[Entry]], object]


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Key:
    return create_next_key(tmp_path_factory.mktemp("key"))


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


def follow_all(entries: list[Entry], last: Tip | None = None, *external: Entry) -> Audit:
    return audited(entries=entries, last=last, checkpoints=external)


def test_a_trail_holds(key: Key) -> None:
    """Signed up to its end, under the key that it names."""
    entries = trail_of(10, key)
    found = follow_all(entries, tip_of(entries))
    assert found.flaws == []
    assert (found.entries, found.signed, found.signed_up_to) == (10, 10, 10)
    assert [each.public for each in found.keys] == [key.public]
    assert follow_all([], Tip(0, NOTHING)).flaws == []


def resigned(entry: Entry, key: Key) -> Entry:
    """Write an entry anew, as a process with the key can."""
    signed = replace(entry, key=key.public)
    return replace(signed, hash=signed.compute_hash(), signature=key.sign(signed.text))


ENTRY_CHANGES: dict[str, Callable[[Entry], Entry]] = {
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


def test_a_changed_entry_is_found(key: Key) -> None:
    """Any change is, unless it is of the very last entry and its writer has the key: then
    what the file notes as the last one is another."""
    whole = trail_of(10, key)
    for how, name, at in product(UNDONE, ENTRY_CHANGES, (1, 4, 9)):
        if name in UNDONE[how]:
            continue
        changed = ENTRY_CHANGES[name](whole[at])
        if how == "hashed again":
            changed = replace(changed, hash=changed.compute_hash())
        elif how == "signed again":
            changed = resigned(changed, key)
        assert changed != whole[at]
        found = follow_all([*whole[:at], changed, *whole[at + 1 :]], tip_of(whole))
        places = {at + 1, at + 2, changed.sequence}
        assert {flaw.sequence for flaw in found.flaws} & places, (how, name, at)


def _swap(entries: list[Entry]) -> None:
    entries[3], entries[4] = entries[4], entries[3]


ORDERS: dict[str, tuple[Change, str]] = {
    "first removed": (lambda e: e.pop(0), "entry 1 is missing before it"),
    "two removed": (lambda e: (e.pop(3), e.pop(3)), "entries 4 to 5 are missing before it"),
    "last removed": (lambda e: e.pop(), "the entries after 9 are missing"),
    "swapped": (_swap, "out of order"),
    "twice": (lambda e: e.insert(4, e[4]), "out of order"),
}


def test_removed_and_moved_entries_are_found(key: Key) -> None:
    whole = trail_of(10, key)
    for change, message in ORDERS.values():
        entries = [*whole]
        change(entries)
        found = follow_all(entries, tip_of(whole)).flaws
        assert any(message in str(flaw) for flaw in found), message


def test_receipts_that_something_names_are_missing() -> None:
    """The end of a chain, which an entry names, and the first receipt of another one."""
    receipts, (entry,) = chain(7), trail_of(1, None)
    named = replace(entry, receipt=tip_of(receipts))
    named = replace(named, hash=named.compute_hash())
    cut = receipts[:5]
    assert audited(cut, NEW, tip_of(cut), [named]).flaws == [
        Flaw("receipt", 7, "missing, but entry 1 names it")
    ]
    gone, later = (Start(first, "damaged", cut[-1].hash) for first in (7, 9))
    both = [*cut, *chain(2, later)]
    assert audited(both, NEW | {7: gone, 9: later}, tip_of(both)).flaws == [
        Flaw("receipt", 7, "missing, but a chain begins with it")
    ]


def test_a_fork_is_found(key: Key) -> None:
    """Two entries that both come after the same one, each well signed."""
    entries = trail_of(10, key)
    entries[6] = resigned(replace(entries[6], previous=entries[4].hash), key)
    assert [str(flaw) for flaw in follow_all(entries[:7]).flaws] == [
        "entry 7: fork: follows the same entry as entry 6"
    ]


def test_a_key_that_nobody_vouched_for_is_no_flaw(key: Key, tmp_path: Path) -> None:
    entries, other = trail_of(4, key), create_next_key(tmp_path)
    named = replace(entries[3], kind="key", facts=(("public", other.public),))
    found = follow_all([*entries[:3], resigned(named, other)])
    assert found.flaws == []
    assert [each.is_vouched for each in found.keys] == [True, False]
    found = follow_all([*entries[:3], resigned(entries[3], other)])
    assert ["key is not the ledger's" in flaw.message for flaw in found.flaws] == [True]


def test_an_entry_before_all_receipts_names_none() -> None:
    """A hash beside the number 0 is the hash of nothing."""
    (entry,) = trail_of(1, None)
    changed = replace(entry, receipt=Tip(0, b"\1" * 32))
    changed = replace(changed, hash=changed.compute_hash())
    assert follow_all([changed]).flaws == [
        Flaw("entry", 1, "does not match the receipt that it names")
    ]


def test_damage_explains_numbers_that_are_missing(key: Key) -> None:
    """In the ledger alone, but not with a checkpoint of one of them."""
    entries = trail_of(5, key)
    damage = replace(entries[2], sequence=40, kind="damage", facts=(), previous=entries[2].hash)
    mended = [*entries[:3], resigned(damage, key)]
    found = follow_all(mended)
    assert (found.flaws, found.lost) == ([], [40])
    assert ["entry 5: missing" in str(flaw) for flaw in follow_all(mended, None, entries[4]).flaws]


def test_a_cut_tail_and_a_rewritten_history_are_found(key: Key) -> None:
    entries = trail_of(10, key)
    external = entries[7]
    assert follow_all(entries, tip_of(entries), external, entries[2]).flaws == []
    cut = follow_all(entries[:6], tip_of(entries[:6]), external)
    assert [str(flaw) for flaw in cut.flaws] == [
        "entry 8: the entries after 6 are missing, but a checkpoint names it"
    ]
    anew = trail_of(10, key)
    for at in range(4, 10):
        minute = "2020-01-01T00:00:00Z"
        anew[at] = resigned(replace(anew[at], minute=minute, previous=anew[at - 1].hash), key)
    assert follow_all(anew, tip_of(anew)).flaws == []
    assert [flaw.sequence for flaw in follow_all(anew, tip_of(anew), external).flaws] == [8]


def test_without_a_key_a_trail_holds_and_is_not_signed() -> None:
    entries = trail_of(5, None)
    found = follow_all(entries, tip_of(entries))
    assert (found.flaws, found.entries, found.signed, found.signed_up_to) == ([], 5, 0, 0)


def test_damage_explains_documents_that_are_missing() -> None:
    entries = trail_of(3, None)
    named = (("digest", "ab" * 32), ("change", "first"))
    entries[0] = replace(entries[0], kind="configuration", facts=named)
    entries[1] = replace(entries[1], kind="damage", facts=())
    entries[2] = replace(entries[2], kind="configuration", facts=named)
    before = NOTHING
    for at, each in enumerate(entries):
        linked = replace(each, previous=before)
        entries[at] = replace(linked, hash=linked.compute_hash())
        before = entries[at].hash
    assert follow_all(entries).flaws == [Flaw("entry", 3, "document is missing")]


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
            "entry 2: document is missing",
            "entry 4: document does not match its digest",
        ]
