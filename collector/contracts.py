"""What the rooms of the house hand to one another: tallies, batches, and the sink protocol.

The reason codes are closed lists; every count in a tally, a metric or a report is keyed by one of
them, by a field name of the schema, or by a content category. Nothing here can hold a value.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, Self, get_args

__all__ = [
    "CATEGORIES",
    "DROPS",
    "REJECTIONS",
    "Batch",
    "Category",
    "Drop",
    "Record",
    "Rejection",
    "Scalar",
    "Sink",
    "Tally",
]

Rejection = Literal[
    "malformed",
    "not_an_object",
    "too_large",
    "too_deep",
    "missing_required",
    "nothing_admitted",
    "consent_withheld",
]
Drop = Literal["wrong_type", "invalid_value", "purpose_refused", "expired"]
Category = Literal["audio", "video", "chat", "transcript", "file"]

REJECTIONS: tuple[Rejection, ...] = get_args(Rejection)
DROPS: tuple[Drop, ...] = get_args(Drop)
CATEGORIES: tuple[Category, ...] = get_args(Category)

Scalar = str | int | float | bool
Record = dict[str, Scalar]
"""A minimised record: ``schema`` first, then allowlisted fields in schema order."""


@dataclass(slots=True)
class Tally:
    """The counts of one or more filter calls. Tallies add up with ``+``.

    ``received == admitted + sum(rejected.values())`` always holds. ``dropped`` counts fields by
    reason, ``content`` counts events by content category; bytes are of payloads and records.
    """

    received: int = 0
    admitted: int = 0
    rejected: Counter[Rejection] = field(default_factory=Counter)
    dropped: dict[str, Counter[Drop]] = field(default_factory=dict)
    content: Counter[Category] = field(default_factory=Counter)
    bytes_in: int = 0
    bytes_out: int = 0

    def __add__(self, other: Tally) -> Tally:
        total = Tally()
        total += self
        total += other
        return total

    def __iadd__(self, other: Tally) -> Self:
        self.received += other.received
        self.admitted += other.admitted
        self.rejected.update(other.rejected)
        for name, reasons in other.dropped.items():
            self.dropped.setdefault(name, Counter()).update(reasons)
        self.content.update(other.content)
        self.bytes_in += other.bytes_in
        self.bytes_out += other.bytes_out
        return self

    def as_dict(self) -> dict[str, object]:
        """The tally in its JSON form: zero entries left out except the first three keys."""
        out: dict[str, object] = {
            "received": self.received,
            "admitted": self.admitted,
            "rejected": {r: self.rejected[r] for r in REJECTIONS if self.rejected[r]},
        }
        dropped = {
            name: {d: reasons[d] for d in DROPS if reasons[d]}
            for name, reasons in self.dropped.items()
            if any(reasons.values())
        }
        content = {c: self.content[c] for c in CATEGORIES if self.content[c]}
        sizes = {"bytes_in": self.bytes_in, "bytes_out": self.bytes_out}
        optional = {"dropped": dropped, "content": content, **sizes}
        return out | {key: value for key, value in optional.items() if value}


@dataclass(frozen=True, slots=True, repr=False)
class Batch:
    """Minimised records on their way to a sink.

    ``id`` is random and is the idempotency key: a sink that has taken it once takes it again
    without effect. ``received`` is RFC 3339 UTC, truncated to the minute.
    """

    id: bytes
    received: str
    records: Sequence[Mapping[str, Scalar]]


class Sink(Protocol):
    """Where records go."""

    def deliver(self, batch: Batch) -> None:
        """Keep the batch durably, exactly once by its id, or raise ``DeliveryError``."""
