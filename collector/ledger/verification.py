"""Verification: each receipt, the sums, and the chain, in one pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from collector.contracts import Rejection
from collector.ledger.flaw import MINUTE, Flaws, between
from collector.ledger.receipt import NOTHING, Receipt, Start, Tip
from collector.ledger.trail import Anchor, Trail

__all__ = ["Break", "Verification", "verify"]


@dataclass(frozen=True, slots=True)
class Break:
    """A chain that begins after another: its first receipt, and how many numbers lie between."""

    first: int
    missing: int


@dataclass(slots=True)
class Verification:
    """What verifying found; the ledger holds if there are no ``flaws``.

    ``breaks`` are marked in the ledger itself and are no flaws: damage that a start has met.
    ``trail`` is what following the entries found; their flaws are among ``flaws``.
    """

    receipts: int = 0
    received: int = 0
    admitted: int = 0
    rejected: Counter[Rejection] = field(default_factory=Counter)
    tip: Tip = field(default_factory=lambda: Tip(0, NOTHING))
    breaks: list[Break] = field(default_factory=list)
    flaws: Flaws = field(default_factory=lambda: Flaws("receipt"))
    trail: Trail = field(default_factory=lambda: Trail(is_checked=False))
    _before: bytes | None = None

    def take(self, receipt: Receipt, start: Start | None) -> None:
        """The next receipt, and the start that is before it, if one is."""
        for message in _flaws_of(receipt):
            self.report(receipt.sequence, message)
        _link(receipt, start, self)
        self.receipts += 1
        self.received += receipt.received
        self.admitted += receipt.admitted
        self.rejected.update(receipt.rejected)
        self._before, self.tip = self.tip.hash, Tip(receipt.sequence, receipt.hash)

    def report(self, sequence: int, message: str) -> None:
        """Note a flaw."""
        self.flaws.report(sequence, message)

    def follows_on_the_last_but_one(self, receipt: Receipt) -> bool:
        """Whether it forks off: two receipts come after the same one."""
        return receipt.previous == self._before


def verify(
    receipts: Iterable[Receipt],
    starts: Mapping[int, Start],
    tip: Tip | None = None,
    noted: bytes | None = None,
    anchors: Iterable[Anchor] = (),
) -> Verification:
    """Check each receipt, the sums, and the chain, in one pass.

    ``tip`` is what the file says its last receipt is; ``noted`` is the hash of a receipt that
    somebody saw earlier, and that must still be there; ``anchors`` are receipts that entries name.
    """
    found = Verification()
    pending = dict(starts)
    named: dict[int, list[Anchor]] = {}
    for anchor in anchors:
        named.setdefault(anchor.receipt.sequence, []).append(anchor)
    for receipt in receipts:
        found.take(receipt, pending.pop(receipt.sequence, None))
        noted = None if receipt.hash == noted else noted
        for anchor in named.pop(receipt.sequence, ()):
            if anchor.receipt.hash != receipt.hash:
                found.report(receipt.sequence, f"it is another than the one {anchor} names")
    _find_missing(named, starts.values(), found)
    for first in sorted(pending):
        if first <= found.tip.sequence:
            found.report(first, "a chain begins here, but the receipt is missing")
    if tip is not None and tip.sequence > found.tip.sequence:
        found.report(tip.sequence, f"the receipts after {found.tip.sequence} are missing")
    elif tip is not None and tip != found.tip:
        found.report(found.tip.sequence, "it is not what the file notes as its last receipt")
    if noted is not None:
        found.report(found.tip.sequence, "the receipt that was noted earlier is not in the ledger")
    return found


def _find_missing(
    named: Mapping[int, list[Anchor]], starts: Iterable[Start], found: Verification
) -> None:
    """Receipts that are named and not there. Damage explains it to the ledger's own entries, but
    not to a checkpoint that was kept elsewhere."""
    damaged = max((start.first for start in starts if start.reason == "damaged"), default=0)
    for sequence, anchors in sorted(named.items()):
        anchor = max(anchors, key=lambda anchor: anchor.is_kept)
        if anchor.is_kept or sequence >= damaged:
            found.report(sequence, f"it is missing, and {anchor} names it")


def _flaws_of(receipt: Receipt) -> Iterator[str]:
    """What can be seen on a receipt alone."""
    counts = (receipt.received, receipt.admitted, *receipt.rejected.values())
    if min(counts) < 0 or receipt.received != receipt.admitted + sum(receipt.rejected.values()):
        yield "received is not admitted + rejected"
    if not MINUTE(receipt.minute):
        yield "it is of no minute"
    # One that counts nothing is of an amended batch: what is left of records counted before.
    if receipt.received and (receipt.commitment is None) != (receipt.admitted == 0):
        yield "there is a commitment for nothing, or none for records that were admitted"
    if receipt.hash != receipt.computed():
        yield "it was changed: its hash is another"


def _link(receipt: Receipt, start: Start | None, found: Verification) -> None:
    """Whether a receipt follows on the one before it, or on a start."""
    last, sequence = found.tip, receipt.sequence
    if sequence <= last.sequence:
        found.report(sequence, f"it is out of order, after receipt {last.sequence}")
        return
    if start is None:
        if sequence != last.sequence + 1:
            missing = between("receipt", "receipts", last.sequence, sequence)
            found.report(sequence, f"{missing} missing before it")
        elif found.follows_on_the_last_but_one(receipt):
            found.report(sequence, f"it forks off: it comes after what {last.sequence} does")
        elif receipt.previous != last.hash:
            found.report(sequence, "it does not follow on the receipt before it")
        return
    if receipt.previous != start.hash or start.after != last.hash:
        found.report(sequence, "it does not follow on the start of its chain, or that on the last")
    if start.reason == "damaged":
        found.breaks.append(Break(sequence, sequence - last.sequence - 1))
    elif found.receipts or sequence != 1:
        found.report(sequence, "a new chain begins where there was one before")
