"""A receipt: the counts of one commit (received, admitted, rejected), chained to the previous one.

It names no sender, holds no value, and counts neither bytes nor content. ``commitment`` binds it to
the stored records, under a salt that is deleted with them: after that, a receipt does not reveal
what they were.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, NamedTuple

from collector.contracts import REJECTIONS, Rejection, Tally

Reason = Literal["new", "damaged"]
"""Why a chain begins: it is the first, or the previous one could not be read to its end."""

SALT_BYTES = 32
NOTHING = bytes(32)
"""The hash of a receipt that does not exist."""
commit: Callable[[bytes, bytes], bytes] = partial(hmac.digest, digest="sha256")
"""Returns the commitment of a batch: the HMAC-SHA-256 of its stored records, with their salt as the
key."""

COLUMNS = (
    *("sequence", "minute", "schema", "received", "admitted"),
    *REJECTIONS,
    *("commitment", "previous", "hash"),
)
"""The columns of a receipt, in the order of its row."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """The counts of one commit. ``schema`` is a digest; ``minute`` is RFC 3339 UTC.

    ``commitment`` is ``None`` if nothing was admitted. ``previous`` is the hash of the previous
    receipt, or of the chain's start.
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
        """Its canonical text: everything but ``hash``."""
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

    def compute_hash(self) -> bytes:
        """Return the SHA-256 of its text."""
        return hashlib.sha256(self.text).digest()

    def follows(self, last: Tip, start: Start | None) -> bool:
        """Return whether the receipt is unchanged and follows ``last``. The first receipt of a
        chain follows its ``start``, which follows ``last``. Numbers may be missing only before a
        chain that begins after damage."""
        is_next, before = self.sequence == last.sequence + 1, last.hash
        if start is not None:
            is_first = start.reason == "damaged" or self.sequence == 1
            is_next = is_first and self.sequence > last.sequence and start.after == last.hash
            before = start.hash
        return is_next and self.previous == before and self.hash == self.compute_hash()

    def as_row(self) -> tuple[Any, ...]:
        """Return its values in the order of ``COLUMNS``."""
        rejected = (self.rejected.get(reason, 0) for reason in REJECTIONS)
        head = (self.sequence, self.minute, self.schema, self.received, self.admitted)
        return (*head, *rejected, self.commitment, self.previous, self.hash)

    def as_dict(self) -> dict[str, object]:
        """Return its JSON form: bytes in hexadecimal digits, without reasons that did not occur."""
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
        """Build a receipt from a row of ``COLUMNS``. A value of a wrong type becomes one that no
        receipt has, so that verification finds it."""
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
    """Return a count from a file, or -1 for anything else."""
    return value if isinstance(value, int) else -1


def as_bytes(value: object) -> bytes:
    """Return a hash from a file; no bytes for anything else."""
    return value if isinstance(value, bytes) else b""


@dataclass(frozen=True, slots=True)
class Start:
    """The start of a chain: its first receipt, the reason, and the hash of the last receipt
    before it."""

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
        """The ``previous`` of the first receipt."""
        return hashlib.sha256(self.text).digest()


class Tip(NamedTuple):
    """The number and hash of the last receipt or entry. A copy that is kept elsewhere later shows
    whether that receipt or entry is still there."""

    sequence: int
    hash: bytes


def issue(
    previous: Tip, minute: str, schema: str, tally: Tally, commitment: bytes | None
) -> Receipt:
    """Build the receipt after ``previous``. At the beginning of a chain, ``previous`` has the hash
    of the start."""
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
    return replace(receipt, hash=receipt.compute_hash())
