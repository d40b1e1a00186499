"""A receipt: what one commit received, admitted and rejected, bound to the receipt before it.

It names no sender, holds no value, and counts neither bytes nor content. ``commitment`` binds it
to the records that were kept, under a salt that lies beside them and goes with them: after that,
nobody can tell from a receipt what they were.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from collector.contracts import REJECTIONS, Rejection, Tally

__all__ = [
    "COLUMNS",
    "NOTHING",
    "REASONS",
    "SALT_BYTES",
    "Reason",
    "Receipt",
    "Start",
    "Tip",
    "as_bytes",
    "as_number",
    "commit",
    "issue",
]

Reason = Literal["new", "damaged"]
"""Why a chain begins: there was none before, or what was there could not be read to its end."""
REASONS: tuple[Reason, ...] = get_args(Reason)

SALT_BYTES = 32
NOTHING = bytes(32)
"""What stands for the hash of a receipt that is not there."""

COLUMNS = (
    *("sequence", "minute", "schema", "received", "admitted"),
    *REJECTIONS,
    *("commitment", "previous", "hash"),
)
"""What a receipt holds, in the order of its row."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """What one commit did. ``schema`` is a digest; ``minute`` is RFC 3339 UTC.

    ``commitment`` is ``None`` where nothing was admitted. ``previous`` is the hash of the receipt
    before it, or of the chain's start.
    """

    sequence: int
    minute: str
    schema: str
    received: int
    admitted: int
    rejected: Mapping[Rejection, int]
    commitment: bytes | None
    previous: bytes
    hash: bytes = b""

    @property
    def text(self) -> bytes:
        """Its canonical text, which is all of it but ``hash``."""
        lines = [
            "collector receipt 1",
            f"sequence {self.sequence}",
            f"minute {self.minute}",
            f"schema {self.schema}",
            f"received {self.received}",
            f"admitted {self.admitted}",
            *(f"rejected {r} {self.rejected[r]}" for r in REJECTIONS if self.rejected.get(r)),
            f"commitment {'-' if self.commitment is None else self.commitment.hex()}",
            f"previous {self.previous.hex()}",
        ]
        return "".join(f"{line}\n" for line in lines).encode()

    def computed(self) -> bytes:
        """SHA-256 of its text."""
        return hashlib.sha256(self.text).digest()

    def as_row(self) -> tuple[Any, ...]:
        """Its values in the order of ``COLUMNS``."""
        rejected = (self.rejected.get(reason, 0) for reason in REJECTIONS)
        head = (self.sequence, self.minute, self.schema, self.received, self.admitted)
        return (*head, *rejected, self.commitment, self.previous, self.hash)

    def as_dict(self) -> dict[str, object]:
        """Its JSON form: bytes in hex, reasons that did not occur left out."""
        return {
            "sequence": self.sequence,
            "minute": self.minute,
            "schema": self.schema,
            "received": self.received,
            "admitted": self.admitted,
            "rejected": dict(self.rejected),
            "commitment": None if self.commitment is None else self.commitment.hex(),
            "previous": self.previous.hex(),
            "hash": self.hash.hex(),
        }

    @classmethod
    def from_row(cls, row: tuple[Any, ...]) -> Receipt:
        """The receipt of a row of ``COLUMNS``. What is of another type than it should be becomes
        something that no receipt has, so that verifying finds it."""
        head, counts, tail = row[:5], row[5:-3], row[-3:]
        sequence, received, admitted = (as_number(head[index]) for index in (0, 3, 4))
        rejected = {r: as_number(n) for r, n in zip(REJECTIONS, counts, strict=True) if n}
        commitment = None if tail[0] is None else as_bytes(tail[0])
        minute, schema = (text if isinstance(text, str) else "" for text in head[1:3])
        return cls(
            sequence,
            minute,
            schema,
            received,
            admitted,
            rejected,
            commitment,
            as_bytes(tail[1]),
            as_bytes(tail[2]),
        )


def as_number(value: object) -> int:
    """A count out of a file; -1, which no receipt has, for anything else."""
    return value if isinstance(value, int) else -1


def as_bytes(value: object) -> bytes:
    """A hash out of a file; no bytes for anything else."""
    return value if isinstance(value, bytes) else b""


@dataclass(frozen=True, slots=True)
class Start:
    """Where a chain begins: with which receipt, why, and after which (its hash)."""

    first: int
    reason: Reason
    after: bytes = NOTHING

    @property
    def text(self) -> bytes:
        """Its canonical text."""
        head = f"collector chain 1\nfirst {self.first}\nreason {self.reason}\n"
        return f"{head}after {self.after.hex()}\n".encode()

    @property
    def hash(self) -> bytes:
        """What the first receipt has for ``previous``."""
        return hashlib.sha256(self.text).digest()


@dataclass(frozen=True, slots=True)
class Tip:
    """The last receipt: number and hash. Whoever notes it can later see that it is still there."""

    sequence: int
    hash: bytes


def commit(salt: bytes, payload: bytes) -> bytes:
    """HMAC-SHA-256 of records (NDJSON) under their salt."""
    return hmac.digest(salt, payload, "sha256")


def issue(
    previous: Tip, minute: str, schema: str, tally: Tally, commitment: bytes | None
) -> Receipt:
    """The receipt after another one; ``previous.hash`` is a start's where a chain begins."""
    rejected = {reason: tally.rejected[reason] for reason in REJECTIONS if tally.rejected[reason]}
    receipt = Receipt(
        previous.sequence + 1,
        minute,
        schema,
        tally.received,
        tally.admitted,
        rejected,
        commitment,
        previous.hash,
    )
    return replace(receipt, hash=receipt.computed())
