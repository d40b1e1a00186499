"""The chain: what verifies, and that nothing else does."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.contracts import REJECTIONS, Tally
from collector.ledger import Flaw, Receipt, Start, Tip, Verification, verify
from collector.ledger.receipt import COLUMNS, NOTHING, commit, issue

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


def tip_of(receipts: list[Receipt]) -> Tip:
    return Tip(receipts[-1].sequence, receipts[-1].hash)


def check(receipts: list[Receipt], tip: Tip | None = None) -> Verification:
    return verify(receipts, NEW, tip)


def test_a_chain_holds() -> None:
    """And the sums are those of its receipts."""
    receipts = chain(20)
    found = check(receipts, tip_of(receipts))
    assert found.flaws == []
    assert found.breaks == []
    assert found.tip == tip_of(receipts)
    assert found.received == sum(receipt.received for receipt in receipts)
    assert found.received == found.admitted + found.rejected.total()


def test_an_empty_ledger_holds() -> None:
    """Nothing was received yet."""
    assert verify([], NEW, Tip(0, NOTHING)).flaws == []
    assert verify([], {}).flaws == []


CHANGES: dict[str, Callable[[Receipt], Receipt]] = {
    "sequence": lambda r: replace(r, sequence=r.sequence + 1000),
    "minute": lambda r: replace(r, minute="2026-11-24T10:21:00Z"),
    "seconds": lambda r: replace(r, minute="2026-11-24T10:20:01Z"),
    "schema": lambda r: replace(r, schema="cd" * 32),
    "received": lambda r: replace(r, received=r.received + 1),
    "received and admitted": lambda r: replace(r, received=r.received + 1, admitted=r.admitted + 1),
    "rejected": lambda r: replace(r, rejected={"malformed": 1}),
    "reason": lambda r: replace(r, rejected={"too_deep": r.rejected["malformed"]}),
    "commitment": lambda r: replace(r, commitment=bytes(32)),
    "no commitment": lambda r: replace(r, commitment=None),
    "previous": lambda r: replace(r, previous=bytes(32)),
    "hash": lambda r: replace(r, hash=bytes(32)),
}


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("at", [0, 4, 9])
def test_a_changed_receipt_is_found(name: str, at: int) -> None:
    """Whatever is changed, and where: the flaw names that receipt, or the one after it."""
    receipts = chain(10)
    changed = CHANGES[name](receipts[at])
    if changed == receipts[at]:
        pytest.skip("there is no commitment to take away")
    tip = tip_of(receipts)
    receipts[at] = changed
    found = check(receipts, tip)
    assert found.flaws
    assert {flaw.sequence for flaw in found.flaws} & {at + 1, at + 2, changed.sequence}


@pytest.mark.parametrize("name", [name for name in CHANGES if name not in ("hash", "previous")])
def test_a_receipt_that_was_written_anew_is_found(name: str) -> None:
    """With a hash that fits its new text: the next one does not follow on it."""
    receipts = chain(10)
    changed = CHANGES[name](receipts[4])
    receipts[4] = replace(changed, hash=changed.computed())
    assert check(receipts, tip_of(receipts)).flaws


@pytest.mark.parametrize("at", range(10))
def test_a_removed_receipt_is_found(at: int) -> None:
    """The first, one between, and the last."""
    receipts = chain(10)
    tip = tip_of(receipts)
    del receipts[at]
    found = check(receipts, tip)
    assert found.flaws
    assert f"{at + 1}" in str(found.flaws[0]) or f"{at}" in str(found.flaws[0])


def test_moved_receipts_are_found() -> None:
    """In another order, or under each other's numbers."""
    receipts = chain(10)
    tip = tip_of(receipts)
    moved = [*receipts[:3], receipts[4], receipts[3], *receipts[5:]]
    assert check(moved, tip).flaws
    third, fifth = replace(receipts[2], sequence=5), replace(receipts[4], sequence=3)
    assert check([*receipts[:2], fifth, receipts[3], third, *receipts[5:]], tip).flaws


def test_a_receipt_put_in_between_is_found() -> None:
    """There is no number for it."""
    receipts = chain(10)
    more = issue(Tip(4, receipts[3].hash), MINUTE, SCHEMA, Tally(1, 1), bytes(32))
    assert check([*receipts[:4], more, *receipts[4:]], tip_of(receipts)).flaws


def test_a_ledger_made_anew_is_found_by_whoever_noted_its_tip() -> None:
    """It holds in itself; the noted hash is not in it."""
    genuine = chain(10)
    forged = chain(10, Start(1, "new", after=bytes([1]) * 32))[:0]
    tip = Tip(0, NEW[1].hash)
    for _ in range(12):
        forged.append(issue(tip, MINUTE, SCHEMA, Tally(1, 1), bytes(32)))
        tip = tip_of(forged)
    assert verify(forged, NEW, tip_of(forged)).flaws == []
    noted = genuine[6].hash
    assert verify(genuine, NEW, tip_of(genuine), noted).flaws == []
    (flaw,) = verify(forged, NEW, tip_of(forged), noted).flaws
    assert "noted" in flaw.message


def test_a_marked_break_is_no_flaw_and_is_told() -> None:
    """A chain that begins after damage: with what is missing; without its start it is a flaw."""
    first = chain(5)
    start = Start(9, "damaged", first[-1].hash)
    second = chain(3, start)
    found = verify([*first, *second], NEW | {9: start}, tip_of(second))
    assert found.flaws == []
    assert [(each.first, each.missing) for each in found.breaks] == [(9, 3)]
    assert verify([*first, *second], NEW, tip_of(second)).flaws
    assert verify(second, NEW | {9: start}, tip_of(second)).flaws
    assert verify([*first[:4], *second], NEW | {9: start}, tip_of(second)).flaws
    assert verify([*first, *second[1:]], NEW | {9: start}, tip_of(second)).flaws


def test_a_chain_that_has_no_receipt_yet() -> None:
    """It begins with the next one."""
    first = chain(5)
    starts = NEW | {6: Start(6, "damaged", first[-1].hash)}
    assert verify(first, starts, tip_of(first)).flaws == []


def test_a_second_new_chain_is_a_flaw() -> None:
    """Only damage explains a break."""
    first = chain(5)
    start = Start(6, "new", first[-1].hash)
    assert verify([*first, *chain(2, start)], NEW | {6: start}).flaws
    other = replace(start, reason="because")  # type: ignore[arg-type]
    assert verify([*first, *chain(2, other)], NEW | {6: other}).flaws


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
    assert str(Flaw(3, "it was changed")) == "receipt 3: it was changed"


_COUNTS = st.dictionaries(st.sampled_from(REJECTIONS), st.integers(1, 9), max_size=7)


@given(
    commits=st.lists(st.tuples(st.integers(0, 9), _COUNTS), min_size=1, max_size=20),
    data=st.data(),
)
def test_any_chain_holds_and_any_edit_of_a_row_does_not(
    commits: list[tuple[int, dict[Any, int]]], data: st.DataObject
) -> None:
    """A receipt survives its row; one value of one row that is another is found."""
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
    edited = [*receipts[:at], Receipt.from_row(tuple(row)), *receipts[at + 1 :]]
    if edited != receipts:  # NULL for none of a reason says the same
        assert check(edited, tip).flaws
