"""What sinks want of a broker of any kind, and what a drain wants of its broker."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Literal, NamedTuple, Protocol

from collector.brokers.message import Outgoing

Outcome = Literal["done", "waiting", "again"]
"""What became of messages: they are over, since every sink has them or nothing is kept of them;
they are not, and no other drain is to get them; or they are to be handed out again."""


class Fetched(NamedTuple):
    """A message that was taken, and by what the broker knows it. ``stored`` is when the broker got
    it, by its own clock in seconds of the epoch."""

    data: bytes
    token: str
    stored: float

    def __repr__(self) -> str:
        return f"<Fetched, {len(self.data)} bytes>"


class Publisher(Protocol):
    """A connection to a broker, which is made when it is needed. All methods but ``close`` raise
    ``Unreachable``."""

    def most_bytes(self) -> int:
        """Return the most bytes of a message that the broker takes."""

    def publish(self, messages: Sequence[Outgoing]) -> None:
        """Publish messages; return when the broker has stored all of them."""

    def expiry(self) -> timedelta | None:
        """Return after how long the broker deletes messages; ``None`` where that may not be read,
        ``timedelta.max`` for never."""

    def drops(self) -> bool:
        """Return whether the broker deletes messages before that which nobody has taken."""

    def close(self) -> None:
        """Close the connection."""


class MessageSource(Protocol):
    """A work queue that several drains share. All methods but ``close`` raise ``Unreachable``."""

    def fetch(self, most: int, seconds: float) -> list[Fetched]:
        """Return up to ``most`` messages, or none if none comes in time. With 0 it takes none, and
        only lets the broker know that it is there."""

    def acknowledge(self, tokens: Sequence[str], outcome: Outcome) -> None:
        """Say what became of messages."""

    def expiry(self) -> timedelta | None:
        """Return after how long the broker deletes messages; ``None`` where that may not be read,
        ``timedelta.max`` for never."""

    def close(self) -> None:
        """Close the connection."""
