"""What sinks need from any kind of broker, and what a drain needs from its broker."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Literal, NamedTuple, Protocol

from collector.brokers.message import Outgoing

Outcome = Literal["done", "waiting", "again"]
"""What happened to messages. ``done``: every sink has them, or nothing of them is kept.
``waiting``: they are in progress, so no other drain may get them. ``again``: hand them out
again."""


class Fetched(NamedTuple):
    """A message that was taken, and the broker's token for it. ``stored`` is when the broker got
    it, by its own clock, in seconds since the epoch."""

    data: bytes
    token: str
    stored: float

    def __repr__(self) -> str:
        return f"<Fetched, {len(self.data)} bytes>"


class Publisher(Protocol):
    """A connection to a broker, made when needed. All methods except ``close`` raise
    ``Unreachable``."""

    def most_bytes(self) -> int:
        """Return the most bytes of a message that the broker accepts."""

    def publish(self, messages: Sequence[Outgoing]) -> None:
        """Publish messages; return when the broker has stored all of them."""

    def expiry(self) -> timedelta | None:
        """Return after how long the broker deletes messages; ``None`` where that may not be read,
        ``timedelta.max`` for never."""

    def drops(self) -> bool:
        """Return whether the broker may delete messages earlier although nobody has taken them."""

    def close(self) -> None:
        """Close the connection."""


class MessageSource(Protocol):
    """A work queue that several drains share. All methods except ``close`` raise
    ``Unreachable``."""

    def fetch(self, most: int, seconds: float) -> list[Fetched]:
        """Return up to ``most`` messages, or none if none comes in time. With 0 it takes none, and
        only tells the broker that the drain is alive."""

    def acknowledge(self, tokens: Sequence[str], outcome: Outcome) -> None:
        """Tell the broker what happened to messages."""

    def expiry(self) -> timedelta | None:
        """Return after how long the broker deletes messages; ``None`` where that may not be read,
        ``timedelta.max`` for never."""

    def close(self) -> None:
        """Close the connection."""
