"""Verify receipts and entries, each in one pass: contents, sums and chain; keys and signatures.

A checkpoint that was stored elsewhere is an entry too. If the ledger contains it, then everything
up to it, receipts included, is unchanged since then.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from collector.contracts import Rejection
from collector.ledger import grammar
from collector.ledger.entry import Entry
from collector.ledger.receipt import NOTHING, Receipt, Start, Tip
from collector.ledger.signing import SignatureCheck

What = Literal["receipt", "entry"]

MINUTE = re.compile(grammar.MINUTE, re.ASCII).fullmatch
"""Matches a minute, RFC 3339 UTC."""
_MOST_FLAWS = 1000


@dataclass(frozen=True, slots=True)
class Flaw:
    """A fault of the ledger, and the receipt or entry that has it."""

    sequence: int
    message: str
    what: What = "receipt"

    def __str__(self) -> str:
        return f"{self.what} {self.sequence}: {self.message}"


class Flaws(list[Flaw]):
    """The flaws of all receipts, or of all entries; of very many, the first thousand."""

    def __init__(self, what: What) -> None:
        super().__init__()
        self._what = what

    def report(self, sequence: int, message: str) -> None:
        """Add a flaw."""
        if len(self) < _MOST_FLAWS:
            self.append(Flaw(sequence, message, self._what))


def missing_between(one: str, many: str, last: int, sequence: int) -> str:
    """Name the numbers between two in words."""
    if sequence - last == 2:
        return f"{one} {last + 1} is"
    return f"{many} {last + 1} to {sequence - 1} are"


@dataclass(frozen=True, slots=True)
class Anchor:
    """A receipt that must exist because an entry names it. ``is_external`` is true if the entry is
    a checkpoint that was stored elsewhere."""

    receipt: Tip
    entry: int
    is_external: bool = False

    def __str__(self) -> str:
        return f"{'the checkpoint at ' if self.is_external else ''}entry {self.entry}"


@dataclass(frozen=True, slots=True)
class KeyChange:
    """The entry with which a key begins, and whether the key before it has signed that entry; the
    first key has signed its own."""

    sequence: int
    public: str
    is_vouched: bool


@dataclass(slots=True)
class Trail:
    """The result of following the entries. ``signed_up_to`` is the last entry with a valid
    signature, which covers all entries before it; ``is_checked`` is true if signatures could be
    checked.

    ``breaks`` are the numbers of entries which state that others were lost to damage; ``documents``
    are the numbers of entries with the digests that they name, ``anchors`` receipts that must
    exist; ``checkpoints`` counts those that were stored elsewhere, and ``checkpoints_up_to`` is the
    last entry among them.
    """

    is_checked: bool
    entries: int = 0
    signed: int = 0
    signed_up_to: int = 0
    tip: Tip = field(default_factory=lambda: Tip(0, NOTHING))
    keys: list[KeyChange] = field(default_factory=list)
    breaks: list[int] = field(default_factory=list)
    checkpoints: int = 0
    checkpoints_up_to: int = 0
    documents: list[tuple[int, str]] = field(default_factory=list)
    anchors: list[Anchor] = field(default_factory=list)
    flaws: Flaws = field(default_factory=lambda: Flaws("entry"))
    _before: bytes | None = None

    @property
    def key(self) -> str | None:
        """The key that signs entries now."""
        return self.keys[-1].public if self.keys else None

    def add(self, entry: Entry, is_valid: SignatureCheck | None) -> None:
        """Check the next entry; without ``is_valid`` its signature is not checked."""
        self._check_contents(entry)
        self._check_link(entry)
        self._check_signature(entry, is_valid)
        if (digest := entry.fact("digest")) is not None:
            self.documents.append((entry.sequence, digest))
        if entry.receipt.sequence > 0:
            self.anchors.append(Anchor(entry.receipt, entry.sequence))
        self.entries += 1
        self._before, self.tip = self.tip.hash, Tip(entry.sequence, entry.hash)

    def check_documents(self, documents: Mapping[str, bytes | None]) -> None:
        """Check that the documents that entries name exist. Damage explains missing ones up to the
        entry that states it."""
        damaged = max(self.breaks, default=0)
        for sequence, digest in self.documents:
            if digest not in documents and sequence > damaged:
                self.flaws.report(sequence, "document is missing")
            elif documents.get(digest, b"") is None:
                self.flaws.report(sequence, "document does not match its digest")

    def _check_contents(self, entry: Entry) -> None:
        """Check an entry alone."""
        if not MINUTE(entry.minute):
            self.flaws.report(entry.sequence, "timestamp is not a whole UTC minute")
        elif not grammar.fits("entry", entry.text.decode(errors="replace")):
            self.flaws.report(entry.sequence, "unknown kind, or a fact that its kind does not have")
        if entry.hash != entry.compute_hash():
            self.flaws.report(entry.sequence, "hash does not match the content")

    def _check_link(self, entry: Entry) -> None:
        """Check that an entry follows the one before it."""
        sequence, last = entry.sequence, self.tip
        is_damage = entry.kind == "damage"
        if sequence <= last.sequence:
            self.flaws.report(sequence, f"out of order, after entry {last.sequence}")
        elif sequence > last.sequence + 1 and not is_damage:
            missing = missing_between("entry", "entries", last.sequence, sequence)
            self.flaws.report(sequence, f"{missing} missing before it")
        elif entry.previous == self._before:
            self.flaws.report(sequence, f"fork: follows the same entry as entry {last.sequence}")
        elif entry.previous != last.hash:
            self.flaws.report(sequence, "does not follow the entry before it")
        if is_damage:
            self.breaks.append(sequence)

    def _check_signature(self, entry: Entry, is_valid: SignatureCheck | None) -> None:
        """Check an entry's signature, and that its key was the ledger's at that time."""
        current = self.key
        public = entry.fact("public") if entry.kind == "key" else None
        if public is not None:
            is_vouched = entry.key == (public if current is None else current)
            self.keys.append(KeyChange(entry.sequence, public, is_vouched))
        if not entry.key:
            if entry.signature:
                self.flaws.report(entry.sequence, "signature without a key")
            return
        self.signed += 1
        if entry.key not in (current, public):
            self.flaws.report(entry.sequence, "key is not the ledger's at that time")
        elif is_valid is not None and not is_valid(entry.key, entry.text, entry.signature):
            self.flaws.report(entry.sequence, "signature is not valid")
        else:
            self.signed_up_to = entry.sequence


def follow(
    entries: Iterable[Entry],
    last: Tip | None = None,
    checkpoints: Iterable[Entry] = (),
    is_valid: SignatureCheck | None = None,
) -> Trail:
    """Check each entry and the chain. ``last`` is the last entry according to the file;
    ``checkpoints`` were stored elsewhere; without ``is_valid`` no signature is checked."""
    trail = Trail(is_checked=is_valid is not None)
    external: dict[int, list[Entry]] = {}
    for checkpoint in checkpoints:
        external.setdefault(checkpoint.sequence, []).append(checkpoint)
        if checkpoint.receipt.sequence > 0:
            trail.anchors.append(Anchor(checkpoint.receipt, checkpoint.sequence, is_external=True))
        trail.checkpoints += 1
        trail.checkpoints_up_to = max(trail.checkpoints_up_to, checkpoint.sequence)
    for entry in entries:
        trail.add(entry, is_valid)
        for checkpoint in external.pop(entry.sequence, []):
            if checkpoint.hash != entry.hash:
                trail.flaws.report(entry.sequence, "does not match the checkpoint: rewritten")
    for sequence in sorted(external):
        trail.flaws.report(sequence, _missing(sequence, trail.tip.sequence))
    if last is not None and last.sequence > trail.tip.sequence:
        trail.flaws.report(last.sequence, f"the entries after {trail.tip.sequence} are missing")
    elif last is not None and last != trail.tip:
        trail.flaws.report(trail.tip.sequence, "is not the file's last entry")
    return trail


def _missing(sequence: int, last: int) -> str:
    """Describe an entry that is missing although a checkpoint names it."""
    if sequence > last:
        return f"the entries after {last} are missing, but a checkpoint names it"
    return "missing, but a checkpoint names it"


@dataclass(frozen=True, slots=True)
class Break:
    """A chain that begins after another: its first receipt, and the number of missing ones."""

    first: int
    missing: int


@dataclass(slots=True)
class Verification:
    """The result of a verification; the ledger holds if there are no ``flaws``.

    ``breaks`` are marked in the ledger itself and are no flaws: damage that was found at a start.
    ``trail`` is the result for the entries; their flaws are among ``flaws``.
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

    def add(self, receipt: Receipt, start: Start | None) -> None:
        """Check the next receipt, and the start before it, if there is one."""
        for message in _check_contents(receipt):
            self.report(receipt.sequence, message)
        _check_link(receipt, start, self)
        self.receipts += 1
        self.received += receipt.received
        self.admitted += receipt.admitted
        self.rejected.update(receipt.rejected)
        self._before, self.tip = self.tip.hash, Tip(receipt.sequence, receipt.hash)

    def report(self, sequence: int, message: str) -> None:
        """Add a flaw."""
        self.flaws.report(sequence, message)

    def is_fork(self, receipt: Receipt) -> bool:
        """Return whether a receipt follows the same one as the receipt before it."""
        return receipt.previous == self._before


def verify(
    receipts: Iterable[Receipt],
    starts: Mapping[int, Start],
    tip: Tip | None = None,
    noted: bytes | None = None,
    anchors: Iterable[Anchor] = (),
) -> Verification:
    """Check each receipt, the sums, and the chain, in one pass.

    ``tip`` is the last receipt according to the file; ``noted`` is the hash of a receipt that was
    noted elsewhere and must exist; ``anchors`` are receipts that entries name.
    """
    found = Verification()
    pending = dict(starts)
    named: dict[int, list[Anchor]] = {}
    for anchor in anchors:
        named.setdefault(anchor.receipt.sequence, []).append(anchor)
    for receipt in receipts:
        found.add(receipt, pending.pop(receipt.sequence, None))
        noted = None if receipt.hash == noted else noted
        for anchor in named.pop(receipt.sequence, ()):
            if anchor.receipt.hash != receipt.hash:
                found.report(receipt.sequence, f"does not match the receipt that {anchor} names")
    _find_missing(named, starts.values(), found)
    for first in sorted(pending):
        if first <= found.tip.sequence:
            found.report(first, "missing, but a chain begins with it")
    if tip is not None and tip.sequence > found.tip.sequence:
        found.report(tip.sequence, f"the receipts after {found.tip.sequence} are missing")
    elif tip is not None and tip != found.tip:
        found.report(found.tip.sequence, "is not the file's last receipt")
    if noted is not None:
        found.report(found.tip.sequence, "the receipt that was noted earlier is not in the ledger")
    return found


def _find_missing(
    named: Mapping[int, list[Anchor]], starts: Iterable[Start], found: Verification
) -> None:
    """Report receipts that are named but missing. Damage explains that to the ledger's own entries,
    but not to a checkpoint that was stored elsewhere."""
    damaged = max((start.first for start in starts if start.reason == "damaged"), default=0)
    for sequence, anchors in sorted(named.items()):
        anchor = max(anchors, key=lambda anchor: anchor.is_external)
        if anchor.is_external or sequence >= damaged:
            found.report(sequence, f"missing, but {anchor} names it")


def _check_contents(receipt: Receipt) -> Iterator[str]:
    """Check a receipt alone; yield messages."""
    counts = (receipt.received, receipt.admitted, *receipt.rejected.values())
    if min(counts) < 0 or receipt.received != receipt.admitted + sum(receipt.rejected.values()):
        yield "received is not admitted + rejected"
    if not MINUTE(receipt.minute):
        yield "timestamp is not a whole UTC minute"
    elif not grammar.fits("receipt", receipt.text.decode(errors="replace")):
        yield "does not have the form of a receipt"
    # One that counts nothing is of a revised batch, whose records were counted before.
    if receipt.received and (receipt.commitment is None) != (receipt.admitted == 0):
        yield "commitment without admitted events, or admitted events without a commitment"
    if receipt.hash != receipt.compute_hash():
        yield "hash does not match the content"


def _check_link(receipt: Receipt, start: Start | None, found: Verification) -> None:
    """Check that a receipt follows the one before it, or a start."""
    last, sequence = found.tip, receipt.sequence
    if sequence <= last.sequence:
        found.report(sequence, f"out of order, after receipt {last.sequence}")
        return
    if start is None:
        if sequence != last.sequence + 1:
            missing = missing_between("receipt", "receipts", last.sequence, sequence)
            found.report(sequence, f"{missing} missing before it")
        elif found.is_fork(receipt):
            found.report(sequence, f"fork: follows the same receipt as receipt {last.sequence}")
        elif receipt.previous != last.hash:
            found.report(sequence, "does not follow the receipt before it")
        return
    if not grammar.fits("start", start.text.decode(errors="replace")):
        found.report(sequence, "the start of its chain does not have the form of one")
    if receipt.previous != start.hash or start.after != last.hash:
        found.report(sequence, "does not follow its chain's start, or that the last receipt")
    if start.reason == "damaged":
        found.breaks.append(Break(sequence, sequence - last.sequence - 1))
    elif found.receipts or sequence != 1:
        found.report(sequence, "a new chain begins without damage before it")
