"""An entry: what was done beside receiving, bound to the entry before it and to the receipts.

Entries are rare and of a closed list of kinds: checkpoints, keys, changes of schema and
configuration, and what was read, pruned, exported, amended or erased. An entry tells how much and
by which command, never what: it holds no value, and no text but why something widens: a schema's
own reasons, and of settings which flow it is.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

from collector.ledger.receipt import NOTHING, Tip, as_bytes, as_number

__all__ = ["ENTRY_COLUMNS", "FACTS", "KINDS", "Entry", "Kind", "Note"]

Kind = Literal[
    "key",
    "checkpoint",
    "damage",
    "schema",
    "configuration",
    "read",
    "prune",
    "export",
    "erasure",
    "amendment",
]

_COUNTS = ("rows", "values", "batches", "files")
KINDS: dict[Kind, tuple[str, ...]] = {
    "key": ("public",),
    "checkpoint": ("at",),
    "damage": (),
    "schema": ("schema", "digest", "before", "change", "reason"),
    "configuration": ("digest", "before", "change", "reason"),
    "read": ("command", "rows"),
    "prune": ("command", *_COUNTS),
    "export": ("command", "field", *_COUNTS),
    "erasure": ("command", "field", *_COUNTS),
    "amendment": ("command", "field", *_COUNTS),
}
"""Each kind with the facts that it may state, in their order."""

_DIGEST = re.compile(r"[0-9a-f]{64}").fullmatch
_COUNT = re.compile(r"0|[1-9][0-9]{0,17}").fullmatch
_TIMES = ("start", "stop", "hour", "receipts", "asked")
_CHANGES = ("first", "widening", "narrowing", "neutral", "unknown")


_LONGEST_REASON = 1000


FACTS: dict[str, Callable[[str], object]] = {
    **dict.fromkeys(("public", "digest", "before"), _DIGEST),
    **dict.fromkeys(_COUNTS, _COUNT),
    "at": _TIMES.__contains__,
    "change": _CHANGES.__contains__,
    "schema": re.compile(r"[a-z][a-z0-9_-]{0,80}/[0-9.]{1,40}").fullmatch,
    "field": re.compile(r"[a-z][a-z0-9_.]{0,600}").fullmatch,
    "command": re.compile(r"(serve|claims|[a-z]{1,20} [a-z]{1,20})").fullmatch,
    "reason": str.isprintable,
}
"""What each fact may be. ``public`` is an Ed25519 key; ``digest`` and ``before`` are SHA-256 of
documents; ``command`` is one of ours, such as ``store prune``; ``serve`` is the sidecar."""


@dataclass(frozen=True, slots=True)
class Note:
    """What an entry is to say. ``facts`` are names with texts; only ``reason`` may be there twice.

    ``document`` is what ``digest`` is the SHA-256 of; it is kept beside the entries, once.
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
        """A note of that kind; facts that are ``None`` are left out, and the digest of a document
        is computed. Raises ``ValueError`` for what is no fact of this kind."""
        if document is not None:
            facts["digest"] = hashlib.sha256(document).hexdigest()
        stated = {name: str(fact) for name, fact in facts.items() if fact is not None}
        if not set(stated) <= set(KINDS[kind]) or (reasons and "reason" not in KINDS[kind]):
            raise ValueError("an entry of this kind states no such fact")
        pairs = [(name, stated[name]) for name in KINDS[kind] if name in stated]
        pairs += [("reason", _line(reason)) for reason in reasons]
        if not all(FACTS[name](fact) for name, fact in pairs):
            raise ValueError("a fact of an entry is a count, a digest, or a word of ours")
        return cls(kind, tuple(pairs), document)


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry as it is kept. ``minute`` is RFC 3339 UTC; ``receipt`` is the tip of the receipts
    when it was made; ``key`` is the public key (hexadecimal) under which ``signature`` is good,
    empty where it is not signed. ``previous`` is the hash of the entry before it, or ``NOTHING``.
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
        """Its canonical text: all of it but ``hash`` and ``signature``, which are made of it."""
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

    def computed(self) -> bytes:
        """SHA-256 of its text."""
        return hashlib.sha256(self.text).digest()

    def follows(self, last: Tip) -> bool:
        """Whether it is as it was made, and comes next after an entry. Numbers may be missing only
        before one that says so."""
        is_next = self.sequence == last.sequence + 1 or (
            self.kind == "damage" and self.sequence > last.sequence
        )
        return is_next and self.previous == last.hash and self.hash == self.computed()

    def fact(self, name: str) -> str | None:
        """The first fact of that name."""
        return next((fact for each, fact in self.facts if each == name), None)

    def as_row(self) -> tuple[Any, ...]:
        """Its values in the order of ``ENTRY_COLUMNS``."""
        facts = "\n".join(f"{name} {fact}" for name, fact in self.facts)
        head = (self.sequence, self.minute, self.kind, facts, *_pair(self.receipt))
        return (*head, self.key, self.previous, self.hash, self.signature)

    def as_dict(self) -> dict[str, object]:
        """Its JSON form: bytes in hexadecimal digits."""
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
        """The entry of a row of ``ENTRY_COLUMNS``. What is of another type than it should be
        becomes something that no entry has, so that verifying finds it."""
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
"""What an entry holds, in the order of its row."""


def _line(reason: str) -> str:
    """A reason on one line, and not longer than a few sentences."""
    words = "".join(letter if letter.isprintable() else " " for letter in reason).split()
    text = " ".join(words)
    return text if len(text) <= _LONGEST_REASON else f"{text[:_LONGEST_REASON]}…"


def _pair(tip: Tip) -> tuple[int, bytes]:
    return tip.sequence, tip.hash


def _as_text(value: object) -> str:
    return value if isinstance(value, str) else "?"
