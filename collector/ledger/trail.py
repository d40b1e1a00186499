"""Verification of entries: each one, their chain, the keys and signatures, in one pass.

A checkpoint that was kept elsewhere is an entry too. If the ledger has it, then everything up to
it, receipts included, is as it was then.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from collector.ledger.entry import FACTS, KINDS, Entry
from collector.ledger.flaw import MINUTE, Flaws, between
from collector.ledger.receipt import NOTHING, Tip
from collector.ledger.signing import Holds

__all__ = ["Anchor", "KeyChange", "Trail", "follow"]


@dataclass(frozen=True, slots=True)
class Anchor:
    """A receipt that an entry names, of the ledger's own or of a checkpoint: it must be there."""

    receipt: Tip
    entry: int
    is_kept: bool = False

    def __str__(self) -> str:
        return f"{'the checkpoint at ' if self.is_kept else ''}entry {self.entry}"


@dataclass(frozen=True, slots=True)
class KeyChange:
    """Where a key begins, and whether the one before it has signed that; the first has none."""

    sequence: int
    public: str
    is_vouched: bool


@dataclass(slots=True)
class Trail:
    """What following the entries found. ``signed_up_to`` is the last entry with a good signature,
    which vouches for all before it; ``is_checked`` says whether signatures could be checked.

    ``breaks`` are the numbers of entries that say that others were lost to damage; ``named`` are
    documents, ``anchors`` receipts that must be there; ``kept`` is how many checkpoints there were,
    and ``kept_up_to`` the last entry of which there was one.
    """

    is_checked: bool
    entries: int = 0
    signed: int = 0
    signed_up_to: int = 0
    tip: Tip = field(default_factory=lambda: Tip(0, NOTHING))
    keys: list[KeyChange] = field(default_factory=list)
    breaks: list[int] = field(default_factory=list)
    kept: int = 0
    kept_up_to: int = 0
    named: list[tuple[int, str]] = field(default_factory=list)
    anchors: list[Anchor] = field(default_factory=list)
    flaws: Flaws = field(default_factory=lambda: Flaws("entry"))
    _before: bytes | None = None

    @property
    def key(self) -> str | None:
        """The key under which entries are signed now."""
        return self.keys[-1].public if self.keys else None

    def take(self, entry: Entry, holds: Holds | None) -> None:
        """The next entry."""
        self._look(entry)
        self._link(entry)
        self._check(entry, holds)
        if (digest := entry.fact("digest")) is not None:
            self.named.append((entry.sequence, digest))
        if entry.receipt.sequence > 0:
            self.anchors.append(Anchor(entry.receipt, entry.sequence))
        self.entries += 1
        self._before, self.tip = self.tip.hash, Tip(entry.sequence, entry.hash)

    def look_for(self, documents: Mapping[str, bytes | None]) -> None:
        """Whether the documents are there that entries name. Damage explains those that are not,
        up to the entry that says so."""
        damaged = max(self.breaks, default=0)
        for sequence, digest in self.named:
            if digest not in documents and sequence > damaged:
                self.flaws.report(sequence, "the document that it names is missing")
            elif documents.get(digest, b"") is None:
                self.flaws.report(sequence, "the document that it names was changed")

    def _look(self, entry: Entry) -> None:
        """What can be seen on an entry alone."""
        stated: tuple[str, ...] = next((f for k, f in KINDS.items() if k == entry.kind), ())
        if entry.kind not in KINDS or not all(
            name in stated and FACTS[name](fact) for name, fact in entry.facts
        ):
            self.flaws.report(entry.sequence, "it states what no entry states")
        if not MINUTE(entry.minute):
            self.flaws.report(entry.sequence, "it is of no minute")
        if entry.hash != entry.computed():
            self.flaws.report(entry.sequence, "it was changed: its hash is another")

    def _link(self, entry: Entry) -> None:
        """Whether it comes next after the one before it."""
        sequence, last = entry.sequence, self.tip
        is_damage = entry.kind == "damage"
        if sequence <= last.sequence:
            self.flaws.report(sequence, f"it is out of order, after entry {last.sequence}")
        elif sequence > last.sequence + 1 and not is_damage:
            missing = between("entry", "entries", last.sequence, sequence)
            self.flaws.report(sequence, f"{missing} missing before it")
        elif entry.previous == self._before:
            self.flaws.report(sequence, f"it forks off: it comes after what {last.sequence} does")
        elif entry.previous != last.hash:
            self.flaws.report(sequence, "it does not follow on the entry before it")
        if is_damage:
            self.breaks.append(sequence)

    def _check(self, entry: Entry, holds: Holds | None) -> None:
        """Its signature, and whether its key is the one of that time."""
        current = self.key
        public = entry.fact("public") if entry.kind == "key" else None
        if public is not None:
            is_vouched = entry.key == (public if current is None else current)
            self.keys.append(KeyChange(entry.sequence, public, is_vouched))
        if not entry.key:
            if entry.signature:
                self.flaws.report(entry.sequence, "there is a signature, and no key")
            return
        self.signed += 1
        if entry.key not in (current, public):
            self.flaws.report(entry.sequence, "its key is not the ledger's at that time")
        elif holds is not None and not holds(entry.key, entry.text, entry.signature):
            self.flaws.report(entry.sequence, "its signature is not good")
        else:
            self.signed_up_to = entry.sequence


def follow(
    entries: Iterable[Entry],
    last: Tip | None = None,
    checkpoints: Iterable[Entry] = (),
    holds: Holds | None = None,
) -> Trail:
    """Check each entry and the chain. ``last`` is what the file notes as the last one;
    ``checkpoints`` were kept elsewhere; without ``holds`` no signature is checked."""
    trail = Trail(is_checked=holds is not None)
    kept: dict[int, list[Entry]] = {}
    for checkpoint in checkpoints:
        kept.setdefault(checkpoint.sequence, []).append(checkpoint)
        if checkpoint.receipt.sequence > 0:
            trail.anchors.append(Anchor(checkpoint.receipt, checkpoint.sequence, is_kept=True))
        trail.kept += 1
        trail.kept_up_to = max(trail.kept_up_to, checkpoint.sequence)
    for entry in entries:
        trail.take(entry, holds)
        for checkpoint in kept.pop(entry.sequence, []):
            if checkpoint.hash != entry.hash:
                trail.flaws.report(entry.sequence, "it is another than the checkpoint: rewritten")
    for sequence in sorted(kept):
        trail.flaws.report(sequence, f"{_lost(sequence, trail.tip.sequence)} a checkpoint names it")
    if last is not None and last.sequence > trail.tip.sequence:
        trail.flaws.report(last.sequence, f"the entries after {trail.tip.sequence} are missing")
    elif last is not None and last != trail.tip:
        trail.flaws.report(trail.tip.sequence, "it is not what the file notes as its last entry")
    return trail


def _lost(sequence: int, last: int) -> str:
    return f"the entries after {last} are missing:" if sequence > last else "it is missing, though"
