"""Verify a ledger, alone or in Collector: python3 auditor.py EXPORT [CHECKPOINTS...]

`collector ledger verify`, claims and recorders verify by this module. `collector ledger export
--verifier` prints it as a script that verifies the output of `collector ledger export`. The script
needs Python 3.11, the package cryptography for signatures, and nothing of Collector. It exits with
0 if the ledger holds and contains each checkpoint that was stored elsewhere, else with 1.

A line is a text with its hash. Starts of chains come first, then entries, documents and receipts,
and last the last receipt and entry according to the file. Each text must have its form and its
hash; each receipt and entry must follow the one before it, and each entry names a receipt. So an
entry that was stored elsewhere, a checkpoint, fixes everything up to it.
"""

import hashlib
import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from collector.ledger.grammar import fits

NONE = (0, "0" * 64)
"""Number and hash of a receipt, or an entry, that does not exist."""
_MOST_FLAWS = 1000
_CHECKPOINT = re.compile(
    r"(collector entry 1\nsequence ([0-9]{1,19})\nminute [^\n]*\nkind [^\n]*\n(?:fact [^\n]*\n)*"
    r"receipt ([0-9]{1,19}) ([0-9a-f]{64})\nkey (-|[0-9a-f]{64})\nprevious [0-9a-f]{64}\n)"
    r"signature (-|[0-9a-f]{128})\n"
)
SignatureCheck = Callable[[str, bytes, bytes], bool]
"""Returns whether a signature is valid, from public key (hexadecimal), text and signature."""


def is_valid(key: str, text: bytes, signature: bytes) -> bool:
    """Return whether a signature is valid (Ed25519). Raises ``ImportError``."""
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - an extra
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (  # noqa: PLC0415
        Ed25519PublicKey,
    )

    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(key)).verify(signature, text)
    except (InvalidSignature, ValueError):
        return False
    return True


class Checkpoint(NamedTuple):
    """An entry that was stored elsewhere: number, hash, and the receipt that it names."""

    sequence: int
    hash: str
    receipt: tuple[int, str]


def read_checkpoints(text: str, check: SignatureCheck | None) -> list[Checkpoint]:
    """Return the entries of a file of checkpoints. Without ``check``, signatures are not checked.
    Raises ``ValueError`` for any other file, and for an invalid signature."""
    text, found = text.replace("\r\n", "\n").strip() + "\n", list[Checkpoint]()
    if not text.strip() or _CHECKPOINT.sub("", text):
        raise ValueError("this is no checkpoint of a ledger")
    for entry, sequence, receipt, tip, key, signature in _CHECKPOINT.findall(text):
        signed = bytes.fromhex(signature.strip("-"))
        if bool(signed) != (key != "-") or (signed and not _is_signed(check, key, entry, signed)):
            raise ValueError("a signature is not valid")
        found.append(Checkpoint(int(sequence), _hash(entry), (int(receipt), tip)))
    return found


def _is_signed(check: SignatureCheck | None, key: str, text: str, signature: bytes) -> bool:
    """Return whether a signature is valid; without ``check`` it counts as valid."""
    return check is None or check(key, text.encode(), signature)


class Flaw(NamedTuple):
    """A fault of the ledger, and the receipt, entry, document or line that has it."""

    what: str
    sequence: int
    message: str

    def __str__(self) -> str:
        return f"{self.what} {self.sequence}: {self.message}"


class Gap:
    """Entry ``number`` states that a sink skipped the batches and records of a range of receipts.
    ``rest`` are those that the receipts seen so far do not explain. ``missing`` counts the receipts
    of the range that were not seen yet."""

    def __init__(self, number: int, part: dict[str, str]) -> None:
        self.number: int = number
        self.sink: str = part.get("fact sink", "")
        self.first: int = _number(part.get("fact from", ""))
        self.last: int = _number(part.get("fact to", ""))
        self.rest: list[int] = [
            _number(part.get(f"fact {name}", "")) for name in ("batches", "records")
        ]
        self.missing: int = self.last - self.first + 1

    def see(self, admitted: int) -> None:
        """Subtract one receipt of the range. A receipt that admitted nothing has no batch."""
        self.missing -= 1
        self.rest = [self.rest[0] - (admitted > 0), self.rest[1] - admitted]


class Key(NamedTuple):
    """The entry with which a key begins, and whether the previous key signed that entry. The first
    key signs its own entry."""

    sequence: int
    public: str
    is_vouched: bool


class Break(NamedTuple):
    """The first receipt of a chain that begins after damage, and the number of missing ones."""

    first: int
    missing: int


class Audit:
    """The result of a verification: ``add`` each line, then ``close``. The ledger holds if there
    are no ``flaws``.

    Without ``check`` no signature is checked. ``breaks`` and ``lost`` (entries before which others
    are lost) are not flaws: the ledger itself states this damage, which a start found.
    """

    def __init__(self, check: SignatureCheck | None, *checkpoints: Checkpoint) -> None:
        self.flaws: list[Flaw] = []
        self.receipts: int = 0
        self.received: int = 0
        self.admitted: int = 0
        self.rejected: Counter[str] = Counter()
        self.breaks: list[Break] = []
        self.lost: list[int] = []
        self.keys: list[Key] = []
        self.entries: int = 0
        self.signed: int = 0
        self.signed_up_to: int = 0
        self.is_checked: bool = check is not None
        self.checkpoints: tuple[Checkpoint, ...] = checkpoints
        self.tips: dict[str, tuple[int, str]] = {"receipt": NONE, "entry": NONE}
        self._check = check
        self._before: dict[str, str | None] = {"receipt": None, "entry": None}
        self._starts = dict[int, dict[str, str]]()
        self._damaged, self._documents, self._is_ended = 0, 0, False
        self._named = dict[str, list[int]]()
        self._kept = dict[int, set[str]]()
        self._anchors = dict[int, list[tuple[str, str, bool]]]()
        self._gaps, self._open_gaps = list[Gap](), list[Gap]()
        self._skipped_to = dict[str, int]()
        for each in checkpoints:
            self._kept.setdefault(each.sequence, set()).add(each.hash)
            self._anchor(each.receipt, f"the checkpoint at entry {each.sequence}", is_kept=True)

    def add(self, what: str, text: str, digest: str, signature: str = "") -> None:
        """Check the next line: what it is, its text, its hash, and the signature of an entry."""
        part = _parts(text)
        number = self._place(what, part)
        if self._is_ended:
            self.report(what, number, "comes after the end")
        if what == "document":
            self._document(number, text, digest)
            return
        if _hash(text) != digest:
            self.report(what, number, "hash does not match the content")
        if not fits(what, text):
            self.report(what, number, "does not have the form of one")
        if what == "start":
            self._start(number, part, digest)
        elif what == "entry":
            self._entry(number, part, digest)
            self._signature(number, part, text, signature)
        elif what == "receipt":
            self._receipt(number, part, digest)
        else:
            self._end(text)

    def close(self) -> None:
        """Check that nothing is missing, after the last line."""
        for sequence in sorted(self._kept):
            last = self.tips["entry"][0]
            gone = f"the entries after {last} are missing" if sequence > last else "missing"
            self.report("entry", sequence, f"{gone}, but a checkpoint names it")
        for sequence in sorted(number for numbers in self._named.values() for number in numbers):
            if sequence > max(self.lost, default=0):
                self.report("entry", sequence, "document is missing")
        for number, anchors in sorted(self._anchors.items()):
            _, who, is_kept = max(anchors, key=lambda anchor: anchor[2])
            if is_kept or number >= self._damaged:
                self.report("receipt", number, f"missing, but {who} names it")
        for first in sorted(self._starts):
            if first <= self.tips["receipt"][0]:
                self.report("receipt", first, "missing, but a chain begins with it")
        if not self._is_ended:
            self.report("line", 0, "the last one, which names the last receipt, is missing")
        self.flaws.sort(key=lambda flaw: flaw[:2])

    def summary(self) -> Iterator[str]:
        """Yield lines that say what was found, and what to do if the ledger does not hold."""
        yield (
            f"{self.receipts:,} receipts: {self.received:,} received = {self.admitted:,} admitted"
            f" + {self.received - self.admitted:,} rejected"
        )
        for first, missing in self.breaks:
            yield (
                f"a new chain begins at receipt {first}, where the file was damaged;"
                f" {missing:,} receipts are missing before it"
            )
        signed = f"{self.signed:,}" if self.signed else "none"
        yield f"{self.entries:,} entries, {signed} of them signed"
        if self.signed and not self.is_checked:
            yield "signatures were not checked: the package cryptography is missing"
        elif 0 < self.signed_up_to < self.tips["entry"][0]:
            yield f"what comes after entry {self.signed_up_to} is not signed"
        for key in self.keys[1:]:
            if not key.is_vouched:
                yield f"a new key begins at entry {key.sequence}; the one before has not signed it"
        for sequence in self.lost:
            yield f"entries before {sequence} were lost, where the file was damaged"
        if self.checkpoints:
            last = max(each.sequence for each in self.checkpoints)
            kept = f"{len(self.checkpoints):,} checkpoints that were kept elsewhere"
            yield f"compared with {kept}, up to entry {last}"
        yield "tip: {} {}".format(*self.tips["receipt"])
        if self.flaws:
            what, number, _ = self.flaws[0]
            yield f"the ledger does not hold; the first flaw is at {what} {number}"
            yield (
                "Copy the data directory before anything starts on it. Compare the copy with a"
                " backup and with a checkpoint from before, and look for who could write there."
            )
        else:
            yield "the ledger holds"

    def report(self, what: str, number: int, message: str) -> None:
        """Add a flaw, up to the first thousand."""
        if len(self.flaws) < _MOST_FLAWS:
            self.flaws.append(Flaw(what, number, message))

    def _place(self, what: str, part: dict[str, str]) -> int:
        """Return the number that a line states, or the next number if it states none."""
        if what == "document":
            self._documents += 1
            return self._documents
        number = _number(part.get("first" if what == "start" else "sequence", ""))
        return self.tips[what][0] + 1 if number < 0 and what in self.tips else number

    def _start(self, number: int, part: dict[str, str], digest: str) -> None:
        if number in self._starts:
            self.report("start", number, "is there twice")
        self._starts[number] = part | {"hash": digest}
        if part.get("reason") == "damaged":
            self._damaged = max(self._damaged, number)

    def _document(self, number: int, text: str, digest: str) -> None:
        entries = self._named.pop(digest, ())
        if _hash(text) != digest and entries:
            self.report("entry", entries[0], "document does not match its digest")
        elif _hash(text) != digest:
            self.report("document", number, "hash does not match the content")
        elif not entries and not self.lost:
            self.report("document", number, "no entry names this document")

    def _anchor(self, receipt: tuple[int, str], who: str, is_kept: bool = False) -> None:
        """Note a receipt that must exist, because an entry or a checkpoint names it."""
        if receipt[0]:
            self._anchors.setdefault(receipt[0], []).append((receipt[1], who, is_kept))

    def _entry(self, number: int, part: dict[str, str], digest: str) -> None:
        named, _, tip = part.get("receipt", "").partition(" ")
        if named == "0" and tip != NONE[1]:
            self.report("entry", number, "does not match the receipt that it names")
        self._anchor((_number(named), tip), f"entry {number}")
        is_damage = part.get("kind") == "damage"
        if part.get("kind") == "gap":
            self._gap(Gap(number, part), _number(named))
        self._follow("entry", number, part, digest, is_damage)
        if is_damage:
            self.lost.append(number)
        for kept in self._kept.pop(number, ()):
            if kept != digest:
                self.report("entry", number, "does not match the checkpoint: rewritten")
        if "fact digest" in part:
            self._named.setdefault(part["fact digest"], []).append(number)
        self.entries += 1

    def _gap(self, gap: Gap, tip: int) -> None:
        """Note what a sink skipped, and check that no earlier entry covers the same receipts."""
        if not self._skipped_to.get(gap.sink, 0) < gap.first <= gap.last <= tip:
            self.report("entry", gap.number, "states receipts that it cannot cover")
        self._skipped_to[gap.sink] = gap.last
        self._gaps.append(gap)
        self._gaps.sort(key=lambda each: -each.first)

    def _skip(self, number: int, admitted: int) -> None:
        """Subtract a receipt from the gaps that cover it, and check each gap that ends with it."""
        while self._gaps and self._gaps[-1].first <= number:
            self._open_gaps.append(self._gaps.pop())
        for gap in self._open_gaps:
            if number <= gap.last:
                gap.see(admitted)
            if gap.last <= number and gap.missing == 0 and gap.rest != [0, 0]:
                self.report("entry", gap.number, "does not state what its receipts admitted")
        self._open_gaps = [gap for gap in self._open_gaps if number < gap.last]

    def _signature(self, number: int, part: dict[str, str], text: str, signature: str) -> None:
        """Check an entry's signature, and that its key was the ledger's at that time."""
        key, current = part.get("key", ""), self.keys[-1].public if self.keys else ""
        new = part.get("fact public", "") if part.get("kind") == "key" else ""
        if new:
            self.keys.append(Key(number, new, key == (current or new)))
        if key in ("", "-"):
            if signature:
                self.report("entry", number, "signature without a key")
            return
        self.signed += 1
        if key not in (current, new):
            self.report("entry", number, "key is not the ledger's at that time")
        elif not _is_signed(self._check, key, text, _bytes(signature)):
            self.report("entry", number, "signature is not valid")
        else:
            self.signed_up_to = number

    def _receipt(self, number: int, part: dict[str, str], digest: str) -> None:
        counts = {name: _number(count) for name, count in part.items() if "rejected " in name}
        received, admitted = (_number(part.get(name, "")) for name in ("received", "admitted"))
        if received != admitted + sum(counts.values()):
            self.report("receipt", number, "received is not admitted + rejected")
        # A receipt that counts nothing is of a revised batch, whose records were counted before.
        if received and (part.get("commitment") == "-") != (admitted == 0):
            self.report("receipt", number, "commitment and admitted do not fit together")
        for tip, who, _ in self._anchors.pop(number, ()):
            if tip != digest:
                self.report("receipt", number, f"does not match the receipt that {who} names")
        self._follow("receipt", number, part, digest)
        if self._gaps or self._open_gaps:
            self._skip(number, admitted)
        self.receipts += 1
        self.received, self.admitted = self.received + received, self.admitted + admitted
        self.rejected.update({name.split()[1]: count for name, count in counts.items()})

    def _follow(
        self, what: str, number: int, part: dict[str, str], digest: str, is_damage: bool = False
    ) -> None:
        """Check that a receipt or an entry follows the previous one, or the start of its chain."""
        (last, tip), previous = self.tips[what], part.get("previous")
        start = self._starts.pop(number, None) if what == "receipt" else None
        if number <= last:
            self.report(what, number, f"out of order, after {what} {last}")
        elif start is not None:
            if (previous, start.get("after")) != (start["hash"], tip):
                self.report(what, number, "does not follow its chain's start, or that the last")
            if start.get("reason") == "damaged":
                self.breaks.append(Break(number, number - last - 1))
            elif self.receipts or number != 1:
                self.report(what, number, "a new chain begins without damage before it")
        elif number > last + 1 and not is_damage:
            self.report(what, number, f"{_missing(what, last, number)} missing before it")
        elif previous == self._before[what]:
            self.report(what, number, f"fork: follows the same {what} as {what} {last}")
        elif previous != tip:
            self.report(what, number, f"does not follow the {what} before it")
        self._before[what], self.tips[what] = tip, (number, digest)

    def _end(self, text: str) -> None:
        """Compare the last receipt and entry with the tips that the file states."""
        self._is_ended = True
        for what, number, digest in re.findall(r"(?m)^(receipt|entry) (\S+) (\S+)$", text):
            last = self.tips[what]
            if _number(number) > last[0]:
                message = f"the {_plural(what)} after {last[0]} are missing"
                self.report(what, _number(number), message)
            elif (_number(number), digest) != last:
                self.report(what, last[0], f"is not the file's last {what}")


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _parts(text: str) -> dict[str, str]:
    """Return the values of a text's lines by their first word; facts and rejections have two
    words."""
    found = dict[str, str]()
    for line in text.split("\n"):
        name, _, rest = line.partition(" ")
        if name in ("fact", "rejected"):
            more, _, rest = rest.partition(" ")
            name = f"{name} {more}"
        found[name] = rest
    return found


def _number(text: str) -> int:
    """Return a count, or -1 for anything else."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else -1


def _bytes(text: str) -> bytes:
    """Return the bytes of small hexadecimal digits; none for anything else."""
    return bytes.fromhex(text) if re.fullmatch("([0-9a-f]{2})*", text) else b""


def _plural(what: str) -> str:
    return "entries" if what == "entry" else "receipts"


def _missing(what: str, last: int, number: int) -> str:
    """Say which numbers between two are missing."""
    if number - last == 2:
        return f"{what} {last + 1} is"
    return f"{_plural(what)} {last + 1} to {number - 1} are"


def main(export: str, *files: str) -> int:
    """Verify an export, print what was found, and return the exit code."""
    checkpoints, others = list[Checkpoint](), list[str]()
    for file in files:
        try:
            checkpoints += read_checkpoints(Path(file).read_text("utf-8"), is_valid)
        except ValueError:
            others.append(f"{file}: not a file of checkpoints, or its signature is not valid")
    audit = Audit(is_valid, *checkpoints)
    with Path(export).open("rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                members = json.loads(line, object_pairs_hook=list)
                names, texts = zip(*members, strict=True)
                if names[1:] != ("hash", "signature") and names[1:] != ("hash",):
                    raise ValueError
                audit.add(names[0], *texts)
            except (AttributeError, LookupError, RecursionError, TypeError, ValueError):
                audit.report("line", number, "cannot be read")
    audit.close()
    print(*others, *audit.flaws, *audit.summary(), sep="\n")
    return 1 if audit.flaws or others else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]) if sys.argv[1:] else __doc__)
