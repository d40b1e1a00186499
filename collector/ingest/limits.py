"""What a sender may cost: bytes, seconds, connections.

Every number here is a ceiling, not a reservation. Sizes are in bytes, times in seconds.
"""

from __future__ import annotations

from dataclasses import dataclass

from collector.errors import ConfigError

__all__ = ["MIB", "MOST_BODY", "Limits"]

MIB = 1 << 20
MOST_BODY = 64 * MIB
"""Bytes: ``wire`` and ``body`` cannot be set higher, since one JSON document may be that long."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Ceilings for what is received. Raises ``ConfigError`` E204 if they are outside their own."""

    wire: int = 4 * MIB
    """Bytes of a body as it is sent, compressed or not."""

    body: int = 16 * MIB
    """Bytes of a body after decompression."""

    ratio: int = 100
    """How many times its size a body may grow, once it is past 1 MiB: honest heartbeats compress
    160-fold, but they are short."""

    held: int = 64 * MIB
    """Bytes of all bodies together that are being read, decompressed, or waiting to be on disk;
    always room for one of the largest."""

    header_bytes: int = 64 << 10
    """Bytes of a request line and its headers."""

    header_seconds: float = 5.0
    """From the start of a connection, or the first byte of a later request, to the end of its
    headers."""

    body_seconds: float = 10.0
    """From the end of the headers to the end of the body; also how long a sender may leave our
    answers unread."""

    idle_seconds: float = 75.0
    """How long a connection is kept between two requests."""

    connections: int = 1000
    """Connections at once. Beyond it those that have kept us waiting make way; then 503."""

    def __post_init__(self) -> None:
        if not 0 < self.body <= MOST_BODY or not 0 < self.wire <= MOST_BODY:
            raise ConfigError("E204", "the limits `wire` and `body` are 1 byte to 64 MiB each")
        numbers = (self.ratio, self.held, self.header_bytes, self.connections)
        if min(*numbers, self.header_seconds, self.body_seconds, self.idle_seconds) <= 0:
            raise ConfigError("E204", "every limit is above zero")

    @property
    def room(self) -> int:
        """``held``, or what the largest body needs if that is more."""
        return max(self.held, self.wire + self.body)
