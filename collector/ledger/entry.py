"""An entry: an action other than receiving, chained to the entry before it and to the receipts.

Entries are rare and have a closed list of kinds: checkpoints, keys, changes of schema and
configuration, what a sink skipped, and reading, pruning, dropping, exporting, amending and erasing.
An entry states how much was done and by which command. It holds no value. Its only text is the
reason of a widening: the schema's own, or the flow that a setting adds. In a recorder's ledger an
entry states what somebody did with a recording, or looked at in one. It names that person by a
pseudonym that only this data directory can make.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, get_args

from collector.ledger import grammar
from collector.ledger.receipt import NOTHING, Tip, as_bytes, as_number

Kind = Literal[
    "key",
    "checkpoint",
    "damage",
    "schema",
    "configuration",
    "reload",
    "read",
    "prune",
    "drop",
    "gap",
    "export",
    "erasure",
    "amendment",
    "recording",
    "access",
]

KINDS: dict[Kind, tuple[str, ...]] = {kind: grammar.KINDS[kind] for kind in get_args(Kind)}
"""The facts of each kind, in their order."""

_MOST_CHARACTERS = 1000


@dataclass(frozen=True, slots=True)
class Note:
    """The contents of an entry to be added. ``facts`` are pairs of name and text; only ``reason``
    may occur twice.

    ``digest`` is the SHA-256 of ``document``, which is stored beside the entries, once.
    """

    kind: Kind
    facts: tuple[tuple[str, str], ...] = ()
    document: bytes | None = None

    @classmethod
    def of(
        cls,
        kind: Kind,
        *,
        document: bytes | None = None,
        reasons: Iterable[str] = (),
        **facts: str | int | None,
    ) -> Note:
        """Build a note of a kind. Leave out facts that are ``None``, and add the document's digest.
        Raises ``ValueError`` for a fact that the kind does not have."""
        if document is not None:
            facts["digest"] = hashlib.sha256(document).hexdigest()
        stated = {name: str(fact) for name, fact in facts.items() if fact is not None}
        if not set(stated) <= set(KINDS[kind]) or (reasons and "reason" not in KINDS[kind]):
            raise ValueError("an entry of this kind states no such fact")
        pairs = [(name, stated[name]) for name in KINDS[kind] if name in stated]
        pairs += [("reason", _line(reason)) for reason in reasons]
        if not all(_fits(name, fact) for name, fact in pairs):
            raise ValueError("a fact of an entry is a count, a digest, or a word of a closed list")
        return cls(kind, tuple(pairs), document)


@dataclass(frozen=True, slots=True)
class Entry:
    """A stored entry. ``minute`` is RFC 3339 UTC. ``receipt`` is the tip of the receipts at that
    time. ``key`` is the public key (hexadecimal) that verifies ``signature``; both are empty for an
    unsigned entry. ``previous`` is the hash of the previous entry, or ``NOTHING``.
    """

    sequence: int
    minute: str
    kind: str
    facts: tuple[tuple[str, str], ...]
    receipt: Tip
    key: str = ""
    previous: bytes = NOTHING
    hash: bytes = b""
    signature: bytes = b""

    @property
    def text(self) -> bytes:
        """The canonical text of the entry. ``hash`` and ``signature`` are computed from it."""
        lines = [
            "collector entry 1",
            f"sequence {self.sequence}",
            f"minute {self.minute}",
            f"kind {self.kind}",
            *(f"fact {name} {fact}" for name, fact in self.facts),
            f"receipt {self.receipt.sequence} {self.receipt.hash.hex()}",
            f"key {self.key or '-'}",
            f"previous {self.previous.hex()}",
        ]
        return "".join(f"{line}\n" for line in lines).encode()

    def compute_hash(self) -> bytes:
        """Return the SHA-256 of its text."""
        return hashlib.sha256(self.text).digest()

    def follows(self, last: Tip) -> bool:
        """Return whether the entry is unchanged and follows ``last``. Numbers may be missing only
        before an entry of kind ``damage``."""
        is_next = self.sequence == last.sequence + 1 or (
            self.kind == "damage" and self.sequence > last.sequence
        )
        return is_next and self.previous == last.hash and self.hash == self.compute_hash()

    def fact(self, name: str) -> str | None:
        """Return the first fact of a name."""
        return next((fact for each, fact in self.facts if each == name), None)

    def as_row(self) -> tuple[Any, ...]:
        """Return its values in the order of ``ENTRY_COLUMNS``."""
        facts = "\n".join(f"{name} {fact}" for name, fact in self.facts)
        head = (self.sequence, self.minute, self.kind, facts, *self.receipt)
        return (*head, self.key, self.previous, self.hash, self.signature)

    def as_dict(self) -> dict[str, object]:
        """Return its JSON form: bytes in hexadecimal digits."""
        return {
            "sequence": self.sequence,
            "minute": self.minute,
            "kind": self.kind,
            "facts": [list(pair) for pair in self.facts],
            "receipt": {"sequence": self.receipt.sequence, "hash": self.receipt.hash.hex()},
            "key": self.key or None,
            "previous": self.previous.hex(),
            "hash": self.hash.hex(),
            "signature": self.signature.hex() or None,
        }

    @classmethod
    def from_row(cls, row: tuple[Any, ...]) -> Entry:
        """Build an entry from a row of ``ENTRY_COLUMNS``. A value of a wrong type becomes one that
        no entry has, so that verification finds it."""
        minute, kind, facts, key = (_as_text(row[at]) for at in (1, 2, 3, 6))
        pairs = (line.partition(" ") for line in facts.split("\n") if line)
        return cls(
            as_number(row[0]),
            minute,
            kind,
            tuple((name, fact) for name, _, fact in pairs),
            Tip(as_number(row[4]), as_bytes(row[5])),
            key,
            *map(as_bytes, row[7:10]),
        )


ENTRY_COLUMNS = (
    *("sequence", "minute", "kind", "facts", "receipt", "receipt_hash"),
    *("key", "previous", "hash", "signature"),
)
"""The columns of an entry, in the order of its row."""


def _fits(name: str, fact: str) -> bool:
    is_of_form = re.fullmatch(grammar.FACTS[name], fact, re.ASCII) is not None
    return is_of_form and fact.isprintable()


def _line(reason: str) -> str:
    """Put a reason on one line, and shorten it to a few sentences."""
    words = "".join(letter if letter.isprintable() else " " for letter in reason).split()
    text = " ".join(words)
    return text if len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]}…"


def _as_text(value: object) -> str:
    return value if isinstance(value, str) else "?"
