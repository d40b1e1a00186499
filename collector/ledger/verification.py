"""Verification: each receipt, the sums, and the chain, in one pass and constant memory."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from collector.contracts import Rejection
from collector.ledger.receipt import NOTHING, Receipt, Start, Tip

__all__ = ["Break", "Flaw", "Verification", "verify"]

_MINUTE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:00Z", re.ASCII).fullmatch
_MOST_FLAWS = 1000


@dataclass(frozen=True, slots=True)
class Flaw:
    """What is wrong with the ledger, and with which receipt."""

    sequence: int
    message: str

    def __str__(self) -> str:
        return f"receipt {self.sequence}: {self.message}"


@dataclass(frozen=True, slots=True)
class Break:
    """A chain that begins after another: its first receipt, and how many numbers lie between."""

    first: int
    missing: int


@dataclass(slots=True)
class Verification:
    """What verifying found; the ledger holds if there are no ``flaws``.

    ``breaks`` are marked in the ledger itself and are no flaws: damage that a start has met.
    """

    receipts: int = 0
    received: int = 0
    admitted: int = 0
    rejected: Counter[Rejection] = field(default_factory=Counter)
    tip: Tip = field(default_factory=lambda: Tip(0, NOTHING))
    breaks: list[Break] = field(default_factory=list)
    flaws: list[Flaw] = field(default_factory=list)

    def take(self, receipt: Receipt, start: Start | None) -> None:
        """The next receipt, and the start that is before it, if one is."""
        for message in _flaws_of(receipt):
            self.report(receipt.sequence, message)
        _link(receipt, start, self)
        self.receipts += 1
        self.received += receipt.received
        self.admitted += receipt.admitted
        self.rejected.update(receipt.rejected)
        self.tip = Tip(receipt.sequence, receipt.hash)

    def report(self, sequence: int, message: str) -> None:
        """Note a flaw; of very many, the first thousand."""
        if len(self.flaws) < _MOST_FLAWS:
            self.flaws.append(Flaw(sequence, message))


def verify(
    receipts: Iterable[Receipt],
    starts: Mapping[int, Start],
    tip: Tip | None = None,
    noted: bytes | None = None,
) -> Verification:
    """Check each receipt, the sums, and the chain, in one pass and constant memory.

    ``tip`` is what the file says its last receipt is; ``noted`` is the hash of a receipt that
    somebody saw earlier, and that must still be there.
    """
    found = Verification()
    pending = dict(starts)
    for receipt in receipts:
        found.take(receipt, pending.pop(receipt.sequence, None))
        noted = None if receipt.hash == noted else noted
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


def _flaws_of(receipt: Receipt) -> Iterator[str]:
    """What can be seen on a receipt alone."""
    counts = (receipt.received, receipt.admitted, *receipt.rejected.values())
    if min(counts) < 0 or receipt.received != receipt.admitted + sum(receipt.rejected.values()):
        yield "received is not admitted + rejected"
    if not _MINUTE(receipt.minute):
        yield "it is of no minute"
    if (receipt.commitment is None) != (receipt.admitted == 0):
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
            found.report(sequence, f"{_between(last.sequence, sequence)} missing before it")
        elif receipt.previous != last.hash:
            found.report(sequence, "it does not follow on the receipt before it")
        return
    if receipt.previous != start.hash or start.after != last.hash:
        found.report(sequence, "it does not follow on the start of its chain, or that on the last")
    if start.reason != "new":
        found.breaks.append(Break(sequence, sequence - last.sequence - 1))
    elif found.receipts or sequence != 1:
        found.report(sequence, "a new chain begins where there was one before")


def _between(last: int, sequence: int) -> str:
    missing = sequence - last - 1
    return (
        f"receipt {last + 1} is" if missing == 1 else f"receipts {last + 1} to {sequence - 1} are"
    )
