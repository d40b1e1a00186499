"""Limits on what senders may use (bytes, seconds, connections), and what enforces them together.

Every number is a maximum, not a reservation. Sizes are in bytes, times in seconds.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from collector.contracts import MOST_BYTES
from collector.errors import ConfigError

MIB = 1 << 20

CHECK_SECONDS = 0.25
"""How late a deadline may be noticed."""
_MIN_WAIT_SECONDS = 0.5
"""A connection that has kept the server waiting for less time is not closed for a new one."""
_MOST_UNREAD = 16 * MIB
"""Bytes of bodies that have arrived over all connections and that no handler has taken yet.
Handlers take them at once, but after a busy time of the event loop all connections may have
some."""
_MOST_OF_TLS = 80 * MIB
"""Bytes that the event loop's buffers of TLS may take, over all connections of a server."""
_BUFFERS_OF_TLS = 640 << 10
"""Bytes of these buffers for one connection: 256 KiB to read into, four thirds of that in the TLS
library, and its state. They grow with the input that arrives at once, and stay until the connection
closes."""
SMALL_BODY = 64 << 10
"""Bytes up to which a body counts as small. An honest sender's body is small, and waits for no
large one."""


IDLE_SECONDS = 75.0
"""How long a connection is kept between two requests."""


@dataclass(frozen=True, slots=True)
class IngestLimits:
    """Limits on input. Raises ``ConfigError`` E122 if one is outside its own range."""

    wire: int = MOST_BYTES
    """Bytes of a body as it is sent, compressed or not."""

    body: int = MOST_BYTES
    """Bytes of a body after decompression."""

    ratio: int = 100
    """How many times its compressed size a body may have once it exceeds 1 MiB: honest heartbeats
    compress 160-fold, but they are short."""

    memory: int = 80 * MIB
    """Bytes for all bodies together: on the wire, during decompression, and decompressed
    (``collector.ingest.memory``). One body of the largest size always finds room."""

    header_bytes: int = 32 << 10
    """Bytes of a request line and its headers."""

    header_seconds: float = 5.0
    """From the start of a connection, or the first byte of a later request, to the end of its
    headers. A TLS handshake may take the same time before that."""

    body_seconds: float = 10.0
    """From the end of the headers to the end of the body; also how long a sender may leave
    responses unread."""

    connections: int = 1000
    """Concurrent connections; with TLS at most 128, because of the memory for each. Beyond the
    limit, connections that the server waits for are closed. If there are none, a new one gets 503,
    or with TLS no answer."""

    def __post_init__(self) -> None:
        if not 0 < self.body <= MOST_BYTES or not 0 < self.wire <= MOST_BYTES:
            raise ConfigError("E107", "the limits `wire` and `body` are 1 byte to 8 MiB each")
        numbers = (self.ratio, self.memory, self.header_bytes, self.connections)
        if min(*numbers, self.header_seconds, self.body_seconds) <= 0:
            raise ConfigError("E107", "every limit is above zero")


class Connection:
    """A connection that a limiter counts, and may close."""

    def __init__(self, limiter: ConnectionLimiter) -> None:
        self.waiting_since: float = 0.0
        """The loop time at which the server began to wait for this sender."""
        self.is_proven: bool = False
        """Whether the connection has ever sent a complete request."""
        self._limiter = limiter

    def start_waiting(self, now: float) -> None:
        """Note that the server waits for this sender from ``now`` on."""
        self.stop_waiting()
        self.waiting_since = now
        (self._limiter.proven if self.is_proven else self._limiter.unproven)[self] = None

    def stop_waiting(self) -> None:
        """Note that this sender waits for the server."""
        self._limiter.unproven.pop(self, None)
        self._limiter.proven.pop(self, None)

    def check_deadline(self, now: float) -> None:
        """Act on a deadline that has passed."""
        raise NotImplementedError

    def shutdown(self) -> None:
        """Finish the response in progress, then close."""
        raise NotImplementedError

    def refuse(self) -> None:
        """Refuse the request in progress, because the server stops."""
        raise NotImplementedError

    def abort(self) -> None:
        """Close at once."""
        raise NotImplementedError


class ConnectionLimiter:
    """All connections of one server, on one event loop.

    ``unproven`` and ``proven`` are the connections that the server waits for, the longest first.
    ``holds`` and ``taken`` count the bytes of bodies between connections and handlers. One timer
    for all deadlines costs less than one timer each, and a request arms, moves or cancels none.
    With ``tls`` the connections are encrypted, and fewer may be open.
    """

    def __init__(self, limits: IngestLimits, *, tls: bool = False) -> None:
        self.limits = limits
        most = _MOST_OF_TLS // _BUFFERS_OF_TLS if tls else limits.connections
        self._most = min(limits.connections, most)
        self.unproven: dict[Connection, None] = {}
        self.proven: dict[Connection, None] = {}
        self._connections: set[Connection] = set()
        self._unread = 0
        self._timer: asyncio.TimerHandle | None = None

    def admit(self, connection: Connection, loop: asyncio.AbstractEventLoop) -> bool:
        """Admit a connection. If there are too many, close the one that the server has waited for
        longest.

        Connections that have never sent a complete request are closed first, so that no number of
        them displaces one that has. Returns whether the new one was admitted.
        """
        if len(self._connections) >= self._most:
            oldest = next(iter(self.unproven or self.proven), None)
            if oldest is None or loop.time() - oldest.waiting_since < _MIN_WAIT_SECONDS:
                return False
            self.remove(oldest)
            oldest.abort()
        self._connections.add(connection)
        if self._timer is None:
            self._timer = loop.call_later(CHECK_SECONDS, self._check_deadlines, loop)
        return True

    def connections(self) -> tuple[Connection, ...]:
        """Return all open connections."""
        return tuple(self._connections)

    def remove(self, connection: Connection) -> None:
        """Forget a connection that is closed."""
        self._connections.discard(connection)
        connection.stop_waiting()

    def holds(self, size: int) -> bool:
        """Count ``size`` bytes that have arrived for a handler; return whether there was room."""
        if self._unread + size > _MOST_UNREAD:
            return False
        self._unread += size
        return True

    def taken(self, size: int) -> None:
        """Stop counting ``size`` bytes."""
        self._unread -= size

    def _check_deadlines(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for connection in tuple(self._connections):
            connection.check_deadline(now)
        self._timer = None
        if self._connections:
            self._timer = loop.call_later(CHECK_SECONDS, self._check_deadlines, loop)
